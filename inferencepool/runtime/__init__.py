"""Everything that does I/O: servers, clients, files and processes."""

__all__: list[str] = []
