r"""Many series of one model, filtered side by side in one program.

.. math:: p(y^{1:S}) = \prod_s p(y^s_{0:T_s})

The series share their laws; what is their own comes as inputs, one row a step. They are filled up to the longest with steps at
which nothing was observed, and where a series has ended its filter stands still: of no series does what comes after its end
count.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from smcinfer.core import smc
from smcinfer.core.settings import Settings
from smcinfer.core.state import freeze
from smcinfer.core.status import Status
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Int, KeyArray, PyTree, Scalar
from smcinfer.ground.data import read
from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.names import leaves_by_name
from smcinfer.ground.programs import compiled
from smcinfer.results.from_run import settings_of
from smcinfer.results.panel import PanelFiltered
from smcinfer.run.runner import as_typed_key
from smcinfer.run.watch import compile_clock
from smcinfer.state_space.gaussian.doors import log_likelihood
from smcinfer.state_space.known import Known, put, read_known
from smcinfer.state_space.model import StateSpace, state_space
from smcinfer.state_space.observations import Observations, fill, marks
from smcinfer.state_space.slots import Slots, slots_of


class Panel(eqx.Module):
    """Series of one model (made by `panel`).

    Attributes:
        model: of all series, whose data (and inputs) have a leading axis of series.
        lengths: Int["S"], observations of each.
    """

    model: StateSpace
    lengths: Int[Array, " series"]

    @property
    def num_series(self) -> int:
        """S, how many series there are."""
        return self.lengths.shape[0]

    def each(self, function: Callable[..., Any], *more: Any) -> Any:
        """``function(model, *more)`` of every series, mapped in one program.

        Args:
            function: of the model of one series.
            more: arrays with a leading axis of series.
        """
        axes = jax.tree.map(lambda node: _axes(node), self.model, is_leaf=_is_row)
        return eqx.filter_vmap(function, in_axes=(axes, *(0 for _ in more)))(self.model, *more)

    def log_likelihood(self, key: KeyArray, num_particles: int) -> Scalar:
        """log of an unbiased estimate of the likelihood of all data, nats; may be traced.

        Args:
            key: one random key.
            num_particles: of each series' filter.
        """
        settings = Settings(num_particles, history="none")
        keys = jax.random.split(key, self.num_series)
        run = lambda model, key, length: filter_series(key[None], model, length, settings)[0]  # noqa: E731
        state = self.each(run, keys, self.lengths)
        return jnp.sum(state.log_z + state.log_z_error)

    def gaussian_log_likelihood(self, *, method: str = "kalman") -> Scalar:
        """log likelihood of all data by Gaussian filters, nats; may be traced, and differentiated.

        Args:
            method: as in `smcinfer.gaussian_filter`.
        """
        return jnp.sum(self.each(lambda model: log_likelihood(model, method=method)))

    def filter(
        self,
        key: Any,
        *,
        num_particles: int = 1024,
        num_runs: int = 2,
        resampling: str = "systematic",
        resample_below: float | None = None,
    ) -> PanelFiltered:
        """Filter every series.

        Args:
            key: one random key.
            num_particles: of each series' filter, of each run.
            num_runs: independent runs.
            resampling: name of a scheme.
            resample_below: resample where the ESS falls below this fraction of N; what the model's plan says where ``None``.

        Returns:
            `PanelFiltered`: log likelihoods and filtered moments; prints itself.
        """
        num_runs, typed = validate.count("num_runs", num_runs), as_typed_key(key)
        settings = Settings(num_particles, resampling, self.model.plan.threshold(resample_below), "scalars")
        keys = jax.random.split(typed, (self.num_series, num_runs))
        started = time.perf_counter()
        with compile_clock() as compiling:
            log_z, mean, sd, status = _moments(self, keys, settings)
        common = {"num_runs": num_runs, "resampling": resampling, "resample_below": settings.resample_below}
        return PanelFiltered(
            lengths=np.asarray(self.lengths),
            log_z_runs=np.asarray(log_z),
            mean=leaves_by_name(jax.tree.map(np.asarray, mean)),
            sd=leaves_by_name(jax.tree.map(np.asarray, sd)),
            status_series=np.asarray(status),
            status=Status(int(np.bitwise_or.reduce(np.asarray(status)))),
            settings=settings_of(typed, self.model, num_particles, **common)
            | {"weighted_for": PanelFiltered.WEIGHTED_FOR},
            seconds=time.perf_counter() - started,
            compile_seconds=compiling[0],
        )


def panel(
    initial: Any,
    transition: Callable[..., Any],
    observation: Callable[..., Any],
    series: Sequence[PyTree[Any]],
    *,
    times: Sequence[Any] | None = None,
    inputs: Sequence[PyTree[Any]] | None = None,
    **options: Any,
) -> Panel:
    """Series of different lengths that share one model.

    Args:
        initial, transition, observation: as in `state_space`.
        series: data of each, ``y_0 .. y_T`` of its own length; NaN where nothing was observed.
        times: of each series, where its observations are irregular.
        inputs: of each series, with as many rows as its data: what acts on it, and what is its own (a parameter drawn for each
            series stands in every row).
        options: ``proposal``, ``initial_proposal`` and ``look_ahead`` of `state_space`.

    Returns:
        A `Panel`: ``filter`` it, or take its ``log_likelihood`` for `sample`, particle MCMC and the like.

    Raises:
        ArgumentError, TargetError: as of `state_space`; for a panel of no series, or of series that differ in structure.
    """
    if isinstance(series, dict | str) or not isinstance(series, Sequence) or not len(series):
        got = type(series).__name__
        raise ArgumentError("series are no list of data", expected="a list, the data of one series each", got=got)
    for name, parts in (("times", times), ("inputs", inputs)):
        if parts is not None and len(parts) != len(series):
            raise ArgumentError(f"{name} are of another number of series", expected=len(series), got=len(parts))
    template = state_space(
        initial,
        transition,
        observation,
        times=None if times is None else [],
        inputs=None if inputs is None else jax.tree.map(lambda leaf: leaf[:0], read("inputs", inputs[0])[0]),
        missing="skip",
        **options,
    )
    slots = slots_of(_observation(template), template.one_state)
    rows = [_checked(place, part, slots) for place, part in enumerate(series)]
    sizes = [len(present[0]) for _, present in rows]
    longest = max(sizes)
    filled = [[_longer(leaf, mask, longest) for leaf, mask in zip(*row, strict=True)] for row in rows]
    values, present = (
        slots.tree([np.stack([row[slot][part] for row in filled]) for slot in range(len(slots.each))])
        for part in (0, 1)
    )
    each = [marks([row[slot][1] for slot in range(len(slots.each))]) for row in filled]
    complete, anything = (np.stack([marked[part] for marked in each]) for part in (0, 1))
    nodes: list[Any] = [Observations(*jax.tree.map(jnp.asarray, (values, present, complete, anything)))]
    if template.known is not None:
        own = lambda parts, place: None if parts is None else parts[place]  # noqa: E731
        told = [_told(own(times, place), own(inputs, place), size, longest) for place, size in enumerate(sizes)]
        nodes.append(Known(*jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *told)))
    return Panel(put(template, *nodes).replace(num_steps=longest - 1), jnp.asarray(sizes, jnp.int32))


def _observation(model: Any) -> Callable[..., Any]:
    return model.potential.observation


def _checked(place: int, data: PyTree[Any], slots: Slots) -> tuple[list[Any], list[Any]]:
    """Values and masks of one series, one a slot."""
    values, present = read(f"series {place}", data)
    leaves, masks = slots.aligned(values, present)
    lengths = {leaf.shape[0] if leaf.ndim else 0 for leaf in leaves}
    if len(lengths) != 1 or 0 in lengths:
        raise ArgumentError(
            f"series {place} has no common leading axis of observations", expected="y_0 .. y_T", got=lengths
        )
    for slot, leaf, mask in zip(slots.each, leaves, masks, strict=True):
        slot.check(leaf, mask)
    return [
        fill(leaf, mask).astype(slot.dtype) for slot, leaf, mask in zip(slots.each, leaves, masks, strict=True)
    ], masks


def _longer(leaf: np.ndarray, mask: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows up to a length, at which nothing was observed."""
    rest = length - leaf.shape[0]
    none = np.zeros((rest, *mask.shape[1:]), bool)
    return np.concatenate([leaf, np.repeat(leaf[-1:], rest, axis=0)]), np.concatenate([mask, none])


def _told(times: Any, inputs: PyTree[Any], size: int, length: int) -> tuple[Any, Any, PyTree[Any]]:
    """Times and inputs of one series up to a length: the last row again."""
    longer = lambda leaf: np.concatenate([leaf, np.repeat(leaf[-1:], length - size, axis=0)])  # noqa: E731
    return jax.tree.map(longer, tuple(read_known(times, inputs, size))[:3])


def _is_row(node: Any) -> bool:
    return isinstance(node, Observations | Known)


def _axes(node: Any) -> Any:
    return jax.tree.map(lambda _: 0, node) if _is_row(node) else None


def filter_series(
    keys: Array, model: StateSpace, length: Array, settings: Settings
) -> tuple[smc.SMCState, dict[str, Any]]:
    """One series, filtered up to its own end.

    Args:
        keys: one a run.
        model: of one series, filled up to the longest.
        length: Int[""], its observations.
        settings: of the filter.

    Returns:
        The state at the series' end, and records on axis 1, as many as the longest has.
    """
    state, first = smc.init(keys, model, settings)

    def once(state: smc.SMCState, t: Array) -> tuple[smc.SMCState, dict[str, Any]]:
        moved, record = smc.step(t, state, model, settings)
        return freeze(jnp.broadcast_to(t >= length, state.done.shape), state, moved), record

    state, later = jax.lax.scan(once, state, jnp.arange(1, model.num_steps + 1, dtype=jnp.int32))
    join = lambda start, rest: jnp.concatenate([start[:, None], jnp.moveaxis(rest, 0, 1)], axis=1)  # noqa: E731
    return state, jax.tree.map(join, first, later)


@compiled
def _moments(many: Panel, keys: Array, settings: Settings) -> tuple[Array, PyTree[Any], PyTree[Any], Array]:
    """log Z of every run, the runs' pooled moments, and bits of the status."""

    def one(model: StateSpace, keys: Array, length: Array) -> tuple[Array, PyTree[Any], PyTree[Any], Array]:
        state, records = filter_series(keys, model, length, settings)
        so_far = jnp.cumsum(records["log_z_increment"], axis=1)
        shares = jnp.exp(so_far - logsumexp(so_far, axis=0))
        over = jnp.arange(so_far.shape[1]) >= length

        def pooled(leaf: Array) -> Array:
            mean = jnp.einsum("rt,rt...->t...", shares, leaf)
            return jnp.where(over.reshape(-1, *(1,) * (mean.ndim - 1)), jnp.nan, mean)

        mean = jax.tree.map(pooled, records["filtered_mean"])
        square = lambda sd, runs, centre: jnp.sqrt(pooled(sd**2 + (runs - centre) ** 2))  # noqa: E731
        sd = jax.tree.map(square, records["filtered_sd"], records["filtered_mean"], mean)
        bits = jax.lax.reduce(state.status, jnp.int32(0), jnp.bitwise_or, (0,))
        return state.log_z + state.log_z_error, mean, sd, bits

    return many.each(one, keys, many.lengths)
