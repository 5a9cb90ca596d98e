"""Private names of other packages stand in the modules that are there for them, and nowhere else."""

from __future__ import annotations

import ast
import pathlib

import keras
import pytest

import tfcompress

ROOT = pathlib.Path(tfcompress.__file__).parent
ALLOWED = {
    "core/keras_private.py",
    "core/tensorflow_private.py",
    "export/onnx/tf2onnx_private.py",
    "loading/tfmot_private.py",
}
EXCEPTIONS = {
    ("cli/process.py", "_exit"),  # os._exit, which Python documents
    ("runtime/tflm_worker.py", "_exit"),
    ("core/arguments.py", "keras.src.engine."),  # where classes of tf_keras say that they are from
}


def names_of_keras():
    """Return the private names that objects of Keras have."""
    inputs = keras.Input((2,))
    layer = keras.layers.Dense(1)
    optimizer = keras.optimizers.SGD()
    model = keras.Model(inputs, layer(inputs))
    model.compile(optimizer, "mse")
    objects = (
        *(inputs, layer, layer.kernel, optimizer, model, model.operations[0], keras.Sequential(), keras.Model()),
        *(keras.layers.Wrapper(layer), keras.DTypePolicy("float32"), keras.losses.MeanSquaredError()),
        *(keras.metrics.Mean(), keras.random.SeedGenerator(0), keras.callbacks.Callback()),
    )
    return {name for x in objects for name in dir(x) if is_private(name)}


def is_private(name):
    return name.startswith("_") and not name.startswith("__") and name != "_"


def is_own(node):
    """Return whether an expression is an object of the class that the code is in."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "super"
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def is_of_keras(node):
    """Return whether a class is made of one of Keras', as far as its bases say."""
    names = {base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in node.bases}
    return any(hasattr(space, name) for name in names for space in (keras, keras.layers, keras.optimizers))


class Names(ast.NodeVisitor):
    """The private names in a module: those that its classes define, and those that it uses."""

    def __init__(self, tree, of_keras):
        self.of_keras = of_keras
        self.defined, self.used, self.wrong = set(), [], []
        self.foreign = False  # whether the code is in a class made of one of Keras'
        self.visit(tree)

    def visit_ClassDef(self, node):
        before, self.foreign = self.foreign, is_of_keras(node)
        for part in node.body:
            targets = part.targets if isinstance(part, ast.Assign) else [getattr(part, "target", part)]
            for name in (x.id if isinstance(x, ast.Name) else getattr(x, "name", "") for x in targets):
                self.define(part, name)
        self.generic_visit(node)
        self.foreign = before

    def define(self, node, name):
        if self.foreign and name in self.of_keras:
            self.wrong.append((node.lineno, name))
        else:
            self.defined.add(name)

    def visit_Attribute(self, node):
        if node.attr == "src" or (is_private(node.attr) and not is_own(node.value)):
            self.wrong.append((node.lineno, node.attr))
        elif is_private(node.attr):
            if isinstance(node.ctx, ast.Store):
                self.define(node, node.attr)
            self.used.append((node.lineno, node.attr))
        self.visit(node.value)

    def visit_Import(self, node):
        self.imports(node, [alias.name for alias in node.names], [])

    def visit_ImportFrom(self, node):
        self.imports(node, [node.module or ""], [alias.name for alias in node.names])

    def imports(self, node, modules, names):
        for module in modules:
            parts = module.split(".")
            private = any(map(is_private, parts if parts[0] == "tfcompress" else [*parts, *names]))
            if private or parts[:2] in (["keras", "src"], ["tensorflow", "python"]):
                self.wrong.append((node.lineno, module))

    def visit_Call(self, node):
        if getattr(node.func, "attr", "") in ("endswith", "removesuffix", "startswith", "removeprefix"):
            self.visit(node.func)  # a part of a name that is ours
            parts = [part for argument in node.args for part in ast.walk(argument) if isinstance(part, ast.Constant)]
            self.wrong += [(part.lineno, part.value) for part in parts if str(part.value).startswith("keras.src")]
        else:
            self.generic_visit(node)

    def visit_JoinedStr(self, node):
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                self.visit(part)

    def visit_Constant(self, node):
        if isinstance(node.value, str) and (node.value in self.of_keras or node.value.startswith("keras.src")):
            self.wrong.append((node.lineno, node.value))

    def found(self, inherited=frozenset()):
        """Return (line, name) of each that isn't ours; `inherited` are the names that other modules' classes define."""
        own = self.defined | (inherited - self.of_keras)
        return sorted([*self.wrong, *((line, name) for line, name in self.used if name not in own)])


def test_private_names_of_others_stand_in_modules_of_their_own():
    of_keras = names_of_keras()
    modules = {
        path.relative_to(ROOT).as_posix(): Names(ast.parse(path.read_bytes()), of_keras) for path in ROOT.rglob("*.py")
    }
    assert {*modules} >= ALLOWED
    own = {name for names in modules.values() for name in names.defined}
    wrong = [
        f"{path}:{line}: {what}"
        for path, names in modules.items()
        if path not in ALLOWED
        for line, what in names.found(own)
        if (path, what) not in EXCEPTIONS
    ]
    assert not wrong, (
        "Expected private names of other packages in "
        f"{', '.join(sorted(ALLOWED))} alone, each as a function with its reason. Received: {'; '.join(wrong)}. Call "
        "the function that is there, or add one with a test. What is meant to be read from outside of a class of "
        "ours has a public name."
    )


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("layer._losses", "_losses"),
        ("def f(self):\n    self._trainable_variables", "_trainable_variables"),
        ("getattr(layer, '_losses', None)", "_losses"),
        ("from keras.src.ops.node import Node", "keras.src.ops.node"),
        ("from tensorflow.python.ops import array_ops", "tensorflow.python.ops"),
        ("keras.src.ops", "src"),
        ("type(x).__module__.startswith('keras.src.layers'), 'a_losses'.endswith('_losses')", "keras.src.layers"),
        ("converter._anything", "_anything"),
        ("class A(Layer):\n    def _get_call_context(self): ...", "_get_call_context"),
        ("class A:\n    def __init__(self): self._mine = other._mine", "_mine"),
        ("class A:\n    def __init__(self): self._mine = self.__dict__, __name__, super()._mine", None),
    ],
)
def test_what_is_looked_for(code, what):
    found = {name for _, name in Names(ast.parse(code), names_of_keras()).found()}
    assert found == ({what} if what else set())
