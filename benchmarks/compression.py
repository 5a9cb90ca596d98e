"""python -m benchmarks.compression [--part=PART] [--data=FOLDER] [--rounds=31] [--only=NETWORKS]

What fewer bits for a weight make of files and of their time. Writes benchmarks/results/compression_*.json,
blockwise.json, blockwise_kernels.json, container_tflite.json and narrow_kernels.json.

    adaround       accuracy of ResNet-8 on CIFAR-10 with weights of 4 and 3 bits and activations of 8, rounded to the
                   nearest, by AdaRound and by GPTQ
    learned        the same with weights of 4, 3 and 2 bits, trained after AdaRound, and the bytes of the .onnx (hours)
    cluster        a training step with 16 values for each kernel, beside tfmot's on tf_keras
    codebooks      what tables of 2 to 8 bits keep of ResNet-8's kernels, and its accuracy then, without training
    cluster_large  time and memory of `tfc.cluster` on 25 million weights, in one kernel and in four
    coded   .onnx files that unpack themselves beside plain int8, LeNet-300-100 and ResNet-8 with 80 to 95 % of zeros
            and weights of 8 and 4 bits: bytes, time of one inference on one thread, time to load and to export, and in
            WebAssembly where Node is there
    coded_large  the same of MobileNetV2 and ResNet50 with 4 bits, native alone
    lenet   LeNet-300-100 and LeNet-5 as .onnx files that unpack themselves: pruned to 95 to 99.3 % of zeros and trained
            with 9 values for each kernel, beside Deep Compression: bytes and error on MNIST (an hour)
    peers   weights of 4 and 2 bits in files of ours, ai-edge-quantizer and ONNX Runtime, of the same float weights and
            images (the perceptron of tflite, ResNet-8, MobileNetV2): bytes, time of one inference on one thread,
            accuracy
    digits  a digit classifier in an .onnx file of 2,953 bytes, what one QR code holds, trained with weights of 4 bits
            for MNIST, three seeds: bytes and accuracy
    tflite  .tflite files: a perceptron 784-1024-1024-10 for MNIST whose weights have 8, 4 and 2 bits, activations
            static, dynamic and float, and MobileNetV2 with 8 and 4 bits: bytes, time of one inference on one thread,
            the files of a network in turns, accuracy; and what of a ResNet-8 file is neither weight nor bias
    blockwise  files of a perceptron for MNIST with weights of 4 bits, a scale for each channel or for each 32 inputs,
            beside a peer's: bytes, time of one inference on one thread, accuracy, and how near outputs are to float's
    blockwise_kernels  products with weights of 4, 8 and 2 bits in blocks in ONNX Runtime (MatMulNBits): time beside
            float, for several sizes and numbers of rows
    tflite_kernels  three layers of one kind in a file, by activations, with weights of 8, 4 and 2 bits: bytes and time
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

from collections.abc import Callable

from benchmarks import blockwise
from benchmarks.clustering import cluster, cluster_large, clustered, codebooks
from benchmarks.coded import coded, coded_large
from benchmarks.digits import digits
from benchmarks.harness import Setting, run_parts
from benchmarks.lenets import lenets
from benchmarks.narrow_peers import beside_peers
from benchmarks.narrow_weights import kernels, tflite
from benchmarks.rounding import adaround, learned

PARTS: dict[str, Callable[[Setting], None]] = {
    "adaround": adaround,
    "blockwise": blockwise.files,
    "blockwise_kernels": blockwise.kernels,
    "cluster": cluster,
    "codebooks": codebooks,
    "cluster_large": cluster_large,
    "coded": coded,
    "coded_large": coded_large,
    "digits": digits,
    "learned": learned,
    "lenet": lenets,
    "peers": beside_peers,
    "tflite": tflite,
    "tflite_kernels": kernels,
}

if __name__ == "__main__":
    run_parts(
        "compression",
        __doc__,
        PARTS,
        rounds=31,
        needed={
            **dict.fromkeys(("adaround", "codebooks", "learned"), ("cifar10_jpeg.npz", "resnet8_cifar10_jpeg.keras")),
            "peers": ("mnist.npz", "cifar10_jpeg.npz", "resnet8_cifar10_jpeg.keras"),
            "blockwise": ("mnist.npz",),
            "digits": ("mnist.npz",),
            "lenet": ("mnist.npz",),
            "tflite": ("mnist.npz", "resnet8_cifar10_jpeg.keras"),
        },
        apart={"clustered": clustered},
        selective=("peers",),
    )
