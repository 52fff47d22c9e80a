"""A Kubernetes API server in small, as far as the plugin, the chart's provisioner and
``kubectl get/scale/rollout status`` need one."""

from .authorization import PolicyRule
from .behaviour import SLOW, Behaviour, Outcome
from .cluster import SimulatedCluster
from .faults import Fault, RequestRecord, When
from .pod import in_pod

__all__ = ["SLOW", "Behaviour", "Fault", "Outcome", "PolicyRule", "RequestRecord", "SimulatedCluster", "When", "in_pod"]
