"""Knowledge distillation: a compressed model learns from the one it was made of."""

from __future__ import annotations

import dataclasses
import numbers
import pathlib
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops, tree

from tfcompress.core.arguments import check_flag, check_model, short
from tfcompress.core.atomic_files import draft
from tfcompress.core.keras_private import own_policy
from tfcompress.core.replicas import place_of, replicas
from tfcompress.core.sharding import same_place
from tfcompress.core.transform import carry
from tfcompress.graph.keras_quantized import check_trains
from tfcompress.graph.loss_scaling import policy_of_layers
from tfcompress.graph.output_activation import last_activation

Tensor = Any

MOST_TEMPERATURE = 1e6
"""Its square, and logits divided by it or its inverse, are far inside of what float32 holds."""

PROBABILITIES = ("softmax", "sigmoid")


@dataclasses.dataclass(frozen=True)
class Form:
    """What an output is.

    Attributes:
        sigmoid: Whether each unit decides between two classes; so does a single unit.
        student: Whether the student's output holds probabilities; else logits.
        teacher: Whether the teacher's does.
    """

    sigmoid: bool
    student: bool
    teacher: bool

    def logits(self, output: Tensor, probabilities: bool) -> Tensor:
        """Return logits, float32, the classes last, of an output (..., units).

        >>> form = Form(sigmoid=True, student=True, teacher=False)
        >>> [[round(float(z), 3) for z in row] for row in form.logits(ops.array([0.5, 0.8]), True)]
        [[0.0, 0.0], [0.0, 1.386]]
        """
        z = ops.cast(output, "float32")
        binary = self.sigmoid or z.shape[-1] == 1
        if probabilities:
            z = ops.clip(z, keras.config.epsilon(), 1.0 - keras.config.epsilon())
            z = ops.log(z) - ops.log1p(-z) if binary else ops.log(z)
        return ops.stack([ops.zeros_like(z), z], axis=-1) if binary else z


class SoftTargets(keras.losses.Loss):
    """T^2 times the Kullback-Leibler divergence of the student's softened classes from the teacher's.

    Args:
        temperature: T: logits are divided by it before softmax.

    Example:

    >>> import numpy as np
    >>> loss = SoftTargets(temperature=2.0)
    >>> teacher, student = np.log([[0.64, 0.36]]), np.log([[0.5, 0.5]])
    >>> p = np.array([0.8, 0.6]) / 1.4
    >>> bool(np.isclose(float(loss(teacher, student)), 4 * np.sum(p * np.log(2 * p))))
    True
    """

    def __init__(self, temperature: float):
        super().__init__(name="soft_targets", dtype="float32")
        self.temperature = temperature

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return the divergence of each sample from the logits of teacher and student, float32 (..., classes)."""
        wanted = ops.log_softmax(y_true / self.temperature, axis=-1)
        given = ops.log_softmax(y_pred / self.temperature, axis=-1)
        return self.temperature**2 * ops.sum(ops.exp(wanted) * (wanted - given), axis=-1)


class Distiller(keras.Model):
    """Trains `student` on labels and on what `teacher` says; made by `tfc.distill`.

    It compiles, fits and evaluates like any Keras model, and predicts what the student predicts. `save` saves the
    student, so that `keras.callbacks.ModelCheckpoint` does; `distilled.student` is the trained model.
    """

    def __init__(
        self,
        student: keras.Model,
        teacher: keras.Model,
        temperature: float,
        alpha: float,
        forms: list[Form] | Form,
        *,
        copies: Sequence[keras.Variable] = (),
    ):
        super().__init__(name=f"{student.name}_distilled")
        self.student = student
        self.temperature = temperature
        self.alpha = alpha
        self.soft_targets = SoftTargets(temperature)
        self.distillation_loss = keras.metrics.Mean(name="distillation_loss")
        self.forms = forms
        # In closures Keras doesn't track them: they aren't trained or saved, and keep their own `trainable`.
        self._get_teacher = lambda: teacher
        self._get_copies = lambda: copies
        self.built = True

    @property
    def dtype_policy(self) -> keras.DTypePolicy:
        """By which Keras scales the loss: that of the student's layers in float16, if there are any."""
        return (policy_of_layers(self.student) if hasattr(self, "student") else None) or own_policy(self)

    @property
    def teacher(self) -> keras.Model:
        """The model that is learnt from."""
        return self._get_teacher()

    @property
    def non_trainable_variables(self) -> list[keras.Variable]:
        """Those of the student, and all of the teacher's: on JAX `fit` passes them along instead of copying them."""
        own = super().non_trainable_variables
        known = {id(variable) for variable in own}
        theirs = self._get_copies() or self.teacher.variables
        return [*own, *(variable for variable in theirs if id(variable) not in known)]

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return what the student says."""
        return self.student(inputs, training=training)

    def compile(self, optimizer: Any = "rmsprop", loss: Any = None, **kwargs: Any) -> None:
        """Compile; `loss` is that on the labels, and may be missing with `alpha=1`."""
        if loss is None and self.alpha < 1:
            raise ValueError(
                f"Expected a loss on the labels, since alpha={self.alpha} takes {1 - self.alpha:.4g} of it. Received: "
                "loss=None. Give one, or alpha=1."
            )
        super().compile(optimizer=optimizer, loss=loss, **kwargs)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """Return `(1 - alpha) * loss on the labels + alpha * soft targets + the student's regularization`."""
        wanted, given = tree.flatten(self._taught(x)), tree.flatten(y_pred)
        forms = [self.forms] * len(given) if isinstance(self.forms, Form) else self.forms
        weights = tree.flatten(sample_weight) if tree.is_nested(sample_weight) else [sample_weight] * len(given)
        soft = sum(
            self.soft_targets(
                ops.stop_gradient(form.logits(theirs, form.teacher)), form.logits(ours, form.student), weight
            )
            for form, theirs, ours, weight in zip(forms, wanted, given, weights, strict=True)
        )
        self.distillation_loss.update_state(soft * replicas())  # Keras divides losses by their number
        extra = sum(ops.sum(ops.cast(loss, "float32")) for loss in self.losses)
        if self.loss is None:
            return self.alpha * soft + extra
        hard = super().compute_loss(x, y, y_pred, sample_weight, training)
        return self.alpha * soft + (1.0 - self.alpha) * hard + self.alpha * extra

    def _taught(self, x: Any) -> Any:
        copies = self._get_copies()
        if not copies:
            return self.teacher(x, training=False)
        values = [(variable, copy.value) for variable, copy in zip(self.teacher.variables, copies, strict=True)]
        with keras.StatelessScope(state_mapping=values):
            return self.teacher(x, training=False)

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Save the student: into a file as a whole or not at all."""
        if kwargs.get("zipped") is False or len(args) > 1 or (args or (kwargs.get("overwrite", True),))[0] is not True:
            self.student.save(filepath, *args, **kwargs)
            return
        with draft(pathlib.Path(filepath)) as beside:
            self.student.save(beside, *args, **kwargs)


def distill(
    student: keras.Model,
    teacher: keras.Model,
    temperature: float = 3.0,
    alpha: float = 0.5,
    *,
    from_logits: bool | None = None,
) -> Distiller:
    """Return a model that trains `student` on labels and on what `teacher` says (Hinton et al., 2015).

    The loss is `(1 - alpha) * loss on the labels + alpha * T^2 * KL(teacher || student)`, where both are softened:
    their logits are divided by the temperature T before softmax; T^2 keeps the gradient's size whatever T is. The
    teacher runs in inference, and nothing of it changes. Losses that layers of the student add stay in full. On JAX the
    weights of a teacher that was made on other devices than the student are copied to the student's, as they are now.

    Keras' own `keras.distillation.Distiller` isn't used: it sets `teacher.trainable` to False for good, leaves out
    `sample_weight` and the student's regularizers, takes probabilities for logits, and refuses another float type.

    Args:
        student: A built model, as `tfc.prune`, `tfc.quantize` or plain Keras make it. It is trained in place:
            afterwards strip, save or export `distilled.student`.
        teacher: A trained model with the same inputs, whose outputs have the same shapes: class scores, the classes
            last; with one unit, the scores of two classes.
        temperature: T, above 0; 1 leaves the teacher's probabilities as they are, more softens them.
        alpha: The teacher's share of the loss, in [0, 1]; 0: labels alone; 1: the teacher alone, without labels.
        from_logits: Whether outputs are logits; else they are probabilities, and their logarithm is taken. `None`: as
            each model's last layer says: softmax and sigmoid make probabilities, all others logits.

    Returns:
        A `Distiller`: `compile` it with the loss on the labels, and `fit` it.

    Raises:
        TypeError: If a model is no Keras model.
        ValueError: If a model isn't built, shapes disagree, both share weights, a number is out of its range, or a
            subclassed model doesn't tell its last layer and `from_logits` is `None`.

    Example:

    >>> import keras, tfcompress as tfc
    >>> teacher = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> distilled = tfc.distill(tfc.prune(teacher, 0.5), teacher)
    >>> distilled.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> history = distilled.fit(keras.ops.ones((4, 8)), keras.ops.ones((4,)), verbose=0)
    >>> tfc.sparsity(tfc.strip(distilled.student))
    0.5
    """
    if from_logits is not None:
        check_flag("from_logits", from_logits)
    if not _is_real(temperature) or not 0 < temperature <= MOST_TEMPERATURE or temperature < 1 / MOST_TEMPERATURE:
        raise ValueError(
            f"Expected `temperature` to be a number above 0, up to {MOST_TEMPERATURE:g}. "
            f"Received: temperature={short(temperature)}."
        )
    if not _is_real(alpha) or not 0 <= alpha <= 1:
        raise ValueError(f"Expected `alpha` to be a number in [0, 1], the teacher's share. Received: alpha={alpha!r}.")
    for what, model in (("student", student), ("teacher", teacher)):
        check_model(model, what)
        if not model.built:
            raise ValueError(
                f"Expected a built {what}. Received: {model.name!r}, which has no weights yet. Begin it with a "
                "keras.Input, or call it once on a batch of data."
            )
    check_trains(student)
    shared = {id(variable) for variable in student.variables} & {id(variable) for variable in teacher.variables}
    if shared or student is teacher:
        raise ValueError(
            f"Expected a student with weights of its own. Received: {student.name!r}, which shares "
            f"{len(shared)} of them with the teacher. Take tfcompress.prune(teacher, ...), or a copy by "
            "keras.models.clone_model and set_weights."
        )
    for what in ("inputs", "outputs"):
        _check_shapes(what, student, teacher)
    forms = _forms(student, teacher, from_logits)
    with place_of(student):
        copies = [] if same_place(student, teacher) else [_copy(variable) for variable in teacher.variables]
        return Distiller(student, teacher, float(temperature), float(alpha), forms, copies=copies)


def _copy(variable: keras.Variable) -> keras.Variable:
    """Return a variable that isn't trained, with the same value, where `keras.distribution` says."""
    zeros = keras.initializers.Zeros()
    made = keras.Variable(zeros, tuple(variable.shape), variable.dtype, trainable=False, name=variable.name)
    carry(variable, made)
    return made


def _is_real(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _check_shapes(what: str, student: keras.Model, teacher: keras.Model) -> None:
    """Raise ValueError if both models tell their inputs or outputs, and these differ in number or shape."""
    ours, theirs = (getattr(model, what, None) for model in (student, teacher))
    if not ours or not theirs:
        return
    shapes = [[tuple(x.shape) for x in tensors] for tensors in (ours, theirs)]
    fit = len(ours) == len(theirs) and all(
        len(a) == len(b) and all(None in (m, n) or m == n for m, n in zip(a, b, strict=True))
        for a, b in zip(*shapes, strict=True)
    )
    if not fit:
        raise ValueError(
            f"Expected a student with {what} of the teacher's shapes, {shapes[1]}. Received: {shapes[0]}. "
            "For features of another shape write a loss of your own."
        )


def _forms(student: keras.Model, teacher: keras.Model, from_logits: bool | None) -> list[Form] | Form:
    """Return what each output is; one for all where a subclassed model doesn't tell its outputs."""
    outputs = [getattr(model, "outputs", None) for model in (student, teacher)]
    if not all(outputs):
        if from_logits is None:
            raise ValueError(
                "Expected from_logits=True or False with a subclassed model, which doesn't tell its last layer. "
                "Received: from_logits=None."
            )
        return Form(False, not from_logits, not from_logits)
    forms = []
    for pair in zip(*outputs, strict=True):
        last = [last_activation(output) for output in pair]
        probabilities = [name in PROBABILITIES if from_logits is None else not from_logits for name in last]
        forms.append(Form("sigmoid" in last, *probabilities))
    return forms
