"""A pytree of distributions as one density on unconstrained vectors, with its draws.

Every support is mapped to the whole real line by the bijection numpyro registers for it, and the
density carries the log Jacobian, so that it is normalised on the vectors:

.. math:: \\log \\mu(x) = \\sum_j \\log p_j(T_j(x_j)) + \\log |\\det T_j'(x_j)|
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.linalg import block_diag
from numpyro.distributions.transforms import ExpTransform, IdentityTransform, IndependentTransform

from smcinfer.ground.arrays import Array, Float, KeyArray, PyTree, Scalar
from smcinfer.ground.errors import TargetError

BARE_NAME = "theta"
"""What the draws of a bare distribution (no dict, so no name) are called."""


def _is_distribution(value: Any) -> bool:
    return isinstance(value, dist.Distribution)


def check_leaf(name: str, leaf: Any) -> None:
    """Raise `TargetError` unless ``leaf`` is a proper continuous distribution with a known bijection."""
    if not _is_distribution(leaf):
        raise TargetError(
            f"prior {name!r} is not a distribution",
            expected="a numpyro distribution, or a dict of them",
            got=type(leaf).__name__,
            hint="write numpyro.distributions.Normal(0, 1), say; a known constant belongs in the likelihood's closure",
        )
    if isinstance(leaf, dist.ImproperUniform):
        raise TargetError(
            f"prior {name!r} is improper: it has no draws to start from, and no evidence",
            expected="a proper distribution",
            got=type(leaf).__name__,
            hint="use smcinfer.log_density(log_prior + log_likelihood, reference=a wide proper distribution)",
        )
    if isinstance(leaf, dist.Delta) or leaf.support.is_discrete:
        raise TargetError(
            f"prior {name!r} is {'a point mass' if isinstance(leaf, dist.Delta) else 'discrete'}",
            expected="a distribution with a density on a continuous space",
            got=type(leaf).__name__,
            hint="sum a discrete variable out of the likelihood (logsumexp over its values)",
        )
    try:
        dist.biject_to(leaf.support)
    except NotImplementedError as error:
        raise TargetError(
            f"prior {name!r} lives on a space with no known map from the real line",
            expected="a support that numpyro.distributions.biject_to knows",
            got=f"{type(leaf).__name__} on {leaf.support}",
            hint="write it as a transformed distribution of unconstrained variables",
        ) from error


class Prior(eqx.Module):
    """Distributions, their names, and where each sits in the flat vector.

    Attributes:
        distributions: the leaves, in pytree order.
        names: one name a leaf: dict keys joined by dots, or ``theta`` for a bare distribution.
        shapes: unconstrained shape of each leaf.
        structure: the pytree the user wrote.
    """

    distributions: tuple[Any, ...]
    names: tuple[str, ...] = eqx.field(static=True)
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    structure: Any = eqx.field(static=True)

    @classmethod
    def of(cls, prior: PyTree[Any]) -> "Prior":
        """The prior of a distribution or of a (nested) dict of distributions, checked."""
        with_paths, structure = jax.tree_util.tree_flatten_with_path(prior, is_leaf=_is_distribution)
        if not with_paths:
            raise TargetError("the prior is empty", expected="a distribution, or a dict of them", got=repr(prior))
        names = tuple(jax.tree_util.keystr(path, simple=True, separator=".") or BARE_NAME for path, _ in with_paths)
        leaves = tuple(leaf for _, leaf in with_paths)
        for name, leaf in zip(names, leaves, strict=True):
            check_leaf(name, leaf)
        shapes = tuple(tuple(dist.biject_to(leaf.support).inverse_shape(leaf.shape())) for leaf in leaves)
        return cls(leaves, names, shapes, structure)

    @property
    def dim(self) -> int:
        """Length of the unconstrained vector."""
        return sum(math.prod(shape) for shape in self.shapes)

    def split(self, x: Float[Array, " dim"]) -> list[Array]:
        """The unconstrained vector cut into one array a leaf."""
        pieces, start = [], 0
        for shape in self.shapes:
            size = math.prod(shape)
            pieces.append(x[start : start + size].reshape(shape))
            start += size
        return pieces

    def values(self, x: Float[Array, " dim"]) -> PyTree[Any]:
        """The constrained value at ``x``, in the shape the user wrote the prior."""
        pairs = zip(self.distributions, self.split(x), strict=True)
        return jax.tree.unflatten(self.structure, [dist.biject_to(leaf.support)(piece) for leaf, piece in pairs])

    def named(self, values: PyTree[Any]) -> dict[str, Array]:
        """A constrained value as a flat dict."""
        return dict(zip(self.names, jax.tree.leaves(values), strict=True))

    def constrain(self, x: Float[Array, " dim"]) -> dict[str, Array]:
        """The constrained value at ``x`` as a flat dict."""
        return self.named(self.values(x))

    def unconstrain(self, values: dict[str, Array]) -> Float[Array, " dim"]:
        """The vector whose `constrain` is ``values``."""
        return self._to_vectors([jnp.asarray(values[name])[None] for name in self.names])[0]

    def log_prob(self, values: PyTree[Any]) -> Scalar:
        """Log density on the constrained space, nats."""
        pairs = zip(self.distributions, jax.tree.leaves(values), strict=True)
        return sum((jnp.sum(leaf.log_prob(value)) for leaf, value in pairs), jnp.zeros(()))

    def log_density(self, x: Float[Array, " dim"]) -> Scalar:
        """Log density on the unconstrained space, Jacobians included, nats."""
        total = jnp.zeros((), x.dtype)
        for leaf, piece in zip(self.distributions, self.split(x), strict=True):
            bijection = dist.biject_to(leaf.support)
            value = bijection(piece)
            total += jnp.sum(leaf.log_prob(value)) + jnp.sum(bijection.log_abs_det_jacobian(piece, value))
        return total.astype(x.dtype)

    def sample(self, key: KeyArray, n: int) -> Float[Array, "n dim"]:
        """``n`` exact draws, mapped to unconstrained vectors."""
        keys = jax.random.split(key, len(self.distributions))
        return self._to_vectors([leaf.sample(keys[j], (n,)) for j, leaf in enumerate(self.distributions)])

    def gaussian(self) -> tuple[Float[Array, " dim"], Float[Array, "dim dim"]] | None:
        """Mean and lower Cholesky factor on the vectors where every leaf is Gaussian there, else ``None``."""
        parts = [gaussian_part(leaf) for leaf in self.distributions]
        if any(part is None for part in parts):
            return None
        found = [part for part in parts if part is not None]
        return jnp.concatenate([mean for mean, _ in found]), block_diag(*[scale for _, scale in found])

    def _to_vectors(self, values: list[Array]) -> Float[Array, "n dim"]:
        pairs = zip(self.distributions, values, strict=True)
        vectors = [dist.biject_to(leaf.support).inv(value).reshape(value.shape[0], -1) for leaf, value in pairs]
        return to_finite(jnp.concatenate(vectors, axis=1))


def to_finite(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Unconstrained draws in the default dtype, with infinities brought back.

    A draw that rounded to the edge of its support maps to infinity; it is put at the furthest point
    whose exponential is still a normal number.
    """
    dtype = jnp.result_type(float)
    edge = -math.log(2.0 * float(jnp.finfo(dtype).tiny))
    return jnp.nan_to_num(x.astype(dtype), nan=jnp.nan, posinf=edge, neginf=-edge)


def inner_bijection(leaf: dist.Distribution) -> Any:
    """The elementwise map from the real line to a distribution's support, reinterpreted axes stripped."""
    bijection = dist.biject_to(leaf.support)
    while isinstance(bijection, IndependentTransform):
        bijection = bijection.base_transform
    return bijection


def _strip(leaf: Any) -> Any:
    while isinstance(leaf, dist.Independent | dist.ExpandedDistribution):
        leaf = leaf.base_dist
    return leaf


def gaussian_part(leaf: dist.Distribution) -> tuple[Array, Array] | None:
    """Flat mean and lower Cholesky factor of a distribution that is Gaussian on its unconstrained space.

    ``None`` where it is not Gaussian there, or not known to be.
    """
    dtype = jnp.result_type(float)
    inner = _strip(leaf)
    if isinstance(inner, dist.LogNormal) and isinstance(inner_bijection(inner), ExpTransform):
        inner = _strip(inner.base_dist)
    elif not isinstance(inner_bijection(inner), IdentityTransform):
        return None
    shape = leaf.shape()
    if isinstance(inner, dist.Normal):
        parts = (jnp.asarray(inner.loc, dtype), jnp.asarray(inner.scale, dtype))
        mean, scale = (jnp.broadcast_to(part, shape).reshape(-1) for part in parts)
        return mean, jnp.diag(scale)
    if isinstance(inner, dist.MultivariateNormal):
        mean = jnp.broadcast_to(jnp.asarray(inner.loc, dtype), shape).reshape(-1)
        factors = jnp.broadcast_to(inner.scale_tril, (*shape, shape[-1])).astype(dtype)
        return mean, block_diag(*factors.reshape(-1, shape[-1], shape[-1]))
    return None
