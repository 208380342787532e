r"""A numpyro model as a factor graph: one factor for each element of each site's log density.

.. math:: \log p(x, y) = \sum_{\text{sites } j} \sum_{\text{elements } i} \log p_{j,i}(x_{s_{j,i}})

The scopes :math:`s_{j,i}` are read from the traced program, element by element, so that plates and batches fall apart into
small factors. Where all variables of a factor are finite it becomes a table, and a move never runs the model again. A factor
with a real variable is evaluated by running its site with everything outside its scope held still.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro import handlers

from smcinfer.graphs import REAL, FactorGraph, Factors, factor_graph, functions, tables
from smcinfer.graphs.inference.dependence import dependence
from smcinfer.ground.arrays import Array, Float
from smcinfer.ground.errors import TargetError
from smcinfer.static.numpyro_replay import Trace, example_trace, is_latent

MOST_CELLS = 4096
"""Cells a factor's table may have."""

BATCH = 4096
"""Evaluations of the model made at once while tables are filled."""


def graph_from_numpyro(model: Callable[..., Any], *args: Any, **kwargs: Any) -> FactorGraph:
    """The factor graph of a numpyro model; what the model observes is inside the factors.

    Variables are the elements of the latent sites, in the model's order, called ``site[i, j]``; real ones live on the
    unconstrained line, log Jacobians included. A group of factors is called after its site, and after its number of
    arguments too where a site's factors differ in that: ``site/2``. Arguments are in the order of the variables.

    Args:
        model: a numpyro model; discrete sites must have finite support, real ones must be constrained element by element.
        args, kwargs: its arguments, the data among them.

    Raises:
        TargetError: a site that has no such form; a factor whose table would be too large.
    """
    trace = example_trace(model, args, kwargs)
    layout = _Layout(model, args, kwargs, trace)
    middle = layout.example()
    scopes = dependence(layout.log_probs, middle)
    groups: dict[tuple[str, int], list[int]] = defaultdict(list)
    for at, name in enumerate(layout.owners):
        groups[name, int(scopes[:, at].sum())].append(at)
    arities = defaultdict(set)
    for name, arity in groups:
        if arity:
            arities[name].add(arity)
    constant = float(
        sum(np.sum(np.asarray(layout.log_probs(middle))[ids]) for (_, arity), ids in groups.items() if not arity)
    )
    factors: dict[str, Factors] = {}
    for (name, arity), ids in groups.items():
        if arity == 0:
            continue
        scope = np.stack([np.flatnonzero(scopes[:, at]) for at in ids])
        label = name if len(arities[name]) == 1 else f"{name}/{arity}"
        finite = all(layout.cards[variable] != REAL for variable in scope.ravel())
        offset = 0.0 if factors else constant
        factors[label] = (_tables if finite else _functions)(layout, name, ids, scope, offset)
    return factor_graph(layout.cards, factors, names=layout.names)


class _Layout:
    """The model's latent sites as one vector, and the elements of its log density as another."""

    def __init__(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], trace: Trace) -> None:
        self.model, self.args, self.kwargs = model, args, kwargs
        self.latent = {name: site for name, site in trace.items() if is_latent(site)}
        if not self.latent:
            raise TargetError("the model has no latent site", expected="something to infer", got=list(trace))
        self.lowest: dict[str, int] = {}
        cards: list[int] = []
        names: list[str] = []
        for name, site in self.latent.items():
            shape = jnp.shape(site["value"])
            cards += [self._cardinality(name, site)] * math.prod(shape)
            names += [f"{name}[{', '.join(map(str, at))}]" if at else name for at in np.ndindex(*shape)]
        self.cards, self.names = tuple(cards), tuple(names)
        self.owners = [name for name, value in self.elements(self.example()).items() for _ in range(value.size)]

    def _cardinality(self, name: str, site: Any) -> int:
        law = site["fn"]
        if law.support.is_discrete:
            if not law.has_enumerate_support or law.event_dim:
                raise TargetError(
                    f"site {name!r} has no list of values", expected="Bernoulli, Categorical and the like", got=law
                )
            values = np.unique(np.asarray(law.enumerate_support(expand=False)))
            self.lowest[name] = int(values.min())
            return int(values.max()) - int(values.min()) + 1
        bijection = dist.biject_to(law.support)
        shape = jnp.shape(site["value"])
        if tuple(bijection.inverse_shape(shape)) != shape or bijection.domain.event_dim:
            raise TargetError(
                f"site {name!r} is not constrained element by element",
                expected="real, positive or bounded elements",
                got=law.support,
                hint="write the model on elements of their own, or use smcinfer.from_numpyro",
            )
        return REAL

    def example(self) -> Array:
        """Some state: every category the first, reals zero."""
        return jnp.zeros((len(self.cards),), jnp.result_type(float))

    def elements(self, x: Float[Array, " variables"], only: str | None = None) -> dict[str, Array]:
        """log densities of the sites by name, one number an element of their batch, nats."""
        pieces, start = {}, 0
        for name, site in self.latent.items():
            shape = jnp.shape(site["value"])
            size = math.prod(shape)
            pieces[name] = x[start : start + size].reshape(shape)
            start += size
        jacobians: dict[str, Array] = {}

        def place(site: Any) -> Array | None:
            name = site["name"]
            if name not in pieces:
                return None
            if name in self.lowest:
                return pieces[name].astype(jnp.int32) + self.lowest[name]
            bijection = dist.biject_to(site["fn"].support)
            value = bijection(pieces[name])
            log_det = bijection.log_abs_det_jacobian(pieces[name], value)
            jacobians[name] = jnp.sum(log_det, axis=tuple(range(len(site["fn"].batch_shape), log_det.ndim)))
            return value

        found = handlers.trace(handlers.substitute(self.model, substitute_fn=place)).get_trace(
            *self.args, **self.kwargs
        )
        logs = {}
        for name, site in found.items():
            if site["type"] != "sample" or (only is not None and name != only):
                continue
            value = site["fn"].log_prob(site["value"]) + jacobians.get(name, 0.0)
            value = value if site["scale"] is None else site["scale"] * value
            logs[name] = jnp.ravel(value).astype(x.dtype)
        return logs

    def log_probs(self, x: Float[Array, " variables"]) -> Float[Array, " elements"]:
        """All elements of all sites, nats."""
        return jnp.concatenate(list(self.elements(x).values()))


def _tables(layout: _Layout, name: str, ids: list[int], scope: np.ndarray, offset: float) -> Factors:
    """Factors on finite variables: the site's log density at every assignment of every scope."""
    shape = tuple(np.array(layout.cards)[scope].max(axis=0).tolist())
    if math.prod(shape) > MOST_CELLS:
        raise TargetError(
            f"a factor of site {name!r} ties too many variables together",
            expected=f"at most {MOST_CELLS} assignments",
            got=f"{math.prod(shape)}, of {', '.join(layout.names[v] for v in scope[0][:4])} ...",
            hint="sum variables out inside the model, or split the site",
        )
    first = layout.owners.index(name)
    assignments = np.array(list(itertools.product(*map(range, shape))))
    which, values = (part.reshape(len(ids) * len(assignments), -1) for part in _pairs(scope, assignments))
    allowed = (values < np.array(layout.cards)[which]).all(axis=1)
    at = np.repeat(np.array(ids) - first, len(assignments))

    def one(variables: Array, values: Array, at: Array) -> Array:
        x = layout.example().at[variables].set(values)
        return layout.elements(x, only=name)[name][at]

    run = jax.jit(lambda *rows: jax.lax.map(lambda row: one(*row), rows, batch_size=BATCH))
    safe = np.minimum(values, np.array(layout.cards)[which] - 1)
    logs = np.asarray(run(jnp.asarray(which), jnp.asarray(safe, jnp.result_type(float)), jnp.asarray(at)))
    logs = np.where(allowed, logs, -np.inf).reshape(len(ids), *shape)
    logs[0] += offset
    return tables(scope, logs)


def _pairs(scope: np.ndarray, assignments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every factor's variables with every assignment of them."""
    return np.repeat(scope, len(assignments), axis=0), np.tile(assignments, (len(scope), 1))


class _SiteFactor(eqx.Module):
    """One element of one site's log density: parameters are its index, an offset, and its variables."""

    layout: _Layout = eqx.field(static=True)
    site: str = eqx.field(static=True)

    def __call__(self, numbers: Float[Array, " num_parameters"], values: Array) -> Array:
        x = self.layout.example().at[numbers[2:].astype(jnp.int32)].set(values)
        return self.layout.elements(x, only=self.site)[self.site][numbers[0].astype(jnp.int32)] + numbers[1]


def _functions(layout: _Layout, name: str, ids: list[int], scope: np.ndarray, offset: float) -> Factors:
    """Factors with a real variable."""
    first = layout.owners.index(name)
    offsets = np.where(np.arange(len(ids)) == 0, offset, 0.0)
    numbers = np.column_stack([np.array(ids) - first, offsets, scope])
    return functions(scope, numbers, _SiteFactor(layout, name))
