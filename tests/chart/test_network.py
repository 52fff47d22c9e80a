"""NetworkPolicies: each pod has one, and may talk only with what it needs."""

from __future__ import annotations

from typing import Any

import pytest

from .chart import Object, find, name_of, pods, render

FULLNAME = "rel-maubot-k8s-toggle"
MAUBOT = 29316


def policies(objects: list[Object]) -> list[Object]:
    return [each for each in objects if each["kind"] == "NetworkPolicy"]


def egress(objects: list[Object], name: str) -> list[tuple[list[int], Any]]:
    """Ports and peers of each rule, DNS left out."""
    rules = find(objects, "NetworkPolicy", name)["spec"]["egress"]
    found = [([port["port"] for port in rule["ports"]], rule.get("to")) for rule in rules]
    assert found[0] == ([53, 53], None)
    return found[1:]


def test_every_pod_is_selected_by_exactly_one_policy(objects: list[Object]) -> None:
    for owner, pod in pods(objects):
        labels = pod["metadata"]["labels"].items()
        selecting = [
            name_of(policy)
            for policy in policies(objects)
            if policy["spec"]["podSelector"]["matchLabels"].items() <= labels
        ]
        assert len(selecting) == 1, f"{owner} is selected by {selecting}"


def test_every_policy_closes_both_directions(objects: list[Object]) -> None:
    for policy in policies(objects):
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"], name_of(policy)
        assert policy["spec"].get("ingress") or policy["metadata"]["name"] != FULLNAME, name_of(policy)


def test_no_rule_opens_every_port(objects: list[Object]) -> None:
    for policy in policies(objects):
        for rule in (*policy["spec"].get("ingress", ()), *policy["spec"]["egress"]):
            assert rule.get("ports"), f"{name_of(policy)} opens every port: {rule}"


def test_maubot_reaches_homeserver_api_server_and_index() -> None:
    assert egress(render("minimal"), FULLNAME) == [([443], None), ([443, 6443], None), ([443], None)]


def test_the_ports_are_those_of_the_urls() -> None:
    objects = render("postgres")
    assert egress(objects, FULLNAME) == [([8008], None), ([443, 6443], None), ([5433], None)]
    assert egress(render("existing-secret"), FULLNAME)[0] == ([8448], None)


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("https://[fd00::1]", 443),
        ("https://[fd00::1]:8448", 8448),
        ("http://synapse.matrix.svc", 80),
        ("https://matrix.example.org/path", 443),
    ],
)
def test_the_port_of_a_url_is_found(url: str, port: int) -> None:
    assert egress(render("minimal", {"homeserver.url": url}), FULLNAME)[0] == ([port], None)


def test_peers_narrow_every_rule() -> None:
    def at(host: int) -> list[Object]:
        return [{"ipBlock": {"cidr": f"192.0.2.{host}/32"}}]

    objects = render("everything")
    assert egress(objects, "rel-toggler") == [
        ([443], at(2)),
        ([8443], at(1)),
        ([5432], at(3)),
        ([8443], at(4)),
        ([3128], at(5)),
    ]


def test_the_provisioner_reaches_maubot_homeserver_and_api_server_and_nobody_reaches_it() -> None:
    objects = render("minimal")
    policy = find(objects, "NetworkPolicy", f"{FULLNAME}-provisioner")["spec"]
    assert "ingress" not in policy
    ports = [rule[0] for rule in egress(objects, f"{FULLNAME}-provisioner")]
    assert ports == [[MAUBOT], [443], [443, 6443]]
    maubot = find(objects, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    peer = egress(objects, f"{FULLNAME}-provisioner")[0][1][0]["podSelector"]["matchLabels"]
    assert peer.items() <= maubot.items()


def test_the_upload_reaches_the_existing_maubot_only() -> None:
    objects = render("existing-maubot-upload")
    assert egress(objects, f"{FULLNAME}-provisioner") == [([443], None)]
    assert [each["metadata"]["name"] for each in policies(objects)] == [f"{FULLNAME}-provisioner", f"{FULLNAME}-test"]


@pytest.mark.parametrize(
    ("overrides", "others"),
    [
        ({}, []),
        ({"maubot.ingress.enabled": True, "maubot.ingress.host": "a.example.org"}, [{"namespaceSelector": {}}]),
        ({"networkPolicy.ingressFrom": [{"podSelector": {}}]}, [{"podSelector": {}}]),
    ],
)
def test_who_reaches_the_web_ui(overrides: dict[str, Any], others: list[Object]) -> None:
    objects = render("minimal", overrides)
    (rule,) = find(objects, "NetworkPolicy", FULLNAME)["spec"]["ingress"]
    assert rule["ports"] == [{"port": MAUBOT, "protocol": "TCP"}]
    own, *rest = rule["from"]
    assert rest == others
    for owner, pod in pods(objects):
        assert own["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items(), owner


def test_they_can_be_left_out() -> None:
    assert policies(render("minimal", {"networkPolicy.enabled": False})) == []
