"""Arguments at the door: what is right passes as the engine's type, what is wrong is named."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer.ground import validate
from smcinfer.ground.errors import ArgumentError, SmcinferError, TargetError

ONE_TO_NINE = partial(validate.count, at_most=9)
OPEN = partial(validate.number, above=0.0, below=1.0)
KIND = partial(validate.instance, kind=SmcinferError)


@pytest.mark.parametrize("value", ["100", 1e3, 2.5, True, np.True_, None, np.float64(3), np.arange(3), 0, 10, -1, [1]])
def test_what_is_no_count_is_refused(value) -> None:  # noqa: ANN001
    with pytest.raises(ArgumentError, match="size"):
        ONE_TO_NINE("size", value)


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), jnp.asarray(3), np.asarray(3)])
def test_integers_of_every_kind_are_counts(value) -> None:  # noqa: ANN001
    assert type(ONE_TO_NINE("size", value)) is int


def test_a_whole_float_is_told_how_to_be_a_count() -> None:
    with pytest.raises(ArgumentError, match="size=1000"):
        validate.count("size", 1e3)


@pytest.mark.parametrize("value", ["0.5", True, None, 0.0, 1.0, float("nan"), float("inf"), np.ones(2), [0.5], 1j])
def test_what_is_no_number_of_the_range_is_refused(value) -> None:  # noqa: ANN001
    with pytest.raises(ArgumentError, match="share"):
        OPEN("share", value)


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), jnp.asarray(0.5)])
def test_numbers_of_every_kind_pass(value) -> None:  # noqa: ANN001
    assert OPEN("share", value) == 0.5
    assert validate.fraction("share", 1) == 1.0 and validate.seconds("pause", 0) == 0.0


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (validate.fraction, 1.01),
        (validate.seconds, -1),
        (validate.flag, "no"),
        (validate.flag, 1),
        (validate.flag, None),
        (partial(validate.one_of, choices=("a", "b")), "c"),
        (partial(validate.one_of, choices=("a", "b")), ["a"]),
        (KIND, ValueError("x")),
    ],
)
def test_other_slips_are_refused_by_name(check, value) -> None:  # noqa: ANN001
    with pytest.raises(ArgumentError, match="option"):
        check("option", value)


def test_a_class_in_place_of_its_instance_is_told_to_be_called() -> None:
    with pytest.raises(ArgumentError, match=r"call it: TargetError\(\.\.\.\)"):
        KIND("option", TargetError)
    with pytest.raises(ArgumentError, match="option is a class"):
        KIND("option", int)


def test_options_that_cannot_act_are_named() -> None:
    validate.not_given("a filter", kernel=None, method=None)
    with pytest.raises(ArgumentError, match="a filter takes no kernel and no method"):
        validate.not_given("a filter", kernel="hmc", method="tempering", other=None)
