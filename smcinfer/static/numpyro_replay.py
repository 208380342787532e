"""A numpyro model as a density on one flat vector, split into its prior and the rest.

The model is replayed with its latent sites put in by hand, so a site's distribution and its support
may depend on the sites before it, and numpyro's own scan works.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.infer import init_to_uniform

from smcinfer.ground.arrays import Array, Float, Int, KeyArray, Scalar
from smcinfer.ground.errors import TargetError
from smcinfer.static.prior import gaussian_part, to_finite

Site = dict[str, Any]
Trace = dict[str, Site]

_JACOBIAN = "_log_det_of_"


def example_trace(model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], seed: int = 0) -> Trace:
    """One trace of a model with every continuous latent site at a random point, improper ones too."""
    seeded = handlers.seed(model, jax.random.key(seed))
    try:
        with warnings.catch_warnings():
            # A random point may be where the model overflows; only the sites are read here.
            warnings.filterwarnings("ignore", message="Out-of-support values")
            return handlers.trace(handlers.substitute(seeded, substitute_fn=init_to_uniform)).get_trace(*args, **kwargs)
    except Exception as error:
        raise TargetError(
            f"the model raised {type(error).__name__}: {error}",
            expected="a numpyro model that runs on the arguments given",
            hint="run it once by hand: numpyro.handlers.seed(model, 0)(...)",
        ) from error


def is_latent(site: Site) -> bool:
    """Whether a site of a trace is a draw that was not observed."""
    return site["type"] == "sample" and not site["is_observed"]


class Replay:
    """A numpyro model with its arguments, its latent sites laid out in one flat vector.

    Attributes:
        sites: name -> unconstrained shape of each latent site, in the model's order.
        references: name -> distribution that stands in for that site's prior in the base.
        dim: length of the vector.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        references: dict[str, dist.Distribution],
        trace: Trace,
    ) -> None:
        self.model, self.args, self.kwargs, self.references = model, args, kwargs, references
        self.sites = {
            name: tuple(dist.biject_to(site["fn"].support).inverse_shape(jnp.shape(site["value"])))
            for name, site in trace.items()
            if is_latent(site)
        }
        self.dim = sum(math.prod(shape) for shape in self.sites.values())

    def split(self, x: Float[Array, " dim"]) -> dict[str, Array]:
        """The flat vector cut into one unconstrained array a latent site."""
        pieces, start = {}, 0
        for name, shape in self.sites.items():
            size = math.prod(shape)
            pieces[name] = x[start : start + size].reshape(shape)
            start += size
        return pieces

    def trace_at(self, x: Float[Array, " dim"]) -> Trace:
        """The model's trace with its latent sites at ``x``; log Jacobians are factors beside them."""
        pieces = self.split(x)

        def place(site: Site) -> Array | None:
            if site["name"] not in pieces:
                return None
            piece = pieces[site["name"]]
            bijection = dist.biject_to(site["fn"].support)
            # Inside numpyro's scan a site is met once a step, while the piece holds every step.
            index = site["infer"].get("_scan_current_index")
            if index is not None and piece.ndim > len(bijection.inverse_shape(site["fn"].shape())):
                piece = piece[index]
            value = bijection(piece)
            log_det = bijection.log_abs_det_jacobian(piece, value)
            # The plates around the site see this factor too: it must carry the site's own batch shape.
            log_det = jnp.sum(log_det, axis=tuple(range(len(site["fn"].batch_shape), log_det.ndim)))
            numpyro.factor(_JACOBIAN + site["name"], log_det)
            return value

        substituted = handlers.substitute(self.model, substitute_fn=place)
        return handlers.trace(substituted).get_trace(*self.args, **self.kwargs)

    def log_base(self, x: Float[Array, " dim"]) -> Scalar:
        """Log density of the joint prior, or of the references, on the vectors, nats."""
        total = jnp.zeros((), x.dtype)
        for name, site in self.trace_at(x).items():
            if name in self.references:
                total += jnp.sum(self.references[name].log_prob(site["value"]))
            elif name in self.sites or name.startswith(_JACOBIAN):
                total += jnp.sum(_log_prob(site))
        return total.astype(x.dtype)

    def log_potential(self, x: Float[Array, " dim"]) -> Scalar:
        """Log joint density minus `log_base`, nats."""
        total = jnp.zeros((), x.dtype)
        for name, site in self.trace_at(x).items():
            if site["type"] != "sample" or name.startswith(_JACOBIAN):
                continue
            if name in self.references:
                total += jnp.sum(_scaled(site)) - jnp.sum(self.references[name].log_prob(site["value"]))
            elif name not in self.sites:
                total += jnp.sum(_scaled(site))
            elif site["scale"] is not None:
                total += jnp.sum(_scaled(site) - _log_prob(site))
        return total.astype(x.dtype)

    def log_joint(self, x: Float[Array, " dim"]) -> Scalar:
        """Log joint density of latent and observed sites on the vectors, nats."""
        total = jnp.zeros((), x.dtype)
        for name, site in self.trace_at(x).items():
            if site["type"] == "sample":
                total += jnp.sum(_log_prob(site) if name.startswith(_JACOBIAN) else _scaled(site))
        return total.astype(x.dtype)

    def sample_base(self, key: KeyArray, n: int) -> Float[Array, "n dim"]:
        """``n`` exact draws of the base, by running the model forward."""

        def one(key: KeyArray) -> Array:
            key_model, *keys = jax.random.split(key, 1 + len(self.references))
            references = zip(keys, self.references.items(), strict=True)
            drawn = {name: jnp.asarray(law.sample(k)) for k, (name, law) in references}
            seeded = handlers.seed(self.model, key_model)
            return self._vector(handlers.trace(handlers.substitute(seeded, data=drawn)))

        return jax.vmap(one)(jax.random.split(key, n))

    def _vector(self, traced: handlers.trace) -> Float[Array, " dim"]:
        trace = traced.get_trace(*self.args, **self.kwargs)
        pieces = [dist.biject_to(trace[name]["fn"].support).inv(trace[name]["value"]) for name in self.sites]
        return to_finite(jnp.concatenate([jnp.ravel(piece) for piece in pieces]))

    def constrain(self, x: Float[Array, " dim"]) -> dict[str, Array]:
        """Latent and deterministic sites at ``x``, by the model's names."""
        trace = self.trace_at(x)
        kept = {name: site for name, site in trace.items() if name in self.sites or site["type"] == "deterministic"}
        return {name: jnp.asarray(site["value"]) for name, site in kept.items()}

    def unconstrain(self, values: dict[str, Array]) -> Float[Array, " dim"]:
        """The vector whose latent sites are ``values``; entries that are no latent site are not read."""
        latent = {name: jnp.asarray(values[name]) for name in self.sites}
        return self._vector(handlers.trace(handlers.substitute(self.model, data=latent)))

    def terms(self) -> tuple[Callable[[Array, Array], Array], int] | None:
        """Per-datum log likelihoods, where the potential is one observed site with one batch axis."""
        trace = example_trace(self.model, self.args, self.kwargs)
        sites = {name: site for name, site in trace.items() if site["type"] == "sample"}
        observed = [name for name, site in sites.items() if site["is_observed"]]
        if len(observed) != 1 or self.references or any(site["scale"] is not None for site in sites.values()):
            return None
        (name,) = observed
        shape = jnp.shape(_log_prob(sites[name]))
        if len(shape) != 1:
            return None

        def terms(x: Float[Array, " dim"], indices: Int[Array, " k"]) -> Float[Array, " k"]:
            return _log_prob(self.trace_at(x)[name])[indices].astype(x.dtype)

        return terms, shape[0]

    def gaussian(self) -> tuple[Array, Array] | None:
        """Mean and factor of the base where every latent is Gaussian and depends on no other, else ``None``."""
        found = []
        # A site that depends on another differs between two traces at random points.
        for seed in (0, 1):
            trace = example_trace(self.model, self.args, self.kwargs, seed)
            laws = {name: trace[name]["fn"] for name in self.sites} | self.references
            parts = [gaussian_part(laws[name]) for name in self.sites]
            known = [part for part in parts if part is not None]
            if len(known) != len(parts):
                return None
            mean = jnp.concatenate([mean for mean, _ in known])
            found.append((mean, jax.scipy.linalg.block_diag(*[scale for _, scale in known])))
        (mean, scale), other = found
        same = jnp.array_equal(mean, other[0]) & jnp.array_equal(scale, other[1])
        return (mean, scale) if bool(same) else None


def _log_prob(site: Site) -> Array:
    """Elementwise log density of a site, masks applied, scale left out."""
    if site["intermediates"]:
        return site["fn"].log_prob(site["value"], site["intermediates"])
    return site["fn"].log_prob(site["value"])


def _scaled(site: Site) -> Array:
    """Elementwise log density of a site as the model counts it."""
    return _log_prob(site) if site["scale"] is None else site["scale"] * _log_prob(site)
