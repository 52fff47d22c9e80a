"""An index of Python packages for pods that reach none: the wheels of the chart's list, over HTTPS.

    python -m tests.cluster.index ADDRESS PORT CERTIFICATE KEY

The wheels are downloaded once, hash-checked, for the Python of the stand-in image, and kept below ~/.cache. What pip
asks for is written to standard output, a line for each request. It runs until SIGTERM.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import platform
import re
import ssl
import subprocess
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from tests.stack.synapse import interpreter

from .base_image import CACHE, PYTHON, REPOSITORY

REQUIREMENTS = REPOSITORY / "chart/files/requirements.txt"
SYSTEMS = ("manylinux_2_28", "manylinux_2_17", "manylinux2014", "manylinux2010", "manylinux1")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def download(target: Path) -> None:
    """Let pip choose and check the wheels for the image's Python on this machine's processor."""
    choice = [word for system in SYSTEMS for word in ("--platform", f"{system}_{platform.machine()}")]
    subprocess.run(
        (
            *(interpreter("tools"), "-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--no-deps"),
            *("--require-hashes", "--only-binary", ":all:", "--python-version", PYTHON, *choice),
            *("--dest", str(target), "--requirement", str(REQUIREMENTS)),
        ),
        check=True,
    )


def wheels() -> Path:
    """The folder of all wheels; filled if it is not there."""
    system = f"{PYTHON} {platform.machine()}\n".encode()
    target = CACHE / f"wheels-{hashlib.sha256(system + REQUIREMENTS.read_bytes()).hexdigest()[:16]}"
    if not target.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="wheels.") as scratch:
            download(Path(scratch, "whole"))
            Path(scratch, "whole").rename(target)
    return target


def project(name: str) -> str:
    """A name as the index spells it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def link(file: Path) -> str:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return f'<a href="/files/{html.escape(file.name)}#sha256={digest}">{html.escape(file.name)}</a>'


def page(folder: Path, name: str) -> str | None:
    """What the index says of a project: a link to each of its files with its hash; None if there are none."""
    files = [path for path in sorted(folder.glob("*.whl")) if project(path.name.split("-")[0]) == project(name)]
    links = "\n".join(map(link, files))
    return f"<!DOCTYPE html>\n<html><body>\n{links}\n</body></html>\n" if links else None


class Index(ThreadingHTTPServer):
    """Serves the wheels of one folder below /simple/ and /files/."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], folder: Path, certificate: Path, key: Path) -> None:
        super().__init__(address, Handler)
        self.folder = folder
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        # The handshake is the request's thread's, or one silent client would keep all others waiting.
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 # the base class has it
        """Say in one line that a client went away or did not trust the certificate."""
        say(f"{client_address}: {sys.exc_info()[1]}")


class Handler(BaseHTTPRequestHandler):
    """GET of a project's page or of a file."""

    server: Index
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        kind, _, name = unquote(self.path).strip("/").partition("/")
        if kind == "simple" and (text := page(self.server.folder, name)):
            self._send("text/html", text.encode())
        elif kind == "files" and (file := self._file(name)):
            self._send("application/octet-stream", file.read_bytes())
        else:
            self.send_error(404)

    def _file(self, name: str) -> Path | None:
        return next((path for path in self.server.folder.iterdir() if path.name == name), None)

    def _send(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *values: object) -> None:  # noqa: A002 # as the base class has it
        say(format % values)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the wheels of the chart's list.")
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("certificate", type=Path)
    parser.add_argument("key", type=Path)
    arguments = parser.parse_args()
    index = Index((arguments.address, arguments.port), wheels(), arguments.certificate, arguments.key)
    say(f"serving {index.folder} at https://{arguments.address}:{arguments.port}/simple")
    index.serve_forever()


if __name__ == "__main__":
    main()
