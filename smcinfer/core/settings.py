"""What shapes a run and is fixed when it is compiled."""

import dataclasses
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from smcinfer.core import resampling
from smcinfer.ground import validate
from smcinfer.ground.arrays import PyTree
from smcinfer.ground.errors import ArgumentError

PARTICLES = "particles"
"""Name of the mesh axis that particles are laid over."""

HISTORY_LEVELS: tuple[str, ...] = ("none", "scalars", "ancestors", "full")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What shapes a run and is fixed at compile time.

    Attributes:
        num_particles: N, particles of each run.
        resampling: name of a scheme (`smcinfer.core.resampling.SCHEMES`).
        resample_below: resample where the effective sample size falls below this fraction of N; 1 resamples at
            every step at which weights differ, 0 never.
        history: what is recorded a step: ``"none"``, ``"scalars"``, ``"ancestors"`` or ``"full"`` (particles too).
        lag: resamplings that the genealogy kept for the error bar reaches back (`smcinfer.core.lineage`); 0 counts families
            from t = 0.
        islands: K equal parts of the population, each resampling by itself when its own effective sample size asks.
            Islands exchange weights, never particles, and Z_hat stays unbiased.
        mesh: devices that share the particles, with one axis named `PARTICLES`; ``None`` for the default device.
        particle_batch: particles of each run that likelihoods, moves and networks take at a time; all where ``None``.
    """

    num_particles: int
    resampling: str = "systematic"
    resample_below: float = 0.5
    history: str = "scalars"
    lag: int = 0
    islands: int = 1
    mesh: Mesh | None = None
    particle_batch: int | None = None

    def __post_init__(self) -> None:
        validate.count("num_particles", self.num_particles)
        validate.count("islands", self.islands)
        validate.fraction("resample_below", self.resample_below)
        validate.one_of("history", self.history, HISTORY_LEVELS)
        validate.count("lag", self.lag, at_least=0)
        resampling.by_name(self.resampling)
        if self.num_particles % self.islands:
            raise ArgumentError(
                "the particles cannot be split into islands",
                expected=f"islands that divide num_particles = {self.num_particles}",
                got=self.islands,
            )
        self._check_mesh()
        if self.particle_batch is not None:
            validate.count("particle_batch", self.particle_batch)
            validate.not_given(
                "a population that several devices share", particle_batch=self.mesh and self.particle_batch
            )

    def _check_mesh(self) -> None:
        if self.mesh is None:
            return
        split = self.islands if self.islands > 1 else self.num_particles
        if split % self.mesh.size:
            raise ArgumentError(
                f"the {'islands' if self.islands > 1 else 'particles'} cannot be shared evenly by the devices",
                expected=f"a multiple of the {self.mesh.size} devices",
                got=split,
            )


def shard(tree: PyTree[Any], mesh: Mesh | None, axis: int) -> PyTree[Any]:
    """Leaves with one axis (particles, or islands) laid over the devices of a mesh, where there are several.

    Args:
        tree: any pytree of arrays that all have the axis.
        mesh: the devices; ``None`` leaves the tree as it is.
        axis: position of the axis that is shared out.
    """
    if mesh is None:
        return tree
    spec = NamedSharding(mesh, PartitionSpec(*(None,) * axis, PARTICLES))
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, spec), tree)
