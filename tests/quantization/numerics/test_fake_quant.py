import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from tests.check import on_jax
from tfcompress.quantization.numerics import arrays, fake_quant, nudging
from tfcompress.quantization.ranges.weight_limits import weight_limit

F = np.float32
BITS = range(2, 17)


def pull(fn, arguments, upstream, compiled=False):
    """The value of `fn` and its gradients, on whichever backend runs."""
    if keras.backend.backend() == "jax":
        import jax

        def both(*arguments):
            value, back = jax.vjp(fn, *arguments)
            return value, back(upstream)

        value, gradients = (jax.jit(both) if compiled else both)(*map(jax.numpy.asarray, arguments))
    else:

        def both(*arguments):
            with tf.GradientTape() as tape:
                tape.watch(arguments)
                value = fn(*arguments)
            return value, tape.gradient(value, arguments, output_gradients=tf.constant(upstream))

        value, gradients = (tf.function(both, jit_compile=True) if compiled else both)(*map(tf.constant, arguments))
    return np.asarray(value), [np.asarray(gradient) for gradient in gradients]


def oracle(operation, arguments, upstream, bits, narrow):
    arguments = [tf.constant(argument) for argument in arguments]
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        value = operation(*arguments, num_bits=bits, narrow_range=narrow)
    gradients = tape.gradient(value, arguments, output_gradients=tf.constant(upstream))
    return value.numpy(), [gradient.numpy() for gradient in gradients]


def cases(bits, narrow, rng):
    """Values (some halfway between two integers), ranges and upstream gradients; six channels, the last axis."""
    scale = 10.0 ** rng.integers(-3, 4)
    low, high = np.sort(np.abs(rng.normal(size=(2, 6)) * scale), axis=0).astype(F)
    signs = {"both": (-low, high), "positive": (low, high), "negative": (-high, -low), "from zero": (0 * low, high)}
    signs["symmetric"] = (-high, high)
    for name, (minimum, maximum) in signs.items():
        x = rng.normal(size=(240, 6)).astype(F) * high
        step = (maximum - minimum) / F(2**bits - 1 - narrow)
        x[:80] = (np.arange(-40, 40, dtype=F)[:, None] + F(0.5)) * step
        yield name, x.astype(F), minimum, maximum, rng.normal(size=x.shape).astype(F)


def near_half(x, low, high, bits, narrow):
    """Where a value lies so close to the middle of two integers that the last bit of a quotient decides."""
    steps = np.abs(x / nudging.nudge(low, high, bits, narrow)[2].astype(np.float64)) % 1
    return np.abs(steps - 0.5) < 2.0 ** (bits - 21)


def with_ops(bits, narrow, axes):
    return lambda *arguments: fake_quant._fake_quant_with_ops(*arguments, bits=bits, narrow=narrow, axes=axes)


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("bits", on_jax(BITS, [3, 8]))
def test_the_values_but_for_halves_and_the_gradients_are_tensorflows_bit_by_bit(bits, narrow):
    rng = np.random.default_rng(bits)
    for name, x, low, high, upstream in cases(bits, narrow, rng):
        per_channel = tf.quantization.fake_quant_with_min_max_vars_per_channel
        per_tensor = tf.quantization.fake_quant_with_min_max_vars
        for operation, axes, arguments in (
            (per_channel, (1,), (x, low, high)),
            (per_tensor, None, (x, low[0], high[0])),
        ):
            value, gradients = oracle(operation, arguments, upstream, bits, narrow)
            own, own_gradients = pull(with_ops(bits, narrow, axes), arguments, upstream)
            halves = near_half(*arguments, bits, narrow)
            assert halves[:80].mean() > 0.1 and halves[80:].mean() < 0.1
            np.testing.assert_array_equal(own[~halves], value[~halves], err_msg=name)
            step = nudging.nudge(*arguments[1:], bits, narrow)[2]
            np.testing.assert_allclose(own, value, rtol=0, atol=1.01 * np.max(step), err_msg=name)
            np.testing.assert_array_equal(own_gradients[0], gradients[0], err_msg=name)
            # Sums, in another order.
            np.testing.assert_allclose(own_gradients[1], gradients[1], rtol=1e-5, atol=1e-4, err_msg=name)
            np.testing.assert_allclose(own_gradients[2], gradients[2], rtol=1e-5, atol=1e-4, err_msg=name)


def halves_in(bits):
    """All numbers halfway between two integers of a step of 1/4, which no arithmetic rounds, and what they become."""
    steps = np.arange(-(2 ** (bits - 1)) + 0.5, 2 ** (bits - 1) - 1)
    return F(steps / 4), F(np.rint(steps) / 4)


@pytest.mark.on_jax
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("bits", [2, *(pytest.param(bits, marks=pytest.mark.rare) for bits in (3, 8)), 16])
def test_halves_go_to_even_before_the_zero_point_is_added(bits, compiled):
    x, expected = halves_in(bits)
    low, high = F(-(2 ** (bits - 1)) / 4), F((2 ** (bits - 1) - 1) / 4)
    upstream = np.ones_like(x)
    np.testing.assert_array_equal(
        pull(lambda *a: fake_quant.fake_quant(*a, bits=bits), (x, low, high), upstream, compiled)[0], expected
    )
    channels = (np.stack([x, x], 1), np.stack([low, low]), np.stack([high, high]))
    both = np.stack([expected, expected], 1)
    for axis, arguments, wanted in (((1,), channels, both), (None, (x, low, high), expected)):
        value, _ = pull(with_ops(bits, False, axis), arguments, np.ones_like(wanted), compiled)
        np.testing.assert_array_equal(value, wanted)
    value, _ = pull(lambda *a: fake_quant.fake_quant_symmetric(*a, bits=bits), (x, high), upstream, compiled)
    np.testing.assert_array_equal(value, np.maximum(expected, -high))
    positive = x > 0
    value, _ = pull(
        lambda x: fake_quant.fake_quant_given(x, low, high, bits=bits, nonnegative=True),
        (x[positive],),
        upstream[positive],
        compiled,
    )
    np.testing.assert_array_equal(value, expected[positive])
    q, scale, zero_point = arrays.uniform_quantize(x, bits, minimum=low, maximum=high)
    np.testing.assert_array_equal(arrays.dequantize(q, scale, zero_point), expected)


@pytest.mark.parametrize("low, high", [(-1.0, 1.0), (-0.7, 1.3), (0.0, 3.0), (-2.118, 2.64)])
def test_integers_are_those_of_onnx_runtime(low, high):
    """Its QuantizeLinear divides; a product with the inverse differs where the last bit of the quotient decides."""
    onnxruntime, onnx = pytest.importorskip("onnxruntime"), pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    rng = np.random.default_rng(0)
    _, _, scale, zero_point = nudging.nudge(low, high)
    x = F((rng.integers(-150, 150, 5000) + rng.choice([0.1, 0.499, 0.501, 0.9], 5000)) * scale)
    graph = helper.make_graph(
        [helper.make_node("QuantizeLinear", ["x", "scale", "zero_point"], ["q"])],
        "g",
        [helper.make_tensor_value_info("x", kinds.FLOAT, [len(x)])],
        [helper.make_tensor_value_info("q", kinds.UINT8, [len(x)])],
        [
            helper.make_tensor("scale", kinds.FLOAT, [], [float(scale)]),
            helper.make_tensor("zero_point", kinds.UINT8, [], [int(zero_point)]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    expected = session.run(None, {"x": x})[0]
    q, *_ = arrays.uniform_quantize(x, minimum=low, maximum=high)
    np.testing.assert_array_equal(q, expected)
    own = np.rint(np.asarray(fake_quant.fake_quant(x, F(low), F(high))) / scale) + zero_point
    np.testing.assert_array_equal(own, expected)


@pytest.mark.on_jax
@pytest.mark.parametrize(
    "bits, narrow",
    [
        (2, False),
        (8, True),
        (16, False),
        *(pytest.param(*case, marks=pytest.mark.rare) for case in ((4, True), (8, False))),
    ],
)
def test_compiling_changes_no_bit(bits, narrow):
    rng = np.random.default_rng(bits)
    for name, x, low, high, upstream in itertools.islice(cases(bits, narrow, rng), 2):
        for axes, ends in (((1,), (low, high)), (None, (low[0], high[0]))):
            fn = with_ops(bits, narrow, axes)
            value, gradients = pull(fn, (x, *ends), upstream)
            compiled, compiled_gradients = pull(fn, (x, *ends), upstream, compiled=True)
            np.testing.assert_array_equal(compiled, value, err_msg=name)
            np.testing.assert_array_equal(compiled_gradients[0], gradients[0], err_msg=name)


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 8, 16])
def test_nudge_agrees_on_arrays_and_tensors_and_with_the_kernel(bits, narrow):
    rng = np.random.default_rng(bits)
    for _, _, low, high, _ in cases(bits, narrow, rng):
        on_host = nudging.nudge(low, high, bits, narrow)
        in_graph = nudging.nudge(ops.convert_to_tensor(low), ops.convert_to_tensor(high), bits, narrow)
        for own, other in zip(on_host, in_graph, strict=True):
            np.testing.assert_array_equal(own, np.asarray(other))
        far = np.stack([np.full(6, -1e6), np.full(6, 1e6)]).astype(F)
        saturated = tf.quantization.fake_quant_with_min_max_vars_per_channel(far, low, high, bits, narrow).numpy()
        np.testing.assert_allclose(saturated, np.stack(on_host[:2]), rtol=1e-6)
        zero_point = on_host[3]
        assert (zero_point == np.round(zero_point)).all()
        assert (zero_point >= narrow).all() and (zero_point < 2**bits).all()


def test_nudge_rounds_halves_away_from_zero():
    # -min / scale is exactly 0.5 and 1.5 here: 3 steps of 1.
    assert [float(nudging.nudge(-start, 3.0 - start, bits=2)[3]) for start in (0.5, 1.5, 2.5)] == [1, 2, 3]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("bits", [2, 8, 16])
def test_an_empty_range_gives_zeros_and_passes_the_gradient(bits, narrow, compiled):
    x, upstream = F([-3, -0.1, 0, 0.2, 5]), F([1, 2, 3, 4, 5])
    for fn in (
        lambda *a: fake_quant.fake_quant(*a, bits=bits, narrow=narrow),
        with_ops(bits, narrow, None),
    ):
        value, (dx, dlow, dhigh) = pull(fn, (x, F(0), F(0)), upstream, compiled)
        np.testing.assert_array_equal(value, np.zeros(5))
        np.testing.assert_array_equal(dx, upstream)
        assert dlow == dhigh == 0


@pytest.mark.on_jax
@pytest.mark.parametrize("compiled", [False, True])
def test_the_public_function_equals_tensorflows_op_between_halves(compiled):
    rng = np.random.default_rng(0)
    x, upstream = rng.normal(size=(50, 4)).astype(F), rng.normal(size=(50, 4)).astype(F)
    value, gradients = pull(fake_quant.fake_quant, (x, F(-1), F(1.5)), upstream, compiled)
    expected, expected_gradients = oracle(
        tf.quantization.fake_quant_with_min_max_vars, (x, F(-1), F(1.5)), upstream, 8, False
    )
    np.testing.assert_array_equal(value, expected)
    for own, other in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, -1, (0, 2), (2, 3), (0, 1, 2, 3)])
def test_each_channel_is_quantized_by_itself(axis):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3, 4, 2, 5)).astype(F)
    axes = tuple(a % 4 for a in ((axis,) if isinstance(axis, int) else axis))
    shape = tuple(x.shape[a] for a in axes)
    low, high = -rng.uniform(0.1, 2, shape).astype(F), rng.uniform(0.1, 2, shape).astype(F)
    value = np.asarray(fake_quant.fake_quant(x, low, high, bits=5, axis=axis))
    symmetric = np.asarray(fake_quant.fake_quant_symmetric(x, high, bits=5, axis=axis))
    for index in np.ndindex(*shape):
        where = tuple(index[axes.index(a)] if a in axes else slice(None) for a in range(4))
        alone = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            np.reshape(x[where], (-1, 1)), low[index][None], high[index][None], 5
        ).numpy()
        np.testing.assert_array_equal(np.ravel(value[where]), np.ravel(alone))
        alone = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            np.reshape(x[where], (-1, 1)), -high[index][None], high[index][None], 5, True
        ).numpy()
        np.testing.assert_array_equal(np.ravel(symmetric[where]), np.ravel(alone))
    np.testing.assert_array_equal(
        np.asarray(fake_quant.symmetric_limit(x, axis)),
        np.abs(x).max(axis=tuple(a for a in range(4) if a not in axes)),
    )


@pytest.mark.parametrize("bits", BITS)
def test_symmetric_is_the_general_one_with_a_narrow_range(bits):
    rng = np.random.default_rng(bits)
    x, upstream = rng.normal(size=(400, 3)).astype(F), rng.normal(size=(400, 3)).astype(F)
    limit = F([0.7, 2.0, 0.0])
    for axis, limits in ((-1, limit), (None, limit[0])):
        axes = None if axis is None else (1,)
        value, (dx, dlimit) = pull(
            lambda x, limit, axis=axis: fake_quant.fake_quant_symmetric(x, limit, bits=bits, axis=axis),
            (x, limits),
            upstream,
        )
        general, (gx, glow, ghigh) = pull(with_ops(bits, True, axes), (x, -limits, limits), upstream)
        np.testing.assert_array_equal(value, general)
        np.testing.assert_array_equal(dx, gx)
        np.testing.assert_allclose(dlimit, ghigh - glow, rtol=1e-5, atol=1e-4)


def test_symmetric_gives_integers_times_the_scale_and_keeps_zero():
    x = np.random.default_rng(0).normal(size=(64, 8)).astype(F)
    x[::3] = 0
    limit = fake_quant.symmetric_limit(x, -1)
    value = np.asarray(fake_quant.fake_quant_symmetric(x, limit, axis=-1))
    whole = value * 127 / np.asarray(limit)
    np.testing.assert_allclose(whole, np.round(whole), atol=1e-4)
    assert np.abs(np.round(whole)).max(axis=0).tolist() == [127] * 8
    assert (value[::3] == 0).all()


@pytest.mark.on_jax
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(dtype):
    x = ops.cast(np.random.default_rng(0).normal(size=(20, 3)), dtype)
    wide = ops.cast(x, "float32")
    for axis, limit in ((None, F(1.2)), (1, F([0.5, 1, 2]))):
        for fn in (
            lambda x, axis=axis, limit=limit: fake_quant.fake_quant(x, -limit, limit, axis=axis),
            lambda x, axis=axis, limit=limit: fake_quant.fake_quant_symmetric(x, limit, axis=axis),
        ):
            assert keras.backend.standardize_dtype(fn(x).dtype) == dtype
            expected = ops.cast(fn(wide), dtype)
            np.testing.assert_array_equal(
                ops.convert_to_numpy(ops.cast(fn(x), "float32")), ops.convert_to_numpy(ops.cast(expected, "float32"))
            )


@pytest.mark.on_jax
@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_layer_that_learns_its_range_trains(jit_compile):
    class Quantized(keras.layers.Layer):
        def build(self, shape):
            self.low = self.add_weight(shape=(), initializer=keras.initializers.Constant(-0.1), name="low")
            self.high = self.add_weight(shape=(), initializer=keras.initializers.Constant(0.1), name="high")
            self.kernel = self.add_weight(shape=(shape[-1], 4), name="kernel")

        def call(self, x):
            limit = ops.stop_gradient(fake_quant.symmetric_limit(self.kernel, -1))
            kernel = fake_quant.fake_quant_symmetric(self.kernel, limit, axis=-1)
            return ops.matmul(fake_quant.fake_quant(x, self.low, self.high), kernel)

    model = keras.Sequential([keras.Input((6,)), Quantized(), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.05), "mse", jit_compile=jit_compile)
    rng = np.random.default_rng(0)
    # Kernels of the right sign: with the wrong one the range would first shrink to nothing, and stay there.
    model.set_weights([F(-0.1), F(0.1), *(rng.uniform(0.2, 0.5, w.shape).astype(F) for w in model.weights[2:])])
    x = rng.normal(size=(128, 6)).astype(F)
    y = x.sum(axis=1, keepdims=True)
    before = model.evaluate(x, y, verbose=0)
    model.fit(x, y, epochs=30, batch_size=32, verbose=0)
    assert model.evaluate(x, y, verbose=0) < 0.5 * before
    assert float(model.layers[0].high.value) > 0.3


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x: fake_quant.fake_quant(x, 0.0, 1.0, bits=1), "bits"),
        (lambda x: fake_quant.fake_quant(x, 0.0, 1.0, bits=17), "bits"),
        (lambda x: fake_quant.fake_quant(x, 0.0, 1.0, bits=True), "bits"),
        (lambda x: fake_quant.fake_quant(x, 0.0, 1.0, axis=0), "minimum to have the shape"),
        (lambda x: fake_quant.fake_quant(x, np.zeros(3), np.ones(3)), "minimum to have the shape"),
        (lambda x: fake_quant.fake_quant(x, np.zeros(3), np.ones(4), axis=1), "maximum to have the shape"),
        (lambda x: fake_quant.fake_quant(x, np.zeros(3), np.ones(3), axis=2), "axis"),
        (lambda x: fake_quant.fake_quant(x, np.zeros((3, 2)), np.ones((3, 2)), axis=(1, 0)), "in order"),
        (lambda x: fake_quant.fake_quant_symmetric(x, np.ones(2), axis=1), "limit to have the shape"),
        (lambda x: fake_quant.symmetric_limit(x, 5), "axis"),
        (lambda x: nudging.nudge(0.0, 1.0, bits=0), "bits"),
        (lambda x: nudging.nudge(1.0, 0.0), "at least minimum. Received: a range that ends below its start, 1 to 0"),
        (lambda x: nudging.nudge(np.nan, 0.0), "minimum to hold finite"),
        (lambda x: nudging.nudge(-3e38, 3e38), "no wider"),
        (lambda x: fake_quant.fake_quant(x, 1.0, 0.0), "at least minimum"),
        (lambda x: fake_quant.fake_quant(x, 0.0, np.inf), "maximum to hold finite"),
        (lambda x: fake_quant.fake_quant(x, np.zeros(3), F([1, -1, 1]), axis=1), "at least minimum"),
        (lambda x: fake_quant.fake_quant_given(x, 0.0, np.nan), "maximum to hold finite"),
        (lambda x: fake_quant.fake_quant_symmetric(x, -1.0), "limit to be at least 0. Received: -1"),
        (lambda x: fake_quant.fake_quant_symmetric(x, np.nan), "limit to hold finite"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.zeros((2, 3), F))


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("bits", BITS)
def test_arrays_are_quantized_as_tensors_are(bits, narrow):
    rng = np.random.default_rng(bits)
    x = (rng.normal(size=(40, 5)) * F([1, 2, 0.1, 30, 0]) + F([0, 5, 0, -3, 0])).astype(F)
    for axis in (None, 1):
        others = None if axis is None else 0
        low, high = np.minimum(x.min(axis=others), 0), np.maximum(x.max(axis=others), 0)
        q, scale, zero_point = arrays.uniform_quantize(x, bits, narrow=narrow, axis=axis)
        axes = None if axis is None else (1,)
        expected = np.asarray(with_ops(bits, narrow, axes)(*map(ops.convert_to_tensor, (x, low, high))))
        np.testing.assert_array_equal(arrays.dequantize(q, scale, zero_point, axis=axis), expected)
        assert q.dtype == ("uint8" if bits <= 8 else "uint16")
        assert q.min() >= narrow and q.max() <= 2**bits - 1

        q, scale, zero_point = arrays.uniform_quantize(x, bits, symmetric=True, narrow=True, axis=axis)
        limit = np.abs(x).max(axis=others)
        expected = np.asarray(fake_quant.fake_quant_symmetric(x, limit, bits=bits, axis=axis))
        np.testing.assert_array_equal(arrays.dequantize(q, scale, zero_point, axis=axis), expected)
        assert q.dtype == ("int8" if bits <= 8 else "int16") and not zero_point.any()
        assert np.abs(q.astype(int)).max() == 2 ** (bits - 1) - 1
        assert scale.shape == zero_point.shape == (() if axis is None else (5,))


@pytest.mark.parametrize("bits", [2, 3, 8, 16])
def test_only_a_range_that_is_not_narrow_reaches_the_lowest_integer(bits):
    x = F([-1.6, -1, 0.5, 1])
    lowest = [
        int(arrays.uniform_quantize(x, bits, symmetric=True, narrow=narrow, minimum=-1, maximum=1)[0].min())
        for narrow in (False, True)
    ]
    assert lowest == [-(2 ** (bits - 1)), -(2 ** (bits - 1)) + 1]


@pytest.mark.parametrize("axis, shape", [(0, (4, 6)), (1, (8, 3)), (-2, (4, 6))])
def test_groups_have_scales_of_their_own(axis, shape):
    x = np.random.default_rng(0).normal(size=(8, 6)).astype(F)
    q, scale, zero_point = arrays.uniform_quantize(x, 4, symmetric=True, axis=axis, group_size=2)
    assert scale.shape == zero_point.shape == shape and q.shape == x.shape
    pairs = np.abs(np.maximum.reduce([np.abs(x[::2]), np.abs(x[1::2])]))
    if axis == 1:
        pairs = np.maximum(np.abs(x[:, ::2]), np.abs(x[:, 1::2]))
    np.testing.assert_array_equal(scale, pairs / F(7))
    back = arrays.dequantize(q, scale, zero_point, axis=axis, group_size=2)
    assert np.all(np.abs(back - x) <= np.repeat(scale, 2, axis=axis % 2) * 0.5001)
    whole = arrays.quantization_error(x, 4, symmetric=True)
    assert arrays.quantization_error(x, 4, symmetric=True, axis=axis, group_size=2).mse < 0.5 * whole.mse


def test_floor_is_the_textbooks_formula():
    x = np.random.default_rng(0).uniform(-3, 3, 500).astype(F)
    q, scale, zero_point = arrays.uniform_quantize(x, 6, mode="floor")
    largest, levels = np.abs(x).max().astype(np.float64), 31
    np.testing.assert_allclose(
        arrays.dequantize(q, scale, zero_point), largest / levels * np.floor(x / (largest / levels)), rtol=1e-6
    )
    assert np.abs(q).max() == 31 and q.dtype == "int8"
    # x - floor(x) is evenly spread over [0, 1), x - round(x) over half of it on either side.
    ratio = arrays.quantization_error(x, 6, mode="floor").mse / arrays.quantization_error(x, 6, symmetric=True).mse
    assert 3.5 < ratio < 4.5


@pytest.mark.parametrize("bits", [2, 8, 16])
def test_floor_takes_the_largest_values_to_the_last_levels(bits):
    limits = np.random.default_rng(0).uniform(0.1, 10, 500).astype(F)
    both = np.stack([limits, -limits])  # a channel each
    q, *_ = arrays.uniform_quantize(both, bits, mode="floor", axis=1)
    levels = 2 ** (bits - 1) - 1
    assert (q[0] == levels).all() and (q[1] == -levels).all()


@pytest.mark.parametrize("constant", [-4.0, 0.25, 1e-6])
def test_a_constant_is_quantized_exactly(constant):
    x = np.full((3, 4), constant, F)
    for how in ({}, {"symmetric": True}, {"axis": 0}, {"mode": "floor"}):
        error = arrays.quantization_error(x, **how)
        assert error.max <= abs(constant) * 1e-6, how


def test_a_channel_of_zeros_has_scale_one():
    x = F([[1, 0], [2, 0]])
    for how in ({}, {"symmetric": True}, {"mode": "floor"}):
        q, scale, zero_point = arrays.uniform_quantize(x, axis=1, **how)
        assert scale[1] == 1
        assert (arrays.dequantize(q, scale, zero_point, axis=1)[:, 1] == 0).all()
    q, *_ = arrays.uniform_quantize(np.zeros(3), minimum=-1, maximum=1)
    assert q.tolist() == [127, 127, 127]


def test_the_error_is_that_of_numpys_arithmetic():
    x = np.random.default_rng(0).normal(size=1000)
    error = arrays.quantization_error(x, 4)
    back = arrays.dequantize(*arrays.uniform_quantize(x, 4))
    assert error.mse == pytest.approx(np.mean((x - back) ** 2))
    assert error.max == pytest.approx(np.max(np.abs(x - back)))
    assert error.sqnr == pytest.approx(10 * np.log10(np.mean(x**2) / np.mean((x - back) ** 2)))
    assert str(error).startswith("mse ") and " dB" in str(error)
    # Six decibels a bit.
    assert arrays.quantization_error(x, 10).sqnr - arrays.quantization_error(x, 8).sqnr == pytest.approx(12, abs=0.5)
    assert arrays.quantization_error([0.0, 255.0]).sqnr == np.inf


@pytest.mark.parametrize(
    "x, how, message",
    [
        ([1.0], {"bits": 1}, "bits"),
        ([1.0], {"bits": 17}, "bits"),
        ([1.0, np.nan], {}, "finite"),
        ([1.0, -np.inf], {}, "finite"),
        ([1e300], {}, "finite"),
        ([], {}, "at least one value"),
        (["a"], {}, "real numbers"),
        ([0.0, 0.0], {}, "other than 0"),
        ([[1.0]], {"axis": 2}, "axis"),
        ([[1.0]], {"axis": 0.5}, "axis"),
        ([[1.0]], {"axis": ()}, "axis"),
        ([[1.0, 2.0, 3.0]], {"axis": 1, "group_size": 2}, "divide the 3"),
        ([[1.0, 2.0, 3.0]], {"axis": 1, "group_size": 0}, "group_size"),
        ([[1.0, 2.0]], {"axis": (0, 1), "group_size": 1}, "one axis"),
        ([1.0, 2.0], {"group_size": 2}, "axis"),
        ([1.0, 2.0], {"minimum": 3.0, "maximum": 1.0}, "at least minimum"),
        ([1.0, 2.0], {"minimum": [0.0, 0.0]}, "minimum to be a scalar"),
        ([1.0, 2.0], {"maximum": np.nan}, "maximum to hold finite"),
        ([1.0, 2.0], {"mode": "ceil"}, "mode"),
        ([3.4e38, -3.4e38], {}, "no wider than the largest float32, 3.4e38. Received: -3.4e.38 to 3.4e.38"),
        ([[3.4e38, 1], [-3.4e38, 1]], {"axis": 1}, "no wider"),
        ([1.0], {"minimum": -3e38, "maximum": 3e38}, "no wider"),
        ([1e-40], {}, "next to them"),
    ],
)
def test_bad_arrays_and_options_are_refused(x, how, message):
    with pytest.raises(ValueError, match=message):
        arrays.uniform_quantize(x, **how)


@pytest.mark.parametrize("largest", [3.4e38, 1e-25])
@pytest.mark.parametrize("how", [{"symmetric": True}, {"mode": "floor"}, {"symmetric": True, "narrow": True}, {}])
def test_the_largest_and_smallest_numbers_have_finite_scales(how, largest):
    x = np.float32([0.5, -1.0, 1.0]) * F(largest) if how else np.float32([0.5, 0.0, 0.9]) * F(largest)
    q, scale, zero_point = arrays.uniform_quantize(x, **how)
    assert np.isfinite(scale) and scale > 0
    np.testing.assert_allclose(arrays.dequantize(q, scale, zero_point), x, rtol=0, atol=1.01 * float(scale))


@pytest.mark.parametrize("factor", [1e-25, 1e25])
def test_least_squares_does_not_depend_on_the_size_of_weights(factor):
    x = np.random.default_rng(0).standard_t(3, 2000).astype(F)
    limit, other = (float(weight_limit(values, bits=4, range="mse")) for values in (x, x * F(factor)))
    assert other == pytest.approx(limit * factor, rel=1e-3) and limit < 0.9 * np.abs(x).max()


@pytest.mark.parametrize(
    "q, scale, zero_point, how, message",
    [
        ([1.0], 1.0, 0, {}, "integers"),
        ([1], 1.0, 0.5, {}, "integers"),
        ([1, 2], [1.0, 1.0], [0, 0], {}, "of shape \\(\\)"),
        ([[1, 2]], [1.0], [0], {"axis": 1}, "of shape \\(2,\\)"),
        ([1], 0.0, 0, {}, "scale to be above 0. Received: 0"),
        ([1], -1.0, 0, {}, "scale to be above 0. Received: -1"),
        ([1], np.nan, 0, {}, "scale to hold finite"),
        ([1], np.inf, 0, {}, "scale to hold finite"),
        ([1], "1", 0, {}, "scale to hold real numbers"),
        ([[1, 2]], [1.0, 0.0], [0, 0], {"axis": 1}, "scale to be above 0"),
        ([100], 3e38, 0, {}, "Expected numbers that float32 holds. Received: a scale of 3e.38 for integers up to 100"),
        ([2**40], 1.0, 0, {}, "q to hold 32-bit integers"),
        ([1], 1.0, 2**40, {}, "zero_point to hold 32-bit integers"),
    ],
)
def test_bad_integers_and_scales_are_refused(q, scale, zero_point, how, message):
    with pytest.raises(ValueError, match=message):
        arrays.dequantize(q, scale, zero_point, **how)
