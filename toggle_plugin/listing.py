"""Several targets, or several commands, in one reply that reads well on a phone. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from .errors import ClusterError
from .groups import Group
from .models import AuditEntry, Outcome, Phase, Result, RolloutStatus, Verb
from .render import MARKS, code, escape, in_seconds, joined, listed, outcome, progress, put_back, state, strong
from .settings import format_duration
from .steps import Standing

ONE_BY_ONE = 30
"""Targets whose reasons are told in full; of more there are only the names."""
UNKNOWN = "not known"
PARTLY = "◐"
"""The mark of a group that is partly on, and not in between."""
_LOUDEST_FIRST = (UNKNOWN, Phase.STUCK.value, Phase.STOPPING.value, Phase.STARTING.value)
_QUIET = (Phase.RUNNING.value, Phase.OFF.value)
_MARKS = {UNKNOWN: "❔", **{phase.value: mark for phase, mark in MARKS.items()}}
WAITING = "⏸"
MINUTE, DAY = 60.0, 24 * 3600.0

Found = RolloutStatus | ClusterError


# How targets stand


def statuses(found: Sequence[tuple[str, Found]], groups: Sequence[Group] = ()) -> str:
    """How targets stand, each with its name; of `groups`, all of whose targets are among them, how they stand too."""
    if len(found) == 1 and not groups:
        return _own_line(*found[0])
    by_word: dict[str, list[tuple[str, Found]]] = {}
    for name, what in found:
        by_word.setdefault(_word(what), []).append((name, what))
    loud = [each for word in _LOUDEST_FIRST for each in by_word.get(word, ())]
    if len(loud) <= ONE_BY_ONE:
        lines = [_own_line(*each) for each in loud]
    else:
        lines = [_together(word, by_word[word]) for word in _LOUDEST_FIRST if word in by_word]
    lines += [_together(word, by_word[word]) for word in _QUIET if word in by_word]
    lines += _remarks([each for word in _QUIET for each in by_word.get(word, ())])
    named = dict(found)
    return "\n".join(listed([*(_group_line(group, named) for group in groups), *lines]))


def _word(found: Found) -> str:
    return UNKNOWN if isinstance(found, ClusterError) else found.phase.value


def _own_line(name: str, found: Found) -> str:
    if isinstance(found, ClusterError):
        return f"{_MARKS[UNKNOWN]} {strong(name)} is not known: {escape(str(found))}"
    return state(name, found)


def _together(word: str, found: Sequence[tuple[str, Found]]) -> str:
    """Targets of one state on one line."""
    names = ", ".join(_with_count(*each) for each in found)
    return f"{_MARKS[word]} {strong(f'{len(found)} {word}')}: {names}"


def _remarks(found: Sequence[tuple[str, Found]]) -> list[str]:
    """What is worth knowing of targets that have no line of their own, where they are not too many."""
    remarks = [(name, what.remark) for name, what in found if isinstance(what, RolloutStatus) and what.remark]
    return [f"{strong(name)}: {escape(remark)}" for name, remark in remarks] if len(remarks) <= ONE_BY_ONE else []


def _with_count(name: str, found: Found) -> str:
    """A name, and how many replicas are available where that is not the usual one."""
    if isinstance(found, RolloutStatus) and found.phase is Phase.RUNNING and found.available > 1:
        return f"{escape(name)} ({found.available})"
    return escape(name)


def _group_line(group: Group, found: Mapping[str, Found]) -> str:
    words = Counter(_word(found[name]) for name in group.targets)
    if len(words) == 1:
        (word,) = words
        return f"{_MARKS[word]} {strong(group.name)}: all {len(group.targets)} {word}"
    loudest = next(word for word in (*_LOUDEST_FIRST, *_QUIET) if word in words)
    parts = [f"{words[word]} {word}" for word in (*_LOUDEST_FIRST, *_QUIET) if word in words]
    return f"{PARTLY if loudest in _QUIET else _MARKS[loudest]} {strong(group.name)}: {', '.join(parts)}"


# How a group's command goes


def standing(how: Standing, prefix: str = "") -> str:
    """The reply to a start or stop of a group: the whole on one line, then each of its targets."""
    few = len(how.targets) <= ONE_BY_ONE
    back = {each.target: put_back(each) for each in how.put_back}
    lines = [
        back.get(each.target) or _ended(how, each, prefix)
        for each in how.ended
        if few or each is how.failed or each.target in back
    ]
    if how.now is not None:
        lines.append(progress(how.now))
    if few:
        lines += [f"{WAITING} {strong(name)} {_waiting(how)}" for name in how.waiting]
    else:
        lines += _many(how)
    return "\n".join([_headline(how), "", *(f"* {line}" for line in lines)])


def _many(how: Standing) -> list[str]:
    """Of many targets, those that are as asked on one line, and those whose turn has not come on another."""
    mark = MARKS[Phase.OFF if how.verb is Verb.STOP else Phase.RUNNING]
    undone = {each.target for each in how.put_back}
    done = [escape(each.target) for each in how.ended if each.as_asked and each.target not in undone]
    waiting = [escape(name) for name in how.waiting]
    gathered = ((mark, f"{len(done)} done", done), (WAITING, f"{len(waiting)} had no turn yet", waiting))
    return [f"{mark} {strong(words)}: {', '.join(names)}" for mark, words, names in gathered if names]


def call(how: Standing, prefix: str = "") -> str:
    """Its end as a message of its own, to the person who waits for it; goes behind their name."""
    if how.failed is None:
        return _headline(how)
    return f"{_headline(how)}\n\n{_ended(how, how.failed, prefix)}"


def _headline(how: Standing) -> str:
    done, all_of_them = len(how.ended), len(how.targets)
    if how.put_back:
        return f"🔴 {strong(how.group)} did not stay {'off' if how.verb is Verb.STOP else 'on'}."
    if how.complete:
        phase = Phase.OFF if how.verb is Verb.STOP else Phase.RUNNING
        already = how.whole.result is Result.UNCHANGED
        ending = ", as it was already." if already else f", after {in_seconds(how.seconds)}."
        return f"{MARKS[phase]} {strong(how.group)} is {phase.value}{ending}"
    if how.failed is None:
        phase = Phase.STOPPING if how.verb is Verb.STOP else Phase.STARTING
        return f"{MARKS[phase]} {strong(how.group)} is {phase.value}, {done} of {all_of_them} done"
    return f"🔴 {_went_wrong(how, how.failed)}"


def _went_wrong(how: Standing, last: Outcome) -> str:
    what = f"The {how.verb.value} of {strong(how.group)}"
    if last.result is Result.SUPERSEDED:
        return f"{what} ended, because a newer command of {escape(last.by)} for one of its targets took over."
    left = f", so {joined([strong(name) for name in how.waiting], 'and')} had no turn" if how.waiting else ""
    return f"{what} ended at {strong(last.target)}{left}."


def _waiting(how: Standing) -> str:
    if how.failed is None:
        return "waits"
    return "was not stopped" if how.verb is Verb.STOP else "was not started"


def _ended(how: Standing, end: Outcome, prefix: str) -> str:
    if end.result is not Result.SUPERSEDED:
        return outcome(end, prefix)
    # Whoever took over may have asked for another one of the targets: nobody needs to follow this one now.
    if end.status is None:
        return f"{WAITING} {strong(end.target)} {_waiting(how)}"
    return f"{state(end.target, end.status)}. I follow it no longer."


# What was done


def history(name: str, entries: Sequence[AuditEntry], now: float) -> str:
    """The commands in `entries`, the newest first; `name` is the target or group that they are about, if it is one."""
    of = f" for {strong(name)}" if name else ""
    if not entries:
        return f"No start, stop or restart{of} is written down."
    lines = [f"* {_ago(now - entry.received_at / 1000)}: {_what_was_done(entry)}" for entry in entries]
    return "\n".join([f"The last commands{of}:", "", *lines])


def _what_was_done(entry: AuditEntry) -> str:
    line = (
        f"{escape(entry.user)} {code(f'{entry.verb} {entry.target}'.strip())}: {escape(entry.outcome or 'under way')}"
    )
    if entry.replicas_before is not None and entry.replicas_after is not None:
        line += f", {entry.replicas_before} → {entry.replicas_after}"
    return line if entry.duration_ms is None else f"{line}, after {in_seconds(entry.duration_ms / 1000)}"


def _ago(seconds: float) -> str:
    """How long ago something was, in one unit or two."""
    if seconds >= 2 * DAY:
        return f"{int(seconds // DAY)} days ago"
    whole = seconds if seconds < MINUTE else seconds - seconds % MINUTE
    return f"{format_duration(max(0.0, whole))} ago"
