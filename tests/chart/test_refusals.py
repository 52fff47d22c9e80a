"""Refusals: values that cannot work are told with their path and what to write instead, all at once."""

from __future__ import annotations

from typing import Any

import pytest

from toggle_plugin.settings import RESERVED_TARGETS

from .chart import refusal, render

MINIMAL = [
    ({"homeserver.url": ""}, "homeserver.url: is missing"),
    ({"homeserver.url": "matrix.example.org"}, "homeserver.url: write an address"),
    ({"homeserver.url": "https://user:pass@matrix.example.org"}, "homeserver.url: write an address"),
    ({"bot.userId": ""}, "bot.userId: is missing"),
    ({"bot.userId": "toggle"}, "bot.userId: write a Matrix ID"),
    ({"bot.userId": "@toggle"}, "bot.userId: write a Matrix ID"),
    ({"bot.password": ""}, "bot: has nothing to log in with"),
    ({"bot.password": "", "bot.accessToken": "t"}, "bot.deviceId: is missing"),
    ({"bot.existingSecret": "s"}, "bot.password: bot.existingSecret is set too"),
    ({"instance.id": "a/b"}, "instance.id: write lower-case letters"),
    ({"instance.id": ""}, "instance.id: write lower-case letters"),
    ({"instance.settings.allowed_users": ["alice"]}, "instance.settings.allowed_users[0]: write a Matrix ID"),
    ({"instance.settings.viewers": ["@a:b", "@x"]}, "instance.settings.viewers[1]: write a Matrix ID"),
    ({"instance.settings.allowed_rooms": ["#room:example.org"]}, "instance.settings.allowed_rooms[0]: write a room ID"),
    ({"instance.settings.maximum_age": "soon"}, "instance.settings.maximum_age: write a duration"),
    ({"instance.settings.targets.web.namespace": ""}, "instance.settings.targets.web.namespace: is missing"),
    ({"instance.settings.targets.web.namespace": "a.b"}, "instance.settings.targets.web.namespace: write the"),
    ({"instance.settings.targets.web.name": ""}, "instance.settings.targets.web.name: is missing"),
    ({"instance.settings.targets.web.name": "Web"}, "instance.settings.targets.web.name: write the workload's name"),
    ({"instance.settings.targets.web.kind": "DaemonSet"}, "instance.settings.targets.web.kind: write Deployment, "),
    ({"instance.settings.targets.web.kind": "Apps/v1/Pod"}, "instance.settings.targets.web.kind: write Deployment, "),
    ({"instance.settings.targets.web.kind": "a/b/c/D"}, "instance.settings.targets.web.kind: write Deployment, "),
    ({"instance.settings.targets.web.resource": "webs"}, "instance.settings.targets.web.resource: take it away"),
    (
        {"instance.settings.targets.web.kind": "a.io/v1/Web", "instance.settings.targets.web.resource": "Webs"},
        "instance.settings.targets.web.resource: write the kind's plural",
    ),
    ({"instance.settings.targets.web.replicas": 0}, "instance.settings.targets.web.replicas: write a whole number"),
    ({"instance.settings.targets.web.replicas": 1001}, "instance.settings.targets.web.replicas: write a whole number"),
    ({"instance.settings.targets.web.replicas": "many"}, "instance.settings.targets.web.replicas: write a whole"),
    ({"instance.settings.targets.web.allowed_users": ["x"]}, "instance.settings.targets.web.allowed_users[0]: write"),
    ({"instance.settings.targets.all": {"namespace": "a", "name": "b"}}, "instance.settings.targets.all: take another"),
    ({"instance.settings.targets.Web": {"namespace": "a", "name": "b"}}, "instance.settings.targets.Web: take another"),
    ({"instance.settings.groups": {"web": ["web"]}}, "instance.settings.groups.web: take another name"),
    ({"instance.settings.groups": {"history": ["web"]}}, "instance.settings.groups.history: take another name"),
    ({"instance.settings.groups": {"stack": []}}, "instance.settings.groups.stack: write a list of targets"),
    ({"instance.settings.groups": {"stack": ["web", "web"]}}, "instance.settings.groups.stack: has a target twice"),
    (
        {"instance.settings.groups": {"stack": ["web", "db"]}},
        'instance.settings.groups.stack[1]: there is no target "db"',
    ),
    ({"maubot.database.url": "sqlite:maubot.db"}, "maubot.database.url: write postgresql://"),
    ({"maubot.database.url": "postgres://h/d", "maubot.database.existingSecret": "s"}, "maubot.database.url: maubot."),
    ({"maubot.serviceAccount.create": False}, "maubot.serviceAccount.name: is missing"),
    ({"maubot.serviceAccount.namespace": "other"}, "maubot.serviceAccount.namespace: is only for"),
    ({"maubot.ingress.enabled": True}, "maubot.ingress.host: is missing"),
    ({"maubot.httpRoute.enabled": True}, "maubot.httpRoute.parentRefs: is empty"),
    ({"maubot.publicUrl": "bots.example.org"}, "maubot.publicUrl: write an address"),
    ({"upload.enabled": True}, "upload.enabled: is only for"),
    ({"homeserver.caSecret": "a", "homeserver.caConfigMap": "b"}, "homeserver.caSecret: homeserver.caConfigMap is"),
    (
        {"dependencies.caSecret": "a", "dependencies.caConfigMap": "b"},
        "dependencies.caSecret: dependencies.caConfigMap",
    ),
    ({"dependencies.indexUrl": "index"}, "dependencies.indexUrl: write an address"),
    ({"dependencies.indexUrl": "https://a:b@index/"}, "dependencies.indexUrl: write an address"),
    ({"dependencies.indexUrl": "https://index/", "dependencies.existingSecret": "s"}, "dependencies.indexUrl: depend"),
]
EXISTING = [
    ({"maubot.serviceAccount.name": ""}, "maubot.serviceAccount.name: is missing"),
    ({"maubot.serviceAccount.namespace": ""}, "maubot.serviceAccount.namespace: is missing"),
    ({"upload.url": ""}, "upload.url: is missing"),
    ({"upload.url": "maubot:29316"}, "upload.url: write an address"),
    ({"upload.existingSecret": ""}, "upload.existingSecret: is missing"),
    ({"upload.caSecret": "a"}, "upload.caSecret: upload.caConfigMap is set too"),
    ({"upload.enabled": False, "rbac.create": False}, "maubot.enabled: is false"),
    ({"upload.enabled": False, "instance.settings.targets": None}, "maubot.enabled: is false"),
]


def mistakes(said: str) -> list[str]:
    """The lines between helm's own words and ours."""
    assert "these values cannot be used" in said, said
    return [line for line in said.split("these values cannot be used:")[1].splitlines() if ": " in line]


@pytest.mark.parametrize(("overrides", "line"), MINIMAL)
def test_a_mistake_is_one_line_with_its_path(overrides: dict[str, Any], line: str) -> None:
    (told,) = mistakes(refusal("minimal", overrides))
    assert told.startswith(line)


@pytest.mark.parametrize(("overrides", "line"), EXISTING)
def test_a_mistake_about_an_existing_maubot_is_one_line_with_its_path(overrides: dict[str, Any], line: str) -> None:
    (told,) = mistakes(refusal("existing-maubot-upload", overrides))
    assert told.startswith(line)


def test_all_mistakes_are_told_at_once() -> None:
    overrides = {
        "homeserver.url": "",
        "bot.userId": "toggle",
        "bot.password": "",
        "instance.settings.targets.web.kind": "Pod",
        "instance.settings.targets.web.namespace": "",
        "maubot.ingress.enabled": True,
    }
    paths = [line.split(":")[0] for line in mistakes(refusal("minimal", overrides))]
    assert paths == [
        "homeserver.url",
        "bot.userId",
        "bot",
        "maubot.ingress.host",
        "instance.settings.targets.web.namespace",
        "instance.settings.targets.web.kind",
    ]


def test_no_word_of_the_commands_is_a_name() -> None:
    targets = {word: {"namespace": "a", "name": "b"} for word in RESERVED_TARGETS}
    told = mistakes(refusal("minimal", {"instance.settings.targets": targets}))
    assert [line.split(":")[0] for line in told] == [f"instance.settings.targets.{word}" for word in sorted(targets)]
    assert all(": take another name" in line for line in told)


@pytest.mark.parametrize("secret", ["bot.password", "bot.accessToken", "maubot.database.url"])
def test_a_refusal_repeats_no_secret(secret: str) -> None:
    said = refusal("minimal", {"homeserver.url": "", "bot.existingSecret": "s", secret: "w0rd"})
    assert "w0rd" not in said


@pytest.mark.parametrize(
    "overrides",
    [
        {"bot.userId": "@toggle:[fd00::1]:8448"},
        {"bot.userId": "@toggle:localhost:8008"},
        {"homeserver.url": "http://synapse:8008"},
        {"instance.settings.targets": None},
        {"instance.settings.groups": {"stack": ["web"]}},
        {"instance.settings.allowed_users": None},
        {"instance.settings.allowed_rooms": ["!id-without-server"]},
        {"instance.settings.maximum_age": "2h30m"},
        {"instance.settings.targets.web.replicas": 1000},
        {"instance.settings.targets.web.name": "web.with.dots"},
        {"bot.password": "", "bot.existingSecret": "s"},
    ],
)
def test_what_can_work_is_taken(overrides: dict[str, Any]) -> None:
    assert render("minimal", overrides)
