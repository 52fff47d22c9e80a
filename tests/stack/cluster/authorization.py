"""Who may do what: RBAC rules as a Role writes them, and refusals in the real server's words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .errors import ApiError, invalid
from .resources import Json

ANY = ("*",)


@dataclass(frozen=True)
class Attributes:
    """What a request wants; `resource` with its subresource as RBAC writes it (``deployments/scale``)."""

    verb: str
    group: str
    resource: str
    namespace: str
    name: str


@dataclass(frozen=True)
class PolicyRule:
    """A rule of a Role in `namespace` (empty = of a ClusterRole). Empty `resource_names` means every name."""

    verbs: tuple[str, ...] = ANY
    resources: tuple[str, ...] = ANY
    api_groups: tuple[str, ...] = ANY
    resource_names: tuple[str, ...] = ()
    namespace: str = ""

    def covers(self, wanted: Attributes) -> bool:
        """Whether this rule is about the request."""
        return (
            _has(self.verbs, wanted.verb)
            and _has(self.resources, wanted.resource)
            and _has(self.api_groups, wanted.group)
            and (not self.resource_names or wanted.name in self.resource_names)
            and self.namespace in ("", wanted.namespace)
        )


def _has(values: tuple[str, ...], value: str) -> bool:
    return values == ANY or value in values


class Authorization:
    """Everything is allowed until something is granted; what is denied stays denied."""

    def __init__(self, user: str) -> None:
        self.user = user
        self._granted: list[PolicyRule] = []
        self._denied: list[PolicyRule] = []

    def grant(self, rules: Iterable[PolicyRule]) -> None:
        """From now on only what is granted is allowed."""
        self._granted.extend(rules)

    def deny(self, rule: PolicyRule) -> None:
        """Take a right away, whatever is granted."""
        self._denied.append(rule)

    def reset(self) -> None:
        """Allow everything again."""
        self._granted.clear()
        self._denied.clear()

    def allows(self, wanted: Attributes) -> bool:
        """The decision."""
        if any(rule.covers(wanted) for rule in self._denied):
            return False
        return not self._granted or any(rule.covers(wanted) for rule in self._granted)

    def check(self, wanted: Attributes) -> None:
        """Raises ApiError 403."""
        if not self.allows(wanted):
            raise self._forbidden(wanted)

    def _forbidden(self, wanted: Attributes) -> ApiError:
        plural = wanted.resource.split("/")[0]
        qualified = f"{plural}.{wanted.group}" if wanted.group else plural
        subject = f'{qualified} "{wanted.name}"' if wanted.name else qualified
        message = (
            f'{subject} is forbidden: User "{self.user}" cannot {wanted.verb} resource "{wanted.resource}" '
            f'in API group "{wanted.group}"{_where(wanted.namespace)}'
        )
        details = {"name": wanted.name, "group": wanted.group, "kind": plural}
        return ApiError(403, "Forbidden", message, {key: value for key, value in details.items() if value})


def _where(namespace: str) -> str:
    return f' in the namespace "{namespace}"' if namespace else " at the cluster scope"


def review(authorization: Authorization, asked: Json) -> Json:
    """Answer a SelfSubjectAccessReview."""
    wanted = asked.get("spec", {}).get("resourceAttributes")
    if wanted is None:
        problem = "Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified"
        raise invalid("", "authorization.k8s.io", "", "spec", problem)
    resource = "/".join(part for part in (wanted.get("resource", ""), wanted.get("subresource", "")) if part)
    attributes = Attributes(
        wanted.get("verb", ""), wanted.get("group", ""), resource, wanted.get("namespace", ""), wanted.get("name", "")
    )
    return {
        "kind": "SelfSubjectAccessReview",
        "apiVersion": "authorization.k8s.io/v1",
        "metadata": {"creationTimestamp": None},
        "spec": asked.get("spec", {}),
        "status": {"allowed": authorization.allows(attributes)},
    }
