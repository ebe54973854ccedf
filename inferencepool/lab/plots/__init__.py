"""Pictures of what came of simulations."""

from inferencepool.lab.plots._plot import check_plot, plot_results

__all__ = ["check_plot", "plot_results"]
