r"""Powers of diffusion models, their products and guidance, as targets with exact weights and a log Z.

.. math:: \pi(x) \propto \prod_i q_i(x)^{b_i}\, e^{r(x) / \alpha}

How such a target is followed from noise to data is in `smcinfer.diffusion.correctors`.
"""

from collections.abc import Callable, Sequence
from typing import Any, override

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core.compose import Composed, compose
from smcinfer.core.feynman_kac import Population
from smcinfer.core.plan import Plan
from smcinfer.diffusion.correctors import Corrector, LogDensity
from smcinfer.diffusion.model import Model, same_space
from smcinfer.diffusion.proposals import Controlled, Prior
from smcinfer.diffusion.rewards import as_reward
from smcinfer.diffusion.schedule import NoiseSchedule, check_schedule
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, Int, Particles
from smcinfer.ground.errors import ArgumentError


class CorrectedTarget(Composed):
    """A corrector as a target (made by `corrected`): its particles at the end are the samples."""

    @property
    def plan(self) -> Plan:
        """Particles at the end stand for the product of powers."""
        words = "the product of the densities' powers times exp(reward / temperature), log Z of its integral; " + (
            "both up to a bias of the order of a step where the log densities were not given"
        )
        return Plan(words, label="denoising")

    @override
    def exported(self, particles: Particles) -> dict[str, Any]:
        state: Any = super().exported(particles)
        return {"x": state.x}

    @override
    def record(self, t: Int[Array, ""], population: Population) -> dict[str, Any]:
        """Where probes are used, the root mean square of the noise they put on the log weights of the next step, nats."""
        del t
        particles: Any = population.particles
        variance = particles.state.probe_variance
        if variance is None:
            return {}
        weights = jnp.exp(population.log_weights)
        return {"probe_noise": jnp.sqrt(jnp.sum(jnp.where(weights > 0, weights * variance, 0.0)))}


def corrected(
    models: Sequence[Model],
    powers: Any,
    *,
    num_steps: int = 500,
    times: Any = None,
    noise_scale: float | str = 1.0,
    num_probes: int | None = None,
    data_std: float = 0.0,
    reward: Any = None,
    temperature: float = 1.0,
    strength: Any = None,
    log_densities: Sequence[LogDensity] | None = None,
    twist: Callable[[Array, Array], Array] | None = None,
    control: Callable[[Array, Array], Array] | None = None,
) -> CorrectedTarget:
    r"""The product of powers of diffusion models, times a reward, as a target for `smcinfer.sample`.

    .. math:: \pi(x) \propto \prod_i q_i(x)^{b_i}\, e^{r(x) / \alpha}

    Args:
        models: of one schedule and shape.
        powers: Float["num_models"], b, their sum above zero; Float["T+1 num_models"] where log densities are given.
        num_steps, times: the grid; ``schedule.log_grid(num_steps)`` where no times are given.
        noise_scale: z, at least zero; or ``"matched"``, which needs the divergence of the scores: one derivative a dimension.
            Exact weights are always matched.
        num_probes: K random probes, at least 2, that estimate the divergence in its place, for many dimensions: K derivatives,
            and a bias of the order of the fourth power of the history's ``probe_noise``. ``None`` for the divergence itself.
        data_std: rough standard deviation of the data around zero: what the start adds to its noise.
        reward, temperature: as in `alignment`; the reward must be differentiable. ``None`` for none.
        strength: Float["T+1"], beta along the path, from 0 to 1; by default the square of the share of the way in the log
            of the noise ratio.
        log_densities: ``(x, time) -> Float[""]`` of every model: weights are then exact ratios, and need no divergence.
        twist: ``(x, time) -> Float[""]``, log psi in nats, a learned one (`soft_value`) say.
        control: ``(x, time) -> Float["*shape"]``, a gradient along which steps drift, its weight exact.

    Returns:
        A model for the driver. log Z is that of the integral above, absolute, up to how far the models at the first time
        are from ``N(0, alpha^2 data_std^2 + sigma^2)``; without that caveat where log densities are given.

    Raises:
        ArgumentError: models that differ in space, powers that do not fit, times that are not monotone.
        TargetError: a reward that breaks its contract.

    Properly weighted for: the product, exactly where log densities are given, else with a bias of the order of the
    step.

    Source: Skreta et al. (2025).
    """
    same_space(*_listed(models))
    schedule = models[0].schedule
    grid = schedule.log_grid(num_steps) if times is None else jnp.asarray(times, float)
    check_schedule(schedule, grid)
    count = grid.shape[0]
    exponents = np.asarray(powers, float)
    varying = exponents.ndim == 2
    if exponents.shape not in ((len(models),), (count, len(models))) or not (exponents.sum(-1) > 0).all():
        raise ArgumentError(
            "powers do not fit the models",
            expected=f"{len(models)} numbers of positive sum, or one such row for each of the {count} times",
            got=exponents.tolist() if exponents.ndim < 2 else exponents.shape,
        )
    if varying and log_densities is None:
        raise ArgumentError(
            "powers that change with time need the log densities, not only the scores",
            expected="log_densities=[(x, time) -> Float['']]",
            got=None,
        )
    if log_densities is not None and len(log_densities) != len(models):
        raise ArgumentError("exact weights need one log density a model", expected=len(models), got=len(log_densities))
    matched = noise_scale == "matched" or log_densities is not None
    if not matched and (isinstance(noise_scale, str) or not noise_scale >= 0):
        raise ArgumentError("unknown noise scale", expected="a number at least zero, or 'matched'", got=noise_scale)
    if num_probes is not None and (num_probes < 2 or noise_scale != "matched" or log_densities is not None):
        raise ArgumentError(
            "probes estimate the divergence that matched noise needs",
            expected="num_probes at least 2, noise_scale='matched' and no log_densities",
            got=f"num_probes={num_probes}, noise_scale={noise_scale!r}",
        )
    validate.number("data_std", data_std, at_least=0.0)
    terms = None if reward is None else as_reward(reward, temperature, models[0].shape)
    if terms is not None and not terms.differentiable:
        raise ArgumentError("the reward of a corrector needs a gradient", expected="a JAX function", got="on_host(...)")
    total = float(exponents.sum(-1).max())
    square = 1.0 / total if matched else float(noise_scale) ** 2
    process = Corrector(
        tuple(models),
        jnp.broadcast_to(jnp.asarray(exponents, float), (count, len(models))),
        grid,
        jnp.asarray((schedule.alpha(grid[0]) * data_std) ** 2 + schedule.sigma(grid[0]) ** 2, float),
        jnp.asarray(square**0.5, float),
        jnp.asarray(square if matched else 0.5 * (1.0 + square), float),
        None if log_densities is None else tuple(log_densities),
        terms,
        _path_of(strength, schedule, grid),
        matched,
        matched and log_densities is None and total != 1.0,
        num_probes or 0,
    )
    proposal = Prior(process) if control is None else Controlled(process, control)
    ahead = None if twist is None else (lambda t, state: twist(state.x, process.times[t]))
    made = compose(process, process.log_potential, ahead, proposal, num_steps=process.num_steps)
    return CorrectedTarget.extending(made)


def power(model: Model, power: float, *, log_density: LogDensity | None = None, **options: Any) -> CorrectedTarget:
    r"""A power of a model's density, :math:`q(x)^b` (see `corrected`).

    Args:
        model: the model.
        power: b, above zero: larger than one sharpens.
        log_density: ``(x, time) -> Float[""]`` of the noised density, where it is known.
        **options: of `corrected`.
    """
    return corrected([model], [power], log_densities=None if log_density is None else [log_density], **options)


def product(models: Sequence[Model], **options: Any) -> CorrectedTarget:
    r"""What several models agree on, :math:`\prod_i q_i(x)` (see `corrected`).

    Args:
        models: of one schedule and shape.
        **options: of `corrected`.
    """
    return corrected(models, [1.0] * len(_listed(models)), **options)


def guided(conditional: Model, unconditional: Model, scale: float, **options: Any) -> CorrectedTarget:
    r"""Classifier-free guidance as it is meant, :math:`q(x)^{1-s} q(x \mid c)^s` (see `corrected`).

    The guided chain (`classifier_free`) does not sample it; the weights make up the difference.

    Args:
        conditional, unconditional: of one schedule and shape.
        scale: s.
        **options: of `corrected`.
    """
    return corrected([conditional, unconditional], [scale, 1.0 - scale], **options)


def _listed(models: Any) -> Sequence[Model]:
    if not isinstance(models, list | tuple) or not models:
        raise ArgumentError("models is no list of models", expected="[model, ...]", got=type(models).__name__)
    return models


def _path_of(strength: Any, schedule: NoiseSchedule, grid: Array) -> Float[Array, " num_times"]:
    if strength is None:
        logs = jnp.log(jnp.maximum(jax.vmap(schedule.noise_ratio)(grid), 1e-12))
        share = (logs[0] - logs[:-1]) / (logs[0] - logs[-2])
        return jnp.append(share**2, 1.0)
    values = jnp.asarray(strength, float)
    if values.shape != grid.shape or float(values[0]) != 0.0 or float(values[-1]) != 1.0:
        raise ArgumentError(
            "strength is no path of the reward", expected=f"{grid.shape[0]} numbers from 0 to 1", got=values.shape
        )
    return values
