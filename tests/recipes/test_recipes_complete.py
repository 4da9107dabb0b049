"""No message of the package proposes what no test has typed."""

import ast
import importlib
import re
from pathlib import Path

from messages import EXECUTED, recipes, strings

HERE = Path(__file__).parent
TYPED = re.compile(r"\b(?:eval|exec|typed)\(")  # what a test outside of this folder types with

ELSEWHERE = {
    "test_recipes.py::test_a_range_for_each_feature": [
        "a range for each feature is a domain, box=advex.Domain(low, high)",
        "A range for each feature is a domain, box=advex.Domain(low, high)",
    ],
    "test_recipes.py::test_several_inputs": ["say which one is attacked, the others stay"],
    "driver/test_ranges.py::test_what_the_classifier_has_already_stays": [
        "advex.Classifier({})",
        "preprocess=lambda x: {}",
    ],
    "domain/test_domain_optima.py::test_groups_are_of_zeros_and_ones": [
        "features of one_hot are 0 or 1, and low or high says otherwise",
        "np.isin(np.arange(x.shape[-1]), {})",
    ],
    "test_recipes.py::test_several_outputs": ["the model has several outputs ({}); attack one"],
    "test_recipes.py::test_an_input_of_whole_numbers": [
        "clone_function=lambda layer: layer)",
        "rebuilt = lambda layer:",
    ],
    "test_recipes.py::test_a_layer_and_a_function_of_the_backend": [
        "a layer alone: model = keras.Sequential(",
        "keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Lambda(model)])",
    ],
    "test_recipes.py::test_a_module_of_torch": ["a module of PyTorch: set KERAS_BACKEND=torch"],
    "test_recipes.py::test_a_module_of_torch_on_torch": [
        "keras.Sequential([keras.Input(x.shape[1:]), keras.layers.TorchModuleWrapper(model)])",
    ],
    "test_recipes.py::test_a_file_and_a_class": [": model = keras.models.load_model({})"],
    "test_recipes.py::test_pixels_and_normalised_values": [
        "advex.Classifier(model, box=(-1, 1)) if the model takes -1 to 1",
        "pass it before the normalisation and put that into Classifier",
    ],
    "test_recipes.py::test_a_data_set_in_place_of_an_array": [
        "A data set, batches (x, labels), belongs to advex.evaluate",
    ],
    "test_recipes.py::test_one_example_without_its_batch_axis": [
        "one example without a batch axis: pass {}[None]",
        "np.asarray(x)",
    ],
    "test_recipes.py::test_arrays_that_become_right": [
        "{}.astype('uint8') for images of 0 to 255",
        "{} / 65535 for 16-bit images",
        "the model has no complex input",
        "x must be one array; received a dict",
        "which is channels first for a channels-last model",
        "without a channel axis: pass {}[..., None]",
        "without batch and channel axes: pass {}[None, ...",
    ],
    "test_recipes.py::test_grey_pictures_for_a_colour_model": ["grey images (one channel) for"],
    "test_recipes.py::test_files_and_pictures": ["for the image in a file"],
    "test_recipes.py::test_a_table_of_pandas": [
        "with columns of several kinds",
        "names in place of numbers",
    ],
    "test_recipes.py::test_a_table_of_uint8": ["of 0 and 1 as uint8, which stands for"],
    "test_recipes.py::test_truth_in_place_of_class_numbers": ["if True is class 1"],
    "recipes/test_recipes_training.py::test_a_callback_that_looks_in_another_range": [
        "data = (\\1, labels)",
    ],
    "goals/test_goals.py::test_classes_first": [": classes first? model ="],
    "test_result.py::test_series_are_neither_saved_nor_drawn_as_pictures": [
        "only pictures can be saved",
        "only pictures can be shown",
    ],
}
"""Tests outside of this folder that type a recipe, and words of its message."""

NO_RECIPE = {
    "in the box \\((": "finds a message",
    "{}(epsilon) must be a number, or one for each example": "names a setting",
    "the epsilon of each example must be finite": "names a setting",
    "alpha is at most 1 and backward below 1; received": "names two settings and their values",
    "{}({}) lets every element move": "names a budget",
    "L0(epsilon), a number of elements,": "names a setting",
    "No --model was given": "says what was done",
    "exit codes: 0": "what --help says",
    "run={}: there is no folder": "names an argument",
    ", keep=True": "names a goal",
    ", targeted=True": "names a goal",
    ", ignore={}": "names a goal",
    "Output({}, ": "names a goal",
    ": make one, model = {}(...)": "a class of the user's, who alone knows what it is made of",
    "Does it run by itself, model(x[:1])": "a question to find the fault, not a way out",
    "\\b(?:Pictures|BlackBox)": "finds a black box in a message",
    "--{} belongs to a model; the function of --blackbox": "names options",
    "the function of --blackbox": "says whose error it is",
    "RobustAccuracy(name={}): {}": "names a callback",
    "advex\\.Classifier": "finds a recipe in a message",
}
"""How strings begin that look like code and are no recipe, and why."""


def known():
    """The words of all messages whose recipe is typed, here and elsewhere."""
    for path in HERE.glob("test_recipes_*.py"):
        if path.stem != __name__:
            importlib.import_module(path.stem)
    return [*EXECUTED, *(words for listed in ELSEWHERE.values() for words in listed)]


def says(text, words):
    """Whether this is the string; one or two words, such as a piece of code, are all of it."""
    return words == text or (words in text and len(words.split()) > 2)


def test_every_recipe_is_typed():
    typed = known()
    missing = [
        f"advex/{name}:{line}: {text}"
        for name, line, text in recipes()
        if not text.startswith(tuple(NO_RECIPE)) and not any(says(text, words) for words in typed)
    ]
    assert not missing, "\n".join(
        [
            "Type these recipes in a test of tests/recipes/, and mark it with executes(WORDS),"
            " words of the message; or say in NO_RECIPE why nobody types them:",
            *missing,
        ]
    )


def test_what_is_listed_is_there():
    texts = {text for _, _, text in strings()}
    gone = [words for words in known() if not any(says(text, words) for text in texts)]
    gone += [words for words in NO_RECIPE if not any(text.startswith(words) for text in texts)]
    assert not gone, f"no message has these words now: {gone}"
    for place in ELSEWHERE:
        path, test = place.split("::")
        source = (HERE.parent / path).read_text(encoding="utf-8")
        tests = {node.name: node for node in ast.walk(ast.parse(source)) if hasattr(node, "name")}
        assert test in tests, place
        assert TYPED.search(ast.get_source_segment(source, tests[test])), place
