r"""Beams: the N likeliest texts, or N different texts at random with the probability that each is among them.

Every node of the tree of texts has the log probability :math:`\ell` of its prefix and a Gumbel variable
:math:`G \sim \mathrm{Gumbel}(\ell)`, the largest of those of its children. A step draws the children's, given that,

.. math:: G_v \sim \mathrm{Gumbel}(\ell_v), \quad Z = \max_v G_v, \qquad
          \tilde G_v = -\log\bigl(e^{-G} - e^{-Z} + e^{-G_v}\bigr),

and keeps the N nodes with the largest. The N texts at the end are drawn without replacement. Let :math:`\kappa` be the largest
value that was ever dropped; each text was kept, given it, with probability :math:`1 - \exp(-e^{\ell - \kappa})`, so that

.. math:: \hat Z = \sum_i \frac{p_0(s_i)\, \phi(s_i)}{1 - \exp(-e^{\ell_i - \kappa})}

is unbiased. Without the noise, :math:`G = \ell`, this is beam search, whose sum can only be too small.

Source: Kool, van Hoof & Welling (2019), *Stochastic beams and where to find them*; Duffield, Lund & Thorup (2007).
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.feynman_kac import FeynmanKac, Mutation
from smcinfer.core.plan import Plan
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Flag, Float, KeyArray, Particles, PyTree, Scalar, Time
from smcinfer.language.generation import Generation


class Beam(eqx.Module):
    """Prefixes.

    Attributes:
        state: of the language process, of each.
        log_p: Float["n"], under the model, nats; minus infinity for a place that is empty.
        noisy: Float["n"], G.
        log_phi: Float["n"], what was asked so far, nats.
    """

    state: PyTree[Any]
    log_p: Array
    noisy: Array
    log_phi: Array


class Beams(FeynmanKac):
    """The tree of a generation's texts, searched by N beams (made by `beams`).

    Attributes:
        target: what is asked for.
        noise: whether the search is stochastic.
    """

    target: Generation
    noise: bool = eqx.field(static=True)

    @property
    def num_steps(self) -> int:
        """T, tokens of a text."""
        return self.target.num_steps

    @property
    def plan(self) -> Plan:
        """Nothing is resampled: beams are selected."""
        found = "texts drawn without replacement, each over the probability that it is among them: the target's law"
        search = "the likeliest texts that beam search finds, no sample of anything; log Z can only be too low"
        return Plan(found if self.noise else search, resample_below=0.0, tells_variance=False, label="searching")

    def init(self, key: KeyArray, num_particles: int) -> Mutation:
        """The prompt in the first place, the others empty; nothing is weighed before the end."""
        t, dtype = jnp.zeros((), jnp.int32), jnp.result_type(float)
        state = self.target.process.advance(t, None, None)
        states = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num_particles, *jnp.shape(leaf))), state)
        first = jnp.arange(num_particles) == 0
        root = jax.random.gumbel(key, (), dtype) if self.noise else jnp.zeros((), dtype)
        log_phi = jnp.full((num_particles,), self.target.potential(t, state), dtype)
        start = Beam(states, jnp.where(first, 0.0, -jnp.inf).astype(dtype), jnp.where(first, root, -jnp.inf), log_phi)
        return Mutation(start, jnp.zeros((num_particles,), dtype), jnp.full((), -jnp.inf, dtype))

    def mutate(self, key: KeyArray, t: Time, particles: Particles, shared: PyTree[Any], resampled: Flag) -> Mutation:
        """The N largest among all children of all beams; at the end, what each text weighs."""
        del resampled
        beams: Any = particles
        size, dtype = beams.log_p.shape[0], beams.log_p.dtype
        log_p = beams.log_p[:, None] + jax.nn.log_softmax(beams.state.logits, axis=-1).astype(dtype)
        noisy = self._noisy(key, beams.noisy, log_p) if self.noise else log_p
        best, places = jax.lax.top_k(noisy.reshape(-1), min(size + 1, noisy.size))
        best = jnp.concatenate([best, jnp.full((size + 1 - best.shape[0],), -jnp.inf, dtype)])
        places = jnp.concatenate([places, jnp.zeros((size + 1 - places.shape[0],), places.dtype)])
        dropped = jnp.maximum(shared, best[size])
        parents, tokens = jnp.divmod(places[:size], log_p.shape[1])
        kept = jnp.where(best[:size] > -jnp.inf, log_p.reshape(-1)[places[:size]], -jnp.inf)
        before = jax.tree.map(lambda leaf: leaf[parents], beams.state)
        states = jax.vmap(lambda state, x: self.target.process.advance(t, state, x))(before, tokens.astype(jnp.int32))
        log_phi = beams.log_phi[parents] + jax.vmap(lambda state: self.target.potential(t, state))(states).astype(dtype)
        last = t == self.num_steps
        weight = jnp.where(last, self.log_weights(kept, log_phi, dropped) + jnp.log(size).astype(dtype), 0.0)
        return Mutation(Beam(states, kept, best[:size], log_phi), weight, dropped)

    @staticmethod
    def _noisy(key: KeyArray, parents: Float[Array, " n"], log_p: Float[Array, "n vocab"]) -> Float[Array, "n vocab"]:
        """The children's Gumbels, given that the largest of them is their parent's."""
        alive = log_p > -jnp.inf
        free = jnp.where(alive, log_p + jax.random.gumbel(key, log_p.shape, log_p.dtype), -jnp.inf)
        largest = jnp.max(free, axis=1, keepdims=True)
        top = parents[:, None]
        # -log(e^-top - e^-largest + e^-free) without a difference of large numbers: log(1 - e^(free - largest)) first.
        below = jnp.where(alive & (free < largest), free - largest, -1.0)
        value = top - jnp.where(alive, free, 0.0) + jnp.log(-jnp.expm1(below))
        given = top - jnp.maximum(value, 0.0) - jnp.log1p(jnp.exp(-jnp.abs(value)))
        return jnp.where(alive, jnp.where(free == largest, top, given), -jnp.inf)

    def log_weights(self, log_p: Array, log_phi: Array, dropped: Scalar) -> Array:
        """log of p phi over the probability of being kept, nats.

        Args:
            log_p, log_phi: Float["n"], of each text.
            dropped: the largest value that was dropped.
        """
        if not self.noise:
            return log_p + log_phi
        above = log_p - dropped
        # 1 - exp(-e^a) is e^a (1 - e^a / 2 + ..) for a small a, where the difference loses all digits.
        log_kept = jnp.where(above < -12.0, above, jnp.log(-jnp.expm1(-jnp.exp(jnp.maximum(above, -12.0)))))
        return jnp.where(log_p > -jnp.inf, log_p + log_phi - log_kept, -jnp.inf)

    def exported(self, particles: Particles) -> PyTree[Any]:
        """The sequences, and log p of each."""
        beams: Any = particles
        state = beams.state
        shown = {"tokens": state.tokens, "length": state.length, "finished": state.finished}
        return shown | {"log_p": beams.log_p}

    def decode(self, result: Any) -> list[Any]:
        """The sequences of a result as text, the heaviest first (see `Generation.decode`)."""
        return self.target.decode(result)


def beams(target: Generation, *, noise: bool = True) -> Beams:
    """Beams through the texts of a target: what `smcinfer.sample` takes in place of it; N particles are N beams.

    Args:
        target: a `Generation`; texts come from the model itself, whatever its proposal and twist.
        noise: true for N different texts at random and unbiased estimates (stochastic beams), false for beam search.

    Properly weighted for: the target, where there is noise; a sum over some texts, where there is none.
    """
    target = validate.instance("target", target, Generation, "smcinfer.language.generation(...)")
    return Beams(dataclasses.replace(target, twist=None), validate.flag("noise", noise))
