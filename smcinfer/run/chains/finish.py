"""From a finished run of chains to its record."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core.status import Status
from smcinfer.ground.arrays import Array
from smcinfer.ground.programs import compiled
from smcinfer.results.chains import Chains
from smcinfer.results.finished import Driven
from smcinfer.run.runner import as_typed_key


def chains_of[Kind: Chains](
    kind: type[Kind],
    key: Any,
    driven: Driven,
    draws: Mapping[str, Array | np.ndarray],
    settings: Mapping[str, Any],
    status: Status = Status.OK,
    **fields: Array | np.ndarray,
) -> Kind:
    """The record of a finished run.

    Args:
        kind: of the record.
        key: the run's key.
        driven: what the run left; its records have ``cap_reached`` where loops are bounded.
        draws: values by name, each (chains, draws, ...).
        settings: how the chains were made, as JSON can hold it.
        status: what is to be known of the run.
        **fields: arrays that only records of this kind have.
    """
    records = driven.records
    no_caps = np.zeros(records["num_evals"].shape, np.int32)
    return kind(
        draws={name: np.asarray(values) for name, values in draws.items()},
        acceptance=records["acceptance"],
        num_evals=records["num_evals"],
        cap_reached=records.get("cap_reached", no_caps),
        status=status,
        settings={
            **settings,
            "ticks": float(driven.progress.ticks),
            "key": np.asarray(jax.random.key_data(as_typed_key(key))).tolist(),
            "precision": str(jnp.result_type(float)),
            "jax": jax.__version__,
        },
        seconds=driven.seconds,
        compile_seconds=driven.compile_seconds,
        **{name: np.asarray(values) for name, values in fields.items()},
    )


@compiled
def named(constrain: Callable[[Array], dict[str, Array]], positions: Array) -> dict[str, Array]:
    """Unconstrained vectors, leading axes (chain, draw), as values under their own names."""
    return jax.vmap(jax.vmap(constrain))(positions)
