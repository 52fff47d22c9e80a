"""A kubeconfig with one context made the current one, because the plugin takes a file and no context."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from .options import WrongUse

FILE_KEYS = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
"""Keys whose values are files, relative to the kubeconfig."""


def with_context(kubeconfig: Path, context: str, directory: Path) -> Path:
    """`kubeconfig`, or a copy in `directory` (mode 0600: it holds credentials) whose current context is `context`.

    Raises:
        WrongUse: it has no such context, or is no kubeconfig.
    """
    if not context:
        return kubeconfig
    document = read(kubeconfig)
    names = [str(item.get("name")) for item in document.get("contexts") or []]
    if context not in names:
        raise WrongUse(f"--context: {kubeconfig} has no context {context!r}; it has {', '.join(names) or 'none'}")
    document["current-context"] = context
    for section in sections(document):
        make_absolute(section, kubeconfig.parent)
    copy = directory / "kubeconfig"
    copy.touch(mode=0o600)
    copy.write_text(yaml.safe_dump(document))
    return copy


def server_of(kubeconfig: Path) -> str:
    """The API server's URL in a kubeconfig's current context.

    Raises:
        WrongUse: it names none.
    """
    document = read(kubeconfig)
    try:
        contexts = {item["name"]: item["context"] for item in document["contexts"]}
        clusters = {item["name"]: item["cluster"] for item in document["clusters"]}
        return str(clusters[contexts[document["current-context"]]["cluster"]]["server"])
    except (KeyError, TypeError):
        raise WrongUse(f"--kubeconfig: {kubeconfig} names no cluster in its current context; try --context") from None


def read(kubeconfig: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(kubeconfig.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise WrongUse(f"--kubeconfig: {kubeconfig} cannot be read ({type(error).__name__})") from None
    if not isinstance(document, dict):
        raise WrongUse(f"--kubeconfig: {kubeconfig} is no kubeconfig")
    return document


def sections(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The mappings in which files can be named."""
    for plural, singular in (("clusters", "cluster"), ("users", "user")):
        for item in document.get(plural) or []:
            yield item.get(singular) or {}


def make_absolute(section: dict[str, Any], folder: Path) -> None:
    for key in FILE_KEYS:
        if section.get(key):
            section[key] = str(folder / section[key])
    program = section.get("exec") or {}
    if "/" in program.get("command", ""):  # without one it is looked for on PATH
        program["command"] = str(folder / program["command"])
