"""Evidence problems: each exact log Z by quadrature of the target itself, and the figures that are published."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import logsumexp

from smcinfer.ground.errors import ArgumentError
from smcinfer.models import evidence_problems as problems
from tests.density_tools import each

# In the plane, with ends of the box; wide enough for a grid to see every peak.
PLANE = {
    "spike": (lambda: problems.spike(2), (-0.5, 0.5)),
    "two_gaussians": (lambda: problems.two_gaussians(2), (-10.0, 10.0)),
    "shells": (lambda: problems.gaussian_shells(2), (-6.0, 6.0)),
    "eggbox": (problems.eggbox, (0.0, 10 * np.pi)),
    "log_gamma": (lambda: problems.log_gamma(2), (0.0, 1.0)),
    "rosenbrock": (lambda: problems.rosenbrock(2), (-5.0, 5.0)),
    "ill_conditioned": (lambda: problems.ill_conditioned(2, condition=1e3), (-5.0, 5.0)),
    "funnel": (lambda: problems.funnel_in_a_box(2, reach=6.0), (-6.0, 6.0)),
    "labels": (lambda: problems.label_switching(2), (0.0, 3.0)),
    "labels in order": (lambda: problems.label_switching(2, ordered=True), (0.0, 3.0)),
    "truncated": (lambda: problems.truncated_gaussian(2), (-5.5, 4.5)),
    "small_region": (lambda: problems.small_region(2), (0.0, 1.0)),
}
SIDE = 1000


@pytest.mark.dealt
@pytest.mark.parametrize("name", PLANE)
def test_log_z_by_quadrature(name: str, precision: str) -> None:
    """The integral of prior times likelihood over midpoints of a grid, on the user's own space."""
    make, (lower, upper) = PLANE[name]
    problem = make()
    middle = lower + (upper - lower) * (np.arange(SIDE) + 0.5) / SIDE
    points = jnp.asarray(np.stack(np.meshgrid(middle, middle, indexing="ij"), -1).reshape(-1, 2), float)
    assert points.dtype == precision

    def log_density(x):  # noqa: ANN001, ANN202
        assert problem.target.unconstrain is not None
        vector = problem.target.unconstrain({"theta": x})
        uniform = problem.target.base_mean is None
        log_prior = -2 * np.log(upper - lower) if uniform else problem.target.log_base(vector)
        return problem.target.log_potential(vector) + log_prior

    found = np.asarray(each(log_density, points), np.float64)
    log_z = float(logsumexp(found)) + 2 * np.log((upper - lower) / SIDE)
    assert log_z == pytest.approx(problem.log_z, abs=3e-3)
    assert log_z != pytest.approx(problem.log_z + 0.02, abs=3e-3)


def test_published_figures() -> None:
    """Multimodal nested sampling's own tables, and the limits without walls."""
    exact = {name: make().log_z for name, make in problems.EXAMPLES.items()}
    for name, value in {"shells_2": -1.746, "shells_5": -5.674, "shells_10": -14.590, "eggbox": 235.856}.items():
        assert exact[name] == pytest.approx(value, abs=6e-4)
    for dim in (5, 10, 20):
        assert exact[f"spike_{dim}"] == pytest.approx(np.log(101.0), abs=1e-4)
    assert exact["log_gamma_30"] == pytest.approx(0.0, abs=1e-4)
    assert exact["labels_free"] - exact["labels_ordered"] == pytest.approx(np.log(24.0))
    assert exact["small_region"] == pytest.approx(np.log(1e-4))


def test_rosenbrock_in_three_dimensions_by_a_cube(x64: None) -> None:
    """The chain of sums against one sum over all points."""
    problem = problems.rosenbrock(3)
    x, y, z = np.meshgrid(
        *(np.linspace(*ends, 161) for ends in ((-2.0, 2.6), (-1.0, 5.0))), np.linspace(-1.0, 5.0, 161)
    )
    log_likelihood = -100 * ((y - x**2) ** 2 + (z - y**2) ** 2) - (1 - x) ** 2 - (1 - y) ** 2
    total = np.exp(log_likelihood).sum() * (4.6 / 160) * (6 / 160) ** 2
    assert np.log(total / 10**3) == pytest.approx(problem.log_z, abs=0.01)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: problems.spike(0), "dim"),
        (lambda: problems.log_gamma(1), "dim"),
        (lambda: problems.label_switching(7), "num_labels"),
        (lambda: problems.small_region(2, mass=0.6), "mass"),
    ],
)
def test_wrong_arguments(make, said: str) -> None:  # noqa: ANN001
    with pytest.raises(ArgumentError, match=said):
        make()
