"""Targets that would lose a name, a precision or a gradient: refused where they are made or run, with the way out."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import smcinfer
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.kernels.base import GRADIENT_FREE, TemperedDensity
from smcinfer.kernels.registry import KERNELS
from smcinfer.static import from_numpyro, posterior

NORMAL = dist.Normal(0.0, 1.0)
CLASHES: dict[str, Any] = {
    "a dot beside nesting": {"a.b": NORMAL, "a": {"b": NORMAL}},
    "a slash beside a dot": {"a/b": NORMAL, "a.b": NORMAL},
    "a slash beside nesting": {"a/b": NORMAL, "a": {"b": NORMAL}},
}


@pytest.mark.parametrize("name", CLASHES)
def test_two_parameters_of_one_name_are_refused(name: str) -> None:
    with pytest.raises(ArgumentError, match="two parameters would have one name(.|\n)*rename"):
        posterior(CLASHES[name], lambda theta: 0.0)


def test_two_sites_of_one_name_are_refused() -> None:
    def model() -> None:
        x = numpyro.sample("a/b", NORMAL)
        numpyro.deterministic("a.b", 2.0 * x)
        numpyro.factor("seen", -(x**2))

    with pytest.raises(ArgumentError, match="two sites would have one name"):
        from_numpyro(model)


@pytest.mark.parametrize("door", ["sample", "mcmc"])
def test_a_target_made_in_double_precision_is_not_run_in_single(door: str) -> None:
    with jax.enable_x64(True):
        data = jnp.arange(3.0)
        target = posterior(NORMAL, lambda theta: -jnp.sum((data - theta) ** 2))
    with pytest.raises(ArgumentError, match="double precision(.|\n)*enable_x64"):
        if door == "sample":
            smcinfer.sample(jax.random.key(0), target, num_particles=16, progress=False)
        else:
            smcinfer.mcmc(jax.random.key(0), target, "random_walk", num_draws=2, progress=False)


def on_host(theta: Any) -> Any:
    return jax.pure_callback(
        lambda x: np.float32(-(x**2)), jax.ShapeDtypeStruct((), jnp.float32), theta, vmap_method="broadcast_all"
    )


@pytest.mark.parametrize("kernel", ["hmc", "mala", "nuts"])
def test_a_likelihood_on_the_host_has_no_gradient_and_says_what_needs_none(kernel: str) -> None:
    with pytest.raises(TargetError, match="on the host, which has no gradient(.|\n)*random_walk"):
        smcinfer.sample(jax.random.key(0), posterior(NORMAL, on_host), kernel=kernel, num_particles=16, progress=False)


def test_kernels_that_are_said_to_need_no_gradient_need_none() -> None:
    density = TemperedDensity(lambda x: -jnp.sum(x**2), lambda x: on_host(x[0]), jnp.ones(()))
    named = [name for name in KERNELS if f'"{name}"' in GRADIENT_FREE]
    assert len(named) == 3
    for name in named:
        kernel = KERNELS[name]()
        state = jax.eval_shape(lambda x, kernel=kernel: kernel.init(x, density), jnp.zeros(2))
        jax.eval_shape(
            lambda key, s, kernel=kernel: kernel.step(key, s, density, kernel.parameters(2)), jax.random.key(0), state
        )
