"""Powers of whole sequences against the sum over all strings, and what the temperature alone makes of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer.core.compose import Bootstrap
from smcinfer.ground.errors import ArgumentError
from smcinfer.language import Generation, exact, generation, terminal
from smcinfer.run.runner import run
from tests import exact_language
from tests.signatures import unchecked
from tests.statistics import assert_mean_one_log

NUM_PARTICLES, NUM_RUNS = 16, 1500


def target(power: float, end: str = "open", **options: object) -> Generation:
    """The enumerable target to a power."""
    settings = {"potential": terminal(exact_language.terminal_score), "max_tokens": exact_language.LENGTH}
    settings |= {"eos_id": exact_language.EOS, "end": end, "power": power}
    return generation(exact_language.small_lm(), exact_language.PROMPT, **(settings | options))


def powered(power: float, end: str = "open") -> np.ndarray:
    """log joint of every string: the model's part times the power."""
    rows = exact_language.strings(end=end)
    return rows.log_joint + (power - 1.0) * rows.log_base


@pytest.mark.parametrize("end", ["open", "force"])
@pytest.mark.parametrize("power", [4.0, 0.5])
def test_every_string_counts_by_the_power_of_its_probability(power: float, end: str, precision: str) -> None:
    found = exact.enumerated(target(power, end, potential=None))
    rows = exact_language.strings(end=end)
    names = {tuple(row): place for place, row in enumerate(rows.strings.tolist())}
    places = [names[tuple(row)] for row in np.asarray(found.strings).tolist()]
    tolerance = 2e-5 if precision == "float32" else 1e-10
    np.testing.assert_allclose(found.log_joint, power * rows.log_base[places], rtol=tolerance, atol=tolerance)
    assert len(places) == len(names)


def test_a_temperature_and_several_ends_come_before_the_power() -> None:
    """(p_T(EOS) + p_T(3))^2 for strings of one token."""
    model = generation(
        exact_language.small_lm(), exact_language.PROMPT, max_tokens=1, eos_id=[0, 3], temperature=1.7, power=2.0
    )
    p = jax.nn.softmax(exact_language.small_lm().table[exact_language.PROMPT[0] * 6 + exact_language.PROMPT[1]] / 1.7)
    expected = np.log(np.asarray([p[0] + p[3], p[1], p[2], p[4]])) * 2.0
    found = exact.enumerated(model)
    np.testing.assert_array_equal(np.asarray(found.strings)[:, 0], [0, 1, 2, 4])
    np.testing.assert_allclose(found.log_joint, expected, rtol=1e-5)


@pytest.mark.slow
def test_a_powered_run_is_unbiased() -> None:
    done = run(jax.random.key(0), target(3.0), NUM_PARTICLES, num_runs=NUM_RUNS, history="none")
    assert_mean_one_log(done.log_z, float(np.logaddexp.reduce(powered(3.0))))


def test_the_temperature_alone_is_caught() -> None:
    """The mistake: draws at temperature 1 / power, each of weight one but for the potential."""
    model = target(1.0, temperature=1.0 / 3.0)
    done = run(jax.random.key(0), model, NUM_PARTICLES, num_runs=NUM_RUNS, history="none")
    with pytest.raises(AssertionError, match="mean differs"):
        assert_mean_one_log(done.log_z, float(np.logaddexp.reduce(powered(3.0))))


def test_what_a_token_weighs_is_known_before_it_is_drawn() -> None:
    """Without a potential all weights are those of prefixes: whatever is drawn last adds nothing."""
    model = target(4.0, potential=None)
    assert isinstance(model.proposal, Bootstrap)
    state = model.process.advance(jnp.asarray(0), None, None)
    after = jax.vmap(lambda x: model.process.advance(jnp.asarray(exact_language.LENGTH), state, x))(jnp.arange(5))
    last = jax.vmap(lambda state: model.potential(jnp.asarray(exact_language.LENGTH), state))(after)
    np.testing.assert_array_equal(last, 0.0)
    assert float(model.potential(jnp.asarray(1), state)) < 0.0


def test_a_result_says_which_law_it_stands_for() -> None:
    assert "to the power 4" in target(4.0).plan.weighted_for
    assert "power" not in target(1.0).plan.weighted_for


@pytest.mark.parametrize("power", [0.0, -1.0, float("nan"), "2"])
def test_a_power_that_is_none(power: object) -> None:
    with pytest.raises(ArgumentError, match="power"), unchecked():
        target(power)  # pyright: ignore[reportArgumentType]
