r"""State-space models: a hidden Markov process seen through noise, as a Feynman-Kac model.

.. math::
    x_0 \sim f_0, \quad x_t \sim f_t(\cdot \mid x_{t-1}), \quad y_t \sim g_t(\cdot \mid x_t), \qquad
    Z = p(y_{0:T}), \quad \pi_t = p(x_{0:t} \mid y_{0:t})

The observation densities are the potentials, so the run's particles after step t are weighted for the filter and log Z
is the log likelihood.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import Distribution

from smcinfer.core.compose import Composed, compose
from smcinfer.core.feynman_kac import Mutation, Population
from smcinfer.core.nouns import Bootstrap, Guided, Process, Proposal
from smcinfer.core.plan import Plan
from smcinfer.core.weights import normalise
from smcinfer.ground import dates, validate
from smcinfer.ground.arrays import Flag, Float, KeyArray, LogWeights, Particles, PyTree, Scalar, Time
from smcinfer.ground.errors import ArgumentError, TargetError, calling
from smcinfer.ground.labels import as_json, index_of
from smcinfer.ground.names import leaves_by_name
from smcinfer.results.forecast import Forecast
from smcinfer.state_space.described import DescribedData, DescribedPaths
from smcinfer.state_space.forecast import forecast, onwards
from smcinfer.state_space.guides import AheadWhereComplete, GuideWhereComplete, WhereComplete
from smcinfer.state_space.joint import as_law
from smcinfer.state_space.known import Informed, Known, read_known
from smcinfer.state_space.observations import Observations, observations
from smcinfer.state_space.observed import Observed, fitted
from smcinfer.state_space.summaries import moments, quantiles
from smcinfer.state_space.supports import check_cover, check_guide


class Dynamics(Process):
    """The hidden process: laws of x_0 and of x_t given x_{t-1}; the state is x itself."""

    initial_law: Distribution
    transition_fn: Callable[[Time, PyTree[Any]], Any]

    def initial(self) -> Distribution:
        """The law of x_0 that the model was made with."""
        return self.initial_law

    def transition(self, t: Time, state: PyTree[Any]) -> Distribution:
        """Law of x_t given x_{t-1}."""
        return as_law(self.transition_fn(t, state), "transition")


class StateSpace(Composed):
    """A state-space model with its data and a way to filter it (made by `state_space`).

    Attributes:
        quantiles: levels of the filter's quantiles that the history keeps, or ``None``.
        described: the data as exports show them.
        known: times and inputs of the steps, where there are any.
    """

    quantiles: tuple[float, ...] | None = eqx.field(static=True, default=None)
    known: Known | None = None
    described: DescribedData | None = eqx.field(static=True, default=None)

    @property
    def plan(self) -> Plan:
        """Particles at the end stand for the filter."""
        told = self.described
        times = {} if told is None or told.times is None else {"times": as_json(told.times)}
        return Plan(
            "the filter at the end, p(x_T | y_0:T); log Z is the log likelihood of the data",
            label="filtering",
            name="filter",
            details={"quantiles": self.quantiles} | times,
        )

    @property
    def observations(self) -> Observations:
        """The data y_0 .. y_T."""
        potential: Any = self.potential
        return potential.data

    @property
    def one_state(self) -> PyTree[Any]:
        """Shapes and dtypes of one state."""
        process: Any = self.process
        return jax.eval_shape(lambda key: process.initial().sample(key), jax.random.key(0))

    @property
    def described_paths(self) -> DescribedPaths:
        """What the model tells of paths of its states (`Smoothed.to_arviz`)."""
        potential: Any = self.potential
        times = None if self.described is None else self.described.times
        return DescribedPaths(self.observations, times, potential, self.one_state)

    def observation(self, t: Time, x: PyTree[Any]) -> Distribution:
        """Law of y_t given x_t."""
        potential: Any = self.potential
        return as_law(potential.observation(t, x), "observation")

    def forecast(
        self,
        key: KeyArray,
        particles: Mapping[str, Any],
        log_weights: Float[np.ndarray, "num_runs num_particles"],
        horizon: int,
        num_draws: int,
        settings: dict[str, Any],
        times: Any = None,
        inputs: PyTree[Any] = None,
    ) -> Forecast:
        """What follows the data, from the particles of a result (`Result.forecast`).

        Args:
            key: one random key.
            particles: of the last step by name, each ``(num_runs, num_particles, ...)``.
            log_weights: over all runs together, nats.
            horizon: steps ahead.
            num_draws: paths.
            settings: of the result.
            times, inputs: of the steps to come, where the model has any.
        """
        states = jax.tree.unflatten(jax.tree.structure(self.one_state), list(particles.values()))
        labels = None if self.described is None else self.described.times
        to_come = {"times": as_json(dates.onwards(labels, validate.count("horizon", horizon)))}
        model = onwards(self, self.num_steps + 1, horizon, times, inputs, self.known.clock if self.known else None)
        return forecast(key, model, states, log_weights, self.num_steps, horizon, num_draws, settings | to_come)

    def informative(self, t: Time) -> Flag | None:
        """Whether anything was observed at t: where nothing was, a bootstrap filter's particles move and no more."""
        plain = isinstance(self.proposal, Bootstrap) and self.ahead is None and self.twist is None
        return self.observations.anything_at(t) if plain else None

    def start(self, x: Particles, log_w: LogWeights) -> Mutation:
        """Particles at given x_0, weighted by y_0 and what the draws weigh.

        Raises:
            TargetError: the model was made without data.
        """
        self.check_data()
        return super().start(x, log_w)

    def check_data(self) -> None:
        """Raise `TargetError` where the model was made without data."""
        if self.observations.awaited:
            raise TargetError(
                "the model has no data",
                expected="state_space(initial, transition, observation, data)",
                got="data=None",
                hint="smcinfer.online filters observations one by one, as they come",
            )

    def record(self, t: Time, population: Population) -> dict[str, Any]:
        """Mean, standard deviation and, where asked for, quantiles of the filter p(x_t | y_0:t)."""
        del t
        particles: Any = population.particles
        # Weights hold the twist too, which looks at data to come.
        log_weights, _ = normalise(population.log_weights - particles.log_twist)
        mean, sd = moments(particles.state, log_weights)
        kept = {"filtered_mean": mean, "filtered_sd": sd}
        if self.quantiles is not None:
            kept["filtered_quantiles"] = quantiles(particles.state, log_weights, self.quantiles)
        return kept


def state_space(
    initial: Any,
    transition: Callable[[Time, PyTree[Any]], Any],
    observation: Callable[[Time, PyTree[Any]], Any],
    data: PyTree[Any] = None,
    *,
    times: Any = None,
    inputs: PyTree[Any] = None,
    missing: str = "refuse",
    proposal: Callable[[Time, PyTree[Any], PyTree[Any]], Any] | None = None,
    initial_proposal: Any = None,
    look_ahead: Callable[[Time, PyTree[Any], PyTree[Any]], Scalar] | None = None,
    twist: Callable[[Time, PyTree[Any]], Scalar] | None = None,
    quantiles: tuple[float, ...] | None = None,
) -> StateSpace:
    """A state-space model, checked before any work, ready for `smcinfer.sample`.

    Everything is written for one particle. A distribution stands everywhere for itself or, where states or observations
    are trees, for a tree of independent ones: ``{"level": dist.Normal(...), "slope": dist.Normal(...)}``.

    Args:
        initial: law of x_0.
        transition: ``(t, x) -> law`` of x_t given x = x_{t-1}, t = 1 .. T (an integer scalar, traced).
        observation: ``(t, x) -> law`` of y_t given x = x_t, t = 0 .. T.
        data: y_0 .. y_T: an array, a list of numbers, a column of a table, or a tree of them, with leading axis T + 1. The
            index of a pandas column, dates say, is the axis of time in exports. ``None`` for a model whose observations come
            one by one (`smcinfer.online`).
        times: (T+1,) of the observations, increasing, numbers in a unit of your own. All functions but the twist get one more
            argument, ``now``, with ``now.time`` and ``now.dt``, the time since the step before (zero at step 0).
        inputs: what acts on the process from outside: an array or a tree of them with leading axis T + 1. All functions but
            the twist get one more argument, ``now``, with ``now.inputs``, the row of the step. Without data, arrays of no rows.
        missing: ``"refuse"`` raises where a number is missing: NaN, ``None``, an entry of a masked array, NA of a nullable
            column. ``"skip"`` takes it for what was not observed: log potential zero. Single coordinates may be missing
            where the observation's law makes them independent, or is a `MultivariateNormal`, which they leave exactly.
        proposal: ``(t, x, y) -> law`` to draw x_t from, given x_{t-1} and y_t (the guided filter); it must cover the
            transition. Where part of y_t is missing the transition itself is drawn from.
        initial_proposal: law to draw x_0 from instead of ``initial``; it must cover it.
        look_ahead: ``(t, x, y) -> Float[""]``, a guess of log p(y_t | x_{t-1} = x), nats, that resampling sees before step t
            (the auxiliary filter of Pitt & Shephard 1999). Zero where part of y_t is missing.
        twist: ``(t, x) -> Float[""]``, log psi_t(x): a guess of log p(y_{t+1:T} | x_t = x), nats. A `Twist` that has
            ``next`` brings the proposal it induces.
        quantiles: levels in [0, 1] of the filter to record at every step, besides mean and standard deviation; they cost
            one sort a step.

    Returns:
        A `StateSpace`. Its history has ``filtered_mean``, ``filtered_sd`` (and ``filtered_quantiles``) of p(x_t | y_0:t).

    Raises:
        TargetError: if a part of the model does not keep its contract.
        ArgumentError: for data or settings that cannot be right.

    Properly weighted for: p(x_{0:T}, y_{0:T}), whatever the proposal, the look-ahead and the twist; Z_hat is unbiased for
    the likelihood p(y_{0:T}).

    Source: Gordon, Salmond & Smith (1993); Doucet, Godsill & Andrieu (2000) for guided proposals.
    """
    levels = None if quantiles is None else _levels(quantiles)
    told = None if times is None and inputs is None else _known(times, inputs, data)
    functions: list[Any] = [transition, observation, proposal, look_ahead]
    if told is not None:
        functions = [None if function is None else Informed(function, told) for function in functions]
    transition, observation, proposal, look_ahead = functions
    process = Dynamics(as_law(initial, "initial"), transition)
    observed = _checked(process, observation, data, missing)
    mover: Proposal | None = None
    if proposal is not None or initial_proposal is not None:
        mover = _guided(process, observed.data, proposal, initial_proposal)
    ahead = None if look_ahead is None else AheadWhereComplete(look_ahead, observed.data)
    made = compose(process, observed, twist, mover, num_steps=observed.data.num_steps, look_ahead=ahead)
    described = DescribedData(observed.data, index_of(data))
    return StateSpace.extending(made, quantiles=levels, described=described, known=told)


def _known(times: Any, inputs: PyTree[Any], data: PyTree[Any]) -> Known:
    """Times and inputs of as many rows as there are data; of a model without data, one row in their place."""
    if data is None:
        return Known.of(Known.of(read_known(times, inputs, 0)).blank())
    return Known.of(read_known(times, inputs, observations(data, "skip").num_steps + 1))


def _levels(quantiles: Any) -> tuple[float, ...]:
    """Levels of probability, checked."""
    if not isinstance(quantiles, Iterable) or isinstance(quantiles, str) or not list(quantiles):
        raise ArgumentError("quantiles are levels of probability", expected="numbers in [0, 1]", got=quantiles)
    return tuple(validate.fraction("a level of quantiles", level) for level in quantiles)


def _guided(
    process: Dynamics, data: Observations, proposal: Callable[..., Any] | None, initial_proposal: Any
) -> Proposal:
    """The guided proposal, which falls back to the transition where part of an observation is missing."""
    law = None if initial_proposal is None else as_law(initial_proposal, "initial_proposal")
    if law is not None:
        check_cover("initial_proposal", law, "initial", process.initial_law)
    if proposal is None:
        return Guided(process, process.transition, law)
    guide = GuideWhereComplete(proposal, data)
    guided = Guided(process, guide, law)
    with _tracing("proposal"):
        x = jax.eval_shape(lambda key: process.initial().sample(key), jax.random.key(0))
        check_guide(process.transition, guide, x)
    return guided if data.complete is None else WhereComplete(guided, data)


def _tracing(name: str) -> AbstractContextManager[None]:
    """What a user's function raises inside becomes an error that names it."""
    return calling(name, hint="functions get one particle and must be JAX functions of static shape")


def _checked(process: Dynamics, observation: Callable[..., Any], data: PyTree[Any], missing: str) -> Observed:
    """One step on shapes alone, with errors in the words of state-space models; the potential with data that fit it."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    with _tracing("initial"):
        x = jax.eval_shape(lambda key: process.initial().sample(key), key)
    leaves_by_name(x)  # raises where two entries would have one name
    with _tracing("transition"):
        t = jax.ShapeDtypeStruct((), jnp.int32)
        after = jax.eval_shape(lambda key, t, x: process.transition(t, x).sample(key), key, t, x)
    shapes = [jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), tree) for tree in (x, after)]
    if shapes[0] != shapes[1]:
        raise TargetError(
            "initial and transition are laws of different states",
            expected=f"x_1 like x_0: {shapes[0]}",
            got=shapes[1],
            hint="both must have draws of the same structure, shapes and dtypes",
        )
    with _tracing("observation"):
        return fitted(observation, data, missing, x)
