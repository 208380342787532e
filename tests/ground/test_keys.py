"""Keys with small programs draw what JAX's own draw."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer.ground.keys import key_of_kind, small

DRAWS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "normal": lambda key: jax.random.normal(key, (5, 3)),
    "uniform": lambda key: jax.random.uniform(key),
    "bytes": lambda key: jax.random.bits(key, (5,), "uint8"),
    "split": lambda key: jax.random.key_data(jax.random.split(key, (3, 2))),
    "fold in": lambda key: jax.random.key_data(jax.random.fold_in(key, 77)),
    "a lane each": lambda key: jax.vmap(lambda key: jax.random.exponential(key, (2,)))(jax.random.split(key, 3)),
}


@pytest.mark.parametrize("draw", DRAWS)
def test_the_numbers_are_those_of_jax(draw: str, precision: str) -> None:
    key = jax.random.key(5)
    assert jax.random.key_impl(small(key)) != jax.random.key_impl(key)
    np.testing.assert_array_equal(DRAWS[draw](small(key)), DRAWS[draw](key))


def test_other_kinds_are_left_alone_and_words_tell_the_kind() -> None:
    other, key = jax.random.key(1, impl="rbg"), small(jax.random.key(1))
    assert jax.random.key_impl(small(other)) == jax.random.key_impl(other)
    for made in (other, key, small(key)):
        again = key_of_kind(jnp.asarray(jax.random.key_data(made)), str(jax.random.key_impl(made)))
        assert jax.random.key_impl(again) == jax.random.key_impl(made)
