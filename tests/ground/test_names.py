"""Names of variables: no two become one on the way out, and what would is refused on the way in."""

import itertools
import re

import jax.numpy as jnp
import pytest

from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.names import check_names, dimensions, exported_name, leaves_by_name

AWKWARD = ["chain", "chain_", "chain__", "time", "draw", "step", "run", "particle", "log_weights", "beta", "beta_dim_0"]
AWKWARD += ["beta_dim_0_", "beta_dim_10", "beta_dim_", "a.b", "a b", "β", "theta[0]", "_dim_0", "x"]


def test_no_two_names_come_out_as_one() -> None:
    written = [exported_name(name) for name in AWKWARD]
    assert len(set(written)) == len(AWKWARD)
    check_names(AWKWARD)


def test_no_name_is_taken_for_a_dimension_or_a_group() -> None:
    written = [exported_name(name) for name in [*AWKWARD, "a/b", "a/b/c"]]
    taken = {"chain", "draw", "time", "step", "run", "particle", "log_weights"}
    taken |= {dim for name in written for dim in dimensions(name, (), 3)}
    assert taken.isdisjoint(written) and not any("/" in name for name in written)


def test_ordinary_names_stay_as_they_are() -> None:
    for name in ("theta", "a.b", "chains", "dim_0", "log_weight", "β"):
        assert exported_name(name) == name


@pytest.mark.parametrize("pair", list(itertools.combinations(["a/b/c", "a.b.c", "a/b.c"], 2)))
def test_slashes_and_dots_collide(pair: tuple[str, str]) -> None:
    with pytest.raises(ArgumentError, match="two states would have one name") as error:
        check_names(["other", *pair], "states")
    assert all(repr(name) in str(error.value) for name in pair) and "other" not in str(error.value)


@pytest.mark.parametrize("name", ["", ".", "..", "/", " x", "x ", "a\nb", "a\0b"])
def test_names_that_no_file_can_hold(name: str) -> None:
    with pytest.raises(ArgumentError, match=re.escape(repr(name))):
        check_names(["fine", name])


def test_a_dotted_key_beside_a_nested_one() -> None:
    one = jnp.zeros(())
    assert list(leaves_by_name({"a": {"b": one}, "c": (one, one)})) == ["a.b", "c.0", "c.1"]
    assert list(leaves_by_name(one)) == ["x"]
    with pytest.raises(ArgumentError, match="one name"):
        leaves_by_name({"a": {"b": one}, "a.b": one})
