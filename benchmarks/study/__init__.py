"""A study by simulation: what prefix-aware picking gains, and which settings are good defaults."""
