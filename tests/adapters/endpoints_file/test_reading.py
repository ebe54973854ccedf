"""What files of endpoints say."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.adapters.endpoints_file import EndpointsFile, read_endpoints
from inferencepool.errors import InvalidDocumentError
from inferencepool.model import Endpoint
from tests.strategies.documents import AWKWARD_VALUES, JSON

ENTRY: dict[str, Any] = {"name": "a", "address": "10.0.0.1", "port": "8000"}
# A value of this type takes a field away.
ABSENT = object()


def read(*entries: object) -> EndpointsFile:
    """Read a file of *entries*."""
    return read_endpoints({"endpoints": list(entries)})


def lines(*entries: object) -> list[str]:
    """What is wrong with *entries*, as a user sees it."""
    return [str(issue) for issue in read(*entries).issues]


class TestEntries:
    def test_every_field(self) -> None:
        """An entry gives an endpoint, without rank."""
        entry = ENTRY | {"namespace": "team-1", "labels": {"tier": "gold"}}
        expected = Endpoint(
            namespace="team-1", pod_name="a", address="10.0.0.1", port=8000, rank=None, labels={"tier": "gold"}
        )

        assert EndpointsFile((expected,)) == read(entry)
        assert read(entry).endpoints[0].id == "team-1/a"

    @pytest.mark.parametrize("given_namespace", [ABSENT, None, ""])
    def test_default_namespace(self, given_namespace: object) -> None:
        """An entry without a namespace is in `default`."""
        entry = ENTRY if given_namespace is ABSENT else ENTRY | {"namespace": given_namespace}

        assert read(entry).endpoints[0].id == "default/a"
        assert not read(entry).issues

    @pytest.mark.parametrize(
        ("address", "expected"),
        [("10.0.0.1", "10.0.0.1:8000"), ("FD00:0::1", "[fd00::1]:8000"), ("::ffff:10.0.0.1", "[::ffff:10.0.0.1]:8000")],
    )
    def test_addresses(self, address: str, expected: str) -> None:
        """IPv4 and IPv6 are taken, in canonical spelling."""
        assert expected == read(ENTRY | {"address": address}).endpoints[0].destination

    @pytest.mark.parametrize(("port", "expected"), [("1", 1), ("65535", 65535), ("08000", 8000), (8000, 8000)])
    def test_ports(self, port: object, expected: int) -> None:
        """A port is a string of digits, or a number."""
        assert expected == read(ENTRY | {"port": port}).endpoints[0].port

    def test_no_endpoints(self) -> None:
        """An empty list is a valid one."""
        assert EndpointsFile() == read()

    def test_labels_may_be_null(self) -> None:
        """An empty value in YAML is null."""
        assert {} == read(ENTRY | {"labels": None}).endpoints[0].labels


class TestWrongEntries:
    @pytest.mark.parametrize(
        ("field", "value", "expected"),
        [
            ("name", ABSENT, "is required: 1 to 253 printable characters without space and /"),
            ("name", "", "'' is not allowed; allowed: 1 to 253 printable"),
            ("name", "a/b", "'a/b' is not allowed"),
            ("name", "a\x7f", "'a\\x7f' is not allowed"),
            ("name", "a" * 254, "... (256 characters) is not allowed"),
            ("name", 7, "7 is not allowed"),
            ("namespace", "a b", "'a b' is not allowed; allowed: 1 to 253"),
            ("namespace", ["a"], "a list of 1 is not allowed"),
            ("address", ABSENT, "is required: an IPv4 or IPv6 address"),
            ("address", "vllm-0.example", "'vllm-0.example' is not allowed; allowed: an IPv4 or IPv6 address"),
            ("address", "[fd00::1]", "'[fd00::1]' is not allowed"),
            ("address", "fe80::1%eth0", "'fe80::1%eth0' is not allowed"),
            ("address", 1, "1 is not allowed"),
            ("port", ABSENT, 'is required: "1" to "65535"'),
            ("port", "0", "'0' is not allowed"),
            ("port", "65536", "'65536' is not allowed"),
            ("port", "80a", "'80a' is not allowed"),
            ("port", "\u0663", "'\u0663' is not allowed"),
            ("port", 0, "0 is not allowed"),
            ("port", True, "True is not allowed"),
            ("port", 80.0, "80.0 is not allowed"),
            pytest.param("port", 10**5000, "a number of thousands of digits is not allowed", id="digits"),
            ("labels", ["a"], "a list of 1 is not allowed; allowed: a mapping of strings to strings"),
            ("labels", {"a": 1}, "a mapping of 1 is not allowed"),
        ],
    )
    def test_wrong_value(self, field: str, value: object, expected: str) -> None:
        """A wrong entry is left out, and named with its field, value and rule; the others are read."""
        entry = {name: given_value for name, given_value in ENTRY.items() if name != field or value is not ABSENT}
        if value is not ABSENT:
            entry[field] = value
        found = read(entry, ENTRY | {"name": "b"})

        assert ["default/b"] == [endpoint.id for endpoint in found.endpoints]
        assert [f"endpoints[0].{field}"] == [issue.field for issue in found.issues]
        assert expected in found.issues[0].reason
        assert found.issues[0].value == (None if value is ABSENT else value)

    def test_everything_that_is_wrong_is_told(self) -> None:
        """All entries and fields are looked at."""
        assert [
            "endpoints[0].name: is required: 1 to 253 printable characters without space and /",
            'endpoints[0].port: \'x\' is not allowed; allowed: "1" to "65535"',
            "endpoints[2]: 7 is not a mapping",
        ] == lines({"address": "10.0.0.1", "port": "x"}, ENTRY, 7)

    def test_unknown_fields_are_named(self) -> None:
        """A field that is not known makes no entry useless, and is not passed over in silence."""
        found = read_endpoints({"endpoints": [ENTRY | {"lables": {}, "metricsHost": "10.0.0.1:9"}], "version": 1})

        assert ["default/a"] == [endpoint.id for endpoint in found.endpoints]
        assert [
            "version: is no field of an endpoints file and is not used; allowed: endpoints",
            f"endpoints[0].lables: is no field of an endpoint and is not used; allowed: {', '.join(FIELDS[:-1])}",
            "endpoints[0].metricsHost: is not used: this picker reads metrics, where it does, from address and port",
        ] == [str(issue) for issue in found.issues]

    def test_last_of_the_same_id_wins(self) -> None:
        """The earlier entry of an id that is given again is left out, and named."""
        found = read(ENTRY, ENTRY | {"address": "10.0.0.2"}, ENTRY | {"namespace": "other"}, ENTRY | {"port": "0"})

        assert ["10.0.0.2:8000", "10.0.0.1:8000"] == [endpoint.destination for endpoint in found.endpoints]
        assert "endpoints[1].name: 'default/a' is that of endpoints[0] as well, which is left out for it" == str(
            found.issues[0]
        )


class TestWrongDocuments:
    @pytest.mark.parametrize(
        ("document", "expected"),
        [
            ([], "a list of 0 is not a mapping"),
            (None, "None is not a mapping"),
            ({}, "endpoints: is required: a list of endpoints"),
            ({"endpoints": None}, "endpoints: None is not a list of endpoints"),
            ({"endpoints": {"a": 1}}, "endpoints: a mapping of 1 is not a list of endpoints"),
        ],
    )
    def test_nothing_can_be_read(self, document: object, expected: str) -> None:
        """A document without a list of endpoints is refused as a whole."""
        with pytest.raises(InvalidDocumentError) as caught:
            read_endpoints(document)

        assert expected == str(caught.value)


VALUES = st.sampled_from([*AWKWARD_VALUES, "10.0.0.1", "fd00::1"]) | JSON
FIELDS = ["name", "namespace", "address", "port", "labels", "other"]
ENTRIES = st.lists(st.dictionaries(st.sampled_from(FIELDS), VALUES).map(lambda extra: ENTRY | extra) | JSON)


@given(st.fixed_dictionaries({}, optional={"endpoints": ENTRIES | JSON}) | JSON)
def test_any_document_is_read_or_refused(document: object) -> None:
    """Whatever a document holds, all that comes out are endpoints that can be sent to, and entries that are named."""
    try:
        found = read_endpoints(document)
    except InvalidDocumentError:
        assert not isinstance(document, dict) or not isinstance(document.get("endpoints"), list)
        return
    assert isinstance(document, dict)

    ids = [endpoint.id for endpoint in found.endpoints]
    assert len(set(ids)) == len(ids)
    for endpoint in found.endpoints:
        assert str(ip_address(endpoint.address))
        assert 1 <= endpoint.port <= 65535
    named = {issue.field.split(".")[0] for issue in found.issues}
    for index, entry in enumerate(document["endpoints"]):
        if f"endpoints[{index}]" not in named:
            assert f"{entry.get('namespace') or 'default'}/{entry['name']}" in ids
