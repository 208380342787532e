r"""Influenza in a boarding school, January 1978: an epidemic in which a boy is susceptible, infected or recovered.

.. math::
    \frac{dS}{ds} = -b_t \frac{S I}{763}, \quad \frac{dI}{ds} = b_t \frac{S I}{763} - c_t I, \qquad
    \log b_t \sim N(\log \beta, \sigma^2), \quad \log c_t \sim N(\log \gamma, \sigma^2), \quad
    E y_t = I_t, \quad \mathrm{Var}\, y_t = I_t + I_t^2 / 20

Contagion and recovery vary from day to day; all else follows from the day before.

The data are those of a note in the British Medical Journal (4 March 1978, p. 587), as the R package `pomp` has them:
boys in bed, of 763, day by day; facts, free of rights.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import Distribution

from smcinfer.ground.arrays import Array, Time
from smcinfer.state_space import StateSpace, state_space

IN_BED = np.array([3, 8, 26, 76, 225, 298, 258, 233, 189, 128, 68, 29, 14, 4])
"""Boys in bed from 22 January on."""

BOYS = 763
"""In the school."""

CONCENTRATION = 20.0
"""Of the negative binomial law of a count: its standard deviation is a little over a fifth of it."""

PARTS = 8
"""Steps that a day is cut into."""

State = dict[str, Array]
"""``susceptible`` and ``infected`` boys of a day, and the rates ``contagion`` and ``recovery`` until the next."""


def influenza(beta: Any = 1.95, gamma: Any = 0.5, sigma: Any = 0.3, **options: Any) -> StateSpace:
    """The epidemic at given rates, a day each.

    Args:
        beta: infections that one infected boy causes a day where all others are susceptible; may be traced.
        gamma: rate of recovery, one over days; may be traced.
        sigma: standard deviation of the logs of both from day to day; may be traced.
        options: of `smcinfer.state_space.state_space`.
    """
    rates = {"contagion": dist.LogNormal(jnp.log(beta), sigma), "recovery": dist.LogNormal(jnp.log(gamma), sigma)}
    initial = {"susceptible": dist.Normal(BOYS - 2.0, 1.0), "infected": dist.LogNormal(0.7, 0.5)} | rates

    def transition(t: Time, x: State) -> dict[str, Distribution]:
        susceptible, infected = x["susceptible"], x["infected"]
        for _ in range(PARTS):
            new = susceptible * -jnp.expm1(-x["contagion"] * infected / BOYS / PARTS)
            well = infected * -jnp.expm1(-x["recovery"] / PARTS)
            susceptible, infected = susceptible - new, infected + new - well
        return {"susceptible": dist.Delta(susceptible), "infected": dist.Delta(infected)} | rates

    def observation(t: Time, x: State) -> Distribution:
        # A boy in bed where nobody is infected came from elsewhere.
        return dist.NegativeBinomial2(x["infected"] + 0.1, CONCENTRATION)

    return state_space(initial, transition, observation, IN_BED, **options)
