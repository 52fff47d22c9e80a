"""What `helm test` runs as maubot's service account: is the bot ready, and has it the rights that its targets need?

    python3 check.py check.json [SECONDS]

The file says where to ask for readiness (nowhere if that is empty) and which rights to ask for; SECONDS is how long a
bot may take to become ready. Every failure is one line, and then it ends with 1. Standard library only.
SERVICE_ACCOUNT_DIR names another directory than the pod's usual one.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SERVICE_ACCOUNT = Path(os.environ.get("SERVICE_ACCOUNT_DIR", "/var/run/secrets/kubernetes.io/serviceaccount"))
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
TIMEOUT = 15.0
PATIENCE = 120.0
"""The test may be run right after the installation."""
PAUSE = 5.0

Right = Mapping[str, str]


def not_ready(url: str) -> str:
    """Why the bot is not ready, or nothing."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:  # noqa: S310 - the URL is the chart's own
            json.load(response)
    except urllib.error.HTTPError as error:
        return f"the bot is not ready: HTTP {error.code} from {url}: {reasons(error.read(4096))}"
    except (OSError, ValueError) as error:
        return f"the bot is not ready: no answer from {url}: {error}"
    return ""


def reasons(body: bytes) -> str:
    """The plugin's own reasons; without them, maubot itself answered: it has no such instance, or that does not run."""
    try:
        return "; ".join(map(str, json.loads(body)["reasons"]))
    except (ValueError, KeyError, TypeError):
        return "the instance is not there or does not run"


def wait_until_ready(url: str, patience: float) -> str:
    """As `not_ready`, for the last time of many."""
    deadline = time.monotonic() + patience
    while (problem := not_ready(url)) and time.monotonic() < deadline:
        time.sleep(PAUSE)
    return problem


def review(right: Right) -> Mapping[str, Any]:
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": dict(right)},
    }


def api_server() -> str:
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def ask(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The API server's answer to a review of our own rights."""
    token = (SERVICE_ACCOUNT / "token").read_text(encoding="ascii").strip()
    request = urllib.request.Request(  # noqa: S310 - https, above
        api_server() + REVIEWS,
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Accept": "application/json"},
    )
    context = ssl.create_default_context(cafile=str(SERVICE_ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(request, timeout=TIMEOUT, context=context) as response:  # noqa: S310
        answer: Mapping[str, Any] = json.load(response)
    return answer


def in_words(right: Right) -> str:
    resource = "/".join(part for part in (right["resource"], right.get("subresource", "")) if part)
    name = f" {right['name']}" if "name" in right else ""
    return f"{right['verb']} {resource}{name} in namespace {right['namespace']}"


def missing(right: Right, asked: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> str:
    """What to say of a right that is not there, or nothing."""
    try:
        allowed = asked(review(right))["status"]["allowed"]
    except urllib.error.HTTPError as error:
        return f"could not ask for the right to {in_words(right)}: HTTP {error.code} from the API server"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"could not ask for the right to {in_words(right)}: {type(error).__name__}: {error}"
    return "" if allowed is True else f"not allowed: {in_words(right)}"


def check(configuration: Mapping[str, Any], patience: float) -> list[str]:
    """Everything that is wrong."""
    url = configuration["readyz"]
    problems = [wait_until_ready(url, patience)] if url else []
    problems += [missing(right, ask) for right in configuration["rights"]]
    return [problem for problem in problems if problem]


def main(path: str, seconds: str = str(PATIENCE)) -> int:
    configuration = json.loads(Path(path).read_text(encoding="utf-8"))
    problems = check(configuration, float(seconds))
    for problem in problems:
        sys.stdout.write(f"check: {problem}\n")
    if not problems:
        ready = "; the bot is ready" if configuration["readyz"] else ""
        sys.stdout.write(f"check: all {len(configuration['rights'])} rights are there{ready}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
