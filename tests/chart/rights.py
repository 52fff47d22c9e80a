"""The rights that rendered Roles grant, one by one."""

from __future__ import annotations

from collections.abc import Iterator

from .chart import Object

Right = tuple[str, str, str, str, str]
"""Namespace, API group, resource, name (* for any), verb."""

BOT, PROVISIONER = "maubot", "provisioner"
"""Whose rights: the component in a Role's labels."""


def roles(objects: list[Object], component: str = BOT) -> list[Object]:
    return [
        each
        for each in objects
        if each["kind"] == "Role" and each["metadata"]["labels"]["app.kubernetes.io/component"] == component
    ]


def granted(objects: list[Object], component: str = BOT) -> set[Right]:
    return {
        right
        for role in roles(objects, component)
        for rule in role["rules"]
        for right in rights_of(role["metadata"]["namespace"], rule)
    }


def rights_of(namespace: str, rule: Object) -> Iterator[Right]:
    for group in rule["apiGroups"]:
        for resource in rule["resources"]:
            for name in rule.get("resourceNames") or ["*"]:
                for verb in rule["verbs"]:
                    yield namespace, group, resource, name, verb
