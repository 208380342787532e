"""The handwritten digits that scikit-learn carries, as vectors in [-1, 1], and how they are split."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

SIDE = 8
DIM = SIDE * SIDE
NUM_CLASSES = 10

_SPLIT_SEED = 0
_LEVELS = 16


@dataclass(frozen=True)
class Images:
    """Images with their labels.

    Attributes:
        pixels: (n, 64), rows of an 8 by 8 image one after the other, -1 is paper and 1 is ink.
        labels: (n,), 0 to 9.
    """

    pixels: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def pick(self, rows: NDArray[np.int64]) -> "Images":
        """Some of them, in that order."""
        return Images(self.pixels[rows], self.labels[rows])


def images() -> Images:
    """All 1797 images (Alpaydin and Kaynak 1998; UCI repository, CC BY 4.0), in the copy that scikit-learn carries."""
    found = load_digits()
    return Images((found.data / (_LEVELS / 2) - 1.0).astype(np.float32), found.target.astype(np.int64))


def split() -> dict[str, Images]:
    """Thirds of the images that share none: ``"reward"``, ``"judge"`` and ``"test"``, the same ones every time.

    A reward is trained on the first, the judge of what was sampled for that reward on the second, and both are tried
    on the third.
    """
    everything = images()
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(everything))
    return {
        name: everything.pick(rows) for name, rows in zip(("reward", "judge", "test"), np.split(order, 3), strict=True)
    }
