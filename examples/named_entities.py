"""Named entities: a conditional random field with skip edges, tagged by single sites and by learned blocks.

python examples/named_entities.py [--out output/named_entities] [--data wnut17] [--num-sweeps 40]
"""

import argparse
from pathlib import Path

import jax

from smcinfer.models import tagging_crf
from smcinfer.models.tagging_crf import inference
from smcinfer.models.tagging_crf.plot import plot_marginals
from smcinfer.models.tagging_crf.recipe import FILES
from smcinfer.proposals import chain_tags

SENTENCES = (
    "RT @anna : Kim Gordon plays in Chicago tonight",
    "Just landed in San Francisco , San Francisco is sunny",
    "watching The Walking Dead with my sister",
)


def main(out: Path, data: Path | None = None, num_sweeps: int = 40) -> None:
    """Tag a few sentences, or the test set with its F1, and draw the marginals of the first."""
    out.mkdir(parents=True, exist_ok=True)
    field = tagging_crf.load()
    gold = None if data is None else tagging_crf.read_conll(data / FILES["test"])
    words = [tuple(text.split()) for text in SENTENCES] if gold is None else [one.words for one in gold]
    graph = field.graph(words)
    pairs = chain_tags.load("chain_2")
    blocks = pairs.motif.match(graph, inference.runs_of(words, 2, graph))
    moves = [pairs.moves(graph, blocks)]
    if inference.linked_words(graph).size:
        moves.append(chain_tags.load("skip").moves(graph))
    kernels = {"single sites": inference.tag_kernel(graph), "learned blocks": inference.tag_kernel(graph, *moves)}
    for name, kernel in kernels.items():
        tagged = inference.tag(jax.random.key(0), graph, kernel, num_sweeps=num_sweeps)
        tags = field.split(tagged.marginals.argmax(axis=1), words)
        print(f"{name}: acceptance {tagged.acceptance.round(2).tolist()}")
        if gold is not None:
            print(f"  F1 {tagging_crf.entity_f1(tags, [one.tags for one in gold]):.3f}")
            continue
        for sentence, row in zip(words, tags, strict=True):
            found = [(kind, " ".join(sentence[first:last])) for first, last, kind in tagging_crf.spans(row)]
            print(f"  {' '.join(sentence)}\n    {found}")
    figure = plot_marginals(words[0], tagged.marginals[: len(words[0])], field.tags)
    figure.savefig(out / "marginals.png")
    print(f"saved {out / 'marginals.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("output/named_entities"), help="folder for the figure")
    parser.add_argument("--data", type=Path, help="folder of WNUT17, for F1 on its test set")
    parser.add_argument("--num-sweeps", type=int, default=40)
    arguments = parser.parse_args()
    main(arguments.out, arguments.data, arguments.num_sweeps)
