"""Resampling as a part of a step: who needs it, who descends from whom, and moving particles, families and seats along.

Deciding is done run by run, before the particles move. Applying is one branch for all runs: particles are copied, and
genealogies grow, only when some run resamples.
"""

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core import lineage as lineages
from smcinfer.core import resampling
from smcinfer.core.feynman_kac import FeynmanKac, Population, follow_leader
from smcinfer.core.lineage import Lineage
from smcinfer.core.resampling import in_islands, in_place
from smcinfer.core.settings import Settings
from smcinfer.core.state import SMCState, pick
from smcinfer.core.weights import Weighed, normalise_and_measure
from smcinfer.ground.arrays import Array, Bool, Flag, Float, Int, KeyArray, LogWeights, PyTree
from smcinfer.ground.errors import ArgumentError


class Decision(eqx.Module):
    """Which islands of a run resample.

    Attributes:
        needed: Bool["islands"], whether each does.
        by: Float["islands n"], log weights that it resamples by, normalised within each.
        log_weights: Float["num_particles"], what the particles weigh afterwards: in an island that resamples, equal shares
            of what it weighed.
    """

    needed: Bool[Array, "*runs islands"]
    by: Float[Array, "*runs islands n"]
    log_weights: Float[Array, "*runs num_particles"]


class Resampled(NamedTuple):
    """Particles of all runs (``None`` where they are moved in place afterwards), families, line, and parents if asked for."""

    particles: PyTree[Any]
    lineage: Lineage
    line: Array | None
    parents: Array | None


@dataclasses.dataclass(frozen=True)
class Resampler:
    """Decides which islands resample, and applies it (made by `of`).

    Attributes:
        model, settings: what runs, and how.
        num_ancestors: particles that are kept; fewer than N where waste-free, and then every step resamples.
    """

    model: FeynmanKac
    settings: Settings
    num_ancestors: int

    @classmethod
    def of(cls, model: FeynmanKac, settings: Settings) -> "Resampler":
        """The resampler of a model.

        Raises:
            ArgumentError: for islands where the model cannot be split into any.
        """
        made = cls(model, settings, model.num_ancestors(settings.num_particles))
        if settings.islands > 1 and (made.always or model.conditional):
            raise ArgumentError(
                "this model cannot be split into islands",
                expected="islands=1 for waste-free and conditional models",
                got=settings.islands,
            )
        return made

    @property
    def always(self) -> bool:
        """Whether every step resamples: it changes the number of particles."""
        return self.num_ancestors != self.settings.num_particles

    @property
    def size(self) -> int:
        """Particles of an island."""
        return self.settings.num_particles // self.settings.islands

    @property
    def kept(self) -> int:
        """Particles of an island that are kept."""
        return self.num_ancestors // self.settings.islands

    def first_line(self, particles: PyTree[Any]) -> Array | None:
        """Everybody in order, where large particles (of one run) are to be moved in place."""
        # Waste-free runs change the number of particles, a given path must lie in slot 0, and rows on other devices are far.
        whole = not self.always and not self.model.conditional
        if self.model.on_host or self.settings.mesh is not None or not whole or not in_place.pays(particles):
            return None
        islands = self.settings.islands
        return jnp.broadcast_to(jnp.arange(self.size, dtype=jnp.int32), (islands, self.size))

    def decide(self, seen: Weighed, informative: Flag | None) -> Decision:
        """Which islands of one run resample.

        Args:
            seen: the weights that resampling sees, look-ahead included.
            informative: whether the step weighs anything at all (`FeynmanKac.informative`).
        """
        islands, size, dtype = self.settings.islands, self.size, seen.log_weights.dtype
        if islands == 1:
            by, log_shares, sizes = seen.log_weights[None], jnp.zeros((1,), dtype), seen.ess[None]
        else:
            by, log_shares, sizes = jax.vmap(normalise_and_measure)(seen.log_weights.reshape(islands, size))
        # An ESS of N exactly (weights all equal) is left alone even where resampling is asked for at every step.
        needed = sizes < self.settings.resample_below * size * (1 - 1e-6)
        needed = jnp.ones_like(needed) if self.always else needed
        needed = needed if informative is None else needed & informative
        needed = follow_leader(needed) if self.model.led else needed
        fresh = jnp.broadcast_to(log_shares[:, None] - jnp.log(size).astype(dtype), by.shape)
        after = jnp.where(needed[:, None], fresh, seen.log_weights.reshape(by.shape)).reshape(-1)
        return Decision(needed, by, after)

    def apply(
        self, t: Int[Array, ""], key: Array, decision: Decision, shared: PyTree[Any], state: SMCState
    ) -> Resampled:
        """All runs after the resampling that was decided.

        Args:
            t: the step.
            key: one key a run.
            decision: of every run.
            shared: of the model, for step t.
            state: before the step.
        """
        in_seats = state.line is not None
        before = Resampled(None if in_seats else state.population.particles, state.lineage, state.line, None)
        if self.always:
            after = self._resample(t, key, decision, shared, before)
        else:
            resample = lambda before: self._resample(t, key, decision, shared, before)  # noqa: E731
            keep = lambda before: before._replace(parents=self._everyone(decision, before))  # noqa: E731
            after = jax.lax.cond(jnp.any(decision.needed), resample, keep, before)
        if not in_seats:
            return after
        parents: Any = after.parents
        return after._replace(particles=in_place.follow(state.population.particles, parents))

    def _asks_parents(self, before: Resampled) -> bool:
        return self.settings.history in ("ancestors", "full") or before.line is not None

    def _everyone(self, decision: Decision, before: Resampled) -> Array | None:
        """Every particle its own parent, where parents are asked for."""
        if not self._asks_parents(before):
            return None
        everyone = jnp.arange(self.settings.num_particles, dtype=jnp.int32)
        return jnp.broadcast_to(everyone, (decision.needed.shape[0], everyone.shape[0]))

    def _resample(
        self, t: Int[Array, ""], key: Array, decision: Decision, shared: PyTree[Any], before: Resampled
    ) -> Resampled:
        """All runs, each in the islands that need it."""
        family = self._closed(decision, before.lineage) if self.settings.lag else before.lineage

        def one(
            key: KeyArray, decision: Decision, shared: PyTree[Any], particles: PyTree[Any], family: Lineage, line: Any
        ) -> Resampled:
            ancestors = self._ancestors(t, key, decision, shared, particles, line)
            if line is None:
                parents = jnp.repeat(ancestors, self.settings.num_particles // self.num_ancestors, axis=1)
                particles = jax.tree.map(lambda leaf: in_islands.gather(leaf, ancestors), particles)
            else:
                line, parents = jax.vmap(in_place.seat)(line, ancestors)
            heirs = self._heirs(decision, family, parents)
            return Resampled(particles, heirs, line, in_islands.number(parents) if self._asks_parents(before) else None)

        return jax.vmap(one)(key, decision, shared, before.particles, family, before.line)

    def _closed(self, decision: Decision, family: Lineage) -> Lineage:
        """Families with the noise counted that leaves the window, where new ones are due to be founded."""

        def count(family: Lineage) -> Lineage:
            close = jax.vmap(jax.vmap(lambda family, by: lineages.close(family, by, self.kept)))
            return jax.tree.map(lambda new, old: pick(decision.needed, new, old), close(family, decision.by), family)

        return jax.lax.cond(jnp.any(decision.needed & family.due), count, lambda family: family, family)

    def _ancestors(
        self,
        t: Int[Array, ""],
        key: KeyArray,
        decision: Decision,
        shared: PyTree[Any],
        particles: PyTree[Any],
        line: Any,
    ) -> Int[Array, "islands kept"]:
        """Whom each kept particle of one run descends from, numbered within its island, in line."""
        scheme = resampling.by_name(self.settings.resampling, conditional=self.model.conditional)
        in_line = decision.by if line is None else jnp.take_along_axis(decision.by, line, axis=1)
        stay = jnp.arange(self.size, dtype=jnp.int32)
        if self.model.conditional:
            ancestors = self._through_the_path(t, key, decision.by[0], shared, particles)[None]
        elif self.settings.islands == 1:
            ancestors = scheme(key, in_line[0], self.kept)[None].astype(jnp.int32)
        else:
            keys = jax.random.split(key, self.settings.islands)
            ancestors = jax.vmap(lambda key, block: scheme(key, block, self.kept))(keys, in_line).astype(jnp.int32)
        return ancestors if self.always else jnp.where(decision.needed[:, None], ancestors, stay)

    def _through_the_path(
        self, t: Int[Array, ""], key: KeyArray, by: LogWeights, shared: PyTree[Any], particles: PyTree[Any]
    ) -> Int[Array, " kept"]:
        """Ancestors given that slot 0 descends from the path's particle, or from the one that the model draws for it."""
        scheme = resampling.by_name(self.settings.resampling, conditional=True)
        key, reconnect_key = jax.random.split(key)
        parent = self.model.reconnect(reconnect_key, t, Population(particles, by), shared)
        if parent is None:
            return scheme(key, by, self.kept).astype(jnp.int32)
        # Turned until the parent comes first: conditional schemes keep the first, and systematic resampling knows its
        # particles only up to a rotation.
        turned = (jnp.arange(self.size, dtype=jnp.int32) + parent) % self.size
        return turned[scheme(key, by[turned], self.kept)].astype(jnp.int32)

    def _heirs(self, decision: Decision, family: Lineage, parents: Int[Array, "islands n"]) -> Lineage:
        """Families of one run handed down in the islands that resampled."""
        even = self.settings.resampling in resampling.EVEN
        inherit = jax.vmap(lambda family, by, parents: lineages.inherit(family, by, parents, self.kept, even=even))
        heirs = inherit(family, decision.by, parents)
        return jax.tree.map(lambda new, old: pick(decision.needed, new, old), heirs, family)
