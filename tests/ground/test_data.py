"""Data in every container: what is missing comes out as one mask, what is no number is refused by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from smcinfer.ground.data import complete, is_column, read
from smcinfer.ground.errors import ArgumentError

MASKED = np.ma.array([0.3, -999.0, 0.7], mask=[0, 1, 0])


class Polars:
    """What polars does when numpy asks for a column with nulls."""

    def __array__(self, dtype=None, copy=None):  # noqa: ANN001, ANN204
        return np.array([0.3, np.nan, 0.7])


CONTAINERS = {
    "NaN": np.array([0.3, np.nan, 0.7]),
    "jax": jnp.array([0.3, jnp.nan, 0.7]),
    "masked": MASKED,
    "masked with NaN under the mask": np.ma.masked_invalid([0.3, np.nan, 0.7]),
    "list": [0.3, None, 0.7],
    "tuple": (0.3, float("nan"), 0.7),
    "objects": np.array([0.3, None, 0.7], object),
    "series": pd.Series([0.3, None, 0.7]),
    "nullable": pd.Series([0.3, None, 0.7], dtype="Float64"),
    "objects of pandas": pd.Series([0.3, pd.NA, 0.7], dtype=object),
    "polars": Polars(),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_what_is_missing_is_a_mask_whatever_the_container(name: str) -> None:
    values, present = read("y", CONTAINERS[name])
    np.testing.assert_array_equal(present, [True, False, True])
    np.testing.assert_allclose(np.asarray(values)[present], [0.3, 0.7], rtol=1e-6)
    with pytest.raises(ArgumentError, match=r"missing in y\n(.|\n)*1 NaN, masked or null, first at index \(1,\)"):
        complete("y", CONTAINERS[name])


WHOLE = {
    "masked integers": np.ma.array([0, -999, 2, 1], mask=[0, 1, 0, 0]),
    "list": [0, None, 2, 1],
}


@pytest.mark.parametrize("name", WHOLE)
def test_integers_with_a_gap_stay_integers(name: str) -> None:
    values, present = read("y", WHOLE[name])
    assert values.dtype.kind == "i"
    np.testing.assert_array_equal(present, [True, False, True, True])
    np.testing.assert_array_equal(values[present], [0, 2, 1])


def test_trees_tables_and_nested_lists() -> None:
    table = pd.DataFrame({"a": [1.0, 2.0], "b": pd.Series([None, 3], dtype="Int64")})
    data = {"table": table, "rows": [[1.0, None], [3.0, 4.0]], "pair": (MASKED, np.zeros((2, 2)))}
    _, present = read("data", data)
    np.testing.assert_array_equal(present["table"], [[True, False], [True, True]])
    np.testing.assert_array_equal(present["rows"], [[True, False], [True, True]])
    assert present["pair"][0].sum() == 2 and present["pair"][1].all()
    with pytest.raises(ArgumentError, match=r"in data, 'pair.0'"):
        complete("data", {"pair": data["pair"]})
    two = np.ma.array([[1.0, -999.0], [3.0, 4.0]], mask=[[0, 1], [0, 0]])
    with pytest.raises(ArgumentError, match=r"index \(0, 1\)"):
        complete("y", two)
    assert complete("y", two, where=~two.mask)[1, 1] == 4.0


def test_traced_data_are_taken_for_numbers() -> None:
    total = jax.jit(lambda y: read("y", {"a": y})[0]["a"].sum())(jnp.ones(3))
    assert total == 3.0


NO_NUMBERS = {
    "text": (np.array(["a", "b"]), "dtype <U1"),
    "timestamps": (pd.Series(pd.date_range("2026-01-01", periods=2)), "datetime64"),
    "objects that are timestamps": (np.array([0.3, pd.Timestamp("2026-01-01")], object), "Timestamp"),
    "text among numbers": ([0.3, "missing"], "dtype <U"),
    "ragged": ([[1.0, 2.0], [3.0]], "numpy cannot read"),
    "complex": (np.array([1j]), "complex"),
    "a dictionary inside a list": ([{"a": "b"}], "dtype <U1"),
    "no array": ({"y": object()}, "object"),
}


@pytest.mark.parametrize("name", NO_NUMBERS)
def test_what_is_no_number_is_refused(name: str) -> None:
    data, message = NO_NUMBERS[name]
    with pytest.raises(ArgumentError, match=f"cannot be read as arrays of numbers(.|\n)*{message}"):
        read("y", data)


def test_integers_that_would_wrap_are_refused() -> None:
    with pytest.raises(ArgumentError, match="integers that are too large"):
        read("time", np.array([0, 2**40]))
    with jax.enable_x64(True):
        assert read("time", np.array([0, 2**40]))[0][1] == 2**40


def test_empty_data_are_refused() -> None:
    with pytest.raises(ArgumentError, match="y are empty"):
        read("y", {})


def test_columns_are_told_from_tables_and_plain_arrays() -> None:
    assert is_column(MASKED) and is_column(pd.Series([1.0])) and is_column(np.array([None, 1.0]))
    assert not (is_column(np.zeros(2)) or is_column(pd.DataFrame({"a": [1.0]})) or is_column(None) or is_column("y"))
