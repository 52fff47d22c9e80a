"""The stack itself: its parts are what the other tests take them for."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import aiohttp
import pytest
from mautrix.errors import MLimitExceeded
from mautrix.types import TrustState

from tests.stack.chat import ChatClient, Silence
from tests.stack.maubot import MaubotError
from tests.stack.processes import LAUNCHER, ChildProcess, ProcessFailed, free_port
from tests.stack.stack import Servers, Stack, plugin_file

STUBBORN_SERVER = """
import http.server, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


@pytest.fixture
async def bob(stack: Stack) -> ChatClient:
    return await stack.person("bob")


async def room_of(host: ChatClient, *guests: ChatClient, encrypted: bool = True) -> str:
    """A room that all are in, as all know."""
    room = await host.create_room(encrypted=encrypted, invite=[guest.user_id for guest in guests])
    for guest in guests:
        await guest.wait_invite(room)
        await guest.join(room)
    for member in (host, *guests):
        for guest in guests:
            await member.wait_membership(room, guest.user_id)
    return room


# The chat client


async def test_an_encrypted_message_is_read_by_another_person(alice: ChatClient, bob: ChatClient) -> None:
    room = await room_of(alice, bob)
    sent = await alice.send(room, "hello")
    message = await bob.wait_message(sent)
    raw = await bob.account.synapse.request(
        "GET", f"/_matrix/client/v3/rooms/{room}/event/{sent}", token=bob.access_token
    )
    assert (message.body, message.sender, message.encrypted) == ("hello", alice.user_id, True)
    assert raw["type"] == "m.room.encrypted"
    assert "hello" not in str(raw)


async def test_plaintext_in_an_encrypted_room_is_told_apart(alice: ChatClient, bob: ChatClient) -> None:
    room = await room_of(alice, bob)
    clear = await alice.send(room, "in the clear", plaintext=True)
    secret = await alice.send(room, "in secret")
    assert not (await bob.wait_message(clear)).encrypted
    assert (await bob.wait_message(secret)).encrypted


async def test_an_edit_replaces_the_text_and_the_history_stays(alice: ChatClient, bob: ChatClient) -> None:
    room = await room_of(alice, bob)
    question = await alice.send(room, "well?")
    answer = await bob.send(room, "wait", reply_to=question)
    await bob.send_edit(room, answer, "done")
    reply = await alice.wait_text(await alice.wait_reply(question), "done")
    assert (reply.event_id, reply.history, reply.encrypted) == (answer, ["wait", "done"], True)


async def test_nobody_edits_what_others_wrote(alice: ChatClient, bob: ChatClient) -> None:
    room = await room_of(alice, bob)
    original = await alice.send(room, "mine")
    forged = await bob.send_edit(room, original, "yours")
    await alice.wait_message(forged)
    assert alice.message(original).history == ["mine"]


async def test_a_message_in_a_thread_answers_its_root(alice: ChatClient, bob: ChatClient) -> None:
    room = await room_of(alice, bob)
    root = await alice.send(room, "root")
    await bob.send(room, "in the thread", thread=root)
    reply = await alice.wait_reply(root)
    assert (reply.body, reply.thread) == ("in the thread", root)


async def test_a_reaction_belongs_to_its_message(alice: ChatClient, bob: ChatClient) -> None:
    room = await room_of(alice, bob)
    message = await bob.wait_message(await alice.send(room, "hello"))
    await bob.react(room, message.event_id, "👍")
    assert await alice.wait_for(lambda: alice.message(message.event_id).reactions) == [(bob.user_id, "👍")]


async def test_a_message_from_before_the_key_came_is_undecryptable(stack: Stack, alice: ChatClient) -> None:
    room = await room_of(alice)
    unread = await alice.send(room, "before anybody was there")
    bob = await stack.person("bob")
    await alice.invite(room, bob.user_id)
    await bob.wait_invite(room)
    await bob.join(room)
    await bob.wait_for(lambda: unread in bob.timeline.undecryptable, what="an undecryptable message")
    await alice.wait_membership(room, bob.user_id)
    assert (await bob.wait_message(await alice.send(room, "now"))).body == "now"
    assert list(bob.timeline.undecryptable) == [unread]


async def test_what_does_not_come_fails_and_says_what_came(alice: ChatClient) -> None:
    room = await room_of(alice)
    sent = await alice.wait_message(await alice.send(room, "echo?"))
    with pytest.raises(Silence, match=r"an answer|1 answers[\s\S]*echo\?"):
        await alice.wait_reply(sent.event_id, timeout=0.2)


# Cross-signing, as the other side sees it


async def test_a_cross_signed_device_is_seen_as_such(alice: ChatClient, bob: ChatClient) -> None:
    room = await room_of(alice, bob)
    assert (await bob.wait_message(await alice.send(room, "signed"))).trust == "CROSS_SIGNED_TOFU"
    assert await bob.trust_of(alice.user_id, alice.device_id) is TrustState.CROSS_SIGNED_TOFU


async def test_a_person_without_cross_signing_is_unverified(stack: Stack, bob: ChatClient) -> None:
    carol = await stack.person("carol", cross_signed=False)
    room = await room_of(carol, bob)
    assert (await bob.wait_message(await carol.send(room, "unsigned"))).trust == "UNVERIFIED"


async def test_an_unsigned_second_device_is_unverified_until_it_is_signed(alice: ChatClient, bob: ChatClient) -> None:
    room = await room_of(alice, bob)
    second = await alice.second_device(cross_signed=False)
    try:
        await second.wait_membership(room, bob.user_id)
        assert (await bob.wait_message(await second.send(room, "unsigned"))).trust == "UNVERIFIED"
        await second.sign_device()
        assert await bob.trust_of(second.user_id, second.device_id) is TrustState.CROSS_SIGNED_TOFU
        assert (await bob.wait_message(await second.send(room, "signed"))).trust == "CROSS_SIGNED_TOFU"
    finally:
        await second.close()


async def test_a_new_identity_is_not_the_first_one_seen(alice: ChatClient, bob: ChatClient) -> None:
    room = await room_of(alice, bob)
    await bob.wait_message(await alice.send(room, "first identity"))
    before = await alice.identity()
    await alice.reset_cross_signing()
    assert await alice.identity() not in ("", before)
    assert await bob.trust_of(alice.user_id, alice.device_id) is TrustState.CROSS_SIGNED_UNTRUSTED
    assert (await bob.wait_message(await alice.send(room, "second"))).trust == "CROSS_SIGNED_UNTRUSTED"


async def test_the_bots_device_is_cross_signed(stack: Stack, alice: ChatClient) -> None:
    assert await alice.trust_of(stack.bot_id, stack.bot.device_id) is TrustState.CROSS_SIGNED_TOFU


# The homeserver's limits


async def test_stock_limits_stop_a_burst(stock_stack: Stack) -> None:
    limited = await stock_stack.person("limited", limited=True)
    room = await limited.create_room(encrypted=False)
    with pytest.raises(MLimitExceeded):
        await asyncio.gather(*(limited.send(room, f"message {number}") for number in range(20)))


async def test_people_are_exempt_from_stock_limits(stock_stack: Stack) -> None:
    alice = await stock_stack.person("alice")
    room = await alice.create_room(encrypted=False)
    sent = [await alice.send(room, f"message {number}") for number in range(20)]
    assert (await alice.wait_message(sent[-1])).body == "message 19"


async def test_the_other_servers_have_no_limits(alice: ChatClient) -> None:
    room = await alice.create_room(encrypted=False)
    sent = [await alice.send(room, f"message {number}") for number in range(40)]
    assert (await alice.wait_message(sent[-1])).body == "message 39"


# maubot's management API


async def test_an_error_of_maubot_has_its_status_and_text(stack: Stack) -> None:
    with pytest.raises(MaubotError) as caught:
        await stack.api.upload_plugin(b"no zip")
    assert (caught.value.status, caught.value.errcode) == (400, "plugin_invalid")
    assert caught.value.text == "File is not a maubot plugin"


async def test_a_second_recovery_key_is_refused(stack: Stack) -> None:
    with pytest.raises(MaubotError, match="409 client_has_keys"):
        await stack.api.generate_recovery_key(stack.bot_id)
    await stack.api.verify(stack.bot_id, stack.recovery_key)


async def test_maubot_keeps_its_instance_over_a_crash(stack: Stack) -> None:
    await stack.maubot.kill()
    with pytest.raises(aiohttp.ClientConnectionError):
        await stack.api.instance(stack.instance)
    await stack.maubot.run()
    assert (await stack.api.instance(stack.instance))["started"]


# Processes


async def test_servers_listen_on_loopback_only(servers: Servers, stack: Stack) -> None:
    urls = [servers.synapse.url, servers.maubot.url, stack.cluster.url]
    for process in (servers.synapse.process, servers.maubot.process):
        assert listening_addresses(process.pid) == {"127.0.0.1"}
    assert all("//127.0.0.1:" in url for url in urls)


async def test_children_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.stack", str(tmp_path), str(plugin_file())),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert owner.stdout is not None
        children = [int(pid) for pid in (await owner.stdout.readline()).split()]
        assert len(children) == 2
        assert all(is_running(pid) for pid in children)
    finally:
        owner.kill()
        await owner.wait()
    await asyncio.wait_for(asyncio.gather(*(ended(pid) for pid in children)), 30)


async def test_a_child_that_fails_is_quoted(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "import sys; sys.exit('this went wrong')")
    child = await ChildProcess.start("child", command, directory=tmp_path, log=tmp_path / "child.log")
    with pytest.raises(ProcessFailed, match=r"this went wrong[\s\S]*child ended with status 1"):
        await child.wait_until_ready(f"http://127.0.0.1:{free_port()}")


async def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    port = free_port()
    command = (sys.executable, "-c", STUBBORN_SERVER, str(port))
    child = await ChildProcess.start("child", command, directory=tmp_path, log=tmp_path / "child.log")
    await child.wait_until_ready(f"http://127.0.0.1:{port}")
    await child.stop(grace=0.2)
    assert await child.wait() == -signal.SIGKILL


async def test_the_launcher_runs_nothing_for_a_parent_that_is_gone(tmp_path: Path) -> None:
    marker = tmp_path / "it ran"
    not_its_parent = "1"
    launched = await asyncio.create_subprocess_exec(sys.executable, str(LAUNCHER), not_its_parent, "touch", str(marker))
    assert await launched.wait() == 1
    assert not marker.exists()


def listening_addresses(pid: int) -> set[str]:
    """The IPv4 addresses on which a process listens; an IPv6 one is given as it stands in /proc."""
    sockets = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.add(readable(fields[1].split(":")[0]))
    return found


def readable(address: str) -> str:
    """An address of /proc/net/tcp, which is little-endian hexadecimal."""
    return ".".join(str(byte) for byte in reversed(bytes.fromhex(address))) if len(address) == 8 else address


def is_running(pid: int) -> bool:
    """Whether there is such a process and it has not ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def ended(pid: int) -> None:
    while is_running(pid):  # noqa: ASYNC110 - nobody tells us of the end of a process that is not our child
        await asyncio.sleep(0.05)
