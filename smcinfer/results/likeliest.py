"""What a search for the likeliest parameters leaves: the estimate, its standard errors, and the way there."""

import dataclasses

import numpy as np

from smcinfer.results.evidence import Bound
from smcinfer.results.record import Record, arrays
from smcinfer.results.words import Lines, with_error


@dataclasses.dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Likeliest(Record):
    """A maximum likelihood estimate.

    Attributes:
        estimate: parameters by name, on their own scale.
        se: their standard errors, from the observed information; NaN where that is not positive definite.
        information: Float["dim dim"], minus the second derivative of the log likelihood, on the unconstrained scale.
        positions: Float["steps dim"], the way there, unconstrained.
        log_likelihoods: Float["steps"], noisy estimates on the way, nats.
        log_likelihood_runs: Float["runs"], fresh estimates at the end, nats.
    """

    estimate: dict[str, np.ndarray] = arrays()
    se: dict[str, np.ndarray] = arrays()
    information: np.ndarray = arrays("dim")
    positions: np.ndarray = arrays("step", "dim")
    log_likelihoods: np.ndarray = arrays("step")
    log_likelihood_runs: np.ndarray = arrays("run")

    WEIGHTED_FOR = "nothing: the parameters that make the data likeliest"

    @property
    def log_likelihood(self) -> float:
        """log of the mean of fresh likelihood estimates at the estimate, nats."""
        runs = self.log_likelihood_runs.astype(np.float64)
        return float(np.logaddexp.reduce(runs) - np.log(runs.size))

    @property
    def log_likelihood_se(self) -> float:
        """Its standard error by the delta method, nats."""
        ratios = np.exp(self.log_likelihood_runs.astype(np.float64) - self.log_likelihood)
        return float(ratios.std(ddof=1) / np.sqrt(ratios.size))

    def _title(self) -> str:
        return f"smcinfer maximum likelihood, {self.positions.shape[0]} steps"

    def _lines(self) -> Lines:
        lines = [("log likelihood", f"{with_error(Bound(self.log_likelihood, self.log_likelihood_se))} nats")]
        for name, value in self.estimate.items():
            for index in np.ndindex(value.shape):
                label = f"{name}[{', '.join(map(str, index))}]" if index else name
                lines.append((label, with_error(Bound(float(value[index]), float(self.se[name][index])))))
        return lines
