"""Making a graph again with other policies of its layers, and casts where operations need float32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops, tree
from keras.layers import Layer

from tfcompress.core.error_messages import told
from tfcompress.core.keras_private import (
    any_code,
    flatten_layers,
    own_variables,
    producer,
    set_policy,
    set_tensor_dtype,
    stored_dtype,
)
from tfcompress.core.out_of_memory import pass_on_full
from tfcompress.core.passthrough import Inserted, has_no_build, innermost
from tfcompress.graph.clone import copy_layer
from tfcompress.graph.copy_objects import Copies
from tfcompress.graph.rewrite import Call, is_cast, walk
from tfcompress.layers.names import is_of_keras
from tfcompress.precision.operation_kinds import dtype_of, has_policy
from tfcompress.precision.policies import HALVES


class CastError(Exception):
    """A layer or operation doesn't run in the precision that it was given."""

    def __init__(self, operation: Any, error: Exception):
        super().__init__(told(error).rstrip("."))
        self.operation = operation


def with_policy(model: keras.Model, policy: str, kept: Mapping[int, str]) -> keras.Model:
    """Return a flat functional model again, of new layers with a policy.

    Args:
        model: A flat functional model, as `rebuild` returns; it isn't changed.
        policy: The name of the policy.
        kept: By id, the layers and operations that stay float32: layers get that policy, operations casts before them.

    Raises:
        CastError: If a layer can't be called.
    """
    return _Caster(model, policy, kept).run()


def in_float32(model: keras.Model, keep_casts: bool = False) -> keras.Model:
    """Return a flat functional model again, in float32 throughout; layers in float64 or integers stay as they are.

    Args:
        model: A flat functional model; it isn't changed.
        keep_casts: Whether casts from float to float32 stay where they do nothing any more.
    """
    return _Caster(model, "float32", {}, full=True, keep_casts=keep_casts).run()


class _Caster:
    def __init__(
        self,
        model: keras.Model,
        policy: str,
        kept: Mapping[int, str],
        full: bool = False,
        keep_casts: bool = True,
    ):
        self.model = model
        self.policy = policy
        self.kept = kept
        self.full = full
        self.keep_casts = keep_casts
        self.outputs = {id(x) for x in model.outputs}
        self.new: dict[int, Any] = {}
        self.copies = _Recast(model)

    def run(self) -> keras.Model:
        return walk(self.model, self.visit, self.enter)

    def enter(self, x: Any) -> Any:
        if self.full and dtype_of(x) in HALVES:  # of a model that was cut out of one in half precision
            for thing in (x, producer(x)):
                set_tensor_dtype(thing, "float32")
        return x

    def visit(self, call: Call, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        operation = call.operation
        if isinstance(operation, Layer):
            try:
                return self.layer(operation, arguments, keywords)(*arguments, **keywords)
            except Exception as error:
                pass_on_full(error)
                raise CastError(operation, error) from error
        if self.full and is_cast(operation):
            given = dtype_of(call.inputs[0])
            if operation.dtype in (*HALVES, "float32") and keras.backend.is_float_dtype(given):
                gone = operation.dtype in HALVES or not self.keep_casts
                if gone and not self.outputs & {id(x) for x in call.outputs} and dtype_of(arguments[0]) == "float32":
                    return arguments[0]
                return self.operation(operation, {"dtype": "float32"})(*arguments)
        if id(operation) in self.kept:
            arguments, keywords = tree.map_structure(_widened, (arguments, keywords))
        try:
            return self.operation(operation)(*arguments, **keywords)
        except Exception as error:
            pass_on_full(error)
            raise CastError(operation, error) from error

    def operation(self, operation: Any, changes: Mapping[str, Any] | None = None) -> Any:
        # A new one: an operation of both graphs would keep the old one, and its weights, in memory.
        if id(operation) not in self.new:
            made = self.copies.of(operation)
            vars(made).update(changes or {})
            self.new[id(operation)] = made
        return self.new[id(operation)]

    def layer(self, layer: Layer, arguments: Any, keywords: dict[str, Any]) -> Layer:
        if id(layer) not in self.new:
            inner = innermost(layer)
            if not isinstance(layer, Inserted) and has_policy(inner):
                self.copies.recast(inner, "float32" if id(layer) in self.kept else self.policy)
            new = copy_layer(layer, layer.name, arguments, keywords, self.copies)
            if hasattr(layer, "source_names"):
                new.source_names = layer.source_names
            self.new[id(layer)] = new
        return self.new[id(layer)]


class _Recast(Copies):
    """Copies of layers with other policies, and with weights of the dtype that these have."""

    def __init__(self, model: keras.Model):
        super().__init__(model)
        self.policies: dict[int, keras.DTypePolicy] = {}
        self.dtypes: dict[int, str] = {}

    def recast(self, layer: Layer, policy: str) -> None:
        """Let the copies of a layer, and of the layers inside, have a policy if theirs is one of floats."""
        parts = flatten_layers(layer)
        saved = _as_saved(layer, policy)
        for part, chosen in zip(parts, saved or [keras.dtype_policies.get(policy)] * len(parts), strict=True):
            if not has_policy(part):
                continue
            self.policies[id(part)] = chosen
            for variable in own_variables(part):
                if stored_dtype(variable) == part.variable_dtype:
                    self.dtypes[id(variable)] = chosen.variable_dtype

    def dtype_of(self, variable: keras.Variable) -> str:
        return self.dtypes.get(id(variable), super().dtype_of(variable))

    def saveable(self, x: Any) -> Any:
        new = super().saveable(x)
        if id(x) in self.policies:
            set_policy(new, self.policies[id(x)])
            if hasattr(new, "finalize_state"):  # it holds numbers of the dtype that it computes in
                new.finalize_state()
        return new


def _widened(x: Any) -> Any:
    return ops.cast(x, "float32") if keras.utils.is_keras_tensor(x) and dtype_of(x) in HALVES else x


def _as_saved(layer: Layer, policy: str) -> list[keras.DTypePolicy] | None:
    """Return the policies of a layer and of those inside, if a file of it keeps only some: what has a class of its own.

    `None`: there is no configuration to ask, or none that matters.
    """
    parts = flatten_layers(layer)
    if len(parts) == 1 or is_of_keras(layer):
        return None
    try:
        config = _with_dtype(layer.get_config(), policy, {part.name for part in parts})
        with any_code():
            made = type(layer).from_config(config)
        if layer.built and not made.built and not has_no_build(layer):
            made.build_from_config(layer.get_build_config() or {})
        found = [part.dtype_policy for part in flatten_layers(made)]
    except Exception:
        return None
    return found if len(found) == len(parts) else None


def _with_dtype(config: dict[str, Any], policy: str, parts: set[str]) -> dict[str, Any]:
    """Return a layer's configuration with another policy, also of the layers that are serialized in it."""
    changed = {key: _nested(value, policy, parts) for key, value in config.items() if key != "dtype"}
    if "dtype" in config:
        changed["dtype"] = policy if _is_chosen(config["dtype"]) else config["dtype"]
    return changed


def _nested(value: Any, policy: str, parts: set[str]) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_nested(entry, policy, parts) for entry in value) if type(value) in (list, tuple) else value
    if not isinstance(value, dict):
        return value
    inner = value.get("config")
    # Losses and metrics have a dtype too; what has the name of a layer inside is that layer.
    if "class_name" in value and isinstance(inner, dict) and inner.get("name") in parts:
        return {**value, "config": _with_dtype(inner, policy, parts)}
    return {key: _nested(entry, policy, parts) for key, entry in value.items()}


def _is_chosen(dtype: Any) -> bool:
    if isinstance(dtype, dict) and dtype.get("class_name") == "DTypePolicyMap":
        return True
    return keras.dtype_policies.get(dtype).compute_dtype in ("float32", *HALVES)
