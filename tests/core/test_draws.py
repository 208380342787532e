"""Draws of many particles' laws: of the right shape, each with luck of its own, and with the mean of the law."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from smcinfer.core import draws
from smcinfer.core.compose import Bootstrap, process
from smcinfer.state_space.joint import Joint
from tests.statistics import assert_mean

SIZE = 2000
EXP = dist.transforms.ExpTransform()
LAWS: dict[str, Any] = {
    "Normal": lambda x: dist.Normal(x, 0.5),
    "Normal that forgets": lambda x: dist.Normal(1.0, 0.5),
    "Normal vector": lambda x: dist.Normal(x + jnp.zeros(2), 0.5).to_event(1),
    "Normal expanded": lambda x: dist.Normal(0.3, 0.5).expand([2]).to_event(1),
    "MultivariateNormal": lambda x: dist.MultivariateNormal(x + jnp.zeros(2), jnp.eye(2)),
    "Uniform": lambda x: dist.Uniform(0.0, x + 2.0),
    "Gamma": lambda x: dist.Gamma(2.0, 1.0),
    "Exponential": lambda x: dist.Exponential(2.0),
    "Laplace": lambda x: dist.Laplace(x, 1.0),
    "Logistic": lambda x: dist.Logistic(x, 1.0),
    "Gumbel": lambda x: dist.Gumbel(x, 1.0),
    "Categorical": lambda x: dist.Categorical(jnp.array([0.2, 0.3, 0.5])),
    "Categorical by logits": lambda x: dist.Categorical(logits=jnp.array([0.2, 0.3, 0.5])),
    "Bernoulli": lambda x: dist.Bernoulli(0.4),
    "Bernoulli by logits": lambda x: dist.Bernoulli(logits=x),
    "Poisson": lambda x: dist.Poisson(3.0),
    "LogNormal": lambda x: dist.LogNormal(x / 4, 0.3),
    "HalfNormal": lambda x: dist.HalfNormal(1.0),
    "transformed": lambda x: dist.TransformedDistribution(dist.Normal(x / 4, 0.3), EXP),
    "TruncatedNormal": lambda x: dist.TruncatedNormal(x, 1.0, low=0.0),
    "StudentT": lambda x: dist.StudentT(6.0, x, 1.0),
    "Beta": lambda x: dist.Beta(2.0, 3.0),
    "NegativeBinomial": lambda x: dist.NegativeBinomial2(x + 2.0, 20.0),
    "Binomial": lambda x: dist.Binomial(10, 0.4),
    "mixture": lambda x: dist.MixtureSameFamily(
        dist.Categorical(jnp.ones(2) / 2), dist.Normal(x + jnp.arange(2.0), 1.0)
    ),
    "joint": lambda x: Joint({"a": dist.Normal(x, 1.0)}),
    "joint of another": lambda x: Joint({"a": dist.LogNormal(x / 4, 0.3)}),
}


MEANS = {"transformed": LAWS["LogNormal"]}
"""The same laws where numpyro knows their mean."""


def drawn(law: Any, like: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Draws of a bootstrap proposal at as many states, and the means of their laws (of ``like``, which is the same)."""
    made = process(dist.Normal(0.0, 1.0), lambda t, x: law(x))
    states = jnp.linspace(0.0, 1.0, SIZE)
    x, log_w = Bootstrap(made).propose(jax.random.key(3), jnp.asarray(1), states, SIZE)
    assert log_w.shape == (SIZE,) and not log_w.any()

    def mean(x: Any) -> Any:
        one = (like or law)(x)
        if isinstance(one, dist.CategoricalProbs | dist.CategoricalLogits):
            return one.probs @ jnp.arange(3.0)
        return one.laws["a"].mean if isinstance(one, Joint) else one.mean

    return np.asarray(jax.tree.leaves(x)[0], np.float64), np.asarray(jax.vmap(mean)(states), np.float64)


@pytest.mark.parametrize("name", LAWS)
def test_every_particle_has_luck_of_its_own(name: str) -> None:
    """Deviations from the law's own mean are as many as there are particles, and their mean is zero."""
    found, mean = drawn(LAWS[name], MEANS.get(name))
    assert found.shape[:1] == (SIZE,) and found.shape == mean.shape
    assert_mean((found - mean).reshape(SIZE, -1), 0.0, num_comparisons=len(LAWS))


def test_one_draw_for_all_is_found_out(mistaken: pytest.MonkeyPatch) -> None:
    mistaken.setattr(draws, "together", lambda law: True)
    found, mean = drawn(LAWS["LogNormal"])
    with pytest.raises(AssertionError):
        assert_mean(np.log(found) - np.linspace(0.0, 1.0, SIZE) / 4, 0.0)
    assert np.ptp(np.log(found) - np.linspace(0.0, 1.0, SIZE) / 4) < 1e-5
