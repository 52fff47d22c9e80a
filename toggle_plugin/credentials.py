"""Who we are for the cluster and whom we trust: a kubeconfig, or the service account of a pod.

Both are checked before they are used, so that what is wrong can be said without quoting any of a file's content. The
modules of the ``kubernetes`` package that do the work are given, not imported.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .api_failures import Server
from .errors import NotConfigured

PLUGIN_SECONDS = 30.0
"""How long a credential plugin of a kubeconfig may take."""


@dataclass(frozen=True)
class Package:
    """The modules of the kubernetes package that are used, and the YAML reader that comes with it."""

    client: Any
    config: Any
    incluster: Any
    yaml: Any


class Credentials:
    """Who we are and whom we trust: the kubeconfig or the pod's service account, in a configuration of our own."""

    def __init__(self, package: Package, kubeconfig: str) -> None:
        self._package = package
        self._file = kubeconfig
        self._configuration = package.client.Configuration()
        self.broken: type[Exception] = package.config.ConfigException

    @property
    def server(self) -> Server:
        """Where the API server is."""
        parts = urlsplit(self._configuration.host)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        port = parts.port or (80 if parts.scheme == "http" else 443)
        return Server(f"{host}:{port}", self._file)

    async def load(self) -> None:
        """Read them, again if need be; raises NotConfigured."""
        if self._file:
            await self._load_kubeconfig()
        else:
            self._load_service_account()

    def open_client(self) -> Any:
        """An API client; raises NotConfigured where CA or client certificate are not usable."""
        try:
            api = self._package.client.ApiClient(self._configuration)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            where = f"the kubeconfig {self._file}" if self._file else self._configuration.ssl_ca_cert
            sentence = f"The CA or client certificate of {where} cannot be read; it must be a PEM file that is whole."
            raise NotConfigured(sentence, detail=type(error).__name__) from error
        api.user_agent = "maubot-k8s-toggle"
        return api

    def unusable(self) -> NotConfigured:
        """The error when what was read cannot be sent."""
        where = self._file or self._package.incluster.SERVICE_TOKEN_FILENAME
        return NotConfigured(
            f"The credentials in {where} cannot be used; look for a line break in the token.", detail="credentials"
        )

    def unreadable(self) -> NotConfigured:
        """The error when the token of the service account has gone since."""
        where = self._file or self._package.incluster.SERVICE_TOKEN_FILENAME
        return NotConfigured(
            f"The credentials in {where} cannot be read any more; check that file.", detail="credentials"
        )

    def _load_service_account(self) -> None:
        incluster = self._package.incluster
        if not os.environ.get(incluster.SERVICE_HOST_ENV_NAME) or not os.environ.get(incluster.SERVICE_PORT_ENV_NAME):
            sentence = (
                "I do not run in a Kubernetes pod, and no kubeconfig is set; set kubeconfig to a file that I can read."
            )
            raise NotConfigured(sentence, detail=f"{incluster.SERVICE_HOST_ENV_NAME} is not set")
        for path in (incluster.SERVICE_TOKEN_FILENAME, incluster.SERVICE_CERT_FILENAME):
            _check_service_account_file(path)
        try:
            self._package.config.load_incluster_config(self._configuration)
        except (OSError, ValueError, self.broken) as error:
            raise self.unreadable() from error

    async def _load_kubeconfig(self) -> None:
        path = _checked_kubeconfig(self._file, self._package.yaml)
        load = self._package.config.load_kube_config
        problem = detail = ""
        try:
            loading = load(path, client_configuration=self._configuration, persist_config=False)
            await asyncio.wait_for(loading, PLUGIN_SECONDS)
        # The loader raises whatever the file's content makes happen. Its messages, and the frames behind it, can hold
        # the file's secrets: so it is nobody's cause.
        except Exception as error:  # noqa: BLE001
            problem, detail = _loader_problem(error), type(error).__name__
        if problem:
            raise NotConfigured(f"The kubeconfig {self._file} {problem}.", detail=detail)
        self._check_authenticated()

    def _check_authenticated(self) -> None:
        """The loader only logs it when a credential plugin fails."""
        configuration = self._configuration
        if not configuration.api_key and not configuration.cert_file and configuration.host.startswith("https"):
            sentence = (
                f"The kubeconfig {self._file} gives no credentials: no token, no client certificate, "
                "and no credential plugin that works beside maubot."
            )
            raise NotConfigured(sentence, detail="no credentials")


def _check_service_account_file(path: str) -> None:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        cure = (
            "set automountServiceAccountToken: true for the pod" if isinstance(error, FileNotFoundError) else "check it"
        )
        sentence = f"The file {path} of the pod's service account cannot be read; {cure}."
        raise NotConfigured(sentence, detail=type(error).__name__) from error
    if not content.strip():
        raise NotConfigured(f"The file {path} of the pod's service account is empty; check it.", detail="empty")


def _loader_problem(error: Exception) -> str:
    """What made the loader fail, as far as that can be told without quoting it."""
    missing = re.match(r"File does not exists: (.*)", str(error))
    if missing:
        return f"names the file {missing[1]}, which is not there"
    if isinstance(error, asyncio.TimeoutError):
        return f"has a credential plugin that did not end within {PLUGIN_SECONDS:.0f} s"
    if isinstance(error, OSError):
        return f"needs a file that cannot be read or written: {error.filename or 'one in the temporary directory'}"
    return "cannot be used; try it with kubectl beside maubot"


def _checked_kubeconfig(file: str, yaml: Any) -> str:
    """The path of a kubeconfig that can be used; raises NotConfigured with what is wrong, quoting none of it."""
    path = Path(file).expanduser()
    try:
        content = yaml.safe_load(path.read_bytes())
    except FileNotFoundError:
        raise NotConfigured(f"There is no kubeconfig {path}; check the setting kubeconfig.") from None
    except OSError as error:
        sentence = f"The kubeconfig {path} cannot be read; maubot's user needs the right to read it."
        raise NotConfigured(sentence, detail=type(error).__name__) from error
    except (yaml.YAMLError, ValueError):
        raise NotConfigured(f"The kubeconfig {path} is no YAML; check the file.") from None
    problem = _kubeconfig_problem(content)
    if problem:
        raise NotConfigured(f"The kubeconfig {path} {problem}.")
    return str(path)


def _kubeconfig_problem(content: Any) -> str:
    if not isinstance(content, dict):
        return "holds no configuration; check the file"
    current = content.get("current-context")
    if not current:
        return "has no current-context; set one with kubectl config use-context"
    context = _entry(content, "contexts", current, "context")
    if context is None:
        return f"has no context {current}, which is its current-context"
    cluster = _entry(content, "clusters", context.get("cluster"), "cluster")
    if cluster is None:
        return f"does not say where the cluster of its context {current} is"
    if not _is_address(str(cluster.get("server", ""))):
        return f"has no server address that begins with https:// for its context {current}"
    if _entry(content, "users", context.get("user"), "user") is None:
        return f"has no user for its context {current}"
    return ""


def _is_address(server: str) -> bool:
    try:
        parts = urlsplit(server)
        return parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _entry(content: Mapping[str, Any], section: str, name: Any, key: str) -> Mapping[str, Any] | None:
    entries = content.get(section)
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("name") == name and isinstance(entry.get(key), dict):
            found: Mapping[str, Any] = entry[key]
            return found
    return None
