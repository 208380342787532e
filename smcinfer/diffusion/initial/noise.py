r"""The noise that leads to a reward: the density of the first point of a reverse diffusion, and draws of it.

.. math:: \pi_\kappa(x_T) \propto N(x_T;\, 0, s^2 I)\; e^{\kappa V(x_T)}, \qquad
    V(x_T) \approx \log E[e^{r(x_0)/\alpha} \mid x_T]

with V the look-ahead that the target already has at its first step, :math:`r(\hat x_0(x_T)) / \alpha` for Tweedie's,
and :math:`\kappa = \alpha / \alpha_{\text{mcmc}}` the share of it that the noise is drawn for. A point drawn from
:math:`\pi_\kappa` has the weight :math:`e^{-\kappa V}` for the noise itself, so that with a twist of strength
:math:`\lambda` the path starts from :math:`e^{(\lambda - \kappa) V}` (:math:`\exp(r/\alpha - r/\alpha_{\text{mcmc}})`
at full strength), and not from the reward once more. The strength is never less than :math:`\kappa` on such a path.
"""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.feynman_kac import FeynmanKac
from smcinfer.diffusion.alignment import Alignment
from smcinfer.diffusion.proposals import FromNoise
from smcinfer.diffusion.watched import Watched
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, KeyArray, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.kernels import TemperedDensity


class Standard(eqx.Module):
    """Log density of centred noise of one standard deviation, up to a constant."""

    std: Scalar

    def __call__(self, x: Float[Array, " dim"]) -> Scalar:
        """Of a point as one vector."""
        return -0.5 * jnp.sum((x / self.std) ** 2)


class Foreseen(eqx.Module):
    """V of a point at step 0 as one vector: what the look-ahead of a reverse process makes of it, nats.

    One evaluation of the network, and those of the look-ahead.
    """

    process: Watched

    def __call__(self, x: Float[Array, " dim"]) -> Scalar:
        """V of the point."""
        look, time = self.process.look, self.process.times[0]
        assert look is not None
        point = x.reshape(self.process.model.shape)
        return jnp.asarray(look(time, point, self.process.model.predict(point, time)), x.dtype)


class Noise(eqx.Module):
    """Draws of the first point: ``key -> (x, log_w)``, for `Alignment`'s proposals. Subclasses draw it.

    Attributes:
        process: the reverse diffusion that starts there.
        share: Float[""], kappa.
    """

    process: eqx.AbstractVar[Watched]
    share: eqx.AbstractVar[Scalar]

    @property
    @abc.abstractmethod
    def num_evaluations(self) -> int:
        """Evaluations of the network for one draw, one with its gradient counted once."""

    @abc.abstractmethod
    def __call__(self, key: KeyArray) -> tuple[Array, Scalar]:
        """A point of the process's shape and its log weight for the noise, nats."""

    @property
    def once(self) -> int:
        """Evaluations of the network for one V."""
        look = self.process.look
        assert look is not None
        return 1 + look.num_evaluations

    def density(self, share: Scalar | float = 1.0) -> TemperedDensity:
        """The density of the noise tilted by a share of V, for move kernels."""
        size = math.prod(self.process.model.shape)
        std = jnp.asarray(self.process.start_std, float)
        exponent = jnp.asarray(share, float)
        mean, scale = jnp.zeros(size, std.dtype), jnp.full((size,), std)
        return TemperedDensity(Standard(std), Foreseen(self.process), exponent, mean, scale)

    def prior(self, key: KeyArray, num: int) -> Float[Array, "num dim"]:
        """Draws of the noise itself, as vectors."""
        size = math.prod(self.process.model.shape)
        return self.process.start_std * jax.random.normal(key, (num, size))

    def as_point(self, x: Float[Array, " dim"]) -> Array:
        """A vector as a point of the process."""
        return x.reshape(self.process.model.shape)


def start_from(target: Alignment, draw: Noise) -> Alignment:
    """The target with its first points drawn by ``draw``, and its look-ahead trusted as far as the draw trusts it.

    A twist that were weaker on the way would take back at once what the points were chosen for.
    """
    is_process = lambda node: isinstance(node, Watched)  # noqa: E731
    strengths = target.watched.strengths
    assert strengths is not None
    raised = jnp.maximum(strengths, jnp.minimum(draw.share, 1.0))
    process = eqx.tree_at(lambda tree: tree.strengths, target.watched, raised)
    target = jax.tree.map(lambda node: process if is_process(node) else node, target, is_leaf=is_process)
    return eqx.tree_at(lambda tree: tree.proposal.start, target, draw, is_leaf=lambda leaf: leaf is None)


def process_of(target: FeynmanKac, share: float) -> tuple[Watched, Scalar]:
    """The reverse process of a target that initial draws can be made for, and kappa as an array.

    Raises:
        ArgumentError: no target of `smcinfer.diffusion.alignment`, one without a look-ahead, or a share that is no
            positive number.
    """
    if not isinstance(target, Alignment) or not isinstance(target.proposal, FromNoise):
        raise ArgumentError(
            "initial draws are made for an alignment",
            expected="diffusion.alignment(model, reward, ...)",
            got=type(target).__name__,
            hint="one whose strength is found by its particles starts from plain noise",
        )
    if target.watched.look is None:
        raise ArgumentError(
            "without a look-ahead nothing is known of the reward at the start",
            expected="look='tweedie' or 'roll_out', or a Look",
            got="look='none'",
        )
    validate.number("share", share, above=0.0)
    return target.watched, jnp.asarray(share, float)
