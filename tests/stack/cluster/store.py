"""The objects of the simulated cluster with their versions and history, as etcd and the API server's storage keep them.

Everything handed out is a copy. Knows neither HTTP nor what a controller does.
"""

from __future__ import annotations

import copy
import datetime as dt
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from . import errors
from .managed_fields import Writer, updated
from .resources import Json, Resource


@dataclass(frozen=True)
class Change:
    """What happened to one object: `type` is ADDED, MODIFIED or DELETED, `previous` the object before (None if new)."""

    version: int
    type: str
    resource: Resource
    object: Json
    previous: Json | None


HISTORY = 5000
"""How many changes are remembered."""

Listener = Callable[[Change], None]


def timestamp(later: float = 0.0) -> str:
    """Now, or so many seconds later, as the API writes times."""
    moment = dt.datetime.now(dt.timezone.utc) + dt.timedelta(seconds=later)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class ObjectStore:
    """Objects by resource, namespace and name; every write gets the next resourceVersion."""

    def __init__(self) -> None:
        self.version = 1000
        self.oldest = 0
        """Watches from before this version get 410 Gone."""
        self._objects: dict[tuple[Resource, str, str], Json] = {}
        self._history: list[Change] = []
        self._listeners: list[Listener] = []

    def get(self, resource: Resource, namespace: str, name: str) -> Json:
        """Raises ApiError 404."""
        found = self.find(resource, namespace, name)
        if found is None:
            raise errors.not_found(resource, name)
        return found

    def find(self, resource: Resource, namespace: str, name: str) -> Json | None:
        """The object, or None."""
        return copy.deepcopy(self._objects.get((resource, namespace, name)))

    def list(
        self, resource: Resource, namespace: str | None = None, matches: Callable[[Json], bool] | None = None
    ) -> list[Json]:
        """All objects of a resource, of one namespace or (None) of all, by namespace and name; only what matches."""
        keys = sorted(
            (key for key in self._objects if key[0] is resource and namespace in (None, key[1])),
            key=lambda key: key[1:],
        )
        found = (self._objects[key] for key in keys)
        return [copy.deepcopy(obj) for obj in found if matches is None or matches(obj)]

    def add(self, resource: Resource, obj: Json, writer: Writer | None = None) -> Json:
        """Create `obj`; raises ApiError 409 where it exists. `writer` then owns all of it."""
        key = self._key(resource, obj)
        if key in self._objects:
            raise errors.already_exists(resource, key[2])
        new = {"kind": resource.kind, "apiVersion": resource.api_version, **copy.deepcopy(obj)}
        new["metadata"].update(uid=str(uuid.uuid4()), creationTimestamp=timestamp())
        if resource.scalable:
            new["metadata"]["generation"] = 1
        if writer is not None:
            new["metadata"]["managedFields"] = updated((), {"metadata": {}}, new, writer, timestamp())
        return self._write(key, "ADDED", new, None)

    def replace(self, resource: Resource, obj: Json, writer: Writer | None = None) -> Json:
        """Write `obj` over what is there; a changed spec raises the generation, an equal object changes nothing.

        What changes is then owned by `writer`; without one, ownership stays as it is.
        """
        key = self._key(resource, obj)
        old = self._objects.get(key)
        if old is None:
            raise errors.not_found(resource, key[2])
        new = copy.deepcopy(obj)
        for field in ("uid", "creationTimestamp", "resourceVersion", "generation", "managedFields"):
            if field in old["metadata"]:
                new["metadata"][field] = old["metadata"][field]
        if new == old:
            return new
        if resource.scalable and new["spec"] != old["spec"]:
            new["metadata"]["generation"] = old["metadata"]["generation"] + 1
        if writer is not None:
            managed = old["metadata"].get("managedFields", ())
            new["metadata"]["managedFields"] = updated(managed, old, new, writer, timestamp())
        return self._write(key, "MODIFIED", new, old)

    def delete(self, resource: Resource, namespace: str, name: str) -> Json:
        """Remove an object at once; raises ApiError 404."""
        old = self.get(resource, namespace, name)
        del self._objects[(resource, namespace, name)]
        self._record("DELETED", resource, copy.deepcopy(old), old)
        return old

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every change from now on; the result ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def since(self, version: int) -> Iterator[Change]:
        """Changes after `version`; raises ApiError 410 where the history does not reach back that far."""
        if version < self.oldest:
            raise errors.expired(version, self.oldest)
        return iter([change for change in self._history if change.version > version])

    def compact(self) -> None:
        """Forget the history: a watch from any older version gets 410 Gone."""
        self.version += 1
        self.oldest = self.version
        self._history.clear()

    @staticmethod
    def _key(resource: Resource, obj: Json) -> tuple[Resource, str, str]:
        return resource, obj["metadata"].get("namespace", ""), obj["metadata"]["name"]

    def _write(self, key: tuple[Resource, str, str], kind: str, new: Json, old: Json | None) -> Json:
        self._objects[key] = new
        self._record(kind, key[0], new, old)
        return copy.deepcopy(new)

    def _record(self, kind: str, resource: Resource, new: Json, old: Json | None) -> None:
        self.version += 1
        new["metadata"]["resourceVersion"] = str(self.version)
        change = Change(self.version, kind, resource, copy.deepcopy(new), old)
        self._history.append(change)
        if len(self._history) > HISTORY:
            self.oldest = self._history.pop(0).version
        for listener in list(self._listeners):
            listener(change)
