"""What `mcmc` returns: draws by chain, what they cost, and how far the chains agree."""

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float, Int

from smcinfer.core.status import Status, explain
from smcinfer.ground.errors import CheckpointError
from smcinfer.ground.io import Groups, dimensions, read_netcdf, write_netcdf
from smcinfer.ground.version import package_version
from smcinfer.results import report
from smcinfer.results.export import variable_name

LAYOUT = "smcinfer-chains-1"
"""Name and version of the layout of saved chains."""

R_HAT_LIMIT = 1.01
"""Rank-normalised R-hat above which chains are said to disagree (Vehtari et al. 2021)."""

# ArviZ has no diagnostics for shorter chains.
FEWEST_DRAWS = 4


class Worst(NamedTuple):
    """The least good figure over all scalars, and whose it is."""

    value: float
    name: str


class Chains:
    """Draws of several chains, and how they came about. Everything is numpy, on the host.

    Attributes:
        draws: constrained values by name, each of shape (num_chains, num_draws, ...).
        acceptance: Float["num_chains num_draws"], mean acceptance of the transitions that led to a draw.
        num_evals: Int["num_chains num_draws"], their density evaluations.
        cap_reached: Int["num_chains num_draws"], how many of them stopped a bounded loop at its bound (still exact).
        status: bits of `Status`.
        settings: how the chains were made, as JSON can hold it.
        seconds, compile_seconds: wall time of the whole run, and the part of it spent compiling.
    """

    def __init__(
        self,
        draws: Mapping[str, np.ndarray],
        acceptance: Float[np.ndarray, "chains draws"],
        num_evals: Int[np.ndarray, "chains draws"],
        cap_reached: Int[np.ndarray, "chains draws"],
        status: int,
        settings: Mapping[str, Any],
        seconds: float,
        compile_seconds: float,
    ) -> None:
        self.draws = dict(draws)
        self.acceptance = acceptance
        self.num_evals = num_evals
        self.cap_reached = cap_reached
        self.status = Status(int(status))
        self.settings = dict(settings)
        self.seconds = float(seconds)
        self.compile_seconds = float(compile_seconds)

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

    def __str__(self) -> str:
        return report.as_text(self._title(), self._lines())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return report.as_html(self._title(), self._lines())

    def to_arviz(self) -> xr.DataTree:
        """An ArviZ DataTree: ``posterior`` (chain, draw), and ``sample_stats`` with the cost of each draw."""
        # ArviZ takes seconds to import, and only an export needs it.
        import arviz

        return arviz.from_dict(
            {
                "posterior": {variable_name(name): values for name, values in self.draws.items()},
                "sample_stats": {
                    "acceptance_rate": self.acceptance,
                    "num_evals": self.num_evals,
                    "cap_reached": self.cap_reached,
                },
            },
            attrs={
                "/": {
                    "inference_library": "smcinfer",
                    "inference_library_version": package_version(),
                    "kernel": str(self.settings["kernel"]),
                    "status": "; ".join(explain(self.status)) or "OK",
                    "sampling_time": self.seconds,
                }
            },
        )

    def summary(self) -> pd.DataFrame:
        """Mean, sd, interval, Monte Carlo errors, bulk and tail effective sizes and R-hat of every scalar (ArviZ's)."""
        import arviz

        return pd.DataFrame(arviz.summary(self.to_arviz(), round_to="none"))

    def save(self, path: str | Path) -> Path:
        """Write everything to a netCDF file, whole or not at all; `load_chains` gives it back bit for bit.

        Raises:
            ArgumentError: nothing can be written there.
        """
        axes = ("chain", "draw")
        groups: Groups = {
            "": {name: (axes, getattr(self, name)) for name in ("acceptance", "num_evals", "cap_reached")},
            "draws": {name: (dimensions(name, axes, value), value) for name, value in self.draws.items()},
        }
        plain = {name: getattr(self, name) for name in ("settings", "seconds", "compile_seconds")}
        return write_netcdf(path, groups, {"status": int(self.status), **plain}, LAYOUT)

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
        return (
            f"smcinfer chains: {kernel}, {self.num_draws} draws x {self.num_chains} chain{'s' * (self.num_chains > 1)}"
        )

    def _lines(self) -> list[tuple[str, str]]:
        caps, settings = int(self.cap_reached.sum()), self.settings
        agree = self.r_hat.value <= R_HAT_LIMIT
        useful = self.num_evals.sum(dtype=np.float64)
        return [
            ("R-hat", f"largest {self.r_hat.value:.3f} ({self.r_hat.name}){'' if agree else '; the chains DISAGREE'}"),
            ("ESS", f"bulk at least {self.ess_bulk.value:.0f} ({self.ess_bulk.name}), tail {self.ess_tail.value:.0f}"),
            ("evaluations", f"{self.evals_per_step:.3g} a step, {useful:.2g} for the draws"),
            ("acceptance", f"mean {self.acceptance.mean():.2f}"),
            (
                "pace",
                f"{settings['pace']}, {settings['ticks'] * self.num_chains / useful:.2f} evaluations run a useful one",
            ),
            ("caps", f"{caps} of {self.num_transitions} transitions stopped a loop at its bound"),
            ("warm-up", f"{settings['num_warmup']} steps a chain"),
            ("status", "; ".join(explain(self.status)) or "OK"),
            ("time", f"{self.seconds:.3g} s, of which {self.compile_seconds:.3g} s compiling"),
        ]


def load_chains(path: str | Path) -> Chains:
    """Chains that `Chains.save` wrote.

    Args:
        path: of the file.

    Raises:
        ArgumentError: there is no such file.
        CheckpointError: the file is damaged, cut short, or holds something else.
    """
    groups, attributes = read_netcdf(path, LAYOUT)
    try:
        return Chains(draws=groups["draws"], **groups[""], **attributes)
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} lacks a part of the chains", got=str(error), hint="save them again") from error
