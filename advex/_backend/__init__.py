"""The one place that talks to a framework: gradients, compilation, indexing. Everything above is
``keras.ops``.

Each backend module offers the same names:

``value_and_gradient(function, x)``
    ``function(x)`` returns ``(value, extra)`` with value of shape (batch,); returns ``(value,
    gradient, extra)`` with the gradient of the sum of ``value`` with respect to ``x`` alone, or
    None for it where there is no path.
``jacobian(function, x)``
    ``function(x)`` returns ``(values, extra)`` with values of shape (batch, k); returns ``(values,
    jacobian, extra)`` with the gradients of each column, (batch, k, ...), from one forward pass;
    None where there is no path.
``differentiate(run, groups, variables, known)``
    ``run(tap)`` computes a dict of tensors and calls ``tap(key, tensor)``, going on with what it
    returns, where a tensor appears that something is differentiated by. Returns the dict and, for
    each group (losses, keys), the gradients of the sum of these losses by key, None where there is
    no path. ``variables`` are those that are differentiated by; ``known`` are tensors whose shapes
    are known before. One pass, however many groups; may be nested.
``program(compute, settle, signature)``
    ``compute(*tensors)`` returns (answer, rest), then ``settle(rest)`` assigns variables: compiled
    as one. Layers' state is kept: what they assign while ``compute`` runs is assigned after it.
    Returns answer, a list.
``compiled(function, signature, variables)``
    ``function(*tensors)`` compiled; ``signature`` is a list of (shape with None, dtype);
    ``variables`` are the ``keras.Variable`` objects that the function reads.
``descend(optimizer, slopes, weights)``
    A step of a Keras optimizer, inside of ``program``.
``given(array)``
    A NumPy array as ``program`` takes it.
``immediate(function)``
    ``function`` of a tensor or a tree of such, called anew each time: nothing that was compiled
    before takes part.
``float64()``
    A context in which tensors of float64 are computed with as such.
``normal(keys, shape)``
    Standard normal numbers, (n, *shape) float32, from a key of two int32 for each of n: what a key
    gives depends on nothing else. Other backends give others.
``on_host(function, x)``
    ``function`` of a NumPy array, (n, ...) -> (n,) of bool, of a tensor, also inside of what is
    compiled.
``gather(tensor, index)``, ``concatenate(tensors)``
    Along the first axis, eagerly.
``to_numpy(tensor)``
    A NumPy array of the same values, perhaps of the same memory.
``weight_slopes(function, weights)``
    The gradients of ``function()``, a scalar, with respect to some variables, inside of what is
    compiled; None where there is no path.
``both_slopes(function, weights, x)``
    ``function(x)`` returns (a scalar, extra): extra, and the gradients with respect to x and to
    the weights, from one pass. What layers assign meanwhile is assigned.
``RAGGED``
    True if batches may change size at no cost; False if a new shape means a new compilation.
``TRACED``
    True if what is compiled is a trace of the first call, which later changes of Python values do
    not reach.
``accelerated()``
    True if looking at a result makes an accelerator wait.
"""

import sys

import keras

_name = keras.backend.backend()
if _name == "tensorflow":
    from advex._backend.tensorflow import (
        RAGGED,
        TRACED,
        accelerated,
        both_slopes,
        compiled,
        concatenate,
        descend,
        differentiate,
        float64,
        gather,
        given,
        immediate,
        jacobian,
        normal,
        on_host,
        program,
        to_numpy,
        value_and_gradient,
        weight_slopes,
    )
elif _name == "jax":
    from advex._backend.jax import (
        RAGGED,
        TRACED,
        accelerated,
        both_slopes,
        compiled,
        concatenate,
        descend,
        differentiate,
        float64,
        gather,
        given,
        immediate,
        jacobian,
        normal,
        on_host,
        program,
        to_numpy,
        value_and_gradient,
        weight_slopes,
    )
elif _name == "torch":
    from advex._backend.torch import (
        RAGGED,
        TRACED,
        accelerated,
        both_slopes,
        compiled,
        concatenate,
        descend,
        differentiate,
        float64,
        gather,
        given,
        immediate,
        jacobian,
        normal,
        on_host,
        program,
        to_numpy,
        value_and_gradient,
        weight_slopes,
    )
else:
    raise ImportError(
        f"advex needs gradients, which Keras' backend {_name!r} has not: set KERAS_BACKEND to"
        f" tensorflow, jax or torch"
    )

NAME: str = _name

__all__ = [
    "NAME",
    "RAGGED",
    "TRACED",
    "accelerated",
    "both_slopes",
    "compiled",
    "concatenate",
    "descend",
    "differentiate",
    "float64",
    "gather",
    "given",
    "immediate",
    "jacobian",
    "normal",
    "on_host",
    "program",
    "to_numpy",
    "value_and_gradient",
    "weight_slopes",
]


def version() -> str:
    """The version of the framework below Keras, which Keras has imported."""
    return str(getattr(sys.modules.get(NAME), "__version__", "?"))
