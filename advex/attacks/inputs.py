"""What is wrong with ``x``, and what to do about it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from advex import _backend
from advex._arrays import Array
from advex._grid import ACCEPTED, HALVES
from advex._inputs import Bundle, Examples, Form, Part, vector
from advex._settings import shown
from advex.domain import Domain, demand_legal
from advex.domain import checked as checked_domain
from advex.driver.ranges import LEVELS, onto, own, usual
from advex.errors import AdvexWarning, InvalidInput, InvalidType
from advex.model.classifier import Classifier
from advex.model.perturbed import Opened, input_names, layer_of, output_of, wanted_names
from advex.model.protocol import Model


def checked_inputs(classifier: Model, values: Any, rest: str = "") -> Array | Examples:
    """``x`` as an array that the search can work with, or one and what travels along; or an error
    that says what is wrong with it.

    ``rest`` is what else to say where the first axis is missing.
    """
    if isinstance(values, Examples):
        return values
    values = values.tree if isinstance(values, Bundle) else values
    if isinstance(classifier, Classifier) and _of_several(classifier, values):
        return _checked_examples(classifier, values)
    return _checked_array(values, classifier.input_shape, classifier.domain, "", rest)


def _of_several(classifier: Classifier, values: Any) -> bool:
    """Whether ``values`` are the inputs of a model, one by one, or the output of a layer is
    attacked.
    """
    if classifier.layer is not None:
        return True
    known = input_names(classifier.model)
    if isinstance(values, dict):  # of a model with one input, it may be called by its name
        return known is None or len(known) > 1 or list(values)[:1] == known[0][:1]
    if not classifier.perturb:
        return False
    return isinstance(values, list | tuple) or len(known or [0]) > 1


def _checked_examples(classifier: Classifier, values: Any) -> Examples:
    """Several inputs: what is attacked, and what travels along."""
    model = classifier.model
    opened = Opened(model, values)
    names = wanted_names(opened, model, classifier.perturb)
    layer = names[0] if names[0] not in opened.arrays else None
    shapes = _shapes(model)
    beside, attacked = {}, {}
    for name, given in opened.arrays.items():
        said = f"x[{name!r}]" if isinstance(opened.given, dict | list | tuple) else "x"
        if name in names:
            domain = classifier.domain_of(name)
            attacked[name] = _checked_array(given, shapes.get(name), domain, said)
        else:
            beside[name] = _beside(given, shapes.get(name), said)
    counts = {name: len(each) for name, each in (beside | attacked).items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name!r} has {count}" for name, count in counts.items())
        raise InvalidInput(
            f"the inputs of x must have a row for each example, all the same number: {told}"
        )
    if layer is not None:
        attacked = {layer: _output(classifier, opened, beside, layer)}
    parts, start = [], 0
    for name in names:
        each = attacked[name]
        parts.append(Part(name, each.shape[1:], each.dtype, classifier.domain_of(name), start))
        start = parts[-1].stop
    form = Form(opened.given, opened.taken, tuple(parts), layer)
    arrays = [attacked[name] for name in names]
    whole = np.ascontiguousarray(arrays[0]) if len(arrays) == 1 else vector(arrays)
    return Examples(whole, beside, form)


def _shapes(model: keras.Model) -> dict[str, tuple[int | None, ...]]:
    """The shape of each input by name, where the graph tells."""
    known = input_names(model) or []
    inputs = getattr(model, "inputs", None) or []
    pairs = zip(known, inputs, strict=True)
    return {str(each[0]): tuple(tensor.shape) for each, tensor in pairs}


def _beside(given: Any, shape: tuple[int | None, ...] | None, name: str) -> Array:
    """An input that stays as it is."""
    try:
        x = np.asarray(_backend.to_numpy(given))
    except Exception:  # what an object that is no array raises here may be anything
        x = np.asarray(None)
    if x.dtype.kind not in "biuf":
        raise InvalidType(f"{name} must be an array of numbers, (n, ...); received {shown(given)}")
    if x.dtype == np.float64:
        x = x.astype("float32")
    if not x.ndim:
        raise InvalidInput(f"{name} must have a row for each example; received one number")
    if shape is not None and not _fits(x.shape[1:], shape[1:]):
        wanted = f"(n, {', '.join('any' if size is None else str(size) for size in shape[1:])})"
        raise InvalidInput(f"the model takes {name} of shape {wanted}; received {x.shape}")
    return np.ascontiguousarray(x)


def _output(classifier: Classifier, opened: Opened, inputs: dict[str, Array], name: str) -> Array:
    """What the layer answers to ``inputs``: the input of an attack."""
    layer = layer_of(classifier.model, classifier.perturb[0])
    assert layer is not None
    asked = keras.tree.map_structure(lambda each: inputs[each], opened.taken)
    made = output_of(layer, classifier.ask, asked)
    domain = classifier.domain_of(name)
    low, high = float(made.min(initial=0)), float(made.max(initial=0))
    if (made < domain.low).any() or (made > domain.high).any():
        ends = f"({math.floor(low * 10) / 10:g}, {math.ceil(high * 10) / 10:g})"
        raise InvalidInput(
            f"what the layer {name!r} answers reaches from {low:.4g} to {high:.4g}, outside of the"
            f" box {domain.ends}: model = advex.Classifier(model, box={ends}, perturb={name!r}),"
            " with the box's length the unit of epsilon"
        )
    return made


def _checked_array(
    values: Any,
    shape: tuple[int | None, ...] | None,
    domain: Domain,
    called: str = "",
    rest: str = "",
) -> Array:
    """One array, of the shape that the model takes and inside its domain."""
    x = values if isinstance(values, np.ndarray) else _as_array(values, shape)
    if x.dtype.kind in "fiu" and not x.dtype.isnative:
        x = x.astype(x.dtype.newbyteorder("="))
    name = called or "x"
    if x.dtype not in ACCEPTED:
        raise InvalidType(
            _of_another_dtype(x, name if hasattr(values, "astype") else f"np.asarray({name})")
        )
    code = name if hasattr(values, "shape") else f"np.asarray({name})"
    _check_shape(x, shape, code, name, rest)
    if math.prod(x.shape[1:]) == 0:
        raise InvalidInput(
            f"{name} must have at least one value for each example; received shape {x.shape}"
        )
    if len(x) and x.dtype == np.uint8 and x.ndim == 2 and x.max() <= 1:
        raise InvalidInput(
            f"{name} is a table, {x.shape}, of 0 and 1 as uint8, which stands for 8-bit grey"
            f" levels, 0 to 255: {name}.astype('float32')"
        )
    checked_domain(domain, x.shape[1:])
    if x.dtype == np.uint8 and domain.related:
        raise InvalidInput(
            f"{name} is uint8, which stands for 8-bit levels, and the domain is about numbers:"
            f" {name}.astype('float32')"
        )
    if not len(x) or x.dtype == np.uint8:
        return np.ascontiguousarray(x)
    with np.errstate(over="ignore"):
        finite = np.isfinite(x.astype("float32"))
    if not finite.all():
        bad = np.unique(np.nonzero(~finite)[0])
        raise InvalidInput(
            f"{name} has {int((~finite).sum())} values that are NaN or infinite, in rows"
            f" {bad[:5].tolist()}"
        )
    if domain.plain:
        _demand_in_box(x, domain.ends, name)
    else:
        _demand_in_domain(x, domain, name)
        demand_legal(domain, x, name)
    if x.dtype in HALVES:
        low, high = domain.ends
        spacing = float(np.spacing(np.asarray(max(abs(low), abs(high)), "float32"))) * (
            2**13 if HALVES[x.dtype] == "float16" else 2**16
        )
        if spacing > (high - low) / 255:
            import warnings

            warnings.warn(
                f"{x.dtype} values near the end of the box are {spacing:g} apart, more than a grey"
                f" level: use float32 or uint8",
                AdvexWarning,
                stacklevel=4,
            )
    return np.ascontiguousarray(x)


def _demand_in_box(x: Array, box: tuple[float, float], name: str) -> None:
    """Raise unless all values are in the box, whose ends are taken as the dtype sees them."""
    low, high = box
    exact = x.dtype if x.dtype in HALVES else np.dtype("float32")
    seen_low, seen_high = float(x.astype(exact).min()), float(x.astype(exact).max())
    if seen_low >= float(np.asarray(low, exact)) and seen_high <= float(np.asarray(high, exact)):
        return
    seen = f"{name} reaches from {seen_low:g} to {seen_high:g}, outside the box ({low:g}, {high:g})"
    if seen_low >= 0 and 1 < seen_high <= 255 and (low, high) == (0, 1):
        raise InvalidInput(f"{seen}: advex.Classifier(model, box=(0, 255)) or divide by 255?")
    if usual(seen_low, seen_high) == LEVELS:
        code = onto(box, LEVELS).replace("x", name, 1)
        raise InvalidInput(
            f"{seen}: advex.Classifier(model, box=(0, 255)) if the model takes 0 to 255, else"
            f" {name} = {code}"
        )
    if seen_low < low:
        centred = seen_low >= -1 and seen_high <= 1 and (low, high) == (0, 1)
        first = "advex.Classifier(model, box=(-1, 1)) if the model takes -1 to 1; " * centred
        raise InvalidInput(
            f"{seen}: {first}if it is normalised already, pass it before the normalisation and put"
            " that into Classifier(model, preprocess=...): advex.Classifier(model,"
            " preprocess=keras.layers.Normalization(mean=mean, variance=std**2))"
        )
    domain = own(seen_low, seen_high)
    raise InvalidInput(
        f"{seen}: advex.Classifier(model, box={domain}) if that is the model's domain"
    )


def _demand_in_domain(x: Array, domain: Domain, name: str) -> None:
    """Raise unless every feature is between its ends, which are taken as the dtype sees them."""
    outside = (x < np.asarray(domain.low, x.dtype)) | (x > np.asarray(domain.high, x.dtype))
    if not outside.any():
        return
    row, *place = (int(axis[0]) for axis in np.nonzero(outside))
    low, high = (
        np.broadcast_to(end, x.shape[1:])[tuple(place)] for end in (domain.low, domain.high)
    )
    feature = place[0] if len(place) == 1 else tuple(place)
    if domain.columns is not None and len(place) == 1:
        feature = repr(domain.columns[place[0]])  # type: ignore[assignment]
    rows_outside = np.flatnonzero(outside.reshape(len(x), -1).any(axis=1))
    raise InvalidInput(
        f"{name} is outside of its domain in {len(rows_outside)} rows,"
        f" {rows_outside[:5].tolist()}: feature {feature} of row {row} is"
        f" {float(x[(row, *place)]):g}, and must be from {low:g} to {high:g}; a domain of all the"
        " data, advex.Domain.from_data(x), has room for them"
    )


def _of_another_dtype(x: Array, name: str) -> str:
    """The error about a dtype that cannot be attacked, with the way to one that can."""
    start = (
        f"x has dtype {x.dtype}; give 8-bit images as uint8 (0 to 255), everything else as float32"
    )
    number = f"{name}.astype('float32')"
    if (
        x.dtype.kind in "iu"
        and x.dtype.itemsize > 1
        and x.size
        and x.min() >= 0
        and 1 < x.max() <= 255
    ):
        return f"{start}: {name}.astype('uint8') for images of 0 to 255, {number} for other numbers"
    if x.dtype == np.uint16:
        return f"{start}: {number} / 65535 for 16-bit images and a model on [0, 1]"
    if x.dtype.kind == "c":
        return (
            f"{start}; the model has no complex input: {name}.real.astype('float32') if"
            f" that is what it takes"
        )
    if x.dtype.kind in "mM":
        return (
            f"{start}; times must become the numbers that the model takes:"
            f" {name}.astype('int64').astype('float32')"
        )
    if x.dtype.kind in "SUTOV":
        return (
            f"{start}: texts and records are no inputs; encode them as the model was"
            f" trained, as numbers"
        )
    return f"{start}: {number}"


def _as_array(values: Any, shape: tuple[int | None, ...] | None) -> Array:
    """Whatever holds numbers as one array; ``shape`` is that of the model's input, where it is
    known.
    """
    kind = type(values).__name__
    if isinstance(values, dict):
        raise InvalidInput(
            f"x must be one array; received a dict with {sorted(map(str, values))}: pass"
            f" x[{next(iter(values), 'name')!r}], one of them"
        )
    if isinstance(values, str | bytes | os.PathLike):
        raise InvalidType(
            f"x must be an array of numbers, shape (n, ...); received {shown(values)}: x ="
            " advex.images.read(path).pixels[None] for the image in a file"
        )
    if _is_data(values):
        raise InvalidType(
            f"x must be an array, shape (n, ...), and labels another; received {kind}. A data set,"
            " batches (x, labels), belongs to advex.evaluate(model, data, advex.PGD(),"
            " advex.Linf(8/255))"
        )
    if (
        isinstance(values, list | tuple)
        and len(values)
        and all(np.ndim(entry) > 1 for entry in _arrays(values))
    ):
        parts = [np.shape(entry) for entry in values]
        stacked = (len(parts), *parts[0])
        known = shape is not None and _fits(stacked[1:], shape[1:])
        if len(set(parts)) == 1 and not known and (shape is None or len(shape) == len(parts[0])):
            raise InvalidInput(
                f"x must be one array; received a {kind} of {len(parts)} arrays of shape"
                f" {parts[0]}: np.stack(x) if each is one example, np.concatenate(x) if each is a"
                " batch"
            )
    try:
        x = np.asarray(_backend.to_numpy(values))
    except Exception:  # what an object that is no array raises here may be anything
        entries = values if isinstance(values, list | tuple) else []
        shapes = [_shape_of(entry) for entry in entries][:5]
        if not shapes:
            raise InvalidType(
                f"x must be an array of numbers, shape (n, ...); received {kind}"
            ) from None
        raise InvalidInput(f"x must be one array; received a {kind} of shapes {shapes}") from None
    if x.dtype == object:
        if hasattr(values, "to_numpy"):  # a table of pandas with columns of several kinds
            raise InvalidType(
                f"x must be an array of numbers, shape (n, ...); received {kind} with columns of"
                " several kinds: x.to_numpy('float32') once all are numbers"
            )
        raise InvalidType(f"x must be an array of numbers, shape (n, ...); received {kind}")
    return x


def _arrays(values: list[Any] | tuple[Any, ...]) -> list[Any]:
    """The entries of a list if they are arrays or tensors; nothing otherwise: nested lists of
    numbers are one array.
    """
    return [entry if hasattr(entry, "shape") else 0 for entry in values]


def _shape_of(entry: Any) -> tuple[int, ...]:
    try:
        return tuple(np.shape(entry))
    except Exception:  # ragged within
        return (len(entry),) if hasattr(entry, "__len__") else ()


def _is_data(values: Any) -> bool:
    """Whether this gives batches, one after the other, and is no array."""
    if isinstance(values, keras.utils.PyDataset | Iterator):
        return True
    if isinstance(values, list | tuple):  # (x, labels), or a list of such pairs
        pairs = [entry for entry in values[:3] if isinstance(entry, tuple)]
        arrays = all(hasattr(part, "shape") for part in (pairs[0] if pairs else values[:3]))
        short = (
            len(values) == 2
            and arrays
            and not pairs
            and np.ndim(values[0]) > 1 == np.ndim(values[1])
        )
        return short or (
            len(pairs) == len(values[:3]) > 0
            and all(len(pair) in (2, 3) for pair in pairs)
            and arrays
        )
    if (
        hasattr(values, "shape")
        or hasattr(values, "__array__")
        or hasattr(values, "__array_interface__")
    ):
        return False
    return hasattr(values, "element_spec") or (
        hasattr(values, "dataset") and hasattr(values, "__iter__")
    )


def _fits(have: tuple[int, ...], want: tuple[int | None, ...]) -> bool:
    """Whether an example of shape ``have`` is what a model takes whose input, without the batch
    axis, is ``want``.
    """
    return len(have) == len(want) and all(w in (None, h) for w, h in zip(want, have, strict=True))


def _check_shape(
    x: Array, shape: tuple[int | None, ...] | None, name: str, called: str, rest: str
) -> None:
    """Raise if ``x`` cannot be a batch for a model whose input has ``shape`` (batch axis
    included). ``name`` is code that makes an array of what the user has ``called`` so.
    """
    if x.ndim < 2:
        raise InvalidInput(
            f"{called} must be a batch, shape (n, ...); received shape {x.shape}: {name}[None]"
            f" makes one example a batch{rest}"
            if x.ndim
            else f"{called} must be a batch, shape (n, ...); received one number, {x[()]}"
        )
    if shape is None:
        return
    want = shape[1:]

    def fits(have: tuple[int, ...]) -> bool:
        return _fits(have, want)

    if fits(x.shape[1:]):
        return
    wanted = f"(n, {', '.join('any' if size is None else str(size) for size in want)})"
    message = f"the model takes {called} of shape {wanted}; received {x.shape}"
    if fits(x.shape):
        raise InvalidInput(f"{message}, one example without a batch axis: pass {name}[None]{rest}")
    if x.ndim == len(shape) == 4:
        moved = (x.shape[2], x.shape[3], x.shape[1])
        if fits(moved):
            raise InvalidInput(
                f"{message}, which is channels first for a channels-last model:"
                f" np.moveaxis({called}, 1, -1)"
            )
        if fits((x.shape[3], x.shape[1], x.shape[2])):
            raise InvalidInput(
                f"{message}, which is channels last for a channels-first model:"
                f" np.moveaxis({called}, -1, 1)"
            )
        if x.shape[3] == 1 and want[-1] == 3:
            raise InvalidInput(
                f"{message}, grey images (one channel) for a colour model (three):"
                f" np.repeat({called}, 3, axis=-1)"
            )
        if x.shape[3] == 3 and want[-1] == 1:
            raise InvalidInput(
                f"{message}, colour images (three channels) for a model of grey ones (one channel)"
            )
    if fits((*x.shape[1:], 1)):
        raise InvalidInput(f"{message}, without a channel axis: pass {name}[..., None]")
    if fits((*x.shape, 1)):
        raise InvalidInput(
            f"{message}, one example without batch and channel axes: pass {name}[None, ...,"
            f" None]{rest}"
        )
    raise InvalidInput(message)
