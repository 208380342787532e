r"""A static target: a density on unconstrained vectors, as a base with exact draws and a potential.

.. math:: \gamma(x) = \mu(x) \exp(\Phi(x)), \qquad Z = \int \gamma(x)\,dx

Tempering raises :math:`\Phi` slowly from nothing; data annealing adds its terms in batches. With a
normalised base, the log normaliser of the run is the log evidence.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from smcinfer.core.described import Described
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, Int, KeyArray, PyTree, Scalar
from smcinfer.ground.data import complete
from smcinfer.ground.errors import ArgumentError
from smcinfer.kernels.base import TemperedDensity
from smcinfer.static.contract import abstract_output, check_scalar
from smcinfer.static.described import described_posterior
from smcinfer.static.prior import Prior, numbers_as_arrays

POSTERIOR = "the posterior; log Z is the log evidence"
"""What the particles of a prior and a likelihood stand for, in words."""


class Base(eqx.Module):
    """A law on unconstrained vectors to start from: normalised, with exact draws."""

    @abc.abstractmethod
    def log_density(self, x: Float[Array, " dim"]) -> Scalar:
        """Log density of one vector, nats."""

    @abc.abstractmethod
    def sample(self, key: KeyArray, n: int) -> Float[Array, "n dim"]:
        """Exact draws.

        Args:
            key: one random key.
            n: how many.
        """


class Reference(abc.ABC):
    """What a run may start from instead of a target's own base (`reference_from` makes one)."""

    @abc.abstractmethod
    def base(self, target: "StaticTarget") -> Base:
        """The law on the vectors of a target."""


class StaticTarget(eqx.Module):
    """What tempering and data annealing consume; made by `posterior`, `log_density` and `from_numpyro`.

    Its functions may hold the data as arrays: compile them with `equinox.filter_jit`.

    Attributes:
        dim: length of the unconstrained vector.
        log_base: ``Float["dim"] -> Float[""]``, log density of the base there, Jacobians included, nats.
        log_potential: ``Float["dim"] -> Float[""]``, log target minus log base, nats; NaN is allowed
            and taken by the engine as weight zero.
        sample_base: ``(key, n) -> Float["n dim"]``, exact draws of the base.
        constrain: ``Float["dim"] -> dict``, the user's own names, shapes and space.
        unconstrain: the inverse of ``constrain``, or ``None`` where it is not known.
        base_mean, base_scale: mean and lower Cholesky factor of the base where it is Gaussian on
            the vectors, else ``None``.
        log_terms: ``(Float["dim"], Int["k"]) -> Float["k"]``, the potential's terms for some data
            points, or ``None`` for a potential that is not a sum over data.
        num_data: how many terms there are, or ``None``.
        weighted_for: what weighted particles stand for and what log Z is of, in words.
        described: what it tells of itself beside draws, for exports, or ``None``.
        made_in: precision that was on when the target was made, ``"float32"`` or ``"float64"``.
    """

    dim: int = eqx.field(static=True)
    log_base: Callable[[Array], Array]
    log_potential: Callable[[Array], Array]
    sample_base: Callable[[Any, int], Array]
    constrain: Callable[[Array], dict[str, Array]]
    unconstrain: Callable[[dict[str, Array]], Array] | None = None
    base_mean: Float[Array, " dim"] | None = None
    base_scale: Float[Array, "dim dim"] | None = None
    log_terms: Callable[[Array, Array], Array] | None = None
    num_data: int | None = eqx.field(static=True, default=None)
    weighted_for: str = eqx.field(static=True, default="the density; log Z is the log of its integral")
    described: Described | None = eqx.field(static=True, default=None)
    made_in: str = eqx.field(static=True, default_factory=lambda: str(jnp.result_type(float)))

    def check_precision(self) -> None:
        """Raise `ArgumentError` where the target was made in double precision, which is off now.

        Its arrays are doubles, and no program of single precision can hold them.
        """
        now = str(jnp.result_type(float))
        if self.made_in == "float64" and now == "float32":
            raise ArgumentError(
                "the target was made in double precision and is run in single precision",
                expected="one precision for both",
                got=f"a target of {self.made_in}, a run of {now}",
                hint="make the target where you run it: inside the same jax.enable_x64() block, or after jax_enable_x64 is set",
            )

    def as_arrays(self) -> "StaticTarget":
        """The target with the numbers of its distributions as arrays."""
        return numbers_as_arrays(self)

    def density(self, exponent: Scalar | float) -> TemperedDensity:
        r"""The tempered density :math:`\mu(x) \exp(\lambda \Phi(x))` that kernels move on."""
        self.check_precision()
        exponent = jnp.asarray(exponent, dtype=jnp.result_type(float))
        return TemperedDensity(self.log_base, self.log_potential, exponent, self.base_mean, self.base_scale)

    @property
    def data(self) -> PyTree[Any]:
        """What the terms are of, a tree with leading axis ``num_data``; ``None`` where no data were given to `posterior`."""
        return getattr(getattr(self.log_terms, "__self__", None), "data", None)

    def with_data(self, data: PyTree[Any]) -> "StaticTarget":
        """The same prior and likelihood with other data, of which nothing is checked.

        Args:
            data: a tree like the old one, of any length.
        """
        is_terms = lambda node: isinstance(node, _Terms)  # noqa: E731
        put = lambda node: dataclasses.replace(node, data=data) if is_terms(node) else node  # noqa: E731
        made: StaticTarget = jax.tree.map(put, self, is_leaf=is_terms)
        return dataclasses.replace(made, num_data=jax.tree.leaves(data)[0].shape[0], described=None)

    def with_reference(self, reference: Reference) -> "StaticTarget":
        """The same target, and the same log Z, reached from elsewhere.

        Args:
            reference: made by `reference_from`.

        Raises:
            ArgumentError: it is none, or does not fit this target.
        """
        base = validate.instance("reference", reference, Reference, "smcinfer.reference_from(draws)").base(self)
        return dataclasses.replace(
            self,
            log_base=base.log_density,
            log_potential=_FromBase(self.log_base, self.log_potential, base),
            sample_base=base.sample,
            base_mean=None,
            base_scale=None,
            log_terms=None,
            num_data=None,
        )

    def log_prob(self, x: Float[Array, " dim"]) -> Scalar:
        """Unnormalised log density of the target itself (exponent one), nats."""
        return self.log_base(x) + self.log_potential(x)


class _FromBase(eqx.Module):
    """What is left of a target where another base has been taken."""

    log_base: Callable[[Array], Array]
    log_potential: Callable[[Array], Array]
    base: Base

    def __call__(self, x: Float[Array, " dim"]) -> Scalar:
        return self.log_base(x) + self.log_potential(x) - self.base.log_density(x)


class _Whole(eqx.Module):
    """A potential that is one function of the constrained value."""

    prior: Prior
    function: Callable[..., Any]

    def __call__(self, x: Float[Array, " dim"]) -> Scalar:
        return jnp.asarray(self.function(self.prior.values(x)), x.dtype)


class _OverReference(eqx.Module):
    """Log target minus log reference, both on the vectors: there the reference is finite wherever it was drawn."""

    reference: Prior
    function: Callable[..., Any]

    def __call__(self, x: Float[Array, " dim"]) -> Scalar:
        there = self.function(self.reference.values(x)) + self.reference.log_jacobian(x)
        return jnp.asarray(there - self.reference.log_density(x), x.dtype)


class _Terms(eqx.Module):
    """A potential that is a sum over data, one user's call a datum."""

    prior: Prior
    function: Callable[..., Any]
    data: PyTree[Any]

    def _evaluate(self, x: Float[Array, " dim"], data: PyTree[Any]) -> Float[Array, " k"]:
        values = self.prior.values(x)
        return jax.vmap(lambda datum: jnp.asarray(self.function(values, datum), x.dtype))(data)

    def total(self, x: Float[Array, " dim"]) -> Scalar:
        return jnp.sum(self._evaluate(x, self.data))

    def some(self, x: Float[Array, " dim"], indices: Int[Array, " k"]) -> Float[Array, " k"]:
        return self._evaluate(x, jax.tree.map(lambda leaf: leaf[indices], self.data))


def _value_structure(prior: Prior) -> PyTree[Any]:
    vector = jax.ShapeDtypeStruct((prior.dim,), jnp.result_type(float))
    return abstract_output("the prior's bijection", prior.values, vector)


def _with_base(prior: Prior, log_potential: Callable[[Array], Array], **extra: Any) -> StaticTarget:
    gaussian = prior.gaussian()
    mean, scale = (None, None) if gaussian is None else gaussian
    return StaticTarget(
        dim=prior.dim,
        log_base=prior.log_density,
        log_potential=log_potential,
        sample_base=prior.sample,
        constrain=prior.constrain,
        unconstrain=prior.unconstrain,
        base_mean=mean,
        base_scale=scale,
        **extra,
    )


def over_law(
    law: dist.Distribution,
    log_joint: Callable[[Array], Array],
    constrain: Callable[[Array], dict[str, Array]],
    unconstrain: Callable[[dict[str, Array]], Array] | None,
    **extra: Any,
) -> StaticTarget:
    """A density on unconstrained vectors, reached from a law on the same vectors.

    Args:
        law: a proper distribution over real vectors.
        log_joint: ``Float["dim"] -> Float[""]``, nats.
        constrain, unconstrain: between vectors and named values.
        **extra: further fields of `StaticTarget`.
    """
    base = Prior.of(law)
    mean, scale = base.gaussian() or (None, None)
    return StaticTarget(
        dim=base.dim,
        log_base=base.log_density,
        log_potential=_Over(log_joint, base),
        sample_base=base.sample,
        constrain=constrain,
        unconstrain=unconstrain,
        base_mean=mean,
        base_scale=scale,
        **extra,
    )


class _Over(eqx.Module):
    """A log density minus that of a base, both on the vectors."""

    log_joint: Callable[[Array], Array]
    base: Prior

    def __call__(self, x: Float[Array, " dim"]) -> Scalar:
        return jnp.asarray(self.log_joint(x) - self.base.log_density(x), x.dtype)


def _check_data(data: PyTree[Any]) -> tuple[PyTree[Any], int]:
    """Data as arrays, one leading axis to all, and how many there are."""
    data = jax.tree.map(jnp.asarray, complete("data", data))
    shapes = [leaf.shape for leaf in jax.tree.leaves(data)]
    if len({shape[:1] for shape in shapes}) != 1 or shapes[0] == ():
        raise ArgumentError(
            "the leaves of data do not share a leading axis",
            expected="arrays with the same leading length, one entry a datum",
            got=shapes,
            hint="put what is not per datum in the likelihood's closure",
        )
    if shapes[0][0] == 0:
        raise ArgumentError("data is empty", expected="at least one datum", got=shapes)
    return data, shapes[0][0]


def posterior(
    prior: PyTree[Any],
    log_likelihood: Callable[..., Any],
    data: PyTree[Any] = None,
    *,
    reference: Reference | None = None,
    predict: Callable[..., Any] | None = None,
    dims: Mapping[str, Any] | None = None,
    coords: Mapping[str, Any] | None = None,
) -> StaticTarget:
    r"""The posterior of a prior and a log likelihood, starting from the prior.

    .. math:: \gamma(\theta) = p(\theta) \exp(\ell(\theta)), \qquad Z = \text{the evidence}

    Args:
        prior: a numpyro distribution, or a (nested) dict of them; batch dimensions are independent
            parameters. Draws are named by the dict's keys (nested ones joined by dots), ``theta``
            for a bare distribution.
        log_likelihood: without ``data``, ``theta -> Float[""]`` on the value the prior itself draws
            (array or dict), in nats; with ``data``, ``(theta, datum) -> Float[""]`` for one datum.
        data: arrays, columns of a table, or a tree of them, with the datum as leading axis and nothing missing;
            or ``None``. They make data annealing possible.
        reference: draws to start from instead of the prior (`reference_from`); log Z stays the log evidence.
        predict: ``(key, theta, datum)`` to a datum drawn anew, or without ``data`` ``(key, theta)`` to all of them: an array,
            or a dict by the names of those data that are observed. Exports predict with it (`Result.to_arviz`).
        dims: variable or datum -> name of its axis, or names of several, for exports; data without names are called ``y``.
        coords: axis -> labels along it. The index of a table of data is taken where nothing is said of their axis.

    Returns:
        `StaticTarget` whose log normaliser is the log evidence.

    Raises:
        TargetError: for an improper, discrete or unknown prior, or a likelihood that raises, or does
            not return one floating-point scalar.
        ArgumentError: for data that are no numbers, or of which some are missing (naming the first).
    """
    if reference is not None:
        plain = posterior(prior, log_likelihood, data, predict=predict, dims=dims, coords=coords)
        return plain.with_reference(reference)
    base = Prior.of(prior)
    value = _value_structure(base)
    if data is None:
        check_scalar("log_likelihood", log_likelihood, value)
        told = described_posterior(base, log_likelihood, None, None, predict, dims, coords)
        return _with_base(base, _Whole(base, log_likelihood), weighted_for=POSTERIOR, described=told)
    raw, (data, num_data) = data, _check_data(data)
    datum = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), data)
    check_scalar("log_likelihood", log_likelihood, value, datum)
    terms = _Terms(base, log_likelihood, data)
    told = described_posterior(base, log_likelihood, data, raw, predict, dims, coords)
    return _with_base(
        base, terms.total, log_terms=terms.some, num_data=num_data, weighted_for=POSTERIOR, described=told
    )


def log_density(fn: Callable[..., Any], reference: PyTree[Any]) -> StaticTarget:
    r"""Any unnormalised log density, starting from a reference distribution.

    .. math:: Z = \int \exp(f(\theta))\,d\theta, \qquad \Phi = f - \log q_{\text{reference}}

    Args:
        fn: ``theta -> Float[""]``, log density on the reference's own space, nats.
        reference: a numpyro distribution, or a (nested) dict of them, that covers the target: heavier
            tails and wider. It changes how hard the run is, not what it estimates.

    Returns:
        `StaticTarget` whose log normaliser is the log integral of ``exp(fn)``.

    Raises:
        TargetError: as for `posterior`.
    """
    base = Prior.of(reference)
    check_scalar("fn", fn, _value_structure(base))
    return _with_base(base, _OverReference(base, fn))
