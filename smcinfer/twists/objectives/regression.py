r"""The objective that regresses: what is still to come of a path of the base law, and its mean on the scale of products.

With :math:`G_t = \sum_{s > t} \log \phi_s` of a path, the loss

.. math:: E_{p_0}\bigl[ e^{G_t - \log C_{t+1}} - (G_t - \log C_{t+1}) - 1 \bigr]

is least where :math:`C_{t+1} = E[e^{G_t} \mid x_{0:t}]`, which is the soft value; it is convex in :math:`\log C`, and does not
need Z. Nothing in it depends on the proposal, so that paths can be drawn once and used for all steps.

Sources: Varian (1975) for the linear-exponential loss; Li et al. (2024) for the soft value of diffusions.
"""

from typing import override

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.compose import Composed
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, Int, KeyArray, Scalar
from smcinfer.ground.programs import compiled
from smcinfer.twists.learned import LearnedTwist, Seen, attach
from smcinfer.twists.objectives.base import Objective, Sample
from smcinfer.twists.paths import Paths, watch

# Where a path earned this many nats more than foreseen the loss goes on along its tangent: no path must rule a batch.
LARGEST_SURPRISE = 4.0


class Ahead(eqx.Module):
    """Places on paths of the base law, and what the paths earned from there on.

    Attributes:
        t: Int["S"], the steps before the last.
        seen: what the twist sees after each of them, leaves ``(S, K, ...)``.
        to_come: Float["S K"], the sum of the log potentials still to come, nats.
    """

    t: Int[Array, " S"]
    seen: Seen
    to_come: Float[Array, "S K"]

    @classmethod
    def of(cls, paths: Paths) -> "Ahead":
        """The places on some paths."""
        to_come = jnp.cumsum(paths.log_potential[:0:-1], axis=0)[::-1]
        return cls(paths.t[:-1], jax.tree.map(lambda leaf: leaf[:-1], paths.after), to_come)


class LinearExponential(Objective):
    """``"linex"``: log C of paths of the base law, drawn once, against what they still earned (module equation).

    Attributes:
        num_paths: drawn before the first step, for all of them. For a family every step draws its own.
        batch_size: places on them that a step looks at, over all times.
    """

    num_paths: int = eqx.field(static=True, default=4096)
    batch_size: int = eqx.field(static=True, default=512)

    def __check_init__(self) -> None:
        for name, value in {"num_paths": self.num_paths, "batch_size": self.batch_size}.items():
            validate.count(name, value)

    @override
    def prepare(self, key: KeyArray, model: Composed, twist: LearnedTwist) -> Ahead:
        return _ahead(key, model, twist, self.num_paths)

    @override
    def __call__(self, twist: LearnedTwist, sample: Sample) -> Scalar:
        ahead: Ahead = Ahead.of(sample.base.paths) if sample.prepared is None else sample.prepared
        steps, size = ahead.to_come.shape
        step_key, path_key = jax.random.split(sample.key)
        step = jax.random.randint(step_key, (self.batch_size,), 0, steps)
        path = jax.random.randint(path_key, (self.batch_size,), 0, size)
        seen = jax.tree.map(lambda leaf: leaf[step, path], ahead.seen)
        surprise = ahead.to_come[step, path] - jax.vmap(twist.log_mean)(ahead.t[step] + 1, seen)
        inside = jnp.minimum(surprise, LARGEST_SURPRISE)
        slope = jnp.exp(LARGEST_SURPRISE) - 1.0
        return jnp.mean(jnp.exp(inside) - inside - 1.0 + slope * (surprise - inside))


@compiled
def _ahead(key: KeyArray, model: Composed, twist: LearnedTwist, num_paths: int) -> Ahead:
    """Only what the loss reads leaves the compiled program: points of long paths are large."""
    return Ahead.of(watch(key, attach(model, None), twist, num_paths, resample_below=0.0).paths)
