r"""A reference for targets without a proper prior: a Gaussian at the mode, made wider.

.. math:: q = N(\hat x,\; c^2 (-\nabla^2 \log \gamma(\hat x))^{-1})

It is normalised, so log Z stays what it was, and with :math:`c` well above one it covers the target:
the run starts from something wide and never trusts the approximation itself.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpy.typing import NDArray

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float
from smcinfer.ground.errors import TargetError

Vector = NDArray[np.float64]

INFLATION = 3.0
"""How many times too wide a Gaussian at the mode is made, so that it covers the target."""

_MAX_STEPS = 200
_MAX_HALVINGS = 40

# How far below the mode the search may end, in nats: it only places the start of a run.
_CLIMB_LEFT = 1e-6


def laplace_reference(
    log_density: Callable[[Array], Array],
    dim: int,
    *,
    start: Float[Array, " dim"] | None = None,
    inflation: float = INFLATION,
) -> dist.MultivariateNormal:
    """A Gaussian at the mode of a log density, its standard deviations multiplied by ``inflation``.

    The mode is found in float64 by Newton steps on the absolute curvature (so that they climb where
    the density is not log-concave), halved until they climb. It is deterministic.

    Args:
        log_density: ``Float["dim"] -> Float[""]``, unnormalised, on unconstrained vectors, nats.
        dim: length of the vector. The Hessian is dense: meant for up to a few hundred.
        start: Float["dim"], where to start, zeros by default.
        inflation: factor on the standard deviations, at least one.

    Returns:
        `numpyro.distributions.MultivariateNormal`.

    Raises:
        TargetError: if no strict maximum is found: the target may be improper.
    """
    dim, inflation = validate.count("dim", dim), validate.number("inflation", inflation, at_least=1.0)
    x = np.zeros(dim) if start is None else np.asarray(start, dtype=np.float64)
    with jax.enable_x64(True):
        x, hessian = _find_mode(log_density, x)
    return widened(x, hessian, inflation)


def widened(mode: Vector, hessian: NDArray[np.float64], inflation: float = INFLATION) -> dist.MultivariateNormal:
    """The Gaussian of a mode and the curvature there, its standard deviations multiplied by ``inflation``.

    Args:
        mode: Float["dim"].
        hessian: Float["dim dim"], of the log density.
        inflation: factor on the standard deviations.

    Raises:
        TargetError: the curvature is not that of a maximum.
    """
    factor = inflation * np.linalg.cholesky(_covariance(hessian))
    return dist.MultivariateNormal(jnp.asarray(mode), scale_tril=jnp.asarray(factor))


def _find_mode(log_density: Callable[[Array], Array], x: Vector) -> tuple[Vector, NDArray[np.float64]]:
    """Where the log density is largest, and its Hessian there."""
    # Not `jax.jit(log_density)`: a bound method of a module that holds arrays cannot be hashed.
    value = jax.jit(lambda x: log_density(x))
    derivatives = jax.jit(lambda x: (jax.grad(log_density)(x), jax.hessian(log_density)(x)))
    best = float(value(jnp.asarray(x)))
    climb = np.inf
    for _ in range(_MAX_STEPS):
        gradient, hessian = (np.asarray(part) for part in derivatives(jnp.asarray(x)))
        if not (np.isfinite(best) and np.isfinite(gradient).all() and np.isfinite(hessian).all()):
            raise TargetError(
                "the log density or a derivative of it is not finite where its mode is searched",
                expected="finite numbers",
                got=f"log density {best:.6g} at {_show(x)}",
                hint="pass start=, a point well inside the support, or a reference distribution of your own",
            )
        step, climb = _climbing_step(gradient, hessian)
        if climb < _CLIMB_LEFT:
            return x, hessian
        for halvings in range(_MAX_HALVINGS):
            proposal = x + step * 0.5**halvings
            new = float(value(jnp.asarray(proposal)))
            if new > best:
                x, best = proposal, new
                break
        else:
            break
    raise TargetError(
        "no mode of the log density was found",
        expected=f"convergence within {_MAX_STEPS} Newton steps",
        got=f"still {climb:.3g} nats to climb at {_show(x)}",
        hint="the target may be improper; pass start=, or a reference distribution of your own",
    )


def _climbing_step(gradient: Vector, hessian: NDArray[np.float64]) -> tuple[Vector, float]:
    """Newton's step with every eigenvalue of the curvature made positive, and the climb it foresees."""
    scaled, scale = _scaled_curvature(hessian)
    values, vectors = np.linalg.eigh(scaled)
    curvature = np.maximum(np.abs(values), 1e-12)
    step = scale * (vectors @ ((vectors.T @ (scale * gradient)) / curvature))
    return step, 0.5 * float(gradient @ step)


def _scaled_curvature(hessian: NDArray[np.float64]) -> tuple[NDArray[np.float64], Vector]:
    """Minus the Hessian with a unit diagonal: parameters in different units must not drown one another."""
    scale = 1.0 / np.sqrt(np.maximum(np.abs(np.diag(hessian)), 1e-20))
    return -hessian * scale[:, None] * scale[None, :], scale


def _covariance(hessian: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled, scale = _scaled_curvature(hessian)
    smallest = float(np.linalg.eigvalsh(scaled).min())
    if not smallest > 1e-12:
        raise TargetError(
            "the log density has no strict maximum: it is flat or rising in some direction",
            expected="positive curvature at the mode",
            got=f"smallest scaled curvature {smallest:.3g}",
            hint="the target may be improper; pass a reference distribution of your own",
        )
    return np.linalg.inv(scaled) * scale[:, None] * scale[None, :]


def _show(x: Vector) -> str:
    return np.array2string(x, precision=3, threshold=8)
