"""Secrets: only in Secrets, each only where it is needed; the release's own is shipped empty and kept."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from .chart import VALUES, Object, container, containers, find, name_of, parse, pods, render, template, variables

FULLNAME = "rel-maubot-k8s-toggle"
DEPLOYED = ["minimal", "existing-secret", "postgres", "everything"]
WORDS = {
    "bot.password": "w0rd-password",
    "bot.jwt": "w0rd-jwt",
    "bot.accessToken": "w0rd-access-token",
    "bot.recoveryKey": "w0rd-recovery-key",
    "maubot.database.url": "postgresql://maubot:w0rd-database@db/maubot",
}


def mounted(pod: Object) -> set[str]:
    """The Secrets that a pod sees, whole or in part."""
    sources = [volume.get("secret", {}).get("secretName") for volume in pod["spec"]["volumes"]]
    for each in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]):
        sources += [
            source["secretKeyRef"]["name"]
            for source in variables(each).values()
            if isinstance(source, dict) and "secretKeyRef" in source
        ]
    return {source for source in sources if source}


def own(objects: list[Object]) -> Object:
    return next(each for each in objects if each["kind"] == "Secret" and "data" not in each)


@pytest.mark.parametrize("values", DEPLOYED)
def test_the_releases_secret_is_shipped_empty_and_kept(values: str) -> None:
    secret = own(render(values))
    assert "stringData" not in secret, name_of(secret)
    assert secret["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}, name_of(secret)


def test_secrets_are_data_because_applying_stringdata_is_a_change_each_time(objects: list[Object]) -> None:
    for each in objects:
        assert "stringData" not in each, name_of(each)


@pytest.mark.parametrize("values", ["existing-maubot", "existing-maubot-upload"])
def test_with_an_existing_maubot_there_is_no_secret_of_ours(values: str) -> None:
    assert [name_of(each) for each in render(values) if each["kind"] == "Secret"] == []


def test_no_secret_is_anywhere_but_in_secrets() -> None:
    manifest = template("minimal", overrides=json.dumps({**WORDS, "bot.deviceId": "ADEVICE"}))
    assert "w0rd" not in manifest
    decoded = ""
    for each in parse(manifest):
        if each["kind"] == "Secret":
            decoded += "".join(base64.b64decode(value).decode() for value in each.get("data", {}).values())
    assert [word for word in WORDS.values() if word not in decoded] == []


@pytest.mark.parametrize("values", DEPLOYED)
def test_maubot_sees_two_keys_of_the_releases_secret_and_nothing_of_the_bots(values: str) -> None:
    objects = render(values)
    name = own(objects)["metadata"]["name"]
    sources = [
        source["secretKeyRef"]
        for source in variables(container(objects, "maubot")).values()
        if isinstance(source, dict) and source["secretKeyRef"]["name"] == name
    ]
    assert sorted(source["key"] for source in sources) == ["admin-password", "unshared-secret"]
    assert not any(source.get("optional") for source in sources), "the container has to wait for them"
    pod = find(objects, "StatefulSet")["spec"]["template"]
    assert not {volume["name"] for volume in pod["spec"]["volumes"]} & {"credentials"}
    assert mounted(pod) & {f"{FULLNAME}-credentials", "the-bots"} == set()


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        ("minimal", {"password": "a-password"}),
        ("postgres", {"access-token": "a-token", "device-id": "ADEVICE", "recovery-key": "EsTx abcd"}),
        ("everything", {"jwt": "a-json-web-token", "recovery-key": "EsTx abcd"}),
    ],
)
def test_the_bots_credentials_are_files_of_the_provisioner(values: str, keys: dict[str, str]) -> None:
    objects = render(values)
    pod = find(objects, "Deployment")["spec"]["template"]
    volume = next(each for each in pod["spec"]["volumes"] if each["name"] == "credentials")["secret"]
    data = find(objects, "Secret", volume["secretName"])["data"]
    assert {key: base64.b64decode(value).decode() for key, value in data.items()} == keys
    mounts = {mount["name"]: mount["mountPath"] for mount in container(objects, "provisioner")["volumeMounts"]}
    assert mounts["credentials"] == "/credentials"
    assert volume["defaultMode"] & 0o007 == 0, "others may not read them"


def test_existing_secrets_stand_in_for_every_value_that_is_secret() -> None:
    objects = render("existing-secret")
    assert [each["metadata"]["name"] for each in objects if each["kind"] == "Secret"] == [FULLNAME]
    seen = {owner.split()[0]: mounted(pod) for owner, pod in pods(objects)}
    assert seen["StatefulSet"] == {FULLNAME, "the-database", "the-index", "company-ca"}
    assert seen["Deployment"] == {"the-bots", "company-ca"}
    database: Any = variables(container(objects, "maubot"))["MAUBOT_DATABASE"]
    assert database == {"secretKeyRef": {"name": "the-database", "key": "uri"}}


def test_the_upload_has_the_credentials_of_the_existing_maubot() -> None:
    pod = find(render("existing-maubot-upload"), "Job")["spec"]["template"]
    assert mounted(pod) == {"maubot-admin"}


@pytest.mark.parametrize("values", VALUES)
def test_every_pull_secret_is_handed_on(values: str) -> None:
    expected = [{"name": "the-registry"}] if values in ("existing-secret", "everything") else None
    for owner, pod in pods(render(values)):
        assert pod["spec"].get("imagePullSecrets") == expected, owner


def test_no_secret_is_an_argument_or_a_plain_variable(objects: list[Object]) -> None:
    for name, each in containers(objects):
        assert "args" not in each, name
        for variable, value in variables(each).items():
            secret = any(word in variable for word in ("PASSWORD", "SECRET", "DATABASE"))
            assert not (secret and isinstance(value, str)), f"{name}: {variable}"
