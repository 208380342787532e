"""Trains the field on WNUT17 (entities of six types in noisy text) and says how well it does.

python -m smcinfer.models.tagging_crf.recipe --data wnut17 [--out weights.safetensors] [--priors .3] [--seed 0]
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np

from smcinfer import nn
from smcinfer.models.tagging_crf import WEIGHTS, features, training
from smcinfer.models.tagging_crf.model import Batch, TaggingCRF, tagging_crf
from smcinfer.models.tagging_crf.reader import Sentence, read_conll
from smcinfer.models.tagging_crf.spans import entity_f1

FILES = {"train": "wnut17train.conll", "dev": "emerging.dev.conll", "test": "emerging.test.annotated"}
KINDS = ("corporation", "creative-work", "group", "location", "person", "product")
TAGS = ("O", *(f"{side}-{kind}" for kind in KINDS for side in "BI"))
DISFAVOURED = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5)
"""Nats that the first tag may lose at every word: entities are rarer in the training text than in later text."""


LIGHTEST = 0.02
"""Features none of whose weights is larger, in nats, are not kept."""


class Choice(NamedTuple):
    """A trained chain, the prior and the disfavour it was chosen with, and its F1 on the development set."""

    field: TaggingCRF
    prior: float
    disfavoured: float
    f1: float


def read(folder: Path) -> dict[str, list[Sentence]]:
    """Sentences with their tags of the three sets, by name."""
    return {name: read_conll(folder / file) for name, file in FILES.items()}


def chain_f1(field: TaggingCRF, sentences: Sequence[Sentence], batch: Batch | None = None) -> float:
    """Entity F1 of the chain's exact marginals, the skip edges left out.

    Args:
        field: the field.
        sentences: with their true tags.
        batch: the same sentences as arrays, where they are at hand.
    """
    tags = np.asarray(training.most_probable_marginals(field, field.batch(sentences) if batch is None else batch))
    guessed = [[field.tags[tag] for tag in row[: len(one.words)]] for row, one in zip(tags, sentences, strict=True)]
    return entity_f1(guessed, [sentence.tags for sentence in sentences])


def chosen(field: TaggingCRF, train: Batch, dev: Sequence[Sentence], priors: Sequence[float]) -> Choice:
    """The field of best F1 on the development set, over priors and how far the first tag is disfavoured.

    Args:
        field: where training starts.
        train: sentences to train on.
        dev: sentences that choose.
        priors: precisions of the Gaussian prior on the weights, tried from the largest down.
    """
    best, batch = Choice(field, 0.0, 0.0, -1.0), field.batch(dev)
    # From strong priors to weak ones, each starting where the last ended.
    for prior in sorted(priors, reverse=True):
        field = training.train_chain(field, train, prior=prior, progress=True)
        found = [(chain_f1(training.outside_disfavoured(field, size), dev, batch), size) for size in DISFAVOURED]
        f1, size = max(found)
        print(f"prior {prior}: F1 on the development set {found[0][0]:.3f}, {f1:.3f} at {size} nats", flush=True)
        if f1 > best.f1:
            best = Choice(training.outside_disfavoured(field, size), prior, size, f1)
    return best


def pruned(field: TaggingCRF, train: Sequence[Sentence]) -> TaggingCRF:
    """The field without the features that weigh next to nothing; spellings stay, by which common words are known."""
    spelt = {features.key(features.spelling(word)) for sentence in train for word in sentence.words}
    keys = np.asarray(field.keys)
    kept = np.isin(keys, np.array(sorted(spelt), np.uint32)) | (
        np.abs(np.asarray(field.weights)).max(axis=1) > LIGHTEST
    )
    return eqx.tree_at(lambda field: (field.keys, field.weights), field, (field.keys[kept], field.weights[kept]))


def main() -> None:
    """Train, print the card and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the three files of WNUT17")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--priors", type=float, nargs="+", default=[0.3])
    parser.add_argument("--least", type=int, default=features.LEAST, help="occurrences of a feature that has weights")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    start = time.perf_counter()
    sets = read(arguments.data)
    keys = features.learn_keys([sentence.words for sentence in sets["train"]], arguments.least)
    field = tagging_crf(TAGS, keys)
    train = field.batch(sets["train"])
    choice = chosen(field, train, sets["dev"], arguments.priors)
    field = pruned(choice.field, sets["train"])
    # Of text that the chain was not trained on: where it was, the words' own scores leave nothing to be explained.
    skipped = training.train_skip(jax.random.key(arguments.seed), field, field.batch(sets["dev"]), progress=True)
    field = skipped.module
    card = {
        "seed": arguments.seed,
        "num_rows": len(field.keys),
        "tags": list(TAGS),
        "prior": choice.prior,
        "disfavoured": choice.disfavoured,
        "held_out_loss": float(eqx.filter_jit(training.chain_loss)(field, field.batch(sets["dev"]))),
        "chain_f1_dev": chain_f1(field, sets["dev"]),
        "chain_f1_test": chain_f1(field, sets["test"]),
        "skip": np.round(np.asarray(field.skip, float), 3).tolist(),
        "seconds": time.perf_counter() - start,
    }
    print(card)
    kept = eqx.tree_at(lambda field: field.weights, field, training.half(field.weights))
    nn.save(arguments.out, kept, card)
    print(f"saved {arguments.out}")


if __name__ == "__main__":
    main()
