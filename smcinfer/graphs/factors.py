r"""Groups of factors of one kind: :math:`\log f_i(x_{s_i})`, their scopes in one table, evaluated by index.

A group is evaluated only where it is asked: a move that changes a few variables pays for the factors around them.
"""

import abc
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from smcinfer.ground.arrays import Array, Float, Int, Scalar
from smcinfer.ground.errors import ArgumentError


class Factors(eqx.Module):
    r"""Factors of one kind, :math:`\log f_i(x_{s_i})` raised to a common power.

    Attributes:
        scope: Int["factors arity"], the variables of each factor, in the order of its arguments. The number of variables of
            the graph stands for a variable that is absent, whose value is zero.
        strength: Float[""], the power: one for the graph as it was given, less along a tempering path.
    """

    scope: eqx.AbstractVar[Int[Array, "factors arity"]]
    strength: eqx.AbstractVar[Scalar]

    @property
    def num_factors(self) -> int:
        """Factors in the group."""
        return self.scope.shape[0]

    @property
    def arity(self) -> int:
        """Arguments of a factor."""
        return self.scope.shape[1]

    @abc.abstractmethod
    def evaluate(self, index: Int[Array, "*batch"], values: Array) -> Float[Array, "*batch"]:
        """log f of factors ``index`` at ``values`` (*batch, arity), nats, at strength one."""

    @abc.abstractmethod
    def parameters(self, index: Int[Array, "*batch"]) -> Float[Array, "*batch num_parameters"]:
        """What defines each factor, as numbers a network can read; zeros where the factor is absent."""

    def __call__(self, index: Int[Array, "*batch"], values: Array) -> Float[Array, "*batch"]:
        """log of the factors at their strength; zero for index ``num_factors``, the factor that is absent."""
        logs = self.evaluate(jnp.minimum(index, self.num_factors - 1), values)
        # Zero times minus infinity counts as zero, as everywhere in the engine.
        weighted = self.strength * jnp.where(self.strength == 0, 0.0, logs)
        return jnp.where(index < self.num_factors, weighted, 0.0)


class Tables(Factors):
    """Factors on finite variables, given as tables (made by `tables`).

    Attributes:
        scope, strength: as in `Factors`.
        log_tables: Float["tables cells"], nats, the last argument fastest: one a factor, or one for all factors.
        shape: categories of each argument.
    """

    scope: Int[Array, "factors arity"]
    strength: Scalar
    log_tables: Float[Array, "tables cells"]
    shape: tuple[int, ...] = eqx.field(static=True)

    @property
    def is_shared(self) -> bool:
        """Whether all factors have one table."""
        return self.log_tables.shape[0] == 1

    @property
    def strides(self) -> tuple[int, ...]:
        """How far one category more of each argument is in the table."""
        return tuple(math.prod(self.shape[place + 1 :]) for place in range(len(self.shape)))

    def evaluate(self, index: Int[Array, "*batch"], values: Array) -> Float[Array, "*batch"]:
        """One look into each table."""
        cell = sum(values[..., place].astype(jnp.int32) * stride for place, stride in enumerate(self.strides))
        return self.at(index, cell)

    def at(self, index: Int[Array, "*#batch"], cell: Int[Array, "*#batch"]) -> Float[Array, "..."]:
        """One cell of each table, nats."""
        start = 0 if self.is_shared else index * self.log_tables.shape[1]
        return self.log_tables.reshape(-1)[start + cell]

    def parameters(self, index: Int[Array, "*batch"]) -> Float[Array, "*batch num_parameters"]:
        """The log tables at their strength, each with its largest cell at zero."""
        relative = self.log_tables - jnp.max(self.log_tables, axis=1, keepdims=True)
        relative = self.strength * jnp.where(self.strength == 0, 0.0, relative)
        there = (index < self.num_factors)[..., None]
        return jnp.where(there, relative[jnp.minimum(index, self.log_tables.shape[0] - 1)], 0.0)


class Functions(Factors):
    """Factors given by one function of parameters and values (made by `functions`): continuous, discrete or both.

    Attributes:
        scope, strength: as in `Factors`.
        numbers: Float["factors num_parameters"], the parameters of each factor.
        function: ``(Float["num_parameters"], values (arity,)) -> Float[""]``, log f of one factor, nats.
    """

    scope: Int[Array, "factors arity"]
    strength: Scalar
    numbers: Float[Array, "factors num_parameters"]
    function: Callable[[Array, Array], Array]

    def evaluate(self, index: Int[Array, "*batch"], values: Array) -> Float[Array, "*batch"]:
        """One call a factor, batched."""
        call = self.function
        for _ in range(index.ndim):
            call = jax.vmap(call)
        return call(self.numbers[index], values).astype(self.numbers.dtype)

    def parameters(self, index: Int[Array, "*batch"]) -> Float[Array, "*batch num_parameters"]:
        """The numbers of the factors at ``index``; zeros where there is no such factor."""
        there = (index < self.num_factors)[..., None]
        return jnp.where(there, self.numbers[jnp.minimum(index, self.num_factors - 1)], 0.0)


def tables(scope: ArrayLike, log_tables: ArrayLike) -> Tables:
    """Factors on finite variables from their tables.

    Args:
        scope: (factors, arity), integers: the variables of each factor.
        log_tables: (factors, categories of the first argument, ...), nats; minus infinity forbids. A leading axis of one
            is one table for all factors.
    """
    log_tables = np.asarray(log_tables)
    num_tables = log_tables.shape[0] if log_tables.ndim else 0
    where = _scope(scope, len(np.asarray(scope)) if num_tables == 1 else num_tables)
    if log_tables.ndim != 1 + where.shape[1]:
        raise ArgumentError(
            "the tables do not fit their scopes",
            expected=f"one axis of factors and {where.shape[1]} of categories",
            got=f"shape {log_tables.shape}",
        )
    if np.isnan(log_tables).any() or (log_tables == np.inf).any():
        raise ArgumentError("a log table is NaN or plus infinity", expected="logs of non-negative numbers")
    dtype = jnp.result_type(float)
    flat = jnp.asarray(log_tables.reshape(len(log_tables), -1), dtype)
    return Tables(where, jnp.ones((), dtype), flat, log_tables.shape[1:])


def functions(scope: ArrayLike, numbers: ArrayLike, function: Callable[[Array, Array], Array]) -> Functions:
    """Factors given by one function.

    Args:
        scope: (factors, arity), integers: the variables of each factor.
        numbers: (factors, num_parameters), the parameters of each factor.
        function: ``(Float["num_parameters"], values (arity,)) -> Float[""]``, log f of one factor, nats.
    """
    dtype = jnp.result_type(float)
    numbers = jnp.asarray(numbers, dtype)
    if numbers.ndim != 2:
        raise ArgumentError("numbers are not one row a factor", expected="(factors, parameters)", got=numbers.shape)
    return Functions(_scope(scope, numbers.shape[0]), jnp.ones((), dtype), numbers, function)


def _scope(scope: ArrayLike, num_factors: int) -> Int[Array, "factors arity"]:
    where = np.asarray(scope)
    if where.ndim != 2 or not np.issubdtype(where.dtype, np.integer) or where.shape[0] != num_factors or not where.size:
        raise ArgumentError(
            "a scope is one row of variables a factor",
            expected=f"integers of shape ({num_factors}, arity)",
            got=f"{where.dtype} of shape {where.shape}",
        )
    return jnp.asarray(where, jnp.int32)
