"""The very first `helm install` in bad circumstances: it only takes longer, and is done once."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import PackagePath, distributions
from pathlib import Path

import pytest

from .node.command import CommandFailed
from .recovery import PATIENCE, container_id, kill_processes, pod_of, runs_of
from .release import CLAIM, FULLNAME, Release
from .test_install import turned_on_and_off

pytestmark = pytest.mark.timeout(900)

OUTAGE_SECONDS = 180.0


# The homeserver is dead


async def test_the_homeserver_comes_minutes_later(release: Release, own: None) -> None:
    """The provisioner waits for it; nothing starts again, neither then nor when it is there."""
    await release.synapse.stop()
    try:
        await release.install(release.own_values(), wait=False)
        await release.namespace.until("the provisioner to wait", waits_for_the_homeserver(release), PATIENCE)
        await asyncio.sleep(OUTAGE_SECONDS)
        before = await runs_of(release)
        assert "device-id" not in await release.secret(), "nobody is logged in"
    finally:
        await release.synapse.run()
    await release.ready()
    await turned_on_and_off(release)
    after = await runs_of(release)
    assert after == before
    assert {name: run.restarts for name, run in after.items()} == {"maubot": 0, "provisioner": 0}


def waits_for_the_homeserver(release: Release) -> Callable[[], Awaitable[bool]]:
    async def waits() -> bool:
        try:
            log = await release.namespace.logs(f"deployment/{FULLNAME}-provisioner")
        except CommandFailed:  # there is no container yet
            return False
        return "the homeserver does not answer" in log

    return waits


# The installation of the packages is killed


async def test_the_installation_of_the_packages_is_killed(release: Release) -> None:
    """Twice in its middle: once the kubelet starts it again, once the pod is another one too."""
    packages = release.namespace.volume_directory(CLAIM) / "packages"
    await release.install(wait=False)
    killed = await kill_the_installation(release, packages)
    assert await kill_the_installation(release, packages) != killed
    await release.namespace.kubectl("delete", "pod", f"{FULLNAME}-0")
    await release.ready()
    assert {path.name for path in packages.iterdir()} == {"current", (packages / "current").readlink().name}
    assert damaged(packages / "current") == []
    await turned_on_and_off(release)
    assert (await runs_of(release))["maubot"].restarts == 0


async def kill_the_installation(release: Release, packages: Path) -> str:
    """SIGKILL for the whole container when pip has unpacked something; which container it was."""
    container, since = "", time.time()

    async def is_in_its_middle() -> bool:
        nonlocal container
        container = container_id(await pod_of(release, "maubot"), "initContainerStatuses")
        return bool(container) and await asyncio.to_thread(has_unpacked, packages / "unfinished", since)

    await release.namespace.until("pip to be at work", is_in_its_middle, PATIENCE)
    assert kill_processes(release.cluster, container), await release.describe()
    assert not (packages / "current").exists(), "it was too late"

    async def has_ended() -> bool:
        return container_id(await pod_of(release, "maubot"), "initContainerStatuses") != container

    await release.namespace.until(f"{container} to have ended", has_ended)
    return container


def has_unpacked(directory: Path, since: float) -> bool:
    """Whether a run that began after `since` has a module there."""
    with contextlib.suppress(FileNotFoundError):  # pip moves them around
        return directory.stat().st_mtime > since and next(directory.rglob("*.py"), None) is not None
    return False


def damaged(packages: Path) -> list[str]:
    """The files that are not as their packages' own lists have them."""
    files = [file for package in distributions(path=[str(packages)]) for file in package.files or ()]
    assert len(files) > 1000, "the lists are read"
    inside = [file for file in files if file.hash and ".." not in file.parts]  # not what pip puts into another folder
    return [str(file) for file in inside if file.hash and digest(file) != file.hash.value]


def digest(file: PackagePath) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(file.read_binary()).digest()).rstrip(b"=").decode()
