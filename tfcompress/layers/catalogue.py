"""The catalogue: all that is known of each layer, operation and activation, by its name in small letters.

A layer of Keras that isn't here has its kernels pruned, computes in float, and keeps all channels that it reads or
makes. A layer of your own is described with `tfcompress.register_layer` (`tfcompress.layers.register`).
"""

from __future__ import annotations

from typing import Any

from tfcompress.layers.einsum_equations import einsum_axes
from tfcompress.layers.names import base_name_of, name_of, name_of_function
from tfcompress.layers.traits import UNKNOWN, KernelAxes, LayerTraits

_PLAIN = KernelAxes()
_TRANSPOSED = KernelAxes(inputs=(-1,), outputs=(-2,))
_DEPTHWISE = KernelAxes(scales=(-2, -1))
_RECURRENT = {"kernel": _PLAIN, "recurrent_kernel": _PLAIN}
_SEPARABLE = {"depthwise_kernel": _DEPTHWISE, "pointwise_kernel": _PLAIN}


_WINDOW = ("kernel_size", "strides", "padding", "dilation_rate", "data_format")
_OF_PARTS = tuple(
    f"{part}_{what}" for part in ("depthwise", "pointwise", "bias") for what in ("regularizer", "constraint")
)


def _each(names: str, **traits: Any) -> dict[str, LayerTraits]:
    """Return the same traits for each of several names."""
    return dict.fromkeys(names.split(), LayerTraits(**traits))


def _convolutions(names: str, **traits: Any) -> dict[str, LayerTraits]:
    given = {
        "kernels": {"kernel": _PLAIN},
        "sizes": {"filters": ("kernel", -1)},
        "attributes": ("bias", "activation", *_WINDOW, "groups"),
        "channels": "convolution",
    }
    return _each(names, multiplications="convolution", **{**given, **traits})


CATALOGUE: dict[str, LayerTraits] = {
    # Layers with kernels ------------------------------------------------------------------------------
    "dense": LayerTraits(
        kernels={"kernel": _PLAIN},
        sizes={"units": ("kernel", 1)},
        attributes=(
            "bias",
            "activation",
        ),
        channels="dense",
        multiplications="dense",
        quantization="kernel",
    ),
    "einsumdense": LayerTraits(
        kernels={"kernel": einsum_axes},
        attributes=("bias", "activation", "equation", "bias_axes", "partial_output_shape"),
        channels="einsum_dense",
        multiplications="einsum_dense",
        quantization="kernel",
    ),
    **_convolutions("conv1d conv2d", quantization="kernel"),
    **_convolutions("conv3d"),
    **_convolutions(
        "depthwiseconv1d depthwiseconv2d",
        kernels={"kernel": _DEPTHWISE},
        sizes={},
        attributes=("bias", "activation", *_WINDOW, "depth_multiplier"),
        channels="depthwise",
        quantization="kernel",
    ),
    **_convolutions(
        "separableconv1d separableconv2d",
        kernels=_SEPARABLE,
        sizes={"filters": ("pointwise_kernel", -1)},
        attributes=("bias", "activation", "use_bias", "rank", *_WINDOW, "depth_multiplier", *_OF_PARTS),
        channels="separable",
        decomposition="separable",
    ),
    **_each(
        "conv1dtranspose conv2dtranspose",
        kernels={"kernel": _TRANSPOSED},
        sizes={"filters": ("kernel", -2)},
        attributes=("bias", "activation", "data_format"),
        channels="transposed",
        multiplications="transposed",
        quantization="kernel",
        integer_in_onnx=False,
    ),
    "conv3dtranspose": LayerTraits(
        kernels={"kernel": _TRANSPOSED},
        sizes={"filters": ("kernel", -2)},
        attributes=("bias", "activation", "data_format"),
        channels="transposed",
        multiplications="transposed",
    ),
    "embedding": LayerTraits(
        kernels={"embeddings": _PLAIN},
        sizes={"output_dim": ("embeddings", 1)},
        attributes=("input_dim",),
        channels="embedding",
        multiplications="none",
        quantization="table",
    ),
    "reversibleembedding": LayerTraits(kernels={"embeddings": _PLAIN}, attributes=("input_dim",), quantization="table"),
    **_each("simplernn gru", kernels=_RECURRENT, multiplications="recurrent"),
    "lstm": LayerTraits(
        kernels=_RECURRENT,
        multiplications="recurrent",
        quantization="integer",
        output_range=(-1, 1),
        integer_in_onnx=False,
    ),
    "bidirectional": LayerTraits(multiplications="recurrent", decomposition="both_ways"),
    **_each("simplernncell lstmcell grucell convlstmcell convlstm1d convlstm2d convlstm3d", kernels=_RECURRENT),
    # Affine maps: after a kernel they are folded into it, with a negative scale too -------------------
    "batchnormalization": LayerTraits(
        attributes=("axis", "epsilon", "gamma", "beta", "moving_mean", "moving_variance", "scale", "center"),
        channels="batch_normalization",
        quantization="affine",
    ),
    "normalization": LayerTraits(
        attributes=("axis", "mean", "variance", "invert"), channels="normalization", quantization="affine"
    ),
    "rescaling": LayerTraits(attributes=("scale", "offset"), channels="rescaling", quantization="affine"),
    "layerscale": LayerTraits(attributes=("gamma",), quantization="affine"),
    # Activations, and what else looks at each value by itself -----------------------------------------
    **_each("relu relu6", channels="unary", quantization="relu", homogeneous=True),
    "leakyrelu": LayerTraits(channels="unary", quantization="integer", homogeneous=True),
    "prelu": LayerTraits(
        attributes=("alpha",), channels="prelu", quantization="integer", integer_in_onnx=False, homogeneous=True
    ),
    **_each("elu gelu", channels="unary", quantization="integer", integer_in_onnx=False),
    "tanh": LayerTraits(channels="unary", quantization="integer", output_range=(-1, 1), integer_in_onnx=False),
    # relu6(x + 3) / 6 is an affine map that its range (0, 1) cuts off.
    **_each("sigmoid hardsigmoid", channels="unary", quantization="integer", output_range=(0, 1)),
    "silu": LayerTraits(channels="unary", decomposition="silu"),
    "hardsilu": LayerTraits(channels="unary", decomposition="hard_silu"),
    "softmax": LayerTraits(channels="normalizes", quantization="integer", output_range=(0, 1), float32="exponential"),
    "logsoftmax": LayerTraits(channels="normalizes", float32="exponential"),
    "sparsemax": LayerTraits(float32="exponential"),
    **_each("exponential squareplus", channels="unary", float32="exponential"),
    **_each("exp exp2 expm1 log log1p log2 log10 rsqrt reciprocal square", channels="unary", float32="range"),
    **_each("softplus sinh cosh tan", channels="unary", float32="range"),
    **_each("selu celu sparsesigmoid hardtanh tanhshrink softsign softshrink hardshrink", channels="unary"),
    **_each("sparseplus logsigmoid mish threshold absolute fabs negative sqrt cbrt sin cos arctan", channels="unary"),
    **_each("arcsinh erf erfc sign round floor ceil trunc clip cast saturatecast nantonum", channels="unary"),
    **_each("converttotensor isfinite isnan logicalnot copy", channels="unary"),
    # What does nothing in inference -------------------------------------------------------------------
    **_each(
        "identity linear dropout spatialdropout1d spatialdropout2d spatialdropout3d",
        channels="unary",
        quantization="transparent",
        homogeneous=True,
    ),
    **_each("alphadropout gaussiandropout gaussiannoise stopgradient", channels="unary", quantization="transparent"),
    "activityregularization": LayerTraits(channels="unary", quantization="transparent", float32="loss"),
    **_each("augmix cutmix mixup randaugment equalization solarization", quantization="transparent"),
    **_each("randombrightness randomcolordegeneration randomcolorjitter randomcontrast", quantization="transparent"),
    **_each("randomcrop randomelastictransform randomerasing randomflip", quantization="transparent"),
    **_each("randomgaussianblur randomgrayscale randomhue randominvert", quantization="transparent"),
    **_each("randomperspective randomposterization randomrotation randomsaturation", quantization="transparent"),
    **_each("randomsharpness randomshear randomtranslation randomzoom", quantization="transparent"),
    "maxnumboundingboxes": LayerTraits(quantization="transparent"),
    # Several tensors, value by value ------------------------------------------------------------------
    "add": LayerTraits(channels="nary", quantization="integer"),
    "multiply": LayerTraits(channels="nary", quantization="integer", decomposition="gate_factor"),
    **_each("subtract maximum minimum", channels="nary", quantization="integer", integer_in_onnx=False),
    "average": LayerTraits(channels="nary", decomposition="average"),
    "customscalelayer": LayerTraits(channels="nary", decomposition="scaled_sum"),  # InceptionResNet's x + scale * y
    **_each("power logaddexp", channels="nary", float32="range"),
    **_each("divide truedivide dividenonan fmax fmin mod floordivide where squareddifference arctan2", channels="nary"),
    **_each("hypot equal notequal greater greaterequal less lessequal", channels="nary"),
    **_each("logicaland logicalor logicalxor", channels="nary"),
    # Products of tensors ------------------------------------------------------------------------------
    "matmul": LayerTraits(channels="matmul", quantization="integer"),
    "einsum": LayerTraits(channels="einsum"),
    "dotproductattention": LayerTraits(channels="dot_product_attention", decomposition="attention"),
    **_each("attention additiveattention", float32="exponential"),
    # Statistics over axes -----------------------------------------------------------------------------
    "mean": LayerTraits(channels="reduction", quantization="integer"),
    **_each("sum prod std var logsumexp median", channels="reduction", float32="range"),
    **_each("max min amax amin any all countnonzero argmax argmin", channels="reduction"),
    **_each("layernormalization rmsnormalization", channels="normalizes"),
    "unitnormalization": LayerTraits(channels="normalizes", float32="norm"),
    "spectralnormalization": LayerTraits(float32="norm"),
    "groupnormalization": LayerTraits(channels="group_normalization"),
    # Space --------------------------------------------------------------------------------------------
    **_each("maxpooling1d maxpooling2d maxpooling3d", channels="local", quantization="transparent", homogeneous=True),
    **_each("averagepooling1d averagepooling2d", channels="local", quantization="integer", homogeneous=True),
    "averagepooling3d": LayerTraits(channels="local", homogeneous=True),
    **_each("maxpool averagepool", channels="local"),
    **_each(
        "globalmaxpooling1d globalmaxpooling2d globalmaxpooling3d",
        channels="global_pooling",
        quantization="transparent",
        homogeneous=True,
    ),
    **_each(
        "globalaveragepooling1d globalaveragepooling2d",
        channels="global_pooling",
        quantization="integer",
        homogeneous=True,
    ),
    "globalaveragepooling3d": LayerTraits(channels="global_pooling", homogeneous=True),
    "adaptivemaxpooling1d": LayerTraits(quantization="integer"),
    **_each(
        "adaptiveaveragepooling1d adaptiveaveragepooling2d adaptivemaxpooling2d",
        quantization="integer",
        integer_in_onnx=False,
    ),
    **_each(
        "zeropadding1d zeropadding2d zeropadding3d cropping1d cropping2d cropping3d",
        channels="local",
        quantization="transparent",
        homogeneous=True,
    ),
    **_each("upsampling1d upsampling2d upsampling3d", channels="local", quantization="transparent", homogeneous=True),
    **_each("centercrop resizing", channels="local", quantization="transparent"),
    # What moves values --------------------------------------------------------------------------------
    "flatten": LayerTraits(channels="flatten", quantization="transparent"),
    "reshape": LayerTraits(channels="reshape", quantization="transparent"),
    "flip": LayerTraits(quantization="transparent"),
    "expanddims": LayerTraits(channels="expand_dims", quantization="transparent"),
    "squeeze": LayerTraits(channels="squeeze", quantization="transparent"),
    "repeatvector": LayerTraits(channels="repeat_vector", quantization="transparent"),
    "repeat": LayerTraits(channels="repeat", quantization="transparent"),
    "split": LayerTraits(channels="split", quantization="transparent"),
    **_each("permute transpose swapaxes moveaxis", channels="permute", quantization="transparent"),
    "getitem": LayerTraits(channels="get_item", quantization="transparent"),
    "concatenate": LayerTraits(channels="concatenate", quantization="concatenate"),
    # What else needs float32's range, or holds code that may ------------------------------------------
    "masking": LayerTraits(float32="mask"),
    **_each("lambda tfsmlayer jaxlayer flaxlayer torchmodulewrapper", float32="code"),
    **_each("cumsum cumprod nansum nanprod nanvar nanstd moments norm normalize", float32="range"),
    **_each("arccos arcsin erfinv", float32="range"),
    **_each("cholesky choleskyinverse det eig eigh inv lufactor lstsq qr solve svd", float32="range"),
    **_each("fft fft2 ifft2 rfft irfft stft istft histogram quantile solvetriangular", float32="range"),
    **_each("ctcloss ctcdecode psnr binarycrossentropy categoricalcrossentropy", float32="range"),
    "sparsecategoricalcrossentropy": LayerTraits(float32="range"),
}


def traits_of(operation: Any) -> LayerTraits:
    """Return what is known of a layer or operation of a graph.

    Example:

    >>> import keras
    >>> traits_of(keras.layers.Conv2D(4, 3)).channels
    'convolution'
    """
    return CATALOGUE.get(name_of(operation), UNKNOWN)


def traits_of_function(function: Any) -> LayerTraits:
    """Return what is known of an activation."""
    return CATALOGUE.get(name_of_function(function), UNKNOWN)


def traits_of_base(operation: Any) -> LayerTraits:
    """Return what is known of the nearest class that an operation derives from, whatever it computes otherwise."""
    return CATALOGUE.get(base_name_of(operation), UNKNOWN)
