"""Trains the classifier: ``python -m smcinfer.models.sentiment.recipe --data FOLDER [--out weights.safetensors]``.

The folder holds ``uci/{amazon_cells,imdb,yelp}_labelled.txt`` and ``sentence_polarity.zip``. A tenth of each source is held out
for the card and another tenth chooses when to stop. Half a minute on one core.
"""

import argparse
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from smcinfer import nn
from smcinfer.ground.arrays import Array, KeyArray, Scalar
from smcinfer.models.sentiment import WEIGHTS
from smcinfer.models.sentiment.features import rows
from smcinfer.models.sentiment.model import Sentiment, as_bytes, blank
from smcinfer.run.fit import fit

SEED = 0
BATCH = 512
NUM_STEPS = 3000
SHRINK = 3e-6
UCI = ("amazon_cells", "imdb", "yelp")


def read(folder: Path) -> dict[str, tuple[list[str], np.ndarray]]:
    """Sentences and labels (1 is positive) by source."""
    found = {}
    for source in UCI:
        lines = (folder / "uci" / f"{source}_labelled.txt").read_text(encoding="utf8").split("\n")
        pairs = [line.rsplit("\t", 1) for line in lines if "\t" in line]
        found[source] = ([text for text, _ in pairs], np.array([int(label) for _, label in pairs]))
    with zipfile.ZipFile(folder / "sentence_polarity.zip") as archive:
        halves = [
            archive.read(f"sentence_polarity/rt-polarity.{name}").decode("latin-1").splitlines()
            for name in ("neg", "pos")
        ]
    found["polarity"] = (halves[0] + halves[1], np.repeat([0, 1], [len(halves[0]), len(halves[1])]))
    return found


def split(key: KeyArray, size: int) -> dict[str, np.ndarray]:
    """Positions of the held-out tenth, the tenth that chooses, and the rest."""
    order = np.asarray(jax.random.permutation(key, size))
    tenth = size // 10
    return {"test": order[:tenth], "choose": order[tenth : 2 * tenth], "train": order[2 * tenth :]}


def features(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of every text's words and pairs, packed to the left, and which are there."""
    table, sizes = as_bytes(texts)
    found, there = map(np.asarray, jax.jit(jax.vmap(rows))(jnp.asarray(table), jnp.asarray(sizes)))
    found, there = found.reshape(len(texts), -1), there.reshape(len(texts), -1)
    width = int(there.sum(1).max())
    order = np.argsort(~there, axis=1, kind="stable")[:, :width]
    return np.take_along_axis(found, order, 1), np.take_along_axis(there, order, 1)


def loss(model: Sentiment, key: KeyArray, data: tuple[Array, Array, Array]) -> Scalar:
    """Cross entropy of a random batch (nats) and a penalty on the squared weights.

    Args:
        model: what is trained.
        key: one random key, for the batch.
        data: rows of every text's words and pairs, Int["texts width"], which are there, Bool["texts width"], and labels,
            Int["texts"], 1 for positive.
    """
    found, there, labels = data
    chosen = jax.random.randint(key, (BATCH,), 0, labels.shape[0])
    logits = jax.vmap(model.logit)(found[chosen], there[chosen])
    penalty = SHRINK * jnp.sum(model.weights**2)
    return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, labels[chosen])) + penalty


def main() -> None:
    """Train, print held-out accuracy by source, write the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    split_key, fit_key = jax.random.split(jax.random.key(SEED))
    sources = read(args.data)
    parts: dict[str, list[tuple[list[str], np.ndarray]]] = {"train": [], "choose": [], "test": []}
    for number, (texts, labels) in enumerate(sources.values()):
        for name, places in split(jax.random.fold_in(split_key, number), len(texts)).items():
            parts[name].append(([texts[place] for place in places], labels[places]))
    train_texts = [text for texts, _ in parts["train"] for text in texts]
    train_labels = np.concatenate([labels for _, labels in parts["train"]])
    data = (*map(jnp.asarray, features(train_texts)), jnp.asarray(train_labels, jnp.float32))

    def mistakes(model: Sentiment) -> float:
        costs = []
        for texts, labels in parts["choose"]:
            costs.append(-model.log_probabilities(texts)[np.arange(len(labels)), labels].mean())
        return float(np.mean(costs))

    fitted = fit(
        fit_key,
        blank(),
        loss,
        data,
        num_steps=NUM_STEPS,
        learning_rate=0.02,
        validate=mistakes,
        patience=8,
        progress=True,
    )
    accuracy = {}
    for name, (texts, labels) in zip(sources, parts["test"], strict=True):
        guesses = fitted.module.log_probabilities(texts).argmax(1)
        accuracy[name] = float((guesses == labels).mean())
        print(f"{name}: {accuracy[name]:.3f} of {len(labels)} held-out sentences")
    nn.save(args.out, fitted.module, {"seed": SEED, "held_out_accuracy": accuracy})
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
