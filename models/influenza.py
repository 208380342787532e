r"""Influenza in a boarding school, January 1978: an epidemic in which a boy is susceptible, infected or recovered.

.. math::
    S_t = S_{t-1} - n_t, \quad I_t = I_{t-1} + n_t - (1 - e^{-\gamma}) I_{t-1}, \quad
    n_t = S_{t-1} (1 - e^{-b_{t-1} I_{t-1} / 763}), \qquad \log b_t \sim N(\log \beta, \sigma^2), \quad
    y_t \sim \mathrm{Poisson}(I_t)

Contagion varies from day to day, all else follows from the day before.

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

State = dict[str, Array]
"""``susceptible`` and ``infected`` boys of a day, and ``contagion``: infections by one infected boy until the next."""


def influenza(beta: Any = 1.9, gamma: Any = 0.5, sigma: Any = 0.3, **options: Any) -> StateSpace:
    """The epidemic at given rates, a day each.

    Args:
        beta: infections that one infected boy causes a day where all others are susceptible; may be traced.
        gamma: rate of recovery, one over days; may be traced.
        sigma: standard deviation of the log of contagion; may be traced.
        options: of `smcinfer.state_space.state_space`.
    """
    contagion = dist.LogNormal(jnp.log(beta), sigma)
    initial = {
        "susceptible": dist.Normal(BOYS - 3.0, 1.0),
        "infected": dist.LogNormal(1.0, 0.5),
        "contagion": contagion,
    }

    def transition(t: Time, x: State) -> dict[str, Distribution]:
        new = x["susceptible"] * -jnp.expm1(-x["contagion"] * x["infected"] / BOYS)
        well = x["infected"] * -jnp.expm1(-gamma)
        after = {"susceptible": x["susceptible"] - new, "infected": x["infected"] + new - well}
        return {name: dist.Delta(value) for name, value in after.items()} | {"contagion": contagion}

    def observation(t: Time, x: State) -> Distribution:
        # A boy in bed where nobody is infected came from elsewhere.
        return dist.Poisson(x["infected"] + 0.1)

    return state_space(initial, transition, observation, IN_BED, **options)
