"""What a numpyro model tells of itself: plates as axes, data, pointwise likelihoods, predictions."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from numpyro import handlers
from numpyro.infer import Predictive, log_likelihood

from smcinfer.core.described import Described, Named
from smcinfer.ground.arrays import KeyArray
from smcinfer.static.numpyro_replay import Replay, Site, Trace


@dataclasses.dataclass(frozen=True, eq=False)
class DescribedModel(Described):
    """A numpyro model with its arguments.

    Attributes:
        replay: the model.
        data: observed site -> value.
        dims: site -> plates, by axis.
        coords: none: plates only count.
    """

    replay: Replay
    data: Named
    dims: Mapping[str, tuple[str, ...]]
    coords: Mapping[str, Any]

    @classmethod
    def of(cls, replay: Replay, trace: Trace) -> "DescribedModel":
        """The description of a model, from an example of its trace."""
        sites = {name: site for name, site in trace.items() if site["type"] in ("sample", "deterministic")}
        observed = {
            name: np.asarray(site["value"])
            for name, site in sites.items()
            if site.get("is_observed") and _is_array(site)
        }
        return cls(replay, observed, {name: _axes(name, site) for name, site in sites.items()}, {})

    def observed_data(self) -> Named:
        """Values of the observed sites."""
        return dict(self.data)

    def constant_data(self) -> Named:
        """Arrays among the arguments that are not observed."""
        bound = inspect.signature(self.replay.model).bind_partial(*self.replay.args, **self.replay.kwargs).arguments
        given = {name: value for name, value in bound.items() if hasattr(value, "shape") and value is not None}
        return {
            name: np.asarray(value)
            for name, value in given.items()
            if name not in self.data and not any(_same(value, other) for other in self.data.values())
        }

    def _names(self) -> list[str]:
        return list(self.replay.sites)

    def _latent(self, values: Named) -> dict[str, Any]:
        return {name: jax.numpy.asarray(values[name]) for name in self._names()}

    def log_likelihood(self, values: Named) -> Named | None:
        """Of every observed site, elementwise."""
        found = log_likelihood(self.replay.model, self._latent(values), *self.replay.args, **self.replay.kwargs)
        return {name: np.asarray(value) for name, value in found.items() if name in self.data}

    def _run(self, key: KeyArray, names: list[str], **how: Any) -> Named:
        free = Predictive(handlers.uncondition(self.replay.model), return_sites=names, **how)
        return {name: np.asarray(value) for name, value in free(key, *self.replay.args, **self.replay.kwargs).items()}

    def predicted(self, key: KeyArray, values: Named) -> Named | None:
        """The observed sites drawn anew."""
        return self._run(key, list(self.data), posterior_samples=self._latent(values)) if self.data else None

    def prior(self, key: KeyArray, n: int) -> Named | None:
        """The latent sites drawn from the model."""
        return self._run(key, self._names(), num_samples=n)


def _is_array(site: Site) -> bool:
    return hasattr(site["value"], "shape") and site["fn"] is not None


def _axes(name: str, site: Site) -> tuple[str, ...]:
    """Plates around a site as names of its axes; an axis of its own is called as exports call it."""
    shape = np.shape(site["value"])
    axes = [f"{name}_dim_{axis}" for axis in range(len(shape))]
    frames = site.get("cond_indep_stack", [])
    # What a deterministic site has of its own after the plates it does not say: the shortest rest that fits.
    for event in range(len(shape) + 1):
        places = [len(shape) - event + frame.dim for frame in frames]
        if all(place >= 0 and shape[place] == frame.size for place, frame in zip(places, frames, strict=True)):
            for place, frame in zip(places, frames, strict=True):
                axes[place] = frame.name
            break
    return tuple(axes)


def _same(value: Any, other: np.ndarray) -> bool:
    return np.shape(value) == other.shape and bool(
        np.array_equal(np.asarray(value), other, equal_nan=other.dtype.kind == "f")
    )
