r"""Reward alignment: the samples of a diffusion model under a reward, with the normaliser that says how rare they are.

.. math:: \pi(x_{0:T}) \propto p_\theta(x_{0:T}) \exp\bigl( r(x_T) / \alpha \bigr), \qquad
          Z = E_{p_\theta}\bigl[ e^{r(x_T) / \alpha} \bigr]

The base law is the reverse chain itself, discretised as it will be run: the weights are exact ratios, and Z_hat is
unbiased for that chain whatever the number of steps. How far the chain's own samples are from the data is the model's
affair.
"""

from typing import Any, override

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core.compose import Composed, compose
from smcinfer.core.feynman_kac import Population
from smcinfer.core.plan import Plan
from smcinfer.diffusion import potentials
from smcinfer.diffusion.looks import Look, OfPoint, RollOut, Tweedie
from smcinfer.diffusion.model import Model, as_model
from smcinfer.diffusion.potentials import PathPotential
from smcinfer.diffusion.process import Reverse, reverse_process
from smcinfer.diffusion.proposals import Controlled, FromNoise, GradientGuided, InitialDraw, Prior, SoftSelection
from smcinfer.diffusion.reverse import ReverseKernel
from smcinfer.diffusion.rewards import Reward, as_reward, signal
from smcinfer.diffusion.tempered import REWARDED, Rises, TemperedAlignment, evaluations, samples, watch
from smcinfer.diffusion.watched import Watched
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, Int, Particles
from smcinfer.ground.errors import ArgumentError

LOOKS = ("tweedie", "roll_out", "none")
PROPOSALS = ("prior", "gradient", "selection")


class Alignment(Composed):
    """A reverse diffusion under a reward, ready for `smcinfer.sample` (made by `alignment`)."""

    @property
    def plan(self) -> Plan:
        """Particles at the end stand for the samples that the reward asks for."""
        return Plan(REWARDED, label="denoising")

    @property
    def watched(self) -> Watched:
        """The reverse chain, its reward and its look-ahead."""
        process: Any = self.process
        return process

    @property
    def num_evaluations(self) -> int:
        """Evaluations of the network for one particle on the whole way; a gradient costs about twice an evaluation more."""
        children = self.proposal.num_children if isinstance(self.proposal, SoftSelection) else 0
        return evaluations(self.watched, children)

    @override
    def exported(self, particles: Particles) -> dict[str, Any]:
        """The samples, and log phi of each."""
        return samples(super().exported(particles))

    @override
    def record(self, t: Int[Array, ""], population: Population) -> dict[str, Any]:
        """The weighted mean and the largest of the values, log phi foreseen from every point, nats."""
        del t
        particles: Any = population.particles
        return watch(particles.state, population.log_weights)


def alignment(
    model: Model,
    reward: Any,
    temperature: float = 1.0,
    *,
    num_steps: int = 100,
    times: Any = None,
    kernel: str | ReverseKernel = "ddpm",
    start_std: float | None = None,
    look: Any = "tweedie",
    potential: str | PathPotential = "difference",
    every: int = 1,
    strength: Any = None,
    proposal: Any = "prior",
    num_children: int = 4,
    initial: InitialDraw | None = None,
    tempering_ess: float = 0.9,
    led: bool = True,
) -> Alignment | TemperedAlignment:
    r"""The samples of a diffusion model under a reward, as a target for `smcinfer.sample`.

    .. math:: \pi(x_{0:T}) \propto p_\theta(x_{0:T}) \exp\bigl( r(x_T) / \alpha \bigr)

    Args:
        model: made by `diffusion_model` (or `classifier_free`).
        reward: ``x -> Float[""]``, a JAX function of one sample; `on_host` of a function outside JAX, without gradient;
            or `measurement` or `inpainting`.
        temperature: alpha; smaller asks more. Negative looks for low rewards.
        num_steps, times, kernel, start_std: the reverse chain, as in `reverse_process`. Z is of this chain: ``DDPM(d)``, for
            data of standard deviation d, is nearer to the data than ``"ddpm"``, whose d is zero.
        look: what stands for the reward before the end: ``"tweedie"``, ``"roll_out"``, ``"none"`` (importance sampling) or a
            `Look` (`RollOut`), or a function ``(x, time) -> Float[""]`` in nats (`SoftValue`).
        potential: how values on the way weigh: ``"difference"``, ``"max"`` or ``"sum"``, all with their terminal correction.
        every: the look-ahead is asked every so many steps.
        strength: Float["T+1"], what values on the way are multiplied by, or one number. ``"signal"`` is (1 + rho^2)^-2 at noise
            ratio rho, so that a guess made from noise counts for little; ``"ess"`` lets the particles find it by bisection.
            Where ``None``, as far as the look-ahead is to be trusted (`Look.strength`): ``"signal"`` where a reward is
            asked of the mean of the data, one for measurements and learned values.
        proposal: ``"prior"``, ``"gradient"`` (the twisted diffusion sampler), ``"selection"`` among ``num_children``, or a
            control ``(x, time) -> Float["*shape"]`` whose drift is added.
        num_children: M of ``"selection"``.
        initial: ``key -> (x, log_w)``, a weighted draw of the noise at step 0 instead of the chain's own.
        tempering_ess: with ``strength="ess"``, the fraction of N that one rise may cost.
        led: with ``strength="ess"``, whether one run more chooses for all, which keeps Z_hat unbiased exactly.

    Returns:
        An `Alignment`. The particles' ``x`` at the end are the samples; log Z is of :math:`E[e^{r / \alpha}]`. The
        history has ``value_mean`` and ``value_best``.

    Raises:
        ArgumentError, TargetError: before any work: a temperature of zero, a reward that is not scalar or not finite, a
            gradient asked of a reward that has none, unknown names.

    Properly weighted for: :math:`p_\theta(x_{0:T})\, e^{r(x_T) / \alpha}`, whatever look-ahead, potential and proposal.

    Source: Wu et al. (2023) for the twist and its drift; Singhal et al. (2025) for the potentials; Li et al. (2024) for the
    selection; Kim, Kim & Park (2025) for tempering.
    """
    terms = as_reward(reward, temperature, as_model(model).shape)
    watcher = _look(look, terms, model)
    gradient = isinstance(proposal, str) and proposal == "gradient"
    _check_choices(watcher, proposal, gradient, every)
    path = potentials.by_name(potential)
    chain = reverse_process(model, num_steps, times=times, kernel=kernel, start_std=start_std)
    adaptive = isinstance(strength, str) and strength != "signal"
    strengths = None if adaptive or watcher is None else _strengths(strength, chain, watcher)
    process = Watched(
        chain,
        terms,
        look=watcher,
        path=None if watcher is None or adaptive else path,
        strengths=strengths,
        differentiate=gradient,
        every=every,
    )
    if adaptive:
        return _tempered(process, strength, path, proposal, initial, tempering_ess, led)
    mover = _proposal(process, proposal, num_children, initial)
    twist = None if watcher is None else process.log_twist
    made = compose(process, process.log_potential, twist, mover, num_steps=process.num_steps)
    return Alignment.extending(made)


def _look(look: Any, reward: Reward, model: Model) -> Look | None:
    if isinstance(look, Look):
        return look
    if not isinstance(look, str) and callable(look):
        return OfPoint(look)
    if not isinstance(look, str) or look not in LOOKS:
        raise ArgumentError(
            "unknown look-ahead", expected=" | ".join(LOOKS) + ", a Look or a function (x, time)", got=repr(look)
        )
    return {"tweedie": Tweedie(reward, model), "roll_out": RollOut(reward, model), "none": None}[look]


def _check_choices(look: Look | None, proposal: Any, gradient: bool, every: int) -> None:
    if isinstance(proposal, str) and proposal not in PROPOSALS:
        raise ArgumentError("unknown proposal", expected=" | ".join(PROPOSALS) + ", or a control", got=repr(proposal))
    if not (isinstance(proposal, str) or callable(proposal)):
        raise ArgumentError(
            "proposal is neither a name nor a control", expected="(x, time) -> array", got=repr(proposal)
        )
    validate.count("every", every)
    if look is None and (gradient or proposal == "selection"):
        raise ArgumentError(
            f"the proposal {proposal!r} needs a look-ahead", expected="look='tweedie', say", got="look='none'"
        )
    if gradient and look is not None and not look.differentiable:
        raise ArgumentError(
            "this reward has no gradient",
            expected="proposal='prior' or 'selection'",
            got="proposal='gradient' of a reward on the host",
            hint="a learned soft value stands in: look=soft_value(...)",
        )
    if gradient and every > 1:
        raise ArgumentError("a drift needs the look-ahead at every step", expected="every=1", got=every)


def _strengths(strength: Any, chain: Reverse, look: Look) -> Float[Array, " num_times"]:
    num_steps = chain.num_steps
    if strength is None or isinstance(strength, str):
        trust = look.strength if strength is None else signal
        return jax.vmap(trust)(jax.vmap(chain.model.schedule.noise_ratio)(chain.times))
    values = np.broadcast_to(np.asarray(strength, float), (num_steps + 1,)) if np.ndim(strength) == 0 else strength
    strengths = jnp.asarray(values, float)
    if strengths.shape != (num_steps + 1,) or not bool(jnp.all(jnp.isfinite(strengths))):
        raise ArgumentError(
            "strength has the wrong shape or is not finite",
            expected=f"one number, or {num_steps + 1} of them, one a step",
            got=strengths.shape,
        )
    return strengths


def _proposal(process: Watched, proposal: Any, num_children: int, initial: InitialDraw | None) -> FromNoise:
    if not isinstance(proposal, str):
        return Controlled(process, proposal, initial)
    match proposal:
        case "gradient":
            return GradientGuided(process, initial)
        case "selection":
            validate.count("num_children", num_children)
            return SoftSelection(process, process.log_twist, initial, num_children)
    return Prior(process, initial)


def _tempered(
    process: Watched,
    strength: str,
    path: PathPotential,
    proposal: Any,
    initial: InitialDraw | None,
    tempering_ess: float,
    led: bool,
) -> TemperedAlignment:
    if strength != "ess":
        raise ArgumentError("unknown strength", expected="numbers, 'signal', or 'ess' to find them", got=repr(strength))
    wrong = process.look is None or process.every > 1 or initial is not None or proposal not in ("prior", "gradient")
    if wrong or not isinstance(path, potentials.Difference):
        raise ArgumentError(
            "the strength can only be found for the difference potential with a look-ahead at every step",
            expected="proposal='prior' or 'gradient', potential='difference', every=1, a look-ahead, no initial draw",
            got=f"proposal={proposal!r}, potential={type(path).__name__}, every={process.every}",
        )
    validate.number("tempering_ess", tempering_ess, above=0.0, below=1.0)
    validate.flag("led", led)
    ratios = jax.vmap(process.model.schedule.noise_ratio)(process.times)
    caps = (1.0 / (1.0 + ratios**2)).at[-1].set(1.0)
    return TemperedAlignment(process, proposal == "gradient", schedule=Rises(caps, tempering_ess), led=led)
