"""What is said of names that tfmot has and this package hasn't."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NoReturn

from tfcompress.core.names import did_you_mean

_INSTEAD = {
    **dict.fromkeys(
        ("ClusterableLayer", "ClusteringAlgorithm"),
        "Any layer with a kernel is clustered: drop it. tfcompress.cluster(model, 16, layers=...) chooses, and "
        "tfcompress.register_layer says which weights of a layer of your own are kernels.",
    ),
    **dict.fromkeys(
        ("default_8bit", "graph_transformations", "QuantizeScheme", "QuantizeRegistry"),
        "tfcompress.quantize(model, config) takes a config for each layer, and folds batch normalization itself.",
    ),
}
"""{name: what to do}."""


def refuse_in(module: str, names: Iterable[str]) -> Callable[[str], NoReturn]:
    """Return a module's `__getattr__`, which says what to do where the module hasn't a name.

    Args:
        module: Its name.
        names: Those it has.

    >>> refuse_in("tfmot", ["prune", "strip"])("prun")
    Traceback (most recent call last):
        ...
    AttributeError: Expected a name that tfmot has: prune, strip. Received: 'prun'. Did you mean 'prune'?
    """
    names = tuple(names)

    def refuse(name: str) -> NoReturn:
        said = f"Expected a name that {module} has: {', '.join(names)}. Received: {name!r}."
        instead = did_you_mean(name, names)
        if name in _INSTEAD:
            instead = f" {_INSTEAD[name]}"
        raise AttributeError(said + instead, name=name)

    return refuse
