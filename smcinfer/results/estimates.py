r"""What independent runs leave behind, and what can be estimated from it.

Run r holds particles with normalised weights :math:`W_r^i` and an unbiased :math:`\hat Z_r`. Together they are one
weighted sample with weights :math:`\omega_r W_r^i`, :math:`\omega_r = \hat Z_r / \sum_s \hat Z_s`: it is this weighing
of runs by their :math:`\hat Z` that keeps the pooled sample properly weighted. Everything here is numpy, on the host.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from smcinfer.core.described import Described
from smcinfer.core.status import Status
from smcinfer.ground.arrays import KeyArray
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.ground.names import leaves_by_name
from smcinfer.results import evidence, transition
from smcinfer.results.evidence import Bound, Check, Evidence, HasEvidence
from smcinfer.results.finish import Finish
from smcinfer.results.mixture import Pooled, pool
from smcinfer.results.pooling import combine_runs, effective_sizes, jackknife_se, resample, weighted_mean
from smcinfer.results.record import Record, arrays, not_kept, revived
from smcinfer.results.survivors import Floor, collapsed, fewest, floor_under, heaviest, unit_of_rounding

# Standard errors that are not chance.
_CERTAIN = 4.0

Quantity = str | Callable[[dict[str, Any]], Any]
"""A variable's name, or a function of the dict of one particle's values, written with `jax.numpy`."""


@dataclasses.dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Estimates(Record, HasEvidence):
    """The weighted particles of several independent runs.

    Attributes:
        log_weights: Float["num_runs num_particles"], normalised within each run, nats.
        particles: constrained values by name, each of shape (num_runs, num_particles, ...).
        log_z_runs: Float["num_runs"], log of each run's Z_hat, nats.
        log_z_variance: Float["num_runs"], each run's own estimate of the relative variance of its Z_hat, or NaN.
        status_runs: Int["num_runs"], bits of `Status`.
        num_steps: Int["num_runs"], steps each run took.
        history: what was recorded, by name, each of shape (num_runs, num_steps + 1, ...); entry 0 is the initial
            population, and floats after a run's last step are NaN. A tree of arrays becomes ``name.leaf``.
        upper_bound: stochastic upper bound on log Z, or ``None``: it needs an exact draw (`Result.with_upper_bound`).
        model: what was sampled, where this process sampled it: a file has none.
        described: what the target tells of itself beside draws; a file does not keep it.
        check: what another path to the same target found, or ``None`` (`smcinfer.certify`).
        finish: what independent draws say of log Z, or ``None`` (`smcinfer.bounds.finished`).
        status: the bits of all runs, and what their estimates of log Z say of each other.
    """

    log_weights: np.ndarray = arrays("run", "particle")
    particles: dict[str, np.ndarray] = arrays("run", "particle")
    log_z_runs: np.ndarray = arrays("run")
    log_z_variance: np.ndarray = arrays("run")
    status_runs: np.ndarray = arrays("run")
    num_steps: np.ndarray = arrays("run")
    history: dict[str, Any] = arrays("run")
    upper_bound: Bound | None = revived(lambda pair: Bound(*pair), default=None)
    model: Any = not_kept(None)
    described: Described | None = not_kept(None)
    check: Check | None = revived(lambda fields: Check(*fields), default=None)
    finish: Finish | None = revived(lambda fields: Finish(*fields), default=None)
    status: Status = dataclasses.field(init=False, default=Status.OK)

    WEIGHTED_FOR = "the target, runs in proportion to their Z_hat; log Z is of its normaliser"

    def __post_init__(self) -> None:
        self._put("history", leaves_by_name(self.history) if self.history else {})
        super().__post_init__()
        self._put("history", {name: _padded(name, value, self.num_steps) for name, value in self.history.items()})
        bits = Status(int(np.bitwise_or.reduce(self.status_runs)))
        bits |= Status.ERROR_BARS_DISAGREE if self.evidence.disagree else Status.OK
        few, collapse = self.evidence.few, bool(np.any(collapsed(self.log_weights)))
        bits |= Status.FEW_SURVIVORS if few else Status.WEIGHTS_COLLAPSED if collapse else Status.OK
        bits |= Status.MASS_MISSED if self._missed else Status.OK
        bits |= Status.ROUNDED if self.evidence.rounded else Status.OK
        bits |= Status.PHASE_TRANSITION if self._two_phases else Status.OK
        bits |= Status.OK if self._signed else Status.PATHS_DISAGREE
        self._put("status", bits)

    @property
    def num_runs(self) -> int:
        """How many independent runs there are."""
        return self.log_weights.shape[0]

    @property
    def num_particles(self) -> int:
        """Particles of each run."""
        return self.log_weights.shape[1]

    @property
    def num_evals(self) -> float:
        """Evaluations of the target by all runs, the leading one included; zero where they were not counted."""
        each = self.history.get("num_evals", np.zeros((1, 1))).astype(np.float64)
        runs = self.num_runs + bool(self.settings.get("led", False))
        return float(np.nansum(each, axis=1).mean() * self.num_particles * runs)

    @functools.cached_property
    def floor(self) -> Floor:
        """What counting and rounding say at least of the error of log Z."""
        counts = fewest(self.log_weights, self.history, self.num_steps)
        summed = [self.log_z_runs, *(self.history[name] for name in ("log_z_increment",) if name in self.history)]
        heavy = heaviest(self.log_weights, counts)
        return floor_under(self._log_z, counts, self.num_particles, unit_of_rounding(*summed), heavy)

    @functools.cached_property
    def evidence(self) -> Evidence:
        """log Z with its standard error, degrees of freedom and where the error comes from."""
        run = self._of_the_runs
        return run if self.finish is None else self.finish.joined(run)

    @functools.cached_property
    def _of_the_runs(self) -> Evidence:
        """log Z as the runs alone tell it."""
        return evidence.combine(self._log_z, self._own_variance, within_reliable=self._reliable, floor=self.floor)

    @property
    def _two_phases(self) -> bool:
        """Whether the particles on the way, or levels that checked it, showed two phases."""
        humps = self.history.get("humps", np.ones((1, 1)))[:, 1:]
        seen = np.nanmax(humps, initial=1.0) > transition.SPARSE
        return bool(seen) or (self.check is not None and self.check.depth > transition.DEPTH)

    @property
    def _signed(self) -> bool:
        """Whether neither another path nor independent draws contradict."""
        drawn = self.finish is None or not self.finish.contradicts(self._of_the_runs)
        return drawn and (self.check is None or self.check.agrees(self.log_z, *self.log_z_interval()))

    @property
    def _log_z(self) -> Float[np.ndarray, " num_runs"]:
        return self.log_z_runs.astype(np.float64)

    @property
    def _own_variance(self) -> Float[np.ndarray, " num_runs"]:
        """What each run says of its variance; a coalesced genealogy says nothing of it."""
        coalesced = (self.status_runs & int(Status.GENEALOGY_COALESCED)) != 0
        return np.where(coalesced, math.nan, self.log_z_variance.astype(np.float64))

    @property
    def _reliable(self) -> bool:
        """Whether runs can know their variance: short moves say less than the truth."""
        return not np.any(self.status_runs & int(Status.MOVES_TOO_SHORT))

    @functools.cached_property
    def pooled(self) -> Pooled:
        """log Z and weights from the draws of all exponents, of a tempering run with ``history="full"``; not unbiased.

        Raises:
            ArgumentError: where the draws of the way were not kept.
        """
        return pool(self.history, self.num_steps, self._log_z)

    @property
    def _missed(self) -> bool:
        r"""Whether moves on the way went on to find what the weights had not.

        The rises of a run, each of order one where nothing is missed, together are :math:`z = \sum_t g_t / \sqrt{T}`.
        """
        gaps = self.history.get("gap")
        if gaps is None:
            return False
        moved = np.isfinite(gaps)
        together = gaps.sum(axis=1, where=moved, dtype=np.float64) / np.sqrt(np.maximum(moved.sum(axis=1), 1))
        spread = float(together.std(ddof=1)) if together.size > 1 else 0.0
        return float(together.mean()) > _CERTAIN * max(spread, 1.0) / math.sqrt(together.size)

    @property
    def lower_bound(self) -> Bound:
        """Mean of log Z_hat over runs and its standard error: E[log Z_hat] <= log Z, always; nats."""
        return evidence.lower_bound(self._log_z, self._own_variance, within_reliable=self._reliable, floor=self.floor)

    @property
    def ess(self) -> Float[np.ndarray, " num_runs"]:
        """Effective sample size of each run's final weights, in particles."""
        return effective_sizes(self.log_weights)

    @property
    def ess_total(self) -> float:
        """Effective sample size of the weights pooled over runs, in particles."""
        log_weights = self.pooled_log_weights
        return float(effective_sizes(log_weights.reshape(1, -1))[0]) if np.isfinite(log_weights).any() else 0.0

    @functools.cached_property
    def pooled_log_weights(self) -> Float[np.ndarray, "num_runs num_particles"]:
        """Log weights normalised over all runs, run r weighing in proportion to its Z_hat; -inf where all are dead."""
        log_z = self._log_z
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
        log_z = self._log_z
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


def _padded(name: str, array: np.ndarray, num_steps: Int[np.ndarray, " num_runs"]) -> np.ndarray:
    """A recorded quantity with floats after each run's last step set to NaN."""
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
