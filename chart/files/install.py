"""Puts the plugin's Python packages on the volume, once for each list and Python: the init container of maubot's pod.

    python3 install.py [REQUIREMENTS [DIRECTORY]]

REQUIREMENTS is a list with hashes (default: requirements.txt beside this file); DIRECTORY holds what is installed
(default: /data/packages), and `current` in it is what PYTHONPATH names. pip, which the image has, does the work; it
takes the index and its CA from PIP_INDEX_URL and PIP_CERT. A run that is killed leaves the old packages in place.
Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

CURRENT = "current"
UNFINISHED = "unfinished"
QUOTED_LINES = 20
PIP = (
    *(sys.executable, "-m", "pip", "--no-input", "--no-cache-dir", "--disable-pip-version-check", "install"),
    *("--no-deps", "--require-hashes", "--only-binary", ":all:", "--progress-bar", "off", "--no-warn-script-location"),
)

REASONS = {
    "DO NOT MATCH THE HASHES": "a file has another hash than the list: it was replaced in the index or on the way",
    "CERTIFICATE_VERIFY_FAILED": "the index's certificate is not trusted here: give its CA (PIP_CERT)",
    "No space left": "the volume is full: make it larger",
    "(from versions: none)": "the index cannot be reached, or has none of it: see PIP_INDEX_URL and the way there",
    "No matching distribution": "the index has not this version, or no wheel of it for this system and Python",
}
"""What pip writes, and what to tell a person; the first one that fits."""


def say(text: str) -> None:
    sys.stdout.write(f"install: {text}\n")
    sys.stdout.flush()


def key(requirements: Path) -> str:
    """The folder's name: another list, another minor version of Python or another kind of system is another folder."""
    system = f"{sys.version_info[:2]} {sysconfig.get_config_var('SOABI')}\n".encode()
    return hashlib.sha256(system + requirements.read_bytes()).hexdigest()[:16]


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def environment(scratch: Path) -> dict[str, str]:
    """Ours for pip; everything that it writes goes to `scratch`, because the root is read-only."""
    dropped = {"PYTHONPATH"}
    if os.environ.get("PIP_CERT"):
        dropped |= {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}  # requests, inside pip, would prefer these
    inherited = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**inherited, "HOME": str(scratch), "TMPDIR": str(scratch), "PIP_USER": "0"}


def explain(output: str) -> str:
    found = (reason for sign, reason in REASONS.items() if sign in output)
    return next(found, "pip could not install the packages; see above")


def last_words(output: str) -> str:
    """The end of what pip wrote, without the passwords of URLs."""
    return "".join(f"{re.sub(r'//[^/@]+@', '//****@', line)}\n" for line in output.splitlines()[-QUOTED_LINES:])


def install(requirements: Path, target: Path, scratch: Path) -> None:
    """Let pip fill `target`.

    Raises:
        SystemExit: it could not; pip's own words are in the log, and one sentence that says what to do.
    """
    scratch.mkdir()
    done = subprocess.run(  # noqa: S603 # pip, with the arguments of the chart
        (*PIP, "--target", str(target), "--requirement", str(requirements)),
        env=environment(scratch),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        sys.stdout.write(last_words(done.stdout))
        raise SystemExit(f"install: {explain(done.stdout)}.")


def make(requirements: Path, target: Path) -> None:
    """`target` is there whole, or not at all."""
    begun, work = time.monotonic(), target.with_name(UNFINISHED)
    remove(work)
    work.mkdir(parents=True)
    try:
        install(requirements, work / "packages", work / "scratch")
        os.sync()  # a name must not survive a power cut that the files do not
        (work / "packages").rename(target)
    finally:
        remove(work)
    say(f"installed in {time.monotonic() - begun:.0f} s")


def point_to(target: Path) -> None:
    """`current` is always a whole folder: the old one, then the new one."""
    current, new = target.with_name(CURRENT), target.with_name(f"{CURRENT}.new")
    if current.is_symlink() and current.readlink() == Path(target.name):
        return
    remove(new)
    new.symlink_to(target.name)
    new.replace(current)


def tidy(target: Path) -> None:
    for path in target.parent.iterdir():
        if path.name not in (CURRENT, target.name):
            remove(path)


def run(requirements: Path, directory: Path) -> None:
    target = directory / key(requirements)
    if target.is_dir():
        say("the packages are there")
    else:
        say(f"installing the packages of {requirements.name} ({requirements.read_text(encoding='utf-8').count('==')})")
        make(requirements, target)
    point_to(target)
    tidy(target)


def main() -> None:
    # The first process of a container hears only the signals that it asked for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    arguments = [Path(argument) for argument in sys.argv[1:]]
    requirements = arguments[0] if arguments else Path(__file__).with_name("requirements.txt")
    directory = arguments[1] if len(arguments) > 1 else Path("/data/packages")
    try:
        run(requirements, directory)
    except OSError as error:
        raise SystemExit(
            f"install: {directory} cannot be used: {error.strerror or error} ({error.filename})."
        ) from None


if __name__ == "__main__":
    main()
