"""The demo: it judges answers rightly, shows edits in place, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from prompt_toolkit.application import Application, create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.utils import get_cwidth

from tests.stack.chat import ChatClient
from tests.stack.cluster import Outcome
from tests.stack.demo.breaks import BREAKS
from tests.stack.demo.kubeconfigs import server_of, with_context
from tests.stack.demo.lines import message_lines, wrap
from tests.stack.demo.options import WrongUse, parse_options
from tests.stack.demo.screen import ChatScreen
from tests.stack.demo.truth import Counts, counts_of, fault_of
from tests.stack.stack import Stack
from tests.stack.synapse import REPOSITORY
from tests.stack.timeline import Event, Message

OFF = Counts(desired=0, replicas=0, available=0, observed=True)
STARTING = Counts(desired=1, replicas=1, available=0, observed=True)
RUNNING = Counts(desired=1, replicas=1, available=1, observed=True)
STOPPING = Counts(desired=0, replicas=1, available=0, observed=True)


# Judging


@pytest.mark.parametrize(
    ("line", "history", "truth"),
    [
        ("status", ["⚪ **web** is off (desired 0)"], OFF),
        ("!toggle status web", ["🟢 **web** is running"], RUNNING),
        ("start", ["**web** is starting", "**web** is starting: pulling", "**web** is running, after 3 s."], RUNNING),
        ("on", ["**web** is running, as it was already."], RUNNING),
        ("stop", ["**web** is stopping", "**web** is off, after 1 s."], OFF),
        ("help", ["`start`, `stop`, `status`"], OFF),
        ("check", ["✅ Cluster: answers"], OFF),
    ],
)
def test_a_right_answer_has_no_fault(line: str, history: list[str], truth: Counts) -> None:
    assert fault_of(line, history, truth) == ""


@pytest.mark.parametrize(
    ("line", "history", "truth"),
    [
        pytest.param("status", ["**web** is running"], OFF, id="another phase than the cluster's"),
        pytest.param("status", ["I cannot tell"], OFF, id="no phase at all"),
        pytest.param("start", ["**web** is starting"], STARTING, id="not at its end"),
        pytest.param("start", ["**web** is running"], STARTING, id="claimed too early"),
        pytest.param(
            "start", ["**web** is running", "**web** is starting", "**web** is running"], RUNNING, id="went back"
        ),
        pytest.param("start", ["**web** is starting", "**web** is stuck"], RUNNING, id="stuck"),
        pytest.param("stop", ["**web** is off"], STOPPING, id="pods are left"),
        pytest.param("stop", ["**web** is running", "**web** is off"], OFF, id="a word of another way"),
        pytest.param("help", ["I do not know"], OFF, id="no help"),
        pytest.param("check", ["❌ Cluster: no answer"], OFF, id="a failed check"),
    ],
)
def test_a_wrong_answer_has_one(line: str, history: list[str], truth: Counts) -> None:
    assert fault_of(line, history, truth)


@pytest.mark.parametrize(
    ("line", "history", "right"),
    [
        ("start", ["**web** is starting", "**web** is stuck (…): pod web-1 has no node: …"], True),
        ("status", ["**web** is stuck (…): pod web-1 has no node: …"], True),
        ("start", ["**web** is starting", "**web** is stuck (…): pod web-1 waits for its claim"], False),
        ("start", ["**web** is starting"], False),
        ("status", ["**web** is starting"], False),
    ],
)
def test_what_is_broken_has_to_be_stuck_with_its_reason(line: str, history: list[str], right: bool) -> None:
    assert (fault_of(line, history, STARTING, "has no node") == "") == right


@pytest.mark.parametrize(
    ("spec", "status", "phase"),
    [
        ({"replicas": 0}, {"observedGeneration": 2}, "off"),
        ({"replicas": 0}, {"observedGeneration": 1}, "stopping"),
        ({"replicas": 0}, {"observedGeneration": 2, "replicas": 1}, "stopping"),
        ({"replicas": 2}, {"observedGeneration": 2, "replicas": 2, "availableReplicas": 1}, "starting"),
        ({"replicas": 2}, {"observedGeneration": 1, "replicas": 2, "availableReplicas": 2}, "starting"),
        ({}, {"observedGeneration": 2, "replicas": 1, "availableReplicas": 1}, "running"),
    ],
)
def test_the_phase_comes_from_the_counts(spec: Mapping[str, int], status: Mapping[str, int], phase: str) -> None:
    workload = {"metadata": {"generation": 2}, "spec": spec, "status": status}
    assert counts_of(workload).phase == phase


# The command line


def test_without_a_terminal_there_is_always_a_script() -> None:
    assert parse_options([], terminal=False).script == ("status", "start", "status", "stop")
    assert parse_options([], terminal=True).script is None
    assert parse_options(["--script", "start; ; stop"], terminal=True).script == ("start", "stop")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--script", "sttus"], "'sttus' is no command"),
        (["--script", " ; "], "no command in it"),
        (["--context", "home"], "needs --kubeconfig"),
        (["--kubeconfig", "/nonexistent"], "there is no file"),
        (["--kubeconfig", __file__], "needs --target"),
        (["--target", "Pod/demo/web"], "--target: write"),
        (["--nonsense"], "unrecognized arguments"),
        (["--break", "everything"], "invalid choice: 'everything'"),
        (["--break", "image", "--kubeconfig", __file__, "--target", "Deployment/demo/web"], "breaks nothing in yours"),
    ],
)
def test_wrong_use_is_told_in_one_sentence(arguments: list[str], reason: str) -> None:
    with pytest.raises(WrongUse, match=reason):
        parse_options(arguments, terminal=True)


def kubeconfig(directory: Path, **changes: Any) -> Path:
    clusters = [{"name": name, "cluster": {"server": f"https://{name}"}} for name in ("one", "two")]
    clusters[1]["cluster"] = {"server": "https://two", "certificate-authority": "ca.crt"}
    users = [{"name": "me", "user": {"token": "t"}}]
    contexts = [{"name": name, "context": {"cluster": name, "user": "me"}} for name in ("one", "two")]
    document = {"clusters": clusters, "contexts": contexts, "users": users, "current-context": "one", **changes}
    path = directory / "given"
    path.write_text(yaml.safe_dump(document))
    return path


def test_a_context_is_chosen_in_a_private_copy(tmp_path: Path) -> None:
    given = kubeconfig(tmp_path)
    copy = with_context(given, "two", tmp_path)
    assert (server_of(given), server_of(copy)) == ("https://one", "https://two")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    authorities = [
        item["cluster"].get("certificate-authority") for item in yaml.safe_load(copy.read_text())["clusters"]
    ]
    assert authorities == [None, str(tmp_path / "ca.crt")]


def test_a_kubeconfig_without_a_cluster_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="no context 'three'; it has one, two"):
        with_context(kubeconfig(tmp_path), "three", tmp_path)
    with pytest.raises(WrongUse, match="names no cluster"):
        server_of(kubeconfig(tmp_path, clusters=[]))


# The terminal


def message(*texts: str, encrypted: bool = True) -> Message:
    """A message and its edits."""
    return Message(
        [Event(f"${n}", "!r", "@bot:x", "m.room.message", {"body": text}, n, encrypted) for n, text in enumerate(texts)]
    )


def shown(lines: list[list[tuple[str, str]]]) -> list[str]:
    return ["".join(text for _, text in line) for line in lines]


@pytest.mark.parametrize("width", [12, 20, 33, 80])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    text = "🟢 **web** is running (desired 1), see `kubectl-with-a-very-long-word-that-fits-nowhere`\n● und 世界 auch"
    lines = shown(message_lines(message(text), mine=False, width=width))
    assert max(get_cwidth(line) for line in lines) <= width
    assert "".join("".join(lines).split()) == "".join(f"bot ▸ {text}".replace("**", "").replace("`", "").split())


def test_words_stay_whole_where_they_fit() -> None:
    assert shown(wrap([("", "one two three")], 9)) == ["one two ", "  three"]


def test_an_unencrypted_message_is_marked() -> None:
    assert "NOT ENCRYPTED" in shown(message_lines(message("hello", encrypted=False), mine=False, width=80))[0]
    assert "NOT ENCRYPTED" not in shown(message_lines(message("hello"), mine=False, width=80))[0]


class Terminal:
    """What a person at the chat sees and types."""

    def __init__(self, application: Application[None], typing: Callable[[str], None]) -> None:
        self.type = typing
        self._application = application
        self._drawn = asyncio.Event()
        application.after_render += lambda _: self._drawn.set()

    def rows(self) -> list[str]:
        """The screen as it was last drawn."""
        screen = self._application.renderer.last_rendered_screen
        if screen is None:
            return []
        columns = range(self._application.output.get_size().columns)
        return ["".join(screen.data_buffer[y][x].char for x in columns) for y in range(screen.height)]

    def sees(self, text: str) -> bool:
        return any(text in row for row in self.rows())

    async def wait_for(self, text: str) -> None:
        """Wait until a row contains `text`."""
        while not self.sees(text):
            self._drawn.clear()
            await asyncio.wait_for(self._drawn.wait(), 60)


@asynccontextmanager
async def chat_at_terminal(alice: ChatClient, room: str, columns: int) -> AsyncIterator[Terminal]:
    """The demo's chat at a terminal of that width; it has to have ended by itself when the block is left."""
    output = Vt100_Output(io.StringIO(), lambda: Size(rows=24, columns=columns), term="xterm")
    with create_pipe_input() as keys, create_app_session(input=keys, output=output):
        screen = ChatScreen(alice, room, ["intro"])
        running = asyncio.create_task(screen.run())
        try:
            yield Terminal(screen.application, keys.send_text)
            await asyncio.wait_for(running, 30)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("columns", [80, 34])
async def test_a_reply_changes_in_place(stack: Stack, alice: ChatClient, columns: int) -> None:
    room = await stack.room_with_bot(alice, direct=True)
    async with chat_at_terminal(alice, room, columns) as terminal:
        terminal.type("start\r")
        await terminal.wait_for("web is running")
        assert terminal.sees("you ▸ start")
        assert terminal.sees("(edited)")
        assert not terminal.sees("web is starting")
        terminal.type("quit\r")


@pytest.mark.parametrize("key", ["\x03", "\x04", "quit\r"], ids=["Ctrl-C", "Ctrl-D", "quit"])
async def test_the_chat_ends_when_it_is_told_to(alice: ChatClient, key: str) -> None:
    room = await alice.create_room()
    async with chat_at_terminal(alice, room, 80) as terminal:
        await terminal.wait_for("intro")
        terminal.type(key)


# All of it


async def demo(*arguments: str, directory: Path) -> asyncio.subprocess.Process:
    """The demo as build.sh starts it, without a terminal, with its temporary files in `directory`."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.stack.demo", *arguments),
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(directory)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


def is_empty(directory: Path) -> bool:
    return not any(directory.iterdir())


async def test_the_script_without_a_terminal_is_right_and_leaves_nothing(tmp_path: Path) -> None:
    process = await demo(directory=tmp_path)
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    assert output.count("✓ right") == 4
    assert "/_matrix/maubot" in output
    assert "⚠" not in output, "it is set up as the README says"
    assert is_empty(tmp_path)


def test_all_that_can_go_wrong_with_a_start_can_be_shown() -> None:
    assert {each.outcome for each in BREAKS.values()} == set(Outcome) - {Outcome.NORMAL, Outcome.STAYS}


@pytest.mark.parametrize("name", ["image", "security", "init"])
async def test_what_is_broken_is_told_in_the_demo(tmp_path: Path, name: str) -> None:
    process = await demo("--break", name, directory=tmp_path)
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    assert BREAKS[name].words in output
    assert is_empty(tmp_path)


@pytest.mark.parametrize("changes", [{}, {"users": []}], ids=["nobody listens", "no user"])
async def test_a_cluster_that_cannot_be_asked_is_told_before_anything_starts(
    tmp_path: Path, changes: Mapping[str, Any]
) -> None:
    (tmp_path / "temporary").mkdir()
    given = kubeconfig(tmp_path, clusters=[{"name": "one", "cluster": {"server": "https://127.0.0.1:1"}}], **changes)
    target = ("--target", "Deployment/demo/web", "--script", "status")
    process = await demo("--kubeconfig", str(given), *target, directory=tmp_path / "temporary")
    output = (await process.communicate())[0].decode()
    assert process.returncode == 1, output
    assert "leads to no cluster" in output
    assert "Synapse" not in output
    assert is_empty(tmp_path / "temporary")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_everything(tmp_path: Path, number: signal.Signals) -> None:
    process = await demo(directory=tmp_path)
    assert process.stdout is not None
    while b"maubot answers" not in (line := await process.stdout.readline()):
        assert line, "it ended too early"
    process.send_signal(number)
    await process.communicate()
    assert process.returncode == 128 + number
    assert is_empty(tmp_path)
