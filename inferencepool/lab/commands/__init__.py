"""The commands `simulate` and `demo`; the command's entry loads their modules by name."""

__all__ = []
