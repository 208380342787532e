"""Any blackjax sampler as a move kernel, tuned by the particle cloud."""

import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from blackjax.base import SamplingAlgorithm
from blackjax.mcmc.hmc import multinomial_hmc_proposal

from smcinfer.ground.arrays import Array, Float, PyTree, Scalar
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.kernels import tuning
from smcinfer.kernels.base import TemperedDensity
from smcinfer.kernels.blackjax_facts import COORDINATE_NAMES, FORWARD_ONLY, Facts, facts_of
from smcinfer.kernels.blackjax_kernel import BlackjaxKernel, LogDensity
from smcinfer.kernels.scaled import ScaledKernel


class Bridged(ScaledKernel, BlackjaxKernel):
    """A sampler of blackjax's top level with given parameters; made by `from_blackjax`.

    Attributes:
        facts: what is known of the sampler.
        options: parameters that are not arrays, as ``(name, value)`` pairs.
        arrays: parameters that are arrays.
        whitened: whether the sampler sees the whitened coordinates of the cloud.
        target_acceptance: acceptance rate that the step size is tuned to.
    """

    facts: Facts = eqx.field(static=True)
    options: tuple[tuple[str, Any], ...] = eqx.field(static=True)
    arrays: dict[str, Array]
    whitened: bool = eqx.field(static=True)
    target_acceptance: float = eqx.field(static=True)

    @property
    def order(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the sampler's kind has it: random walk, Hamiltonian or Langevin."""
        return self.facts.order

    @property
    def uses_gradient(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the sampler caches a gradient."""
        return self.facts.uses_gradient

    def parameters(self, dim: int) -> tuning.Scaled:
        """A unit cloud and the sampler's usual first step."""
        first = jnp.asarray(self.facts.first_step * dim**self.facts.step_exponent, jnp.result_type(float))
        return tuning.Scaled(tuning.unit_cloud(dim), first)

    def cloud(self, params: tuning.Scaled) -> tuning.Cloud | None:
        """The fitted cloud, where the sampler is to see whitened coordinates."""
        return params.cloud if self.whitened else None

    def log_target(self, density: TemperedDensity, position: Array) -> Array:
        """The log density, or the tempered potential alone where the sampler knows the Gaussian base."""
        if not self.facts.gaussian_base:
            return density(position)
        base = jnp.zeros((), density.exponent.dtype)
        return density.combine(base, density.log_potential(position))

    def build(
        self, logdensity_fn: LogDensity, density: TemperedDensity, params: tuning.Scaled, dim: int
    ) -> SamplingAlgorithm:
        """The sampler with given parameters as given, and what it still needs from the cloud."""
        given = dict(self.options) | self.arrays
        unit = jnp.ones(dim, params.step_size.dtype)
        context: dict[str, Any] = {
            "step_size": params.step_size,
            "covariance": unit if self.whitened else params.cloud.covariance(),
            "factor": params.step_size * (unit if self.whitened else params.cloud.scale),
        }
        if self.facts.gaussian_base:
            if density.base_mean is None or density.base_scale is None:
                raise TargetError(
                    f"blackjax's {self.facts.name} needs a Gaussian base",
                    expected="a target whose base is Gaussian on the unconstrained space",
                    got="base_mean=None, base_scale=None",
                    hint="give the target a normal prior, or choose another kernel",
                )
            context |= {
                "base_mean": density.base_mean,
                "base_covariance": tuning.Cloud(density.base_mean, density.base_scale).covariance(),
            }
        filled = {name: make(context) for name, make in self.facts.tuned if name not in given}
        return self.facts.algorithm(logdensity_fn, **filled, **given)

    def start(self, log_target: Array, target_gradient: Array, position: Array) -> Any:
        """The state that the sampler's own init would make at this position."""
        state = self.facts.state
        if state is None:
            return None
        return state(position, log_target, target_gradient) if self.facts.uses_gradient else state(position, log_target)


class Factory(BlackjaxKernel):
    """A sampler built by a user's function; made by `from_blackjax`.

    Attributes:
        factory: ``(logdensity_fn, params) -> SamplingAlgorithm``.
        first: the first parameters, a pytree of arrays.
        tuner: ``(params, mean, covariance, acceptance) -> params``, or ``None``.
        whitened: whether the sampler sees the whitened coordinates of the cloud.
    """

    factory: Callable[..., Any] = eqx.field(static=True)
    first: PyTree[Array]
    tuner: Callable[..., Any] | None = eqx.field(static=True)
    whitened: bool = eqx.field(static=True)

    def parameters(self, dim: int) -> tuple[tuning.Cloud, PyTree[Array]]:
        """A unit cloud, and the parameters as given."""
        return tuning.unit_cloud(dim), self.first

    def tune(
        self,
        params: tuple[tuning.Cloud, PyTree[Array]],
        positions: Float[Array, "n dim"],
        log_weights: Float[Array, " n"],
        acceptance: Scalar,
    ) -> tuple[tuning.Cloud, PyTree[Array]]:
        """The cloud's shape, and whatever the user's function makes of it."""
        cloud, current = params
        cloud = tuning.fit_cloud(cloud, positions, log_weights)
        if self.tuner is None:
            return cloud, current
        tuned = self.tuner(current, cloud.mean, cloud.covariance(), acceptance)
        if jax.tree.structure(tuned) != jax.tree.structure(current):
            raise TargetError(
                "tune changed the structure of the parameters",
                expected=jax.tree.structure(current),
                got=jax.tree.structure(tuned),
                hint="return the same names with new values",
            )
        return cloud, jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), tuned, current)

    def cloud(self, params: tuple[tuning.Cloud, PyTree[Array]]) -> tuning.Cloud | None:
        """The fitted cloud, where the sampler is to see whitened coordinates."""
        return params[0] if self.whitened else None

    def build(
        self,
        logdensity_fn: LogDensity,
        density: TemperedDensity,
        params: tuple[tuning.Cloud, PyTree[Array]],
        dim: int,
    ) -> SamplingAlgorithm:
        """What the user's function makes of the log density and the current parameters."""
        del density, dim
        algorithm = self.factory(logdensity_fn, params[1])
        if not isinstance(algorithm, SamplingAlgorithm):
            raise TargetError(
                "the factory did not return a blackjax sampler",
                expected="a blackjax.base.SamplingAlgorithm",
                got=type(algorithm).__name__,
                hint="for example lambda logdensity_fn, params: blackjax.hmc(logdensity_fn, **params)",
            )
        return algorithm


def from_blackjax(
    algorithm: Any,
    *,
    params: PyTree[Any] | None = None,
    tune: Callable[..., Any] | None = None,
    whiten: bool | None = None,
    target_acceptance: float | None = None,
    **parameters: Any,
) -> BlackjaxKernel:
    """A blackjax sampler as a move kernel.

    Two forms. A sampler of blackjax's top level takes its parameters by name; what is not given and can
    be learnt from the particles (step size, mass matrix, proposal covariance) is::

        from_blackjax(blackjax.barker_proposal)
        from_blackjax(blackjax.hmc, num_integration_steps=8)
        from_blackjax(blackjax.nuts, step_size=0.5, max_num_doublings=6)

    A function of a log density and a pytree of parameters gives all control::

        from_blackjax(
            lambda logdensity_fn, params: blackjax.hmc(logdensity_fn, num_integration_steps=8, **params),
            params={"step_size": 0.3, "inverse_mass_matrix": jnp.ones(5)},
            tune=lambda params, mean, covariance, acceptance: params | {"inverse_mass_matrix": jnp.diag(covariance)},
        )

    Args:
        algorithm: the sampler, or in the second form the function.
        params: second form: first parameters, turned into arrays (close over what must stay a Python value).
        tune: second form: ``(params, mean, covariance, acceptance) -> params``, called before each move
            with the cloud's mean and shrunk covariance; acceptance is NaN before the first move.
        whiten: run the sampler in coordinates in which the cloud has mean zero and unit covariance;
            lengths are then in units of the cloud's spread. By default yes in the first form, unless a parameter
            that belongs to the target's own coordinates is given, and no in the second.
        target_acceptance: first form: what a tuned step size aims at; by default what suits the sampler.
        parameters: first form: the sampler's parameters.

    Raises:
        ArgumentError: the sampler does not leave its density invariant, does not take a log density, or
            lacks a parameter.
    """
    if params is not None:
        return _from_factory(algorithm, params, tune, bool(whiten), target_acceptance, parameters)
    facts = facts_of(algorithm)
    accepted = list(inspect.signature(facts.algorithm).parameters.values())[1:]
    names = [parameter.name for parameter in accepted]
    unknown = sorted(set(parameters) - set(names))
    if unknown or tune is not None:
        raise ArgumentError(
            f"{facts.name} takes no parameter {unknown}" if unknown else "tune needs params",
            expected=", ".join(names) if unknown else "params=..., and a function of (logdensity_fn, params)",
            hint="check the spelling" if unknown else "a sampler of blackjax's top level is tuned without it",
        )
    if parameters.get("build_proposal") is multinomial_hmc_proposal:
        reason, hint = FORWARD_ONLY
        raise ArgumentError(f"{facts.name} with this build_proposal cannot be a move kernel: {reason}", hint=hint)
    tunable = {name for name, _ in facts.tuned}
    bare = {parameter.name for parameter in accepted if parameter.default is inspect.Parameter.empty}
    missing = sorted(((bare - tunable) | facts.required) - set(parameters))
    if missing:
        raise ArgumentError(
            f"{facts.name} needs more parameters",
            expected=", ".join(missing),
            got=", ".join(sorted(parameters)) or "none",
            hint="give them by name: from_blackjax(algorithm, " + ", ".join(f"{name}=..." for name in missing) + ")",
        )
    own_coordinates = facts.gaussian_base or bool(COORDINATE_NAMES & set(parameters))
    whitened = not own_coordinates if whiten is None else whiten
    if whitened and facts.gaussian_base:
        raise ArgumentError(f"{facts.name} cannot be whitened", expected="whiten=False: it moves along the base")
    if not whitened and facts.unit_momentum:
        raise ArgumentError(
            f"{facts.name} starts from a momentum of unit scale, whatever its mass matrix",
            expected="whitened coordinates and no mass matrix of its own",
            got=f"whiten={whiten}, " + (", ".join(sorted(COORDINATE_NAMES & set(parameters))) or "no mass matrix"),
            hint="leave both out: the cloud's shape is then the mass matrix",
        )
    target = facts.target_acceptance if target_acceptance is None else target_acceptance
    tuning.check_acceptance(target)
    is_array = {name: hasattr(value, "__array__") for name, value in parameters.items()}
    return Bridged(
        facts=facts,
        options=tuple((name, value) for name, value in parameters.items() if not is_array[name]),
        arrays={name: jnp.asarray(value) for name, value in parameters.items() if is_array[name]},
        whitened=whitened,
        target_acceptance=target,
    )


def _from_factory(
    factory: Any,
    params: PyTree[Any],
    tune: Callable[..., Any] | None,
    whiten: bool,
    target_acceptance: float | None,
    parameters: dict[str, Any],
) -> Factory:
    if parameters or target_acceptance is not None:
        raise ArgumentError(
            "a factory takes its parameters in params only",
            expected="params={...}, tune=..., whiten=...",
            got=", ".join([*parameters, *(["target_acceptance"] if target_acceptance is not None else [])]),
            hint="move them into params, or into the function",
        )
    first = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), params)
    return Factory(factory=factory, first=first, tuner=tune, whitened=whiten)
