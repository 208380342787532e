"""Static targets: densities on vectors, however they are given."""

from smcinfer.static.numpyro_model import from_numpyro
from smcinfer.static.reference import laplace_reference
from smcinfer.static.target import StaticTarget, log_density, posterior

__all__ = [
    "StaticTarget",
    "from_numpyro",
    "laplace_reference",
    "log_density",
    "posterior",
]
