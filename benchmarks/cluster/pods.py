"""Pods as large as those of a cluster."""

from __future__ import annotations

from typing import Any

__all__ = ["LLAMA", "pod_document"]

LLAMA = {"app": "llama"}
_TIME = "2026-01-01T00:00:00Z"


def pod_document(number: int, *, managed: bool = False, ready: bool = True) -> dict[str, Any]:
    """
    Give the document of a model server's pod: about 3 KB, or with *managed* fields about 11 KB of JSON.

    Args:
        number: Makes name and address differ.
        managed: With what the API server remembers about who set which field, which only a proxy would strip.
        ready: Whether it is ready.
    """
    name, address = f"vllm-llama-{number:04}", f"10.0.{number // 250}.{number % 250 + 1}"
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": "default",
        "generateName": "vllm-llama-5d9c7b9d8f-",
        "labels": {**LLAMA, "pod-template-hash": "5d9c7b9d8f", "llm-d.ai/role": "decode", "zone": "a"},
        "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "8000"},
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "vllm-llama", "uid": "0" * 36}],
    }
    if managed:
        fields: dict[str, Any] = {f"f:{key}": {f"f:part-{part}": {} for part in range(6)} for key in range(60)}
        manager = {"manager": "kubelet", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": fields}
        metadata["managedFields"] = [manager]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": _SPEC, "status": _status(address, ready)}


def _status(address: str, ready: bool) -> dict[str, Any]:
    kinds = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    return {
        "phase": "Running",
        "conditions": [
            {"type": kind, "status": str(ready or kind != "Ready"), "lastTransitionTime": _TIME} for kind in kinds
        ],
        "hostIP": "192.168.0.1",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": _TIME,
        "containerStatuses": [
            {
                "name": "vllm",
                "state": {"running": {"startedAt": _TIME}},
                "ready": ready,
                "restartCount": 0,
                "imageID": f"sha256:{'a' * 64}",
                "containerID": f"containerd://{'b' * 64}",
            }
        ],
        "qosClass": "Burstable",
    }


_SPEC: dict[str, Any] = {
    "containers": [
        {
            "name": "vllm",
            "image": "vllm/vllm-openai:v0.12.0",
            "args": ["--model", "meta-llama/Llama-3.1-8B-Instruct", "--port", "8000", "--enable-lora"],
            "ports": [{"containerPort": 8000, "name": "http", "protocol": "TCP"}],
            "env": [{"name": f"VARIABLE_{number}", "value": "some value"} for number in range(12)],
            "resources": {"limits": {"nvidia.com/gpu": "1", "memory": "64Gi"}},
            "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 5},
            "volumeMounts": [
                {"name": "cache", "mountPath": "/root/.cache"},
                {"name": "token", "readOnly": True, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"},
            ],
        }
    ],
    "volumes": [{"name": "cache", "emptyDir": {}}, {"name": "token", "projected": {"defaultMode": 420}}],
    "restartPolicy": "Always",
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
}
