"""Bounds by number of particles: ordered, closing, right on importance sampling too, and drawn."""

import jax
import numpy as np
import pytest

from smcinfer.bounds import by_particles
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.plots.bounds_by_particles import plot_bounds
from tests import exact_models, exact_paths
from tests.statistics import assert_mean_one_log


@pytest.mark.slow
def test_both_methods_close_in_on_log_z() -> None:
    truth = exact_paths.walk_log_z(3)
    found = by_particles(
        jax.random.key(0), exact_paths.walk(3, "guided"), exact_paths.draw_walk_path(3), (1, 8), num_runs=2000
    )
    for method in found.lower:
        assert_mean_one_log(found.lower[method].T, truth, num_comparisons=4)
        assert_mean_one_log(-found.upper[method][1], -truth, num_comparisons=4)
        assert (found.gap(method) > 0).all() and found.gap(method)[1] < found.gap(method)[0] / 2
    assert np.isfinite(found.gap()).all() and "importance sampling" in str(found)
    figure = plot_bounds(found, log_z=truth)
    assert len(figure.axes) == 2


def test_arguments_are_checked() -> None:
    model, draw = exact_models.hmm("bootstrap"), exact_paths.draw_hmm_path
    with pytest.raises(ArgumentError, match="must increase"):
        by_particles(jax.random.key(0), model, draw, (8, 4))
    with pytest.raises(ArgumentError, match="replicates"):
        by_particles(jax.random.key(0), model, draw, (4,), num_runs=1)
    with pytest.raises(TargetError, match="models over paths"):
        by_particles(jax.random.key(0), "model", draw, (4,))
