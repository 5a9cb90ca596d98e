"""A config for each layer: which key counts, what is refused, JSON, and how pruning and mixed precision take it."""

import json
import re

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tfcompress.graph.config_map import LayerConfigs
from tfcompress.graph.selectors import LayerChoice


def _cnn():
    inputs = keras.Input((8, 8, 3), name="image")
    x = L.Conv2D(8, 3, activation="relu", name="conv_1")(inputs)
    x = L.Conv2D(8, 3, activation="relu", name="conv_2")(x)
    x = L.Flatten(name="flatten")(x)
    x = L.Dense(16, activation="relu", name="hidden")(x)
    return keras.Model(inputs, L.Dense(4, name="logits")(x), name="cnn")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return _cnn()


def _resolved(model, configs, choice=None):
    found = LayerConfigs(configs).resolve(model.layers, lambda value: value, choice)
    return {layer.name: found.of(layer.name) for layer in model.layers if layer.name in found.places}


@pytest.mark.parametrize(
    ("configs", "wanted"),
    [
        ({"conv_2": 1, "conv.*": 2}, {"conv_1": 2, "conv_2": 1}),
        ({"conv": 1, ".*": 2}, "conv"),  # the whole name, as in layers=
        ({re.compile("ONV", re.IGNORECASE): 1}, "ONV"),
        ({"logits": None, L.Dense: 1}, {"hidden": 1, "logits": None}),
        ({re.compile("CONV_1", re.IGNORECASE): 1}, {"conv_1": 1}),
        ({lambda layer: layer.name == "hidden": 1, L.Dense: 2}, {"hidden": 1, "logits": 2}),
    ],
)
def test_the_first_key_that_matches_counts(model, configs, wanted):
    if isinstance(wanted, str):
        with pytest.raises(ValueError, match=f"'{wanted}', which matches none. Did you mean 'conv_.*whole of a name"):
            _resolved(model, configs)
    else:
        assert _resolved(model, configs) == wanted


@pytest.mark.parametrize(
    ("configs", "error", "message"),
    [
        ({}, ValueError, "an empty one"),
        ([("conv_1", 1)], TypeError, "Expected a mapping from layers to configs"),
        ({3: 1}, TypeError, "Received: 3 as a key"),
        ({int: 1}, TypeError, "as a key"),
        ({"conv_(": 1}, ValueError, "regular expressions"),
        ({"hiden": 1}, ValueError, "Did you mean 'hidden'"),
        ({L.LSTM: 1}, ValueError, "LSTM, a class of none of them"),
        ({"conv.*": 1, "conv_2": 2}, ValueError, "'conv_2', all of whose layers match earlier keys"),
        ({lambda layer: False: 1}, ValueError, "which is false of all"),
        ({lambda layer: layer.name: 1}, ValueError, "which returns 'image' for layer 'image'"),
    ],
)
def test_refused(model, configs, error, message):
    with pytest.raises(error, match=re.escape(message)):
        _resolved(model, configs)


def test_layers_says_which_are_looked_at(model):
    assert _resolved(model, {".*": 1}, LayerChoice("conv.*")) == {"conv_1": 1, "conv_2": 1}
    with pytest.raises(ValueError, match="Only the layers that `layers` chooses are looked at"):
        _resolved(model, {"hidden": 1}, LayerChoice("conv.*"))
    with pytest.raises(ValueError, match="'cnov', which matches none"):
        _resolved(model, {".*": 1}, LayerChoice("cnov"))


def test_json(model):
    @keras.saving.register_keras_serializable("test_config_map")
    class Mine(L.Dense):
        pass

    configs = LayerConfigs(
        {
            "conv_1": tfc.PruneConfig(0.5, scope="global"),
            re.compile("conv_.", re.DOTALL): None,
            L.Dense: 0.25,
            Mine: 0.75,
        }
    )
    there = json.loads(json.dumps(configs.to_dict()))
    assert LayerConfigs.from_dict(there, tfc.PruneConfig) == configs
    by_function = LayerConfigs({lambda layer: "conv" in layer.name: "int8", "hidden": None})
    with pytest.raises(ValueError, match="which JSON can hold"):
        by_function.to_dict()
    stored = by_function.resolve(model.layers, str).by_name()
    assert stored.to_dict() == LayerConfigs({"conv_1": "int8", "conv_2": "int8", "hidden": None}).to_dict()
    with pytest.raises(ValueError, match="config_class"):
        LayerConfigs.from_dict(there)
    with pytest.raises(ValueError, match="Expected a key"):
        LayerConfigs.from_dict({"layers": [[{"class": "os.system"}, None]]})


def test_names_that_are_no_plain_text_are_found_again():
    layers = [keras.Input((4,)), L.Dense(4, name="block.1"), L.Dense(4, name="blockx1")]
    plain = keras.Sequential(layers)
    stored = LayerConfigs({"block[.]1": 1, ".*": 2}).resolve(plain.layers, int).by_name()
    assert _resolved(plain, stored.configs) == {"block.1": 1, "blockx1": 2}


def test_prune(model, tmp_path):
    configs = {
        "logits": None,
        "conv_1": tfc.PruneConfig(tfc.PolynomialSparsity(0.0, 0.75, 0, 2, frequency=1)),
        "conv_2": tfc.PruneConfig(0.5, granularity=tfc.Block(1, 4)),
        L.Dense: tfc.PruneConfig(tfc.ConstantSparsity(0.25, frequency=1), criterion="random"),
    }
    pruned = tfc.prune(model, configs)
    pruned.compile("sgd", "mse")
    x, y = np.ones((8, 8, 8, 3), "float32"), np.zeros((8, 4), "float32")
    pruned.fit(x, y, batch_size=2, verbose=0)
    wanted = {"conv_1/kernel": 0.75, "conv_2/kernel": 0.5, "hidden/kernel": 0.25, "logits/kernel": 0.0}
    found = tfc.summary(pruned).sparsities
    assert found == pytest.approx(wanted, abs=0.005)
    blocks = np.asarray(tfc.strip(pruned).get_layer("conv_2").kernel).reshape(-1, 2, 4) != 0
    assert (blocks.any(-1) == blocks.all(-1)).all()
    pruned.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert [t.config.to_dict() for w in _wrappers(again) for _, t in w.transforms] == [
        t.config.to_dict() for w in _wrappers(pruned) for _, t in w.transforms
    ]
    assert tfc.summary(again).sparsities == pytest.approx(wanted, abs=0.005)


def _wrappers(model):
    from tfcompress.core.wrapper import wrapped_layers

    return wrapped_layers(model)


def test_layers_of_one_key_share_a_global_budget(model):
    share = {"conv.*": tfc.PruneConfig(0.5, scope="global"), L.Dense: tfc.PruneConfig(0.75, scope="global")}
    pruned = tfc.strip(tfc.prune_once(model, {"conv.*": 0.5, L.Dense: 0.75}, scope="global"))
    zeros = {name: np.asarray(pruned.get_layer(name).kernel) == 0 for name in ("conv_1", "conv_2", "hidden", "logits")}
    for names, wanted in ((("conv_1", "conv_2"), 0.5), (("hidden", "logits"), 0.75)):
        assert np.mean(np.concatenate([zeros[name].ravel() for name in names])) == pytest.approx(wanted, abs=0.01)
    groups = {w.name: w.transforms[0][1].group for w in _wrappers(tfc.prune(model, share))}
    assert groups["conv_1"] == groups["conv_2"] != groups["hidden"] == groups["logits"]


def test_prune_with_channels_of_one_key_and_weights_of_another(model):
    configs = {"conv_1": tfc.PruneConfig(0.5, granularity="channel"), "logits": 0.5}
    pruned = tfc.prune_once(model, {"logits": 0.5})
    assert tfc.summary(pruned).sparsities["logits/kernel"] == 0.5
    trained = tfc.prune(model, configs)
    trained.compile("sgd", "mse")
    trained.fit(np.ones((2, 8, 8, 3), "float32"), np.zeros((2, 4), "float32"), verbose=0)
    assert tfc.summary(trained).sparsities == pytest.approx(
        {"conv_1/kernel": 0.5, "conv_2/kernel": 0.5, "hidden/kernel": 0.0, "logits/kernel": 0.5}, abs=0.01
    )


def _residual():
    inputs = keras.Input((4, 4, 3))
    x = L.Conv2D(4, 1, name="one")(inputs)
    x = L.Add()([x, L.Conv2D(4, 1, name="two")(x)])
    return keras.Model(inputs, L.Dense(2, name="logits")(L.Flatten()(x)))


@pytest.mark.parametrize(
    ("configs", "message"),
    [
        ({".*": None}, "None for all that `config` matches"),
        ({"conv_1": 2.0}, "For 'conv_1' in `config`: Expected"),
        ({"flatten": 0.5}, "which has nothing to prune. Leave it out of `config`"),
        ({"conv_1": tfc.PruneConfig(0.5, scope="flops"), "hidden": 0.5}, "budget, while that of 'flops' is of the"),
        ({"conv_1": tfc.PruneConfig(0.5, granularity="channel"), "conv_2": 0.5}, "'conv_2', which reads channels"),
    ],
)
def test_pruning_refuses(model, configs, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        tfc.prune(model, configs)


def test_layers_that_make_the_same_channels_have_one_config():
    channels = {share: tfc.PruneConfig(share, granularity="channel") for share in (0.25, 0.5)}
    with pytest.raises(ValueError, match="'one' and 'two' with one each. Let one key match them all"):
        tfc.prune(_residual(), {"one": channels[0.5], "two": channels[0.25]})
    pruned = tfc.prune(_residual(), {"one|two": channels[0.5]})
    assert {w.name for w in _wrappers(pruned)} >= {"one", "two"}


def test_data_goes_to_the_criteria_that_look_at_it(model):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 8, 8, 3)).astype("float32"), rng.normal(size=(8, 4)).astype("float32")
    configs = {"conv.*": tfc.PruneConfig(0.5, criterion="gradient"), "hidden": 0.5}
    pruned = tfc.prune(model, configs, data=iter([(x, y)]), loss="mse")
    assert {w.name: bool(w.transforms[0][1].given) for w in _wrappers(pruned)} == {
        "conv_1": True,
        "conv_2": True,
        "hidden": False,
    }
    with pytest.raises(ValueError, match="looks at weights alone"):
        tfc.prune(model, {"hidden": 0.5}, data=(x, y), loss="mse")


def test_mixed_precision(model, tmp_path):
    configs = {"hidden": "float32", "conv_1": None, ".*": "mixed_bfloat16"}
    mixed = tfc.mixed_precision(model, configs)
    wanted = {"conv_1": "float32", "conv_2": "bfloat16", "hidden": "float32", "logits": "float32"}
    assert {name: mixed.get_layer(name).compute_dtype for name in wanted} == wanted
    mixed.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert {name: loaded.get_layer(name).compute_dtype for name in wanted} == wanted
    more = tfc.mixed_precision(mixed, {"hidden": "mixed_bfloat16"})  # what has no policy computes in what it did
    assert more.get_layer("conv_2").compute_dtype == more.get_layer("hidden").compute_dtype == "bfloat16"
    kept = tfc.mixed_precision(model, {".*": "mixed_bfloat16"}, keep_float32="conv_2")
    assert kept.get_layer("conv_2").compute_dtype == "float32"
    with pytest.raises(ValueError, match="Expected one policy of 16 bits"):
        tfc.mixed_precision(model, {"conv_1": "mixed_bfloat16", "conv_2": "mixed_float16"})
    with pytest.raises(ValueError, match="For 'conv_1' in `config`: Expected `policy`"):
        tfc.mixed_precision(model, {"conv_1": "half"})
