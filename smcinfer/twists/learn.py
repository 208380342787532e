"""The front door of learning: one call for every family of models and every objective."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core.compose import Composed
from smcinfer.ground import validate as checked
from smcinfer.ground.arrays import Float, Int, Scalar
from smcinfer.ground.cache import use_cache
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.ground.programs import compiled
from smcinfer.run.fit import fit
from smcinfer.run.runner import as_typed_key
from smcinfer.twists.controlled import controlled
from smcinfer.twists.family import Family
from smcinfer.twists.gap import bounds_over, shortfall
from smcinfer.twists.learned import LearnedTwist, attach
from smcinfer.twists.objectives import Objective, Sample, by_name
from smcinfer.twists.paths import watch
from smcinfer.twists.quadratic import QuadraticTwist
from smcinfer.twists.units import units


@dataclasses.dataclass(frozen=True)
class Learned:
    """A learned twist and how it came about.

    Attributes:
        twist: the best twist by validation; the last where nothing was validated.
        objective: its name.
        losses: Float["steps"], of every step.
        check_steps: Int["checks"], steps after which it was validated.
        checks: Float["checks"], the gap between the bounds on log Z, nats; where no exact draws can be had, minus the lower
            bound.
        stopped_early: whether patience ran out.
        seconds: wall time, compiling included.
    """

    twist: Any
    objective: str
    losses: Float[np.ndarray, " steps"]
    check_steps: Int[np.ndarray, " checks"]
    checks: Float[np.ndarray, " checks"]
    stopped_early: bool
    seconds: float

    def attach(self, model: Composed) -> Composed:
        """The model with this twist and its proposal (`smcinfer.twists.attach`)."""
        return attach(model, self.twist)

    def __str__(self) -> str:
        if self.objective == "controlled":
            seen = ", ".join(f"{-check:.2f}" for check in self.checks)
            head = f"twist learned by controlled: {type(self.twist).__name__}, {len(self.checks)} regressions"
            return f"{head}, {self.seconds:.0f} s\n  log Z of the runs they learned from: {seen}"
        lines = [
            f"twist learned by {self.objective}: {type(self.twist).__name__}, {len(self.losses)} steps, {self.seconds:.0f} s"
        ]
        if len(self.checks):
            best = int(np.nanargmin(self.checks))
            lines.append(
                f"  validation {self.checks[0]:.3f} -> {self.checks[best]:.3f} nats after {self.check_steps[best]} steps"
            )
        if self.stopped_early:
            lines.append("  stopped early: no better for as long as patience allowed")
        return "\n".join(lines)


def learn(
    key: Any,
    target: Any,
    objective: str | Objective = "ctl",
    *,
    twist: LearnedTwist | None = None,
    num_particles: int = 64,
    num_steps: int = 1000,
    exact_draw: Callable[[Any], Any] | None = None,
    num_contexts: int = 16,
    resample_below: float = 0.5,
    learning_rate: float = 3e-3,
    validate: bool = True,
    validation_particles: int = 16,
    validation_runs: int = 32,
    check_every: int = 100,
    patience: int | None = None,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 30.0,
) -> Learned:
    """Learn a twist for a target, or for a family of them.

    Args:
        key: one random key; the same key gives the same twist bit for bit, resumed or not.
        target: made by `compose`, `state_space`, `language.generation`, `diffusion.alignment` or
            `diffusion.corrected` (a twist that it has already is put aside); or a `Family` of such targets.
        objective: ``"ctl"``, ``"dpg"``, ``"nasmc"``, ``"sixo"``, ``"fudge"``, ``"rl"``, ``"pcl"``, ``"subtb"``; ``"linex"``,
            which asks nothing of the proposal and is the one for a `diffusion.soft_value`; an `Objective` with settings of
            its own; or ``"controlled"``: backward regressions of a quadratic twist instead of gradient steps, ``num_steps``
            of them (six are many).
        twist: where to start; for Gaussian transitions a flat `QuadraticTwist` by default, in units measured on a run.
        num_particles: of each run that is learned from, and exact draws at a time.
        num_steps: gradient steps.
        exact_draw: ``key -> path``, an exact draw of the target (x_0 .. x_T as in `smcinfer.bounds.sandwich`): the positives
            of ctl, dpg and sixo, more paths for rl, pcl and subtb, and the upper bound in validation. A family has its own.
        num_contexts: of a family, contexts a step; each brings one exact draw, and runs of ``num_particles`` where the
            objective wants any.
        resample_below: of runs with the twist, while learning and validating; 0 for dpg, nasmc and modified subtb, which learn
            a proposal and no values: use theirs so.
        learning_rate: of Adam, decaying along a cosine.
        validate: whether to measure, every ``check_every`` steps, the gap between the bounds on log Z with
            ``validation_particles``, over ``validation_runs`` runs (for a family, contexts), always with the same key; the
            best twist is returned.
        validation_particles, validation_runs: see there.
        check_every: steps between two looks of the host.
        patience: validations without a new best after which to stop.
        progress: draw a bar on stderr.
        checkpoint: a file to resume from and to save to.
        checkpoint_seconds: least time between two writes, seconds.

    Returns:
        `Learned`; `attach` puts its twist on a model.

    Raises:
        ArgumentError: for settings out of range, a target of another kind, or an objective that needs what is not given.
        TargetError: for a twist that does not fit the target, or a loss that is not finite.
        CheckpointError: for a checkpoint that is damaged or of another training.

    Source: Zhao, Brekelmans, Makhzani & Grosse (2024); Heng, Bishop, Deligiannidis & Doucet (2020).
    """
    key = as_typed_key(key)
    use_cache()
    if not isinstance(target, Composed | Family):
        raise ArgumentError(
            "target is nothing that a twist can be learned for",
            expected="a model made by compose, state_space, language.generation or diffusion, or a twists.Family",
            got=type(target).__name__,
        )
    for name, value in {"num_particles": num_particles, "num_steps": num_steps, "num_contexts": num_contexts}.items():
        checked.count(name, value)
    checked.number("learning_rate", learning_rate, above=0.0)
    checked.fraction("resample_below", resample_below)
    if patience is not None:
        checked.count("patience", patience)
    unit_key, fit_key, check_key = jax.random.split(key, 3)
    if isinstance(target, Composed):
        target = attach(target, None)
        if twist is None:
            twist = QuadraticTwist.flat(*units(unit_key, target, num_particles))
    elif exact_draw is not None:
        raise ArgumentError("a family brings its own exact draws", expected="exact_draw=None", got=exact_draw)
    if twist is None:
        raise ArgumentError(
            "a family needs a twist to start from", expected="twist=..., which reads a context", got=None
        )
    if objective == "controlled":
        return _controlled(fit_key, target, twist, num_particles, num_steps, resample_below)
    rule = by_name(objective)
    if rule.needs_bounded:
        _check_bounded(unit_key, target, twist, num_particles)
    # Where only the proposal is learned, resampling has nothing to look at before the end.
    below = resample_below if rule.learns_values else 0.0
    ready = rule.prepare(jax.random.fold_in(unit_key, 1), target, twist) if isinstance(target, Composed) else None
    problem = (target, exact_draw, ready)

    def loss(module: Any, key: Any, problem: Any) -> Scalar:
        goal, draw, ready = problem
        if isinstance(goal, Composed):
            many = None if draw is None else lambda key: jax.vmap(draw)(jax.random.split(key, num_particles))
            return rule(module, Sample(key, goal, module, num_particles, below, many, rule.stop_symbol, ready))

        def one(key: Any) -> Scalar:
            draw_key, sample_key = jax.random.split(key)
            context, path = goal.simulate(draw_key)
            given = module.given(context)
            model = attach(goal.build(context), None)
            alone = jax.tree.map(lambda leaf: leaf[None], path)
            return rule(
                given, Sample(sample_key, model, given, num_particles, below, lambda _: alone, rule.stop_symbol)
            )

        return jnp.mean(jax.vmap(one)(jax.random.split(key, num_contexts)))

    def check(module: Any) -> float:
        if isinstance(target, Composed):
            sizes = (validation_particles, validation_runs, below)
            return float(shortfall(check_key, target, module, exact_draw, *sizes))
        lower, upper = bounds_over(check_key, target, module, validation_particles, validation_runs, below)
        return float(jnp.mean(upper - lower))

    fitted = fit(
        fit_key,
        twist,
        loss,
        problem,
        num_steps=num_steps,
        learning_rate=learning_rate,
        validate=check if validate else None,
        check_every=check_every,
        patience=patience,
        progress=progress,
        checkpoint=checkpoint,
        checkpoint_seconds=checkpoint_seconds,
        description="learning a twist",
    )
    name = objective if isinstance(objective, str) else type(objective).__name__
    return Learned(
        fitted.module, name, fitted.losses, fitted.check_steps, fitted.checks, fitted.stopped_early, fitted.seconds
    )


def _controlled(
    key: Any, target: Composed | Family, twist: LearnedTwist, num_particles: int, num_steps: int, resample_below: float
) -> Learned:
    """Backward regressions, as many as ``num_steps`` says."""
    if not (isinstance(target, Composed) and isinstance(twist, QuadraticTwist)):
        raise ArgumentError(
            "controlled regressions fit quadratic twists of one target",
            expected="a model with Gaussian transitions and twist=None, or a QuadraticTwist",
            got=(type(target).__name__, type(twist).__name__),
        )
    started = time.perf_counter()
    better, log_z = controlled(key, target, twist, num_particles, num_steps, resample_below)
    checks = -np.asarray(log_z, np.float64)
    # The run that a regression learns from measures the twist before it.
    return Learned(
        better, "controlled", np.zeros(0), np.arange(num_steps), checks, False, time.perf_counter() - started
    )


def _check_bounded(key: Any, target: Composed | Family, twist: LearnedTwist, num_particles: int) -> None:
    """Probabilities are learned of potentials that are probabilities, by twists that are."""
    if not twist.bounded:
        raise ArgumentError(
            "the objective learns a probability, and the twist is not bounded by one",
            expected="a twist that is, linear_head(..., bounded=True) say",
            got=type(twist).__name__,
        )

    @compiled
    def largest(target: Composed | Family, twist: LearnedTwist, key: Any) -> Scalar:
        if isinstance(target, Family):
            context, _ = target.simulate(key)
            target, twist = target.build(context), twist.given(context)
        paths = watch(key, attach(target, None), twist, num_particles, resample_below=0.0).paths
        return jnp.max(jnp.cumsum(paths.log_potential[::-1], axis=0))

    found = float(largest(target, twist, key))
    if found > 0.0:
        raise TargetError(
            "the objective learns a probability, and the potentials' product exceeds one",
            expected="log potentials that sum to at most 0",
            got=f"{found:.3g} nats on some path of the base law",
            hint="take the largest value off the potential, or choose another objective",
        )
