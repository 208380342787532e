"""Gaussian filters and smoothers of state-space models: exact where everything is linear, quick everywhere else."""

from smcinfer.state_space.gaussian.doors import METHODS, ensemble_filter, gaussian_filter, log_likelihood
from smcinfer.state_space.gaussian.guide import gaussian_guide

__all__ = ["METHODS", "ensemble_filter", "gaussian_filter", "gaussian_guide", "log_likelihood"]
