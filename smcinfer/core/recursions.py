r"""Long recursions evaluated at all steps at once: fixed-point iterations in place of a loop over time.

.. math:: x_t = f_t(x_{t-1}), \quad t = 1 .. T: \qquad x_t^{k+1} = f_t(x_{t-1}^k) + A_t^k (x_{t-1}^{k+1} - x_{t-1}^k)

With :math:`A` the derivative of f this is Newton's iteration (DEER), with its diagonal a quasi-Newton one, with the identity
Picard's, with zero Jacobi's. Each iteration is linear, and linear recursions are associative scans, O(log T) deep. Whatever
:math:`A` is, the first k steps are those of the loop after k iterations: T iterations are always enough, and few are worth it.
Gauss-Seidel-Jacobi iterations loop within blocks of steps and take all blocks at once.

Sources: Lim, Zhu, Selfridge & Kasim (2024) for DEER; Song, Meng, Liao & Ermon (2021) for Jacobi and Gauss-Seidel iterations;
Gonzalez et al. (2024) for the diagonal, and for setting aside what is not finite.
"""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Flag, Float, Int, PyTree, Scalar
from smcinfer.ground.errors import ArgumentError

Step = Callable[[Float[Array, " d"], PyTree[Any]], Float[Array, " d"]]
Path = Float[Array, "steps d"]

RESOLUTIONS = 1e3
"""Units of rounding that an error may be of, where no tolerance is given."""


class Report(NamedTuple):
    """How a recursion was evaluated.

    Attributes:
        iterations: Int[""], how many it took.
        error: Float[""], the largest ``|x_t - f_t(x_{t-1})| / (1 + |x_t|)`` that was left, of any entry at any step.
        converged: Bool[""], whether that is within the tolerance.
    """

    iterations: Int[Array, ""]
    error: Scalar
    converged: Flag


class Way(eqx.Module):
    """How a recursion is evaluated at all steps at once.

    Attributes:
        tolerance: the error at which iterations end; a thousand units of rounding where ``None``.
        max_iterations: the most iterations; as many as there are steps, which always suffice, where ``None``.
    """

    tolerance: float | None = eqx.field(static=True, default=None, kw_only=True)
    max_iterations: int | None = eqx.field(static=True, default=None, kw_only=True)

    def __check_init__(self) -> None:
        if self.tolerance is not None:
            validate.number("tolerance", self.tolerance, above=0.0)
        if self.max_iterations is not None:
            validate.count("max_iterations", self.max_iterations)

    @abc.abstractmethod
    def begun(self, step: Step, start: Float[Array, " d"], xs: PyTree[Any]) -> PyTree[Any]:
        """What iterations start from.

        Args:
            step: ``(x_{t-1}, input of step t) -> x_t``.
            start: x_0.
            xs: inputs, leading axis T.
        """

    @abc.abstractmethod
    def once(
        self, step: Step, start: Float[Array, " d"], xs: PyTree[Any], at: PyTree[Any]
    ) -> tuple[PyTree[Any], Scalar]:
        """One iteration, and the error that is left after it."""

    @abc.abstractmethod
    def path(self, step: Step, start: Float[Array, " d"], xs: PyTree[Any], at: PyTree[Any]) -> Path:
        """x_1 .. x_T as they are after the last iteration."""

    def evaluated(self, step: Step, start: Float[Array, " d"], xs: PyTree[Any]) -> tuple[Path, Report]:
        """Iterations up to the tolerance, and how many there were."""
        length = jax.tree.leaves(xs)[0].shape[0]
        enough = RESOLUTIONS * jnp.finfo(start.dtype).eps if self.tolerance is None else self.tolerance
        most = length if self.max_iterations is None else min(self.max_iterations, length)

        def more(carry: tuple[PyTree[Any], Scalar, Array]) -> Array:
            return (carry[1] > enough) & (carry[2] < most)

        def turn(carry: tuple[PyTree[Any], Scalar, Array]) -> tuple[PyTree[Any], Scalar, Array]:
            at, error = self.once(step, start, xs, carry[0])
            return at, error, carry[2] + 1

        first = (self.begun(step, start, xs), jnp.asarray(jnp.inf, start.dtype), jnp.zeros((), jnp.int32))
        at, error, count = jax.lax.while_loop(more, turn, first)
        return self.path(step, start, xs, at), Report(count, error, error <= enough)


class _Linear(Way):
    """Iterations of the module equation; its state is the path, and what the steps make of it."""

    @abc.abstractmethod
    def solved(self, step: Step, before: Path, xs: PyTree[Any], values: Path) -> Path:
        """The path of the linear recursion around ``before``, x_0 .. x_{T-1}, at which the steps give ``values``."""

    def begun(self, step: Step, start: Float[Array, " d"], xs: PyTree[Any]) -> tuple[Path, Path]:
        """The start at every step."""
        path = jnp.broadcast_to(start, (jax.tree.leaves(xs)[0].shape[0], *start.shape))
        return path, jax.vmap(step)(path, xs)

    def once(
        self, step: Step, start: Float[Array, " d"], xs: PyTree[Any], at: tuple[Path, Path]
    ) -> tuple[tuple[Path, Path], Scalar]:
        """The linear recursion solved; an entry that it makes no number of is what its step says of the path before."""
        path, values = at
        found = self.solved(step, _before(start, path), xs, values)
        path = jnp.where(jnp.isfinite(found), found, values)
        values = jax.vmap(step)(_before(start, path), xs)
        return (path, values), _apart(path, values)

    def path(self, step: Step, start: Float[Array, " d"], xs: PyTree[Any], at: tuple[Path, Path]) -> Path:
        """What the last linear recursion gave."""
        return at[0]


class DEER(_Linear):
    """Newton's iteration: few iterations, each of which multiplies T matrices of d rows and columns.

    Attributes:
        diagonal: keep the diagonal of the derivatives alone: more iterations, each of the cost of d sums.
    """

    diagonal: bool = eqx.field(static=True, default=False)

    def solved(self, step: Step, before: Path, xs: PyTree[Any], values: Path) -> Path:
        """By the derivatives of all steps."""
        slopes = jax.vmap(jax.jacfwd(step))(before, xs)
        if self.diagonal:
            slopes = jnp.diagonal(slopes, axis1=1, axis2=2)
            times = lambda slope, x: slope * x  # noqa: E731
            compose = times
        else:
            times = lambda slope, x: jnp.einsum("...ij,...j->...i", slope, x)  # noqa: E731
            compose = lambda later, sooner: later @ sooner  # noqa: E731
        # The first step starts from x_0 itself.
        offsets, slopes = (values - times(slopes, before)).at[0].set(values[0]), slopes.at[0].set(0.0)

        def combined(sooner: tuple[Array, Array], later: tuple[Array, Array]) -> tuple[Array, Array]:
            return compose(later[0], sooner[0]), times(later[0], sooner[1]) + later[1]

        return jax.lax.associative_scan(combined, (slopes, offsets))[1]


class Picard(_Linear):
    """Sums of what each step adds: no derivative; it ends soon where steps are small, those of a differential equation say."""

    def solved(self, step: Step, before: Path, xs: PyTree[Any], values: Path) -> Path:
        """By the identity in place of the derivatives."""
        return before[0] + jax.lax.associative_scan(jnp.add, values - before)


class GaussSeidelJacobi(Way):
    """A loop within each block of steps, all blocks at once: no derivative, and at most as many iterations as blocks.

    Attributes:
        num_blocks: how many blocks the steps are cut into; with one step a block it is Jacobi's iteration.
    """

    num_blocks: int = eqx.field(static=True, default=16)

    def __check_init__(self) -> None:
        validate.count("num_blocks", self.num_blocks)

    def begun(self, step: Step, start: Float[Array, " d"], xs: PyTree[Any]) -> Float[Array, "blocks d"]:
        """Every block starts where the whole does."""
        count = min(self.num_blocks, jax.tree.leaves(xs)[0].shape[0])
        return jnp.broadcast_to(start, (count, *start.shape))

    def _blocks(self, step: Step, xs: PyTree[Any], starts: Float[Array, "blocks d"]) -> Float[Array, "blocks rows d"]:
        count = starts.shape[0]

        def cut(leaf: Array) -> Array:
            rows = -(-leaf.shape[0] // count)
            return leaf[jnp.minimum(jnp.arange(rows * count), leaf.shape[0] - 1)].reshape(count, rows, *leaf.shape[1:])

        def one(start: Array, xs: PyTree[Any]) -> Array:
            def follow(x: Array, u: PyTree[Any]) -> tuple[Array, Array]:
                after = step(x, u)
                return after, after

            return jax.lax.scan(follow, start, xs)[1]

        return jax.vmap(one)(starts, jax.tree.map(cut, xs))

    def once(
        self, step: Step, start: Float[Array, " d"], xs: PyTree[Any], at: Float[Array, "blocks d"]
    ) -> tuple[Float[Array, "blocks d"], Scalar]:
        """Every block from where the one before it ended."""
        ends = self._blocks(step, xs, at)[:, -1]
        starts = _before(start, ends)
        return starts, _apart(at, starts)

    def path(self, step: Step, start: Float[Array, " d"], xs: PyTree[Any], at: Float[Array, "blocks d"]) -> Path:
        """All blocks in a row."""
        length = jax.tree.leaves(xs)[0].shape[0]
        return self._blocks(step, xs, at).reshape(-1, start.shape[0])[:length]


def scan(
    once: Callable[[PyTree[Any], PyTree[Any]], tuple[PyTree[Any], PyTree[Any]]],
    start: PyTree[Any],
    xs: PyTree[Any],
    way: Way | None = None,
) -> tuple[PyTree[Any], PyTree[Any], Report]:
    """`jax.lax.scan`, evaluated at all steps at once where a way is given.

    Args:
        once: ``(carry, x) -> (carry, out)``; the carry is a tree of floats.
        start: the carry before the first step.
        xs: inputs of the steps, leading axis T.
        way: `DEER`, `Picard` or `GaussSeidelJacobi`; a loop where ``None``, with no error and as many iterations as steps.
            Reverse-mode derivatives do not pass through its iterations.

    Returns:
        The last carry, what the steps gave out, and the `Report`.

    Raises:
        ArgumentError: for a carry that is not of floats, which no iteration can approach.
    """
    length = jax.tree.leaves(xs)[0].shape[0]
    if way is None or length == 0:
        last, outs = jax.lax.scan(once, start, xs)
        return last, outs, Report(jnp.asarray(length, jnp.int32), jnp.zeros(()), jnp.asarray(True))
    way = validate.instance("way", way, Way, "smcinfer.DEER(), smcinfer.Picard() or smcinfer.GaussSeidelJacobi()")
    kinds = [jnp.result_type(leaf) for leaf in jax.tree.leaves(start)]
    if not all(jnp.issubdtype(kind, jnp.floating) for kind in kinds):
        raise ArgumentError(
            "only a carry of floats can be iterated on", expected="floats", got=[str(kind) for kind in kinds]
        )
    vector, tree = ravel_pytree(start)
    step: Step = lambda x, u: ravel_pytree(once(tree(x), u)[0])[0].astype(vector.dtype)  # noqa: E731
    path, report = way.evaluated(step, vector, xs)
    outs = jax.vmap(lambda x, u: once(tree(x), u)[1])(_before(vector, path), xs)
    return tree(path[-1]), outs, report


def _before(start: Float[Array, " d"], path: Path) -> Path:
    return jnp.concatenate([start[None], path[:-1]])


def _apart(path: Path, values: Path) -> Scalar:
    gaps = jnp.abs(path - values) / (1.0 + jnp.abs(values))
    # A largest entry may pass over what is no number.
    return jnp.max(jnp.where(jnp.isfinite(gaps), gaps, jnp.inf))
