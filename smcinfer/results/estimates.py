r"""What independent runs leave behind, and what can be estimated from it.

Run r holds particles with normalised weights :math:`W_r^i` and an unbiased :math:`\hat Z_r`. Together they are one
weighted sample with weights :math:`\omega_r W_r^i`, :math:`\omega_r = \hat Z_r / \sum_s \hat Z_s`: it is this weighing
of runs by their :math:`\hat Z` that keeps the pooled sample properly weighted. Everything here is numpy, on the host.
"""

import contextlib
import functools
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from smcinfer.core.status import SERIOUS, Status
from smcinfer.ground.arrays import KeyArray
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.results import evidence
from smcinfer.results.evidence import Bound, Evidence
from smcinfer.results.pooling import combine_runs, jackknife_se, resample, weighted_mean

Quantity = str | Callable[[dict[str, Any]], Any]
"""A variable's name, or a function of the dict of one particle's values, written with `jax.numpy`."""


@dataclass(frozen=True, init=False, repr=False, eq=False)
class Estimates:
    """The weighted particles of several independent runs.

    Attributes:
        particles: constrained values by name, each of shape (num_runs, num_particles, ...).
        log_weights: Float["num_runs num_particles"], normalised within each run, nats.
        log_z_runs: Float["num_runs"], log of each run's Z_hat, nats.
        log_z_variance: Float["num_runs"], each run's own estimate of the relative variance of its Z_hat, or NaN.
        status_runs: Int["num_runs"], bits of `Status`.
        num_steps: Int["num_runs"], steps each run took.
        history: what was recorded, by name, each of shape (num_runs, num_steps + 1, ...); entry 0 is the initial
            population, and floats after a run's last step are NaN.
        settings: how the runs were made, as JSON can hold it.
        seconds, compile_seconds: wall-clock time of running and of compiling.
    """

    particles: dict[str, np.ndarray]
    log_weights: Float[np.ndarray, "num_runs num_particles"]
    log_z_runs: Float[np.ndarray, " num_runs"]
    log_z_variance: Float[np.ndarray, " num_runs"]
    status_runs: Int[np.ndarray, " num_runs"]
    num_steps: Int[np.ndarray, " num_runs"]
    history: dict[str, np.ndarray]
    settings: dict[str, Any]
    seconds: float
    compile_seconds: float

    def __init__(
        self,
        particles: Mapping[str, Any],
        log_weights: Any,
        log_z: Any,
        log_z_variance: Any,
        status: Any,
        num_steps: Any,
        history: Mapping[str, Any],
        settings: Mapping[str, Any],
        seconds: float,
        compile_seconds: float,
    ) -> None:
        """Take the runs' arrays, of any kind numpy understands; ``log_z`` and ``status`` are one a run."""
        put = functools.partial(object.__setattr__, self)
        weights = np.asarray(log_weights)
        if weights.ndim != 2:
            raise ArgumentError(
                "log_weights of the wrong shape", expected="(num_runs, num_particles)", got=weights.shape
            )
        num_runs = weights.shape[0]
        put("log_weights", weights)
        put("particles", {name: _leading(name, value, weights.shape) for name, value in particles.items()})
        put("log_z_runs", _leading("log_z", log_z, (num_runs,)))
        put("log_z_variance", _leading("log_z_variance", log_z_variance, (num_runs,)))
        put("status_runs", _leading("status", status, (num_runs,)))
        put("num_steps", _leading("num_steps", num_steps, (num_runs,)))
        put("history", {name: _padded(name, value, self.num_steps) for name, value in _flat(history).items()})
        put("settings", _plain(settings))
        put("seconds", float(seconds))
        put("compile_seconds", float(compile_seconds))

    @property
    def num_runs(self) -> int:
        """How many independent runs there are."""
        return self.log_weights.shape[0]

    @property
    def num_particles(self) -> int:
        """Particles of each run."""
        return self.log_weights.shape[1]

    @functools.cached_property
    def evidence(self) -> Evidence:
        """log Z with its standard error, degrees of freedom and where the error comes from."""
        # A coalesced genealogy says nothing of its variance; short moves say less than the truth.
        coalesced = (self.status_runs & int(Status.GENEALOGY_COALESCED)) != 0
        short = np.any(self.status_runs & int(Status.MOVES_TOO_SHORT))
        variance = np.where(coalesced, math.nan, self.log_z_variance.astype(np.float64))
        return evidence.combine(self.log_z_runs.astype(np.float64), variance, within_reliable=not short)

    @property
    def log_z(self) -> float:
        """log of the mean of Z_hat over runs (the mean is unbiased for Z), nats."""
        return self.evidence.log_z

    @property
    def log_z_se(self) -> float:
        """Standard error of `log_z`, nats; NaN where nothing tells it (see `evidence.source`)."""
        return self.evidence.se

    def log_z_interval(self, level: float = 0.99) -> tuple[float, float]:
        """Student t interval for log Z at coverage ``level``, nats."""
        return self.evidence.interval(level)

    @property
    def lower_bound(self) -> Bound:
        """Mean of log Z_hat over runs and its standard error: E[log Z_hat] <= log Z, always; nats."""
        log_z, variance = self.log_z_runs.astype(np.float64), self.log_z_variance.astype(np.float64)
        return evidence.lower_bound(log_z, variance)

    @property
    def upper_bound(self) -> Bound | None:
        """Stochastic upper bound and its standard error, or ``None``: it needs an exact draw (`smcinfer.bounds`)."""
        bound = self.settings.get("upper_bound")
        return None if bound is None else Bound(float(bound[0]), float(bound[1]))

    @property
    def status(self) -> Status:
        """The bits of all runs, and whether the error bars of log Z disagree."""
        bits = Status(int(np.bitwise_or.reduce(self.status_runs)))
        return bits | Status.ERROR_BARS_DISAGREE if self.evidence.disagree else bits

    @property
    def serious(self) -> bool:
        """Whether something makes the result wrong or partial, not merely less certain."""
        return bool(self.status & SERIOUS)

    @property
    def ess(self) -> Float[np.ndarray, " num_runs"]:
        """Effective sample size of each run's final weights, in particles."""
        return np.exp(-np.logaddexp.reduce(2.0 * self.log_weights.astype(np.float64), axis=1))

    @property
    def ess_total(self) -> float:
        """Effective sample size of the weights pooled over runs, in particles."""
        log_weights = self.pooled_log_weights
        return float(np.exp(-np.logaddexp.reduce(2.0 * log_weights.ravel()))) if np.isfinite(log_weights).any() else 0.0

    @functools.cached_property
    def pooled_log_weights(self) -> Float[np.ndarray, "num_runs num_particles"]:
        """Log weights normalised over all runs, run r weighing in proportion to its Z_hat; -inf where all are dead."""
        log_z = self.log_z_runs.astype(np.float64)
        total = np.logaddexp.reduce(log_z)
        shares = log_z - total if np.isfinite(total) else np.full_like(log_z, -math.inf)
        return self.log_weights + shares[:, None]

    def expectation(self, quantity: Quantity, *, with_se: bool = False) -> Any:
        r"""Mean of a quantity under the target, with its standard error from the spread between runs.

        .. math:: \hat f = \sum_r \omega_r \hat f_r, \qquad \hat f_r = \sum_i W_r^i f(x_r^i)

        The squared standard error is the jackknife over runs,
        :math:`\frac{R-1}{R} \sum_r (\hat f_{-r} - \bar f_{-})^2`. With equal :math:`\hat Z_r` it is the plain one of a
        mean of R; unlike it, it stays honest where one run carries all the weight.

        Args:
            quantity: a name, or a function of the dict of one particle's values.
            with_se: whether to return the standard error too.

        Returns:
            The mean, of the quantity's shape; with ``with_se`` a pair of it and the standard error (NaN for one run).
        """
        means = weighted_mean(self.values(quantity), np.exp(self.log_weights.astype(np.float64)))
        log_z = self.log_z_runs.astype(np.float64)
        mean = combine_runs(means, log_z)
        return (mean, jackknife_se(means, log_z)) if with_se else mean

    def values(self, quantity: Quantity) -> np.ndarray:
        """A quantity at every particle, shape (num_runs, num_particles, ...).

        Args:
            quantity: a name, or a function of the dict of one particle's values.

        Raises:
            ArgumentError: no variable has that name.
            TargetError: the function cannot be traced by JAX.
        """
        if isinstance(quantity, str):
            if quantity not in self.particles:
                raise ArgumentError("unknown variable", expected=" | ".join(self.particles), got=quantity)
            return self.particles[quantity]
        wide = any(value.dtype.itemsize == 8 for value in self.particles.values())
        try:
            with jax.enable_x64(True) if wide else contextlib.nullcontext():
                return np.asarray(jax.jit(jax.vmap(jax.vmap(quantity)))(self.particles))
        except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError) as error:
            raise TargetError(
                "the function of a particle's values cannot be traced by JAX",
                expected="a function written with jax.numpy, without Python branches on values",
                got=str(error).splitlines()[0],
                hint="replace numpy by jax.numpy and `if` by jax.numpy.where",
            ) from error

    def draws(self, key: KeyArray | int, num_draws: int) -> dict[str, np.ndarray]:
        """Equally weighted draws, resampled (systematically, then shuffled) from all runs.

        Draws repeat where particles are heavy: more draws than `ess_total` add no information.

        Args:
            key: a random key, or an integer seed.
            num_draws: how many.

        Returns:
            Values by name, each of shape (num_draws, ...).
        """
        chosen = resample(key, self.pooled_log_weights.reshape(-1), num_draws)
        return {name: value.reshape(-1, *value.shape[2:])[chosen] for name, value in self.particles.items()}


def _leading(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The value as an array, once its leading axes are sure."""
    array = np.asarray(value)
    if array.shape[: len(shape)] != shape:
        raise ArgumentError(f"{name!r} has the wrong shape", expected=f"leading axes {shape}", got=array.shape)
    return array


def _flat(history: Mapping[str, Any]) -> dict[str, Any]:
    """One level of names: what was recorded as a tree of arrays becomes ``name.leaf``."""
    paths, _ = jax.tree_util.tree_flatten_with_path(dict(history))
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in paths}


def _padded(name: str, value: Any, num_steps: Int[np.ndarray, " num_runs"]) -> np.ndarray:
    """A recorded quantity with floats after each run's last step set to NaN."""
    array = _leading(name, value, num_steps.shape)
    if array.ndim < 2 or array.shape[1] < num_steps.max(initial=0) + 1:
        raise ArgumentError(
            f"history {name!r} has the wrong shape",
            expected=f"(num_runs, at least {num_steps.max(initial=0) + 1} steps, ...)",
            got=array.shape,
        )
    over = np.arange(array.shape[1]) > num_steps[:, None]
    if array.dtype.kind != "f" or not over.any():
        return array
    return np.where(over.reshape(over.shape + (1,) * (array.ndim - 2)), np.array(math.nan, array.dtype), array)


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON gives them back, so that a saved result equals the one in memory."""

    def convert(value: Any) -> Any:
        if hasattr(value, "tolist"):
            return value.tolist()
        raise ArgumentError(
            f"a setting of type {type(value).__name__} cannot be saved", expected="JSON values", got=value
        )

    return json.loads(json.dumps(dict(settings), default=convert))
