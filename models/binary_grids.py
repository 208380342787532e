r"""Binary grids: a Bayesian network on a square lattice, some of whose relations are all but deterministic.

.. math:: p(x) \prod_{ij} e(x_{ij}), \qquad p(x) = \prod_{ij} p(x_{ij} \mid x_{i-1,j}, x_{i,j-1})

A node is deterministic with probability ``determinism``: its value is then a random function of its two parents, but for a
leak. Otherwise its four probabilities are uniform. Some nodes were seen through noise, :math:`e`.

Marginals and log Z are exact: a message over one row of nodes passes down the grid, and the derivatives of log Z are the
marginals. No data are carried. Sources: Sang, Beame & Kautz (2005), section 6; Wang, Wu, Moore & Russell (2018), section 4.1.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.graphs import FactorGraph, Motif, Slot, factor_graph, tables
from smcinfer.ground.arrays import Array, Float, Int, KeyArray, Scalar
from smcinfer.ground.errors import ArgumentError

LARGEST_EXACT = 22
"""Sides above this would need messages of more than four million cells."""


class BinaryGrid(eqx.Module):
    """A grid with what was seen of it (made by `binary_grid`).

    Attributes:
        log_cpt: Float["side side 2 2 2"], log p(self | up, left), nats; indices up, left, self.
        log_evidence: Float["side side 2"], log e, nats; zero where nothing was seen.
        truth: Int["side side"], the state that the evidence was drawn from.
    """

    log_cpt: Float[Array, "side side 2 2 2"]
    log_evidence: Float[Array, "side side 2"]
    truth: Int[Array, "side side"]

    @property
    def side(self) -> int:
        """Nodes along an edge."""
        return self.truth.shape[0]

    def graph(self) -> FactorGraph:
        """The factor graph: variables row by row; groups ``cpt`` (up, left, self) and ``evidence`` (self)."""
        side = self.side
        node = np.arange(side * side).reshape(side, side)
        absent = side * side
        up = np.vstack([np.full((1, side), absent), node[:-1]])
        left = np.hstack([np.full((side, 1), absent), node[:, :-1]])
        scope = np.stack([up, left, node], axis=-1).reshape(-1, 3)
        return factor_graph(
            [2] * absent,
            {
                "cpt": tables(scope, np.asarray(self.log_cpt).reshape(-1, 2, 2, 2)),
                "evidence": tables(node.reshape(-1, 1), np.asarray(self.log_evidence).reshape(-1, 2)),
            },
            names=[f"x[{i},{j}]" for i in range(side) for j in range(side)],
        )

    def log_z(self) -> Scalar:
        """log of the probability of the evidence, exact, nats."""
        self._check_exact()
        return _log_z(self.log_cpt, self.log_evidence)

    def marginals(self) -> Float[Array, "side side"]:
        """P(x = 1) of every node given the evidence, exact."""
        self._check_exact()
        return jax.grad(_log_z, argnums=1)(self.log_cpt, self.log_evidence)[..., 1]

    def _check_exact(self) -> None:
        if self.side > LARGEST_EXACT:
            raise ArgumentError(
                "the grid is too wide to sum over", expected=f"a side of at most {LARGEST_EXACT}", got=self.side
            )


@jax.jit
def _log_z(log_cpt: Array, log_evidence: Array) -> Scalar:
    side = log_cpt.shape[0]
    factors = jnp.exp(log_cpt + log_evidence[:, :, None, None, :])

    def node(message: Array, factor: Array) -> tuple[Array, Array]:
        # The oldest node of the message is the one above, the youngest the one to the left.
        above = message.reshape(2, -1, 2)
        message = sum(above[up, :, :, None] * factor[up] for up in range(2)).reshape(-1)
        mass = jnp.sum(message)
        return message / mass, jnp.log(mass)

    # Messages of one row at a time are kept for the derivative.
    @jax.checkpoint
    def row(message: Array, factors: Array) -> tuple[Array, Array]:
        message, logs = jax.lax.scan(node, message, factors)
        return message, jnp.sum(logs)

    start = jnp.zeros((2**side,), factors.dtype).at[0].set(1.0)
    return jnp.sum(jax.lax.scan(row, start, factors)[1])


def random_tables(key: KeyArray, shape: tuple[int, ...], determinism: Array | float, leak: Array | float) -> Array:
    """log p(self | up, left) of nodes of which a share is deterministic but for a leak.

    Args:
        key: one random key.
        shape: of the grid; nodes are drawn independently.
        determinism: probability, in [0, 1], that a node is a function of its parents.
        leak: probability, in (0, 0.5), that a deterministic node takes the other value; the least entry of any table.

    Returns:
        Float["*shape 2 2 2"], log probabilities (nats) by value of up, of left and of the node.
    """
    kind_key, value_key, free_key = jax.random.split(key, 3)
    deterministic = jax.random.bernoulli(kind_key, determinism, shape)[..., None, None]
    image = jax.random.bernoulli(value_key, 0.5, (*shape, 2, 2))
    one = jnp.where(deterministic, jnp.where(image, 1.0 - leak, leak), jax.random.uniform(free_key, (*shape, 2, 2)))
    one = jnp.clip(one, leak, 1.0 - leak)
    return jnp.log(jnp.stack([1.0 - one, one], axis=-1))


def at_the_border(log_cpt: Array) -> Array:
    """Tables that do not depend on the parents that border nodes lack (what is absent counts as zero)."""
    log_cpt = log_cpt.at[0, :, 1].set(log_cpt[0, :, 0])
    return log_cpt.at[:, 0, :, 1].set(log_cpt[:, 0, :, 0])


def random_evidence(key: KeyArray, x: Array, observed: Array | float, flip: Array | float) -> Array:
    """log e of nodes seen with probability ``observed``, wrongly with probability ``flip``.

    Args:
        key: one random key.
        x: Int["*shape"], the values, 0 or 1, that are seen.
        observed: probability that a node is seen at all; what is not seen has log e = 0.
        flip: probability that what is seen is the other value.

    Returns:
        Float["*shape 2"], log likelihood of both values of each node, nats.
    """
    seen_key, flip_key = jax.random.split(key)
    seen = jax.random.bernoulli(seen_key, observed, x.shape)[..., None]
    y = x ^ jax.random.bernoulli(flip_key, flip, x.shape).astype(x.dtype)
    right = jnp.arange(2) == y[..., None]
    return jnp.where(seen, jnp.log(jnp.where(right, 1.0 - flip, flip)), 0.0)


def forward(key: KeyArray, log_cpt: Array) -> Int[Array, "side side"]:
    """A draw of the network, row by row; the parents that the border lacks are zero."""
    side = log_cpt.shape[0]
    noise = jax.random.uniform(key, (side, side), log_cpt.dtype)

    def row(above: Array, parts: tuple[Array, Array]) -> tuple[Array, Array]:
        def node(left: Array, cell: tuple[Array, Array, Array]) -> tuple[Array, Array]:
            log_p, up, uniform = cell
            value = (uniform < jnp.exp(log_p[up, left, 1])).astype(jnp.int32)
            return value, value

        _, values = jax.lax.scan(node, jnp.zeros((), jnp.int32), (parts[0], above, parts[1]))
        return values, values

    return jax.lax.scan(row, jnp.zeros((side,), jnp.int32), (log_cpt, noise))[1]


def binary_grid(
    key: KeyArray,
    side: int = 20,
    determinism: float = 0.75,
    *,
    leak: float = 1e-3,
    observed: float = 0.2,
    flip: float = 0.1,
) -> BinaryGrid:
    """A random grid, a state of it, and what was seen of that state.

    Args:
        key: consumed here.
        side: nodes along an edge.
        determinism: share of deterministic nodes, in [0, 1].
        leak: probability that a deterministic node takes the other value, in (0, 1/2).
        observed: share of nodes that were seen.
        flip: probability that a seen node was seen wrongly, in (0, 1).
    """
    for name, value, most in (("determinism", determinism, 1.0), ("leak", leak, 0.5), ("flip", flip, 1.0)):
        if not 0.0 <= value <= most or (value == 0.0 and name != "determinism"):
            raise ArgumentError(f"{name} is out of range", expected=f"a number up to {most}", got=value)
    table_key, draw_key, see_key = jax.random.split(key, 3)
    log_cpt = at_the_border(random_tables(table_key, (side, side), determinism, leak))
    truth = forward(draw_key, log_cpt)
    return BinaryGrid(log_cpt, random_evidence(see_key, truth, observed, flip), truth)


def grid_motif(rows: int = 3, columns: int = 3) -> Motif:
    """A rectangle of nodes with everything that touches it: parents, children, and the children's other parents."""
    inside = [(i, j) for i in range(rows) for j in range(columns)]
    parents = [(-1, j) for j in range(columns)] + [(i, -1) for i in range(rows)]
    children = [(i, columns) for i in range(rows)] + [(rows, j) for j in range(columns)]
    others = [(-1, columns), (rows, -1)]
    place = {node: at for at, node in enumerate([*inside, *parents, *children, *others])}
    own = [Slot("cpt", (place[i - 1, j], place[i, j - 1], place[i, j])) for i, j in [*inside, *children]]
    seen = [Slot("evidence", (place[node],)) for node in inside]
    return Motif(f"grid_{rows}x{columns}", (2,) * len(inside), (2,) * (len(place) - len(inside)), (*own, *seen))
