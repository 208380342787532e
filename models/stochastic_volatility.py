r"""Stochastic volatility: returns whose log variance wanders (Taylor 1982).

.. math::
    x_0 \sim N\!\left(\mu, \frac{\sigma^2}{1 - \rho^2}\right), \quad x_t \sim N(\mu + \rho (x_{t-1} - \mu), \sigma^2), \quad
    y_t \sim N(0, e^{x_t})
"""

import csv
import gzip
import importlib.util
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpy.typing import ArrayLike

from smcinfer.ground.arrays import Array, Float, Int, KeyArray, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.state_space import StateSpace, simulate, state_space

KINDS = ("bootstrap", "guided")


class StochasticVolatility(eqx.Module):
    """The model at given parameters, which may be traced: inference about them calls it with its own.

    Attributes:
        mu: mean of the log variance x.
        rho: autocorrelation of x, in (-1, 1).
        sigma: standard deviation of one innovation of x.
    """

    mu: Scalar = eqx.field(converter=jnp.asarray, default=-1.02)
    rho: Scalar = eqx.field(converter=jnp.asarray, default=0.9702)
    sigma: Scalar = eqx.field(converter=jnp.asarray, default=0.178)

    @property
    def initial(self) -> dist.Distribution:
        """Law of x_0: the stationary one."""
        return dist.Normal(self.mu, self.sigma / jnp.sqrt(1.0 - self.rho**2))

    def transition(self, t: Int[Array, ""], x: Scalar) -> dist.Distribution:
        """Law of x_t given x_{t-1}."""
        del t
        return dist.Normal(self.mu + self.rho * (x - self.mu), self.sigma)

    def observation(self, t: Int[Array, ""], x: Scalar) -> dist.Distribution:
        """Law of the return y_t given x_t."""
        del t
        return dist.Normal(0.0, jnp.exp(0.5 * x))

    def guide(self, t: Int[Array, ""], x: Scalar, y: Scalar) -> dist.Distribution:
        r"""The transition moved to where y_t pulls it.

        .. math:: N\!\left(m + \tfrac{\sigma^2}{2} (y_t^2 e^{-m} - 1),\ \sigma^2\right), \quad m = \mu + \rho (x_{t-1} - \mu)

        The log density of y_t, made linear at m. Source: Kim, Shephard & Chib (1998), section 4.2.1.
        """
        del t
        m = self.mu + self.rho * (x - self.mu)
        return dist.Normal(m + 0.5 * self.sigma**2 * (y**2 * jnp.exp(-m) - 1.0), self.sigma)

    def simulate(self, key: KeyArray, num_steps: int) -> tuple[Float[Array, " steps"], Float[Array, " steps"]]:
        """The log variance x_0:T, the truth, and returns y_0:T, T = ``num_steps``."""
        return simulate(key, self.initial, self.transition, self.observation, num_steps)

    def state_space(self, data: ArrayLike | None, kind: str = "bootstrap", **options: Any) -> StateSpace:
        """The model with data.

        Args:
            data: (T+1,), returns; NaN where there was none (with ``missing="skip"``); ``None`` for returns to come.
            kind: ``"bootstrap"``, or ``"guided"`` by `guide`.
            options: of `smcinfer.state_space.state_space`.
        """
        if kind not in KINDS:
            raise ArgumentError("unknown kind of filter", expected=" | ".join(KINDS), got=kind)
        parts: dict[str, Any] = {"proposal": self.guide} if kind == "guided" else {}
        return state_space(self.initial, self.transition, self.observation, data, **(parts | options))


def returns(first: int = 2012, last: int = 2015) -> np.ndarray:
    """Daily returns of the S&P 500 less their mean, per cent, from the file that the package `arch` brings (1999 to 2018).

    Args:
        first, last: years, both included.

    Raises:
        ArgumentError: the package is not installed, or has no such years.
    """
    found = importlib.util.find_spec("arch")
    if found is None or not found.submodule_search_locations:
        raise ArgumentError(
            "the returns come with the package arch", expected="arch", got="none", hint="pip install arch"
        )
    with gzip.open(Path(found.submodule_search_locations[0]) / "data" / "sp500" / "sp500.csv.gz", "rt") as file:
        rows = [(int(row["Date"][-4:]), float(row["Adj Close"])) for row in csv.DictReader(file)]
    chosen = np.array([price for year, price in rows if first <= year <= last])
    if chosen.size < 2:
        raise ArgumentError("there are no such years", expected="1999 .. 2018", got=f"{first} .. {last}")
    made = 100 * np.diff(np.log(chosen))
    return made - made.mean()
