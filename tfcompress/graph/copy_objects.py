"""Layers copied as objects: attributes handed over, sublayers and variables made anew, functions shared."""

from __future__ import annotations

import collections
import functools
import inspect
import types
import weakref
from typing import Any

import keras
from keras import ops, tree
from keras.layers import Layer

from tfcompress.core.keras_private import (
    KerasSaveable,
    Node,
    Tracker,
    begin_copy,
    copy_graph,
    copy_tracker,
    flatten_layers,
    is_cast,
    nodes_in_order,
    own_variables,
    record_call,
    reset_training,
    set_path,
    stored_dtype,
)
from tfcompress.core.replicas import takes_value_at_once
from tfcompress.core.tensorflow_private import is_tf_function, with_other_function
from tfcompress.core.transform import carry
from tfcompress.core.wrapper import CompressedLayer
from tfcompress.graph.function_references import global_names, held, is_empty, is_function
from tfcompress.graph.recursion_limit import deep_recursion

# Never copied: what can't change, and what belongs to a graph or to a library and not to the layer.
_SHARED = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    range,
    slice,
    property,
    type,
    types.ModuleType,
    types.CodeType,
    inspect.Signature,
    keras.KerasTensor,
    keras.DTypePolicy,
    Node,
)
_FOREIGN = ("tensorflow", "tensorflow_hub", "jax", "jaxlib", "torch")


class Copies:
    """The copies that are made of the layers of one model: what these share, the copies share.

    Args:
        model: The model; a function that a layer holds, and which refers to another layer of it or to a weight, is
            made again with the copy of that.

    Example:

    >>> import keras
    >>> dense = keras.layers.Dense(2, activation=lambda x: x + 1)
    >>> dense.build((None, 3))
    >>> copy = Copies().of(dense)
    >>> copy.activation is dense.activation, copy.kernel is dense.kernel
    (True, False)
    """

    def __init__(self, model: keras.Model | None = None):
        self.memo: dict[int, Any] = {}
        self.originals: list[Any] = []  # an `id` is that of one object as long as this is alive
        self.made = 0  # layers and variables
        self.functions: list[tuple[dict[str, Any], str, Any]] = []  # of layers, copied behind all else
        parts = [] if model is None else flatten_layers(model)
        own = (own_variables(part) for part in parts)
        self.known = {id(x) for x in [*parts, *(variable for variables in own for variable in variables)]}

    def of(self, operation: Any) -> Any:
        """Return the copy of a layer or operation, with its weights; always the same one.

        Raises:
            ValueError: If something that it holds can't be copied.
        """
        with deep_recursion():
            new = self.copy(operation)
            while self.functions:
                attributes, name, function = self.functions.pop()
                attributes[name] = self.copy(function)
        return new

    def copy(self, x: Any) -> Any:
        """Return the copy of anything that a layer holds."""
        if isinstance(x, _SHARED):
            return x
        if id(x) not in self.memo:
            self._keep(x, self._new(x))
        return self.memo[id(x)]

    def _keep(self, x: Any, new: Any) -> Any:
        if id(x) not in self.memo:
            self.memo[id(x)] = new
            self.originals.append(x)
        return new

    def _new(self, x: Any) -> Any:
        new = x
        if isinstance(x, keras.Variable):
            new = self.variable(x)
        elif isinstance(x, KerasSaveable):  # a layer, an operation, a metric, a loss, an optimizer
            new = self.saveable(x)
        elif isinstance(x, list | dict | set) and (type(x) in (list, dict, set) or hasattr(x, "tracker")):
            new = self._container(x)
        elif type(x) in (tuple, frozenset):
            new = type(x)(self.copy(item) for item in x)
        elif isinstance(x, Tracker):
            new = self._copied_tracker(x)
        elif callable(x) and not isinstance(x, type) and (is_function(x) or hasattr(x, "__wrapped__")):
            new = self._function(x) if self._refers(x, set()) else x
        elif isinstance(x, weakref.ref):
            new = weakref.ref(self.memo[id(x())]) if id(x()) in self.memo else x
        elif hasattr(x, "assign") or not keras.ops.is_tensor(x):
            new = self._object(x)
        return new

    def variable(self, old: keras.Variable) -> keras.Variable:
        """Return a new variable with the value of one."""
        self.made += 1
        direct = takes_value_at_once(old)
        new = keras.Variable(
            (lambda shape, dtype: ops.cast(old.value, dtype)) if direct else keras.initializers.Zeros(),
            shape=tuple(old.shape),
            dtype=self.dtype_of(old),
            trainable=old.trainable,
            autocast=is_cast(old),
            aggregation=old.aggregation,
            synchronization=getattr(old, "synchronization", "auto"),
            name=old.name,
        )
        self._keep(old, new)
        set_path(new, old.path)
        if not direct:
            carry(old, new)
        new.overwrite_with_gradient = old.overwrite_with_gradient
        new.regularizer = self.copy(old.regularizer)
        new.constraint = self.copy(old.constraint)
        for name in vars(old).keys() - vars(new).keys():
            vars(new)[name] = self.copy(vars(old)[name])
        return new

    def dtype_of(self, variable: keras.Variable) -> str:
        """Return the dtype of a variable's copy."""
        return stored_dtype(variable)

    def saveable(self, x: Any) -> Any:
        """Return a copy by attributes: `copy.deepcopy` would serialize it."""
        self.made += 1
        new = object.__new__(type(x))
        self._keep(x, new)
        attributes = vars(new)
        for name, value in begin_copy(x, new).items():
            if isinstance(x, Layer) and is_function(value):
                attributes[name] = value
                self.functions.append((attributes, name, value))
            else:
                attributes[name] = self.copy(value)
        if isinstance(x, keras.Model):
            reset_training(new)
        if isinstance(x, keras.Function):
            self._copy_calls(x, new)
        if isinstance(x, CompressedLayer) and x.built:
            new.register()
        return new

    def _copy_calls(self, old: Any, new: Any) -> None:
        """Record the calls of a functional model's graph between the copies of its layers."""
        tensors: dict[int, Any] = {}

        def fill(x: Any) -> Any:
            return tensors.get(id(x), x)

        for node in nodes_in_order(old):
            args, kwargs = tree.map_structure(fill, (node.arguments.args, node.arguments.kwargs))
            outputs = [keras.KerasTensor(x.shape, x.dtype, x.sparse, name=x.name) for x in node.outputs]
            record_call(self.copy(node.operation), args, kwargs, outputs)
            tensors.update(zip(map(id, node.outputs), outputs, strict=True))
        copy_graph(old, new, fill)

    def _container(self, x: Any) -> Any:
        """Return a copy of a list, dict or set; of Keras' own one, past the lock that refuses what is added."""
        kind: Any = type(x)
        new = self._keep(x, kind.__new__(kind))
        base: Any = next(cls for cls in (collections.OrderedDict, dict, list, set) if isinstance(x, cls))
        if isinstance(x, dict):
            for key, value in x.items():
                base.__setitem__(new, self.copy(key), self.copy(value))
        elif isinstance(x, list):
            list.extend(new, [self.copy(item) for item in x])
        else:
            set.update(new, {self.copy(item) for item in x})
        for name, value in getattr(x, "__dict__", {}).items():
            vars(new)[name] = self.copy(value)
        return new

    def _copied_tracker(self, x: Any) -> Any:
        new = self._keep(x, object.__new__(type(x)))
        copy_tracker(x, new, self.copy)
        return new

    # Functions -------------------------------------------------------------------------------------

    def _refers(self, x: Any, seen: set[int]) -> bool:
        """Return whether a function, or something in a container, is or holds what has, or will have, a copy."""
        if id(x) in self.known or self.memo.get(id(x), x) is not x:
            return True
        if id(x) in seen:
            return False
        seen.add(id(x))
        return any(self._refers(part, seen) for part in held(x))

    def _function(self, x: Any) -> Any:
        """Return a function like one that refers to what is copied, with the copies in its place."""
        if isinstance(x, types.FunctionType):
            return self._plain_function(x)
        if isinstance(x, types.MethodType):
            return types.MethodType(self._part(x.__func__), self.copy(x.__self__))
        if isinstance(x, types.BuiltinMethodType):
            return getattr(self.copy(x.__self__), x.__name__)
        if isinstance(x, functools.partial):
            keywords = {key: self._part(value) for key, value in x.keywords.items()}
            return type(x)(self._part(x.func), *map(self._part, x.args), **keywords)
        inner = self._part(x.__wrapped__)
        if is_tf_function(x):
            return with_other_function(x, inner)
        return inner  # compiled or cached: computed again

    def _part(self, x: Any) -> Any:
        return self.copy(x) if self._refers(x, set()) else x

    def _plain_function(self, x: types.FunctionType) -> Any:
        names = {name: self.copy(x.__globals__[name]) for name in global_names(x) if self._is_known(x, name)}
        cells = tuple(types.CellType() for _ in x.__closure__ or ())
        new = types.FunctionType(
            x.__code__, {**x.__globals__, **names} if names else x.__globals__, x.__name__, None, cells
        )
        self._keep(x, new)
        for cell, old in zip(cells, x.__closure__ or (), strict=True):
            if not is_empty(old):
                cell.cell_contents = self._part(old.cell_contents)
        new.__defaults__ = self._part(x.__defaults__)
        new.__kwdefaults__ = self._part(x.__kwdefaults__)
        new.__qualname__, new.__doc__, new.__annotations__ = x.__qualname__, x.__doc__, x.__annotations__
        new.__dict__.update({key: self._part(value) for key, value in x.__dict__.items()})
        return new

    def _is_known(self, x: types.FunctionType, name: str) -> bool:
        return id(x.__globals__[name]) in self.known or id(x.__globals__[name]) in self.memo

    # Anything else ---------------------------------------------------------------------------------

    def _object(self, x: Any) -> Any:
        """Return a copy as `copy.deepcopy` makes it; the object itself if it isn't made to be copied."""
        root = type(x).__module__.split(".")[0]
        is_module = hasattr(type(x), "with_name_scope")  # a tf.Module
        is_variable = hasattr(x, "assign") and hasattr(x, "__deepcopy__")
        if hasattr(type(x), "__del__") or hasattr(type(x), "resource_handle"):
            return x  # it owns something outside of Python, such as a table
        if root in _FOREIGN and not is_module and not is_variable and not isinstance(x, list | dict | tuple):
            return x
        before = self.made
        try:
            if hasattr(x, "__deepcopy__"):
                return x.__deepcopy__(self.memo)
            return self._reduced(x)
        except Exception as error:
            if self.made == before:
                return self._keep(x, x)
            raise ValueError(
                f"Expected attributes of layers that can be copied. Received: an object of class {type(x).__name__}, "
                f"which holds layers or weights: {error}. Give the class a `__deepcopy__`."
            ) from error

    def _reduced(self, x: Any) -> Any:
        how = x.__reduce_ex__(4)
        if isinstance(how, str):  # the name of something global
            return x
        make, args, state, items, pairs = (*how, None, None, None)[:5]
        new = self._keep(x, make(*map(self.copy, args)))
        if state is not None:
            state = self.copy(state)
            slots: dict[str, Any] = {}
            if hasattr(type(new), "__setstate__"):
                new.__setstate__(state)
            else:
                if isinstance(state, tuple) and len(state) == 2:
                    state, slots = state
                vars(new).update(state or {})
                for name, value in (slots or {}).items():
                    object.__setattr__(new, name, value)
        for item in items or ():
            new.append(self.copy(item))
        for key, value in pairs or ():
            new[self.copy(key)] = self.copy(value)
        return new
