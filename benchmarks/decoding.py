"""Ways to draw text at equal numbers of network evaluations: how far their law is from the target, how much log Z_hat varies.

A table model of five tokens and texts of six, where everything can be summed; the story model for codes. Of each way there are
many runs of 64 texts: `tv` is the total variation between the target and the mean of the runs' weighted samples, `error` the
standard deviation of Z_hat over Z, `distinct` how many different texts a run holds. What the runs' own number leaves of `tv` by
chance is shown for exact draws. Ratios are of variances.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import parse_quick, print_json
from smcinfer import language
from smcinfer.language import Generation, exact, filters
from smcinfer.models import stories
from smcinfer.run.runner import run

NUM_TEXTS, POWER = 64, 4.0
SETTINGS: dict[str, Any] = {"max_tokens": 6, "eos_id": 0}


def rising(state: language.TokenState) -> jax.Array:
    """A nat for each step up, less one for each step down: a potential of the whole text, nats."""
    steps = jnp.sign(jnp.diff(state.tokens))
    return jnp.sum(jnp.where(jnp.arange(1, state.tokens.shape[0]) < state.length, steps, 0)).astype(float)


def paid_early(t: jax.Array, state: language.TokenState) -> jax.Array:
    """The same, each step paid at once."""
    before = state.tokens[jnp.maximum(t - 2, 0)]
    return jnp.where(t > 1, jnp.sign(state.last_token - before), 0).astype(float)


def law_of(model: Any, texts: np.ndarray, num_runs: int, **options: Any) -> tuple[np.ndarray, np.ndarray, float]:
    """The mean of the runs' weighted samples over all texts, log Z_hat of each run, and distinct texts a run."""
    done = run(jax.random.key(0), model, NUM_TEXTS, num_runs=num_runs, history="none", **options)
    tokens = np.asarray(jax.vmap(model.exported)(done.particles)["tokens"])
    weights = np.exp(np.asarray(done.log_weights, np.float64))
    place = {tuple(row): at for at, row in enumerate(texts.tolist())}
    at = np.array([[place[tuple(text)] for text in one] for one in tokens.tolist()])
    law = np.bincount(at.ravel(), weights.ravel() / num_runs, minlength=len(texts))
    return law, np.asarray(done.log_z, np.float64), float(np.mean([len(set(one)) for one in at.tolist()]))


def table(name: str, ways: dict[str, tuple[Any, dict[str, Any]]], target: Generation, num_runs: int) -> dict[str, Any]:
    """Each way beside the truth by enumeration."""
    every = exact.enumerated(target)
    texts, joint = np.asarray(every.strings), np.asarray(every.log_joint, np.float64)
    truth = np.exp(joint - np.logaddexp.reduce(joint))
    found: dict[str, Any] = {}
    for way, (model, options) in ways.items():
        law, log_z, distinct = law_of(model, texts, num_runs, **options)
        ratio = np.exp(log_z - every.log_z)
        found[way] = {"tv": float(0.5 * abs(law - truth).sum()), "error": float(ratio.std()), "distinct": distinct}
        print(f"{name:8s} {way:22s} tv {found[way]['tv']:.3f}   error {ratio.std():6.3f}   distinct {distinct:5.1f}")
    drawn = np.random.default_rng(0).multinomial(NUM_TEXTS * num_runs, truth) / (NUM_TEXTS * num_runs)
    print(f"{name:8s} {'exact draws':22s} tv {0.5 * abs(drawn - truth).sum():.3f}")
    return found


def codes_on_stories(num_runs: int) -> float:
    """Variance of how often each token comes at each place, by codes over by chance: the mean of both over places."""
    target = language.generation(stories.load(), "Once upon a time", max_tokens=12, eos_id=None)
    done = run(
        jax.random.key(1), language.coded(target), NUM_TEXTS, num_runs=num_runs, history="none", resample_below=0.0
    )
    tokens = np.asarray(done.particles.inner.state.tokens)
    ours, chance = [], []
    for place in range(tokens.shape[-1]):
        counts = np.stack([np.bincount(one[:, place], minlength=1024) for one in tokens]) / NUM_TEXTS
        p = counts.mean(axis=0)
        ours.append(counts.var(axis=0, ddof=1).sum())
        chance.append((p * (1 - p)).sum() / NUM_TEXTS)
    print("codes on stories, variance over that of chance by place:", np.round(np.array(ours) / np.array(chance), 2))
    return float(np.sum(ours) / np.sum(chance))


def main() -> None:
    """Print the figures; the last line is JSON."""
    num_runs = 500 if parse_quick(__doc__ or "") else 3000
    lm = language.table_lm(jax.random.key(7), 5, 2, 1.2)

    def of(potential: Any = None, **options: Any) -> Generation:
        return language.generation(lm, [3, 1], potential, **(SETTINGS | options))

    asked = of(language.terminal(rising))
    never = {"resample_below": 0.0}
    plain = table(
        "asked",
        {
            "model, weighted": (asked, never),
            "SMC, paid early": (of(paid_early), {}),
            "codes": (language.coded(asked), never),
            "stochastic beams": (language.beams(asked), never),
            "beam search": (language.beams(asked, noise=False), never),
            "top_k=3, a tenth model": (
                of(language.terminal(rising), proposal=language.filtered(filters.TopK(3), model_share=0.1)),
                never,
            ),
        },
        asked,
        num_runs,
    )
    powered = table(
        "power 4",
        {"temperature 1/4": (of(temperature=1.0 / POWER), never), "power=4": (of(power=POWER), {})},
        of(power=POWER),
        num_runs,
    )
    distorted = {
        rule: exact.distortion(of(proposal=language.filtered(filters.by_name(rule))))._asdict()
        for rule in (
            "top_k=3",
            "nucleus=0.9",
            "min_p=0.2",
            "top_n_sigma=1",
            "top_h=0.8",
            "tail_free=0.9",
            "epsilon=0.1",
        )
    }
    for rule, one in distorted.items():
        print(f"{rule:16s} mass {np.exp(one['log_mass']):.3f}   kl {one['kl']:.4f}   tv {one['tv']:.4f}")
    print_json(
        {
            "arithmetic_variance_ratio": codes_on_stories(40 if num_runs == 500 else 400),
            "power_tv_over_temperature": powered["power=4"]["tv"] / powered["temperature 1/4"]["tv"],
            "beams_estimator_variance_ratio": (plain["stochastic beams"]["error"] / plain["model, weighted"]["error"])
            ** 2,
            "codes_estimator_variance_ratio": (plain["codes"]["error"] / plain["model, weighted"]["error"]) ** 2,
            "asked": plain,
            "power": powered,
            "distortion": distorted,
        }
    )


if __name__ == "__main__":
    main()
