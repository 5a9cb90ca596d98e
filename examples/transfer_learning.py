"""python examples/transfer_learning.py --images=FOLDER --backbone=MobileNetV2

A network that knows pictures learns the classes of a folder of images, is trained quantized, and becomes int8 files.

FOLDER holds a folder of images for each class. Without --images it draws some, and without --backbone it takes a small
network that was trained on other drawings first: so nothing is downloaded. MobileNetV2 comes with ImageNet's weights,
which Keras downloads.
"""

from __future__ import annotations

import argparse
import pathlib
import tempfile
from typing import Any

import keras
import numpy as np

import tfcompress as tfc

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
DRAWINGS = {
    "disc": lambda x, y: x**2 + y**2 < 0.4,
    "square": lambda x, y: np.maximum(abs(x), abs(y)) < 0.55,
    "cross": lambda x, y: np.minimum(abs(x), abs(y)) < 0.2,
    "ring": lambda x, y: abs(x**2 + y**2 - 0.4) < 0.15,
    "stripes": lambda x, y: np.sin(9 * x) > 0,
    "checkers": lambda x, y: np.sin(7 * x) * np.sin(7 * y) > 0,
}


def drawings(names: list[str], count: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `count` noisy pictures of each name, from 0 to 255, and their classes."""
    generator = np.random.default_rng(seed)
    images, classes = [], []
    for label, name in enumerate(names):
        for _ in range(count):
            x, y = np.meshgrid(*[np.linspace(-1, 1, size)] * 2)
            shift, colours = generator.uniform(-0.3, 0.3, 2), generator.uniform([[150], [0]], [[255], [100]], (2, 3))
            inside = DRAWINGS[name](x + shift[0], y + shift[1])[..., None]
            images.append(np.where(inside, colours[0], colours[1]) + generator.normal(0, 12, (size, size, 3)))
            classes.append(label)
    return np.clip(np.array(images), 0, 255).astype("float32"), np.array(classes)


def draw_folder(folder: pathlib.Path, names: list[str], count: int, size: int) -> None:
    """Write a folder of pictures for each name."""
    images, classes = drawings(names, count, size, seed=1)
    for number, (image, label) in enumerate(zip(images, classes, strict=True)):
        (folder / names[label]).mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(folder / names[label] / f"{number}.png", image, scale=False)


def small_backbone(size: int, epochs: int) -> keras.Model:
    """Return a small network that was trained to tell discs, squares and crosses apart."""
    inputs = x = keras.Input((size, size, 3))
    for filters in (16, 32, 64):
        x = keras.layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))
    backbone = keras.Model(inputs, x, name="backbone")
    images, classes = drawings(list(DRAWINGS)[:3], 60, size, seed=0)
    whole = classifier(backbone, 3)
    whole.compile("adam", LOSS)
    whole.fit(images, classes, epochs=epochs, verbose=0)
    return backbone


def classifier(backbone: keras.Model, classes: int) -> keras.Model:
    """Return the network with a new head, for pixels from 0 to 255."""
    inputs = keras.Input(backbone.input_shape[1:], name="image")
    x = backbone(keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(classes, name="scores")(x))


def main(arguments: list[str] | None = None) -> tfc.Report:
    """Do it all, print a table, and return it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=pathlib.Path, help="a folder with a folder of images for each class")
    parser.add_argument("--backbone", choices=["small", "MobileNetV2"], default="small")
    parser.add_argument("--size", type=int, default=64, help="of the images, in pixels")
    parser.add_argument("--epochs", type=int, default=10, help="of the head, then of all; a fifth quantized")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path(), help="folder for the files")
    given = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    with tempfile.TemporaryDirectory() as drawn:
        folder = given.images or pathlib.Path(drawn)
        if not given.images:
            draw_folder(folder, list(DRAWINGS)[3:], 60, given.size)
        read: dict[str, Any] = {"image_size": (given.size, given.size), "validation_split": 0.25, "seed": 0}
        train, test = keras.utils.image_dataset_from_directory(folder, subset="both", **read)
        names = train.class_names
        train, test = train.cache(), test.cache()
        if given.backbone == "small":
            backbone = small_backbone(given.size, given.epochs)
        else:
            shape = (given.size, given.size, 3)
            backbone = keras.applications.MobileNetV2(shape, include_top=False, weights="imagenet")
        backbone.trainable = False
        model = classifier(backbone, len(names))
        model.compile(keras.optimizers.Adam(1e-2), LOSS)
        model.fit(train, epochs=given.epochs, verbose=0, shuffle=False)  # the data set shuffles
        backbone.trainable = True
        model.compile(keras.optimizers.Adam(1e-3 if given.backbone == "small" else 1e-5), LOSS)
        model.fit(train, epochs=given.epochs, verbose=0, shuffle=False)
        quantized = tfc.quantize(model, "int8", data=train)
        quantized.compile(keras.optimizers.Adam(1e-4), LOSS)
        quantized.fit(train, epochs=max(1, given.epochs // 5), verbose=0, shuffle=False)
        files = {
            kind: tfc.export(quantized, given.output / f"images.{kind}", overwrite=True) for kind in ("tflite", "onnx")
        }
        report = tfc.compare({"float": model, **files}, test, class_names=names)
    print(report)
    return report


if __name__ == "__main__":
    main()
