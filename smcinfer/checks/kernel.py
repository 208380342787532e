"""The contract of a move kernel: shapes, caches, no way into NaN, and an invariant density."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from smcinfer.checks.exact import ExactTarget, exact_target
from smcinfer.checks.report import Check, Report, close, follows, none_of
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, KeyArray, PyTree
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.ground.programs import compiled
from smcinfer.kernels.base import Kernel, KernelInfo, KernelState, TemperedDensity
from smcinfer.static.contract import abstract_output, describe

NUM_TUNING = 5
NUM_DIRECTIONS = 4

Draws = Float[Array, "n dim"]


def check_kernel(
    kernel: Kernel,
    key: KeyArray,
    *,
    density: TemperedDensity | None = None,
    draws: Draws | None = None,
    dim: int = 3,
    num_chains: int = 8192,
    num_steps: int = 6,
) -> Report:
    r"""Check that a kernel keeps what the engine relies on.

    Chains that start at exact draws of :math:`\pi` must still follow :math:`\pi` after some transitions
    (:math:`\pi K = \pi`). Without ``density`` this is tried on a correlated Gaussian at exponents 0 and 1/2, on two
    modes at exponent 1, and on a density that is NaN in a half-space, which no chain may enter.

    Args:
        kernel: what is checked.
        key: random key.
        density: a density of your own, with ``draws``.
        draws: Float["n dim"], independent exact draws of ``density``: half of them start the chains, half are compared.
        dim: dimensions of the built-in densities.
        num_chains: chains of each built-in density; more see smaller faults.
        num_steps: transitions.

    Returns:
        `Report`.

    Raises:
        ArgumentError: if only one of ``density`` and ``draws`` is given, or there are too few draws.
    """
    kernel = validate.instance("kernel", kernel, Kernel, "a Kernel, smcinfer.kernels.HMC() say")
    dim, num_chains = validate.count("dim", dim), validate.count("num_chains", num_chains)
    num_steps = validate.count("num_steps", num_steps)
    name = f"kernel {type(kernel).__name__}"
    if (density is None) != (draws is None):
        raise ArgumentError("density and draws go together", expected="both, or neither", got="one of them")
    if density is not None and draws is not None:
        if draws.ndim != 2 or draws.shape[0] < 100:
            raise ArgumentError("too few draws to compare with", expected="shape (n, dim), n >= 100", got=draws.shape)
        half = draws.shape[0] // 2
        return _report(name, kernel, key, [(None, density, draws[:half], draws[half:])], num_steps)
    cases = []
    sampling, key = jax.random.split(key)
    for target, part in zip(_targets(dim), jax.random.split(sampling, 4), strict=True):
        both = target.sample(part, 2 * num_chains)
        cases.append((target, target.density, both[:num_chains], both[num_chains:]))
    return _report(name, kernel, key, cases, num_steps)


def _targets(dim: int) -> list[ExactTarget]:
    return [
        exact_target("base alone", dim, 0.0),
        exact_target("tempered Gaussian", dim, 0.5),
        exact_target("two modes", dim, 1.0, separation=2.5),
        exact_target("density with a NaN side", dim, 0.5, edge=0.1),
    ]


def _report(name: str, kernel: Kernel, key: KeyArray, cases: list[Any], num_steps: int) -> Report:
    """Structure first; the runs only if it holds."""
    checks = _structure(kernel, cases[0][1], cases[0][2][0])
    if any(check.passed is False for check in checks):
        return Report(name, tuple(checks))
    seen, laws = [], []
    for (target, density, starts, others), part in zip(cases, jax.random.split(key, len(cases)), strict=True):
        states, infos = _sweeps(kernel, part, density, starts, others, num_steps)
        seen.append(_observe(density, starts, states, infos))
        laws.append(_invariance(target, others, states.position))
    joined = {name: np.concatenate([np.atleast_1d(one[name]) for one in seen]) for name in seen[0]}
    return Report(name, (*checks, *_outcome(joined, float(jnp.finfo(cases[0][2].dtype).eps)), *laws))


def _structure(kernel: Kernel, density: TemperedDensity, position: Float[Array, " dim"]) -> list[Check]:
    """What can be seen without running: traceable, and every step returns what it was given."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    try:
        params = kernel.parameters(position.shape[0])
        state = abstract_output("kernel.init", lambda x: kernel.init(x, density), position)
        shared = abstract_output("kernel.share", kernel.share, key, params)
        tuned = abstract_output("kernel.tune", kernel.tune, params, position[None], jnp.zeros(1), jnp.asarray(jnp.nan))
        after = abstract_output("kernel.step", lambda k, s, p: kernel.step(k, s, density, p), key, state, shared)
    except TargetError as error:
        return [Check("can be traced on one particle", False, message=str(error))]
    if not (isinstance(after, tuple) and len(after) == 2 and isinstance(after[1], KernelInfo)):
        return [Check("step returns (state, KernelInfo)", False, describe(after), "(state, KernelInfo)")]
    hint = "loops carry it: the same pytree, shapes and dtypes must come back"
    return [
        _alike("step returns a state like the one it was given", after[0], state, hint),
        _alike("share returns parameters like the ones it was given", shared, params, hint),
        _alike("tune returns parameters like the ones it was given", tuned, params, hint),
    ]


def _alike(name: str, observed: PyTree[Any], expected: PyTree[Any], hint: str) -> Check:
    # A weak type (a Python number) becomes strong on its way through a loop: it does not count as a difference.
    found, wanted = (
        (jax.tree.structure(tree), [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in jax.tree.leaves(tree)])
        for tree in (observed, expected)
    )
    if found == wanted:
        return Check(name, True)
    return Check(name, False, describe(observed), describe(expected), hint)


def _sweep(kernel: Kernel, key: KeyArray, states: Any, density: TemperedDensity, params: Any) -> tuple[Any, KernelInfo]:
    shared_key, key = jax.random.split(key)
    shared = kernel.share(shared_key, params)
    keys = jax.random.split(key, jax.tree.leaves(states)[0].shape[0])
    return jax.vmap(lambda key, state: kernel.step(key, state, density, shared))(keys, states)


@compiled
def _sweeps(
    kernel: Kernel, key: KeyArray, density: TemperedDensity, starts: Draws, cloud: Draws, num_steps: int
) -> tuple[KernelState, KernelInfo]:
    """Chains after ``num_steps`` sweeps, with parameters tuned on *other* draws, and what each sweep did."""
    tuning, moving = jax.random.split(key)
    begin = jax.vmap(lambda x: kernel.init(x, density))
    uniform = jnp.zeros((cloud.shape[0],))

    def tune(carry: Any, key: KeyArray) -> tuple[Any, None]:
        states, params, acceptance = carry
        params = kernel.tune(params, cloud, uniform, acceptance)
        states, info = _sweep(kernel, key, states, density, params)
        return (states, params, jnp.mean(info.acceptance)), None

    def move(states: Any, key: KeyArray) -> tuple[Any, KernelInfo]:
        return _sweep(kernel, key, states, density, params)

    params = jax.tree.map(jnp.asarray, kernel.parameters(starts.shape[1]))
    carry = (begin(cloud), params, jnp.asarray(jnp.nan, jnp.result_type(float)))
    (_, params, _), _ = jax.lax.scan(tune, carry, jax.random.split(tuning, NUM_TUNING))
    return jax.lax.scan(move, begin(starts), jax.random.split(moving, num_steps))


@compiled
def _parts(density: TemperedDensity, positions: Draws) -> tuple[Array, Array]:
    return jax.vmap(lambda x: (density.log_base(x), density.log_potential(x)))(positions)


def _observe(
    density: TemperedDensity, starts: Draws, states: KernelState, infos: KernelInfo
) -> dict[str, NDArray[Any]]:
    """What the checks of every density look at, on the host."""
    log_base, log_potential = _parts(density, states.position)
    return {
        "log_density": np.asarray(density.combine(log_base, log_potential)),
        "cached": np.stack([states.log_base, states.log_potential], axis=1),
        "recomputed": np.stack([log_base, log_potential], axis=1),
        "acceptance": np.ravel(infos.acceptance),
        "num_evals": np.ravel(infos.num_evals),
        "still": np.asarray(np.all(np.asarray(states.position == starts), axis=1).mean()),
    }


def _outcome(seen: dict[str, NDArray[Any]], epsilon: float) -> list[Check]:
    """What must hold of every chain on any density."""
    acceptance, still = seen["acceptance"], float(np.max(seen["still"]))
    return [
        none_of(
            "no chain is where the density is not finite",
            ~np.isfinite(seen["log_density"]),
            "accept on `new > level` or `log_ratio > log_u`, which are false for NaN; never on their negation",
        ),
        close(
            "the cached parts are those of the position",
            seen["cached"],
            seen["recomputed"],
            300 * epsilon,
            "return log_base and log_potential of the new position, or of the old one where the move was rejected",
        ),
        none_of("acceptance is a probability", ~((acceptance >= 0) & (acceptance <= 1))),
        none_of("num_evals is not negative", seen["num_evals"] < 0),
        Check(
            "chains move",
            still < 0.9,
            f"{still:.0%} never moved",
            "less than 90%",
            "a kernel that stays put leaves every density invariant and helps none",
        ),
    ]


def _invariance(target: ExactTarget | None, others: Draws, position: Draws) -> Check:
    """Projections of the moved chains against their exact law, or against draws that no chain started from."""
    dim = position.shape[1]
    rng = np.random.default_rng(0)
    directions = np.concatenate([np.eye(dim), rng.normal(size=(NUM_DIRECTIONS, dim))])
    projected = [np.asarray(position, np.float64) @ direction for direction in directions]
    if target is not None and not target.truncated:
        references: list[Any] = [target.cdf(direction) for direction in directions]
    else:
        references = [np.asarray(others, np.float64) @ direction for direction in directions]
    message = "the kernel does not leave the density invariant: look at the acceptance ratio, the Jacobian, the caps"
    return follows(f"invariant: {target.name if target else 'your density'}", projected, references, message)
