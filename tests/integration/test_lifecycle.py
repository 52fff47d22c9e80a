"""Start, stop, reload: `start` never raises, `stop` leaves nothing behind, and whoever waits is told."""

from __future__ import annotations

import re
import shlex
import zipfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.integration.conversation import ask, audited, told
from tests.stack.chat import ChatClient
from tests.stack.cluster import SimulatedCluster
from tests.stack.cluster.behaviour import Outcome
from tests.stack.cluster.pod import in_pod
from tests.stack.stack import PLUGIN, Servers, Stack, plugin_file
from tests.stack.synapse import interpreter


def tracebacks(stack: Stack) -> list[str]:
    return [line for line in stack.instance_log() if "Traceback" in line or "[ERROR" in line]


async def test_a_reload_during_a_roll_out_is_told_and_gone_on_with_by_one_set_of_handlers(
    stack: Stack, alice: ChatClient, room: str
) -> None:
    stack.cluster.behave("demo", "web", outcome=Outcome.NEVER_READY)
    event = await alice.send(room, "start")
    reply = await alice.wait_text(await alice.wait_reply(event), "is starting")
    for _ in range(3):
        await stack.api.reload_plugin(PLUGIN)
    assert any("I tell you when I am back" in text for text in reply.history)
    stack.cluster.behave("demo", "web", outcome=Outcome.NORMAL)
    await alice.wait_text(reply, "is running")
    row = await audited(stack, alice, event)
    assert (row["outcome"], row["replicas_before"], row["replicas_after"]) == ("done", 0, 1)
    assert [message for message in alice.timeline.replies(event) if not message.mentions] == [reply]
    assert len(stack.cluster.asked("PATCH")) == 1
    again = await alice.send(room, "stop")
    await alice.wait_text(await alice.wait_reply(again), "is off")
    await alice.settle()
    assert len(alice.timeline.replies(again)) == 1
    assert stack.cluster.open_watches == 1  # of the stop: whether it lasts
    assert tracebacks(stack) == []


async def test_replacing_the_plugin_keeps_it_answering_once(stack: Stack, alice: ChatClient, room: str) -> None:
    archive = plugin_file().read_bytes()
    for _ in range(3):
        await stack.api.upload_plugin(archive)
    event = await alice.send(room, "status")
    assert "is off" in (await alice.wait_reply(event)).body
    await alice.settle()
    assert len(alice.timeline.replies(event)) == 1
    assert tracebacks(stack) == []


def newer_version(directory: Path) -> bytes:
    """The plugin as an archive that calls itself 9.9.9."""
    found = directory / "newer.mbp"
    with zipfile.ZipFile(plugin_file()) as old, zipfile.ZipFile(found, "w") as new:
        for name in old.namelist():
            text = old.read(name)
            new.writestr(
                name, re.sub(rb"(?m)^version: .*$", b"version: 9.9.9", text) if name == "maubot.yaml" else text
            )
    return found.read_bytes()


@pytest.mark.own_sync
async def test_another_version_during_a_roll_out_goes_on_with_it_in_one_set_of_handlers(
    stack: Stack, alice: ChatClient, room: str, tmp_path: Path
) -> None:
    stack.cluster.behave("demo", "web", outcome=Outcome.NEVER_READY)
    event = await alice.send(room, "start")
    reply = await alice.wait_text(await alice.wait_reply(event), "is starting")
    await stack.api.upload_plugin(newer_version(tmp_path))
    stack.cluster.behave("demo", "web", outcome=Outcome.NORMAL)
    try:
        await alice.wait_text(reply, "is running", 30)
        assert any("v9.9.9" in line for line in stack.instance_log())
        again = await alice.send(room, "stop")
        await alice.wait_text(await alice.wait_reply(again), "is off")
        await alice.settle()
        assert len(alice.timeline.replies(again)) == 1
        assert len(stack.cluster.asked("PATCH")) == 2
        assert tracebacks(stack) == []
    finally:
        await stack.api.upload_plugin(plugin_file().read_bytes())


async def test_a_stopped_instance_is_silent_and_a_started_one_answers(
    stack: Stack, alice: ChatClient, room: str
) -> None:
    await stack.api.change_instance(stack.instance, started=False)
    unheard = await alice.send(room, "status")
    await alice.settle()
    assert alice.timeline.replies(unheard) == []
    assert (await stack.readyz())[0] == 404
    await stack.api.change_instance(stack.instance, started=True)
    assert "is off" in (await ask(alice, room, "status")).body


async def test_settings_may_change_during_a_roll_out(stack: Stack, alice: ChatClient, room: str) -> None:
    before = len(stack.maubot.log_lines())
    stack.cluster.behave("demo", "web", step=1.5)
    event = await alice.send(room, "start")
    reply = await alice.wait_reply(event)
    await stack.settings(rollout_timeout="2m")
    assert "is running" not in reply.body
    await alice.wait_text(reply, "is running", 30)
    again = await alice.send(room, "stop")
    await alice.wait_text(await alice.wait_reply(again), "is off")
    await alice.settle()
    assert [len(alice.timeline.replies(sent)) for sent in (event, again)] == [1, 1]
    assert len(stack.cluster.asked("PATCH")) == 2
    assert tracebacks(stack) == []
    assert not [line for line in stack.maubot.log_lines()[before:] if "Traceback" in line]


async def test_a_stop_in_the_middle_of_a_roll_out_ends_cleanly(stack: Stack, alice: ChatClient, room: str) -> None:
    stack.cluster.behave("demo", "web", outcome=Outcome.NEVER_READY)
    reply = await ask(alice, room, "start")
    await stack.api.change_instance(stack.instance, started=False)
    await alice.wait_text(reply, "I tell you when I am back")
    assert stack.cluster.open_watches == 0
    assert tracebacks(stack) == []


async def test_no_cluster_is_a_state_and_not_an_end(stack: Stack, alice: ChatClient, room: str) -> None:
    """The plugin runs without one, says so, and takes a kubeconfig when it comes."""
    later = stack.kubeconfig.with_name("later.kubeconfig")
    await stack.settings(kubeconfig=str(later))
    reply = await ask(alice, room, "status")
    assert str(later) in reply.body
    status, body = await stack.readyz()
    assert status == 503
    assert body["reasons"] == ["cluster: NotConfigured"]
    later.write_text(stack.kubeconfig.read_text())
    assert "is off" in (await ask(alice, room, "status")).body
    assert (await stack.readyz())[0] == 200


async def test_outside_of_a_cluster_an_empty_kubeconfig_says_so(stack: Stack, alice: ChatClient, room: str) -> None:
    await stack.settings(kubeconfig="")
    assert "kubeconfig" in (await ask(alice, room, "check")).body


async def test_a_certificate_that_is_not_trusted_is_told(stack: Stack, alice: ChatClient, room: str) -> None:
    async with SimulatedCluster() as other:
        ca = str(other.ca_file)
        wrong = stack.cluster.write_kubeconfig(stack.kubeconfig.with_name("wrong-ca"), **{"certificate-authority": ca})
        await stack.settings(kubeconfig=str(wrong))
        assert "certificate" in (await ask(alice, room, "status")).body


async def test_broken_ca_data_is_told(stack: Stack, alice: ChatClient, room: str, tmp_path: Path) -> None:
    broken = tmp_path / "ca.crt"
    broken.write_text("this is no certificate\n")
    wrong = stack.cluster.write_kubeconfig(tmp_path / "kubeconfig", **{"certificate-authority": str(broken)})
    await stack.settings(kubeconfig=str(wrong))
    assert "PEM file" in (await ask(alice, room, "status")).body


# A maubot of its own, because its environment is what the test is about


@asynccontextmanager
async def maubot_with(directory: Path, environment: Mapping[str, str]) -> AsyncIterator[Servers]:
    async with Servers.open(directory / "servers", environment=environment) as servers:
        yield servers


PACKAGES = {
    "missing": ("raise ModuleNotFoundError(\"No module named 'kubernetes'\", name='kubernetes')", "is missing"),
    "too old": ("__version__ = '31.0.0'", "31.0.0"),
}


@pytest.mark.parametrize("case", PACKAGES)
async def test_without_a_usable_kubernetes_package_the_plugin_starts_and_says_so(tmp_path: Path, case: str) -> None:
    code, said = PACKAGES[case]
    shadow = tmp_path / "shadow" / "kubernetes"
    shadow.mkdir(parents=True)
    (shadow / "__init__.py").write_text(code + "\n")
    async with maubot_with(tmp_path, {"PYTHONPATH": str(shadow.parent)}) as servers, servers.stack() as stack:
        alice = await stack.person("alice")
        room = await stack.room_with_bot(alice)
        reply = await ask(alice, room, "start")
        assert "kubernetes" in reply.body
        assert said in reply.body
        assert "start" in (await ask(alice, room, "help")).body
        assert (await stack.readyz())[0] == 503
        assert tracebacks(stack) == []


async def test_in_cluster_credentials_are_the_real_files_of_a_pod(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SimulatedCluster() as cluster:
        cluster.add_deployment("demo", "web")
        arguments, environment, _ = in_pod(cluster, tmp_path / "run", [interpreter("maubot")])
        in_a_pod = tmp_path / "python-in-a-pod"
        in_a_pod.write_text(f'#!/bin/sh\nexec {shlex.join(arguments)} "$@"\n')
        in_a_pod.chmod(0o755)
        monkeypatch.setenv("TOGGLE_MAUBOT_PYTHON", str(in_a_pod))
        async with (
            maubot_with(tmp_path, environment) as servers,
            servers.stack({"kubeconfig": ""}, kubeconfig=cluster.kubeconfig) as stack,
        ):
            alice = await stack.person("alice")
            room = await stack.room_with_bot(alice)
            await told(alice, room, "start", "is running")
            assert cluster.replicas("Deployment", "demo", "web") == 1
            assert cluster.token not in "\n".join(stack.maubot.log_lines())


@pytest.mark.own_sync
async def test_a_client_that_was_disabled_and_enabled_answers_once(stack: Stack, alice: ChatClient, room: str) -> None:
    await ask(alice, room, "status")
    for started in (False, True, False, True):
        await stack.api.change_client(stack.bot_id, started=started)
    event = await alice.send(room, "status")
    assert "is off" in (await alice.wait_reply(event)).body
    await alice.settle()
    assert len(alice.timeline.replies(event)) == 1
    assert tracebacks(stack) == []
