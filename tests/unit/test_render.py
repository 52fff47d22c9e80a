"""What people read: escaped, in one line where it should be, and as good as plain text as it is as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maubot.matrix import parse_formatted

from toggle_plugin import listing, render
from toggle_plugin.access import TARGETED, AccessPolicy
from toggle_plugin.errors import ClusterError, Forbidden, NotFound, SettingsProblem, Unreachable
from toggle_plugin.grammar import Fault, Misunderstood, parse
from toggle_plugin.models import Outcome, Phase, Progress, Result, Right, RolloutStatus, Trust, Verb
from toggle_plugin.settings import Settings

from .builders import ALICE, BOB, CAROL, DATABASE, requester, settings, target

OFF = RolloutStatus(Phase.OFF, 0, 0, 0)
UP = RolloutStatus(Phase.RUNNING, 1, 1, 1)
STARTING = RolloutStatus(Phase.STARTING, 1, 0, 0, "0 of 1 updated")
STUCK = RolloutStatus(Phase.STUCK, 1, 0, 0, 'cannot get image "a_b*c"')


class _Reader(HTMLParser):
    """Gathers the tags and the text of HTML."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> _Reader:
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader


async def plain(markdown: str) -> str:
    """What somebody reads whose client shows no HTML."""
    text, _ = await parse_formatted(markdown)
    return text


def ended(result: Result, **changes: Any) -> Outcome:
    return replace(Outcome(result, "web", Verb.START, 4.2, UP, 0, 1), **changes)


# States


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (OFF, "⚪ **web** is off (desired 0, ready 0, available 0)"),
        (STARTING, "🟡 **web** is starting (desired 1, ready 0, available 0): 0 of 1 updated"),
        (UP, "🟢 **web** is running (desired 1, ready 1, available 1)"),
        (RolloutStatus(Phase.STOPPING, 0, 1, 1), "🟠 **web** is stopping (desired 0, ready 1, available 1)"),
        (STUCK, '🔴 **web** is stuck (desired 1, ready 0, available 0): cannot get image "a_b*c"'),
    ],
)
async def test_a_state_is_one_line(status: RolloutStatus, text: str) -> None:
    assert await plain(render.state("web", status)) == text


def test_every_phase_has_its_mark() -> None:
    marks = [render.state("web", replace(UP, phase=phase)).split()[0] for phase in Phase]
    assert len(set(marks)) == len(Phase)


async def test_progress_is_the_state_with_its_note() -> None:
    news = Progress("web", STARTING, 3.0, "it has 3 replicas, and keeps them")
    assert await plain(render.progress(news)) == (
        "🟡 **web** is starting (desired 1, ready 0, available 0): 0 of 1 updated (it has 3 replicas, and keeps them)"
    )


# Ends

STUCK_LINE = '🔴 **web** is stuck (desired 1, ready 0, available 0): cannot get image "a_b*c"'
LINE = "🟢 **web** is running (desired 1, ready 1, available 1)"


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (ended(Result.DONE), f"{LINE}, after 4.2 s."),
        (ended(Result.DONE, seconds=75.4), f"{LINE}, after 1m15s."),
        (ended(Result.UNCHANGED), f"{LINE}, as it was already."),
        (ended(Result.UNCHANGED, note="it keeps 3"), f"{LINE}, as it was already. (it keeps 3)"),
        (
            ended(Result.SUPERSEDED, by="@b_o_b:example.org"),
            f"{LINE}. A newer command of @b_o_b:example.org took over; I follow that one.",
        ),
        (
            ended(Result.SUPERSEDED, by=BOB, status=None),
            f"How **web** stands was not seen. A newer command of {BOB} took over; I follow that one.",
        ),
        (
            ended(Result.CHANGED, after=3),
            f"{LINE}. Somebody else set it to 3 meanwhile, so I stopped following.",
        ),
        (
            ended(Result.CHANGED, after=3, by="Argo CD"),
            f"{LINE}. Somebody else (Argo CD) set it to 3 meanwhile, so I stopped following.",
        ),
        (
            ended(Result.TIMED_OUT, seconds=300.0, status=STUCK),
            f"{STUCK_LINE}. I followed it for 5m and stop now; ask `status` for how it stands.",
        ),
    ],
)
async def test_the_end_says_what_became_of_it(end: Outcome, text: str) -> None:
    assert await plain(render.outcome(end)) == text


REFUSED = Forbidden("I may not patch deployments/scale of web in namespace games; grant that right.")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"before": None, "after": None}, f"{REFUSED} **web** was left as it was."),
        ({"before": 1, "after": 1}, f"{REFUSED} **web** was left as it was."),
        ({"before": 0, "after": None}, f"{REFUSED} Whether **web** was changed is not known; ask `status`."),
        ({"before": 0, "after": 1}, f"{REFUSED} **web** was set to 1, but could not be followed; ask `status`."),
    ],
)
async def test_a_failure_says_why_and_what_was_done_before_it(changes: dict[str, Any], text: str) -> None:
    assert await plain(render.outcome(ended(Result.FAILED, error=REFUSED, **changes))) == text


async def test_the_end_of_a_long_wait_begins_with_the_target_for_a_name_goes_before_it() -> None:
    assert await plain(render.call(ended(Result.DONE, seconds=61.0))) == (
        "**web** is running after 1m1s (desired 1, ready 1, available 1)."
    )
    failed = ended(Result.FAILED, error=REFUSED, before=None, after=None)
    assert render.call(failed) == render.outcome(failed)


async def test_an_alarm_says_that_following_goes_on() -> None:
    assert await plain(render.alarm(Progress("web", STUCK, 11.0, alarm=True))) == (
        '🔴 **web** is stuck (desired 1, ready 0, available 0): cannot get image "a_b*c". I keep following it.'
    )


async def test_an_interruption_says_that_nobody_looks_for_a_while() -> None:
    assert await plain(render.interrupted("web")) == (
        "I am being stopped and do not see how **web** goes on; I tell you when I am back."
    )


# Lists


def view(held: Settings, user: str = ALICE, prefix: str = "!toggle ") -> render.HelpView:
    policy = AccessPolicy(held)
    verbs = policy.verbs(user)
    return render.HelpView(prefix, verbs, {verb: policy.names(user, verb) for verb in verbs if verb in TARGETED})


TWO = settings(
    target("web"),
    target("db", DATABASE, allowed_users=frozenset({BOB})),
    allowed_users=frozenset({ALICE, BOB}),
    viewers=frozenset({CAROL}),
)


async def test_help_shows_what_this_person_may_do_to_which_targets() -> None:
    assert await plain(render.help_text(view(TWO, BOB))) == (
        "Here you can write:\n\n"
        "● `!toggle start NAME` or `!toggle on NAME`: turn **web** or **db** on and follow it until it is up\n"
        "● `!toggle stop NAME` or `!toggle off NAME`: turn **web** or **db** off\n"
        "● `!toggle restart NAME`: replace all pods of **web** or **db** by new ones and follow that\n"
        "● `!toggle status` or `!toggle status NAME`: how **web** or **db** stands\n"
        "● `!toggle history` or `!toggle history NAME`: who turned **web** or **db** on or off, and when\n"
        "● `!toggle help`: this text\n"
        "● `!toggle check`: test the connection, the rights, your device and the settings"
    )


async def test_help_without_a_prefix_and_with_a_single_target_is_short() -> None:
    assert await plain(render.help_text(view(TWO, ALICE, ""))) == (
        "Here you can write:\n\n"
        "● `start` or `on`: turn **web** on and follow it until it is up\n"
        "● `stop` or `off`: turn **web** off\n"
        "● `restart`: replace all pods of **web** by new ones and follow that\n"
        "● `status`: how **web** stands\n"
        "● `history`: who turned **web** on or off, and when\n"
        "● `help`: this text\n"
        "● `check`: test the connection, the rights, your device and the settings"
    )


async def test_help_of_a_viewer_shows_nothing_that_changes_anything() -> None:
    assert await plain(render.help_text(view(TWO, CAROL))) == (
        "Here you can write:\n\n"
        "● `!toggle status` or `!toggle status NAME`: how **web** or **db** stands\n"
        "● `!toggle help`: this text"
    )


# Misunderstandings

KNOWN = (
    "I know **start**, **stop**, **restart**, **status**, **history**, **help** and **check**; "
    "`!toggle help` says more."
)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (
            parse("", ()),
            KNOWN,
        ),
        (parse("strat", ()), "I do not know the word **strat**. Did you mean `!toggle start`?"),
        (
            parse("frobnicate", ()),
            f"I do not know the word **frobnicate**. {KNOWN}",
        ),
        (parse("stop we", ["web"]), "I know no target **we**. Did you mean `!toggle stop web`?"),
        (parse("stop it", ["web"]), "I know no target **it**. There is **web** and **db**."),
        (
            parse("stop it, bob", ["web"]),
            "`!toggle stop` takes one target at the most; **it, bob** is too much.",
        ),
        (parse("help me", ["web"]), "`!toggle help` stands alone; **me** is too much."),
        (
            Misunderstood(Fault.NO_PREFIX, verb=Verb.STOP),
            "Here a command begins with `!toggle`, for example `!toggle stop`.",
        ),
        (Misunderstood(Fault.NO_PREFIX), "Here a command begins with `!toggle`, for example `!toggle help`."),
    ],
)
async def test_a_misunderstanding_gets_one_helpful_line(fault: Misunderstood, text: str) -> None:
    assert await plain(render.misunderstood(fault, "!toggle ", view(TWO, BOB))) == text


def test_where_there_are_no_targets_none_are_listed() -> None:
    nothing = view(settings())
    fault = parse("start web", ())
    assert isinstance(fault, Misunderstood)
    assert render.misunderstood(fault, "", nothing) == "I know no target **web**."


def test_no_more_of_somebodys_word_is_shown_than_a_little() -> None:
    fault = parse("x" * 5000, ())
    assert isinstance(fault, Misunderstood)
    assert len(render.misunderstood(fault, "", view(TWO))) < 250


async def test_where_the_target_is_missing_the_commands_to_write_are_shown() -> None:
    assert await plain(render.which_target(Verb.START, "!toggle ", ["web", "db", "ai"])) == (
        "Which one? `!toggle start web`, `!toggle start db` or `!toggle start ai`."
    )
    assert render.no_target(Verb.STOP) == (
        "There is no target that you may stop; an administrator sets targets in the instance's settings."
    )


# Refusals


async def test_an_old_and_a_future_message_are_told_their_time() -> None:
    assert await plain(render.too_old(120, 3601)) == (
        "Not executed: your message is 1h1s old, more than the 2m that maximum_age allows. "
        "Send it again if you still want it."
    )
    assert await plain(render.from_the_future(90.4)) == (
        "Not executed: your message claims to be 1m30s in the future; your homeserver's clock or mine is wrong."
    )


async def test_broken_settings_are_told_with_the_first_problem() -> None:
    problems = [SettingsProblem("targets.my_web.replicas", "write a *number*"), SettingsProblem("a", "b")]
    assert await plain(render.broken_settings(problems)) == (
        "My settings cannot be used, so I do nothing until an administrator mends them in maubot: "
        "2 problems. First: targets.my_web.replicas: write a *number*"
    )


# Check

UNSIGNED = "not cross-signed: generate a recovery key for the client in maubot"
ALL_RIGHTS = [Right("get", "deployments/scale", True, True), Right("list", "pods", True, False)]


def found(**changes: Any) -> render.CheckView:
    good = render.CheckView(
        requester=requester(fingerprint="abcdefghij"),
        version="v1.37.0",
        seconds=0.0123,
        rights=[(target(), ALL_RIGHTS)],
        own_device="BOT",
        own_fingerprint="klmn",
        own_trust=Trust.CROSS_SIGNED_TOFU,
        problems=(),
    )
    return replace(good, **changes)


async def test_a_good_check_is_all_green() -> None:
    assert (await plain(render.check(found()))).splitlines() == [
        "● ✅ Cluster: Kubernetes v1.37.0 answers in 12 ms.",
        "● ✅ Rights for **web** (Deployment games/web): all there.",
        "● ✅ Your device: `PHONE`, verified by its owner (cross-signed); fingerprint `abcd efgh ij`.",
        "● ✅ My device: `BOT`, cross-signed; fingerprint `klmn`.",
        "● ✅ Settings: nothing to remark.",
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"version": Unreachable("No way there.")}, "❌ Cluster: No way there."),
        (
            {"rights": [(target(), [Right("patch", "deployments/scale", False, True), *ALL_RIGHTS])]},
            "❌ Rights for **web** (Deployment games/web): missing `patch deployments/scale`.",
        ),
        (
            {"rights": [(target(), [Right("list", "pods", False, False)])]},
            "✅ Rights for **web** (Deployment games/web): enough; without `list pods` I cannot say why it is stuck.",
        ),
        (
            {"rights": [(target(), NotFound("Gone."))]},
            "❌ Rights for **web** (Deployment games/web): Gone.",
        ),
        ({"requester": requester(encrypted=False)}, "⚠️ Your message was not encrypted."),
        (
            {"requester": requester(trust=Trust.UNVERIFIED, device="")},
            "⚠️ Your device: not verified by its owner; fingerprint `abcd efgh`.",
        ),
        (
            {"own_trust": Trust.UNVERIFIED},
            f"⚠️ My device: `BOT`, {UNSIGNED}; fingerprint `klmn`.",
        ),
        (
            {"own_fingerprint": ""},
            "❌ My device: no encryption; give the client a device ID in maubot, then restart the instance.",
        ),
        ({"problems": [SettingsProblem("a_b", "is *bad*")]}, "⚠️ Settings: a_b: is *bad*"),
    ],
)
async def test_a_check_says_what_is_wrong_where(changes: dict[str, Any], line: str) -> None:
    assert f"● {line}" in (await plain(render.check(found(**changes)))).splitlines()


async def test_every_trust_has_words() -> None:
    lines = {render.check(found(requester=requester(trust=trust))) for trust in Trust}
    assert len(lines) == len(Trust) - 1, "the two kinds of cross-signed need no words of their own"


# Whatever is called how

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs"]), max_size=30)
MARKUP = (
    *("\n\n", "\n", "# ", "* ", "- ", "1. ", "> ", "    ", "```", "`", "**", "_", "~~", "||", "---", "===", "|a|b|"),
    *("[x](http://y)", "![x](y)", "http://z", "<b>", "</p>", "<script>", "<!--", "&lt;", "&#60;", "\\", "a", " "),
)
NASTY = st.lists(st.sampled_from(MARKUP), max_size=8).map("".join)
ANYTHING = TEXT | NASTY
OURS = {"p", "strong", "code", "ul", "li"}


def texts(text: str) -> Sequence[str]:
    """Everything that shows a text from outside, with `text` in each of its places."""
    status = replace(STUCK, reason=text)
    error = ClusterError(text)
    named = replace(target(), name=text)
    check = found(
        requester=requester(device=text, fingerprint=text),
        version=text,
        rights=[(named, [Right(text, text, False, True)]), (named, error)],
        own_device=text,
        own_fingerprint=text or "x",
        problems=[SettingsProblem(text, text)],
    )
    help_view = view(settings(target()))
    ends = [
        ended(result, target=text, status=status, note=text, by=text, error=error if result is Result.FAILED else None)
        for result in Result
    ]
    return [
        render.escape(text),
        render.state(text, status),
        render.progress(Progress(text, status, 1.0, text)),
        *(render.outcome(end) for end in ends),
        *(render.call(end) for end in ends),
        render.alarm(Progress(text, status, 1.0)),
        render.interrupted(text),
        listing.statuses([(text, status), (text, error)]),
        listing.statuses([(text, error)]),
        *(
            render.misunderstood(Misunderstood(fault, text, (text, text), verb), "!x ", help_view)
            for fault in Fault
            for verb in (None, *Verb)
        ),
        render.which_target(Verb.START, "!x ", [text, text]),
        render.broken_settings([SettingsProblem(text, text)]),
        render.check(check),
        render.check(replace(check, version=error)),
    ]


def check_of(rights: Any) -> render.CheckView:
    return render.CheckView(requester(), "v1.37.0", 0.003, rights, "BOT", "abcd", Trust.CROSS_SIGNED_TOFU, [])


async def test_a_check_of_very_many_targets_names_those_with_a_problem_and_counts_the_others() -> None:
    missing = [Right("get", "deployments", granted=False, needed=True)]
    there = [Right("get", "deployments", granted=True, needed=True)]
    found = [(target(f"t{number}"), missing if number == 7 else there) for number in range(40)]
    lines = (await plain(render.check(check_of(found)))).splitlines()
    assert lines[1].startswith("● ✅ Rights for **t0**, **t1**,")
    assert lines[1].endswith("and 19 more: all there.")
    assert lines[2] == "● ❌ Rights for **t7** (Deployment games/web): missing `get deployments`."
    assert lines[3].startswith("● ✅ Your device")


@given(ANYTHING)
async def test_no_text_from_outside_becomes_markup(text: str) -> None:
    for markdown in texts(text):
        _, html = await parse_formatted(markdown)
        reader = read(html)
        assert reader.tags <= OURS, markdown
        assert not reader.attributes, markdown


@given(ANYTHING)
async def test_a_text_from_outside_is_read_as_it_is_in_both_forms(text: str) -> None:
    shown = " ".join(text.split())
    for markdown in (
        render.escape(text),
        render.state("web", replace(STUCK, reason=text)),
        listing.statuses([("web", UP), ("db", ClusterError(text))]),
        render.outcome(ended(Result.FAILED, error=ClusterError(text))),
        render.broken_settings([SettingsProblem("", text)]),
    ):
        body, html = await parse_formatted(markdown)
        assert shown in body
        assert shown in read(html).text


@given(ANYTHING)
async def test_what_should_be_one_line_is_one_line(text: str) -> None:
    lines = [
        render.state("web", replace(STUCK, reason=text)),
        listing.statuses([(text, STUCK)]),
        *(render.misunderstood(Misunderstood(fault, text, (text,)), "", view(settings(target()))) for fault in Fault),
    ]
    for markdown in lines:
        assert len((await plain(markdown)).splitlines()) == 1


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyzABC0123456789+/"))
def test_a_fingerprint_in_groups_is_the_same_fingerprint(key: str) -> None:
    spaced = render.spaced(key)
    assert spaced.replace(" ", "") == key
    assert all(len(group) <= 4 for group in spaced.split())
