"""How to get to a static target: small descriptions that `smcinfer.sample` takes as ``method``.

>>> smcinfer.sample(key, target, method=smcinfer.Tempering("conditional_ess", moves=smcinfer.Moves(max_steps=30)))

Each makes a Feynman-Kac model of a target and a kernel. They are checked when they are written down, not when they run.
"""

import abc
import dataclasses
from typing import Any, ClassVar

from smcinfer.core.feynman_kac import FeynmanKac
from smcinfer.ground import validate
from smcinfer.ground.errors import TargetError
from smcinfer.kernels.base import Kernel
from smcinfer.paths import levels, schedules
from smcinfer.paths.moves import Moves
from smcinfer.paths.schedules import Schedule
from smcinfer.static.data_annealing import Batches, DataPath
from smcinfer.static.nested import NestedPath
from smcinfer.static.target import StaticTarget
from smcinfer.static.tempering import TemperingPath


class Method(abc.ABC):
    """A way from the base of a static target to the target."""

    kernel: ClassVar[str | None] = None
    """Name of the kernel that moves the particles where none is given; ``None`` goes by whether there is a gradient."""

    @abc.abstractmethod
    def model(self, target: StaticTarget, kernel: Kernel) -> FeynmanKac:
        """The Feynman-Kac model that goes this way.

        Args:
            target: what to reach.
            kernel: what moves the particles.
        """


@dataclasses.dataclass(frozen=True, eq=False)
class Tempering(Method):
    """The potential is raised to a power that grows from 0 to 1.

    Attributes:
        schedule: ``"ess"`` (default), ``"conditional_ess"``, a list of exponents that ends at 1, or a `Schedule`.
        moves: how many kernel steps a move takes; ``Moves()`` where ``None``. Waste-free chains take none: each of their
            states is one step.
        chain_length: where given, waste-free: keep every state of chains of this length.
        max_steps: the most exponents that an adaptive schedule may take, 1000 where ``None``; fewer than needed shows in
            the status.
        led: one run more is made, whose particles choose exponents, kernel parameters, resampling times and move lengths
            for all the others and are then left out: Z_hat of the others is exactly unbiased. ``False`` lets each run
            choose for itself: one run less, and a bias of order 1/N.

    Raises:
        ArgumentError: for a value out of range, or two options that exclude each other.
    """

    schedule: Any = "ess"
    moves: Moves | None = None
    chain_length: int | None = None
    max_steps: int | None = None
    led: bool = True

    def __post_init__(self) -> None:
        _check(self.moves, self.led)
        if self.max_steps is not None:
            validate.count("max_steps", self.max_steps)
        if self.chain_length is not None:
            validate.count("chain_length", self.chain_length, at_least=2)
            validate.not_given("a waste-free path (chain_length)", moves=self.moves)
        rule: Schedule = schedules.by_name(self.schedule)
        if rule.horizon is not None:
            validate.not_given("a schedule of given exponents", max_steps=self.max_steps)

    def model(self, target: StaticTarget, kernel: Kernel) -> TemperingPath:
        """The tempering path of a target.

        Args:
            target: what to reach.
            kernel: what moves the particles.
        """
        return TemperingPath(
            target,
            kernel,
            schedule=schedules.by_name(self.schedule),
            moves=self.moves or Moves(),
            max_steps=self.max_steps,
            chain_length=self.chain_length,
            led=self.led,
        )


@dataclasses.dataclass(frozen=True)
class DataAnnealing(Method):
    """The data of a target made by ``posterior(prior, log_likelihood, data)`` arrive in batches.

    Attributes:
        batch_size: data a step; the last batch may be smaller.
        moves: how many kernel steps a move takes; ``Moves()`` where ``None``.
        led: as of `Tempering`: one run chooses kernel parameters, resampling times and move lengths for all the others.

    Raises:
        ArgumentError: for a value out of range.
    """

    batch_size: int = 1
    moves: Moves | None = None
    led: bool = True

    def __post_init__(self) -> None:
        validate.count("batch_size", self.batch_size)
        _check(self.moves, self.led)

    def model(self, target: StaticTarget, kernel: Kernel) -> DataPath:
        """The path of a target along its data.

        Args:
            target: what to reach.
            kernel: what moves the particles.

        Raises:
            TargetError: if the target is not a sum over data.
            ArgumentError: if there are fewer data than a batch holds.
        """
        if target.log_terms is None or target.num_data is None:
            raise TargetError(
                "data annealing needs a likelihood that is a sum over data",
                expected="posterior(prior, log_likelihood, data=...) with log_likelihood(theta, datum)",
                got="a target without log_terms",
                hint="give the data to posterior, or use tempering",
            )
        batches = Batches(target.num_data, self.batch_size)
        return DataPath(target, kernel, schedule=batches, moves=self.moves or Moves(), led=self.led)


@dataclasses.dataclass(frozen=True, eq=False)
class Nested(Method):
    """Levels of the likelihood rise, and the particles below each are left behind: nested sampling.

    Where a narrow peak takes over at once from a broad one, which no power of the likelihood can follow, levels find it as
    soon as one particle stands in its basin.

    Attributes:
        survival: the share of the particles that stands above the next level; or a list of levels given beforehand, nats.
        tolerance: the levels end once what stands above them can add at most this share to Z, and is flat or next to nothing
            besides: a narrow peak may begin near the top of a broad one.
        moves: how many kernel steps a move takes; where ``None`` at least as many as it takes to move along every direction,
            and no more than a few times that: ``Moves(2 + 2 * dim, dim / 2, within_modes=True)``, at most 100.
        max_steps: the most levels, 1000 where ``None``; fewer than needed shows in the status.
        led: as of `Tempering`: one run chooses levels, kernel parameters and move lengths for all the others.

    Raises:
        ArgumentError: for a value out of range, or two options that exclude each other.
    """

    survival: Any = 0.5
    tolerance: float = 1e-3
    moves: Moves | None = None
    max_steps: int | None = None
    led: bool = True

    kernel: ClassVar[str] = "gibbsian_polar_slice"

    def __post_init__(self) -> None:
        _check(self.moves, self.led)
        validate.number("tolerance", self.tolerance, above=0.0, below=1.0)
        if self.max_steps is not None:
            validate.count("max_steps", self.max_steps)
        if levels.by_share(self.survival).horizon is not None:
            validate.not_given("a list of levels", max_steps=self.max_steps)

    def model(self, target: StaticTarget, kernel: Kernel) -> NestedPath:
        """The path of levels of a target.

        Args:
            target: what to reach.
            kernel: what moves the particles.
        """
        return NestedPath(
            target,
            kernel,
            schedule=levels.by_share(self.survival),
            tolerance=self.tolerance,
            moves=self.moves or _along_every_direction(target.dim),
            max_steps=self.max_steps,
            led=self.led,
        )


METHODS: dict[str, type[Method]] = {"tempering": Tempering, "data_annealing": DataAnnealing, "nested": Nested}
"""Methods by name, each with its default settings."""


def by_name(method: Any) -> Method:
    """A method from its name, a method as it is, tempering for ``None``.

    Args:
        method: str | Method | None.

    Raises:
        ArgumentError: for anything else.
    """
    if method is None:
        return Tempering()
    if isinstance(method, str):
        return METHODS[validate.one_of("method", method, METHODS)]()
    examples = "smcinfer.Tempering(...), smcinfer.DataAnnealing(...), smcinfer.Nested(...) or a name"
    return validate.instance("method", method, Method, examples)


def _along_every_direction(dim: int) -> Moves:
    """Moves for levels: a kernel step is along a few lines, and no correlation shows a direction in which a peak is hidden."""
    return Moves(min(2 + 2 * dim, 100), min(-(-dim // 2), 50), within_modes=True)


def _check(moves: Moves | None, led: bool) -> None:
    if moves is not None:
        validate.instance("moves", moves, Moves, "smcinfer.Moves(max_steps=30)")
    validate.flag("led", led)
