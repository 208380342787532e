"""Graphs of numpyro models: scopes element by element, the joint density exact, moves on them right."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer.util import log_density

from smcinfer.graphs import REAL, Tables, blocks_of
from smcinfer.graphs.inference.chains import block_gibbs
from smcinfer.graphs.inference.dependence import dependence
from smcinfer.graphs.inference.numpyro_graph import graph_from_numpyro
from smcinfer.ground.errors import TargetError
from tests.statistics import assert_mean

DATA = jnp.array([0.1, 2.0, 0.3])
SWITCH = jnp.array([[0.8, 0.2], [0.3, 0.7]])


def mixture(y: Any) -> None:
    """Labels in a plate, real parameters: a mixed graph."""
    mean = numpyro.sample("mean", dist.Normal(0.0, 2.0))
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    with numpyro.plate("points", len(y)):
        label = numpyro.sample("label", dist.Categorical(jnp.array([0.5, 0.3, 0.2])))
        numpyro.sample("y", dist.Normal(mean * label, scale), obs=y)


def chain(y: Any) -> None:
    """A hidden chain of switches, written as a loop, with a batch of three side by side."""
    with numpyro.plate("chains", 3):
        state = numpyro.sample("z0", dist.Bernoulli(0.3))
        for t, value in enumerate(y):
            state = numpyro.sample(f"z{t + 1}", dist.Bernoulli(SWITCH[state, 1]))
            numpyro.sample(f"y{t}", dist.Normal(1.0 * state, 0.5), obs=value)


def test_scopes_fall_apart_by_element() -> None:
    graph = graph_from_numpyro(mixture, DATA)
    assert graph.names == ("mean", "scale", "label[0]", "label[1]", "label[2]")
    assert graph.cardinalities == (REAL, REAL, 3, 3, 3)
    assert np.asarray(graph.factors["y"].scope).tolist() == [[0, 1, 2], [0, 1, 3], [0, 1, 4]]
    assert isinstance(graph.factors["label"], Tables)
    assert np.asarray(blocks_of(graph, [(3,)]).blanket)[0].tolist() == [0, 1]


@pytest.mark.slow
def test_the_joint_density_is_the_model_s(precision: str) -> None:
    graph = graph_from_numpyro(mixture, DATA)
    x = jnp.array([0.3, -0.2, 0.0, 2.0, 1.0])
    values = {"mean": 0.3, "scale": jnp.exp(-0.2), "label": jnp.array([0, 2, 1])}
    exact = log_density(mixture, (DATA,), {}, values)[0] - 0.2  # and the log Jacobian of exp
    assert float(graph.log_prob(x)) == pytest.approx(float(exact), rel=1e-5)


@pytest.mark.slow
def test_a_finite_model_becomes_tables_and_its_moves_are_right() -> None:
    data = (0.9, 0.1)
    graph = graph_from_numpyro(chain, data)
    assert all(isinstance(group, Tables) for group in graph.factors.values())
    assert {name: group.arity for name, group in graph.factors.items()} == {"z0": 1, "z1": 2, "y0": 1, "z2": 2, "y1": 1}
    states = np.array(list(itertools.product(range(2), repeat=9)), np.int32)
    logs = jax.vmap(graph.log_prob)(jnp.asarray(states))
    by_model = jax.vmap(lambda x: log_density(chain, (data,), {}, {f"z{t}": x[3 * t : 3 * t + 3] for t in range(3)})[0])
    np.testing.assert_allclose(logs, by_model(jnp.asarray(states)), rtol=1e-5)
    blocks = [(at, at + 3, at + 6) for at in range(3)]
    chains = block_gibbs(
        jax.random.key(0), graph, "exact", blocks=blocks, num_chains=2000, num_draws=1, num_warmup=2, progress=False
    )
    assert_mean(chains.draws["x"][:, 0], np.asarray(jax.nn.softmax(logs)) @ states)


def test_dependence_is_never_missed() -> None:
    def function(x: Any) -> Any:
        table = jnp.arange(4.0)
        picked = table[x[0].astype(jnp.int32)]
        switched = jnp.where(x[1] > 0, x[2], 0.0)
        last = x[3]
        looped = jax.lax.fori_loop(0, 2, lambda _, c: c * last, 1.0)
        total = jnp.cumsum(x[:2])[1]
        return jnp.stack([picked, switched, looped, total, jnp.zeros(())])

    expected = [[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0]]
    assert dependence(function, jnp.zeros(4)).T.astype(int).tolist() == expected


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: numpyro.sample("n", dist.Poisson(2.0)), "no list of values"),
        (lambda: numpyro.sample("w", dist.Dirichlet(jnp.ones(3))), "element by element"),
        (lambda: numpyro.sample("y", dist.Normal(0.0, 1.0), obs=0.0), "no latent site"),
    ],
)
def test_models_without_such_a_form_are_refused(model: Any, words: str) -> None:
    with pytest.raises(TargetError, match=words):
        graph_from_numpyro(model)
