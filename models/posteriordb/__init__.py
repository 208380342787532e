"""Posteriors of posteriordb with their data and reference draws, the models written in numpyro.

``load(folder, name)`` reads any folder with the database's layout; ``names(folder)`` lists what it
has that a model was written for.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array
from smcinfer.ground.errors import ArgumentError
from smcinfer.models.posteriordb import evidence, latent, regression
from smcinfer.models.posteriordb.database import posterior_names, read_data, read_description, read_draws
from smcinfer.static import StaticTarget, from_numpyro
from smcinfer.static.numpyro_model import LAPLACE, Start

Draws = dict[str, NDArray[np.float64]]


def _as_recorded(draw: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    del data
    return draw


@dataclass(frozen=True)
class Entry:
    """What is known of one model.

    Attributes:
        model: the numpyro model, a function of the data.
        log_z: log evidence: exact, a function of the data; or, for the database's data, estimated: a
            value and its standard error.
        from_mode: whether to start from a wide Gaussian at the mode: where a prior is flat, and where
            priors are so vague that the path from them to the posterior is long and hard.
        sites: one draw of the database and the data -> values of the model's latent sites.
    """

    model: Callable[[dict[str, Any]], None]
    log_z: Callable[[dict[str, Any]], float] | tuple[float, float]
    from_mode: bool = False
    sites: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]] = _as_recorded


MODELS: dict[str, Entry] = {
    "arK": Entry(regression.ark, evidence.ark, from_mode=True),
    "arma11": Entry(latent.arma11, (57.2511, 0.0003), from_mode=True),
    "blr": Entry(regression.blr, evidence.blr, from_mode=True),
    "diamonds": Entry(regression.diamonds, evidence.diamonds, from_mode=True),
    "eight_schools_noncentered": Entry(
        latent.eight_schools_noncentered, evidence.eight_schools, sites=latent.eight_schools_sites
    ),
    "gp_pois_regr": Entry(latent.gp_pois_regr, (-47.623, 0.002), sites=latent.gp_sites),
    "hmm_example": Entry(latent.hmm_example, (-173.4032, 0.0003), sites=latent.hmm_sites),
    "kidscore_interaction": Entry(regression.kidscore_interaction, evidence.kidscore_interaction, from_mode=True),
    "kidscore_momhs": Entry(regression.kidscore_momhs, evidence.kidscore_momhs, from_mode=True),
    "kidscore_momhsiq": Entry(regression.kidscore_momhsiq, evidence.kidscore_momhsiq, from_mode=True),
    "kilpisjarvi": Entry(regression.kilpisjarvi, evidence.kilpisjarvi, from_mode=True),
    "logearn_height": Entry(regression.logearn_height, evidence.logearn_height, from_mode=True),
    "low_dim_gauss_mix": Entry(latent.low_dim_gauss_mix, (-2114.9902, 0.0005)),
    "nes": Entry(regression.nes, evidence.nes, from_mode=True),
}
"""The models written so far, by the database's name."""


@dataclass(frozen=True)
class Posterior:
    """One posterior of the database.

    Attributes:
        name: its name in the database.
        model: the numpyro model, a function of ``data``.
        data: its data, as arrays.
        target: what to sample.
        parameters: the names the reference draws have.
    """

    name: str
    model: Callable[[dict[str, Any]], None]
    data: dict[str, Any]
    target: StaticTarget
    parameters: tuple[str, ...]
    folder: Path = field(repr=False)
    reference_name: str | None = field(repr=False)
    entry: Entry = field(repr=False)

    def log_z(self) -> tuple[float, float]:
        """Log evidence and its standard error, nats; a flat prior counts as density one.

        Exact (standard error zero) by quadrature for the regressions and eight schools; for the others
        importance sampling from a Student t fitted to the reference draws, run once.
        """
        known = self.entry.log_z
        return known if isinstance(known, tuple) else (known(self.data), 0.0)

    def reference_draws(self) -> Draws:
        """The database's own draws: (chains, draws) or (chains, draws, k) by parameter name."""
        if self.reference_name is None:
            raise ArgumentError(f"posterior {self.name!r} has no reference draws in the database")
        return read_draws(self.folder, self.reference_name)

    def reference_vectors(self) -> Array:
        """The database's draws as unconstrained vectors, Float["chains draws dim"]."""
        draws = {name: jnp.asarray(values) for name, values in self.reference_draws().items()}
        unconstrain = self.target.unconstrain
        assert unconstrain is not None, "every target made from a numpyro model has an inverse"
        return jax.jit(jax.vmap(jax.vmap(lambda draw: unconstrain(self.entry.sites(draw, self.data)))))(draws)


def names(folder: str | Path) -> list[str]:
    """Names of the posteriors in a folder whose model is written."""
    folder = validate.path("folder", folder)
    every = posterior_names(folder)
    return [name for name in every if read_description(folder, name)["model_name"] in MODELS]


def load(folder: str | Path, name: str, *, reference: Start = None) -> Posterior:
    """One posterior of a posteriordb folder.

    Args:
        folder: the folder that holds ``posteriors``.
        name: the posterior's name, such as ``"arK-arK"``.
        reference: what to start from, as in `smcinfer.from_numpyro`; ``{}`` is the prior. By default the
            prior, or a wide Gaussian at the mode where a prior is flat or very vague. The evidence
            does not depend on it.

    Raises:
        ArgumentError: for a folder without the layout, an unknown posterior, or a model not written.
    """
    folder = validate.path("folder", folder)
    description = read_description(folder, name)
    entry = MODELS.get(description["model_name"])
    if entry is None:
        raise ArgumentError(
            f"the model of posterior {name!r} is not written in numpyro",
            expected=f"one of {sorted(MODELS)}",
            got=description["model_name"],
            hint="write it and pass it to smcinfer.from_numpyro",
        )
    data = read_data(folder, description["data_name"])
    if reference is None and entry.from_mode:
        reference = LAPLACE
    return Posterior(
        name=name,
        model=entry.model,
        data=data,
        target=from_numpyro(entry.model, data, reference=reference),
        parameters=tuple(description["dimensions"]),
        folder=folder,
        reference_name=description["reference_posterior_name"],
        entry=entry,
    )
