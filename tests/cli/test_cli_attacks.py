"""The attacks that the command line knows, what is said of them, and what to try next."""

import inspect
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import advex
from advex import attacks, cli, zoo
from advex.attacks.call import Attackable
from advex.cli import advice, program
from advex.cli.registry import ATTACKS, FAMILIES, NORMS, Known, attack_called
from advex.errors import InvalidInput

HOUSE = Path(advex.__file__).parents[1]
ALONE = [known for known in ATTACKS.values() if known.family not in ("maps", "wrappers")]
COUNTED = [known for known in ALONE if known.cost != "varies"]
LISTED = pytest.mark.parametrize("known", ATTACKS.values(), ids=lambda known: known.name)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with two images of the shipped data: a boot and a pullover."""
    monkeypatch.chdir(tmp_path)
    x, _ = zoo.fashion_images()
    (tmp_path / "my photos").mkdir()
    for number in range(2):
        Image.fromarray(x[number, ..., 0]).save(tmp_path / "my photos" / f"{number}.png")
    return tmp_path


def document(capsys):
    return json.loads(capsys.readouterr().out)


# The registry.


def test_every_public_attack_is_known():
    public = {
        name
        for name in attacks.__all__
        if inspect.isclass(getattr(attacks, name))
        and issubclass(getattr(attacks, name), Attackable)
        and not inspect.isabstract(getattr(attacks, name))
    }
    assert {known.kind for known in ATTACKS.values()} == public | {"fine"}
    assert len({known.kind for known in ATTACKS.values()}) == len(ATTACKS)


def test_every_spelling_means_one_attack():
    for known in ATTACKS.values():
        for word in (known.name, known.name.upper(), known.kind, *known.also.split()):
            assert attack_called(word) is known
    with pytest.raises(InvalidInput, match="did you mean deepfool"):
        attack_called("depfool")


@LISTED
def test_norms_are_those_in_which_the_attack_takes_a_budget(known):
    if known.wrapper:
        return
    norms = [getattr(advex, kind) for kind in NORMS.values()]
    kind = type(known.example)
    said = [norm for norm in norms if not kind.norms or norm in kind.norms]
    if known.kind == "AutoAttack":  # it says so only when it is asked
        said.remove(advex.L0)
    assert known.norms == tuple(
        word
        for word, name in NORMS.items()
        if getattr(advex, name) in said and getattr(advex, name) not in kind.lacks
    )


CLASSES = 12


@pytest.fixture(scope="module")
def linear():
    """A linear model of twelve classes, and inputs that it gets right."""
    weights = np.random.default_rng(0).normal(size=(30, CLASSES)).astype("float32")
    model = advex.testing.linear_model(weights)
    return model, *advex.testing.linear_data(4, features=30, model=model)


@pytest.mark.filterwarnings("ignore:For 1 of 4 inputs no start was found")
@pytest.mark.parametrize(
    "known",
    [one for one in ALONE if "F" in one.cost or one.cost == "1 query"],
    ids=lambda one: one.name,
)
def test_what_a_step_costs(known, linear):
    """Counted: passes of one step more, and queries that keep to their limit."""
    model, x, labels = linear
    budget = getattr(advex, NORMS[known.norms[0]])(1 if known.norms[0] == "l0" else 1e-3)
    if known.cost == "1 query":
        result = known.maker(steps=60)(model, x, labels, budget)
        assert 0 < result.queries.max() <= 60 and not result.gradients.any()
        return
    spent = []
    for steps in (1, 2):
        made = known.maker(**({"steps": steps} if known.takes_steps else {}))
        result = made(model, x, labels, budget, until="end")
        spent.append([result.queries.max(), result.gradients.max()])
    passes = np.subtract(*reversed(spent)) if known.takes_steps else [1, spent[0][1]]
    assert known.cost == f"{passes[0]}F + {passes[1]}B"


# ``advex attacks``.


def test_the_list_fits_eighty_columns(capsys):
    assert cli.main(["attacks"]) == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80
    for known in ATTACKS.values():
        (line,) = [line for line in lines if line.split()[:1] == [known.name]]
        assert known.when in line and known.cost in line
    for title in FAMILIES.values():
        assert title in said


def test_the_list_as_values(capsys):
    assert cli.main(["attacks", "--json"]) == 0
    listed = document(capsys)["attacks"]
    assert [entry["name"] for entry in listed] == list(ATTACKS)
    by_name = {entry["name"]: entry for entry in listed}
    assert by_name["ddn"]["norms"] == ["l2"] and by_name["square"]["needs"] == "scores"
    assert by_name["rays"]["needs"] == "labels" and by_name["verdict"]["needs"] == "gradients"
    assert by_name["pgd"]["needs_epsilon"] and not by_name["fmn"]["needs_epsilon"]
    assert by_name["segpgd"]["goals"] == ["segmentation"]
    assert by_name["restarts"]["settings"][0]["default"] is None


@pytest.mark.parametrize("name", ["pgd", "CarliniWagner", "segpgd", "ensemble"])
def test_one_of_them(name, capsys):
    assert cli.main(["attacks", name, "--json"]) == 0
    (entry,) = document(capsys)["attacks"]
    assert cli.main(["attacks", name]) == 0
    said = capsys.readouterr().out
    known = attack_called(name)
    for setting, default in known.settings.items():
        (row,) = [each for each in entry["settings"] if each["name"] == setting]
        if isinstance(default, int | float):
            assert row["default"] == repr(default) and row["meaning"]
        assert setting in said
    assert f"advex.{known.kind}" in said


def test_one_that_is_not_there(capsys):
    assert cli.main(["attacks", "pdgg"]) == 2
    assert "did you mean pdgd" in capsys.readouterr().err


# From ``advex attack``.

SOME = ["deepfool", "ddn", "sigma-zero", "square", "elastic-net", "simba"]


@pytest.mark.parametrize("name", SOME)
def test_attacks_choose_their_norm_and_size(name, here, capsys):
    known = attack_called(name)
    limit = ["--queries" if known.needs != "gradients" else "--steps", "60"]
    assert cli.main(["attack", "my photos", "--attack", name, *limit, "--json"]) in (0, 1)
    report = document(capsys)
    settings = report["settings"]
    assert settings["norm"] == known.norms[0]
    assert settings["attack"].startswith(f"{known.kind}(")
    within = "Linf(2/255)" if known.norms[0] == "linf" else f"{NORMS[known.norms[0]]}()"
    assert settings["budget"] == within
    if within != "Linf(2/255)":
        assert report["fooled"] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--attack", "segpgd"], "a class for each pixel"),
        (["--attack", "ensemble"], "does not run by itself"),
        (["--attack", "restarts"], "--attack pgd --restarts 5"),
        (["--attack", "ddn", "--norm", "linf"], "ddn has no form in linf: --norm l2"),
        (["--attack", "apgd", "--epsilon", "inf"], "apgd needs a limit: --epsilon 8/255"),
        (["--attack", "sparse-rs"], "--norm l0 needs --epsilon, a number of array elements"),
        (["--attack", "verdict", "--steps", "3"], "takes steps of its own"),
        (["--attack", "zzzzz"], "there are fgsm, pgd"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_run_says_why(words, said, here, capsys):
    assert cli.main(["attack", "my photos", *words]) == 2
    captured = capsys.readouterr()
    assert said in captured.err and not captured.out and len(captured.err.splitlines()) == 1
    assert not Path("adversarial").exists()


# What to try.


@pytest.mark.parametrize(
    ("typed", "norm", "grown"),
    [
        ("2/255", "linf", "4/255"),
        ("8/255", "linf", "12/255"),
        ("0", "linf", "2/255"),
        ("0.02", "linf", "0.03"),
        ("0.9", "linf", None),
        ("254/255", "linf", None),
        ("inf", "l2", None),
        ("0.5", "l2", "0.75"),
        ("3", "l0", "5"),
        ("0", "l0", "1"),
    ],
)
def test_a_wider_limit(typed, norm, grown):
    assert advice.wider(typed, norm) == grown


def test_options_are_set_anew():
    words = ["attack", "a b.png", "--epsilon=2/255", "--steps", "3", "--epsilon", "1/255"]
    made = advice.replaced(words, "--epsilon", "3/255")
    assert made == ["attack", "a b.png", "--steps", "3", "--epsilon", "3/255"]
    assert advice.without(made, "--steps") == ["attack", "a b.png", "--epsilon", "3/255"]


HELD = ["attack", "my photos", "--target", "Bag", "--epsilon", "1/255", "--steps", "4"]


def pasted(said):
    """The commands in what was printed, as a shell would read them."""
    lines = said.partition("such as:\n")[2].replace("\\\n", "").splitlines()
    return [shlex.split(line) for line in lines]


def test_commands_after_a_failure_run_as_they_are(here, capsys):
    assert cli.main(HELD) == 1
    commands = pasted(capsys.readouterr().out)
    assert [words[-2:] for words in commands] == [
        ["--epsilon", "3/255"],
        ["--attack", "fine"],
        ["--restarts", "5"],
    ]
    for name, *words in commands:
        assert name == "advex"
        assert cli.main([*words, "--json"]) in (0, 1)
        report = document(capsys)
        assert report["total"] == 2 and report["settings"]["target"]["name"] == "Bag"
    assert report["settings"]["attack"].startswith("Restarts(attack=PGD(steps=4")


def test_a_file_that_looks_like_an_option_is_named_so_that_it_is_none(here, capsys, monkeypatch):
    place = here / "dashes"
    place.mkdir()
    shutil.copy(next((here / "my photos").glob("*.png")), place / "-one.png")
    monkeypatch.chdir(place)
    assert cli.main(["attack", ".", *HELD[2:], "--out", "out"]) == 1
    commands = pasted(capsys.readouterr().out)
    assert commands
    for _, *words in commands:
        assert "./-one.png" in words
        assert cli.main([*words, "--json"]) in (0, 1)
        assert document(capsys)["total"] == 1


def test_a_failure_from_the_shell(here):
    """Typed and pasted as a user does: the printed command starts with what starts advex here."""
    shell = {"cwd": here, "capture_output": True, "text": True}
    environment = {"PYTHONPATH": str(HOUSE), "PATH": "/usr/bin:/bin", "NO_COLOR": "1"}
    done = subprocess.run([sys.executable, "-m", "advex", *HELD], env=environment, **shell)
    assert done.returncode == 1, done.stderr
    text = done.stdout.partition("such as:\n")[2]
    first = text[: text.index("\n", text.index("--epsilon 3/255"))]
    assert first.split()[0] == sys.executable
    again = subprocess.run(first, shell=True, env=environment, **shell)
    assert again.returncode in (0, 1), again.stderr
    assert "within Linf(3/255)" in again.stdout


def test_advice_does_not_go_round_in_a_circle(here, capsys):
    tried, words = ["pgd"], [*HELD[:-2], "--confidence", "0.99", "--attack", "pgd"]
    while words:
        assert cli.main([*words, "--overwrite"]) == 1
        typed = [shown for shown in pasted(capsys.readouterr().out) if "--attack" in shown]
        others = {shown[shown.index("--attack") + 1]: shown[1:] for shown in typed}
        other = next((name for name in others if name != tried[-1]), None)
        words = others.get(other)
        tried += [other] if words else []
        assert len(tried) < 5
    assert tried == ["pgd", "fine", "verdict"]


def test_who_was_fooled_gets_no_advice(here, capsys):
    assert cli.main(["attack", "my photos", "--epsilon", "40/255", "--json"]) == 0
    assert document(capsys)["advice"] == []


# How the program is named.


@pytest.fixture
def started(tmp_path, monkeypatch):
    """``started(*parts)``: what is printed if the program is that file, from a folder without it in
    the path.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")

    def named(*parts):
        path = tmp_path.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "argv", [str(path)])
        return program.program()

    return named


def test_the_program_as_it_can_be_typed(started, tmp_path, monkeypatch):
    assert started(".venv", "bin", "advex") == ".venv/bin/advex"
    assert started("advex") == "./advex"
    assert started("my venv", "advex") == "'my venv/advex'"
    monkeypatch.setenv("PATH", str(tmp_path / ".venv" / "bin"))
    assert started(".venv", "bin", "advex") == "advex"
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    assert started("other", "advex") == str(tmp_path / "other" / "advex")
    assert started("site", "advex", "__main__.py").endswith(" -m advex")
    assert started("site", "pytest", "__main__.py") == "advex"


def test_long_commands_go_on_after_an_option():
    words = ["attack", "a.png", "--target", "B C", "--epsilon", "8/255", "--overwrite"]
    text = program.command(words, 40)
    assert text.splitlines() == [
        "advex attack a.png --target 'B C' \\",
        "    --epsilon 8/255 --overwrite",
    ]
    assert shlex.split(text.replace("\\\n", "")) == ["advex", *words]


def test_names_of_one_kind():
    assert isinstance(ATTACKS["pgd"], Known) and ATTACKS["pgd"].maker is advex.PGD
