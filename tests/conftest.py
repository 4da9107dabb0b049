"""What the tests share: data, the small networks, and which tests run where."""

import atexit
import json
import math
import os
import shutil
import tempfile
import warnings
from collections import Counter, defaultdict
from importlib.resources import files
from pathlib import Path

if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    # On JAX nearly all time is compiling: what one test has compiled, no other test, worker or
    # process compiles again. In a folder of this run alone, before JAX is imported; workers and
    # subprocesses inherit it.
    compiled = tempfile.mkdtemp(prefix="advex-compiled-")
    atexit.register(shutil.rmtree, compiled, ignore_errors=True)
    os.environ |= {
        "JAX_COMPILATION_CACHE_DIR": compiled,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }

import keras
import numpy as np
import pytest
from keras import ops

import advex
from advex.testing import check_attack, small_network
from advex.testing.exact import inside

HERE = Path(__file__).parent
SHARED = HERE.parents[1] / "shared"  # larger networks, beside this checkout or not there


def pytest_configure(config):
    # One worker reads what the other is writing just now: then JAX compiles it.
    config.addinivalue_line(
        "filterwarnings",
        "ignore:Error (reading|writing) persistent compilation cache entry:UserWarning",
    )


MATRIX = os.environ.get("ADVEX_MATRIX") == "all"  # make matrix: every test with every case

# On JAX these are minutes of compiling, and on torch and TensorFlow they run: there in ``make
# matrix`` only.
LONG_ON_JAX = {
    "test_a_number_is_as_far_from_its_limit_as_the_formula_says",
    "test_it_finds_what_the_attacks_find",
    "test_a_search_for_the_smallest_ends_inside_its_limit",
    "test_any_of_breaks_what_each_breaks_alone",
    "test_several_labels_together_are_near_the_optimum_and_never_below",
    "test_leaving_the_k_likeliest_is_near_the_optimum_and_never_below",
    "test_the_likeliest_one_is_the_class_itself",
    "test_one_pixel_is_one_class",
    "test_the_nearest_label_is_as_far_as_the_formula_says",
    "test_every_attack_with_every_goal",
    "test_random_and_constant_models_on_every_backend",
    "test_no_flag_on_a_linear_model",
    "test_fgsm",
    "test_the_same_as_with_the_model_itself",
    "test_as_many_rows_as_are_counted",
    "test_no_gradient_is_taken",
    "test_momentum_and_nesterov_are_what_their_papers_say",
    "test_ten_thousand_cases_and_none_below_the_certified_radius",
    "test_grad_cam",
    "test_exceptions_pass_through_and_leave_all_intact",
    "test_bim_takes_steps_of_the_stated_size",
    "test_check_attack_sees_an_attack_that_does_nothing",
    "test_every_point_on_the_way_is_inside",
    "test_other_boxes_scale_epsilon_and_distance",
    "test_an_attack_of_ones_own_that_asks_several_times",
    "test_random_layers_as_transforms_are_said_to_be_random",
    "test_fgsm_succeeds_exactly_where_the_formula_says",
}

# Of these, each of whose cases takes many seconds, ``make test`` has a covering part; the others
# differ from it in one attack, norm or model, which other tests have.
COVERING = {
    "test_a_number_is_as_far_from_its_limit_as_the_formula_says": {
        "DeepFool-L2",
        "FAB-Linf",
        "MinimumNorm-L1",
    },
    "test_a_search_for_the_smallest_ends_inside_its_limit": {"DDN-True", "FMN-False", "ALMA-False"},
    "test_several_labels_together_are_near_the_optimum_and_never_below": {"two", "one alone"},
    "test_leaving_the_k_likeliest_is_near_the_optimum_and_never_below": {"2"},
    "test_the_optimum_of_a_linear_model_is_that_of_the_free_features": {"Linf"},
    "test_what_may_not_change_stays": {
        "FGSM-L0-float32",
        "PGD-Linf-uint8",
        "PGD-L1-float32",
        "APGD-L1-uint8",
        "MomentumIterative-L2-float32",
        "SquareAttack-Linf-float32",
        "SquareAttack-L2-uint8",
        "FAB-Linf-unlimited-float32",
        "DeepFool-L2-uint8",
        "DDN-L2-unlimited-uint8",
        "FMN-L0-unlimited-float32",
        "CarliniWagner-Linf-float32",
        "ALMA-L2-unlimited-float32",
        "PDPGD-Linf-uint8",
        "SigmaZero-L0-unlimited-uint8",
        "JSMA-L0-float32",
        "Verdict-L2-float32",
        "MinimumNorm-Linf-unlimited-float32",
    },
    "test_8_bit_results_lie_on_the_grid_and_cost_little": {"CarliniWagner", "FMN"},
    "test_many_cases_within_one_per_cent_of_the_formula_and_none_below": {
        "MinimumNorm-linf",
        "MinimumNorm-l2",
        "MinimumNorm-l1",
        "MinimumNorm-l0",
        "CarliniWagner-l2",
        "FAB-linf",
    },
    "test_few_classes_and_constant_models": {"two-AutoAttack", "constant-Verdict"},
    "test_fgsm_succeeds_exactly_where_the_formula_says": {
        "True-linf",
        "False-l2",
        "True-l1",
        "False-l0",
    },
    "test_a_model_without_gradient_gives_no_success_and_no_nan": {"2"},
}


# With --covering the cases of one test function take so many CPU seconds and no more. The others
# run on torch, where nothing is compiled, or in ``make everything``.
SHARE = 5.0
IN_FULL = {  # all the same: the contract of attacks, the pages, kills
    "test_contract",
    "test_the_contract",
    "test_every_way_of_calling",
    "test_code_blocks",
    "test_doctests",
    "test_a_model_on_the_page_fires_each_check",
    "test_killed_at_every_transaction",
    "test_no_import_goes_up",
}

SPENT = Counter()  # seconds of each test function, with all its cases
SLOW = 1.0  # CPU seconds from which a test function is left out of ``make quick``


def pytest_addoption(parser):
    parser.addoption("--durations-to", help="write how long each test function takes (a file)")
    parser.addoption(
        "--covering", action="store_true", help="a part of the cases of long functions"
    )


def pytest_collection_modifyitems(config, items):
    """Tests are quick if ``make durations`` has measured that they are."""
    known = json.loads((HERE / "durations.json").read_text(encoding="utf-8"))
    for item in items:
        if known.get(function_of(item), SLOW) >= SLOW:
            item.add_marker(pytest.mark.slow)
    left = [item for item in items if not wanted(item)]
    if config.getoption("covering"):
        left += spared([item for item in items if item not in set(left)], known)
    if left:
        config.hook.pytest_deselected(items=left)
        gone = set(left)
        items[:] = [item for item in items if item not in gone]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Networks that a test or its fixtures make have the same weights in every run, whichever tests
    ran before: what holds for nearly every network would fail once in a hundred runs.
    """
    keras.utils.set_random_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    """Nor does it matter whether a fixture was made for this test or for one before."""
    keras.utils.set_random_seed(0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    """CPU seconds of the test, its fixtures and the processes that it starts."""
    before = sum(os.times()[:4])
    done = yield
    SPENT[function_of(item)] += sum(os.times()[:4]) - before
    return done


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):  # a worker of xdist tells the one that writes
        session.config.workeroutput["spent"] = dict(SPENT)
    elif path := session.config.getoption("durations_to"):
        spent = {name: round(seconds, 1) for name, seconds in sorted(SPENT.items())}
        Path(path).write_text(json.dumps(spent, indent=0) + "\n", encoding="utf-8")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    SPENT.update(getattr(node, "workeroutput", {}).get("spent", {}))


def function_of(item):
    """The test function without its parameters, or the name of what is no function."""
    return getattr(item, "originalname", None) or item.name


def spared(items, known):
    """Cases of functions that take longer than their share: of each, what is left runs from the
    first to the last, evenly.
    """
    cases, left = defaultdict(list), []
    for item in items:
        cases[function_of(item)].append(item)
    for name, every in cases.items():
        kept = max(2, math.ceil(len(every) * SHARE / max(known.get(name, 0.0), SHARE)))
        if name not in IN_FULL and kept < len(every):
            chosen = {round(place * (len(every) - 1) / (kept - 1)) for place in range(kept)}
            left += [item for place, item in enumerate(every) if place not in chosen]
    return left


def wanted(item):
    """Whether the test runs here at all."""
    if item.get_closest_marker("reference") and not (SHARED / "models").exists():
        return False
    if MATRIX:
        return True
    name = function_of(item)
    if item.get_closest_marker("matrix"):
        return False
    if keras.backend.backend() == "jax" and name in LONG_ON_JAX:
        return False
    case = item.name.removeprefix(name)[1:-1]
    return name not in COVERING or case in COVERING[name]


@pytest.fixture(scope="session")
def embedded():
    """The shipped model, its 32 images (uint8) and their labels."""
    folder = files("advex") / "data"
    model = keras.models.load_model(str(folder / "fashion_mnist.keras"), compile=False)
    with np.load(str(folder / "fashion_mnist.npz")) as data:
        return model, data["images"], data["labels"]


@pytest.fixture(scope="session")
def fashion():
    """The first 500 test images of Fashion-MNIST (uint8) and their labels."""
    with np.load(HERE / "data" / "fashion_mnist_500.npz") as data:
        return data["x_test"][..., None], data["y_test"].astype("int64")


@pytest.fixture(scope="session")
def contract():
    """``check_attack`` for some attacks, on every backend if ``whole``; for the others the same
    promises of one call. The driver is the same code for all of them. ``make matrix`` has the whole
    for every attack in all norms.
    """

    def check(attack, budgets, whole=False):
        on_tensorflow = keras.backend.backend() == "tensorflow"
        if whole or MATRIX or (on_tensorflow and isinstance(attack, WHOLE)):
            check_attack(attack, budgets if whole or MATRIX else budgets[:1])
        else:
            with warnings.catch_warnings():  # as check_attack does
                warnings.simplefilter("ignore", advex.errors.AdvexWarning)
                _brief(attack, budgets[0])

    return check


WHOLE = (advex.APGD, advex.BIM, advex.CarliniWagner, advex.FMN, advex.Ensemble, advex.SquareAttack)


def _brief(attack, budget):
    model, x = (
        small_network(),
        np.random.default_rng(0).uniform(size=(12, 6, 6, 3)).astype("float32"),
    )
    x[0] = x[1]  # equal rows

    def answers(x):
        return np.asarray(
            ops.convert_to_numpy(model(ops.convert_to_tensor(x), training=False))
        ).argmax(1)

    labels = answers(x)
    labels[5] = (labels[5] + 1) % 4  # wrong already
    held = x.tobytes(), labels.tobytes(), [w.tobytes() for w in model.get_weights()]
    wide = type(budget)(
        9 * (int(budget.epsilon) if isinstance(budget, advex.L0) else budget.epsilon)
    )
    for limit in (budget, wide):
        result = attack(model, x, labels, limit, batch_size=5)  # rows join and leave
        assert (
            result.x.dtype == x.dtype and result.x.shape == x.shape and np.isfinite(result.x).all()
        )
        assert inside(result.x, x, limit)
        assert (result.distance[result.success] <= limit.epsilon).all()
        assert (result.x[~result.success] == x[~result.success]).all() and np.isinf(
            result.distance[~result.success]
        ).all()
        again = answers(result.x)
        assert (again == result.prediction).all() and ((again != labels) >= result.success).all()
        assert result.success[5] and result.distance[5] == 0
        assert (result.x[0] == result.x[1]).all()
        assert (result.gradients >= 0).all() and (result.queries >= 1).all()
    assert result.success.sum() > 1  # within the wide budget
    assert held == (x.tobytes(), labels.tobytes(), [w.tobytes() for w in model.get_weights()])


@pytest.fixture
def unsearched(monkeypatch):
    """Attacks that do all but search: what a recipe is about is known before, and a search costs a
    second of compiling.
    """
    from advex.driver import call

    monkeypatch.setattr(call, "run_wave", lambda *given: None)
