"""What each layer is. Keras' layers are described in `catalogue`; a layer of your own is added with `register`."""

from tfcompress.layers.catalogue import traits_of
from tfcompress.layers.register import register_layer
from tfcompress.layers.traits import KernelAxes, LayerTraits

__all__ = ["KernelAxes", "LayerTraits", "register_layer", "traits_of"]
