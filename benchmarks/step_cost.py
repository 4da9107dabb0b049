"""What a step costs: a whole PGD step beside the bare gradient of the summed cross-entropy with
respect to the input.

``python benchmarks/step_cost.py`` measures advex on a plain convolutional net (32x32x3) and on
MobileNetV2 (96x96x3), both with random weights, batch 128; and every peer whose environment is
there (``--with-peers`` makes them). The budget is so small that no row succeeds: every row takes
every step. Two measures, each against bare gradients of the same process, run in between:

- *step by step* (advex): one bare gradient between any two rounds of the driver; a step is all that
  happens from one to the next.
- *whole calls* (advex and peers): (seconds of 1 + n steps - seconds of 1 step) / n, bare gradients
  before, between and after.

The ratio is a median of ratios, round by round; "CPU ratio" is the same with seconds of processor
time, which hardly feels what else the machine is doing.

The bare gradient is a ``tf.function`` with an unknown batch size and no gradients of weights.
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from common import Spent, machine, now, table, timed, versions
from peers import MODULES, ROOT, make, python, ready

EPSILON = 1e-6  # in [0, 1]: nothing falls
STEP = 0.25  # of epsilon
HEAD = ("model, library", "step, ms", "bare, ms", "ratio", "quartiles", "CPU ratio")


class Task(NamedTuple):
    """A model with what is asked of it."""

    name: str
    model: Any
    x: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]
    bare: Callable[[], Any]


class Pair(NamedTuple):
    """The cost of one step, and of one bare gradient beside it."""

    step: Spent
    bare: Spent


def cnn() -> Any:
    """A plain convolutional net: 32-32-pool-64-64-pool-10."""
    import keras
    from keras import layers

    conv = functools.partial(layers.Conv2D, kernel_size=3, padding="same", activation="relu")
    parts = [conv(32), conv(32), layers.MaxPooling2D(), conv(64), conv(64), layers.MaxPooling2D()]
    return keras.Sequential([keras.Input((32, 32, 3)), *parts, layers.Flatten(), layers.Dense(10)])


def mobilenet() -> Any:
    """MobileNetV2 at 96x96 with random weights, ten classes."""
    import keras

    return keras.applications.MobileNetV2(
        (96, 96, 3), weights=None, classes=10, classifier_activation=None
    )


MODELS = {"cnn": cnn, "mobilenet": mobilenet}


def task(name: str, batch: int, model: Any = None) -> Task:
    """Model, inputs, the model's own answers as labels, and the bare gradient, already traced."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    model = model or MODELS[name]()
    shape = tuple(model.input_shape[1:])
    x = np.random.default_rng(0).random((batch, *shape), dtype="float32")
    labels = np.asarray(model(x, training=False)).argmax(1).astype("int32")
    points, classes = tf.constant(x), tf.constant(labels)

    @tf.function(input_signature=[tf.TensorSpec((None, *shape)), tf.TensorSpec((None,), tf.int32)])
    def gradient(x: Any, labels: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            logits = model(x, training=False)
            loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        return tape.gradient(loss, x)

    gradient(points, classes)
    return Task(name, model, x, labels, lambda: gradient(points, classes))


# The attacks: each takes the number of steps and runs them all on every row.


def advex_calls(task: Task) -> Callable[..., Any]:
    """PGD of advex."""
    import advex

    def run(steps: int, progress: Any = False) -> None:
        attack = advex.PGD(steps=steps, step_size=STEP)
        result = attack(
            task.model,
            task.x,
            task.labels,
            advex.Linf(EPSILON),
            batch_size=len(task.x),
            progress=progress,
        )
        assert not result.success.any(), "a row succeeded: the steps are not all taken"
        assert (result.gradients == steps).all()

    return run


def foolbox_calls(task: Task) -> Callable[..., Any]:
    """LinfPGD of Foolbox."""
    import foolbox
    import tensorflow as tf

    model = foolbox.TensorFlowModel(task.model, bounds=(0, 1))
    # another integer would not be comparable
    x, labels = (
        tf.constant(task.x),
        tf.constant(task.labels.astype("int64")),
    )
    return lambda steps: foolbox.attacks.LinfPGD(steps=steps, rel_stepsize=STEP)(
        model, x, labels, epsilons=[EPSILON]
    )


def cleverhans_calls(task: Task) -> Callable[..., Any]:
    """projected_gradient_descent of CleverHans."""
    import tensorflow as tf
    from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

    def run(steps: int) -> None:
        options = {
            "clip_min": 0.0,
            "clip_max": 1.0,
            "y": labels,
            "rand_init": True,
            "sanity_checks": False,
        }
        projected_gradient_descent(task.model, x, EPSILON, STEP * EPSILON, steps, np.inf, **options)

    x, labels = tf.constant(task.x), tf.constant(task.labels)
    return run


def art_calls(task: Task) -> Callable[..., Any]:
    """ProjectedGradientDescent of the Adversarial Robustness Toolbox."""
    import keras
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import TensorFlowV2Classifier

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    shape = task.x.shape[1:]
    classifier = TensorFlowV2Classifier(
        task.model, nb_classes=10, input_shape=shape, loss_object=loss, clip_values=(0, 1)
    )
    settings = {
        "norm": np.inf,
        "eps": EPSILON,
        "eps_step": STEP * EPSILON,
        "num_random_init": 1,
        "verbose": False,
    }

    def run(steps: int) -> None:
        ProjectedGradientDescent(
            classifier, max_iter=steps, batch_size=len(task.x), **settings
        ).generate(task.x, task.labels)

    return run


CALLS = {
    "advex": advex_calls,
    "foolbox": foolbox_calls,
    "cleverhans": cleverhans_calls,
    "art": art_calls,
}


# The two measures.


def step_by_step(task: Task, rounds: int, steps: int) -> list[Pair]:
    """Every step of ``rounds`` calls, each between two bare gradients."""
    run = advex_calls(task)
    run(1 + steps)
    pairs: list[Pair] = []
    for _ in range(rounds):
        left: Spent | None = None  # when the driver went on
        before: Spent | None = None  # the bare gradient before that

        def progress(*_: int) -> None:
            nonlocal left, before
            came = now()
            after = timed(task.bare)
            if left is not None and before is not None:
                mean = Spent((before.wall + after.wall) / 2, (before.cpu + after.cpu) / 2)
                pairs.append(Pair(came - left, mean))
            before, left = after, now()

        run(steps + 1, progress)  # the first step cannot be told from the start of the call
    return pairs


def whole_calls(task: Task, run: Callable[[int], Any], rounds: int, steps: int) -> list[Pair]:
    """Differences of calls with few and with more steps, with bare gradients in between."""
    for count in (1, 1 + steps):  # some trace anew for another number of steps
        run(count)
    pairs = []
    for _ in range(rounds):
        half = max(1, steps // 2)
        bare = [timed(task.bare) for _ in range(half)]
        few = timed(lambda: run(1))
        bare += [timed(task.bare) for _ in range(half)]
        many = timed(lambda: run(1 + steps))
        bare += [timed(task.bare) for _ in range(half)]
        middle = Spent(
            float(np.median([b.wall for b in bare])), float(np.median([b.cpu for b in bare]))
        )
        pairs.append(Pair((many - few) / steps, middle))
    return pairs


def row(name: str, pairs: list[Pair]) -> list[str]:
    """A line of the table: medians, and the spread of the ratio."""
    ratios = [pair.step.wall / pair.bare.wall for pair in pairs]
    cpu = [pair.step.cpu / pair.bare.cpu for pair in pairs if pair.bare.cpu > 0]
    low, middle, high = np.percentile(ratios, (25, 50, 75))
    step, bare = (
        1e3 * float(np.median([one.wall for one in ones])) for ones in zip(*pairs, strict=True)
    )
    effort = f"{np.median(cpu):.3f}" if cpu else "-"
    return [name, f"{step:.1f}", f"{bare:.1f}", f"{middle:.3f}", f"{low:.2f} - {high:.2f}", effort]


def measured(
    library: str, name: str, rounds: int, steps: int, batch: int, model: Any = None
) -> list[list[str]]:
    """The lines of one library and one model."""
    todo = task(name, batch, model)
    lines = []
    if library == "advex":
        lines.append(row(f"{name}, advex, step by step", step_by_step(todo, rounds, steps)))
    lines.append(
        row(
            f"{name}, {library}, whole calls",
            whole_calls(todo, CALLS[library](todo), rounds, steps),
        )
    )
    return lines


def from_peer(peer: str, name: str, arguments: list[str]) -> list[list[str]] | str:
    """The lines of a peer, measured in its own environment; or what went wrong."""
    script = ROOT / "benchmarks" / "step_cost.py"
    command = [
        str(python(peer)),
        str(script),
        "--peer",
        peer,
        "--model",
        name,
        "--json",
        *arguments,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"{name}, {peer}: failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
    return json.loads(done.stdout.splitlines()[-1])


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=[*MODELS, "both"], default="both")
    parser.add_argument("--rounds", type=int, default=4, help="how often everything is repeated")
    parser.add_argument("--steps", type=int, default=4, help="steps per round")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument(
        "--peer",
        choices=list(MODULES),
        help="measure this peer only, in the Python that runs this script",
    )
    parser.add_argument(
        "--with-peers",
        action="store_true",
        help="measure the peers too, making their environments if need be",
    )
    parser.add_argument("--json", action="store_true", help="print the lines as JSON")
    options = parser.parse_args(argv)
    names = list(MODELS) if options.model == "both" else [options.model]
    sizes = (options.rounds, options.steps, options.batch)

    lines: list[list[str]] = []
    remarks: list[str] = []
    for name in names:
        lines += measured(options.peer or "advex", name, *sizes)
    if options.json:
        print(json.dumps(lines))
        return 0
    print(
        f"{machine()}\n{versions()}\nbatch {options.batch}, {options.rounds} rounds of"
        f" {options.steps} steps, medians\n"
    )
    arguments = [
        f"--{key}={value}" for key, value in zip(("rounds", "steps", "batch"), sizes, strict=True)
    ]
    for peer in MODULES if not options.peer else ():
        problem = make(peer) if options.with_peers else None
        if problem:
            remarks.append(problem)
        if not ready(peer):
            continue
        for name in names:
            found = from_peer(peer, name, arguments)
            if isinstance(found, str):
                remarks.append(found)
            else:
                lines += found
    print(table(HEAD, sorted(lines, key=lambda line: names.index(line[0].split(",")[0]))))
    print("\n".join(remarks))
    return 0


if __name__ == "__main__":
    sys.exit(main())
