"""The door to everything that takes observations as they come, and the files that it goes on from."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core.settings import Settings
from smcinfer.ground import validate
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.ground.keys import key_of_kind
from smcinfer.kernels.base import Kernel
from smcinfer.results.record import Record, arrays
from smcinfer.results.words import Lines, counted
from smcinfer.state_space.model import StateSpace
from smcinfer.state_space.online.cloud import Cloud
from smcinfer.state_space.online.families import NestedFilters, ParametersOfData, ParametersOfFilters, untwisted
from smcinfer.state_space.online.filter import Filtering
from smcinfer.state_space.online.learner import Learning
from smcinfer.state_space.online.paused import Paused, unwound
from smcinfer.state_space.parameters.parametric import Parametric
from smcinfer.static.methods import DataAnnealing
from smcinfer.static.target import StaticTarget

Target = StateSpace | Parametric | StaticTarget


class _Saving:
    """What stands can be written to a file in mid-stream."""

    def save(self: Any, path: str | Path) -> Path:
        """Write where it stands to a file; ``smcinfer.load(path).resume(model)`` goes on bit for bit.

        Args:
            path: of the file, replaced where it exists.

        Raises:
            ArgumentError, FileError: as of any record.
        """
        self._check_begun()
        kept = self._paused()
        clock = kept["clock"]
        return PausedFilter(
            leaves=unwound(kept["leaves"]),
            step=self._t,
            identity=self._identity(),
            generator=str(jax.random.key_impl(self._key)),
            clock=[clock.first, clock.last] if clock else [],
            settings=kept["settings"],
            status=self.status,
            seconds=0.0,
            compile_seconds=0.0,
        ).save(path)


class Online(_Saving, Filtering):
    """A filter that takes observations as they come (made by `online`).

    Every `update` is one step of the driver, the same as that of `smcinfer.sample`: fed with the data one by one it gives, bit
    for bit, what `sample` gives on all of them. Nothing grows with the number of steps.
    """


class OnlineParameters(_Saving, Learning):
    """A sampler of parameters that takes observations as they come (made by `online`).

    What it keeps grows with the data: parameters that are moved are held against all of them.
    """


@dataclasses.dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class PausedFilter(Record):
    """What ``save`` wrote and `smcinfer.load` reads: all that an online filter goes on from, but for its model.

    Attributes:
        leaves, step, identity, generator, clock: as of `Paused`.
    """

    leaves: dict[str, np.ndarray] = arrays()
    step: int
    identity: str
    generator: str
    clock: list[float]

    WEIGHTED_FOR = "the filter at the step where it was saved"

    def resume(self, model: Target, *, method: Any = None, kernel: str | Kernel | None = None) -> Any:
        """The filter where it stood, to go on bit for bit.

        Args:
            model: the one that it was made with; functions are in no file.
            method, kernel: those that it was made with, where it samples parameters.

        Raises:
            CheckpointError: for another model, precision or version of JAX.
        """
        names = ("num_particles", "num_runs", "lag", "resampling", "resample_below")
        kept = {name: self.settings[name] for name in names}
        key = key_of_kind(jnp.asarray(np.asarray(self.settings["key"], np.uint32)), self.generator)
        paused = Paused(self.leaves, self.step, self.identity, self.generator, self.clock)
        return _made(key, model, method=method, kernel=kernel, **kept).restore(paused)

    def _title(self) -> str:
        return f"smcinfer online filter, saved after step {self.step}"

    def _lines(self) -> Lines:
        runs = counted(self.settings["num_runs"], "run")
        return [("size", f"{self.settings['num_particles']} particles x {runs}"), ("goes on by", ".resume(model)")]


def online(
    key: Any,
    model: Target,
    *,
    num_particles: int = 4096,
    num_runs: int = 1,
    lag: int = 0,
    resampling: str = "systematic",
    resample_below: float | None = None,
    cloud: Cloud | None = None,
    t: int | None = None,
    time: float | None = None,
    method: NestedFilters | DataAnnealing | None = None,
    kernel: str | Kernel | None = None,
) -> Any:
    """What takes observations as they come: a filter, or a sampler of parameters, with the numbers of the one for all data.

    Args:
        key: ``jax.random.key(seed)``; the same key gives the same filter bit for bit, resumed or not.
        model: made by `state_space`, best without data (a filter of its states); by `parametric`, of models without data (SMC
            squared, a filter for each parameter); or by ``posterior(prior, log_likelihood, data)`` (data annealing). Data that
            it has are taken in first.
        num_particles: particles of each run: states, or parameters.
        num_runs: independent runs, side by side in one program.
        lag: steps that the fixed-lag smoother of a filter looks back (`Online.smoothed`); memory is that of ``lag + 1``
            populations.
        resampling: name of a scheme.
        resample_below: resample where the ESS falls below this fraction of N; what the model's plan says where ``None``.
        cloud: of a filter, weighted states after step ``t`` to go on from, the `state` of another filter say: any number of
            them, of each run. log Z starts at the log of the sum of their weights: at 0 where they are normalised.
        t: the step that the cloud is of; 0 where ``None``.
        time: when that was, where the model has times.
        method: of parameters, `NestedFilters` or `DataAnnealing` with settings of its own.
        kernel: of parameters, what moves them: as in `smc2` and `sample`.

    Returns:
        An `Online`: ``update``, ``predict``, ``mean``, ``log_z``, ``smoothed``, ``save``; of parameters, an `OnlineParameters`.

    Raises:
        ArgumentError: for settings out of range, or that this kind of target cannot use.
        TargetError: for a model with a twist, which looks at data to come.

    Properly weighted for: p(x_{0:t}, y_{0:t}) after every update, as the filter of `sample` is; p(theta, y_{0:t}).
    """
    options = {"resampling": resampling, "resample_below": resample_below, "method": method, "kernel": kernel}
    made = _made(key, model, num_particles=num_particles, num_runs=num_runs, lag=lag, **options)
    if cloud is None:
        validate.not_given("a filter that starts without a cloud", t=t, time=time)
        return made.take_given(model)
    if not isinstance(made, Online):
        raise ArgumentError(
            "a cloud of states needs a filter of states", expected="cloud=None", got=type(model).__name__
        )
    return made.start_from(cloud, 0 if t is None else t, time)


def _made(
    key: Any,
    model: Target,
    *,
    num_particles: int,
    num_runs: int,
    lag: int,
    resampling: str,
    resample_below: float | None,
    method: Any,
    kernel: Any,
) -> Any:
    """What takes observations, before the first."""
    num_runs, lag = validate.count("num_runs", num_runs), validate.count("lag", lag, at_least=0)
    if isinstance(model, Parametric | StaticTarget):
        if lag:
            raise ArgumentError("parameters have no past to smooth", expected="lag=0", got=lag)
        family: Any
        if isinstance(model, Parametric):
            ways = validate.instance("method", method or NestedFilters(), NestedFilters, "smcinfer.NestedFilters(...)")
            family = ParametersOfFilters(model, ways, kernel, resampling)
        else:
            way = validate.instance("method", method or DataAnnealing(), DataAnnealing, "smcinfer.DataAnnealing(...)")
            family = ParametersOfData(model, way, kernel)
        return OnlineParameters(key, family, num_particles, num_runs, resampling, resample_below)
    if not isinstance(model, StateSpace):
        raise TargetError(
            "this cannot be online",
            expected="a model made by state_space, parametric, or posterior with data",
            got=type(model).__name__,
        )
    validate.not_given("a filter of states", method=method, kernel=kernel)
    model = untwisted(model)
    below, history = model.plan.threshold(resample_below), "ancestors" if lag else "scalars"
    settings = Settings(num_particles, resampling, below, history, model.plan.lag)
    return Online(key, model, settings, num_runs, lag)
