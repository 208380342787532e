r"""Models with discrete variables: tempered together, the reals moved by a kernel, the rest by Gibbs.

.. math:: \gamma_\lambda(x, z) = p(z)\, p(x \mid z)\, e^{\lambda \Phi(x, z)}, \qquad
    z_j \sim \gamma_\lambda(x, z_{-j}, \cdot)

One move is one step of the kernel on x given z, and one draw of every element of z from its conditional law, all of whose
values are tried. log Z is summed over z, with no bound on how many z there are together.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core.described import Described
from smcinfer.core.feynman_kac import Mutation, follow_leader
from smcinfer.core.plan import Plan
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, Int, KeyArray, LogWeights, Particles, PyTree, Scalar
from smcinfer.ground.errors import TargetError
from smcinfer.ground.slices import each
from smcinfer.kernels.base import Kernel, KernelState, TemperedDensity
from smcinfer.kernels.registry import by_name, name_of
from smcinfer.paths.moves import Moves
from smcinfer.paths.path import Path
from smcinfer.paths.rising import Place
from smcinfer.paths.schedules import Schedule
from smcinfer.paths.schedules import by_name as schedule_by_name
from smcinfer.static.guard import Guarded
from smcinfer.static.target import POSTERIOR


class HeldModel(Protocol):
    """A model whose discrete variables are held: functions of the vector of its reals, densities in nats."""

    def log_base(self, x: Float[Array, " dim"]) -> Scalar:
        """Log density of all latent variables."""
        ...

    def log_potential(self, x: Float[Array, " dim"]) -> Scalar:
        """Log likelihood of what is observed."""
        ...

    def constrain(self, x: Float[Array, " dim"]) -> dict[str, Array]:
        """Latent and computed variables by name, the discrete ones as they are held."""
        ...


class MixedModel(Protocol):
    """A model with its real latent variables in one vector and its discrete ones in another.

    Attributes:
        dim: length of the vector of reals.
        values: Int["sites most"], what each element of the discrete vector may be, padded by its first value.
        counts: Int["sites"], how many values each has.
        described: what the model tells of itself.
    """

    dim: int
    values: np.ndarray
    counts: np.ndarray

    @property
    def described(self) -> Described: ...

    def at(self, z: Int[Array, " sites"]) -> HeldModel:
        """The model with its discrete variables held."""
        ...

    def draws(self, key: KeyArray, n: int) -> tuple[Float[Array, "n dim"], Int[Array, "n sites"]]:
        """Exact draws of the prior: the two vectors of each."""
        ...


class Mixed(eqx.Module):
    """A particle: the state of the kernel, and the discrete vector that it is given."""

    state: KernelState
    z: Int[Array, " sites"]


class MixedPath(Path):
    """The Feynman-Kac model of such a model (made by `mixed_from_numpyro` and `mixed_from_pymc`).

    Attributes:
        model: of both kinds of variables.
        kernel: what moves the reals.
    """

    model: MixedModel = eqx.field(static=True)
    kernel: Kernel

    weighted_for: ClassVar[str] = POSTERIOR
    reports: ClassVar[tuple[str, ...]] = ("acceptance", "num_evals", "changed")

    @property
    def plan(self) -> Plan:
        """The plan of every path, with how the particles were moved."""
        details = {
            "method": "tempering",
            "kernel": name_of(self.kernel),
            "dim": self.model.dim,
            "num_discrete": len(self.model.counts),
            "led": self.led,
        }
        return dataclasses.replace(super().plan, details=details)

    @property
    def described(self) -> Described | None:
        """What the model tells of itself."""
        return self.model.described

    def _density(self, z: Int[Array, " sites"], exponent: Scalar) -> TemperedDensity:
        held = self.model.at(z)
        return TemperedDensity(held.log_base, Guarded(held.log_potential), exponent)

    def start(self, key: KeyArray, num_particles: int) -> Mutation:
        """Exact draws of the prior, discrete sites too."""
        x, z = self.model.draws(key, num_particles)
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
        return self.kernel.parameters(self.model.dim)

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
        evals = jnp.mean(done.num_evals.astype(dtype)) + float(self.model.values.size + 1)
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
        values, counts = jnp.asarray(self.model.values), jnp.asarray(self.model.counts)

        def one(z: Array, place: Array) -> tuple[Array, None]:
            tried = jax.vmap(lambda value: z.at[place].set(value))(values[place])
            logs = jax.vmap(lambda z: self._density(z, exponent)(x))(tried)
            known = (jnp.arange(values.shape[1]) < counts[place]) & ~jnp.isnan(logs)
            chosen = jax.random.categorical(jax.random.fold_in(key, place), jnp.where(known, logs, -jnp.inf))
            return tried[chosen], None

        return jax.lax.scan(one, z, jnp.arange(len(self.model.counts)))[0]

    def exported(self, particles: Particles) -> PyTree[Any]:
        """All latent and deterministic sites by name."""
        mixed: Any = particles
        return jax.vmap(lambda x, z: self.model.at(z).constrain(x))(mixed.state.position, mixed.z)


def mixed_path(
    model: MixedModel, kernel: str | Kernel, schedule: str | Schedule | list[float], moves: Moves | None, led: bool
) -> MixedPath:
    """The path of a model, its settings checked.

    Args:
        model: of both kinds of variables.
        kernel: what moves the reals given the rest.
        schedule, led: as of `smcinfer.Tempering`.
        moves: how often particles move at each exponent; ``Moves()`` where ``None``.

    Raises:
        ArgumentError: a setting is of the wrong kind.
    """
    return MixedPath(
        model,
        by_name(kernel),
        schedule=schedule_by_name(schedule),
        moves=Moves() if moves is None else validate.instance("moves", moves, Moves, "smcinfer.Moves(max_steps=30)"),
        led=led,
    )


def check_both_kinds(discrete: Sequence[str], real: Sequence[str], only_real: str, only_discrete: str) -> None:
    """Raise `TargetError` where a model lacks a kind of variables.

    Args:
        discrete, real: names of latent variables.
        only_real, only_discrete: the way of a model that has that kind alone.
    """
    for there, what, hint in ((discrete, "discrete", only_real), (real, "real", only_discrete)):
        if not there:
            raise TargetError(
                f"the model has no {what} latent site", expected="both kinds", got=[*discrete, *real], hint=hint
            )


def table_of(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """``values`` and ``counts`` of a model from what each element of its discrete vector may be."""
    most = max(len(row) for row in rows)
    values = np.stack([np.concatenate([row, np.repeat(row[:1], most - len(row))]) for row in rows])
    return values.astype(np.int32), np.asarray([len(row) for row in rows])
