"""The client's model in a response that names another, and not one other byte changed."""

from __future__ import annotations

import json
import re
from typing import Final, final

import attrs

from inferencepool.adapters.bodies._decoding import BYTE_ORDER_MARK
from inferencepool.adapters.bodies._restoring_values import ValueRestorer

__all__ = ["ModelRestorer"]

_DATA: Final = b"data:"
_LINE_END = re.compile(rb"[\r\n]")

# One event as all servers write it: simple members, then the model. Whatever is written otherwise is walked through.
_TEXT = rb'"[^"\\\x00-\x1f]*+"'
_USUAL = re.compile(
    rb'data: ?\{(?:"(?!model")[a-z_]++": ?(?:%b|[0-9]++|true|false|null), ?)*+"model": ?(%b)' % (_TEXT, _TEXT)
)
_KEY: Final = b'"model"'


@final
@attrs.define(eq=False, init=False)
class ModelRestorer:
    """
    Puts the model that the client asked for back into a response, wherever its chunks are cut.

    What is replaced: the string that is the value of ``model`` in the object that a response in JSON is; in a stream of
    events also that in the objects ``response`` (Responses API) and ``message`` (Anthropic) of an event. It must be the
    model that the request was given; any other stays, as all other bytes do. What is no JSON passes as it is.

    Keeps back no more than a model's name, escaped, is long. One response belongs to one restorer; it is not safe for
    threads. Linear in the length of the response.
    """

    _walk: ValueRestorer
    _event_stream: bool
    _target: bytes
    _asked: bytes
    # The beginning of a line that is too short to tell whether the line holds data.
    _head: bytes
    _in_line: bool
    _in_data: bool
    _after_cr: bool
    _is_first: bool
    # Whether an event ended, and nothing of the next has come.
    _is_between: bool

    def __init__(self, target: str, asked: str, *, event_stream: bool) -> None:
        """
        Put *asked* where the response names *target*.

        Args:
            target: The model that the request was given.
            asked: The model that the client asked for.
            event_stream: Whether the response is a stream of events (``text/event-stream``); JSON otherwise.
        """
        self._asked = json.dumps(asked).encode()
        self._target = json.dumps(target, ensure_ascii=False).encode("utf-8", "surrogatepass")
        holders = frozenset({"response", "message"}) if event_stream else frozenset()
        self._walk = ValueRestorer(target, self._asked, holders)
        self._event_stream = event_stream
        self._head = b""
        self._in_line = self._in_data = self._after_cr = False
        self._is_first = self._is_between = True

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the response; give what can be sent on."""
        if not self._event_stream:
            return self._walk.feed(chunk)
        if self._is_between and not self._head and chunk.endswith(b"\n\n") and chunk.count(_KEY) == 1:
            found = _USUAL.match(chunk)
            if found is not None and b"\n" not in chunk[:-2] and b"\\u00" not in chunk:
                start, end = found.span(1)
                return chunk[:start] + self._asked + chunk[end:] if found[1] == self._target else chunk
        return self._feed_lines(chunk)

    def finish(self) -> bytes:
        """Take the end of the response; give what was kept back."""
        return self._head + self._walk.flush()

    def _feed_lines(self, chunk: bytes) -> bytes:
        sent: list[bytes] = []
        data, at, self._head = self._head + chunk, 0, b""
        while at < len(data):
            if not self._in_line:
                if self._after_cr:
                    self._after_cr = False
                    if data[at : at + 1] == b"\n":  # one end of a line with the CR before it
                        sent.append(b"\n")
                        at += 1
                        continue
                at = self._begin_line(data, at, sent)
                if self._head:
                    break
            found = _LINE_END.search(data, at)
            end = len(data) if found is None else found.start()
            sent.append(self._walk.feed(data[at:end]) if self._in_data else data[at:end])
            at = end
            if found is not None:
                sent += (self._walk.flush(), found[0])
                at += 1
                self._in_line, self._after_cr = False, found[0] == b"\r"
        return b"".join(sent)

    def _begin_line(self, data: bytes, at: int, sent: list[bytes]) -> int:
        """Tell what line begins at *at*; keep its beginning back if that is too short to tell."""
        marks = (_DATA, BYTE_ORDER_MARK + _DATA) if self._is_first else (_DATA,)
        first = data[at : at + len(marks[-1])]
        if any(len(first) < len(mark) and mark.startswith(first) for mark in marks):
            self._head = first
            return at
        self._in_line, self._in_data, self._is_first = True, False, False
        self._is_between = first[:1] in {b"\r", b"\n"}
        if self._is_between:
            self._walk.reset()
        for mark in marks:
            if first.startswith(mark):
                self._in_data = True
                sent.append(mark)
                return at + len(mark)
        return at
