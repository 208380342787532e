"""Trains the field on WNUT17 (entities of six types in noisy text) and says how well it does.

python -m smcinfer.models.tagging_crf.recipe --data wnut17 [--out weights.safetensors] [--num-steps 1200] [--seed 0]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import equinox as eqx
import jax
import numpy as np

from smcinfer import nn
from smcinfer.models.tagging_crf import WEIGHTS, training
from smcinfer.models.tagging_crf.model import TaggingCRF, tagging_crf
from smcinfer.models.tagging_crf.reader import Sentence, read_conll
from smcinfer.models.tagging_crf.spans import entity_f1

FILES = {"train": "wnut17train.conll", "dev": "emerging.dev.conll", "test": "emerging.test.annotated"}
KINDS = ("corporation", "creative-work", "group", "location", "person", "product")
TAGS = ("O", *(f"{side}-{kind}" for kind in KINDS for side in "BI"))
PRIOR = 3e-4


def read(folder: Path) -> dict[str, list[Sentence]]:
    """The three sets."""
    return {name: read_conll(folder / file) for name, file in FILES.items()}


def chain_f1(field: TaggingCRF, sentences: Sequence[Sentence]) -> float:
    """Entity F1 of the chain's exact marginals, the skip edges left out."""
    tags = np.asarray(training.most_probable_marginals(field, field.batch(sentences)))
    guessed = [[field.tags[tag] for tag in row[: len(one.words)]] for row, one in zip(tags, sentences, strict=True)]
    return entity_f1(guessed, [sentence.tags for sentence in sentences])


def main() -> None:
    """Train, print the card and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the three files of WNUT17")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--num-steps", type=int, default=1200)
    parser.add_argument("--num-rows", type=int, default=2**14)
    parser.add_argument("--prior", type=float, default=PRIOR)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sets = read(arguments.data)
    field = tagging_crf(TAGS, arguments.num_rows)
    train, held_out = field.batch(sets["train"]), field.batch(sets["dev"])
    chain_key, skip_key = jax.random.split(jax.random.key(arguments.seed))
    fitted = training.train_chain(
        chain_key, field, train, held_out, num_steps=arguments.num_steps, prior=arguments.prior, progress=True
    )
    skipped = training.train_skip(skip_key, fitted.module, train, progress=True)
    field = skipped.module
    card = {
        "seed": arguments.seed,
        "num_rows": arguments.num_rows,
        "tags": list(TAGS),
        "held_out_loss": float(fitted.checks.min()),
        "chain_f1_dev": chain_f1(field, sets["dev"]),
        "chain_f1_test": chain_f1(field, sets["test"]),
        "skip": np.round(np.asarray(field.skip, float), 3).tolist(),
        "seconds": fitted.seconds + skipped.seconds,
    }
    print(card)
    kept = eqx.tree_at(lambda field: field.weights, field, training.half(field.weights))
    nn.save(arguments.out, kept, card)
    print(f"saved {arguments.out}")


if __name__ == "__main__":
    main()
