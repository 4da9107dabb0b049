"""Attacks on a U-Net that is rebuilt in torch: ALMA prox of adv-lib, and SegPGD and PGD written by
the papers.

``segmentation.py`` runs it with the Python of an environment that has torch and adv-lib. It reads
images, labels, the weights and the logits that Keras computes from one .npz archive, and writes the
points that it finds, with seconds and passes, to another; nothing is judged here but the logits of
the rebuilt network, which must agree.

The papers: Rony et al., Proximal Splitting Adversarial Attack for Semantic Segmentation, 2022; Gu
et al., SegPGD: An Effective and Efficient Adversarial Attack for Evaluating and Boosting
Segmentation Robustness, 2022; Madry et al., Towards Deep Learning Models Resistant to Adversarial
Attacks, 2018.
"""

from __future__ import annotations

import argparse
import importlib.machinery
import importlib.metadata
import json
import os
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# adv-lib compiles a helper, for which torch wants a C++ compiler; it finds the same without.
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

import numpy as np
import torch
from common import now
from torch.nn import functional

Array = np.ndarray[Any, Any]
Tensor = torch.Tensor
VOID = 255
CLOSE = 1e-4  # a larger difference of logits is no rounding


class UNet(torch.nn.Module):
    """The network of ``tests/shapes_data.py``, from its weights in the order of ``get_weights``.
    Images have their channels first. It counts the images that pass through.
    """

    def __init__(self, weights: Sequence[Array]) -> None:
        super().__init__()
        kernels = [torch.tensor(kernel).permute(3, 2, 0, 1).contiguous() for kernel in weights[::2]]
        self.layers = list(zip(kernels, map(torch.tensor, weights[1::2]), strict=True))
        self.passes = 0

    def conv(self, index: int, x: Tensor) -> Tensor:
        return torch.relu(functional.conv2d(x, *self.layers[index], padding="same"))

    def forward(self, x: Tensor) -> Tensor:
        self.passes += len(x)
        high = self.conv(1, self.conv(0, x))
        middle = self.conv(3, self.conv(2, functional.avg_pool2d(high, 2)))
        low = self.conv(5, self.conv(4, functional.avg_pool2d(middle, 2)))
        up = self.conv(6, torch.cat([middle, functional.interpolate(low, scale_factor=2)], 1))
        up = self.conv(7, torch.cat([high, functional.interpolate(up, scale_factor=2)], 1))
        return functional.conv2d(up, *self.layers[8])


def alma_prox(net: UNet, x: Tensor, labels: Tensor, steps: int) -> Tensor:
    """adv-lib, image by image: with the images of a batch that have different numbers of void
    pixels its allowance of right pixels is 0 in one and 1 in another at some step, and its gather
    fails there. What is a failure comes back as the best that was seen.
    """
    for name in ("visdom", "torchvision"):  # asked for by what is not used here
        stub = types.ModuleType(name)
        stub.__spec__ = importlib.machinery.ModuleSpec(name, None)
        stub.__dict__["models"] = None
        sys.modules.setdefault(name, stub)
    from adv_lib.attacks.segmentation import alma_prox as attack

    points = []
    for image, truth in zip(x.split(1), labels.split(1), strict=True):
        masks = truth != VOID
        points.append(attack(net, image, truth * masks, masks=masks, num_steps=steps).detach())
    return torch.cat(points)


def ascent(
    net: UNet,
    x: Tensor,
    labels: Tensor,
    epsilon: float,
    steps: int,
    step: float,
    weighed: bool,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Signed ascent of the cross-entropy in an Linf ball from a random start, with steps of
    ``step`` times epsilon: the last point, and the one of the most wrong pixels on the way.

    SegPGD if ``weighed``: step t of T weighs a pixel that is wrong by (t - 1) / (2 T), one that is
    right by the rest.
    """
    counts = labels != VOID
    truth = torch.where(counts, labels, 0)
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed))
    point = (x + epsilon * (2 * noise - 1)).clamp(0, 1)
    best, most = x.clone(), torch.full((len(x),), -1)
    for number in range(1, steps + 2):
        point.requires_grad_(number <= steps)
        logits = net(point)
        wrong = logits.detach().argmax(1) != truth
        amount = (wrong & counts).sum((1, 2))
        better = amount > most
        most = torch.where(better, amount, most)
        best = torch.where(better[:, None, None, None], point.detach(), best)
        if number > steps:
            break
        loss = functional.cross_entropy(logits, truth, reduction="none") * counts
        if weighed:
            share = (number - 1) / (2 * steps)
            loss = loss * torch.where(wrong, share, 1 - share)
        (gradient,) = torch.autograd.grad(loss.sum(), point)
        point = point.detach() + step * epsilon * gradient.sign()
        point = torch.minimum(torch.maximum(point, x - epsilon), x + epsilon).clamp(0, 1)
    return point.detach(), best


def main(argv: list[str] | None = None) -> int:
    """Attack; points go to the archive, channels last, and a line of JSON with the costs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("inputs", type=Path, help=".npz with x, labels, logits, weights_00 ...")
    parser.add_argument("out", type=Path, help=".npz for the points")
    parser.add_argument("--steps-minimum", type=int, default=500)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--epsilons", type=float, nargs="*", required=True)
    parser.add_argument("--step-sizes", type=float, nargs="*", required=True, help="of epsilon")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)

    with np.load(options.inputs) as data:
        net = UNet([data[name] for name in sorted(data.files) if name.startswith("weights_")])
        x = torch.tensor(np.moveaxis(data["x"], -1, 1).copy())
        labels = torch.tensor(data["labels"].astype("int64"))
        logits = data["logits"]
    with torch.no_grad():
        off = float(np.abs(net(x).permute(0, 2, 3, 1).numpy() - logits).max())
    if not off < CLOSE:
        raise ValueError(f"the rebuilt network is another: its logits are off by up to {off:.2g}")

    points: dict[str, Tensor] = {}
    costs: dict[str, Any] = {}

    def book(name: str, start: Any) -> None:
        costs[name] = {
            "seconds": round((now() - start).wall, 1),
            "passes_per_image": net.passes / len(x),
        }
        print(f"{name}: {costs[name]['seconds']} s", file=sys.stderr, flush=True)
        net.passes = 0

    net.passes = 0
    if options.steps_minimum:
        start = now()
        points["alma_prox"] = alma_prox(net, x, labels, options.steps_minimum)
        book("alma_prox", start)
    for index, epsilon in enumerate(options.epsilons):
        for step in options.step_sizes:
            for kind in ("segpgd", "pgd"):
                name, start = f"{kind}_{index}_{step:g}", now()
                points[f"{name}_last"], points[f"{name}_best"] = ascent(
                    net, x, labels, epsilon, options.steps, step, kind == "segpgd"
                )
                book(name, start)
    found = {name: np.moveaxis(some.numpy(), 1, -1) for name, some in points.items()}
    np.savez(options.out, **found)
    versions = {name: importlib.metadata.version(name) for name in ("torch", "adv-lib")}
    print(json.dumps({"logits_off": off, "versions": versions, "costs": costs}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
