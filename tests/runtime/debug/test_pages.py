"""What the pages show, and to whom."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

import attrs
import pytest

from inferencepool.errors import NoEndpointsError
from inferencepool.model import Endpoint, EndpointMetrics, InferenceRequest
from inferencepool.picker import EndpointPicker
from inferencepool.registry import EndpointRegistry
from inferencepool.runtime.debug import DebugPages, DecisionLog
from inferencepool.runtime.debug._html import document
from inferencepool.runtime.http import Page, PageRequest
from inferencepool.scheduling import SchedulingProfile
from inferencepool.testing import ManualClock, make_pod, make_pool
from tests.registry.ejecting import Fleet
from tests.runtime.debug.test_decisions import REQUEST, SECRET, registry_of
from tests.runtime.http.clients import client_of, serving

EVIL = "</td></table><script>alert(1)</script>&\"'"


class Outline(HTMLParser):
    """Reads a page: that its tags are closed, what it links to, and its text."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.feed(page.decode())
        self.close()
        assert [] == self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open a tag."""
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in {"href", "src"}]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the tag that is open."""
        assert tag == self.open.pop()

    def handle_data(self, data: str) -> None:
        """Keep a text."""
        if self.open and self.open[-1] != "style" and data.strip():
            self.words.append(data.strip())


@attrs.define
class Stage:
    """A picker with pages."""

    picker: EndpointPicker
    log: DecisionLog
    pages: DebugPages

    def get(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        host: str = "localhost:9090",
        local: str = "127.0.0.1",
    ) -> Page:
        """Ask for a page."""
        show = self.pages.pages()["/debug/"]
        return show(PageRequest(path=path, query=query or {}, headers={"host": host}, local_address=local))

    def json(self, name: str) -> Any:
        """Ask for what is read by machines."""
        page = self.get(f"/debug/{name}")
        assert ("application/json", 200) == (page.content_type, page.status)
        return json.loads(page.body)


def stage_of(registry: EndpointRegistry | None = None, **options: Any) -> Stage:
    """Make a picker with pages."""
    log = DecisionLog(interval=0)
    picker = EndpointPicker(registry or registry_of(3), observer=log)
    return Stage(picker, log, DebugPages(picker, log, **options))


class TestAccess:
    @pytest.mark.parametrize("local", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9090", "127.0.0.1:9090", "[::1]:9090"])
    def test_from_this_machine(self, local: str, host: str) -> None:
        """Whoever connects to a loopback address, and means it, sees everything."""
        assert 200 == stage_of().get("/debug/", local=local, host=host).status

    @pytest.mark.parametrize(
        ("local", "host"),
        [
            ("10.0.0.5", "localhost"),
            ("fd00::1", "[::1]"),
            ("", "localhost"),
            ("127.0.0.1", "evil.example"),
            ("127.0.0.1", "127.0.0.1.evil.example:9090"),
            ("127.0.0.1", "10.0.0.5"),
            ("127.0.0.1", ""),
            ("127.0.0.1", "[::1"),
        ],
    )
    @pytest.mark.parametrize("path", ["/debug/", "/debug/state.json", "/debug/decisions.json", "/debug/nothing"])
    def test_from_elsewhere(self, local: str, host: str, path: str) -> None:
        """Other machines, and pages of other sites in a browser of this one, see nothing."""
        page = stage_of().get(path, local=local, host=host)
        assert (403, b"these pages are shown to connections from this machine alone\n") == (page.status, page.body)

    def test_from_anywhere_if_wanted(self) -> None:
        """An option lets everybody in."""
        assert 200 == stage_of(remote=True).get("/debug/", local="10.0.0.5", host="picker.example").status

    def test_over_http(self) -> None:
        """It is so for real connections."""

        async def scenario() -> None:
            stage = stage_of()
            async with serving(stage.pages.pages()) as server, client_of(server) as client:
                assert "403" in (await client.ask("/debug/"))[0]
                status, headers, body = await client.ask("/debug/", "GET", "host: localhost")
                assert "400" in status  # two hosts
            async with serving(stage.pages.pages()) as server, client_of(server) as client:
                await client.say(b"GET /debug/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                status, headers, body = await client.hear()
                assert ("HTTP/1.1 200 OK", "no-store") == (status, headers["cache-control"])
                assert b"Endpoint picker of default/pool" in body

        asyncio.run(scenario())


class TestEjections:
    def test_an_endpoint_that_fails(self) -> None:
        """Its row is marked, with the reason, since when and until when; the others are not."""
        fleet = Fleet(3)
        stage = stage_of(fleet.registry)
        fleet.fail(1)
        fleet.clock.advance(0.5)
        body = stage.get("/debug/").body.decode()
        assert ["default/p1-rank-0"] == re.findall("<tr class=marked><td>(.*?)</td>", body)
        assert "consecutive-5xx (status 500), since 0.5 s, probed in 1.5 s" in body
        assert "1 are ejected" in body
        items = stage.json("state.json")["endpoints"]
        probe = {"since_seconds": 0.5, "probe_in_seconds": 1.5}
        expected = {"reason": "consecutive-5xx", "model": None, "detail": "status 500", **probe}
        assert [[], [expected], []] == [item["ejections"] for item in items]

        fleet.clock.advance(1.5)
        assert "since 2.0 s, probed by the next request" in stage.get("/debug/").body.decode()
        fleet.pick_at(1).succeeded()
        assert b"class=marked" not in stage.get("/debug/").body

    def test_for_one_model(self) -> None:
        """An endpoint that lacks a model is listed with it; its row is not marked, as it serves the others."""
        fleet = Fleet(3)
        stage = stage_of(fleet.registry)
        request = InferenceRequest(model=EVIL)
        fleet.pick_at(0, request).succeeded()
        for _ in range(3):
            fleet.pick_at(1, request).failed(404)
        body = stage.get("/debug/").body
        assert b"class=marked" not in body
        outline = Outline(body)
        assert "script" not in outline.tags
        assert any(f"model-not-found for model {EVIL} (status 404)" in word for word in outline.words)
        assert [EVIL] == [each["model"] for each in stage.json("state.json")["endpoints"][1]["ejections"]]

    def test_a_decision_names_the_reason(self) -> None:
        """An endpoint that is ejected is not considered, and why stands on the decision's page."""
        fleet = Fleet(3)
        stage = stage_of(fleet.registry)
        fleet.fail(1)
        stage.picker.pick(REQUEST)
        assert "consecutive-5xx" in stage.get("/debug/decisions/1").body.decode()


class TestBrowser:
    def test_policy(self) -> None:
        """A browser runs nothing, loads nothing, and takes the one style that is there."""
        page = stage_of().get("/debug/")
        headers = dict(page.headers)
        style = re.search(r"<style>(.*?)</style>", page.body.decode(), re.DOTALL)
        assert style is not None
        digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
        assert (
            f"default-src 'none'; frame-ancestors 'none'; style-src 'sha256-{digest}'"
            == headers["content-security-policy"]
        )
        assert "nosniff" == headers["x-content-type-options"]

    def test_nothing_from_elsewhere(self) -> None:
        """Links lead to these pages alone."""
        stage = stage_of()
        stage.picker.pick(REQUEST)
        links = Outline(stage.get("/debug/").body).links + Outline(stage.get("/debug/decisions/1").body).links
        assert {"state.json", "decisions.json", "?refresh=2", "decisions/1", "../"} == set(links)

    @pytest.mark.parametrize(
        ("asked", "seconds"), [("2", "2"), ("0", None), ("-1", None), ("x", None), ("99999", None)]
    )
    def test_refresh(self, asked: str, seconds: str | None) -> None:
        """A browser that asks for it comes again."""
        assert seconds == dict(stage_of().get("/debug/", {"refresh": asked}).headers).get("refresh")


class TestSecrets:
    def test_none_is_shown(self) -> None:
        """Neither prompts, nor credentials, nor what stands in a query."""
        stage = stage_of()
        stage.picker.pick(REQUEST)
        with pytest.raises(NoEndpointsError):
            stage.picker.pick(REQUEST, "")
        for path in ("", "state.json", "decisions.json", "decisions/1", "decisions/2"):
            page = stage.get(f"/debug/{path}")
            assert 200 == page.status
            assert SECRET.encode() not in page.body

    def test_everything_is_escaped(self) -> None:
        """Whatever a client or a cluster says is shown, and is no HTML."""
        registry = EndpointRegistry(clock=ManualClock())
        endpoint = Endpoint(namespace="n", pod_name=EVIL, address="10.0.0.1", port=1, rank=None)
        registry.set_endpoints([endpoint])
        registry.observe_metrics(endpoint.id, EndpointMetrics(active_models={EVIL}, max_active_models=1))
        stage = stage_of(registry, statistics={EVIL: lambda: EVIL})
        headers = {":path": EVIL, EVIL: "x", "user-agent": EVIL}
        stage.picker.pick(InferenceRequest(model=EVIL, id=EVIL, fairness_id=EVIL, headers=headers))
        with pytest.raises(NoEndpointsError):
            stage.picker.pick(InferenceRequest(model=EVIL, id=EVIL), [EVIL])
        for path in ("", "decisions/1", "decisions/2"):
            outline = Outline(stage.get(f"/debug/{path}").body)
            assert "script" not in outline.tags
            assert any(EVIL in word for word in outline.words)


class TestState:
    def test_everything(self) -> None:
        """The pool, the profile, each endpoint's signals and their age, load of picks, and statistics."""
        registry = EndpointRegistry(make_pool(name="llama", selector={"app": "llama"}), clock=ManualClock(100))
        registry.resync([make_pod("p", ip="10.0.0.1", labels={"app": "llama"})])
        load = EndpointMetrics(
            waiting_queue_size=4,
            running_requests=5,
            kv_cache_usage=0.5,
            active_models={"b", "a"},
            waiting_models={"c"},
            max_active_models=4,
            observed_at=97,
        )
        registry.observe_metrics("default/p-rank-0", load)

        @attrs.frozen
        class Told:
            number: float
            names: tuple[str, ...]

        statistics = {"mine": lambda: Told(float("nan"), ("a", "b")), "plain": lambda: {"x": {1}, "y": object}}
        stage = stage_of(registry, statistics=statistics)
        stage.picker.pick(InferenceRequest())
        state = stage.json("state.json")

        assert {"namespace": "default", "name": "llama", "selector": "app=llama", "target_ports": [8000]} == state[
            "pool"
        ]
        (endpoint,) = state["endpoints"]
        assert {
            "endpoint": "default/p-rank-0",
            "destination": "10.0.0.1:8000",
            "node": None,
            "waiting": 4,
            "running": 5,
            "kv_cache_usage": 0.5,
            "active_models": ["a", "b"],
            "waiting_models": ["c"],
            "max_active_models": 4,
            "age_seconds": 3.0,
            "pending": 1,
            "in_flight": 1,
            "ejections": [],
        } == endpoint
        assert ["queue-scorer", "kv-cache-utilization-scorer", "prefix-cache-scorer"] == [
            item["name"] for item in state["profile"]["scorers"]
        ]
        assert {"number": None, "names": ["a", "b"]} == state["statistics"]["mine"]
        assert {"x": [1], "y": "<class 'object'>"} == state["statistics"]["plain"]
        assert 1 == state["statistics"]["registry"]["pods"] == state["statistics"]["picker"]["in_flight"]

    def test_as_a_page(self) -> None:
        """People see the same."""
        stage = stage_of(statistics={"mine": lambda: {"a": {"b": [1, 2]}}})
        words = Outline(stage.get("/debug/").body).words
        for word in ("Endpoints: 3", "default/p0-rank-0", "10.0.0.2:8000", "queue-scorer", "mine.a.b", "1, 2"):
            assert word in words
        assert words.count("None yet.") == words.count("None.") == 1

    def test_endpoints_of_no_pool(self) -> None:
        """There is no pool to show, and nothing was observed."""
        registry = EndpointRegistry(clock=ManualClock())
        registry.set_endpoints([Endpoint(namespace="n", pod_name="p", address="10.0.0.1", port=1, rank=None)])
        stage = stage_of(registry)
        assert stage.json("state.json")["pool"] is None
        assert stage.json("state.json")["endpoints"][0]["age_seconds"] is None
        words = Outline(stage.get("/debug/").body).words
        assert {"Endpoint picker", "never observed", "n/p"} <= set(words)

    def test_no_endpoints(self) -> None:
        """The page says what that means."""
        words = Outline(stage_of(EndpointRegistry()).get("/debug/").body).words
        assert {"Endpoints: 0", "There are none, so every request is refused."} <= set(words)

    def test_a_large_fleet(self) -> None:
        """A page shows a thousand; the JSON has them all."""
        stage = stage_of(registry_of(1002))
        words = Outline(stage.get("/debug/").body).words
        assert "default/p999-rank-0" in words
        assert "default/p1001-rank-0" not in words
        assert "2 more are in" in words
        assert 1002 == len(stage.json("state.json")["endpoints"])


class TestDecisions:
    def test_a_decision(self) -> None:
        """It is listed, and has a page with every candidate and its scores."""
        stage = stage_of()
        result = stage.picker.pick(REQUEST)
        words = Outline(stage.get("/debug/").body).words
        assert {"why? 1", "id-1", "llama", result.destination} <= set(words)

        words = Outline(stage.get("/debug/decisions/1").body).words
        assert words.index("picked") < words.index("default/p2-rank-0") < words.index("default/p0-rank-0")
        assert {"queue-scorer x2", "kv-cache-utilization-scorer x2", "total", "3 tokens"} <= {
            *words,
            *(part.strip() for word in words for part in word.split(",")),
        }

    def test_a_refusal(self) -> None:
        """It is listed with its reason, and has a page without candidates."""
        stage = stage_of()
        with pytest.raises(NoEndpointsError) as caught:
            stage.picker.pick(REQUEST, "")
        assert str(caught.value) in Outline(stage.get("/debug/").body).words
        words = Outline(stage.get("/debug/decisions/1").body).words
        assert str(caught.value) in words
        assert "Candidates" not in words

    def test_fallbacks_and_rejected_endpoints(self) -> None:
        """All places, and why an endpoint was no candidate."""

        class NotFirst:
            def keep(self, endpoint: Endpoint) -> bool:
                return endpoint.pod_name != "p0"

        log = DecisionLog()
        profile = SchedulingProfile(filters=[NotFirst()], max_num_of_endpoints=2)
        picker = EndpointPicker(registry_of(4), profile=profile, observer=log)
        stage = Stage(picker, log, DebugPages(picker, log))
        picker.pick(REQUEST)
        words = Outline(stage.get("/debug/decisions/1").body).words
        assert {"picked", "fallback 1", "Not considered", "filter not-first"} <= set(words)
        assert {"filter", "keep", "not-first", "max-score-picker"} <= set(Outline(stage.get("/debug/").body).words)

    def test_more_than_are_kept(self) -> None:
        """The page says how many are not shown."""

        class Even:
            def keep(self, endpoint: Endpoint) -> bool:
                return int(endpoint.pod_name[1:]) % 2 == 0

        log = DecisionLog()
        picker = EndpointPicker(registry_of(120), profile=SchedulingProfile(filters=[Even()]), observer=log)
        stage = Stage(picker, log, DebugPages(picker, log))
        picker.pick(REQUEST)
        words = Outline(stage.get("/debug/decisions/1").body).words
        assert {"10 more had lower scores.", "10 more were not considered."} <= set(words)

    def test_as_json(self) -> None:
        """Both lists, with explanations as they are given elsewhere."""
        stage = stage_of()
        result = stage.picker.pick(REQUEST)
        with pytest.raises(NoEndpointsError):
            stage.picker.pick(REQUEST, "")
        document = stage.json("decisions.json")

        (decision,), (refusal,) = document["decisions"], document["refusals"]
        assert json.loads(json.dumps(result.explain().to_dict())) == decision["explanation"]
        assert (result.destination, None, "") == (
            decision["destination"],
            refusal["explanation"],
            refusal["destination"],
        )
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", decision["at"])

    @pytest.mark.parametrize("name", ["decisions/0", "decisions/2", "decisions/", "decisions/x", "else", "../debug/"])
    def test_pages_that_are_not_there(self, name: str) -> None:
        """Decisions that are kept no longer, and nonsense."""
        stage = stage_of()
        stage.picker.pick(REQUEST)
        assert 404 == stage.get(f"/debug/{name}").status


def test_what_cannot_be_written_is_escaped() -> None:
    """JSON may hold half of a surrogate pair, and a client may send it as its model; the page is made all the same."""
    assert b"a\\ud800" in document("a\ud800")
