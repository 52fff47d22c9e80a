"""Copies of the repository's build files, so that real runs of build.sh break nothing here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
VENVS = Path(os.environ.get("TOGGLE_VENVS") or REPOSITORY / ".venv")

META = """\
maubot: 0.6.0
id: org.example.tiny
version: 1.2.3
license: MIT
modules:
- tiny
main_class: tiny/Tiny
config: true
extra_files:
- base-config.yaml
"""


@dataclass(frozen=True)
class Checkout:
    """A directory with a build.sh in it, and the environment variables that it is run with."""

    root: Path
    environment: Mapping[str, str]

    def build(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run ``build.sh ARGUMENTS`` without a terminal."""
        return self._run(str(self.root / "build.sh"), *arguments, cwd=cwd)

    def source(self, script: str, *, without: tuple[str, ...] = (), **more: str) -> subprocess.CompletedProcess[str]:
        """Run `script` with build.sh's functions; `more` is added to the environment, `without` taken from it."""
        return self._run("/bin/bash", "-c", f'source "{self.root}/build.sh"; {script}', without=without, more=more)

    def write(self, path: str, text: str) -> Path:
        """Write a file below the checkout, and the directories above it."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        return target

    def _run(
        self,
        *command: str,
        cwd: Path | None = None,
        without: tuple[str, ...] = (),
        more: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        environment = {**self.environment, **(more or {})}
        return subprocess.run(
            command,
            cwd=cwd or self.root,
            env={name: value for name, value in environment.items() if name not in without},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )


def copy_of_build(root: Path) -> Path:
    """Copy what build.sh itself needs, no plugin."""
    root.mkdir(parents=True, exist_ok=True)
    shutil.copy2(REPOSITORY / "build.sh", root)
    shutil.copytree(REPOSITORY / "requirements", root / "requirements")
    return root


def tiny_plugin(root: Path) -> Checkout:
    """A checkout with the smallest plugin; it uses this repository's virtual environments."""
    checkout = Checkout(
        copy_of_build(root), {**os.environ, "TOGGLE_VENVS": str(VENVS), "TOGGLE_PYTHON": sys.executable}
    )
    checkout.write("maubot.yaml", META)
    checkout.write("base-config.yaml", "command: toggle\n")
    checkout.write("tiny/__init__.py", "from .bot import Tiny\n")
    checkout.write("tiny/bot.py", "from maubot import Plugin\n\n\nclass Tiny(Plugin):\n    pass\n")
    return checkout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A copy of the build files with the smallest plugin."""
    return tiny_plugin(tmp_path / "checkout")
