"""A pytree of distributions as one density on unconstrained vectors, with its draws.

Every support is mapped to the whole real line by the bijection numpyro registers for it, and the
density carries the log Jacobian, so that it is normalised on the vectors:

.. math:: \\log \\mu(x) = \\sum_j \\log p_j(T_j(x_j)) + \\log |\\det T_j'(x_j)|

Both are taken on the vectors themselves (`on_reals`), so that what rounds to the edge of a support is drawn and weighed right.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.core import Tracer
from jax.scipy.linalg import block_diag
from numpyro.distributions.transforms import ExpTransform, IdentityTransform

from smcinfer.ground.arrays import Array, Float, KeyArray, PyTree, Scalar
from smcinfer.ground.errors import TargetError
from smcinfer.ground.keys import small
from smcinfer.ground.names import check_names
from smcinfer.static.on_reals import LOST_LIMIT, inner_bijection, lost_share, on_reals, strip, to_finite

BARE_NAME = "theta"
"""What the draws of a bare distribution (no dict, so no name) are called."""


def _is_distribution(value: Any) -> bool:
    return isinstance(value, dist.Distribution)


def numbers_as_arrays[Tree](tree: Tree) -> Tree:
    """A tree with the numbers of its distributions as arrays, so that other numbers run the same program."""

    def numbers(node: Any) -> Any:
        if not _is_distribution(node):
            return node
        is_number = lambda leaf: isinstance(leaf, float | int) and not isinstance(leaf, bool)  # noqa: E731
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, float) if is_number(leaf) else leaf, node)

    return jax.tree.map(numbers, tree, is_leaf=_is_distribution)


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
    _check_draws(name, leaf)


def _check_draws(name: str, leaf: dist.Distribution) -> None:
    """Raise `TargetError` for a law so vague that its draws have no place among the numbers of this precision."""
    if any(isinstance(part, Tracer) for part in jax.tree.leaves(leaf)):
        return
    share = lost_share(leaf, jax.random.key(0))
    if share > LOST_LIMIT:
        raise lost_draws(f"prior {name!r}", type(strip(leaf)).__name__, share)


def lost_draws(what: str, law: str, share: float) -> TargetError:
    """The error for a law whose draws round to the edge of its support.

    Args:
        what: the part of the model, for the message.
        law: its family.
        share: of draws that were lost, in [0, 1].
    """
    return TargetError(
        f"{what} is too vague for this precision: its draws round to zero, to infinity or to the edge of its support",
        expected="draws that are numbers inside the support",
        got=f"{share:.2%} of the draws of a {law} at an edge",
        hint="give it a less extreme shape or scale, or write it on the scale where it is spread out (its logarithm, say: "
        "dist.TransformedDistribution(law of the logarithm, dist.transforms.ExpTransform()))",
    )


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
        check_names(names, "parameters")
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
        pairs = zip(self.names, self.distributions, strict=True)
        pieces = [dist.biject_to(leaf.support).inv(jnp.asarray(values[name])) for name, leaf in pairs]
        return to_finite(jnp.concatenate([jnp.ravel(piece) for piece in pieces]))

    def log_jacobian(self, x: Float[Array, " dim"]) -> Scalar:
        """Log Jacobian of `values`, nats."""
        total = jnp.zeros((), x.dtype)
        for leaf, piece in zip(self.distributions, self.split(x), strict=True):
            bijection = dist.biject_to(leaf.support)
            total += jnp.sum(bijection.log_abs_det_jacobian(piece, bijection(piece)))
        return total

    def log_density(self, x: Float[Array, " dim"]) -> Scalar:
        """Log density on the unconstrained space, Jacobians included, nats."""
        pairs = zip(self.distributions, self.split(x), strict=True)
        total = sum((jnp.sum(on_reals(leaf).log_prob(piece)) for leaf, piece in pairs), jnp.zeros((), x.dtype))
        return total.astype(x.dtype)

    def sample(self, key: KeyArray, n: int) -> Float[Array, "n dim"]:
        """``n`` exact draws as unconstrained vectors.

        Args:
            key: one random key.
            n: how many.
        """
        keys = jax.random.split(small(key), len(self.distributions))
        draws: list[Any] = [on_reals(leaf).sample(keys[j], (n,)) for j, leaf in enumerate(self.distributions)]
        return jnp.concatenate([draw.reshape(n, -1) for draw in draws], axis=1).astype(jnp.result_type(float))

    def gaussian(self) -> tuple[Float[Array, " dim"], Float[Array, "dim dim"]] | None:
        """Mean and lower Cholesky factor on the vectors where every leaf is Gaussian there, else ``None``."""
        parts = [gaussian_part(leaf) for leaf in self.distributions]
        if any(part is None for part in parts):
            return None
        found = [part for part in parts if part is not None]
        return jnp.concatenate([mean for mean, _ in found]), block_diag(*[scale for _, scale in found])


def gaussian_part(leaf: dist.Distribution) -> tuple[Array, Array] | None:
    """Flat mean and lower Cholesky factor of a distribution that is Gaussian on its unconstrained space.

    ``None`` where it is not Gaussian there, or not known to be.
    """
    dtype = jnp.result_type(float)
    inner = strip(leaf)
    if isinstance(inner, dist.LogNormal) and isinstance(inner_bijection(inner), ExpTransform):
        inner = strip(inner.base_dist)
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
