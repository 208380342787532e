"""Targets from compiled Stan models, by the methods that BridgeStan's models have.

The density and its gradient come from the host (`on_host`); Stan keeps prior and likelihood in one, so a run starts from a
reference, a Gaussian at the mode where none is given.
"""

import re
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import scipy.optimize

from smcinfer.ground.arrays import Array
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.static.on_host import on_host
from smcinfer.static.reference import widened
from smcinfer.static.target import Reference, StaticTarget, over_law

METHODS = ("log_density_gradient", "param_constrain", "param_unconstrain", "param_names")
LEAST_STEP = 1e-4
"""Step of the differences of gradients, in units of a coordinate of size one."""


def from_stan(
    model: Any,
    *,
    reference: dist.Distribution | Reference | None = None,
    executor: Any = None,
    timeout: float | None = None,
) -> StaticTarget:
    """The posterior of a compiled Stan model.

    Args:
        model: a ``bridgestan.StanModel``, or any object with ``log_density_gradient(x, propto=, jacobian=)``,
            ``param_constrain(x)``, ``param_unconstrain(values)`` and ``param_names()``.
        reference: what to start from: a numpyro distribution over the unconstrained vector, or draws (`reference_from`);
            where ``None`` a Gaussian at the mode, three times too wide.
        executor, timeout: as of `on_host`, which says what may go wrong.

    Returns:
        `StaticTarget` whose draws carry the model's parameters by name, as arrays, and whose log normaliser is the log
        evidence, constants included.

    Raises:
        ArgumentError: the object lacks a method.
        TargetError: no mode was found.
    """
    lacking = [name for name in METHODS if not callable(getattr(model, name, None))]
    if lacking:
        raise ArgumentError("model is no Stan model", expected=", ".join(METHODS), got=f"no {', '.join(lacking)}")
    names = list(model.param_names())
    count = getattr(model, "param_unc_num", None)
    dim = int(count()) if callable(count) else len(names)

    def density(x: np.ndarray) -> Any:
        return model.log_density_gradient(np.ascontiguousarray(x), propto=False, jacobian=True)

    hosted = on_host(density, gradient=True, executor=executor, timeout=timeout)
    values = on_host(lambda x: model.param_constrain(np.ascontiguousarray(x)), shape=(len(names),))
    arrays = grouped(names)

    def constrain(x: Array) -> dict[str, Array]:
        flat = values(x)
        return {name: flat[places] for name, places in arrays.items()}

    back = on_host(lambda flat: model.param_unconstrain(np.ascontiguousarray(flat)), shape=(dim,))

    def unconstrain(named: dict[str, Array]) -> Array:
        flat = jnp.zeros((len(names),))
        for name, places in arrays.items():
            flat = flat.at[places].set(named[name])
        return back(flat)

    law = reference if isinstance(reference, dist.Distribution) else _at_mode(density, dim)
    made = over_law(law, hosted, constrain, unconstrain)
    return made.with_reference(reference) if isinstance(reference, Reference) else made


def grouped(names: list[str]) -> dict[str, np.ndarray]:
    """Where the entries of every array stand in the flat list of Stan's names: ``beta.2.1`` is row 2, column 1.

    Args:
        names: as ``param_names`` gives them.
    """
    entries: dict[str, dict[tuple[int, ...], int]] = {}
    for place, name in enumerate(names):
        match = re.fullmatch(r"(.*?)((?:\.\d+)*)", name)
        assert match is not None, "every text matches"
        index = tuple(int(part) - 1 for part in match[2].split(".")[1:])
        entries.setdefault(match[1], {})[index] = place
    found = {}
    for name, places in entries.items():
        array = np.zeros(tuple(np.max(list(places), axis=0) + 1) if () not in places else (), np.int32)
        for index, place in places.items():
            array[index] = place
        found[name] = array
    return found


def _at_mode(density: Callable[[np.ndarray], Any], dim: int) -> dist.MultivariateNormal:
    """A Gaussian at the mode, from gradients on the host: their differences are the curvature."""

    def downhill(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = density(x)
        return -float(value), -np.asarray(gradient, np.float64)

    found = scipy.optimize.minimize(downhill, np.zeros(dim), jac=True, method="L-BFGS-B", options={"maxiter": 2000})
    if not np.isfinite(found.fun):
        raise TargetError(
            "no mode of the Stan model was found",
            expected="a density that is finite at zero and has a maximum",
            got=str(found.message),
            hint="pass reference=: a distribution over the vector, or smcinfer.reference_from(draws)",
        )
    steps = LEAST_STEP * np.maximum(1.0, np.abs(found.x))
    rows = [
        (downhill(found.x - step * unit)[1] - downhill(found.x + step * unit)[1]) / (2 * step)
        for step, unit in zip(steps, np.eye(dim), strict=True)
    ]
    hessian = np.stack(rows)
    return widened(found.x, 0.5 * (hessian + hessian.T))
