"""A maubot that was installed by hand in the cluster; the chart brings it the rights and, if asked, the plugin."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import yaml

from tests.integration.conversation import told
from tests.stack.maubot import ADMIN, FEATURES, MaubotAPI, configuration
from tests.stack.synapse import Synapse

from .base_image import OWN, REPOSITORY
from .cluster import Cluster, Manifest, Namespace
from .release import NAME, RESTRICTED_CONTAINER, RESTRICTED_POD, PackageIndex, Release
from .rights import (
    OF_EVERYBODY,
    account,
    forbidden,
    granted_by,
    needed,
    rendered,
    requests,
    rights_of_its_own,
)

pytestmark = pytest.mark.timeout(600)

MAUBOT, PORT = "maubot", 29316
LABELS = {"app": MAUBOT}
META = yaml.safe_load((REPOSITORY / "maubot.yaml").read_text())
PLUGIN, VERSION = str(META["id"]), str(META["version"])
INSTANCE = "toggle"


class ByHand:
    """A maubot without this chart: its own manifests, its own service account, an administrator's password."""

    def __init__(self, namespace: Namespace, synapse: Synapse) -> None:
        self.namespace = namespace
        self._synapse = synapse
        self._password = secrets.token_urlsafe(12)

    async def install(self) -> None:
        login = {"username": ADMIN, "password": self._password}
        await self.namespace.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": MAUBOT}},
            _secret("maubot-config", {"config.yaml": json.dumps(self._configuration())}),
            _secret("maubot-admin", login),
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": MAUBOT},
                "spec": {"selector": LABELS, "ports": [{"port": PORT}]},
            },
            _deployment(),
        )
        await self.namespace.rolled_out(f"deployment/{MAUBOT}", 120)
        # kube-proxy hears of a ready pod a moment after everybody else.
        await self.namespace.until("the Service to lead to its pod", self._is_served)

    async def _is_served(self) -> bool:
        try:
            await self.plugins()
        except aiohttp.ClientError:
            return False
        return True

    def _configuration(self) -> dict[str, Any]:
        settings = configuration(PORT, self._password, "sqlite:/data/maubot.db")
        plugins = {"upload": "/data/plugins", "load": ["/data/plugins"], "trash": "delete"}
        settings["plugin_directories"] = plugins
        settings["plugin_databases"] = {"sqlite": "/data/plugins", "postgres": None}
        settings["server"] |= {"hostname": "0.0.0.0", "override_resource_path": "/opt/maubot/frontend"}  # noqa: S104
        settings["homeservers"] = {self._synapse.server_name: {"url": self._synapse.url, "secret": None}}
        return settings

    async def url(self) -> str:
        """Of its Service, as the node reaches it."""
        return f"http://{(await self.namespace.get('service', MAUBOT))['spec']['clusterIP']}:{PORT}"

    async def make_instance(self, release: Release, settings: dict[str, Any]) -> None:
        """What its administrator does in the web UI: the bot's client, and an instance of the plugin that is there."""
        async with MaubotAPI.open(await self.url(), ADMIN, self._password) as api:
            login = await api.login_bot(self._synapse.server_name, release.bot, release.bot_password)
            await api.put_client(self._synapse.url, login, sync=False)
            await api.generate_recovery_key(login.user_id)
            await api.create_instance(INSTANCE, PLUGIN, login.user_id, settings)

    async def plugins(self) -> dict[str, str]:
        """The version of each plugin by its ID."""
        async with MaubotAPI.open(await self.url(), ADMIN, self._password) as api:
            return {plugin["id"]: plugin["version"] for plugin in await api.call("GET", "/plugins")}


def _secret(name: str, data: dict[str, str]) -> Manifest:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def _deployment() -> Manifest:
    container = {
        "name": MAUBOT,
        "image": OWN,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", "mkdir -p /data/plugins && exec python3 -m maubot -c /config/config.yaml --no-update"],
        "workingDir": "/opt/maubot",
        "env": [{"name": "HOME", "value": "/data"}],
        "readinessProbe": {"httpGet": {"path": FEATURES, "port": PORT}, "periodSeconds": 2},
        "securityContext": RESTRICTED_CONTAINER,
        "volumeMounts": [
            {"name": "config", "mountPath": "/config"},
            {"name": "data", "mountPath": "/data"},
        ],
    }
    pod = {
        "serviceAccountName": MAUBOT,
        "securityContext": RESTRICTED_POD,
        "containers": [container],
        "volumes": [
            {"name": "config", "secret": {"secretName": "maubot-config"}},
            {"name": "data", "emptyDir": {}},
        ],
    }
    template = {"metadata": {"labels": LABELS}, "spec": pod}
    spec = {"selector": {"matchLabels": LABELS}, "strategy": {"type": "Recreate"}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": MAUBOT}, "spec": spec}


def values(release: Release, where: Namespace) -> dict[str, Any]:
    """Only the rights, for a maubot in that namespace."""
    return {
        "instance": release.values()["instance"],
        "maubot": {"enabled": False, "serviceAccount": {"name": MAUBOT, "namespace": where.name}},
    }


def values_with_upload(release: Release) -> dict[str, Any]:
    """The rights and the plugin, for a maubot in the release's own namespace."""
    found = values(release, release.namespace)
    found["maubot"]["image"] = release.own_values()["maubot"]["image"]
    url = f"http://{MAUBOT}.{release.namespace.name}.svc:{PORT}"
    return {**found, "upload": {"enabled": True, "url": url, "existingSecret": "maubot-admin"}}


async def job_of(release: Release) -> str:
    """The name of the one Job, which uploads."""
    [job] = (await release.namespace.get("jobs"))["items"]
    return str(job["metadata"]["name"])


@pytest.fixture(scope="module")
async def release(own: None, cluster: Cluster, synapse: Synapse, index: PackageIndex) -> AsyncIterator[Release]:
    async with Release.open(cluster, synapse, index) as release:
        yield release


@pytest.fixture(scope="module")
async def by_hand(release: Release, synapse: Synapse) -> ByHand:
    """A maubot with the plugin that the chart has brought, and an instance of it that its administrator has made."""
    by_hand = ByHand(release.namespace, synapse)
    await by_hand.install()
    assert await by_hand.plugins() == {}
    await release.install(values_with_upload(release))
    await release.namespace.condition(f"job/{await job_of(release)}", "condition=complete", 120)
    await by_hand.make_instance(release, release.values()["instance"]["settings"])
    return by_hand


async def test_it_gets_the_plugin_once(release: Release, by_hand: ByHand) -> None:
    assert await by_hand.plugins() == {PLUGIN: VERSION}
    job = await job_of(release)
    await release.install(values_with_upload(release))
    assert await job_of(release) == job


async def test_its_bot_answers_and_starts_and_stops(release: Release, by_hand: ByHand) -> None:
    alice = await release.person("alice")
    room = await release.room(alice)
    await told(alice, room, "check", "all there")
    await told(alice, room, "start", "is running", 90)
    assert len(await release.workloads.pods("app=web")) == 1
    await told(alice, room, "stop", "is off", 90)
    assert await release.workloads.pods("app=web") == []

    asked = requests(release.cluster, account(release.namespace.name, MAUBOT))
    assert needed(forbidden(asked)) == set()
    assert needed(asked) - OF_EVERYBODY <= await granted_by(release)


async def test_its_service_account_has_the_charts_rights_and_no_others(release: Release, by_hand: ByHand) -> None:
    user = account(release.namespace.name, MAUBOT)
    there = [release.namespace.name, release.workloads.name, "default", "kube-system"]
    found = [await rights_of_its_own(release.cluster, user, namespace) for namespace in there]
    assert set().union(*found) == await granted_by(release) != set()


async def test_the_job_that_uploads_has_no_token(release: Release, by_hand: ByHand) -> None:
    [pod] = await release.namespace.pods(f"job-name={await job_of(release)}")
    assert [volume for volume in pod["spec"]["volumes"] if "projected" in volume] == []
    assert requests(release.cluster, account(release.namespace.name, pod["spec"]["serviceAccountName"])) == []


async def test_helm_test_asks_the_existing_maubot_too(release: Release, by_hand: ByHand) -> None:
    assert "all 5 rights are there; the bot is ready" in await release.helm("test", NAME, "--logs")


async def test_without_the_upload_it_gets_only_the_rights(
    cluster: Cluster, synapse: Synapse, index: PackageIndex
) -> None:
    async with cluster.namespace() as elsewhere, Release.open(cluster, synapse, index) as release:
        await elsewhere.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": MAUBOT}})
        user, there = account(elsewhere.name, MAUBOT), release.workloads.name
        assert await rights_of_its_own(cluster, user, there) == set()

        await release.install(values(release, elsewhere))
        objects = await rendered(release)
        assert sorted(each["kind"] for each in objects) == ["Role", "RoleBinding"]
        granted = await granted_by(release)
        assert await rights_of_its_own(cluster, user, there) == granted != set()

        await release.uninstall()
        assert await rights_of_its_own(cluster, user, there) == set()
