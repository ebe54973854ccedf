"""Following a cluster: the client of an API server, and what drives it."""

from inferencepool.runtime.kubernetes._decoding import fastest_pod_loads
from inferencepool.runtime.kubernetes._kubeconfig import SERVICE_ACCOUNT, choose_namespace, load_cluster
from inferencepool.runtime.kubernetes._lightkube import LightkubeTransport
from inferencepool.runtime.kubernetes._transport import KubernetesTransport, KubernetesWriter
from inferencepool.runtime.kubernetes._watch import PoolWatch, RuleListener

__all__ = [
    "SERVICE_ACCOUNT",
    "KubernetesTransport",
    "KubernetesWriter",
    "LightkubeTransport",
    "PoolWatch",
    "RuleListener",
    "choose_namespace",
    "fastest_pod_loads",
    "load_cluster",
]
