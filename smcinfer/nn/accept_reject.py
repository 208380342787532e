r"""Gradients of expectations under a rejection sampler: noise, a transform, and an acceptance test that has parameters too.

Accepted noise has the density :math:`\pi_\theta(\varepsilon) = s(\varepsilon)\, a_\theta(\varepsilon) / A_\theta`, so that

.. math:: \nabla E[f] = E[\nabla f(h_\theta(\varepsilon))]
    + \mathrm{Cov}[f(h_\theta(\varepsilon)), \nabla \log a_\theta(\varepsilon)] .

The first term is the usual one through the transform; leaving the second out is a bias that no number of draws removes. The
covariance needs no normaliser, for :math:`\nabla \log A = E[\nabla \log a]`.

Source: Naesseth, Ruiz, Linderman & Blei (2017), equations 5 to 9, here with the normaliser estimated from the draws.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Bool, Float, Int, KeyArray, PyTree, Scalar
from smcinfer.ground.errors import ArgumentError


class Accepted(eqx.Module):
    """Accepted draws, differentiable in the sampler's parameters.

    Attributes:
        values: pytree, leading axis the draws; their derivatives are those of the transform at fixed noise.
        log_accept: Float["draws"], log of the acceptance probability of the noise that was kept, nats.
        tries: Int["draws"], how many were drawn for each.
        accepted: Bool["draws"], false where the most tries passed without one: such a draw is no draw.
    """

    values: PyTree[Any]
    log_accept: Float[Array, " draws"]
    tries: Int[Array, " draws"]
    accepted: Bool[Array, " draws"]

    def mean(self, function: Callable[[PyTree[Any]], Array]) -> Scalar:
        """The mean of a function of one value, whose derivative is unbiased for that of the expectation.

        Args:
            function: one value to Float[""]; may depend on parameters itself.
        """
        f = jax.vmap(function)(self.values)
        fixed = jax.lax.stop_gradient(f)
        # Each draw's baseline is the mean of the others: unbiased, and the covariance of the second term.
        centred = (fixed - jnp.mean(fixed)) * (f.shape[0] / (f.shape[0] - 1))
        score = self.log_accept - jax.lax.stop_gradient(self.log_accept)
        return jnp.mean(f + centred * score)


def accept_reject(
    key: KeyArray,
    params: PyTree[Any],
    noise: Callable[[KeyArray], Array],
    transform: Callable[[PyTree[Any], Array], PyTree[Any]],
    log_accept: Callable[[PyTree[Any], Array], Array],
    *,
    num_draws: int,
    max_tries: int = 1000,
) -> Accepted:
    """Draw by rejection, so that expectations can be differentiated.

    Args:
        key: consumed here.
        params: what the transform and the acceptance depend on.
        noise: ``key -> noise`` of one draw, free of parameters.
        transform: ``(params, noise) -> value``.
        log_accept: ``(params, noise) -> Float[""]``, log of the acceptance probability, at most zero; minus infinity refuses.
        num_draws: at least two.
        max_tries: the most tries of one draw.

    Returns:
        `Accepted`; ``.mean(function)`` is an expectation with the right derivative.

    Raises:
        ArgumentError: fewer than two draws, or no try.
    """
    if num_draws < 2 or max_tries < 1:
        raise ArgumentError(
            "too few draws or tries", expected="num_draws at least 2, max_tries at least 1", got=(num_draws, max_tries)
        )
    frozen = jax.lax.stop_gradient(params)

    def one(key: Array) -> tuple[Array, Array, Array]:
        def attempt(number: Array) -> tuple[Array, Array]:
            noise_key, accept_key = jax.random.split(jax.random.fold_in(key, number))
            candidate = noise(noise_key)
            level = -jax.random.exponential(accept_key, dtype=jnp.result_type(float))
            return candidate, level <= log_accept(frozen, candidate)

        def body(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            number, _, _ = carry
            candidate, found = attempt(number)
            return number + 1, candidate, found

        first, found = attempt(jnp.zeros((), jnp.int32))
        start = (jnp.ones((), jnp.int32), first, found)
        return jax.lax.while_loop(lambda carry: ~carry[2] & (carry[0] < max_tries), body, start)

    tries, kept, found = jax.lax.stop_gradient(jax.vmap(one)(jax.random.split(key, num_draws)))
    values = jax.vmap(lambda kept: transform(params, kept))(kept)
    return Accepted(values, jax.vmap(lambda kept: log_accept(params, kept))(kept), tries, found)
