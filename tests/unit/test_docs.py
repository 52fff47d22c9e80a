"""The docs are true: what the code takes, says and writes is in them, and what they name is there."""

from __future__ import annotations

import ast
import itertools
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from toggle_plugin import bot, connection, follow, gaps, inbox, store, sync, told, trust, workloads
from toggle_plugin.api_requests import BUILT_IN, wanted_rights
from toggle_plugin.errors import Forbidden, NotConfigured, TimedOut, Unauthorized, Unavailable, Unreachable
from toggle_plugin.grammar import WORDS
from toggle_plugin.models import Phase, Result, Verb
from toggle_plugin.settings import (
    _TARGET_KEYS,
    KEYS,
    KINDS,
    RESERVED_TARGETS,
    BareCommands,
    MinimumTrust,
    cautions,
    parse_settings,
)

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "toggle_plugin"
README = (REPOSITORY / "README.md").read_text()
OPERATIONS = (REPOSITORY / "docs" / "operations.md").read_text()
INSTALL = (REPOSITORY / "docs" / "install.md").read_text()
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *sorted((REPOSITORY / "docs").glob("*.md"))]

# What people read


SPEAKING = (
    *("access", "api_discovery", "api_failures", "api_requests", "api_transport", "bot", "config", "connection"),
    *("credentials", "errors", "render", "rollout", "settings", "toggle", "workloads", "trust", "sync", "membership"),
    *("managers", "restart", "autoscaling", "other_hands", "plans"),
    *("stuck", "stuck_pod", "shorten", "groups", "listing", "progress"),
)
"""The modules whose texts reach people."""
NEVER_SHOWN = (
    '<a href="https://matrix.to/#/',
    *("a line of a watch is too long", "not an object", "the answer is no sync response"),
    "the spec replicas field",
    "SELECT account_id FROM crypto_account WHERE account_id=$1",
    "persistent volumes to bind",
)
"""For the log only, or what is looked for in the words of the cluster."""
WORDS_OF_A_SENTENCE = 3
"""Shorter pieces, such as "in namespace", say nothing about whether a sentence is there."""


def words(text: str) -> str:
    """`text` as its lower-case words: what Markdown, line ends and punctuation add is gone."""
    return " ".join(re.findall(r"[a-z0-9]+", text.casefold()))


README_WORDS = words(README)


@cache
def spoken() -> tuple[str, ...]:
    """The words of every piece that any of the modules says, the longest first."""
    known = {words(piece) for module in SPEAKING for piece in pieces(file_of(module))} | set(WORDS)
    return tuple(sorted(known - {""}, key=len, reverse=True))


def file_of(module: str) -> Path:
    return PACKAGE / f"{module}.py"


def pieces(file: Path) -> Iterator[str]:
    """The constant parts of the texts in a module, but for docstrings, logs and what is for the log only."""
    tree = ast.parse(file.read_text())
    silent = {inner for node in ast.walk(tree) for part in unspoken(node) for inner in ast.walk(part)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in silent:
            yield node.value


def unspoken(node: ast.AST) -> Iterator[ast.AST]:
    """What below `node` nobody in a chat gets to read."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        yield node.value  # docstrings, also those of constants and fields
    elif isinstance(node, ast.AnnAssign):
        yield node.annotation
    elif isinstance(node, ast.Call):
        yield from (keyword.value for keyword in node.keywords if keyword.arg == "detail")
        if re.match(r"(self\.)?_?(log|re|cast)\b", ast.unparse(node.func)):
            yield node


def sentences() -> list[tuple[str, str]]:
    """Every piece that is long enough to be looked for, with its module."""
    found = {(module, piece.strip()) for module in SPEAKING for piece in pieces(file_of(module))}
    return sorted((module, piece) for module, piece in found if is_sentence(piece) and piece not in NEVER_SHOWN)


def is_sentence(piece: str) -> bool:
    return " " in piece and len(words(piece).split()) >= WORDS_OF_A_SENTENCE and "(?" not in piece


@pytest.mark.parametrize(("module", "piece"), sentences())
def test_every_sentence_that_people_can_read_is_in_the_readme(module: str, piece: str) -> None:
    assert words(piece) in README_WORDS


def test_the_sentences_are_found_in_the_code() -> None:
    found = [piece for _, piece in sentences()]
    assert len(found) > 100
    assert any("Your device is not verified by you" in piece for piece in found)
    assert any("has forgotten that state" in piece for piece in found)
    assert not any("Raises" in piece or "=%s" in piece for piece in found)


def test_a_sentence_that_nobody_says_is_not_found() -> None:
    assert words("The cluster at ADDRESS has gone fishing") not in README_WORDS


@pytest.mark.parametrize("hidden", NEVER_SHOWN)
def test_what_is_never_shown_is_still_in_the_code(hidden: str) -> None:
    assert any(hidden in piece for module in SPEAKING for piece in pieces(file_of(module)))


# What the programs in the chart's pods say


PROGRAMS = REPOSITORY / "chart" / "files"
NO_SENTENCE = (
    "a proof that it could be stored",
    *("DO NOT MATCH THE HASHES", "No space left", "(from versions: none)", "No matching distribution"),
)
"""A value, and pip's own words."""


def cures() -> list[tuple[str, str]]:
    """Every sentence of these programs, with its file. What `helm test` says is in docs/install.md."""
    files = [file for file in sorted(PROGRAMS.glob("*.py")) if file.name != "check.py"]
    found = {(file.name, piece.strip()) for file in files for piece in pieces(file)}
    return sorted((name, piece) for name, piece in found if is_sentence(piece) and piece not in NO_SENTENCE)


@pytest.mark.parametrize(("program", "piece"), cures())
def test_every_sentence_of_the_charts_programs_is_in_the_operations(program: str, piece: str) -> None:
    assert words(piece) in words(OPERATIONS)


def test_the_sentences_of_the_charts_programs_are_found() -> None:
    found = [piece for _, piece in cures()]
    assert len(found) > 40
    assert any("none of them has signed this device" in piece for piece in found)
    assert any("it was replaced in the index" in piece for piece in found)


REASONS = (
    *(sync.UNKNOWN_TOKEN, sync.REPLACED, sync.BROKEN, gaps.WAITING, trust.NO_ENCRYPTION, trust.KEYS_LOST),
    *("the instance is still starting", "the instance did not start; maubot's log says why", bot._ONE_INSTANCE),
    *("nobody syncs this client", "the homeserver does not answer", "broken, see the log"),
    *(error.__name__ for error in (NotConfigured, Unreachable, TimedOut, Unauthorized, Forbidden, Unavailable)),
)


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_of_readyz_is_in_the_operations_with_its_cure(reason: str) -> None:
    reasons = [cells for cells in table(OPERATIONS, "## /readyz", 1) if words(reason) in words(cells[0])]
    assert len(reasons) == 1
    assert any(cell for cell in reasons[0][1:])


REFUSALS = "## Refusals and errors"


def quotations() -> list[str]:
    """What the tables of refusals and errors say that people read."""
    chapter = README.split(f"\n{REFUSALS}\n")[1].split("\n## ")[0]
    firsts = [line.strip("|").split("|")[0] for line in chapter.splitlines() if line.startswith("|")]
    return [quoted for first in firsts for quoted in re.findall(r"`([^`]+)`", first) if len(words(quoted).split()) > 2]


@pytest.mark.parametrize("quoted", quotations())
def test_every_sentence_in_the_readme_is_still_said(quoted: str) -> None:
    """Names and numbers of an example are nowhere in the code, but most words of a sentence are."""
    rest = f" {words(quoted)} "
    for piece in spoken():
        rest = rest.replace(f" {piece} ", "  ")
    left = [word for word in rest.split() if not word.isdigit()]
    assert len(left) <= max(2, len(words(quoted).split()) // 3), left


# Tables


def section(page: str, heading: str) -> str:
    """What is below a heading, up to the next one of any level."""
    return re.split(r"^#+ ", page.split(f"\n{heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def table(page: str, heading: str, number: int = 0) -> list[list[str]]:
    """The cells of a table below a heading, without its head."""
    found = re.findall(r"(?:^\|.*\n)+", section(page, heading), flags=re.MULTILINE)[number].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in found]


def code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def named(page: str, heading: str, number: int = 0) -> set[str]:
    """Everything that stands as code in the first cells of a table."""
    return {name for cells in table(page, heading, number) for name in code(cells[0])}


def defaults(number: int) -> dict[str, str]:
    return {cells[0].strip("`"): cells[1] for cells in table(README, "## Settings", number)}


def test_every_setting_is_documented_with_its_default() -> None:
    shipped = yaml.safe_load((REPOSITORY / "base-config.yaml").read_text())
    documented = defaults(0)
    assert list(documented) == list(shipped) == list(KEYS)
    for key, value in shipped.items():
        if value in ("", [], {}):
            assert documented[key] in ("empty", "none", "nobody", "every room"), key
        else:
            assert documented[key] == f"`{str(value).lower()}`", key


def test_every_key_of_a_target_is_documented_with_its_default() -> None:
    target = parse_settings({"targets": {"web": {"namespace": "demo", "name": "web"}}}).targets["web"]
    documented = defaults(1)
    assert set(documented) == set(_TARGET_KEYS)
    assert documented["kind"] == f"`{target.ref.kind}`"
    assert documented["replicas"] == f"`{target.replicas}`"
    assert documented["allowed_users"].startswith("all of the `allowed_users`")


@pytest.mark.parametrize("value", [*BareCommands, *MinimumTrust, *KINDS, *sorted(RESERVED_TARGETS)])
def test_every_value_that_has_a_name_is_documented(value: str) -> None:
    assert f"`{getattr(value, 'value', value)}`" in section(README, "## Settings")


def test_every_word_of_the_commands_is_documented() -> None:
    documented = {name.split()[0] for name in named(README, "## Commands")}
    assert documented == set(WORDS)


def test_every_state_is_documented() -> None:
    documented = {cells[0].split(maxsplit=1)[1] for cells in table(README, "## Replies")}
    assert documented == {phase.value for phase in Phase} | {"not known"}


LOG_LINES = sorted(line for line in named(OPERATIONS, "## The log") if re.match(r"[a-z_]+=[a-z]", line))


@pytest.mark.parametrize("line", LOG_LINES)
def test_a_line_of_the_log_that_is_documented_is_written(line: str) -> None:
    (key, value), *_ = re.findall(r"([a-z_]+)=([a-z_]+)", line)
    source = "".join(path.read_text() for path in PACKAGE.glob("*.py"))
    assert f"{key}={value}" in source or f"{key}=%" in source


def test_every_column_and_every_outcome_of_the_audit_is_documented() -> None:
    assert named(OPERATIONS, "## The audit") == set(store._NAMES)
    documented = named(OPERATIONS, "## The audit", 1)
    outcomes = {result.value for result in Result if result is not Result.FAILED}
    assert documented == outcomes | {"refused", "interrupted", "failed: Forbidden"}


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (README, f"than {told.CALL_AFTER:.0f} s"),
        (README, f"stuck for {follow.PATIENCE:.0f} s"),
        (README, f"{follow.SETTLE:.0f} seconds later"),
        (README, f"{follow.SETTLE_AFTER_STUCK:.0f} if it was stuck"),
        (README, f"The last {store.KEEP_ROWS:,} commands"),
        (OPERATIONS, f"within {connection.ANSWER_WITHIN:.0f} s"),
        (OPERATIONS, f"holds for {connection.ASK_EVERY:.0f} seconds"),
        (OPERATIONS, f"newest {store.KEEP_ROWS:,} rows"),
        (README, f"`kubernetes` {workloads.OLDEST_PACKAGE} beside"),
    ],
)
def test_the_numbers_are_those_of_the_code(page: str, text: str) -> None:
    assert text in page


def test_the_tolerance_of_clocks_is_a_minute() -> None:
    assert "One minute is tolerated" in README
    assert inbox.FUTURE == 60


# Examples


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)


def prose(page: str) -> str:
    """Without its blocks, also those in lists."""
    return re.sub(r"^ *```.*?^ *```", "", page, flags=re.MULTILINE | re.DOTALL)


def yaml_objects() -> list[Any]:
    return list(itertools.chain.from_iterable(yaml.safe_load_all(block) for block in blocks(README, "yaml")))


def examples_of_settings() -> list[dict[str, Any]]:
    return [found for found in yaml_objects() if not {"kind", "homeserver"} & set(found)]


@pytest.mark.parametrize("settings", examples_of_settings())
def test_the_examples_of_settings_are_taken_without_a_remark(settings: dict[str, Any]) -> None:
    assert cautions(parse_settings(settings)) == ()


def test_one_example_has_every_setting() -> None:
    assert any(set(found) == set(KEYS) for found in examples_of_settings())


def test_the_role_gives_what_the_plugin_asks_for_and_nothing_else() -> None:
    (role,) = [found for found in yaml_objects() if found.get("kind") == "Role"]
    (example, *_) = [parse_settings(found) for found in yaml_objects() if "targets" in found]
    (target,) = example.targets.values()
    assert role["metadata"]["namespace"] == target.ref.namespace
    wanted = {(right, plural) for right, plural, _ in wanted_rights(BUILT_IN[target.ref.kind])}
    assert {(verb, resource) for rule in role["rules"] for verb in rule["verbs"] for resource in rule["resources"]} == (
        wanted
    )
    for rule in role["rules"]:
        if rule["apiGroups"] == ["apps"]:
            assert rule["resourceNames"] == [target.ref.name]


def test_the_role_is_bound_where_it_is() -> None:
    (role,) = [found for found in yaml_objects() if found.get("kind") == "Role"]
    (binding,) = [found for found in yaml_objects() if found.get("kind") == "RoleBinding"]
    assert binding["metadata"]["namespace"] == role["metadata"]["namespace"]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]


def test_every_right_is_explained() -> None:
    explained = {words(cells[0]) for cells in table(README, "### 5. The rights in the cluster")}
    wanted = wanted_rights(BUILT_IN["Deployment"])
    assert {words(f"{verb} on {resource}") for verb, resource, _ in wanted} == explained


# The chart


VALUES = yaml.safe_load((REPOSITORY / "chart" / "values.yaml").read_text())


def value(path: str) -> Any:
    """The default of a value; a KeyError if there is none. What is below a mapping without keys is the user's."""
    found: Any = VALUES
    for key in path.split("."):
        if found == {}:
            return None
        found = found[key]
    return found


def named_values() -> Iterator[tuple[str, str]]:
    """Each value that a page names, such as `maubot.persistence.size: 2Gi`."""
    tops = "|".join(VALUES)
    for page in PAGES:
        for span in code(prose(page.read_text())):
            found = re.match(rf"((?:{tops})(?:\.[a-z]+[A-Za-z]*)+)(?:: .*)?$", span)
            if found and not re.search(r"\.(yaml|db|tar|instance)$", found[1]):
                yield page.name, found[1]


@pytest.mark.parametrize(("page", "path"), sorted(set(named_values())))
def test_every_value_that_a_page_names_exists(page: str, path: str) -> None:
    value(path)


def test_values_are_found_and_missed() -> None:
    found = {path for _, path in named_values()}
    assert len(found) > 40
    assert {"maubot.enabled", "bot.existingSecret", "networkPolicy.apiServer.ports", "instance.manage"} <= found
    with pytest.raises(KeyError):
        value("maubot.persistence.colour")


@pytest.mark.parametrize("page", [README, INSTALL])
def test_the_first_values_file_is_the_one_that_is_tested(page: str) -> None:
    tested = yaml.safe_load((REPOSITORY / "chart" / "ci" / "minimal-values.yaml").read_text())
    assert yaml.safe_load(blocks(page, "yaml")[0]) == tested


def test_the_package_has_its_name() -> None:
    about = yaml.safe_load((REPOSITORY / "chart" / "Chart.yaml").read_text())
    package = f"dist/{about['name']}-{about['version']}.tgz"
    for page in (README, INSTALL):
        assert set(re.findall(r"dist/[a-z0-9-]+-[0-9.]+\.tgz", page)) == {package}


# What the pages name


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.casefold()).replace(" ", "-") for heading in headings}


def links() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if not target.startswith("https://"):
                yield page, target


@pytest.mark.parametrize(("page", "target"), [pytest.param(*link, id=f"{link[0].name}:{link[1]}") for link in links()])
def test_every_link_leads_somewhere(page: Path, target: str) -> None:
    path, _, anchor = target.partition("#")
    file = page.parent / path if path else page
    assert file.is_file()
    assert not anchor or anchor in anchors(file.read_text())


def test_every_picture_is_shown() -> None:
    pictures = {path.name for path in (REPOSITORY / "docs" / "pictures").iterdir()}
    assert pictures == set(re.findall(r"docs/pictures/([\w.-]+)", README))


def sub_commands() -> set[str]:
    shown = subprocess.run([REPOSITORY / "build.sh", "help"], capture_output=True, text=True, check=True)
    return set(re.findall(r"^  ([a-z]+) ", shown.stdout, flags=re.MULTILINE))


def test_the_readme_knows_every_sub_command_and_no_other() -> None:
    assert set(re.findall(r"\./build\.sh ([a-z]+)", README)) == sub_commands()


def test_every_option_of_the_demo_exists() -> None:
    options = (REPOSITORY / "tests" / "stack" / "demo" / "options.py").read_text()
    demo = README.split("\n## Try it\n")[1].split("\n## ")[0]
    used = set(re.findall(r"--[a-z]+", demo))
    assert used
    assert all(f'"{option}"' in options for option in used)


def test_the_plugin_file_has_its_name() -> None:
    meta = yaml.safe_load((REPOSITORY / "maubot.yaml").read_text())
    assert f"{meta['id']}-v{meta['version']}.mbp" in README
    assert f"maubot {meta['maubot']}" in README
    assert meta["dependencies"] == [f"kubernetes{wanted}" for wanted in re.findall(r"'kubernetes([^']+)'", README)[:1]]
    assert len(set(re.findall(r"'kubernetes([^']+)'", README))) == 1


def test_every_verb_is_in_the_table_of_who_may_do_what() -> None:
    head = section(README, "## Who may do what, and with which device").strip().splitlines()[0]
    assert set(code(head)) == {verb.value for verb in Verb}
