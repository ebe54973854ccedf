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
_EMPTY_LINES = re.compile(rb"[\r\n]*+")

_KEY: Final = b'"model"'
# How any letter of the key may be written otherwise; servers do not do so.
_ESCAPED: Final = b"\\u006"

# Events as servers write them: members, then the model, and no line break inside. Whatever is written otherwise is
# walked through.
_STRING = rb'"(?:[^"\\\r\n]++|\\[^\r\n])*+"'
_LIST = rb"[\[{](?:[^\"\[\]{}\r\n]++|%b)*+[\]}]" % _STRING
for _ in range(7):
    _LIST = rb"[\[{](?:[^\"\[\]{}\r\n]++|%b|%b)*+[\]}]" % (_STRING, _LIST)
_MEMBER = rb'(?!"model")"[^"\\\r\n]*+": ?(?:%b|[^" ,\[\]{}\r\n]++|%b), ?' % (_STRING, _LIST)
_LINES = rb"(?:event:[^\r\n]*+\r?+\n)?+data:%b[^\r\n]*+(?:\n\n|\r\n\r\n)"
_USUAL = _LINES % (rb' ?\{(?:%b)*+"model": ?"[^"\\\r\n]*+"' % _MEMBER)
_OTHER = _LINES % b""
# So many at once that it hardly matters to begin, and so few that little is done twice where one of them is unusual.
_MOST_EVENTS = b"{1,16}+"
# What is tried in turn, and whether each of the events names a model there.
_EVENTS = [
    (is_usual, re.compile(b"(?:" + event + b")" + most))
    for most in (_MOST_EVENTS, b"{1}")
    for is_usual, event in ((True, _USUAL), (False, _OTHER))
]

# What a chunk may cost, in marks of the walk: a long one more, up to this length.
_MARKS = 1_024
_BYTES_FOR_MARK = 192
_LONGEST = 1 << 20
# What it does cost, beside the walk: lines, and bytes, escapes and objects of events that are as servers write them.
_MARKS_PER_LINE = 3
_BYTES_PER_MARK = 256
_PIECES_PER_MARK = 32


@final
@attrs.define(eq=False, init=False)
class ModelRestorer:
    """
    Puts the model that the client asked for back into a response, wherever its chunks are cut.

    What is replaced: the string that is the value of ``model`` in the object that a response in JSON is; in a stream of
    events also that in the objects ``response`` (Responses API) and ``message`` (Anthropic) of an event. It must be the
    model that the request was given; any other stays, as all other bytes do. What is no JSON passes as it is.

    Keeps back no more than a model's name, escaped, is long. One response belongs to one restorer; it is not safe for
    threads. What a chunk costs is bounded: one of more lines, members or values than servers write passes as it is, and
    all that follows it.

    Attributes:
        is_over: Whether it has given up, so that nothing is replaced any more.
    """

    is_over: bool

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
    # Whether the event that is under way passes as it is.

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
        self.is_over = False
        self._walk = ValueRestorer(target, self._asked, holders)
        self._event_stream = event_stream
        self._head = b""
        self._in_line = self._in_data = self._after_cr = False
        self._is_first = self._is_between = True

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the response; give what can be sent on."""
        if self.is_over:
            return chunk
        walk = self._walk
        walk.left = _MARKS + min(len(chunk), _LONGEST) // _BYTES_FOR_MARK
        sent = self._feed_lines(chunk) if self._event_stream else walk.feed(chunk)
        if walk.left >= 0:
            return sent
        return sent + self.give_up()

    def give_up(self) -> bytes:
        """Let all that follows pass as it is; give what was kept back."""
        self.is_over = True
        return self.finish()

    def finish(self) -> bytes:
        """Take the end of the response; give what was kept back."""
        head, self._head = self._head, b""
        return head + self._walk.flush()

    def _feed_lines(self, chunk: bytes) -> bytes:
        sent: list[bytes] = []
        data, at, self._head = self._head + chunk, 0, b""
        walk = self._walk
        while at < len(data):
            if walk.left < 0:
                sent += (walk.flush(), data[at:])
                break
            if not self._in_line:
                if self._after_cr:
                    self._after_cr = False
                    if data[at : at + 1] == b"\n":  # one end of a line with the CR before it
                        sent.append(b"\n")
                        at += 1
                        continue
                if self._is_between and (end := self._pass_events(data, at, sent)) > at:
                    at = end
                    continue
                walk.left -= _MARKS_PER_LINE
                at = self._begin_line(data, at, sent)
                if self._head:
                    break
                if not self._in_line:
                    continue
            found = _LINE_END.search(data, at)
            end = len(data) if found is None else found.start()
            sent.append(walk.feed(data[at:end]) if self._in_data else data[at:end])
            at = end
            if found is not None:
                sent += (walk.flush(), found[0])
                at += 1
                self._in_line, self._after_cr = False, found[0] == b"\r"
        return b"".join(sent)

    def _pass_events(self, data: bytes, at: int, sent: list[bytes]) -> int:
        """Replace the model in the whole events that begin at *at*, if they are as servers write them."""
        for is_usual, pattern in _EVENTS:
            found = pattern.match(data, at)
            if found is None:
                continue
            events = found[0]
            pieces = events.count(b"\\") + events.count(b"{")
            self._walk.left -= _MARKS_PER_LINE + len(events) // _BYTES_PER_MARK + pieces // _PIECES_PER_MARK
            # In strings quotes are escaped, so that each of these is a key or a value.
            named = events.count(b"\n\n") + events.count(b"\r\n\r\n") if is_usual else 0
            if events.count(_KEY) != named or _ESCAPED in events:
                continue
            if is_usual:
                for colon in (b":", b": "):
                    events = events.replace(_KEY + colon + self._target, _KEY + colon + self._asked)
            sent.append(events)
            self._is_first = False
            return found.end()
        return at

    def _begin_line(self, data: bytes, at: int, sent: list[bytes]) -> int:
        """Tell what line begins at *at*; keep its beginning back if that is too short to tell."""
        marks = (_DATA, BYTE_ORDER_MARK + _DATA) if self._is_first else (_DATA,)
        first = data[at : at + len(marks[-1])]
        if any(len(first) < len(mark) and mark.startswith(first) for mark in marks):
            self._head = first
            return at
        self._is_first = False
        found = _EMPTY_LINES.match(data, at)
        if found is not None and found[0]:
            # Whatever else of these belongs to one end of a line: an event has ended.
            sent.append(found[0])
            self._is_between = True
            self._walk.reset()
            return found.end()
        self._in_line, self._in_data, self._is_between = True, False, False
        for mark in marks:
            if first.startswith(mark):
                self._in_data = True
                sent.append(mark)
                return at + len(mark)
        return at
