"""Probes: a homeserver, cluster or database that is down restarts nothing; the web UI is reachable all the while."""

from __future__ import annotations

import pytest

from .chart import Object, container, containers, find, name_of, render

DEPLOYED = ["minimal", "existing-secret", "postgres", "everything"]
FEATURES = "/_matrix/maubot/v1/features"
BLACK_HOLE = 300
"""Seconds that maubot may take to listen, when its homeserver swallows every packet."""
DATABASE = 900
"""Seconds that start.py waits for PostgreSQL."""


def seconds(probe: Object) -> int:
    return int(probe["periodSeconds"]) * int(probe["failureThreshold"])


@pytest.mark.parametrize("values", DEPLOYED)
def test_maubot_has_time_to_start_without_a_homeserver_and_after_a_database(values: str) -> None:
    startup = container(render(values), "maubot")["startupProbe"]
    assert startup["httpGet"] == {"path": FEATURES, "port": "http"}
    assert seconds(startup) >= BLACK_HOLE + DATABASE


@pytest.mark.parametrize("values", DEPLOYED)
def test_only_maubots_own_answer_counts_for_its_life(values: str) -> None:
    liveness = container(render(values), "maubot")["livenessProbe"]
    assert liveness["httpGet"] == {"path": FEATURES, "port": "http"}
    assert seconds(liveness) >= 60


@pytest.mark.parametrize(
    ("values", "instance"), [("minimal", "toggle"), ("existing-secret", "games"), ("everything", "everything")]
)
def test_readiness_is_the_plugins(values: str, instance: str) -> None:
    readiness = container(render(values), "maubot")["readinessProbe"]
    assert readiness["httpGet"] == {"path": f"/_matrix/maubot/plugin/{instance}/readyz", "port": "http"}


@pytest.mark.parametrize("values", DEPLOYED)
def test_what_is_not_ready_can_be_reached(values: str) -> None:
    assert find(render(values), "Service")["spec"]["publishNotReadyAddresses"] is True


@pytest.mark.parametrize("values", DEPLOYED)
def test_a_pod_that_is_not_ready_is_replaced_by_a_better_one(values: str) -> None:
    assert find(render(values), "StatefulSet")["spec"]["podManagementPolicy"] == "Parallel"


@pytest.mark.parametrize("values", DEPLOYED)
def test_the_provisioner_is_ready_when_it_says_so_and_never_restarted(values: str) -> None:
    provisioner = container(render(values), "provisioner")
    assert provisioner["readinessProbe"]["exec"]["command"] == ["test", "-f", "/tmp/ready"]  # noqa: S108
    assert "livenessProbe" not in provisioner


def test_ports_of_probes_are_ports_of_the_container(objects: list[Object]) -> None:
    for name, each in containers(objects):
        ports = {port["name"] for port in each.get("ports", ())}
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            if "httpGet" in each.get(kind, {}):
                assert each[kind]["httpGet"]["port"] in ports, f"{name}: {kind}"


def test_the_service_leads_to_a_port_of_its_pod(objects: list[Object]) -> None:
    for service in (each for each in objects if each["kind"] == "Service"):
        ports = {port["name"]: port["containerPort"] for port in container(objects, "maubot")["ports"]}
        assert [ports[port["targetPort"]] for port in service["spec"]["ports"]] == [29316], name_of(service)
