"""
What the bodies of inference requests and responses tell. Pure functions, no I/O.

`BodyParsers` finds by its path who reads a request's body; `rewrite_model` changes the model in one, and
`ModelRestorer` puts the client's back into the response; `UsageReader` tells from a response how many tokens it took.

Prompts as bytes (`ParsedBody.prompt`) are made so that what a model server's prefix cache has in common is in common
here. A completion's prompt is its text in UTF-8. In conversations the tools come
first, then the system's instructions, then the messages, each behind the one before it and independent of what follows.
Text stands there as it is, between marks of the bytes F8 to FF, which no UTF-8 text holds; tool calls and their like
are JSON with sorted keys; images and other media are their JSON or, above 256 bytes, its digest.
"""

from inferencepool.adapters.bodies._anthropic import AnthropicParser
from inferencepool.adapters.bodies._body import BodyParser, ParsedBody, Route, SteppedParser, UsageKind
from inferencepool.adapters.bodies._decoding import Loads, decode_object, loads_json
from inferencepool.adapters.bodies._engines import SglangHttpParser, VllmHttpParser
from inferencepool.adapters.bodies._openai import OpenAIParser
from inferencepool.adapters.bodies._registry import (
    PARSERS,
    BodyParsers,
    PassthroughParser,
    default_parsers,
    parser_named,
    request_path,
)
from inferencepool.adapters.bodies._restoring import ModelRestorer
from inferencepool.adapters.bodies._rewriting import rewrite_model, splice_model
from inferencepool.adapters.bodies._steps import PROMPT_BYTES, Budget, Steps, finished
from inferencepool.adapters.bodies._usage import Usage, read_usage
from inferencepool.adapters.bodies._usage_reader import UsageReader
from inferencepool.adapters.bodies._vllm_grpc import VllmGrpcParser

__all__ = [
    "PARSERS",
    "PROMPT_BYTES",
    "AnthropicParser",
    "BodyParser",
    "BodyParsers",
    "Budget",
    "Loads",
    "ModelRestorer",
    "OpenAIParser",
    "ParsedBody",
    "PassthroughParser",
    "Route",
    "SglangHttpParser",
    "SteppedParser",
    "Steps",
    "Usage",
    "UsageKind",
    "UsageReader",
    "VllmGrpcParser",
    "VllmHttpParser",
    "decode_object",
    "default_parsers",
    "finished",
    "loads_json",
    "parser_named",
    "read_usage",
    "request_path",
    "rewrite_model",
    "splice_model",
]
