"""The packages that the chart installs: a closed part of what our tests run maubot on, each with its hashes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
CHART = REPOSITORY / "chart/files/requirements.txt"
RUNTIME = REPOSITORY / "requirements/runtime.txt"
PIN = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>\S+)(?P<marker> ; .*)? \\")
HASH = re.compile(r"    --hash=(sha256:[0-9a-f]{64})( \\)?")

Pinned = dict[tuple[str, str, str], frozenset[str]]
"""Name, version and marker; the hashes of its files."""


def pinned(path: Path) -> Pinned:
    """What a lock holds; anything in it that is neither a version nor a hash nor a comment fails."""
    found: dict[tuple[str, str, str], set[str]] = {}
    latest: set[str] = set()
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.lstrip().startswith("#"):
            continue
        if pin := PIN.fullmatch(line):
            latest = found.setdefault((pin["name"], pin["version"], (pin["marker"] or "").strip()), set())
        else:
            digest = HASH.fullmatch(line)
            assert digest, f"{path.name} has a line that pins nothing: {line}"
            latest.add(digest[1])
    return {package: frozenset(hashes) for package, hashes in found.items()}


def names(pins: Pinned) -> set[str]:
    return {name for name, _, _ in pins}


def test_every_package_is_the_very_one_that_the_tests_run_maubot_on() -> None:
    chart, runtime = pinned(CHART), pinned(RUNTIME)
    assert {package: runtime.get(package) for package in chart} == chart


def test_every_package_has_hashes() -> None:
    assert [package for package, hashes in pinned(CHART).items() if not hashes] == []


def test_the_image_brings_maubot_itself() -> None:
    assert names(pinned(CHART)).isdisjoint({"maubot", "mautrix", "python-olm", "asyncpg", "aiosqlite"})


@pytest.mark.parametrize(
    "name", ["kubernetes", "aiohttp", "urllib3", "oauthlib", "requests-oauthlib", "websocket-client"]
)
def test_what_the_client_imports_is_there(name: str) -> None:
    assert name in names(pinned(CHART))
