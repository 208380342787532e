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
from smcinfer.ground.errors import calling
from smcinfer.ground.lazy import bind_submodules
from smcinfer.static.on_reals import CHECKED_DRAWS, LOST_LIMIT, Carried, is_well_inside, on_reals, strip, to_finite
from smcinfer.static.prior import gaussian_part, lost_draws

bind_submodules("numpyro")

Site = dict[str, Any]
Trace = dict[str, Site]

# Beside a latent site its replay leaves its log density on the reals and the log Jacobian, a forward run its vector.
_ON_REALS = "_log_density_on_reals_of_"
_JACOBIAN = "_log_det_of_"
_VECTOR = "_vector_of_"


def example_trace(model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], seed: int = 0) -> Trace:
    """One trace of a model with every continuous latent site at a random point, improper ones too.

    Args:
        model: a numpyro model.
        args, kwargs: what it is called with.
        seed: of the random point.

    Returns:
        Site name -> site, as `numpyro.handlers.trace` records them.

    Raises:
        TargetError: the model raises on these arguments.
    """
    seeded = handlers.seed(model, jax.random.key(seed))
    promise = "a numpyro model that runs on the arguments given"
    by_hand = "run it once by hand: numpyro.handlers.seed(model, 0)(...)"
    with calling("the model", expected=promise, hint=by_hand), warnings.catch_warnings():
        # A random point may be where the model overflows; only the sites are read here.
        warnings.filterwarnings("ignore", message="Out-of-support values")
        return handlers.trace(handlers.substitute(seeded, substitute_fn=init_to_uniform)).get_trace(*args, **kwargs)


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
        return cut(x, self.sites)

    def trace_at(self, x: Float[Array, " dim"]) -> Trace:
        """The model's trace with its latent sites at ``x``; what they weigh on the reals is left in factors beside them."""
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
            # The plates around the site see these factors too: they must carry the site's own batch shape.
            log_det = jnp.sum(log_det, axis=tuple(range(len(site["fn"].batch_shape), log_det.ndim)))
            numpyro.factor(_JACOBIAN + site["name"], log_det)
            numpyro.factor(_ON_REALS + site["name"], on_reals(site["fn"]).log_prob(piece))
            return value

        substituted = handlers.substitute(self.model, substitute_fn=place)
        return handlers.trace(substituted).get_trace(*self.args, **self.kwargs)

    def _reference(self, name: str, site: Site) -> dist.Distribution:
        """The law on the site's reals that stands in for its prior."""
        law = self.references[name]
        return on_reals(law.to_event(len(law.batch_shape)), dist.biject_to(site["fn"].support))

    def _base(self, name: str, trace: Trace, piece: Array) -> Scalar:
        """What a latent site weighs in the base, nats."""
        if name in self.references:
            return jnp.sum(self._reference(name, trace[name]).log_prob(piece))
        return jnp.sum(log_prob(trace[_ON_REALS + name]))

    def _whole(self, name: str, trace: Trace) -> Scalar:
        """What a latent site weighs in the joint density as the model counts it, nats: a scale leaves the Jacobian alone."""
        scale, on_vectors = trace[name]["scale"], log_prob(trace[_ON_REALS + name])
        if scale is None:
            return jnp.sum(on_vectors)
        log_det = log_prob(trace[_JACOBIAN + name])
        return jnp.sum(scale * (on_vectors - log_det) + log_det)

    def _observed(self, trace: Trace) -> Scalar:
        """What was observed and the model's factors, nats."""
        latent = {prefix + name for name in self.sites for prefix in ("", _ON_REALS, _JACOBIAN)}
        sites = [site for name, site in trace.items() if site["type"] == "sample" and name not in latent]
        return sum((jnp.sum(_scaled(site)) for site in sites), jnp.zeros(()))

    def log_base(self, x: Float[Array, " dim"]) -> Scalar:
        """Log density of the joint prior, or of the references, on the vectors, nats."""
        trace = self.trace_at(x)
        total = sum((self._base(name, trace, piece) for name, piece in self.split(x).items()), jnp.zeros(()))
        return total.astype(x.dtype)

    def log_potential(self, x: Float[Array, " dim"]) -> Scalar:
        """Log joint density minus `log_base`, nats."""
        trace = self.trace_at(x)
        total = self._observed(trace)
        for name, piece in self.split(x).items():
            if name in self.references or trace[name]["scale"] is not None:
                total += self._whole(name, trace) - self._base(name, trace, piece)
        return total.astype(x.dtype)

    def log_joint(self, x: Float[Array, " dim"]) -> Scalar:
        """Log joint density of latent and observed sites on the vectors, nats."""
        trace = self.trace_at(x)
        return sum((self._whole(name, trace) for name in self.sites), self._observed(trace)).astype(x.dtype)

    def sample_base(self, key: KeyArray, n: int) -> Float[Array, "n dim"]:
        """``n`` exact draws of the base, by running the model forward.

        Args:
            key: one random key.
            n: how many.
        """
        return jax.vmap(lambda key: self.vector_of(self.drawn(key)))(jax.random.split(key, n))

    def _forward(self, key: KeyArray) -> dict[str, Array]:
        """One draw of every latent site on the reals, not finite where it lies at an edge."""
        trace = self.drawn(key)
        return {name: trace[_VECTOR + name]["value"] for name in self.sites}

    def drawn(self, key: KeyArray) -> Trace:
        """A trace of the model run forward, beside each real latent site its vector.

        Args:
            key: one random key.
        """

        def draw(site: Site) -> Array | None:
            name = site["name"]
            if name not in self.sites:
                return None
            law = self._reference(name, site) if name in self.references else on_reals(site["fn"])
            sample = law.raw if isinstance(law, Carried) else law.sample
            vector = sample(site["kwargs"]["rng_key"])
            numpyro.deterministic(_VECTOR + name, vector)
            return dist.biject_to(site["fn"].support)(to_finite(vector))

        drawn = handlers.substitute(handlers.seed(self.model, key), substitute_fn=draw)
        return handlers.trace(drawn).get_trace(*self.args, **self.kwargs)

    def vector_of(self, trace: Trace) -> Float[Array, " dim"]:
        """The vector that a forward run drew (`drawn`)."""
        return to_finite(self._concatenated({name: trace[_VECTOR + name]["value"] for name in self.sites}))

    @staticmethod
    def _concatenated(pieces: dict[str, Array]) -> Float[Array, " dim"]:
        return jnp.concatenate([jnp.ravel(piece) for piece in pieces.values()]).astype(jnp.result_type(float))

    def check_draws(self, trace: Trace) -> None:
        """Raise `TargetError` for a latent site whose draws lie at the edge of its support.

        Args:
            trace: an example: the families in it say whether there is anything to check.
        """
        laws = {name: self.references.get(name, trace[name]["fn"]) for name in self.sites}
        # A law that is exact on the reals is still lost on sites below it, whose parameters it may round to infinity.
        alone = len(laws) == 1 and not any(isinstance(on_reals(law), Carried) for law in laws.values())
        if alone or all(is_well_inside(law) for law in laws.values()):
            return
        drawn = jax.jit(jax.vmap(self._forward))(jax.random.split(jax.random.key(0), CHECKED_DRAWS))
        for name, vectors in drawn.items():
            share = 1.0 - float(jnp.isfinite(vectors.reshape(CHECKED_DRAWS, -1)).all(axis=1).mean())
            if share > LOST_LIMIT:
                raise lost_draws(f"site {name!r}", type(strip(laws[name])).__name__, share)

    def _vector(self, traced: handlers.trace) -> Float[Array, " dim"]:
        trace = traced.get_trace(*self.args, **self.kwargs)
        laws = {name: trace[name]["fn"] for name in self.sites}
        return to_finite(
            self._concatenated(
                {name: dist.biject_to(law.support).inv(trace[name]["value"]) for name, law in laws.items()}
            )
        )

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
        shape = jnp.shape(log_prob(sites[name]))
        if len(shape) != 1:
            return None

        def terms(x: Float[Array, " dim"], indices: Int[Array, " k"]) -> Float[Array, " k"]:
            return log_prob(self.trace_at(x)[name])[indices].astype(x.dtype)

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


def cut(vector: Array, shapes: dict[str, tuple[int, ...]]) -> dict[str, Array]:
    """A flat vector as arrays by name.

    Args:
        vector: of as many entries as the arrays have together.
        shapes: of the arrays, in the order in which they lie in the vector.
    """
    pieces, start = {}, 0
    for name, shape in shapes.items():
        size = math.prod(shape)
        pieces[name] = vector[start : start + size].reshape(shape)
        start += size
    return pieces


def log_prob(site: Site) -> Array:
    """Elementwise log density of a site, masks applied, scale left out."""
    if site["intermediates"]:
        return site["fn"].log_prob(site["value"], site["intermediates"])
    return site["fn"].log_prob(site["value"])


def _scaled(site: Site) -> Array:
    """Elementwise log density of a site as the model counts it."""
    return log_prob(site) if site["scale"] is None else site["scale"] * log_prob(site)
