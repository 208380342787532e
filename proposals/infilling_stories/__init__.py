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

WIDTH = 256
"""Of the hidden layer."""


def load(lm: CausalLM | None = None) -> NetworkHead:
    """The twist; ``twist.given(tokens)`` is the one for ten tokens that must follow.

    Args:
        lm: the stories model, where it is loaded already.

    Raises:
        CheckpointError: for damaged weights, or another model than the one that the twist was learned on.
    """
    model = stories.load().lm if lm is None else lm
    embedding = model.embedding  # pyright: ignore[reportAttributeAccessIssue]
    sizes = {"width": WIDTH, "num_steps": FREE, "context_size": GIVEN}
    like = network_head(jax.random.key(0), model.dim, model.vocab_size, embedding=embedding, **sizes)
    return load_twist(WEIGHTS, model, like)
