"""Trains the model: ``python -m smcinfer.models.stories.recipe --data STORIES.txt --teacher DIRECTORY [--out FOLDER]``.

The text is a file of stories (TinyStories) separated by ``<|endoftext|>``; the teacher is a model of the same kind of text,
whose opinions on those stories are learned beside the stories themselves. Half an hour on one core.
"""

import argparse
import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import tokenizers
from optax import contrib
from safetensors.numpy import save_file

from smcinfer import language
from smcinfer.ground.arrays import Array, Float, KeyArray, Scalar
from smcinfer.language import Llama, LlamaConfig, Pretrained, random_llama
from smcinfer.models.stories import FOLDER
from smcinfer.models.stories.corpus import BOS, EOS, VOCAB_SIZE, bits_per_byte, read, train_tokenizer
from smcinfer.models.stories.lessons import Lessons, lessons
from smcinfer.run.fit import fit

SEED = 0
CONFIG = LlamaConfig(
    vocab_size=VOCAB_SIZE,
    dim=128,
    mlp_dim=352,
    num_layers=4,
    num_heads=4,
    num_kv_heads=2,
    head_dim=32,
    max_positions=512,
    windows=(None,) * 4,
    norm_eps=1e-5,
    tied=True,
    rope=(("rope_theta", 10000.0),),
)
# Windows of 256 tokens first, then longer ones: attention over 512 costs a third of the time.
STAGES = ((256, 16, 1600), (512, 8, 160))
LATE = 0.15
NUM_CHOOSING = 16
MATRICES = ("qkv", "out", "gate_up", "down")


class Student(eqx.Module):
    """The model, and the map from its hidden state to the teacher's, which is thrown away."""

    lm: Llama
    map: Float[Array, "dim h"]


def loss(student: Student, key: KeyArray, taught: Lessons, length: int, batch: int) -> Scalar:
    """What the student is trained on, in nats a token: three terms, one for each thing it is to learn.

    The next token, the teacher's law of the next token, and half of what is missing of the teacher's hidden state.

    Args:
        student: the model and its map to the teacher's hidden states.
        key: one random key, for the windows.
        taught: the text and the teacher's answers on it.
        length: of each window, tokens.
        batch: number of windows.
    """
    start = jax.random.randint(key, (batch, 1), 0, taught.tokens.shape[0] - length)
    place = start + jnp.arange(length)
    tokens = taught.tokens[place]
    said = jax.vmap(student.lm.forward)(tokens)
    log_p = jax.nn.log_softmax(said.logits)
    own = -jnp.mean(jnp.take_along_axis(log_p[:, :-1], tokens[:, 1:, None], axis=2))
    return own + taught.divergence(place, log_p) + 0.5 * taught.distance(place, said.hidden @ student.map)


def optimiser(student: Student, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Muon for matrices, Adam for the embedding, the norms and the map."""

    def kind(path: tuple, leaf: Array) -> str:
        del leaf
        return "muon" if any(name in jax.tree_util.keystr(path) for name in MATRICES) else "adam"

    kinds = jax.tree_util.tree_map_with_path(kind, eqx.filter(student, eqx.is_inexact_array))
    muon = contrib.muon(lambda step: 0.02 * schedule(step), weight_decay=0.01)
    adam = optax.adam(lambda step: 0.004 * schedule(step), b2=0.98)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.partition({"muon": muon, "adam": adam}, kinds))


def schedules() -> list[optax.Schedule]:
    """The learning rate over both stages: up at once, level, down to `LATE`, and in the second stage to nothing."""
    first, second = (steps for _, _, steps in STAGES)
    level = optax.join_schedules(
        [optax.linear_schedule(0.0, 1.0, 20), optax.linear_schedule(1.0, LATE, first // 2, first // 2 - 20)], [20]
    )
    return [level, optax.linear_schedule(LATE, 0.02 * LATE, second)]


def save(folder: Path, lm: Llama, words: tokenizers.Tokenizer) -> None:
    """Write a model as a Hugging Face directory that any Llama reader opens: weights, configuration and tokenizer.

    Args:
        folder: an existing folder; its files of these names are overwritten.
        lm: the model, written in float32.
        words: its tokenizer.
    """
    c = lm.config
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": c.dim,
        "intermediate_size": c.mlp_dim,
        "num_hidden_layers": c.num_layers,
        "num_attention_heads": c.num_heads,
        "num_key_value_heads": c.num_kv_heads,
        "head_dim": c.head_dim,
        "vocab_size": c.vocab_size,
        "max_position_embeddings": c.max_positions,
        "rms_norm_eps": c.norm_eps,
        "rope_theta": 10000.0,
        "hidden_act": c.activation,
        "tie_word_embeddings": c.tied,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "torch_dtype": "float32",
    }
    tensors = {"model.embed_tokens.weight": lm.embedding, "model.norm.weight": lm.norm}
    query, both = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    for number, layer in enumerate(lm.layers):
        q, k, v = jnp.split(layer.qkv, [query, query + both])
        gate, up = jnp.split(layer.gate_up, 2)
        parts = {"self_attn.q_proj": q, "self_attn.k_proj": k, "self_attn.v_proj": v, "self_attn.o_proj": layer.out}
        parts |= {"mlp.gate_proj": gate, "mlp.up_proj": up, "mlp.down_proj": layer.down}
        parts |= {"input_layernorm": layer.attention_norm, "post_attention_layernorm": layer.mlp_norm}
        tensors |= {f"model.layers.{number}.{name}.weight": part for name, part in parts.items()}
    save_file(
        {name: jax.device_get(part) for name, part in tensors.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf8")
    words.save(str(folder / "tokenizer.json"))


def main() -> None:
    """Train, write the directory, print bits per byte of held-out stories beside the teacher's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--checkpoints", type=Path, default=Path("."), help="folder of the stages' checkpoints")
    args = parser.parse_args()
    train, held_out = read(args.data)
    choosing, unseen = held_out[:NUM_CHOOSING], held_out[NUM_CHOOSING:]
    words = train_tokenizer(train)
    teacher = language.load(args.teacher)
    taught = lessons(teacher, tokenizers.Tokenizer.from_file(str(args.teacher / "tokenizer.json")), words, train)
    wrapped = language.Tokenizer(words, BOS, EOS)

    def cost(student: Student) -> float:
        return bits_per_byte(Pretrained(student.lm, wrapped, BOS, EOS, "", {}), choosing)

    start_key, *keys = jax.random.split(jax.random.key(SEED), 1 + len(STAGES))
    width = taught.hidden.shape[1]
    student = Student(
        random_llama(SEED, CONFIG, 0.05), jax.random.normal(start_key, (CONFIG.dim, width)) / CONFIG.dim**0.5
    )
    for number, ((length, batch, steps), key, schedule) in enumerate(zip(STAGES, keys, schedules(), strict=True)):
        fitted = fit(
            key,
            student,
            lambda student, key, taught, length=length, batch=batch: loss(student, key, taught, length, batch),
            taught,
            num_steps=steps,
            optimiser=optimiser(student, schedule),
            validate=cost,
            check_every=50,
            checkpoint=args.checkpoints / f"stage{number + 1}.safetensors",
            progress=True,
            description=f"stage {number + 1}",
        )
        student = fitted.module
    save(args.out, student.lm, words)
    found = {"this model": language.load(args.out), "the teacher": teacher}
    for name, model in found.items():
        print(f"{name}: {bits_per_byte(model, unseen):.4f} bits per byte of {len(unseen)} held-out stories")


if __name__ == "__main__":
    main()
