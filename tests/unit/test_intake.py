"""Order for each person, people side by side, a bound, and what is settled when."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from toggle_plugin.intake import Admit, Intake, Run

ALICE, BOB = "@alice:example.org", "@bob:example.org"
LOG = logging.getLogger("test.intake")


@pytest.fixture
async def intake() -> AsyncIterator[Intake]:
    intake = Intake(LOG, most=3)
    yield intake
    await asyncio.wait_for(intake.close(), 1)


class Line:
    """One line: when it may be admitted, when it may end, and what was done of it."""

    def __init__(self, diary: list[str], name: str) -> None:
        self.may_be_admitted = asyncio.Event()
        self.may_end = asyncio.Event()
        self._diary = diary
        self._name = name

    async def admit(self) -> Run | None:
        await self.may_be_admitted.wait()
        self._diary.append(f"{self._name} admitted")
        return self._run()

    async def _run(self) -> None:
        await self.may_end.wait()
        self._diary.append(f"{self._name} ended")


@pytest.fixture
def diary() -> list[str]:
    return []


async def pause() -> None:
    """Let everything run that can: by turns of the event loop and not by the clock, for the machine may be busy."""
    for _ in range(100):
        await asyncio.sleep(0)


async def test_one_persons_lines_are_admitted_in_order_and_do_not_wait_for_each_others_end(
    intake: Intake, diary: list[str]
) -> None:
    first, second = Line(diary, "1"), Line(diary, "2")
    intake.take(ALICE, first.admit)
    intake.take(ALICE, second.admit)
    second.may_be_admitted.set()
    second.may_end.set()
    await pause()
    assert diary == []
    first.may_be_admitted.set()
    await pause()
    assert diary == ["1 admitted", "2 admitted", "2 ended"]


async def test_nobody_waits_for_somebody_else(intake: Intake, diary: list[str]) -> None:
    slow, quick = Line(diary, "slow"), Line(diary, "quick")
    quick.may_be_admitted.set()
    intake.take(ALICE, slow.admit)
    intake.take(BOB, quick.admit)
    await pause()
    assert diary == ["quick admitted"]


async def test_what_is_beyond_the_bound_is_refused_and_told_once(intake: Intake, diary: list[str]) -> None:
    lines = [Line(diary, str(number)) for number in range(5)]
    assert [intake.take(ALICE, line.admit) for line in lines] == [True, True, True, False, False]
    assert [intake.first_refusal(ALICE), intake.first_refusal(ALICE)] == [True, False]
    assert intake.take(BOB, Line(diary, "bob").admit), "somebody else's room is their own"


async def test_what_runs_counts_too_and_what_has_ended_makes_room(intake: Intake, diary: list[str]) -> None:
    lines = [Line(diary, str(number)) for number in range(3)]
    for line in lines:
        line.may_be_admitted.set()
        intake.take(ALICE, line.admit)
    await pause()
    assert not intake.take(ALICE, lines[0].admit)
    lines[1].may_end.set()
    await pause()
    assert intake.take(ALICE, lines[0].admit)


async def test_settled_means_admitted(intake: Intake, diary: list[str]) -> None:
    line = Line(diary, "1")
    intake.take(ALICE, line.admit)
    settled = asyncio.ensure_future(asyncio.wait_for(intake.settled(), 5))
    later = Line(diary, "2")
    intake.take(BOB, later.admit)
    await pause()
    assert not settled.done()
    line.may_be_admitted.set()
    await pause()
    assert settled.done(), "what came later is not waited for"


async def test_what_is_held_is_not_settled(intake: Intake) -> None:
    held = intake.hold()
    settled = asyncio.ensure_future(asyncio.wait_for(intake.settled(), 5))
    await pause()
    assert not settled.done()
    held.set_result(None)
    await pause()
    assert settled.done()


async def test_with_nothing_to_do_all_is_settled(intake: Intake) -> None:
    await asyncio.wait_for(intake.settled(), 1)


async def test_nobody_is_remembered_longer_than_they_have_something_to_do(intake: Intake, diary: list[str]) -> None:
    line = Line(diary, "1")
    line.may_be_admitted.set()
    line.may_end.set()
    intake.take(ALICE, line.admit)
    await pause()
    assert diary == ["1 admitted", "1 ended"]
    assert intake._people == {}
    assert not intake.first_refusal(ALICE)


async def test_a_line_that_breaks_stops_no_other(
    intake: Intake, diary: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> Run | None:
        raise ValueError("odd")

    admit: Admit = broken
    intake.take(ALICE, admit)
    line = Line(diary, "1")
    line.may_be_admitted.set()
    intake.take(ALICE, line.admit)
    await pause()
    assert diary == ["1 admitted"]
    assert "intake=broken" in caplog.text


async def test_closing_ends_what_waits_and_runs_and_settles_nothing(diary: list[str]) -> None:
    intake = Intake(LOG)
    waiting, running = Line(diary, "waiting"), Line(diary, "running")
    running.may_be_admitted.set()
    intake.take(ALICE, running.admit)
    await pause()
    intake.take(ALICE, waiting.admit)
    settled = asyncio.ensure_future(asyncio.wait_for(intake.settled(), 5))
    await pause()
    await asyncio.wait_for(intake.close(), 1)
    await pause()
    assert diary == ["running admitted"]
    assert not settled.done()
    settled.cancel()


async def test_what_was_begun_gets_to_its_own_end_however_soon_the_close_comes() -> None:
    intake = Intake(LOG)
    diary: list[str] = []
    closing: list[asyncio.Future[None]] = []

    async def run() -> None:
        try:
            diary.append("began")
            await asyncio.sleep(60)
        finally:
            diary.append("ended")

    async def admit() -> Run | None:
        # It comes to its turn before what this line begins.
        closing.append(asyncio.ensure_future(intake.close()))
        return run()

    intake.take(ALICE, admit)
    await pause()
    await asyncio.wait_for(closing[0], 5)
    assert diary == ["began", "ended"]
