"""Bodies that are dear to read, and one that only is long."""

from __future__ import annotations

import asyncio
import contextlib
from time import monotonic

import attrs

__all__ = ["Bodies", "honest_chat"]

#: The model that everybody asks for, and one that a rewrite turns into it.
MODEL = "llama"
REWRITTEN = "llama-base"

_CHAT = "/v1/chat/completions"
_TEXT = "The quick brown fox jumps over the lazy dog. "


def honest_chat(number: int, size: int = 1500) -> bytes:
    """Give a chat of about *size* bytes, which begins as no chat with another *number* does."""
    text = f"{number}: " + _TEXT * (size // len(_TEXT))
    return (
        f'{{"model":"{MODEL}","max_tokens":4,"messages":[{{"role":"system","content":"Be brief."}},'
        f'{{"role":"user","content":"{text}"}}]}}'
    ).encode()


@attrs.frozen
class Bodies:
    """
    A client that sends one body again and again through the gateway, each as soon as the one before is answered.

    Attributes:
        size: Bytes of the body, about.
        piece: What is repeated until the body is as long as that.
        head: What comes before.
        tail: What comes after.
        path: Where it is sent.
        between: What stands between two pieces.
    """

    size: int
    piece: str
    head: str = f'{{"model":"{MODEL}","max_tokens":4,"messages":['
    tail: str = "]}"
    path: str = _CHAT
    between: str = ","

    def body(self) -> bytes:
        """Write the body."""
        times = (self.size - len(self.head) - len(self.tail)) // len(self.piece + self.between)
        return f"{self.head}{(self.piece + self.between) * (times - 1)}{self.piece}{self.tail}".encode()

    async def run(self, host: str, port: int, seconds: float) -> int:
        """Send for some seconds; gives how many were answered."""
        body = self.body()
        head = (
            f"POST {self.path} HTTP/1.1\r\nhost: pool\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        ).encode()
        end, answered = monotonic() + seconds, 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while monotonic() < end:
                    answered += await _send(host, port, head, body)
        return answered


async def _send(host: str, port: int, head: bytes, body: bytes) -> bool:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(head)
        writer.write(body)
        # The answer can come before all of the body has gone.
        return bool(await reader.read(1))
    except ConnectionError:
        return False
    finally:
        writer.transport.abort()
