"""Settings through maubot's real API: a bad save is refused with a text that helps, and the last good ones stay."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.integration.conversation import ask
from tests.stack.chat import ChatClient
from tests.stack.maubot import MaubotError
from tests.stack.stack import PLUGIN, Servers, Stack
from tests.stack.synapse import REPOSITORY

SHIPPED = REPOSITORY / "base-config.yaml"
WEB: dict[str, Any] = {"kind": "Deployment", "namespace": "demo", "name": "web"}

BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "command": ({"command": "!toggle"}, "command", "without the !"),
    "bare commands": ({"bare_commands": "sometimes"}, "bare_commands", "direct or always or never"),
    "encryption": ({"require_encryption": "yes please"}, "require_encryption", "true or false"),
    "trust": ({"minimum_trust": "verified"}, "minimum_trust", "cross-signed-tofu or unverified"),
    "age without a unit": ({"maximum_age": 120}, "maximum_age", "90s"),
    "age of nothing": ({"maximum_age": "0s"}, "maximum_age", "from 5s"),
    "timeout": ({"rollout_timeout": "forever"}, "rollout_timeout", "2h30m"),
    "kubeconfig": ({"kubeconfig": "~/.kube/config"}, "kubeconfig", "absolute path"),
    "targets": ({"targets": ["web"]}, "targets", "mapping"),
    "target's kind": ({"targets": {"web": {**WEB, "kind": "deployment"}}}, "targets.web.kind", "Deployment"),
    "target's name": ({"targets": {"web": {"namespace": "demo"}}}, "targets.web.name", "missing"),
    "target's replicas": ({"targets": {"web": {**WEB, "replicas": 0}}}, "targets.web.replicas", "1 to 1000"),
    "target's key": ({"targets": {"web": {**WEB, "replica": 1}}}, "targets.web.replica", "replicas"),
    "target called all": ({"targets": {"all": WEB}}, "targets.all", "another name"),
    "target's users": ({"targets": {"web": {**WEB, "allowed_users": "@a:b"}}}, "targets.web.allowed_users", "list"),
    "group's target": ({"groups": {"games": ["wep"]}}, "groups.games[0]", "did you mean web?"),
    "users": ({"allowed_users": ["alice"]}, "allowed_users[0]", "@alice:example.org"),
    "users as text": ({"allowed_users": "@alice:example.org"}, "allowed_users", "list"),
    "accepted_identities": (
        {"accepted_identities": {"@bob:example.org": "x"}},
        "accepted_identities.@bob",
        "43 letters",
    ),
    "viewers": ({"viewers": ["@bob"]}, "viewers[0]", "Matrix ID"),
    "rooms": ({"allowed_rooms": ["#room:example.org"]}, "allowed_rooms[0]", "begins with !"),
    "unknown key": ({"alowed_users": []}, "alowed_users", "allowed_users"),
}


async def saved(stack: Stack) -> dict[str, Any]:
    return await stack.api.settings(stack.instance)


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_save_is_refused_and_the_last_good_settings_stay(stack: Stack, case: str) -> None:
    changes, path, instead = BAD[case]
    before = await saved(stack)
    for _ in range(2):  # maubot remembers a refused text: the same again must be refused again
        with pytest.raises(MaubotError) as refused:
            await stack.settings(**changes)
        assert refused.value.status == 400
        assert path in refused.value.text
        assert instead in refused.value.text
    assert await saved(stack) == before
    assert (await stack.readyz())[0] == 200


async def test_every_bad_setting_is_in_this_file() -> None:
    tested = {next(iter(changes)) for changes, _, _ in BAD.values()} - {"alowed_users"}
    assert tested == set(yaml.safe_load(SHIPPED.read_text()))


async def test_all_problems_are_counted_and_logged(stack: Stack) -> None:
    with pytest.raises(MaubotError, match="3 problems"):
        await stack.settings(command="!", maximum_age=1, viewers=["x"])
    log = "\n".join(stack.instance_log())
    assert all(f"settings=refused path={path}" in log for path in ("command", "maximum_age", "viewers[0]"))


async def test_after_a_bad_save_the_last_good_settings_are_in_force(stack: Stack, alice: ChatClient) -> None:
    room = await stack.room_with_bot(alice)
    with pytest.raises(MaubotError):
        await stack.settings(allowed_users=["nobody"])
    assert "is off" in (await ask(alice, room, "status")).body


async def test_after_a_bad_save_a_restart_finds_the_last_good_settings(stack: Stack, alice: ChatClient) -> None:
    room = await stack.room_with_bot(alice)
    with pytest.raises(MaubotError):
        await stack.settings(targets={"web": {}})
    await stack.api.change_instance(stack.instance, started=False)
    await stack.api.change_instance(stack.instance, started=True)
    assert "is off" in (await ask(alice, room, "status")).body


async def test_what_is_no_yaml_is_refused_with_the_line(stack: Stack) -> None:
    before = await saved(stack)
    with pytest.raises(MaubotError, match=r"line \d.*not valid YAML") as refused:
        await stack.api.save_settings(stack.instance, 'command: toggle\nallowed_users: ["@a:b\n')
    assert refused.value.status == 400
    assert await saved(stack) == before


async def test_the_shipped_file_saves_and_loads_again_unchanged(stack: Stack) -> None:
    shipped = SHIPPED.read_text()
    await stack.api.save_settings(stack.instance, shipped)
    kept = (await stack.api.instance(stack.instance))["config"]
    assert yaml.safe_load(kept) == yaml.safe_load(shipped)
    assert "# Who may turn things on and off" in kept
    await stack.api.save_settings(stack.instance, kept)
    assert (await stack.api.instance(stack.instance))["config"] == kept


async def test_an_administrators_comment_before_the_first_item_breaks_nothing(stack: Stack, alice: ChatClient) -> None:
    settings = yaml.safe_dump({**await saved(stack), "allowed_users": []})
    edited = settings.replace("allowed_users: []", f"allowed_users:\n# that is me\n- '{alice.user_id}'\n")
    await stack.api.save_settings(stack.instance, edited)
    await stack.settings(rollout_timeout="2m")
    assert (await saved(stack))["allowed_users"] == [alice.user_id]


async def test_null_means_the_default(stack: Stack) -> None:
    await stack.settings(maximum_age=None)
    assert (await saved(stack))["maximum_age"] == "2m"


async def test_a_good_save_is_in_force_at_once(stack: Stack, alice: ChatClient) -> None:
    room = await stack.room_with_bot(alice)
    stack.cluster.add_deployment("demo", "api")
    await stack.settings(targets={"backend": {"namespace": "demo", "name": "api"}})
    assert "**backend** is off" in (await ask(alice, room, "status")).body


async def test_an_instance_that_begins_with_bad_settings_says_so(stack: Stack, alice: ChatClient) -> None:
    room = await stack.room_with_bot(alice)
    bad = {**stack.default_settings(), "rollout_timeout": "never", "allowed_users": [alice.user_id]}
    await stack.api.delete_instance(stack.instance)
    await stack.api.create_instance(stack.instance, PLUGIN, stack.bot_id, bad)
    status, body = await stack.readyz()
    assert status == 503
    assert body["reasons"] == ["settings: rollout_timeout"]
    assert "rollout_timeout" in (await ask(alice, room, "status")).body
    assert "rollout_timeout" in (await ask(alice, room, "check")).body
    assert "rollout_timeout" in (await ask(alice, room, "start")).body
    assert stack.cluster.asked("PATCH") == []
    with pytest.raises(MaubotError, match="rollout_timeout"):
        await stack.api.save_settings(stack.instance, {**bad, "command": "power"})
    await stack.settings(rollout_timeout="1m")
    assert "is off" in (await ask(alice, room, "status")).body
    assert (await stack.readyz())[0] == 200


async def test_an_instance_as_it_is_first_made_is_ready_and_answers_nobody(servers: Servers, stack: Stack) -> None:
    await stack.api.delete_instance(stack.instance)
    await stack.api.create_instance(stack.instance, PLUGIN, stack.bot_id, "")
    log = "\n".join(stack.instance_log())
    assert "path=allowed_users" in log
    assert "path=targets" in log
    assert await saved(stack) == yaml.safe_load(SHIPPED.read_text())


async def test_while_the_allowed_rooms_are_broken_no_room_is_allowed(stack: Stack, alice: ChatClient) -> None:
    room = await stack.room_with_bot(alice)
    await stack.api.delete_instance(stack.instance)
    bad = {**stack.default_settings(), "allowed_rooms": room}
    await stack.api.create_instance(stack.instance, PLUGIN, stack.bot_id, bad)
    assert "allowed_rooms" in (await ask(alice, room, "check")).body
    other = await alice.create_room(invite=[stack.bot_id])
    await alice.settle()
    assert alice.membership(other, stack.bot_id) == "invite"
    _, answer = await stack.readyz()
    assert room not in str(answer)
