"""Results: pooled estimates by hand and in expectation, the printed report, saving, and ArviZ."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from smcinfer.core.status import Status
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.results import Bound
from smcinfer.results.pooling import combine_runs, jackknife_se, weighted_mean
from smcinfer.results.summary import weighted_quantiles
from tests.statistics import assert_mean
from tests.synthetic import make_result, two_points

HAND = {"log_z": [0.0, math.log(3.0)], "values": [[1.0, 2.0], [3.0, 7.0]], "weights": [[0.5, 0.5], [0.25, 0.75]]}


class TestPooling:
    """What the runs say together."""

    def test_runs_weigh_in_proportion_to_their_z(self) -> None:
        result = two_points(**HAND)
        np.testing.assert_allclose(np.exp(result.pooled_log_weights), [[0.125, 0.125], [0.1875, 0.5625]])
        assert result.ess == pytest.approx([2.0, 1.6])
        assert result.ess_total == pytest.approx(1 / (2 * 0.125**2 + 0.1875**2 + 0.5625**2))

    def test_expectation_by_hand(self) -> None:
        result = two_points(**HAND)
        # Run means 1.5 and 6, weighing 1 and 3; the jackknife over two runs is half their distance.
        mean, se = result.expectation("x", with_se=True)
        assert (mean, se) == (pytest.approx(4.875), pytest.approx(2.25))
        assert result.expectation(lambda p: jnp.stack([p["x"], p["x"] ** 2])) == pytest.approx([4.875, 29.875])

    def test_jackknife_is_the_error_of_a_mean_where_runs_weigh_alike(self) -> None:
        means = np.random.default_rng(0).normal(size=(5, 3))
        expected = means.std(axis=0, ddof=1) / math.sqrt(5)
        np.testing.assert_allclose(jackknife_se(means, np.full(5, -7.0)), expected)

    def test_one_run_with_all_the_weight_is_not_certain(self) -> None:
        means = np.array([1.0, 2.0, 5.0, 3.0])
        assert jackknife_se(means, np.array([0.0, -40.0, -40.0, -40.0])) > 1.0
        assert np.isnan(jackknife_se(means[:1], np.zeros(1)))

    def test_pooled_mean_is_properly_weighted(self) -> None:
        """Importance sampling of exp(x) on a normal: E[Z_hat f_hat] = Z f over runs; plain averages of runs fail."""
        rng = np.random.default_rng(5)
        x = rng.normal(size=(20_000, 2, 4))
        log_z = np.logaddexp.reduce(x, axis=-1) - math.log(4)
        weights = np.exp(x - np.logaddexp.reduce(x, axis=-1)[..., None])
        means = np.stack([weighted_mean(*pair) for pair in zip(x, weights, strict=True)])
        pooled = np.array([combine_runs(*pair) for pair in zip(means, log_z, strict=True)])
        mean_z = np.exp(log_z).mean(axis=1)
        # Under the normalised target N(1, 1) the mean is one; its normaliser is exp(1/2).
        assert_mean(pooled * mean_z, math.exp(0.5))
        with pytest.raises(AssertionError):
            assert_mean(means.mean(axis=1) * mean_z, math.exp(0.5))

    def test_what_weighs_nothing_does_not_count(self) -> None:
        result = two_points([0.0, 0.0], [[1.0, math.nan], [3.0, math.inf]], [[1.0, 0.0], [1.0, 0.0]])
        assert result.expectation("x") == pytest.approx(2.0)
        assert result.summary().loc["x", "50%"] == pytest.approx(2.0)
        dead = two_points([-math.inf, -1.0], [[9.0, 9.0], [3.0, 5.0]], [[0.5, 0.5], [0.5, 0.5]])
        assert dead.expectation("x") == pytest.approx(4.0)
        nothing = two_points([-math.inf, -math.inf], [[9.0, 9.0], [3.0, 5.0]], [[0.5, 0.5], [0.5, 0.5]])
        assert np.isnan(nothing.expectation("x")) and nothing.ess_total == 0.0

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_functions_see_the_precision_of_the_particles(self, dtype: Any) -> None:
        seen = []
        result = make_result(particles={"x": np.ones((4, 50), dtype)})
        assert result.expectation(lambda p: seen.append(p["x"].dtype) or p["x"] * 2) == pytest.approx(2.0)
        assert seen[0] == dtype

    def test_unusable_functions_are_explained(self) -> None:
        result = make_result()
        with pytest.raises(TargetError, match="replace numpy by jax.numpy"):
            result.expectation(lambda p: np.asarray(p["tau"]))
        with pytest.raises(TargetError, match="jax.numpy.where"):
            result.expectation(lambda p: 1.0 if p["tau"] > 0 else 0.0)
        with pytest.raises(ArgumentError, match=r"theta \| tau"):
            result.expectation("sigma")


class TestDraws:
    """Equally weighted draws."""

    def test_counts_are_within_one_of_their_expectation(self) -> None:
        result = two_points(**HAND)
        draws = result.draws(jax.random.key(1), 1000)["x"]
        counts = [np.count_nonzero(draws == value) for value in (1.0, 2.0, 3.0, 7.0)]
        assert np.max(np.abs(np.array(counts) - [125, 125, 187.5, 562.5])) <= 1

    def test_draws_are_shuffled_and_repeatable(self) -> None:
        result = make_result()
        first, again, other = (result.draws(key, 300) for key in (3, jax.random.key(3), 4))
        assert first["theta"].shape == (300, 2) and first["tau"].shape == (300,)
        np.testing.assert_array_equal(first["theta"], again["theta"])
        assert not np.array_equal(first["theta"], other["theta"])
        flat = result.particles["tau"].reshape(-1)
        where = np.array([np.flatnonzero(flat == value)[0] for value in first["tau"]])
        assert abs(np.corrcoef(where, np.arange(300))[0, 1]) < 0.3

    def test_weight_zero_is_never_drawn(self) -> None:
        weights = [[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]]
        result = two_points([0.0, 0.0], [[0.0, 1.0, 0.0], [2.0, 3.0, 0.0]], weights)
        assert 0.0 not in result.draws(0, 5000)["x"]

    def test_nothing_to_draw(self) -> None:
        with pytest.raises(ArgumentError, match="weight zero"):
            two_points([-math.inf], [[1.0]], [[1.0]]).draws(0, 3)
        with pytest.raises(ArgumentError, match="num_draws"):
            make_result().draws(0, 0)


class TestSummary:
    """The table."""

    def test_rows_and_moments(self) -> None:
        result = make_result(num_runs=3, num_particles=400)
        table = result.summary()
        assert list(table.index) == ["theta[0]", "theta[1]", "tau"]
        assert list(table.columns) == ["mean", "sd", "5%", "50%", "95%", "mcse", "ess"]
        mean, se = result.expectation("theta", with_se=True)
        second = result.expectation(lambda p: p["theta"] ** 2)
        np.testing.assert_allclose(table["mean"][:2], mean)
        np.testing.assert_allclose(table["mcse"][:2], se)
        np.testing.assert_allclose(table["sd"][:2], np.sqrt(second - mean**2), rtol=1e-6)
        assert np.all(table["ess"] <= result.ess_total)
        assert np.all((table["5%"] < table["50%"]) & (table["50%"] < table["95%"]))

    def test_weighted_quantiles_by_hand(self) -> None:
        values, weights = np.array([3.0, 1.0, 2.0]), np.array([0.25, 0.25, 0.5])
        # The middles of the weights stand at 1/8, 1/2 and 7/8.
        np.testing.assert_allclose(
            weighted_quantiles(values, weights, [0.0, 0.125, 0.3125, 0.5, 1.0]), [1, 1, 1.5, 2, 3]
        )
        repeated = np.array([3.0, 1.0, 2.0, 2.0])
        assert weighted_quantiles(repeated, np.ones(4), [0.5]) == pytest.approx(2.0)

    def test_quantiles_of_weighted_draws_find_the_target(self) -> None:
        x = np.random.default_rng(0).normal(size=100_000)
        np.testing.assert_allclose(weighted_quantiles(x, np.exp(x), [0.05, 0.5, 0.95]), [-0.645, 1.0, 2.645], atol=0.05)


class TestRecord:
    """What is taken in and refused."""

    def test_history_is_padded_with_nan(self) -> None:
        result = make_result(steps=6)
        assert np.isnan(result.history["ess"][0, 5:]).all() and np.isfinite(result.history["ess"][1:]).all()
        assert result.history["ancestors"].dtype == np.int32 and result.history["resampled"].dtype == bool

    def test_nested_history_is_flattened(self) -> None:
        tree = {"particles": {"position": np.zeros((4, 7, 50, 2)), "gradient": (np.zeros((4, 7, 50)), None)}}
        assert set(make_result(history=tree).history) == {"particles.position", "particles.gradient.0"}

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"log_weights": np.zeros(4)}, "'log_weights' has the wrong shape"),
            ({"particles": {"x": np.zeros((4, 49))}}, "'x' has the wrong shape"),
            ({"log_z_runs": np.zeros(3)}, "'log_z_runs' has the wrong shape"),
            ({"history": {"ess": np.zeros((4, 3))}}, "at least 7 steps"),
            ({"settings": {"kernel": object()}}, "cannot be saved"),
        ],
    )
    def test_wrong_shapes_are_refused(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(ArgumentError, match=message):
            make_result(**changes)

    def test_settings_are_plain(self) -> None:
        settings = {"seed": np.int64(3), "key": jnp.arange(2), "shape": (1, 2)}
        assert make_result(settings=settings).settings == {"seed": 3, "key": [0, 1], "shape": [1, 2]}

    def test_results_are_frozen(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            make_result().seconds = 1.0

    def test_serious_status(self) -> None:
        assert not make_result(status_runs=np.array([0, 8, 0, 2])).serious
        assert (
            make_result(status_runs=np.array([0, 8, 0, 2])).status
            == Status.MOVES_TOO_SHORT | Status.NON_FINITE_POTENTIAL
        )
        assert make_result(status_runs=np.array([0, 4, 0, 0])).serious


class TestReport:
    """The printed lines."""

    def test_report_says_what_matters(self) -> None:
        log_z = np.array([-10.02, -9.99, -10.05, -9.94])
        result = make_result(num_particles=5000, log_z_runs=log_z, log_z_variance=np.full(4, 0.002))
        text = str(result)
        assert text.splitlines()[0] == "smcinfer result: hmc, 5000 particles x 4 runs"
        low, high = result.log_z_interval()
        assert f"log Z         -9.999 ± 0.022 nats, 99% interval [{low:.3f}, {high:.3f}] (within and" in text
        for part in (
            "weighted for  the posterior",
            "lower bound   -10.000 ± 0.022",
            "needs an exact draw: see smcinfer.bounds",
            "over steps min",
        ):
            assert part in text
        # Run 0 took five steps of ten evaluations (its start counts), the others seven.
        assert "4 to 6, mean acceptance 0.7" in text and "65 density evaluations a particle (1.3e+06 in all)" in text
        assert "status        OK" in text and "3 s, of which 1 s compiling" in text
        assert repr(result) == text

    def test_status_is_explained(self) -> None:
        text = str(make_result(status_runs=np.array([0, 0, 4, 0])))
        assert "SCHEDULE_UNFINISHED: the schedule did not reach its end" in text and "stopped at exponent" in text

    def test_unknown_error_is_said(self) -> None:
        text = str(make_result(1, log_z_variance=np.array([math.nan])))
        assert "± unknown" in text and "no interval" in text and "cannot tell its own variance" in text

    def test_upper_bound_and_crossing_bounds(self) -> None:
        log_z = np.array([-10.02, -9.99, -10.05, -9.94])
        fine = make_result(log_z_runs=log_z).with_upper_bound(Bound(-9.98, 0.02))
        assert fine.upper_bound == (-9.98, 0.02) and "-9.980 ± 0.020 nats" in str(fine)
        assert "BELOW" not in str(fine)
        assert "BELOW the lower bound" in str(make_result(log_z_runs=log_z, upper_bound=Bound(-11.0, 0.02)))

    def test_nothing_recorded_and_nothing_found(self) -> None:
        assert "over steps" not in str(make_result(history={}))
        assert "-inf ± unknown" in str(make_result(log_z_runs=np.full(4, -math.inf)))

    def test_html_is_escaped(self) -> None:
        page = make_result(settings={"weighted_for": "<script>"})._repr_html_()
        assert "&lt;script&gt;" in page and "<script>" not in page and "<table>" in page


class TestArviz:
    """The exported tree."""

    def test_groups_dimensions_and_attributes(self) -> None:
        result = make_result()
        tree = result.to_arviz()
        count = int(result.ess.min())
        assert tree["posterior/theta"].dims == ("chain", "draw", "theta_dim_0")
        assert tree["posterior/theta"].shape == (4, count, 2)
        assert tree["sample_stats/exponent"].dims == ("chain", "step")
        temperature = tree["sample_stats/temperature"].values
        assert temperature[1, 0] == math.inf and temperature[1, -1] == 1.0
        assert tree["sample_stats/log_z"].values[1, -1] == pytest.approx(result.log_z_runs[1])
        assert "ancestors" not in tree["sample_stats"]
        np.testing.assert_array_equal(tree["weighted_posterior/theta"].values, result.particles["theta"])
        assert np.exp(tree["weighted_posterior/log_weights"].values).sum() == pytest.approx(1.0)
        assert tree.attrs["log_z"] == result.log_z and tree.attrs["log_z_interval_99"] == list(result.log_z_interval())

    def test_draws_are_equally_weighted(self) -> None:
        result = two_points([0.0, 5.0], [[1.0, 2.0], [3.0, 7.0]], [[0.2, 0.8], [0.25, 0.75]])
        draws = result.to_arviz(num_draws=1000)["posterior/x"].values
        # Within each run by its weights; a run's Z_hat has no say in its own chain.
        np.testing.assert_allclose((draws == [[1.0], [3.0]]).mean(axis=1), [0.2, 0.25], atol=1.1e-3)

    def test_all_draws_on_request_and_all_where_weights_are_equal(self) -> None:
        assert make_result().to_arviz(num_draws=50)["posterior"].sizes["draw"] == 50
        equal = make_result(log_weights=np.full((4, 50), -math.log(50), np.float32))
        assert equal.to_arviz()["posterior"].sizes["draw"] == 50

    def test_dead_runs_are_left_out(self) -> None:
        log_z = np.array([-1.0, -math.inf, -1.0, -1.0])
        assert make_result(log_z_runs=log_z).to_arviz()["posterior"].sizes["chain"] == 3
        with pytest.raises(ArgumentError, match="no run has draws"):
            make_result(log_z_runs=np.full(4, -math.inf)).to_arviz()

    def test_names_that_arviz_cannot_hold(self) -> None:
        particles = {name: np.ones((4, 50)) for name in ("a/b", "draw", "log_weights")}
        assert set(make_result(particles=particles).to_arviz()["posterior"]) == {"a.b", "draw_", "log_weights_"}

    def test_no_variable_is_lost(self) -> None:
        shapes = {"beta": (4, 50, 2), "beta_dim_0": (4, 50), "chain": (4, 50), "chain_": (4, 50), "time": (4, 50)}
        particles = {name: np.full(shape, float(at)) for at, (name, shape) in enumerate(shapes.items())}
        result = make_result(particles=particles | {"beta[0]": np.full((4, 50), 9.0)})
        for group in ("posterior", "weighted_posterior"):
            tree = result.to_arviz()[group]
            seen = {name: float(tree[name].values.flat[0]) for name in tree.data_vars if name != "log_weights"}
            assert seen == {"beta": 0, "beta_dim_0_": 1, "chain_": 2, "chain__": 3, "time_": 4, "beta[0]": 9}
        assert sorted(result.summary()["mean"].round(9)) == [0, 0, 1, 2, 3, 4, 9]
        with pytest.raises(ArgumentError, match="one name"):
            make_result(particles={"a/b": np.ones((4, 50)), "a.b": np.ones((4, 50))}).to_arviz()

    def test_summary_agrees_with_the_weighted_one(self) -> None:
        import arviz

        result = make_result(num_particles=4000, log_z_runs=np.full(4, -3.0))
        table = arviz.summary(result.to_arviz(), round_to="none")
        np.testing.assert_allclose(table["mean"], result.summary()["mean"], atol=0.1)
        assert np.all(table["r_hat"] < 1.02)

    def test_tree_goes_to_netcdf(self, tmp_path: Path) -> None:
        tree = make_result().to_arviz()
        tree.to_netcdf(tmp_path / "tree.nc", engine="h5netcdf")
        with xr.open_datatree(tmp_path / "tree.nc", engine="h5netcdf") as back:
            np.testing.assert_array_equal(back["posterior/tau"].values, tree["posterior/tau"].values)
            assert back.attrs["log_z"] == tree.attrs["log_z"]
