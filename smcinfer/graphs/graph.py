r"""A factor graph: variables, groups of factors on them, and which variables are observed.

.. math:: \pi(x) = \frac{1}{Z} \prod_g \prod_i f_{g,i}(x_{s_{g,i}})

The state is one vector of all variables: integers where every variable is finite, else floats in which the finite ones
hold whole numbers.
"""

from collections.abc import Mapping, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.graphs.factors import Factors, Tables
from smcinfer.ground.arrays import Array, Bool, Float, Int, Scalar
from smcinfer.ground.errors import ArgumentError, TargetError

REAL = 0
"""The "number of categories" of a real variable."""

State = Int[Array, " variables"] | Float[Array, " variables"]


class FactorGraph(eqx.Module):
    """Variables and factors (made by `factor_graph`).

    Attributes:
        cardinalities: categories of each variable, `REAL` for a real one.
        factors: groups by name.
        observed: Bool["variables"].
        values: the values of observed variables, anything elsewhere.
        names: of the variables, for messages and draws.
    """

    cardinalities: tuple[int, ...] = eqx.field(static=True)
    factors: dict[str, Factors]
    observed: Bool[Array, " variables"]
    values: State
    names: tuple[str, ...] | None = eqx.field(static=True, default=None)

    @property
    def num_variables(self) -> int:
        """Variables, observed ones included."""
        return len(self.cardinalities)

    @property
    def is_finite(self) -> bool:
        """Whether every variable has finitely many values."""
        return REAL not in self.cardinalities

    @property
    def free(self) -> tuple[int, ...]:
        """Variables that are not observed (host)."""
        return tuple(np.flatnonzero(~np.asarray(self.observed)).tolist())

    def name(self, variable: int) -> str:
        """What a message calls a variable."""
        return f"variable {variable}" if self.names is None else self.names[variable]

    def log_prob(self, x: State) -> Scalar:
        """log of the product of all factors, nats, not normalised."""
        padded = jnp.append(x, jnp.zeros((), x.dtype))
        terms = [jnp.sum(group(jnp.arange(group.num_factors), padded[group.scope])) for group in self.factors.values()]
        return sum(terms, start=jnp.zeros((), jnp.result_type(float)))

    def tempered(self, strength: Scalar | float) -> "FactorGraph":
        """The graph with every factor raised to a power; a network sees the tables as they then are."""
        return eqx.tree_at(
            lambda graph: [group.strength for group in graph.factors.values()],
            self,
            [group.strength * strength for group in self.factors.values()],
        )

    def observe(self, values: Mapping[int, float | int]) -> "FactorGraph":
        """The graph with some variables known.

        Args:
            values: variable -> value.

        Raises:
            ArgumentError: no such variable, or a value that it cannot have.
        """
        mask, known = np.array(self.observed), np.array(self.values)
        for variable, value in values.items():
            if not 0 <= variable < self.num_variables:
                raise ArgumentError("no such variable", expected=f"0 to {self.num_variables - 1}", got=variable)
            _check_value(self, variable, value)
            mask[variable], known[variable] = True, value
        return eqx.tree_at(lambda graph: (graph.observed, graph.values), self, (jnp.asarray(mask), jnp.asarray(known)))

    def clamp(self, x: Array) -> Array:
        """A state with the observed variables at their values."""
        return jnp.where(self.observed, self.values, x)


def factor_graph(
    cardinalities: int | Sequence[int],
    factors: Mapping[str, Factors],
    *,
    observed: Mapping[int, float | int] | None = None,
    names: Sequence[str] | None = None,
) -> FactorGraph:
    """A factor graph from its parts.

    Args:
        cardinalities: categories of each variable, `REAL` (zero) for a real one.
        factors: groups of factors by name (`tables`, `functions`).
        observed: variable -> value of what is known.
        names: one a variable.

    Raises:
        TargetError: scopes out of range, tables that do not fit the variables they are on, a real variable in a table.
    """
    cards = tuple(int(card) for card in np.atleast_1d(np.asarray(cardinalities)))
    if not cards or min(cards) < 0 or 1 in cards:
        raise ArgumentError("cardinalities are out of range", expected="0 (real) or at least 2 categories", got=cards)
    if not factors:
        raise ArgumentError("a graph needs factors", expected="at least one group", got=dict(factors))
    for name, group in factors.items():
        _check_group(name, group, np.array(cards))
    if names is not None and len(names) != len(cards):
        raise ArgumentError("names do not fit the variables", expected=f"{len(cards)} names", got=len(names))
    dtype = jnp.result_type(float) if REAL in cards else jnp.int32
    nothing = jnp.zeros((len(cards),), dtype)
    graph = FactorGraph(cards, dict(factors), jnp.zeros((len(cards),), bool), nothing, names and tuple(names))
    return graph if observed is None else graph.observe(observed)


def _check_group(name: str, group: Factors, cards: np.ndarray) -> None:
    scope = np.asarray(group.scope)
    if scope.min() < 0 or scope.max() > len(cards):
        raise TargetError(
            f"factors {name!r} are on variables that do not exist",
            expected=f"0 to {len(cards) - 1} ({len(cards)} for an absent one)",
            got=f"{scope.min()} to {scope.max()}",
        )
    ordered = np.sort(scope, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] < len(cards))).any():
        raise TargetError(f"a factor of {name!r} names one variable twice", expected="distinct variables in a scope")
    if isinstance(group, Tables):
        allowed = np.array(group.shape)
        # An absent variable is always zero: it fits any table.
        have = np.append(cards, 1)[scope]
        if (have == REAL).any() or (have > allowed).any():
            raise TargetError(
                f"tables {name!r} do not fit the variables they are on",
                expected=f"finite variables of at most {group.shape} categories",
                got=f"up to {tuple(have.max(axis=0).tolist())}, real ones: {int((have == REAL).sum())}",
            )


def _check_value(graph: FactorGraph, variable: int, value: float | int) -> None:
    card = graph.cardinalities[variable]
    if card != REAL and not (float(value).is_integer() and 0 <= value < card):
        raise ArgumentError(
            f"{graph.name(variable)} cannot have this value", expected=f"a whole number in 0 to {card - 1}", got=value
        )


def uniform_states(key: Array, graph: FactorGraph, num: int) -> Array:
    """States that know nothing: every category equally likely, reals standard normal, observed variables in place.

    Args:
        key: consumed here.
        graph: the graph.
        num: how many.

    Returns:
        (num, variables).
    """
    cards = jnp.asarray(graph.cardinalities)
    shape = (num, graph.num_variables)
    if graph.is_finite:
        draws = jax.random.randint(key, shape, 0, cards)
    else:
        key, normal_key = jax.random.split(key)
        whole = jax.random.randint(key, shape, 0, jnp.maximum(cards, 1)).astype(graph.values.dtype)
        draws = jnp.where(cards == REAL, jax.random.normal(normal_key, shape, graph.values.dtype), whole)
    return jax.vmap(graph.clamp)(draws.astype(graph.values.dtype))
