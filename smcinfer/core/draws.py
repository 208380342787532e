"""Draws of many particles' laws: all from one key where that is sound, else each from a key of its own.

A law that numpyro builds around another one (a log-normal around a normal, Student's t around a chi-square) does not tell the
inner one how many particles there are once it is mapped: all particles would share one draw of it.
"""

from collections.abc import Callable
from functools import singledispatch
from typing import Any

import jax
import numpyro.distributions as dist
from numpyro.distributions import Distribution
from numpyro.distributions.batch_util import promote_batch_shape

from smcinfer.ground.arrays import KeyArray, Particles, PyTree

TOGETHER = (
    dist.Normal,
    dist.MultivariateNormal,
    dist.Delta,
    dist.Uniform,
    dist.Gamma,
    dist.Exponential,
    dist.Laplace,
    dist.Logistic,
    dist.Gumbel,
    dist.Cauchy,
    dist.CategoricalLogits,
    dist.CategoricalProbs,
    dist.BernoulliLogits,
    dist.BernoulliProbs,
    dist.Poisson,
)
"""Laws without another law inside, of whose classes each was tried."""


@singledispatch
def together(law: Distribution) -> bool:
    """Whether mapped laws of this kind can be drawn from with one key.

    Args:
        law: of one particle, or mapped over particles.
    """
    if type(law) is dist.Independent:
        return type(law.base_dist) in TOGETHER
    return type(law) in TOGETHER


def draw_each(key: KeyArray, law: Callable[[PyTree[Any]], Distribution], states: Particles, size: int) -> Particles:
    """One draw of the law of every state.

    Args:
        key: one random key.
        law: of one state.
        states: every leaf with a leading axis of ``size``.
        size: how many there are.
    """
    laws = jax.vmap(law)(states)
    if together(laws):
        return promote_batch_shape(laws).sample(key)
    return jax.vmap(lambda key, state: law(state).sample(key))(jax.random.split(key, size), states)
