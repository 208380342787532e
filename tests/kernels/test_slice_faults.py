"""The sub-kernels of the Gibbsian polar slice sampler are reversible, and every known fault of a slice kernel is found."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer.kernels import EllipticalSlice, GibbsianPolarSlice, Kernel, lines
from smcinfer.kernels.metropolis import choose
from tests.kernel_checks import check_invariance, check_support
from tests.slice_checks import check_flux

NUM_FLUX = 100_000

PARTS = pytest.mark.parametrize(
    ("part", "arcs"), [("direction", "broad"), ("direction", "narrow"), ("radius", "broad")]
)


@pytest.mark.dealt
@PARTS
def test_sub_kernels_are_reversible(part: str, arcs: str) -> None:
    check_flux(GibbsianPolarSlice(affine=False, width=0.4, max_steps_out=4, max_shrinks=6), part, NUM_FLUX, arcs)


@pytest.mark.slow
@PARTS
@pytest.mark.parametrize("caps", [(64, 64), (4, 6), (1, 2)])
def test_sub_kernels_are_reversible_on_many_lanes(part: str, arcs: str, caps: tuple[int, int], precision: str) -> None:
    kernel = GibbsianPolarSlice(affine=False, width=0.4, max_steps_out=caps[0], max_shrinks=caps[1])
    check_flux(kernel, part, 2_000_000, arcs)


def bracket_about_zero(uniform: Any, max_tries: int) -> Any:
    found = lines.circle(uniform, max_tries)
    start = (jnp.full_like(uniform, -np.pi), jnp.full_like(uniform, np.pi), np.pi * (2 * uniform - 1))
    return eqx.tree_at(lambda s: (s.lower, s.upper, s.candidate), found, start)


def bracket_on_the_wrong_side(uniform: Any, max_tries: int) -> Any:
    found = lines.circle(uniform, max_tries)
    start = (found.upper, found.upper + 2 * np.pi, found.upper + 2 * np.pi)
    return eqx.tree_at(lambda s: (s.lower, s.upper, s.candidate), found, start)


def fixed_steps(uniform: Any, max_steps_out: int) -> Any:
    steps = jnp.full_like(uniform, max_steps_out, jnp.int32)
    return steps, steps


class ReturnsTheRejected(GibbsianPolarSlice):
    def receive(self, machine: Any, reached: Any, density: Any, params: Any) -> Any:
        after = super().receive(machine, reached, density, params)
        lost = machine.search.trying & (machine.search.tries <= 1)
        return eqx.tree_at(lambda m: m.current, after, choose(lost, reached, after.current))


SOUND = GibbsianPolarSlice(affine=False, width=0.4, max_shrinks=12)
FLUX_FAULTS = [
    pytest.param("direction", "gibbsian_polar_slice.circle", bracket_about_zero, SOUND, id="bracket about zero"),
    pytest.param(
        "direction", "gibbsian_polar_slice.circle", bracket_on_the_wrong_side, SOUND, id="bracket on the wrong side"
    ),
    pytest.param(
        "radius",
        "lines.split_steps",
        fixed_steps,
        GibbsianPolarSlice(affine=False, width=0.4, max_steps_out=1, max_shrinks=12),
        id="a fixed cap on each side",
    ),
    pytest.param(
        "radius", "lines.random_offset", lambda uniform: jnp.full_like(uniform, 0.5), SOUND, id="no random offset"
    ),
    pytest.param(
        "radius", None, None, ReturnsTheRejected(affine=False, width=0.4, max_shrinks=3), id="the rejected returned"
    ),
]


@pytest.mark.dealt
@pytest.mark.parametrize(("part", "name", "fault", "kernel"), FLUX_FAULTS)
def test_faults_of_the_sub_kernels_are_found(
    part: str, name: str | None, fault: Any, kernel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name is not None:
        monkeypatch.setattr(f"smcinfer.kernels.{name}", fault)
    with pytest.raises(AssertionError, match="a net flux"):
        check_flux(kernel, part, NUM_FLUX, "narrow" if fault is bracket_on_the_wrong_side else "broad")


def power_of(offset: int) -> Any:
    return lambda form, coordinate, dim: (dim + offset) * jnp.log(coordinate)


def no_jacobian(form: Any, coordinate: Any, dim: int) -> Any:
    return jnp.zeros_like(coordinate)


def not_orthogonal(direction: Any, noise: Any) -> Any:
    return noise / jnp.sqrt(jnp.sum(noise**2))


INVARIANCE_FAULTS = [
    pytest.param("polar.log_jacobian", power_of(0), id="power d"),
    pytest.param("polar.log_jacobian", power_of(-2), id="power d - 2", marks=pytest.mark.slow),
    pytest.param("polar.log_jacobian", no_jacobian, id="no Jacobian", marks=pytest.mark.slow),
    pytest.param("polar.tangent", not_orthogonal, id="v not orthogonalised"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fault"), INVARIANCE_FAULTS)
def test_faults_of_the_polar_density_are_found(name: str, fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = GibbsianPolarSlice(radius="linear", affine=False, max_steps_out=8)
    monkeypatch.setattr(f"smcinfer.kernels.{name}", fault)
    with pytest.raises(AssertionError, match="draws do not follow"):
        check_invariance(kernel, "two wells", (1.0,), reversible=False)


def inside_unless_below(reached: Any, log_density: Any, level: Any) -> Any:
    return ~(log_density <= level)


NEAR = GibbsianPolarSlice(affine=False, width=0.1, max_steps_out=4)


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("gibbsian_polar_slice", NEAR),
        pytest.param("elliptical_slice", EllipticalSlice(), marks=pytest.mark.slow),
    ],
)
def test_a_slice_that_lets_nan_in_is_found(name: str, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"smcinfer.kernels.{name}.is_inside", inside_unless_below)
    with pytest.raises(AssertionError, match="left the support"):
        check_support(kernel)
