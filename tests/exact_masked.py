"""Masked diffusions small enough to sum over every path: a matrix for each step, over all partly known sequences."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.diffusion.discrete import MaskedState, MaskedTarget
from smcinfer.ground.arrays import Array, Float, Int


class Scrambled(eqx.Module):
    """A denoiser that belongs to no joint law: its conditionals contradict one another, so that the order matters."""

    logits: Float[Array, "states length vocab"]
    vocab_size: int = eqx.field(static=True)

    def __call__(self, tokens: Int[Array, " length"]) -> Float[Array, "length vocab"]:
        """Logits from a table by the known tokens."""
        digits = (self.vocab_size + 1) ** jnp.arange(tokens.shape[0] - 1, -1, -1)
        return self.logits[jnp.sum(tokens * digits)]


def scrambled(seed: int, length: int, vocab_size: int, scale: float = 1.5) -> Scrambled:
    """A denoiser with random logits for everything that may be known."""
    rng = np.random.default_rng(seed)
    return Scrambled(
        jnp.asarray(scale * rng.standard_normal(((vocab_size + 1) ** length, length, vocab_size)), float), vocab_size
    )


def partly_known(target: MaskedTarget) -> Int[Array, "states length"]:
    """All sequences of tokens and masks."""
    model = target.model
    return jnp.asarray(list(itertools.product(range(model.vocab_size + 1), repeat=model.length)), jnp.int32)


def final_masses(target: MaskedTarget) -> tuple[np.ndarray, np.ndarray]:
    """Every sequence of tokens and masks, and its unnormalised mass after the last step: their sum is Z."""
    process = target.process
    tokens = partly_known(target)

    def state_of(known: Array) -> MaskedState:
        log_p, log_scale = process.model.conditionals(known)
        return MaskedState(known, log_p, log_scale, jnp.zeros((), log_p.dtype))

    @jax.jit
    def step(t: Array) -> Array:
        def pair(before: Array, after: Array) -> Array:
            state = state_of(before)
            log_w = process.transition(t, state).log_prob(after)
            weighed = target.potential(t, process.advance(t, state, after))
            return jnp.where(log_w > -jnp.inf, log_w + weighed, -jnp.inf)

        return jax.vmap(lambda before: jax.vmap(lambda after: pair(before, after))(tokens))(tokens)

    first = process.advance(jnp.asarray(0), None, None)
    masses = np.all(np.asarray(tokens) == np.asarray(first.tokens), axis=1).astype(np.float64)
    masses *= np.exp(float(target.potential(jnp.asarray(0), first)))
    for t in range(1, target.num_steps + 1):
        masses = masses @ np.exp(np.asarray(step(jnp.asarray(t)), np.float64))
    return np.asarray(tokens), masses


def log_z(target: MaskedTarget) -> float:
    """Exact log normaliser of a target."""
    return float(np.log(final_masses(target)[1].sum()))
