"""``fit`` as users call it: data of every kind, heads, options of Keras; what is saved."""

import contextlib
import json
import os
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops
from training_data import LINF, compiled, data, network

import advex
from advex.training import AWP, MART, NFGSM, TRADES, Adversarial, Noise

X, LABELS = data()
FAST = advex.PGD(steps=2)


def trained(model, *given, attack=FAST, budget=LINF, method=None, seed=0, options=None, **settings):
    robust = compiled(Adversarial(model, attack, budget, method, seed, **(options or {})))
    settings = {"batch_size": 16, "verbose": 0, "shuffle": False} | settings
    return robust, robust.fit(*given, **settings).history


class Pairs(keras.utils.PyDataset):
    def __len__(self):
        return len(X) // 16

    def __getitem__(self, index):
        rows = slice(16 * index, 16 * index + 16)
        return X[rows], LABELS[rows]


def generated():
    yield from (Pairs()[index] for index in range(4))


@pytest.mark.backends
@pytest.mark.parametrize("kind", ["tf.data", "PyDataset", "DataLoader", "generator", "tensors"])
def test_every_kind_of_data_gives_the_same_training(kind):
    _, expected = trained(network(), X, LABELS)
    whole = {"batch_size": None}
    if kind == "tf.data":
        import tensorflow as tf

        given = (tf.data.Dataset.from_tensor_slices((X, LABELS)).batch(16),)
    elif kind == "PyDataset":
        given = (Pairs(),)
    elif kind == "DataLoader":
        import torch

        pairs = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(LABELS))
        given = (torch.utils.data.DataLoader(pairs, batch_size=16),)
    elif kind == "generator":
        given, whole = (generated(),), {"batch_size": None, "steps_per_epoch": 4}
    else:
        given, whole = (ops.convert_to_tensor(X), ops.convert_to_tensor(LABELS)), {}
    _, history = trained(network(), *given, **whole)
    for name in expected:
        assert history[name] == pytest.approx(expected[name], abs=1e-4), name


@pytest.mark.backends
@pytest.mark.parametrize("method", [None, TRADES(beta=2.0), AWP(MART(), gamma=0.01)], ids=repr)
def test_robust_accuracy_rises_and_is_that_of_the_attack(method):
    model = network(normalised=False)
    held_out = data(32, seed=1)
    near, options = advex.Linf(0.06), {"validation_data": held_out, "epochs": 12}
    robust, history = trained(model, X, LABELS, method=method, budget=near, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", advex.errors.AdvexWarning)
        result = advex.PGD(steps=10)(model, *held_out, near)
    held = (result.status == "held").mean()
    if method is None:  # of the others an eighth of each batch tells it
        assert history["robust_accuracy"][-1] > history["robust_accuracy"][0] + 0.1
    assert history["loss"][-1] < history["loss"][0]
    assert history["val_robust_accuracy"][-1] == pytest.approx(held, abs=0.07)  # other starts
    right = np.asarray(ops.convert_to_numpy(model(held_out[0]))).argmax(1) == held_out[1]
    assert history["val_clean_accuracy"][-1] == pytest.approx(right.mean())
    assert history["clean_accuracy"][-1] >= history["robust_accuracy"][-1] - 0.2
    again = robust.evaluate(*held_out, verbose=0, return_dict=True)
    assert set(again) == {"loss", "clean_accuracy", "robust_accuracy"}
    assert robust.predict(held_out[0], verbose=0).shape == (32, 4)


@pytest.mark.backends
def test_labels_weights_and_heads():
    hot = np.eye(4, dtype="float32")[LABELS]
    _, sparse = trained(network(), X, LABELS)
    robust = Adversarial(network(), FAST, LINF)
    compiled(robust, loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    one_hot = robust.fit(X, hot, batch_size=16, verbose=0, shuffle=False).history
    _, column = trained(network(), X, LABELS[:, None])
    assert sparse["loss"] == pytest.approx(one_hot["loss"], abs=1e-5)
    assert sparse["loss"] == pytest.approx(column["loss"], abs=1e-6)
    robust = Adversarial(network(end="softmax"), FAST, LINF)
    compiled(robust, loss="sparse_categorical_crossentropy")
    softmax = robust.fit(X, LABELS, batch_size=16, verbose=0, shuffle=False).history
    assert sparse["loss"] == pytest.approx(softmax["loss"], abs=1e-3)
    _, weighted = trained(network(), X, LABELS, sample_weight=np.full(len(X), 2.0))
    assert weighted["loss"][0] > 1.5 * sparse["loss"][0]


@pytest.mark.backends
@pytest.mark.parametrize("method", [None, TRADES(), MART()], ids=repr)
def test_one_sigmoid_unit(method):
    robust = Adversarial(network(end="sigmoid", units=1), FAST, LINF, method)
    compiled(robust, loss="binary_crossentropy", metrics=["accuracy"])
    y = (LABELS > 1).astype("float32")
    history = robust.fit(X, y, batch_size=16, epochs=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert np.isfinite(history["loss"]).all()


@pytest.mark.backends
def test_mixed_precision_and_augmentation():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = network()
        robust, history = trained(model, X, LABELS, method=TRADES(beta=1.0), epochs=2)
    finally:
        keras.config.set_dtype_policy(policy)
    assert type(robust.optimizer).__name__ == "LossScaleOptimizer"
    assert np.isfinite(history["loss"]).all()

    class Half(layers.Layer):
        def call(self, x, training=None):
            return x / 2 if training else x

    options = {"augment": Half()}
    halved, _ = trained(network(), X, LABELS, options=options)
    batch = tuple(map(ops.convert_to_tensor, (X[:16], LABELS[:16])))
    points = ops.convert_to_numpy(halved._attacked(batch)[0].shown)
    assert np.abs(points - X[:16] / 2).max() <= 0.1 + 1e-6  # before the search


@pytest.mark.backends
def test_boxes_of_levels_and_numbers_of_bytes():
    levels = (X * 255).astype("uint8")
    scaled = network(layers.Rescaling(1 / 255))
    robust, history = trained(
        scaled, levels, LABELS, budget=advex.Linf(8 / 255), options={"box": (0, 255)}
    )
    batch = tuple(map(ops.convert_to_tensor, (levels[:16], LABELS[:16])))
    points = ops.convert_to_numpy(robust._attacked(batch)[0].shown)
    assert 7.9 < np.abs(points - levels[:16]).max() <= 8
    assert np.isfinite(history["loss"]).all()
    noisy = Adversarial(network(), FAST, LINF, Noise(0.25))
    noisy._ready(X, LABELS)
    delta = (
        ops.convert_to_numpy(
            noisy._attacked(tuple(map(ops.convert_to_tensor, (X, LABELS))))[0].shown
        )
        - X
    )
    assert delta.std() == pytest.approx(0.25, rel=0.03)


@dataclass(frozen=True, kw_only=True)
class Mine(advex.Attack):
    """A user's own, with memory."""

    steps: int = 2

    def init(self, problem):
        return problem.x0, {"sum": ops.zeros_like(problem.x0)}

    def step(self, problem, x, memory):
        _, gradient = problem.gradient(x, advex.losses.margin)
        total = memory["sum"] + advex.unit(gradient)
        x = x + problem.epsilon * problem.budget.steepest(total)
        return problem.project(x), {"sum": total}


@pytest.mark.backends
@pytest.mark.parametrize(
    "attack",
    [
        Mine(),
        advex.FMN(steps=2),
        advex.AveragedGradient(FAST, None, 2),
        NFGSM(),
        advex.NES(steps=1),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_other_attacks_inside(attack):
    robust, history = trained(network(), X, LABELS, attack=attack)
    assert np.isfinite(history["loss"]).all()
    batch = tuple(map(ops.convert_to_tensor, (X[:16], LABELS[:16])))
    delta = ops.convert_to_numpy(robust._attacked(batch)[0].shown) - X[:16]
    assert 0 < np.abs(delta).max() <= (0.3 if isinstance(attack, NFGSM) else 0.1) + 1e-6


def test_what_is_saved_is_the_bare_model(tmp_path):
    model = network()
    saved = keras.callbacks.ModelCheckpoint(str(tmp_path / "each.keras"))
    robust, _ = trained(model, X, LABELS, callbacks=[saved])
    robust.save(tmp_path / "whole.keras")
    np.savez(tmp_path / "x.npz", x=X, y=robust.predict(X, verbose=0))
    code = (
        "import sys; sys.modules['advex'] = None\n"
        "import keras, numpy as np\n"
        "known = np.load('x.npz')\n"
        "for name in ('whole.keras', 'each.keras'):\n"
        "    model = keras.models.load_model(name, compile=False)\n"
        "    assert type(model).__name__ == 'Sequential'\n"
        "    assert np.allclose(model.predict(known['x'], verbose=0), known['y'], atol=1e-5)\n"
    )
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env=environment)
    assert [w.tobytes() for w in robust.get_weights()] == [w.tobytes() for w in model.get_weights()]


def test_replicas_share_the_training():
    code = """
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
import advex
from training_data import LINF, compiled, data, network
from advex.training import TRADES, Adversarial
x, labels = data()
with strategy.scope():
    robust = compiled(Adversarial(network(), advex.PGD(steps=2), LINF, TRADES()))
history = robust.fit(x, labels, batch_size=16, epochs=4, verbose=0, validation_data=(x, labels))
losses = history.history["loss"]
assert losses[-1] < losses[0], losses
"""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("TensorFlow alone has tf.distribute")
    here = Path(__file__).parents[1]
    paths = os.pathsep.join([str(here), str(here.parent)])
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_backends_take_the_same_first_ten_steps(tmp_path):
    """TRADES from a random point: next to the original, where it begins with PGD, its gradient is
    nearly zero, and signs are rounding errors.
    """
    code = """
import sys, json, advex, numpy as np
from training_data import compiled, data, network
from advex.training import *
x, labels = data(160)
told = []
for method in (None, MART(beta=2.0), AWP(gamma=0.01), TRADES(beta=2.0)):
    model = network()
    with np.load(sys.argv[1]) as held:
        model.set_weights([held[name] for name in held.files])
    attack = Fast() if isinstance(method, TRADES) else advex.PGD(steps=3)
    robust = compiled(Adversarial(model, attack, advex.Linf(0.1), method), rate=0.01)
    for i in range(0, 160, 16):
        logs = robust.train_on_batch(x[i : i + 16], labels[i : i + 16], return_dict=True)
        told.append(float(logs["loss"]))
print(json.dumps(told))
"""
    np.savez(tmp_path / "weights.npz", *network().get_weights())
    here = Path(__file__).parents[1]
    paths = os.pathsep.join([str(here), str(here.parent)])
    told = {}
    for backend in ("tensorflow", "jax", "torch"):
        environment = os.environ | {
            "KERAS_BACKEND": backend,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONPATH": paths,
        }
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "weights.npz")],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        told[backend] = json.loads(done.stdout.splitlines()[-1])
    for backend in ("jax", "torch"):
        assert told[backend] == pytest.approx(told["tensorflow"], abs=1e-4), backend


@pytest.mark.backends
def test_training_goes_on_from_a_checkpoint(tmp_path):
    """``BackupAndRestore`` and a saved model bring back the optimizer, too."""

    def watched(epochs, stop=None):
        class Stop(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == stop:
                    raise KeyboardInterrupt

        backup = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
        robust = compiled(Adversarial(network(), FAST, LINF))
        settings = {"batch_size": 16, "verbose": 0, "shuffle": False, "epochs": epochs}
        with contextlib.suppress(KeyboardInterrupt):
            robust.fit(X, LABELS, **settings, callbacks=[backup, Stop()])
        return robust

    assert int(ops.convert_to_numpy(watched(3, stop=2).optimizer.iterations)) == 8
    robust = watched(3)
    assert int(ops.convert_to_numpy(robust.optimizer.iterations)) == 12
    robust.save(tmp_path / "whole.keras")
    again = keras.models.load_model(tmp_path / "whole.keras")
    assert again.compiled
    assert int(ops.convert_to_numpy(again.optimizer.iterations)) == 12
    again.fit(X, LABELS, verbose=0)
