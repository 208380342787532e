r"""Influenza in a boarding school, January 1978: an epidemic in which a boy is susceptible, infected or recovered.

.. math::
    \text{infections}_t \sim \mathrm{Binomial}\bigl(S_{t-1}, 1 - e^{-\beta I_{t-1} / 763}\bigr), \quad
    \text{recoveries}_t \sim \mathrm{Binomial}\bigl(I_{t-1}, 1 - e^{-\gamma}\bigr), \quad
    y_t \sim \mathrm{Poisson}(I_t)

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
"""``susceptible`` and ``infected`` before a day, and what the day brought: ``infections`` and ``recoveries``."""


def influenza(beta: Any = 2.0, gamma: Any = 0.5, **options: Any) -> StateSpace:
    """The epidemic at given rates, a day each.

    Args:
        beta: infections that one infected boy causes a day where all others are susceptible; may be traced.
        gamma: rate of recovery, one over days; may be traced.
        options: of `smcinfer.state_space.state_space`.
    """
    whole = lambda value: dist.Delta(jnp.asarray(value, float))  # noqa: E731
    initial = {
        "susceptible": whole(BOYS),
        "infected": whole(0),
        "infections": dist.Binomial(jnp.asarray(float(BOYS)), 4.0 / BOYS),
        "recoveries": dist.Binomial(jnp.asarray(0.0), 0.5),
    }

    def after(x: State) -> tuple[Array, Array]:
        susceptible = x["susceptible"] - x["infections"]
        return susceptible, x["infected"] + x["infections"] - x["recoveries"]

    def transition(t: Time, x: State) -> dict[str, Distribution]:
        susceptible, infected = after(x)
        return {
            "susceptible": whole(susceptible),
            "infected": whole(infected),
            "infections": dist.Binomial(susceptible, -jnp.expm1(-beta * infected / BOYS)),
            "recoveries": dist.Binomial(infected, -jnp.expm1(-gamma)),
        }

    def observation(t: Time, x: State) -> Distribution:
        # A boy in bed where nobody is infected came from elsewhere.
        return dist.Poisson(after(x)[1] + 0.1)

    return state_space(initial, transition, observation, IN_BED, **options)
