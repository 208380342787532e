"""A small classifier of sentiment, positive or negative, for rewards: on any text, and inside compiled programs on tokens.

Its card, ``README.md`` beside this file, has the data, the licences and the accuracy.
"""

from pathlib import Path

from smcinfer.models.sentiment.model import LABELS, Sentiment, blank
from smcinfer.nn import restore

WEIGHTS = Path(__file__).with_name("weights.safetensors")

__all__ = ["LABELS", "WEIGHTS", "Sentiment", "load"]


def load() -> Sentiment:
    """The trained classifier, read from the repository's own file."""
    return restore(WEIGHTS, blank())
