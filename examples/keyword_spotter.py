"""python examples/keyword_spotter.py --sounds=FOLDER

A small network that knows a few words, pruned and trained quantized, for a microcontroller: int8 in, int8 out, and no
operator in float. FOLDER holds a folder of .wav files for each word; without it words are made of tones and noise.

The spectrogram is computed before the network, as a microcontroller does it with a library of its own.
"""

from __future__ import annotations

import argparse
import pathlib

import keras
import numpy as np

import tfcompress as tfc

RATE = 8000
"""Samples of sound in a second; every sound is cut, or filled with silence, to a second."""
WORDS = {"up": (400, 1200), "down": (1200, 400), "stop": (700, 700), "noise": ()}
"""The tones that made words consist of, one after the other."""
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def made_sounds(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `count` sounds of each word, and which word each is."""
    generator = np.random.default_rng(seed)
    time = np.arange(RATE) / RATE
    sounds = generator.normal(0, 0.1, (count * len(WORDS), RATE))
    classes = np.repeat(np.arange(len(WORDS)), count)
    for number, label in enumerate(classes):
        begin, length = generator.uniform(0, 0.2), generator.uniform(0.2, 0.35)
        for place, tone in enumerate(list(WORDS.values())[label]):
            within = (time >= begin + place * length) & (time < begin + (place + 1) * length)
            pitch, loudness = tone * generator.uniform(0.95, 1.05), generator.uniform(0.2, 0.6)
            sounds[number] += within * loudness * np.sin(2 * np.pi * pitch * time)
    return sounds.astype("float32"), classes


def read_sounds(folder: pathlib.Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return all sounds of a folder of .wav files by word, the word of each, and the words."""
    found = keras.utils.audio_dataset_from_directory(
        folder, output_sequence_length=RATE, sampling_rate=None, batch_size=None, shuffle=False
    )
    pairs = [(np.asarray(sound)[:, 0], int(label)) for sound, label in found]
    return np.stack([sound for sound, _ in pairs]), np.array([label for _, label in pairs]), list(found.class_names)


def spectrograms(sounds: np.ndarray) -> np.ndarray:
    """Return logarithms of 32 bands every 20 ms: (sounds, frames, 32, 1)."""
    layer = keras.layers.MelSpectrogram(
        fft_length=512, sequence_stride=160, num_mel_bins=32, sampling_rate=RATE, min_freq=50.0, max_freq=RATE / 2
    )
    bands = np.asarray(layer(sounds))
    return np.swapaxes(bands, 1, 2)[..., None]


def network(shape: tuple[int, ...], words: int) -> keras.Model:
    """Return a network of depthwise separable convolutions."""
    inputs = keras.Input(shape, name="spectrogram")
    x = keras.layers.Conv2D(16, (10, 4), strides=2, padding="same", use_bias=False)(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))
    for _ in range(3):
        x = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))
        x = keras.layers.Conv2D(32, 1, use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(words, name="words")(x))


def main(arguments: list[str] | None = None) -> tfc.Report:
    """Do it all, print a table, and return it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sounds", type=pathlib.Path, help="a folder with a folder of .wav files for each word")
    parser.add_argument("--epochs", type=int, default=10, help="as many again while it is pruned; a fifth quantized")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path(), help="folder for the file")
    given = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    sounds, y, names = (*made_sounds(80, seed=0), list(WORDS)) if given.sounds is None else read_sounds(given.sounds)
    x = spectrograms(sounds)
    order = np.random.default_rng(0).permutation(len(x))
    test, train = order[: len(x) // 4], order[len(x) // 4 :]

    model = network(x.shape[1:], len(names))
    model.compile(keras.optimizers.Adam(3e-3), LOSS)
    model.fit(x[train], y[train], epochs=given.epochs, verbose=0)

    end = given.epochs * -(-len(train) // 32) // 2  # half of the training; the rest is for the weights that are left
    schedule = tfc.PolynomialSparsity(0.0, 0.5, begin_step=0, end_step=end, frequency=max(1, end // 10))
    pruned = tfc.prune(model, tfc.PruneConfig(schedule, granularity="channel", scope="flops"))
    pruned.compile(keras.optimizers.Adam(1e-3), LOSS)
    pruned.fit(x[train], y[train], epochs=given.epochs, verbose=0)
    small = tfc.shrink(pruned)  # half of the multiplications

    quantized = tfc.quantize(small, "int8", data=x[train])
    quantized.compile(keras.optimizers.Adam(1e-4), LOSS)
    quantized.fit(x[train], y[train], epochs=max(1, given.epochs // 5), verbose=0)
    file = tfc.export(
        quantized, given.output / "words.tflite", inference_io="int8", require_integer=True, overwrite=True
    )
    print(file)
    report = tfc.compare({"float": model, "small": small, "int8": file}, x[test], y[test], class_names=names)
    print(report)
    return report


if __name__ == "__main__":
    main()
