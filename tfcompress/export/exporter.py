"""The one verb: write a Keras model to a file, and prove that the file is the model."""

import dataclasses
import functools
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import keras

from tfcompress.core.atomic_files import check_target, draft
from tfcompress.core.old_calls import accepts_old_calls
from tfcompress.core.wrappers import warn_of_remarks
from tfcompress.data.named_inputs import TensorInfo
from tfcompress.export.arguments import FLOAT, NO_SPARSE_ONNX, check_arguments
from tfcompress.export.artifact import Artifact
from tfcompress.export.coded_file import AUTO as AUTO_WEIGHTS
from tfcompress.export.coded_file import CODED, PLAIN, as_coded, code_weights, summary
from tfcompress.export.conversion import Conversion
from tfcompress.export.file_arithmetic import read_arithmetic
from tfcompress.export.file_for_target import check_fits, check_widths, check_written
from tfcompress.export.for_target import Asked, conversion_for, settled
from tfcompress.export.inference_io import check_inference_io, check_no_whole_inputs, whole_inputs
from tfcompress.export.micro_program import Program, check_ends, program_of
from tfcompress.export.onnx.weights.coding import CodedWeight
from tfcompress.export.plan.deployment import deploy
from tfcompress.export.plan.export_plan import ExportPlan, made_plan
from tfcompress.export.plan.file_check import compare, layers_by_weight, require_integers
from tfcompress.export.plan.file_operators import FileArithmetic, Operators
from tfcompress.export.tflite.sparse import Sparse, leave_out_zeros
from tfcompress.export.tflite.weights.lookup_tables import said_of_tables, with_tables
from tfcompress.export.tflite.weights.storage import SPEED
from tfcompress.export.writing import (
    check_finished,
    check_free,
    check_weights,
    measured,
    old_data,
)
from tfcompress.graph.inputs.declared import takes_inputs
from tfcompress.graph.keras_quantized import by_mode, check_exports
from tfcompress.parity.rounded_otherwise import is_dynamic
from tfcompress.runtime.integer_io import with_grids
from tfcompress.runtime.opening import open_runner
from tfcompress.targets import Target
from tfcompress.targets import get as get_target
from tfcompress.tracing.random_inputs import with_noise
from tfcompress.tracing.recurrent_state import fitted, streaming_signature
from tfcompress.tracing.row_counts import AUTO, BatchSize, rows_of_file
from tfcompress.tracing.signature import read_signature
from tfcompress.tracing.trace import trace
from tfcompress.tracing.unsupported_operators import check_operators

LARGEST_FILE = 2**31 - 1
"""Bytes: the offsets of a flatbuffer and the length of a protobuf are signed 32 bit numbers."""


@accepts_old_calls(values={"batch_size": (..., AUTO)})
@takes_inputs
def export(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    batch_size: BatchSize = AUTO,
    inference_io: str | None = None,
    precision: str = "float32",
    opset: int = 18,
    sparse: Sparse = False,
    overwrite: bool = False,
    verify: Any = True,
    input_shapes: Any = None,
    input_dtypes: Any = None,
    require_integer: bool = False,
    stateful: str | None = None,
    random: str | None = None,
    external_data: bool | None = None,
    weights: str = PLAIN,
    names: bool = False,
    prefer: str = SPEED,
    target: str | os.PathLike[str] | Target | None = None,
    ram: int | None = None,
    flash: int | None = None,
) -> Artifact:
    """Write `model` to a `.tflite` or `.onnx` file, and compare the file with Keras in its real runtime.

    A model from `tfcompress.quantize` becomes a file that computes with integers, the same that the model simulates.
    Inputs and outputs keep the model's names (a dict's keys, else the names of the layers). The model is not
    changed; one of another precision (mixed_float16) is computed in float32. On any failure no file is left,
    and one that was there stays as it was.

    Args:
        model: built; functional, sequential or subclassed; plain or wrapped.
        path: the file to write; its suffix says the format. `m.h`, for a microcontroller: `m.tflite`, and a program for
            TensorFlow Lite Micro: `m.cc` and `m.h` with the array and the arena's size, `m_operators.h` with a resolver
            of the operators that it needs, `m_sketch.cc` that runs it.
        batch_size: samples that the file takes at once; None: any number; "auto": as the format is used, 1 for
            TFLite and any number for ONNX (or what the model's own inputs fix).
        inference_io: dtype of the file's floating inputs and outputs: "float32"; or "int8" or "uint8" for a model
            with quantized activations, whose scales and zero points are in the file; None: the target's, "float32"
            without one.
        precision: "float32", or "float16": weights stored in 16 bits, half the file, computed in float32.
        opset: of the ONNX standard, 18 to 25; TFLite has none.
        sparse: True: a `.tflite` file leaves out the zeros of each weight that gets smaller so and that its runtime
            reads right, which is seen by running it; "auto": only of those that cost no speed by it, and none of a
            `.onnx` file, whose runtime has no sparse weights; False: all zeros are stored, as delegates other than
            XNNPACK want it. The artifact's `notes` say of each weight how it is stored.
        overwrite: whether an existing file is replaced.
        verify: True: compare on seeded random inputs of what the model knows of each (the range of each channel that
            calibration or Normalization has seen, pixels, tables), noise otherwise; data as `fit` takes it, an array,
            list or dict, or what yields batches: compare on that, on the first 1,024 or so of batches; False: don't.
            Arrays with different numbers of rows, as the nodes and the edges of a graph, belong together: so many rows
            a TFLite file then takes.
        input_shapes: sizes of the model's free dimensions to try it with, where those that are tried by themselves
            won't do: a shape, a list of them or a dict by input name, with the batch (None) or without. Of a
            subclassed model that recorded no shapes, its shapes.
        input_dtypes: of a subclassed model, which keeps none: such as "int32", or one for each input.
        require_integer: whether to refuse a file with an operator that computes in float, as devices without a
            floating-point unit do. What turns float inputs into integers, and integers into float outputs, isn't one.
        stateful: "io": the states of recurrent layers with stateful=True are inputs (`<layer>_state_0`, ...) and
            outputs (`<layer>_new_state_0`, ...) of the file: zeros in the first run, then what the run before gave.
            None: such layers are refused, since a file keeps no state.
        random: "inputs": the random numbers that inference draws, as a VAE's sampling does, are inputs
            (`<layer>_normal`, `<layer>_uniform`, `<layer>_truncated_normal`) of the file: whoever runs it draws them,
            of mean 0 and deviation 1, or from 0 to 1, as the artifact's `notes` say; the file applies the model's own
            mean and deviation, and finds classes (`categorical`) by uniform numbers. None: such models are refused,
            since a file draws nothing.
        external_data: whether a `.onnx` file has its weights in a second file beside it, `<name>.onnx.data`; None:
            only if it would be larger than 2 GB, which protobuf can't hold. The two belong together.
        weights: "plain": integer weights of a `.onnx` file stand in it as int8. "coded": each is stored in the form
            that takes the fewest bytes (4 or 2 bits, places in a table, a mask or gaps and codes), and ONNX Runtime
            unpacks it when it loads the file: the same kernels with the same numbers, at the same speed. "auto": so
            where the file gets smaller by it, and plain otherwise, as in `.tflite` and float files; and, where a
            model's weights alone are quantized, dense layers with 3 or 4 bits become ONNX Runtime's own MatMulNBits, as
            far as that is no slower than float: it rounds its input to 8 bits at run time, no other runtime has it, and
            in browsers it is slow. Types of 4 bits take opset=21, of 2 bits opset=25; below, bits are packed into
            bytes. The artifact says how each is stored. Of a `.tflite` file for a microcontroller, "coded": weights of
            few values, as `tfc.cluster` makes them, are looked up in tables, bit by bit the same in TFLite Micro, where
            the file gets smaller so; the arena grows by the largest of them, and no other runtime reads the file.
        names: whether a `.tflite` file of a quantized model, and one with coded weights, has the names of its inner
            tensors, for those who look into it with other tools. No runtime reads them, and `tfcompress.debug` has them
            of the artifact. Inputs and outputs always have theirs; so has all in other files.
        prefer: what counts where weights of fewer than 8 bits can't have both. "speed": a `.tflite` file stores them in
            4 or 2 bits for kernels that are about as fast so, dense layers and convolutions of single pixels, and in
            8 for all others; "size": wherever there is any kernel. The artifact says of each weight how, and why.
        target: what the file is for: a name of `tfc.targets.names()`, such as "microcontroller", a `Target`, or the
            path of a file with your own. It fixes what isn't said here, refuses what it can't do before any work, and
            names the runtimes that prove the file.
        ram: bytes of RAM that a microcontroller has for the file's arena, which is found by running it; a file that
            needs more is refused, and the message says by how much. None: any.
        flash: bytes of flash that it has for the file, likewise.

    Returns:
        An `Artifact`, with the differences found.

    Raises:
        TypeError: `model` isn't a Keras model.
        FileExistsError: the file exists.
        FileNotFoundError, NotADirectoryError, PermissionError: its folder can't be written to.
        ImportError: a runtime of the target isn't installed.
        ValueError: another argument is wrong, or the model has what the format can't hold, or the target can't do (it
            is named).
        ParityError: the file computes something else than the model.
        RuntimeError: Keras runs on another backend than TensorFlow.

    Example:
        >>> import keras, tempfile
        >>> model = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(2, name="y")])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     artifact = export(model, f"{folder}/model.onnx")
        ...     print(artifact.format, list(artifact.inputs), list(artifact.outputs))
        onnx ['x'] ['y']
    """
    path, program = program_of(path, target, verify, overwrite)
    kind = check_arguments(
        model,
        path,
        batch_size=batch_size,
        inference_io=inference_io or FLOAT,
        precision=precision,
        opset=opset,
        sparse=sparse,
        require_integer=require_integer,
        stateful=stateful,
        random=random,
        external_data=external_data,
        weights=weights,
        names=names,
        prefer=prefer,
        machine=(machine := None if target is None else get_target(target)),
        memory=(memory := (ram, flash)),
    )
    check_exports(model)
    asked = Asked(batch_size, inference_io, precision, sparse, require_integer, prefer, bool(stateful or random))
    asked = settled(machine, model, kind, asked, verify is not False or ram is not None)  # it is run to find RAM
    numbers_io = asked.inference_io or FLOAT
    given = None if isinstance(verify, bool) or random else fitted(model, verify, stateful)
    check_inference_io(model, numbers_io)
    final = check_target(path, (".tflite", ".onnx"), overwrite, size=_bytes(model, precision))
    check_free(final, overwrite, bool(external_data))
    remarks = warn_of_remarks(model)
    deployment = deploy(model, kind)
    plain, scheme, precision = deployment.model, deployment.scheme, "float16" if deployment.half else precision
    check_weights(plain, precision, kind, scheme=scheme, external=external_data, limit=LARGEST_FILE)
    signature = read_signature(plain) if stateful is None else streaming_signature(plain, of=model)
    traced = trace(
        plain,
        rows_of_file(signature, kind, asked.batch_size, given),
        kind,
        signature,
        small=machine is not None and "tflm" in machine.runtimes,
    )
    if random:
        traced, given = with_noise(plain, traced, kind, verify)
    if inference_io is None and whole_inputs(traced):
        numbers_io = FLOAT
    check_no_whole_inputs(traced, numbers_io)
    check_operators(traced)
    check_ends(program, {**traced.inputs, **traced.outputs})

    how: dict[str, Any] = {"data": given, "external_data": external_data, "names": names, "limit": LARGEST_FILE}
    how |= conversion_for(machine, kind)
    options: dict[str, Any] = {"inference_io": numbers_io}
    options |= (
        {"opset": int(opset), "packed": weights == AUTO_WEIGHTS and 4 in how["bits"]}
        if kind == "onnx"
        else {"prefer": asked.prefer}
    )
    conversion = Conversion(model, traced, kind, deployment, precision, options, **how)
    notes: tuple[str, ...] = (NO_SPARSE_ONNX,) if asked.sparse and kind == "onnx" else ()
    with draft(final, replacing=old_data(final) if program is None else program.replaced) as beside:
        conversion.convert(traced, beside)
        arithmetic, plan, found = _held_against_plan(conversion, beside, machine, asked.require_integer)
        notes += _of_keras(plain, arithmetic.precision)
        coded, names_lost = _coded(beside, arithmetic, plan, conversion, weights)
        found = dataclasses.replace(found, narrow=as_coded(found.narrow, coded))
        if scheme is not None:  # else the file may be converted again
            deployment.forget_values()  # before the runtime holds them too
        named = beside.read_bytes() if asked.sparse and kind == "tflite" else b""
        tensor_names = conversion.leave_out_names(beside) or names_lost
        parity, tables = conversion.proved(beside, verify is not False, weights == CODED)
        if named:
            prove = functools.partial(conversion.prove_bytes, beside)
            written, better, said = leave_out_zeros(named, asked.sparse, prove, conversion.shipped)
            notes += said
            conversion.write(beside, written)
            found, parity = dataclasses.replace(found, kinds=read_arithmetic(beside).kinds), better or parity
        known: dict[str, Any] = {
            "parity": parity,
            "precision": arithmetic.precision,
            "notes": (
                *remarks,
                *notes,
                *summary(coded),
                *said_of_tables(tables),
                *traced.signature.notes(list(traced.outputs)),
            ),
            "operators": with_tables(found, tables),
            "plan": plan.with_stored(found.narrow),
            "weights": coded,
            "tensor_names": tensor_names,
            "accelerator": machine.accelerator if machine is not None else None,
            "runtime": machine.runtimes_of(kind)[-1] if machine is not None else None,
        }
        artifact = _drafted(conversion, beside, final, numbers_io, program, memory=memory, **known)
        check_finished(beside, final, overwrite)
    return artifact


def _drafted(
    conversion: Conversion,
    beside: pathlib.Path,
    final: pathlib.Path,
    inference_io: str,
    program: Program | None,
    *,
    memory: tuple[int | None, int | None],
    **known: Any,
) -> Artifact:
    """Return the artifact of a file that is proved, and write what runs it; none has its name yet."""
    ends = conversion.traced.inputs, conversion.traced.outputs
    known["inputs"], known["outputs"] = _as_written(ends, inference_io, beside, conversion.runtimes)
    known["nbytes"], known["data_files"] = measured(beside, final)
    arena = conversion.arena(beside) if known["parity"] or memory[0] is not None else None
    check_fits(final, known["nbytes"], arena, *memory)
    artifact = Artifact(final, conversion.kind, arena=arena, **known)
    if program is not None:
        program.write(beside, artifact)
    return artifact


def _held_against_plan(
    conversion: Conversion, path: pathlib.Path, target: Target | None, require_integer: bool
) -> tuple[FileArithmetic, ExportPlan, Operators]:
    """Return what a written file computes in, what was planned, and what came of it; refuse what mustn't be so."""
    arithmetic = conversion.read(path)
    plan = made_plan(conversion.model, conversion.kind, conversion.deployment)
    dynamic = is_dynamic(conversion.deployment)
    found = compare(arithmetic, plan, conversion.traced, conversion.kind, dynamic)
    if target is not None:
        check_widths(found.narrow, target)
    if target is not None and conversion.kind == "tflite":
        check_written(path, target, plan, conversion.traced.layers)
    if require_integer:
        require_integers(found, conversion.model.name)
    return arithmetic, plan, found


def _coded(
    path: pathlib.Path,
    arithmetic: FileArithmetic,
    plan: ExportPlan,
    conversion: Conversion,
    weights: str,
) -> tuple[tuple[CodedWeight, ...], tuple[str, ...]]:
    """Code the weights of a plain file, where that is asked for and there are any (see `code_weights`)."""
    if weights == PLAIN or plan.format != "onnx" or not plan.weights:
        return (), ()
    layer_of = layers_by_weight(arithmetic, plan, conversion.traced)
    how: dict[str, Any] = {
        "bits": conversion.bits,
        "external": conversion.external_data,
        "limit": conversion.limit,
        "names": conversion.names,
    }
    return code_weights(path, arithmetic, layer_of, always=weights == CODED, **how)


def _of_keras(model: keras.Model, precision: str) -> tuple[str, ...]:
    """Return what is to be said of layers that Keras itself quantized."""
    layers = "; ".join(f"{mode}: {', '.join(names)}" for mode, names in by_mode(model).items())
    return (f"Layers that Keras itself quantized ({layers}) are {precision} in this file.",) if layers else ()


def _as_written(
    ends: tuple[Mapping[str, TensorInfo], ...], inference_io: str, path: pathlib.Path, runtimes: tuple[str, ...]
) -> list[dict[str, TensorInfo]]:
    """Return the inputs and the outputs with the dtypes that the file has, and the scales of its integers."""
    if inference_io == "float32":
        return [dict(specs) for specs in ends]
    runner = open_runner(path, runtime=runtimes[-1] if runtimes else None)
    written = [
        {name: TensorInfo(x.shape, inference_io) if x.dtype == "float32" else x for name, x in specs.items()}
        for specs in ends
    ]
    return [with_grids(specs, runner) for specs in written]


def _bytes(model: keras.Model, precision: str) -> int:
    """Return a size that the file has at least: a quarter of the weights', for integers."""
    return sum(math.prod(weight.shape) for weight in model.weights) * (2 if precision == "float16" else 1)
