"""Smoothing: what all data say of every state, by genealogy, backward sampling, reweighting or a fixed lag."""

from smcinfer.results.smoothed import Smoothed
from smcinfer.state_space.smoothing.backward import backward_sample, marginals
from smcinfer.state_space.smoothing.genealogy import fixed_lag, trace
from smcinfer.state_space.smoothing.smooth import METHODS, draw_path, smooth

__all__ = ["METHODS", "Smoothed", "backward_sample", "draw_path", "fixed_lag", "marginals", "smooth", "trace"]
