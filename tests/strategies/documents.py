"""Values that YAML and JSON documents hold, and documents of the API: valid ones, mutated ones, and none at all."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

# Strings that YAML 1.1 takes for something else unless they are quoted.
AWKWARD_STRINGS = st.sampled_from(
    [
        "",
        "y",
        "on",
        "No",
        "null",
        "~",
        "010",
        "1e3",
        "1:30",
        "2026-03-02",
        ".inf",
        "<<",
        "=",
        "- a",
        "a: b",
        "{",
        "#",
        "\u2028",
    ]
)
STRINGS = AWKWARD_STRINGS | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | STRINGS
)


def mappings() -> st.SearchStrategy[dict[str, Any]]:
    """Make mappings as documents hold them, nested a few times."""
    values: st.SearchStrategy[Any] = st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STRINGS, inner, max_size=3),
        max_leaves=8,
    )
    return st.dictionaries(STRINGS.filter(lambda key: key != "kind"), values, max_size=4)


V1 = "inference.networking.k8s.io/v1"
V1ALPHA2 = "inference.networking.x-k8s.io/v1alpha2"
OBJECTIVES = "llm-d.ai/v1alpha2"
IMPORTS = "inference.networking.x-k8s.io/v1alpha1"

# Values at and beyond the edges of the rules of one field or another.
AWKWARD_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    65535,
    65536,
    1_000_000,
    1_000_001,
    2**31 - 1,
    2**31,
    -(2**31) - 1,
    2**63,
    8000.0,
    80.5,
    "",
    "a",
    "A",
    "-a",
    "a-",
    "a.b",
    "a..b",
    "a_b",
    "a b",
    "a\n",
    "é",
    "a/b",
    "Service",
    "Status",
    "default",
    "FailOpen",
    "http",
    "grpc",
    "True",
    "Unknown",
    "8000",
    "a" * 63,
    "a" * 64,
    "a" * 253,
    "a" * 254,
    "a" * 1025,
    "gateway.example.com/controller",
    [],
    ["a"],
    [{}],
    {},
    {"a": "b"},
    {"a": 1},
    {"number": 80},
)

LABELS = st.dictionaries(
    st.sampled_from(["app", "example.com/tier", "a", "A_b.c"]), st.sampled_from(["", "x", "Y.z-1"])
)
_NAMES = st.sampled_from(["a", "llama-3", "pool.example"])


def _object(required: dict[str, Any], **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Make objects with all *required* fields and some of the *optional* ones."""
    return st.fixed_dictionaries(required, optional=optional)


METADATA = _object(
    {"name": _NAMES},
    namespace=st.sampled_from(["default", "other"]),
    uid=st.sampled_from(["", "0a1b"]),
    labels=LABELS,
    annotations=st.dictionaries(st.just("example.com/note"), st.text(max_size=3)),
    creationTimestamp=st.just("2026-01-02T03:04:05Z"),
    resourceVersion=st.just("42"),
)
_CONDITION = _object(
    {
        "type": st.sampled_from(["Accepted", "ResolvedRefs", "Exported", "example.com/Own"]),
        "status": st.sampled_from(["True", "False", "Unknown"]),
        "reason": st.sampled_from(["Accepted", "Pending", "NotSupportedByParent", "NotSupportedByGateway"]),
        "message": st.sampled_from(["", "Waiting for controller"]),
        "lastTransitionTime": st.sampled_from(["1970-01-01T00:00:00Z", "2026-01-02T03:04:05+01:00"]),
    },
    observedGeneration=st.integers(0, 2**63 - 1),
)
CONDITIONS = st.lists(_CONDITION, max_size=3, unique_by=lambda item: item["type"])
_GROUPS = st.sampled_from(["", "example.com", "gateway.networking.k8s.io"])
_KINDS = st.sampled_from(["Gateway", "Service", "InferencePool", "Status"])
_PARENT_REF = _object(
    {"name": st.sampled_from(["gw", "default"])}, group=_GROUPS, kind=_KINDS, namespace=st.sampled_from(["a", "other"])
)
_CONTROLLERS = st.sampled_from(["example.com/controller", "a/b/c~d"])
PARENTS = st.lists(_object({"parentRef": _PARENT_REF}, controllerName=_CONTROLLERS, conditions=CONDITIONS), max_size=2)
_OLD_PARENTS = st.lists(_object({"parentRef": _PARENT_REF}, conditions=CONDITIONS), max_size=3)
_PORTS = st.integers(1, 65535)
_PICKER = {"name": st.sampled_from(["epp", "EPP_1"])}
_MODES = st.sampled_from(["FailOpen", "FailClose"])


def _picker() -> st.SearchStrategy[dict[str, Any]]:
    port = st.fixed_dictionaries({"number": _PORTS})
    with_port = _object({**_PICKER, "port": port}, group=_GROUPS, kind=_KINDS, failureMode=_MODES)
    return with_port | _object({**_PICKER, "kind": st.just("Gateway")}, group=_GROUPS, failureMode=_MODES)


def pools() -> st.SearchStrategy[dict[str, Any]]:
    """Make valid pools of v1."""
    numbers = st.lists(_PORTS, min_size=1, max_size=8, unique=True)
    spec = _object(
        {
            "selector": st.fixed_dictionaries({"matchLabels": LABELS.filter(bool)}),
            "targetPorts": numbers.map(lambda ports: [{"number": port} for port in ports]),
        },
        appProtocol=st.sampled_from(["http", "kubernetes.io/h2c"]),
        endpointPickerRef=_picker(),
    )
    return _documents(V1, "InferencePool", {"spec": spec}, status=_object({}, parents=PARENTS))


def old_pools() -> st.SearchStrategy[dict[str, Any]]:
    """Make valid pools of v1alpha2."""
    extension = _object(_PICKER, group=_GROUPS, kind=_KINDS, portNumber=_PORTS, failureMode=_MODES)
    spec = st.fixed_dictionaries({"selector": LABELS, "targetPortNumber": _PORTS, "extensionRef": extension})
    return _documents(V1ALPHA2, "InferencePool", {"spec": spec}, status=_object({}, parent=_OLD_PARENTS))


_POOL_REF = _object({"name": _NAMES}, group=_GROUPS, kind=_KINDS)
_CONDITIONS_ONLY = _object({}, conditions=CONDITIONS)


def objectives() -> st.SearchStrategy[dict[str, Any]]:
    """Make valid objectives."""
    spec = _object({"poolRef": _POOL_REF}, priority=st.integers(-(2**31), 2**31 - 1))
    return _documents(OBJECTIVES, "InferenceObjective", {"spec": spec}, status=_CONDITIONS_ONLY)


def rewrites() -> st.SearchStrategy[dict[str, Any]]:
    """Make valid rewrites."""
    model = _object({"value": STRINGS.filter(bool)}, type=st.just("Exact"))
    target = _object({"modelRewrite": STRINGS}, weight=st.integers(1, 1_000_000))
    rule = _object(
        {},
        matches=st.lists(st.fixed_dictionaries({"model": model}), max_size=2),
        targets=st.lists(target, min_size=1, max_size=2),
    )
    spec = st.fixed_dictionaries({"poolRef": _POOL_REF, "rules": st.lists(rule, max_size=2)})
    return _documents(OBJECTIVES, "InferenceModelRewrite", {"spec": spec}, status=_CONDITIONS_ONLY)


def imports() -> st.SearchStrategy[dict[str, Any]]:
    """Make valid imports."""
    clusters = st.lists(st.fixed_dictionaries({"name": _NAMES}), max_size=2)
    controller = _object({"name": _CONTROLLERS}, exportingClusters=clusters, parents=PARENTS, conditions=CONDITIONS)
    controllers = st.lists(controller, max_size=2, unique_by=lambda item: item["name"])
    status = st.fixed_dictionaries({"controllers": controllers})
    return _documents(IMPORTS, "InferencePoolImport", {}, status=status)


def old_models() -> st.SearchStrategy[dict[str, Any]]:
    """Make InferenceModels, which objectives and rewrites replaced."""
    target = _object({"name": _NAMES}, weight=st.integers(1, 1_000_000))
    spec = _object(
        {"modelName": _NAMES, "poolRef": st.fixed_dictionaries({"name": _NAMES})},
        criticality=st.sampled_from(["Critical", "Standard", "Sheddable"]),
        targetModels=st.lists(target, max_size=2),
    )
    return _documents(V1ALPHA2, "InferenceModel", {"spec": spec})


def pods() -> st.SearchStrategy[dict[str, Any]]:
    """Make valid pods."""
    ips = st.sampled_from(["10.0.0.1", "FD00:0::1", "::ffff:10.0.0.1", ""])
    ready = st.fixed_dictionaries(
        {"type": st.sampled_from(["Ready", "Own"]), "status": st.sampled_from(["True", "False"])}
    )
    status = _object(
        {},
        podIP=ips,
        podIPs=st.lists(st.fixed_dictionaries({"ip": ips}), max_size=2),
        hostIP=ips,
        conditions=st.lists(ready, max_size=3),
        containerStatuses=st.lists(_object({}, restartCount=st.integers(0, 3)), max_size=2),
    )
    return _documents("v1", "Pod", {}, status=status)


def _documents(version: str, kind: str, parts: dict[str, Any], **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    fixed = {"apiVersion": st.just(version), "kind": st.just(kind), "metadata": METADATA}
    return _object({**fixed, **parts}, **optional)


def valid() -> st.SearchStrategy[dict[str, Any]]:
    """Make valid documents of every kind."""
    return pools() | old_pools() | objectives() | rewrites() | imports() | pods()


@st.composite
def mutated(
    draw: st.DrawFn, documents: st.SearchStrategy[dict[str, Any]], spare: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Change up to three places of valid *documents*, never the fields at the top that *spare* names."""
    document = copy.deepcopy(draw(documents))
    for _ in range(draw(st.integers(0, 3))):
        _mutate(draw, document, spare)
    return document


def _mutate(draw: st.DrawFn, document: dict[str, Any], spare: tuple[str, ...]) -> None:
    node: Any = document
    while True:
        keys = [key for key in node if node is not document or key not in spare] if isinstance(node, dict) else []
        places: list[Any] = keys if isinstance(node, dict) else list(range(len(node)))
        if not places:
            return
        place = draw(st.sampled_from(places))
        if isinstance(node[place], dict | list) and node[place] and draw(st.integers(0, 4)):
            node = node[place]
            continue
        match draw(st.sampled_from(["replace", "remove", "double"])):
            case "remove":
                del node[place]
            case "double" if isinstance(node[place], list):
                node[place] = [*node[place], *copy.deepcopy(node[place])] * draw(st.integers(1, 9))
            case _:
                node[place] = copy.deepcopy(draw(st.sampled_from(AWKWARD_VALUES)))
        return


JSON = st.recursive(
    SCALARS | st.sampled_from(AWKWARD_VALUES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STRINGS, inner, max_size=3),
    max_leaves=6,
)


def garbage() -> st.SearchStrategy[Any]:
    """Make anything that JSON can hold, in the shape of an object of the API more often than not."""
    inner = st.dictionaries(
        st.sampled_from(
            ["selector", "targetPorts", "poolRef", "rules", "parents", "conditions", "controllers", "name"]
        ),
        JSON,
    )
    shaped = st.fixed_dictionaries(
        {"apiVersion": st.sampled_from([V1, V1ALPHA2, OBJECTIVES, IMPORTS, "v1"]) | JSON},
        optional={
            "kind": st.sampled_from(["InferencePool", "InferenceObjective", "InferenceModelRewrite", "Pod"]) | JSON,
            "metadata": METADATA | JSON,
            "spec": inner | JSON,
            "status": inner | JSON,
        },
    )
    return shaped | JSON
