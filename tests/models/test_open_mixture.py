"""The open-universe mixture and its learned proposal: exact densities, exact starts, Geweke, evidence, faults."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from jax.scipy.special import gammaln

import smcinfer
from smcinfer import proposals
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.models import open_mixture as om
from smcinfer.models.open_mixture import split_merge
from smcinfer.paths import Exponents
from smcinfer.proposals.mixture_pair import LearnedPairs, pair_network
from smcinfer.proposals.mixture_pair import move as pair_move
from smcinfer.proposals.mixture_pair import network as pair_law
from tests.statistics import assert_chi2, assert_ks, assert_mean, assert_mean_one_log

DATA = np.array([[-0.9, 0.3], [-0.4, 0.1], [0.8, -0.2], [1.1, 0.6]])
CHAINS, STEPS = 4000, 5
MOVES: dict[str, Callable[[], om.Move]] = {
    "gibbs": om.Gibbs,
    "split_merge": lambda: om.SplitMerge(2),
    "learned": lambda: LearnedPairs(pair_network(jax.random.key(0))),
}


def small(num_slots: int = 3) -> om.OpenMixture:
    return om.open_mixture(DATA, num_slots=num_slots, concentration=0.8, spread=1.5, noise=0.6)


@functools.cache
def exact(dtype: str) -> om.Enumeration:
    with jax.enable_x64(dtype == "float64"):
        return om.enumerate_labellings(small())


def partitions(labels: np.ndarray) -> np.ndarray:
    """A number for how labels part the data, whatever the slots are called."""
    same = labels[:, :, None] == labels[:, None, :]
    return same.reshape(len(labels), -1) @ (1 << np.arange(same[0].size, dtype=np.int64) % 62)


def after(move: om.Move, num_steps: int = STEPS) -> tuple[om.MixtureState, om.MixtureState]:
    """Exact draws, and the same chains some steps later."""
    truth = exact(str(jnp.result_type(float)))

    @eqx.filter_jit
    def run(move: om.Move, truth: om.Enumeration, key: Any) -> tuple[om.MixtureState, om.MixtureState]:
        def chain(key: Any) -> tuple[om.MixtureState, om.MixtureState]:
            start_key, run_key = jax.random.split(key)
            start = truth.draw(start_key)
            one = jnp.ones((), truth.model.data.dtype)
            body = lambda i, state: move(jax.random.fold_in(run_key, i), state, truth.model, one)[0]  # noqa: E731
            return start, jax.lax.fori_loop(0, num_steps, body, start)

        return jax.vmap(chain)(jax.random.split(key, CHAINS))

    return run(move, truth, jax.random.key(5))


def check_posterior(state: om.MixtureState) -> None:
    """The partition of the data, the number of active slots and the first datum's mean follow the exact posterior."""
    truth = exact(str(jnp.result_type(float)))
    names, place = np.unique(partitions(np.asarray(truth.labellings)), return_inverse=True)
    probabilities = np.bincount(place, np.exp(np.asarray(truth.log_weights, float)))
    seen = np.searchsorted(names, partitions(np.asarray(state.labels)))
    assert_chi2(np.bincount(seen, minlength=len(names)), probabilities)
    fresh = jax.jit(jax.vmap(truth.draw))(jax.random.split(jax.random.key(77), CHAINS))
    counts = [np.bincount(np.asarray(draws.active).sum(1), minlength=4)[1:] for draws in (state, fresh)]
    assert scipy.stats.chi2_contingency(counts).pvalue > 2e-5
    for own in (True, False):
        means = [
            np.asarray(draws.means)[np.arange(CHAINS), np.asarray(draws.labels)[:, 0] if own else 1, 0]
            for draws in (state, fresh)
        ]
        assert_ks(*means)


@pytest.mark.slow
def test_evidence_of_one_and_two_data_is_known(x64: None) -> None:
    model = small()
    cover = scipy.stats.multivariate_normal(np.zeros(2), (1.5**2 + 0.6**2) * np.eye(2))
    one = om.enumerate_labellings(model.with_data(model.data[:1]))
    np.testing.assert_allclose(one.log_z, cover.logpdf(DATA[0]), rtol=1e-4)
    shared = np.kron(np.eye(2) * 0.6**2 + 1.5**2, np.eye(2))
    together = scipy.stats.multivariate_normal(np.zeros(4), shared).logpdf(DATA[:2].ravel())
    same = np.mean([(0.8 + 1) / (0.8 * k + 1) for k in (1, 2, 3)])
    expected = np.logaddexp(np.log(same) + together, np.log1p(-same) + cover.logpdf(DATA[:2]).sum())
    two = om.enumerate_labellings(model.with_data(model.data[:2]))
    np.testing.assert_allclose(two.log_z, expected, rtol=1e-4)
    assert two.num_occupied().shape == (3,) and np.isclose(two.num_occupied().sum(), 1.0, atol=1e-4)


def test_joint_density_is_the_product_of_its_parts(x64: None) -> None:
    model = small()
    state = om.MixtureState(jnp.array([True, False, True]), jnp.asarray(DATA[:3]) * 1.3, jnp.array([0, 2, 2, 0]))
    log_labels = scipy.special.betaln(0.8 + 2, 0.8 + 2) - scipy.special.betaln(0.8, 0.8)
    log_means = scipy.stats.norm(0, 1.5).logpdf(np.asarray(state.means)).sum()
    log_data = scipy.stats.norm(np.asarray(state.means)[[0, 2, 2, 0]], 0.6).logpdf(DATA).sum()
    expected = -np.log(3) - np.log(3) + log_labels + log_means + log_data
    np.testing.assert_allclose(model.log_joint(state), expected, rtol=1e-10)
    impossible = eqx.tree_at(lambda state: state.active, state, jnp.array([True, True, False]))
    assert model.log_joint(impossible) == -jnp.inf


# Single sites are checked against the evidence below too.
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("gibbs", "split_merge")), "learned"]
)
def test_posterior_is_invariant(name: str) -> None:
    start, end = after(MOVES[name]())
    assert np.mean(np.asarray(start.labels) != np.asarray(end.labels)) > 0.05
    check_posterior(end)


@pytest.mark.slow
@pytest.mark.parametrize("name", MOVES)
def test_posterior_is_invariant_in_double(name: str, x64: None) -> None:
    check_posterior(after(MOVES[name]())[1])


def component_density(self: pair_law.PairLaw, values: jax.Array) -> jax.Array:
    return jnp.max(self.mixture.log_weights + self.mixture.component_log_probs(values), axis=-1)


def averaged_log(self: pair_law.PairLaw, values: jax.Array) -> jax.Array:
    return jnp.sum(jnp.exp(self.mixture.log_weights) * self.mixture.component_log_probs(values), axis=-1)


def one_naming(self: pair_law.PairLaw, values: jax.Array) -> jax.Array:
    return self.mixture.log_prob(values)


SLOW_FAULTS = [pytest.param(fault, marks=pytest.mark.slow, id=fault.__name__) for fault in (averaged_log, one_naming)]


@pytest.mark.slow
@pytest.mark.parametrize("fault", [pytest.param(component_density, id="component_density"), *SLOW_FAULTS])
def test_wrong_proposal_density_is_caught(fault: Callable[..., Any], mistaken: pytest.MonkeyPatch) -> None:
    mistaken.setattr(pair_law.PairLaw, "log_prob", fault)
    with pytest.raises(AssertionError):
        check_posterior(after(MOVES["learned"]())[1])


@pytest.mark.slow
def test_split_without_its_slots_is_caught(mistaken: pytest.MonkeyPatch) -> None:
    # An allocation walk that forgets its own probability proposes splits for nothing.
    walk = split_merge._allocate

    def forgetful(*args: Any) -> Any:
        return eqx.tree_at(lambda done: done.log_prob, walk(*args), jnp.zeros((), args[-2].data.dtype))

    mistaken.setattr(split_merge, "_allocate", forgetful)
    with pytest.raises(AssertionError):
        check_posterior(after(MOVES["split_merge"]())[1])


def touches_its_blanket(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: the slots outside a pair are counted with one of the pair's own."""
    accept = pair_move._accept

    def wrong(*args: Any) -> Any:
        *rest, active, model = args
        return accept(*rest, jnp.append(active, True), model)

    monkeypatch.setattr(pair_move, "_accept", wrong)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("gibbs", "split_merge", "control")), "learned"]
)
def test_geweke(name: str, mistaken: pytest.MonkeyPatch) -> None:
    """Data given the state, state given the data, over and over: both must stay what the prior says."""
    move = MOVES["learned" if name == "control" else name]()
    if name == "control":
        touches_its_blanket(mistaken)
    num_slots, num_data = 4, 6
    template = om.open_mixture(np.zeros((num_data, 2)), num_slots=num_slots, spread=1.5, noise=0.7)

    @eqx.filter_jit
    def run(move: om.Move, key: Any) -> tuple[om.MixtureState, Any]:
        def chain(key: Any) -> tuple[om.MixtureState, Any]:
            prior_key, run_key = jax.random.split(key)
            one = jnp.ones((), template.data.dtype)

            def step(i: Any, state: om.MixtureState) -> om.MixtureState:
                data_key, move_key = jax.random.split(jax.random.fold_in(run_key, i))
                model = template.with_data(template.draw_data(data_key, state))
                return move(move_key, state, model, one)[0]

            state = jax.lax.fori_loop(0, STEPS, step, template.draw_prior(prior_key))
            return state, template.draw_data(jax.random.fold_in(run_key, STEPS), state)

        return jax.vmap(chain)(jax.random.split(key, CHAINS))

    state, data = run(move, jax.random.key(11))

    def check() -> None:
        active, labels, means = (np.asarray(leaf) for leaf in (state.active, state.labels, state.means))
        assert_chi2(np.bincount(active.sum(1), minlength=num_slots + 1)[1:], np.ones(num_slots))
        # Two data share a component with probability (alpha + 1) / (K alpha + 1).
        expected = np.mean([2 / (k + 1) for k in range(1, num_slots + 1)])
        assert_mean(labels[:, 0] == labels[:, 5], expected, num_comparisons=2)
        assert_mean(means**2, 1.5**2)
        assert_mean(np.asarray(data) ** 2, 1.5**2 + 0.7**2)
        assert_mean(active, (num_slots + 1) / (2 * num_slots))

    if name == "control":
        with pytest.raises(AssertionError):
            check()
    else:
        check()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gibbs", pytest.param("all", marks=pytest.mark.slow)])
def test_evidence_over_all_numbers_of_components(name: str) -> None:
    move = om.Gibbs() if name == "gibbs" else om.InTurn(tuple(make() for make in MOVES.values()))
    schedule = Exponents(jnp.array([0.02, 0.1, 0.3, 0.6, 1.0]))
    model = om.annealed(small(), move, schedule, moves_per_step=1, led=False)
    result = smcinfer.sample(jax.random.key(3), model, num_particles=50, num_runs=100, progress=False)
    assert_mean_one_log(result.log_z_runs, exact("float32").log_z)


@pytest.mark.slow
def test_schedule_of_its_own_ends_at_the_posterior() -> None:
    model = om.annealed(small(), moves_per_step=2)
    result = smcinfer.sample(jax.random.key(4), model, num_particles=75, num_runs=16, progress=False)
    assert_mean_one_log(result.log_z_runs, exact("float32").log_z)
    assert result.status == 0


@pytest.mark.slow
def test_trained_proposal_beats_the_untrained_on_its_own_ground() -> None:
    from smcinfer.proposals.mixture_pair.instances import draw_instances, expected_acceptance, inclusive_kl

    drawn = eqx.filter_jit(draw_instances)(jax.random.key(8), 512, 32)
    trained, start = proposals.load("mixture_pair").network, pair_network(jax.random.key(0))
    score = eqx.filter_jit(lambda net: (inclusive_kl(net, drawn), expected_acceptance(jax.random.key(9), net, drawn)))
    (loss, acceptance), (loss_before, acceptance_before) = score(trained), score(start)
    assert loss < loss_before - 0.3 and acceptance > acceptance_before + 0.1


@pytest.mark.slow
def test_tempered_block_density_is_the_model_s(x64: None) -> None:
    """What the learned move weighs, against the joint density summed over labels, at an exponent below one."""
    from smcinfer.proposals.mixture_pair.anchors import Motif, frame, log_pair, log_single

    model, exponent = small(2), 0.4
    motif = Motif(model.concentration, model.spread, model.noise / exponent**0.5)
    owner = jnp.zeros((4,), jnp.int32)
    seen = frame(model.data, owner, 1, motif)
    gap = []
    for seed in range(3):
        a, b, logit = jax.random.normal(jax.random.key(seed), (5,))[:2], jnp.array([0.3, -0.6]), 0.4
        values = jnp.concatenate([seen.into(a[None])[0], seen.into(b[None])[0], jnp.array([logit])])[None]
        r = jax.nn.sigmoid(logit)
        each = [
            jnp.log(share) + exponent * scipy.stats.norm(np.asarray(mean), 0.6).logpdf(DATA).sum(1)
            for share, mean in ((r, a), (1 - r, b))
        ]
        log_beta = 2 * gammaln(0.8) - gammaln(1.6)
        prior = 0.8 * (jnp.log(r) + jnp.log1p(-r)) - log_beta + model.log_means(jnp.stack([a, b])).sum()
        gap.append(float(log_pair(values, seen, owner, motif)[0] - prior - jnp.logaddexp(*each).sum()))
    # All values differ from the model's density by one constant, the same for one component.
    np.testing.assert_allclose(gap, gap[0], rtol=1e-9)
    stats = (jnp.asarray(4.0), model.data.sum(0), jnp.sum(model.data**2))
    single = split_merge.log_cluster(*stats, model, jnp.asarray(exponent))
    jacobian = 4 * jnp.log(motif.noise)
    np.testing.assert_allclose(log_single(seen)[0] - single, gap[0] - jacobian, rtol=1e-9)


@pytest.mark.parametrize(
    "call",
    [
        lambda: om.open_mixture(np.zeros(3), num_slots=2),
        lambda: om.open_mixture(np.full((3, 2), np.nan), num_slots=2),
        lambda: om.open_mixture(DATA, num_slots=0),
        lambda: om.open_mixture(DATA, num_slots=2, noise=-1.0),
        lambda: om.annealed(small(), moves_per_step=0),
        lambda: om.enumerate_labellings(om.open_mixture(np.zeros((30, 2)), num_slots=9)),
        lambda: om.run_chains(jax.random.key(0), small(), om.Gibbs(), num_draws=0),
        lambda: om.run_chains(jax.random.key(0), small(), om.Gibbs(), initial=om.start(jax.random.key(0), small(), 2)),
    ],
)
def test_bad_arguments_are_refused(call: Callable[[], Any]) -> None:
    with pytest.raises(ArgumentError, match="expected"):
        call()


def test_learned_move_refuses_data_in_space() -> None:
    data, truth = om.simulate(jax.random.key(0), 5, 2, dim=3)
    model = om.open_mixture(data, num_slots=2)
    with pytest.raises(TargetError, match="in the plane"):
        MOVES["learned"]()(jax.random.key(1), truth, model, jnp.ones(()))


@pytest.mark.slow
def test_chains_run_from_one_component_to_the_truth(tmp_path: Path) -> None:
    data, _ = om.simulate(jax.random.key(1), 40, 3, spread=3.0)
    model = om.open_mixture(data, num_slots=6, spread=3.0)
    options: dict[str, Any] = {"num_chains": 8, "num_draws": 10, "thin": 3, "progress": False}
    chains = om.run_chains(jax.random.key(2), model, om.Gibbs(), **options)
    fit = chains.draws["log_likelihood"]
    assert fit.shape == (8, 10) and fit[:, -1].mean() > fit[:, 0].mean()
    assert chains.state is not None and chains.state.labels.shape == (8, 40)
    again = om.run_chains(jax.random.key(2), model, om.Gibbs(), checkpoint=tmp_path / "run.ckpt", **options)
    np.testing.assert_array_equal(again.draws["log_likelihood"], fit)
