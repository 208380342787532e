"""How a model wants to be run: what it, and not the door it is run through, knows of resampling, error bars and words."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from smcinfer.ground import validate
from smcinfer.ground.errors import ArgumentError


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a model wants to be run, and what a result says of it.

    Attributes:
        weighted_for: what the weighted particles stand for and what log Z is of, in words.
        resample_below: resample where the effective sample size falls below this fraction of N.
        resamples_always: whether every step must resample, or does whatever it is told: another threshold is then refused.
        lag: resamplings that the genealogy of the error bar looks back over (`Settings.lag`). Filters forget noise within
            about ten resamplings, so that the error bars of the ready models are right to a fifth; moves along a path
            forget most of it at each step.
        tells_variance: whether a run tells the variance of its own Z_hat; false where its particles were drawn to differ:
            only the spread between runs does then.
        label: of the progress bar.
        name: of the algorithm, for a result's title; ``""`` for none.
        details: what a result's settings say beside, by name, as JSON can hold it.
    """

    weighted_for: str
    resample_below: float = 0.5
    resamples_always: bool = False
    lag: int = 10
    tells_variance: bool = True
    label: str = "sampling"
    name: str = ""
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def threshold(self, asked: float | None) -> float:
        """The fraction of N to resample below: what the caller asked for, or what the plan says where that is ``None``.

        Args:
            asked: a number in [0, 1], or ``None``.

        Raises:
            ArgumentError: for a number out of range, or one that the model cannot follow.
        """
        if asked is None:
            return 1.0 if self.resamples_always else self.resample_below
        below = validate.fraction("resample_below", asked)
        if self.resamples_always and below < 1.0:
            raise ArgumentError(
                "this model resamples at every step, whatever resample_below says",
                expected="resample_below=1 (or None)",
                got=below,
                hint='of the schedules, "conditional_ess" and explicit exponents allow steps without resampling',
            )
        return below

    def described(self) -> dict[str, Any]:
        """What a result's settings say of the model."""
        named = {"name": self.name} if self.name else {}
        return named | {"weighted_for": self.weighted_for} | dict(self.details)
