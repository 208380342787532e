"""Chains that start where the tries of the whole population say."""

from typing import Any

import jax

from smcinfer.core.resampling import by_name
from smcinfer.core.weights import log_mean_exp
from smcinfer.diffusion.alignment import Alignment
from smcinfer.diffusion.initial.noise import Foreseen
from smcinfer.ground.arrays import KeyArray, LogWeights, Particles
from smcinfer.ground.slices import each


class Pooled(Alignment):
    r"""An alignment whose N particles start from chains, the chains from N of all N M tries (made by `chains`).

    .. math:: \log w = \log \tfrac{1}{NM} \textstyle\sum_{m} e^{\kappa V(\xi_m)} - \kappa V(x_K)

    One step of sequential Monte Carlo before the path: weigh the tries, resample, move. :math:`\hat Z` stays unbiased.
    """

    def draw_initial(self, key: KeyArray, num_particles: int) -> tuple[Particles, LogWeights]:
        """The ends of the chains and their log weights."""
        proposal: Any = self.proposal
        chain = proposal.start
        tries_key, choice_key, walk_key = jax.random.split(key, 3)
        tries = chain.prior(tries_key, num_particles * chain.first.num_tries)
        worth = chain.share * each(Foreseen(chain.process))(tries)
        starts = tries[by_name("systematic")(choice_key, worth, num_particles)]
        _, ends = each(chain.walk)(jax.random.split(walk_key, num_particles), starts)
        return jax.vmap(chain.as_point)(ends.position), log_mean_exp(worth) - chain.share * ends.log_potential


def pool(target: Alignment) -> Pooled:
    """The target with the tries of its chains pooled."""
    return Pooled.extending(target)
