"""The claim: it holds the bot's keys, so only one pod has it, and it stays."""

from __future__ import annotations

from typing import Any

import pytest

from .chart import Object, find, render


def claim(overrides: dict[str, Any]) -> Object:
    (found,) = find(render("minimal", overrides), "StatefulSet")["spec"]["volumeClaimTemplates"]
    spec: Object = found["spec"]
    return spec


def test_one_pod_at_a_time_has_it() -> None:
    assert claim({})["accessModes"] == ["ReadWriteOncePod"]


def test_the_mode_and_size_can_be_chosen() -> None:
    chosen = claim({"maubot.persistence.accessMode": "ReadWriteOnce", "maubot.persistence.size": "5Gi"})
    assert (chosen["accessModes"], chosen["resources"]["requests"]["storage"]) == (["ReadWriteOnce"], "5Gi")


@pytest.mark.parametrize(("given", "expected"), [("", None), ("fast", "fast"), ("-", "")])
def test_the_storage_class(given: str, expected: str | None) -> None:
    assert claim({"maubot.persistence.storageClass": given}).get("storageClassName") == expected


def test_it_stays_when_the_statefulset_goes() -> None:
    policy = find(render("minimal"), "StatefulSet")["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert policy == {"whenDeleted": "Retain", "whenScaled": "Retain"}


def test_an_existing_claim_takes_its_place() -> None:
    spec = find(render("existing-secret"), "StatefulSet")["spec"]
    assert "volumeClaimTemplates" not in spec
    volume = next(each for each in spec["template"]["spec"]["volumes"] if each["name"] == "data")
    assert volume["persistentVolumeClaim"] == {"claimName": "the-claim"}
