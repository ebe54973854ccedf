"""Files that are read again when they change."""

from inferencepool.runtime.files._reading import read_file
from inferencepool.runtime.files._watcher import FileWatcher

__all__ = ["FileWatcher", "read_file"]
