"""Answers of HTTP that are too long, or not what was asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inferencepool.errors import ApiServerError
from inferencepool.lab.apiserver import Answer, ApiServer, Fault
from inferencepool.runtime.kubernetes import LightkubeTransport, load_cluster
from tests.bombs import gzip_bomb
from tests.runtime.kubernetes.test_lightkube import PODS, WATCH, run

LIMIT = 100_000
PACKED = {"content-encoding": "gzip"}
DEEP = b'{"message":' * 100_000


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(body=b"[" + b" " * LIMIT + b"]"), f"the answer has more than {LIMIT} bytes"),
        (Answer(body=gzip_bomb(50), headers=PACKED), f"the answer has more than {LIMIT} bytes"),
        (Answer(body=b"{}", content_type="text/html; charset=utf-8"), "the answer is 'text/html; charset=utf-8', not"),
        (Answer(status=307, headers={"location": "http://127.0.0.1:9/"}), "307 Temporary Redirect"),
        (Answer(status=500, body=json.dumps({"message": "x" * 1_000_000}).encode()), "500 Internal Server Error"),
        (Answer(status=500, body=gzip_bomb(50), headers=PACKED), "500 Internal Server Error"),
        (Answer(status=500, body=DEEP), "500 Internal Server Error"),
        (Answer(headers={f"x-{number}": "x" * 10_000 for number in range(100)}), "RemoteProtocolError"),
    ],
    ids=["long", "bomb", "type", "redirect", "text", "refusing bomb", "deep", "headers"],
)
def test_answers(answer: Answer, expected: str, tmp_path: Path) -> None:
    """Each is an error with a short reason, of a request and of a watch; the next request is as any other."""

    async def scenario() -> None:
        with ApiServer(initializing=0) as server:
            transport = LightkubeTransport(load_cluster(str(server.kubeconfig(tmp_path / "config"))), max_answer=LIMIT)
            with server.inject(Fault(answer=answer), times=None):
                with pytest.raises(ApiServerError, match=expected) as caught:
                    await transport.get(PODS, {})
                assert len(str(caught.value)) < 1000
                if "more than" not in expected:
                    with pytest.raises(ApiServerError, match=expected):
                        await anext(transport.stream_lines(PODS, WATCH))
            await transport.get(PODS, {})
            await transport.close()

    run(scenario)
