r"""Draws that exist, of any sampler, as the start of a run.

.. math:: q = (1 - \varepsilon)\, q_{\text{fit}} + \varepsilon\, \mu, \qquad \Phi' = \log \mu + \Phi - \log q

A Student mixture is fitted to some of the draws (`StudentMixture`); with a small share :math:`\varepsilon` the target's own
base :math:`\mu` stays in, so that nothing that it covered is lost. Tempering goes from q to the target, whose log Z is what
it was: the fit decides how long the way is, and nothing else.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, KeyArray, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.names import exported_name
from smcinfer.static.student_mixture import StudentMixture
from smcinfer.static.target import Base, Reference, StaticTarget

FITTED_DRAWS = 4000
"""The most draws that a mixture is fitted to."""

FEWEST_DRAWS = 20
"""Fewer say nothing of a law."""


@dataclasses.dataclass(frozen=True, eq=False)
class DrawsReference(Reference):
    """Draws to start from (made by `reference_from`).

    Attributes:
        values: what was given.
        share: of the target's own base.
        num_components: of the mixture, or ``None``.
    """

    values: Any
    share: float
    num_components: int | None

    def base(self, target: StaticTarget) -> "Defended":
        """The mixture fitted to the draws, with the target's own base in it."""
        vectors = vectors_of(self.values, target).reshape(-1, target.dim)
        thin = -(-len(vectors) // FITTED_DRAWS)
        fitted = StudentMixture.fit(vectors[::thin], self.num_components)
        return Defended(fitted, target.log_base, target.sample_base, self.share)


class Defended(Base):
    """A fitted law with a share of another base that covers the target (module equation)."""

    fitted: StudentMixture
    own_density: Callable[[Array], Array]
    own_sample: Callable[[Any, int], Array]
    share: float = eqx.field(static=True)

    def log_density(self, x: Float[Array, " dim"]) -> Scalar:
        """log q at a point, nats."""
        fitted = jnp.log1p(-self.share) + self.fitted.log_density(x)
        own = self.own_density(x)
        return jnp.logaddexp(fitted, jnp.log(self.share) + jnp.where(jnp.isnan(own), -jnp.inf, own)).astype(x.dtype)

    def sample(self, key: KeyArray, n: int) -> Float[Array, "n dim"]:
        """Exact draws, about ``share`` of them from the own base."""
        which, fitted, own = jax.random.split(key, 3)
        ours = jax.random.uniform(which, (n, 1)) < self.share
        return jnp.where(ours, self.own_sample(own, n), self.fitted.sample(fitted, n))


def reference_from(draws: Any, *, share: float = 0.05, num_components: int | None = None) -> DrawsReference:
    """Draws that exist as the start of a run, for ``posterior(..., reference=)`` and its kin, or `StaticTarget.with_reference`.

    Yesterday's result is the reference of today's data; chains of another sampler become a run with a log Z.

    Args:
        draws: an ArviZ tree, a numpyro MCMC, a `Result` or `Chains`; a dict of arrays by the target's names, leading axes
            draws or (chain, draw); or an array of such values of the only variable, or of unconstrained vectors.
        share: of the target's own base in the law to start from, in (0, 1): it covers what the draws missed.
        num_components: of the mixture that is fitted to them; chosen by BIC where ``None``.

    Raises:
        ArgumentError: for a share or number out of range. Draws that do not fit a target are refused where they meet it.
    """
    share = validate.number("share", share, above=0.0, below=1.0)
    if num_components is not None:
        validate.count("num_components", num_components)
    return DrawsReference(draws, share, num_components)


def vectors_of(draws: Any, target: StaticTarget) -> Float[np.ndarray, "chains draws dim"]:
    """Draws as unconstrained vectors of a target, those that have none left out.

    Args:
        draws: as of `reference_from`.
        target: whose names, shapes and spaces they have.

    Raises:
        ArgumentError: they lack a variable, or have another shape, or are too few.
    """
    values = _named(draws)
    wanted = jax.eval_shape(target.constrain, jax.ShapeDtypeStruct((target.dim,), jnp.result_type(float)))
    if not isinstance(values, dict):
        only = next(iter(wanted)) if len(wanted) == 1 else None
        if only is not None and _fits(values, wanted[only].shape):
            values = {only: values}
        elif _fits(values, (target.dim,)):
            return _enough(values if values.ndim == 3 else values[None])
        else:
            raise ArgumentError(
                "draws are of another dimension than the target",
                expected=f"(draws, {target.dim}), unconstrained vectors, or a dict of {list(wanted)}",
                got=f"an array of shape {values.shape}",
            )
    if target.unconstrain is None:
        raise ArgumentError(
            "the target does not say how values become vectors",
            expected="an array of unconstrained vectors",
            got="names",
        )
    found = {name: values.get(name, values.get(exported_name(name))) for name in wanted}
    placed = {name: _leading(name, value, wanted[name].shape) for name, value in found.items() if value is not None}
    if not placed:
        raise ArgumentError("draws lack the target's variables", expected=list(wanted), got=list(values))
    chains = {value.shape[:2] for value in placed.values()}
    if len(chains) != 1:
        raise ArgumentError("draws of several variables differ in number", expected="one number", got=chains)
    unconstrain = target.unconstrain
    try:
        vectors = jax.jit(jax.vmap(jax.vmap(lambda one: unconstrain(one))))(placed)
    except KeyError as error:
        raise ArgumentError("draws lack a variable of the target", expected=error.args[0], got=list(values)) from error
    return _enough(np.asarray(vectors))


def _named(draws: Any) -> dict[str, np.ndarray] | np.ndarray:
    """Draws by name, or the one array that they are."""
    if hasattr(draws, "pooled_log_weights"):  # a Result: its particles are weighted
        return dict(draws.draws(0, max(FEWEST_DRAWS, int(draws.ess_total))))
    if hasattr(draws, "get_samples"):  # numpyro
        return {name: np.asarray(value) for name, value in draws.get_samples(group_by_chain=True).items()}
    if isinstance(getattr(draws, "draws", None), dict):  # Chains
        return draws.draws
    dataset = (
        draws["posterior"] if "posterior" in getattr(draws, "children", ()) else getattr(draws, "posterior", draws)
    )
    if hasattr(dataset, "data_vars"):
        variables = {str(name): variable for name, variable in dataset.data_vars.items()}
        by_chain = {"chain", "draw"} <= {str(dim) for dim in dataset.dims}
        return {
            name: np.asarray(
                (variable.transpose("chain", "draw", ..., missing_dims="ignore") if by_chain else variable).values
            )
            for name, variable in variables.items()
        }
    if isinstance(draws, Mapping):
        return {str(name): np.asarray(value) for name, value in draws.items()}
    try:
        array = np.asarray(draws, np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            "draws are of no kind that is known",
            expected="an ArviZ tree, a numpyro MCMC, a Result, Chains, a dict of arrays or an array",
            got=type(draws).__name__,
        ) from error
    return array


def _fits(values: np.ndarray, shape: tuple[int, ...]) -> bool:
    lead = values.ndim - len(shape)
    return lead in (1, 2) and values.shape[lead:] == shape


def _leading(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Values with two leading axes, chains and draws."""
    array = np.asarray(value)
    if not _fits(array, shape):
        raise ArgumentError(
            f"draws of {name!r} are of another shape than the target's",
            expected=f"(draws, *{shape}) or (chains, draws, *{shape})",
            got=array.shape,
        )
    return array if array.ndim - len(shape) == 2 else array[None]


def _enough(vectors: Float[np.ndarray, "chains draws dim"]) -> Float[np.ndarray, "chains draws dim"]:
    """Vectors of which all are finite; a draw that is not is left out of every chain."""
    finite = np.isfinite(vectors).all(axis=(0, 2))
    vectors = vectors[:, finite].astype(np.float64)
    if vectors.shape[0] * vectors.shape[1] < FEWEST_DRAWS:
        raise ArgumentError("draws are too few", expected=f"at least {FEWEST_DRAWS}", got=vectors.shape[:2])
    return vectors
