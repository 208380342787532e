"""The benchmark for a GPU runs on whatever there is, in a size that says nothing of speed."""

import math

import pytest

from benchmarks import gpu


@pytest.mark.slow
def test_all_parts_of_the_benchmark_for_a_gpu_run() -> None:
    figures = gpu.measured(gpu.TINY)
    assert {"decode_share_of_bandwidth", "filter_particle_steps_a_second", "modes_log_z_error"} <= set(figures)
    assert all(math.isfinite(value) for value in figures.values())


def test_the_large_language_model_has_eight_billion_parameters() -> None:
    config = gpu.EIGHT_BILLION
    heads = (config.num_heads + 2 * config.num_kv_heads) * config.head_dim
    layer = config.dim * (heads + config.num_heads * config.head_dim + 3 * config.mlp_dim)
    assert 7.5e9 < config.num_layers * layer + 2 * config.vocab_size * config.dim < 8.5e9
