r"""Sequences of frames, each sampled by the diffusion model, each started warm from the one before.

.. math::
    x^0 \sim p_\theta, \qquad x^k_{u} = \alpha_u f_k(x^{k-1}) + \sigma_u \varepsilon, \qquad
    x^k \sim p_\theta(\cdot \mid x^k_u), \qquad Z = E\Bigl[ \prod_k \phi_k(x^k) \Bigr]

The warm time u says how far a frame may depart from where the transition f puts it: the reverse chain walks only from
there. All frames are one Feynman-Kac model, a filter whose dynamics is f and the image prior together.
"""

from collections.abc import Callable
from typing import Any, override

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core.compose import Composed, compose
from smcinfer.core.plan import Plan
from smcinfer.diffusion import reverse as reverse_kernels
from smcinfer.diffusion.model import Model, Prediction, as_model
from smcinfer.diffusion.proposals import GradientGuided, Prior
from smcinfer.diffusion.reverse import ReverseKernel
from smcinfer.diffusion.rewards import Measurement, Reward, as_reward, signal
from smcinfer.diffusion.schedule import check_schedule
from smcinfer.diffusion.watched import Steered
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Bool, Float, Int, Particles, Point, Scalar, Time
from smcinfer.ground.errors import ArgumentError


class Frame(eqx.Module):
    """Where one particle of a sequence stands.

    Attributes:
        x, denoised, noise: as in `smcinfer.diffusion.process.Denoising`, of the frame being made.
        value: log phi of the frame foreseen, or of the frame where it is finished, nats.
        gradient: of the value in x, or ``None``; zero at a finished frame.
        frames: Float["num_frames *shape"], the frames finished so far, zeros after.
    """

    x: Point
    denoised: Point
    noise: Point
    value: Scalar
    gradient: Point | None
    frames: Float[Array, " num_frames *shape"]


class Sequence(Steered):
    """Reverse chains one after the other, joined by the transition (made by `sequence`).

    Attributes:
        model, kernel: as in `Reverse`.
        move: ``(k, x) -> x``, where the transition puts frame k given frame k - 1.
        reward: ``(k, x)`` to log phi of frame k, and what is foreseen of it.
        times: Float["T+1"], diffusion time of every step, frame after frame.
        frame: Int["T+1"], which frame a step belongs to.
        warm: Bool["T+1"], steps that start a frame from the last one.
        ends: Bool["T+1"], steps that finish one.
        strengths: Float["T+1"], what is foreseen counts for in the twist.
        start_std: of the noise of the first frame.
        num_frames: how many.
        differentiate: whether the state holds the gradient.
    """

    model: Model
    kernel: ReverseKernel
    move: Callable[[Array, Array], Array]
    reward: "FrameReward"
    times: Float[Array, " num_times"]
    frame: Int[Array, " num_times"]
    warm: Bool[Array, " num_times"]
    ends: Bool[Array, " num_times"]
    strengths: Float[Array, " num_times"]
    start_std: Scalar
    num_frames: int = eqx.field(static=True)
    differentiate: bool = eqx.field(static=True)

    @override
    def moments(self, t: Time, state: Frame) -> tuple[Point, Scalar]:
        """Mean and variance: a step of the reverse chain, or the noised transition to the next frame."""
        schedule = self.model.schedule

        def restart(state: Frame) -> tuple[Point, Scalar]:
            moved = self.move(self.frame[t], state.x)
            return schedule.alpha(self.times[t]) * moved, schedule.sigma(self.times[t]) ** 2

        def step(state: Frame) -> tuple[Point, Scalar]:
            prediction = Prediction(state.denoised, state.noise)
            return self.kernel(prediction, state.x, schedule, self.times[t - 1], self.times[t])

        return jax.lax.cond(self.warm[t], restart, step, state)

    @override
    def advance(self, t: Time, state: Frame | None, x: Point) -> Frame:
        """Run the network, or put a finished frame away."""
        kept = jnp.zeros((self.num_frames, *self.shape), x.dtype) if state is None else state.frames
        k = self.frame[t]

        def finish(x: Point, kept: Array) -> Frame:
            value = jnp.asarray(self.reward.of(k, x), jnp.result_type(float))
            gradient = jnp.zeros_like(x) if self.differentiate else None
            return Frame(x, x, jnp.zeros_like(x), value, gradient, kept.at[k].set(x))

        def on_the_way(x: Point, kept: Array) -> Frame:
            time = self.times[t]

            def watch(x: Point) -> tuple[Scalar, Prediction]:
                prediction = self.model.predict(x, time)
                ratio = self.model.schedule.noise_ratio(time)
                return jnp.asarray(
                    self.reward.foreseen(k, prediction.denoised, ratio), jnp.result_type(float)
                ), prediction

            if not self.differentiate:
                value, prediction = watch(x)
                return Frame(x, prediction.denoised, prediction.noise, value, None, kept)
            (value, prediction), gradient = jax.value_and_grad(watch, has_aux=True)(x)
            return Frame(x, prediction.denoised, prediction.noise, value, gradient, kept)

        return jax.lax.cond(self.ends[t], finish, on_the_way, x, kept)

    def log_twist(self, t: Time, state: Frame) -> Scalar:
        """What is foreseen of the frame being made; zero at a finished one, whose potential has been paid."""
        return jnp.where(self.ends[t], 0.0, self.strengths[t] * state.value)

    def log_potential(self, t: Time, state: Frame) -> Scalar:
        """log phi of a frame where it is finished."""
        return jnp.where(self.ends[t], state.value, 0.0)


class FrameReward(eqx.Module):
    """log phi of frame k: a function of both, or a measurement whose data have an axis of frames first."""

    function: Callable[[Array, Array], Array] | None
    measured: Measurement | None

    def of(self, k: Int[Array, ""], x: Point) -> Any:
        """log phi of a finished frame, nats."""
        return self.function(k, x) if self.function is not None else self._at(k)(x)

    def foreseen(self, k: Int[Array, ""], denoised: Point, noise_ratio: Scalar) -> Any:
        """A guess of log phi of frame k, nats, from the mean of the data.

        Args:
            k: Int[""], the frame.
            denoised: Float["*shape"], the mean of the frame given its noisy point.
            noise_ratio: Float[""], of that point.
        """
        return self.function(k, denoised) if self.function is not None else self._at(k).foreseen(denoised, noise_ratio)

    def strength(self, noise_ratio: Scalar) -> Scalar:
        """How far what is foreseen is trusted: as `Reward.strength`."""
        return signal(noise_ratio) if self.measured is None else self.measured.strength(noise_ratio)

    def _at(self, k: Int[Array, ""]) -> Measurement:
        assert self.measured is not None
        return eqx.tree_at(lambda one: one.y, self.measured, self.measured.y[k])


class SequenceTarget(Composed):
    """A sequence of frames as a target (made by `sequence`)."""

    @property
    def plan(self) -> Plan:
        """Particles at the end stand for sequences of frames."""
        words = "sequences of frames, the model's law times exp(reward); log Z is the log of the mean of that factor"
        return Plan(words, label="denoising")

    @override
    def exported(self, particles: Particles) -> dict[str, Any]:
        state: Any = super().exported(particles)
        return {"frames": state.frames}


def sequence(
    model: Model,
    transition: Callable[[Array, Array], Array],
    reward: Any,
    num_frames: int,
    *,
    warm_time: float,
    num_steps: int = 100,
    num_warm_steps: int = 30,
    kernel: str | ReverseKernel = "ddpm",
    proposal: str = "prior",
) -> SequenceTarget:
    """A sequence of frames under rewards, as one target for `smcinfer.sample` (module equation).

    Args:
        model: made by `diffusion_model`.
        transition: f, ``(k, x) -> x``: where frame k starts from, given frame k - 1.
        reward: ``(k, x) -> Float[""]``, log phi of frame k in nats; or a `measurement` whose y has an axis of frames first.
        num_frames: K.
        warm_time: u, the diffusion time at which later frames start; later means freer.
        num_steps: of the first frame, from pure noise.
        num_warm_steps: of every later one, from ``warm_time``.
        kernel: as in `alignment`.
        proposal: ``"prior"`` or ``"gradient"``.

    Returns:
        A model for the driver; its particles' ``frames`` are the sequences.

    Raises:
        ArgumentError, TargetError: before any work, for arguments that cannot be right.
    """
    schedule = as_model(model).schedule
    validate.count("num_frames", num_frames)
    validate.count("num_warm_steps", num_warm_steps)
    validate.number("warm_time", warm_time)
    if not schedule.cleanest < warm_time < schedule.end:
        raise ArgumentError(
            "warm_time is outside the schedule", expected=f"in ({schedule.cleanest}, {schedule.end})", got=warm_time
        )
    if proposal not in ("prior", "gradient"):
        raise ArgumentError("unknown proposal", expected="prior | gradient", got=repr(proposal))
    first = np.asarray(schedule.grid(num_steps))
    later = np.asarray(schedule.grid(num_warm_steps, begin=warm_time))
    for grid in (first, later):
        check_schedule(schedule, jnp.asarray(grid, float))
    lengths = [first.size] + [later.size] * (num_frames - 1)
    starts = np.cumsum([0, *lengths])
    warm, ends = np.zeros(starts[-1], bool), np.zeros(starts[-1], bool)
    warm[starts[1:-1]], ends[starts[1:] - 1] = True, True
    terms = FrameReward(None, reward) if isinstance(reward, Measurement) else FrameReward(reward, None)
    zero = jnp.zeros((), jnp.int32)
    as_reward(_First(terms, zero), 1.0, model.shape)
    times = jnp.asarray(np.concatenate([first] + [later] * (num_frames - 1)), float)
    process = Sequence(
        model,
        reverse_kernels.by_name(kernel),
        transition,
        terms,
        times,
        jnp.asarray(np.repeat(np.arange(num_frames), lengths), jnp.int32),
        jnp.asarray(warm),
        jnp.asarray(ends),
        jax.vmap(terms.strength)(jax.vmap(schedule.noise_ratio)(times)),
        jnp.asarray(schedule.sigma(jnp.asarray(first[0], float)), float),
        num_frames,
        proposal == "gradient",
    )
    mover = GradientGuided(process) if proposal == "gradient" else Prior(process)
    made = compose(process, process.log_potential, process.log_twist, mover, num_steps=process.num_steps)
    return SequenceTarget.extending(made)


class _First(Reward):
    """The reward of the first frame, for the checks."""

    rewards: FrameReward
    k: Int[Array, ""]
    differentiable: bool = eqx.field(static=True, default=True)

    @override
    def __call__(self, x: Point) -> Any:
        return self.rewards.of(self.k, x)
