"""PyMC models with discrete free variables, for `smcinfer.static.mixed`."""

import copy
import importlib
import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array, Float, Int, KeyArray
from smcinfer.ground.errors import TargetError
from smcinfer.kernels.base import Kernel
from smcinfer.paths.moves import Moves
from smcinfer.paths.schedules import Schedule
from smcinfer.static.mixed import MixedPath, check_both_kinds, mixed_path, table_of
from smcinfer.static.pymc_model import SUM_OUT, Graph, checked_model


def mixed_from_pymc(
    model: Any,
    *,
    kernel: str | Kernel = "hmc",
    schedule: str | Schedule | list[float] = "ess",
    moves: Moves | None = None,
    led: bool = True,
) -> MixedPath:
    """The posterior of a PyMC model with discrete free variables: a model for `smcinfer.sample`, tempered from its prior.

    Args:
        model: a `pymc.Model` with at least one real and one discrete free variable; discrete ones are Bernoulli, Categorical,
            Binomial or DiscreteUniform, with sizes and bounds that no free variable changes.
        kernel: what moves the reals given the rest.
        schedule: as of `smcinfer.Tempering`.
        moves: how often particles move at each exponent; ``Moves()`` where ``None``.
        led: as of `smcinfer.Tempering`.

    Returns:
        `MixedPath`, whose moves cost what those of `mixed_from_numpyro` do.

    Raises:
        TargetError: no discrete variable, or one of infinitely many values; no real one; or as of `from_pymc`.
        ArgumentError: it is no PyMC model, or a setting is of the wrong kind.

    Properly weighted for: the posterior of all variables; log Z is the log evidence, summed over the discrete ones.
    """
    model = checked_model(model)
    discrete = [value.name for value in model.discrete_value_vars]
    real = [value.name for value in model.continuous_value_vars]
    check_both_kinds(discrete, real, "smcinfer.from_pymc(model)", "smcinfer.annealed(a factor graph)")
    graph = MixedGraph(model)
    graph.check_draws()
    return mixed_path(graph, kernel, schedule, moves, led)


class MixedGraph(Graph):
    """A PyMC model as functions of the vector of its reals, with its discrete variables held.

    Attributes:
        values: Int["sites most"], what each element of the discrete vector may be, padded by its first value.
        counts: Int["sites"], how many values each has.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        finite = set(model.discrete_value_vars)
        self._discrete = [value in finite for value in model.value_vars]
        self._held: Int[Array, " sites"] | None = None
        rows = [
            row
            for value, shape in zip(model.value_vars, self.shapes, strict=True)
            if value in finite
            for row in [_support(model, model.values_to_rvs[value])] * math.prod(shape)
        ]
        self.values, self.counts = table_of(rows)
        is_discrete = [np.full(math.prod(shape), kind) for kind, shape in zip(self._discrete, self.shapes, strict=True)]
        self._places = np.concatenate(is_discrete)
        self.dim = int((~self._places).sum())

    def _split(self, x: Float[Array, " dim"]) -> list[Array]:
        assert self._held is not None, "densities are asked for through `at`"
        whole, z = self._cut(x, held=False), self._cut(self._held, held=True)
        return [z.pop(0) if kind else whole.pop(0) for kind in self._discrete]

    def _cut(self, vector: Array, *, held: bool) -> list[Array]:
        shapes = [shape for kind, shape in zip(self._discrete, self.shapes, strict=True) if kind == held]
        ends = np.cumsum([math.prod(shape) for shape in shapes])
        return [piece.reshape(shape) for piece, shape in zip(jnp.split(vector, ends[:-1]), shapes, strict=True)]

    def at(self, z: Int[Array, " sites"]) -> "MixedGraph":
        """The model with its discrete variables held."""
        held = copy.copy(self)
        held._held = z
        return held

    def draws(self, key: KeyArray, n: int) -> tuple[Float[Array, "n dim"], Int[Array, "n sites"]]:
        """Exact draws of the prior, by PyMC: the two vectors of each."""
        rows = self.sample_base(key, n)
        return rows[:, ~self._places], jnp.round(rows[:, self._places]).astype(jnp.int32)


def _support(model: Any, variable: Any) -> np.ndarray:
    """The values that an element of a discrete variable may take."""
    ancestors = importlib.import_module("pytensor.graph.traversal").ancestors

    op = variable.owner.op
    kind, given = type(op).__name__, op.dist_params(variable.owner)
    if kind == "BernoulliRV":
        return np.arange(2)
    if kind == "CategoricalRV":
        return np.arange(int(given[0].shape[-1].eval()))
    bounds = {"BinomialRV": given[:1], "DiscreteUniformRV": given}.get(kind)
    if bounds is None or not set(model.free_RVs).isdisjoint(ancestors(bounds)):
        raise TargetError(
            f"discrete variable {variable.name!r} has infinitely many values, or a number of them that changes",
            expected="Bernoulli, Categorical, Binomial or DiscreteUniform, with fixed bounds",
            got=kind.removesuffix("RV"),
            hint=f"cut it off: a Categorical over the values that matter; or {SUM_OUT}",
        )
    first, last = ([np.zeros(())] if kind == "BinomialRV" else []) + [np.asarray(bound.eval()) for bound in bounds]
    return np.arange(int(first.min()), int(last.max()) + 1)
