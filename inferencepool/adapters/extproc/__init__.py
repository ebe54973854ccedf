"""
The Endpoint Picker's side of Envoy's ext_proc, without I/O.

`ExternalProcessor` is the service, `Session` the conversation about one HTTP request: messages in, answers out, as
plain values. `decode` and `encode` are their form on the wire; `hand_back` is both for most chunks of a response.
"""

from inferencepool.adapters.extproc._decision import Decision
from inferencepool.adapters.extproc._decode import decode
from inferencepool.adapters.extproc._encode import encode
from inferencepool.adapters.extproc._exchange import (
    DecisionObserver,
    Exchange,
    ExchangeObserver,
    ExchangeObservers,
    RequestTraits,
)
from inferencepool.adapters.extproc._handing_back import hand_back
from inferencepool.adapters.extproc._messages import (
    Answer,
    BodyMode,
    ImmediateResponse,
    Message,
    Metadata,
    RequestBody,
    RequestBodyAnswer,
    RequestHeaders,
    RequestHeadersAnswer,
    RequestTrailers,
    RequestTrailersAnswer,
    ResponseBody,
    ResponseBodyAnswer,
    ResponseHeaders,
    ResponseHeadersAnswer,
    ResponseTrailers,
    ResponseTrailersAnswer,
    Routing,
    StreamedRequestBody,
    StreamedResponseBody,
)
from inferencepool.adapters.extproc._options import ErrorFormat, ProcessorOptions, ResponsePhase
from inferencepool.adapters.extproc._processor import ExternalProcessor, ProcessorStatistics
from inferencepool.adapters.extproc._session import Session
from inferencepool.model._protocol import FORGEABLE

__all__ = [
    "FORGEABLE",
    "Answer",
    "BodyMode",
    "Decision",
    "DecisionObserver",
    "ErrorFormat",
    "Exchange",
    "ExchangeObserver",
    "ExchangeObservers",
    "ExternalProcessor",
    "ImmediateResponse",
    "Message",
    "Metadata",
    "ProcessorOptions",
    "ProcessorStatistics",
    "RequestBody",
    "RequestBodyAnswer",
    "RequestHeaders",
    "RequestHeadersAnswer",
    "RequestTrailers",
    "RequestTrailersAnswer",
    "RequestTraits",
    "ResponseBody",
    "ResponseBodyAnswer",
    "ResponseHeaders",
    "ResponseHeadersAnswer",
    "ResponsePhase",
    "ResponseTrailers",
    "ResponseTrailersAnswer",
    "Routing",
    "Session",
    "StreamedRequestBody",
    "StreamedResponseBody",
    "decode",
    "encode",
    "hand_back",
]
