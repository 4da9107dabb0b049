"""Minimum-norm attacks of other libraries on a Keras classifier that is rebuilt in torch, all
within the same number of passes.

Run it with the Python of its environment (``python benchmarks/peers.py minimum`` makes it), for one
attack:

    .venv-peers/minimum/bin/python benchmarks/minimum_peers.py --model
    ../shared/models/fmnist_robust.keras \\
        --norm L2 --attack adv-lib-DDN --first 0 --last 100 --out ddn.npz

or for all of them, on both networks, into the files that ``optimality.py`` reads; what is recorded
already is not run again:

    .venv-peers/minimum/bin/python benchmarks/minimum_peers.py --record --last 100

Measured as AttackBench does it (Cina et al., AttackBench: Evaluating Gradient-based Attacks for
Adversarial Examples, 2024): what counts is not what an attack returns but the smallest adversarial
point that it has shown the network while within the limit, and what it returns is one such point
more, provided that it ended by itself. Each row has passes of its own, so that a row that leaves an
attack's batch does not pay for the others. Images the network gets wrong have distance 0 and are
not attacked.

Settings are the libraries' own, but for the number of steps, which is what the limit allows, and
where AttackBench has others.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import importlib.machinery
import importlib.metadata
import logging
import sys
import types
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import reference
import torch
from common import now
from optimality import LIMIT, RECORDED, Outcome, read, write
from reference import Net, activation, checked, convolution, loaded, normalization

Array = np.ndarray[Any, Any]
Tensor = torch.Tensor
# of the network, inputs and labels, to points
Attack = Callable[[torch.nn.Module, Tensor, Tensor], Tensor]
ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
ORDERS = {"L2": 2.0, "Linf": float("inf"), "L1": 1.0, "L0": 0.0}
BOX = 1e-6  # how far outside [0, 1] is rounding: x + (y - x) is not y in float32
SLOW = 100  # a slow attack is recorded on so many images


# The network.


class Folding:
    """A convolution that takes in the normalisation behind it."""

    def __init__(self, config: dict[str, Any], kernel: Tensor, bias: Tensor | None = None) -> None:
        self.config, self.kernel, self.bias = config, kernel, bias
        self.step = convolution(config, kernel, bias)

    def __call__(self, x: Tensor) -> Tensor:
        return self.step(x)

    def fold(self, config: dict[str, Any], *weights: Tensor) -> None:
        """Normalise the output: a factor for the kernel's last axis, and another bias."""
        zero = torch.zeros(1, self.kernel.shape[-1])
        shift = normalization(config, *weights)(zero)[0]
        factor = normalization(config, *weights)(zero + 1)[0] - shift
        self.bias = shift if self.bias is None else shift + factor * self.bias
        self.step = convolution(self.config, self.kernel * factor, self.bias)


def rebuilt(path: Path, x: Tensor) -> Net:
    """The network of a .keras archive with its normalisations folded: the same logits on ``x``, in
    two thirds of the time.
    """
    convolutions: list[Folding] = []

    def kept(*arguments: Any) -> Folding:
        convolutions.append(Folding(*arguments))
        return convolutions[-1]

    def folded(*arguments: Any) -> reference.Step:
        convolutions[-1].fold(*arguments)
        return activation("linear")

    plain = Net(path).eval()
    with mock.patch.dict(reference.LAYERS, Conv2D=kept, BatchNormalization=folded):
        net = Net(path).eval()
    with torch.no_grad():
        checked(net, x, plain.bare(x).numpy())
    return net


class OverLimit(Exception):
    """Raised within an attack that has spent the passes of all rows it still looks at."""


class Watched(torch.nn.Module):
    """The network as an attack sees it: counts the passes of each row and keeps its smallest
    adversarial point.

    A batch of as many rows as there are inputs is taken to be in their order, any other (or every
    one if ``nearest``) to consist of points that are nearer to their own input than to another.
    """

    def __init__(
        self, net: Net, x: Tensor, labels: Tensor, norm: str, nearest: bool = False
    ) -> None:
        super().__init__()
        self.net, self.x, self.labels, self.norm, self.nearest = net, x, labels, norm, nearest
        self.passes = torch.zeros(2, len(x), dtype=torch.long)  # forward and backward
        self.best = torch.full((len(x),), torch.inf, dtype=torch.double)
        self.outside = 0

    def rows(self, x: Tensor) -> Tensor:
        """Which input each row of a batch belongs to."""
        if len(x) == len(self.x) and not self.nearest:
            return torch.arange(len(x))
        if len(self.x) == 1:
            return torch.zeros(len(x), dtype=torch.long)
        order = 0.0 if self.norm == "L0" else 2.0
        return torch.cdist(x.detach().flatten(1), self.x.flatten(1), p=order).argmin(1)

    def count(self, way: int, rows: Tensor) -> None:
        """Count a pass of these rows, unless none of them has one left."""
        if (self.passes[way, rows] >= LIMIT).all():
            raise OverLimit
        self.passes[way] += torch.bincount(rows, minlength=len(self.x))

    def record(self, x: Tensor, logits: Tensor, rows: Tensor) -> None:
        """Keep what is adversarial, in the box and smaller than anything before."""
        fooled = (logits.argmax(1) != self.labels[rows]) & logits.isfinite().all(1)
        inside = ((x >= -BOX) & (x <= 1 + BOX)).flatten(1).all(1)
        self.outside += int((fooled & ~inside).sum())
        hits = fooled & inside & (self.passes[:, rows] <= LIMIT).all(0)
        if hits.any():
            delta = x[hits].clamp(0, 1).double() - self.x[rows[hits]].double()
            size = torch.linalg.vector_norm(delta.flatten(1), ORDERS[self.norm], dim=1)
            self.best.scatter_reduce_(0, rows[hits], size, "amin")

    def forward(self, x: Tensor) -> Tensor:
        rows = self.rows(x)
        self.count(0, rows)
        logits = self.net.bare(x)
        self.record(x.detach(), logits.detach(), rows)
        if logits.requires_grad:
            logits.register_hook(lambda _: self.count(1, rows))
        return logits


# The libraries: each gives an attack by its name there, with settings.


def of_advlib(place: str, **settings: Any) -> Attack:
    """adv-lib; ``place`` is module and function. What it needs visdom and torchvision for, pictures
    and LPIPS, is not used.
    """

    def run(net: torch.nn.Module, x: Tensor, labels: Tensor) -> Tensor:
        for name in ("visdom", "torchvision"):
            stub = types.ModuleType(name)
            stub.__spec__, stub.__dict__["models"] = (
                importlib.machinery.ModuleSpec(name, None),
                None,
            )
            sys.modules.setdefault(name, stub)
        module, function = place.split(".")
        return getattr(importlib.import_module(f"adv_lib.attacks.{module}"), function)(
            net, x, labels, **settings
        )

    return run


def of_foolbox(name: str, **settings: Any) -> Attack:
    """Foolbox, without the evaluation that follows its attacks."""

    def run(net: torch.nn.Module, x: Tensor, labels: Tensor) -> Tensor:
        import foolbox

        model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
        return getattr(foolbox.attacks, name)(**settings).run(
            model, x, foolbox.criteria.Misclassification(labels)
        )

    return run


def of_torchattacks(name: str, **settings: Any) -> Attack:
    """torchattacks."""

    def run(net: torch.nn.Module, x: Tensor, labels: Tensor) -> Tensor:
        import torchattacks

        return getattr(torchattacks, name)(net, **settings)(x, labels)

    return run


def of_art(name: str, labelled: bool = True, **settings: Any) -> Attack:
    """ART; for an attack that is not ``labelled`` labels would be targets."""

    def run(net: torch.nn.Module, x: Tensor, labels: Tensor) -> Tensor:
        from art.attacks import evasion
        from art.estimators.classification import PyTorchClassifier

        loss = torch.nn.CrossEntropyLoss()
        model = PyTorchClassifier(
            net, loss, tuple(x.shape[1:]), nb_classes=10, clip_values=(0, 1), device_type="cpu"
        )
        attack = getattr(evasion, name)(model, verbose=False, **settings)
        return torch.tensor(attack.generate(x.numpy(), labels.numpy() if labelled else None))

    return run


def of_cleverhans(**settings: Any) -> Attack:
    """Carlini and Wagner's attack of CleverHans, the only one that looks for the smallest
    perturbation.
    """

    def run(net: torch.nn.Module, x: Tensor, labels: Tensor) -> Tensor:
        from cleverhans.torch.attacks.carlini_wagner_l2 import carlini_wagner_l2

        return carlini_wagner_l2(net, x, 10, y=labels, **settings)

    return run


class Peer(NamedTuple):
    """An attack and how it has to be watched: image by image if rows of its batches wait for one
    another; see ``Watched``.
    """

    attack: Attack
    single: bool = False
    nearest: bool = False
    slow: bool = False


apgd = functools.partial(of_advlib, "auto_pgd.minimal_apgd", binary_search_steps=12, n_iter=80)
advlib_fmn = functools.partial(of_advlib, "fast_minimum_norm.fmn", steps=LIMIT)
advlib_pdpgd = functools.partial(of_advlib, "primal_dual_gradient_descent.pdpgd", num_steps=LIMIT)
alma = functools.partial(of_advlib, "augmented_lagrangian.alma", num_steps=LIMIT)
# nine backward passes a step
fab = functools.partial(of_advlib, "fast_adaptive_boundary.fab", n_iter=111)
trust_region = functools.partial(of_advlib, "trust_region.tr", iter=LIMIT, adaptive=True)
PEERS = {
    "L2": {
        "adv-lib-DDN": Peer(of_advlib("decoupled_direction_norm.ddn", steps=LIMIT, levels=None)),
        "adv-lib-FMN": Peer(advlib_fmn(norm=2)),
        "foolbox-DDN": Peer(of_foolbox("DDNAttack", steps=LIMIT)),
        "foolbox-FMN": Peer(of_foolbox("L2FMNAttack", steps=LIMIT)),
        "adv-lib-PDPGD": Peer(advlib_pdpgd(norm=2)),
        "adv-lib-PDGD": Peer(of_advlib("primal_dual_gradient_descent.pdgd", num_steps=LIMIT)),
        "adv-lib-ALMA": Peer(alma(distance="l2", init_lr_distance=0.1)),
        "adv-lib-APGD": Peer(apgd(norm=2, max_eps=2.5)),
        "adv-lib-FAB": Peer(fab(norm=2)),
        "adv-lib-DeepFool": Peer(of_advlib("deepfool.df", norm=2, steps=111)),
        "adv-lib-SuperDeepFool": Peer(of_advlib("superdeepfool.sdf")),
        "adv-lib-TrustRegion": Peer(trust_region(p=2)),
        "foolbox-DeepFool": Peer(of_foolbox("L2DeepFoolAttack", steps=111)),
        "adv-lib-CarliniWagner": Peer(
            of_advlib("carlini_wagner.carlini_wagner_l2", max_iterations=111)
        ),
        "foolbox-CarliniWagner": Peer(of_foolbox("L2CarliniWagnerAttack", steps=111)),
        "torchattacks-CarliniWagner": Peer(of_torchattacks("CW", steps=LIMIT)),
        "torchattacks-DeepFool": Peer(of_torchattacks("DeepFool", steps=100), single=True),
        "ART-DeepFool": Peer(of_art("DeepFool"), single=True),
        "cleverhans-CarliniWagner": Peer(of_cleverhans(binary_search_steps=9, max_iterations=111)),
        "ART-CarliniWagner": Peer(of_art("CarliniL2Method"), single=True, slow=True),
    },
    "Linf": {
        "adv-lib-FMN": Peer(advlib_fmn(norm=torch.inf)),
        "foolbox-FMN": Peer(of_foolbox("LInfFMNAttack", steps=LIMIT)),
        "adv-lib-PDPGD": Peer(advlib_pdpgd(norm=torch.inf)),
        "adv-lib-APGD": Peer(apgd(norm=torch.inf, max_eps=0.25)),
        "adv-lib-FAB": Peer(fab(norm=torch.inf)),
        "adv-lib-DeepFool": Peer(of_advlib("deepfool.df", norm=torch.inf, steps=111)),
        "adv-lib-TrustRegion": Peer(trust_region(p=torch.inf)),
        "foolbox-DeepFool": Peer(of_foolbox("LinfDeepFoolAttack", steps=111)),
        "adv-lib-CarliniWagner": Peer(
            of_advlib("carlini_wagner.carlini_wagner_linf", max_iterations=100)
        ),
        "ART-CarliniWagner": Peer(
            of_art("CarliniLInfMethod", initial_const=0.01), single=True, slow=True
        ),
    },
    "L1": {
        "adv-lib-FMN": Peer(advlib_fmn(norm=1)),
        "foolbox-FMN": Peer(of_foolbox("L1FMNAttack", steps=LIMIT)),
        "adv-lib-PDPGD": Peer(advlib_pdpgd(norm=1)),
        "adv-lib-ALMA": Peer(alma(distance="l1", init_lr_distance=0.5)),
        "adv-lib-APGD": Peer(apgd(norm=1, max_eps=25.0, use_large_reps=True)),
        "adv-lib-FAB": Peer(fab(norm=1)),
        "foolbox-ElasticNet": Peer(of_foolbox("EADAttack", steps=55, decision_rule="L1")),
        "torchattacks-ElasticNet": Peer(of_torchattacks("EADL1", max_iterations=55)),
        "ART-ElasticNet": Peer(
            of_art("ElasticNet", max_iter=37, decision_rule="L1"), single=True, slow=True
        ),
    },
    "L0": {
        "adv-lib-SigmaZero": Peer(of_advlib("sigma_zero.sigma_zero", num_steps=LIMIT)),
        "adv-lib-FMN": Peer(advlib_fmn(norm=0)),
        "foolbox-FMN": Peer(of_foolbox("L0FMNAttack", steps=LIMIT)),
        "adv-lib-PDPGD": Peer(advlib_pdpgd(norm=0, proximal_operator=23)),
        "adv-lib-VFGA": Peer(
            of_advlib("stochastic_sparse_attacks.vfga", targeted=False), nearest=True
        ),
        "torchattacks-JSMA": Peer(of_torchattacks("JSMA", gamma=1.0), single=True, slow=True),
        "ART-JSMA": Peer(
            of_art("SaliencyMapMethod", labelled=False, theta=1.0), single=True, slow=True
        ),
    },
}
PACKAGES = {"ART": "adversarial-robustness-toolbox"}


# What is measured and recorded.


class Answer(NamedTuple):
    """Per image the smallest adversarial distance (inf if none), forward and backward passes; and
    the seconds of all.
    """

    distances: Array
    forward: Array
    backward: Array
    seconds: float
    outside: int
    stopped: bool


def attacked(net: Net, peer: Peer, norm: str, x: Tensor, labels: Tensor, seed: int = 0) -> Answer:
    """Attack those that the network gets right."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    with torch.no_grad():
        right = torch.nonzero(net.bare(x).argmax(1) == labels).flatten()
    distances = torch.zeros(len(x), dtype=torch.double)
    passes = torch.zeros(2, len(x), dtype=torch.long)
    outside, stopped, start = 0, False, now()
    for rows in right.split(1 if peer.single else max(1, len(right))):
        watched = Watched(net, x[rows], labels[rows], norm, peer.nearest).eval()
        try:
            points = peer.attack(watched, x[rows].clone(), labels[rows].clone()).detach().float()
            with torch.no_grad():
                watched.record(points, net.bare(points), torch.arange(len(rows)))
        except OverLimit:
            stopped = True
        distances[rows], passes[:, rows] = watched.best, watched.passes.clamp(max=LIMIT)
        outside += watched.outside
    forward, backward = passes.numpy()
    return Answer(distances.numpy(), forward, backward, (now() - start).wall, outside, stopped)


def version(label: str) -> str:
    """Library and version behind a label."""
    library = next(
        name
        for name in ("adv-lib", "foolbox", "torchattacks", "cleverhans", "ART")
        if label.startswith(name)
    )
    return f"{library} {importlib.metadata.version(PACKAGES.get(library, library))}"


def merged(file: Path, label: str, answer: Answer) -> None:
    """Add an answer to the file of a network and a norm, behind what is there of the same
    attack.
    """
    outcomes = read(file)
    before = outcomes.get(label, Outcome("", np.zeros(0), 0.0, 0.0, 0.0))
    distances = np.concatenate([before.distances, answer.distances])
    forward, backward = (
        (getattr(before, way) * len(before.distances) + float(getattr(answer, way).sum()))
        / len(distances)
        for way in ("forward", "backward")
    )
    outcomes[label] = Outcome(
        version(label), distances, forward, backward, before.seconds + answer.seconds
    )
    write(file, outcomes)


def known(file: Path, label: str) -> int:
    """How many images are recorded."""
    outcomes = read(file)
    return len(outcomes[label].distances) if label in outcomes else 0


def line(model: str, norm: str, label: str, answer: Answer) -> str:
    """An answer in a line."""
    tried = answer.distances[answer.distances > 0]
    words = (
        f"{model} {norm} {label}: median {np.median(tried):.4f}, found"
        f" {np.isfinite(tried).mean():.1%}"
    )
    passes = f"passes {answer.forward.mean():.0f} + {answer.backward.mean():.0f}"
    more = [f"{answer.outside} outside the box"] * bool(answer.outside) + [
        "stopped at the limit"
    ] * answer.stopped
    return ", ".join([words, passes, f"{answer.seconds:.1f} s", *more])


def chosen(norms: Iterable[str], labels: Sequence[str] | None) -> list[tuple[str, str]]:
    """Norms and labels of the attacks asked for."""
    pairs = [
        (norm, label)
        for norm in norms
        for label in PEERS[norm]
        if labels is None or label in labels
    ]
    if not pairs:
        raise SystemExit(
            f"no such attack; there are"
            f" {', '.join(sorted({label for some in PEERS.values() for label in some}))}"
        )
    return pairs


def main(argv: list[str] | None = None) -> int:
    """Attack, and write down what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    models = [SHARED / "models" / f"fmnist_{name}.keras" for name in ("robust", "standard")]
    parser.add_argument(
        "--model",
        type=Path,
        nargs="+",
        default=models,
        help=".keras archives with a chain of layers",
    )
    parser.add_argument(
        "--inputs",
        type=Path,
        default=SHARED / "data" / "fashion_mnist.npz",
        help="as in reference.py",
    )
    parser.add_argument("--norm", nargs="+", choices=list(ORDERS), default=list(ORDERS))
    parser.add_argument("--attack", nargs="+", metavar="NAME", help="all if not given")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--last", type=int, default=100, help="the image after the last one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, help="an .npz for the answer, if one attack is asked for"
    )
    parser.add_argument(
        "--record", action="store_true", help="add to what is in recorded/optimality"
    )
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)

    x, labels, logits = loaded(options.inputs, options.last)
    pairs = chosen(options.norm, options.attack)
    if options.out and (len(pairs), len(options.model)) != (1, 1):
        parser.error(
            f"--out is for one attack on one network, and {len(pairs)} on {len(options.model)} are"
            f" asked for"
        )
    for norm, label in pairs:
        peer = PEERS[norm][label]
        for path in options.model:
            net = rebuilt(path, x[:100])
            checked(net, x, logits)
            file = RECORDED / f"{path.stem.removeprefix('fmnist_')}_{norm}.json"
            if options.record and (
                known(file, label) != options.first or (peer.slow and options.last > SLOW)
            ):
                continue
            with contextlib.redirect_stdout(sys.stderr):
                rows = slice(options.first, options.last)
                try:
                    answer = attacked(net, peer, norm, x[rows], labels[rows], options.seed)
                except Exception as problem:
                    if options.out:
                        raise
                    print(f"{path.stem} {norm} {label}: {problem!r}", flush=True)
                    continue
            print(line(path.stem, norm, label, answer), flush=True)
            if options.out:
                np.savez(options.out, **answer._asdict())
            if options.record:
                RECORDED.mkdir(parents=True, exist_ok=True)
                merged(file, label, answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
