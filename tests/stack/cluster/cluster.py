"""The simulated cluster as tests and the demo hold it: starts, stops, is looked into, and is made to fail."""

from __future__ import annotations

import base64
import re
import secrets
import ssl
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from .api import ApiServer
from .authorization import ANY, Authorization, PolicyRule
from .behaviour import Behaviour
from .certificates import write_certificates
from .controller import Controllers
from .faults import Fault, Faults, RequestRecord
from .kubeconfigs import write_kubeconfig
from .managed_fields import Writer
from .other_hands import OtherHands, new_autoscaler, new_scaled_object
from .resources import EVENTS, HPAS, NAMESPACES, PODS, SCALED_OBJECTS, SECRETS, WORKLOADS, Json
from .store import ObjectStore, timestamp
from .workload_objects import desired, new_workload, with_replicas

OTHERS_AFTER = 0.1
"""Seconds after which an autoscaler or GitOps tool has noticed a change."""
USER = "system:serviceaccount:maubot:maubot"


class SimulatedCluster:
    """An API server with TLS on loopback, and the controllers behind it, in the caller's event loop.

    ``async with SimulatedCluster() as cluster``: everything has ended when the block is left.

    Args:
        directory: where CA, kubeconfig and keys are written; a temporary one by default.
        port: 0 takes a free one.
        names: host names and addresses in the server's certificate.
        behaviour: of every workload that says nothing else.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        port: int = 0,
        names: Sequence[str] = ("127.0.0.1", "localhost"),
        behaviour: Behaviour | None = None,
    ) -> None:
        self.host = "127.0.0.1"
        self.port = port
        self.token = secrets.token_urlsafe(32)
        self.authorization = Authorization(USER)
        self.faults = Faults()
        self._names = names
        self._behaviour = behaviour or Behaviour()
        self._given = directory
        self._store = ObjectStore()
        self._api = ApiServer(self._store, self.authorization, self.faults, lambda: self.token)

    async def __aenter__(self) -> SimulatedCluster:  # noqa: PYI034 - typing.Self came with Python 3.11
        self._temporary = None if self._given else tempfile.TemporaryDirectory(prefix="simulated-cluster-")
        self.directory = self._given or Path(self._temporary.name if self._temporary else "")
        self.directory.mkdir(parents=True, exist_ok=True)
        self.certificates = write_certificates(self.directory, self._names)
        self.ca_file = self.certificates.authority
        self._ssl = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._ssl.load_cert_chain(self.certificates.certificate, self.certificates.key)
        self._controllers = Controllers(self._store)
        self._other_hands = OtherHands(self._store, OTHERS_AFTER)
        await self.listen()
        self.kubeconfig = self.write_kubeconfig(self.directory / "kubeconfig")
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.refuse()
            self._other_hands.stop()
            await self._controllers.stop()
        finally:
            if self._temporary is not None:
                self._temporary.cleanup()

    # Being reached

    @property
    def url(self) -> str:
        """``https://127.0.0.1:PORT``."""
        return f"https://{self.host}:{self.port}"

    async def listen(self) -> None:
        """Begin to accept connections; after `refuse`, on the same port as before."""
        server = web.Server(self._api.handle, access_log=None, handler_cancellation=True)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port, ssl_context=self._ssl)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def refuse(self) -> None:
        """Stop listening and break every connection; the controllers go on."""
        await self._runner.cleanup()

    def write_kubeconfig(self, path: Path, **changes: Any) -> Path:
        """Write a kubeconfig (mode 0600) with the token and the CA; `changes` go into its cluster entry."""
        return write_kubeconfig(path, "simulated", self.url, self.ca_file, self.token, **changes)

    def service_account(self, directory: Path) -> dict[str, str]:
        """Write ``token``, ``ca.crt`` and ``namespace`` as a pod has them; returns the environment beside them."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "token").touch(mode=0o600)
        (directory / "token").write_text(self.token)
        (directory / "ca.crt").write_bytes(self.ca_file.read_bytes())
        (directory / "namespace").write_text("maubot")
        return {"KUBERNETES_SERVICE_HOST": self.host, "KUBERNETES_SERVICE_PORT": str(self.port)}

    def rotate_token(self) -> str:
        """Make the token invalid and another one valid, which is returned; files written before keep the old one."""
        self.token = secrets.token_urlsafe(32)
        return self.token

    # What is there

    def add_deployment(self, namespace: str, name: str, replicas: int = 0, **options: Any) -> None:
        """A Deployment whose roll-out is over; `options` as in `add`."""
        self.add("Deployment", namespace, name, replicas, **options)

    def add_statefulset(self, namespace: str, name: str, replicas: int = 0, **options: Any) -> None:
        """A StatefulSet whose roll-out is over; `options` as in `add`."""
        self.add("StatefulSet", namespace, name, replicas, **options)

    def add(
        self,
        kind: str,
        namespace: str,
        name: str,
        replicas: int = 0,
        *,
        image: str = "registry.example/app:1",
        spec: Json | None = None,
        behaviour: Behaviour | None = None,
        owner: tuple[str, str] | None = None,
        **changes: Any,
    ) -> None:
        """Add a workload.

        Args:
            kind: one of `WORKLOADS`; a custom one with its apiVersion.
            spec: fields to set in its spec, for example ``{"minReadySeconds": 1}``.
            owner: kind and name of the controller that owns it.
            behaviour: instead of the cluster's; `changes` are fields of `Behaviour`.
        """
        resource = WORKLOADS[kind]
        self._ensure_namespace(namespace)
        workload = new_workload(resource, namespace, name, replicas, image)
        workload["spec"].update(spec or {})
        if owner:
            reference = {"apiVersion": "apps/v1", "kind": owner[0], "name": owner[1], "controller": True}
            workload["metadata"]["ownerReferences"] = [reference]
        self._store.add(resource, workload, Writer("kubectl-create"))
        chosen = Behaviour(**{**vars(behaviour or self._behaviour), **changes})
        self._controllers.adopt(resource, namespace, name, chosen)

    def add_secret(self, namespace: str, name: str) -> None:
        """Add a Secret without data, as a chart ships it."""
        self._ensure_namespace(namespace)
        self._store.add(SECRETS, {"metadata": {"namespace": namespace, "name": name}, "type": "Opaque"})

    def secret(self, namespace: str, name: str) -> dict[str, str]:
        """What a Secret holds, decoded; raises ApiError 404."""
        data = self._store.get(SECRETS, namespace, name).get("data", {})
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def change_secret(self, namespace: str, name: str, **changes: str | None) -> None:
        """Set keys of a Secret as somebody else, or remove them (None); `_` in a name stands for `-`."""
        secret = self._store.get(SECRETS, namespace, name)
        data = {**secret.get("data", {})}
        for key, value in changes.items():
            data[key.replace("_", "-")] = None if value is None else base64.b64encode(value.encode()).decode()
        self._store.replace(
            SECRETS, {**secret, "data": {key: value for key, value in data.items() if value is not None}}
        )

    def _ensure_namespace(self, namespace: str) -> None:
        if self._store.find(NAMESPACES, "", namespace) is None:
            self._store.add(NAMESPACES, {"metadata": {"name": namespace}, "status": {"phase": "Active"}})

    def behave(self, namespace: str, name: str, kind: str = "Deployment", **changes: Any) -> None:
        """Change fields of a workload's `Behaviour` from now on."""
        self._controllers.behave((WORKLOADS[kind], namespace, name), **changes)

    def workload(self, kind: str, namespace: str, name: str) -> Json:
        """The object as it is now; raises ApiError 404."""
        return self._store.get(WORKLOADS[kind], namespace, name)

    def replicas(self, kind: str, namespace: str, name: str) -> int:
        """What its spec wants."""
        return desired(self.workload(kind, namespace, name))

    def pods(self, namespace: str) -> list[Json]:
        """All pods of a namespace, terminating ones too."""
        return self._store.list(PODS, namespace)

    def events(self, namespace: str) -> list[Json]:
        """All events of a namespace."""
        return self._store.list(EVENTS, namespace)

    def scale(
        self, namespace: str, name: str, replicas: int, kind: str = "Deployment", manager: str = "kubectl"
    ) -> None:
        """Scale as somebody else, the field manager `manager`: no request, no authorization."""
        workload = with_replicas(self.workload(kind, namespace, name), replicas)
        self._store.replace(WORKLOADS[kind], workload, Writer(manager, "scale"))

    def change(
        self, namespace: str, name: str, spec: Json, kind: str = "Deployment", manager: str = "kubectl-edit"
    ) -> None:
        """Set fields of a workload's spec as somebody else."""
        self._change(namespace, name, spec, kind, Writer(manager))

    def _change(self, namespace: str, name: str, spec: Json, kind: str, writer: Writer) -> None:
        workload = self.workload(kind, namespace, name)
        workload["spec"].update(spec)
        self._store.replace(WORKLOADS[kind], workload, writer)

    # Others with a say

    def add_autoscaler(
        self, namespace: str, name: str, minimum: int = 1, maximum: int = 5, kind: str = "Deployment"
    ) -> None:
        """A HorizontalPodAutoscaler `name` for the workload `name`."""
        target = self._reference(kind, name)
        self._store.add(HPAS, new_autoscaler(namespace, name, target, minimum, maximum))

    def add_scaled_object(
        self,
        namespace: str,
        name: str,
        minimum: int = 0,
        maximum: int = 10,
        kind: str = "Deployment",
        annotations: dict[str, str] | None = None,
    ) -> None:
        """A ScaledObject of KEDA `name` for the workload `name`."""
        target = self._reference(kind, name)
        self._store.add(SCALED_OBJECTS, new_scaled_object(namespace, name, target, minimum, maximum, annotations))

    def hold(
        self, namespace: str, name: str, replicas: int, kind: str = "Deployment", manager: str = "argocd-controller"
    ) -> None:
        """Let somebody put the count of a workload back whenever it is changed, as a GitOps tool does."""
        self._other_hands.hold(WORKLOADS[kind], namespace, name, replicas, manager)

    def _reference(self, kind: str, name: str) -> Json:
        return {"apiVersion": WORKLOADS[kind].api_version, "kind": WORKLOADS[kind].kind, "name": name}

    def begin_deletion(self, namespace: str, name: str, kind: str = "Deployment") -> None:
        """Delete a workload in the foreground as somebody else: it stays until its pods are gone; here, for good."""
        workload = self.workload(kind, namespace, name)
        workload["metadata"].update(deletionTimestamp=timestamp(), finalizers=["foregroundDeletion"])
        self._store.replace(WORKLOADS[kind], workload)

    def delete(self, namespace: str, name: str, kind: str = "Deployment") -> None:
        """Delete a workload as somebody else; its pods go after it."""
        self._store.delete(WORKLOADS[kind], namespace, name)

    # What was asked, and what goes wrong

    @property
    def requests(self) -> list[RequestRecord]:
        """Every request since the start, or since somebody cleared the list."""
        return self._api.requests

    def asked(self, method: str = "", path: str = "") -> list[RequestRecord]:
        """The requests of this method whose path matches a regular expression."""
        return [
            request for request in self.requests if method in ("", request.method) and re.search(path, request.path)
        ]

    @property
    def open_watches(self) -> int:
        """How many watch streams are open."""
        return len(self._api.watches)

    def cut_watches(self) -> None:
        """Break every watch stream in the middle."""
        self._api.watches.cut()

    def forget_history(self) -> None:
        """Let a watch from any older version get 410 Gone."""
        self._store.compact()

    def fail(self, **what: Any) -> Fault:
        """Put a `Fault` with these fields in force."""
        return self.faults.add(Fault(**what))

    def deny(self, verb: str = "*", resource: str = "*", namespace: str = "", name: str = "") -> None:
        """Take a right away; `resource` with its subresource (``deployments/scale``), empty and ``*`` mean any."""
        names = (name,) if name else ()
        self.authorization.deny(PolicyRule((verb,), (resource,), ANY, names, namespace))

    def grant(self, rules: Iterable[PolicyRule]) -> None:
        """From now on allow only what rules grant."""
        self.authorization.grant(rules)
