"""What `mcmc` returns: draws by chain, what they cost, and how far the chains agree."""

import dataclasses
import functools
import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from smcinfer.ground.arrays import KeyArray
from smcinfer.ground.lazy import Later
from smcinfer.ground.version import package_version
from smcinfer.results.export import as_tree
from smcinfer.results.groups import filled, wanted
from smcinfer.results.record import Record, arrays
from smcinfer.results.words import Lines, counted

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
else:
    pd = Later("pandas")
    xr = Later("xarray")

R_HAT_LIMIT = 1.01
"""Rank-normalised R-hat above which chains are said to disagree (Vehtari et al. 2021)."""

# ArviZ has no diagnostics for shorter chains.
FEWEST_DRAWS = 4


class Worst(NamedTuple):
    """The least good figure over all scalars, and whose it is."""

    value: float
    name: str


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Chains(Record):
    """Draws of several chains, and how they came about. Everything is numpy, on the host.

    Attributes:
        draws: constrained values by name, each of shape (num_chains, num_draws, ...).
        acceptance: Float["num_chains num_draws"], mean acceptance of the transitions that led to a draw.
        num_evals: Int["num_chains num_draws"], their density evaluations.
        cap_reached: Int["num_chains num_draws"], how many of them stopped a bounded loop at its bound (still exact).
    """

    num_evals: np.ndarray = arrays("chain", "draw")
    draws: dict[str, np.ndarray] = arrays("chain", "draw")
    acceptance: np.ndarray = arrays("chain", "draw")
    cap_reached: np.ndarray = arrays("chain", "draw")

    WEIGHTED_FOR = "the target once a chain has forgotten its start; all draws weigh alike, and there is no log Z"

    @property
    def num_chains(self) -> int:
        """How many chains there are."""
        return self.num_evals.shape[0]

    @property
    def num_draws(self) -> int:
        """Draws of each chain."""
        return self.num_evals.shape[1]

    @property
    def num_transitions(self) -> int:
        """Transitions of all chains that the draws took, warm-up apart."""
        return self.num_evals.size * int(self.settings["thin"])

    @property
    def evals_per_step(self) -> float:
        """Mean density evaluations a transition (one with its gradient counts one)."""
        return float(self.num_evals.sum(dtype=np.float64)) / self.num_transitions

    @functools.cached_property
    def r_hat(self) -> Worst:
        """Largest R-hat of a scalar: how far chains disagree, 1 where they agree."""
        return self._worst("rhat", largest=True)

    @functools.cached_property
    def ess_bulk(self) -> Worst:
        """Smallest effective sample size for the middle of a scalar's law."""
        return self._worst("ess", largest=False, method="bulk")

    @functools.cached_property
    def ess_tail(self) -> Worst:
        """Smallest effective sample size for a scalar's 5% and 95% quantiles."""
        return self._worst("ess", largest=False, method="tail")

    def to_arviz(
        self, *, key: KeyArray | int = 0, groups: str | Collection[str] | None = None, target: Any = None
    ) -> "xr.DataTree":
        """An ArviZ DataTree: ``posterior`` (chain, draw), ``sample_stats`` with the cost of each draw, and the target's groups.

        Args:
            key: for predictions and the prior, a random key or a seed.
            groups: further groups, as of `Result.to_arviz`.
            target: what was sampled: it fills them, and names the axes.

        Raises:
            ArgumentError: a group cannot be filled.
        """
        described = None if target is None else target.described
        typed = jax.random.key(key) if isinstance(key, int) else key
        more = filled(described, wanted(groups), typed, self.draws, everything=groups == "all")
        stats = {"acceptance_rate": self.acceptance, "num_evals": self.num_evals, "cap_reached": self.cap_reached}
        attrs = {
            "inference_library": "smcinfer",
            "inference_library_version": package_version(),
            "kernel": str(self.settings["kernel"]),
            "status": self.status_in_words,
            "weighted_for": self.weighted_for,
            "sampling_time": self.seconds,
        }
        return as_tree({"posterior": self.draws, "sample_stats": stats} | more, described, attrs)

    def summary(self) -> "pd.DataFrame":
        """Mean, sd, interval, Monte Carlo errors, bulk and tail effective sizes and R-hat of every scalar (ArviZ's)."""
        import arviz

        return pd.DataFrame(arviz.summary(self.to_arviz(), round_to="none"))

    def _worst(self, figure: str, *, largest: bool, **options: Any) -> Worst:
        """The worst value of an ArviZ figure over all scalars; NaN where the chains are too short for it."""
        if self.num_draws < FEWEST_DRAWS:
            return Worst(math.nan, "too few draws")
        import arviz

        found = Worst(-math.inf if largest else math.inf, "")
        # A constant scalar (a chain that never moved) divides by zero; it comes out as NaN, and is the worst.
        with np.errstate(divide="ignore", invalid="ignore"):
            dataset = getattr(arviz, figure)(self.to_arviz(), **options)
        for name, variable in dataset.data_vars.items():
            for index, value in np.ndenumerate(variable.values):
                label = f"{name}[{', '.join(map(str, index))}]" if index else str(name)
                if math.isnan(value):
                    return Worst(math.nan, label)
                if (value > found.value) == largest and value != found.value:
                    found = Worst(float(value), label)
        return found

    def _title(self) -> str:
        kernel = self.settings["kernel"]
        return f"smcinfer chains: {kernel}, {self.num_draws} draws x {counted(self.num_chains, 'chain')}"

    def _lines(self) -> Lines:
        caps, settings = int(self.cap_reached.sum()), self.settings
        useful = self.num_evals.sum(dtype=np.float64)
        return [
            *self._agreement(),
            ("evaluations", f"{self.evals_per_step:.3g} a step, {useful:.2g} for the draws"),
            ("acceptance", f"mean {self.acceptance.mean():.2f}"),
            (
                "pace",
                f"{settings['pace']}, {settings['ticks'] * self.num_chains / useful:.2f} evaluations run a useful one",
            ),
            ("caps", f"{caps} of {self.num_transitions} transitions stopped a loop at its bound"),
            ("warm-up", f"{settings['num_warmup']} steps a chain"),
        ]

    def _agreement(self) -> Lines:
        """How far the chains agree, and how many independent draws they are worth."""
        agree = self.r_hat.value <= R_HAT_LIMIT
        return [
            ("R-hat", f"largest {self.r_hat.value:.3f} ({self.r_hat.name}){'' if agree else '; the chains DISAGREE'}"),
            ("ESS", f"bulk at least {self.ess_bulk.value:.0f} ({self.ess_bulk.name}), tail {self.ess_tail.value:.0f}"),
        ]
