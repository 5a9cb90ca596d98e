"""How the public verbs are called: the order and the names of their arguments, and what was called otherwise before."""

from __future__ import annotations

import inspect

import keras
import numpy as np
import pytest

import tfcompress as tfc
from tfcompress.pipeline import Data

X, Y = np.ones((8, 4), "float32"), np.arange(8) % 3

SPACE = {"steps": [{"step": "prune", "config": {"low": 0.1, "high": 0.9}}, {"step": "export", "files": ["a.onnx"]}]}

SIGNATURES = {
    "allocate": "model, data, *, size=None, max_rise=None, config='int8', choices=None, layers=None, "
    "formats=('tflite', 'onnx'), loss=None, samples=512, batch_size=32, seed=0, input_shapes=None, input_dtypes=None",
    "benchmark": "model, data=None, *, threads=1, runs=None, warmup=10, batch_size=1, seconds=2.0, runtime=None, "
    "target=None",
    "calibrate": "model, data, *, batch_size=32",
    "check_float16": "model, data, *, keep_float32=None, batch_size=32",
    "cluster": "model, config=None, *, layers=None, input_shapes=None, input_dtypes=None, **fields",
    "compare": "models, data, y=None, *, baseline=None, threads=1, latency=True, task=None, batch_size=32, "
    "class_names=None, from_logits=None, runs=None, warmup=10, seconds=2.0, about=None, "
    "scans=(), layers=True, runtime=None, target=None, ram=None, flash=None",
    "compare_codebooks": "model, bits=(2, 3, 4, 8), *, methods=('uniform', 'power_of_two', 'additive_power_of_two', "
    "'quantile', 'kmeans'), layers=None, granularity='per_tensor'",
    "compress": "model, recipe=None, *, data, validation=None, max_drop=None, minimize='size', "
    "formats=None, output_dir=None, metric=None, train=True, batch_size=128, "
    "learning_rate=0.0003, max_seconds=None, seed=0, progress=True, target=None",
    "debug": "model, path, data, *, reference=None, threshold=2.0, batch_size=8",
    "dequantize": "q, scale, zero_point, *, axis=None, group_size=None",
    "distill": "student, teacher, temperature=3.0, alpha=0.5, *, from_logits=None",
    "estimate_npu": "path, accelerator=None, *, system=None, memory=None, ram=None, flash=None",
    "evaluate": "model, data, y=None, *, task=None, batch_size=32, class_names=None, from_logits=None, runtime=None, "
    "target=None",
    "export": "model, path, *, batch_size='auto', inference_io=None, precision='float32', opset=18, sparse=False, "
    "overwrite=False, verify=True, input_shapes=None, input_dtypes=None, require_integer=False, stateful=None, "
    "random=None, external_data=None, weights='plain', names=False, prefer='speed', target=None, "
    "ram=None, flash=None",
    "explain": "model",
    "fold_batch_norms": "model, keep=()",
    "footprint": "path, *, ram=None, flash=None",
    "full_precision": "model",
    "keep_zeros": "model",
    "load": "path, unsafe=False, *, model=None",
    "mixed_precision": "model, policy='auto', *, keep_float32=None",
    "plan_export": "model, format='tflite'",
    "prune": "model, config, data=None, layers=None, *, loss=None, batch_size=32, input_shapes=None, input_dtypes=None",
    "prune_once": "model, sparsity, data=None, layers=None, *, loss=None, batch_size=32, input_shapes=None, "
    "input_dtypes=None, **config",
    "quantization_error": "x, bits=8, **how",
    "quantize": "model, config='int8', data=None, layers=None, *, equalize=False, correct_bias=False, "
    "reestimate_batch_norm=False, rounding='nearest', batch_size=32, size=None, formats=None, input_shapes=None, "
    "input_dtypes=None, arithmetic=None, target=None",
    "reestimate_batch_norm": "model, data, *, batch_size=32",
    "register_layer": "cls=None, *, like=None, traits=None",
    "save": "model, path, *, overwrite=False",
    "search": "model, space, *, data, validation=None, objectives=('drop', 'size'), trials=50, max_drop=None, "
    "file=None, output_dir, storage=None, name=None, sampler=None, metric=None, batch_size=32, seed=0, stage=None, "
    "about=None",
    "sensitivity": "model, data, layers=None, *, sparsities=None, bits=None, metric='accuracy', resume=None, "
    "progress=True, batch_size=32",
    "shrink": "model",
    "shrink_report": "model",
    "sparsity": "model",
    "stepwise": "model, frames=1",
    "strip": "model",
    "summary": "model, format=None",
    "sweep": "model, sparsities, data, layers=None, *, test_data=None, epochs=10, batch_size=32, learning_rate=0.002, "
    "scope='layer', seed=0, stage=None, resume=None",
    "uniform_quantize": "x, bits=8, *, symmetric=False, narrow=False, axis=None, group_size=None, minimum=None, "
    "maximum=None, mode='round'",
    "verify": "model, path, data, *, batch_size=32, threads=1, runtime=None, target=None",
    "xnnpack_prunable": "model",
}


def written(verb):
    """Return the arguments of a function as they are written, without types."""
    parameters = [
        part.replace(annotation=inspect.Parameter.empty) for part in inspect.signature(verb).parameters.values()
    ]
    return str(inspect.Signature(parameters))[1:-1]


def test_the_signatures_of_all_verbs():
    verbs = {name: getattr(tfc, name) for name in tfc.__all__ if inspect.isfunction(getattr(tfc, name))}
    assert {name: written(verb) for name, verb in verbs.items()} == SIGNATURES
    for name, verb in verbs.items():
        documented = verb.__doc__.partition("Args:")[2]
        for argument in inspect.signature(verb).parameters:
            assert f" {argument}: " in documented or f"**{argument}: " in documented, (name, argument)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(5, activation="relu", name="hidden")
    return keras.Sequential([keras.Input((4,), name="x"), hidden, keras.layers.Dense(3, name="y")])


OLD_CALLS = {
    "quantize, calibration_data": (
        lambda model: tfc.quantize(model, "int8", calibration_data=X),
        "argument data= of quantize. Received: calibration_data=",
    ),
    "prune, layers": (lambda model: tfc.prune(model, 0.5, "hidden"), "Write layers='hidden'"),
    "prune, several layers": (lambda model: tfc.prune(model, 0.5, ["hidden"]), r"Write layers=\['hidden'\]"),
    "prune, a function": (lambda model: tfc.prune(model, 0.5, lambda layer: layer.name == "y"), "Write layers=<func"),
    "calibrate, batch_size": (
        lambda model: tfc.calibrate(tfc.quantize(model, "int8"), X, 4),
        r"Expected batch_size=, by name, in the call of calibrate. Received: 4 as argument 3",
    ),
    "mixed_precision, keep_float32": (
        lambda model: tfc.mixed_precision(model, "mixed_bfloat16", "hidden"),
        "Write keep_float32='hidden'",
    ),
    "check_float16, keep_float32": (lambda model: tfc.check_float16(model, X, "hidden"), "Write keep_float32='hidden'"),
    "sensitivity, sparsities": (
        lambda model: tfc.sensitivity(model, (X, Y), (0.5,), progress=False),
        r"Write sparsities=\(0\.5,\)",
    ),
    "evaluate, x": (lambda model: tfc.evaluate(model, x=X, y=Y), "argument data= of evaluate. Received: x="),
    "evaluate, model_or_path": (
        lambda model: tfc.evaluate(model_or_path=model, data=X, y=Y),
        "argument model= of evaluate. Received: model_or_path=",
    ),
    "compare, x": (
        lambda model: tfc.compare({"a": model}, x=X, y=Y, latency=False),
        "argument data= of compare. Received: x=",
    ),
    "benchmark, threads": (lambda model: tfc.benchmark(model, 1, runs=1, warmup=1), "Write threads=1"),
    "benchmark, x": (lambda model: tfc.benchmark(model, x=X, runs=1, warmup=1), "argument data= of benchmark"),
    "benchmark, path_or_model": (
        lambda model: tfc.benchmark(path_or_model=model, runs=1, warmup=1),
        "argument model= of benchmark",
    ),
    "PruneConfig, targets": (
        lambda model: tfc.PruneConfig(0.5, targets={"y": 0.5}),
        "argument allocation= of PruneConfig. Received: targets=",
    ),
    "prune_once, targets": (
        lambda model: tfc.prune_once(model, 0.5, targets="erdos_renyi"),
        "argument allocation= of prune_once. Received: targets=",
    ),
    "sweep, data": (
        lambda model: tfc.sweep(model, Data("d", X, Y, X, Y), [0.5], epochs=2, batch_size=2),
        r"Expected data=, by name, in the call of sweep. Received: Data\(.* as argument 2",
    ),
    "summary, islands": (lambda model: tfc.summary(model).islands, r"Write \.fallbacks\."),
    "summary, island": (lambda model: tfc.summary(model).rows[0].island, r"Write \.fallback\."),
    "ActivationSpec, step": (lambda model: tfc.ActivationSpec().step(0.0, 255.0), r"Write \.scale\."),
    "sparsity, per_layer": (
        lambda model: tfc.sparsity(model, per_layer=True),
        r"Write tfcompress.summary\(model\)\.sparsities",
    ),
}


@pytest.mark.parametrize("name", OLD_CALLS)
def test_calls_in_their_old_form_work_and_warn(name, model):
    call, said = OLD_CALLS[name]
    with pytest.warns(DeprecationWarning, match=said) as caught:
        assert call(model) is not None or name.startswith(("calibrate", "reestimate"))
    ours = [warning for warning in caught if "Received: " in str(warning.message)]  # TensorFlow warns too
    assert [warning.filename for warning in ours] == [__file__]


def test_an_old_call_returns_what_the_new_one_does(model):
    with pytest.warns(DeprecationWarning):
        old = tfc.prune(model, 0.5, "hidden")
        figures = tfc.sparsity(tfc.prune_once(model, 0.5, layers="hidden"), per_layer=True)
    assert old.get_config() == tfc.prune(model, 0.5, layers="hidden").get_config()
    assert figures == {"hidden/kernel": 0.5, "y/kernel": 0.0}


def test_the_old_form_of_any_batch_size(model, tmp_path):
    with pytest.warns(DeprecationWarning, match="Expected batch_size='auto' in the call of export"):
        artifact = tfc.export(model, tmp_path / "model.tflite", batch_size=...)
    assert artifact.inputs["x"].shape == (1, 4)


def test_wrong_names_in_dicts_are_refused_by_every_verb_that_takes_data(model, tmp_path):
    """Before anything is written, by one mechanism; with the names that there are, and the nearest."""
    quantized = tfc.quantize(model, "int8", X)
    file = tfc.export(model, tmp_path / "file.onnx", verify=X).path
    compiled = keras.models.clone_model(model)
    compiled.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    by_firing = tfc.PruneConfig(0.5, "activation_frequency", "channel")
    calls = {
        "benchmark": [lambda x: tfc.benchmark(model, x), lambda x: tfc.benchmark(file, x)],
        "allocate": [lambda x: tfc.allocate(model, x, size="1MB"), lambda x: tfc.allocate(model, [(x, Y)], size="1MB")],
        "calibrate": [lambda x: tfc.calibrate(quantized, x), lambda x: tfc.calibrate(quantized, [x])],
        "check_float16": [lambda x: tfc.check_float16(model, x)],
        "compare": [lambda x: tfc.compare({"a": model, "b": file}, x, Y), lambda x: tfc.compare({"b": file}, [(x, Y)])],
        "compress": [lambda x: tfc.compress(model, data=(X + 1, Y), validation=(x, Y), max_drop=50)],
        "debug": [lambda x: tfc.debug(model, file, x)],
        "evaluate": [lambda x: tfc.evaluate(model, x, Y), lambda x: tfc.evaluate(file, lambda: iter([(x, Y)]))],
        "export": [
            lambda x: tfc.export(model, tmp_path / "m.onnx", verify=x),
            lambda x: tfc.export(model, tmp_path / "m.tflite", verify=[x]),
        ],
        "prune": [
            lambda x: tfc.prune(model, by_firing, x),
            lambda x: tfc.prune(compiled, tfc.PruneConfig(0.5, "gradient"), (x, Y)),
        ],
        "prune_once": [lambda x: tfc.prune_once(compiled, 0.5, (x, Y), criterion="gradient")],
        "quantize": [lambda x: tfc.quantize(model, "int8", x), lambda x: tfc.quantize(model, "int8", iter([(x, Y)]))],
        "reestimate_batch_norm": [lambda x: tfc.reestimate_batch_norm(quantized, x)],
        "search": [lambda x: tfc.search(model, SPACE, data=(X + 1, Y), validation=(x, Y), output_dir=tmp_path / "s")],
        "sensitivity": [lambda x: tfc.sensitivity(model, (x, Y), progress=False)],
        "sweep": [lambda x: tfc.sweep(model, [0.5], ({"x": X}, Y), test_data=(x, Y), epochs=1)],
        "verify": [lambda x: tfc.verify(model, file, x), lambda x: tfc.verify(model, file, [x])],
    }
    takes = {name for name in SIGNATURES if {"data", "verify"} & set(inspect.signature(getattr(tfc, name)).parameters)}
    assert set(calls) == takes
    calls["predict"] = [tfc.Artifact.open(file).predict]
    before = sorted(tmp_path.iterdir())
    for name, ways in calls.items():
        for call in ways:
            with pytest.raises(ValueError, match=r"the inputs \['x'\]. Received: \['xx'\]. Did you mean 'x'\?"):
                call({"xx": X})
                pytest.fail(name)
    for verb in (tfc.quantize, tfc.prune_once):
        with pytest.raises(ValueError, match=r"for the inputs \['x'\].*Did you mean 'x'\?"):
            verb(model, *([0.5] if verb is tfc.prune_once else []), input_shapes={"xx": (4,)})
    assert sorted(tmp_path.iterdir()) == before


def test_wrong_names_of_outputs_are_answered_with_the_nearest():
    inputs = keras.Input((4,), name="x")
    two = keras.Model(inputs, {name: keras.layers.Dense(3, name=name)(inputs) for name in ("kind", "place")})
    with pytest.raises(ValueError, match="Did you mean 'kind'?"):
        tfc.evaluate(two, X, {"knid": Y, "place": Y})
    with pytest.raises(ValueError, match="Did you mean 'place'?"):
        tfc.evaluate(two, X, {"kind": Y, "place": Y}, task={"plaec": "multiclass"})
