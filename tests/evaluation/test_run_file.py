"""Run files do not lie: a run is about code, closures and wiring; what is damaged is never shown; a
refusal leaves no file.
"""

import argparse
import array
import collections
import dataclasses
import functools
import json
import os
import re
import sqlite3
import subprocess
import sys
import textwrap
import types
import warnings
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import advex
from advex.errors import AdvexError, GradientUnavailable, InvalidInput, InvalidType
from advex.evaluation import Evaluation, block_files, runner, source
from advex.evaluation.asked import named_attacks
from advex.evaluation.contents import changed, combined, model_parts, parts
from advex.evaluation.identity import budget_text, without_addresses
from advex.evaluation.schema import seal
from advex.evaluation.source import Source
from advex.evaluation.store import Store

BUDGET = advex.Linf(0.05)
FLIPS = int(os.environ.get("ADVEX_FLIPS", "40"))  # 1000 for the promise


def data(count=60):
    x = np.random.default_rng(0).random((count, 12)).astype("float32")
    return x, ops.convert_to_numpy(advex.testing.linear_model()(x)).argmax(1)


def evaluated(run=None, attacks=None, **settings):
    settings = {
        "budget": BUDGET,
        "diagnose": False,
        "block": 16,
        "data": data(),
        "model": advex.testing.linear_model(),
    } | settings
    attacks = advex.BIM(steps=2) if attacks is None else attacks
    return advex.evaluate(settings.pop("model"), settings.pop("data"), attacks, run=run, **settings)


def figures(found):
    """All that can be read of a run."""
    pairs = [
        (pair.example, pair.before.tobytes(), pair.after.tobytes())
        for pair in found.pairs() + found.pairs("farthest")
    ]
    kept = [found.adversarial(row) for row in range(len(found.label))]
    kept = [None if values is None else values.tobytes() for values in kept]
    return (
        found.to_json(),
        str(found),
        repr(found),
        [repr(row) for row in found.rows()],
        pairs,
        kept,
        found.matrix.tobytes(),
    )


# What a thing is.


def what(thing):
    return combined(parts({"": thing}))


def scaled(value):
    return lambda logits, goal: logits * value


def made(code, **names):
    exec(textwrap.dedent(code), names)
    return names["f"]


class Scale:
    def __init__(self, value):
        self.value = value

    def __call__(self, logits, goal):
        return logits * self.value


@dataclass(frozen=True, kw_only=True)
class Hidden(advex.Attack):
    steps: int = 1
    scale: float = dataclasses.field(default=1.0, repr=False)

    def init(self, problem):
        return problem.x0, ()

    def step(self, problem, x, memory):
        return problem.project(x + self.scale * problem.epsilon), memory


class Named(collections.namedtuple("Named", "a")):
    """A tuple with something of its own."""


class Wrapper:
    """A decorator of the user's own, which knows the function by the usual name, and may be put
    into a class.
    """

    def __init__(self, function, scale):
        functools.update_wrapper(self, function)
        self.scale = scale

    def __call__(self, logits, goal):
        return self.scale * self.__wrapped__(logits, goal)

    def __get__(self, owner, kind=None):
        return self if owner is None else functools.partial(self, owner)


class Private:
    __slots__ = ("__value",)

    def __init__(self, value):
        self.__value = value

    def __call__(self, logits):
        return logits * self.__value


def marked(thing, mark):
    thing.mark = mark
    return thing


def compiled(function):
    """As the backend compiles functions; eagerly, as none is called here."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    import torch

    return torch.no_grad()(function)


def module(value):
    made = types.ModuleType("settings_of_the_user")
    made.scale = value
    return made


SET = frozenset("abcdefgh")
OTHERS = [
    (1, 1.0),
    (0.0, -0.0),
    (None, False),
    (np.zeros(3), np.zeros(3, "float32")),
    (np.zeros((2, 3)), np.zeros((3, 2))),
    (np.arange(4), np.arange(4)[::-1]),
    (np.float32(1), np.float64(1)),
    ((1, (2, 3)), (1, (2, 4))),
    ([1, [2]], [1, [3]]),
    ({"a": 1}, {"a": 2}),
    (SET, SET - {"a"}),
    (np, ops),
    (Scale(1), Scale(2)),
    (collections.deque([1]), collections.deque([2])),
    (re.compile("a"), re.compile("b")),
    (Path("a"), Path("b")),
    (types.SimpleNamespace(a=1), types.SimpleNamespace(a=2)),
    (np.random.default_rng(1), np.random.default_rng(2)),
    (np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 2], mask=[1, 0])),
    (argparse.Namespace(scale=1), argparse.Namespace(scale=2)),
    (array.array("d", [1]), array.array("d", [2])),
    (collections.defaultdict(scaled(1)), collections.defaultdict(scaled(2))),
    (collections.deque([1], 2), collections.deque([1], 3)),
    (functools.cache(lambda x: x * 1), functools.cache(lambda x: x * 2)),
    (marked(functools.partial(scaled, 1), 1), marked(functools.partial(scaled, 1), 2)),
    (Wrapper(scaled(1), 1), Wrapper(scaled(1), 2)),
    (Wrapper(scaled(1), 1), Wrapper(scaled(2), 1)),
    (Private(1), Private(2)),
    (marked(Named(1), 1), marked(Named(1), 2)),
    (module(1), module(2)),
    (
        keras.layers.Lambda(functools.partial(ops.multiply, 1.0)),
        keras.layers.Lambda(functools.partial(ops.multiply, 2.0)),
    ),
    (keras.layers.Activation(Private(1)), keras.layers.Activation(Private(2))),
]


@pytest.mark.parametrize("pair", OTHERS, ids=lambda pair: type(pair[0]).__name__)
def test_values_in_closures_and_objects(pair):
    one, other = pair
    for within in (
        scaled,
        Scale,
        lambda value: functools.partial(Scale(1), value),
        lambda value: Scale([value, scaled(value)]),
    ):
        assert what(within(one)) == what(within(one))
        assert what(within(one)) != what(within(other))


@pytest.mark.backends
def test_compiled_functions_are_what_they_compile():
    one, other = (compiled(lambda x: x * 1), compiled(lambda x: x * 2))
    assert what(scaled(one)) == what(scaled(one)) != what(scaled(other))
    if keras.backend.backend() == "jax":
        import jax

        assert (
            what(scaled(jax.random.key(1)))
            == what(scaled(jax.random.key(1)))
            != what(scaled(jax.random.key(2)))
        )

        def given(slope):
            function = jax.custom_vjp(lambda x: x)
            function.defvjp(lambda x: (x, None), lambda _, change: (change * slope,))
            return function

        assert what(given(1.0)) == what(given(1.0)) != what(given(2.0))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        assert what(scaled(tf.data.Dataset.range(3)))  # its tensor has no numbers


CODE = {
    "method of a tuple": (
        "import typing\nclass T(typing.NamedTuple):\n a: int = 1\n def m(self): return 1\nf = T()",
        "import typing\nclass T(typing.NamedTuple):\n a: int = 1\n def m(self): return 2\nf = T()",
    ),
    "method of an enum": (
        "import enum\nclass T(enum.Enum):\n A = 1\n def m(self): return 1\nf = T.A",
        "import enum\nclass T(enum.Enum):\n A = 1\n def m(self): return 2\nf = T.A",
    ),
    "constant": ("def f(x): return x * 2", "def f(x): return x * 3"),
    "inner": (
        "def f(x): return [y * 2 for y in (lambda: x)()]",
        "def f(x): return [y * 3 for y in (lambda: x)()]",
    ),
    "operation": ("def f(x): return x + 2", "def f(x): return x - 2"),
    "default": ("def f(x, c=1): return x * c", "def f(x, c=2): return x * c"),
    "keyword": ("def f(x, *, c=1): return x * c", "def f(x, *, c=2): return x * c"),
    "set": ("def f(x): return x in {1, 2}", "def f(x): return x in {1, 3}"),
    "global": ("K = 1\ndef f(x): return x * K", "K = 2\ndef f(x): return x * K"),
    "helper": (
        "def g(x): return x + 1\ndef f(x): return g(x)",
        "def g(x): return x + 2\ndef f(x): return g(x)",
    ),
    "base": (
        "class A:\n def m(self): return 1\nclass f(A): pass",
        "class A:\n def m(self): return 2\nclass f(A): pass",
    ),
    "class value": ("class f:\n a = 1", "class f:\n a = 2"),
    "property": (
        "class f:\n @property\n def a(self): return 1",
        "class f:\n @property\n def a(self): return 2",
    ),
    "static": (
        "class f:\n @staticmethod\n def a(): return 1",
        "class f:\n @staticmethod\n def a(): return 2",
    ),
    "class method": (
        "class f:\n @classmethod\n def a(c): return 1",
        "class f:\n @classmethod\n def a(c): return 2",
    ),
    "attribute": (
        "def f(x): return x * f.scale\nf.scale = 1",
        "def f(x): return x * f.scale\nf.scale = 2",
    ),
    "decorated": (
        "import functools\ndef g(h):\n @functools.wraps(h)\n def w(x): return h(x)\n return"
        " w\n@g\ndef f(x): return 1",
        "import functools\ndef g(h):\n @functools.wraps(h)\n def w(x): return h(x)\n return"
        " w\n@g\ndef f(x): return 2",
    ),
}


@pytest.mark.parametrize("name", CODE)
def test_code_and_what_it_names(name):
    one, other = CODE[name]
    assert what(made(one)) != what(made(other))
    moved = "\n\n# a comment\n" + one.replace("\n", "\n\n# another\n")
    assert what(made(one)) == what(made(moved))  # lines and comments are nothing


def test_names_of_own_modules_are_followed():
    one, other = types.ModuleType("mine"), types.ModuleType("mine")
    one.scale, other.scale = 1, 2
    code = "def f(x): return x * mine.scale"
    assert what(made(code, mine=one)) != what(made(code, mine=other))


def test_what_goes_in_circles_ends():
    loop = []
    loop.append(loop)
    own = Scale(None)
    own.value = own
    for thing in (
        loop,
        own,
        test_what_goes_in_circles_ends,
        (number for number in range(3)),
        sys.stdout,
    ):
        assert what(thing)


WRAPPED = {
    "loss": lambda part: advex.BIM(loss=part),
    "Ensemble": lambda part: advex.Ensemble(advex.FGSM(), advex.BIM(loss=part)),
    "Restarts": lambda part: advex.Restarts(advex.PGD(loss=part), 2),
    "EveryTarget": lambda part: advex.EveryTarget(advex.PGD(loss=part), 2),
    "transforms": lambda part: advex.AveragedGradient(advex.PGD(), part, 2),
    "several transforms": lambda part: advex.AveragedGradient(advex.PGD(), [scaled(7), part], 2),
    "step_size": lambda part: advex.BIM(step_size=part),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_settings_of_attacks_that_look_alike(name):
    one, other, again = (WRAPPED[name](scaled(value)) for value in (1, 2, 1))
    assert without_addresses(one) == without_addresses(other)
    assert what(one) != what(other) and what(one) == what(again)


def test_settings_that_are_not_shown():
    assert repr(Hidden(scale=1.0)) == repr(Hidden(scale=2.0))
    assert what(Hidden(scale=1.0)) != what(Hidden(scale=2.0))


def test_budgets_to_the_last_digit():
    texts = [
        budget_text(budget)
        for budget in (
            advex.Linf(0.1234567),
            advex.Linf(0.12345671),
            advex.L2(0.1234567),
            advex.Linf(),
        )
    ]
    assert texts == ["Linf(0.1234567)", "Linf(0.12345671)", "L2(0.1234567)", "Linf()"]
    assert budget_text(advex.Linf(8 / 255)) == "Linf(8/255)"


def dense(activation="relu", **settings):
    return keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, activation), keras.layers.Dense(2, **settings)]
    )


def wired(first=True, scale=1.0):
    x = keras.Input((4,))
    one, other = keras.layers.Dense(3)(x), keras.layers.Dense(3, "tanh")(x)
    y = keras.layers.Lambda(lambda value: value * scale)(
        keras.layers.Subtract()([one, other] if first else [other, one])
    )
    return keras.Model(x, ops.leaky_relu(y, 0.1 * scale))


def subclassed(scale=1, twice=False):
    class Inner(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self._scale = scale

        def call(self, x):
            return x * self._scale

    class Once(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner, self.top = Inner(), keras.layers.Dense(2)

        def call(self, x):
            return self.top(self.inner(x))

    class Twice(Once):
        def call(self, x):
            return self.top(self.inner(self.inner(x)))

    model = Twice() if twice else Once()
    model(np.zeros((1, 4), "float32"))
    return model


@pytest.mark.backends
def test_models_are_more_than_their_weights():
    def of(model):
        return combined(model_parts(model))

    for make, others in {
        dense: [
            {"activation": "tanh"},
            {"activation": lambda x: x},
            {"use_bias": False},
            {"dtype": "float16"},
        ],
        wired: [{"first": False}, {"scale": 2.0}],
        subclassed: [{"scale": 2}, {"twice": True}],
    }.items():
        model = make()
        before = of(model)
        # other automatic names
        assert before == of(make()), changed(model_parts(model), model_parts(make()))
        assert len({before, *(of(make(**other)) for other in others)}) == 1 + len(others)
        model.compile("adam", "mse")
        assert of(model) == before


class Clipped(keras.layers.Layer):
    """A layer whose attribute is called as those that Keras needs for training only."""

    def __init__(self, constraint):
        super().__init__()
        self.kernel_constraint = constraint

    def call(self, x):
        return self.kernel_constraint(x)


@pytest.mark.backends
def test_models_from_a_file_are_what_they_were(tmp_path):
    rows = np.random.default_rng(0).random((6, 8, 8, 1)).astype("float32")
    known = keras.layers.Normalization()
    known.adapt(rows)
    layers = [
        known,
        keras.layers.RandomContrast(0.1),
        keras.layers.Conv2D(2, 3),
        keras.layers.Flatten(),
        keras.layers.Dense(2),
    ]
    model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert changed(model_parts(model), model_parts(again)) == []
    model.load_weights(tmp_path / "model.keras")
    assert changed(model_parts(model), model_parts(again)) == []
    x = keras.Input((8, 3))
    model = keras.Model(x, ops.clip(keras.layers.LSTM(4)(x) * 2.0, 0, 1)[:, 1:])
    model.save(tmp_path / "other.keras")
    again = keras.models.load_model(tmp_path / "other.keras")
    assert changed(model_parts(model), model_parts(again)) == []


def test_lambdas_from_a_file_are_their_code(tmp_path):
    found = []
    for number, function in enumerate((lambda x: x * 2, lambda x: x * 3)):
        path, model = (
            tmp_path / f"{number}.keras",
            keras.Sequential([keras.Input((4,)), keras.layers.Lambda(function)]),
        )
        model.save(path)
        found.append(model_parts(keras.models.load_model(path, safe_mode=False)))
        assert changed(model_parts(model), found[-1]) == []
    assert changed(*found)


def test_a_function_by_the_name_of_a_constraint_is_one():
    one, other = (
        keras.Sequential([keras.Input((4,)), Clipped(scaled_one(scale))]) for scale in (1, 2)
    )
    assert changed(model_parts(one), model_parts(other))


def scaled_one(value):
    return lambda x: x * value


# Another run.


def loss_of(scale):
    def mine(logits, goal):
        return scale * goal.margin(logits)

    return mine


def test_attacks_in_another_order_go_on_under_their_own_names(tmp_path):
    run, one, two = tmp_path / "run.advex", advex.FGSM(), advex.PGD(steps=3)

    def stop(done, total, held):
        raise RuntimeError("of the user")

    with pytest.raises(RuntimeError, match="of the user"):
        evaluated(run, {"one": one, "two": two}, progress=stop)
    found, whole = (
        evaluated(run, {"two": two, "one": one}),
        evaluated(None, {"one": one, "two": two}),
    )
    for mixed, right in zip(found.attacks, whole.attacks, strict=True):
        assert (mixed.name, mixed.broken, mixed.gradients) == (
            right.name,
            right.broken,
            right.gradients,
        )


def test_another_loss_of_the_same_name_is_refused(tmp_path):
    run = tmp_path / "run.advex"
    found = evaluated(run, advex.BIM(steps=5, loss=loss_of(-1)))
    with pytest.raises(
        InvalidInput, match=r"Changed: attacks .*what differs within: attacks BIM.loss.scale\)"
    ):
        evaluated(run, advex.BIM(steps=5, loss=loss_of(1)))
    assert (
        evaluated(run, advex.BIM(steps=5, loss=loss_of(-1))).robust_accuracy
        == found.robust_accuracy
    )
    with pytest.raises(InvalidInput, match="Changed: budget"):
        evaluated(run, advex.BIM(steps=5, loss=loss_of(-1)), budget=advex.Linf(0.05 + 1e-9))


def test_another_model_with_equal_weights_is_refused(tmp_path):
    def model(last):
        made = keras.Sequential([keras.Input((12,)), keras.layers.Dense(2), *last])
        made.set_weights([np.random.default_rng(0).normal(size=(12, 2)), np.zeros(2)])
        return made

    run, (x, _) = tmp_path / "run.advex", data()
    first = model([])
    labels = ops.convert_to_numpy(first(x)).argmax(1)
    evaluated(run, model=first, data=(x, labels))
    evaluated(run, model=model([]), data=(x, labels))  # the same with other automatic names
    for last in (
        [keras.layers.Rescaling(-1.0)],
        [keras.layers.Lambda(lambda z: ops.flip(z, 1))],
        [keras.layers.Activation("relu")],
    ):
        with pytest.raises(InvalidInput, match=r"Changed: model "):
            evaluated(run, model=model(last), data=(x, labels))


def test_answers_are_compared_where_all_else_is_equal(tmp_path, monkeypatch):
    """What no look at code can see, a service behind a layer: other classes with equal confidence,
    then other logits.
    """
    flip = types.SimpleNamespace(sign=1.0, shift=0.0)
    monkeypatch.setattr("advex.evaluation.identity.model_parts", lambda model: {})

    class Service(keras.layers.Layer):
        def call(self, z):
            return z * flip.sign + flip.shift

    def model():
        made = keras.Sequential(
            [keras.Input((12,)), keras.layers.Dense(2, use_bias=False), Service()]
        )
        made.set_weights([np.stack([np.ones(12), -np.ones(12)], axis=1)])
        return made

    run, (x, _) = tmp_path / "run.advex", data()
    labels = ops.convert_to_numpy(model()(x)).argmax(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", advex.errors.AdvexWarning)
        evaluated(run, model=model(), data=(x, labels))
        evaluated(run, model=model(), data=(x, labels))
        for sign, shift in ((-1.0, 0.0), (1.0, 3.0)):
            flip.sign, flip.shift = sign, shift
            with pytest.raises(InvalidInput, match="answers to the first rows"):
                evaluated(run, model=model(), data=(x, labels))


def test_answers_of_a_black_box_are_compared(tmp_path):
    weights = np.random.default_rng(1).normal(size=(12, 2))
    run, (x, _) = tmp_path / "run.advex", data()

    class Box:  # a class that says nothing about what it asks
        __slots__ = ()
        sign = property(lambda self: os.environ["ADVEX_TEST_SIGN"])

        def __call__(self, batch):
            return (batch - 0.5) @ weights * float(self.sign)

    settings = {
        "data": (x, ((x - 0.5) @ weights).argmax(1)),
        "attacks": advex.SquareAttack(steps=5),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVEX_TEST_SIGN", "1")
        evaluated(run, model=advex.BlackBox(Box(), classes=2), **settings)
        evaluated(run, model=advex.BlackBox(Box(), classes=2), **settings)
        patch.setenv("ADVEX_TEST_SIGN", "-1")  # two classes: the confidence is the same
        with pytest.raises(InvalidInput, match="answers to the first rows"):
            evaluated(run, model=advex.BlackBox(Box(), classes=2), **settings)


def test_what_a_run_changes_by_itself_is_no_setting(tmp_path):
    run, seen, asked = tmp_path / "run.advex", [], collections.Counter()
    weights = np.random.default_rng(1).normal(size=(12, 2))

    def predict(batch, scale=1.0):
        seen.append(batch)
        asked["rows"] += len(batch)
        return (batch - 0.5) @ weights * scale

    def stop(done, total, held):
        raise RuntimeError("of the user")

    x = data()[0]
    settings = {
        "data": (x, ((x - 0.5) @ weights).argmax(1)),
        "attacks": advex.SquareAttack(steps=5),
    }
    with pytest.raises(RuntimeError, match="of the user"):
        evaluated(run, model=advex.BlackBox(predict, classes=2), progress=stop, **settings)
    assert seen and asked["rows"]
    for _ in range(2):
        assert evaluated(run, model=advex.BlackBox(predict, classes=2), **settings).finished
    other = types.FunctionType(
        predict.__code__, predict.__globals__, "predict", (2.0,), predict.__closure__
    )
    with pytest.raises(InvalidInput, match="Changed: model"):
        evaluated(run, model=advex.BlackBox(other, classes=2), **settings)


SCRIPT = """
import sys
import numpy as np, keras
from keras import ops
import advex

WORDS = {"a", "b", "c", "d"}
TABLE = np.arange(12.0)

def helper(values):
    return values * len(WORDS)

def loss(scale):
    def mine(logits, goal):
        return helper(goal.margin(logits)) * scale
    return mine

class Shift(keras.layers.Layer):
    def __init__(self, by):
        super().__init__()
        self._by = by

    def call(self, x):
        return x + self._by * TABLE[0]

model = keras.Sequential([keras.Input((12,)), Shift(0.5), keras.layers.Dense(2)])
model.layers[-1].set_weights([np.stack([TABLE - 5.5, 5.5 - TABLE], axis=1), np.zeros(2)])
x = np.random.default_rng(0).random((40, 12)).astype("float32")
labels = ops.convert_to_numpy(model(x)).argmax(1)
attacks = [advex.BIM(steps=2, loss=loss(0.5)), advex.BIM(steps=2, step_size=lambda done: 0.5 * (1 - done)),
    advex.AveragedGradient(advex.FGSM(), (lambda problem, x: x * 1.0, lambda problem, x: x * 0.5), 2)]
classifier = advex.Classifier(model, preprocess=lambda x: x - 0.0 * TABLE.sum())
found = advex.evaluate(classifier, (x, labels), attacks, advex.Linf(0.05), run=sys.argv[1], diagnose=False)
print(found.robust_accuracy, found.facts["began"])
"""  # noqa: E501


def test_the_same_script_goes_on_in_a_new_process(tmp_path):
    script, told = tmp_path / "script.py", []
    for number, text in enumerate((SCRIPT, "# moved\n\n" + SCRIPT)):
        script.write_text(text)
        script = script.rename(tmp_path / f"script{number}.py")
        environment = os.environ | {"PYTHONHASHSEED": str(number)}
        done = subprocess.run(
            [sys.executable, script, tmp_path / "run.advex"],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        told.append(done.stdout or done.stderr)
    assert told[0] == told[1] and told[0].startswith("0."), told


# Damage.


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run, and all that is in it."""
    run = tmp_path_factory.mktemp("whole") / "run.advex"
    evaluated(run, [advex.BIM(steps=2), advex.FGSM()], keep="success", data=data(120), block=40)
    return run.read_bytes(), figures(Evaluation.load(run))


def outcome(path, content, expected):
    """ "same", "refused", or what else a damaged file gave."""
    path.write_bytes(content)
    try:
        return "same" if figures(Evaluation.load(path)) == expected else "other figures"
    except (AdvexError, OSError):
        return "refused"
    except Exception as problem:
        return f"{type(problem).__name__}: {problem}"


def test_a_flipped_bit_never_shows(whole, tmp_path):
    """``ADVEX_FLIPS=1000`` for as many bits and a tenth of as many ends."""
    content, expected = whole
    random = np.random.default_rng(int(os.environ.get("ADVEX_SEED", "0")))
    told = collections.Counter()
    for _ in range(FLIPS):
        flipped = bytearray(content)
        flipped[int(random.integers(len(content)))] ^= 1 << int(random.integers(8))
        told[outcome(tmp_path / "run.advex", bytes(flipped), expected)] += 1
    for place in range(16, 100, 2):  # the header
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(random.integers(8))
        told[outcome(tmp_path / "run.advex", bytes(flipped), expected)] += 1
    for end in random.integers(0, len(content), max(10, FLIPS // 10)):
        told["cut " + outcome(tmp_path / "run.advex", content[:end], expected)] += 1
    told["longer " + outcome(tmp_path / "run.advex", content + b"\0" * 5000, expected)] += 1
    assert set(told) <= {"same", "refused", "cut refused", "longer same", "longer refused"}, told
    assert told["refused"] > 0.3 * FLIPS


def changes():
    """What the tables can suffer without SQLite being any the wiser."""
    return {
        "UPDATE verdicts SET status = 'held' WHERE status = 'broken'": "attack 0 on block",
        "UPDATE verdicts SET distance = distance * 1.0001 WHERE attack = 1": "attack 1 on block",
        "UPDATE examples SET label = 1 - label WHERE id = 45": "block 1",
        "UPDATE facts SET value = '1' WHERE name = 'epsilon'": "settings",
        "UPDATE attacks SET name = 'PGD' WHERE id = 0": "settings",
        "DELETE FROM verdicts WHERE example = 3": "attack 0 on block 0",
        "DELETE FROM work WHERE block = 2 AND attack = 1": "rows that nobody wrote",
        "DELETE FROM verdicts WHERE example >= 80": "attack 0 on block 2",
        "DELETE FROM blocks WHERE id = 2": "is not as it was written",
        "DELETE FROM seals": "checksum is gone",
        "DELETE FROM seals WHERE what = 'work' AND number = 2": "gone or changed",
        "UPDATE seals SET sum = x'00' WHERE what = 'all'": "gone or changed",
        "INSERT INTO examples VALUES (500, 0, 0, 0.5, 'correct')": "nobody wrote",
        "INSERT INTO verdicts VALUES (7, 0, 'held', 0, 0, 0, 0, 0, 0, '', NULL)": "nobody wrote",
        "UPDATE verdicts SET adversarial = NULL": "attack 0 on block",
        "DELETE FROM pictures WHERE place = 'nearest'": "input kept",
        "UPDATE blocks SET rows = 39 WHERE id = 2": "block 2",
        "UPDATE work SET checks = checks + 1": "attack 0 on block",
        "DROP TABLE work": "no such table",
    }


@pytest.mark.parametrize("statement", changes())
def test_changed_tables_are_refused_by_name(statement, whole, tmp_path):
    path = tmp_path / "run.advex"
    path.write_bytes(whole[0])
    database = sqlite3.connect(path)
    with database:
        database.execute(statement)
    database.close()
    for use in (Evaluation.load, lambda path: evaluated(path, keep="success")):
        with pytest.raises(InvalidInput, match=f"is damaged .*{changes()[statement]}"):
            use(path)


def test_kept_inputs_are_looked_at_when_they_are_shown(whole, tmp_path):
    path = tmp_path / "run.advex"
    path.write_bytes(whole[0])
    database = sqlite3.connect(path)
    with database:
        one, other = database.execute(
            "SELECT example, adversarial FROM verdicts WHERE adversarial IS NOT NULL LIMIT 2"
        ).fetchall()
        database.execute(
            "UPDATE verdicts SET adversarial = ? WHERE attack = 0 AND example = ?",
            (other[1], one[0]),
        )
        database.execute("UPDATE pictures SET after = before")
    database.close()
    found = Evaluation.load(path)
    assert found.to_json() == whole[1][0]
    assert found.adversarial(other[0]) is not None
    for show in (
        lambda: found.adversarial(one[0]),
        found.pairs,
        lambda: found.report(tmp_path / "page.html"),
    ):
        with pytest.raises(InvalidInput, match="input kept of example"):
            show()
    assert not (tmp_path / "page.html").exists()


def test_a_wrong_distance_does_not_choose_other_pictures(whole, tmp_path):
    path = tmp_path / "run.advex"
    path.write_bytes(whole[0])
    database = sqlite3.connect(path)
    with database:
        database.execute(
            "UPDATE pictures SET distance = 1e9 WHERE place = 'nearest' AND attack = 0"
        )
    database.close()
    with pytest.raises(InvalidInput, match="input kept of example"):
        Evaluation.load(path).pairs()


def test_a_file_that_is_damaged_later_is_looked_at_again(whole, tmp_path):
    path = tmp_path / "run.advex"
    path.write_bytes(whole[0])
    found = Evaluation.load(path)
    path.write_bytes(whole[0][:-4000])
    for read in (
        lambda: found.robust_accuracy,
        lambda: list(found.rows()),
        found.to_json,
        lambda: repr(found),
    ):
        with pytest.raises(InvalidInput, match="is damaged"):
            read()


def test_other_formats_are_refused_by_name(whole, tmp_path):
    path = tmp_path / "run.advex"
    for version, words in (
        (1, "has format 1 of run files, which has no checksums; this advex reads 2"),
        (4, "a newer advex wrote"),
    ):
        path.write_bytes(whole[0])
        database = sqlite3.connect(path)
        database.execute(f"PRAGMA user_version = {version}")
        database.close()
        for use in (Evaluation.load, evaluated):
            with pytest.raises(InvalidInput, match=words):
                use(path)


def test_checksums_are_the_same_everywhere():
    """Written by one Python, read by another."""
    rows = [(0, "held", None, 0.1, "é"), (2**40, "broken", b"\0", -0.0, "")]
    assert seal((1, 2.5), rows).hex() == "25637962db57f4da7cabe6daae308622"


def test_a_part_of_a_worker_that_is_damaged(tmp_path):
    pytest.importorskip("pyarrow")
    from advex.evaluation.pieces import Plan, attacked, clean
    from advex.evaluation.source import Block

    x, labels = data(24)
    plan = Plan(
        advex.Classifier(advex.testing.linear_model()),
        {"one": advex.FGSM()},
        BUDGET,
        0,
        24,
        24,
        "success",
    )
    block, path = Block(0, 0, x, labels), tmp_path / block_files.name_of(0)
    before = clean(plan, x, labels)
    block_files.write_part(path, plan, block, before, [attacked(plan, "one", x, before)], "mark")
    content = path.read_bytes()
    expected = repr(block_files._checked_part(path))
    random = np.random.default_rng(0)
    told = collections.Counter()
    for number in range(80):
        damaged = bytearray(content)
        damaged[int(random.integers(len(content)))] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged if number % 4 else content[: int(random.integers(len(content)))])
        try:
            told["same" if repr(block_files._checked_part(path)) == expected else "other"] += 1
        except block_files.Damaged:
            told["refused"] += 1
    assert set(told) <= {"same", "refused"} and told["refused"] > 40, told
    with pytest.raises(InvalidInput, match=r"belongs to another run|is damaged"):
        block_files.read_part(path, plan, block, "other")


# Refused, and nothing is left.


def flat():
    return keras.Sequential([keras.Input((12,)), keras.layers.Dense(2)])


BAD = {
    "seed": ({"seed": 2**70}, InvalidInput, "at most 64 bits"),
    "negative seed": ({"seed": -(2**63) - 1}, InvalidInput, "at most 64 bits"),
    **{
        f"{name} of 5,000 digits": ({name: 10**5000}, AdvexError, "thousands of digits")
        for name in ("attacks", "budget", "seed", "keep", "progress", "engine")
    },
    "attack of 5,000 digits": ({"attacks": [10**5000]}, InvalidType, "thousands of digits"),
    "name of 5,000 digits": (
        {"attacks": {10**5000: advex.FGSM()}},
        InvalidType,
        "thousands of digits",
    ),
    "diagnose": ({"diagnose": "no"}, InvalidType, "diagnose must be True or False"),
    "progress": ({"progress": 3}, InvalidType, "progress must be"),
    "keep": ({"keep": np.zeros(3)}, InvalidInput, "keep must be"),
    "engine": ({"engine": ["ray"]}, InvalidInput, "engine must be"),
    "workers": ({"workers": 0}, InvalidInput, "workers"),
    "names": (
        {"attacks": {1: advex.FGSM(), "1": advex.BIM()}},
        InvalidType,
        "names of attacks must be text",
    ),
    "surrogate": (
        {"attacks": {"\ud800": advex.FGSM()}},
        InvalidType,
        "names of attacks must be text",
    ),
    "label in a later block": (
        {"data": (data()[0], np.where(np.arange(60) == 50, 2, data()[1]))},
        InvalidInput,
        "classes",
    ),
    "later row outside": (
        {"data": (np.where(np.arange(60)[:, None] == 50, 2, data()[0]), data()[1])},
        InvalidInput,
        "box",
    ),
    "later NaN": (
        {"data": (np.where(np.arange(60)[:, None] == 50, np.nan, data()[0]), data()[1])},
        InvalidInput,
        "NaN",
    ),
    "soft labels": ({"data": (data()[0], data()[1] + 0.5)}, InvalidInput, "class numbers"),
    "shape": (
        {"data": (np.zeros((4, 5), "float32"), [0, 1, 0, 1])},
        InvalidInput,
        "takes x of shape",
    ),
    "no limit": ({"budget": advex.Linf()}, InvalidInput, "needs a limit"),
    "no gradient": (
        {"model": advex.BlackBox(lambda x: x[:, :2], 2), "attacks": advex.PGD()},
        GradientUnavailable,
        "SquareAttack",
    ),
    "answers": (
        {"model": keras.Sequential([flat(), keras.layers.Reshape((2, 1))])},
        InvalidInput,
        "answer",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_refused_call_leaves_no_file(name, tmp_path):
    settings, error, words = BAD[name]
    run = tmp_path / "run.advex"
    with pytest.raises(error, match=words):
        evaluated(run, **settings)
    assert list(tmp_path.iterdir()) == []


@dataclass(frozen=True, kw_only=True)
class Liar(advex.Attack):
    """Refused in the middle of its first call."""

    steps: int = 1

    def init(self, problem):
        raise InvalidInput("not for this model")

    def step(self, problem, x, memory):
        return x, memory


def test_a_refusal_by_the_first_attack_leaves_no_file_and_a_later_one_keeps_it(tmp_path):
    run = tmp_path / "run.advex"
    with pytest.raises(InvalidInput, match="not for this model"):
        evaluated(run, Liar())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidInput, match="not for this model"):
        evaluated(run, [advex.FGSM(), Liar()])
    assert Evaluation.load(run).names == ["FGSM", "Liar"]
    with pytest.raises(InvalidInput, match="Changed: attacks"):
        evaluated(run, advex.FGSM())


NAMES = [
    (":memory:", InvalidInput, "run=None keeps nothing"),
    (Path(":memory:"), InvalidInput, "run=None keeps nothing"),
    ("file:x?mode=memory", InvalidInput, "run=None keeps nothing"),
    ("", InvalidInput, "name of a file"),
    ("a\0b", InvalidInput, "name of a file"),
    ("\ud800", InvalidInput, "name of a file"),
    (".", InvalidInput, "is a folder"),
    ("..", InvalidInput, "is a folder"),
    ("missing/run.advex", InvalidInput, "no folder|no such"),
    (b"run.advex", InvalidType, "name of a file"),
    (3, InvalidType, "name of a file"),
    (["run.advex"], InvalidType, "name of a file"),
]


@pytest.mark.parametrize(("run", "error", "words"), NAMES, ids=repr)
def test_names_that_are_no_files(run, error, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for use in (evaluated, Evaluation.load):
        with pytest.raises(error, match=words):
            use(run)
    with pytest.raises(InvalidType, match="name of a file"):
        Evaluation.load(None)
    os.mkfifo("pipe")
    with pytest.raises(InvalidInput, match="device or a pipe"):
        evaluated("pipe")
    assert [entry.name for entry in tmp_path.iterdir()] == ["pipe"]


def test_any_path_is_a_name(tmp_path):
    class Named:
        def __fspath__(self):
            return str(tmp_path / "run.advex")

    assert Evaluation.load(Named() if evaluated(Named()).finished else None).finished


def test_a_batch_larger_than_all_memory(tmp_path):
    assert evaluated(batch_size=2**31 - 1).robust_accuracy == evaluated().robust_accuracy


# The user's own arrays.


def scribbled(data, mode, **settings):
    """An evaluation while somebody overwrites the data after the first block."""
    x, labels = data

    def scribble(done, total, held):
        x[:], labels[:] = 0.5, 1 - labels[:]

    arrays = data if mode == "arrays" else [(x, labels)]
    return evaluated(data=arrays, progress=scribble, keep="success", **settings)


def test_what_others_do_to_arrays_changes_nothing(tmp_path):
    expected = evaluated(tmp_path / "one.advex", keep="success")
    found = scribbled(data(), "arrays", run=tmp_path / "two.advex")
    for name in ("hashes", "label", "robust_accuracy", "clean_accuracy"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    assert evaluated(tmp_path / "two.advex", keep="success").finished  # with the data as they were


def test_of_arrays_too_large_to_be_copied_a_change_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "COPIED", 0)
    assert evaluated().robust_accuracy == evaluated(data=[data()]).robust_accuracy
    with pytest.raises(InvalidInput, match="rows 16 to 31 of data were changed by somebody"):
        scribbled(data(), "arrays", run=tmp_path / "run.advex")
    assert Evaluation.load(tmp_path / "run.advex").examples == 16
    assert evaluated(tmp_path / "run.advex", keep="success").finished


def test_an_attack_that_scribbles_is_no_danger(monkeypatch):
    x, labels = data()
    real = runner.attacked

    def scribble(plan, name, points, before, *rest):
        x[:] = 0.25
        labels[:] = 0
        return real(plan, name, points, before, *rest)

    expected = evaluated()
    monkeypatch.setattr(runner, "attacked", scribble)
    found = evaluated(data=(x, labels))
    assert (found.matrix == expected.matrix).all() and (found.label == expected.label).all()
    assert found.hashes == expected.hashes


def test_a_stream_that_uses_one_buffer():
    x, labels = data()

    def batches():
        buffer, names = np.zeros((10, 12), "float32"), np.zeros(10, int)
        for start in range(0, 60, 10):
            buffer[:], names[:] = x[start : start + 10], labels[start : start + 10]
            yield buffer, names

    found, expected = evaluated(data=batches(), block=25), evaluated(block=25)
    assert (found.matrix == expected.matrix).all() and found.hashes == expected.hashes
    blocks = list(Source((x, labels)).blocks(25))
    digests = [block.digest for block in blocks]
    x[:] = 0
    assert [block.digest for block in Source((data()[0], labels)).blocks(25)] == digests


# Counts.


def test_a_black_box_gets_a_thousand_queries(monkeypatch):
    named = named_attacks(None, advex.BlackBox(lambda x: x[:, :2], classes=2), BUDGET)
    assert named == {"SquareAttack": advex.SquareAttack(steps=1000)}
    model = named_attacks(None, advex.Classifier(advex.testing.linear_model()), BUDGET)
    assert model["SquareAttack"] == advex.SquareAttack(steps=1000)


def by_hand(examples, verdicts, blocks, work):
    """A run of two attacks: (label, prediction) of each example; status and distance by each
    attack, None where it was wrong.
    """
    store = Store(None, write=True)
    with store.transaction():
        store.insert("attacks", [(0, "one", "one()"), (1, "two", "two()")])
        store.insert(
            "blocks",
            [(number, first, rows, "", rows, 0.0) for number, (first, rows) in enumerate(blocks)],
        )
        rows = [(label, said, "correct" if label == said else "wrong") for label, said in examples]
        store.insert(
            "examples",
            [
                (number, label, said, 0.9, status)
                for number, (label, said, status) in enumerate(rows)
            ],
        )
        store.insert("work", [(block, attack, 0, 0.0, "[]") for block, attack in work])
        entries = [
            (attack, number, *entry)
            for attack, own in enumerate(verdicts)
            for number, entry in own.items()
        ]
        store.insert("verdicts", [(*entry, 0, 0.5, 1, 2, 0.0, "", None) for entry in entries])
        identity = {"budget": "Linf(0.1)", "seed": 0, "keep": "none"}
        store.state(
            {
                "identity": identity,
                "norm": "Linf",
                "epsilon": 0.1,
                "classes": None,
                "finished": False,
            }
        )
    return Evaluation(None, store)


@pytest.fixture
def counted():
    """Ten examples in two whole blocks and two in one that the second attack has not seen.

    Class 0: wrong, held, held, broken. Class 1: wrong, broken by the second, undecided, undecided.
    Class 2: held, broken by both.
    """
    examples = [
        (0, 1),
        (0, 0),
        (0, 0),
        (0, 0),
        (1, 0),
        (1, 1),
        (1, 1),
        (1, 1),
        (2, 2),
        (2, 2),
        (0, 1),
        (2, 2),
    ]
    held = ("held", None)
    one = {
        1: held,
        2: held,
        3: ("broken", 0.04),
        5: held,
        6: ("fragile", None),
        7: held,
        8: held,
        9: ("broken", 0.08),
    }
    two = {
        1: held,
        2: held,
        3: held,
        5: ("broken", 0.02),
        6: held,
        7: ("invalid", None),
        8: held,
        9: ("broken", 0.06),
    }
    one[11] = ("broken", 0.01)  # of the block that is not finished
    return by_hand(
        examples, [one, two], [(0, 5), (5, 5), (10, 2)], [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
    )


def test_accuracies_count_the_wrong_ones(counted):
    one, two = counted.attacks
    assert (one.attacked, one.broken, one.held, one.fragile, one.invalid, one.alone) == (
        8,
        2,
        5,
        1,
        0,
        1,
    )
    assert (two.attacked, two.broken, two.held, two.fragile, two.invalid, two.alone) == (
        8,
        2,
        5,
        0,
        1,
        1,
    )
    assert one.accuracy == two.accuracy == 5 / 10  # not of the eight that were attacked
    assert (one.median_distance, two.median_distance) == (pytest.approx(0.06), pytest.approx(0.04))
    assert (one.gradients, one.queries) == (8, 16)


def test_what_is_not_finished_is_in_no_figure(counted):
    assert (counted.examples, len(counted.label)) == (10, 12)
    assert counted.clean_accuracy == 8 / 10 and counted.robust_accuracy == 3 / 10
    assert counted.undecided == 2 and counted.invalid == 0
    assert not counted.matrix[:, 10:].any() and not counted.broken[10:].any()
    assert counted.matrix.sum() == 4 and counted.passes["gradients"] == 16
    assert [row["verdict"] for row in counted.rows()][10:] == ["unfinished", "unfinished"]


def test_undecided_rows_are_right_and_do_not_hold(counted):
    classes = [
        (entry.label, entry.examples, entry.clean_accuracy, entry.robust_accuracy)
        for entry in counted.per_class
    ]
    assert classes == [(0, 4, 3 / 4, 2 / 4), (1, 4, 3 / 4, 0), (2, 2, 1.0, 1 / 2)]
    assert counted.curve.at(0) == 8 / 10
    assert counted.curve.at(0.03) == 7 / 10
    # the two that are undecided go at the limit
    assert counted.curve.at(0.1) == counted.robust_accuracy == 3 / 10
    assert counted.curve.at(0.0999) == 5 / 10
    low, high = counted.interval  # Wilson's for 3 of 10
    assert (low, high) == (pytest.approx(0.10779, abs=1e-4), pytest.approx(0.60322, abs=1e-4))


def test_figures_of_json_are_those_of_the_run(whole):
    told = json.loads(whole[1][0])
    assert told["robust_accuracy"] == pytest.approx(
        sum(entry["robust_accuracy"] * entry["examples"] for entry in told["classes"]) / 120
    )
