"""The table of operations on floats: functions, products of matrices, images."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from tests.campaigns.operator_cases import FLOATS, HALVES, Case, floats, numbers, truths, words

PLACES = np.array([[1], [3], [1], [0], [4], [2], [2], [5]])


def elementwise() -> list[Case]:
    """Return functions of floats, one by one, at halves, at zero and far out."""
    x = np.stack([HALVES, FLOATS])
    inner = np.stack([HALVES, FLOATS]) / 8
    above = np.abs(x) + 0.1
    names = words(
        "abs celu ceil cos cosh elu erf exp exp2 expm1 floor gelu hard_sigmoid hard_silu hard_tanh hard_shrink "
        "leaky_relu log_sigmoid log_softmax relu relu6 rint round selu sigmoid sign silu sin sinh softmax softplus "
        "soft_shrink softsign sparse_plus sparse_sigmoid sparsemax square squareplus tan tanh tanh_shrink threshold "
        "trunc signbit sinc cbrt deg2rad rad2deg reciprocal isnan isposinf isneginf logsumexp erfc i0 fabs heaviside"
    )
    positive = words("log log10 log1p log2 sqrt rsqrt")
    small = words("arccos arcsin arctan arctanh erfinv arcsinh")
    cases = []
    for chosen, data in ((names, x), (positive, above), (small, inner)):
        for name in chosen:
            if name == "threshold":
                cases.append(Case(name, lambda y: ops.threshold(y, 0.5, -1.0), (data,)))
            elif name == "heaviside":
                cases.append(Case(name, lambda y: ops.heaviside(y, 0.5), (data,)))
            elif name == "logsumexp":
                cases.append(Case(name, lambda y: ops.logsumexp(y, axis=-1), (data,)))
            elif hasattr(ops, name):
                cases.append(Case(name, getattr(ops, name), (data,)))
    other = {
        "round decimals": lambda y: ops.round(y, 1),
        "exact gelu": lambda y: ops.gelu(y, approximate=False),
        "power float": lambda y: ops.power(ops.abs(y), 1.5),
        "power negative base": lambda y: ops.power(y, 3.0),
        "log of negative": ops.log,
        "divide by zero": lambda y: ops.divide(y, 0.0 * y),
        "divide_no_nan": lambda y: ops.divide_no_nan(y, ops.relu(y)),
        "nan_to_num": lambda y: ops.nan_to_num(ops.log(y)),
        "cast int8 of halves": lambda y: ops.cast(y, "int8"),
        "cast int32 of halves": lambda y: ops.cast(y, "int32"),
        "cast uint8 of halves": lambda y: ops.cast(ops.relu(y), "uint8"),
        "glu": ops.glu,
        "norm": lambda y: ops.norm(y, axis=-1),
        "norm 1": lambda y: ops.norm(y, ord=1, axis=-1),
        "norm inf": lambda y: ops.norm(y, ord=np.inf, axis=-1),
        "normalize": lambda y: ops.normalize(y, axis=-1),
        "median": lambda y: ops.median(y, axis=-1),
        "quantile": lambda y: ops.quantile(y, 0.3, axis=-1),
        "quantile nearest": lambda y: ops.quantile(y, 0.3, axis=-1, method="nearest"),
        "average": lambda y: ops.average(y, axis=-1, weights=np.arange(8, dtype="float32")),
        "histogram": lambda y: ops.histogram(y, 4, (-3.0, 3.0))[0],
        "bincount": lambda y: ops.bincount(ops.cast(ops.abs(y), "int32"), minlength=9),
        "cross": lambda y: ops.cross(y[:, :3], y[:, 3:6]),
        "outer": lambda y: ops.outer(y[0], y[0]),
        "vander": lambda y: ops.vander(y[0], 3),
        "tensordot": lambda y: ops.tensordot(y, floats(8, 3), 1),
        "dot": lambda y: ops.dot(y, floats(8, 3)),
        "inner": lambda y: ops.inner(y, floats(4, 8)),
        "moments": lambda y: ops.moments(y, axes=[-1])[1],
        "trapezoid": lambda y: ops.trapezoid(y, axis=-1),
        "diagonal": lambda y: ops.diagonal(ops.reshape(y, (-1, 2, 4)), axis1=1, axis2=2),
        "diag": lambda y: ops.diag(y[0]),
        "trace": lambda y: ops.trace(ops.reshape(y, (-1, 2, 4)), axis1=1, axis2=2),
        "meshgrid": lambda y: ops.meshgrid(y[0], y[0])[1],
        "eye": lambda y: ops.matmul(y, ops.eye(8)),
        "linspace": lambda y: ops.linspace(y[:, 0], y[:, 1], 5, axis=-1),
        "nonzero": lambda y: ops.nonzero(y)[0],
        "argsort descending": lambda y: ops.argsort(-y, axis=-1),
        "in_top_k": lambda y: ops.in_top_k(ops.cast(y[:, 0] * 0, "int32"), y, 3),
        "rfft": lambda y: ops.rfft(y)[0],
        "rfft 6": lambda y: ops.rfft(y, fft_length=6)[1],
        "fft": lambda y: ops.fft((y, ops.zeros_like(y)))[1],
        "irfft": lambda y: ops.irfft((y[:, :5], y[:, 3:])),
        "stft": lambda y: ops.stft(ops.tile(y, (1, 3)), 8, 4, 8)[0],
        "extract_sequences": lambda y: ops.extract_sequences(y, 4, 2),
        "logical of floats": lambda y: ops.logical_and(y, y > 0),
        "segment_sum": lambda y: ops.segment_sum(ops.reshape(y, (8,)), np.array([0, 0, 1, 1, 1, 3, 3, 2]), 4),
        "segment_max": lambda y: ops.segment_max(ops.reshape(y, (8,)), np.array([0, 0, 1, 1, 1, 3, 3, 2]), 4),
        "scatter": lambda y: ops.scatter(PLACES, ops.reshape(y, (8,)), (6,)),
        "scatter_update": lambda y: ops.scatter_update(ops.reshape(y, (8,)), PLACES[:2], ops.reshape(y, (8,))[:2]),
        "slice_update": lambda y: ops.slice_update(y, (0, 2), ops.ones((1, 3))),
        "slice": lambda y: ops.slice(y, (0, 2), (1, 4)),
        "unravel_index": lambda y: ops.unravel_index(ops.cast(ops.abs(y), "int32"), (3, 4))[1],
        "isclose": lambda y: ops.isclose(y, ops.round(y)),
        "fori_loop": lambda y: ops.fori_loop(0, 3, lambda i, z: z * 0.5 + 1.0, y),
        "while_loop": lambda y: ops.while_loop(lambda z: ops.sum(z) < 100.0, lambda z: (z * 2.0 + 1.0,), (y,))[0],
        "cond": lambda y: ops.cond(ops.sum(y) > 0, lambda: y * 2.0, lambda: y - 1.0),
        "scan": lambda y: ops.scan(lambda c, z: (c + z, c * z), ops.zeros(()), ops.reshape(y, (8,)))[1],
        "map": lambda y: ops.map(lambda z: z * z, y),
        "switch": lambda y: ops.switch(ops.cast(ops.sum(y) > 0, "int32"), [lambda z: z, lambda z: -z], y),
        "random": lambda y: y + keras.random.uniform((8,), seed=3) * 0,
        "logaddexp": lambda y: ops.logaddexp(y, -y),
        "dropout": lambda y: keras.random.dropout(y, 0.0, seed=3),
        "reduce all axes": lambda y: ops.reshape(ops.sum(y), (1, 1)),
        "empty reduction": lambda y: ops.sum(y[:, 8:], axis=-1),
        "multi_hot": lambda y: ops.multi_hot(ops.cast(ops.abs(y), "int32"), 9),
        "one_hot axis": lambda y: ops.one_hot(ops.cast(y, "int32"), 4, axis=1),
        "corrcoef": lambda y: ops.corrcoef(ops.reshape(y, (2, 4))),
        "correlate": lambda y: ops.correlate(y[0], floats(3), "same"),
        "cumprod": lambda y: ops.cumprod(y, axis=1),
        "associative_scan": lambda y: ops.associative_scan(lambda a, b: a + b, y, axis=1),
        "view int32": lambda y: ops.view(y, "int32"),
    }  # fmt: skip
    return cases + [Case(name, function, (x,)) for name, function in other.items()]


def products() -> list[Case]:
    """Return products of matrices, what follows them, and sums by letters."""
    rows, square = floats(1, 4, 3), floats(2, 3, 3, seed=1)
    two = floats(2, 4), floats(2, 4, seed=1)
    relus = {
        "relu": ops.relu,
        "relu6": ops.relu6,
        "maximum 0": lambda x: ops.maximum(x, 0.0),
        "clip": lambda x: ops.clip(x, 0.0, 6.0),
        "clip 1": lambda x: ops.clip(x, -1.0, 1.0),
        "leaky": lambda x: ops.leaky_relu(x, 0.2),
        "tanh": ops.tanh,
        "relu of bias": lambda x: ops.relu(x + np.array([0.5], "float32")),
        "plain": lambda x: x,
        "relu twice": lambda x: ops.relu(x) - ops.relu(-x),
    }
    kernels = {
        "gram": lambda x: ops.matmul(ops.transpose(x[0]), x[0]),
        "tensors": lambda x: ops.matmul(x[0], ops.tanh(ops.transpose(x[0]))),
        "batched": lambda x: ops.matmul(x, ops.transpose(x, (0, 2, 1))),
        "einsum": lambda x: ops.einsum("bij,bkj->bik", x, ops.tanh(x)),
        "cast int8": lambda x: ops.matmul(x[0], ops.cast(ops.cast(ops.round(x[0, :3] * 9), "int8"), "float32") * 0.1),
        "constant": lambda x: ops.matmul(x[0], floats(3, 5)),
        "constant first": lambda x: ops.matmul(floats(5, 4), x[0]),
        "vector": lambda x: ops.matmul(x[0], x[0, 0]),
        "dot": lambda x: ops.dot(x[0], ops.transpose(x[0])),
        "rank 4": lambda x: ops.matmul(x[:, None], ops.transpose(x[:, None], (0, 1, 3, 2))),
        "quantized": lambda x: ops.matmul(
            x[0], ops.cast(np.arange(-7, 8).reshape(3, 5).astype("int8"), "float32") * ops.max(x)
        ),
    }
    cases = []
    for name, kernel in kernels.items():
        for behind, function in relus.items():
            data = floats(1, 4, 3) if name != "gram" else rows
            if name == "cast int8":
                data = floats(1, 4, 3)
            cases.append(Case(f"{behind} of {name}", lambda x, k=kernel, f=function: f(k(x)), (data,)))
    letters = {
        "bij,bjk->bik": (square, square),
        "bIj,bjK->bIK": (square, square),
        "BIJ,BJK->BKI": (square, square),
        "bij,bij->b": (square, square),
        "bi,bj->bij": two,
        "bi,bi->bi": two,
        "bij->bji": (square,),
        "bij->bi": (square,),
        "bii->bi": (square,),
        "bij,bkj->bik": (square, square),
        "bhij,bhjk->bhik": (square[:, None], square[:, None]),
        "bqhd,bkhd->bhqk": (square[:, :, None], square[:, :, None]),
        "BQHD,BKHD->BHQK": (square[:, :, None], square[:, :, None]),
        "...ij,...jk->...ik": (square, square),
        "bi,bi->": two,
    }
    for equation, data in letters.items():
        cases.append(Case(f"einsum {equation}", lambda *x, e=equation: ops.einsum(e, *x), data))
    cases += [
        Case("einsum bij,Jk->biK constant", lambda x: ops.einsum("biJ,JK->biK", x, floats(3, 4)), (square,)),
        Case("n1 add", lambda x: keras.ops.conv(x, floats(1, 1, 1)) + x, (floats(2, 5, 1),)),
        Case("n1 add other", lambda x, y: ops.expand_dims(x, -1) + y, (floats(2, 5), floats(2, 5, 1))),
        Case("n1 multiply", lambda x: keras.ops.conv(x, floats(1, 1, 1)) * x, (floats(2, 5, 1),)),
        Case("n1 subtract", lambda x: x - keras.ops.conv(x, floats(3, 1, 1), padding="same"), (floats(2, 5, 1),)),
        Case("n1 maximum", lambda x: ops.maximum(x, keras.ops.conv(x, floats(1, 1, 1))), (floats(2, 5, 1),)),
        Case("nn1 add", lambda x: keras.ops.conv(x, floats(1, 1, 1, 1)) + x, (floats(2, 5, 4, 1),)),
        Case("1n add", lambda x: keras.ops.conv(x, floats(1, 4, 4)) + x, (floats(2, 1, 4),)),
        Case("attention", lambda x: ops.dot_product_attention(x[:, :, None], x[:, :, None], x[:, :, None]), (square,)),
        Case("kron", lambda x: ops.kron(x[0], x[0]), (rows,)),
        Case("inv", ops.inv, (square + 3 * np.eye(3, dtype="float32"),)),
        Case("cholesky", lambda x: ops.cholesky(ops.matmul(x, ops.transpose(x, (0, 2, 1))) + ops.eye(3)), (square,)),
        Case("solve", lambda x: ops.solve(x + 3 * ops.eye(3), x), (square,)),
        Case("qr", lambda x: ops.qr(x)[1], (square,)),
        Case("svd", lambda x: ops.svd(x, compute_uv=False), (square,)),
        Case("det", ops.det, (square,)),
        Case("eigh", lambda x: ops.eigh(x + ops.transpose(x, (0, 2, 1)))[0], (square,)),
    ]  # fmt: skip
    return cases


def pictures() -> list[Case]:
    """Return what is done with images."""
    x = floats(2, 6, 5, 3)
    free = {
        "nearest 2": lambda y: ops.image.resize(y, (12, 10), interpolation="nearest"),
        "nearest odd": lambda y: ops.image.resize(y, (9, 7), interpolation="nearest"),
        "nearest down": lambda y: ops.image.resize(y, (3, 2), interpolation="nearest"),
        "bilinear": lambda y: ops.image.resize(y, (9, 7), interpolation="bilinear"),
        "bilinear down": lambda y: ops.image.resize(y, (3, 2), interpolation="bilinear"),
        "bilinear antialias": lambda y: ops.image.resize(y, (3, 2), interpolation="bilinear", antialias=True),
        "bicubic": lambda y: ops.image.resize(y, (9, 7), interpolation="bicubic"),
        "lanczos3": lambda y: ops.image.resize(y, (9, 7), interpolation="lanczos3"),
        "lanczos5": lambda y: ops.image.resize(y, (9, 7), interpolation="lanczos5"),
        "crop to aspect": lambda y: ops.image.resize(y, (4, 4), crop_to_aspect_ratio=True),
        "pad to aspect": lambda y: ops.image.resize(y, (8, 8), pad_to_aspect_ratio=True),
        "channels first": lambda y: ops.image.resize(
            ops.transpose(y, (0, 3, 1, 2)), (9, 7), data_format="channels_first"
        ),
        "extract_patches": lambda y: ops.image.extract_patches(y, (2, 2), strides=(2, 2)),
        "extract_patches 3": lambda y: ops.image.extract_patches(y, (3, 3), strides=(1, 1), padding="same"),
        "extract_patches dilated": lambda y: ops.image.extract_patches(y, (2, 2), strides=1, dilation_rate=2),
        "rgb_to_grayscale": ops.image.rgb_to_grayscale,
        "rgb_to_hsv": lambda y: ops.image.rgb_to_hsv(ops.sigmoid(y)),
        "hsv_to_rgb": lambda y: ops.image.hsv_to_rgb(ops.sigmoid(y)),
        "affine": lambda y: ops.image.affine_transform(y, np.array([[1, 0.1, 0, 0, 1, 0.5, 0, 0]], "float32")),
        "affine nearest": lambda y: ops.image.affine_transform(
            y, np.array([[1, 0.1, 0, 0, 1, 0.5, 0, 0]], "float32"), interpolation="nearest"
        ),
        "map_coordinates": lambda y: ops.image.map_coordinates(
            y[0, :, :, 0], ops.stack([np.linspace(0, 5, 4), np.linspace(0, 4, 4)]), order=1
        ),
        "gaussian_blur": lambda y: ops.image.gaussian_blur(y, (3, 3), (1.0, 1.0)),
        "crop_images": lambda y: ops.image.crop_images(y, 1, 1, 1, 1),
        "pad_images": lambda y: ops.image.pad_images(y, 1, 2, 1, 0),
        "adjust": lambda y: ops.clip(y * 1.3 + 0.1, 0.0, 1.0),
        "max_pool": lambda y: ops.max_pool(y, 2, 2, padding="same"),
        "max_pool 3": lambda y: ops.max_pool(y, 3, 1, padding="same"),
        "average_pool": lambda y: ops.average_pool(y, 2, 2, padding="valid"),
        "average_pool same": lambda y: ops.average_pool(y, 3, 2, padding="same"),
        "adaptive_average_pool": lambda y: ops.adaptive_average_pool(y, 3),
        "adaptive_max_pool": lambda y: ops.adaptive_max_pool(y, 3),
        "conv": lambda y: ops.conv(y, floats(3, 3, 3, 4), 2, padding="same"),
        "conv dilated": lambda y: ops.conv(y, floats(2, 2, 3, 4), 1, padding="same", dilation_rate=2),
        "conv relu": lambda y: ops.relu(ops.conv(y, floats(3, 3, 3, 4), 1, padding="valid")),
        "depthwise": lambda y: ops.depthwise_conv(y, floats(3, 3, 3, 2), 1, padding="same"),
        "separable": lambda y: ops.separable_conv(y, floats(3, 3, 3, 1), floats(1, 1, 3, 4), 1, padding="same"),
        "conv_transpose": lambda y: ops.conv_transpose(y, floats(3, 3, 4, 3), 2, padding="same"),
        "conv computed kernel": lambda y: ops.conv(y, floats(2, 2, 3, 2) * ops.mean(y), 1, padding="valid"),
        "relu of computed kernel": lambda y: ops.relu(ops.conv(y, floats(2, 2, 3, 2) * ops.mean(y), 1)),
        "batch_normalization": lambda y: ops.batch_normalization(y, floats(3), np.abs(floats(3)) + 0.5, -1),
        "layer_normalization": lambda y: ops.layer_normalization(y, floats(3), floats(3, seed=1)),
        "rms_normalization": lambda y: ops.rms_normalization(y, floats(3)),
        "depth_to_space": lambda y: ops.nn.depth_to_space(ops.concatenate([y, y, y, y], -1), 2),
        "space_to_depth": lambda y: ops.nn.space_to_depth(y[:, :4, :4], 2),
        "unfold": lambda y: ops.unfold(ops.transpose(y, (0, 3, 1, 2)), (2, 2)),
        "psnr": lambda y: ops.psnr(y, y + 0.1, 1.0),
        "batch mean": lambda y: y - ops.mean(y, axis=0, keepdims=True),
        "batch deviation": lambda y: ops.concatenate([y, ops.std(y, axis=0, keepdims=True) + 0 * y], -1),
    }  # fmt: skip
    return [Case(f"image {name}", function, (x,)) for name, function in free.items()]


def all_cases() -> list[Case]:
    """Return all of the table."""
    cases = []
    for dtype in ("float32", "int32", "int64", "int8", "uint8", "int16", "uint16", "uint32"):
        cases += numbers(dtype)
    return cases + truths() + elementwise() + products() + pictures()
