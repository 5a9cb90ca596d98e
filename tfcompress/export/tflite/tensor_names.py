"""The names inside of a TFLite file, which no runtime reads but those of inputs and outputs."""

from __future__ import annotations

from tfcompress.export.tflite.flatbuffer import File


def without_names(content: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Leave the names of tensors and graphs out of a file, but for those of the model's inputs and outputs.

    Args:
        content: The bytes of a file that `File.to_bytes` wrote, so that the places of its tensors stay.

    Returns:
        The bytes without, and the names by the tensors' places in the main graph.
    """
    file = File(content)
    main = file.graphs[0]
    names = tuple(map(main.tensor_name, range(len(main.tensors))))
    ends = {int(index) for index in (*main.graph.inputs, *main.graph.outputs)}
    for graph in file.graphs:
        graph.graph.name = b""  # written once; some readers take for granted that there is one
        for index, tensor in enumerate(graph.tensors):
            if graph is not main or index not in ends:
                tensor.name = b""
    return file.to_bytes(), names
