r"""How strong the onset of a frame is, given whether a beat falls on it.

.. math::
    a \sim p\, \mathrm{Beta}(7, 2) + (1 - p)\, \mathrm{Beta}(1, 9), \qquad
    p = \mathrm{off} + (\mathrm{hit} - \mathrm{off})\, c

with c in [0, 1] how close the frame is to a beat. Beats may be silent, and onsets may fall between beats.
"""

import equinox as eqx
import jax.numpy as jnp
import numpyro.distributions as dist

from smcinfer.ground.arrays import Array, Scalar


class Onsets(eqx.Module):
    """Law of an onset strength in (0, 1).

    Attributes:
        hit: probability of an onset on a beat.
        off: probability of an onset far from any beat.
    """

    hit: float = eqx.field(static=True, default=0.9)
    off: float = eqx.field(static=True, default=0.06)

    def law(self, closeness: Scalar | Array) -> dist.Distribution:
        """Law of the strength of a frame that is as close to a beat as ``closeness`` in [0, 1]."""
        onset = self.off + (self.hit - self.off) * closeness
        strengths = dist.Beta(jnp.array([7.0, 1.0]), jnp.array([2.0, 9.0]))
        return dist.MixtureSameFamily(dist.Categorical(probs=jnp.stack([onset, 1.0 - onset], axis=-1)), strengths)


def closeness(distance: Scalar | Array, width: float = 1.0) -> Array:
    """How close a beat is that lies ``distance`` frames away: one on it, a Gaussian of ``width`` frames around it."""
    return jnp.exp(-0.5 * (distance / width) ** 2)
