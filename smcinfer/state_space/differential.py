r"""Processes in continuous time between observations: ordinary and stochastic differential equations, solved by diffrax.

.. math:: \frac{dx}{ds} = f(s, x) \qquad\text{or}\qquad dx = f(s, x)\, ds + g(s, x)\, dW_s, \qquad s \in [s_{t-1}, s_t]

The model has times, and its functions are told of them (``now``). A flow is a function of the state, which a transition
surrounds by noise of its own; a diffusion is a law that can be drawn from and has no density: bootstrap filters alone take it.

diffrax is an extra: ``pip install smcinfer[differential]``.
"""

import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution, constraints

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, KeyArray, Scalar, Time
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.state_space.known import Now

Field = Callable[[Scalar, Float[Array, "*d"]], Float[Array, "*d"]]
"""``(time, x) -> Float["*d"]``, by unit of time, or of its square root."""


def _diffrax() -> Any:
    try:
        return importlib.import_module("diffrax")
    except ImportError as error:
        raise ArgumentError(
            "differential equations are solved by diffrax, which is not installed",
            expected="diffrax",
            got="no such package",
            hint="pip install smcinfer[differential]",
        ) from error


def _span(now: Now) -> tuple[Scalar, Scalar]:
    if now.time is None or now.dt is None:
        raise TargetError(
            "a differential equation needs times",
            expected="state_space(..., times=...)",
            got="a model without times",
        )
    return now.time - now.dt, now.time


Move = Callable[[Float[Array, "*d"], Now], Float[Array, "*d"]]


def flow(field: Field, *, rtol: float = 1e-5, atol: float = 1e-7) -> Move:
    """Where an ordinary differential equation takes a state from one step to the next.

    >>> move = flow(lambda s, x: -x)
    >>> transition = lambda t, x, now: dist.Normal(move(x, now), 0.1 * jnp.sqrt(now.dt))

    Args:
        field: f of the module equation.
        rtol, atol: errors that the solver keeps to (Tsitouras' method of order 5).

    Returns:
        ``(x_{t-1}, now) -> x_t``.

    Raises:
        ArgumentError: diffrax is not installed.
    """
    diffrax = _diffrax()
    rtol, atol = validate.number("rtol", rtol, above=0.0), validate.number("atol", atol, above=0.0)
    controller = diffrax.PIDController(rtol=rtol, atol=atol)

    def move(x: Float[Array, "*d"], now: Now) -> Float[Array, "*d"]:
        start, end = _span(now)
        term = diffrax.ODETerm(lambda s, y, _: field(s, y))
        # A solution that explodes is infinite, and weighs nothing.
        solved = diffrax.diffeqsolve(
            term, diffrax.Tsit5(), start, end, None, x, stepsize_controller=controller, throw=False
        )
        return solved.ys[0]

    return move


def diffusion(
    drift: Field, spread: Field, *, substeps: int = 10
) -> Callable[[Time, Float[Array, "*d"], Now], "Diffused"]:
    """The transition of a stochastic differential equation, each entry with noise of its own.

    Args:
        drift: f of the module equation.
        spread: the diagonal of g.
        substeps: Euler-Maruyama steps from one observation to the next.

    Returns:
        ``(t, x, now) -> law``, what `state_space` takes as ``transition``.

    Raises:
        ArgumentError: diffrax is not installed.
    """
    _diffrax()
    count = validate.count("substeps", substeps)
    return lambda t, x, now: Diffused(drift, spread, count, x, *_span(now))


class Diffused(Distribution):
    """The law of a diffusion's next state, by simulation; it has no density.

    Args:
        drift, spread, substeps: as in `diffusion`.
        x: the state at ``start``.
        start, end: times.
    """

    pytree_data_fields = ("x", "start", "end")
    pytree_aux_fields = ("drift", "spread", "substeps")
    support = constraints.real  # pyright: ignore[reportAssignmentType]

    def __init__(self, drift: Field, spread: Field, substeps: int, x: Array, start: Scalar, end: Scalar) -> None:
        self.drift, self.spread, self.substeps = drift, spread, substeps
        self.x, self.start, self.end = x, start, end
        super().__init__((), jnp.shape(x))

    def sample(self, key: KeyArray | None, sample_shape: tuple[int, ...] = ()) -> Array:
        """Paths of the diffusion, of which the ends are kept."""
        draw = lambda key: self._end(key, jnp.asarray(self.x), self.start, self.end)  # noqa: E731
        for _ in sample_shape:
            draw = jax.vmap(draw)
        return draw(jax.random.split(key, sample_shape) if sample_shape else key)

    def _end(self, key: KeyArray, x: Array, start: Scalar, end: Scalar) -> Array:
        diffrax, lineax = _diffrax(), importlib.import_module("lineax")
        flat = lambda field: lambda s, y, _: jnp.broadcast_to(field(s, y.reshape(x.shape)), x.shape).reshape(-1)  # noqa: E731
        scaled = flat(self.spread)
        noise = diffrax.UnsafeBrownianPath(jax.ShapeDtypeStruct((x.size,), x.dtype), key)
        spread = diffrax.ControlTerm(lambda s, y, _: lineax.DiagonalLinearOperator(scaled(s, y, None)), noise)
        terms = diffrax.MultiTerm(diffrax.ODETerm(flat(self.drift)), spread)
        steps = diffrax.StepTo(ts=jnp.linspace(start, end, self.substeps + 1))
        solved = diffrax.diffeqsolve(
            terms,
            diffrax.Euler(),
            start,
            end,
            None,
            x.reshape(-1),
            stepsize_controller=steps,
            adjoint=diffrax.ForwardMode(),
            throw=False,
        )
        return solved.ys[0].reshape(x.shape)

    def log_prob(self, value: Array) -> Array:
        """There is none.

        Raises:
            TargetError: always.
        """
        raise TargetError(
            "a diffusion has no density in closed form",
            expected="a bootstrap filter: no proposal, no twist, no score",
            got="something that asks for the density of a transition",
        )
