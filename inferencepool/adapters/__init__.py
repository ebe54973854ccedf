"""Shapes of the world outside, read and written without I/O. `extproc` builds on `bodies`, the others stand alone."""

__all__ = []
