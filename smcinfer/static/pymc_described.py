"""What a PyMC model tells of itself: dims, coords, data, pointwise likelihoods, predictions, all by PyMC."""

import dataclasses
import importlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from smcinfer.core.described import Described, Named
from smcinfer.ground.arrays import KeyArray


@dataclasses.dataclass(frozen=True, eq=False)
class DescribedPyMC(Described):
    """A PyMC model.

    Attributes:
        model: the model.
        dims, coords: as it has them.
    """

    model: Any
    dims: Mapping[str, tuple[str, ...]]
    coords: Mapping[str, Any]

    @classmethod
    def of(cls, model: Any) -> "DescribedPyMC":
        """The description of a model."""
        dims = {
            name: tuple(axis or f"{name}_dim_{place}" for place, axis in enumerate(axes))
            for name, axes in model.named_vars_to_dims.items()
        }
        coords = {name: np.asarray(labels) for name, labels in model.coords.items() if labels is not None}
        return cls(model, dims, coords)

    def observed_data(self) -> Named:
        """Values of the observed variables."""
        values = {variable.name: self.model.rvs_to_values[variable] for variable in self.model.observed_RVs}
        return {name: np.asarray(value.eval()) for name, value in values.items()}

    def constant_data(self) -> Named:
        """What was given as ``pm.Data`` and is not observed."""
        observed = [self.model.rvs_to_values[variable] for variable in self.model.observed_RVs]
        return {data.name: np.asarray(data.get_value()) for data in self.model.data_vars if data not in observed}

    def _tree(self, values: Named) -> Any:
        import arviz

        free = {variable.name: values[variable.name][None] for variable in self.model.free_RVs}
        return arviz.from_dict({"posterior": free})

    def log_likelihood(self, values: Named) -> Named | None:
        """Of every observed variable, elementwise."""
        pymc = importlib.import_module("pymc")

        if not self.model.observed_RVs:
            return None
        with _quiet():
            found = pymc.compute_log_likelihood(
                self._tree(values), model=self.model, extend_inferencedata=False, progressbar=False
            )
        return {str(name): np.asarray(value)[0] for name, value in found.items()}

    def predicted(self, key: KeyArray, values: Named) -> Named | None:
        """The observed variables drawn anew."""
        pymc = importlib.import_module("pymc")

        names = [variable.name for variable in self.model.observed_RVs]
        if not names:
            return None
        with _quiet():
            found = pymc.sample_posterior_predictive(
                self._tree(values), model=self.model, var_names=names, random_seed=_seed(key), progressbar=False
            )
        return {name: np.asarray(found["posterior_predictive"][name])[0] for name in names}

    def prior(self, key: KeyArray, n: int) -> Named | None:
        """The free variables and Deterministics drawn from the model."""
        pymc = importlib.import_module("pymc")

        names = [variable.name for variable in (*self.model.free_RVs, *self.model.deterministics)]
        with _quiet():
            found = pymc.sample_prior_predictive(n, model=self.model, var_names=names, random_seed=_seed(key))
        return {name: np.asarray(found["prior"][name])[0] for name in names}


def _seed(key: KeyArray) -> int:
    return int(jax.random.randint(key, (), 0, 2**31 - 1))


@contextmanager
def _quiet() -> Iterator[None]:
    """PyMC says by log what it samples, and warns that potentials are left out of draws of the prior."""
    logger = logging.getLogger("pymc")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        logger.setLevel(level)
