"""Learned twists: objectives against enumeration, closed forms against Kalman, weights proper whatever was learned."""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.stats import spearmanr

import smcinfer
from smcinfer import proposals, twists
from smcinfer.core.compose import Composed, Guided
from smcinfer.core.conditional import condition
from smcinfer.ground.errors import ArgumentError, CheckpointError, TargetError
from smcinfer.language import LanguageProcess, LlamaConfig, generation, random_llama, terminal
from smcinfer.language.infilling import infilling, infilling_head
from smcinfer.models import finite_hmm, linear_gaussian, stories
from smcinfer.proposals.infilling_stories import PROMPT as PROMPT_TEXT
from smcinfer.run.runner import run
from smcinfer.twists.gap import bounds_over, log_z_runs
from smcinfer.twists.gaussian import Gaussian, tilt
from smcinfer.twists.objectives import ContrastiveTwist, Objective, SubTrajectoryBalance
from smcinfer.twists.paths import replay, watch
from smcinfer.twists.symbols import Context, SymbolInduced
from tests.exact_language import (
    EOS,
    LENGTH,
    PROMPT,
    VOCAB,
    Strings,
    small_lm,
    stepwise_score,
    string_score,
    strings,
)
from tests.statistics import assert_mean, assert_mean_one_log

DIM = (VOCAB + 1) ** 2
BOUNDED_BY = 1.1
"""The largest reward of one pair, nats: less of it makes potentials probabilities."""


def language_model(shift: float = 0.0) -> Composed:
    """Strings rewarded pair by pair, so that the exact value depends on no more than a head can see."""
    return generation(
        small_lm(), PROMPT, lambda t, state: stepwise_score(t, state) - shift, max_tokens=LENGTH, eos_id=EOS
    )


def exact_values(exact: Strings) -> list[np.ndarray]:
    """log chi* of every string's prefixes, t = 1 .. T: what is to come, less what was paid before t."""
    paid = [
        np.array([string_score(tuple(row[: t - 1])) for row in exact.strings.tolist()]) for t in range(1, LENGTH + 1)
    ]
    tables = exact.exact_twist()
    return [tables[t][tuple(exact.strings[:, :t].T)] - paid[t - 1] for t in range(1, LENGTH + 1)]


def orderings(model: Composed, twist: twists.LearnedTwist, exact: Strings, *, of_proposal: bool) -> np.ndarray:
    """Rank correlation of log chi_t (or of log q_t / p_0) with the exact one over all prefixes, for each t."""
    paths = replay(model, twist, jnp.asarray(exact.strings, jnp.int32))
    values, means = eqx.filter_jit(lambda paths, twist: (paths.values(twist), paths.means(twist)))(paths, twist)
    star = exact_values(exact)
    tables, found = exact.exact_twist(), []
    for t in range(1, LENGTH + 1):
        before = exact.strings[:, : t - 1]
        alive = ~np.any(before == EOS, axis=1)
        first = np.unique(exact.strings[:, :t], axis=0, return_index=True)[1]
        rows = first[alive[first]]
        learned, wanted = np.asarray(values)[t - 1], star[t - 1]
        if of_proposal:
            past = np.array([string_score(tuple(row[: t - 1])) for row in exact.strings.tolist()])
            learned = learned - np.asarray(means)[t - 1]
            wanted = wanted - (tables[t - 1][tuple(before.T)] - past)
        found.append(spearmanr(learned[rows], wanted[rows])[0])
    return np.array(found)


class Flipped(Objective):
    """Contrastive learning the wrong way round."""

    def __call__(self, twist, sample):  # noqa: ANN001, ANN204
        """Minus the loss."""
        return -ContrastiveTwist()(twist, sample)


@pytest.mark.slow
@pytest.mark.parametrize(
    "objective",
    [
        "ctl",
        "rl",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("dpg", "nasmc", "sixo", "fudge", "pcl", "subtb", "stopping")
        ),
    ],
)
def test_every_objective_finds_the_ordering_of_the_exact_twist(objective: str) -> None:
    """Against the sum over all strings; objectives that see the proposal alone are held to the proposal's."""
    bounded = objective == "fudge"
    shift = BOUNDED_BY if bounded else 0.0
    # What is taken off is paid at every step of a string: longer ones pay more of it.
    exact = strings(lambda string: string_score(string) - shift * len(string))
    model = language_model(shift)
    twist = twists.network_head(
        jax.random.key(0), DIM, VOCAB, width=32, num_steps=LENGTH, bounded=bounded, level=-3.0 if bounded else 0.0
    )
    done = twists.learn(
        jax.random.key(1),
        model,
        SubTrajectoryBalance(stop=EOS) if objective == "stopping" else objective,
        twist=twist,
        # A probability of a few in a thousand takes many draws to see.
        num_particles=1024 if bounded else 64,
        num_steps=300,
        learning_rate=0.02,
        exact_draw=exact.draw if objective in ("dpg", "sixo") else None,
        validate=False,
        check_every=300,
    )
    of_proposal = objective in ("dpg", "nasmc", "stopping")
    assert orderings(model, done.twist, exact, of_proposal=of_proposal).min() > 0.8


@pytest.mark.slow
def test_a_calibrated_head_narrows_the_spread_of_log_z() -> None:
    """A temperature and one shift a token, learned for one prompt: less than two thirds of the spread, the same mean of Z."""
    model, exact = language_model(), strings()
    head = twists.calibrated_head(VOCAB)
    done = twists.learn(
        jax.random.key(1),
        model,
        "dpg",
        twist=head,
        num_steps=150,
        learning_rate=0.03,
        exact_draw=exact.draw,
        validate=False,
        check_every=150,
    )
    plain, twisted = (
        log_z_runs(jax.random.key(2), twists.attach(model, one), 8, 512, 0.0) for one in (None, done.twist)
    )
    assert twisted.std() < 0.66 * plain.std()
    assert_mean_one_log(twisted, exact.log_z)


@pytest.mark.slow
def test_a_loss_of_the_wrong_sign_finds_the_opposite_ordering() -> None:
    """The test above can fail."""
    model, exact = language_model(), strings()
    twist = twists.network_head(jax.random.key(0), DIM, VOCAB, width=32, num_steps=LENGTH)
    done = twists.learn(
        jax.random.key(1),
        model,
        Flipped(),
        twist=twist,
        num_steps=40,
        learning_rate=0.01,
        validate=False,
        check_every=40,
    )
    assert orderings(model, done.twist, exact, of_proposal=False).max() < 0.0


def hmm_with_table() -> tuple[Composed, float, twists.TableTwist]:
    """A chain, its exact log likelihood, and a twist that is wrong in every entry."""
    hmm = finite_hmm.example()
    _, y = hmm.simulate(jax.random.key(0), 5)
    table = twists.TableTwist(jax.random.normal(jax.random.key(2), (6, 3), jnp.result_type(float)))
    return hmm.state_space(y, "bootstrap"), hmm.posterior(y).log_z, table


class Unweighted(SymbolInduced):
    """The induced proposal with its weight forgotten."""

    def propose(self, key, t, states, size):  # noqa: ANN001, ANN201
        """Draws as if they came from the base law."""
        x, log_w = super().propose(key, t, states, size)
        return x, jnp.zeros_like(log_w)


@pytest.mark.slow
def test_a_wrong_table_keeps_the_evidence_unbiased(precision: str) -> None:
    """E[Z_hat / Z] = 1, and through exact paths E[Z / Z_hat] = 1; a forgotten weight is seen."""
    model, log_z, table = hmm_with_table()
    twisted = twists.attach(model, table)
    assert_mean_one_log(run(jax.random.key(3), twisted, 5, num_runs=2000).log_z, log_z)
    faulty = eqx.tree_at(lambda tree: tree.proposal, twisted, Unweighted(model.process, twisted.proposal.twist))
    with pytest.raises(AssertionError):
        assert_mean_one_log(run(jax.random.key(3), faulty, 5, num_runs=2000).log_z, log_z)
    if precision == "float64":
        hmm = finite_hmm.example()
        path = condition(twisted, hmm.path_sampler(hmm.simulate(jax.random.key(0), 5)[1]))
        assert_mean_one_log(-run(jax.random.key(4), path, 5, num_runs=2000, resampling="multinomial").log_z, -log_z)


@pytest.mark.slow
def test_the_exact_table_has_no_variance(x64: None) -> None:
    """log chi* = log phi_t + log P(y_{t+1:T} | x_t), from the first draw on."""
    hmm = finite_hmm.example()
    _, y = hmm.simulate(jax.random.key(0), 5)
    exact = hmm.twist(y)
    model = twists.attach(hmm.state_space(y, "bootstrap"), twists.TableTwist(exact.log_emission + exact.log_backward))
    log_z = run(jax.random.key(3), model, 4, num_runs=20).log_z
    np.testing.assert_allclose(log_z, hmm.posterior(y).log_z, rtol=1e-10)


def test_a_quadratic_tilts_a_normal_law_as_quadrature_says(x64: None) -> None:
    """The closed form against a sum over a fine grid."""
    keys = jax.random.split(jax.random.key(0), 4)
    root = jnp.array([[0.8, 0.0], [0.3, 0.5]])
    law = Gaussian(jax.random.normal(keys[0], (2,)), root)
    factor, shift = jax.random.normal(keys[1], (2, 2)), jax.random.normal(keys[2], (2,))
    tilted, log_mean = tilt(law, factor, shift, jnp.asarray(0.7))
    axis = np.linspace(-8, 8, 401)
    noise = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    points = np.asarray(law.mean) + noise @ np.asarray(root).T
    log_p = -0.5 * (noise**2).sum(1) - np.log(2 * np.pi) + 2 * np.log(axis[1] - axis[0])
    log_p = log_p + 0.7 + points @ np.asarray(shift) - 0.5 * ((points @ np.asarray(factor)) ** 2).sum(1)
    weights = np.exp(log_p - np.logaddexp.reduce(log_p))
    np.testing.assert_allclose(log_mean, np.logaddexp.reduce(log_p), atol=1e-9)
    np.testing.assert_allclose(tilted.mean, weights @ points, atol=1e-9)
    centred = points - weights @ points
    np.testing.assert_allclose(tilted.root @ tilted.root.T, (weights[:, None] * centred).T @ centred, atol=1e-9)


def kalman_model(num_steps: int = 8) -> tuple[linear_gaussian.LinearGaussian, jax.Array, Composed]:
    """Two dimensions, data of its own, the bootstrap filter."""
    exact = linear_gaussian.example()
    _, y = exact.simulate(jax.random.key(0), num_steps)
    return exact, y, exact.state_space(y, "bootstrap")


@pytest.mark.slow
def test_controlled_regressions_find_the_kalman_twist(x64: None) -> None:
    """Two rounds are exact: no variance of log Z, the curvature of the information filter, divergences of zero."""
    exact, y, model = kalman_model()
    done = twists.learn(jax.random.key(1), model, "controlled", num_particles=64, num_steps=3)
    better = done.attach(model)
    log_z = run(jax.random.key(3), better, 8, num_runs=20).log_z
    np.testing.assert_allclose(log_z, exact.posterior(y).log_z, atol=1e-4)
    wanted = exact.state_space(y, "twisted").twist
    points = jax.random.normal(jax.random.key(4), (5, 2))
    for t in (0, 4):
        ours, theirs = (jax.vmap(lambda x, f=f, t=t: f(jnp.asarray(t), x))(points) for f in (better.twist, wanted))
        np.testing.assert_allclose(ours, theirs, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["quadratic", pytest.param("network", marks=pytest.mark.slow)])
def test_gaussian_twists_that_are_wrong_stay_proper(kind: str) -> None:
    """A random quadratic, a random network: E[Z_hat / Z] = 1 and, through exact paths, E[Z / Z_hat] = 1."""
    exact, y, model = kalman_model(4)
    log_z = exact.posterior(y).log_z
    flat = twists.QuadraticTwist.flat(jnp.zeros((5, 2)), jnp.ones((5, 2)), jnp.zeros(5))
    noise = jax.random.split(jax.random.key(5), 3)
    bent = eqx.tree_at(
        lambda tree: (tree.factor, tree.shift),
        flat,
        (0.7 * jax.random.normal(noise[0], (5, 2, 2)), 0.5 * jax.random.normal(noise[1], (5, 2))),
    )
    net = twists.network_twist(noise[2], twists.upcoming(y, 2), flat.centre, flat.scale, width=4, depth=1, num_nodes=5)
    net = eqx.tree_at(lambda tree: tree.network.layers[-1].weight, net, 0.5 * jnp.ones((1, 4)))
    twisted = twists.attach(model, bent if kind == "quadratic" else net)
    assert_mean_one_log(run(jax.random.key(6), twisted, 32, num_runs=500).log_z, log_z)
    path = condition(twisted, exact.path_sampler(y))
    assert_mean_one_log(-run(jax.random.key(7), path, 32, num_runs=500, resampling="multinomial").log_z, -log_z)


@pytest.mark.slow
def test_a_network_that_is_a_quadratic_agrees_with_the_closed_form(x64: None) -> None:
    """Quadrature and moments against the tilted normal law; the proposal is only a little wider."""
    centre, scale = jnp.zeros((3, 1)), jnp.ones((3, 1))
    net = twists.network_twist(jax.random.key(0), jnp.zeros((3, 1)), centre, scale, depth=0, num_nodes=25)
    layer = net.network.layers[0]
    layer = eqx.tree_at(lambda tree: (tree.weight, tree.bias), layer, (jnp.array([[0.6, -0.4, 0.0, 0.0]]), jnp.ones(1)))
    net = eqx.tree_at(lambda tree: tree.network.layers[0], net, layer)
    law = Gaussian(jnp.array([0.5]), jnp.array([[1.3]]))
    tilted, log_mean = tilt(law, jnp.sqrt(jnp.array([[0.8]])), jnp.array([0.6]), jnp.asarray(1.0))
    t = jnp.asarray(1)
    np.testing.assert_allclose(net.log_mean(t, law), log_mean, atol=1e-8)
    np.testing.assert_allclose(net.law(t, law).mean, tilted.mean, atol=1e-8)
    np.testing.assert_allclose(net.law(t, law).root ** 2, 1.05 * tilted.root**2 + 1e-3 * 1.3**2, rtol=1e-6)


def family(num_given: int = 2) -> twists.Family:
    """Infilling of two tokens on the table model."""
    return infilling(small_lm(), jnp.asarray(PROMPT), num_tokens=3, num_given=num_given)


@pytest.mark.slow
def test_infilling_weighs_the_whole_string_and_reads_paths_at_once() -> None:
    """p0(s) p0(o | s) is the model's probability of both; what is read at once is what is read step by step."""
    many = family()
    context, path = many.simulate(jax.random.key(1))
    model = many.build(context)
    head = twists.network_head(jax.random.key(0), DIM, VOCAB, width=8, num_steps=3, context_size=2).given(context)
    read = small_lm().forward(jnp.concatenate([jnp.asarray(PROMPT), path, context])).logits[1:-1]
    log_p = jnp.take_along_axis(jax.nn.log_softmax(read), jnp.concatenate([path, context])[:, None], axis=1)
    process = model.process
    plain = LanguageProcess(process.lm, process.prompt, process.first, process.prefix, process.rules)
    at_once, stepwise = (
        replay(eqx.tree_at(lambda tree: tree.process, model, way), head, path[None]) for way in (process, plain)
    )
    total = stepwise.log_potential.sum() + sum(
        jax.nn.log_softmax(seen)[token] for seen, token in zip(stepwise.before.log_base[:, 0], path, strict=True)
    )
    np.testing.assert_allclose(total, log_p.sum(), rtol=1e-5)
    for one, other in zip(
        jax.tree.leaves((at_once.before, at_once.after)),
        jax.tree.leaves((stepwise.before, stepwise.after)),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.slow
def test_an_infilling_head_starts_as_the_bigram_law_at_the_seam_and_flat_before() -> None:
    """log p0 of the first given token after each last free one, by the model itself."""
    config = LlamaConfig(11, 8, 8, 1, 2, 2, 4, 16, (None,), tied=True)
    lm, prompt, given = random_llama(0, config, scale=0.5), jnp.array([1, 4]), jnp.array([3, 9])
    head = infilling_head(jax.random.key(0), lm, prompt, num_tokens=3, num_given=2, width=8, level=-2.0).given(given)
    seen = Context(jnp.full((11,), -jnp.log(11.0)), jnp.ones((8,)), jnp.zeros((), bool))
    whole = jnp.stack([jnp.array([1, 4, v]) for v in range(11)])
    law = jax.nn.log_softmax(jax.vmap(lm.forward)(whole).logits[:, -1])
    assert float(law[:, 3].std()) > 0.1
    np.testing.assert_allclose(head.log_values(jnp.asarray(3), seen), law[:, 3] - 2.0, atol=1e-5)
    for t in (1, 2):
        np.testing.assert_allclose(head.log_values(jnp.asarray(t), seen), -2.0, atol=1e-6)
    with pytest.raises(ArgumentError, match="output is not its embedding"):
        infilling_head(jax.random.key(0), small_lm(), jnp.asarray(PROMPT), num_tokens=3, num_given=2)
    with pytest.raises(ArgumentError, match="no such infilling"):
        infilling_head(jax.random.key(0), lm, prompt, num_tokens=3, num_given=0)


@pytest.mark.slow
def test_a_twist_of_a_family_narrows_the_bounds_and_serves_generation() -> None:
    """Learned over all continuations; then put on a generation with one of them, whose log Z is known by enumeration."""
    many = family().stored(jax.random.key(2), 512)
    head = twists.network_head(jax.random.key(0), DIM, VOCAB, width=32, num_steps=3, context_size=2, level=-3.0)
    done = twists.learn(
        jax.random.key(1),
        many,
        "rl",
        twist=head,
        num_particles=8,
        num_steps=200,
        learning_rate=0.01,
        validation_particles=4,
        validation_runs=128,
        check_every=200,
    )
    lower, upper = bounds_over(jax.random.key(9), family(), None, 4, 128)
    assert done.checks[-1] < 0.6 * float(jnp.mean(upper - lower))
    context = jnp.array([2, 4])
    single = generation(small_lm(), PROMPT, max_tokens=3, continuation=context, eos_id=None)
    twisted = twists.attach(single, done.twist.given(context))
    rows = jnp.stack(jnp.meshgrid(*[jnp.arange(VOCAB)] * 3), axis=-1).reshape(-1, 3)

    def log_p(row: jax.Array) -> jax.Array:
        whole = jnp.concatenate([row, context])
        logits = small_lm().forward(jnp.concatenate([jnp.asarray(PROMPT), whole])).logits[1:-1]
        return jnp.sum(jnp.take_along_axis(jax.nn.log_softmax(logits), whole[:, None], axis=1))

    log_z = jax.nn.logsumexp(jax.vmap(log_p)(rows))
    assert_mean_one_log(run(jax.random.key(4), twisted, 4, num_runs=1000).log_z, log_z)


@pytest.mark.slow
def test_lines_are_the_ancestry_and_weigh_for_the_target(x64: None) -> None:
    """Along a line what was seen after a step is what is seen before the next; weighted, the lines have the target's mean."""
    hmm = finite_hmm.example()
    _, y = hmm.simulate(jax.random.key(0), 5)
    model = hmm.state_space(y, "bootstrap")
    flat = twists.TableTwist(jnp.zeros((6, 3)))
    smoothed = hmm.posterior(y).smoothed

    def one(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        cloud = watch(key, model, flat, 20)
        lines = cloud.lines()
        share = jnp.einsum("sk,skv->sv", jnp.exp(lines.log_weights), jax.nn.one_hot(lines.x, 3))
        return jnp.max(jnp.abs(lines.after[:-1] - lines.before[1:])), jnp.sum(cloud.log_z_increments), share

    apart, log_z, share = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), 2000))
    assert float(jnp.max(apart)) == 0.0
    ratios = np.exp(np.asarray(log_z) - hmm.posterior(y).log_z)
    assert_mean(ratios[:, None, None] * np.asarray(share), smoothed)


def rare(state) -> jax.Array:  # noqa: ANN001
    """The string must end in token 4, or weigh almost nothing."""
    return jnp.where(state.tokens[-1] == 4, 0.0, -3.0)


def fixed_length(potential) -> Composed:  # noqa: ANN001
    """Strings that all have the same length."""
    return generation(small_lm(), PROMPT, potential, max_tokens=LENGTH, eos_id=None)


@pytest.mark.slow
def test_rollouts_stay_proper_and_need_their_floor() -> None:
    """E[Z_hat / Z] = 1 for a twist by walks; without a floor states whose walks all failed are lost."""
    never = lambda state: jnp.where(state.tokens[-1] == 4, 0.0, -jnp.inf)  # noqa: E731
    exact = strings(lambda string: 0.0 if string[-1] == 4 else -np.inf, eos=None)
    model = fixed_length(terminal(never))
    options = {"num_walks": 2, "length": 2}
    for floor, fails in ((-4.0, False), (-np.inf, True)):
        twisted = model.with_twist(twists.rollouts(jax.random.key(0), model, log_floor=floor, **options))
        log_z = run(jax.random.key(1), twisted, 8, num_runs=1000).log_z
        if fails:
            with pytest.raises(AssertionError):
                assert_mean_one_log(log_z, exact.log_z)
        else:
            assert_mean_one_log(log_z, exact.log_z)


@pytest.mark.slow
def test_a_probe_on_frozen_features_lowers_the_variance() -> None:
    """A logistic regression on 200 exact draws: log Z_hat varies less, and is unbiased still."""
    exact = strings(lambda string: 0.0 if string[-1] == 4 else -3.0, eos=None)
    model = fixed_length(terminal(rare))
    twist = twists.probe(jax.random.key(0), model, lambda state: state.hidden, exact.draw, num_draws=200)
    plain, probed = (
        np.asarray(run(jax.random.key(1), each, 16, num_runs=4000, resample_below=1.0).log_z)
        for each in (model, model.with_twist(twist))
    )
    assert_mean_one_log(probed, exact.log_z)
    assert probed.std() < 0.97 * plain.std()


def test_a_twist_is_saved_with_the_mark_of_its_base(tmp_path: Path) -> None:
    """Back from disk bit for bit; refused on another base, for another kind, another size, or damaged."""
    file, lm = tmp_path / "weights.safetensors", small_lm()
    head = twists.network_head(jax.random.key(0), DIM, VOCAB, width=4, num_steps=3)
    twists.save(file, head, lm, {"seed": 0})
    back = twists.load(file, lm, twists.network_head(jax.random.key(1), DIM, VOCAB, width=4, num_steps=3))
    assert all(jnp.array_equal(a, b) for a, b in zip(jax.tree.leaves(head), jax.tree.leaves(back), strict=True))
    other = eqx.tree_at(lambda tree: tree.table, lm, lm.table + 1.0)
    for base, like in (
        (other, head),
        (lm, twists.linear_head(DIM, VOCAB)),
        (lm, twists.network_head(jax.random.key(0), DIM, VOCAB, width=5)),
    ):
        with pytest.raises(CheckpointError):
            twists.load(file, base, like)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError):
        twists.load(file, lm, head)


@pytest.mark.slow
def test_the_library_entry_serves_its_model_and_no_other() -> None:
    """The infilling twist of the stories model goes onto a generation; on another model it is refused."""
    pretrained = stories.load()
    twist = proposals.load("infilling_stories", lm=pretrained.lm)
    ending = pretrained.tokenizer.encode_continuation(PROMPT_TEXT, " little girl who had a red ball and a blue hat.")[
        :10
    ]
    target = generation(pretrained, PROMPT_TEXT, max_tokens=15, continuation=ending, eos_id=None)
    assert twists.attach(target, twist.given(ending)).num_steps == 25
    with pytest.raises(CheckpointError, match="another model"):
        proposals.load("infilling_stories", lm=eqx.tree_at(lambda lm: lm.norm, pretrained.lm, 2.0 * pretrained.lm.norm))


@pytest.mark.slow
def test_the_library_entry_weighs_in_both_precisions(precision: str) -> None:
    """Kept in one, loaded in the current one, and run on a model of single precision in either."""
    twist = proposals.load("infilling_stories")
    assert twist.readout.dtype == jnp.dtype(precision)
    pretrained = stories.load()
    ending = pretrained.tokenizer.encode_continuation(PROMPT_TEXT, " little girl who had a red ball and a blue hat.")
    target = generation(pretrained, PROMPT_TEXT, max_tokens=15, continuation=ending[:10], eos_id=None)
    twisted = twists.attach(target, twist.given(ending[:10]))
    assert np.isfinite(run(jax.random.key(0), twisted, 8, num_runs=1, resample_below=0.0).log_z).all()


@pytest.mark.slow
def test_learning_resumes_from_its_checkpoint(tmp_path: Path) -> None:
    """A second call finds the work done, and another training is refused."""
    model, _, table = hmm_with_table()
    options = {"twist": table, "num_particles": 8, "num_steps": 4, "check_every": 2, "checkpoint": tmp_path / "twist"}
    first, second = (twists.learn(jax.random.key(1), model, "ctl", validation_runs=4, **options) for _ in range(2))
    assert jnp.array_equal(first.twist.table, second.twist.table)
    assert "ctl" in str(first) and len(second.losses) == 4
    with pytest.raises(CheckpointError):
        twists.learn(jax.random.key(2), model, "ctl", validate=False, **options)


@pytest.mark.slow
def test_what_cannot_be_learned_is_refused_before_any_work() -> None:
    """Errors that name the fault."""
    key, model = jax.random.key(0), language_model()
    head = twists.linear_head(DIM, VOCAB)
    with pytest.raises(ArgumentError, match="unknown objective"):
        twists.learn(key, model, "likelihood", twist=head)
    with pytest.raises(ArgumentError, match="nothing that a twist can be learned for"):
        twists.learn(key, lambda x: x, twist=head)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentError, match="not bounded"):
        twists.learn(key, model, "fudge", twist=head)
    with pytest.raises(TargetError, match="exceeds one"):
        twists.learn(key, model, "fudge", twist=twists.linear_head(DIM, VOCAB, bounded=True))
    with pytest.raises(TargetError, match="not Gaussian"):
        twists.learn(key, hmm_with_table()[0], "ctl")
    with pytest.raises(ArgumentError, match="num_steps"):
        twists.learn(key, model, "ctl", twist=head, num_steps=0)
    with pytest.raises(ArgumentError, match="quadratic twists of one target"):
        twists.learn(key, model, "controlled", twist=head)
    with pytest.raises(ArgumentError, match="start from"):
        twists.learn(key, family(), "ctl")
    with pytest.raises(ArgumentError, match="its own exact draws"):
        twists.learn(key, family(), "ctl", twist=head, exact_draw=lambda key: key)
    with pytest.raises(TargetError, match="takes no context"):
        head.given(jnp.zeros(2, jnp.int32))
    with pytest.raises(TargetError, match="wrong size"):
        twists.network_head(key, DIM, VOCAB, context_size=2).given(jnp.zeros(3, jnp.int32))
    with pytest.raises(TargetError, match="given"):
        twists.attach(model, twists.network_head(key, DIM, VOCAB, context_size=2))
    with pytest.raises(TargetError, match="features of a state"):
        watch(key, hmm_with_table()[0], head, 4)
    with pytest.raises(TargetError, match="wrong length"):
        twists.Family(lambda key: (jnp.zeros(2), jnp.zeros(3)), lambda context: language_model())
    with pytest.raises(ArgumentError, match="composed model"):
        twists.attach(smcinfer.posterior(prior=dist.Normal(0, 1), log_likelihood=lambda x: x), head)  # pyright: ignore
    with pytest.raises(ArgumentError, match="infilling"):
        infilling(small_lm(), jnp.asarray(PROMPT), num_tokens=0, num_given=1)
    with pytest.raises(ArgumentError, match="no walks"):
        twists.rollouts(key, model, num_walks=0)
    assert isinstance(twists.attach(kalman_model(2)[2], None).proposal, smcinfer.Bootstrap | Guided)
