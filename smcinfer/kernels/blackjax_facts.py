"""What the bridge knows of blackjax's samplers: what they cache, what the cloud can tune, what to refuse."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import blackjax
from blackjax.mcmc.barker import BarkerState
from blackjax.mcmc.hmc import HMCState
from blackjax.mcmc.mala import MALAState
from blackjax.mcmc.random_walk import RWState, normal, normal_random_walk
from blackjax.mcmc.slice import SliceState

from smcinfer.ground.errors import ArgumentError

Maker = Callable[[Mapping[str, Any]], Any]

# Parameters that speak of the target's own coordinates: given one, the bridge does not whiten.
COORDINATE_NAMES = frozenset(
    {
        "inverse_mass_matrix",
        "mass_matrix",
        "momentum_inverse_scale",
        "sigma",
        "random_step",
        "proposal_generator",
        "proposal_distribution",
        "proposal_logdensity_fn",
        "transition_generator",
        "axis_proposal",
        "initial_widths",
        "covariance",
        "cov",
        "cov_svd",
        "mean",
    }
)


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the bridge knows of one sampler.

    Attributes:
        algorithm: ``(logdensity_fn, **parameters) -> SamplingAlgorithm``.
        name: how to call it in messages.
        state: the sampler's state where it is ``(position, logdensity[, gradient])`` and nothing else, so
            that cached values can fill it; else ``None``.
        uses_gradient: whether that state holds the gradient.
        gaussian_base: whether it wants the log likelihood only, and the Gaussian base apart.
        tuned: parameter name -> how to make it from the cloud, for those the sampler takes.
        unit_momentum: whether its ``init`` draws a momentum of unit scale whatever its mass matrix, so that only
            the unit mass of whitened coordinates leaves the density invariant.
        required: parameters that must be given although blackjax has a default for them.
        first_step, step_exponent: the first step is ``first_step * dim**step_exponent``.
        order: how the acceptance falls with the step, as in `tuning.feedback`.
        target_acceptance: the acceptance that suits the sampler.
    """

    algorithm: Callable[..., Any]
    name: str
    state: type | None = None
    uses_gradient: bool = False
    gaussian_base: bool = False
    unit_momentum: bool = False
    tuned: tuple[tuple[str, Maker], ...] = ()
    required: frozenset[str] = frozenset()
    first_step: float = 1.2
    step_exponent: float = -0.25
    order: float = 2.0
    target_acceptance: float = 0.8


def _symmetric_proposal(context: Mapping[str, Any]) -> Callable[[Any, Any], Any]:
    step = normal(context["factor"])
    return lambda key, position: position + step(key, position)


STEP: dict[str, Maker] = {"step_size": lambda context: context["step_size"]}
METRIC: dict[str, Maker] = {
    "inverse_mass_matrix": lambda context: context["covariance"],
    "momentum_inverse_scale": lambda context: context["covariance"],
}
WALK: dict[str, Maker] = {
    "sigma": lambda context: context["factor"],
    "random_step": lambda context: normal(context["factor"]),
}
BASE: dict[str, Maker] = {
    "mean": lambda context: context["base_mean"],
    "cov": lambda context: context["base_covariance"],
    "covariance": lambda context: context["base_covariance"],
}

_WALKING: dict[str, Any] = {"first_step": 2.38, "step_exponent": -0.5, "order": 1.0, "target_acceptance": 0.234}

# By the function behind the name: two names of one sampler are then the same.
KNOWN: dict[Any, dict[str, Any]] = {
    blackjax.hmc.differentiable: {"state": HMCState},
    blackjax.nuts.differentiable: {"state": HMCState},
    blackjax.adjusted_mclmc.differentiable: {"state": HMCState},
    # Its step is the Langevin time, the square of a step length over two.
    blackjax.mala.differentiable: {
        "state": MALAState,
        "first_step": 1.0,
        "step_exponent": -1 / 3,
        "order": 1.5,
        "target_acceptance": 0.574,
    },
    blackjax.barker.differentiable: {"state": BarkerState, "step_exponent": -1 / 6, "order": 3.0}
    | {"target_acceptance": 0.4},
    blackjax.rmh.differentiable: {"state": RWState, **_WALKING},
    blackjax.irmh.differentiable: {"state": RWState, "required": frozenset({"proposal_logdensity_fn"})},
    blackjax.additive_step_random_walk.differentiable: {"state": RWState, **_WALKING},
    normal_random_walk: {"state": RWState, **_WALKING},
    blackjax.ghmc.differentiable: {"unit_momentum": True},
    blackjax.slice_sampling.differentiable: {"state": SliceState},
    blackjax.coordinate_slice.differentiable: {"state": SliceState},
    blackjax.mgrad_gaussian.differentiable: {"gaussian_base": True, "target_acceptance": 0.5},
    blackjax.elliptical_slice.differentiable: {"gaussian_base": True},
}

FORWARD_ONLY = (
    "it draws a point of a trajectory that always starts at the particle, which does not leave the density invariant",
    "use blackjax.hmc, blackjax.dhmc or blackjax.nuts",
)

REFUSED: dict[Any, tuple[str, str]] = {
    blackjax.mhmc.differentiable: FORWARD_ONLY,
    blackjax.dmhmc.differentiable: FORWARD_ONLY,
    blackjax.mclmc.differentiable: (
        "it has no accept step: its discretisation bias would stay in the weighted particles",
        "use blackjax.adjusted_mclmc",
    ),
    blackjax.orbital_hmc.differentiable: (
        "its state is a weighted orbit, not one point",
        "use blackjax.hmc",
    ),
}


def facts_of(algorithm: Any) -> Facts:
    """What is known of a sampler of blackjax's top level, or of a function like one.

    Raises:
        ArgumentError: it is not a sampler that leaves a given log density invariant.
    """
    function = getattr(algorithm, "differentiable", algorithm)
    if not callable(function):
        raise ArgumentError(
            "not a blackjax sampler",
            expected="one of blackjax's top level, such as blackjax.nuts, or a function of logdensity_fn",
            got=type(algorithm).__name__,
        )
    name = _name(function)
    if function in REFUSED:
        reason, hint = REFUSED[function]
        raise ArgumentError(f"{name} cannot be a move kernel: {reason}", hint=hint)
    known = KNOWN.get(function, {})
    signature = list(inspect.signature(function).parameters)
    if signature[:1] != ["logdensity_fn"] and not known.get("gaussian_base"):
        raise ArgumentError(
            f"{name} cannot be a move kernel: it does not take a log density",
            expected="a sampler whose first parameter is logdensity_fn",
            got=f"{name}({', '.join(signature)})",
            hint="wrap it: from_blackjax(lambda logdensity_fn, params: ..., params={...})",
        )
    makers = STEP | (BASE if known.get("gaussian_base") else METRIC | WALK)
    if function is blackjax.rmh.differentiable:
        makers = makers | {"proposal_generator": _symmetric_proposal}
    tuned = tuple((parameter, makers[parameter]) for parameter in signature if parameter in makers)
    state = known.get("state")
    uses_gradient = state is not None and "logdensity_grad" in state._fields
    return Facts(algorithm=function, name=name, tuned=tuned, uses_gradient=uses_gradient, **known)


def _name(function: Callable[..., Any]) -> str:
    """What to call a sampler in messages: blackjax names its modules after them, and their functions alike."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", type(function).__name__)
    return function.__module__.rpartition(".")[2] if name == "as_top_level_api" else name
