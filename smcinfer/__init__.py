"""smcinfer: sequential Monte Carlo on JAX. A target is a Python function; a result carries log Z with an error bar.

>>> import jax, smcinfer
>>> result = smcinfer.sample(jax.random.key(0), smcinfer.posterior(prior=..., log_likelihood=...))
>>> print(result)
>>> result.to_arviz()
"""

from smcinfer.ground import lazy
from smcinfer.ground.version import package_version

__version__ = package_version()

lazy.open_doors(__name__)
