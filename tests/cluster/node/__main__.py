"""The commands behind ``./build.sh cluster``: build, up, down, kubectl, exec, image, load, start, stop, kill, test."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.stack.processes import LAUNCHER

from .build import BuildFailed, build, programs
from .command import CommandFailed
from .control import NotRunning, Refused, ask, inside, is_running, supervisor
from .image import write_archive
from .layout import Layout
from .node import NodeFailed, load
from .supervisor import READY, end, supervise

TOOLS = ("ip", "nft", "iptables", "runc", "unshare", "nsenter")
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
CALLERS = ("kubectl", "exec", "image", "load")
"""These may name files of the caller's; all others work from the repository's root."""
LONGEST_PATH = 60
"""Of the node's directory: a Unix socket has 107 characters for its path, and the kubelet takes many."""
TESTS = "tests/cluster"
CONTRACT = "tests/contract"
"""It runs against the cluster too."""
TESTS_OF_THE_NODE = (
    *(f"{TESTS}/test_{name}.py" for name in ("build", "lifecycle", "node")),
    f"{CONTRACT}/test_trouble.py",
)
"""They say nothing about another cluster, or do to it what only the node can bear."""
TERMINATED = 128 + signal.SIGTERM
"""The exit status of what SIGTERM ended, as shells count."""
FIRST = ("-m", "first")
REAL = ("-k", "not simulated")
"""`./build.sh test` runs the contract against the simulated cluster."""
SELECTING = ("-m", "-k", TESTS, CONTRACT)
"""A run of the tests that has one of these has chosen for itself."""

USAGE = """\
usage: ./build.sh cluster COMMAND

  build                      build its programs from Go's module proxy, if that was not done yet
  up, down                   start it, and leave it running; stop it, and remove everything of it
  kubectl ARGS               kubectl, as an administrator
  exec COMMAND               a command in its network, with its KUBECONFIG
  image NAME:TAG FOLDER      an image out of a folder
  load ARCHIVE               an image out of an archive of docker's or buildah's
  start|stop|kill COMPONENT  one of its programs; start takes more flags for it
  test [--all] [--keep] [PYTEST'S ARGS]
                             tests/cluster and tests/contract: the first ones, or all;
                             --keep keeps namespaces and cluster

KUBECONFIG_FOR_TESTS=FILE runs the tests against that cluster: nothing is built, started or stopped.
TOGGLE_CLUSTER=DIRECTORY keeps the files there.
"""


class WrongUse(Exception):
    """The command line cannot be understood; one sentence."""


def main(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] not in COMMANDS:
        sys.stderr.write(USAGE)
        return 2
    command, *rest = arguments
    layout = Layout.default()
    if command in CALLERS:
        os.chdir(os.environ.get("CALLER_DIRECTORY", "."))
    try:
        if command != "build" and not (command == "test" and is_other_cluster()):
            check_machine(layout)
        return COMMANDS[command](layout, rest)
    except (BuildFailed, CommandFailed, NodeFailed, NotRunning, Refused, WrongUse) as error:
        say(str(error))
        return 1


def is_other_cluster() -> bool:
    return bool(os.environ.get("KUBECONFIG_FOR_TESTS"))


def say(text: str) -> None:
    print(f"cluster: {text}", file=sys.stderr, flush=True)


def check_machine(layout: Layout) -> None:
    """Say what is missing here.

    Raises:
        NodeFailed: something is.
    """
    if platform.system() != "Linux" or os.geteuid() != 0:
        raise NodeFailed(
            "it needs Linux and root, for namespaces and containers; or name another cluster in KUBECONFIG_FOR_TESTS"
        )
    missing = [name for name in TOOLS if not shutil.which(name)]
    if missing:
        raise NodeFailed(f"missing: {', '.join(missing)}; ./build.sh cluster installs them on Debian")
    if len(bytes(layout.base)) > LONGEST_PATH:
        raise NodeFailed(f"{layout.base} is too long for the sockets in it: name a shorter one in TOGGLE_CLUSTER")


def run_build(layout: Layout, arguments: Sequence[str]) -> int:
    expect(arguments, 0)
    if not is_other_cluster():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # so that what is unfinished is removed
        build()
    return 0


def run_up(layout: Layout, arguments: Sequence[str]) -> int:
    expect(arguments, 0)
    if is_running(layout):
        say("it is up already")
    else:
        start_supervisor(layout)
    return 0


def run_down(layout: Layout, arguments: Sequence[str]) -> int:
    expect(arguments, 0)
    begun = time.monotonic()
    end(layout)
    say(f"down in {time.monotonic() - begun:.1f} s")
    return 0


def run_supervise(layout: Layout, arguments: Sequence[str]) -> int:
    """Not for people: what `start_supervisor` starts."""
    asyncio.run(supervise(layout, programs(), until_input_ends="--until-input-ends" in arguments))
    return 0


def run_kubectl(layout: Layout, arguments: Sequence[str]) -> int:
    kubectl = (programs()["kubectl"], "--kubeconfig", str(layout.kubeconfig))
    return execute((*inside(layout), *kubectl, *arguments), environment(layout))


def run_exec(layout: Layout, arguments: Sequence[str]) -> int:
    if not arguments:
        raise WrongUse("exec takes a command")
    return execute((*inside(layout), *arguments), environment(layout))


def run_image(layout: Layout, arguments: Sequence[str]) -> int:
    expect(arguments, 2)
    name, folder = arguments
    supervisor(layout)
    with tempfile.TemporaryDirectory() as directory:
        archive = Path(directory) / "image.tar"
        write_archive(archive, name, Path(folder), {})
        asyncio.run(load(layout, programs(), archive))
    return 0


def run_load(layout: Layout, arguments: Sequence[str]) -> int:
    expect(arguments, 1)
    supervisor(layout)
    asyncio.run(load(layout, programs(), Path(arguments[0])))
    return 0


def run_component(command: str) -> Callable[[Layout, Sequence[str]], int]:
    def run(layout: Layout, arguments: Sequence[str]) -> int:
        if not arguments or (len(arguments) > 1 and command != "start"):
            raise WrongUse(f"{command} takes the name of a component")
        ask(layout, command, arguments[0], arguments[1:])
        return 0

    return run


def run_test(layout: Layout, arguments: Sequence[str]) -> int:
    pytest = (sys.executable, "-m", "pytest", *selected(arguments))
    if is_other_cluster():
        return execute((*pytest, *(f"--ignore={file}" for file in TESTS_OF_THE_NODE)), os.environ)
    started = None if is_running(layout) else start_supervisor(layout, until_we_end=True)
    try:
        status = run_child((*inside(layout), *pytest), environment(layout))
        if started and "--keep" in arguments:
            ask(layout, "keep")
            started = None
            say("it stays up: ./build.sh cluster down ends it")
        return status
    finally:
        if started:
            run_down(layout, ())


def selected(arguments: Sequence[str]) -> list[str]:
    """pytest's arguments: the tests marked with `first`, unless others are asked for; of the contract its real half."""
    wanted = [argument for argument in arguments if argument != "--all"]
    chosen = any(argument.startswith(SELECTING) for argument in wanted)
    if not any(argument.startswith((TESTS, CONTRACT)) for argument in wanted):
        wanted += (TESTS, CONTRACT)
    if chosen:
        return wanted
    return [*(() if "--all" in arguments else FIRST), *REAL, *wanted]


def start_supervisor(layout: Layout, *, until_we_end: bool = False) -> subprocess.Popen[str]:
    """Start a node in namespaces of its own, and wait until it is ready.

    Raises:
        NodeFailed: it did not start.
    """
    build()
    begun = time.monotonic()
    layout.base.mkdir(mode=0o700, parents=True, exist_ok=True)
    options = ("--until-input-ends",) if until_we_end else ()
    with layout.log.open("w") as log:
        process = subprocess.Popen(
            ("unshare", "--mount", "--net", "--", sys.executable, "-m", "tests.cluster.node", "supervise", *options),
            env=environment(layout),
            stdin=subprocess.PIPE if until_we_end else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,  # Ctrl-C is for the tests; it ends when they have ended
        )
    if process.stdout is None or process.stdout.readline().strip() != READY:
        process.wait()
        raise NodeFailed(layout.log.read_text().strip().removeprefix("cluster: "))
    say(f"up in {time.monotonic() - begun:.1f} s")
    return process


def run_child(command: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run a command that ends with us, and is told of SIGTERM; Ctrl-C reaches it by itself."""
    launcher = (sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()))
    with subprocess.Popen((*launcher, *command), env=variables) as process:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        return process.wait()


def execute(command: Sequence[str], variables: Mapping[str, str]) -> int:
    """Become `command`."""
    os.execvpe(command[0], list(command), variables)  # noqa: S606


def environment(layout: Layout) -> Mapping[str, str]:
    """Of what runs in its network, from where no proxy can be reached."""
    variables = {name: value for name, value in os.environ.items() if name.lower() not in PROXIES}
    path = f"{programs().path}:{os.environ['PATH']}"
    return {**variables, "KUBECONFIG": str(layout.kubeconfig), "PATH": path}


def expect(arguments: Sequence[str], count: int) -> None:
    if len(arguments) != count:
        raise WrongUse(f"it takes {count or 'no'} arguments, not {len(arguments)}; see ./build.sh cluster")


COMMANDS: Mapping[str, Callable[[Layout, Sequence[str]], int]] = {
    "build": run_build,
    "up": run_up,
    "down": run_down,
    "supervise": run_supervise,
    "kubectl": run_kubectl,
    "exec": run_exec,
    "image": run_image,
    "load": run_load,
    **{command: run_component(command) for command in ("start", "stop", "kill")},
    "test": run_test,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
