"""The .mbp: the same bytes from the same files, only what belongs in it, taken by maubot, and never a broken one."""

from __future__ import annotations

import os
import subprocess
from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile

import pytest

from .conftest import META, REPOSITORY, VENVS, Checkout, tiny_plugin

NAME = "org.example.tiny-v1.2.3.mbp"

LOAD = """
import asyncio, sys
from maubot.loader.zip import ZippedPluginLoader
loader = ZippedPluginLoader(sys.argv[1])
main = asyncio.run(loader.load())
print(loader.meta.id, main.__module__, main.__name__, len(loader.sync_read_file("base-config.yaml")) > 0)
"""

# What is done to the checkout: a file and its new text (None: removed), and what the sentence must name.
BROKEN = {
    "no maubot.yaml": ("maubot.yaml", None, "maubot.yaml"),
    "not YAML": ("maubot.yaml", "id: [", "maubot.yaml"),
    "not a mapping": ("maubot.yaml", "hello", "not a mapping"),
    "no ID": ("maubot.yaml", META.replace("id: ", "# "), "key id"),
    "no version": ("maubot.yaml", META.replace("1.2.3", "one"), "version"),
    "a newer maubot": ("maubot.yaml", META.replace("0.6.0", "99.0.0"), "maubot 99.0.0"),
    "a key misspelt": ("maubot.yaml", META.replace("license", "licence"), "licence"),
    "a module that is not there": ("maubot.yaml", META.replace("- tiny\n", "- tiny\n- toy\n"), "module toy"),
    "a module not listed": ("maubot.yaml", META.replace("- tiny\n", "- bot\n"), "module tiny"),
    "an extra file that is not there": ("base-config.yaml", None, "base-config.yaml"),
    "a config without its defaults": (
        "maubot.yaml",
        META.replace("- base-config.yaml", "- tiny/bot.py"),
        "base-config",
    ),
    "no package": ("tiny/__init__.py", None, "tiny/__init__.py"),
    "a syntax error": ("tiny/never_imported.py", "def (:\n", "tiny/never_imported.py"),
    "newer syntax": ("tiny/never_imported.py", "try:\n  pass\nexcept* ValueError:\n  pass\n", "Python 3.10"),
    "an import that fails": ("tiny/bot.py", "import not_there\n", "not_there"),
    "an error while loading": ("tiny/bot.py", "raise KeyError('some\\nlines')\n", "KeyError"),
    "no main class": ("tiny/__init__.py", "", "Main class Tiny"),
    "a main class that is none": ("tiny/bot.py", "Tiny = 3\n", "class"),
    "a main class that is no plugin": ("tiny/bot.py", "class Tiny: ...\n", "maubot.Plugin"),
}


def built(checkout: Checkout) -> Path:
    done = checkout.build("plugin")
    assert done.returncode == 0, done.stderr
    path = checkout.root / "dist" / NAME
    assert done.stdout == f"{sha256(path.read_bytes()).hexdigest()}  dist/{NAME}\n"
    return path


def test_it_is_the_same_bytes_whenever_and_wherever_it_is_made(tmp_path: Path) -> None:
    first, second = tiny_plugin(tmp_path / "first"), tiny_plugin(tmp_path / "second")
    for number, path in enumerate(sorted(second.root.rglob("*"), reverse=True)):
        if path.name != "build.sh":
            os.utime(path, (number * 10**6, number * 10**8))
            path.chmod(0o777 if path.is_dir() else 0o600)
    assert built(first).read_bytes() == built(second).read_bytes()


def test_only_sources_and_what_is_named_go_along(checkout: Checkout) -> None:
    for litter in ("tiny/__pycache__/bot.cpython-311.pyc", "tiny/bot.py~", "tiny/.bot.py.swp", "tiny/notes.txt"):
        checkout.write(litter, "litter")
    checkout.write("tiny/deeper/__init__.py", "")
    with ZipFile(built(checkout)) as archive:
        names = archive.namelist()
        assert archive.read("maubot.yaml").decode() == META
    assert names == ["base-config.yaml", "maubot.yaml", "tiny/__init__.py", "tiny/bot.py", "tiny/deeper/__init__.py"]


def test_making_it_again_replaces_it(checkout: Checkout) -> None:
    before = built(checkout).read_bytes()
    checkout.write("base-config.yaml", "command: other\n")
    assert built(checkout).read_bytes() != before
    assert [path.name for path in (checkout.root / "dist").iterdir()] == [NAME]


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_refused_in_one_sentence(checkout: Checkout, case: str) -> None:
    path, text, named = BROKEN[case]
    checkout.write(f"dist/{NAME}", "an earlier one")
    (checkout.root / path).unlink(missing_ok=True)
    if text is not None:
        checkout.write(path, text)
    done = checkout.build("plugin")
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert named in done.stderr
    assert [(path.name, path.read_text()) for path in (checkout.root / "dist").iterdir()] == [(NAME, "an earlier one")]


def test_this_repositorys_plugin_is_what_maubot_loads(tmp_path: Path) -> None:
    named = os.environ.get("TOGGLE_MBP")
    found = [Path(named)] if named else sorted((REPOSITORY / "dist").glob("*.mbp"))
    assert len(found) == 1, "run ./build.sh plugin"
    loaded = subprocess.run(
        [VENVS / "maubot/bin/python", "-I", "-c", LOAD, found[0]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert loaded.stdout.split() == ["io.github.k8s_toggle", "toggle_plugin.bot", "ToggleBot", "True"], loaded.stderr


def test_this_repositorys_plugin_holds_the_whole_package() -> None:
    named = os.environ.get("TOGGLE_MBP")
    found = Path(named) if named else next((REPOSITORY / "dist").glob("*.mbp"))
    package = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "toggle_plugin").rglob("*.py")}
    with ZipFile(found) as archive:
        assert set(archive.namelist()) == package | {"maubot.yaml", "base-config.yaml"}
