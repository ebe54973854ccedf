from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from inferencepool.cli import main
from tests.patience import PATIENCE

METRICS: dict[str, Any] = {
    "llama-0": {"waiting_queue_size": 5, "kv_cache_usage": 0.5},
    "llama-1": {"waiting_queue_size": 0, "kv_cache_usage": 0.1},
    "llama-2": {"waiting_queue_size": 9, "kv_cache_usage": 0.9},
}
PAGE = """\
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{model_name="llama-3"} 2
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="llama-3"} 5
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{model_name="llama-3"} 0.25
"""


def _pool(name: str = "llama", *ports: int) -> dict[str, Any]:
    return {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": "llama"}},
            "targetPorts": [{"number": port} for port in ports or (8000,)],
            "endpointPickerRef": {"name": "llama-epp", "port": {"number": 9002}},
        },
    }


def _pod(number: int, *, ip: str | None = "", ready: bool = True, **metadata: Any) -> dict[str, Any]:
    address = f"10.0.0.{number + 1}" if not ip and ip is not None else ip
    status = {"conditions": [{"type": "Ready", "status": str(ready)}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"llama-{number}", "labels": {"app": "llama"}, **metadata},
        "status": status | ({"podIP": address} if address else {}),
    }


class Files:
    """The files of one pick, and the command on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pool = self.write("pool.json", _pool())
        self.pods = self.write("pods.json", *map(_pod, range(3)))

    def write(self, name: str, *documents: Any) -> str:
        """Write *documents* as JSON, one per line; give the name of the file."""
        return self.write_text(name, "\n".join(map(json.dumps, documents)))

    def write_text(self, name: str, text: str) -> str:
        """Write *text*; give the name of the file."""
        file = self.folder / name
        file.write_text(text, encoding="utf-8")
        return str(file)

    def pick(self, *arguments: str) -> int:
        """Run the command with more *arguments*; give its exit status."""
        return main(["pick", "--pool", self.pool, "--pods", self.pods, *arguments])


@pytest.fixture(name="files")
def _files(tmp_path: Path) -> Files:
    return Files(tmp_path)


class TestText:
    def test_destination_and_id(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """The endpoint with the least load is printed with its address first."""
        assert 0 == files.pick("--metrics", files.write("metrics.json", METRICS))
        captured = capsys.readouterr()
        assert "10.0.0.2:8000 default/llama-1-rank-0\n" == captured.out
        assert not captured.err

    def test_picks_of_one_call_spread(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """Several picks are held together, so that equal endpoints take turns."""
        assert 0 == files.pick("--count", "6")
        lines = capsys.readouterr().out.splitlines()
        assert [2, 2, 2] == [lines.count(f"10.0.0.{n}:8000 default/llama-{n - 1}-rank-0") for n in (1, 2, 3)]

    def test_seed_repeats_the_picks(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """The same seed gives the same picks; among many seeds, ties fall on every endpoint."""
        outputs = []
        for seed in [*range(20), *range(20)]:
            assert 0 == files.pick("--seed", str(seed), "--count", "4")
            outputs.append(capsys.readouterr().out)

        assert outputs[:20] == outputs[20:]
        assert 3 == len({output.partition(" ")[0] for output in outputs})

    def test_subset(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """Only the addresses of the subset are picked from, however loaded they are."""
        metrics = files.write("metrics.json", METRICS)

        assert 0 == files.pick("--metrics", metrics, "--subset", "10.0.0.3:8000, 10.9.9.9")
        assert capsys.readouterr().out.startswith("10.0.0.3:8000 ")

    def test_explanation_is_a_table_with_all_that_were_left_out(
        self, files: Files, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """`--explain` prints scores, what is not in the subset, and the pods that are no members, with reasons."""
        silent = {"llm-d.ai/active-ports": ""}
        files.pods = files.write("pods.json", _pod(0), _pod(1), _pod(2, ready=False), _pod(3, annotations=silent))

        assert 0 == files.pick("--explain", "--subset", "10.0.0.1", "--count", "2")
        output = capsys.readouterr().out
        assert 2 == output.count("picked 10.0.0.1:8000 (default/llama-0-rank-0)")
        assert "queue-scorer" in output
        assert "not in the subset" in output
        assert 2 == output.count("pods that are no members of the pool:\n  default/llama-2  not ready")
        assert "  default/llama-3  its active-ports annotation names no target port\n" in output

    def test_explanation_without_outsiders(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """Where all pods are members there is no section about others."""
        assert 0 == files.pick("--explain")
        assert "no members" not in capsys.readouterr().out

    def test_standard_input(
        self, files: Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """One of the files may be standard input."""
        pods = {"apiVersion": "v1", "kind": "List", "items": [_pod(6)]}
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(pods).encode())))
        files.pods = "-"

        assert 0 == files.pick()
        assert "10.0.0.7:8000 default/llama-6-rank-0\n" == capsys.readouterr().out


class TestJson:
    def test_fields(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """Every pick is one line with destination, endpoint, fallbacks and scores."""
        metrics = files.write("metrics.json", METRICS)

        assert 0 == files.pick("--metrics", metrics, "--output", "json", "--count", "2")
        picks = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert 2 == len(picks)
        assert {"destination", "endpoint", "fallbacks", "scores"} == picks[0].keys()
        assert "10.0.0.2:8000" == picks[0]["destination"]
        assert "default/llama-1-rank-0" == picks[0]["endpoint"]
        assert [] == picks[0]["fallbacks"]
        assert {"10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"} == picks[0]["scores"].keys()
        assert max(picks[0]["scores"], key=picks[0]["scores"].__getitem__) == "10.0.0.2:8000"

    def test_explanation(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """`--explain` adds the explanation, with the pods that are no members."""
        files.pods = files.write("pods.json", _pod(0), _pod(1, ready=False))
        request = files.write("request.json", {"model": "llama-3", "prompt": "Why?"})

        assert 0 == files.pick("--explain", "--output", "json", "--request", request)
        explanation = json.loads(capsys.readouterr().out)["explanation"]
        assert "llama-3" == explanation["model"]
        assert ["default/llama-0-rank-0"] == [each["endpoint"] for each in explanation["candidates"]]
        assert ["default/llama-1"] == [each["pod"] for each in explanation["not_members"]]

    def test_ipv6_is_bracketed(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """Addresses of IPv6 stand in brackets before a port."""
        files.pods = files.write("pods.json", _pod(0, ip="fd00::7"))

        assert 0 == files.pick("--output", "json", "--metrics", files.write("m.json", {"[fd00:0::7]:8000": {}}))
        assert json.loads(capsys.readouterr().out)["destination"] == "[fd00::7]:8000"


class TestManifests:
    @pytest.mark.parametrize(
        ("documents", "expected"),
        [
            ([_pool("a"), _pool("b")], "holds 2 InferencePools (document 1; document 2), allowed is exactly one"),
            ([_pod(0)], "holds no InferencePool, but 'Pod'"),
            ([{"kind": "List", "apiVersion": "v1", "items": []}], "holds no InferencePool, but an empty list"),
            ([_pool("llama", 70000)], "document 1: spec.targetPorts[0].number: 70000 is not in 1 to 65535"),
            ([_pool() | {"apiVersion": "x/v1"}], "document 1: apiVersion: 'x/v1' is not one of "),
        ],
    )
    def test_wrong_pool(
        self, documents: list[dict[str, Any]], expected: str, files: Files, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A file without exactly one valid pool is an error that names the place."""
        files.pool = files.write("pool.json", *documents)

        assert 1 == files.pick()
        captured = capsys.readouterr()
        assert not captured.out
        assert captured.err.startswith(f"inferencepool: {files.pool}: {expected}")
        assert "Traceback" not in captured.err

    def test_other_documents_beside_the_pool(self, files: Files) -> None:
        """A manifest that holds the pool with what belongs to it is fine."""
        files.pool = files.write("pool.json", {"apiVersion": "v1", "kind": "Service"}, _pool())

        assert 0 == files.pick()

    @pytest.mark.parametrize(
        ("documents", "expected"),
        [
            ([{"apiVersion": "v1", "kind": "Service"}], "holds no Pod, but 'Service'"),
            ([_pod(0), {"apiVersion": "v1"}], "document 2: kind: None is not Pod"),
            ([_pod(0), _pod(0)], "document 2: metadata.name: pod default/llama-0 was read before ("),
            ([_pod(0, ip="10.0.0.999")], "document 1: status.podIP: "),
            ([_pod(0, labels={"app": 7})], "document 1: metadata.labels['app']: 7 is not a string"),
            ([{"kind": "List", "items": [_pod(0) | {"apiVersion": "v2"}]}], "document 1, items[0]: apiVersion: 'v2' "),
        ],
    )
    def test_wrong_pods(
        self, documents: list[dict[str, Any]], expected: str, files: Files, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What is no pod, no valid pod, or a pod twice is an error that names document and field."""
        files.pods = files.write("pods.json", *documents)

        assert 1 == files.pick()
        error = capsys.readouterr().err
        assert error.startswith(f"inferencepool: {files.pods}: {expected}")
        assert "Traceback" not in error

    def test_reading_says_all_that_is_wrong_with_pods(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """The errors of all pods are told together."""
        files.pods = files.write("pods.json", _pod(0, ip="x"), _pod(1), _pod(2, ip="y"))

        assert 1 == files.pick()
        lines = capsys.readouterr().err.splitlines()
        assert ["document 1", "document 3"] == [line.split(": ")[2] for line in lines]

    @pytest.mark.parametrize("option", ["--pool", "--pods", "--metrics", "--request"])
    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (None, "no such file"),
            (b"", "is empty"),
            (b"\x7fELF\x00\xff\xfe", "text"),
            (b"a: [1,", "line "),
            (b"- a list", "mapping"),
        ],
    )
    def test_file_that_cannot_be_read(
        self,
        option: str,
        content: bytes | None,
        expected: str,
        files: Files,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """A missing or empty file, binary garbage and broken YAML are one line, whichever file it is."""
        file = tmp_path / "wrong.yaml"
        if content is not None:
            file.write_bytes(content)

        assert 1 == files.pick(option, str(file))
        captured = capsys.readouterr()
        assert not captured.out
        assert captured.err.startswith(f"inferencepool: {file}: ")
        assert expected in captured.err
        assert 1 == captured.err.count("\n")


class TestNoEndpoints:
    def test_pod_without_an_address(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """A ready pod without an IP address is named with file, document and field, and leaves nothing to pick."""
        files.pods = files.write("pods.json", _pod(0, ip=None))

        assert 1 == files.pick()
        captured = capsys.readouterr()
        assert not captured.out
        assert f"{files.pods}: document 1: status.podIP: Ready pod default/llama-0 has no IP address" in captured.err
        assert "inferencepool: there are no ready endpoints\n" in captured.err

    def test_pod_without_an_address_among_others(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """A ready pod without an IP address is reported, and the others are picked from."""
        files.pods = files.write("pods.json", _pod(0, ip=None), _pod(1), _pod(2, ready=False))

        assert 0 == files.pick()
        captured = capsys.readouterr()
        assert captured.out.startswith("10.0.0.2:8000 ")
        assert 1 == captured.err.count("\n")
        assert "document 1: status.podIP: " in captured.err

    def test_reasons_of_all_pods(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """Where no pod is a member, each is listed with its reason."""
        files.pods = files.write("pods.json", _pod(0, ready=False), _pod(1, namespace="other"), _pod(2, labels={}))

        assert 1 == files.pick()
        error = capsys.readouterr().err
        assert "inferencepool: 3 of 3 pods have no endpoints in the pool:\n" in error
        assert f"{files.pods}: document 1: pod default/llama-0: not ready" in error
        assert "pod other/llama-1: is in namespace other" in error
        assert "pod default/llama-2: labels do not match app=llama" in error

    def test_empty_list_of_pods(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """An empty list is what `kubectl` prints when there is no pod: nothing to pick from."""
        files.pods = files.write("pods.json", {"apiVersion": "v1", "kind": "List", "items": []})

        assert 1 == files.pick()
        assert "the file of pods holds no pod" in capsys.readouterr().err

    @pytest.mark.parametrize("subset", ["10.9.9.9:8000", "", "no address"])
    def test_subset_that_matches_nothing(self, subset: str, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """A subset that names no endpoint leaves nothing to pick from."""
        assert 1 == files.pick("--subset", subset)
        captured = capsys.readouterr()
        assert f"inferencepool: the subset {subset!r} names none of the 3 ready endpoints\n" == captured.err
        assert not captured.out


class TestMetrics:
    @pytest.mark.parametrize(
        "key",
        [
            "llama-1",
            "default/llama-1",
            "default/llama-1-rank-0",
            "10.0.0.2:8000",
            "10.0.0.2",
        ],
    )
    def test_names_of_an_endpoint(self, key: str, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """An endpoint is found by its pod, its id and its address."""
        files.pods = files.write("pods.json", _pod(0), _pod(1))
        metrics = files.write("metrics.json", {"llama-0": {"waiting_queue_size": 3}, key: {}})

        assert 0 == files.pick("--metrics", metrics)
        captured = capsys.readouterr()
        assert captured.out.startswith("10.0.0.2:8000 ")
        assert not captured.err

    def test_pod_stands_for_all_its_ports(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """Metrics of a pod count for every endpoint of it, those of an address with port for that one alone."""
        files.pool = files.write("pool.json", _pool("llama", 8000, 8001))
        files.pods = files.write("pods.json", _pod(0), _pod(1))
        busy = {"waiting_queue_size": 9}
        metrics = files.write("metrics.json", {"llama-0": busy, "10.0.0.2:8000": busy, "10.0.0.2:8001": {}})

        assert 0 == files.pick("--metrics", metrics)
        assert "10.0.0.2:8001 default/llama-1-rank-1\n" == capsys.readouterr().out

    @pytest.mark.parametrize(
        ("metrics", "expected"),
        [
            ({"lama-0": {}}, "lama-0: names no endpoint and no pod; known are, for instance, llama-"),
            ({"?": {}}, "?: names no endpoint and no pod; known are, for instance, default/llama-0,"),
            ({"10.9.9.9:8000": {}}, "10.9.9.9:8000: names no endpoint and no pod; "),
            ({"llama-0-rank-0": {}}, "llama-0-rank-0: names no endpoint and no pod; "),
            ({"default/llama-0-rank-1": {}}, "default/llama-0-rank-1: names no endpoint and no pod; "),
            ({"10.0.0.1:8001": {}}, "10.0.0.1:8001: names no endpoint and no pod; "),
            (
                {"llama-0": {}, "10.0.0.1": {}},
                "10.0.0.1: names endpoint default/llama-0-rank-0, as key llama-0 does",
            ),
            ({"llama-0": {"waiting_queue_size": -1}}, "llama-0: waiting_queue_size: -1 is not a whole number"),
            ({"llama-0": {"kv_cache_usage": 1.5}}, "llama-0: kv_cache_usage: 1.5 is not a number from 0 to 1"),
            ({"llama-0": {"queue": 1}}, "llama-0: queue: unknown metrics field; allowed: "),
            ({"llama-0": PAGE.replace(" 2\n", " NaN\n")}, "llama-0: metrics page, line 2: "),
            ({"llama-0": PAGE[:-30]}, "llama-0: metrics page"),
        ],
    )
    def test_wrong_metrics(
        self, metrics: dict[str, Any], expected: str, files: Files, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """An unknown or ambiguous key, an impossible value and a page that is cut name file, key and field."""
        file = files.write("metrics.json", metrics)

        assert 1 == files.pick("--metrics", file)
        captured = capsys.readouterr()
        assert captured.err.startswith(f"inferencepool: {file}: {expected}")
        assert not captured.out
        assert "Traceback" not in captured.err

    def test_nan(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """NaN, which YAML can say, is refused."""
        file = files.write_text("metrics.yaml", "llama-0: {kv_cache_usage: .nan}\n")

        assert 1 == files.pick("--metrics", file)
        error = capsys.readouterr().err
        assert error.startswith(f"inferencepool: {file}: ")
        assert "nan" in error.lower()

    def test_address_of_several_pods_is_ambiguous(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """An address that two pods share names neither."""
        files.pods = files.write("pods.json", _pod(0, ip="10.0.0.9"), _pod(1, ip="10.0.0.9"))

        assert 1 == files.pick("--metrics", files.write("metrics.json", {"10.0.0.9:8000": {}}))
        error = capsys.readouterr().err
        assert "10.0.0.9:8000: is ambiguous: names endpoints of pods default/llama-0, default/llama-1" in error

    @pytest.mark.parametrize("key", ["llama-1", "default/llama-1", "default/llama-1-rank-0", "10.0.0.2:8000"])
    def test_metrics_of_a_pod_that_is_no_member(
        self, key: str, files: Files, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Metrics of a pod that is not ready are allowed, and it is told that they are not used."""
        files.pods = files.write("pods.json", _pod(0), _pod(1, ready=False))
        file = files.write("metrics.json", {key: {}})

        assert 0 == files.pick("--metrics", file)
        assert f"inferencepool: {file}: {key}: not used, no endpoint of the pool\n" == capsys.readouterr().err

    def test_pool_without_endpoints(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """Where there is no endpoint at all, an unknown key says so."""
        files.pods = files.write("pods.json", _pod(0, ready=False))

        assert 1 == files.pick("--metrics", files.write("metrics.json", {"x": {}}))
        assert "x: names no endpoint and no pod; the pool has no endpoints\n" in capsys.readouterr().err

    def test_page_for_all(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """A page given as the file itself counts for every endpoint; what it lacks is told."""
        page = files.write_text("metrics.txt", PAGE)

        assert 0 == files.pick("--metrics", page)
        captured = capsys.readouterr()
        assert captured.out
        assert captured.err.startswith(f"inferencepool: {page}: the page has no ")

    def test_page_cut_in_the_middle(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """A page that ends within a line is refused."""
        page = files.write_text("metrics.txt", PAGE[: PAGE.index(" 5\n") - 5])

        assert 1 == files.pick("--metrics", page)
        captured = capsys.readouterr()
        assert captured.err.startswith(f"inferencepool: {page}: metrics page")
        assert not captured.out


class TestRequest:
    def _explain(self, files: Files, capsys: pytest.CaptureFixture[str], request: Any) -> str:
        assert 0 == files.pick("--explain", "--request", files.write("request.json", request))
        return capsys.readouterr().out

    def test_model_is_asked_for(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """The model of the request's body is the one that is asked for."""
        body = {"model": "llama-3", "prompt": "Why?", "max_tokens": 3, "headers": {"X-Request-Id": "7"}}

        assert " for model llama-3\n" in self._explain(files, capsys, body)

    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            ({"model": 3}, ["model: 3 is not a string"]),
            ({"prompt": 3}, ["prompt: is neither a string nor a list of strings"]),
            ({"prompt": [1, 2]}, ["prompt: is neither a string nor a list of strings"]),
            ({"prompt": "a", "messages": []}, ["messages: stands beside prompt; allowed is one of them"]),
            ({"messages": "a"}, ["messages: 'a' is not a list"]),
            ({"messages": ["a"]}, ["messages[0]: 'a' is not a mapping with role and content"]),
            ({"messages": [{"content": 1}]}, ["messages[0].content: 1 is neither a string nor a list of parts"]),
            ({"messages": [{"content": ["a"]}]}, ["messages[0].content[0]: 'a' is not a mapping with a type"]),
            (
                {"messages": [{"content": [{"type": "text", "text": 1}]}]},
                ["messages[0].content[0].text: 1 is not a string"],
            ),
            ({"headers": []}, ["headers: [] is not a mapping of names to strings"]),
            ({"headers": {"a": 1}}, ["headers.a: 1 is not a string"]),
            ({"headers": {"a": "1", "A": "2"}}, ["headers.A: header a is given twice; case does not matter"]),
            ({"model": 1, "id": 2}, ["model: 1 is not a string", "id: 2 is not a string"]),
        ],
    )
    def test_wrong_request(
        self, body: dict[str, Any], expected: list[str], files: Files, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What is wrong with a request names file and field."""
        file = files.write("request.json", body)

        assert 1 == files.pick("--request", file)
        lines = [f"inferencepool: {file}: document 1: {each}" for each in expected]
        assert lines == capsys.readouterr().err.splitlines()

    def test_two_requests(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """One request is picked for, not several."""
        file = files.write("request.json", {}, {})

        assert 1 == files.pick("--request", file)
        assert f"inferencepool: {file}: holds 2 documents, allowed is 1\n" == capsys.readouterr().err


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["--config", "config.yaml"], "--config: EndpointPickerConfig files are not supported yet"),
            (["--count", "0"], "--count: '0' is not a whole number of 1 or more"),
            (["--count", "x"], "--count: 'x' is not a whole number of 1 or more"),
            (["--seed", "x"], "--seed: invalid int value"),
            (["--output", "xml"], "--output: invalid choice"),
            (["--metrics", "-", "--request", "-"], "standard input (-) can be read only once"),
        ],
    )
    def test_wrong_usage_is_status_2(
        self, arguments: list[str], expected: str, files: Files, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Options that make no sense end with status 2 and name the option."""
        with pytest.raises(SystemExit) as raised:
            files.pick(*arguments)

        assert 2 == raised.value.code
        assert expected in capsys.readouterr().err

    def test_pool_and_pods_are_needed(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Without the files there is nothing to pick from."""
        with pytest.raises(SystemExit) as raised:
            main(["pick"])

        assert 2 == raised.value.code
        assert "required: --pool, --pods" in capsys.readouterr().err

    def test_module_runs(self, root: Path, files: Files) -> None:
        """`python -m inferencepool pick` prints the pick alone."""
        completed = subprocess.run(
            [sys.executable, "-m", "inferencepool", "pick", "--pool", files.pool, "--pods", files.pods, "--seed", "1"],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

        assert (0, "") == (completed.returncode, completed.stderr)
        assert completed.stdout.startswith("10.0.0.")
