from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.adapters.exposition import ENGINES, MetricsReading
from inferencepool.cli._metrics_file import MetricsFile, read_metrics_file
from inferencepool.errors import InvalidDocumentError
from inferencepool.model import EndpointMetrics

PAGE = "vllm:num_requests_waiting 2\nvllm:num_requests_running 3\n"
METRICS = EndpointMetrics(waiting_queue_size=2, running_requests=3)


def _read(folder: Path, content: str) -> MetricsFile:
    file = folder / "metrics.yaml"
    file.write_text(content, encoding="utf-8")
    return read_metrics_file(str(file))


def _errors(folder: Path, content: str) -> list[str]:
    with pytest.raises(InvalidDocumentError) as caught:
        _read(folder, content)
    return [line.removeprefix(f"{folder / 'metrics.yaml'}: ") for line in str(caught.value).splitlines()]


class TestMappings:
    def test_example(self, root: Path) -> None:
        """The mapping among the examples is read."""
        metrics = read_metrics_file(str(root / "docs/examples/metrics.yaml"))

        assert metrics.for_all is None
        assert metrics.by_key["192.0.2.3:8000"].metrics == EndpointMetrics(
            waiting_queue_size=7,
            running_requests=32,
            kv_cache_usage=0.91,
            active_models=["chat-adapter", "sql-adapter"],
            waiting_models=["legal-adapter"],
            max_active_models=4,
        )
        assert "default/llama-3-rank-0" in metrics.by_key

    def test_pages(self, tmp_path: Path) -> None:
        """A value may be the text of a page, the name of its file, or a mapping with either."""
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub/page.txt").write_text(PAGE, encoding="utf-8")
        metrics = _read(
            tmp_path,
            "a: |\n  vllm:num_requests_waiting 2\n  vllm:num_requests_running 3\nb: sub/page.txt\n"
            "c: {page: sub/page.txt, engine: vllm}\nd: {page: 'sub/page.txt'}\n"
            f"e: {json.dumps(PAGE)}\nf: {tmp_path / 'sub/page.txt'}\n",
        )

        assert set("abcdef") == set(metrics.by_key)
        assert {METRICS} == {reading.metrics for reading in metrics.by_key.values()}
        assert ENGINES["vllm"] is metrics.by_key["c"].engine

    def test_json(self, tmp_path: Path) -> None:
        """The mapping may be JSON."""
        assert _read(tmp_path, '{"a": {"running_requests": 1}}').by_key == {
            "a": MetricsReading(metrics=EndpointMetrics(running_requests=1))
        }

    def test_every_error_is_reported(self, tmp_path: Path) -> None:
        """Errors of all keys come together, each with key, field and what is allowed."""
        content = """
        a: {waiting_queue_size: -1, running_requests: 1.5, kv_cache_usage: 2, active_models: x, waiting_models: [[]]}
        b: {queue: 1}
        c: 5
        d: ""
        e: {page: 1, engine: vllm, extra: 1}
        f: {page: none.txt}
        g: {page: none.txt, engine: tgi}
        h: {engine: [1]}
        i: "text\\nno page"
        """
        errors = _errors(tmp_path, content)

        assert errors[:5] == [
            "a: waiting_queue_size: -1 is not a whole number from 0 to 2147483647",
            "a: running_requests: 1.5 is not a whole number from 0 to 2147483647",
            "a: kv_cache_usage: 2 is not a number from 0 to 1",
            "a: active_models: 'x' is not a list of names",
            "a: waiting_models: [[]] is not a list of names",
        ]
        assert errors[5].startswith("b: queue: unknown metrics field; allowed: waiting_queue_size, running_requests, ")
        assert "c: must be a mapping of metrics, or a page" in errors[6]
        assert "d: must be the text of a page" in errors[7]
        assert "e: extra: unknown field beside a page; allowed: page, engine" == errors[8]
        assert "e: page: must be the text of a page or the name of its file" == errors[9]
        assert f"f: {tmp_path / 'none.txt'}: no such file" == errors[10]
        assert "g: engine: unknown engine 'tgi'; allowed: vllm, " in errors[11]
        assert "h: page: must be" in errors[12]
        assert "h: engine: unknown engine '[1]'" in errors[13]
        assert "i: metrics page, line 1: " in errors[14]
        assert 15 == len(errors)

    def test_cut_page(self, tmp_path: Path) -> None:
        """A page that is cut is named by its file and line."""
        page = tmp_path / "page.txt"
        page.write_text(PAGE[:-1], encoding="utf-8")
        (error,) = _errors(tmp_path, "a: page.txt")

        assert error.startswith(f"a: {page}: metrics page, line 2: the page is cut: ")

    def test_other_documents(self, tmp_path: Path) -> None:
        """The file holds one mapping."""
        assert ["holds 2 documents, allowed is 1"] == _errors(tmp_path, "a: {}\n---\nb: {}")
        assert ["document 1: must be a mapping, not a list"] == _errors(tmp_path, "- a")
        assert ["is empty"] == _errors(tmp_path, "")


class TestPages:
    @pytest.mark.parametrize(
        "page",
        [
            PAGE,
            f"# TYPE x gauge\n{PAGE}",
            f"\n# saved\n{PAGE}",
            PAGE.replace(" ", '{a="b"} '),
            PAGE.replace("\n", "\r\n"),
        ],
    )
    def test_page_for_all(self, tmp_path: Path, page: str) -> None:
        """A file that is a page itself is for every endpoint."""
        metrics = _read(tmp_path, page)

        assert {} == metrics.by_key
        assert metrics.for_all is not None
        assert METRICS == metrics.for_all.metrics

    def test_standard_input(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Files of pages named on standard input are looked for in the working directory."""
        monkeypatch.chdir(root)
        monkeypatch.setattr(
            "inferencepool.cli._metrics_file.read_text",
            {
                "-": "a: docs/examples/vllm-metrics.txt",
                "docs/examples/vllm-metrics.txt": PAGE,
            }.__getitem__,
        )

        assert METRICS == read_metrics_file("-").by_key["a"].metrics

    def test_cut_page(self, tmp_path: Path) -> None:
        """A cut page is not mistaken for YAML."""
        assert ["metrics page, line 2: the page is cut: no line end after 'vllm:num_req'"] == _errors(
            tmp_path, "vllm:num_requests_waiting 2\nvllm:num_req"
        )


@given(st.text(st.characters(codec="utf-8"), max_size=60) | st.text('ab:{}[] \n#|-12"', max_size=40))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Whatever the file holds, it is read or refused with our error."""
    with contextlib.suppress(InvalidDocumentError):
        _read(tmp_path_factory.getbasetemp(), text)
