"""The docstrings that the API pages are made from: sections, formulas, arguments, references."""

import builtins
import inspect
import re
import types

import pytest

import advex
import advex.training
from advex.attacks.call import Attackable
from advex.budgets import Budget
from advex.goals import Goal
from advex.training.methods import Method

converter = pytest.importorskip("latex2mathml.converter")

MODULES = (
    advex,
    advex.training,
    advex.errors,
    advex.testing,
    advex.losses,
    advex.images,
    advex.callbacks,
    advex.zoo,
    advex.evaluation,
)
METHODS = {
    advex.Result: ["save", "rows", "to_csv", "to_pandas", "examples"],
    advex.Domain: ["from_data", "repaired", "holds", "violations"],
    advex.Attack: ["__call__", "init", "step", "done"],
    advex.Goal: ["margin"],
    advex.Problem: ["logits", "crossed", "losses", "margin", "gradient", "jacobian", "slopes",
                    "shown", "project", "around", "suspect", "move", "uniform", "normal", "signs"],
    advex.Evaluation: ["load", "to_dict", "to_json", "to_csv", "to_pandas"],
    advex.Certificate: ["accuracy", "rows"],
    advex.Trace: ["rows", "table", "show"],
}  # fmt: skip

# Neither a paper nor anything that one would look up: advex's own, or a convention of the field.
NO_PAPER = {
    "Ensemble",
    "LinearDecay",
    "fine",
    "MinimumNorm",
    "Attack",
    "Method",
}
# Papers with neither DOI nor arXiv number: where they are instead.
ELSEWHERE = {
    "MART": "https://openreview.net/forum?id=rklOg6EFwS",
    "Regression": "Nguyen and Raff",  # no address that anybody has checked
}

# What the library makes, and users read.
HANDED_OUT = {
    advex.Attack,  # its fields are those of the attack derived from it
    advex.Goal,
    advex.Result,
    advex.Problem,
    advex.Trace,
    advex.Certificate,
    advex.Evaluation,
    advex.training.Batch,
    advex.training.Method,
    advex.images.Picture,
    *(getattr(advex.evaluation, name) for name in advex.evaluation.__all__ if name[0].isupper()),
}
KNOWN = {name for module in MODULES for name in module.__all__} | {
    *dir(builtins),
    # of Keras and others, and what advex hands out
    *("ModelCheckpoint", "EarlyStopping", "CSVLogger", "KerasTensor", "DataLoader"),
    *("FORMATS", "SavedImage"),
}

HEADS = (
    "When to use it",
    "No formula",
    "Args",
    "Returns",
    "Yields",
    "Raises",
    "Attributes",
    "Cost",
    "Example",
    "Reference",
    "Deviations",
)
FORMULA = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
INLINE = re.compile(r"(?<!\$)\$(?!\$)([^$]+?)\$(?!\$)")
LINK = re.compile(
    r"https://(?:arxiv\.org/abs/(?:\d{4}\.\d{4,5}|[a-z-]+/\d{7})|doi\.org/10\.\d+/\S+)"
)


def public():
    """Qualified name -> thing, of every public name that is no module or number."""
    found = {}
    for module in MODULES:
        for name in module.__all__:
            thing = getattr(module, name)
            if not isinstance(thing, types.ModuleType | str):
                prefix = module.__name__.removeprefix("advex").lstrip(".")
                found[f"{prefix}.{name}".lstrip(".")] = thing
    for owner, names in METHODS.items():
        for name in names:
            found[f"{owner.__name__}.{name}"] = getattr(owner, name)
    return found


PUBLIC = public()


def kind(name, thing):
    if isinstance(thing, type):
        if issubclass(thing, BaseException):
            return "error"
        for base, word in ((Attackable, "attack"), (Budget, "budget"), (Goal, "goal")):
            if issubclass(thing, base):
                return word
        if issubclass(thing, Method):
            return "training"
        return "class" if typed(thing) else "read"
    if name.startswith("losses."):
        return "loss"
    return "method" if name[0].isupper() else "function"


def sections(text):
    """Heading -> text, dedented; "" for what stands before the first."""
    found, head = {"": []}, ""
    for line in text.splitlines():
        match = re.match(r"^(\w[\w ]*):(.*)$", line)
        if match and match[1] in HEADS:
            head = match[1]
            assert not match[2].strip(), f"{head}: its text begins on the next line"
            assert head not in found, f"{head}: twice"
            found[head] = []
        else:
            if line and not line.startswith(" ") and head:
                head = ""
            found[head].append(line)
    return {head: inspect.cleandoc("\n".join(["", *lines])) for head, lines in found.items()}


def entries(text):
    """Name -> text, of a section of Google's kind."""
    found = {}
    for line in text.splitlines():
        match = re.match(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*): ?(.*)$", line)
        if match:
            last = match[1]
            found[last] = match[2]
        elif line.strip():
            assert line.startswith("    "), f"a line that belongs to no entry: {line!r}"
            found[last] += f" {line.strip()}"
    return found


def typed(thing):
    """Whether users make one: of the others the library hands out all there are."""
    return thing not in HANDED_OUT


def parameters(thing):
    """Name -> default, of what one may type."""
    marks = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return {
        marks.get(one.kind, "") + name: one.default
        for name, one in inspect.signature(thing).parameters.items()
        if name != "self"
    }


def documented(text):
    """The names of Args; ``a, b`` are two."""
    return {name: words for names, words in entries(text).items() for name in names.split(", ")}


NEEDED = {
    "attack": ("When to use it", "Raises", "Cost", "Example"),
    "budget": ("When to use it", "Raises", "Example"),
    "goal": ("When to use it", "Raises", "Example"),
    "training": ("When to use it", "Example"),
    "loss": ("When to use it", "Args", "Returns", "Example"),
    "error": (),
    "class": ("Example", "Raises"),
    "read": (),
    "function": ("Example",),
    "method": (),
}
FORMULAS = ("attack", "budget", "goal", "training", "loss")


@pytest.mark.parametrize("name", PUBLIC)
def test_sections_of_its_kind(name):
    thing = PUBLIC[name]
    text = inspect.getdoc(thing) or ""
    first, found = text.split("\n\n")[0], sections(text)
    assert len(first.split()) >= 4, "it begins with a sentence"
    word = kind(name, thing)
    if name == "images.sheet":  # for advex's own pictures
        return
    for head in NEEDED[word]:
        assert found.get(head), f"{word}: the section {head} is missing"
    if inspect.isfunction(thing):
        back = inspect.signature(thing).return_annotation
        if back not in (None, "None", inspect.Signature.empty):
            assert found.get("Returns") or found.get("Yields"), f"it returns {back}: what is that?"
    if word == "read":
        assert found.get("Attributes") or found.get("Example"), "what it holds"
    if word in FORMULAS:
        formula = FORMULA.search(text)
        assert bool(formula) != bool(found.get("No formula")), "a formula, or No formula: and why"
    for head, words in found.items():
        assert not head or words.strip(), f"{head} says nothing"


@pytest.mark.parametrize("name", PUBLIC)
def test_formulas_convert(name):
    text = inspect.getdoc(PUBLIC[name]) or ""
    bare = FORMULA.sub("", text)
    for formula in [*FORMULA.findall(text), *INLINE.findall(re.sub(r"`[^`]*`", "", bare))]:
        made = converter.convert(formula.strip())
        assert "\\" not in made, f"left as it is: {formula}"
        assert "\\setminus" not in formula, "a sign that fonts lack"
    assert "$$" not in bare, "a formula that is not closed"


def test_a_formula_that_does_not_convert_is_seen():
    assert "\\" in converter.convert(r"\arg\max_x f")


CALLABLE = [
    name
    for name, thing in PUBLIC.items()
    if kind(name, thing) != "error" and not getattr(thing, "_is_protocol", False)
]


@pytest.mark.parametrize("name", CALLABLE)
def test_arguments_are_those_of_the_signature(name):
    thing = PUBLIC[name]
    found = sections(inspect.getdoc(thing) or "")
    if isinstance(thing, type) and not typed(thing):
        return  # made by the library alone: it has attributes
    there, said = parameters(thing), documented(found.get("Args", ""))
    assert list(said) == list(there) or set(said) == set(there), (
        f"missing: {sorted(there.keys() - said.keys())}, gone: {sorted(said.keys() - there.keys())}"
    )
    for one, words in said.items():
        assert len(words.split()) >= 2, f"{one}: says nothing"
        default = re.search(r"[Dd]efault(?:s to|:| is) `?([^\s`,;]+[^\s`,;.])", words)
        if default and there[one] is not None:
            value = there[one]
            named = getattr(value, "__name__", None) or repr(value)
            assert default[1].strip("`") in (named, str(value)), f"{one}: the default is {value!r}"


@pytest.mark.parametrize("name", PUBLIC)
def test_references_have_a_link(name):
    found, last = sections(inspect.getdoc(PUBLIC[name]) or ""), name.rpartition(".")[2]
    reference = found.get("Reference", "")
    if kind(name, PUBLIC[name]) in ("attack", "training") and last not in NO_PAPER:
        assert reference, "the paper"
        assert found.get("Deviations"), "Deviations from the paper, or None."
    if not reference or last in NO_PAPER:
        return
    assert re.search(r"\b(?:19|20)\d\d\b", reference), "the year"
    if last in ELSEWHERE:
        assert ELSEWHERE[last] in reference
        return
    links = re.findall(r"https://\S+", reference)
    assert links, "a DOI or an arXiv number"
    for link in links:
        assert LINK.fullmatch(link), f"neither arXiv nor DOI: {link}"


def test_lists_of_exceptions_are_needed():
    names = {name.rpartition(".")[2]: thing for name, thing in PUBLIC.items()}
    for name in NO_PAPER | set(ELSEWHERE):
        assert name in names, f"{name} is gone"
    for name in NO_PAPER:
        assert not LINK.search(inspect.getdoc(names[name]) or ""), f"{name} has a paper"


@pytest.mark.parametrize("name", PUBLIC)
def test_names_in_backticks_exist(name):
    """What looks like a public class or function of advex is one."""
    text = re.sub(r">>>.*|\.\.\. .*", "", inspect.getdoc(PUBLIC[name]) or "")
    for word in re.findall(r"`(?:advex\.)?([A-Z][a-z]+(?:[A-Z][a-z]+)+|[A-Z]{3,}\w*)`", text):
        assert word in KNOWN, f"`{word}`"
