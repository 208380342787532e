"""Gaussian filters of the models that particle filters take: the record of a run, and the likelihood as a function."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.flatten_util import ravel_pytree

from smcinfer.core.recursions import DEER, Report, Way
from smcinfer.core.status import Status
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, PyTree, Scalar
from smcinfer.ground.errors import TargetError
from smcinfer.ground.names import leaves_by_name
from smcinfer.ground.programs import compiled
from smcinfer.results.gaussian import GaussianMoments
from smcinfer.run.runner import as_typed_key
from smcinfer.run.watch import compile_clock
from smcinfer.state_space.gaussian import ensemble, parallel, sequential
from smcinfer.state_space.gaussian.moments import Moments, affine, extended, gaussian, law_moments, raveled, unscented
from smcinfer.state_space.gaussian.sequential import Filtered, Vectors
from smcinfer.state_space.joint import is_law
from smcinfer.state_space.model import StateSpace

METHODS: dict[str, str] = {
    "kalman": "exact, for linear Gaussian models",
    "extended": "laws made linear at the mean",
    "unscented": "laws seen at 2 d + 1 points around the mean",
}
"""Names of the filters, and what each does."""

TRANSFORMS = {"kalman": affine, "extended": extended, "unscented": unscented}


def gaussian_filter(model: StateSpace, *, method: str = "kalman", in_parallel: bool | Way = False) -> GaussianMoments:
    """Filter and smooth a state-space model by Gaussian laws.

    Args:
        model: made by `state_space`, with data; its proposal, look-ahead and twist do not matter.
        method: ``"kalman"`` (exact; refuses a model that is not linear Gaussian), ``"extended"`` or ``"unscented"``. Laws that
            are not Gaussian count by mean and variance.
        in_parallel: all steps at once, in place of one after the other: the Kalman filter by an associative scan, O(log T)
            deep, the others by fixed-point iterations on their recursion, `DEER` or those that are given (`Picard`,
            `GaussSeidelJacobi`). The settings of the record say how many there were, and the error that they left.

    Returns:
        `GaussianMoments`: means, covariances and log likelihood; prints itself.

    Raises:
        ArgumentError: for an unknown method, or another way to run in parallel.
        TargetError: for states of whole numbers, a law without moments, or a model that Kalman cannot take.
    """
    model = validate.instance("model", model, StateSpace, "a model made by smcinfer.state_space")
    way = _way(method, in_parallel)
    if method == "kalman":
        refuse_nonlinear(model)
    return _record(model, method, {"in_parallel": way is not None}, lambda: filtered_and_smoothed(model, method, way))


def ensemble_filter(key: Any, model: StateSpace, *, num_members: int = 256, transform: bool = False) -> GaussianMoments:
    """Filter and smooth a state-space model by an ensemble of states whose moments stand for Gaussian laws.

    Args:
        key: one random key.
        model: made by `state_space`, with data.
        num_members: of the ensemble.
        transform: shrink the members' deviations, instead of moving them by drawn observations: less noise, and it needs the
            mean and the variance of the observation's law.

    Returns:
        `GaussianMoments`.

    Raises:
        TargetError: for states of whole numbers.
    """
    model = validate.instance("model", model, StateSpace, "a model made by smcinfer.state_space")
    members, transform = validate.count("num_members", num_members, at_least=2), validate.flag("transform", transform)
    typed, method = as_typed_key(key), "ensemble transform" if transform else "ensemble"
    return _record(
        model, method, {"num_members": members}, lambda: (*_drawn(typed, model, members, transform=transform), None)
    )


def _record(
    model: StateSpace, method: str, settings: dict[str, Any], run: Callable[[], tuple[Filtered, Moments, Report | None]]
) -> GaussianMoments:
    """What one run leaves."""
    started = time.perf_counter()
    with compile_clock() as compiling:
        found, smooth, report = jax.tree.map(np.asarray, run())
    told = {} if report is None else {"iterations": int(report.iterations), "error": float(report.error)}
    short = report is not None and not report.converged
    finite = all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((found.filtered, found.log_z_increments, smooth)))
    return GaussianMoments(
        method=method,
        mean=found.filtered.mean,
        covariance=found.filtered.covariance,
        smoothed_mean=smooth.mean,
        smoothed_covariance=smooth.covariance,
        log_z_increments=found.log_z_increments,
        names=_names(model),
        settings={"method": method} | settings | told,
        status=Status.DIVERGED if not finite else Status.SCHEDULE_UNFINISHED if short else Status.OK,
        seconds=time.perf_counter() - started,
        compile_seconds=compiling[0],
    )


class Scan(NamedTuple):
    """The associative scan of the Kalman filter, which needs no iterations."""


def _way(method: str, in_parallel: bool | Way) -> Way | Scan | None:
    """How the recursion over time is evaluated; one after the other where ``None``."""
    validate.one_of("method", method, METHODS)
    if isinstance(in_parallel, Way):
        return in_parallel
    if not validate.flag("in_parallel", in_parallel):
        return None
    return Scan() if method == "kalman" else DEER()


def log_likelihood(model: StateSpace, *, method: str = "kalman", in_parallel: bool | Way = False) -> Scalar:
    """log p(y_0:T) by a Gaussian filter, nats: a likelihood for `posterior`, differentiable in what the model was built of.

    >>> smcinfer.posterior(prior, lambda theta: gaussian.log_likelihood(build(theta)))

    Args:
        model: made by `state_space`; it may be traced, and then its laws must be Gaussian, but nobody can check that their
            means are affine.
        method: ``"kalman"``, ``"extended"`` or ``"unscented"``.
        in_parallel: as in `gaussian_filter`. Reverse-mode derivatives pass through an associative scan, not through iterations.
    """
    way = _way(method, in_parallel)
    if method == "kalman":
        refuse_nonlinear(model)
    return jnp.sum(_filtered(model, method, way)[0].log_z_increments)


@compiled
def filtered_and_smoothed(
    model: StateSpace, method: str, way: Way | Scan | None
) -> tuple[Filtered, Moments, Report | None]:
    """Moments of a Gaussian filter and of its smoother, and how iterations went, where there were any.

    Args:
        model: made by `state_space`, with data.
        method: name of a filter.
        way: how its recursion is evaluated; one step after the other where ``None``.
    """
    found, report = _filtered(model, method, way)
    return found, (parallel if isinstance(way, Scan) else sequential).smoothed(found), report


def _filtered(model: StateSpace, method: str, way: Way | Scan | None) -> tuple[Filtered, Report | None]:
    seen = sequential.linear(vectors(model)) if method == "kalman" else vectors(model)
    if isinstance(way, Scan):
        return parallel.filtered(seen), None
    found, report = sequential.filtered(seen, TRANSFORMS[method], way)
    return found, None if way is None else report


@compiled
def _drawn(key: Array, model: StateSpace, num_members: int, *, transform: bool) -> tuple[Filtered, Moments]:
    seen, any_model = vectors(model), _parts(model)
    vector, unravel = lambda tree: ravel_pytree(tree)[0], _unravel(model)
    moved = ensemble.Moved(
        lambda key: vector(any_model.process.initial().sample(key)),
        lambda key, t, x: vector(any_model.process.transition(t, unravel(x)).sample(key)),
        lambda key, t, x: vector(model.observation(t, unravel(x)).sample(key)),
        lambda t, x: seen.observation(t)(x),
        seen.values,
        seen.present,
    )
    found = ensemble.filtered(key, moved, num_members, transform=transform)
    return found, sequential.smoothed(found)


def vectors(model: StateSpace) -> Vectors:
    """A model with states and observations as vectors.

    Args:
        model: made by `state_space`.

    Raises:
        TargetError: its states are whole numbers.
    """
    model.check_data()
    parts, state = _parts(model), model.one_state
    if not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(state)):
        raise TargetError(
            "a Gaussian filter needs states of real numbers",
            expected="floating point states",
            got=jax.tree.map(lambda leaf: str(leaf.dtype), state),
            hint="smcinfer.sample filters states of any kind",
        )
    data = model.observations
    rows = lambda leaf: leaf.reshape(leaf.shape[0], -1)  # noqa: E731
    values = jnp.concatenate(
        [rows(leaf).astype(jnp.result_type(float)) for leaf in jax.tree.leaves(data.values)], axis=1
    )
    masks = [rows(leaf) for leaf in jax.tree.leaves(data.present)]
    present = jnp.concatenate(masks, axis=1) if masks else jnp.ones(values.shape, bool)
    transition = raveled(parts.process.transition_fn, state)
    observation = raveled(parts.potential.observation, state)
    initial = jax.tree.map(lambda leaf: leaf.astype(values.dtype), law_moments(_laws(parts.process.initial_law)))
    return Vectors(initial, transition, observation, values, present)


def refuse_nonlinear(model: StateSpace) -> None:
    """Raise `TargetError` where a law is not Gaussian, its mean not affine, or its covariance depends on the state.

    Args:
        model: made by `state_space`. It is looked at in three states; where its numbers are traced, at its laws alone.
    """
    parts, seen = _parts(model), vectors(model)
    state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), model.one_state)
    functions = {"transition": parts.process.transition_fn, "observation": parts.potential.observation}
    kinds = {"initial": _laws(parts.process.initial_law)}
    kinds |= {name: function(jnp.ones((), jnp.int32), state) for name, function in functions.items()}
    for name, law in kinds.items():
        if not gaussian(law):
            raise _not_linear(
                f"{name} is not Gaussian", jax.tree.map(lambda part: type(part).__name__, law, is_leaf=is_law)
            )
    dim = seen.initial.mean.shape[0]
    one, two = jax.random.normal(jax.random.key(0), (2, dim), seen.initial.mean.dtype)
    for name, conditional in (("transition", seen.transition), ("observation", seen.observation)):
        low, high, middle = map(conditional(jnp.ones((), jnp.int32)), (one, two, (one + two) / 2))
        scale = 1e3 * jnp.finfo(one.dtype).eps
        bend = jnp.max(jnp.abs(middle.mean - (low.mean + high.mean) / 2)) / (1.0 + jnp.max(jnp.abs(middle.mean)))
        varies = jnp.max(jnp.abs(low.covariance - high.covariance)) / (1.0 + jnp.max(jnp.abs(low.covariance)))
        if isinstance(bend, Tracer):
            return
        if bend > scale or varies > scale:
            raise _not_linear(
                f"{name} is not linear", "a mean that bends" if bend > scale else "a covariance that varies"
            )


def _not_linear(what: str, got: Any) -> TargetError:
    return TargetError(
        f"{what}: the Kalman filter would be wrong",
        expected="Gaussian laws with a mean affine in the state and a covariance that does not depend on it",
        got=got,
        hint='method="extended" or "unscented" take any law with a mean and a variance',
    )


def _parts(model: StateSpace) -> Any:
    """The model, of whose parts a type checker knows the general kind alone."""
    return model


def _laws(law: Any) -> PyTree[Any]:
    """The tree of laws that one joint law stands for."""
    return getattr(law, "laws", law)


def _unravel(model: StateSpace) -> Callable[[Array], PyTree[Any]]:
    return ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), model.one_state))[1]


def _names(model: StateSpace) -> list[str]:
    names = []
    for name, leaf in leaves_by_name(model.one_state).items():
        indices = list(np.ndindex(leaf.shape))
        names += [f"{name}[{', '.join(map(str, index))}]" if index else name for index in indices]
    return names
