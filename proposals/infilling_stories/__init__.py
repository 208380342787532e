"""A twist for the stories model: what to write so that ten given tokens follow naturally (see the card)."""

from pathlib import Path

import jax

from smcinfer.language import CausalLM
from smcinfer.models import stories
from smcinfer.twists import NetworkHead, network_head
from smcinfer.twists import load as load_twist

WEIGHTS = Path(__file__).parent / "weights.safetensors"
PROMPT = "Once upon a time, there was a"
FREE, GIVEN = 15, 10
"""Tokens that the twist fills in, and tokens that are given after them."""


def blank(lm: CausalLM) -> NetworkHead:
    """The twist before it was learned."""
    sizes = {"width": 256, "num_steps": FREE, "context_size": GIVEN}
    embedding = lm.embedding  # pyright: ignore[reportAttributeAccessIssue]
    return network_head(jax.random.key(0), lm.dim, lm.vocab_size, embedding=embedding, **sizes)


def load(lm: CausalLM | None = None) -> NetworkHead:
    """The twist; ``twist.given(tokens)`` is the one for ten tokens that must follow.

    Args:
        lm: the stories model, where it is loaded already.

    Raises:
        CheckpointError: for damaged weights, or another model than the one that the twist was learned on.
    """
    model = stories.load().lm if lm is None else lm
    return load_twist(WEIGHTS, model, blank(model))
