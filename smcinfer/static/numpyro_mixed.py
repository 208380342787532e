r"""numpyro models with discrete latent sites: tempered together, the reals moved by a kernel, the rest by Gibbs.

.. math:: \gamma_\lambda(x, z) = p(z)\, p(x \mid z)\, e^{\lambda \Phi(x, z)}, \qquad
    z_j \sim \gamma_\lambda(x, z_{-j}, \cdot)

One move is one step of the kernel on x given z, and one draw of every element of z from its conditional law, all of whose
values are tried. log Z is summed over z, with no bound on how many z there are together.
"""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers

from smcinfer.core.described import Described
from smcinfer.core.feynman_kac import Mutation, follow_leader
from smcinfer.core.plan import Plan
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, Int, KeyArray, LogWeights, Particles, PyTree, Scalar
from smcinfer.ground.errors import TargetError
from smcinfer.ground.names import check_names
from smcinfer.ground.slices import each
from smcinfer.kernels.base import Kernel, KernelState, TemperedDensity
from smcinfer.kernels.registry import by_name, name_of
from smcinfer.paths.moves import Moves
from smcinfer.paths.path import Path
from smcinfer.paths.rising import Place
from smcinfer.paths.schedules import Schedule
from smcinfer.paths.schedules import by_name as schedule_by_name
from smcinfer.static.contract import check_callable
from smcinfer.static.guard import Guarded
from smcinfer.static.numpyro_data import complete_trace, plain_arguments
from smcinfer.static.numpyro_described import DescribedModel
from smcinfer.static.numpyro_model import check_sites
from smcinfer.static.numpyro_replay import Replay, Trace, cut, is_latent, log_prob
from smcinfer.static.target import POSTERIOR


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
        most = max(len(row) for row in rows)
        self.values = np.stack([np.concatenate([row, np.repeat(row[:1], most - len(row))]) for row in rows])
        self.counts = np.asarray([len(row) for row in rows])

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

    def both(self, key: KeyArray) -> tuple[Float[Array, " dim"], Int[Array, " sites"]]:
        """One draw of the prior: the two vectors."""
        trace = self.drawn(key)
        z = jnp.concatenate([jnp.ravel(trace[name]["value"]).astype(jnp.int32) for name in self.discrete])
        return self.vector_of(trace), z


class Mixed(eqx.Module):
    """A particle: the state of the kernel, and the discrete vector that it is given."""

    state: KernelState
    z: Int[Array, " sites"]


class MixedPath(Path):
    """The Feynman-Kac model of a numpyro model with discrete sites (made by `mixed_from_numpyro`).

    Attributes:
        replay: the model.
        kernel: what moves the reals.
    """

    replay: MixedReplay = eqx.field(static=True)
    kernel: Kernel

    weighted_for: ClassVar[str] = POSTERIOR
    reports: ClassVar[tuple[str, ...]] = ("acceptance", "num_evals", "changed")

    @property
    def plan(self) -> Plan:
        """The plan of every path, with how the particles were moved."""
        details = {
            "method": "tempering",
            "kernel": name_of(self.kernel),
            "dim": self.replay.dim,
            "num_discrete": len(self.replay.counts),
            "led": self.led,
        }
        return dataclasses.replace(super().plan, details=details)

    @property
    def described(self) -> Described | None:
        """What the numpyro model tells of itself."""
        trace = complete_trace(self.replay.model, self.replay.args, self.replay.kwargs)
        return DescribedMixed.of(self.replay, trace)

    def _density(self, z: Int[Array, " sites"], exponent: Scalar) -> TemperedDensity:
        held = self.replay.at(z)
        return TemperedDensity(held.log_base, Guarded(held.log_potential), exponent)

    def start(self, key: KeyArray, num_particles: int) -> Mutation:
        """Exact draws of the prior, discrete sites too."""
        x, z = each(self.replay.both)(jax.random.split(key, num_particles))
        particles = self._kept(x, z, jnp.zeros((), x.dtype))
        return Mutation(particles, jnp.zeros((num_particles,), x.dtype), info={"num_evals": 1.0})

    def _kept(self, x: Float[Array, "n dim"], z: Int[Array, "n sites"], exponent: Scalar) -> Mixed:
        return each(lambda x, z: Mixed(self.kernel.init(x, self._density(z, exponent)), z))(x, z)

    def log_potential(self, particles: Mixed) -> LogWeights:
        """The kernel's states keep it."""
        return particles.state.log_potential

    def coordinates(self, particles: Mixed) -> Float[Array, "n dim"]:
        """Every real must be forgotten; a discrete site may well be the same everywhere."""
        return particles.state.position

    def parameters(self) -> PyTree[Any]:
        """Those of the kernel before it has seen particles."""
        return self.kernel.parameters(self.replay.dim)

    def tune(
        self, params: PyTree[Any], particles: Mixed, log_weights: LogWeights, report: dict[str, Scalar]
    ) -> PyTree[Any]:
        """The kernel tunes itself to the cloud of the reals."""
        return self.kernel.tune(params, particles.state.position, log_weights, report["acceptance"])

    def move(self, key: KeyArray, particles: Mixed, at: Place, params: PyTree[Any]) -> tuple[Mixed, dict[str, Scalar]]:
        """One step of the kernel, then every discrete element from its conditional law."""
        size = particles.z.shape[0]
        share_key, kernel_key, gibbs_key = jax.random.split(key, 3)
        params = self.kernel.share(share_key, params)
        params = follow_leader(params) if self.led else params
        states, done = each(lambda key, state, z: self.kernel.step(key, state, self._density(z, at.exponent), params))(
            jax.random.split(kernel_key, size), particles.state, particles.z
        )
        z = each(lambda key, x, z: self._gibbs(key, x, z, at.exponent))(
            jax.random.split(gibbs_key, size), states.position, particles.z
        )
        dtype = at.exponent.dtype
        evals = jnp.mean(done.num_evals.astype(dtype)) + float(self.replay.values.size + 1)
        report = {
            "acceptance": jnp.mean(done.acceptance.astype(dtype)),
            "num_evals": evals,
            "changed": jnp.mean((z != particles.z).astype(dtype)),
        }
        return self._kept(states.position, z, at.exponent), report

    def _gibbs(
        self, key: KeyArray, x: Float[Array, " dim"], z: Int[Array, " sites"], exponent: Scalar
    ) -> Int[Array, " sites"]:
        """Every element drawn in turn, given x and all others."""
        values, counts = jnp.asarray(self.replay.values), jnp.asarray(self.replay.counts)

        def one(z: Array, place: Array) -> tuple[Array, None]:
            tried = jax.vmap(lambda value: z.at[place].set(value))(values[place])
            logs = jax.vmap(lambda z: self._density(z, exponent)(x))(tried)
            known = (jnp.arange(values.shape[1]) < counts[place]) & ~jnp.isnan(logs)
            chosen = jax.random.categorical(jax.random.fold_in(key, place), jnp.where(known, logs, -jnp.inf))
            return tried[chosen], None

        return jax.lax.scan(one, z, jnp.arange(len(self.replay.counts)))[0]

    def exported(self, particles: Particles) -> PyTree[Any]:
        """All latent and deterministic sites by name."""
        mixed: Any = particles
        return jax.vmap(lambda x, z: self.replay.at(z).constrain(x))(mixed.state.position, mixed.z)


class DescribedMixed(DescribedModel):
    """A numpyro model with discrete sites, which are given where the likelihood is asked for."""

    def _latent(self, values: dict[str, Any]) -> dict[str, Any]:
        replay: Any = self.replay
        return {name: jnp.asarray(values[name]) for name in (*replay.sites, *replay.discrete)}


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
    for there, what, hint in (
        (finite, "discrete", "smcinfer.from_numpyro(model, ...)"),
        (
            [name for name in latent if name not in finite],
            "real",
            "smcinfer.annealed(smcinfer.graph_from_numpyro(model, ...))",
        ),
    ):
        if not there:
            raise TargetError(
                f"the model has no {what} latent site", expected="both kinds", got=list(latent), hint=hint
            )
    scaled = [name for name in latent if trace[name]["scale"] is not None]
    if scaled:
        raise TargetError("latent sites are scaled", expected="sites as they are drawn", got=scaled)
    check_sites({name: site for name, site in trace.items() if name not in finite})
    return MixedPath(
        MixedReplay(model, args, kwargs, trace),
        by_name(kernel),
        schedule=schedule_by_name(schedule),
        moves=Moves() if moves is None else validate.instance("moves", moves, Moves, "smcinfer.Moves(max_steps=30)"),
        led=led,
    )


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
