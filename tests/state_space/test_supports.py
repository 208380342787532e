"""A proposal must cover the transition: what is known to be too narrow is refused, what is not known is left to the run."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from smcinfer.ground.errors import TargetError
from smcinfer.state_space import StateSpace, state_space
from smcinfer.state_space.supports import check_cover

FULL: Callable[[], Any] = lambda: dist.Normal(0.0, 1.0)  # noqa: E731
SOME = {
    "half line": (lambda: dist.HalfNormal(1.0), FULL),
    "interval": (lambda: dist.Uniform(-9.0, 9.0), FULL),
    "half line in a vector": (lambda: dist.HalfNormal(jnp.ones(2)).to_event(1), lambda: FULL().expand([2]).to_event(1)),
    "interval for a half line": (lambda: dist.Uniform(0.0, 9.0), lambda: dist.Gamma(2.0, 1.0)),
    "shorter interval": (lambda: dist.Uniform(0.0, 1.0), lambda: dist.Uniform(0.0, 2.0)),
    "later half line": (lambda: dist.TruncatedNormal(0.0, 1.0, low=1.0), lambda: dist.HalfNormal(1.0)),
    "reals for whole numbers": (FULL, lambda: dist.Poisson(1.0)),
    "few categories": (lambda: dist.Categorical(jnp.ones(2) / 2), lambda: dist.Categorical(jnp.ones(3) / 3)),
}
ALL = {
    "same": (FULL, FULL),
    "heavier tails": (lambda: dist.StudentT(3.0, 0.0, 2.0), FULL),
    "line for a half line": (FULL, lambda: dist.HalfNormal(1.0)),
    "longer interval": (lambda: dist.Uniform(-1.0, 3.0), lambda: dist.Beta(1.0, 1.0)),
    "simplex": (lambda: dist.Dirichlet(jnp.ones(3)), lambda: dist.Dirichlet(jnp.ones(3) * 2.0)),
    "counts": (lambda: dist.Poisson(9.0), lambda: dist.Binomial(5, 0.5)),
}


@pytest.mark.parametrize("name", SOME)
def test_laws_that_cannot_draw_all_of_the_other_are_refused(name: str) -> None:
    wide, narrow = SOME[name]
    with pytest.raises(TargetError, match="proposal does not cover transition"):
        check_cover("proposal", wide(), "transition", narrow())


@pytest.mark.parametrize("name", ALL)
def test_laws_that_can_are_let_through(name: str) -> None:
    wide, narrow = ALL[name]
    check_cover("proposal", wide(), "transition", narrow())


def walk(**parts: Any) -> StateSpace:
    return state_space(
        {"level": dist.Normal(0.0, 1.0), "on": dist.Bernoulli(0.5)},
        lambda t, x: {"level": dist.Normal(x["level"], 1.0), "on": dist.Bernoulli(0.5)},
        lambda t, x: dist.Normal(x["level"], 0.5),
        np.zeros(3),
        **parts,
    )


def test_a_proposal_of_part_of_the_line_is_refused_by_the_name_of_the_entry() -> None:
    half = lambda t, x, y: {"level": dist.HalfNormal(1.0), "on": dist.Bernoulli(0.5)}  # noqa: E731
    with pytest.raises(TargetError, match="proposal does not cover transition in 'level'(.|\n)*HalfNormal"):
        walk(proposal=half)
    with pytest.raises(TargetError, match="initial_proposal does not cover initial in 'level'"):
        walk(initial_proposal=half(0, 0, 0))
    # Ends that depend on the state are not known before the run, but that they are ends is.
    near = lambda t, x, y: {"level": dist.Uniform(x["level"] - 1.0, x["level"] + 1.0), "on": dist.Bernoulli(0.5)}  # noqa: E731
    with pytest.raises(TargetError, match="proposal does not cover transition in 'level'"):
        walk(proposal=near)


def test_ends_that_are_known_in_the_run_only_are_left_to_it() -> None:
    model = state_space(
        dist.Uniform(-1.0, 1.0),
        lambda t, x: dist.Uniform(x - 1.0, x + 1.0),
        lambda t, x: dist.Normal(x, 0.5),
        np.zeros(3),
        proposal=lambda t, x, y: dist.Uniform(x - 2.0, x + 2.0),
    )
    assert model.num_steps == 2


def test_entries_of_one_name_are_refused() -> None:
    law = dist.Normal(0.0, 1.0)
    state = {"a.b": law, "a": {"b": law}}
    with pytest.raises(ValueError, match="two variables would have one name"):
        state_space(state, lambda t, x: state, lambda t, x: law, np.zeros(3))
