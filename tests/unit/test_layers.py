"""Imports go down only: read from the code of every module, so that a module that nobody placed fails too."""

from __future__ import annotations

import ast
import graphlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "toggle_plugin"

CLUSTER = {
    "workloads",
    "credentials",
    *(
        f"api_{part}"
        for part in (
            *("autoscalers", "discovery", "failures", "lists", "objects", "requests", "rights", "transport", "watch"),
        )
    ),
}

ROWS = (
    {"__init__"},
    {"bot", "connection"},
    {
        *("commands", "answers", "sync", "inbox", "trust", "progress", "outbox", "rooms", "told"),
        *("asked", "audit", "late", "lines", "turns"),
        *(
            "strangers",
            "config",
            "web",
            "account",
            "gaps",
            "intake",
            "undecryptable",
            "membership",
            "shutdown",
            "reach",
            "device_lists",
            "lasting",
        ),
    },
    {"toggle", "follow", "restore", "sequence", "overview", "aftermath", "lanes"},
    {*CLUSTER, "store", "migrations"},
    {"tasks"},
    {
        *("access", "rollout", "stuck", "stuck_pod", "shorten", "render", "listing", "settings", "groups", "grammar"),
        *("selectors", "managers", "restart", "autoscaling", "other_hands", "plans"),
    },
    {"models", "steps", "errors"},
)
"""From top to bottom; a module imports from its own row and those below it."""

MATRIX, PURE = ROWS[:3], ROWS[6:]
WATCHED = {"kubernetes", "maubot", "mautrix", "toggle_plugin"}
"""What must not be imported by its name in a string either."""
ASYNC_DB = "mautrix.util.async_db"

MODULES = sorted(PACKAGE.glob("*.py"), key=lambda path: path.stem)


def row(module: str) -> int:
    return next(number for number, names in enumerate(ROWS) if module in names)


def imports(module: str) -> Iterator[tuple[str, bool]]:
    """The full names of what `module` imports, wherever in it; and whether that is when it is imported itself."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(), module)
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    late = {id(node) for function in functions for node in ast.walk(function)}
    by_name = "import_module(" in ast.unparse(tree)
    for node in ast.walk(tree):
        yield from ((name, id(node) not in late) for name in _imported(node, by_name))


def _imported(node: ast.AST, by_name: bool) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = ".".join(part for part in ("toggle_plugin" if node.level else "", node.module) if part)
        return [f"{base}.{alias.name}" for alias in node.names]
    if by_name and isinstance(node, ast.Constant) and re.fullmatch(r"[a-z_]+(\.[a-z_]+)*", str(node.value)):
        return [str(node.value)] if str(node.value).split(".")[0] in WATCHED else []
    return []


def siblings(module: str) -> set[str]:
    """The modules of this package that `module` imports."""
    return {name.split(".")[1] for name, _ in imports(module) if name.split(".")[0] == "toggle_plugin"}


def packages(module: str) -> set[str]:
    """The packages from elsewhere that `module` imports."""
    return {name.split(".")[0] for name, _ in imports(module)} - {"toggle_plugin", "__future__"}


ALL = [path.stem for path in MODULES]


def test_every_module_has_its_row() -> None:
    placed = [name for names in ROWS for name in names]
    assert set(ALL) <= set(placed)
    assert len(placed) == len(set(placed))
    assert [path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE] == []


@pytest.mark.parametrize("module", ALL)
def test_a_module_imports_from_its_own_row_and_below(module: str) -> None:
    assert {name for name in siblings(module) if row(name) < row(module)} == set()


@pytest.mark.parametrize("number", range(len(ROWS)))
def test_within_a_row_nothing_imports_in_a_circle(number: int) -> None:
    graph = {module: siblings(module) & ROWS[number] for module in ROWS[number] & set(ALL)}
    assert set(graphlib.TopologicalSorter(graph).static_order()) >= set(graph)


@pytest.mark.parametrize("module", ALL)
def test_only_the_cluster_side_knows_kubernetes_and_imports_it_late(module: str) -> None:
    found = [(name, at_top) for name, at_top in imports(module) if name.split(".")[0] == "kubernetes"]
    assert module == "workloads" or not found
    assert not any(at_top for _, at_top in found)


def test_kubernetes_is_imported_by_somebody() -> None:
    assert "kubernetes" in packages("workloads"), "or the test before this one sees nothing"


@pytest.mark.parametrize("module", ALL)
def test_only_the_upper_rows_know_maubot_and_mautrix(module: str) -> None:
    found = {name for name, _ in imports(module) if name.split(".")[0] in ("maubot", "mautrix")}
    if module in ("store", "migrations"):
        found = {name for name in found if not name.startswith(f"{ASYNC_DB}.")}
    assert not found or any(module in names for names in MATRIX)


@pytest.mark.parametrize("module", sorted(set(ALL) & set().union(*PURE)))
def test_the_pure_rows_import_the_standard_library_only(module: str) -> None:
    assert packages(module) <= sys.stdlib_module_names


IO = {"asyncio", "socket", "ssl", "subprocess", "threading", "urllib", "http", "pathlib", "os", "io", "random", "time"}


@pytest.mark.parametrize("module", sorted(set(ALL) & set().union(*PURE)))
def test_the_pure_rows_do_no_io_and_ask_no_clock(module: str) -> None:
    assert packages(module) & IO == set()


@pytest.mark.parametrize("module", sorted(ROWS[3] & set(ALL)))
def test_the_use_cases_know_neither_side(module: str) -> None:
    assert packages(module) <= sys.stdlib_module_names
    assert siblings(module) & ROWS[4] == set(), "they declare what they need of the row below"
