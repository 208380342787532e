"""The marginals of a sentence's tags, drawn."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from smcinfer.ground.arrays import Float
from smcinfer.plots import style


def plot_marginals(words: Sequence[str], marginals: Float[np.ndarray, "words tags"], tags: Sequence[str]) -> Figure:
    """Probabilities of every tag of every word, ``O`` left out.

    Args:
        words: of one sentence.
        marginals: as `inference.tag` finds them.
        tags: names, ``O`` first.
    """
    figure = style.new_figure(height=3.2)
    with style.styled():
        axes = figure.subplots()
        image = axes.imshow(np.asarray(marginals)[:, 1:].T, vmin=0, vmax=1, aspect="auto", cmap="Blues")
        axes.set_xticks(range(len(words)), words, rotation=30, ha="right")
        axes.set_yticks(range(len(tags) - 1), tags[1:])
        figure.colorbar(image, ax=axes, label="probability")
    return figure
