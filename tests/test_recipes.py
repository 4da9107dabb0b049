"""Every fix that an error message proposes, executed as its reader would type it."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import advex
from advex import _backend
from advex._grid import Grid
from advex.errors import AdvexError, GradientUnavailable, InvalidInput, InvalidType
from advex.testing import linear_model

BUDGET = advex.Linf(0.1)
PGD = advex.PGD(steps=2)
TENSORFLOW = keras.backend.backend() == "tensorflow"


def pictures(count=6, shape=(6, 6, 1)):
    return np.random.default_rng(0).uniform(size=(count, *shape)).astype("float32")


def small(shape=(6, 6, 1), classes=3):
    return keras.Sequential(
        [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(classes)]
    )


def attacked(model, x):
    """An attack on ``model`` has gradients to go by; on JAX and torch one gradient stands for it,
    which compiles nothing.
    """
    if TENSORFLOW:
        result = PGD(model, x, None, BUDGET)
        assert (result.gradients > 0).all()
        return result
    classifier = advex.Classifier.of(model)
    point = ops.convert_to_tensor(Grid(x.dtype, classifier.box).working(x))
    forward = classifier.forward(point)
    _, gradient, _ = _backend.value_and_gradient(lambda point: (forward(point)[:, 0], ()), point)
    assert (np.abs(_backend.to_numpy(gradient)).sum(axis=tuple(range(1, x.ndim))) > 0).all()
    return None


def said(call, kind=AdvexError):
    """The message of the error that ``call`` ends in."""
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def typed(message, begin, **names):
    """The statements of ``message`` from ``begin`` on, executed; returns the model that they leave
    behind.
    """
    assert begin in message, message
    code = message[message.index(begin) :]
    # Statements are typed one by one; a name that an earlier one has made is known to the next.
    scope = {"keras": keras, "advex": advex, "np": np, **names}
    for statement in code.split("; "):
        if not re.match(r"[\w ]+ = |rebuilt = ", statement):
            break
        exec(statement, scope)
    return scope["model"]


def answers(model, x):
    return np.asarray(ops.convert_to_numpy(model(ops.convert_to_tensor(x), training=False)))


# Models


@pytest.mark.backends
@pytest.mark.parametrize("named", [False, True], ids=["list", "dict"])
def test_several_inputs(named):
    image, vector = (
        keras.Input((6, 6, 1), name="image"),
        keras.Input((5,), name="vector", dtype="int32"),
    )
    tokens = keras.layers.Flatten()(keras.layers.Embedding(9, 2)(vector))
    both = keras.layers.Concatenate()([keras.layers.Flatten()(image), tokens])
    inputs = {"image": image, "vector": vector} if named else [image, vector]
    model = keras.Model(inputs, keras.layers.Dense(3)(both))
    x, numbers = pictures(), np.arange(30).reshape(6, 5) % 9
    message = said(lambda: PGD(model, x, None, BUDGET), InvalidInput)
    assert "'image', 'vector'" in message
    made = typed(message, "model = advex.Classifier", model=model)
    result = PGD(made, {"image": x, "vector": numbers}, None, advex.Linf(0.49))
    assert result.success.any() and np.array_equal(result.x["vector"], numbers)


@pytest.mark.backends
def test_several_inputs_of_a_subclassed_model():
    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            self.flat, self.top = keras.layers.Flatten(), keras.layers.Dense(3)

        def call(self, inputs):
            return self.top(ops.concatenate([self.flat(inputs["a"]), inputs["b"]], axis=1))

    pair = {"a": pictures(), "b": np.ones((6, 5), "float32")}
    message = said(lambda: PGD(Two(), pair, None, BUDGET), InvalidInput)
    made = typed(message, "model = advex.Classifier", model=Two())
    assert PGD(made, pair, None, advex.Linf(0.49)).success.any()


@pytest.mark.backends
@pytest.mark.parametrize("kind", ["list", "dict", "subclassed dict", "subclassed tuple"])
def test_several_outputs(kind):
    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            self.flat, self.top = keras.layers.Flatten(), keras.layers.Dense(3)

        def call(self, x):
            top = self.top(self.flat(x))
            return {"a": top, "b": x} if kind.endswith("dict") else (top, x)

    image = keras.Input((6, 6, 1))
    top = keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(image))
    x = pictures()
    if kind.startswith("subclassed"):
        model = Two()
    else:
        model = keras.Model(image, {"z": image, "a": top} if kind == "dict" else [top, image])
    message = said(lambda: PGD(model, x, None, BUDGET), InvalidInput)
    result = attacked(typed(message, "model = advex.Classifier", model=model, x=x), x)
    # the graph is still known
    assert result is None or result.info["head"] == (
        "logits" if kind.startswith("subclassed") else "softmax"
    )


WHOLE = ["functional", "sequential", "adapted", "nested", "twice nested"]


@pytest.mark.backends
@pytest.mark.parametrize("kind", WHOLE)
def test_an_input_of_whole_numbers(kind):
    entry = keras.Input((6, 6, 1), dtype="uint8")
    first = keras.layers.Rescaling(1 / 255)
    x = (pictures() * 255).astype("uint8")
    if kind == "adapted":
        first = keras.layers.Normalization()
        first.adapt(x.astype("float32"))
    layers = [first, keras.layers.Flatten(), keras.layers.Dense(3)]
    model = keras.Sequential([entry, *layers])
    if kind == "functional":
        model = keras.Model(entry, layers[2](layers[1](first(entry))))
    if kind.endswith("nested"):
        image = keras.Input((6, 6, 1))
        model = keras.Model(image, model(image))
    if kind == "twice nested":
        model = keras.Sequential([keras.Input((6, 6, 1)), model])
    message = said(
        lambda: PGD(advex.Classifier(model, box=(0, 255)), x, None, BUDGET), GradientUnavailable
    )
    assert "dtype uint8" in message and "no gradient passes through whole numbers" in message
    made = typed(message, "rebuilt = " if kind.endswith("nested") else "model = ", model=model)
    assert np.allclose(answers(made, x.astype("float32")), answers(model, x), atol=1e-5)
    attacked(advex.Classifier(made, box=(0, 255)), x)
    assert [w.shape for w in made.weights] == [w.shape for w in model.weights]


def test_an_input_of_whole_numbers_without_gradients():
    """Scores need no gradient: whole levels arrive as they are; fractions would be cut off
    unseen.
    """
    entry = keras.Input((6, 6, 1), dtype="uint8")
    layers = [entry, keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(3)]
    model = keras.Sequential(layers)
    x = pictures()
    square = advex.SquareAttack(steps=5)
    assert (
        len(square(advex.Classifier(model, box=(0, 255)), (x * 255).astype("uint8"), None, BUDGET))
        == 6
    )
    for given in (x, (x * 255).astype("uint8")):
        assert "cuts off the fractions" in said(
            lambda given=given: square(model, given, None, BUDGET), InvalidInput
        )


def test_a_nested_token_input_that_is_held_fixed_is_no_obstacle():
    image, tokens = (
        keras.Input((6, 6, 1), name="image"),
        keras.Input((2,), name="tokens", dtype="int32"),
    )
    words = keras.layers.Flatten()(keras.layers.Embedding(9, 2)(tokens))
    model = keras.Model(
        [image, tokens],
        keras.layers.Dense(3)(keras.layers.Concatenate()([words, keras.layers.Flatten()(image)])),
    )
    made = typed(said(lambda: advex.Classifier(model)), "model = ", model=model)
    x = {"image": pictures(), "tokens": np.ones((6, 2), "int32")}
    assert PGD(made, x, None, BUDGET).success.any()


class KerasTwo:
    def __call__(self, x, training=False):
        return x


KerasTwo.__module__ = "tf_keras.src.engine.sequential"


class KerasTwoOfOnesOwn(KerasTwo):
    pass


KerasTwoOfOnesOwn.__module__ = "mine"


def test_a_model_of_keras_2():
    message = said(lambda: PGD(KerasTwo(), pictures(), None, BUDGET), InvalidType)
    assert "Keras 2 model (tf_keras)" in message
    assert (
        "model.save('model.h5'), then model = keras.models.load_model('model.h5', compile=False)"
        in message
    )
    message = said(lambda: PGD(KerasTwoOfOnesOwn(), pictures(), None, BUDGET), InvalidType)
    # which does not hold a subclass
    assert "Keras 2 model (tf_keras)" in message and "h5" not in message


@pytest.mark.backends
def test_a_layer_and_a_function_of_the_backend():
    x = pictures().reshape(6, 36)
    layer = keras.layers.Dense(3)
    message = said(lambda: PGD(layer, x, None, BUDGET), InvalidType)
    attacked(typed(message, "model = ", model=layer, x=x), x)
    weights = np.random.default_rng(1).normal(size=(36, 3)).astype("float32")

    def function(x):
        return ops.matmul(x, weights)

    message = said(lambda: PGD(function, x, None, BUDGET), InvalidType)
    attacked(typed(message, "model = ", model=function, x=x), x)
    if not TENSORFLOW:  # a black box is asked by the same code everywhere
        return
    boxed = eval(
        re.search(r"advex\.BlackBox\(model, classes=10\)", message).group().replace("10", "3"),
        {"advex": advex, "model": lambda x: x @ weights},
    )
    assert len(advex.SquareAttack(steps=5)(boxed, x, None, BUDGET)) == 6


class Estimator:
    """What advex needs to know of an estimator of scikit-learn."""

    classes_ = np.arange(3)

    def fit(self, x, y): ...

    def predict(self, x):
        return self.predict_proba(x).argmax(axis=1)

    def predict_proba(self, x):
        return np.tile(np.float32([0.2, 0.5, 0.3]), (len(x), 1))


def test_an_estimator():
    x = pictures().reshape(6, 36)
    model = Estimator()
    for call in (lambda: PGD(model, x, None, BUDGET), lambda: advex.BlackBox(model, classes=3)):
        found = re.search(
            r"advex\.BlackBox\(model\.predict_proba, classes=(10|len\(model\.classes_\))\)",
            said(call, InvalidType),
        )
        boxed = eval(found.group().replace("10", "3"), {"advex": advex, "model": model})
        assert len(advex.SquareAttack(steps=5)(boxed, x, None, BUDGET)) == 6


def test_a_module_of_torch():
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 3))
    message = said(lambda: PGD(model, pictures(), None, BUDGET), InvalidType)
    assert "TorchModuleWrapper(model)" in message and "KERAS_BACKEND=torch" in message
    code = message[message.index("advex.BlackBox") :].replace("classes=10", "classes=3")
    boxed = eval(code, {"advex": advex, "torch": torch, "model": model.eval()})
    assert len(advex.SquareAttack(steps=5)(boxed, pictures(), None, BUDGET)) == 6


@pytest.mark.backends
def test_a_module_of_torch_on_torch():
    if keras.backend.backend() != "torch":
        pytest.skip("on torch alone")
    import torch

    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(), torch.nn.Linear(36, 3))
    x = pictures()
    message = said(lambda: PGD(model, x, None, BUDGET), InvalidType)
    attacked(typed(message, "model = ", model=model, x=x), x)


def test_a_file_and_a_class(tmp_path):
    path = tmp_path / "model.keras"
    small().save(path)
    for given in (path, str(path)):
        made = typed(
            said(lambda given=given: PGD(given, pictures(), None, BUDGET), InvalidType), "model = "
        )
        assert len(PGD(made, pictures(), None, BUDGET)) == 6
    assert "make one, model = Sequential(...)" in said(
        lambda: advex.Classifier(keras.Sequential), InvalidType
    )
    assert "model.model" in said(
        lambda: advex.Classifier(advex.Classifier(small()), box=(0, 255)), InvalidType
    )


# What the model answers


@pytest.mark.parametrize("subclassed", [False, True])
def test_a_class_for_each_pixel_is_never_sent_to_flatten(subclassed):
    class Wrapped(keras.Model):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def call(self, x):
            return self.model(x)

    def refused(layers):
        model = keras.Sequential(layers)
        return said(
            lambda: PGD(Wrapped(model) if subclassed else model, x, None, BUDGET), InvalidInput
        )

    x = pictures()
    message = refused([keras.Input((6, 6, 1)), keras.layers.Conv2D(3, 1)])
    assert "advex.Segmentation()" in message and "include_top" in message
    sequence = refused([keras.Input((6, 6, 1)), keras.layers.Reshape((6, 6))])
    assert "Flatten" not in message + sequence
    model = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Conv2D(3, 1)])
    model = Wrapped(model) if subclassed else model
    assert PGD(model, x, advex.Segmentation(), BUDGET).prediction.shape == (len(x), 6, 6)
    places = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Conv2D(3, 6)])  # (n, 1, 1, 3)
    message = said(lambda: PGD(places, x, None, BUDGET), InvalidInput)
    attacked(typed(message, "model = ", model=places, x=x), x)


# The domain


@pytest.mark.backends
def test_a_range_for_each_feature():
    low, high = np.array([0.0, -5.0, 0.0, 1.0]), np.array([1.0, 10.0, 100.0, 5.0])
    model, x = small((4,)), low + np.random.default_rng(0).uniform(size=(6, 4)) * (high - low)
    for call in (
        lambda: advex.Classifier(model, box=(low, high)),
        lambda: advex.Classifier(model, box=(0, high.tolist())),
        lambda: PGD(model, np.abs(x) / 100, None, advex.Linf(np.array([0.1, 0.2, 0.1, 0.1]))),
        lambda: advex.BlackBox(len, classes=2, box=(low, high)),
    ):
        message = said(call, InvalidInput)
        code = re.search(r"advex\.Domain\(low, high\)", message).group()
    domain = eval(code, {"advex": advex, "low": low, "high": high})
    attacked(advex.Classifier(model, box=domain), x.astype("float32"))


def test_pixels_and_normalised_values():
    model = small()
    x = pictures()
    for given in (x * 254, x * 299.7):
        message = said(lambda given=given: PGD(model, given, None, BUDGET), InvalidInput)
        code = re.search(r"advex\.Classifier\(model, box=\(\d+, \d+\)\)", message).group()
        assert len(PGD(eval(code, {"advex": advex, "model": model}), given, None, BUDGET)) == 6
    message = said(lambda: PGD(model, 2 * x - 1, None, BUDGET), InvalidInput)
    first, second = message.index("box=(-1, 1)"), message.index("before the normalisation")
    assert first < second
    code = re.search(r"advex\.Classifier\(model, box=\(-1, 1\)\)", message).group()
    assert len(PGD(eval(code, {"advex": advex, "model": model}), 2 * x - 1, None, BUDGET)) == 6
    mean, std = np.float32([0.5]), np.float32([0.2])
    message = said(lambda: PGD(model, (x - mean) / std, None, BUDGET), InvalidInput)
    assert "box=(-1, 1)" not in message  # they reach further
    code = re.search(r"advex\.Classifier\(model, preprocess=keras.*\*\*2\)\)", message).group()
    classifier = eval(
        code, {"advex": advex, "keras": keras, "model": model, "mean": mean, "std": std}
    )
    assert np.allclose(answers(classifier.preprocess, x), (x - mean) / std, atol=1e-5)
    attacked(classifier, x)


# x


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return pictures()[3 * index : 3 * index + 3], np.zeros(3, int)


def data_sets():
    x, labels = pictures(), np.zeros(6, int)
    yield "PyDataset", Batches()
    yield "generator", ((part, labels[:3]) for part in (x[:3], x[3:]))
    yield "list of batches", [(x[:3], labels[:3]), (x[3:], labels[3:])]
    yield "batches of one size", [(x[:6], labels), (x[:6], labels)]
    yield "pair", (x, labels)
    yield "zip", zip([x], [labels], strict=True)
    if TENSORFLOW:
        import tensorflow as tf

        yield "tf.data", tf.data.Dataset.from_tensor_slices((x, labels)).batch(4)
    try:
        import torch
    except ImportError:
        return
    yield (
        "DataLoader",
        torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(labels)), 3
        ),
    )


def test_a_data_set_in_place_of_an_array():
    model = small()
    for name, data in data_sets():
        message = said(lambda data=data: PGD(model, data, None, BUDGET), InvalidType)
        code = re.search(r"advex\.evaluate\(model, data, .*\)", message).group()
        if name == "tf.data":  # one is enough: the others are read by the tests of evaluate
            code = code.replace("PGD()", "PGD(steps=2)").removesuffix(")") + ", diagnose=False)"
            assert eval(code, {"advex": advex, "model": model, "data": data}).examples == 6


@pytest.mark.parametrize("shape", [(6, 6, 1), (12,)])
def test_one_example_without_its_batch_axis(shape):
    model, x = small(shape), pictures(1, shape)[0]
    for given in (x, x.tolist(), ops.convert_to_tensor(x)):
        for label in (1, np.int64(1), np.array(1), 1.0, [1], None):
            message = said(
                lambda given=given, label=label: PGD(model, given, label, BUDGET), InvalidInput
            )
            assert ("its label as a list, [label]" in message) == (
                label is not None and not isinstance(label, list)
            )
            code = re.search(r"((np\.asarray\(x\)|x)\[None\])", message).group()
            whole = eval(code, {"x": given, "np": np})
            assert len(PGD(model, whole, None if label is None else [1], BUDGET)) == 1


def test_one_image_for_a_model_that_cannot_say_what_it_takes():
    class Unbuilt(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = small()

        def call(self, x):
            return self.inner(x)

    message = said(lambda: PGD(Unbuilt(), pictures(1)[0], 1, BUDGET), InvalidInput)
    assert "(6, 6, 1), counts the examples: x[None]" in message and "[1]" in message
    assert len(PGD(Unbuilt(), pictures(1)[0][None], [1], BUDGET)) == 1


@pytest.mark.parametrize(
    ("x", "pattern"),
    [
        (pictures(3, (1, 6, 6)), r"np\.moveaxis\(x, 1, -1\)"),
        (pictures(3, (6, 6)), r"x\[\.\.\., None\]"),
        (pictures(3, (6, 6)).tolist(), r"np\.asarray\(x\)\[\.\.\., None\]"),
        (pictures(1, (6, 6))[0], r"x\[None, \.\.\., None\]"),
        ({"a": pictures(3), "b": pictures(3)}, r"x\['a'\]"),
        ((pictures(3) * 255).astype("int64"), r"x\.astype\('uint8'\)"),
        ((pictures(3) * 300).astype("int32") // 300, r"x\.astype\('float32'\)"),
        (pictures(3) > 0.5, r"x\.astype\('float32'\)"),
        ((pictures(3) > 0.5).tolist(), r"np\.asarray\(x\)\.astype\('float32'\)"),
        ((pictures(3) * 65535).astype("uint16"), r"x\.astype\('float32'\) / 65535"),
        (pictures(3) + 0j, r"x\.real\.astype\('float32'\)"),
        (pictures(3).astype("longdouble"), r"x\.astype\('float32'\)"),
        ((pictures(3) * 2).astype("int8"), r"x\.astype\('float32'\)"),
        ([pictures(3), pictures(3)], r"np\.concatenate\(x\)"),
    ],
)
def test_arrays_that_become_right(x, pattern):
    model = small()
    message = said(lambda: PGD(model, x, None, BUDGET))
    made = np.asarray(eval(re.search(pattern, message).group(), {"x": x, "np": np}))
    if made.max() > 1 and made.dtype != np.uint8:
        made = made / made.max()
    assert len(PGD(model, made, None, BUDGET)) in (1, 3, 6)


def test_grey_pictures_for_a_colour_model():
    message = said(lambda: PGD(small((6, 6, 3)), pictures(3), None, BUDGET), InvalidInput)
    made = eval(
        re.search(r"np\.repeat\(x, 3, axis=-1\)", message).group(), {"x": pictures(3), "np": np}
    )
    assert len(PGD(small((6, 6, 3)), made, None, BUDGET)) == 3


def test_files_and_pictures(tmp_path):
    from PIL import Image

    path = tmp_path / "a.png"
    picture = Image.fromarray((pictures(1)[0, ..., 0] * 255).astype("uint8"))
    picture.save(path)
    for given in (path, str(path)):
        message = said(lambda given=given: PGD(small(), given, None, BUDGET), InvalidType)
        x = eval(
            re.search(r"advex\.images\.read\(path\)\.pixels\[None\]", message).group(),
            {"advex": advex, "path": path},
        )
        assert x.shape[:3] == (1, 6, 6)
    message = said(lambda: PGD(small((6, 6)), picture, None, BUDGET), InvalidInput)
    whole = eval(re.search(r"np\.asarray\(x\)\[None\]", message).group(), {"np": np, "x": picture})
    assert len(PGD(small((6, 6)), whole, None, BUDGET)) == 1
    assert len(PGD(small((6, 6)), [picture, picture], None, BUDGET)) == 2
    assert "shapes [(6, 6), (3, 3)]" in said(
        lambda: PGD(small((6, 6)), [picture, picture.resize((3, 3))], None, BUDGET)
    )


def test_a_table_of_pandas():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(pictures(6, (4,)), columns=list("abcd"))
    labels = pandas.Series([0, 1, 2, 0, 1, 2])
    assert len(PGD(small((4,)), table, labels, BUDGET)) == 6
    table["b"] = table["b"].astype(object)
    message = said(lambda: PGD(small((4,)), table, labels, BUDGET), InvalidType)
    assert (
        len(
            PGD(
                small((4,)),
                eval(re.search(r"x\.to_numpy\('float32'\)", message).group(), {"x": table}),
                labels,
                BUDGET,
            )
        )
        == 6
    )
    kinds = pandas.Series(["cat", "dog", "cow"] * 2, dtype="category")
    names = ["cat", "cow", "dog"]
    for given in (kinds, pandas.Categorical(kinds), kinds.tolist(), kinds.to_numpy(dtype="<U3")):
        message = said(
            lambda given=given: PGD(small((4,)), pictures(6, (4,)), given, BUDGET), InvalidType
        )
        code = re.search(r"\[names\.index\(label\) for label in labels\]", message).group()
        assert eval(code, {"names": names, "labels": given}) == [0, 2, 1] * 2


def test_a_table_of_uint8():
    model, x = small((12,)), np.random.default_rng(0).integers(0, 2, (6, 12)).astype("uint8")
    message = said(lambda: PGD(model, x, None, BUDGET), InvalidInput)
    assert "8-bit grey levels" in message
    made = eval(re.search(r"x\.astype\('float32'\)", message).group(), {"x": x})
    assert (PGD(model, made, None, BUDGET).before == answers(model, made).argmax(axis=1)).all()
    result = PGD(model, 100 * x, None, BUDGET)  # flattened pictures, perhaps
    assert any("8-bit grey levels of 255" in note for note in result.info["notes"])
    result = PGD(small(), x[:, :, None, None].repeat(3, 2).reshape(6, 6, 6, 1), None, BUDGET)
    assert any("nothing but 0 and 1" in note for note in result.info["notes"])
    assert not PGD(small(), (pictures() * 255).astype("uint8"), None, BUDGET).info["notes"][1:]


# Labels


@pytest.mark.parametrize("dtype", ["int64", "float32", "bool", "uint8"])
def test_several_labels_are_refused_for_that_reason(dtype):
    x, labels = pictures(3), np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]], dtype)
    for goal in (labels, labels.tolist()):
        message = said(lambda goal=goal: PGD(small(), x, goal, BUDGET))
        assert "multi-label" in message and "argmax" not in message
    message = said(lambda: advex.Targeted(labels))
    assert "multi-label" in message


def test_soft_labels_and_one_hot_ones():
    x = pictures(3)
    soft = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
    for given in (soft, soft.tolist()):
        message = said(lambda given=given: PGD(small(), x, given, BUDGET), InvalidInput)
        code = re.search(r"np\.asarray\(labels\)\.argmax\(1\)", message).group()
        assert eval(code, {"np": np, "labels": given}).tolist() == [0, 1, 2]
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="sigmoid"),
        ]
    )
    for one_hot in (np.eye(3, dtype=bool), np.eye(3), np.eye(3, dtype=int).tolist()):
        result = PGD(model, x, one_hot, BUDGET)
        assert result.goal.labels.tolist() == [0, 1, 2]
        # the model may mean it so
        assert any("multi-label" in note for note in result.info["notes"])
    assert not any(
        "multi-label" in note for note in PGD(small(), x, np.eye(3), BUDGET).info["notes"]
    )


def test_labels_of_a_regression():
    model = keras.Sequential(
        [keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    message = said(lambda: PGD(model, pictures(3), [36, 41, 44], BUDGET), InvalidInput)
    assert (
        "one output unit is taken for yes or no, 2 classes" in message and "regression" in message
    )


@pytest.mark.parametrize(
    "value",
    [2**31, -(2**31) - 1, np.uint64(2**63), 1e300, 10**400, 10**5000, np.inf],
    ids=lambda value: type(value).__name__,
)
def test_labels_beyond_every_class(value):
    said(lambda: PGD(small(), pictures(1), [value], BUDGET))
    said(lambda: PGD(small(), pictures(1), advex.Targeted(value), BUDGET))


def test_truth_in_place_of_class_numbers():
    message = said(lambda: PGD(small(), pictures(2), [True, False], BUDGET), InvalidType)
    code = re.search(r"np\.asarray\(labels\)\.astype\('int32'\)", message).group()
    assert eval(code, {"np": np, "labels": [True, False]}).tolist() == [1, 0]


def test_labels_from_1():
    message = said(lambda: PGD(small(), pictures(3), [1, 2, 3], BUDGET), InvalidInput)
    code = re.search(r"np\.asarray\(labels\) - 1", message).group()
    made = eval(code, {"np": np, "labels": [1, 2, 3]})
    assert len(PGD(small(), pictures(3), made, BUDGET)) == 3


# Names that messages mention exist


def test_every_name_of_advex_in_a_message_exists():
    """Whatever a string of the package calls ``advex.something`` is there, and what it calls so can
    be called.
    """
    text = "\n".join(path.read_text() for path in Path(advex.__file__).parent.rglob("*.py"))
    # An example of a docstring that shows the error is not a string of the package.
    text = re.sub(r"^ *>>> .*\n *Traceback", "", text, flags=re.M)
    missing = set()
    for name in set(re.findall(r"\badvex\.([A-Za-z_][\w.]*)", text)):
        value = advex
        for part in name.rstrip(".").split("."):
            if part in ("PGD", "BIM") and value is not advex:
                break
            if (
                not hasattr(value, part)
                and part not in ("_others", "attacks", "data")
                and not Path(advex.__file__).with_name(f"{part}.py").exists()
            ):
                missing.add(name)
                break
            value = getattr(value, part, None)
            if value is None:
                break
    assert not {name for name in missing if name[0].isupper()}, missing


def test_the_linear_model_is_attacked_as_the_keywords_say():
    """``advex.PGD(eps=...)`` and its like answer with a call; it runs."""
    model, x, attack = linear_model(), pictures(3, (12,)), PGD
    own = answers(model, x).argmax(axis=1)
    for word in (
        "eps",
        "norm",
        "model",
        "targeted",
        "batch_size",
        "seed",
        "n_restarts",
        "clip_min",
        "box",
    ):
        message = said(lambda word=word: advex.PGD(**{word: 1}), InvalidType)
        for code in re.findall(
            r"attack\(.*?\)(?:\))?$|advex\.\w+\([^()]*(?:\([^()]*\))?[^()]*\)", message
        ):
            labels = 1 - own if "Targeted" in code else own
            scope = {
                "advex": advex,
                "attack": attack,
                "model": model,
                "x": x,
                "labels": labels,
                "budget": BUDGET,
            }
            eval(code, scope)
