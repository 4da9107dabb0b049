"""What the tests share: data where it is there, and the small networks."""

from importlib.resources import files
from pathlib import Path

import keras
import numpy as np
import pytest

SHARED = Path(__file__).parents[2] / "shared"


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
    path = SHARED / "data" / "fashion_mnist.npz"
    if not path.exists():
        pytest.skip("Fashion-MNIST is not beside this checkout (../shared/data/fashion_mnist.npz)")
    with np.load(path) as data:
        return data["x_test"][:500, ..., None], data["y_test"][:500].astype("int64")
