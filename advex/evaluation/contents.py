"""What a thing is, whatever it is called: its parts and a hash of each, the same in every
process.
"""

from __future__ import annotations

import copyreg
import dataclasses
import dis
import enum
import functools
import hashlib
import struct
import sys
import sysconfig
import types
import warnings
from collections import OrderedDict, defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from advex import _backend
from advex.model.protocol import Model

HOUSE = {"advex", "keras", "numpy", "tensorflow", "jax", "jaxlib", "torch", "builtins"}
"""Packages whose versions a run records, or whose functions are what their names say."""

DEEP, MANY = 40, 50_000  # how far, and how much, is looked at; beyond only the types count

UNTOLD = {  # of a class: what follows from the rest, or says nothing about what it does
    *(
        "__dict__",
        "__weakref__",
        "__doc__",
        "__module__",
        "__qualname__",
        "__name__",
        "__annotations__",
        "__annotate__",
    ),
    *(
        "__annotate_func__",
        "__annotations_cache__",
        "__dataclass_fields__",
        "__dataclass_params__",
        "__match_args__",
    ),
    *(
        "__abstractmethods__",
        "_abc_impl",
        "__parameters__",
        "__orig_bases__",
        "__firstlineno__",
        "__static_attributes__",
    ),
}
UNASKED = {
    *(
        "optimizer",
        "history",
        "stop_training",
        "stop_evaluating",
        "stop_predicting",
        "_epoch_iterator",
        "_eval_epoch_iterator",
    ),
    *("name", "input_spec", "seed", "seed_generator", "_torch_params"),
    *(
        "_build_input_shape",
        "is_awq_calibrated",
        "is_gptq_calibrated",
    ),  # a layer has them once its weights were read from a file
    *("_dropout_mask", "_recurrent_dropout_mask"),  # cells have them once they were called
}
"""Attributes of layers that say how a model is trained, called or loaded, not what it answers."""

TRAINING = (
    keras.initializers.Initializer,
    keras.regularizers.Regularizer,
    keras.constraints.Constraint,
)

BUILT = (
    *(
        types.BuiltinFunctionType,
        types.WrapperDescriptorType,
        types.MethodWrapperType,
        types.MethodDescriptorType,
    ),
    *(types.ClassMethodDescriptorType, types.GetSetDescriptorType, types.MemberDescriptorType),
)
"""Functions and descriptors of C. Not ``inspect.isroutine``, to which ``tf.function`` and
``jax.jit`` are routines, too.
"""

# attributes of functions whose derivative somebody gave, ``jax.custom_vjp``
DERIVED = (
    "fwd",
    "bwd",
    "jvp",
)

MADE = 1 << 9  # the flag of types that a class statement has made, Py_TPFLAGS_HEAPTYPE

PLAIN = (type(None), bool, int, float, complex, str, bytes, np.generic)

VALUES = {
    *(
        "argparse",
        "array",
        "collections",
        "configparser",
        "datetime",
        "decimal",
        "fractions",
        "functools",
        "itertools",
    ),
    *("operator", "pathlib", "random", "re", "statistics", "string", "types", "uuid"),
}
"""Modules of the standard library whose objects are values; others (locks, files, loggers) belong
to a process.
"""


def parts(things: Mapping[str, Any]) -> dict[str, str]:
    """The parts of ``things``, each under a path such as ``loss.scale``, with a hash of what it is.

    A function is its code, its defaults, what its closure holds and the globals that it names; a
    class its methods and those of its bases, an object its class and its attributes; arrays are
    what they hold. Names, comments, line numbers and addresses do not count. What belongs to the
    standard library, Keras, its frameworks or advex is its name: their versions stand for it.
    """
    found = _Parts()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the attributes that are looked at
        for name, thing in things.items():
            found.walk(thing, name)
    return {path: made.hex() for path, made in found.parts.items()}


def combined(known: Mapping[str, str], without: Collection[str] = ()) -> str:
    """One hash of parts, but for those at the paths of ``without`` and below; empty where there is
    nothing.
    """
    kept = sorted(f"{path}={made}" for path, made in known.items() if not _below(path, without))
    return _hash(*(entry.encode() for entry in kept)).hex() if kept else ""


def changed(
    before: Mapping[str, str], now: Mapping[str, str], without: Collection[str] = ()
) -> list[str]:
    """The paths at which two sets of parts differ, but for those at the paths of ``without`` and
    below.
    """
    differ = (path for path in before.keys() | now.keys() if before.get(path) != now.get(path))
    return sorted(path for path in differ if not _below(path, without))


def _below(path: str, others: Collection[str]) -> bool:
    return any(
        path == other or (other and path.startswith(other) and path[len(other)] in ".[(:")
        for other in others
    )


def model_parts(model: keras.Model) -> dict[str, str]:
    """What a model computes, but for its weights: layers, their settings, wiring, the code of those
    that are the user's.
    """
    found = _Parts()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found.layers(model, "model", weights=False)
    return {path: made.hex() for path, made in found.parts.items()}


def weights_hash(model: keras.Model) -> str:
    """A hash of all weights in their order."""
    made = hashlib.blake2b(digest_size=16)
    for weight in model.weights:
        values = np.ascontiguousarray(_backend.to_numpy(weight.value))
        made.update(f"{values.dtype}{values.shape}".encode())
        made.update(values.tobytes())
    return made.hexdigest()


def is_own(module: str | None) -> bool:
    """Whether a module is the user's own: neither known by its version nor installed."""
    return _origin(module) == "own"


def _hash(*tokens: bytes) -> bytes:
    made = hashlib.blake2b(digest_size=12)
    for token in tokens:
        made.update(struct.pack("<q", len(token)))
        made.update(token)
    return made.digest()


@functools.cache
def _origin(module: str | None) -> str:
    """Whose a module is: "house" (known by its version), "standard", "installed", or the user's
    "own".
    """
    root = (module or "").partition(".")[0]
    if root in HOUSE:
        return "house"
    if root == "__main__":
        return "own"
    if root in sys.stdlib_module_names:
        return "standard"
    file = getattr(sys.modules.get(module or "") or sys.modules.get(root), "__file__", None)
    folders = {sysconfig.get_paths()[name] for name in ("purelib", "platlib")}
    return (
        "installed"
        if file and any(Path(file).is_relative_to(folder) for folder in folders)
        else "own"
    )


def _home(kind: type) -> str:
    """Whose a class is; one that was made by ``exec`` without a module says that it is built in."""
    made = kind.__module__ == "builtins" and kind.__flags__ & MADE
    return "own" if made else _origin(kind.__module__)


def _called(thing: Any) -> bytes:
    """The full name of a class or function, with the version of its package where that is an
    installed one.
    """
    module = (
        getattr(thing, "__module__", None) or getattr(thing, "__objclass__", type(None)).__module__
    )
    name = f"{module}.{getattr(thing, '__qualname__', getattr(thing, '__name__', type(thing).__qualname__))}"  # noqa: E501
    if _origin(module) == "own":
        return name.rpartition(".")[
            2
        ].encode()  # a script may be run or imported, or be given another name
    if _origin(module) == "installed":
        name += f" {getattr(sys.modules.get(module.partition('.')[0]), '__version__', '?')}"
    return name.encode()


def _code(code: types.CodeType) -> bytes:
    """What code does: not its name, its file and its lines."""
    numbers = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    exceptions: bytes = getattr(code, "co_exceptiontable", b"")
    constants = [_constant(value) for value in code.co_consts]
    return _hash(
        repr(sys.version_info[:2]).encode(),
        repr((numbers, names)).encode(),
        code.co_code,
        exceptions,
        *constants,
    )


def _constant(value: Any) -> bytes:
    if isinstance(value, types.CodeType):
        return _code(value)
    if isinstance(value, tuple):
        return _hash(b"tuple", *map(_constant, value))
    if isinstance(value, frozenset):
        return _hash(b"frozenset", *sorted(map(_constant, value)))
    return _hash(type(value).__name__.encode(), repr(value).encode())


def _code_within(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for value in code.co_consts:
        if isinstance(value, types.CodeType):
            yield from _code_within(value)


def _named(code: types.CodeType) -> Iterator[tuple[str, ...]]:
    """The globals that code reads, each with the attributes asked of it: ("np", "float32"); imports
    begin with ".": (".os",).
    """
    for part in _code_within(code):
        chain: list[str] = []
        for instruction in dis.get_instructions(part):
            if instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and chain:
                chain.append(str(instruction.argval))
                continue
            if instruction.opname in ("CACHE", "PUSH_NULL", "PRECALL"):
                continue
            if chain:
                yield tuple(chain)
            chain = []
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                chain = [str(instruction.argval)]
            elif instruction.opname == "IMPORT_NAME":
                yield from ((f".{instruction.argval}", name) for name in part.co_names)
        if chain:
            yield tuple(chain)


@functools.cache
def _bare() -> tuple[frozenset[str], frozenset[str]]:
    """The attributes that every layer has, and every model."""

    class Bare(keras.Model):
        pass

    layer = frozenset(vars(keras.layers.Layer()))
    return layer, layer | frozenset(vars(Bare()))


class _Parts:
    """The walk over things; what was met before is named by where it was met."""

    def __init__(self, met: dict[int, tuple[str, Any]] | None = None, depth: int = 0) -> None:
        self.parts: dict[str, bytes] = {}
        # with the things themselves: an address may not be used again meanwhile
        self.met = {} if met is None else met
        self.depth = depth

    def put(self, path: str, *tokens: bytes) -> None:
        self.parts[path] = _hash(self.parts.get(path, b""), *tokens)

    def walk(self, thing: Any, path: str) -> None:
        """Put down what ``thing`` is."""
        if self._plain(thing, path):
            return
        # equal ones may or may not be one object: not by where they were met
        if isinstance(thing, tuple | frozenset):
            self._within(thing, path)
            self._beyond(thing, path)
            return
        if id(thing) in self.met:
            self.put(path, b"as", self.met[id(thing)][0].encode())
            return
        self.met[id(thing)] = path, thing
        if self.depth > DEEP or len(self.met) > MANY:
            self.put(path, b"a", _called(type(thing)))
            return
        self.depth += 1
        try:
            self._compound(thing, path)
        finally:
            self.depth -= 1

    def _beyond(self, thing: Any, path: str) -> None:
        """What the user's own kind of number, text or tuple has besides its value: methods,
        attributes.
        """
        if _home(type(thing)) == "own":
            self.walk(type(thing), f"{path}.class")
            self._attributes(thing, path)

    def _plain(self, thing: Any, path: str) -> bool:
        """Put down a value without parts; whether it was one."""
        if isinstance(thing, enum.Enum):
            self.put(path, b"enum", _called(type(thing)), str(thing.name).encode())
            self.walk(thing.value, f"{path}.value")
            if _home(type(thing)) == "own":  # the methods of its members
                self.walk(type(thing), f"{path}.class")
        elif isinstance(thing, np.generic):
            self._array(np.asarray(thing), path)
        elif thing is None or isinstance(
            thing, bool | int | float | complex | str | bytes | bytearray | types.EllipsisType
        ):
            value = (
                thing.hex()
                if isinstance(thing, float)
                else bytes(thing)
                if isinstance(thing, bytearray)
                else thing
            )
            self.put(
                path, type(thing).__name__.encode(), repr(value).encode(errors="surrogatepass")
            )
            self._beyond(thing, path)
        elif isinstance(thing, types.ModuleType) and (
            thing.__name__ == "__main__" or not is_own(thing.__name__)
        ):
            self.put(path, b"module", thing.__name__.encode())
        elif isinstance(thing, range | slice):
            self.put(path, repr(thing).encode())
        else:
            return False
        return True

    def _array(self, values: Any, path: str) -> None:
        if values.dtype.hasobject:
            self.put(path, b"objects", repr(values.shape).encode())
            self._within(values.ravel().tolist(), path)
            return
        content = hashlib.blake2b(np.ascontiguousarray(values).tobytes(), digest_size=16).digest()
        self.put(path, b"array", f"{values.dtype}{values.shape}".encode(), content)

    def _tensor(self, thing: Any, path: str) -> None:
        """Put down a tensor by its values; those of handles and data sets are no numbers."""
        try:
            values = np.asarray(_backend.to_numpy(thing))
        except Exception:  # of whatever kind a framework has for it
            self.put(path, b"a", _called(type(thing)), str(getattr(thing, "dtype", "")).encode())
            return
        self._array(values, path)

    def _within(self, things: Any, path: str) -> None:
        """Put down a container: values as one part, other things one by one."""
        kind = _called(type(things))
        entries: list[Any] = list(things.values()) if isinstance(things, Mapping) else list(things)
        named = not isinstance(things, Mapping) or all(isinstance(key, str) for key in things)
        named = named and not isinstance(things, set | frozenset | OrderedDict)
        if named and not all(isinstance(entry, PLAIN) for entry in entries):
            self.put(path, kind, repr(len(entries)).encode())
            for name, entry in (
                list(things.items()) if isinstance(things, Mapping) else enumerate(entries)
            ):
                self.walk(entry, f"{path}[{name!r:.80}]")
            return
        if isinstance(things, Mapping):
            pairs = [
                (self._one(key, path), self._one(value, f"{path}[{key!r:.40}]"))
                for key, value in list(things.items())
            ]
            entries = [
                _hash(*pair)
                for pair in (pairs if isinstance(things, OrderedDict) else sorted(pairs))
            ]
        else:
            entries = [
                self._one(entry, f"{path}[{number}]") for number, entry in enumerate(list(things))
            ]
            entries = sorted(entries) if isinstance(things, set | frozenset) else entries
        self.put(path, kind, *entries)

    def _one(self, thing: Any, path: str) -> bytes:
        """All parts of a thing in one hash."""
        inner = _Parts(self.met, self.depth + 1)
        inner.walk(thing, path)
        return _hash(
            *(
                token
                for name in sorted(inner.parts)
                for token in (name[len(path) :].encode(), inner.parts[name])
            )
        )

    def _compound(self, thing: Any, path: str) -> None:
        if isinstance(thing, np.ndarray):
            self._array(thing, path)
            if type(thing) not in (np.ndarray, np.memmap):  # such as a masked one
                self.put(path, _called(type(thing)))
                self._attributes(thing, path)
        elif isinstance(thing, memoryview):
            self._array(np.asarray(thing), path)
        elif isinstance(
            thing, types.ModuleType
        ):  # the user's own, handed on as a whole: a file of settings
            self.put(path, b"module", thing.__name__.encode())
            for name, value in sorted(vars(thing).items()):
                if not (name.startswith("__") or isinstance(value, types.ModuleType)):
                    self.walk(value, f"{path}.{name}")
        elif isinstance(thing, type):
            self._class(thing, path)
        elif isinstance(thing, types.FunctionType):
            self._function(thing, path)
        elif isinstance(thing, types.MethodType):
            self.walk(thing.__func__, path)
            self.walk(thing.__self__, f"{path}.self")
        elif isinstance(thing, functools.partial):
            self.put(path, b"partial")
            for name in ("func", "args", "keywords"):
                self.walk(getattr(thing, name), f"{path}.{name}")
            self._attributes(thing, path)
        elif isinstance(thing, staticmethod | classmethod):
            self.put(path, type(thing).__name__.encode())
            self.walk(thing.__func__, f"{path}.function")
        elif isinstance(thing, property | functools.cached_property):
            self.put(path, type(thing).__name__.encode())
            for name in ("fget", "fset", "func"):
                self.walk(getattr(thing, name, None), f"{path}.{name}")
        elif isinstance(thing, keras.layers.Layer):
            self.layers(thing, path, weights=True)
        elif isinstance(thing, Model):
            self.put(path, _called(type(thing)))
            for name in ("model", "predict", "preprocess", "box", "names"):
                self.walk(getattr(thing, name, None), f"{path}.{name}")
        elif isinstance(thing, keras.KerasTensor):
            self.put(path, b"symbol", repr((thing.shape, thing.dtype)).encode())
        elif isinstance(thing, keras.Variable) or keras.ops.is_tensor(thing):
            self._tensor(getattr(thing, "value", thing) if _is_variable(thing) else thing, path)
        elif isinstance(thing, Mapping | list | set | deque):
            self._within(thing, path)
            if _home(type(thing)) in ("own", "installed"):
                self._attributes(thing, path)
            elif isinstance(thing, defaultdict | deque):
                self.walk(getattr(thing, "default_factory", None), f"{path}.default_factory")
                self.walk(getattr(thing, "maxlen", None), f"{path}.maxlen")
        elif isinstance(thing, BUILT):
            self.put(path, b"routine", _called(thing))
            self.walk(getattr(thing, "__self__", None), f"{path}.self")
        else:
            self._object(thing, path)

    def _function(self, function: types.FunctionType, path: str) -> None:
        # where the code is; decorators give their functions others' names
        home = function.__globals__.get("__name__")
        origin = _origin(home)
        # Not a lambda: one that Keras read from a file has the globals of Keras, but the user's
        # code.
        if origin in ("house", "standard") and "<lambda>" not in function.__code__.co_qualname:
            self.put(path, b"function", f"{home}.{function.__code__.co_qualname}".encode())
        else:
            self.put(path, b"function", _code(function.__code__))
        for name, value in zip(reversed(function.__code__.co_varnames[: function.__code__.co_argcount]),  # noqa: E501
                               reversed(function.__defaults__ or ()), strict=False):  # fmt: skip
            self.walk(value, f"{path}({name})")
        for name, value in sorted((function.__kwdefaults__ or {}).items()):
            self.walk(value, f"{path}({name})")
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            try:
                self.walk(cell.cell_contents, f"{path}.{name}")
            except ValueError:
                self.put(f"{path}.{name}", b"not yet")
        if origin == "own":
            for name, value in sorted(vars(function).items()):
                self.walk(value, f"{path}.{name}")
            self._globals(function, path)

    def _globals(self, function: types.FunctionType, path: str) -> None:
        for chain in sorted(set(_named(function.__code__))):
            if chain[0].startswith("."):
                value: Any = sys.modules.get(chain[0][1:])
                if not is_own(chain[0][1:]) or not hasattr(value, chain[1]):
                    continue
            elif chain[0] not in function.__globals__:
                continue  # built in, or not there
            else:
                value = function.__globals__[chain[0]]
            taken = 1
            while (
                isinstance(value, types.ModuleType)
                and is_own(value.__name__)
                and taken < len(chain)
            ):
                value, taken = getattr(value, chain[taken], None), taken + 1
            where = f"{path}:{'.'.join(chain[:taken])}"
            if where not in self.parts:
                self.walk(value, where)

    def _class(self, kind: type, path: str) -> None:
        origins = [(base, _home(base)) for base in kind.__mro__ if base is not object]
        self.put(path, b"class", _called(kind))
        for base, origin in origins:
            if base is not kind:
                self.put(path, _called(base))
            if origin not in ("own", "installed"):
                continue
            for name, value in sorted(vars(base).items()):
                if name in UNTOLD:
                    continue
                if origin == "installed":
                    code = getattr(getattr(value, "__func__", value), "__code__", None)
                    self.put(
                        f"{path}.{name}",
                        _code(code)
                        if isinstance(code, types.CodeType)
                        else type(value).__name__.encode(),
                    )
                else:
                    self.walk(value, f"{path}.{name}")

    def _object(self, thing: Any, path: str) -> None:
        kind = type(thing)
        root = kind.__module__.partition(".")[0]
        inner = getattr(thing, "python_function", None) or getattr(thing, "__wrapped__", None)
        # compiled or cached functions
        if inner is not None and callable(thing) and _home(kind) != "own":
            self.put(path, _called(kind))
            self.walk(inner, f"{path}.function")
            for name in DERIVED:
                self.walk(
                    vars(thing).get(name) if hasattr(thing, "__dict__") else None, f"{path}.{name}"
                )
        elif (
            root == "keras" and hasattr(thing, "get_config") and _origin(kind.__module__) == "house"
        ):
            self.put(path, _called(kind))
            for name, value in [*sorted(thing.get_config().items()), *sorted(vars(thing).items())]:
                if name not in ("name", "_auto_config") and _simple(value):
                    self.walk(value, f"{path}.{name}")
        elif hasattr(kind, "__array__"):
            self._tensor(thing, path)
        elif _home(kind) == "standard" and not dataclasses.is_dataclass(thing):
            self.put(path, _called(kind))
            if root in VALUES:
                self._reduced(thing, path)
        else:
            self.walk(kind, f"{path}.class")
            if not self._attributes(thing, path):
                self._reduced(thing, path)

    def _attributes(self, thing: Any, path: str) -> bool:
        """Put down the attributes of an object; whether it has any place for them."""
        slots = [
            f"_{base.__name__.lstrip('_')}{name}"
            if name.startswith("__") and not name.endswith("__")
            else name  # as Python does
            for base in type(thing).__mro__
            for name in _listed(base.__dict__.get("__slots__", ()))
        ]
        names = sorted({*getattr(thing, "__dict__", {}), *slots} - {"__dict__", "__weakref__"})
        for name in names:
            try:
                value = object.__getattribute__(thing, name)
            except AttributeError:
                continue
            self.walk(value, f"{path}.{name}")
        return bool(names) or hasattr(thing, "__dict__")

    def _reduced(self, thing: Any, path: str) -> None:
        """An object of C: what pickle would keep of it."""
        try:
            special = copyreg.dispatch_table.get(type(thing))
            kept = special(thing) if special is not None else thing.__reduce_ex__(4)
        except Exception:  # a lock, a socket, a generator: it belongs to the process
            self.put(path, b"a", _called(type(thing)))
            return
        self.put(path, b"reduced")
        if isinstance(kept, tuple):
            for number, value in enumerate(kept):
                self.walk(list(value) if isinstance(value, Iterator) else value, f"{path}.{number}")

    # Keras.

    def layers(self, model: keras.layers.Layer, path: str, *, weights: bool) -> None:
        """A layer or a model with all that is in it, layer by layer; their names do not count."""
        every = list(model._flatten_layers())
        base, model_base = _bare()
        for number, layer in enumerate(every):
            self.met[id(layer)] = f"{path}[{number}]", layer
        for number, weight in enumerate(model.weights):
            self.met.setdefault(id(weight), (f"{path} weight {number}", weight))
            if weights:
                self._array(np.asarray(_backend.to_numpy(weight.value)), f"{path} weight {number}")
        for number, layer in enumerate(every):
            spot = f"{path}[{number}]"
            own = _origin(type(layer).__module__) != "house"
            self.put(
                spot, _called(type(layer)), str(getattr(layer.dtype_policy, "name", "")).encode()
            )
            within = [
                self.met[id(inner)][0][len(path) :]
                for inner in layer._flatten_layers(recursive=False)
            ]
            self.put(spot, *map(str.encode, within))
            if own:
                self._class(type(layer), f"{spot}.class")
            if hasattr(layer, "operations"):
                self._wiring(layer, spot)
            if isinstance(layer, keras.Sequential) or (hasattr(layer, "operations") and not own):
                continue
            for name, value in sorted(vars(layer).items()):
                known = model_base if isinstance(layer, keras.Model) else base
                if name in known or (
                    name in UNASKED and not (own and name == "seed" and isinstance(value, int))
                ):
                    continue
                if isinstance(value, TRAINING) or (
                    not own and name.endswith(("initializer", "regularizer", "constraint"))
                ):
                    # of the user's own layers anything may be called so: a function that clips
                    continue
                if name.startswith(("_self_", "_tf_", "_jax_", "_compile")) or (
                    not own and not _simple(value)
                ):
                    continue
                self.walk(value if own else _tuples(value), f"{spot}.{name}")

    def _wiring(self, model: Any, path: str) -> None:
        """How the operations of a functional model are connected."""
        place = {id(operation): number for number, operation in enumerate(model.operations)}
        nodes: dict[tuple[int, int], int] = {}
        wired = []
        for operation in model.operations:
            for number, node in enumerate(operation._inbound_nodes):
                if all(
                    id(tensor._keras_history.operation) in place for tensor in node.input_tensors
                ):
                    nodes[id(operation), number] = sum(
                        1 for known, _ in nodes if known == id(operation)
                    )
                    wired.append((operation, node))

        def token(value: Any) -> Any:
            if not isinstance(value, keras.KerasTensor):
                return value
            origin = value._keras_history
            number = nodes.get((id(origin.operation), origin.node_index), -1)
            return "from", place.get(id(origin.operation), -1), number, origin.tensor_index

        for number, (operation, node) in enumerate(wired):
            spot = f"{path}.graph[{number}]"
            self.put(spot, repr(place[id(operation)]).encode())
            arguments = keras.tree.map_structure(
                token, (node.arguments.args, node.arguments.kwargs)
            )
            self._within(_tuples(arguments), f"{spot}.inputs")
            if not isinstance(operation, keras.layers.Layer):
                self._class(type(operation), f"{spot}.class")
                for name, value in sorted(vars(operation).items()):
                    if name not in _bare()[0] and _simple(value):
                        self.walk(_tuples(value), f"{spot}.{name}")
            elif id(operation) in self.met:
                self.put(spot, self.met[id(operation)][0].encode())
        for name in ("inputs", "outputs"):
            self._within(
                keras.tree.map_structure(token, list(getattr(model, name))), f"{path}.{name}"
            )


def _tuples(value: Any) -> Any:
    """``value`` with a tuple for each list: which of them it was, a file of Keras does not tell."""
    if isinstance(value, list | tuple):
        return tuple(map(_tuples, value))
    return {name: _tuples(entry) for name, entry in value.items()} if type(value) is dict else value


def _is_variable(thing: Any) -> bool:
    return isinstance(thing, keras.Variable)


def _listed(slots: Any) -> Iterable[str]:
    return (slots,) if isinstance(slots, str) else slots


def _simple(value: Any) -> bool:
    """Whether a value of Keras' own objects says what they do: no caches, no trackers."""
    if isinstance(value, Mapping):
        return all(map(_simple, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_simple, value))
    plain = (
        bool,
        int,
        float,
        complex,
        str,
        bytes,
        np.ndarray,
        np.generic,
        types.FunctionType,
        keras.Variable,
    )
    if (
        value is None
        or isinstance(value, plain)
        or keras.ops.is_tensor(value)
        or isinstance(value, keras.layers.Layer)
    ):
        return True
    # What a Lambda or an Activation was given: a partial, a bound method, an object that is called,
    # a compiled function.
    given = isinstance(value, functools.partial | types.MethodType) or hasattr(value, "__wrapped__")
    return callable(value) and (given or _home(type(value)) == "own")
