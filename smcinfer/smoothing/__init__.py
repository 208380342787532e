"""Smoothing: what all data say of every state, by genealogy, backward sampling, reweighting or a fixed lag."""

from smcinfer.smoothing.backward import backward_sample, marginals
from smcinfer.smoothing.genealogy import fixed_lag, trace
from smcinfer.smoothing.smooth import METHODS, draw_path, smooth
from smcinfer.smoothing.smoothed import Smoothed

__all__ = ["METHODS", "Smoothed", "backward_sample", "draw_path", "fixed_lag", "marginals", "smooth", "trace"]
