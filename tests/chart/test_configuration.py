"""What the programs in the pods are told: maubot's configuration, the provisioner's, the helm test's."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest
import yaml

from .chart import Object, container, find, render, settings, variables

DEPLOYED = ["minimal", "existing-secret", "postgres", "everything"]


def maubot(values: str, overrides: dict[str, Any] | None = None) -> Any:
    objects = render(values, overrides)
    name = find(objects, "StatefulSet")["metadata"]["name"]
    return json.loads(find(objects, "ConfigMap", name)["data"]["maubot.json"])


def provisioner(objects: list[Object]) -> Any:
    files = [each.get("data", {}) for each in objects if each["kind"] == "ConfigMap"]
    return next(json.loads(data["provision.json"]) for data in files if "provision.json" in data)


def keys(mapping: Any, prefix: str = "") -> set[str]:
    """Every path of a mapping, but for what lies below logging, homeservers and admins."""
    found = set()
    for key, value in mapping.items():
        path = f"{prefix}.{key}".lstrip(".")
        found.add(path)
        if isinstance(value, dict) and path not in ("logging", "homeservers", "admins"):
            found |= keys(value, path)
    return found


@pytest.mark.parametrize("values", DEPLOYED)
def test_maubot_knows_every_key_of_its_configuration(values: str) -> None:
    example = files("maubot").joinpath("example-config.yaml").read_text(encoding="utf-8")
    assert keys(maubot(values)) <= keys(yaml.safe_load(example))


@pytest.mark.parametrize("values", DEPLOYED)
def test_dangerous_features_are_off_and_uploads_on(values: str) -> None:
    features = maubot(values)["api_features"]
    assert {name for name, on in features.items() if not on} == {"client_proxy", "dev_open"}


@pytest.mark.parametrize("values", DEPLOYED)
def test_no_secret_is_in_it(values: str) -> None:
    configuration = maubot(values)
    assert configuration["admins"] == {"root": "", "admin": ""}
    assert configuration["server"]["unshared_secret"] == ""
    assert configuration["database"] == "sqlite:/data/maubot.db"


@pytest.mark.parametrize("values", DEPLOYED)
def test_everything_that_is_kept_lies_on_the_claim(values: str) -> None:
    configuration = maubot(values)
    directories = configuration["plugin_directories"]
    kept = [
        directories["upload"],
        *directories["load"],
        directories["trash"],
        configuration["plugin_databases"]["sqlite"],
    ]
    assert all(path.startswith("/data/") for path in kept)
    mounts = {mount["mountPath"] for mount in container(render(values), "maubot")["volumeMounts"]}
    assert "/data" in mounts


@pytest.mark.parametrize(
    ("level", "of_maubot", "of_requests", "of_the_rest"),
    [("INFO", "INFO", "WARNING", "INFO"), ("DEBUG", "DEBUG", "DEBUG", "INFO"), ("ERROR", "ERROR", "WARNING", "ERROR")],
)
def test_it_logs_to_the_console_only(level: str, of_maubot: str, of_requests: str, of_the_rest: str) -> None:
    logging = maubot("minimal", {"maubot.logLevel": level})["logging"]
    assert [handler["class"] for handler in logging["handlers"].values()] == ["logging.StreamHandler"]
    loggers = {name: logger["level"] for name, logger in logging["loggers"].items()}
    assert loggers == {"maubot": of_maubot, "mau": of_maubot, "aiohttp.access": of_requests}
    assert logging["root"]["level"] == of_the_rest


@pytest.mark.parametrize(
    ("overrides", "url"),
    [
        ({}, "http://rel-maubot-k8s-toggle.bots.svc:29316"),
        ({"maubot.publicUrl": "https://a.example.org"}, "https://a.example.org"),
        ({"maubot.ingress": {"enabled": True, "host": "b.example.org"}}, "http://b.example.org"),
        ({"maubot.ingress": {"enabled": True, "host": "b.example.org", "tlsSecret": "s"}}, "https://b.example.org"),
        (
            {"maubot.httpRoute": {"enabled": True, "parentRefs": [{"name": "g"}], "hostnames": ["c.example.org"]}},
            "https://c.example.org",
        ),
    ],
)
def test_the_public_url_is_where_the_web_ui_is(overrides: dict[str, Any], url: str) -> None:
    assert maubot("minimal", overrides)["server"]["public_url"] == url


def test_the_web_ui_can_log_other_accounts_in_at_the_bots_homeserver() -> None:
    assert maubot("minimal")["homeservers"] == {"example.org": {"url": "https://matrix.example.org", "secret": None}}


def test_the_provisioner_is_told_everything() -> None:
    assert provisioner(render("existing-secret")) == {
        "mode": "deploy",
        "homeserver": "https://matrix.example.org:8448",
        "user": "@toggle:example.org",
        "device_name": "maubot",
        "maubot": "http://rel-maubot-k8s-toggle.bots.svc:29316",
        "secret": {"namespace": "bots", "name": "rel-maubot-k8s-toggle"},
        "plugin": "/plugin/plugin.mbp",
        "instance": {"id": "games", "manage": "reconcile", "settings": settings("existing-secret")},
        "ready_file": "/tmp/ready",  # noqa: S108
    }


def test_the_upload_is_told_where_and_no_more() -> None:
    assert provisioner(render("existing-maubot-upload")) == {
        "mode": "upload",
        "maubot": "https://maubot.example.org",
        "plugin": "/plugin/plugin.mbp",
        "ready_file": "/tmp/ready",  # noqa: S108
    }


def test_numbers_stay_whole() -> None:
    configuration = provisioner(render("minimal", {"instance.settings.targets.web.replicas": 1000}))
    replicas = configuration["instance"]["settings"]["targets"]["web"]["replicas"]
    assert (type(replicas), replicas) == (int, 1000)


@pytest.mark.parametrize(
    ("values", "maubot_ca", "index_ca"),
    [("minimal", None, None), ("existing-secret", "/homeserver-ca/ca.crt", "/index-ca/ca.crt")],
)
def test_certificates_are_where_python_and_pip_look_for_them(values: str, maubot_ca: Any, index_ca: Any) -> None:
    objects = render(values)
    assert variables(container(objects, "maubot")).get("SSL_CERT_FILE") == maubot_ca
    assert variables(container(objects, "install")).get("PIP_CERT") == index_ca
    for name, path in (("maubot", maubot_ca), ("install", index_ca)):
        mounts = [mount["mountPath"] for mount in container(objects, name)["volumeMounts"]]
        assert path is None or path.removesuffix("/ca.crt") in mounts


def test_the_index_is_pips() -> None:
    assert (
        variables(container(render("everything"), "install"))["PIP_INDEX_URL"]
        == "https://index.example.org:8443/simple"
    )
    source = variables(container(render("existing-secret"), "install"))["PIP_INDEX_URL"]
    assert source == {"secretKeyRef": {"name": "the-index", "key": "index-url"}}


def test_maubot_finds_installed_packages_and_leaves_an_images_own_alone() -> None:
    assert variables(container(render("minimal"), "maubot"))["PYTHONPATH"] == "/data/packages/current"
    assert "PYTHONPATH" not in variables(container(render("postgres"), "maubot"))


@pytest.mark.parametrize(("values", "kinds"), [("minimal", set()), ("everything", {"Ingress", "HTTPRoute"})])
def test_the_web_ui_is_exposed_only_if_asked_and_nothing_beside_it(values: str, kinds: set[str]) -> None:
    objects = render(values)
    assert {each["kind"] for each in objects} & {"Ingress", "HTTPRoute"} == kinds
    for kind in kinds:
        assert "/_matrix/maubot" in str(find(objects, kind)["spec"]["rules"])


def test_what_the_values_add_to_maubots_pod_is_there() -> None:
    objects = render("everything")
    assert variables(container(objects, "maubot"))["HTTPS_PROXY"] == "http://proxy:3128"
    assert {"name": "extra", "mountPath": "/extra", "readOnly": True} in container(objects, "maubot")["volumeMounts"]
    spec = find(objects, "StatefulSet")["spec"]["template"]["spec"]
    assert {"name": "extra", "configMap": {"name": "extra"}} in spec["volumes"]
    for kind in ("StatefulSet", "Deployment"):
        spec = find(objects, kind)["spec"]["template"]["spec"]
        assert spec["priorityClassName"] == "important", kind
        assert spec["nodeSelector"] == {"kubernetes.io/arch": "amd64"}, kind
        assert {"tolerations", "affinity"} <= set(spec), kind
