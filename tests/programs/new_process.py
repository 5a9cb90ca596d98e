"""What a process does that has done nothing before; one does it all, because each imports TensorFlow for seconds.

python -m tests.programs.new_process FOLDER JOB FLAGS

It imports the package, loads the models in FOLDER, exports a model, makes files of models that it builds, does a JOB on
two devices as `tfcompress JOB FLAGS` does it, and writes a file while it trains, until it is killed. What it finds is
in FOLDER/found.json; exports begin and end where standard error has a line: #.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
from typing import Any


def import_package() -> list[str]:
    """Return the modules that come with it; check what it leaves alone: the environment, and others' names in Keras."""
    import keras

    before, environment = set(sys.modules), dict(os.environ)
    registered = set(keras.saving.get_custom_objects())
    import tfcompress  # noqa: F401
    from tfcompress.compat import tfmot  # noqa: F401
    from tfcompress.export import export  # noqa: F401

    assert dict(os.environ) == environment
    own = set(keras.saving.get_custom_objects()) - registered
    assert all(name.startswith(("tfcompress>", "tfmot>")) for name in own), own
    return sorted(set(sys.modules) - before)


def optimizer_of(path: pathlib.Path) -> str:
    """Return which class `compile` makes of Adam for the model in a file."""
    import keras

    model = keras.models.load_model(path)
    model.compile("adam", "mse")
    return type(model.optimizer).__name__


def export_first(folder: pathlib.Path) -> None:
    """Export a model in both formats."""
    import keras

    from tfcompress.export import export

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model(keras.ops.zeros((1, 4)))
    print("#", file=sys.stderr, flush=True)
    for name in ("first.tflite", "first.onnx"):
        export(model, folder / name)
    print("#", file=sys.stderr, flush=True)


def two_devices() -> None:
    """Make two of the CPU: nothing may have been computed yet, and the job wants the same."""
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


def main(folder: pathlib.Path, job: list[str]) -> None:
    """Do it all."""
    found: dict[str, Any] = {"modules": import_package()}
    import keras

    if keras.backend.backend() == "tensorflow":
        two_devices()
        found["optimizers"] = {path.stem: optimizer_of(path) for path in folder.glob("*.keras")}
        export_first(folder)

        from tests.export.test_same_bytes import digests
        from tfcompress.cli.main import code_of

        found["digests"] = digests(folder)
        found["code"] = code_of(job)
    (folder / "found.json").write_text(json.dumps(found))

    from tests.programs import interrupted
    from tfcompress.core import atomic_files

    with atomic_files.draft(folder / "half.json") as beside:
        beside.write_text("half")
        interrupted.train(folder / "backup", folder / "trained.npz", kill_in=3)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2:])
