r"""Targets from PyMC models: free variables are the base, observed ones and potentials the rest.

.. math:: \log \mu(x) = \sum_{\text{free } j} \log p_j(T_j(x_j)) + \log|\det T_j'(x_j)|, \qquad
          \Phi(x) = \sum_{\text{observed}} \log p(y \mid \cdot) + \text{potentials}

PyMC turns its graphs into JAX functions, so the run is one compiled program; only draws of the prior come from PyMC itself, on
the host.
"""

import importlib
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array, Float, KeyArray, Scalar
from smcinfer.ground.errors import ArgumentError, TargetError, calling
from smcinfer.ground.host import host_arrays
from smcinfer.ground.names import check_names
from smcinfer.static.on_reals import LOST_LIMIT
from smcinfer.static.pymc_described import DescribedPyMC
from smcinfer.static.reference import laplace_reference
from smcinfer.static.target import POSTERIOR, Reference, StaticTarget, over_law

LAPLACE = "laplace"
CHECKED_DRAWS = 64
SUM_OUT = "sum it out: pymc_extras.marginalize(model, [its name]), or a pm.Mixture in its place"
NO_DRAWS = 'pass reference="laplace", or reference=smcinfer.reference_from(draws of pm.sample)'


def from_pymc(model: Any, *, reference: str | Reference | None = None) -> StaticTarget:
    """The posterior of a PyMC model, starting from its prior.

    Args:
        model: a `pymc.Model`; its free variables must be continuous.
        reference: what to start from instead of the prior, needed where the prior cannot be drawn (``pm.Flat``, an ordered
            vector): ``"laplace"``, a Gaussian at the mode, three times too wide; or draws (`reference_from`).

    Returns:
        `StaticTarget` whose draws carry the model's free variables and Deterministics by name, with its dims and coords in
        exports, and whose log normaliser is the log evidence (with the densities and potentials as they are written).

    Raises:
        ArgumentError: it is no PyMC model, or PyMC is not there.
        TargetError: it has discrete free variables, or none, or a prior that cannot be drawn.
    """
    model = checked_model(model)
    discrete = [value.name for value in model.discrete_value_vars]
    if discrete:
        raise TargetError(
            f"the model has discrete free variables: {', '.join(discrete)}",
            expected="continuous ones",
            got=", ".join(discrete),
            hint=f"smcinfer.mixed_from_pymc(model) moves them by Gibbs; or {SUM_OUT}",
        )
    graph = Graph(model)
    if isinstance(reference, Reference):
        return graph.over_prior(checked=False).with_reference(reference)
    if reference is None:
        return graph.over_prior(checked=True)
    if reference == LAPLACE:
        law = laplace_reference(graph.log_joint, graph.dim, start=jnp.asarray(graph.initial))
        return over_law(
            law, graph.log_joint, graph.constrain, graph.unconstrain, weighted_for=POSTERIOR, described=graph.described
        )
    raise ArgumentError(
        "reference is of no known kind",
        expected='None, "laplace" or smcinfer.reference_from(draws)',
        got=repr(reference),
    )


def checked_model(model: Any) -> Any:
    """The model, which has free variables and observes something.

    Raises:
        ArgumentError, TargetError: it is none, or has nothing to infer, or nothing to infer it from.
    """
    try:
        pymc = importlib.import_module("pymc")
    except ImportError as error:
        raise ArgumentError(
            "PyMC is not installed", expected="pip install 'smcinfer[pymc]'", got=type(model).__name__
        ) from error
    if not isinstance(model, pymc.Model):
        raise ArgumentError("model is no PyMC model", expected="pymc.Model", got=type(model).__name__)
    if not model.free_RVs:
        raise TargetError("the model has no free variable", expected="something to infer", got=list(model.named_vars))
    if not (model.observed_RVs or model.potentials):
        raise TargetError(
            "the model observes nothing", expected="observed=... or a pm.Potential", got=list(model.named_vars)
        )
    check_names([variable.name for variable in (*model.free_RVs, *model.deterministics)], "variables")
    return model


class Graph:
    """A PyMC model as functions of one flat vector of its unconstrained values.

    Attributes:
        model: the model.
        shapes: of the unconstrained value of each free variable, in the model's order.
        dim: length of the vector.
        initial: Float["dim"], the model's own point to start from.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        point = model.initial_point()
        values = [np.asarray(point[value.name], np.float64) for value in model.value_vars]
        self.shapes = [value.shape for value in values]
        self.dim = sum(value.size for value in values)
        self.initial = np.concatenate([value.ravel() for value in values])
        rest = [*model.observed_RVs, *model.potentials]
        self._parts = self._in_jax(
            model.value_vars, [model.logp(vars=model.free_RVs, jacobian=True), model.logp(vars=rest, jacobian=True)]
        )
        self._shown = [*model.free_RVs, *model.deterministics]
        self._values = self._in_jax(model.value_vars, model.replace_rvs_by_values(self._shown))
        self._inverse = self._inverted()
        self._draw = self._drawing()
        self.described = DescribedPyMC.of(model)

    def _in_jax(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> Callable[..., Any]:
        in_jax = importlib.import_module("pymc.sampling.jax")

        with calling("the PyMC model", expected="a graph of operations that PyTensor has in JAX"):
            function = in_jax.get_jaxified_graph(inputs=list(inputs), outputs=list(outputs))

        def call(*arrays: Array) -> list[Array]:
            with warnings.catch_warnings():
                # PyTensor's constants are doubles, which JAX takes down to the precision that is on, and says so each time.
                warnings.filterwarnings("ignore", message="Explicitly requested dtype")
                return list(function(*arrays))

        return call

    def _split(self, x: Float[Array, " dim"]) -> list[Array]:
        ends = np.cumsum([math.prod(shape) for shape in self.shapes])
        return [piece.reshape(shape) for piece, shape in zip(jnp.split(x, ends[:-1]), self.shapes, strict=True)]

    def log_base(self, x: Float[Array, " dim"]) -> Scalar:
        """Log density of the free variables on the vectors, nats."""
        return jnp.asarray(self._parts(*self._split(x))[0], x.dtype)

    def log_potential(self, x: Float[Array, " dim"]) -> Scalar:
        """Observed variables and potentials, nats."""
        return jnp.asarray(self._parts(*self._split(x))[1], x.dtype)

    def log_joint(self, x: Float[Array, " dim"]) -> Scalar:
        """Log density of free and observed variables and potentials on the vectors, nats."""
        return sum(self._parts(*self._split(x)), jnp.zeros(())).astype(x.dtype)

    def constrain(self, x: Float[Array, " dim"]) -> dict[str, Array]:
        """Free variables and Deterministics at ``x``."""
        found = self._values(*self._split(x))
        return {variable.name: jnp.asarray(value) for variable, value in zip(self._shown, found, strict=True)}

    def unconstrain(self, values: dict[str, Array]) -> Float[Array, " dim"]:
        """The vector whose free variables are ``values``; other entries are not read."""
        free = [jnp.asarray(values[variable.name]) for variable in self.model.free_RVs]
        return jnp.concatenate([jnp.ravel(part) for part in self._inverse(*free)]).astype(jnp.result_type(float))

    def _forward(self, values: Sequence[Any]) -> list[Any]:
        """Unconstrained values as graphs of constrained ones (of placeholders, or of the random variables)."""
        transforms = [self.model.rvs_to_transforms[variable] for variable in self.model.free_RVs]
        return [
            value if transform is None else transform.forward(value, *variable.owner.inputs)
            for variable, value, transform in zip(self.model.free_RVs, values, transforms, strict=True)
        ]

    def _inverted(self) -> Callable[..., Any]:
        graph_replace = importlib.import_module("pytensor.graph.replace").graph_replace

        places = [variable.type(name=variable.name) for variable in self.model.free_RVs]
        pairs = dict(zip(self.model.free_RVs, places, strict=True))
        outputs = graph_replace(self._forward(places), pairs, strict=False)
        return self._in_jax(places, outputs)

    def _drawing(self) -> Callable[[int, int], np.ndarray]:
        """``(seed, n)`` to n draws of the prior as vectors."""
        pymc, graphs = importlib.import_module("pymc"), importlib.import_module("pymc.pytensorf")

        compiled: list[Any] = []

        def draw(seed: int, n: int) -> np.ndarray:
            if not compiled:
                outputs = self._forward(self.model.free_RVs)
                compiled.append((pymc.compile([], outputs, random_seed=0), graphs.find_rng_nodes(outputs)))
            function, generators = compiled[0]
            graphs.reseed_rngs(generators, seed)
            rows = [np.concatenate([np.ravel(part) for part in function()]) for _ in range(n)]
            return np.asarray(rows, np.float64)

        return draw

    def sample_base(self, key: KeyArray, n: int) -> Float[Array, "n dim"]:
        """Exact draws of the prior, by PyMC.

        Args:
            key: one random key.
            n: how many.
        """

        def drawn(words: np.ndarray) -> list[np.ndarray]:
            seeds = words.reshape(-1, words.shape[-1])
            each = [self._draw(int(np.random.SeedSequence(seed.tolist()).generate_state(1)[0]), n) for seed in seeds]
            return [np.stack(each).reshape(*words.shape[:-1], n, len(self.initial))]

        typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        words = jax.random.key_data(key) if typed else key
        return host_arrays(drawn, [(n, len(self.initial))], words, name="prior of PyMC")[0]

    def check_draws(self) -> None:
        """Try draws of the prior.

        Raises:
            TargetError: they cannot be had, or are not finite.
        """
        with calling("the prior of the PyMC model", expected="free variables that can be drawn", hint=NO_DRAWS):
            drawn = self._draw(0, CHECKED_DRAWS)
        lost = 1.0 - np.isfinite(drawn).all(axis=1).mean()
        if lost > LOST_LIMIT:
            raise TargetError(
                "draws of the model's prior are not where its density is",
                expected="draws inside the support, ordered where the density is of ordered values",
                got=f"{lost:.0%} of draws without an unconstrained value",
                hint=NO_DRAWS,
            )

    def over_prior(self, *, checked: bool) -> StaticTarget:
        """The target that starts from the prior.

        Args:
            checked: whether draws are tried.

        Raises:
            TargetError: they cannot be had, or are not finite.
        """
        if checked:
            self.check_draws()
        return StaticTarget(
            dim=self.dim,
            log_base=self.log_base,
            log_potential=self.log_potential,
            sample_base=self.sample_base,
            constrain=self.constrain,
            unconstrain=self.unconstrain,
            weighted_for=POSTERIOR,
            described=self.described,
        )
