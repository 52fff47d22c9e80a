"""Makes a container image out of a folder, as an archive that containerd imports: one layer, no image builder."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping
from pathlib import Path

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
LAYER = "layer.tar"


def write_archive(archive: Path, name: str, folder: Path, config: Mapping[str, object]) -> None:
    """Write the image NAME:TAG whose root file system is `folder`; `config` is its Entrypoint, Env, User and so on."""
    layer = archive.with_name(f"{archive.name}.layer")
    try:
        with tarfile.open(layer, "w") as files:
            files.add(folder, arcname=".")
        description = _description(_digest(layer), config)
        described_in = f"{hashlib.sha256(description).hexdigest()}.json"
        manifest = json.dumps([{"Config": described_in, "RepoTags": [name], "Layers": [LAYER]}]).encode()
        with tarfile.open(archive, "w") as image:
            _add(image, described_in, description)
            _add(image, "manifest.json", manifest)
            image.add(layer, arcname=LAYER)
    finally:
        layer.unlink(missing_ok=True)


def architecture() -> str:
    return ARCHITECTURES[platform.machine()]


def _description(digest: str, config: Mapping[str, object]) -> bytes:
    layers = {"type": "layers", "diff_ids": [f"sha256:{digest}"]}
    return json.dumps({"architecture": architecture(), "os": "linux", "config": config, "rootfs": layers}).encode()


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
