"""Samplers of parameters whose data come one by one: what they are as models of the rows that have come so far.

Rows lie in arrays with room for more. The model of a step reads only those that have come, so that one program serves until the
room is doubled.
"""

import abc
import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from smcinfer.core.feynman_kac import FeynmanKac
from smcinfer.core.settings import Settings
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Particles, PyTree, Time
from smcinfer.ground.data import complete
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.kernels import RandomWalk
from smcinfer.kernels.base import Kernel
from smcinfer.kernels.registry import by_name, default_for
from smcinfer.state_space.known import Clock
from smcinfer.state_space.model import StateSpace, state_space
from smcinfer.state_space.online.rows import ENDLESS, Reader, Row, rows_of, through
from smcinfer.state_space.online.step import looking_ahead
from smcinfer.state_space.parameters.parametric import Parametric, Position
from smcinfer.state_space.parameters.pmmh import random_walk
from smcinfer.state_space.parameters.smc2 import SMC2
from smcinfer.static.data_annealing import Batches, DataPath
from smcinfer.static.methods import DataAnnealing
from smcinfer.static.target import StaticTarget


@dataclasses.dataclass(frozen=True)
class NestedFilters:
    """How an online sampler of a state-space model's parameters goes: SMC squared, a filter for each of them.

    Attributes:
        num_inner: particles of each filter.
        num_moves: PMMH steps after a resampling, each a filter of all data so far.
        led: whether one run more chooses for all the others, so that their log Z is exactly unbiased.

    Raises:
        ArgumentError: for a value out of range.
    """

    num_inner: int = 128
    num_moves: int = 3
    led: bool = True

    def __post_init__(self) -> None:
        validate.count("num_inner", self.num_inner)
        validate.count("num_moves", self.num_moves)
        validate.flag("led", self.led)


class Family(abc.ABC):
    """A target whose data come one by one."""

    what: ClassVar[str]
    starts_with_data: ClassVar[bool]
    """Whether the start of a run sees the first row already."""

    @abc.abstractmethod
    def read(self, y: Any, t: int, time: Any, inputs: PyTree[Any], clock: Clock | None) -> tuple[Any, Clock | None]:
        """One observation as a row of arrays with a leading axis of one, checked, and where its times then stand."""

    @abc.abstractmethod
    def blank(self) -> Any:
        """A row that stands for any: its shapes."""

    @abc.abstractmethod
    def given(self) -> tuple[list[Any], Clock | None]:
        """Rows of the data that the target was made with, and where their times end."""

    @abc.abstractmethod
    def model(self, rows: Any) -> FeynmanKac:
        """What runs on these rows, of which those to come hold anything."""

    @abc.abstractmethod
    def reading(self, t: Time, model: Any, particles: Particles) -> Particles:
        """The particles before step t, now that its row is there.

        Args:
            t: Int[""], the step.
            model: of the rows.
            particles: leading axes of runs and particles.
        """

    @abc.abstractmethod
    def ahead(self, particles: Any, log_weights: Any) -> tuple[Any, PyTree[Any], Any]:
        """What a forecast starts from: a model, states of it, and their log weights.

        Args:
            particles: leading axes of runs and particles.
            log_weights: of the particles over all runs, nats.

        Raises:
            TargetError: what comes next does not follow from the target.
        """


class _Fed(Parametric):
    """A model with unknown parameters that sees the rows that have come."""

    rows: Row

    def at(self, position: Position) -> Any:
        """The model at an unconstrained vector."""
        model: Any = super().at(position)
        return through(model, jnp.zeros((), jnp.int32), self.rows)


class ParametersOfFilters(Family):
    """Parameters of a state-space model, by SMC squared.

    Args:
        target: made by `parametric`.
        method: its settings.
        kernel: a `RandomWalk`, or ``None``.
        resampling: name of a scheme, for the inner filters too.

    Raises:
        TargetError: for models that no filter can take online.
    """

    what = "sampler of parameters, each with its filter"
    starts_with_data = True

    def __init__(self, target: Parametric, method: NestedFilters, kernel: RandomWalk | None, resampling: str) -> None:
        self.target, self._method = target, method
        self._walk = random_walk("online", kernel)
        self._inner = Settings(method.num_inner, resampling, history="none")
        base = target.prior
        self._one = untwisted(target.build(base.values(base.sample(jax.random.key(0), 1)[0])))
        self._read = Reader(self._one)

    def read(self, y: Any, t: int, time: Any, inputs: PyTree[Any], clock: Clock | None) -> tuple[Row, Clock | None]:
        """As an online filter reads it."""
        return self._read.told(self._read(y, t), time, inputs, clock)

    def blank(self) -> Row:
        """As an online filter has it."""
        return self._read.blank()

    def given(self) -> tuple[list[Row], Clock | None]:
        """Rows of the models' data."""
        clock = self._one.known.clock if self._one.known else None
        return ([], None) if self._one.observations.awaited else (rows_of(self._one, self._read), clock)

    def model(self, rows: Row) -> SMC2:
        """SMC squared on these rows."""
        fed = _Fed(self.target.prior, self.target.build, ENDLESS, rows)
        return SMC2(fed, self._walk, self._inner, self._method.num_moves, ENDLESS, self._method.led)

    def reading(self, t: Time, model: SMC2, particles: Any) -> Particles:
        """Inner filters that look ahead see the observation that has just come."""

        def one(state: Any) -> Any:
            inner = looking_ahead(t, state.inner, model.target.at(state.position))  # pyright: ignore[reportArgumentType]
            return eqx.tree_at(lambda tree: tree.inner, state, inner)

        return jax.vmap(jax.vmap(one))(particles)

    def ahead(self, particles: Any, log_weights: Any) -> tuple[StateSpace, PyTree[Any], Array]:
        """Every particle of every filter, with the parameters that it is filtered by."""
        if self._one.known is not None:
            raise TargetError(
                "a forecast over parameters takes no times and inputs",
                expected="models without times and inputs",
                got="a model with them",
            )
        inner, values, build = particles.inner.population, self.target.prior.values, self.target.build
        size = inner.log_weights.shape[-1]
        theta = jax.vmap(jax.vmap(values))(particles.position)
        states = {
            "theta": jax.tree.map(lambda leaf: jnp.repeat(leaf, size, axis=1), theta),
            "x": jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[0], -1, *leaf.shape[4:]), inner.particles.state),
        }
        known = lambda theta: jax.tree.map(lambda leaf: dist.Delta(leaf, event_dim=jnp.ndim(leaf)), theta)  # noqa: E731
        law = lambda theta, x: {"theta": known(theta), "x": x}  # noqa: E731

        def transition(t: Time, state: Any) -> Any:
            return law(state["theta"], build(state["theta"]).process.transition(t, state["x"]))

        def observation(t: Time, state: Any) -> Any:
            model: Any = build(state["theta"])
            return model.potential.observation(t, state["x"])

        one = jax.tree.map(lambda leaf: leaf[0, 0], theta)
        model = state_space(law(one, build(one).process.initial()), transition, observation)
        weights = jnp.asarray(log_weights)[..., None] + inner.log_weights[:, :, 0]
        return model, states, weights.reshape(weights.shape[0], -1)


class ParametersOfData(Family):
    """Parameters of independent data, by data annealing.

    Args:
        target: made by ``posterior(prior, log_likelihood, data)``, with at least one datum.
        method: of batches of one.
        kernel: what moves the parameters; by name, or the one that fits where ``None``.

    Raises:
        TargetError: for a target that is no sum over data.
        ArgumentError: for batches of more than one.
    """

    what = "sampler of parameters"
    starts_with_data = False

    def __init__(self, target: StaticTarget, method: DataAnnealing, kernel: str | Kernel | None) -> None:
        if target.data is None:
            raise TargetError(
                "model needs data one by one to be online",
                expected="posterior(prior, log_likelihood, data=...) with log_likelihood(theta, datum)",
                got="a target without terms",
            )
        if method.batch_size != 1:
            raise ArgumentError("data come one by one", expected="batch_size=1", got=method.batch_size)
        target.check_precision()
        self.target, self._method = target.as_arrays(), method
        density = target.density(1.0)
        self._kernel = default_for(density, target.dim) if kernel is None else by_name(kernel)
        self._like = jax.tree.map(lambda leaf: np.asarray(leaf)[:1], target.data)

    def read(self, y: Any, t: int, time: Any, inputs: PyTree[Any], clock: Clock | None) -> tuple[Any, Clock | None]:
        """One datum, with all of its parts."""
        validate.not_given("a target without times and inputs", time=time, inputs=inputs)
        row = jax.tree.map(lambda leaf: np.asarray(leaf)[None], complete("the datum", y))
        shapes = [jax.tree.map(lambda leaf: leaf.shape[1:], tree) for tree in (self._like, row)]
        if shapes[0] != shapes[1]:
            raise ArgumentError(f"datum {t} has another shape than those before", expected=shapes[0], got=shapes[1])
        return jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), row, self._like), clock

    def blank(self) -> Any:
        """The first datum stands for all."""
        return self._like

    def given(self) -> tuple[list[Any], None]:
        """The data that `posterior` was given."""
        data, count = jax.tree.map(np.asarray, self.target.data), self.target.num_data or 0
        return [jax.tree.map(lambda leaf, at=at: leaf[at : at + 1], data) for at in range(count)], None

    def model(self, rows: Any) -> DataPath:
        """Data annealing on these rows."""
        moves = {} if self._method.moves is None else {"moves": self._method.moves}
        target = self.target.with_data(rows)
        return DataPath(target, self._kernel, schedule=Batches(ENDLESS), led=self._method.led, **moves)

    def reading(self, t: Time, model: DataPath, particles: Any) -> Particles:
        """Particles that know what the datum that has just come says of them."""
        terms = jax.vmap(lambda positions: model.terms(t, positions))(particles.states.position)
        return eqx.tree_at(lambda tree: tree.next_terms, particles, terms)

    def ahead(self, particles: Any, log_weights: Any) -> tuple[Any, PyTree[Any], Any]:
        """Data have no order, and a likelihood says nothing of how they are drawn.

        Raises:
            TargetError: always.
        """
        raise TargetError(
            "data to come are not drawn by a likelihood",
            expected="a state-space model, whose observations have a law",
            got="a posterior of parameters",
            hint="posterior(..., predict=...) draws data anew: f.result().to_arviz()",
        )


def untwisted(model: Any) -> StateSpace:
    """A model that can be filtered while its data come.

    Raises:
        ArgumentError, TargetError: it is no state-space model, or has a twist, which looks at data to come.
    """
    made = validate.instance("model", model, StateSpace, "smcinfer.state_space(initial, transition, observation)")
    if made.twist is not None:
        raise TargetError(
            "a twist looks at data to come, and here none are known",
            expected="a model without twist",
            got=type(made.twist).__name__,
            hint="a guide or a look-ahead sees the observation that has just come",
        )
    return made
