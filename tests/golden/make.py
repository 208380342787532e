"""Writes the golden files: small random checkpoints of each kind with the logits that `transformers` gives for them.

python tests/golden/make.py [KIND ...] [--published FOLDER]    needs torch and transformers, which the project itself does not

One folder a kind: ``config.json``, the weights in one file or in shards, and ``golden.json`` with tokens, logits and versions.
``--published`` writes the ``golden.json`` of a published checkpoint into a folder of its name, and no weights.
"""

import argparse
import json
from pathlib import Path

import torch
import transformers

HERE = Path(__file__).resolve().parent
SIZES = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}

KINDS = {
    "llama2": ("Llama", {}),
    "llama_linear": ("Llama", {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
    "llama3": ("Llama", {"rope_scaling": LLAMA3, "tie_word_embeddings": True}),
    "llama_yarn": ("Llama", {"rope_scaling": YARN, "head_dim": 8}),
    "llama_biases": ("Llama", {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 4}),
    "smollm": ("Llama", {"tie_word_embeddings": True, "rope_theta": 100000.0, "num_key_value_heads": 1}),
    "mistral": ("Mistral", {"sliding_window": 5, "head_dim": 6}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True, "rope_theta": 1000000.0}),
    "qwen2_window": ("Qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
    "qwen3": ("Qwen3", {"head_dim": 8}),
    "gpt2": ("GPT2", {}),
}
"""Folder -> class of `transformers`, and what its configuration has beside `SIZES`."""

SHARDED = ("qwen3",)
"""Kinds whose weights are written in several files with an index."""


def config_of(family: str, extra: dict) -> transformers.PretrainedConfig:
    """The configuration of a kind."""
    if family == "GPT2":
        sizes = {"vocab_size": 32, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 64}
        return transformers.GPT2Config(**sizes, bos_token_id=1, eos_token_id=2)
    return getattr(transformers, f"{family}Config")(**(SIZES | extra))


def randomise(model: torch.nn.Module) -> None:
    """Weights of a size at which every part of the network matters; norms and biases away from their defaults."""
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        centre, scale = (1.0, 0.2) if "norm" in name or "ln_" in name else (0.0, 0.3)
        if name.endswith("bias"):
            centre = 0.0
        parameter.data = centre + scale * noise


def make(kind: str) -> None:
    """Write one folder."""
    family, extra = KINDS[kind]
    config = config_of(family, extra)
    config._attn_implementation = "eager"
    model = getattr(transformers, f"{family}LMHeadModel" if family == "GPT2" else f"{family}ForCausalLM")(config)
    model = model.float().eval()
    randomise(model)
    folder = HERE / kind
    model.save_pretrained(folder, max_shard_size="6KB" if kind in SHARDED else "1GB")
    (folder / "generation_config.json").unlink(missing_ok=True)
    write(kind, model)


def write(name: str, model: torch.nn.Module) -> None:
    """What a model says after some of forty tokens."""
    tokens = torch.randint(3, model.config.vocab_size, (40,), generator=torch.Generator().manual_seed(3))
    tokens[0] = 1
    with torch.no_grad():
        output = model(tokens[None], output_hidden_states=True)
    at = [0, 7, 19, 39]
    rows = {"logits": output.logits[0, at], "hidden": output.hidden_states[-1][0, at]}
    golden = {
        "tokens": tokens.tolist(),
        "at": at,
        **{part: [[round(value, 5) for value in row] for row in values.tolist()] for part, values in rows.items()},
        "made_by": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    (HERE / name).mkdir(exist_ok=True)
    (HERE / name / "golden.json").write_text(json.dumps(golden) + "\n", encoding="utf8")
    print(name, "logits up to", round(output.logits.abs().max().item(), 2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", help=f"some of {', '.join(KINDS)}; all where neither is given")
    parser.add_argument("--published", type=Path, help="a checkpoint")
    arguments = parser.parse_args()
    if arguments.published:
        published = transformers.AutoModelForCausalLM.from_pretrained(arguments.published, attn_implementation="eager")
        write(arguments.published.name, published.float().eval())
    else:
        for kind in arguments.kinds or KINDS:
            make(kind)
