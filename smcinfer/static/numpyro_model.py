r"""Targets from numpyro models: the prior is the base, what is observed is the potential.

.. math:: \log \mu(x) = \sum_{\text{latent } j} \log p_j(T_j(x_j)) + \log|\det T_j'(x_j)|, \qquad
          \Phi(x) = \sum_{\text{observed}} \log p(y \mid \cdot) + \text{factors}

The base is the *joint* prior: a site's distribution may depend on the sites before it.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions.transforms import IdentityTransform

from smcinfer.ground.errors import TargetError
from smcinfer.ground.names import check_names
from smcinfer.static.contract import check_callable
from smcinfer.static.numpyro_data import complete_trace, plain_arguments
from smcinfer.static.numpyro_described import DescribedModel
from smcinfer.static.numpyro_replay import Replay, Trace, is_latent
from smcinfer.static.on_reals import inner_bijection, strip
from smcinfer.static.prior import Prior
from smcinfer.static.reference import laplace_reference
from smcinfer.static.target import POSTERIOR, Reference, StaticTarget, over_law

LAPLACE = "laplace"
Start = dist.Distribution | dict[str, dist.Distribution] | Reference | str | None


def from_numpyro(model: Callable[..., Any], *args: Any, reference: Start = None, **kwargs: Any) -> StaticTarget:
    """The posterior of a numpyro model, starting from its prior.

    Args:
        model: a numpyro model; latent sites must be continuous, plates not subsampled.
        args: its positional arguments, the data among them: arrays, or columns of a table, with nothing missing but where
            the model masks it (``numpyro.handlers.mask``, ``obs_mask=``).
        reference: what to start from instead of the prior, needed where the prior is improper:
            ``None``, the prior; a dict of site name to distribution, for those sites; one
            distribution over the whole unconstrained vector (sites in the model's order);
            ``"laplace"``, a Gaussian at the mode, three times too wide (`laplace_reference`); or draws (`reference_from`).
            It changes how hard the run is, not what it estimates.
        kwargs: the model's keyword arguments.

    Returns:
        `StaticTarget` whose draws carry the model's latent and deterministic sites, and whose log
        normaliser is the log evidence (under an improper prior: with that prior's density as written).

    Raises:
        TargetError: for discrete or improper latent sites, subsampled plates, or a model that raises.
        ArgumentError: for data of which some are missing (naming the first).
    """
    check_callable("model", model)
    if isinstance(reference, Reference):
        return from_numpyro(model, *args, **kwargs).with_reference(reference)
    args, kwargs = plain_arguments(args, kwargs)
    trace = complete_trace(model, args, kwargs)
    check_names([name for name, site in trace.items() if is_latent(site) or site["type"] == "deterministic"], "sites")
    _check_sites(trace)
    per_site = reference if isinstance(reference, dict) else {}
    replay = Replay(model, args, kwargs, per_site, trace)
    told = DescribedModel.of(replay, trace)
    if isinstance(reference, dist.Distribution):
        return _over_vectors(replay, reference, told)
    if isinstance(reference, str) and reference == LAPLACE:
        return _over_vectors(replay, laplace_reference(replay.log_joint, replay.dim), told)
    if not (reference is None or isinstance(reference, dict)):
        raise TargetError(
            "reference is of no known kind",
            expected='None, a dict of site name to distribution, a distribution over the vector, "laplace" or '
            "smcinfer.reference_from(draws)",
            got=repr(reference),
        )
    _check_references(trace, per_site)
    replay.check_draws(trace)
    mean, scale = replay.gaussian() or (None, None)
    log_terms, num_data = replay.terms() or (None, None)
    return StaticTarget(
        dim=replay.dim,
        log_base=replay.log_base,
        log_potential=replay.log_potential,
        sample_base=replay.sample_base,
        constrain=replay.constrain,
        unconstrain=replay.unconstrain,
        base_mean=mean,
        base_scale=scale,
        log_terms=log_terms,
        num_data=num_data,
        weighted_for=POSTERIOR,
        described=told,
    )


def _over_vectors(replay: Replay, law: dist.Distribution, told: DescribedModel) -> StaticTarget:
    base = Prior.of(law)
    if base.shapes != ((replay.dim,),) or not isinstance(inner_bijection(law), IdentityTransform):
        raise TargetError(
            "reference does not live on the model's unconstrained vectors",
            expected=f"a distribution over real vectors of length {replay.dim}, the sites {replay.sites} in this order",
            got=f"{type(law).__name__} of shape {law.shape()} on {law.support}",
            hint="give a dict of site name to distribution to work on the sites' own spaces",
        )
    return over_law(law, replay.log_joint, replay.constrain, replay.unconstrain, weighted_for=POSTERIOR, described=told)


def _refuse(names: list[str], what: str, expected: str, hint: str) -> None:
    if names:
        raise TargetError(f"{what}: {', '.join(names)}", expected=expected, got=", ".join(names), hint=hint)


def _check_sites(trace: Trace) -> None:
    """Raise `TargetError` for what a density on a fixed real vector cannot hold."""
    latent = {name: site for name, site in trace.items() if is_latent(site)}
    _refuse(
        [
            name
            for name, site in trace.items()
            if site["type"] == "plate" and site["args"][1] not in (None, site["args"][0])
        ],
        "the model has subsampled plates",
        "plates over all of the data: the log likelihood must be the same at every call",
        "drop subsample_size; for data in batches use smcinfer.posterior(prior, log_likelihood, data)",
    )
    _refuse(
        [name for name, site in trace.items() if site["type"] in ("param", "mutable", "prng_key")],
        "the model has sites that are neither drawn nor observed",
        "sample and deterministic sites only",
        "give a parameter a prior (numpyro.sample), or pass it as an argument",
    )
    _refuse(
        [name for name, site in latent.items() if site["fn"].support.is_discrete],
        "the model has discrete latent sites",
        "continuous latent sites",
        "sum them out: numpyro.distributions.MixtureSameFamily, or logsumexp in a numpyro.factor",
    )
    _refuse(
        [name for name, site in latent.items() if isinstance(strip(site["fn"]), dist.Delta)],
        "the model has latent sites that are point masses",
        "sites with a density",
        "use numpyro.deterministic for a computed value",
    )
    _refuse(
        [name for name, site in latent.items() if isinstance(strip(site["fn"]), dist.MaskedDistribution)],
        "the model has masked latent sites",
        "latent sites that keep their whole prior: a masked one is improper",
        "make what is unknown a site of its own, and mask observed sites only",
    )
    if not latent:
        raise TargetError("the model has no latent site", expected="something to infer", got=list(trace))
    if len(latent) == sum(site["type"] == "sample" for site in trace.values()):
        raise TargetError(
            "the model observes nothing",
            expected="an observed site (obs=...) or a numpyro.factor",
            got=f"latent sites {list(latent)}",
            hint="pass the data: from_numpyro(model, data)",
        )


def _check_references(trace: Trace, references: dict[str, dist.Distribution]) -> None:
    """Raise `TargetError` unless improper sites, and only existing ones, have a fitting reference."""
    latent = {name: site for name, site in trace.items() if is_latent(site)}
    unknown = [name for name in references if name not in latent]
    if unknown:
        raise TargetError(
            "reference names sites the model does not draw", expected=f"some of {list(latent)}", got=unknown
        )
    improper = [name for name, site in latent.items() if isinstance(strip(site["fn"]), dist.ImproperUniform)]
    _refuse(
        [name for name in improper if name not in references],
        "the model has improper priors, from which nothing can be drawn",
        "a reference to start from",
        'pass reference="laplace", or reference={name: a wide proper distribution} for each of them',
    )
    for name, law in references.items():
        Prior.of({name: law})
        site = latent[name]
        same_space = type(inner_bijection(law)) is type(inner_bijection(site["fn"]))
        if law.shape() != jnp.shape(site["value"]) or not same_space:
            raise TargetError(
                f"the reference of {name!r} does not live where the site does",
                expected=f"shape {jnp.shape(site['value'])} on {site['fn'].support}",
                got=f"{type(law).__name__} of shape {law.shape()} on {law.support}",
            )
