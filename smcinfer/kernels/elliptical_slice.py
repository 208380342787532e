"""Elliptical slice sampling: a point of an ellipse drawn from the Gaussian part of the target."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Float, KeyArray, Scalar
from smcinfer.kernels import affine, tuning
from smcinfer.kernels.base import KernelState, Position, TemperedDensity
from smcinfer.kernels.lines import Search, advance, circle, draw_level, is_inside, ran_out
from smcinfer.kernels.metropolis import choose
from smcinfer.kernels.reference import Reference, check_reference, reference_of
from smcinfer.kernels.ticks import Machine, TickKernel, first_key, starting, tick_uniforms


class EllipseMachine(Machine):
    """A transition under way.

    Attributes:
        offset: Float["dim"], where the chain stands, from the ellipse's centre.
        momentum: Float["dim"], the point a quarter of a turn further on, from the centre.
        products: Float["3"], squared lengths of both and their product, whitened.
        level: Float[""], nats.
        search: over the angle.
    """

    offset: Position
    momentum: Position
    products: Float[Array, "3"]
    level: Scalar
    search: Search


class EllipticalSlice(TickKernel):
    r"""Elliptical slice sampling along a Gaussian factor of the target.

    With :math:`\gamma_\lambda(x) = N(x; m, L L^T)\, e^{\Psi(x)}`,

    .. math:: \ell = \Psi(x) - \mathrm{Exp}(1), \qquad y = m + (x - m) \cos a + L \xi \sin a, \qquad \xi \sim N(0, I)

    and the angle's bracket is shrunk about zero until :math:`\Psi(y) > \ell`. No gradient, nothing to tune by acceptance.
    Strong where the data say little beside the Gaussian; where they say much, the angles are short. Reversible.

    Args:
        reference: the Gaussian: ``"base"``, then :math:`\Psi = \lambda \Phi` is the tempered potential, or ``"cloud"``,
            that of the particles, for any base; :math:`\Psi` is then the density over that Gaussian, and tails heavier
            than Gaussian are left slowly.
        max_shrinks: angles tried before staying.

    Source: Murray, Adams & MacKay (2010), figure 2; with a fitted reference: Nishihara, Murray & Adams (2014), section 2.
    """

    reference: str = eqx.field(default="base", static=True)
    max_shrinks: int = eqx.field(default=64, static=True)

    def __check_init__(self) -> None:
        check_reference(self.reference)
        affine.check_caps(max_shrinks=self.max_shrinks)

    def parameters(self, dim: int) -> tuning.Cloud:
        """A standard normal's mean and covariance."""
        return tuning.unit_cloud(dim)

    def tune(
        self,
        params: tuning.Cloud,
        positions: Float[Array, "n dim"],
        log_weights: Float[Array, " n"],
        acceptance: Scalar,
    ) -> tuning.Cloud:
        """The cloud's mean and covariance, where they are the reference."""
        del acceptance
        return params if self.reference == "base" else tuning.fit_cloud(params, positions, log_weights)

    def begin(
        self, key: KeyArray, state: KernelState, density: TemperedDensity, params: tuning.Cloud
    ) -> EllipseMachine:
        """The level, the ellipse, and the first angle on it."""
        noise_key, level_key, angle_key = jax.random.split(first_key(key), 3)
        reference = self._reference(density, params)
        position = state.position
        noise = jax.random.normal(noise_key, position.shape, position.dtype)
        # Lengths are wanted only where the Gaussian has to be divided out.
        whitened = jnp.zeros_like(position) if reference.is_base else reference.gaussian.whiten(position)
        products = jnp.stack([jnp.sum(whitened**2), jnp.sum(noise**2), jnp.sum(whitened * noise)])
        return EllipseMachine(
            **starting(key, state),
            offset=position - reference.gaussian.mean.astype(position.dtype),
            momentum=reference.gaussian.stretch(noise),
            products=products,
            level=draw_level(level_key, reference.log_rest(state, density, products[0])),
            search=circle(jax.random.uniform(angle_key, dtype=position.dtype), self.max_shrinks),
        )

    def point(self, machine: EllipseMachine, params: tuning.Cloud) -> Position:
        """On the ellipse at the candidate angle."""
        del params
        angle = machine.search.candidate
        # 1 - cos, without cancellation: an angle of zero gives back the position's very bits.
        retreat = 2.0 * jnp.sin(0.5 * angle) ** 2
        return machine.current.position - machine.offset * retreat + machine.momentum * jnp.sin(angle)

    def receive(
        self, machine: EllipseMachine, reached: KernelState, density: TemperedDensity, params: tuning.Cloud
    ) -> EllipseMachine:
        """Shrink the angle's bracket, or finish on a point in the slice or out of tries."""
        angle = machine.search.candidate
        cosine, sine = jnp.cos(angle), jnp.sin(angle)
        turned = jnp.stack([cosine**2, sine**2, 2.0 * cosine * sine])
        log_rest = self._reference(density, params).log_rest(reached, density, jnp.sum(machine.products * turned))
        inside = is_inside(reached, log_rest, machine.level)
        after = advance(machine.search, inside, tick_uniforms(machine, 1)[0], jnp.zeros_like(angle))
        lost = ran_out(machine.search, after, inside)
        return replace(
            machine,
            tick=machine.tick + 1,
            current=choose(inside, reached, machine.current),
            finished=inside | lost,
            acceptance=machine.acceptance + inside,
            capped=machine.capped | lost,
            search=after,
        )

    def _reference(self, density: TemperedDensity, params: tuning.Cloud) -> Reference:
        return reference_of(self.reference, "EllipticalSlice", density, params)
