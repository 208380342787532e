"""A composed model is extended without being rebuilt: other twists and proposals, the same class, fields and target."""

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest

import smcinfer
from smcinfer.core.compose import Composed, compose, process
from smcinfer.core.nouns import Bootstrap, Guided, TwistInduced
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.language import generation
from smcinfer.language.proposals.forced import Forced
from smcinfer.state_space import StateSpace
from tests import exact_language, exact_models


def filtered() -> StateSpace:
    """A state-space model with a field of its own and a look-ahead."""
    return smcinfer.state_space(
        dist.Normal(0.0, 1.0),
        lambda t, x: dist.Normal(x, 1.0),
        lambda t, x: dist.Normal(x, 1.0),
        jnp.zeros(3),
        quantiles=(0.5,),
        look_ahead=lambda t, x, y: -jnp.square(x - y),
    )


def infilled() -> Any:
    """A generation whose last token is given."""
    return generation(exact_language.small_lm(), [1], max_tokens=2, continuation=[2], eos_id=None)


def wide(model: Composed) -> Guided:
    """A proposal of the state-space model's."""
    return Guided(model.process, lambda t, x: dist.Normal(x, 2.0))


def test_another_twist_keeps_the_class_its_fields_and_nothing_of_the_old_twist() -> None:
    model = filtered()
    other = model.with_twist(lambda t, x: -jnp.square(x))
    assert type(other) is StateSpace and other.quantiles == (0.5,)
    assert model.ahead is not None and other.ahead is None
    assert isinstance(other.proposal, Bootstrap) and other.twist is not None
    assert other.with_twist(None).twist is None


def test_another_proposal_keeps_the_twist() -> None:
    model = filtered().with_twist(lambda t, x: -jnp.square(x))
    other = model.with_proposal(wide(model))
    assert type(other) is StateSpace and isinstance(other.proposal, Guided) and other.twist is model.twist


def test_given_tokens_stay_given() -> None:
    model = infilled()
    for other in (
        model.with_twist(None),
        model.with_proposal(Bootstrap(model.process)),
        model.with_proposal(Bootstrap),
    ):
        assert isinstance(other.proposal, Forced) and isinstance(other.proposal.inner, Bootstrap)
        assert other.proposal.given is model.potential.given


def test_a_twist_with_next_brings_its_proposal() -> None:
    twist = exact_models.chain().twist(exact_models.OBSERVATIONS, 0.5)
    composed = exact_models.hmm("bootstrap")
    assert isinstance(composed.with_twist(twist).proposal, TwistInduced)
    assert isinstance(exact_models.hmm("twisted").proposal, TwistInduced)
    assert isinstance(exact_models.hmm("twisted_weights").proposal, Bootstrap)


def test_what_does_not_fit_is_refused_with_its_name() -> None:
    model = filtered()
    with pytest.raises(TargetError, match="twist did not return a scalar"):
        model.with_twist(lambda t, x: jnp.zeros(2))
    with pytest.raises(TargetError, match="proposal raised"):
        model.with_proposal(Guided(model.process, lambda t, x: 1.0))


def test_two_entries_of_a_state_have_two_names() -> None:
    walk = process(
        dist.Normal(0.0, 1.0),
        lambda t, state: dist.Normal(state["a.b"], 1.0),
        lambda t, state, x: {"a.b": x, "a": {"b": x}},
    )
    with pytest.raises(ArgumentError, match=r"one name(.|\n)*'a\.b'"):
        compose(walk, lambda t, state: state["a.b"], num_steps=1)


def broken(t: jax.Array, x: jax.Array) -> jax.Array:
    """A potential that its user has not finished."""
    return x[7]


def test_the_line_that_raised_is_shown() -> None:
    walk = process(dist.Normal(0.0, 1.0), lambda t, x: dist.Normal(x, 1.0))
    with pytest.raises(TargetError, match=r"(?s)potential raised IndexError.*test_compose.py, line \d+: return x\[7\]"):
        compose(walk, broken, num_steps=2)
