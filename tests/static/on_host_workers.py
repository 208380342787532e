"""Functions that worker processes import: conjugate Gaussian likelihoods, and ways to fail."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

DATA = np.array([0.7, 1.9, -0.4, 1.1])


def log_likelihood(theta: Any) -> float:
    """y_i ~ N(theta, 1), nats."""
    return float(-0.5 * np.sum((DATA - theta) ** 2) - 0.5 * len(DATA) * np.log(2 * np.pi))


def slow(theta: Any) -> float:
    """The same after two milliseconds."""
    time.sleep(0.002)
    return log_likelihood(theta)


def hangs(theta: Any) -> float:
    """Longer than any test waits."""
    time.sleep(60.0)
    return 0.0


class DiesOnce:
    """Ends its process the first time it is called, and knows by a file that it did."""

    def __init__(self, mark: Path, *, always: bool = False) -> None:
        self.mark, self.always = mark, always

    def __call__(self, theta: Any) -> float:
        if self.always or not self.mark.exists():
            self.mark.touch()
            os._exit(1)
        return log_likelihood(theta)


def exact_log_z() -> float:
    """Evidence under theta ~ N(0, 1)."""
    covariance = np.eye(len(DATA)) + 1.0
    return float(-0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1] - 0.5 * DATA @ np.linalg.solve(covariance, DATA))
