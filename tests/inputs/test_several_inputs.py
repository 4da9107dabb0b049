"""Several inputs: one attacked, two attacked, a layer's output attacked; on functional and
subclassed models.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops

import advex
from advex.errors import InvalidInput, InvalidType

ROWS = 12


def data():
    generator = np.random.default_rng(0)
    return {
        "image": generator.random((ROWS, 6, 6, 1)).astype("float32"),
        "meta": generator.normal(size=(ROWS, 4)).astype("float32"),
        "audio": generator.random((ROWS, 12)).astype("float32"),
    }


def functional(named):
    keras.utils.set_random_seed(1)
    image = keras.Input((6, 6, 1), name="image")
    meta, audio = keras.Input((4,), name="meta"), keras.Input((12,), name="audio")
    joined = layers.Concatenate()([layers.Flatten()(image), meta, audio])
    hidden = layers.Dense(8, activation="relu", name="hidden")(joined)
    scores = layers.Dense(3, activation="softmax", name="scores")(hidden)
    inputs = {"image": image, "meta": meta, "audio": audio} if named else [image, meta, audio]
    return keras.Model(inputs, scores)


class Subclassed(keras.Model):
    def __init__(self, sequence):
        super().__init__()
        self.flat, self.join = layers.Flatten(), layers.Concatenate()
        self.hidden = layers.Dense(8, activation="relu", name="hidden")
        self.scores, self.sequence = layers.Dense(3), sequence

    def call(self, x):
        image, meta, audio = x if self.sequence else (x["image"], x["meta"], x["audio"])
        return self.scores(self.hidden(self.join([self.flat(image), meta, audio])))


def subclassed(sequence):
    keras.utils.set_random_seed(1)
    return Subclassed(sequence)


KINDS = {
    "functional, dict": (lambda: functional(True), dict),
    "functional, list": (lambda: functional(False), list),
    "functional of a list, dict in": (lambda: functional(False), dict),
    "subclassed, dict": (lambda: subclassed(False), dict),
    "subclassed, tuple": (lambda: subclassed(True), tuple),
}


@pytest.fixture(params=KINDS)
def kind(request):
    """A model, its inputs in their structure, their names there, labels that are right."""
    make, structure = KINDS[request.param]
    model, x = make(), data()
    named = structure is dict
    given = x if named else structure(x.values())
    names = list(x) if named or "functional" in request.param else [0, 1, 2]
    labels = answer(model, given)
    return model, given, names, labels


def answer(model, x):
    return np.asarray(
        ops.convert_to_numpy(model(keras.tree.map_structure(ops.convert_to_tensor, x)))
    ).argmax(axis=1)


def parts(x):
    return dict(
        zip(("image", "meta", "audio"), x.values() if isinstance(x, dict) else x, strict=True)
    )


def size(one, other):
    return np.abs(one.astype("float64") - other).reshape(len(one), -1).max(axis=1)


def judged(result, model, labels):
    """Success is what plain Keras says about the inputs that were returned."""
    fooled = answer(model, result.x) != labels
    assert np.array_equal(fooled, result.success) and fooled.any()


@pytest.mark.backends
def test_one_input_is_attacked_and_the_others_travel_along(kind):
    model, x, (image, *_), labels = kind
    budget = advex.Linf(0.3)
    result = advex.PGD()(advex.Classifier(model, perturb=image), x, labels, budget)
    assert type(result.x) is type(x)
    before, after = parts(x), parts(result.x)
    assert all(np.array_equal(before[name], after[name]) for name in ("meta", "audio"))
    assert (size(after["image"], before["image"]) <= 0.3).all()
    judged(result, model, labels)
    # in batches where rows leave and join, and in any order, the same
    turned = keras.tree.map_structure(lambda leaf: leaf[::-1], x)
    again = advex.PGD()(
        advex.Classifier(model, perturb=image), turned, labels[::-1], budget, batch_size=5
    )
    assert np.array_equal(parts(again.x)["image"][::-1], after["image"])


@pytest.mark.backends
def test_two_inputs_are_attacked_at_once(kind):
    model, x, (image, _, audio), labels = kind
    classifier = advex.Classifier(model, perturb=[image, audio])
    before = parts(x)
    for one, other in ((advex.Linf(0.2), advex.Linf(0.1)), (advex.L2(0.9), advex.Linf(0.1))):
        result = advex.PGD()(classifier, x, labels, {image: one, audio: other})
        after = parts(result.x)
        assert np.array_equal(after["meta"], before["meta"])
        assert (size(after["audio"], before["audio"]) <= 0.1).all()
        if isinstance(one, advex.Linf):
            assert (size(after["image"], before["image"]) <= 0.2).all()
        else:
            moved = (after["image"].astype("float64") - before["image"]).reshape(ROWS, -1)
            assert (np.sqrt((moved**2).sum(axis=1)) <= 0.9).all()
        assert size(after["audio"], before["audio"]).any()
        judged(result, model, labels)
        assert (result.distance[result.success] <= 1).all()


def test_both_pay_where_both_are_attacked():
    """More rows fall to both than to either alone; the smallest change of both is smaller."""
    model, x = functional(True), data()
    labels = answer(model, x)
    count, smallest = {}, {}
    for names in (["image"], ["audio"], ["image", "audio"]):
        classifier = advex.Classifier(model, perturb=names)
        budget = {name: advex.Linf(0.06) for name in names}
        count[tuple(names)] = advex.PGD()(classifier, x, labels, budget).success.sum()
        free = {name: advex.Linf() for name in names}
        found = advex.MinimumNorm()(classifier, x, labels, free)
        smallest[tuple(names)] = np.median(found.distance)
    assert count["image", "audio"] >= max(count["image",], count["audio",])
    assert smallest["image", "audio"] < min(smallest["image",], smallest["audio",])


@pytest.mark.backends
def test_the_output_of_a_layer_is_attacked(kind):
    model, x, _, labels = kind
    with pytest.raises(InvalidInput, match="box=") as caught:
        advex.PGD()(advex.Classifier(model, perturb="hidden"), x, labels, advex.L2(0.3))
    recipe = str(caught.value).split("model = ")[1].split(", with")[0]
    classifier = eval(recipe, {"advex": advex, "model": model})  # the recipe of the message
    result = advex.PGD()(classifier, x, labels, advex.L2(0.8))
    assert result.success.any() and result.x.shape == (ROWS, 8)
    assert any("the output of the layer 'hidden'" in note for note in result.info["notes"])
    # what follows the layer, by hand
    scores = model.get_layer("scores") if "sub" not in model.name else model.scores
    fooled = np.asarray(ops.convert_to_numpy(scores(ops.convert_to_tensor(result.x)))).argmax(1)
    assert np.array_equal(fooled != labels, result.success)
    low, high = classifier.box
    moved = (result.x.astype("float64") - result.original) / (high - low)
    assert (np.sqrt((moved**2).sum(axis=1)) <= 0.8).all()
    with pytest.raises(InvalidInput, match="no file can hold"):
        result.save("nowhere")
    # nothing of the model is left changed
    assert "call" not in vars(model.get_layer("hidden"))


def test_text_in_embedding_space():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((7,), dtype="int32")
    words = layers.Embedding(20, 3, name="embedding", mask_zero=True)(inputs)
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(words)))
    tokens = np.random.default_rng(0).integers(0, 20, (9, 7)).astype("int32")
    labels = answer(model, tokens)
    classifier = advex.Classifier(model, box=(-1, 1), perturb="embedding")
    result = advex.MinimumNorm()(classifier, tokens, labels, advex.L2())
    assert result.success.all() and result.x.shape == (9, 7, 3)
    padding = np.broadcast_to((tokens == 0)[..., None], result.x.shape)
    assert not (result.x != result.original)[padding].any()  # masked: no gradient, no change


def test_levels_of_one_input_and_numbers_of_another():
    model, x = functional(True), data()
    x["image"] = (x["image"] * 255).astype("uint8")
    classifier = advex.Classifier(model, perturb=["image", "audio"])
    labels = answer(model, x | {"image": x["image"] / np.float32(255)})
    budget = {"image": advex.Linf(20.6 / 255), "audio": advex.Linf(0.05)}
    result = advex.PGD()(classifier, x, labels, budget)
    assert result.success.any() and result.x["image"].dtype == np.uint8
    moved = np.abs(result.x["image"].astype(int) - x["image"]).reshape(ROWS, -1).max(axis=1)
    assert moved.max() == 20 and (size(result.x["audio"], x["audio"]) <= 0.05).all()
    after = answer(model, result.x | {"image": result.x["image"] / np.float32(255)})
    assert np.array_equal(after != labels, result.success)


def test_pictures_with_what_travels_along_are_saved_and_shown(tmp_path):
    keras.utils.set_random_seed(1)
    image, meta = keras.Input((16, 16, 1), name="image"), keras.Input((4,), name="meta")
    joined = layers.Concatenate()([layers.Flatten()(image), meta])
    model = keras.Model([image, meta], layers.Dense(3)(joined))
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (6, 16, 16, 1)).astype("uint8")
    x = {"image": pixels, "meta": generator.normal(size=(6, 4)).astype("float32")}
    labels = answer(model, [pixels / np.float32(255), x["meta"]])
    result = advex.PGD()(advex.Classifier(model, perturb="image"), x, labels, advex.Linf(8 / 255))
    files = result.save(tmp_path)
    assert len(files) == result.success.sum() > 0 and all(file.verified for file in files)
    assert result.show().width > 100 and "<img" in result._repr_html_()


def test_frozen_inputs_may_be_whole_numbers():
    image, token = keras.Input((6, 6, 1), name="image"), keras.Input((2,), name="t", dtype="int32")
    both = [layers.Flatten()(image), layers.Flatten()(layers.Embedding(9, 3)(token))]
    model = keras.Model([image, token], layers.Dense(3)(layers.Concatenate()(both)))
    x = {"image": data()["image"], "t": np.arange(24).reshape(12, 2) % 9}
    result = advex.PGD()(
        advex.Classifier(model, perturb="image"), x, answer(model, x), advex.Linf(0.4)
    )
    assert result.success.any() and np.array_equal(result.x["t"], x["t"])


def wrong_inputs():
    x = data()
    return {
        "rows that differ": (x | {"meta": x["meta"][:5]}, "a row for each example.*'meta' has 5"),
        "one that lacks": ({"image": x["image"], "meta": x["meta"]}, "lacks 'audio'"),
        "one more": (x | {"video": x["meta"]}, "'video' that the model does not have"),
        "another shape": (x | {"meta": x["audio"]}, r"takes x\['meta'\] of shape \(n, 4\)"),
        "texts": (x | {"meta": np.array(["a"] * ROWS)}, r"x\['meta'\] must be an array of numbers"),
        "channels": (x | {"image": x["image"][..., 0]}, r"x\['image'\]\[..., None\]"),
        "outside": (x | {"image": x["image"] * 255}, r"box=\(0, 255\)"),
    }


@pytest.mark.parametrize("case", wrong_inputs())
def test_wrong_inputs(case):
    x, words = wrong_inputs()[case]
    model = functional(True)
    with pytest.raises((InvalidInput, InvalidType), match=words):
        advex.PGD()(advex.Classifier(model, perturb="image"), x, None, advex.Linf(0.1))


@pytest.mark.parametrize(
    ("perturb", "words"),
    [
        ("imag", "neither an input nor a layer.*'image'.*'hidden'"),
        (["image", "hidden"], "of one layer is"),
        ([], "name of an input"),
        (True, "name of an input"),
        (["image", "image"], "name of an input"),
    ],
)
def test_wrong_names(perturb, words):
    def attacked():
        classifier = advex.Classifier(functional(True), perturb=perturb)
        advex.PGD()(classifier, data(), None, advex.Linf(0.1))

    with pytest.raises((InvalidInput, InvalidType), match=words):
        attacked()


def test_wrong_budgets():
    model, x = functional(True), data()
    both = advex.Classifier(model, perturb=["image", "audio"])
    one = advex.Linf(0.1)
    for budget, words in (
        ({"image": one}, "the inputs that are attacked are 'image', 'audio'"),
        ({"image": one, "audio": advex.Linf()}, "all have a limit, or none"),
        ({"image": one, "audio": 0.1}, "a dict with one for each input"),
        ({}, "an empty dict"),
    ):
        with pytest.raises((InvalidInput, InvalidType), match=words):
            advex.PGD()(both, x, None, budget)
    mixed = {"image": one, "audio": advex.L2(0.1)}
    for attack, words in (
        (advex.MinimumNorm(), "smallest change in"),
        (advex.FAB(), "different norms"),
    ):
        with pytest.raises(InvalidInput, match=words):
            attack(both, x, None, mixed)
