"""Shapes of the world outside, read and written without any I/O; each package here stands alone."""

__all__ = []
