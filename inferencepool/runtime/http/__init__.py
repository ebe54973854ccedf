"""A small HTTP/1.1 server for pages about a program: GET alone, a handful of clients, bounded in every respect."""

from inferencepool.runtime.http._limits import PageLimits
from inferencepool.runtime.http._page import Page, PageHandler, PageRequest
from inferencepool.runtime.http._server import PageServer

__all__ = ["Page", "PageHandler", "PageLimits", "PageRequest", "PageServer"]
