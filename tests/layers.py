"""The floors of the house, and who imports whom. ``tests/test_package.py`` compares the two.

An import only goes down: to a room further up in a list below. Nor do modules import each other in
a circle. Imports inside functions and those for type checkers count as any other.
"""

import ast
from pathlib import Path

import advex

PACKAGE = Path(advex.__file__).parent


def words(text):
    return text.split()


ROOMS = words("""
    _version errors _others _arrays _keywords _settings data
    _backend graph
    goals losses domain budgets _discrete _grid _inputs _space _fonts _sheets images _table trace
    model
    _drawing
    result
    driver
    attacks
    zoo testing doctor
    evaluation certification callbacks training report
    cli __main__ __init__
""")

FLOORS = {  # inside a room, where the order tells something
    "goals": words("""
        base labels classes several_labels regression segmentation joined __init__
    """),
    "model": words("""
        cache last_layer head protocol refusals outputs domain folding perturbed forward several
        training
        answers blackbox
        classifier __init__
    """),
    "driver": words("""
        draws rows candidates problem shapes plan ledger inline batch programs loop judging honesty
        ranges
        last_word sentences progress call __init__
    """),
    "attacks": words("""
        inputs whole_inputs sizes call base schedules _parts _phases hyperplane
        fgsm bim pgd momentum_iterative nesterov_iterative gradient_ascent
        apgd_l1 apgd fab square_windows square_linf square_l2 square
        carlini_wagner_l2 carlini_wagner_linf carlini_wagner elastic_net
        ddn deepfool fmn jsma alma pdgd pdpgd sigma_zero knapsack
        smoothing labels_alone hop_skip_jump cgba rays pointwise surfree
        scores_alone nes spsa simba sparse_rs
        pixel_losses segpgd composite sea autoattack minimum_norm verdict __init__
    """),
    "testing": words("""
        models exact walk contract __init__
    """),
    "training": words("""
        methods near trades mart noise free awp fast checks given steps adversarial guards __init__
    """),
    "doctor": words("""
        diagnosis examination climbing checks random_search answers gradients attacks successes
        call __init__
    """),
    "evaluation": words("""
        schema values complaints seals store source progress stopping budgets perturbed
        wanted details contents identity
        curves table summaries kept label_figures error_figures map_figures
        reading pooled figures goal_tables text paired page evaluation comparison
        pieces shown records asked journal facts answers patient block_files cluster runner call
        __init__
    """),
    "evaluation.contents": words("""
        code origin found containers arrays attributes functions layers kinds __init__
    """),
    "evaluation.page": words("""
        numbers drawing places curve_chart class_chart goal_part pictures listing repeat threat
        attack_table questions cite content checking comparing __init__
    """),
    "certification": words("""
        binomial sampling votes folder certificate asked look run call __init__
    """),
    "cli": words("""
        screen program registry words quiet classes blackbox models files data batch summary
        advice outcome attack attacks evaluate report demo main __init__
    """),
}


def module_of(path):
    """``evaluation.figures`` for ``advex/evaluation/figures.py``; ``""`` for ``advex`` itself, and
    ``evaluation`` for its ``__init__``.
    """
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
PACKAGES = {name for name, path in MODULES.items() if path.stem == "__init__"}


def home(name):
    """The module that a name of the public face comes from: the face itself imports nothing before
    it is asked.
    """
    return "_version" if name == "__version__" else advex._HOME.get(name, name)


def named(module, name):
    """What ``from advex.<module> import <name>`` imports."""
    if not module:
        return home(name)
    return f"{module}.{name}" if f"{module}.{name}" in MODULES else module


def imports(module):
    """(imported module, line) of every import in a module's file."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno} is a relative import"
            root, _, rest = str(node.module).partition(".")
            if root == "advex":
                for alias in node.names:
                    yield named(rest, alias.name), node.lineno
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("advex."):
                    yield alias.name.removeprefix("advex."), node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "advex":
                yield home(node.attr), node.lineno


def runs(module, imported):
    """Which files run when ``module`` imports ``imported``: Python runs a package's ``__init__``
    before what is in it, unless it runs already.
    """
    steps = imported.split(".")
    above = {".".join(steps[:count]) for count in range(1, len(steps))}
    return {imported} | {package for package in above if not within(package, module)}


def within(package, module):
    """Whether a module is in a package, or is its ``__init__``."""
    return not package or f"{module}.".startswith(f"{package}.")


def arrows():
    """{(importing module, imported module): line}."""
    found = {}
    for module in MODULES:
        for imported, line in imports(module):
            for each in runs(module, imported):
                found.setdefault((module, each), line)
    return found


def entry(package, module):
    """Which room, or which file or package inside a room, a module belongs to."""
    return module.removeprefix(package).removeprefix(".").partition(".")[0] or "__init__"


def place(package, module):
    """The place of a module among the rooms, or on the floors of its package."""
    order, name = FLOORS[package] if package else ROOMS, entry(package, module)
    assert name in order, f"{module} has no place in {package or 'the list of rooms'}"
    return order.index(name)


def upward(package):
    """The arrows inside a package that do not go down, in words."""
    inside = {name for name in MODULES if within(package, name)}
    wrong = []
    for (module, imported), line in arrows().items():
        if {module, imported} <= inside and module != imported:
            entries = [entry(package, name) for name in (module, imported)]
            here, there = place(package, module), place(package, imported)
            if entries[0] != entries[1] and there >= here:
                wrong.append(f"{MODULES[module]}:{line}: {module} imports {imported}")
    return wrong


def circle():
    """Modules that import each other in a circle; empty where there is none."""
    below = {module: set() for module in MODULES}
    for module, imported in arrows():
        below[module].add(imported)
    done, path = set(), []

    def visit(module):
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done or module not in below:
            return []
        path.append(module)
        for other in sorted(below[module]):
            if other != module and (found := visit(other)):
                return found
        path.pop()
        done.add(module)
        return []

    return next((found for module in MODULES if (found := visit(module))), [])
