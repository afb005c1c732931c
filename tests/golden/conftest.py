"""Arrays computed by the published code; ``NSDFLOW_GOLDEN`` can name another folder with the same files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    return Path(os.environ.get("NSDFLOW_GOLDEN", Path(__file__).parent / "data"))


@pytest.fixture(scope="session")
def golden(golden_folder: Path) -> Callable[[str], Arrays]:
    """``golden("split")`` -> all arrays of ``split.npz``."""

    def load(name: str) -> Arrays:
        with np.load(golden_folder / f"{name}.npz") as arrays:
            return dict(arrays)

    return load


@pytest.fixture(scope="session")
def golden_images() -> Callable[[Arrays], np.ndarray]:
    """The images of a file, (image, 3, 227, 227) uint8, drawn from its seed: 29-pixel blocks plus noise."""

    def draw(arrays: Arrays) -> np.ndarray:
        random, count = np.random.default_rng(int(arrays["image_seed"])), int(arrays["n_images"])
        blocks = random.integers(0, 128, (count, 3, 8, 8))
        noise = random.integers(0, 128, (count, 3, 227, 227))
        images = (blocks.repeat(29, axis=2).repeat(29, axis=3)[:, :, :227, :227] + noise).astype(np.uint8)
        return images[: int(arrays.get("n_used", count))]

    return draw
