"""What the settings accept and refuse, where they say it is, and what they tell to write instead."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from toggle_plugin.errors import SettingsError, SettingsProblem, summary
from toggle_plugin.models import Verb, WorkloadRef
from toggle_plugin.settings import (
    KEYS,
    LONGEST,
    RESERVED_TARGETS,
    SHORTEST,
    BareCommands,
    MinimumTrust,
    Settings,
    Target,
    cautions,
    format_duration,
    grouped,
    parse_duration,
    parse_settings,
    read_settings,
)

from . import builders
from .builders import ALICE, BOB

SHIPPED = Path(__file__).parents[2] / "base-config.yaml"

KINDS_SENTENCE = "write Deployment, StatefulSet, ReplicaSet or apiVersion/Kind"
IDENTITY = "JqNTNthxenb0dj0SbFGBDcvkDXWDFxdyU0+IO6PJf3o"
FULL: dict[str, Any] = {
    "command": "games",
    "bare_commands": "always",
    "require_encryption": False,
    "minimum_trust": "unverified",
    "maximum_age": "90s",
    "rollout_timeout": "1h2m3s",
    "kubeconfig": "/etc/maubot/kubeconfig",
    "targets": {
        "minecraft": {"kind": "StatefulSet", "namespace": "games", "name": "minecraft.server", "replicas": 3},
        "agent": {"namespace": "agents", "name": "agent", "replicas": "restore", "allowed_users": [BOB]},
    },
    "accepted_identities": {ALICE: f" {grouped(IDENTITY)} "},
    "viewers": ["@carol:example.org"],
    "allowed_rooms": ["!abc:example.org"],
    "allowed_users": [ALICE, BOB],
}


def problems(raw: object) -> list[str]:
    """What `parse_settings` says about `raw`, each as ``path: text``."""
    with pytest.raises(SettingsError) as raised:
        parse_settings(raw)
    return [str(problem) for problem in raised.value.problems]


def problem(raw: object) -> str:
    """The only thing that is wrong with `raw`."""
    (only,) = problems(raw)
    return only


def with_target(**body: Any) -> dict[str, Any]:
    return {"targets": {"web": {"namespace": "games", "name": "web", **body}}}


def test_the_shipped_file_has_no_problems_and_lets_nobody_in() -> None:
    assert parse_settings(yaml.safe_load(SHIPPED.read_text())) == Settings()


def test_the_shipped_file_has_every_key_in_the_order_of_the_settings() -> None:
    assert tuple(yaml.safe_load(SHIPPED.read_text())) == KEYS


def test_the_example_in_the_shipped_file_can_be_used_as_it_is() -> None:
    text = SHIPPED.read_text()
    example = re.search(r"^#   valheim:\n(?:#       .*\n)+", text, re.MULTILINE)
    assert example is not None
    body = example[0].replace("#   ", "    ")
    parsed = parse_settings(yaml.safe_load(text.replace("targets: {}", f"targets:\n{body}")))
    assert parsed.targets["valheim"] == Target("valheim", WorkloadRef("Deployment", "games", "valheim"), 1)


def test_every_setting_is_taken_over() -> None:
    parsed = parse_settings(FULL)
    assert parsed == Settings(
        command="games",
        bare_commands=BareCommands.ALWAYS,
        targets={
            "minecraft": Target("minecraft", WorkloadRef("StatefulSet", "games", "minecraft.server"), 3),
            "agent": Target("agent", WorkloadRef("Deployment", "agents", "agent"), None, frozenset({BOB})),
        },
        require_encryption=False,
        minimum_trust=MinimumTrust.UNVERIFIED,
        maximum_age=90,
        rollout_timeout=3723,
        kubeconfig="/etc/maubot/kubeconfig",
        accepted_identities={ALICE: IDENTITY},
        viewers=frozenset({"@carol:example.org"}),
        allowed_rooms=frozenset({"!abc:example.org"}),
        allowed_users=frozenset({ALICE, BOB}),
    )


def test_nothing_and_nulls_are_the_defaults() -> None:
    assert parse_settings({}) == parse_settings(dict.fromkeys(KEYS)) == Settings()


@pytest.mark.parametrize("raw", [None, "command: toggle", 3, ["command"], True])
def test_what_is_no_mapping_is_refused_as_a_whole(raw: object) -> None:
    assert problem(raw) == "write settings as `key: value` lines"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("command", word) for word in ("t", "k8s", "game-server_2", "9", "a" * 32)],
        *[("bare_commands", word) for word in ("direct", "always", "never")],
        *[("require_encryption", value) for value in (True, False)],
        *[("minimum_trust", word) for word in ("cross-signed-tofu", "unverified")],
        *[("maximum_age", text) for text in ("5s", "24h", "2h30m", "1h0m5s", " 90s ", "86400s", "0h90m")],
        *[("kubeconfig", text) for text in ("", " ", "/k", " /home/maubot/.kube/config\n")],
        *[("allowed_users", [user]) for user in ("@alice:example.org", "@Old!User/x=y:example.org:8448")],
        *[("allowed_users", [user]) for user in ("@a:[2001:db8::1]:8448", "@a:localhost", "@+49:1.2.3.4")],
        *[("viewers", users) for users in ([], ["@a:b.c", "@a:b.c"])],
        ("allowed_rooms", ["!abc:example.org", "!1KcUlZgjmMvLhSxGmF4sjG5XW4N2FQHcFZcZTdK9Vo4"]),
    ],
)
def test_right_values_are_accepted(key: str, value: object) -> None:
    parse_settings({key: value})


FINGERPRINT = "write the 43 letters and digits of the fingerprint that my refusal named, in quotes"
WORD = "write a word of lower-case letters, digits, - and _, without the !"
PATH = "write the absolute path of a kubeconfig file, or leave it empty for the pod's service account"
USER = "write a Matrix ID such as @alice:example.org, in quotes"
ROOM = "write a room ID such as !abc:example.org, in quotes"
ALIAS = "write the room's ID, which begins with !, instead of its address (Element: room settings, Advanced)"


@pytest.mark.parametrize(
    ("raw", "path", "text"),
    [
        ({"command": "!toggle"}, "command", f"{WORD}, not '!toggle'"),
        ({"command": "Toggle"}, "command", f"{WORD}, not 'Toggle'"),
        ({"command": "two words"}, "command", f"{WORD}, not 'two words'"),
        ({"command": ""}, "command", f"{WORD}, not ''"),
        ({"command": "toggle\n"}, "command", f"{WORD}, not 'toggle\\n'"),
        ({"command": "a" * 33}, "command", f"{WORD}, not '{'a' * 33}'"),
        ({"command": 7}, "command", f"{WORD}, not 7"),
        ({"command": ["toggle"]}, "command", WORD),
        ({"bare_commands": "sometimes"}, "bare_commands", "write direct or always or never, not 'sometimes'"),
        ({"bare_commands": True}, "bare_commands", "write direct or always or never, not true"),
        ({"require_encryption": "yes"}, "require_encryption", "write true or false, not 'yes'"),
        ({"require_encryption": 1}, "require_encryption", "write true or false, not 1"),
        ({"minimum_trust": "verified"}, "minimum_trust", "write cross-signed-tofu or unverified, not 'verified'"),
        (
            {"maximum_age": 90},
            "maximum_age",
            "write a duration with its unit, such as 90s, 2m or 2h30m, not 90",
        ),
        ({"maximum_age": "soon"}, "maximum_age", "write a duration such as 90s, 2m or 2h30m"),
        ({"maximum_age": "4s"}, "maximum_age", "write a duration from 5s to 24h, not '4s'"),
        ({"rollout_timeout": "25h"}, "rollout_timeout", "write a duration from 5s to 24h, not '25h'"),
        ({"rollout_timeout": "30m2h"}, "rollout_timeout", "write a duration such as 90s, 2m or 2h30m"),
        ({"kubeconfig": "config"}, "kubeconfig", PATH),
        ({"kubeconfig": "~/.kube/config"}, "kubeconfig", PATH),
        ({"kubeconfig": {"apiVersion": "v1"}}, "kubeconfig", PATH),
        ({"kubeconfig": False}, "kubeconfig", PATH),
        ({"allowed_users": ALICE}, "allowed_users", "write a list: one line for each, beginning with a dash"),
        *[
            ({"accepted_identities": {ALICE: wrong}}, f"accepted_identities.{ALICE}", FINGERPRINT)
            for wrong in ("", None, 5, IDENTITY[1:], f"{IDENTITY}A", IDENTITY.replace("J", "-"), [IDENTITY])
        ],
        ({"accepted_identities": {"alice": IDENTITY}}, "accepted_identities.alice", f"{USER}, not 'alice'"),
        (
            {"accepted_identities": [ALICE]},
            "accepted_identities",
            "write a mapping: a Matrix ID for each, and its fingerprint",
        ),
        ({"viewers": {ALICE: True}}, "viewers", "write a list: one line for each, beginning with a dash"),
        ({"viewers": 3}, "viewers", "write a list: one line for each, beginning with a dash"),
        ({"allowed_users": ["alice"]}, "allowed_users[0]", f"{USER}, not 'alice'"),
        ({"allowed_users": [ALICE, "@bob"]}, "allowed_users[1]", f"{USER}, not '@bob'"),
        ({"allowed_users": ["@bob:exa mple"]}, "allowed_users[0]", f"{USER}, not '@bob:exa mple'"),
        ({"allowed_users": [f" {ALICE}"]}, "allowed_users[0]", f"{USER}, not ' {ALICE}'"),
        ({"viewers": [None]}, "viewers[0]", USER),
        ({"viewers": [[ALICE]]}, "viewers[0]", USER),
        ({"allowed_rooms": ["#games:example.org"]}, "allowed_rooms[0]", ALIAS),
        ({"allowed_rooms": ["!with space:example.org"]}, "allowed_rooms[0]", f"{ROOM}, not '!with space:example.org'"),
        ({"allowed_rooms": ["!a:b:c"]}, "allowed_rooms[0]", f"{ROOM}, not '!a:b:c'"),
        ({"allowed_rooms": ["games"]}, "allowed_rooms[0]", f"{ROOM}, not 'games'"),
        (
            {"allowed_rooms": "!abc:example.org"},
            "allowed_rooms",
            "write a list: one line for each, beginning with a dash",
        ),
    ],
)
def test_wrong_values_are_refused_with_their_path_and_what_to_write(raw: object, path: str, text: str) -> None:
    assert problem(raw) == f"{path}: {text}"


@pytest.mark.parametrize(
    ("raw", "path", "text"),
    [
        ({"targets": ["web"]}, "targets", "write a mapping: a name for each, and its keys indented below"),
        ({"targets": "web"}, "targets", "write a mapping: a name for each, and its keys indented below"),
        ({"targets": {"web": None}}, "targets.web", "write namespace: and name: indented below it"),
        ({"targets": {"web": "games/web"}}, "targets.web", "write namespace: and name: indented below it"),
        ({"targets": {"web": {"name": "web"}}}, "targets.web.namespace", "is missing; write the workload's namespace"),
        ({"targets": {"web": {"namespace": "games"}}}, "targets.web.name", "is missing; write the workload's name"),
        (with_target(name=None), "targets.web.name", "is missing; write the workload's name"),
        (
            with_target(name="Web"),
            "targets.web.name",
            "write a workload's name: lower-case letters, digits, - and ., not 'Web'",
        ),
        (
            with_target(name="a" * 64),
            "targets.web.name",
            f"write a workload's name: lower-case letters, digits, - and ., not '{'a' * 39}",
        ),
        (
            with_target(namespace="games.eu"),
            "targets.web.namespace",
            "write a namespace's name: lower-case letters, digits and -, not 'games.eu'",
        ),
        (
            with_target(namespace=1),
            "targets.web.namespace",
            "write a namespace's name: lower-case letters, digits and -, not 1",
        ),
        (
            with_target(kind="DaemonSet"),
            "targets.web.kind",
            f"{KINDS_SENTENCE}, not 'DaemonSet'",
        ),
        (
            with_target(kind="deployment"),
            "targets.web.kind",
            f"{KINDS_SENTENCE}, not 'deployment'",
        ),
        (
            with_target(kind=["Deployment"]),
            "targets.web.kind",
            "write Deployment, StatefulSet, ReplicaSet or apiVersion/Kind",
        ),
        *[
            (
                with_target(replicas=value),
                "targets.web.replicas",
                f"write a whole number from 1 to 1000, or restore, not {shown}",
            )
            for value, shown in [(0, "0"), (-1, "-1"), (1001, "1001"), (1.0, "1.0"), (True, "true"), ("2", "'2'")]
        ],
        (with_target(replica=2), "targets.web.replica", "there is no such key; did you mean replicas?"),
        (
            with_target(image="x"),
            "targets.web.image",
            "there is no such key; there are kind, namespace, name, replicas, allowed_users",
        ),
        (with_target(allowed_users=["bob"]), "targets.web.allowed_users[0]", f"{USER}, not 'bob'"),
        (
            with_target(allowed_users=BOB),
            "targets.web.allowed_users",
            "write a list: one line for each, beginning with a dash",
        ),
        (
            {"targets": {"Web": {"namespace": "a", "name": "b"}}},
            "targets.Web",
            "write the name with lower-case letters, digits, -, _ and ., not 'Web'",
        ),
        ({"targets": {7: {"namespace": "a", "name": "b"}}}, "targets.7", "put the name in quotes"),
        ({"targets": {True: {"namespace": "a", "name": "b"}}}, "targets.True", "put the name in quotes"),
    ],
)
def test_wrong_targets_are_refused_with_their_path_and_what_to_write(raw: object, path: str, text: str) -> None:
    assert problem(raw) == f"{path}: {text}"


@pytest.mark.parametrize("name", sorted(RESERVED_TARGETS))
def test_a_target_is_not_called_like_a_word_of_the_commands(name: str) -> None:
    raw = {"targets": {name: {"namespace": "games", "name": "web"}}}
    assert problem(raw) == f"targets.{name}: take another name: {name} is a word of the commands"


def test_every_word_of_the_commands_is_reserved() -> None:
    assert {"all", "on", "off", *(verb.value for verb in Verb)} == RESERVED_TARGETS


@pytest.mark.parametrize("count", [1, 2, 1000])
def test_a_target_has_its_replicas(count: int) -> None:
    assert parse_settings(with_target(replicas=count)).targets["web"].replicas == count


def test_a_target_that_restores_has_no_count_of_its_own() -> None:
    assert parse_settings(with_target(replicas="restore")).targets["web"].replicas is None


def test_a_target_without_kind_and_replicas_is_a_deployment_that_gets_one() -> None:
    assert parse_settings(with_target(kind=None, replicas=None)).targets["web"] == Target("web", builders.WEB, 1)


@pytest.mark.parametrize(
    ("written", "api_version", "kind"),
    [
        ("ReplicaSet", "apps/v1", "ReplicaSet"),
        ("apps/v1/Deployment", "apps/v1", "Deployment"),
        ("argoproj.io/v1alpha1/Rollout", "argoproj.io/v1alpha1", "Rollout"),
        ("v1/ReplicationController", "v1", "ReplicationController"),
    ],
)
def test_a_kind_may_have_its_api_version_before_it(written: str, api_version: str, kind: str) -> None:
    ref = parse_settings(with_target(kind=written)).targets["web"].ref
    assert (ref.api_version, ref.kind) == (api_version, kind)
    assert ref.full_kind == written.removeprefix("apps/v1/")


@pytest.mark.parametrize(
    "written",
    ["Rollout", "argoproj.io/Rollout/", "/v1/Rollout", "a/b/c/Rollout", "Argo.io/v1/Rollout", "v1/Roll out", "v1/-R"],
)
def test_a_kind_that_is_none_is_refused(written: str) -> None:
    assert problem(with_target(kind=written)).startswith(f"targets.web.kind: {KINDS_SENTENCE}, not '")


def test_a_target_with_an_empty_list_is_nobodys_and_one_without_is_everybodys() -> None:
    assert parse_settings(with_target(allowed_users=[])).targets["web"].allowed_users == frozenset()
    assert parse_settings(with_target(allowed_users=None)).targets["web"].allowed_users is None


def test_targets_keep_the_order_of_the_file() -> None:
    names = ["zeta", "alpha", "mid"]
    raw = {"targets": {name: {"namespace": "games", "name": name} for name in names}}
    assert list(parse_settings(raw).targets) == names


def test_an_absurdly_long_number_is_refused_in_our_words() -> None:
    text = problem(with_target(replicas=16**9000))
    assert text.startswith("targets.web.replicas: write a whole number from 1 to 1000, or restore")


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("allowed_user", "there is no such key; did you mean allowed_users?"),
        ("target", "there is no such key; did you mean targets?"),
        ("rolloutTimeout", "there is no such key; did you mean rollout_timeout?"),
        ("xyzzy", f"there is no such key; there are {', '.join(KEYS)}"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_one(key: str, text: str) -> None:
    assert problem({key: 1}) == f"{key}: {text}"


def test_keys_that_are_no_text_are_unknown_keys() -> None:
    assert [text.split(":")[0] for text in problems({1: "a", None: "b", (2, 3): "c"})] == ["1", "None", "(2, 3)"]


def test_every_problem_is_reported_at_once_and_in_order() -> None:
    raw = {
        "commmand": "x",
        "command": "!",
        "maximum_age": 1,
        "targets": {
            "all": {"namespace": "G", "replicas": 0, "extra": 1},
            "ok": {"namespace": "a", "name": "b"},
            "web": 3,
        },
        "viewers": "x",
        "allowed_users": ["a", ALICE, "b"],
    }
    assert [text.split(":")[0] for text in problems(raw)] == [
        "commmand",
        "command",
        "maximum_age",
        "targets.all",
        "targets.all.extra",
        "targets.all.namespace",
        "targets.all.name",
        "targets.all.replicas",
        "targets.web",
        "viewers",
        "allowed_users[0]",
        "allowed_users[2]",
    ]


def test_what_can_be_read_of_broken_settings_still_holds() -> None:
    raw = {**FULL, "command": "!", "allowed_users": [ALICE, "nobody"], "targets": {**FULL["targets"], "web": None}}
    settings, found = read_settings(raw)
    assert len(found) == 3
    assert settings.command == "toggle"
    assert settings.allowed_users == {ALICE}, "they can be told what is wrong"
    assert list(settings.targets) == ["minecraft", "agent"]


def test_a_target_with_a_problem_is_left_out() -> None:
    settings, _ = read_settings(with_target(allowed_users=[ALICE, "@bob"]))
    assert not settings.targets, "a list with a hole could let nobody or somebody else in"


SECRET = "c2VjcmV0LWNsaWVudC1rZXk"
PASTED = f"apiVersion: v1\nusers:\n- name: admin\n  user:\n    token: {SECRET}\n"


@pytest.mark.parametrize("pasted", [PASTED, f"token: {SECRET}", SECRET, [SECRET], yaml.safe_load(PASTED), {SECRET: 1}])
def test_nothing_of_a_pasted_kubeconfig_is_repeated(pasted: object) -> None:
    text = problem({"kubeconfig": pasted})
    assert text == f"kubeconfig: {PATH}"


def test_a_kubeconfig_pasted_beside_the_settings_is_named_by_its_keys_only() -> None:
    text = " ".join(problems({**yaml.safe_load(PASTED), "maximum_age": "2m"}))
    assert "apiVersion" in text
    assert SECRET not in text


def test_one_problem_is_its_own_summary_and_more_are_counted() -> None:
    first, second = SettingsProblem("a.b", "is wrong"), SettingsProblem("", "all of it is")
    assert summary([first]) == "a.b: is wrong"
    assert summary([first, second]) == "2 problems. First: a.b: is wrong"
    assert str(SettingsError([second])) == "all of it is"


# Cautions


def test_settings_that_let_nobody_do_anything_are_worth_a_caution() -> None:
    assert [str(caution) for caution in cautions(Settings())] == [
        "targets: is empty, so there is nothing to start or stop",
        "allowed_users: is empty, so nobody can start or stop anything",
    ]


def test_good_settings_give_no_cautions() -> None:
    assert cautions(builders.settings(builders.target())) == ()


def test_lowered_guards_and_unreachable_users_are_worth_a_caution() -> None:
    lax = builders.settings(
        builders.target(allowed_users=frozenset({BOB, ALICE})),
        require_encryption=False,
        minimum_trust=MinimumTrust.UNVERIFIED,
    )
    assert [str(caution) for caution in cautions(lax)] == [
        f"targets.web.allowed_users: names {BOB}, who is not in allowed_users and so gets no answer",
        "require_encryption: is false, so the homeserver can write commands in anybody's name",
        "minimum_trust: is unverified, so a device that the homeserver added is believed",
    ]


# Durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("2m", 120), ("2h30m", 9000), ("1h1m1s", 3661), (" 5s\n", 5), ("0s", 0), ("007s", 7)],
)
def test_a_duration_is_hours_minutes_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", " ", "s", "90", "1.5m", "-1s", "2m2m", "1s2m", "2 m", "1d", "90S", "h2m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^write a duration such as 90s, 2m or 2h30m$"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.4, "0s"), (59.6, "1m"), (90, "1m30s"), (3600, "1h"), (3601, "1h1s"), (90061, "25h1m1s")],
)
def test_a_duration_is_written_as_short_as_it_can_be_read(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(0, 10**7))
def test_a_duration_that_is_written_is_read_back(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_duration_is_the_sum_of_its_parts(hours: int, minutes: int, seconds: int) -> None:
    text = f"{min(hours, 999999)}h{min(minutes, 999999)}m{min(seconds, 999999)}s"
    assert parse_duration(text) == 3600 * min(hours, 999999) + 60 * min(minutes, 999999) + min(seconds, 999999)


# Whatever is written there

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates()
LIKELY = st.sampled_from([ALICE, "!abc:example.org", "restore", "web", "games", "Deployment", "2m", "/k", 1, True])
NESTED = st.recursive(
    SCALARS | LIKELY,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from([*KEYS, "web", "kind", "namespace", "name", "replicas"]) | SCALARS, inner, max_size=5
        )
    ),
    max_leaves=20,
)


@given(NESTED | st.dictionaries(st.sampled_from(KEYS), NESTED))
def test_whatever_is_written_there_it_is_accepted_or_refused_with_reasons(raw: object) -> None:
    settings, found = read_settings(raw)
    assert all(problem.text for problem in found)
    if found:
        with pytest.raises(SettingsError) as raised:
            parse_settings(raw)
        assert raised.value.problems == found
    else:
        assert parse_settings(raw) == settings


WORDS = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,31}", fullmatch=True)
LABELS = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
USERS = st.from_regex(r"@[a-z0-9._=/+-]{1,20}:[a-z0-9-]{1,10}\.org", fullmatch=True)
TARGETS = st.dictionaries(
    LABELS.filter(lambda name: name not in RESERVED_TARGETS),
    st.fixed_dictionaries(
        {"namespace": LABELS, "name": LABELS},
        optional={
            "kind": st.sampled_from(["Deployment", "StatefulSet"]),
            "replicas": st.integers(1, 1000) | st.just("restore"),
            "allowed_users": st.lists(USERS, max_size=3),
        },
    ),
    min_size=1,
    max_size=4,
)
WITHOUT_GROUPS = st.fixed_dictionaries(
    {
        "command": WORDS,
        "bare_commands": st.sampled_from([choice.value for choice in BareCommands]),
        "targets": TARGETS,
        "require_encryption": st.booleans(),
        "minimum_trust": st.sampled_from([choice.value for choice in MinimumTrust]),
        "maximum_age": st.integers(int(SHORTEST), int(LONGEST)).map(format_duration),
        "rollout_timeout": st.integers(int(SHORTEST), int(LONGEST)).map(format_duration),
        "kubeconfig": st.just("") | LABELS.map(lambda name: f"/etc/{name}"),
        "accepted_identities": st.dictionaries(USERS, st.sampled_from([IDENTITY, grouped(IDENTITY)]), max_size=3),
        "viewers": st.lists(USERS),
        "allowed_rooms": st.lists(LABELS.map(lambda name: f"!{name}:example.org")),
        "allowed_users": st.lists(USERS),
    }
)


def with_groups(raw: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    names = sorted(raw["targets"])
    free = LABELS.filter(lambda name: name not in RESERVED_TARGETS and name not in names)
    members = st.lists(st.sampled_from(names), min_size=1, unique=True)
    return st.dictionaries(free, members, max_size=2).map(lambda groups: {**raw, "groups": groups})


VALID = WITHOUT_GROUPS.flatmap(with_groups)


@given(VALID)
def test_valid_settings_are_taken_over_whole(raw: dict[str, Any]) -> None:
    parsed = parse_settings(raw)
    assert parsed.command == raw["command"]
    assert parsed.allowed_users == set(raw["allowed_users"])
    assert format_duration(parsed.maximum_age) == raw["maximum_age"]
    for name, body in raw["targets"].items():
        target = parsed.targets[name]
        assert (target.ref.namespace, target.ref.name) == (body["namespace"], body["name"])
        assert target.replicas == (None if body.get("replicas", 1) == "restore" else body.get("replicas", 1))
    assert {name: list(group.targets) for name, group in parsed.groups.items()} == raw["groups"]


# One value for each key that is wrong there whatever the others are.
SPOILT: dict[str, Any] = {
    "command": "!x",
    "bare_commands": "no",
    "targets": [],
    "require_encryption": "true",
    "minimum_trust": "verified",
    "maximum_age": "1d",
    "rollout_timeout": 300,
    "kubeconfig": "kubeconfig",
    "groups": [],
    "accepted_identities": [ALICE],
    "viewers": ALICE,
    "allowed_rooms": "#a:b.c",
    "allowed_users": {},
}
SPOILT_IN_TARGET = {"namespace": "A", "name": "", "kind": "Pod", "replicas": 0, "allowed_users": ALICE}


@given(VALID, st.sampled_from(KEYS))
def test_one_spoilt_setting_is_one_problem_at_its_path(raw: dict[str, Any], key: str) -> None:
    _, found = read_settings({**raw, key: SPOILT[key]})
    assert [problem.path for problem in found] == [key]


@given(VALID, st.data())
def test_one_spoilt_key_of_a_target_is_one_problem_at_its_path(raw: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(raw["targets"])))
    key = data.draw(st.sampled_from(sorted(SPOILT_IN_TARGET)))
    targets = {**raw["targets"], name: {**raw["targets"][name], key: SPOILT_IN_TARGET[key]}}
    settings, found = read_settings({**raw, "targets": targets})
    assert [problem.path for problem in found] == [f"targets.{name}.{key}"]
    assert set(settings.targets) == set(targets) - {name}
