r"""Bounds where the data were simulated: what they were made from is an exact draw of the posterior given them.

.. math:: (\theta, y) \sim p(\theta)\, p(y \mid \theta) \;\Rightarrow\; \theta \sim p(\theta \mid y)

One data set brings one exact draw. The upper runs then share it: the bound holds on average over data sets, and for the one at
hand with the confidence that `Sandwich.interval` gives.

Source: Grosse, Ghahramani & Adams (2015), section 4 (bidirectional Monte Carlo).
"""

from collections.abc import Callable
from typing import Any

import jax

from smcinfer.bounds.front import sandwich
from smcinfer.results.sandwich import Sandwich
from smcinfer.run.runner import as_typed_key


def bidirectional(
    key: Any,
    simulate: Callable[[Any], tuple[Any, Any]],
    build: Callable[[Any], Any],
    **options: Any,
) -> Sandwich:
    """Simulate data, and bound the log evidence of a model of them from both sides.

    Args:
        key: one random key.
        simulate: ``key -> (truth, data)``, one draw of the joint law: parameters, drawn from the prior, or a path, with the
            data made from them (`smcinfer.state_space.simulate` draws a path and its data).
        build: ``data -> target``, as `sandwich` takes it.
        **options: of `sandwich`.

    Returns:
        `Sandwich` with ``one_draw`` set.

    Raises:
        ArgumentError, TargetError: as `sandwich`.
    """
    data_key, bound_key = jax.random.split(as_typed_key(key))
    truth, data = simulate(data_key)
    return sandwich(bound_key, build(data), lambda key: truth, one_draw=True, **options)
