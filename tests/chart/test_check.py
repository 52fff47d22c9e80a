"""The helm test's program: an API server holds it to the chart's Role, another server says ready or not."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.stack.cluster import PolicyRule, SimulatedCluster

from .chart import SOURCE, Object, find, render

READY = (200, '{"ready": true, "reasons": []}')
UNREADY = (503, '{"ready": false, "reasons": ["no sync: unknown token"]}')
NO_INSTANCE = (404, "404: Not Found")


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[SimulatedCluster]:
    async with SimulatedCluster(tmp_path / "cluster") as simulated:
        yield simulated


def rules(objects: list[Object], *, without: str = "") -> list[PolicyRule]:
    """The Roles of the targets as the simulated cluster takes them; without the rule for one resource."""
    return [
        PolicyRule(
            tuple(rule["verbs"]),
            tuple(rule["resources"]),
            tuple(rule["apiGroups"]),
            tuple(rule.get("resourceNames", ())),
            role["metadata"]["namespace"],
        )
        for role in objects
        if role["kind"] == "Role" and "secrets" not in role["rules"][0]["resources"]
        for rule in role["rules"]
        if without not in rule["resources"]
    ]


async def readyz(answer: tuple[int, str]) -> tuple[web.AppRunner, str]:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=answer[0], text=answer[1])

    app = web.Application()
    app.router.add_get("/readyz", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/readyz"


def service_account(cluster: SimulatedCluster, directory: Path) -> Path:
    directory.mkdir()
    (directory / "token").write_text(cluster.token + "\n", encoding="ascii")
    (directory / "ca.crt").write_bytes(Path(cluster.ca_file).read_bytes())
    return directory


async def run(configuration: Mapping[str, Any], cluster: SimulatedCluster, directory: Path) -> tuple[int, list[str]]:
    """How the program ended, and its lines; it waits for nothing."""
    (directory / "check.json").write_text(json.dumps(configuration), encoding="utf-8")
    environment = {
        **os.environ,
        "SERVICE_ACCOUNT_DIR": str(service_account(cluster, directory / "account")),
        "KUBERNETES_SERVICE_HOST": cluster.host,
        "KUBERNETES_SERVICE_PORT": str(cluster.port),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(SOURCE / "files/check.py"), str(directory / "check.json"), "0"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, output.decode().splitlines()


def configuration(objects: list[Object]) -> dict[str, Any]:
    """What the chart tells it, but for the address."""
    text = find(objects, "ConfigMap", find(objects, "Pod")["metadata"]["name"])["data"]["check.json"]
    return {**json.loads(text), "readyz": ""}


@pytest.mark.parametrize("values", ["minimal", "existing-secret", "postgres", "everything"])
async def test_it_passes_with_the_charts_role(cluster: SimulatedCluster, tmp_path: Path, values: str) -> None:
    objects = render(values)
    cluster.authorization.grant(rules(objects))
    asked = configuration(objects)
    assert await run(asked, cluster, tmp_path) == (0, [f"check: all {len(asked['rights'])} rights are there"])


@pytest.mark.parametrize(
    ("resource", "lines"),
    [
        ("deployments/scale", ["check: not allowed: patch deployments/scale web in namespace demo"]),
        (
            "deployments",
            [
                "check: not allowed: get deployments web in namespace demo",
                "check: not allowed: watch deployments web in namespace demo",
            ],
        ),
        (
            "pods",
            ["check: not allowed: list pods in namespace demo", "check: not allowed: list events in namespace demo"],
        ),
    ],
)
async def test_it_names_every_right_that_is_missing(
    cluster: SimulatedCluster, tmp_path: Path, resource: str, lines: list[str]
) -> None:
    objects = render("minimal")
    cluster.authorization.grant(rules(objects, without=resource))
    assert await run(configuration(objects), cluster, tmp_path) == (1, lines)


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (READY, 0, "the bot is ready"),
        (UNREADY, 1, "the bot is not ready: HTTP 503 from {url}: no sync: unknown token"),
        (NO_INSTANCE, 1, "the bot is not ready: HTTP 404 from {url}: the instance is not there or does not run"),
    ],
)
async def test_it_says_whether_the_bot_is_ready_and_why_not(
    cluster: SimulatedCluster, tmp_path: Path, answer: tuple[int, str], code: int, said: str
) -> None:
    runner, url = await readyz(answer)
    try:
        ended, lines = await run({**configuration(render("minimal")), "readyz": url}, cluster, tmp_path)
    finally:
        await runner.cleanup()
    assert ended == code
    assert lines[0].endswith(said.format(url=url))


async def test_no_maubot_is_no_answer(cluster: SimulatedCluster, tmp_path: Path) -> None:
    closed = {**configuration(render("minimal")), "readyz": "http://127.0.0.1:9/readyz"}
    ended, lines = await run(closed, cluster, tmp_path)
    assert ended == 1
    assert lines[0].startswith("check: the bot is not ready: no answer from http://127.0.0.1:9/readyz")


async def test_no_api_server_is_told_for_each_right_without_the_token(
    cluster: SimulatedCluster, tmp_path: Path
) -> None:
    await cluster.refuse()
    ended, lines = await run(configuration(render("minimal")), cluster, tmp_path)
    assert ended == 1
    assert len(lines) == 5
    assert all(line.startswith("check: could not ask for the right to ") for line in lines)
    assert cluster.token not in "\n".join(lines)
