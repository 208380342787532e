"""A result as ArviZ knows results: equally weighted draws by chain, statistics by step, the weighted cloud beside.

ArviZ takes no weighted draws, so each run is resampled before export and becomes a chain; the particles with their
weights are kept in a group of their own.
"""

import dataclasses
import warnings
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from smcinfer.core.described import Described
from smcinfer.ground.arrays import KeyArray
from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.labels import from_json
from smcinfer.ground.lazy import Later
from smcinfer.ground.names import check_names, dimensions, exported, exported_name
from smcinfer.ground.version import package_version
from smcinfer.results.estimates import Estimates
from smcinfer.results.groups import PLAIN, filled, wanted
from smcinfer.results.pooling import resample

if TYPE_CHECKING:
    import xarray as xr
else:
    xr = Later("xarray")

# One entry a particle a step: kept in the result, too large for a table of statistics.
_PER_PARTICLE = ("ancestors", "particles", "log_weights")

# ArviZ gives no effective size for chains shorter than this.
_FEWEST_DRAWS = 4


def to_arviz(
    result: Estimates,
    key: KeyArray | int = 0,
    num_draws: int | None = None,
    *,
    groups: str | Collection[str] | None = None,
    target: Any = None,
) -> "xr.DataTree":
    """A DataTree with groups ``posterior``, ``sample_stats`` and ``weighted_posterior``, and those that the target fills.

    Args:
        result: the weighted particles.
        key: for the resampling, a random key or a seed.
        num_draws: draws of each run; by default the smallest effective sample size of a run. ArviZ takes draws
            for independent: with more of them it overstates its effective sizes and its rank tests raise false
            alarms. Errors that hold whatever the number are those of `Result.summary`, from the spread
            between runs.
        groups: further groups: ``"all"`` that the target has, or some of ``observed_data``, ``constant_data``,
            ``log_likelihood`` (of every datum), ``posterior_predictive``, ``prior`` and ``prior_predictive``.
        target: what was sampled, where the result came from a file, which keeps no functions.

    Returns:
        ``posterior`` (chain, draw): resampled, equally weighted, runs as chains (runs that found no weight are left
        out). ``sample_stats`` (chain, step): the history, with ``temperature = 1 / exponent`` and the cumulative
        ``log_z``. ``weighted_posterior``: the particles of every run as they are, with ``log_weights`` pooled over
        runs. log Z, its error and the status are attributes of the root. Axes have the names that the target knows.

    Raises:
        ArgumentError: no run found any weight, so there is nothing to draw from; or a group cannot be filled.
    """
    names = wanted(groups)
    described = result.described if target is None else target.described
    alive = np.flatnonzero(np.isfinite(result.log_z_runs))
    if alive.size == 0:
        raise ArgumentError("no run has draws to export", got="log Z = -inf", hint=result.status_in_words)
    count = max(int(result.ess[alive].min() * (1 + 1e-6)), _FEWEST_DRAWS) if num_draws is None else num_draws
    typed = jax.random.key(key) if isinstance(key, int) else key
    keys = jax.random.split(typed, result.num_runs)
    chosen = np.stack([resample(keys[run], result.log_weights[run], count) for run in alive])
    drawn = {name: values[alive[:, None], chosen] for name, values in result.particles.items()}
    more = filled(described, names, jax.random.fold_in(typed, result.num_runs), drawn, everything=groups == "all")
    content = {"posterior": drawn, "weighted_posterior": result.particles} | more
    own = {"weighted_posterior": {"log_weights": result.pooled_log_weights}}
    tree = as_tree(content, described, attributes(result), own)
    tree["sample_stats"] = xr.DataTree(sample_stats(result))
    return tree


def as_tree(
    content: Mapping[str, Mapping[str, Any]],
    described: Described | None,
    attrs: Mapping[str, Any],
    own: Mapping[str, Mapping[str, Any]] | None = None,
) -> "xr.DataTree":
    """Groups as an ArviZ tree, axes and variables named in one place for every export.

    Args:
        content: group -> variable -> array, sample axes in front but in the groups `groups.PLAIN`.
        described: what the target tells of its axes.
        attrs: of the root.
        own: group -> what is written there under the very names that files keep for it.
    """
    # ArviZ takes seconds to import, and only an export needs it.
    import arviz

    axes = Axes.of(described)
    named = {group: axes.named(values) | dict((own or {}).get(group, {})) for group, values in content.items()}
    with warnings.catch_warnings():
        # Fewer draws than runs is what a user may ask for; ArviZ takes it for swapped axes.
        warnings.filterwarnings("ignore", message="More chains .* than draws", category=UserWarning)
        return arviz.from_dict(named, attrs={"/": dict(attrs)}, dims=axes.dims(named, PLAIN), coords=dict(axes.coords))


@dataclasses.dataclass(frozen=True)
class Axes:
    """Names of axes in an export, and names of variables that do not clash with them.

    Attributes:
        known: variable -> names of its axes, by the target's own names.
        coords: axis -> labels.
    """

    known: Mapping[str, tuple[str, ...]]
    coords: Mapping[str, Any]

    @classmethod
    def of(cls, described: Described | None) -> "Axes":
        """What a target says of its axes."""
        return cls({}, {}) if described is None else cls(described.dims, described.coords)

    def _called(self, name: str) -> str:
        """A variable's name in the export: an axis of that name would swallow it."""
        written = exported_name(name)
        return f"{written}_" if any(written in axes for axes in self.known.values()) else written

    def named(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values under the names of the export."""
        check_names(values)
        return {self._called(name): value for name, value in values.items()}

    def dims(self, content: Mapping[str, Mapping[str, Any]], plain: Collection[str]) -> dict[str, list[str]]:
        """Names of the axes of every variable, sample axes left out.

        Args:
            content: group -> variable, under the names of the export -> array.
            plain: groups without sample axes.
        """
        known = {self._called(name): axes for name, axes in self.known.items()}
        found = {}
        for group, variables in content.items():
            for name, value in variables.items():
                ndim = np.ndim(value) - (0 if group in plain else 2)
                found[name] = [*known.get(name, ()), *dimensions(name, (), ndim)[len(known.get(name, ())) :]][:ndim]
        return found


def sample_stats(result: Estimates) -> "xr.Dataset":
    """The history by (chain, step), without what is recorded for every particle."""
    kept = {name: values for name, values in result.history.items() if name.split(".")[0] not in _PER_PARTICLE}
    kept = exported(kept)
    if "exponent" in kept:
        with np.errstate(divide="ignore"):
            kept["temperature"] = 1.0 / kept["exponent"]
    if "log_z_increment" in kept:
        kept["log_z"] = np.cumsum(kept["log_z_increment"].astype(np.float64), axis=1)
    variables = {name: (dimensions(name, ("chain", "step"), values.ndim), values) for name, values in kept.items()}
    num_steps = max((values.shape[1] for values in kept.values()), default=0)
    table = xr.Dataset(variables, coords={"chain": np.arange(result.num_runs), "step": np.arange(num_steps)})
    times = from_json(result.settings.get("times"))
    return table if times is None or len(times) != num_steps else table.assign_coords(time=("step", times))


def attributes(result: Estimates) -> dict[str, Any]:
    """What a file of draws should say about the run that made them, as plain numbers and strings."""
    low, high = result.log_z_interval(0.99)
    upper = result.upper_bound
    return {
        "inference_library": "smcinfer",
        "inference_library_version": package_version(),
        "log_z": result.log_z,
        "log_z_se": result.log_z_se,
        "log_z_se_source": result.evidence.source,
        "log_z_interval_99": [low, high],
        "log_z_lower_bound": list(result.lower_bound),
        "log_z_upper_bound": "needs an exact draw: see smcinfer.bounds" if upper is None else list(upper),
        "log_z_runs": result.log_z_runs.astype(np.float64).tolist(),
        "status": result.status_in_words,
        "weighted_for": result.weighted_for,
        "draws": "resampled from the weighted particles of each run; runs are chains",
        "sampling_time": result.seconds,
    }
