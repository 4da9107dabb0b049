"""PyTorch: autograd with respect to the input alone; nothing is compiled."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import ml_dtypes
import numpy as np
import torch

from advex._backend.scope import Group, Run, Scope
from advex.errors import AttackError

RAGGED = True
TRACED = False


def value_and_gradient(function: Callable[[Any], tuple[Any, Any]], x: Any) -> tuple[Any, Any, Any]:
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        value, extra = function(x)
        gradient = (
            torch.autograd.grad(value.sum(), x, allow_unused=True)[0]
            if value.requires_grad
            else None
        )
    return value.detach(), gradient, keras.tree.map_structure(lambda leaf: leaf.detach(), extra)


def jacobian(function: Callable[[Any], tuple[Any, Any]], x: Any) -> tuple[Any, Any, Any]:
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        values, extra = function(x)
        if not values.requires_grad:
            return values, None, extra
        sums = values.sum(0)
        found = [
            torch.autograd.grad(total, x, retain_graph=True, allow_unused=True)[0] for total in sums
        ]
    extra = keras.tree.map_structure(lambda leaf: leaf.detach(), extra)
    return (
        values.detach(),
        None if any(gradient is None for gradient in found) else torch.stack(found, 1),
        extra,
    )


def differentiate(
    run: Run, groups: Sequence[Group], variables: Mapping[int, Any], known: Mapping[int, Any]
) -> tuple[dict[int, Any], list[dict[int, Any]]]:
    deeper = torch.is_grad_enabled()  # the gradients are going to be differentiated, too
    points = {key: variable.value for key, variable in variables.items()}
    frozen = [point for point in points.values() if not point.requires_grad]

    def tap(key: int, value: Any) -> Any:
        # A tensor of its own: some layers hand their input on as it is.
        points[key] = (
            value.view_as(value) if value.requires_grad else value.detach().requires_grad_(True)
        )
        return points[key]

    found = []
    try:
        for point in frozen:
            point.requires_grad_(True)
        with torch.enable_grad():
            values = run(tap)
            for number, (losses, keys) in enumerate(groups):
                total = sum(values[loss].sum() for loss in losses)
                slopes: Any = [None] * len(keys)
                if total.requires_grad:
                    kept = deeper or number + 1 < len(groups)
                    wanted = [points[key] for key in keys]
                    slopes = torch.autograd.grad(
                        total, wanted, create_graph=deeper, retain_graph=kept, allow_unused=True
                    )
                found.append(dict(zip(keys, slopes, strict=True)))
    finally:
        for point in frozen:
            point.requires_grad_(False)
    return values, found


def weight_slopes(function: Callable[[], Any], weights: Sequence[Any]) -> list[Any]:
    # Dropout draws from the random numbers of all: the pass after this one draws the same.
    with torch.random.fork_rng(), torch.enable_grad():
        values = [weight.value for weight in weights]
        return list(torch.autograd.grad(function(), values, allow_unused=True))


def both_slopes(
    function: Callable[[Any], tuple[Any, Any]], weights: Sequence[Any], x: Any
) -> tuple[Any, Any, list[Any]]:
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        total, extra = function(x)
        wanted = [x, *(weight.value for weight in weights)]
        first, *others = torch.autograd.grad(total, wanted, allow_unused=True)
    return keras.tree.map_structure(lambda leaf: leaf.detach(), extra), first, others


def compiled(
    function: Callable[..., Any],
    signature: Sequence[tuple[tuple[int | None, ...], str]],
    variables: Callable[[], list[Any]],
) -> Callable[..., Any]:
    def call(*tensors: Any) -> Any:
        given = [keras.ops.convert_to_tensor(tensor) for tensor in tensors]
        versions = [tensor._version for tensor in given]
        with torch.no_grad():
            answer = function(*given)
        if versions != [tensor._version for tensor in given]:
            raise AttackError(
                "a tensor was edited in place, which changes the data of the search: write x = x +"
                " ..., not x += ..."
            )
        return answer

    return call


def program(
    compute: Callable[..., tuple[Any, Any]],
    settle: Callable[[Any], None],
    signature: Sequence[tuple[tuple[int | None, ...], str]],
) -> Callable[..., Any]:
    @torch.no_grad()
    def call(*tensors: Any) -> Any:
        with Scope() as scope:
            answer, rest = compute(*tensors)
        answer = [value.detach().clone() for value in answer]  # some are a variable's own memory
        scope.apply()
        settle(rest)
        return answer

    return call


def gather(tensor: Any, index: Any) -> Any:
    return tensor[torch.as_tensor(index, device=tensor.device)]


def concatenate(tensors: Sequence[Any]) -> Any:
    return torch.cat(list(tensors))


def descend(optimizer: Any, slopes: Sequence[Any], weights: Sequence[Any]) -> None:
    optimizer.apply(slopes, weights)


def given(array: np.ndarray[Any, Any]) -> Any:
    return keras.ops.convert_to_tensor(array)


def accelerated() -> bool:
    return torch.cuda.is_available()


def immediate(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return torch.no_grad()(function)


def to_numpy(tensor: Any) -> np.ndarray[Any, Any]:
    if not isinstance(tensor, torch.Tensor):
        return np.asarray(tensor)
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:  # NumPy knows it only from ml_dtypes
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def float64() -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def on_host(function: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]], x: Any) -> Any:
    return torch.from_numpy(function(to_numpy(x))).to(x.device)


def normal(keys: Any, shape: tuple[int, ...]) -> Any:
    generator = torch.Generator(keys.device)
    drawn = []
    for first, second in keys.tolist():
        # on the CPU only the lower half counts
        generator.manual_seed((second % 2**32) << 32 | first % 2**32)
        drawn.append(
            torch.randn(shape, generator=generator, device=keys.device, dtype=torch.float32)
        )
    return torch.stack(drawn)
