"""Tokens a second of other software for `benchmarks.language`: run by it, in a Python of its own, for torch has its own pins.

python benchmarks/peers/language.py TASK    with a JSON object; the last line printed is one, of tokens a second or null
"""

import asyncio
import importlib.util
import json
import math
import sys
import time
from collections.abc import Callable
from typing import Any


def installed(*names: str) -> bool:
    """Whether all of these can be imported; says which cannot."""
    missing = []
    for name in names:
        try:
            found = importlib.util.find_spec(name) is not None
        except ModuleNotFoundError:
            found = False
        missing += [] if found else [name]
    if missing:
        print(f"not installed: {', '.join(missing)}; the figures that need it are null")
    return not missing


def least_seconds(function: Callable[[], Any], repeats: int = 5) -> float:
    """Seconds of the fastest of several calls, after one that does not count."""
    function()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def generate_rate(model: Any, tokens: list[int], sequences: int, steps: int) -> float:
    """Tokens a second of ``generate``, sampling from the whole vocabulary, no early end."""
    import torch

    ids = torch.tensor([tokens])
    model.generation_config.eos_token_id = None

    def sample() -> None:
        with torch.no_grad():
            drawn = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                top_k=0,
                max_new_tokens=steps,
                num_return_sequences=sequences,
                pad_token_id=0,
            )
        assert drawn.shape == (sequences, len(tokens) + steps)

    return sequences * steps / least_seconds(sample)


def genlm_rate(folder: str, prompt: str, sequences: int, steps: int) -> float:
    """Tokens a second of SMC by `genlm-control`, with a critic that rewards tokens at every step."""
    from genlm.control import Potential, PromptedLLM, direct_token_sampler

    class Critic(Potential):
        """A reward of each token, nats."""

        async def prefix(self, context: list[Any]) -> float:
            return 0.3 * sum(math.sin(len(str(token))) for token in context)

        async def complete(self, context: list[Any]) -> float:
            return await self.prefix(context)

    lm = PromptedLLM.from_name(folder, backend="hf", temperature=1.0)
    lm.set_prompt_from_str(prompt)
    critic = Critic(lm.vocab)
    drawn = [0]

    async def sample() -> None:
        sampler = direct_token_sampler(lm)
        found = await sampler.smc(n_particles=sequences, ess_threshold=0.5, max_tokens=steps, critic=critic)
        drawn[0] = sum(len(context) for context in found.contexts)
        await sampler.cleanup()

    seconds = least_seconds(lambda: asyncio.run(sample()), 2)
    return drawn[0] / seconds


def main(task: dict[str, Any]) -> dict[str, float | None]:
    """Measure what is installed; ``generate`` on the stories model by number of sequences."""
    batches = {f"hf_stories_{size}": size for size in task["batches"]}
    rates: dict[str, float | None] = dict.fromkeys((*batches, "hf_large", "genlm_stories"))
    if installed("torch", "transformers"):
        import transformers

        if task["stories"]:
            model = transformers.AutoModelForCausalLM.from_pretrained(task["stories"]).eval()
            rates |= {name: generate_rate(model, task["tokens"], size, task["steps"]) for name, size in batches.items()}
        large = task["large"]
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**large["config"])).eval()
        rates["hf_large"] = generate_rate(model, large["tokens"], large["sequences"], large["steps"])
    if task["stories"] and installed("torch", "genlm.control"):
        rates["genlm_stories"] = genlm_rate(task["stories"], task["prompt"], max(task["batches"]), task["steps"])
    for name, rate in rates.items():
        print(f"{name}: {'not measured' if rate is None else f'{rate:.0f} tokens/s'}")
    return rates


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
