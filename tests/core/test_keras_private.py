"""Keras' private names, one test each: they still are what `keras_private` takes them for."""

from __future__ import annotations

import inspect
import weakref

import keras
import numpy as np
import pytest
from keras import layers as L

from tests.check import ON_TENSORFLOW
from tests.private_names import Cases
from tfcompress.core import keras_private as private

pytestmark = pytest.mark.on_jax
KERAS = Cases(private, "Keras", keras.__version__, seen="3.12.4, 3.15.1 and 3.16.0.dev2026102704")
case = KERAS.case


def test_every_function_has_a_test():
    KERAS.check_complete()


class Outer(L.Layer):
    """A layer with another layer, a weight of each kind, and random numbers."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = [L.Dense(2, name="inner")]
        self.seed = keras.random.SeedGenerator(1)
        self.learned = self.add_weight(shape=(2,), name="learned")
        self.counted = self.add_weight(shape=(), name="counted", trainable=False)

    def call(self, x, training=False, mask=None):
        return self.inner[0](x) * self.learned


def graph():
    """Return a graph with a layer that is called twice: a -> shared -> shared -> split -> [c, d]."""
    inputs = keras.Input((4, 2), name="a")
    shared = L.Dense(2, name="shared")
    parts = keras.ops.split(shared(shared(inputs)), 2, axis=1)
    return keras.Model(inputs, [L.ReLU(name="c")(parts[1]), L.ReLU(name="d")(parts[0])])


@case("flatten_layers", "sublayers", "own_trainable", "own_state", "own_variables", "seed_generators")
def layers_and_variables():
    layer = Outer()
    layer(np.ones((1, 2), "float32"))
    model = keras.Sequential([keras.Input((2,)), layer])
    inner = layer.inner[0]
    assert {id(layer), id(inner)} <= {id(x) for x in private.flatten_layers(model, include_self=False)}
    assert private.flatten_layers(layer) == [layer, inner]
    assert inner not in private.flatten_layers(model, recursive=False)
    assert private.sublayers(layer) == [inner]
    assert [v.name for v in private.own_trainable(layer)] == ["learned"]
    assert [v.name for v in private.own_state(layer)] == ["counted"]
    layer.trainable = False
    assert [v.name for v in private.own_variables(layer)] == ["learned", "counted"]
    assert private.seed_generators(layer) == [layer.seed]
    assert {"_layers", "_trainable_variables", "_non_trainable_variables"} == {*private.STORES} <= {*vars(layer)}


@case()
def attention_dropout():
    assert private.attention_dropout(L.MultiHeadAttention(1, 2, dropout=0.25)) == 0.25
    assert private.attention_dropout(L.Attention(dropout=0.25)) == 0.25


@case()
def weight_under_lora():
    layer = L.Dense(3)
    layer.build((None, 2))
    kernel = layer.kernel
    layer.enable_lora(1)
    assert private.weight_under_lora(layer, "kernel") is kernel
    assert layer.kernel is not kernel
    table = L.Embedding(4, 2)
    table.build()
    assert private.weight_under_lora(table, "embeddings") is table.embeddings


@case()
def build_shapes():
    layer = L.Dense(3)
    assert private.build_shapes(layer) == {}
    layer.build((None, 2))
    assert private.build_shapes(layer) == {"input_shape": (None, 2)}
    model = OldLoss()
    model(np.ones((3, 2), "float32"))
    assert [tuple(shape)[1:] for shape in private.build_shapes(model).values()] == [(2,)]


@case()
def kept_axes():
    layer = L.Normalization(axis=-1)
    assert private.kept_axes(layer) == (-1,)
    layer.build((None, 3, 2))
    assert private.kept_axes(layer) == (2,)


@case()
def has_default_build():
    assert private.has_default_build(Outer())
    assert not private.has_default_build(L.Dense(1))


@case("takes_training", "takes_mask", "call_signature", "set_call_signature")
def calls():
    layer, plain = Outer(), L.Flatten()
    assert (private.takes_training(layer), private.takes_training(plain)) == (True, False)
    assert (private.takes_mask(layer), private.takes_mask(plain)) == (True, False)
    assert [*private.call_signature(layer).parameters] == ["x", "training", "mask"]

    class Any(L.Layer):
        def call(self, x, **kwargs):
            return x + kwargs["more"] * kwargs["times"]

    wide = Any()
    x = keras.ops.ones((1, 2))
    with pytest.raises(ValueError, match="kwargs"):
        wide(x, more=x, times=3)
    known = inspect.signature(wide.call).parameters
    named = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in ("more", "times")]
    private.set_call_signature(wide, inspect.Signature([known["x"], *named, known["kwargs"]]))
    assert wide(x, more=x, times=3).shape == (1, 2)


@case("call_context", "context_of_its_own")
def contexts():
    seen = []

    class Asks(L.Layer):
        def call(self, x, training=None):
            seen.append((private.call_context(self).entry_layer, training))
            return x

    class Asked(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.second = Asks(), Asks()

        def call(self, x, training=None):
            with private.context_of_its_own():
                x = self.first(x, training=True)
            return self.second(x)

    model = Asked()
    model(np.ones((1, 2), "float32"))
    assert [(entry is model, bool(training)) for entry, training in seen[-2:]] == [(True, True), (True, False)]


@case()
def layer_calls():
    dense = L.Dense(2)
    dense.build((None, 2))
    with private.layer_calls(lambda layer, call, args, kwargs: (layer, call(*args, **kwargs))):
        layer, made = dense(np.ones((1, 2), "float32"))
    assert layer is dense and made.shape == (1, 2)
    assert dense(np.ones((1, 2), "float32")).shape == (1, 2)


@case()
def values_read():
    variable, seen = keras.Variable(np.ones(2)), []
    with private.values_read(seen.append):
        assert keras.ops.convert_to_numpy(variable.value).tolist() == [1, 1]
        assert keras.ops.convert_to_numpy(variable + 1).tolist() == [2, 2]
    assert len(seen) >= 2 and all(one is variable for one in seen)
    assert keras.ops.convert_to_numpy(variable.value).tolist() == [1, 1]


@case("own_policy", "set_policy", "policy_with_variables")
def policies():
    layer = L.Dense(2, dtype="mixed_bfloat16")
    before = private.own_policy(layer)
    assert before is layer.dtype_policy
    private.set_policy(layer, private.policy_with_variables("float32", "bfloat16"))
    assert (layer.compute_dtype, layer.variable_dtype) == ("float32", "bfloat16")
    private.set_policy(layer, before)
    assert layer.compute_dtype == "bfloat16"


@case()
def set_tensor_dtype():
    x = keras.Input((2,), dtype="float16")
    private.set_tensor_dtype(x, "float32")
    assert x.dtype == "float32"
    private.set_tensor_dtype(private.producer(x), "float32")
    assert private.producer(x).get_config()["dtype"] == "float32"


@case("stored_dtype", "is_cast", "computing_in")
def casts():
    one = np.ones(2, "float32")
    cast, kept = keras.Variable(one), keras.Variable(one, autocast=False)
    assert private.is_cast(cast) and not private.is_cast(kept)
    with private.computing_in("float16"):
        assert (cast.dtype, kept.dtype) == ("float16", "float32")
        assert private.stored_dtype(cast) == "float32"
        assert keras.backend.standardize_dtype(keras.ops.convert_to_tensor(cast).dtype) == "float16"


@case()
def set_path():
    variable = keras.Variable(np.ones(2), name="kernel")
    private.set_path(variable, "there/kernel")
    assert variable.path == "there/kernel"


@case("layout_of", "set_layout")
def layouts():
    variable = keras.Variable(np.ones(2))
    assert private.layout_of(variable) is None
    private.set_layout(variable, "somewhere")
    assert private.layout_of(variable) == "somewhere"
    if not ON_TENSORFLOW:  # where Keras keeps it
        mesh = keras.distribution.DeviceMesh((1,), ["batch"], keras.distribution.list_devices()[:1])
        with keras.distribution.DataParallel(mesh, auto_shard_dataset=False).scope():
            assert isinstance(private.layout_of(keras.Variable(np.ones(2))), keras.distribution.TensorLayout)


@case()
def copy_trainable():
    old, new = L.Dense(2), L.Dense(2)
    for layer in (old, new):
        layer.build((None, 2))
    old.trainable = False
    private.copy_trainable(old, new)
    assert (new.trainable, new.kernel.trainable, new.trainable_variables) == (False, True, [])


@case()
def input_shape_given():
    with pytest.warns(UserWarning, match="Do not pass"):
        layer = L.Dense(2, input_shape=(3,))
    assert (private.input_shape_given(layer), private.input_shape_given(L.Dense(2))) == ((3,), None)


@case()
def unlocked():
    layer = L.Dense(2)
    layer.build((None, 2))
    with private.unlocked(layer):
        del layer.bias
    assert len(layer.weights) == 1
    with pytest.raises(ValueError, match="locked|cannot add"):
        layer.more = keras.Variable(np.ones(2))


@case()
def forget_variables():
    layer = L.Dense(2)
    layer.build((None, 2))
    private.forget_variables(layer)
    del vars(layer)["_kernel"], vars(layer)["bias"]
    assert (layer.built, layer.weights) == (False, [])
    layer.units = 3
    layer.build((None, 2))
    assert [tuple(weight.shape) for weight in layer.weights] == [(2, 3), (3,)]


@case()
def graph_of_sequential():
    assert private.graph_of_sequential(keras.Sequential([L.Dense(2)])) is None
    model = keras.Sequential([keras.Input((2,)), L.Dense(2)])
    assert private.graph_of_sequential(model).outputs[0] is model.outputs[0]


@case("producer", "producing_node", "place_in_output", "inbound_nodes", "outbound_nodes")
def calls_of_a_graph():
    model = graph()
    split = private.producing_node(private.producing_node(model.outputs[0]).input_tensors[0])
    first, second = private.inbound_nodes(model.get_layer("shared"))
    assert private.producer(model.outputs[0]).name == "c"
    assert private.producing_node(split.input_tensors[0]) is second
    assert private.producing_node(second.input_tensors[0]) is first
    assert private.place_in_output(private.producing_node(model.outputs[0]).input_tensors[0]) == 1
    assert private.outbound_nodes(model.get_layer("shared")) == [second, split]
    private.outbound_nodes(model.get_layer("shared")).pop()
    assert private.outbound_nodes(model.get_layer("shared")) == [second]


@case("nodes_by_depth", "nodes_in_order", "graph_map")
def order_of_a_graph():
    model = graph()
    names = [[node.operation.name for node in nodes] for nodes in private.nodes_by_depth(model)]
    assert [names[0], names[1], names[2], sorted(names[4])] == [["a"], ["shared"], ["shared"], ["c", "d"]]
    known = set()
    for node in private.nodes_in_order(model):
        assert {id(x) for x in node.input_tensors} <= known
        known |= {id(x) for x in node.outputs}
    assert {id(x) for x in model.outputs} <= known
    assert private.graph_map(model.inputs, model.outputs) == (private.nodes_in_order(model), model.operations)


@case()
def run_through_graph():
    model, called = graph(), []

    def operation_fn(operation):
        called.append(operation.name)
        return operation

    x = np.random.default_rng(0).normal(size=(3, 4, 2)).astype("float32")
    outputs = private.run_through_graph(model, [keras.ops.convert_to_tensor(x)], operation_fn)
    for one, other in zip(outputs, model(x), strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other))
    assert called.count("shared") == 2


@case()
def activations_freed():
    x = keras.Input((2,))
    early = L.ReLU(name="early")(x)
    inner_input = keras.Input((2,))
    inner = keras.Model(inner_input, L.ReLU()(L.ReLU(name="within")(inner_input)))
    late = inner(L.ReLU(name="between")(early))
    model = keras.Model(x, [L.Add()([late, early]), early])
    made, alive = {}, {}

    def around(layer, call, args, kwargs):
        outputs = call(*args, **kwargs)
        if not isinstance(outputs, list):
            made[layer.name] = weakref.ref(outputs)
        alive[layer.name] = {name for name, tensor in made.items() if tensor() is not None}
        return outputs

    data = keras.ops.convert_to_tensor([[-1.0, 2.0]])
    with private.layer_calls(around), private.activations_freed():
        outputs = model(data)
    assert "early" in alive["add"] and not {"within", "between"} & alive["add"]
    assert [keras.ops.convert_to_numpy(y).tolist() for y in outputs] == [[[0, 4]], [[0, 2]]]
    parts = keras.Model(model.inputs, [early, late])  # has calls of the other model
    with private.activations_freed():
        assert [keras.ops.convert_to_numpy(y).tolist() for y in parts(data)] == [[[0, 2]], [[0, 2]]]


@case()
def keras_mask():
    tokens = np.array([[1, 2, 0]])
    made = L.Embedding(3, 2, mask_zero=True)(tokens)
    assert keras.ops.convert_to_numpy(private.keras_mask(made)).tolist() == [[True, True, False]]
    assert private.keras_mask(keras.ops.ones(2)) is None
    symbolic = L.Embedding(3, 2, mask_zero=True)(keras.Input((3,), dtype="int32"))
    assert private.keras_mask(symbolic) is not None


@case("record_call", "begin_copy", "reset_training", "copy_graph", "copy_tracker")
def copies():
    # They are parts of `Copies`, whose own tests are of layers and models of every kind.
    from tfcompress.graph.copy_objects import Copies

    model = graph()
    model.compile("sgd", "mse")
    new = Copies(model).of(model)
    assert type(new) is type(model) and not new.compiled and model.compiled
    assert [vars(new).get(name) for name in ("optimizer", "loss")] == [None, None]
    assert [node.operation.name for node in private.nodes_in_order(new)] == [
        node.operation.name for node in private.nodes_in_order(model)
    ]
    assert new.get_layer("shared") is not model.get_layer("shared")
    assert len(private.inbound_nodes(new.get_layer("shared"))) == 2
    assert private.producer(new.outputs[0]) is new.get_layer("c")
    layer = new.get_layer("shared")
    assert [id(v) for v in layer.trainable_variables] == [id(layer.kernel), id(layer.bias)]
    with private.unlocked(layer):  # the tracker knows the copies
        del layer.bias
    assert len(layer.weights) == 1
    new.compile("sgd", "mse")
    assert new.compiled


@case()
def losses_set_aside():
    layer = L.Dense(2, kernel_regularizer="l2", activity_regularizer="l2")
    layer(np.ones((1, 2), "float32"))
    before = len(layer.losses)
    assert before == 2
    with private.losses_set_aside(layer):
        assert len(layer.losses) == 1  # that of the weight, which is no loss of a call
        layer(np.ones((1, 2), "float32"))
    assert len(layer.losses) == before


class OldLoss(keras.Model):
    """A model whose `compute_loss` has no `training`, as before Keras 3.3."""

    def __init__(self):
        super().__init__()
        self.dense = L.Dense(1)

    def call(self, x):
        return self.dense(x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        return keras.ops.sum(y_pred)


@case("compute_loss", "loss_weights")
def losses():
    model = OldLoss()
    assert private.loss_weights(model) is None
    model.compile("sgd", "mse", loss_weights=[2.0])
    x = np.ones((2, 2), "float32")
    assert float(private.compute_loss(model, x, x, keras.ops.ones((2, 1)), None)) == 2
    assert private.loss_weights(model) == [2.0]


@case("steps_applied", "variable_index")
def optimizers():
    optimizer = keras.optimizers.SGD(gradient_accumulation_steps=2)
    variables = [keras.Variable(np.ones(size, "float32")) for size in (1, 2)]
    optimizer.build(variables)
    assert private.variable_index(optimizer, variables[1]) == 1
    for _ in range(3):
        optimizer.apply([keras.ops.ones(1), keras.ops.ones(2)], variables)
    assert int(private.steps_applied(optimizer)) == 3
    assert int(optimizer.iterations) == 1


@case()
def jax_state():
    model, seen = keras.Sequential([keras.Input((2,)), L.Dense(1)]), []
    assert private.jax_state(model) is None
    model.compile("sgd", "mse")
    look = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(private.jax_state(model)))
    model.fit(np.ones((4, 2)), np.ones((4, 1)), batch_size=2, verbose=0, callbacks=[look])
    if ON_TENSORFLOW:
        assert seen == [None, None]
    else:
        assert len(seen[0]["optimizer_variables"]) == len(model.optimizer.variables)
    assert private.jax_state(model) is None


@case()
def any_code():
    layer = L.Lambda(lambda x: x + 1)
    with pytest.raises(ValueError, match="unsafe"):
        keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    with private.any_code():
        made = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert made.name == layer.name
    with pytest.raises(ValueError, match="unsafe"):
        keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))


def test_copies_know_their_classes():
    assert isinstance(L.Dense(1), private.KerasSaveable)
    assert isinstance(L.Dense(1)._tracker, private.Tracker)
    assert all(isinstance(node, private.Node) for node in private.nodes_in_order(graph()))


@pytest.mark.parametrize("names", KERAS.tests)
def test_keras_has_what_is_relied_on(names):
    KERAS.check(names)
