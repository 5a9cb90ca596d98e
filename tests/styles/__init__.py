"""Models in the styles in which people write them, with their own layers and without any thought of being copied.

Layers here have constructors without `**kwargs`, no `get_config`, lambdas, raw TensorFlow, state of their own: what
published examples and repositories are full of. Each builder returns a built model and a batch of inputs for it.
"""

from tests.styles.catalogue import STYLES, styles

__all__ = ["STYLES", "styles"]
