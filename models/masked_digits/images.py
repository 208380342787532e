"""The digits in black and white."""

import numpy as np
from numpy.typing import NDArray

from smcinfer.models.digits.data import Images


def binary(images: Images) -> NDArray[np.int32]:
    """(n, 64), 1 where a pixel is more ink than paper."""
    return (images.pixels > 0).astype(np.int32)
