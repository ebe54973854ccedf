"""The endpoint picker as a server: ext_proc, health, TLS, files that are read again, and an orderly end."""

from inferencepool.runtime.server._ejection_log import EJECTION_EVENTS, EjectionLog
from inferencepool.runtime.server._files import FileReport, WatchedFile
from inferencepool.runtime.server._options import ServerOptions
from inferencepool.runtime.server._parts import DrainListener, ServerPart
from inferencepool.runtime.server._request_log import LIMITED_EVENTS, RequestLog
from inferencepool.runtime.server._server import EndpointPickerServer

__all__ = [
    "EJECTION_EVENTS",
    "LIMITED_EVENTS",
    "DrainListener",
    "EjectionLog",
    "EndpointPickerServer",
    "FileReport",
    "RequestLog",
    "ServerOptions",
    "ServerPart",
    "WatchedFile",
]
