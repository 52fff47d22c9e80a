"""The images for the cluster are what they stand for: read from their archives."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from .base_image import BASE, OWN, base_image, own_image


class Archive:
    """An image as `ctr images import` takes it: its names, its configuration, the paths and sizes of all its files."""

    def __init__(self, path: Path) -> None:
        with tarfile.open(path) as archive:
            manifest = self._json(archive, "manifest.json")[0]
            self.names: list[str] = manifest["RepoTags"]
            self.config: dict[str, Any] = self._json(archive, manifest["Config"])["config"]
            self.sizes: dict[str, int] = {}
            for layer in manifest["Layers"]:
                self.sizes |= self._files(archive, layer)
            self.files = set(self.sizes)

    @staticmethod
    def _json(archive: tarfile.TarFile, name: str) -> Any:
        member = archive.extractfile(name)
        assert member
        return json.load(member)

    @staticmethod
    def _files(archive: tarfile.TarFile, layer: str) -> dict[str, int]:
        with tarfile.open(fileobj=archive.extractfile(layer)) as files:
            return {member.name: member.size for member in files}

    def below(self, *words: str) -> set[str]:
        """The paths that have one of these words as a part."""
        return {name for name in self.files if set(words) & set(name.split("/"))}


@pytest.fixture(scope="module")
def base() -> Archive:
    return Archive(base_image())


@pytest.fixture(scope="module")
def own() -> Archive:
    return Archive(own_image())


pytestmark = pytest.mark.timeout(1200)  # the first time, Debian is installed


def test_maubot_lies_where_the_official_image_has_it(base: Archive) -> None:
    assert base.names == [BASE]
    assert base.config["WorkingDir"] == "/opt/maubot"
    assert {"opt/maubot/maubot/__main__.py", "opt/maubot/frontend/index.html"} <= base.files
    assert [name for name in base.below("maubot") if "-packages/" in name] == []


def test_it_lacks_what_the_chart_has_to_install(base: Archive) -> None:
    assert base.below("kubernetes", "oauthlib", "websocket") == set()
    assert base.below("aiohttp", "mautrix", "olm", "pip")


def test_ours_has_it_and_runs_as_nobody_special(own: Archive) -> None:
    assert own.names == [OWN]
    assert own.config["User"] == "1337:1337"
    assert own.config["Entrypoint"] == ["tini", "--"]
    assert {"opt/toggle/packages/kubernetes/aio/__init__.py", "usr/bin/tini"} <= own.files


def test_ours_has_none_of_this_machines_settings(own: Archive, base: Archive) -> None:
    """pip's configuration and the certificates were there while it was built: at most an empty mount point is left."""
    changed = {name for name in own.files if own.sizes[name] and own.sizes[name] != base.sizes.get(name)}
    assert changed
    assert [name for name in changed if not name.startswith(("opt/", "usr/"))] == []
