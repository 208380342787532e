"""Models of other languages in a file of the user's, each taken in by its own door."""

import sys
from collections.abc import Callable
from typing import Any

from numpyro.primitives import Messenger

from smcinfer.static.numpyro_data import complete_trace
from smcinfer.static.numpyro_mixed import mixed_from_numpyro
from smcinfer.static.numpyro_model import from_numpyro
from smcinfer.static.numpyro_replay import is_latent
from smcinfer.static.pymc_mixed import mixed_from_pymc
from smcinfer.static.pymc_model import from_pymc
from smcinfer.static.stan_model import METHODS, from_stan


def called(function: Callable[[], Any]) -> Any:
    """What a function returns; the target of it where it is a numpyro model, which draws instead.

    Args:
        function: without arguments.
    """
    try:
        with _Undrawn():
            return function()
    except _IsModelError:
        trace = complete_trace(function, (), {})
    discrete = any(is_latent(site) and site["fn"].support.is_discrete for site in trace.values())
    return mixed_from_numpyro(function) if discrete else from_numpyro(function)


def taken_in(found: Any) -> Any:
    """The target of a PyMC or a Stan model; anything else as it is."""
    if is_pymc(found):
        return mixed_from_pymc(found) if found.discrete_value_vars else from_pymc(found)
    return from_stan(found) if is_stan(found) else found


def is_pymc(value: Any) -> bool:
    """Whether a value is a PyMC model; where PyMC is not imported nothing is."""
    pymc = sys.modules.get("pymc")
    return pymc is not None and isinstance(value, pymc.Model)


def is_stan(value: Any) -> bool:
    """Whether a value has the methods of a compiled Stan model."""
    return not isinstance(value, type) and all(callable(getattr(value, name, None)) for name in METHODS)


class _IsModelError(Exception):
    """A function draws a site, and nobody around it says how."""


class _Undrawn(Messenger):
    """Ends a function at the first latent site that no handler inside it draws."""

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "sample" and msg["value"] is None and msg["kwargs"].get("rng_key") is None:
            raise _IsModelError
