"""The one traced, float32, inference function of a model that both exporters read."""

import contextlib
import dataclasses
import re
import traceback
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import keras

from tfcompress.core.arguments import cannot_run
from tfcompress.core.error_messages import told
from tfcompress.core.keras_private import flatten_layers
from tfcompress.core.out_of_memory import memory_error, out_of_memory
from tfcompress.core.uneven_rows import fixes_rows
from tfcompress.data.named_inputs import TensorInfo
from tfcompress.graph.time_distributed import steps_at_once
from tfcompress.tracing.converter_forms import make_plain
from tfcompress.tracing.float32_view import float32_view
from tfcompress.tracing.function_graph import captured_by, function_of
from tfcompress.tracing.fused_lstms import lstms_fused
from tfcompress.tracing.rewriting.replace import rewrite
from tfcompress.tracing.signature import Signature, read_signature
from tfcompress.tracing.stateful_inference import assigns_the_same, changed, check_unchanged

CALL_SUFFIX = re.compile(r"_\d+$")
"""What TensorFlow puts behind the name of a layer to tell its calls apart."""

ASSIGNING = ("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp", "ResourceScatterUpdate")


@dataclasses.dataclass(frozen=True)
class Trace:
    """A model as one TensorFlow graph.

    Attributes:
        name: the model's.
        concrete: the concrete function: one named argument per input, returns {output name: tensor}. It holds
            the model's own variables; nothing is copied.
        inputs: {name: TensorInfo}, in the model's order, the batch as asked.
        outputs: {name: TensorInfo}, in the model's order.
        integral: the inputs that hold whole numbers, whatever their dtype (a float32 input of an Embedding).
        signature: how the Keras model is called.
        layers: the names of all layers.
        scope: what the names of its operations begin with: the model's name, if that was given.
        whole: whether its inputs may have different numbers of rows.
    """

    name: str
    concrete: Any
    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]
    integral: frozenset[str]
    signature: Signature
    layers: frozenset[str]
    scope: str = "model"
    whole: bool = False

    @property
    def dynamic_batch(self) -> bool:
        """Whether the graph takes any number of samples."""
        return any(spec.shape and spec.shape[0] is None for spec in self.inputs.values())


def trace(
    model: keras.Model,
    batch_size: int | Mapping[str, int | None] | None,
    kind: str | None = None,
    signature: Signature | None = None,
    *,
    small: bool = False,
) -> Trace:
    """Trace `model` for inference, in float32.

    Args:
        model: built.
        batch_size: the first dimension of every input, or of each by its name; None: free.
        kind: "tflite" or "onnx": write what that format lacks with other operations; None: all as the model does.
        signature: how the model is called; None: as it says itself.
        small: whether memory counts more than time.

    Returns:
        A `Trace`, valid as long as `model` lives.

    Raises:
        RuntimeError: Keras runs on another backend than TensorFlow.
        ValueError: the model isn't built, can't be called on what it was built with, or changes variables.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"Expected Keras on TensorFlow: the converters read TensorFlow graphs. Received: backend "
            f"{keras.backend.backend()!r}. Save the model as .keras, set KERAS_BACKEND=tensorflow, load it "
            "and export."
        )
    signature = signature or read_signature(model)
    whole = isinstance(batch_size, Mapping)
    rows = batch_size if isinstance(batch_size, Mapping) else dict.fromkeys(signature.inputs, batch_size)
    inputs = {name: _with_batch(spec, rows[name]) for name, spec in signature.inputs.items()}
    fused = lstms_fused(model, loops=not small) if kind == "tflite" else contextlib.nullcontext()
    with float32_view(model), steps_at_once(model), fused, _named(model, scope_of(model)):
        concrete, order = _trace(model, signature, inputs, kind)
        integral = {name for name, spec in inputs.items() if _whole_dtype(concrete, name, spec)}
        if integral and not signature.declared:
            # A subclassed model records shapes, not dtypes: token ids that are cast at once are integers.
            inputs = {
                name: TensorInfo(spec.shape, _whole_dtype(concrete, name, spec) or spec.dtype)
                for name, spec in inputs.items()
            }
            concrete, order = _trace(model, signature, inputs, kind)
    outputs = {
        name: TensorInfo(_shape_of(concrete.structured_outputs[name]), concrete.structured_outputs[name].dtype.name)
        for name in order
    }
    layers = frozenset(layer.name for layer in flatten_layers(model, include_self=False))
    scope = scope_of(model)
    return Trace(model.name, concrete, inputs, outputs, frozenset(integral), signature, layers, scope, whole)


def scope_of(model: keras.Model) -> str:
    """Return a model's name, without the number that Keras counts its process' models with.

    >>> scope_of(keras.Sequential(name="sequential_7")), scope_of(keras.Sequential(name="net_7"))
    ('sequential', 'net_7')
    """
    kind = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(model).__name__).lower()
    counted = re.fullmatch(rf"({kind}|functional|sequential)(_\d+)?", model.name)
    return str(counted[1]) if counted else model.name


@contextlib.contextmanager
def _named(model: keras.Model, name: str) -> Iterator[None]:
    """Let a model have another name for the time of the block, under the lock of its float32 view."""
    before = model.name
    object.__setattr__(model, "name", name)
    try:
        yield
    finally:
        object.__setattr__(model, "name", before)


def _with_batch(spec: TensorInfo, batch_size: int | None) -> TensorInfo:
    return TensorInfo((batch_size, *spec.shape[1:]) if spec.shape else (), spec.dtype)


def _trace(
    model: keras.Model, signature: Signature, inputs: dict[str, TensorInfo], kind: str | None
) -> tuple[Any, list[str]]:
    import tensorflow as tf

    order: list[str] = []
    assigned: list[tuple[Any, Any]] = []

    def inference(*tensors: Any) -> dict[str, Any]:
        with keras.StatelessScope() as scope:
            named = signature.call(model, tensors)
        assigned.extend(changed(model, scope))
        if kind is not None:
            named = rewrite(named, kind)
        order[:] = named
        # Identities keep apart outputs that are one tensor, and inputs that are returned as they are.
        return {name: tf.identity(_float32(tensor)) for name, tensor in named.items()}

    specs = [tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in inputs.items()]
    function = tf.function(inference, input_signature=specs, autograph=False)
    try:
        concrete = function.get_concrete_function()
        made = plainly(concrete, len(inputs)), order
    except Exception as error:  # whatever the model's own code raises
        if out_of_memory(error):
            raise memory_error(f"trace model {model.name!r}", error) from error
        shapes = {name: spec.shape for name, spec in inputs.items()}
        if fixes_rows(shapes.values()):
            raise cannot_run(_where(error, model), list(inputs.values()), error) from error
        advice = "" if signature.declared else " Let `call` take one argument: an array, a list or a dict."
        if len({spec.shape[0] for spec in inputs.values() if spec.shape}) == 1 < len(inputs):
            advice += " If its inputs need different numbers of rows, give such data with verify=."
        if "as an integer" in str(error):  # of `range` and the like
            advice += " Give the model's Input the sizes that its code needs as numbers, and export() a batch_size."
        raise ValueError(
            f"Expected a model that can be called in a TensorFlow graph on inputs of {shapes}. "
            f"Received: {_where(error, model)}, which failed: {told(error)}.{advice}"
        ) from error
    read = {id(outer) for outer in _read(concrete)}
    needed = [
        (layer, variable) for layer, variable in assigned if variable is None or id(variable.value.handle) in read
    ]
    layers = (
        []
        if needed and assigns_the_same(model, [variable for _, variable in needed])
        else [layer for layer, _ in needed]
    )
    check_unchanged(model, layers, _assigning(concrete, read))
    return made


def _where(error: Exception, model: keras.Model) -> str:
    """Return "layer 'a' of model 'm'": the innermost layer whose own code an error was raised in; else the model."""
    layers = {id(layer): layer for layer in flatten_layers(model, include_self=False)}
    frames = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    inner = next((layers[id(found)] for found in reversed(frames) if id(found) in layers), None)
    return f"model {model.name!r}" if inner is None else f"layer {inner.name!r} of model {model.name!r}"


def _read(concrete: Any) -> list[Any]:
    """Return the captured tensors, variables' handles among them, on which an output depends."""
    pairs = zip(reversed(concrete.inputs), reversed(concrete.captured_inputs), strict=False)  # captured ones stand last
    captured = {x.op.name: y for x, y in pairs}
    stack, seen = [x.op for x in concrete.structured_outputs.values()], set()
    while stack:
        op = stack.pop()
        if op.name not in seen:
            seen.add(op.name)
            stack += [x.op for x in op.inputs]
    return [outer for name, outer in captured.items() if name in seen]


def _assigning(concrete: Any, read: Collection[int]) -> set[str]:
    """Return the scopes, without the numbers of calls, of what assigns a variable of TensorFlow's own that is read."""
    inner = {x.name: id(y) for x, y in zip(reversed(concrete.inputs), reversed(concrete.captured_inputs), strict=False)}
    ops = [op for op in concrete.graph.get_operations() if op.type in ASSIGNING]
    names = [op.name for op in ops if inner.get(op.inputs[0].name) in read]
    return {CALL_SUFFIX.sub("", scope) for name in names for scope in name.split("/")}


def plainly(concrete: Any, count: int) -> Any:
    """Return a traced function in operations that the converters know; its first `count` arguments are not captured."""
    import tensorflow as tf

    graph_def = concrete.graph.as_graph_def()
    if not make_plain(graph_def):
        return concrete
    arguments = {x.name: tf.TensorSpec(x.shape, x.dtype, name=x.op.name) for x in concrete.inputs[:count]}
    outputs = {name: x.name for name, x in concrete.structured_outputs.items()}
    return function_of(graph_def, arguments, captured_by(concrete, count), outputs)


def _float32(tensor: Any) -> Any:
    import tensorflow as tf

    tensor = tf.convert_to_tensor(tensor)
    return tf.cast(tensor, tf.float32) if tensor.dtype.is_floating else tensor


def _whole_dtype(concrete: Any, name: str, spec: TensorInfo) -> str | None:
    """Return the integer dtype that the graph casts this input to before anything else, or None."""
    if not keras.backend.is_float_dtype(spec.dtype):
        return spec.dtype if keras.backend.is_int_dtype(spec.dtype) else None
    place = list(concrete.structured_input_signature[0]).index(
        next(given for given in concrete.structured_input_signature[0] if given.name == name)
    )
    consumers = concrete.inputs[place].consumers()
    dtypes = {op.outputs[0].dtype for op in consumers if op.type == "Cast"}
    casts_only = consumers and all(op.type == "Cast" for op in consumers)
    return dtypes.pop().name if casts_only and len(dtypes) == 1 and next(iter(dtypes)).is_integer else None


def _shape_of(tensor: Any) -> tuple[int | None, ...]:
    return tuple(tensor.shape.as_list()) if tensor.shape.rank is not None else ()
