"""The instance's settings: from the YAML mapping to one frozen value, or to every problem at once.

It reads plain mappings and knows neither maubot nor YAML. Whatever it refuses it refuses with the key's path and what
to write instead; it never guesses.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from types import MappingProxyType
from typing import Any, TypeVar

from .errors import SettingsError, SettingsProblem
from .groups import NO_GROUPS, Group, read_groups
from .models import Verb, WorkloadRef

KINDS = ("Deployment", "StatefulSet", "ReplicaSet")
"""Those that go by their name alone: the ones of apps/v1."""
MAX_REPLICAS = 1000
RESTORE = "restore"
DEFAULT_REPLICAS: int | None = 1
LONGEST_NUMBER = 10**15
"""Numbers from here on are not repeated."""
SHORTEST, LONGEST = 5.0, 24 * 3600.0
"""Bounds of every duration, in seconds: less than network jitter, or more than a day, is a slip of the pen."""

# Matrix' grammar of identifiers (spec, appendices): historical localparts included; room version 12 has no server part.
_SERVER = r"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z.-]+)(?::[0-9]{1,5})?"
_USER = re.compile(rf"@[!-9;-~]+:{_SERVER}")
_ROOM = re.compile(rf"![^\s:]+(?::{_SERVER})?")
_COMMAND = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_TARGET = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_DNS_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_DNS_SUBDOMAIN = re.compile(rf"(?=.{{1,253}}\Z){_DNS_LABEL.pattern}(?:\.{_DNS_LABEL.pattern})*")
# An apiVersion without a group is of the core group; a kind is a DNS label but for its case.
_API_VERSION = rf"(?:{_DNS_SUBDOMAIN.pattern}/)?{_DNS_LABEL.pattern}"
_KIND = re.compile(rf"({_API_VERSION})/([A-Za-z](?:[-A-Za-z0-9]{{0,61}}[A-Za-z0-9])?)")
_DURATION = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?")

_IDENTITY = re.compile(r"[A-Za-z0-9+/]{43}")

NOBODY = ""
"""A user ID that nobody has."""
NO_IDENTITY = ""
"""A fingerprint that no identity has."""
NO_ROOM = ""
"""A room ID that no room has."""
RESERVED_TARGETS = frozenset({"all", "on", "off", *(verb.value for verb in Verb)})

T = TypeVar("T")
EnumT = TypeVar("EnumT", bound=Enum)


class BareCommands(str, Enum):
    """Where a line without the prefix can be a command."""

    DIRECT = "direct"
    ALWAYS = "always"
    NEVER = "never"


class MinimumTrust(str, Enum):
    """How far a device must be known. There is no ``verified``: mautrix never reaches it for other people's devices."""

    CROSS_SIGNED_TOFU = "cross-signed-tofu"
    UNVERIFIED = "unverified"


@dataclass(frozen=True)
class Target:
    """A name that people type, and the workload behind it.

    Attributes:
        replicas: the count that `start` brings; None to bring back the count before the last stop.
        allowed_users: who of the instance's `allowed_users` may use it; None for all of them.
    """

    name: str
    ref: WorkloadRef
    replicas: int | None = DEFAULT_REPLICAS
    allowed_users: frozenset[str] | None = None


@dataclass(frozen=True)
class Settings:
    """Settings that are in force; durations are seconds. The defaults let nobody in."""

    command: str = "toggle"
    bare_commands: BareCommands = BareCommands.DIRECT
    require_encryption: bool = True
    minimum_trust: MinimumTrust = MinimumTrust.CROSS_SIGNED_TOFU
    maximum_age: float = 120.0
    rollout_timeout: float = 300.0
    kubeconfig: str = ""
    targets: Mapping[str, Target] = field(default_factory=lambda: MappingProxyType({}))
    groups: Mapping[str, Group] = field(default_factory=lambda: NO_GROUPS)
    accepted_identities: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    viewers: frozenset[str] = frozenset()
    allowed_rooms: frozenset[str] = frozenset()
    allowed_users: frozenset[str] = frozenset()


KEYS = tuple(item.name for item in fields(Settings))
"""Every key of the settings, in the order of base-config.yaml."""

_TARGET_KEYS = ("kind", "namespace", "name", "replicas", "allowed_users")


def parse_settings(raw: object) -> Settings:
    """The settings in `raw`.

    Raises:
        SettingsError: with every problem that there is.
    """
    settings, problems = read_settings(raw)
    if problems:
        raise SettingsError(problems)
    return settings


def read_settings(raw: object) -> tuple[Settings, tuple[SettingsProblem, ...]]:
    """What can be read of `raw`, the defaults for the rest, and every problem: a broken start still has to answer."""
    if not isinstance(raw, Mapping):
        return Settings(), (SettingsProblem("", "write settings as `key: value` lines"),)
    reader = _Reader()
    reader.unknown_keys(raw, KEYS, "")
    default = Settings()
    settings = Settings(
        command=reader.read(raw, "command", _command, default.command),
        bare_commands=reader.read(raw, "bare_commands", _choice(BareCommands), default.bare_commands),
        require_encryption=reader.read(raw, "require_encryption", _boolean, default.require_encryption),
        minimum_trust=reader.read(raw, "minimum_trust", _choice(MinimumTrust), default.minimum_trust),
        maximum_age=reader.read(raw, "maximum_age", _bounded_duration, default.maximum_age),
        rollout_timeout=reader.read(raw, "rollout_timeout", _bounded_duration, default.rollout_timeout),
        kubeconfig=reader.read(raw, "kubeconfig", _path, default.kubeconfig),
        targets=(targets := reader.targets(raw)),
        groups=reader.groups(raw, targets),
        accepted_identities=reader.identities(raw),
        viewers=reader.members(raw, "viewers", _user) or frozenset(),
        allowed_rooms=reader.rooms(raw),
        allowed_users=reader.members(raw, "allowed_users", _user) or frozenset(),
    )
    return settings, tuple(reader.problems)


def cautions(settings: Settings) -> tuple[SettingsProblem, ...]:
    """What is valid, but likely not meant, or worth knowing: shown by `check` and in the log, never refused."""
    found = []
    if not settings.targets:
        found.append(SettingsProblem("targets", "is empty, so there is nothing to start or stop"))
    if not settings.allowed_users:
        found.append(SettingsProblem("allowed_users", "is empty, so nobody can start or stop anything"))
    for target in settings.targets.values():
        found += _unreachable_users(target, settings.allowed_users)
    if not settings.require_encryption:
        found.append(
            SettingsProblem("require_encryption", "is false, so the homeserver can write commands in anybody's name")
        )
    if settings.minimum_trust is MinimumTrust.UNVERIFIED:
        found.append(
            SettingsProblem("minimum_trust", "is unverified, so a device that the homeserver added is believed")
        )
    return tuple(found)


def parse_duration(text: str) -> float:
    """Seconds of a duration such as ``90s``, ``2m`` or ``2h30m``.

    Raises:
        ValueError: it is not one; the message says what to write.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise ValueError("write a duration such as 90s, 2m or 2h30m")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(hours * 3600 + minutes * 60 + seconds)


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads back as `seconds`, rounded to whole seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{count}{unit}" for count, unit in ((hours, "h"), (minutes, "m"), (rest, "s")) if count]
    return "".join(parts) or "0s"


def _unreachable_users(target: Target, allowed: frozenset[str]) -> list[SettingsProblem]:
    path = f"targets.{target.name}.allowed_users"
    return [
        SettingsProblem(path, f"names {user}, who is not in allowed_users and so gets no answer")
        for user in sorted((target.allowed_users or frozenset()) - allowed)
    ]


class _Reader:
    """Reads one mapping after the other and gathers what is wrong with them."""

    def __init__(self) -> None:
        self.problems: list[SettingsProblem] = []

    def read(self, raw: Mapping[str, Any], key: str, parse: Callable[[Any], T], default: T, *, path: str = "") -> T:
        """The value of `key`, or `default` where it is absent, null or wrong."""
        value = raw.get(key)
        if value is None:
            return default
        return self.value(path or key, value, parse, default)

    def value(self, path: str, value: Any, parse: Callable[[Any], T], default: T) -> T:
        try:
            return parse(value)
        except ValueError as error:
            self.problems.append(SettingsProblem(path, str(error)))
            return default

    def unknown_keys(self, raw: Mapping[Any, Any], known: Sequence[str], prefix: str) -> None:
        for key in raw:
            if key not in known:
                self.problems.append(SettingsProblem(f"{prefix}{key}", _unknown_key(str(key), known)))

    def members(
        self, raw: Mapping[str, Any], key: str, parse: Callable[[Any], str], *, path: str = ""
    ) -> frozenset[str] | None:
        """The set under `key`; None where it is absent or null. Wrong members are left out and reported one by one."""
        path, value = path or key, raw.get(key)
        if value is None:
            return None
        if isinstance(value, (str, Mapping)) or not isinstance(value, Sequence):
            self.problems.append(SettingsProblem(path, "write a list: one line for each, beginning with a dash"))
            return frozenset()
        parsed = (self.value(f"{path}[{index}]", item, parse, "") for index, item in enumerate(value))
        return frozenset(item for item in parsed if item)

    def rooms(self, raw: Mapping[str, Any]) -> frozenset[str]:
        """The rooms; none at all, where something was wrong and nothing is left: empty would mean every room."""
        before = len(self.problems)
        rooms = self.members(raw, "allowed_rooms", _room) or frozenset()
        return rooms if rooms or len(self.problems) == before else frozenset({NO_ROOM})

    def targets(self, raw: Mapping[str, Any]) -> Mapping[str, Target]:
        value = raw.get("targets")
        if value is None:
            return MappingProxyType({})
        if not isinstance(value, Mapping):
            self.problems.append(
                SettingsProblem("targets", "write a mapping: a name for each, and its keys indented below")
            )
            return MappingProxyType({})
        found = (self.target(name, body) for name, body in value.items())
        return MappingProxyType({target.name: target for target in found if target is not None})

    def groups(self, raw: Mapping[str, Any], targets: Collection[str]) -> Mapping[str, Group]:
        """The groups whose targets are all in `targets`; one that has a mistake of its own was reported already."""
        named = {} if raw.get("targets") is None else raw["targets"]
        if not isinstance(named, Mapping):
            return NO_GROUPS  # of what, is not known
        names = [name for name in named if isinstance(name, str)]
        groups, problems = read_groups(raw.get("groups"), names, _target_name)
        self.problems += problems
        whole = {name: group for name, group in groups.items() if set(group.targets) <= set(targets)}
        return MappingProxyType(whole)

    def identities(self, raw: Mapping[str, Any]) -> Mapping[str, str]:
        """Who has which cross-signing identity; what is wrong stands for one that nobody has."""
        value, path = raw.get("accepted_identities"), "accepted_identities"
        if value is None:
            return MappingProxyType({})
        if not isinstance(value, Mapping):
            self.problems.append(SettingsProblem(path, "write a mapping: a Matrix ID for each, and its fingerprint"))
            return MappingProxyType({})
        found = {
            self.value(f"{path}.{user}", user, _user, NOBODY): self.value(f"{path}.{user}", key, _identity, NO_IDENTITY)
            for user, key in value.items()
        }
        return MappingProxyType(found)

    def target(self, name: Any, body: Any) -> Target | None:
        """The target, or None if anything is wrong with it."""
        before, path = len(self.problems), f"targets.{name}"
        self.value(path, name, _target_name, "")
        if not isinstance(body, Mapping):
            self.problems.append(SettingsProblem(path, "write namespace: and name: indented below it"))
            return None
        self.unknown_keys(body, _TARGET_KEYS, f"{path}.")
        api_version, kind = self.read(body, "kind", _kind, _kind(KINDS[0]), path=f"{path}.kind")
        namespace = self.required(body, "namespace", _namespace, path)
        workload = self.required(body, "name", _workload_name, path)
        replicas = self.read(body, "replicas", _replicas, DEFAULT_REPLICAS, path=f"{path}.replicas")
        users = self.members(body, "allowed_users", _user, path=f"{path}.allowed_users")
        if len(self.problems) > before:
            return None
        return Target(name, WorkloadRef(kind, namespace, workload, api_version), replicas, users)

    def required(self, body: Mapping[str, Any], key: str, parse: Callable[[Any], str], path: str) -> str:
        if body.get(key) is None:
            self.problems.append(SettingsProblem(f"{path}.{key}", f"is missing; write the workload's {key}"))
            return ""
        return self.read(body, key, parse, "", path=f"{path}.{key}")


def _unknown_key(key: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return (
        f"there is no such key; did you mean {near[0]}?"
        if near
        else f"there is no such key; there are {', '.join(known)}"
    )


def _found(value: Any) -> str:
    """`value` as it may be shown: short, and only if it is a scalar."""
    if isinstance(value, int) and abs(value) >= LONGEST_NUMBER:
        return ""  # Python refuses to write numbers of thousands of digits
    if isinstance(value, (str, int, float)):
        text = repr(value) if isinstance(value, str) else str(value).lower()
        return f", not {text[:40]}"
    return ""


def _matching(pattern: re.Pattern[str], instead: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ValueError(f"{instead}{_found(value)}")
        return str(value)

    return parse


_command = _matching(_COMMAND, "write a word of lower-case letters, digits, - and _, without the !")
_namespace = _matching(_DNS_LABEL, "write a namespace's name: lower-case letters, digits and -")
_workload_name = _matching(_DNS_SUBDOMAIN, "write a workload's name: lower-case letters, digits, - and .")
_user = _matching(_USER, "write a Matrix ID such as @alice:example.org, in quotes")


def _room(value: Any) -> str:
    if isinstance(value, str) and value.startswith("#"):
        raise ValueError(
            "write the room's ID, which begins with !, instead of its address (Element: room settings, Advanced)"
        )
    return _matching(_ROOM, "write a room ID such as !abc:example.org, in quotes")(value)


def _identity(value: Any) -> str:
    key = "".join(value.split()) if isinstance(value, str) else ""
    if not _IDENTITY.fullmatch(key):
        raise ValueError("write the 43 letters and digits of the fingerprint that my refusal named, in quotes")
    return key


def grouped(key: str) -> str:
    """A key in groups of four characters, as clients show it; `accepted_identities` takes it so."""
    return " ".join(key[at : at + 4] for at in range(0, len(key), 4))


def _target_name(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("put the name in quotes")
    if value in RESERVED_TARGETS:
        raise ValueError(f"take another name: {value} is a word of the commands")
    return _matching(_TARGET, "write the name with lower-case letters, digits, -, _ and .")(value)


def _kind(value: Any) -> tuple[str, str]:
    """The apiVersion and the kind."""
    if isinstance(value, str) and value in KINDS:
        return "apps/v1", value
    found = _KIND.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"write {', '.join(KINDS)} or apiVersion/Kind{_found(value)}")
    return found[1], found[2]


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"write true or false{_found(value)}")
    return value


def _choice(choices: type[EnumT]) -> Callable[[Any], EnumT]:
    def parse(value: Any) -> EnumT:
        for choice in choices:
            if value == choice.value:
                return choice
        raise ValueError(f"write {' or '.join(str(choice.value) for choice in choices)}{_found(value)}")

    return parse


def _bounded_duration(value: Any) -> float:
    if not isinstance(value, str):
        raise ValueError(f"write a duration with its unit, such as 90s, 2m or 2h30m{_found(value)}")
    seconds = parse_duration(value)
    if not SHORTEST <= seconds <= LONGEST:
        raise ValueError(
            f"write a duration from {format_duration(SHORTEST)} to {format_duration(LONGEST)}{_found(value)}"
        )
    return seconds


def _path(value: Any) -> str:
    # Somebody may paste the file itself, credentials and all: nothing of it is shown.
    if not isinstance(value, str) or "\n" in value.strip() or (value.strip() and not value.strip().startswith("/")):
        raise ValueError(
            "write the absolute path of a kubeconfig file, or leave it empty for the pod's service account"
        )
    return value.strip()


def _replicas(value: Any) -> int | None:
    if value == RESTORE:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_REPLICAS:
        raise ValueError(f"write a whole number from 1 to {MAX_REPLICAS}, or {RESTORE}{_found(value)}")
    return int(value)
