"""A time series with three channels in units of their own: an acceleration, a pulse, a temperature.

    python examples/time_series.py

Makes recordings of people who rest, walk and run, trains a small network for a few seconds, and
attacks it in three ways: within a share of each channel's range, in one window of time only, and
with a change that is smooth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from advex.cli.quiet import wake_keras

wake_keras()  # without the lines that its C++ libraries write

import keras
import numpy as np
from keras import layers, ops

import advex

STEPS, CHANNELS = 64, ("acceleration", "pulse", "temperature")
LOW, HIGH = np.array([-30.0, 40.0, 34.0]), np.array([30.0, 220.0, 42.0])  # m/s2, beats, degrees


def recordings(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Series (n, 64, 3) and what the person does (n,): 0 rests, 1 walks, 2 runs."""
    rng = np.random.default_rng(seed)
    does, time = rng.integers(0, 3, count), np.arange(STEPS) / STEPS
    wave = np.sin(2 * np.pi * ((3 + 3 * does[:, None]) * time + rng.uniform(size=(count, 1))))
    pulse = 80 + 20 * does[:, None] + rng.normal(0, 18, (count, 1)) + 4 * does[:, None] * time
    warm = 36.6 + 0.3 * does[:, None] * time + rng.normal(0, 0.2, (count, 1))
    x = np.stack([(1 + 2 * does[:, None]) * wave, pulse, warm + 0 * time], axis=-1)
    x += rng.normal(0, 1, x.shape) * [2.5, 3, 0.05]
    return np.clip(x, LOW, HIGH).astype("float32"), does


def network(x: np.ndarray, does: np.ndarray) -> keras.Model:
    scale = layers.Normalization()
    scale.adapt(x)
    model = keras.Sequential(
        [
            keras.Input((STEPS, len(CHANNELS))),
            scale,
            layers.Conv1D(12, 7, activation="relu"),
            layers.Conv1D(12, 7, strides=2, activation="relu"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(x, does, epochs=8, verbose=0)
    return model


WAVES = 6
BASIS = np.cos(np.pi * (np.arange(STEPS) + 0.5)[:, None] * np.arange(WAVES) / STEPS)
BASIS /= np.linalg.norm(BASIS, axis=0)
BAND = BASIS @ BASIS.T  # (64, 64): what is left of a series of its six slowest waves


@dataclass(frozen=True, repr=False)
class Smooth(advex.L2):
    """The length of a change made of slow waves: what is faster counts a thousand times."""

    def slow(self, delta: Any) -> Any:
        return ops.matmul(ops.convert_to_tensor(BAND.astype("float32")), delta)

    def size(self, delta: Any) -> Any:
        return ops.maximum(super().size(delta), 1000 * super().size(delta - self.slow(delta)))

    def measure(self, delta: np.ndarray) -> np.ndarray:  # the same in float64: the last word
        fast = delta - BAND @ delta
        return np.maximum(super().measure(delta), 1000 * super().measure(fast))

    def project(self, delta: Any) -> Any:
        return super().project(self.slow(delta))

    def nearest(self, x: Any, x0: Any, low: Any, high: Any) -> Any:
        return super().nearest(x0 + self.slow(x - x0), x0, low, high)

    def steepest(self, gradient: Any) -> Any:
        return super().steepest(self.slow(gradient))

    def sample(self, problem: Any) -> Any:
        return self.slow(super().sample(problem))


def main() -> dict[str, advex.Result]:
    keras.utils.set_random_seed(0)
    series, does = recordings(1000, seed=1)
    domain = advex.Domain(LOW, HIGH)  # a range for each channel
    model = advex.Classifier(network(series, does), box=domain, classes=("rests", "walks", "runs"))
    series, does = recordings(60, seed=2)

    window = np.zeros((STEPS, 1), bool)
    window[20:40] = True
    found = {}
    for word, budget in {
        "2 % of each channel's range": advex.Linf(0.02),
        "4 %, in steps 20 to 39 only": advex.Linf(0.04, mask=window),
        "slow waves of length 0.5": Smooth(0.5),
    }.items():
        result = found[word] = advex.PGD()(model, series, does, budget)
        broken, before = (int((result.status == one).sum()) for one in ("broken", "clean"))
        print(f"{word}: {broken} of {len(result)} broken, {before} more were wrong before")
        most = np.abs(result.x.astype("float64") - series).max(axis=(0, 1))
        said = ", ".join(f"{name} {by:.3g}" for name, by in zip(CHANNELS, most, strict=True))
        print(f"    largest changes: {said}")
    return found


if __name__ == "__main__":
    main()
