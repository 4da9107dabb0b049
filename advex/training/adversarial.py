"""``Adversarial``: a Keras model whose ``fit`` trains another one on what an attack finds."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import ops

from advex import _backend
from advex._arrays import Array, Tensor
from advex._settings import helpful, shown, whole_number
from advex.attacks import PGD
from advex.budgets import Budget, Linf
from advex.driver import draws
from advex.driver.inline import Inline
from advex.driver.plan import Leaf
from advex.errors import InvalidInput, InvalidType
from advex.goals import Untargeted
from advex.model.classifier import Classifier
from advex.model.domain import checked_box
from advex.training.awp import AWP
from advex.training.checks import checked_budget, checked_leaf, demand_model
from advex.training.free import Free
from advex.training.given import demand_batch_axis, demand_inside, first_batch, warn_of_layer
from advex.training.methods import Batch, Method, Plain
from advex.training.noise import Noise
from advex.training.steps import HandedOn, InPlace

ATTACK, BUDGET, VALIDATION = PGD(steps=7), Linf(8 / 255), PGD(steps=10)
"""What is taken where nothing is given."""
REPLAYED = PGD(steps=1)
"""What ``Free`` begins with."""
SHARE = 8
"""One of so many rows of a batch of training is looked at once more: a clean accuracy, or a robust
one, that the step itself does not tell."""
LOOKED_AT = 16
"""Rows by which the head of the model is found out."""

Steps: Any = HandedOn if keras.backend.backend() == "jax" else InPlace


class Adversarial(Steps):
    r"""A Keras model whose `fit` trains `model` on inputs that an attack finds in every step.

    When to use it:
        For adversarial training, the defence with the best record so far. Give it to `fit` in place
        of the model. It costs `1 + steps` times the gradients of ordinary training.

    $$ \min_\theta \; \frac{1}{n} \sum_{i=1}^{n} \mathcal{L}\bigl(f_\theta(x_i'),\, y_i\bigr) $$

    $$
    x_i' \approx \operatorname{argmax}_{\lVert x - x_i \rVert \le \varepsilon} \;
    \ell\bigl(f_\theta(x),\, y_i\bigr)
    $$

    $f_\theta$ is the model with its weights $\theta$, $\mathcal{L}$ the loss of `compile`, $\ell$
    the loss of the attack, which looks for $x_i'$ within the budget $\varepsilon$. A `method`
    replaces the outer part.

    `compile`, `fit`, `evaluate` and `predict` are those of Keras, with any data, callbacks, metrics
    and optimizers that they take. The weights are those of `model`, which is trained in place;
    `save` writes that model, without anything of advex in it.

    The search runs inside of the compiled step, in inference mode: no weight, no statistic and no
    dropout mask changes by it. The gradient of the step is taken in training mode. In a short
    training the running statistics of batch normalisation lag behind, and the search with them:
    `momentum=0.9` follows faster.

    The log has `clean_accuracy` and `robust_accuracy`: in training the one that the step itself
    tells on all rows, and the other on an eighth of them; in validation both on all rows. Metrics
    of `compile` are about what the loss is about: in training the points that were found, or with
    `TRADES` and `MART` the clean inputs; in validation always the clean inputs.

    Args:
        model: a classifier with one input and one output: logits, softmax, or one sigmoid unit.
        attack: what looks for the points: an attack with a number of steps, one of your own too.
            The paper: 7 steps of 2/255 on CIFAR-10.
        budget: how far each input may be moved. Epsilon 0: ordinary training. The paper:
            Linf(8/255) on CIFAR-10.
        method: what is minimised: None for the loss of `compile` at the points that were found, or
            `TRADES`, `MART`, `AWP`, `Free`, `Noise`, or one of your own.
        seed: of the random numbers of the search, a whole number from 0.
        box: lowest and highest legal value of what the model is fed.
        ramp: training steps over which epsilon grows from 0 to the budget's, a whole number from 0.
        augment: a layer or a model that changes clean inputs at random before the search, such as
            `keras.layers.RandomFlip()`; what it makes is clipped to the box.
        validation: the attack by which `evaluate`, and `fit` with `validation_data`, tell
            `robust_accuracy`. None: they do not.

    Raises:
        InvalidType: an argument of the wrong kind.
        InvalidInput: a value that cannot be worked with.

    Cost:
        `steps` gradients for the search and one for the weights, in each training step.

    Example:
        >>> import advex, keras
        >>> x, labels = advex.testing.linear_data()
        >>> model = keras.Sequential([keras.Input((12,)), keras.layers.Dense(2)])
        >>> robust = Adversarial(model, advex.PGD(steps=3), advex.Linf(0.05))
        >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        >>> robust.compile("sgd", loss)
        >>> sorted(robust.fit(x, labels, verbose=0).history)
        ['clean_accuracy', 'loss', 'robust_accuracy']

    Reference:
        Madry, Makelov, Schmidt, Tsipras and Vladu, Towards deep learning models resistant to
        adversarial attacks, ICLR 2018. https://arxiv.org/abs/1706.06083

    Deviations:
        The points are looked for in inference mode. The methods name papers of their own.
    """

    @helpful
    def __init__(
        self,
        model: keras.Model,
        attack: Any = ATTACK,
        budget: Budget = BUDGET,
        method: Method | None = None,
        seed: int = 0,
        *,
        box: tuple[float, float] = (0, 1),
        ramp: int = 0,
        augment: Callable[[Tensor], Tensor] | None = None,
        validation: Any = VALIDATION,
    ) -> None:
        demand_model(model)
        super().__init__(name=f"adversarial_{model.name}", dtype=model.dtype_policy, autocast=False)
        self.model, self.budget = model, checked_budget(budget)
        self.box = checked_box(box)
        self.attack, self.validation = attack, validation
        self._leaf = checked_leaf("attack", attack, budget)
        self._judge = None if validation is None else checked_leaf("validation", validation, budget)
        if not (method is None or isinstance(method, Method)):
            raise InvalidType(
                "method must be such as advex.training.TRADES(beta=6), or None; received"
                f" {shown(method)}"
            )
        if not (augment is None or callable(augment)):
            raise InvalidType(f"augment must be a layer, or a function; received {shown(augment)}")
        self.method: Method = Plain() if method is None else method
        self.method.attack(self._leaf, None)
        self.ramp = whole_number("ramp", ramp, lowest=0)
        self.augment = augment
        self.probe: tuple[Array, Array] | None = None
        self._draws = keras.random.SeedGenerator(whole_number("seed", seed, lowest=0))
        self._judging = keras.random.SeedGenerator(seed)  # evaluation takes nothing from training
        self._judged_from = _backend.to_numpy(self._judging.state).copy()
        self._looked_at: Any = None
        self._clean_told = keras.metrics.Mean(name="clean_accuracy")
        self._robust_told = keras.metrics.Mean(name="robust_accuracy")
        self._forward: Any = None
        self._inline: Inline | None = None
        self.built = model.built

    # What Keras calls.

    def call(self, x: Any, training: bool | None = None) -> Tensor:
        return self.model(x.shown if isinstance(x, Batch) else x, training=training)

    def compile(self, *args: Any, **settings: Any) -> None:
        """As ``keras.Model.compile``. The bare model is compiled with the same optimizer and loss:
        so they are saved with it, and training can go on.
        """
        super().compile(*args, **settings)
        self.model.compile(
            self.optimizer,
            self.loss,
            run_eagerly=self.run_eagerly,
            auto_scale_loss=False,
        )
        self._build_optimizer()

    def fit(self, x: Any = None, y: Any = None, *args: Any, **settings: Any) -> Any:
        """As ``keras.Model.fit``, on what the attack finds."""
        x, self._looked_at = self._ready(x, y), None
        return super().fit(x, y, *args, **settings)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **settings: Any) -> Any:
        """As ``keras.Model.evaluate``, on clean inputs; and the robust accuracy beside it."""
        self._judging.state.assign(self._judged_from)
        again = settings.get("_use_cached_eval_dataset", False)  # ``fit`` holds its own iterator
        if not (again and (x is self._looked_at or inspect.isgenerator(x))):
            given, x = x, self._ready(x, y, trains=False)
            self._looked_at = given if again else None
        return super().evaluate(x, y, *args, **settings)

    def train_on_batch(self, x: Any, y: Any = None, *args: Any, **settings: Any) -> Any:
        """As ``keras.Model.train_on_batch``, on what the attack finds."""
        return super().train_on_batch(self._ready(x, y), y, *args, **settings)

    def test_on_batch(self, x: Any, y: Any = None, *args: Any, **settings: Any) -> Any:
        """As ``keras.Model.test_on_batch``, on clean inputs; and the robust accuracy beside it."""
        return super().test_on_batch(self._ready(x, y, trains=False), y, *args, **settings)

    def train_step(self, *given: Any) -> Any:
        if isinstance(self.method, Free):
            return self.replayed(*given, body=self._replayed)
        shift = self._shift if isinstance(self.method, AWP) else None
        return self.stepped(*given, prepare=self._attacked, shift=shift)

    def test_step(self, *given: Any) -> Any:
        return self.tested(*given, prepare=self._judged)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        if not (training and isinstance(x, Batch)):
            return self.compiled_loss(y, y_pred, sample_weight)
        return self.method.loss(self, x, y, y_pred, sample_weight)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        if not isinstance(x, Batch):
            logs = super().compute_metrics(x, y, y_pred, sample_weight)
            return {name: value for name, value in logs.items() if name not in TOLD}
        told = self._right(self.logits(y_pred), self.labels(y))
        self._clean_told.update_state(told if x.right is None else x.right)
        self._robust_told.update_state(told if x.held is None else x.held)
        return super().compute_metrics(x.shown, y, y_pred, sample_weight)

    def save(self, *args: Any, **settings: Any) -> Any:
        """Save the bare model, with its optimizer and loss."""
        return self.model.save(*args, **settings)

    def save_weights(self, *args: Any, **settings: Any) -> Any:
        """Save the weights of the bare model."""
        return self.model.save_weights(*args, **settings)

    def load_weights(self, *args: Any, **settings: Any) -> Any:
        """Load weights of the bare model."""
        return self.model.load_weights(*args, **settings)

    def export(self, *args: Any, **settings: Any) -> Any:
        """Export the bare model."""
        return self.model.export(*args, **settings)

    def summary(self, *args: Any, **settings: Any) -> Any:
        """The summary of the bare model."""
        return self.model.summary(*args, **settings)

    def get_config(self) -> Any:
        """There is none: what is written down and copied is the bare model."""
        raise InvalidType(
            "an Adversarial cannot be written down, copied or pickled, as attacks are no part of a"
            " model: robust.save('model.keras') writes the model that it trains, which is"
            " robust.model"
        )

    def __repr__(self) -> str:
        return (
            f"Adversarial({self.model.name!r}, {self.attack!r}, {self.budget!r}, {self.method!r})"
        )

    # What methods see, see ``methods.Trainer``.

    def answers(self, points: Tensor) -> Tensor:
        """What the model answers, in training mode."""
        return self.model(points, training=True)

    def logits(self, answers: Tensor) -> Tensor:
        """Logits (batch, classes) of what the model answers."""
        head = self._forward.head
        if head.name.split(",")[0] in ("softmax", "sigmoid"):  # recovered before it, elsewhere
            head = replace(head, logarithms=True)
        answers = ops.cast(answers, "float32")
        return head.logits(answers if len(answers.shape) > 1 else ops.expand_dims(answers, -1))

    def labels(self, y: Tensor) -> Tensor:
        """Class numbers (batch,) of targets: numbers, a column of such, or one-hot rows."""
        if len(y.shape) == 2 and y.shape[1] > 1:
            return ops.cast(ops.argmax(y, axis=1), "int32")
        return ops.cast(ops.reshape(y, (-1,)), "int32")

    def compiled_loss(self, y: Any, y_pred: Any, sample_weight: Any) -> Any:
        """The loss of ``compile``, with what layers add to it."""
        return super().compute_loss(None, y, y_pred, sample_weight)

    def added_loss(self) -> Any:
        """What layers add to the loss."""
        return sum((ops.sum(ops.cast(loss, "float32")) for loss in self.losses), 0.0)

    def own_accuracy(self, x: Array, labels: Array) -> float:
        """The share of inputs that are classified right at the points that the attack of the
        training finds, in inference mode. Once ``fit`` has begun.
        """
        inputs = ops.convert_to_tensor(x.astype("float32"))
        classes = ops.convert_to_tensor(labels.astype("int32"))
        assert self._inline is not None
        clean = self._forward(inputs) if self.method.compares else None
        leaf = self.method.attack(self._leaf, clean)
        key = ops.convert_to_tensor(draws.row_keys(x.astype("float32"), 0))
        points = self._inline(leaf, inputs, classes, key).points
        return float(_backend.to_numpy(self._right(self._forward(points), classes)).mean())

    # Inside of a step.

    def _attacked(self, data: Any) -> Any:
        """A batch of training with the points that were found."""
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        x = self._clean(x)
        labels, method = self.labels(y), self.method
        points = ops.stop_gradient(self._found(x, labels))
        some = _some(x)
        other = (points if method.clean else x)[:some]
        right = self._right(self._forward(other), labels[:some])
        if method.clean:
            batch = Batch(x, points if method.searches else None, held=right)
        else:
            batch = Batch(points, right=right)
        return keras.utils.pack_x_y_sample_weight(batch, y, weight)

    def _replayed(self, data: Any) -> Any:
        """Several steps on one batch, whose gradients move weights and points alike, see
        ``Free``.
        """
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        x = self._clean(x)
        labels = self.labels(y)
        assert isinstance(self.method, Free)
        assert self._inline is not None
        key = draws.step_keys(self._draws.next(), labels)
        problem = self._inline.problem(REPLAYED, x, labels, key, self._share())
        right = self._right(self._forward(x[: _some(x)]), labels[: _some(x)])
        points, _ = REPLAYED.init(problem)

        def loss(points: Tensor) -> tuple[Tensor, Any]:
            answers = self.answers(points)
            total = self.compiled_loss(y, answers, weight)
            return self.optimizer.scale_loss(total), (total, answers)

        weights = list(self.trainable_variables)
        for _ in range(self.method.replays):
            shown = points
            (total, answers), slope, slopes = _backend.both_slopes(loss, weights, shown)
            _backend.descend(self.optimizer, slopes, weights)
            self._loss_tracker.update_state(total, sample_weight=ops.shape(x)[0])
            points = problem.move(shown, slope, 1.0)
        return self.compute_metrics(Batch(shown, right=right), y, answers, weight)

    def _clean(self, x: Tensor) -> Tensor:
        """Clean inputs of a batch, augmented, as float32."""
        x = self._float(x)
        if self.augment is None:
            return x
        return ops.clip(_augmented(self.augment, x), *self.box)

    def _share(self) -> Tensor | None:
        """Of epsilon, along the ramp; None: all of it."""
        if not self.ramp:
            return None
        taken = ops.cast(ops.convert_to_tensor(self.optimizer.iterations), "float32")
        return ops.minimum(1.0, (taken + 1) / self.ramp)

    def _found(self, x: Tensor, labels: Tensor) -> Tensor:
        """The points that the step is about, (batch, ...)."""
        method = self.method
        if isinstance(method, Noise):
            span = self.box[1] - self.box[0]
            noise = keras.random.normal(ops.shape(x), seed=self._draws, dtype="float32")
            return x + method.sigma * span * noise
        if self.budget.epsilon == 0 or not method.searches:
            return x
        clean = self._forward(x) if method.compares else None
        return self._search(method.attack(self._leaf, clean), x, labels, self._share()).points

    def _search(
        self, leaf: Leaf, x: Tensor, labels: Tensor, share: Any = None, judges: bool = False
    ) -> Any:
        assert self._inline is not None
        seeds = self._judging if judges else self._draws
        key = draws.step_keys(seeds.next(), labels)
        return self._inline(leaf, x, labels, key, share, last=judges)

    def _judged(self, data: Any) -> Any:
        """A batch of evaluation with what the attack has broken."""
        if self._judge is None or self._forward is None:
            return data
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        x, labels = self._float(x), self.labels(y)
        right = self._right(self._forward(x), labels)
        broken = self._search(self._judge, x, labels, judges=True).found
        held = ops.logical_and(right, ops.logical_not(broken))
        return keras.utils.pack_x_y_sample_weight(Batch(x, right=right, held=held), y, weight)

    def _shift(self, data: Any) -> Any:
        """By how much each weight goes up before the step, see ``AWP``."""
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)

        def loss() -> Tensor:
            return self.compute_loss(x, y, self(x, training=True), weight)

        weights = self.trainable_variables
        slopes = _backend.weight_slopes(loss, weights)
        values = [weight.value for weight in weights]
        taken = ops.convert_to_tensor(self.optimizer.iterations)
        assert isinstance(self.method, AWP)
        return self.method.shifts(values, slopes, taken)

    @staticmethod
    def _float(x: Tensor) -> Tensor:
        return ops.cast(x, "float32")

    @staticmethod
    def _right(logits: Tensor, labels: Tensor) -> Tensor:
        """Which rows are classified right: (batch,), 1.0 or 0.0."""
        return ops.equal(ops.cast(ops.argmax(logits, axis=1), "int32"), labels)

    def _classes(self, x: Array) -> Array:
        """The classes (n,) that the model says of inputs."""
        return _backend.to_numpy(self._forward(ops.convert_to_tensor(x))).argmax(axis=1)

    # Before the first step.

    def _ready(self, x: Any, y: Any, trains: bool = True) -> Any:
        """``x`` as it is to be used, once the first batch has been looked at."""
        (some, labels), x = first_batch(x, y)
        some = np.asarray(_backend.to_numpy(some))
        demand_batch_axis(some, self.model)
        demand_inside(some if y is None else np.asarray(_backend.to_numpy(x)), self.box)
        sample = ops.convert_to_tensor(some[:LOOKED_AT].astype("float32"))
        self.model(sample[:1])
        self.built = True
        self._build_optimizer()
        classifier = Classifier(self.model, self.box)
        self._forward = classifier.forward(sample)
        self._forward.fold(sample, _backend.to_numpy(self._forward.exact(sample)))
        if self._forward.head.places or not isinstance(self._forward.classes, int):
            raise InvalidInput(
                f"Adversarial trains classifiers, one class for each input; this model answers with"
                f" {self._forward.example} for each"
            )
        goal = Untargeted(labels if np.ndim(labels) else np.asarray([labels]))
        goal = goal.check(len(some if y is None else x), self._forward.classes)
        goal = goal.of(self._forward.head)
        self._inline = Inline(self._forward, self.box, self.budget, goal)
        if trains:
            unknown = self.probe is None
            self.probe = some, goal.labels[: len(some)]
            if unknown:
                warn_of_layer(classifier, *self.probe, self._classes)
        return x

    def _build_optimizer(self) -> None:
        """What a callback may want to keep, and a file have, before the first step."""
        if not (self.compiled and self.model.built) or self.optimizer.built:
            return
        strategy = getattr(self, "distribute_strategy", None)  # TensorFlow's
        with contextlib.nullcontext() if strategy is None else strategy.scope():
            self.optimizer.build(self.trainable_variables)


def _some(x: Tensor) -> Any:
    """How many rows of a batch are looked at once more."""
    return (ops.shape(x)[0] + SHARE - 1) // SHARE


TOLD = ("clean_accuracy", "robust_accuracy")


def _augmented(augment: Callable[..., Tensor], x: Tensor) -> Tensor:
    return augment(x, training=True) if isinstance(augment, keras.Layer) else augment(x)
