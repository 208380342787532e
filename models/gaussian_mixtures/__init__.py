r"""Gaussian mixtures as diffusion models: their scores at every noise level are exact, and so is much else.

.. math:: q_0(x) = \sum_k w_k\, N(x;\, m_k,\, s^2 I) \quad\Rightarrow\quad
          q_u(x) = \sum_k w_k\, N(x;\, \alpha m_k,\, (\alpha^2 s^2 + \sigma^2) I)

so a sampler of diffusions can be held against known answers: the tilt by a quadratic reward in closed form
(`Mixture.tilted`), powers of the density on a grid (`Mixture.power`).
"""

from smcinfer.models.gaussian_mixtures.exact import Power, Tilted, nearest
from smcinfer.models.gaussian_mixtures.mixture import Mixture, from_json, mixture, nine_modes

__all__ = ["Mixture", "Power", "Tilted", "from_json", "mixture", "nearest", "nine_modes"]
