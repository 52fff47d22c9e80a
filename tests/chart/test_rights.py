"""Rights: made from the targets that the instance gets, for these workloads only, and only what the plugin uses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from toggle_plugin.api_requests import AUTOSCALERS, BUILT_IN, Resource, wanted_rights
from toggle_plugin.models import WorkloadRef
from toggle_plugin.restart import RESTARTABLE
from toggle_plugin.settings import parse_settings

from .chart import NAMESPACE, VALUES, Object, find, name_of, render, settings
from .rights import PROVISIONER, Right, granted, roles

PLURALS = {"argoproj.io/v1alpha1/Rollout": "rollouts", "games.example/v1/Chess": "chesses"}
"""Of the kinds in the values, as a cluster that has them would say."""


def resource_of(ref: WorkloadRef) -> Resource:
    custom = PLURALS.get(ref.full_kind)
    return Resource(custom, custom=True) if custom else BUILT_IN[ref.kind]


def used(ref: WorkloadRef, *, diagnosis: bool) -> Iterator[Right]:
    """What the plugin itself says that it needs for a target; its `check` asks for the same."""
    for verb, resource, needed in wanted_rights(resource_of(ref)):
        if needed:
            yield ref.namespace, ref.group, resource, ref.name, verb
        elif diagnosis:
            yield ref.namespace, "", resource, "*", verb


def listed(refs: Sequence[WorkloadRef]) -> Iterator[Right]:
    """What a status may list where that is granted: the kinds of which a namespace has several targets."""
    for ref in refs:
        several = {other.name for other in refs if replace(other, name=ref.name) == ref}
        if len(several) > 1 and not resource_of(ref).custom:
            yield ref.namespace, ref.group, resource_of(ref).plural, "*", "list"


def test_exactly_what_the_plugin_uses_is_granted(values: str, objects: list[Object]) -> None:
    refs = [target.ref for target in parse_settings(settings(values)).targets.values()]
    expected = {right for ref in refs for right in used(ref, diagnosis=values != "postgres")}
    assert granted(objects) == expected | set(optional(refs) if values == "everything" else ())


def optional(refs: Sequence[WorkloadRef]) -> Iterator[Right]:
    """What is granted where every switch is on."""
    yield from listed(refs)
    for ref in refs:
        yield from restarted(ref)
        yield from autoscaled(ref)


def restarted(ref: WorkloadRef) -> Iterator[Right]:
    if ref.api_version == "apps/v1" and ref.kind in RESTARTABLE:
        yield ref.namespace, ref.group, resource_of(ref).plural, ref.name, "patch"


def autoscaled(ref: WorkloadRef) -> Iterator[Right]:
    for kind in AUTOSCALERS.values():
        yield ref.namespace, kind.group, kind.plural, "*", "list"


@pytest.mark.parametrize(("switch", "rights"), [("rbac.restart", restarted), ("rbac.autoscalers", autoscaled)])
def test_each_switch_grants_its_own_and_nothing_else(
    switch: str, rights: Callable[[WorkloadRef], Iterator[Right]]
) -> None:
    refs = [target.ref for target in parse_settings(settings("minimal")).targets.values()]
    more = granted(render("minimal", {switch: True})) - granted(render("minimal"))
    assert more == {right for ref in refs for right in rights(ref)} != set()


def test_listing_is_granted_only_where_it_is_asked_for_and_spares_requests() -> None:
    only_list = {"rbac.autoscalers": False}
    assert list_rights("everything", {**only_list, "rbac.list": False}) == set()
    assert list_rights("everything", only_list) == {("demo", "apps", "deployments")}
    second = {"namespace": "games", "name": "second", "kind": "StatefulSet"}
    wider = list_rights("everything", {**only_list, "instance.settings.targets.second": second})
    assert wider == {("demo", "apps", "deployments"), ("games", "apps", "statefulsets")}


def list_rights(values: str, overrides: dict[str, Any]) -> set[tuple[str, str, str]]:
    """Namespace, group and resource of the workloads that may be listed."""
    rights = granted(render(values, overrides))
    return {
        (namespace, group, resource)
        for namespace, group, resource, _, verb in rights
        if verb == "list" and resource not in ("pods", "events")
    }


def test_the_instance_gets_the_targets_that_the_rights_are_for(values: str, objects: list[Object]) -> None:
    found = [
        each for each in objects if each["metadata"]["name"].endswith("-provisioner") and each["kind"] == "ConfigMap"
    ]
    for each in found:
        configuration = json.loads(each["data"]["provision.json"])
        if configuration["mode"] == "deploy":
            assert configuration["instance"]["settings"] == settings(values)


def test_nothing_is_granted_in_the_whole_cluster(objects: list[Object]) -> None:
    assert [name_of(each) for each in objects if each["kind"].startswith("Cluster")] == []


def test_no_rule_has_a_wildcard_and_every_workload_is_named(objects: list[Object]) -> None:
    for role in (each for each in objects if each["kind"] == "Role"):
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]], name_of(role)
            assert rule.get("resourceNames") or rule["verbs"] == ["list"], f"{name_of(role)} names nothing in {rule}"


def test_one_role_and_one_binding_for_each_namespace_of_targets(values: str, objects: list[Object]) -> None:
    namespaces = sorted({target["namespace"] for target in settings(values)["targets"].values()})
    assert sorted(role["metadata"]["namespace"] for role in roles(objects)) == namespaces


@pytest.mark.parametrize(
    ("values", "account"),
    [
        ("minimal", (NAMESPACE, "rel-maubot-k8s-toggle")),
        ("existing-secret", (NAMESPACE, "the-account")),
        ("everything", (NAMESPACE, "the-bot")),
        ("existing-maubot", ("matrix", "maubot")),
        ("existing-maubot-upload", (NAMESPACE, "maubot")),
    ],
)
def test_the_binding_is_for_the_service_account_of_maubots_pod(values: str, account: tuple[str, str]) -> None:
    objects = render(values)
    for role in roles(objects):
        binding = next(
            each for each in objects if each["kind"] == "RoleBinding" and each["metadata"] == role["metadata"]
        )
        assert binding["roleRef"]["name"] == role["metadata"]["name"], name_of(binding)
        subjects = [(each["kind"], each["namespace"], each["name"]) for each in binding["subjects"]]
        assert subjects == [("ServiceAccount", *account)], name_of(binding)
    for each in (each for each in objects if each["kind"] == "StatefulSet"):
        assert (NAMESPACE, each["spec"]["template"]["spec"]["serviceAccountName"]) == account, name_of(each)


@pytest.mark.parametrize("values", ["minimal", "existing-secret", "postgres", "everything"])
def test_the_provisioner_may_read_and_patch_one_secret(values: str) -> None:
    objects = render(values)
    secret = next(each["metadata"]["name"] for each in objects if each["kind"] == "Secret" and "data" not in each)
    assert granted(objects, PROVISIONER) == {(NAMESPACE, "", "secrets", secret, verb) for verb in ("get", "patch")}


# With existing-maubot nothing would be left to install, which is refused.
@pytest.mark.parametrize("values", sorted(VALUES.keys() - {"existing-maubot"}))
def test_without_rbac_only_the_provisioner_has_rights(values: str) -> None:
    assert granted(render(values, {"rbac.create": False})) == set()


def test_the_helm_test_asks_for_exactly_the_rights_that_are_granted(values: str, objects: list[Object]) -> None:
    if values == "existing-maubot":  # its pod would need a service account of another namespace
        assert not [each for each in objects if each["kind"] == "Pod"]
        return
    asked = json.loads(find(objects, "ConfigMap", find(objects, "Pod")["metadata"]["name"])["data"]["check.json"])[
        "rights"
    ]
    names = {
        (
            right["namespace"],
            right.get("group", ""),
            "/".join(filter(None, (right["resource"], right.get("subresource")))),
            right.get("name", "*"),
            right["verb"],
        )
        for right in asked
    }
    assert names == granted(objects)
    assert len(asked) == len(names)


@pytest.mark.parametrize("kind", BUILT_IN)
@pytest.mark.parametrize("prefix", ["", "apps/v1/"])
def test_every_kind_of_the_plugin_has_its_plural(kind: str, prefix: str) -> None:
    objects = render("minimal", {"instance.settings.targets.web.kind": prefix + kind})
    assert granted(objects) == set(used(WorkloadRef(kind, "demo", "web"), diagnosis=True))


def test_of_a_custom_kind_the_scale_is_read_too() -> None:
    objects = render("minimal", {"instance.settings.targets.web.kind": "argoproj.io/v1alpha1/Rollout"})
    rights = {(group, resource, verb) for _, group, resource, name, verb in granted(objects) if name == "web"}
    assert rights == {
        ("argoproj.io", "rollouts/scale", "get"),
        ("argoproj.io", "rollouts/scale", "patch"),
        ("argoproj.io", "rollouts", "get"),
        ("argoproj.io", "rollouts", "watch"),
    }


def test_a_kind_of_the_core_group_has_the_empty_group() -> None:
    objects = render("minimal", {"instance.settings.targets.web.kind": "v1/ReplicationController"})
    assert ("demo", "", "replicationcontrollers/scale", "web", "patch") in granted(objects)


def test_a_plural_that_is_irregular_is_the_charts_own_affair() -> None:
    target = {"kind": "games.example/v1/Chess", "resource": "chesses", "namespace": "demo", "name": "club"}
    objects = render("minimal", {"instance.settings.targets.club": target})
    assert ("demo", "games.example", "chesses/scale", "club", "patch") in granted(objects)
    configuration = find(objects, "ConfigMap", "rel-maubot-k8s-toggle-provisioner")["data"]["provision.json"]
    del target["resource"]
    assert json.loads(configuration)["instance"]["settings"]["targets"]["club"] == target
