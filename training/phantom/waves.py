"""Smooth random fields, for surfaces, textures and the folds of the brain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.phantom.shapes import Array


@dataclass(frozen=True)
class Waves:
    """A smooth random field of unit variance: a sum of plane waves, independent of the grid."""

    k: npt.NDArray[np.float32]  # shape (n, 3), radians per mm
    phase: npt.NDArray[np.float32]  # shape (n,)

    @classmethod
    def draw(cls, rng: np.random.Generator, period_mm: float, count: int = 7) -> Waves:
        """Draw waves in random directions with periods around `period_mm`."""
        direction = rng.normal(size=(count, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        periods = period_mm * rng.uniform(0.7, 1.5, size=(count, 1))
        k = 2 * np.pi * direction / periods
        return cls(k.astype(np.float32), rng.uniform(0, 6.28, count).astype(np.float32))

    def at(self, x: Array, y: Array, z: Array) -> Array:
        """Return the field at canonical coordinates in mm."""
        scale = np.float32(np.sqrt(2 / len(self.phase)))
        waves = (np.sin(kx * x + ky * y + kz * z + p)
                 for (kx, ky, kz), p in zip(self.k, self.phase, strict=True))  # fmt: skip
        return sum(waves) * scale
