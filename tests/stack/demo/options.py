"""What the demo's command line asks for; wrong use ends here, before anything is started."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from .breaks import BREAKS, Break

DEFAULT_SCRIPT = "status; start; status; stop"
VERBS = ("status", "start", "on", "stop", "off", "help", "check")
KINDS = ("Deployment", "StatefulSet")
DESCRIPTION = """Starts a homeserver, maubot with the plugin and a simulated Kubernetes cluster on this machine, and
opens a chat in this terminal: you are alice, in an encrypted room with the bot. In the end everything is gone."""


@dataclass(frozen=True)
class Target:
    """The workload that the bot may turn on and off."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True)
class Options:
    """A valid command line.

    Attributes:
        script: what is typed without a person; None opens a chat.
        kubeconfig: of a real cluster; None simulates one.
        context: the kubeconfig's context to use; empty for its current one.
        keep: the directory to work in and to leave; None for a temporary one.
        broken: what goes wrong in the simulated cluster; None for nothing.
    """

    script: tuple[str, ...] | None
    target: Target
    kubeconfig: Path | None = None
    context: str = ""
    keep: Path | None = None
    broken: Break | None = None


class WrongUse(Exception):
    """The command line cannot be followed; says why in one sentence."""


class NoTruth(Exception):
    """The cluster cannot be asked."""


def parse_options(arguments: Sequence[str], *, terminal: bool) -> Options:
    """What `arguments` ask for; without a `terminal` there is always a script.

    Raises:
        WrongUse: they contradict each other, or name something that is not there.
    """
    given = parser().parse_args(arguments)
    script = given.script if given.script is not None or terminal else DEFAULT_SCRIPT
    check_cluster(given.kubeconfig, given.context, given.target)
    if given.broken and given.kubeconfig:
        raise WrongUse("--break is for the simulated cluster: the demo breaks nothing in yours")
    return Options(
        script=None if script is None else parse_script(script),
        target=parse_target(given.target or "Deployment/demo/web"),
        kubeconfig=given.kubeconfig and given.kubeconfig.absolute(),
        context=given.context,
        keep=given.keep and given.keep.absolute(),
        broken=BREAKS[given.broken] if given.broken else None,
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise WrongUse(message)


def parser() -> argparse.ArgumentParser:
    arguments = _Parser(prog="./build.sh demo", description=DESCRIPTION)
    arguments.add_argument(
        "--script",
        metavar="TEXT",
        help=f"type these lines, parted by semicolons, and judge the answers: '{DEFAULT_SCRIPT}'",
    )
    arguments.add_argument("--kubeconfig", type=Path, metavar="FILE", help="use this real cluster, and scale in it")
    arguments.add_argument(
        "--context", default="", metavar="NAME", help="of the kubeconfig, instead of its current one"
    )
    arguments.add_argument(
        "--target", metavar="KIND/NAMESPACE/NAME", help="what to turn on and off: Deployment/demo/web"
    )
    arguments.add_argument(
        "--break", dest="broken", choices=BREAKS, metavar="WHAT", help=f"let a start fail: {', '.join(BREAKS)}"
    )
    arguments.add_argument("--keep", type=Path, metavar="DIR", help="work in this directory, and leave it")
    return arguments


def parse_script(text: str) -> tuple[str, ...]:
    """The lines of a script: only commands whose answers can be judged."""
    lines = tuple(line.strip() for line in re.split(r"[;\n]", text) if line.strip())
    if not lines:
        raise WrongUse("--script has no command in it")
    for line in lines:
        if verb_of(line) not in VERBS:
            raise WrongUse(f"--script: {line!r} is no command whose answer can be judged; there are {', '.join(VERBS)}")
    return lines


def verb_of(line: str) -> str:
    """The verb of a command line, with or without the ``!toggle`` before it."""
    words = line.lower().split()
    return next(iter(words[1:] if words[:1] == ["!toggle"] else words), "")


def parse_target(text: str) -> Target:
    parts = text.split("/")
    if len(parts) != 3 or parts[0] not in KINDS or not all(parts):
        raise WrongUse(f"--target: write {' or '.join(KINDS)}, the namespace and the name, as Deployment/demo/web")
    return Target(*parts)


def check_cluster(kubeconfig: Path | None, context: str, target: str | None) -> None:
    if kubeconfig is None:
        if context:
            raise WrongUse("--context needs --kubeconfig")
        return
    if not kubeconfig.is_file():
        raise WrongUse(f"--kubeconfig: there is no file {kubeconfig}")
    if not target:
        raise WrongUse(
            "--kubeconfig needs --target KIND/NAMESPACE/NAME: the workload that the demo may turn on and off"
        )
