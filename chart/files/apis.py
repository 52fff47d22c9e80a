"""The APIs that `provision` speaks to, and its log: JSON over HTTP, one Secret of Kubernetes, maubot's management.

Standard library only. What is secret gets into the bodies and headers of requests, never into a URL or the log.
"""

import base64
import contextlib
import http.client
import json
import os
import ssl
import sys
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

Json = dict[str, Any]
MINUTE = 60.0
PATIENT = 300.0
"""Seconds for what maubot does only once, such as telling a recovery key."""
MATRIX = "/_matrix/client"
MAUBOT = "/_matrix/maubot/v1"
PUBLIC_KEYS = ("state", "device-id")
"""The Secret's keys that are no secrets."""
CURES = {
    HTTPStatus.FORBIDDEN: "give the provisioner's service account get and patch on it",
    HTTPStatus.NOT_FOUND: "the chart ships it: install the release again",
    HTTPStatus.CONFLICT: "somebody else has just changed it; trying again",
}
_hidden: set[str] = set()
_told: set[str] = set()


class Problem(Exception):
    """What is wrong and what to do, in words for the log; `pause` is how many seconds not to try again at least."""

    def __init__(self, text: str, pause: float = 0.0) -> None:
        super().__init__(text)
        self.pause = pause


class Refused(Problem):
    """An answer that is no success. Quotes its body's `error`, which a refusal of Kubernetes does not have."""

    def __init__(self, name: str, status: int, body: Json) -> None:
        self.status, self.code = status, str(body.get("errcode") or body.get("reason") or "")
        words = f"{name} answered {status} {self.code}: {str(body.get('error') or '').strip()[:300]}"
        super().__init__(words.rstrip(": "), float(body.get("retry_after_ms") or 0) / 1000)


def hide(*values: str) -> None:
    """Keep these values out of the log; very short ones would only garble it."""
    _hidden.update(value for value in values if len(value) > len("abc"))


def tell(level: str, step: str, text: object, *, once: bool = False) -> None:
    """One line of the log; `once` only if it was not there before."""
    if once and str(text) in _told:
        return
    _told.add(str(text))
    line = json.dumps(str(text), ensure_ascii=False)
    for secret in sorted(_hidden, key=len, reverse=True):
        line = line.replace(secret, "…")
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    sys.stdout.write(f"time={now} level={level} step={step} message={line}\n")
    sys.stdout.flush()


class Api(NamedTuple):
    """JSON over HTTP, without redirects and proxies: a token goes only to the server that it is for."""

    name: str
    url: str
    authority: Path | None = None  # a CA file; by default Python's own choice, which SSL_CERT_FILE changes

    def call(self, method: str, path: str, body: Any = None, token: str = "", timeout: float = MINUTE) -> Json:
        """Raises Problem, and Refused for an answer that is no success."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"User-Agent": "maubot-k8s-toggle-provisioner", "Content-Type": kind}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            status, content = self._exchange(timeout, method, path, data, headers)
        except (OSError, http.client.HTTPException) as error:
            raise Problem(f"{self.name} does not answer ({type(error).__name__}: {error})") from None
        try:
            answer = dict(json.loads(content or b"{}"))
        except (ValueError, TypeError):
            raise Refused(self.name, status, {"error": "something that is no JSON object"}) from None
        if status >= HTTPStatus.MULTIPLE_CHOICES:
            raise Refused(self.name, status, answer)
        return answer

    def _exchange(self, timeout: float, method: str, path: str, *request: Any) -> tuple[int, bytes]:
        scheme, host, prefix, *_ = urlsplit(self.url)
        connection = http.client.HTTPConnection(host, timeout=timeout)
        if scheme == "https":
            context = ssl.create_default_context(cafile=self.authority)
            connection = http.client.HTTPSConnection(host, timeout=timeout, context=context)
        with contextlib.closing(connection):
            connection.request(method, prefix.rstrip("/") + path, *request)
            response = connection.getresponse()
            return response.status, response.read()


class Secret:
    """The release's Secret. A write names the version that was read, so it never goes over somebody else's."""

    def __init__(self, namespace: str, name: str) -> None:
        self._account = Path(os.environ.get("SERVICE_ACCOUNT_DIR", "/var/run/secrets/kubernetes.io/serviceaccount"))
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        self._api = Api("Kubernetes", url, self._account / "ca.crt")
        self._path, self._name = f"/api/v1/namespaces/{namespace}/secrets/{name}", f"the Secret {namespace}/{name}"
        self._version, self.data = "", dict[str, str]()

    def read(self) -> None:
        self._call("GET")

    def write(self, changes: Mapping[str, str | None], dry_run: bool = False) -> None:
        """Set keys (None: remove). Raises Problem, also when somebody has changed the Secret since it was read."""
        hide(*(value for key, value in changes.items() if value and key not in PUBLIC_KEYS))
        data = {key: value and base64.b64encode(value.encode()).decode() for key, value in changes.items()}
        body = {"metadata": {"resourceVersion": self._version}, "data": data}
        self._call("PATCH", "?dryRun=All" if dry_run else "", body)

    @property
    def state(self) -> dict[str, str]:
        """What we did last, to be known by a later run."""
        return dict(json.loads(self.data.get("state") or "{}"))

    def remember(self, **changes: str) -> None:
        """Change the state, if it is another then. Raises Problem."""
        state = self.state
        if any(state.get(key, "") != value for key, value in changes.items()):
            self.write({"state": json.dumps({**state, **changes}, sort_keys=True)})

    def insist(self, changes: Mapping[str, str]) -> None:
        """Set keys whose values exist nowhere else, however long it takes."""
        pause = 0.5
        while not self._written(changes):
            time.sleep(pause)
            pause = min(pause * 2, 15.0)
            with contextlib.suppress(Problem, LookupError, TypeError, ValueError):
                self.read()

    def _written(self, changes: Mapping[str, str]) -> bool:
        try:
            self.write(changes)
        except (Problem, LookupError, TypeError, ValueError) as problem:
            tell("error", "secret", f"{problem}; {', '.join(changes)} is in memory only, trying again and again")
            return False
        return True

    def _call(self, method: str, query: str = "", body: Json | None = None) -> None:
        try:
            token = (self._account / "token").read_text().strip()  # the kubelet renews the file
            answer = self._api.call(method, self._path + query, body, token)
        except Refused as refusal:
            cure = CURES.get(HTTPStatus(refusal.status), "trying again")
            raise Problem(f"cannot {method.lower()} {self._name}: {refusal}; {cure}") from None
        except OSError as error:
            raise Problem(
                f"the service account's token cannot be read ({type(error).__name__}); trying again"
            ) from None
        if "dryRun" not in query:
            self._version, data = answer["metadata"]["resourceVersion"], answer.get("data") or {}
            self.data = {key: base64.b64decode(value).decode() for key, value in data.items()}
            hide(*(value for key, value in self.data.items() if key not in PUBLIC_KEYS))


class Maubot:
    """maubot's management API, logged in whenever it asks for it."""

    def __init__(self, url: str, user: str, password: Callable[[], str]) -> None:
        self.api, self._user, self._password, self._token = Api("maubot", url), user, password, ""

    def call(self, method: str, path: str, body: Any = None, timeout: float = MINUTE) -> Json:
        """Raises Problem, and Refused for an answer that is no success."""
        try:
            return self.api.call(method, MAUBOT + path, body, self._token, timeout)
        except Refused as refusal:
            if refusal.status != HTTPStatus.UNAUTHORIZED:
                raise
        proof = {"username": self._user, "password": self._password()}
        try:
            self._token = self.api.call("POST", MAUBOT + "/auth/login", proof)["token"]
        except Refused as refusal:
            cure = "restart maubot if it was started with another one, or correct it"
            raise Problem(f"maubot refuses the password of {self._user} ({refusal}); {cure}") from None
        hide(self._token)
        return self.api.call(method, MAUBOT + path, body, self._token, timeout)

    def find(self, path: str) -> Json | None:
        """GET; None where maubot has no such client, plugin or instance."""
        try:
            return self.call("GET", path)
        except Refused as refusal:
            if refusal.code in ("client_not_found", "plugin_not_found", "instance_not_found"):
                return None
            raise
