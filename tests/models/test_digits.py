"""Ready digits: exact twins against sums over the images, committed weights against their cards, figures of a diffusion."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer import nn
from smcinfer.ground.errors import ArgumentError
from smcinfer.models import digits, masked_digits
from smcinfer.models.digits.recipe import accuracy, denoiser_loss
from smcinfer.models.masked_digits.recipe import nats_per_image
from smcinfer.plots.diffusion import plot_reward_evaluations, plot_reward_path, plot_samples
from smcinfer.plots.genealogy import plot_genealogy
from tests.statistics import assert_mean
from tests.synthetic import make_result


@pytest.fixture(scope="module")
def found() -> digits.Digits:
    return digits.load()


@pytest.fixture(scope="module")
def thirds() -> dict[str, digits.Images]:
    return digits.split()


def test_thirds_share_no_image(thirds: dict[str, digits.Images]) -> None:
    assert sum(len(part) for part in thirds.values()) == len(digits.images()) == 1797
    rows = np.sort(np.concatenate([part.pixels for part in thirds.values()]), axis=0)
    np.testing.assert_array_equal(rows, np.sort(digits.images().pixels, axis=0))


@pytest.mark.slow
def test_cards_say_what_the_weights_do(found: digits.Digits, thirds: dict[str, digits.Images]) -> None:
    metrics = nn.read_metadata(digits.FILE)["metrics"]
    for name in ("reward", "judge"):
        assert accuracy(getattr(found, name), thirds["test"]) == pytest.approx(metrics[f"{name}_accuracy"], abs=0.002)
    unseen = jnp.asarray(thirds["test"].pixels)
    loss = denoiser_loss(digits.weights().denoiser, jax.random.key(5), unseen, 2048)
    assert float(loss) == pytest.approx(metrics["denoiser_loss_unseen"], rel=0.1)
    # An untrained guess of v has the mean square of v itself.
    assert metrics["denoiser_loss_unseen"] < 0.4 and metrics["reward_accuracy"] > 0.95


def test_card_of_the_masked_denoiser(thirds: dict[str, digits.Images]) -> None:
    metrics = nn.read_metadata(masked_digits.FILE)["metrics"]
    unseen = jnp.asarray(masked_digits.binary(thirds["test"]))
    nats = nats_per_image(masked_digits.weights(), jax.random.key(6), unseen, 2048)
    assert float(nats) == pytest.approx(metrics["nats_per_image_unseen"], rel=0.1)
    pixels = np.asarray(unseen).mean(axis=0)
    independent = -np.sum(pixels * np.log(pixels + 1e-9) + (1 - pixels) * np.log(1 - pixels + 1e-9))
    assert metrics["nats_per_image_unseen"] < 0.75 * independent


@pytest.mark.slow
def test_the_straight_flow_knows_an_image_from_noise_and_the_denoiser_does_not(found: digits.Digits) -> None:
    noise = jax.random.normal(jax.random.key(0), (200, digits.DIM))

    def spread(model) -> float:  # noqa: ANN001
        time = jnp.asarray(model.schedule.end)
        return float(jnp.std(jax.vmap(lambda x: model.predict(x, time).denoised)(noise), axis=0).mean())

    assert spread(found.straight) > 5 * spread(found.model)


def test_the_kernel_density_denoises_exactly(x64: None) -> None:
    """Against the sum over the images written out, one noisy point."""
    density = digits.kernel_density(0.3)
    time = jnp.asarray(0.4)
    alpha, sigma = (float(part(time)) for part in (density.model.schedule.alpha, density.model.schedule.sigma))
    x = np.random.default_rng(0).standard_normal(digits.DIM)
    variance = alpha**2 * 0.3**2 + sigma**2
    log_w = -0.5 * np.sum((x - alpha * density.pixels) ** 2, axis=1) / variance
    weights = np.exp(log_w - np.logaddexp.reduce(log_w))
    means = density.pixels + alpha * 0.3**2 / variance * (x - alpha * density.pixels)
    np.testing.assert_allclose(density.model.predict(jnp.asarray(x), time).denoised, weights @ means, atol=1e-10)


def test_tilted_kernel_density_by_sampling() -> None:
    density = digits.kernel_density(0.5)
    rng = np.random.default_rng(1)
    direction = 0.3 * rng.standard_normal(digits.DIM)
    exact = density.linear(direction)
    drawn = rng.integers(0, 1797, 400_000)
    rewards = density.pixels[drawn] @ direction + 0.5 * np.linalg.norm(direction) * rng.standard_normal(len(drawn))
    ratios = np.exp(rewards - exact.log_z)
    assert_mean(ratios, 1.0)
    assert exact.masses.sum() == pytest.approx(1) == exact.classes.sum()
    assert_mean(ratios[:, None] * (density.labels[drawn, None] == np.arange(10)), exact.classes)


def test_smoothed_images_by_their_own_sums(x64: None) -> None:
    law = masked_digits.smoothed_images(0.1)
    rng = np.random.default_rng(2)
    tokens = np.full(digits.DIM, masked_digits.MASK)
    known = rng.permutation(digits.DIM)[:20]
    tokens[known] = masked_digits.binary(digits.images())[7][known]
    given = np.where(tokens[known] == masked_digits.INK, law.ink[:, known], 1 - law.ink[:, known]).prod(axis=1)
    share = given @ law.ink / given.sum()
    log_p, _ = law.model.conditionals(jnp.asarray(tokens))
    np.testing.assert_allclose(np.exp(log_p)[:, masked_digits.INK], share, atol=1e-9)
    # Z of a reward on one pixel is one sum.
    direction = np.zeros(digits.DIM)
    direction[27] = 0.7
    exact = np.log(np.mean(1 + law.ink[:, 27] * (np.exp(0.7) - 1)))
    assert law.linear(direction).log_z == pytest.approx(exact)


def test_bad_input() -> None:
    with pytest.raises(ArgumentError, match="bandwidth"):
        digits.kernel_density(0.0)
    with pytest.raises(ArgumentError, match="flip"):
        masked_digits.smoothed_images(0.5)
    with pytest.raises(ArgumentError, match="no images"):
        plot_samples({"wrong": np.zeros((3, 7))})
    with pytest.raises(ArgumentError, match="nothing to draw"):
        plot_samples({})
    with pytest.raises(ArgumentError, match="triples"):
        plot_reward_evaluations({"wrong": [(1.0, 2.0)]})
    with pytest.raises(ArgumentError, match="value_mean"):
        plot_reward_path(make_result())


def test_figures(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    result = make_result()
    shape = result.history["ess"].shape
    result.history.update(value_mean=rng.standard_normal(shape), value_best=rng.standard_normal(shape))
    figures = {
        "samples": plot_samples({"a": rng.random((5, 64)), "b": rng.random((14, 8, 8))}, columns=6),
        "path": plot_reward_path(result),
        "evaluations": plot_reward_evaluations({"one": [(10, -1.0, 0.1), (100, -0.5, 0.1)], "two": [(20, -1.0, 0.2)]}),
        "genealogy": plot_genealogy(result),
    }
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 3000
    assert len(figures["samples"].axes) == 2 and len(figures["evaluations"].axes[0].containers) == 2
