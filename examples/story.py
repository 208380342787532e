"""A story that must end as asked: its middle is drawn given its beginning and its ending.

    python examples/story.py [--out output/story] [--ending " They all went home and had a big hug."]

The model inside the package tells the story. What is drawn is the middle: the ending is given, and each particle pays what the
model thinks of that ending after its own middle. Beside it, stories as the model tells them when nothing is asked.
"""

import argparse
from pathlib import Path

import jax
from rich.console import Console

import smcinfer
from smcinfer import language
from smcinfer.models import stories
from smcinfer.plots.endings import plot_endings

PROMPT = "Once upon a time, there was a little dog named Max."
ENDING = " Max was happy and went home."
NUM_SHOWN = 4


def main(
    out: Path,
    prompt: str = PROMPT,
    ending: str = ENDING,
    max_tokens: int = 30,
    num_particles: int = 256,
    num_runs: int = 4,
) -> int:
    """Draw the middle of the story, print the likeliest and draw how well each middle leads to the ending.

    Args:
        out: folder for ``story.png``.
        prompt, ending: of the story.
        max_tokens: tokens of the middle.
        num_particles, num_runs: the size of the run.

    Returns:
        The exit code: 0, or 1 where the status is serious.
    """
    out.mkdir(parents=True, exist_ok=True)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    model = stories.load()
    target = language.generation(model, prompt, max_tokens=max_tokens, continuation=ending, eos_id=None)
    result = smcinfer.sample(jax.random.key(0), target, num_particles=num_particles, num_runs=num_runs)
    console.print(f"{prompt} ... {ending.strip()}\n")
    console.print(str(result))
    console.print("\nweight  story")
    for text in target.decode(result)[:NUM_SHOWN]:
        console.print(f"{text.weight:6.3f}  {prompt}{text.text}")
    plot_endings(target, result).savefig(out / "story.png")
    console.print(f"\nsaved {out / 'story.png'}")
    return int(result.serious)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("output/story"), help="folder for the figure")
    parser.add_argument("--prompt", default=PROMPT, help="how the story begins")
    parser.add_argument("--ending", default=ENDING, help="how it must end")
    parser.add_argument("--max-tokens", type=int, default=30, help="tokens of the middle")
    parser.add_argument("--num-particles", type=int, default=256)
    arguments = parser.parse_args()
    main(arguments.out, arguments.prompt, arguments.ending, arguments.max_tokens, arguments.num_particles)
