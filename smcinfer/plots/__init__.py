"""Figures of a result: how the run went, what log Z is, who descends from whom, and the posterior by ArviZ."""

from smcinfer.plots.diagnostics import plot_ess_temperature, plot_weights
from smcinfer.plots.evidence import plot_log_z
from smcinfer.plots.genealogy import plot_genealogy
from smcinfer.plots.posterior import plot_posterior, save_all

__all__ = ["plot_ess_temperature", "plot_genealogy", "plot_log_z", "plot_posterior", "plot_weights", "save_all"]
