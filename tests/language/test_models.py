"""Language models: the same numbers as `transformers`, with or without the cache, and clear errors for what does not fit."""

import json
import shutil
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
from safetensors.numpy import load_file, save_file

from smcinfer.ground.errors import ArgumentError
from smcinfer.language import CausalLM, LlamaConfig, generation, load, random_llama, table_lm
from smcinfer.language.constraints.vocabulary import read_vocabulary
from smcinfer.language.networks import loading
from smcinfer.language.networks.rope import frequencies
from tests.conftest import ROOT

GOLDEN = ROOT / "tests" / "golden"
KINDS = sorted(path.parent.name for path in GOLDEN.glob("*/config.json"))


def golden(name: str) -> dict:
    """Tokens, and what transformers says after some of them."""
    return json.loads((GOLDEN / name / "golden.json").read_text(encoding="utf8"))


def assert_same(lm: CausalLM, name: str, tolerance: float = 1e-4) -> None:
    """Logits and hidden states as transformers has them."""
    known = golden(name)
    output = eqx.filter_jit(lm.forward)(jnp.asarray(known["tokens"], jnp.int32))
    for part in ("logits", "hidden"):
        np.testing.assert_allclose(np.asarray(getattr(output, part))[known["at"]], known[part], atol=tolerance)


def with_cache(lm: CausalLM, tokens: np.ndarray, prompt: int) -> np.ndarray:
    """Logits after each token from the prompt's last on, by the cache."""

    @eqx.filter_jit
    def run(lm: CausalLM, tokens: jax.Array) -> jax.Array:
        first, prefix = lm.prefill(tokens[:prompt])
        slots = jnp.arange(tokens.shape[0] - prompt)

        def read(cache, at):  # noqa: ANN001, ANN202
            token, slot = at
            output, cache = lm.step(token, slot, cache, prefix)
            return cache, output.logits

        _, logits = jax.lax.scan(read, lm.empty(tokens.shape[0] - prompt), (tokens[prompt:], slots))
        return jnp.concatenate([first.logits[None], logits])

    return np.asarray(run(lm, jnp.asarray(tokens, jnp.int32)))


@pytest.mark.dealt
@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_transformers(kind: str) -> None:
    assert_same(load(GOLDEN / kind).lm, kind)


@pytest.mark.dealt
@pytest.mark.parametrize("kind", ["mistral", "llama3", "gpt2"])
def test_the_cache_changes_nothing(kind: str) -> None:
    lm, known = load(GOLDEN / kind).lm, golden(kind)
    cached = with_cache(lm, known["tokens"], 6)
    rows = [(place, at - 5) for place, at in enumerate(known["at"]) if at >= 5]
    for place, row in rows:
        np.testing.assert_allclose(cached[row], known["logits"][place], atol=1e-4)


def test_a_published_model(shared_data: Path) -> None:
    found = load(shared_data / "language_models" / "stories260K")
    assert_same(found.lm, "stories260K")
    text = "Once upon a time, there was a little girl."
    assert found.tokenizer is not None
    tokens = found.tokenizer.encode(text)
    assert tokens[0] == found.bos_id and found.tokenizer.decode(tokens) == text
    assert found.tokenizer.encode("") == [found.bos_id]


def test_bfloat16_is_near() -> None:
    lm = load(GOLDEN / "llama2", "bfloat16").lm
    known = golden("llama2")
    output = eqx.filter_jit(lm.forward)(jnp.asarray(known["tokens"], jnp.int32))
    assert lm.embedding.dtype == jnp.bfloat16 and output.logits.dtype == jnp.float32  # pyright: ignore
    error = np.abs(np.asarray(output.logits)[known["at"]] - np.asarray(known["logits"]))
    assert 1e-4 < error.max() < 0.1


def test_the_table_reads_as_it_writes(precision: str) -> None:
    lm = table_lm(jax.random.key(0), 4, 3)
    tokens = np.array([1, 3, 0, 2, 2, 1, 0])
    whole = lm.forward(jnp.asarray(tokens)).logits
    assert whole.dtype == precision
    np.testing.assert_array_equal(with_cache(lm, tokens, 2), whole[1:])


@pytest.mark.slow
def test_a_random_model_reads_as_it_writes() -> None:
    config = LlamaConfig(300, 16, 24, 2, 4, 2, 4, 64, (None, 3), qk_norm=True, rope=(("rope_theta", 100.0),))
    lm = random_llama(0, config, scale=0.3)
    tokens = np.arange(12) * 7 % 300
    np.testing.assert_allclose(with_cache(lm, tokens, 4), lm.forward(jnp.asarray(tokens)).logits[3:], atol=1e-5)


def copied(tmp_path: Path, kind: str = "llama2") -> Path:
    """A folder of a golden checkpoint to damage."""
    return Path(shutil.copytree(GOLDEN / kind, tmp_path / kind))


def edit(path: Path, **changes: object) -> None:
    """Change entries of a JSON file; ``None`` removes one."""
    content = json.loads(path.read_text(encoding="utf8")) | changes
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}), encoding="utf8")


def test_a_folder_without_config(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="has no config.json"):
        load(tmp_path)


def test_an_unknown_architecture(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    edit(folder / "config.json", model_type="mamba")
    with pytest.raises(ArgumentError, match="unknown architecture(.|\n)*mamba"):
        load(folder)


def test_a_config_that_lacks_an_entry(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    edit(folder / "config.json", hidden_size=None)
    with pytest.raises(ArgumentError, match="lacks an entry(.|\n)*hidden_size"):
        load(folder)


def test_an_unknown_scaling(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    edit(folder / "config.json", rope_parameters={"rope_type": "longrope"})
    with pytest.raises(ArgumentError, match="unknown rope scaling"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"), "lack a tensor(.|\n)*up_proj"),
        (lambda tensors: tensors.update({"model.norm.weight": np.ones(5, np.float32)}), "wrong shape(.|\n)*16(.|\n)*5"),
        (lambda tensors: tensors.update({"model.layers.0.extra": np.ones(5, np.float32)}), "does not use(.|\n)*extra"),
    ],
)
def test_tensors_that_do_not_fit(tmp_path: Path, change, complaint: str) -> None:  # noqa: ANN001
    folder = copied(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ArgumentError, match=complaint):
        load(folder)


def test_weights_that_are_absent_or_damaged(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ArgumentError, match="is damaged"):
        load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ArgumentError, match="has no weights"):
        load(folder)
    sharded = copied(tmp_path, "qwen3")
    (sharded / "model-00002-of-00005.safetensors").unlink()
    with pytest.raises(ArgumentError, match="no model-00002"):
        load(sharded)


def test_a_tokenizer_of_another_model(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    vocabulary = {f"token{number}": number for number in range(40)}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="token0"))
    inner.save(str(folder / "tokenizer.json"))
    with pytest.raises(ArgumentError, match="tokenizer does not match the model(.|\n)*31(.|\n)*39"):
        load(folder)
    (folder / "tokenizer.json").write_text("{", encoding="utf8")
    with pytest.raises(ArgumentError, match="cannot be read"):
        load(folder)


def test_an_unknown_dtype() -> None:
    with pytest.raises(ArgumentError, match="unknown dtype"):
        load(GOLDEN / "llama2", "float16")
    with pytest.raises(ArgumentError, match="float64 is off"):
        load(GOLDEN / "llama2", "float64")


def logits_of(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Logits and hidden states of a few tokens."""
    output = load(folder).lm.forward(jnp.asarray([3, 1, 4, 1, 5]))
    return np.asarray(output.logits), np.asarray(output.hidden)


@pytest.mark.parametrize(("kind", "said"), [("llama2", True), ("gpt2", False), ("gpt2", True), ("gpt2", None)])
def test_a_head_that_is_stored_is_used(tmp_path: Path, kind: str, said: bool | None) -> None:
    folder = copied(tmp_path, kind)
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith(("embed_tokens.weight", "wte.weight")))
    head = np.random.default_rng(0).normal(size=tensors[name].shape).astype(np.float32)
    save_file(tensors | {"lm_head.weight": head}, folder / "model.safetensors")
    edit(folder / "config.json", tie_word_embeddings=said)
    logits, hidden = logits_of(folder)
    np.testing.assert_allclose(logits, hidden @ head.T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["llama2", "gpt2"])
@pytest.mark.parametrize("said", [True, None])
@pytest.mark.parametrize("stored", ["embedding", "head", "both"])
def test_one_matrix_may_be_both(tmp_path: Path, kind: str, said: bool | None, stored: str) -> None:
    folder = copied(tmp_path, kind)
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("lm_head.weight", None)
    name = next(name for name in tensors if name.endswith(("embed_tokens.weight", "wte.weight")))
    matrix = tensors.pop(name)
    tensors |= {} if stored == "head" else {name: matrix}
    tensors |= {} if stored == "embedding" else {"lm_head.weight": matrix.copy()}
    save_file(tensors, folder / "model.safetensors")
    edit(folder / "config.json", tie_word_embeddings=said)
    logits, hidden = logits_of(folder)
    np.testing.assert_allclose(logits, hidden @ matrix.T, rtol=1e-4, atol=1e-4)


def test_a_head_that_is_said_to_be_there_must_be(tmp_path: Path) -> None:
    folder = copied(tmp_path, "gpt2")
    edit(folder / "config.json", tie_word_embeddings=False)
    with pytest.raises(ArgumentError, match="lack a tensor(.|\n)*lm_head"):
        load(folder)


def test_swish_is_silu(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    before, _ = logits_of(folder)
    edit(folder / "config.json", hidden_act="swish")
    np.testing.assert_array_equal(logits_of(folder)[0], before)


def test_the_ramp_of_yarn_is_rounded_or_not() -> None:
    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 10000.0}
    plain = 10000.0 ** (-np.arange(0, 32, 2) / 32)
    low, high = (32 * np.log(64 / (turns * 2 * np.pi)) / (2 * np.log(10000.0)) for turns in (32, 1))
    for truncate, ends in ((True, (np.floor(low), np.ceil(high))), (False, (low, high))):
        start, stop = max(ends[0], 0), min(ends[1], 31)
        share = np.clip((np.arange(16) - start) / (stop - start), 0, 1)
        found, _ = frequencies(rope | {"truncate": truncate}, 32, 256)
        np.testing.assert_allclose(found, plain / 4 * share + plain * (1 - share), rtol=1e-12)


@pytest.mark.parametrize(
    ("first", "more", "eos", "also"),
    [(1, [1, 5], 1, (5,)), ([2, 3], 4, 2, (3, 4)), (None, [6, 7], 6, (7,)), (1, None, 1, ()), (None, None, None, ())],
)
def test_ends_are_those_of_both_configurations(
    tmp_path: Path, first: object, more: object, eos: object, also: object
) -> None:
    folder = copied(tmp_path)
    edit(folder / "config.json", eos_token_id=first)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": more}))
    found = load(folder)
    assert (found.eos_id, found.also_eos) == (eos, also)


def tokenizer_of_size(folder: Path, size: int, special: list[str]) -> None:
    """A tokenizer of so many plain tokens, special ones after them."""
    vocabulary = {f"t{number}": number for number in range(size)}
    inner = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    inner.add_special_tokens(special)
    inner.save(str(folder / "tokenizer.json"))


def test_a_special_token_beyond_the_embedding_is_none_of_the_models(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    size = load(folder).lm.vocab_size
    tokenizer_of_size(folder, size, ["<pad>"])
    found = load(folder)
    assert found.tokenizer is not None and found.tokenizer.largest_id == size
    with pytest.raises(ArgumentError, match="does not know"):
        generation(found, "<pad>", max_tokens=1)
    words, _ = read_vocabulary(found, 0)
    assert len(words) == size
    tokenizer_of_size(folder, size + 1, [])
    with pytest.raises(ArgumentError, match="does not match"):
        load(folder)


def test_half_a_character_is_named(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    tokenizer_of_size(folder, load(folder).lm.vocab_size, [])
    with pytest.raises(ArgumentError, match="half a character"):
        generation(load(folder), "a\ud800", max_tokens=1)


@pytest.mark.parametrize("shard", ["../other.safetensors", "/etc/passwd", "sub/model.safetensors", "..", 3, None])
def test_an_index_that_leaves_its_directory_opens_nothing(
    tmp_path: Path, shard: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(tmp_path)
    shutil.copy(folder / "model.safetensors", tmp_path / "other.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))

    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("a file was opened")

    monkeypatch.setattr(loading, "safe_open", never)
    with pytest.raises(ArgumentError, match="outside of its directory|names no files"):
        load(folder)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "model.safetensors.index.json"])
def test_json_that_is_nested_too_deep_is_refused(tmp_path: Path, name: str) -> None:
    folder = copied(tmp_path)
    (folder / name).write_text('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(ArgumentError, match="cannot be read"):
        load(folder)


@pytest.mark.parametrize("value", [2**40, -1, 0, "many", 2.5, True, [1]])
@pytest.mark.parametrize("name", ["vocab_size", "hidden_size", "num_hidden_layers"])
def test_a_size_is_a_number_that_can_be(tmp_path: Path, name: str, value: object) -> None:
    folder = copied(tmp_path)
    edit(folder / "config.json", **{name: value})
    with pytest.raises(ArgumentError, match="config.json|wrong shape"):
        load(folder)
