"""A traced model on its way to a file, and the file's comparison with it."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import keras

from tfcompress.core.out_of_memory import give_back
from tfcompress.export.file_arithmetic import read_arithmetic
from tfcompress.export.onnx import to_onnx
from tfcompress.export.plan.deployment import Deployment
from tfcompress.export.plan.file_operators import FileArithmetic
from tfcompress.export.tflite import to_tflite
from tfcompress.export.tflite.other_operators import with_operators
from tfcompress.export.tflite.tensor_names import without_names
from tfcompress.export.tflite.weights.lookup_tables import TableWeight, as_tables
from tfcompress.export.writing import write
from tfcompress.parity.first_difference import opened, prove
from tfcompress.parity.same_outputs import check_same
from tfcompress.parity.tolerance import Parity
from tfcompress.quantization.arithmetic.choice import OF_RUNTIME
from tfcompress.quantization.graph.chosen_arithmetic import simulated
from tfcompress.runtime.arena import Arena
from tfcompress.runtime.opening import open_runner
from tfcompress.runtime.tflm_runner import TFLMRunner
from tfcompress.tracing.trace import Trace


@dataclasses.dataclass(frozen=True)
class Conversion:
    """How a model becomes a file.

    Attributes:
        model: the user's.
        traced: what is converted.
        kind: "tflite" or "onnx".
        deployment: what is exported for the model.
        precision: of the file.
        options: what else the format's converter is told.
        data: to compare on; None: random.
        external_data: whether weights stand in a second file; None: where they must.
        names: whether inner tensors of a quantized `.tflite` file have names.
        limit: bytes that one file holds.
        bits: of the types that weights may have in the file.
        runtimes: in which it is compared with the model; empty: that of the format.
        known: the operators that the runtime has; empty: all of the format.
    """

    model: keras.Model
    traced: Trace
    kind: str
    deployment: Deployment
    precision: str
    options: Mapping[str, Any]
    data: Any
    external_data: bool | None
    names: bool
    limit: int
    bits: tuple[int, ...]
    runtimes: tuple[str, ...] = ()
    known: tuple[str, ...] = ()

    def convert(self, traced: Trace, path: pathlib.Path) -> None:
        """Write a file of a trace, with names."""
        to_format = to_tflite.to_tflite if self.kind == "tflite" else to_onnx.to_onnx
        how = {"scheme": self.deployment.scheme, "weights": self.deployment.weights, **self.options}
        how |= {"grids": tuple(self.deployment.grids.values())} if self.kind == "tflite" else {}
        content = to_format(traced, precision=self.precision, **how)
        content = with_operators(content, self.known) if self.known else content
        write(path, content, self.external_data, self.limit)
        give_back(path.stat().st_size, cycles=False)

    def read(self, path: pathlib.Path) -> FileArithmetic:
        """Return in what numbers a written file computes."""
        try:
            return read_arithmetic(path)
        except Exception:
            opened(self.traced, path)  # what is no such file its runtime refuses, and says why
            raise
        finally:
            give_back(path.stat().st_size, cycles=False)

    def prove(self, path: pathlib.Path) -> Parity:
        """Compare a written file with the model, in each runtime; return what was found in the last.

        Where a target names the runtimes, the model simulates each of them in its turn.

        Raises:
            ParityError: it computes something else.
        """
        how: dict[str, Any] = {"precision": self.precision, "data": self.data, "deployment": self.deployment}
        found = None
        for runtime in self.runtimes or (None,):
            with simulated(self.model, OF_RUNTIME.get(runtime or "")):
                found = prove(self.model, self.traced, opened(self.traced, path, runtime), self.convert, **how)
        assert found is not None
        return found

    def proved(self, path: pathlib.Path, compares: bool, tables: bool) -> tuple[Parity | None, list[TableWeight]]:
        """Compare a written file with the model; then put its weights in tables, where that is asked for.

        Args:
            path: of the file.
            compares: whether it is compared.
            tables: whether weights of few values are looked up (see `as_tables`).

        Raises:
            ParityError: it computes something else, or with tables something else than without.
        """
        parity = self.prove(path) if compares else None
        if not tables or self.kind != "tflite":
            return parity, []
        content, made = as_tables(path.read_bytes())
        if made:
            check_same(path, content, self.runtimes[-1])
            self.write(path, content)
        return parity, made

    def arena(self, path: pathlib.Path) -> Arena | None:
        """Return what a file needs of RAM, where TFLite Micro is one of its runtimes."""
        if "tflm" not in self.runtimes:
            return None
        runner = open_runner(path, runtime="tflm")
        return runner.arena() if isinstance(runner, TFLMRunner) else None

    def prove_bytes(self, path: pathlib.Path, content: bytes) -> Parity:
        """Write other bytes to a file, and compare it with the model."""
        self.write(path, content)
        return self.prove(path)

    def shipped(self, content: bytes) -> bytes:
        """Return the bytes to ship of those of a TFLite file with names."""
        return without_names(content)[0] if self.nameless else content

    def leave_out_names(self, path: pathlib.Path) -> tuple[str, ...]:
        """Let a written file be without the names of inner tensors; return them, by the tensors' places."""
        if not self.nameless:
            return ()
        content, names = without_names(path.read_bytes())
        self.write(path, content)
        return names

    def write(self, path: pathlib.Path, content: bytes) -> None:
        """Write bytes in place of a file."""
        write(path, content, False, self.limit)

    @property
    def nameless(self) -> bool:
        """Whether the file is to be without them."""
        return self.kind == "tflite" and self.deployment.scheme is not None and not self.names
