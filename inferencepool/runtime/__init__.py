"""Everything that does I/O: servers, clients, files and processes."""

__all__ = []
