"""
A Kubernetes API server for tests: real HTTP, the rules of the real one, and faults on purpose; extra ``testing``.

`inferencepool.testing` does not import it: it does I/O on a thread of its own.
"""

from inferencepool.lab.apiserver._accounts import Account
from inferencepool.lab.apiserver._collections import Collection, HasDocument, ObjectLike, Pods
from inferencepool.lab.apiserver._faults import Answer, Cut, Ending, Fault, Gate
from inferencepool.lab.apiserver._injections import Injection
from inferencepool.lab.apiserver._log import LoggedRequest, RequestLog
from inferencepool.lab.apiserver._patterns import Match
from inferencepool.lab.apiserver._refusals import RefusedError
from inferencepool.lab.apiserver._requests import ApiRequest, Target
from inferencepool.lab.apiserver._resources import RESOURCES, Document, Resource
from inferencepool.lab.apiserver._server import ApiServer, WatchEnding

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
