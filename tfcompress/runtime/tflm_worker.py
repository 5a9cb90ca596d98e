"""TFLite Micro in a process of its own; it is run as a file, and imports neither tfcompress nor TensorFlow.

A request is a line of JSON on standard input, with arrays behind it; so is an answer on standard output. What TFLite
Micro prints goes to standard error.
"""

from __future__ import annotations

import json
import math
import os
import sys
from typing import IO, Any

import numpy as np

MOST = 2**31 - 16
"""Bytes of the largest arena: TFLite Micro counts them in signed 32 bits."""


def send(stream: IO[bytes], message: dict[str, Any], arrays: list[np.ndarray]) -> None:
    """Write a message and the arrays that belong to it."""
    kinds = [[array.dtype.name, array.shape] for array in arrays]
    stream.write(json.dumps({**message, "arrays": kinds}).encode() + b"\n")
    for array in arrays:
        stream.write(array.tobytes())
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], list[np.ndarray]] | None:
    """Read what `send` wrote; `None`: the other side has ended."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    message = json.loads(line)
    arrays = []
    for dtype, shape in message["arrays"]:
        nbytes = np.dtype(dtype).itemsize * math.prod(shape)
        content = stream.read(nbytes)
        if len(content) < nbytes:
            return None
        arrays.append(np.frombuffer(content, dtype).reshape(shape))
    return message, arrays


Answer = tuple[dict[str, Any], list[np.ndarray]]


class Worker:
    """A file in TFLite Micro's interpreter."""

    def __init__(self) -> None:
        self.content = b""
        self.interpreter: Any = None
        self.ends = (0, 0)

    def open(self, message: dict[str, Any], arrays: list[np.ndarray]) -> Answer:
        """Load a file into an arena of some bytes; say what its inputs and outputs are."""
        from tflite_micro import runtime

        with open(message["path"], "rb") as file:
            self.content = file.read()
        self.interpreter = runtime.Interpreter.from_bytes(self.content, arena_size=message["arena"])
        self.ends = message["inputs"], message["outputs"]
        inputs = [_described(self.interpreter.get_input_details(place)) for place in range(self.ends[0])]
        outputs = [_described(self.interpreter.get_output_details(place)) for place in range(self.ends[1])]
        return {"inputs": inputs, "outputs": outputs}, []

    def run(self, message: dict[str, Any], arrays: list[np.ndarray]) -> Answer:
        """Run the file once."""
        for place, array in enumerate(arrays):
            self.interpreter.set_input(array, place)
        self.interpreter.invoke()
        return {}, [self.interpreter.get_output(place) for place in range(self.ends[1])]

    def allocations(self, message: dict[str, Any], arrays: list[np.ndarray]) -> Answer:
        """Print what the arena holds."""
        self.interpreter.print_allocations()
        return {}, []

    def least(self, message: dict[str, Any], arrays: list[np.ndarray]) -> Answer:
        """Find the smallest arena, of at least some bytes, in which the file is loaded and run."""
        low, high = message["arena"] - 1, message["arena"]
        while not self._fits(high, arrays):
            if high >= MOST:
                raise MemoryError(f"the file isn't run in an arena of {MOST:,} bytes, the largest")
            low, high = high, min(2 * high + 1024, MOST)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._fits(middle, arrays) else (middle, high)
        return {"arena": high}, []

    def _fits(self, arena: int, arrays: list[np.ndarray]) -> bool:
        """Try it in a copy of this process, since TFLite Micro may end the process where memory is short."""
        from tflite_micro import runtime

        child = os.fork()
        if child:
            return os.waitpid(child, 0)[1] == 0
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            self.interpreter = runtime.Interpreter.from_bytes(self.content, arena_size=arena)
            self.run({}, arrays)
        except BaseException:
            os._exit(1)
        os._exit(0)


def _described(details: dict[str, Any]) -> dict[str, Any]:
    grid = details["quantization_parameters"]
    return {
        "shape": [int(size) for size in details["shape"]],
        "dtype": np.dtype(details["dtype"]).name,
        "scales": [float(scale) for scale in grid["scales"]],
        "zero_points": [int(point) for point in grid["zero_points"]],
    }


def main() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever is printed doesn't come between the answers
    worker = Worker()
    while (request := receive(sys.stdin.buffer)) is not None:
        message, arrays = request
        try:
            found, values = getattr(worker, message["do"])(message, arrays)
        except Exception as error:  # whatever it is, the other side is to know it
            found, values = {"error": f"{type(error).__name__}: {error}"}, []
        send(answers, found, values)


if __name__ == "__main__":
    main()
