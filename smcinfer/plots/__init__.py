"""Figures of a result: how the run went, what log Z is, what a filter knew, who descends from whom, and the posterior."""

from smcinfer.plots.bounds_by_particles import plot_bounds
from smcinfer.plots.curves import plot_error_curves
from smcinfer.plots.diagnostics import plot_ess_temperature, plot_weights
from smcinfer.plots.diffusion import plot_reward_evaluations, plot_reward_path, plot_samples
from smcinfer.plots.evidence import plot_log_z
from smcinfer.plots.filtering import plot_filter, plot_track
from smcinfer.plots.forecasting import plot_forecast
from smcinfer.plots.genealogy import plot_genealogy
from smcinfer.plots.page import report
from smcinfer.plots.posterior import plot_posterior, save_all
from smcinfer.plots.smoothing import plot_smoothed

__all__ = [
    "plot_bounds",
    "plot_error_curves",
    "plot_ess_temperature",
    "plot_filter",
    "plot_forecast",
    "plot_genealogy",
    "plot_log_z",
    "plot_posterior",
    "plot_reward_evaluations",
    "plot_reward_path",
    "plot_samples",
    "plot_smoothed",
    "plot_track",
    "plot_weights",
    "report",
    "save_all",
]
