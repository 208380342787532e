"""numpyro models with discrete latent sites, for `smcinfer.static.mixed`."""

import copy
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers

from smcinfer.core.described import Described
from smcinfer.ground.arrays import Array, Float, Int, KeyArray, Scalar
from smcinfer.ground.errors import TargetError
from smcinfer.ground.names import check_names
from smcinfer.ground.slices import each
from smcinfer.kernels.base import Kernel
from smcinfer.paths.moves import Moves
from smcinfer.paths.schedules import Schedule
from smcinfer.static.contract import check_callable
from smcinfer.static.mixed import MixedPath, check_both_kinds, mixed_path, table_of
from smcinfer.static.numpyro_data import complete_trace, plain_arguments
from smcinfer.static.numpyro_described import DescribedModel
from smcinfer.static.numpyro_model import check_sites
from smcinfer.static.numpyro_replay import Replay, Trace, cut, is_latent, log_prob


class MixedReplay(Replay):
    """A numpyro model with its real latent sites in one vector and its discrete ones in another.

    Attributes:
        discrete: name -> shape of each discrete latent site, in the model's order.
        values: Int["sites most"], what each element of the discrete vector may be, padded by its first value.
        counts: Int["sites"], how many values each has.
    """

    def __init__(self, model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], trace: Trace) -> None:
        finite = {name: site for name, site in trace.items() if is_latent(site) and site["fn"].support.is_discrete}
        super().__init__(model, args, kwargs, {}, {name: site for name, site in trace.items() if name not in finite})
        self.discrete = {name: np.shape(site["value"]) for name, site in finite.items()}
        rows = [row for name, site in finite.items() for row in [_support(name, site)] * np.size(site["value"])]
        self.values, self.counts = table_of(rows)

    def named(self, z: Int[Array, " sites"]) -> dict[str, Array]:
        """The discrete vector as values of its sites."""
        return cut(z, self.discrete)

    def at(self, z: Int[Array, " sites"]) -> "MixedReplay":
        """The model with its discrete sites held."""
        held = copy.copy(self)
        held.model = handlers.substitute(self.model, data=self.named(z))
        return held

    def _observed(self, trace: Trace) -> Scalar:
        return super()._observed({name: site for name, site in trace.items() if name not in self.discrete})

    def log_base(self, x: Float[Array, " dim"]) -> Scalar:
        """Log density of all latent sites, the discrete ones as they are held, nats."""
        trace = self.trace_at(x)
        held = sum((jnp.sum(log_prob(trace[name])) for name in self.discrete), jnp.zeros(()))
        real = sum((self._base(name, trace, piece) for name, piece in self.split(x).items()), jnp.zeros(()))
        return (held + real).astype(x.dtype)

    def constrain(self, x: Float[Array, " dim"]) -> dict[str, Array]:
        """Latent and deterministic sites at ``x``, the discrete ones as they are held."""
        trace = self.trace_at(x)
        kept = {*self.sites, *self.discrete}
        return {
            name: jnp.asarray(site["value"])
            for name, site in trace.items()
            if name in kept or site["type"] == "deterministic"
        }

    @property
    def described(self) -> Described:
        """What the numpyro model tells of itself."""
        return DescribedMixed.of(self, complete_trace(self.model, self.args, self.kwargs))

    def draws(self, key: KeyArray, n: int) -> tuple[Float[Array, "n dim"], Int[Array, "n sites"]]:
        """Exact draws of the prior: the two vectors of each."""
        return each(self._both)(jax.random.split(key, n))

    def _both(self, key: KeyArray) -> tuple[Float[Array, " dim"], Int[Array, " sites"]]:
        trace = self.drawn(key)
        z = jnp.concatenate([jnp.ravel(trace[name]["value"]).astype(jnp.int32) for name in self.discrete])
        return self.vector_of(trace), z


class DescribedMixed(DescribedModel):
    """A numpyro model with discrete sites, which are given where the likelihood is asked for."""

    def _names(self) -> list[str]:
        replay: Any = self.replay
        return [*replay.sites, *replay.discrete]


def mixed_from_numpyro(
    model: Callable[..., Any],
    *args: Any,
    kernel: str | Kernel = "hmc",
    schedule: str | Schedule | list[float] = "ess",
    moves: Moves | None = None,
    led: bool = True,
    **kwargs: Any,
) -> MixedPath:
    """The posterior of a numpyro model with discrete latent sites: a model for `smcinfer.sample`, tempered from its prior.

    Args:
        model: a numpyro model with at least one real and one discrete latent site; discrete ones have finitely many values, and
            shapes that do not depend on other sites.
        args: its positional arguments, the data among them, as of `from_numpyro`.
        kernel: what moves the reals given the rest.
        schedule: as of `smcinfer.Tempering`.
        moves: how often particles move at each exponent; ``Moves()`` where ``None``.
        led: as of `smcinfer.Tempering`.
        kwargs: the model's keyword arguments.

    Returns:
        `MixedPath`. A move costs as many evaluations of the model as all discrete elements have values together, and those of
        the kernel. Where an element hangs on another so that one cannot move without the other, Gibbs mixes slowly.

    Raises:
        TargetError: no discrete site, or one of infinitely many values; no real site; or as of `from_numpyro`.
        ArgumentError: for data of which some are missing, or a setting of the wrong kind.

    Properly weighted for: the posterior of all sites; log Z is the log evidence, summed over the discrete ones.
    """
    check_callable("model", model)
    args, kwargs = plain_arguments(args, kwargs)
    trace = complete_trace(model, args, kwargs)
    check_names([name for name, site in trace.items() if is_latent(site) or site["type"] == "deterministic"], "sites")
    latent = {name: site for name, site in trace.items() if is_latent(site)}
    finite = [name for name, site in latent.items() if site["fn"].support.is_discrete]
    check_both_kinds(
        finite,
        [name for name in latent if name not in finite],
        "smcinfer.from_numpyro(model, ...)",
        "smcinfer.annealed(smcinfer.graph_from_numpyro(model, ...))",
    )
    scaled = [name for name in latent if trace[name]["scale"] is not None]
    if scaled:
        raise TargetError("latent sites are scaled", expected="sites as they are drawn", got=scaled)
    check_sites({name: site for name, site in trace.items() if name not in finite})
    return mixed_path(MixedReplay(model, args, kwargs, trace), kernel, schedule, moves, led)


def _support(name: str, site: dict[str, Any]) -> np.ndarray:
    """The values that an element of a site may take."""
    try:
        return np.asarray(site["fn"].enumerate_support(expand=False)).reshape(-1).astype(np.int32)
    except NotImplementedError as error:
        raise TargetError(
            f"discrete site {name!r} has infinitely many values",
            expected="Bernoulli, Categorical, Binomial or DiscreteUniform",
            got=type(site["fn"]).__name__,
            hint="cut it off: a Categorical over the values that matter",
        ) from error
