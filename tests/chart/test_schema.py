"""values.schema.json: it knows every value and no other, and so a slip of the pen is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from toggle_plugin.settings import KEYS

from .chart import SOURCE, VALUES, refusal

SCHEMA = json.loads((SOURCE / "values.schema.json").read_text(encoding="utf-8"))
DEFAULTS = yaml.safe_load((SOURCE / "values.yaml").read_text(encoding="utf-8"))
FREE = re.compile(
    r"^(.*\.(podLabels|podAnnotations|annotations|nodeSelector|affinity|requests|limits)|global|podSecurityContext|"
    r"containerSecurityContext|commonLabels|instance\.settings\.(targets|groups|accepted_identities))$"
)
"""Mappings whose keys are not ours."""


def resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema


def mappings(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every mapping of the schema below `schema`, with its path; members of lists are Kubernetes' own objects."""
    schema = resolved(schema)
    if "object" in (schema.get("type") or ()):
        yield path, schema
    for key, child in schema.get("properties", {}).items():
        yield from mappings(child, f"{path}.{key}".lstrip("."))


def paths(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        path = f"{prefix}.{key}".lstrip(".")
        yield path
        if isinstance(value, dict) and not FREE.match(path):
            yield from paths(value, path)


def known(schema: Mapping[str, Any], path: str) -> bool:
    for key in path.split("."):
        schema = resolved(resolved(schema).get("properties", {}).get(key, {}))
    return bool(schema)


def test_every_mapping_is_closed_but_for_those_whose_keys_are_not_ours() -> None:
    is_open = {path for path, schema in mappings(SCHEMA) if schema.get("additionalProperties") is not False}
    assert {path for path in is_open if not FREE.match(path)} == set()


def test_it_knows_every_default_value() -> None:
    assert [path for path in paths(DEFAULTS) if not known(SCHEMA, path)] == []


def test_every_value_that_it_knows_has_a_default() -> None:
    there = set(paths(DEFAULTS)) | {"global"}
    missing = []
    for path, schema in mappings(SCHEMA):
        keys = [f"{path}.{key}".lstrip(".") for key in schema.get("properties", {})]
        missing += [key for key in keys if key not in there and not key.startswith("instance.settings.")]
    assert [key for key in missing if not key.endswith(".claims")] == []


def test_it_knows_the_settings_of_the_plugin_and_no_other() -> None:
    settings = SCHEMA["$defs"]["settings"]
    assert set(settings["properties"]) == set(KEYS)
    target = settings["properties"]["targets"]["additionalProperties"]
    assert set(target["properties"]) == {"kind", "resource", "namespace", "name", "replicas", "allowed_users"}
    assert target["additionalProperties"] is False


@pytest.mark.parametrize("values", VALUES)
def test_the_values_of_the_tests_set_only_what_there_is(values: str) -> None:
    raw = yaml.safe_load(VALUES[values].read_text(encoding="utf-8"))
    assert [path for path in paths(raw) if not known(SCHEMA, path)] == []


def test_the_values_of_the_tests_set_every_value_there_is() -> None:
    every = set()
    for path in VALUES.values():
        every |= set(paths(yaml.safe_load(path.read_text(encoding="utf-8"))))
    others = {"rbac.create", "networkPolicy.enabled", "fullnameOverride", "upload.caSecret"}  # tests of their own
    assert {path for path in paths(DEFAULTS) if path not in every} <= others


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("bot.pasword", "x"),
        ("homserver", {}),
        ("maubot.replicas", 2),
        ("instance.settings.allowed_user", ["@alice:example.org"]),
        ("instance.settings.targets.web.replica", 1),
        ("networkPolicy.dns", True),
    ],
)
def test_an_unknown_key_is_refused_with_its_path(path: str, value: Any) -> None:
    said = refusal("minimal", {path: value})
    parent, _, key = path.rpartition(".")
    where = "/" + parent.replace(".", "/") if parent else ""
    assert f"at '{where}': additional properties '{key}' not allowed" in said


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("homeserver.url", 8008),
        ("instance.manage", "sometimes"),
        ("instance.settings.targets", ["web"]),
        ("instance.settings.allowed_users", "@alice:example.org"),
        ("instance.settings.command", "!toggle"),
        ("instance.settings.minimum_trust", "verified"),
        ("maubot.enabled", "yes"),
        ("maubot.image.digest", "latest"),
        ("maubot.logLevel", "info"),
        ("maubot.persistence.accessMode", "ReadOnlyMany"),
        ("maubot.persistence.size", 1),
        ("maubot.serviceAccount.tokenExpirationSeconds", 60),
        ("maubot.service.type", "ExternalName"),
        ("maubot.extraEnv", {"A": "b"}),
        ("networkPolicy.apiServer.ports", []),
        ("commonLabels", {"a": 1}),
        ("fullnameOverride", "Upper"),
    ],
)
def test_a_value_of_a_wrong_kind_is_refused_with_its_path(path: str, value: Any) -> None:
    assert "/" + path.replace(".", "/") in refusal("minimal", {path: value})


def test_all_wrong_kinds_are_told_at_once() -> None:
    said = refusal("minimal", {"homeserver.url": 1, "bot.pasword": "x", "maubot.logLevel": "x"})
    assert all(word in said for word in ("/homeserver/url", "pasword", "/maubot/logLevel"))
