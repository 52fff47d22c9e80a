"""The mission's way in a real browser: maubot's web UI from the log-in to settings in force, and bad ones refused.

Its screenshots are the pictures of the docs: run it with TOGGLE_PICTURES=1 to write them anew.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

from tests.integration.browser import open_page, pictures
from tests.integration.conversation import ask, told
from tests.integration.webui import WebUI, quiet_log
from tests.stack.chat import Account, ChatClient
from tests.stack.cluster import SimulatedCluster
from tests.stack.maubot import Maubot
from tests.stack.stack import PLUGIN, plugin_file
from tests.stack.synapse import Login, Synapse

INSTANCE = "toggle"
VALHEIM = """\
targets:
    valheim:
        kind: Deployment
        namespace: games
        name: valheim
"""
NOTEBOOK = """\
    notebook:
        kind: StatefulSet
        namespace: gpu
        name: jupyter
        replicas: 2
"""
ONE_MISTAKE = NOTEBOOK.replace("replicas: 2", "replicas: two")
TWO_MISTAKES = ONE_MISTAKE.replace("StatefulSet", "Pod")
NO_YAML = NOTEBOOK.replace("replicas: 2", "replicas: 2: 3")
REFUSALS = {
    TWO_MISTAKES: (
        "2 problems. First: targets.notebook.kind: "
        "write Deployment, StatefulSet, ReplicaSet or apiVersion/Kind, not 'Pod'"
    ),
    NO_YAML: "line {line}, column 20: not valid YAML (mapping values are not allowed here); check the indentation",
    ONE_MISTAKE: "targets.notebook.replicas: write a whole number from 1 to 1000, or restore, not 'two'",
}


@pytest.fixture
async def homeserver(tmp_path: Path) -> AsyncIterator[Synapse]:
    """A homeserver of its own, so that the people in the pictures have the names they should have."""
    synapse = Synapse.prepare(tmp_path / "synapse")
    async with AsyncExitStack() as parts:
        parts.push_async_callback(synapse.stop)
        await synapse.run()
        yield synapse


@pytest.fixture
async def maubot(homeserver: Synapse, tmp_path: Path) -> AsyncIterator[Maubot]:
    """A fresh maubot: no plugin, no client, no instance."""
    maubot = Maubot.prepare(tmp_path / "maubot", homeserver)
    quiet_log(maubot)
    async with AsyncExitStack() as parts:
        parts.push_async_callback(maubot.stop)
        await maubot.run()
        yield maubot


@pytest.fixture
async def cluster() -> AsyncIterator[SimulatedCluster]:
    async with SimulatedCluster() as cluster:
        cluster.add_deployment("games", "valheim")
        cluster.add_statefulset("gpu", "jupyter")
        yield cluster


@pytest.fixture
async def alice(homeserver: Synapse) -> AsyncIterator[ChatClient]:
    password = secrets.token_urlsafe(12)
    user_id = await homeserver.register("alice", password)
    alice = await ChatClient.log_in(Account(homeserver, "alice", password, user_id))
    yield alice
    await alice.close()


@pytest.fixture
async def bot(homeserver: Synapse) -> Login:
    """The bot's account and a device for maubot, as its owner makes them."""
    password = secrets.token_urlsafe(12)
    await homeserver.register("bot", password)
    return await homeserver.login("bot", password, "maubot")


async def test_from_the_log_in_to_settings_in_force(
    maubot: Maubot, homeserver: Synapse, cluster: SimulatedCluster, bot: Login, alice: ChatClient, tmp_path: Path
) -> None:
    shots = pictures(otherwise=tmp_path / "pictures")
    async with open_page(tmp_path / "browser", width=1100, height=700) as page:
        ui = WebUI(page, maubot.url)
        await ui.log_in(maubot.user, maubot.password)
        await install(ui, bot, homeserver, shots)
        await set_up(ui, cluster, alice, shots)
        room = await alice.create_room(invite=[bot.user_id], direct=True)
        await alice.wait_membership(room, bot.user_id)
        await told(alice, room, "start valheim", "is running")
        assert ", cross-signed; fingerprint" in (await ask(alice, room, "check")).body
        await refuse(ui, alice, room, shots)
        await put_in_force(ui, alice, room, cluster)


async def install(ui: WebUI, bot: Login, homeserver: Synapse, shots: Path) -> None:
    """Upload the plugin, make and cross-sign the client, make the instance."""
    assert await ui.upload_plugin(plugin_file()) == PLUGIN
    await ui.picture(shots / "upload.png")
    await ui.fill_client(homeserver.url, bot)
    await ui.picture(shots / "client.png")
    await ui.create_client()
    assert len((await ui.generate_recovery_key()).split()) == 12
    # maubot's UI shows the trust only after the client's next start when it does not sync; `check` knows it at once.
    await ui.fill_instance(INSTANCE, "bot", PLUGIN)
    await ui.picture(shots / "instance.png")
    await ui.create_instance()


async def set_up(ui: WebUI, cluster: SimulatedCluster, alice: ChatClient, shots: Path) -> None:
    """Edit the shipped settings: one target by pasting, one person by typing."""
    shipped = shipped_settings()
    assert await ui.copy_settings() == shipped
    await ui.paste_settings(
        shipped.replace("targets: {}\n", VALHEIM).replace("kubeconfig: ''", f"kubeconfig: {cluster.kubeconfig}")
    )
    await ui.type_at_the_end("[]", f"\n- '{alice.user_id}'")
    await ui.save()
    await ui.open_instance(INSTANCE)
    saved = await ui.copy_settings()
    assert comments(saved) == comments(shipped)
    assert yaml.safe_load(saved) == {
        **yaml.safe_load(shipped),
        **yaml.safe_load(VALHEIM),
        "kubeconfig": str(cluster.kubeconfig),
        "allowed_users": [alice.user_id],
    }
    await ui.show_line("        name: valheim", below=9)
    await ui.picture(shots / "settings.png")


async def refuse(ui: WebUI, alice: ChatClient, room: str, shots: Path) -> None:
    """Save what is wrong in three ways, each twice; what was good before stays in force and stays stored."""
    good = await ui.copy_settings()
    for mistake, reason in REFUSALS.items():
        bad, wrong = with_target(good, mistake), mistake.splitlines()[-1]
        await ui.paste_settings(bad)
        await ui.show_line(wrong, below=4)
        for _ in range(2):
            assert reason.format(line=bad.splitlines().index(wrong) + 1) in await ui.save_refused()
        await ui.picture(shots / "settings-refused.png")
        assert "is running" in (await ask(alice, room, "status")).body
        assert "notebook" not in (await ask(alice, room, "help")).body
    await ui.open_instance(INSTANCE)
    assert await ui.copy_settings() == good


async def put_in_force(ui: WebUI, alice: ChatClient, room: str, cluster: SimulatedCluster) -> None:
    """Save the same without the mistake; the next command uses it."""
    good = with_target(await ui.copy_settings(), NOTEBOOK)
    await ui.paste_settings(good)
    await ui.save()
    await told(alice, room, "start notebook", "is running (desired 2, ready 2, available 2)")
    assert cluster.replicas("StatefulSet", "gpu", "jupyter") == 2
    await ui.open_instance(INSTANCE)
    stored = await ui.copy_settings()
    assert yaml.safe_load(stored) == yaml.safe_load(good)
    assert comments(stored) == comments(shipped_settings())


def shipped_settings() -> str:
    with ZipFile(plugin_file()) as archive:
        return archive.read("base-config.yaml").decode()


def with_target(settings: str, target: str) -> str:
    """The settings with one more target after the first one."""
    last = "        name: valheim\n"
    assert settings.count(last) == 1
    return settings.replace(last, last + target)


def comments(settings: str) -> list[str]:
    return [line for line in settings.splitlines() if line.lstrip().startswith("#")]
