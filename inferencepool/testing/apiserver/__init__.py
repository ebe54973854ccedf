"""
A Kubernetes API server for tests: real HTTP, the rules of the real one, and faults on purpose; extra ``testing``.

`inferencepool.testing` does not import it: it does I/O on a thread of its own.
"""

from inferencepool.testing.apiserver._accounts import Account
from inferencepool.testing.apiserver._collections import Collection, HasDocument, ObjectLike, Pods
from inferencepool.testing.apiserver._faults import Answer, Cut, Ending, Fault, Gate
from inferencepool.testing.apiserver._injections import Injection
from inferencepool.testing.apiserver._log import LoggedRequest, RequestLog
from inferencepool.testing.apiserver._patterns import Match
from inferencepool.testing.apiserver._refusals import RefusedError
from inferencepool.testing.apiserver._requests import ApiRequest, Target
from inferencepool.testing.apiserver._resources import RESOURCES, Document, Resource
from inferencepool.testing.apiserver._server import ApiServer, WatchEnding

__all__ = [
    "RESOURCES",
    "Account",
    "Answer",
    "ApiRequest",
    "ApiServer",
    "Collection",
    "Cut",
    "Document",
    "Ending",
    "Fault",
    "Gate",
    "HasDocument",
    "Injection",
    "LoggedRequest",
    "Match",
    "ObjectLike",
    "Pods",
    "RefusedError",
    "RequestLog",
    "Resource",
    "Target",
    "WatchEnding",
]
