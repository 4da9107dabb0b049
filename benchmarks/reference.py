"""The reference AutoAttack against a Keras classifier that is rebuilt in torch: verdicts, seconds
and passes as a line of JSON.

Run it with the Python of its environment (``python benchmarks/peers.py autoattack`` makes it):

    .venv-peers/autoattack/bin/python benchmarks/reference.py --model
    ../shared/models/fmnist_robust.keras \\
        --inputs ../shared/data/fashion_mnist.npz --count 100 --norm L2 --epsilon 1.5 >
        benchmarks/recorded/robust_l2_1.5.json

The archive of inputs holds ``x`` (channels last, from 0 to 1) and ``labels``, or ``x_test`` and
``y_test`` as Fashion-MNIST has them; if it holds the ``logits`` that Keras computes, those of the
rebuilt network must agree. With ``--serve`` the inputs stay where they are and requests come on
stdin, one a line: ``{"start": 0, "stop": 40, "seed": 0}``.

A pass is counted once for every example in it. Weights are frozen: no gradient is taken that the
attack does not ask for.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.metadata
import io
import json
import re
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from common import now
from torch.nn import functional

Array = np.ndarray[Any, Any]
Tensor = torch.Tensor
Step = Callable[[Tensor], Tensor]
CLOSE = 1e-4  # a larger difference of logits is no rounding
PARTS = ("APGD-CE", "APGD-T", "FAB-T", "Square")


# The network.


def same(
    x: Tensor, kernel: tuple[int, ...], strides: list[int], dilation: list[int]
) -> tuple[Tensor, tuple[int, ...]]:
    """Keras's padding "same" of height and width: what a convolution can pad is left to it, what is
    uneven is done here.
    """
    pads = []
    for size, width, stride, spread in zip(x.shape[2:], kernel, strides, dilation, strict=True):
        whole = max(0, (-(-size // stride) - 1) * stride + (width - 1) * spread + 1 - size)
        pads.append((whole // 2, whole - whole // 2))
    (top, bottom), (left, right) = pads
    if top == bottom and left == right:
        return x, (top, left)
    return functional.pad(x, (left, right, top, bottom)), (0, 0)


def activation(name: Any) -> Step:
    """An activation by its name in Keras."""
    known = {
        "linear": lambda x: x,
        "relu": torch.relu,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
    }
    if name not in known:
        raise ValueError(f"the activation {name!r} cannot be rebuilt; known are {', '.join(known)}")
    return known[name]


def convolution(config: dict[str, Any], kernel: Tensor, bias: Tensor | None = None) -> Step:
    """Conv2D; a kernel is (height, width, in, out) in Keras."""
    after, strides, dilation = (
        activation(config["activation"]),
        config["strides"],
        config["dilation_rate"],
    )
    kernel = kernel.permute(3, 2, 0, 1).contiguous()

    def step(x: Tensor) -> Tensor:
        padding: tuple[int, ...] = (0, 0)
        if config["padding"] == "same":
            x, padding = same(x, tuple(kernel.shape[2:]), strides, dilation)
        return after(
            functional.conv2d(x, kernel, bias, strides, padding, dilation, config["groups"])
        )

    return step


def normalization(config: dict[str, Any], *weights: Tensor) -> Step:
    """BatchNormalization as it is after training."""
    given = list(weights)
    scale = given.pop(0) if config["scale"] else None
    shift = given.pop(0) if config["center"] else None
    return lambda x: functional.batch_norm(
        x, given[0], given[1], scale, shift, eps=config["epsilon"]
    )


def relu(config: dict[str, Any]) -> Step:
    """ReLU, the plain one."""
    if (
        config.get("max_value") is not None
        or config.get("negative_slope")
        or config.get("threshold")
    ):
        raise ValueError(f"only a plain ReLU can be rebuilt; {config['name']} is another")
    return torch.relu


def flatten(_: dict[str, Any]) -> Step:
    """Flatten, with the channels last as Keras has them."""
    return lambda x: x.permute(0, *range(2, x.ndim), 1).flatten(1)


def dense(config: dict[str, Any], kernel: Tensor, bias: Tensor | None = None) -> Step:
    """Dense; a kernel is (in, out) in Keras."""
    after, kernel = activation(config["activation"]), kernel.T.contiguous()
    return lambda x: after(functional.linear(x, kernel, bias))


LAYERS: dict[str, Callable[..., Step]] = {
    "Activation": lambda config: activation(config["activation"]),
    "BatchNormalization": normalization,
    "Conv2D": convolution,
    "Dense": dense,
    "Dropout": lambda _: activation("linear"),
    "Flatten": flatten,
    "InputLayer": lambda _: activation("linear"),
    "ReLU": relu,
}


def sources(nodes: Any) -> Iterator[str]:
    """Names of the layers that a layer takes its input from."""
    if isinstance(nodes, dict):
        if "keras_history" in nodes:
            yield nodes["keras_history"][0]
        nodes = list(nodes.values())
    if isinstance(nodes, list):
        for node in nodes:
            yield from sources(node)


def folder(layer: str, number: int) -> str:
    """Where a .keras archive has the weights of the layer of this class that comes as the
    ``number``-th, from 0.
    """
    name = re.sub("([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", layer)).lower()
    return f"layers/{name}_{number}/vars" if number else f"layers/{name}/vars"


class Net(torch.nn.Module):
    """The layers of a .keras archive one after the other; it counts the examples that pass through,
    forward and backward.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        with zipfile.ZipFile(path) as archive:
            layers = json.loads(archive.read("config.json"))["config"]["layers"]
            stored = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
        self.steps: list[Step] = []
        self.frozen = torch.nn.ParameterList()
        self.part = "checks"
        self.passes: Counter[tuple[str, str]] = Counter()
        seen: Counter[str] = Counter()
        last: list[str] = []
        for layer in layers:
            name, config = layer["class_name"], layer["config"]
            if name not in LAYERS:
                raise ValueError(
                    f"the layer {name} cannot be rebuilt; known are {', '.join(LAYERS)}"
                )
            if config.get("data_format", "channels_last") != "channels_last":
                raise ValueError(f"{config['name']} has its channels first")
            if "inbound_nodes" in layer and list(sources(layer["inbound_nodes"])) != last:
                raise ValueError(
                    f"only a chain of layers can be rebuilt; {config['name']} does not"
                    f" follow {last or 'nothing'}"
                )
            group = stored.get(folder(name, seen[name]), {})
            weights = [torch.tensor(np.asarray(group[str(index)])) for index in range(len(group))]
            self.steps.append(LAYERS[name](config, *weights))
            self.frozen.extend(
                torch.nn.Parameter(weight, requires_grad=False) for weight in weights
            )
            seen[name] += 1
            last = [config["name"]]

    def bare(self, x: Tensor) -> Tensor:
        """Logits, uncounted."""
        for step in self.steps:
            x = step(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Logits. A backward pass reaches them first and is counted there."""
        self.passes[self.part, "forward"] += len(x)
        logits = self.bare(x)
        if logits.requires_grad:
            logits.register_hook(functools.partial(self.returned, len(x)))
        return logits

    def returned(self, count: int, _: Tensor) -> None:
        """Count a backward pass."""
        self.passes[self.part, "backward"] += count

    def metered(
        self, part: str, function: Callable[[Tensor, Tensor], Tensor]
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """``function`` of inputs and labels, with its seconds, examples and passes booked to
        ``part``.
        """

        def run(x: Tensor, labels: Tensor) -> Tensor:
            self.part, start = part, now()
            self.passes[part, "examples"] += len(x)
            try:
                return function(x, labels)
            finally:
                self.passes[part, "seconds"] += (now() - start).wall
                self.part = "checks"

        return run


# The libraries: each gives a function of inputs and labels to points.


def of_pyautoattack(
    net: Net, norm: str, epsilon: float, seed: int, batch: int
) -> Callable[[Tensor, Tensor], Tensor]:
    """The authors' code as the package pyautoattack."""
    from pyautoattack import AutoAttack

    attack = AutoAttack(net, norm=norm, eps=epsilon, version="standard", device="cpu", seed=seed)
    for part, one in zip(
        PARTS, (attack.apgd, attack.apgd_targeted, attack.fab, attack.square), strict=True
    ):
        one.perturb = net.metered(part, one.perturb)
    return lambda x, labels: attack.run_standard_evaluation(x, labels, batch_size=batch)[0]


def of_torchattacks(
    net: Net, norm: str, epsilon: float, seed: int, batch: int, full: bool = False
) -> Callable[[Tensor, Tensor], Tensor]:
    """AutoAttack of torchattacks: as it comes with 10 steps where the paper has 100, or with the
    settings of the paper.
    """
    import torchattacks

    if norm not in ("Linf", "L2"):
        raise ValueError(f"torchattacks has no AutoAttack for {norm}")
    classes = net.frozen[-1].shape[-1]
    attack = torchattacks.AutoAttack(
        net, norm=norm, eps=epsilon, version="standard", n_classes=classes, seed=seed
    )
    for part, one in zip(PARTS, attack._autoattack.attacks, strict=True):
        if full:
            vars(one).update({"rescale_schedule": False} if part == "Square" else {"steps": 100})
        vars(one)["forward"] = net.metered(part, one.forward)
    return lambda x, labels: torch.cat(
        [attack(*some) for some in zip(x.split(batch), labels.split(batch), strict=True)]
    )


LIBRARIES = {
    "pyautoattack": of_pyautoattack,
    "torchattacks": of_torchattacks,
    "torchattacks-100": functools.partial(of_torchattacks, full=True),
}


# Evaluation.


def size(delta: Tensor, norm: str) -> Tensor:
    """The norm of each row, in float64."""
    return torch.linalg.vector_norm(
        delta.double().flatten(1), {"Linf": float("inf"), "L2": 2, "L1": 1}[norm], dim=1
    )


def evaluated(
    net: Net,
    library: str,
    x: Tensor,
    labels: Tensor,
    norm: str,
    epsilon: float,
    seed: int,
    batch: int,
) -> dict[str, Any]:
    """The verdict on each example, 1 where the network held, and what it cost."""
    torch.manual_seed(seed)
    net.passes.clear()
    start = now()
    attack = LIBRARIES[library](net, norm, epsilon, seed, batch)
    with contextlib.redirect_stdout(sys.stderr):  # stdout is for the answer
        points = attack(x, labels)
    spent = now() - start
    with torch.no_grad():
        clean, robust = (net.bare(some).argmax(1) == labels for some in (x, points))
    passes, count = net.passes, len(x)
    forward, backward = (
        sum(value for (_, kind), value in passes.items() if kind == way)
        for way in ("forward", "backward")
    )
    name = library.removesuffix("-100")
    return {
        "norm": norm,
        "eps": epsilon,
        "count": count,
        "seed": seed,
        "clean_accuracy": clean.double().mean().item(),
        "robust_accuracy": robust.double().mean().item(),
        "largest": size(points - x, norm).max().item(),
        "seconds": spent.wall,
        "cpu_seconds": spent.cpu,
        "forward_per_example": forward / count,
        "backward_per_example": backward / count,
        "robust": robust.int().tolist(),
        "library": (
            f"{library.replace(name, f'{name} {importlib.metadata.version(name)}')},"
            " torch"
            f" {torch.__version__}"
        ),
        "batch_size": batch,
        "parts": {
            part: {
                kind: round(passes[part, kind], 3)
                for kind in ("examples", "seconds", "forward", "backward")
            }
            for part in PARTS
        },
    }


def loaded(path: Path, count: int | None) -> tuple[Tensor, Tensor, Array | None]:
    """Inputs with channels first, labels, and the logits to be expected if there are any."""
    with np.load(path) as data:
        if "x_test" in data:
            x, labels, logits = (
                data["x_test"][:count, ..., None].astype("float32") / 255,
                data["y_test"][:count],
                None,
            )
        else:
            x, labels = data["x"][:count], data["labels"][:count]
            logits = data["logits"][:count] if "logits" in data else None
    x = np.ascontiguousarray(np.moveaxis(x, -1, 1), dtype="float32")
    return torch.tensor(x), torch.tensor(labels.astype("int64")), logits


def checked(net: Net, x: Tensor, logits: Array | None) -> float | None:
    """The largest difference of the logits from those of Keras, or an error if it is no
    rounding.
    """
    if logits is None:
        return None
    with torch.no_grad():
        off = float(np.abs(net.bare(x).numpy() - logits).max())
    if not off < CLOSE:
        raise ValueError(f"the rebuilt network is another: its logits are off by up to {off:.2g}")
    return off


def main(argv: list[str] | None = None) -> int:
    """Answer once, or as long as somebody asks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model",
        type=Path,
        required=True,
        help="a .keras archive with a chain of layers that ends in logits",
    )
    parser.add_argument("--inputs", type=Path, required=True, help="an .npz archive")
    parser.add_argument("--count", type=int, help="the first so many inputs; all if not given")
    parser.add_argument("--library", choices=list(LIBRARIES), default="pyautoattack")
    parser.add_argument("--norm", choices=["Linf", "L2", "L1"], default="Linf")
    parser.add_argument("--epsilon", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--serve", action="store_true", help="answer the requests on stdin")
    options = parser.parse_args(argv)

    net = Net(options.model).eval()
    x, labels, logits = loaded(options.inputs, options.count)
    off = checked(net, x, logits)
    run = functools.partial(
        evaluated,
        net,
        options.library,
        norm=options.norm,
        epsilon=options.epsilon,
        batch=options.batch,
    )
    if not options.serve:
        print(json.dumps(run(x, labels, seed=options.seed)))
        return 0
    print(
        json.dumps(
            {"torch": torch.__version__, "threads": torch.get_num_threads(), "logits_off": off}
        ),
        flush=True,
    )
    for line in sys.stdin:
        asked = json.loads(line)
        rows = slice(asked["start"], asked["stop"])
        print(json.dumps(run(x[rows], labels[rows], seed=asked["seed"])), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
