r"""Bounds on log Z from both sides.

.. math:: E[\log \hat Z] \;\le\; \log Z \;\le\; E_\sigma[\log \hat Z]

On the left :math:`\hat Z` is any unbiased estimate (Jensen). On the right it comes from a sampler that was forced through
an *exact* draw of the target, so that :math:`E_\sigma[Z / \hat Z] = 1`. The gap between the two measures the sampler: it
bounds the sum of its two Kullback-Leibler divergences from the target.

Exact draws are had by conjugacy, by enumeration, by rejection, or by simulating data: draw parameters from the prior and
data from the parameters, and the parameters are an exact draw of the posterior given those data.

Sources: Grosse, Ghahramani & Adams (2015); Zhao, Brekelmans, Makhzani & Grosse (2024), section 5.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from smcinfer.arrays import Array, Float
from smcinfer.errors import ArgumentError, TargetError
from smcinfer.kernels.base import Kernel
from smcinfer.kernels.registry import by_name
from smcinfer.runner import as_typed_key, run
from smcinfer.static import schedules
from smcinfer.static.conditional import Choices, ConditionalTempering
from smcinfer.static.moves import Moves
from smcinfer.static.target import StaticTarget
from smcinfer.static.tempering import tempering
from smcinfer.status import SERIOUS, Status, explain


@dataclasses.dataclass(frozen=True)
class Sandwich:
    """Both bounds on log Z, run by run, in nats.

    Attributes:
        lower_runs: Float["R"], log Z_hat of runs from the base; their mean is the lower bound.
        upper_runs: Float["R"], log Z_hat of runs through exact draws; their mean is the upper bound.
        status: bits of all runs.
    """

    lower_runs: Float[np.ndarray, " R"]
    upper_runs: Float[np.ndarray, " R"]
    status: int

    @property
    def lower(self) -> tuple[float, float]:
        """The lower bound and its standard error."""
        return _mean(self.lower_runs)

    @property
    def upper(self) -> tuple[float, float]:
        """The upper bound and its standard error."""
        return _mean(self.upper_runs)

    @property
    def gap(self) -> float:
        """Upper minus lower: a bound on how far the sampler is from the target, nats."""
        return self.upper[0] - self.lower[0]

    def interval(self, level: float = 0.99) -> tuple[float, float]:
        """An interval that holds log Z with at least this confidence: one-sided Student t intervals at both ends."""
        quantile = float(stats.t.ppf(1 - (1 - level) / 2, len(self.lower_runs) - 1))
        return self.lower[0] - quantile * self.lower[1], self.upper[0] + quantile * self.upper[1]

    @property
    def crossed(self) -> bool:
        """Whether the ends are in the wrong order beyond error (four standard errors): a fault, not chance."""
        return -self.gap > 4 * float(np.hypot(self.lower[1], self.upper[1]))

    def __str__(self) -> str:
        low, high = self.interval()
        lines = [
            f"upper bound  {self.upper[0]:.4f} ± {self.upper[1]:.4f} nats",
            f"lower bound  {self.lower[0]:.4f} ± {self.lower[1]:.4f} nats",
            f"gap          {self.gap:.4f} nats; log Z in [{low:.4f}, {high:.4f}] with 99% confidence",
        ]
        if self.crossed:
            lines.append("CROSSED: the lower end is above the upper one by more than chance: is the draw exact?")
        return "\n".join(lines + explain(self.status))


def _mean(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def sandwich(
    key: Any,
    target: StaticTarget,
    exact_draw: Callable[[Any], Any],
    *,
    num_particles: int = 1024,
    num_runs: int = 8,
    kernel: str | Kernel = "hmc",
    schedule: Any = None,
    max_steps: int = 1000,
    max_move_steps: int = 100,
    autocorrelation: float = 0.2,
    resampling: str = "systematic",
    progress: bool = False,
) -> Sandwich:
    """Bound log Z of a static target from both sides.

    Args:
        key: one random key.
        target: a static target.
        exact_draw: ``key -> theta``, an exact draw of the target: the unconstrained vector, or a dict of the target's own
            names. Called once a run, inside jit. For simulated data return the parameters the data were made from.
        num_particles, num_runs, kernel, schedule, max_steps, max_move_steps, autocorrelation, resampling, progress: as in
            `smcinfer.sample`; the kernel must be reversible.

    Returns:
        `Sandwich`, which prints both ends with their errors.

    Raises:
        ArgumentError: for fewer than two runs. TargetError: for a draw of the wrong shape.
    """
    if num_runs < 2:
        raise ArgumentError("bounds need replicates for their errors", expected="num_runs >= 2", got=num_runs)
    draw = _as_vector(target, exact_draw)
    forward_key, reverse_key = jax.random.split(as_typed_key(key))
    move = by_name(kernel)
    rule = schedules.by_name(schedule)
    moves = Moves(max_move_steps, 1, autocorrelation)
    model = tempering(target, move, rule, moves=moves, max_steps=max_steps, record_params=True)
    options: dict[str, Any] = {
        "num_runs": num_runs,
        "resampling": resampling,
        "resample_below": rule.resample_below,
        "progress": progress,
    }
    forward = run(forward_key, model, num_particles, description="lower bound", **options)
    status = int(np.bitwise_or.reduce(np.asarray(forward.status)))
    if status & SERIOUS:
        raise TargetError(
            "the run from the base did not reach the target, so there is no path to walk back",
            expected="a run that ends",
            got=explain(status),
        )
    steps = int(forward.num_steps[0])
    choices = Choices.of(forward.history, steps)
    conditional = ConditionalTempering(target, move, choices, draw, steps)
    reverse = run(reverse_key, conditional, num_particles, description="upper bound", **options)
    status |= int(np.bitwise_or.reduce(np.asarray(reverse.status))) & ~int(Status.GENEALOGY_COALESCED)
    return Sandwich(np.asarray(forward.log_z, np.float64), np.asarray(reverse.log_z, np.float64), status)


def _as_vector(target: StaticTarget, exact_draw: Callable[[Any], Any]) -> Callable[[Any], Array]:
    """The user's draw as an unconstrained vector, its shape checked."""

    def draw(key: Any) -> Array:
        value = exact_draw(key)
        if not isinstance(value, dict):
            return jnp.asarray(value)
        if target.unconstrain is None:
            raise TargetError(
                "this target has no map from named values", expected="the unconstrained vector", got="a dict"
            )
        return target.unconstrain(value)

    shape = jax.eval_shape(draw, jax.random.key(0)).shape
    if shape != (target.dim,):
        raise TargetError(
            "exact_draw returned the wrong shape", expected=f"a vector ({target.dim},) or a dict of names", got=shape
        )
    return draw
