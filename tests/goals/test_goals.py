"""What goals say of an answer, and what attacks make of it."""

import warnings
from dataclasses import dataclass

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

import advex
from advex.driver.judging import most_promising
from advex.errors import AdvexError, AdvexWarning, InvalidInput, InvalidType
from advex.goals import FRAGILE
from advex.testing import walk

pytestmark = pytest.mark.backends


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AdvexWarning)
        yield


def told(goal, answer):
    """Margin and whether it is reached, of arrays."""
    rows = {name: ops.convert_to_tensor(values) for name, values in goal.rows().items()}
    now, tensor = goal.bound(rows), ops.convert_to_tensor(answer)
    return (
        np.asarray(ops.convert_to_numpy(value))
        for value in (now.margin(tensor), now.reached(tensor))
    )


def answers(shape, seed):
    """Whole numbers: ties are frequent, and nothing is rounded."""
    return np.random.default_rng(seed).integers(-3, 4, size=shape).astype("float32")


def demand(goal, answer, expected):
    margin, reached = told(goal, answer)
    assert ((margin > 0) == expected).all(), (margin, expected)
    assert (reached == expected).all()
    return margin


SEEDS = st.integers(0, 2**16)
FEW = settings(max_examples=25, deadline=None)


# A margin above 0 is what NumPy calls a success


@FEW
@given(SEEDS, st.sampled_from(["any", "all", [0], [1, 2]]), st.booleans())
def test_labels_flip(seed, flip, keep):
    z = answers((6, 3), seed)
    labels = np.random.default_rng(seed + 1).integers(0, 2, size=(6, 3))
    flipped = np.where(labels == 1, z < 0, z > 0)
    stays = np.where(labels == 1, z > 0, z < 0)
    if flip == "any":
        expected = flipped.any(axis=1)
    else:
        chosen = [0, 1, 2] if flip == "all" else flip
        rest = [label for label in range(3) if label not in chosen]
        expected = flipped[:, chosen].all(axis=1)
        expected &= stays[:, rest].all(axis=1) | (not keep)
    demand(advex.MultiLabel(labels, flip=flip, keep=keep), z, expected)


@FEW
@given(SEEDS, st.integers(1, 4))
def test_a_label_leaves_the_likeliest(seed, k):
    z = answers((6, 5), seed)
    labels = np.random.default_rng(seed + 1).integers(0, 5, size=6)
    above = (z > z[np.arange(6), labels][:, None]).sum(axis=1)
    demand(advex.TopK(labels, k=k), z, above >= k)


@FEW
@given(SEEDS, st.sampled_from(["off", "above", "below"]), st.booleans(), st.integers(1, 3))
def test_a_number_moves(seed, side, each, size):
    z, generator = answers((6, size), seed), np.random.default_rng(seed + 1)
    values = generator.integers(-2, 3, size=(6, size)).astype("float32")
    limit = generator.integers(0, 3, size=6).astype("float32") if each else 1.0
    wide = limit[:, None] if each else limit
    expected = {
        "off": np.abs(z - values) > wide,
        "above": z > wide,
        "below": z < wide,
    }[side].any(axis=1)
    demand(advex.Regression(values, **{side: limit}), z, expected)


@FEW
@given(SEEDS, st.sampled_from([0.01, 0.3, 0.5, 0.9, 1.0]), st.booleans(), st.booleans())
def test_a_share_of_the_pixels_is_wrong(seed, share, targeted, ignores):
    z, generator = answers((5, 2, 3, 3), seed), np.random.default_rng(seed + 1)
    labels = generator.integers(0, 3, size=(5, 2, 3))
    counts = np.ones(labels.shape, bool)
    if ignores:
        counts = generator.uniform(size=labels.shape) < 0.7
        labels = np.where(counts, labels, 255)
    own = np.take_along_axis(z, np.where(counts, labels, 0)[..., None], axis=3)[..., 0]
    other = np.where(np.arange(3) == np.where(counts, labels, 0)[..., None], -np.inf, z).max(3)
    across = ((own > other) if targeted else (other > own)) & counts
    number = counts.reshape(5, -1).sum(axis=1)
    wrong = across.reshape(5, -1).sum(axis=1)
    expected = (number > 0) & (wrong >= share * number - 1e-9)
    goal = advex.Segmentation(labels, share=share, targeted=targeted)
    demand(goal, z, expected)
    other_ignore = advex.Segmentation(
        np.where(counts, labels, 77), share=share, ignore=77, targeted=targeted
    )
    one, two = list(told(goal, z)), list(told(other_ignore, z))
    np.testing.assert_array_equal(one, two)


@FEW
@given(SEEDS)
def test_any_and_all_are_or_and_and(seed):
    z, generator = answers((8, 4), seed), np.random.default_rng(seed + 1)
    labels, others = generator.integers(0, 4, size=(2, 8))
    parts = [advex.Untargeted(labels), advex.TopK(others, k=2)]
    each = [list(told(part, z)) for part in parts]
    either = demand(advex.AnyOf(*parts), z, (each[0][0] > 0) | (each[1][0] > 0))
    both = demand(advex.AllOf(*parts), z, (each[0][0] > 0) & (each[1][0] > 0))
    np.testing.assert_array_equal(either, np.maximum(each[0][0], each[1][0]))
    np.testing.assert_array_equal(both, np.minimum(each[0][0], each[1][0]))


def test_a_margin_is_that_of_the_deciding_pixel_exactly():
    """However far the others are: nothing is lost in their mean."""
    z = np.zeros((1, 2, 2, 2), "float32")
    z[..., 0] = [[1e6, 1e6], [3e5, 0]]
    z[0, 1, 1] = [-1e-3, 1e-3]
    margin, _ = told(advex.Segmentation(np.zeros((1, 2, 2), int), share=0.25), z)
    assert margin[0] == np.float32(2e-3)
    nothing = advex.Segmentation(np.full((1, 2, 2), 255), share=0.25)
    assert [*told(nothing, z)][1].tolist() == [False]


# Attacks


def net(out, features=6, seed=0, places=False):
    """A small smooth network with fixed random weights; ``out`` makes the outputs of the hidden
    layer.
    """
    shape = (3, 3, 1) if places else (features,)
    hold = keras.Input(shape)
    layers = keras.layers
    hidden = (
        layers.Conv2D(5, 3, padding="same", activation="tanh")(hold)
        if places
        else layers.Dense(7, activation="tanh")(hold)
    )
    model = keras.Model(hold, out(hidden))
    generator = np.random.default_rng(seed)
    model.set_weights(
        [generator.normal(size=w.shape).astype("float32") for w in model.get_weights()]
    )
    x = generator.uniform(size=(9, *shape)).astype("float32")
    return model, x


def said(model, x):
    """What the model itself answers, by plain Keras."""
    answer = model(ops.convert_to_tensor(x), training=False)
    return keras.tree.map_structure(lambda leaf: np.asarray(ops.convert_to_numpy(leaf)), answer)


def heads(h):
    return {
        "age": keras.layers.Dense(1, name="years")(h),
        "sex": keras.layers.Dense(3, name="kind")(h),
    }


def test_any_of_breaks_what_each_breaks_alone():
    model, x = net(heads)
    answer = said(model, x)
    old = advex.Output("age", advex.Regression(answer["age"], off=0.25))
    kind = advex.Output("sex", advex.Untargeted(answer["sex"].argmax(1)))
    for attack in (advex.PGD(steps=5), advex.Verdict()):
        alone = [attack(model, x, goal, advex.Linf(0.04)).success for goal in (old, kind)]
        both = attack(model, x, advex.AnyOf(old, kind), advex.Linf(0.04)).success
        assert 0 < both.sum() < len(x)
        assert (both >= (alone[0] | alone[1])).all()


def test_any_of_goes_up_and_down_about_an_output():
    """At the value itself no slope tells which way is open: the box closes one of them."""
    hold = keras.Input((4,))
    dense = keras.layers.Dense(1)
    model = keras.Model(hold, {"a": dense(hold), "b": keras.layers.Dense(2)(hold)})
    dense.set_weights([np.ones((4, 1), "float32"), np.zeros(1, "float32")])
    x = np.repeat(np.array([[0.95], [0.05]], "float32"), 4, axis=1)
    off = advex.Output("a", advex.Regression(off=0.5))
    for goal in (off, advex.AnyOf(off), advex.AnyOf(off, advex.Output("b", advex.TopK([0, 0], 1)))):
        assert advex.BIM(steps=4)(model, x, goal, advex.Linf(0.2)).success.all()


def test_the_models_own_answers_of_several_outputs():
    """Goals that wait for the model's answer, beside others."""
    layers = keras.layers
    model, x = net(
        lambda h: {"map": layers.Conv2D(3, 1)(h), "n": layers.Dense(1)(layers.Flatten()(h))},
        places=True,
    )
    for kind in (advex.AnyOf, advex.AllOf):
        goal = kind(
            advex.Output("map", advex.Segmentation(share=0.3)),
            advex.Output("n", advex.Regression(off=0.1)),
        )
        result = advex.PGD(steps=10)(model, x, goal, advex.Linf(0.3))
        assert result.success.any()
        before, after = said(model, x), said(model, result.x)
        wrong = (after["map"].argmax(3) != before["map"].argmax(3)).reshape(len(x), -1).sum(1)
        far = np.abs(after["n"] - before["n"])[:, 0] > 0.1
        both = (wrong >= 3, far)
        expected = both[0] | both[1] if kind is advex.AnyOf else both[0] & both[1]
        assert expected[result.success].all()
    twice = advex.AnyOf(
        advex.Segmentation(share=0.3), advex.Segmentation(said(model, x)["map"].argmax(3))
    )
    alone = keras.Model(model.inputs, model.outputs[0])
    assert advex.PGD(steps=10)(alone, x, twice, advex.Linf(0.3)).success.any()


@dataclass(frozen=True, eq=False)
class Louder(advex.Segmentation):
    """A goal derived from one that may wait for the model's answer."""

    def margin(self, logits):
        return advex.Segmentation.margin(self, logits) + 0.0


def test_what_is_derived_from_an_open_goal_stays_what_it_is():
    model, x = net(lambda h: keras.layers.Conv2D(3, 1)(h), places=True)
    result = advex.PGD(steps=3)(model, x, Louder(share=0.5), advex.Linf(0.1))
    assert type(result.goal) is Louder and result.goal.share == 0.5


def test_pixels_that_do_not_count_change_nothing():
    model, x = net(lambda h: keras.layers.Conv2D(3, 1)(h), places=True)
    labels = said(model, x).argmax(3)
    ignored = np.random.default_rng(1).uniform(size=labels.shape) < 0.4
    found = [
        advex.PGD(steps=6)(
            model,
            x,
            advex.Segmentation(np.where(ignored, label, labels), ignore=label),
            advex.Linf(0.05),
        )
        for label in (255, 99, -1)
    ]
    for other in found[1:]:
        for name in ("x", "attempt", "success", "margin", "gradients"):
            np.testing.assert_array_equal(getattr(found[0], name), getattr(other, name))


GOALS = {
    "labels": (lambda h: keras.layers.Dense(3)(h), lambda z: advex.MultiLabel(z > 0, flip=[0, 1])),
    "top": (lambda h: keras.layers.Dense(4)(h), lambda z: advex.TopK(z.argmax(1), k=2)),
    "number": (lambda h: keras.layers.Dense(2)(h), lambda z: advex.Regression(z + 0.01, off=0.4)),
    "above": (lambda h: keras.layers.Dense(1)(h), lambda z: advex.Regression(above=z[:, 0] + 0.2)),
}


@pytest.mark.parametrize("name", GOALS)
def test_rows_do_not_depend_on_their_order(name):
    out, of = GOALS[name]
    model, x = net(out)
    z, order = said(model, x), np.random.default_rng(2).permutation(len(x))
    for until in ("success", "end"):
        one = advex.PGD(steps=6)(model, x, of(z), advex.Linf(0.05), until=until)
        two = advex.PGD(steps=6)(model, x[order], of(z[order]), advex.Linf(0.05), until=until)
        np.testing.assert_array_equal(one.success[order], two.success)
        np.testing.assert_allclose(one.attempt[order], two.attempt, atol=1e-5)


@pytest.mark.parametrize("name", GOALS)
def test_to_the_end_the_worst_point_is_kept(name):
    """Nothing that a plain loop visits is worse."""
    out, of = GOALS[name]
    model, x = net(out)
    goal, attack, budget = of(said(model, x)), advex.PGD(steps=6), advex.Linf(0.05)
    single = goal.branches(4) == 0
    result = attack(model, x, goal, budget, until="end")
    assert (result.gradients == 6 * (1 if single else 2)).all()
    assert (result.attempt != x).any(axis=1).all()
    margin, _ = told(goal.check(len(x), None), said(model, result.attempt))
    np.testing.assert_allclose(margin, result.margin, atol=1e-5)
    if single:
        for point in walk(attack, model, x, goal, budget).points:
            margin, reached = told(goal, said(model, point))
            assert (result.margin >= margin - 1e-5).all()
            assert (result.success >= reached).all()


@pytest.mark.parametrize("name", ["labels", "top", "above"])
def test_what_holds_came_as_far_as_a_plain_loop(name):
    out, of = GOALS[name]
    model, x = net(out)
    goal, budget = of(said(model, x)), advex.Linf(0.02)
    for attack in (advex.PGD(steps=5), advex.APGD(steps=6)):
        result = attack(model, x, goal, budget)
        held = ~result.success
        assert held.any()
        last = walk(attack, model, x, goal, budget).points[-1]
        np.testing.assert_allclose(result.attempt[held], last[held], atol=1e-6)
        margin, _ = told(goal, said(model, last))
        np.testing.assert_allclose(result.margin[held], margin[held], atol=1e-5)
        assert (result.margin[held] <= FRAGILE * 100).all()


def test_ways_that_rounding_tells_apart_keep_their_order():
    ways = np.array([[1, 1 + 1e-7, 2], [1 + 1e-7, 1, 1], [3, 1, 2], [-np.inf, 0, -np.inf]])
    order = most_promising(ways, np.full(4, 1e-6))
    assert order.tolist() == [[2, 0, 1], [0, 1, 2], [0, 2, 1], [1, 0, 2]]


@pytest.mark.parametrize("attack", [advex.PGD(steps=2), advex.BIM(steps=2)])
def test_a_row_goes_the_same_way_in_every_batch(attack):
    """At the value itself both ways are equally promising, but for rounding."""
    model, x = net(lambda h: keras.layers.Dense(1)(h))
    goal, budget = advex.Regression(said(model, x), off=0.02), advex.Linf(0.1)
    whole = attack(model, x, goal, budget)
    assert whole.success.all()
    for row in range(len(x)):
        alone = attack(model, x[[row]], goal.part([row]), budget)
        np.testing.assert_allclose(alone.x[0], whole.x[row], atol=1e-5)


SEARCHES = {
    "FMN": advex.FMN(steps=8),
    "DDN": advex.DDN(steps=8),
    "DeepFool": advex.DeepFool(steps=8),
    "FAB": advex.FAB(steps=8),
    "ALMA": advex.ALMA(steps=12),
    "PDPGD": advex.PDPGD(steps=12),
}


@pytest.mark.parametrize("levels", [False, True])
@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_for_the_smallest_ends_inside_its_limit(name, levels):
    """A row that holds has the margin of its attempt, not above 0; or none, where the last point
    was outside of the limit and was pulled inside.
    """
    model, x = net(lambda h: keras.layers.Conv2D(3, 1)(h), places=True)
    labels, budget = said(model, x).argmax(3), advex.L2(0.06)
    x = (x * 255).round().astype("uint8") if levels else x
    goal = advex.Segmentation(labels, share=0.4)
    result = SEARCHES[name](model, x, goal, budget)
    held = ~result.success
    assert held.any()
    shown = result.attempt.astype("float32") / np.float32(255 if levels else 1)
    margin, reached = told(goal, said(model, shown))
    known = ~np.isnan(result.margin)
    assert known[~held].all()
    np.testing.assert_allclose(result.margin[known], margin[known], atol=1e-5)
    assert not reached[held & known].any()
    assert (result.margin[held & known] <= 1e-5).all()
    assert advex.testing.exact.inside(result.attempt, x, budget)


# A goal of one's own


@dataclass(frozen=True, eq=False)
class Climb(advex.Goal):
    """The sum of all that is answered exceeds a limit."""

    limit: np.ndarray

    def margin(self, logits):
        leaves = keras.tree.flatten(logits)
        flat = [ops.reshape(leaf, (ops.shape(leaf)[0], -1)) for leaf in leaves]
        return sum(ops.sum(leaf, axis=1) for leaf in flat) - self.limit


@dataclass(frozen=True, eq=False)
class RawClimb(Climb):
    reads = "raw"


class Pair(keras.Model):
    """A subclassed model that answers with a list."""

    def __init__(self):
        super().__init__()
        self.one = keras.layers.Dense(2, kernel_initializer="ones")
        self.two = keras.layers.Dense(3, kernel_initializer="ones")

    def call(self, x):
        return [self.one(x), self.two(x) ** 2]


OWN = {
    "logits": (lambda: net(lambda h: keras.layers.Dense(4)(h)), Climb),
    "map": (lambda: net(lambda h: keras.layers.Conv2D(3, 1)(h), places=True), Climb),
    "number": (lambda: net(lambda h: keras.layers.Dense(1)(h)), RawClimb),
    "dict": (lambda: net(heads), Climb),
    "raw dict": (lambda: net(heads), RawClimb),
    "list": (lambda: (Pair(), net(heads)[1]), Climb),
}
ATTACKS = {
    "PGD": (advex.PGD(), advex.Linf(0.1)),
    "APGD": (advex.APGD(), advex.Linf(0.1)),
    "FMN": (advex.FMN(), advex.Linf()),
    "SquareAttack": (advex.SquareAttack(), advex.Linf(0.1)),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("name", OWN)
def test_a_goal_of_ones_own_on_every_kind_of_model(name, attack):
    make, kind = OWN[name]
    model, x = make()
    before = keras.tree.flatten(said(model, x))
    total = sum(leaf.reshape(len(x), -1).sum(axis=1) for leaf in before)
    run, budget = ATTACKS[attack]
    result = run(model, x, kind(total + 0.05), budget)
    assert result.success.any()
    after = keras.tree.flatten(said(model, result.x))
    ends = sum(leaf.reshape(len(x), -1).sum(axis=1) for leaf in after)
    near = 1e-5 * np.abs(before[0]).max() * before[0][0].size  # sums in another order
    assert (ends > total + 0.05 - near)[result.success].all()


# Errors, and their recipes


def test_labels_of_another_shape():
    for labels in ([1, 0], [[0, 2]], [["a", "b"]], np.zeros((2, 0))):
        with pytest.raises(AdvexError, match="MultiLabel needs labels"):
            advex.MultiLabel(labels)
    for labels in ([1, 2], 3, [[0.5, 1]]):
        with pytest.raises(InvalidInput, match="Segmentation needs a class number"):
            advex.Segmentation(labels)
    model, x = net(lambda h: keras.layers.Dense(3)(h))
    z = said(model, x)
    for goal, words in (
        (advex.MultiLabel(np.zeros((8, 3))), "9 examples"),
        (advex.MultiLabel(np.zeros((9, 4))), "4 labels for each"),
        (advex.MultiLabel(flip=[3]), "flip names label 3"),
        (advex.Regression(np.zeros(8), off=1), "8 entries"),
        (advex.Regression(np.zeros((9, 2)), off=1), "2 values for each"),
        (advex.TopK(z.argmax(1), k=3), "k must be at most 2"),
        (advex.Segmentation(np.zeros((9, 3, 3), int)), "Segmentation needs scores at each place"),
    ):
        with pytest.raises(InvalidInput, match=words):
            advex.PGD()(model, x, goal, advex.Linf(0.1))
    with pytest.raises(InvalidInput, match="flip names label 5"):
        advex.MultiLabel(np.zeros((2, 3)), flip=[5])
    with pytest.raises(InvalidInput, match="each label once"):
        advex.MultiLabel(np.zeros((2, 3)), flip=[1, 1])
    for sides in ({}, {"off": 1, "above": 2}, {"above": 1, "below": 0}):
        with pytest.raises(InvalidInput, match="one of off=, above= and below="):
            advex.Regression([1.0], **sides)
    with pytest.raises(InvalidType, match="must hold numbers"):
        advex.Regression([1.0], off="far")


def typed(message, start, end, **names):
    """What a recipe in a message is, when typed."""
    code = message[message.index(start) :]
    code = code[: code.index(end) + len(end)]
    return eval(code, {"advex": advex, "keras": keras, "np": np, **names})


def refused(model, x, goal):
    with pytest.raises(InvalidInput) as caught:
        advex.PGD(steps=3)(model, x, goal, advex.Linf(0.2))
    return str(caught.value)


class Named(keras.Model):
    """A subclassed model that answers with a dict."""

    def __init__(self):
        super().__init__()
        self.one = keras.layers.Dense(3)
        self.two = keras.layers.Dense(3)

    def call(self, x):
        return {"b": self.one(x), "a": self.two(x)}


@pytest.mark.parametrize("kind", ["functional dict", "functional list", "dict", "list"])
def test_several_outputs_want_a_choice(kind):
    three = keras.layers.Dense(3), keras.layers.Dense(3)
    model = {
        "functional dict": lambda: net(lambda h: {"a": three[0](h), "b": three[1](h)})[0],
        "functional list": lambda: net(lambda h: [three[0](h), three[1](h)])[0],
        "dict": Named,
        "list": Pair,
    }[kind]()
    x = net(heads)[1]
    said(model, x)
    labels = np.zeros(len(x), int)
    message = refused(model, x, labels)
    chosen = typed(message, "advex.Classifier(", ")", model=model)
    assert len(advex.PGD(steps=3)(chosen, x, labels, advex.Linf(0.2))) == len(x)
    both = typed(message, "advex.AnyOf(", "labels))", model=model, labels=labels)
    assert len(advex.PGD(steps=3)(model, x, both, advex.Linf(0.2))) == len(x)
    with pytest.raises(InvalidInput, match="no output 'c'"):
        advex.PGD(steps=3)(model, x, advex.Output("c", labels), advex.Linf(0.2))


def test_a_softmax_is_no_model_of_several_labels():
    model, x = net(lambda h: keras.layers.Dense(3, activation="softmax")(h))
    message = refused(model, x, advex.MultiLabel(np.eye(3, dtype=int)[np.zeros(9, int)]))
    labels = said(model, x).argmax(1)
    for start, end in (("advex.Untargeted(", ")"),):
        goal = typed(message, start, end, labels=labels)
        assert len(advex.PGD(steps=3)(model, x, goal, advex.Linf(0.2))) == len(x)


def test_classes_first():
    layers = keras.layers
    model, x = net(lambda h: layers.Permute((3, 1, 2))(layers.Conv2D(4, 1)(h)), places=True)
    labels = said(model, x).argmax(1)
    message = refused(model, x, advex.Segmentation(labels))
    assert "classes first" in message
    made = typed(message, "keras.Sequential(", "))])", model=model, x=x)
    result = advex.PGD(steps=3)(made, x, advex.Segmentation(labels, share=0.1), advex.Linf(0.5))
    assert result.success.any() and not result.margin_before[~result.success].max(initial=-1) > 0
    np.testing.assert_array_equal(result.before, labels)


def test_a_map_is_no_class():
    model, x = net(lambda h: keras.layers.Conv2D(3, 1)(h), places=True)
    labels = said(model, x).argmax(3)
    for goal in (None, np.zeros(len(x), int)):
        message = refused(model, x, goal)
        made = typed(message, "advex.Segmentation(labels", ")", labels=labels)
        assert len(advex.PGD(steps=3)(model, x, made, advex.Linf(0.2))) == len(x)
    with pytest.raises(InvalidInput, match=r"advex.Segmentation\(labels\)"):
        advex.PGD()(model, x, labels, advex.Linf(0.2))
