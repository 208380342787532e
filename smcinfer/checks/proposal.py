"""The contract of a proposal: properly weighted for the process."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.checks.process import simulate, trace
from smcinfer.checks.report import Check, Report, mean, none_of, same
from smcinfer.core.compose import Potential, Process, Proposal
from smcinfer.ground.arrays import Array, KeyArray, PyTree
from smcinfer.ground.errors import TargetError
from smcinfer.ground.programs import compiled
from smcinfer.static.contract import abstract_output

NUM_STATES = 4
"""Independent states from which a proposal is tried."""

MAX_SYMBOLS = 64
"""Symbols of a discrete draw that are compared one by one."""

MIN_ESS = 0.01
"""Smallest relative effective sample size of the weights at which an average is judged."""


def check_proposal(
    proposal: Proposal,
    process: Process,
    key: KeyArray,
    *,
    potential: Potential | None = None,
    num_draws: int = 20_000,
    num_steps: int = 3,
) -> Report:
    r"""Check that a proposal is properly weighted for the process.

    .. math:: E_q[w\, f(x_t)] = E_{p_0}[f(x_t)\, \phi_t(x_t)^{b}], \qquad b = 1 \text{ if it includes the potential}

    from several states and for several bounded functions, f = 1 among them, on draws made one by one and on the
    batched ``propose``.

    Args:
        proposal: what is checked.
        process: the base law it stands in for.
        key: random key.
        potential: log phi_t; needed where ``proposal.includes_potential``.
        num_draws: draws a state; more see smaller faults.
        num_steps: the largest t tried.

    Returns:
        `Report`. Lines are open where a few draws carry nearly all weight: then no sample of this size can tell.
    """
    name = f"proposal {type(proposal).__name__}"
    if proposal.includes_potential and potential is None:
        message = "it includes the potential, so the check needs it: pass potential="
        return Report(name, (Check("its target is known", False, "no potential", "a potential", message),))
    traced, state = trace(process)
    checks = [traced]
    if traced.passed:
        time, symbol = jax.ShapeDtypeStruct((), jnp.int32), jax.eval_shape(lambda: jax.random.key(0))
        try:
            returned = abstract_output("proposal", proposal, symbol, time, state)
            weight = returned[1] if isinstance(returned, tuple) and len(returned) == 2 else returned
            checks.append(same("returns (x, log weight)", getattr(weight, "shape", None), ()))
        except TargetError as error:
            checks.append(Check("can be traced on one particle", False, message=str(error)))
    if not all(check.passed for check in checks):
        return Report(name, tuple(checks))
    simulating, reference, single, batched, first = jax.random.split(key, 5)
    states, _ = simulate(process, simulating, num_steps, NUM_STATES)
    weigh = potential if proposal.includes_potential else None
    for t in sorted({1, num_steps}):
        before = jax.tree.map(lambda leaf, t=t: leaf[t - 1], states)
        step, fold = jnp.asarray(t, jnp.int32), lambda key, t=t: jax.random.fold_in(key, t)
        truth = _reference(process, weigh, fold(reference), step, before, num_draws)
        for label, key, way in (("one by one", single, _one_by_one), ("batched", batched, _in_batch)):
            draws = way(proposal, fold(key), step, before, num_draws)
            checks += _unbiased(f"t = {t}, {label}", draws, truth)
    checks += _initial(proposal, process, first, num_draws)
    return Report(name, tuple(checks))


@compiled
def _reference(
    process: Process, potential: Potential | None, key: KeyArray, t: Array, states: PyTree[Any], n: int
) -> tuple[Array, Array]:
    """Draws of the process from each state, and the log potential of where they lead."""

    def one(key: KeyArray, state: PyTree[Any]) -> tuple[PyTree[Any], Array]:
        x = process.transition(t, state).sample(key, (n,))
        weigh = potential
        if weigh is None:
            return x, jnp.zeros((n,))
        return x, jax.vmap(lambda x: weigh(t, process.advance(t, state, x)))(x)

    return jax.vmap(one)(jax.random.split(key, NUM_STATES), states)


@compiled
def _one_by_one(proposal: Proposal, key: KeyArray, t: Array, states: PyTree[Any], n: int) -> tuple[Array, Array]:
    def one(key: KeyArray, state: PyTree[Any]) -> tuple[PyTree[Any], Array]:
        return jax.vmap(lambda key: proposal(key, t, state))(jax.random.split(key, n))

    return jax.vmap(one)(jax.random.split(key, NUM_STATES), states)


@compiled
def _in_batch(proposal: Proposal, key: KeyArray, t: Array, states: PyTree[Any], n: int) -> tuple[Array, Array]:
    repeated = jax.tree.map(lambda leaf: jnp.repeat(leaf, n, axis=0), states)
    drawn = proposal.propose(key, t, repeated, NUM_STATES * n)
    return jax.tree.map(lambda leaf: leaf.reshape(NUM_STATES, n, *leaf.shape[1:]), drawn)


def _unbiased(label: str, draws: tuple[PyTree[Any], Array], truth: tuple[PyTree[Any], Array]) -> list[Check]:
    """E_q[w f] = E_p0[f phi] for every state and test function, by differences of independent draws."""
    (x, log_w), (reference, log_phi) = draws, truth
    weights, wanted = np.exp(np.asarray(log_w, np.float64)), np.exp(np.asarray(log_phi, np.float64))
    bad = none_of(f"{label}: weights are not NaN or +inf", ~np.isfinite(weights))
    if not bad.passed:
        return [bad]
    size = weights.sum(axis=1) ** 2 / np.maximum(np.sum(weights**2, axis=1), 1e-300) / weights.shape[1]
    name = f"{label}: E_q[w f] = E_p[f]"
    if np.any((size < MIN_ESS) & (size > 0)):
        reason = "these draws cannot tell: a few of them carry nearly all weight (does the proposal cover the process?)"
        return [bad, Check(name, None, f"relative ESS {size.min():.1g}", f"above {MIN_ESS}", reason)]
    samples = [
        weights[..., None] * _features(mine, theirs) - wanted[..., None] * _features(theirs, theirs)
        for mine, theirs in zip(jax.tree.leaves(x), jax.tree.leaves(reference), strict=True)
    ]
    differences = np.moveaxis(np.concatenate([weights[..., None] - wanted[..., None], *samples], axis=-1), 1, 0)
    message = (
        "the log weight must be log p0(x) - log q(x) (plus log phi where it includes the potential), from one draw"
    )
    return [bad, mean(name, differences, 0.0, message=message)]


def _features(x: Array, reference: Array) -> np.ndarray:
    """Bounded functions of draws (states, n, ...), scaled to the reference: indicators of symbols, or waves."""
    values = np.asarray(x).reshape(*np.shape(x)[:2], -1)
    scale = np.asarray(reference).reshape(*np.shape(reference)[:2], -1)
    if np.issubdtype(values.dtype, np.integer) or values.dtype == bool:
        symbols = np.unique(np.concatenate([scale.ravel(), values.ravel()]))[:MAX_SYMBOLS]
        indicators = values[..., None] == symbols
        return indicators.reshape(*values.shape[:2], -1).astype(np.float64)
    spread = np.maximum(scale.std(axis=1, keepdims=True), 1e-12)
    waves = (values - scale.mean(axis=1, keepdims=True)) / spread
    return np.concatenate([np.sin(waves), np.cos(waves), np.sin(2 * waves)], axis=-1)


def _initial(proposal: Proposal, process: Process, key: KeyArray, n: int) -> list[Check]:
    """The same for x_0, where the proposal draws it."""
    law = process.initial()
    if law is None or jax.eval_shape(proposal.initial, key) is None:
        return []
    mine, theirs = jax.random.split(key)
    draws: Any = jax.vmap(proposal.initial)(jax.random.split(mine, n))
    truth = (law.sample(theirs, (n,)), jnp.zeros((n,)))
    first, second = (jax.tree.map(lambda leaf: leaf[None], pair) for pair in (draws, truth))
    return _unbiased("t = 0", first, second)
