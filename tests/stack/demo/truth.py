"""What the cluster itself says of the workload, and whether the bot said the same."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientError
from kubernetes.aio import client, config

from .options import NoTruth, Target, verb_of

PHASES = ("off", "starting", "running", "stopping")
_WORD = re.compile(rf"\bis ({'|'.join(PHASES)}|stuck)\b")
WAYS = {"start": ("starting", "running"), "stop": ("stopping", "off")}
"""The words that a reply may go through, in their order; the last is the end."""
BROKEN_WAY = ("starting", "stuck")
"""Those of a start that cannot succeed."""


@dataclass(frozen=True)
class Counts:
    """A workload's replicas, by the API server."""

    desired: int
    replicas: int
    available: int
    observed: bool
    """Whether its status is about its newest spec."""

    @property
    def phase(self) -> str:
        if self.desired == 0:
            return "stopping" if self.replicas or not self.observed else "off"
        return "running" if self.observed and self.available >= self.desired else "starting"

    def __str__(self) -> str:
        return f"{self.available} of {self.desired} available"


class Truth:
    """Reads one workload with a client of its own, not the plugin's."""

    def __init__(self, kubeconfig: Path, target: Target) -> None:
        self._kubeconfig = kubeconfig
        self._target = target

    async def read(self) -> Counts:
        """Ask the API server.

        Raises:
            NoTruth: it refuses, or does not answer.
        """
        configuration: Any = client.Configuration()
        where = ("apps", "v1", self._target.namespace, f"{self._target.kind.lower()}s", self._target.name)
        try:
            load: Any = config.load_kube_config
            await load(str(self._kubeconfig), client_configuration=configuration, persist_config=False)
            async with client.ApiClient(configuration) as api:
                workload: Any = await client.CustomObjectsApi(api).get_namespaced_custom_object(*where)
                return counts_of(workload)
        except client.ApiException as error:
            raise NoTruth(f"the cluster does not tell of {self._target}: {error.status} {error.reason}") from error
        except (config.ConfigException, TypeError, ClientError, OSError) as error:  # TypeError: there is no such user
            raise NoTruth(f"{self._kubeconfig} leads to no cluster: {error}") from error


def counts_of(workload: Mapping[str, Any]) -> Counts:
    """The counts of an apps/v1 object; the API server leaves out those that are 0."""
    status = workload.get("status", {})
    return Counts(
        desired=workload["spec"].get("replicas", 1),
        replicas=status.get("replicas", 0),
        available=status.get("availableReplicas", 0),
        observed=status.get("observedGeneration", 0) >= workload["metadata"].get("generation", 0),
    )


def word_of(text: str) -> str:
    """The phase that a text names, or nothing."""
    found = _WORD.search(plain(text))
    return found.group(1) if found else ""


def plain(text: str) -> str:
    """A body without its Markdown."""
    return re.sub(r"\*\*|`", "", text)


def goal_of(line: str, truth: Counts, broken: str = "") -> str:
    """The word with which the answer to a line has to end; nothing where the answer names no phase.

    Args:
        broken: why a start cannot succeed, in words that the answer has to have; nothing where it can.
    """
    verb = verb_of(line)
    if verb == "status":
        return told(truth.phase, broken)
    start = BROKEN_WAY[-1] if broken else "running"
    return {"start": start, "on": start, "stop": "off", "off": "off"}.get(verb, "")


def told(phase: str, broken: str) -> str:
    """The word for a phase of the counts, which cannot tell whether it will come up."""
    return "stuck" if broken and phase == "starting" else phase


def fault_of(line: str, history: Sequence[str], truth: Counts, broken: str = "") -> str:
    """What is wrong with an answer, given all its texts and the truth at its end; nothing if it is right."""
    verb = {"on": "start", "off": "stop"}.get(verb_of(line), verb_of(line))
    words = [word_of(text) for text in history]
    if verb in WAYS:
        way = BROKEN_WAY if broken and verb == "start" else WAYS[verb]
        return wrong_way(words, way) or wrong_end(history[-1], truth, broken)
    if verb == "status":
        return wrong_end(history[-1], truth, broken)
    if verb == "check":
        return "a check failed" if "❌" in history[-1] else ""
    missing = [word for word in ("start", "stop", "status") if word not in history[-1]]
    return f"it does not tell of {', '.join(missing)}" if missing else ""


def wrong_way(words: Sequence[str], way: Sequence[str]) -> str:
    """Whether the words leave the way or go back on it."""
    if any(word not in way for word in words):
        return f"it said {' → '.join(word or '?' for word in words)}"
    steps = [way.index(word) for word in words]
    if steps != sorted(steps):
        return f"it went back: {' → '.join(words)}"
    return "" if words[-1] == way[-1] else f"it ended with {words[-1]}"


def wrong_end(text: str, truth: Counts, broken: str = "") -> str:
    word = word_of(text)
    if word != told(truth.phase, broken):
        return f"it said {word or 'nothing of the kind'}, but the cluster has {truth}"
    return "it does not say why" if word == "stuck" and broken not in plain(text) else ""
