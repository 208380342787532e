"""Initial points chosen among several draws of plain noise, by what the look-ahead makes of them."""

from typing import override

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.feynman_kac import FeynmanKac
from smcinfer.core.weights import log_mean_exp
from smcinfer.diffusion.alignment import Alignment
from smcinfer.diffusion.initial.noise import Foreseen, Noise, process_of, start_from
from smcinfer.diffusion.watched import Watched
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, KeyArray, Scalar


class Selected(Noise):
    r"""One of M draws, in proportion to :math:`e^{\kappa V}`, weighted exactly; or the best of them, which is a search.

    .. math:: \log w = \log \tfrac1M \textstyle\sum_m e^{\kappa V_m} - \kappa V_{\text{chosen}}

    Attributes:
        process, share: as in `Noise`.
        num_tries: M.
        best: whether the largest V is taken; the log weight is then zero.
    """

    process: Watched
    share: Scalar
    num_tries: int = eqx.field(static=True)
    best: bool = eqx.field(static=True)

    @property
    @override
    def num_evaluations(self) -> int:
        return self.num_tries * self.once

    @override
    def __call__(self, key: KeyArray) -> tuple[Array, Scalar]:
        """The chosen draw and its log weight."""
        draw_key, choice_key = jax.random.split(key)
        draws = self.prior(draw_key, self.num_tries)
        worth = self.share * jax.vmap(Foreseen(self.process))(draws)
        if self.best:
            return self.as_point(draws[jnp.argmax(worth)]), jnp.zeros((), worth.dtype)
        chosen = jax.random.categorical(choice_key, worth)
        return self.as_point(draws[chosen]), log_mean_exp(worth) - worth[chosen]


def best_of(target: FeynmanKac, num_tries: int) -> Alignment:
    """The target started from the best of several draws of noise a particle: a search, for comparison.

    Properly weighted for: nothing. What comes out is no sample of the target.
    """
    return start_from(target, tries(target, num_tries, 1.0, best=True))


def selected(target: FeynmanKac, num_tries: int, *, share: float = 1.0) -> Alignment:
    """The target started from one of several draws of noise a particle, chosen in proportion to what it is foreseen to earn.

    Args:
        target: made by `smcinfer.diffusion.alignment`, with a look-ahead.
        num_tries: M, an evaluation each.
        share: kappa.

    Properly weighted for: the target, log Z included.
    """
    return start_from(target, tries(target, num_tries, share))


def tries(target: FeynmanKac, num_tries: int, share: float, *, best: bool = False) -> Selected:
    """The draw itself, its arguments checked.

    Args:
        target: made by `smcinfer.diffusion.alignment`, with a look-ahead.
        num_tries: M, an evaluation each.
        share: kappa.
        best: whether the largest V is taken.
    """
    process, kappa = process_of(target, share)
    validate.count("num_tries", num_tries)
    return Selected(process, kappa, num_tries, best)
