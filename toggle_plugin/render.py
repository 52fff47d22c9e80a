"""From the domain to Markdown that also reads well as plain text. Pure; every name from outside is escaped here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .errors import ClusterError, SettingsProblem, summary
from .grammar import Fault, Misunderstood
from .models import Command, Outcome, Phase, Progress, Requester, Result, Right, RolloutStatus, Trust, Verb
from .settings import Target, format_duration

MARKS = {Phase.OFF: "⚪", Phase.STARTING: "🟡", Phase.RUNNING: "🟢", Phase.STOPPING: "🟠", Phase.STUCK: "🔴"}
_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+!|~&-])")
_LIST_ITEM = re.compile(r"^(\d+)\.")
_ABOUT = {
    Verb.START: ("turn", "on and follow it until it is up"),
    Verb.STOP: ("turn", "off"),
    Verb.RESTART: ("replace all pods of", "by new ones and follow that"),
    Verb.STATUS: ("how", "stands"),
    Verb.HISTORY: ("who turned", "on or off, and when"),
    Verb.HELP: ("", "this text"),
    Verb.CHECK: ("", "test the connection, the rights, your device and the settings"),
}
"""What a verb does, before and behind the names of the targets."""
_ALIASES = {Verb.START: "on", Verb.STOP: "off"}
_TRUST_WORDS = {
    Trust.NONE: "not encrypted",
    Trust.BLACKLISTED: "blocked",
    Trust.UNVERIFIED: "not verified by its owner",
    Trust.UNKNOWN_DEVICE: "unknown",
    Trust.FORWARDED: "known only by a forwarded key",
    Trust.CROSS_SIGNED_UNTRUSTED: "signed by another identity than the first one seen",
    Trust.CROSS_SIGNED_TOFU: "verified by its owner (cross-signed)",
    Trust.CROSS_SIGNED_TRUSTED: "verified by its owner (cross-signed)",
    Trust.VERIFIED: "verified",
    Trust.OUTDATED: "perhaps signed out by now",
}
TENTHS_BELOW = 10.0
"""Seconds below which tenths are shown."""
_SIGNED = frozenset({Trust.CROSS_SIGNED_TOFU, Trust.CROSS_SIGNED_TRUSTED, Trust.VERIFIED})
SHOWN_TOGETHER = 10
"""Commands that came too late which one answer names."""
CHECKED_ONE_BY_ONE = 20
"""Targets that each have a line of a check."""
SHOWN_NAMES = 20
"""Names that a sentence enumerates."""
WORD_LENGTH = 40
"""Characters of somebody's own word that are shown back."""


def escape(text: str) -> str:
    """`text` as Markdown that shows it as it is, on one line."""
    return _LIST_ITEM.sub(r"\1\\.", _SPECIAL.sub(r"\\\1", " ".join(text.split())))


def strong(text: str) -> str:
    return f"**{escape(text)}**"


def sentence(text: str) -> str:
    """`text` from a module of ours or from the cluster, escaped."""
    return escape(text)


def counts(status: RolloutStatus) -> str:
    return f"desired {status.desired}, ready {status.ready}, available {status.available}"


def state(target: str, status: RolloutStatus) -> str:
    """One line for one target."""
    line = f"{MARKS[status.phase]} {strong(target)} is {status.phase.value} ({counts(status)})"
    return with_note(f"{line}: {escape(status.reason)}" if status.reason else line, status.remark)


def progress(news: Progress) -> str:
    return with_note(state(news.target, news.status), news.note)


def outcome(end: Outcome, prefix: str = "") -> str:
    """The last state of the reply to a start or stop; `prefix` goes before a command where the person is."""
    if end.result is Result.FAILED:
        return _failure(end, prefix)
    line = state(end.target, end.status) if end.status else f"How {strong(end.target)} stands was not seen"
    if end.result is Result.NOT_RESTARTED:
        return f"{line}. I did not restart it: {escape(end.note)}."
    return with_note(line + _ending(end, prefix), end.note)


def _failure(end: Outcome, prefix: str) -> str:
    what = escape(str(end.error)) if end.error else went_wrong()
    if end.verb is Verb.RESTART and end.written:
        restarted = f"The restart of {strong(end.target)} is under way, but could not be followed"
        return f"{what} {restarted}; ask {code(prefix + 'status')}."
    if end.before is None or end.before == end.after:
        return f"{what} {strong(end.target)} was left as it was." if end.error else what
    if end.after is None:
        return f"{what} Whether {strong(end.target)} was changed is not known; ask {code(prefix + 'status')}."
    now = f"{strong(end.target)} was set to {end.after}, but could not be followed"
    return f"{what} {now}; ask {code(prefix + 'status')}."


def _ending(end: Outcome, prefix: str) -> str:
    if end.result is Result.UNCHANGED:
        return ", as it was already."
    if end.result is Result.DONE and end.verb is Verb.RESTART:
        return f", restarted after {in_seconds(end.seconds)}."
    if end.result is Result.DONE:
        return f", after {in_seconds(end.seconds)}."
    if end.result is Result.SUPERSEDED:
        return f". A newer command of {escape(end.by)} took over; I follow that one."
    if end.result is Result.CHANGED:
        return f". {_somebody(end.by)} set it to {end.after} meanwhile, so I stopped following."
    return (
        f". I followed it for {in_seconds(end.seconds)} and stop now; ask {code(prefix + 'status')} for how it stands."
    )


def _somebody(who: str) -> str:
    return f"Somebody else ({escape(who)})" if who else "Somebody else"


def call(end: Outcome, prefix: str = "") -> str:
    """The end of a command as a message of its own, to the person who waits for it; goes behind their name."""
    if end.result is Result.DONE and end.verb is Verb.RESTART and end.status is not None:
        return f"{strong(end.target)} is restarted after {in_seconds(end.seconds)} ({counts(end.status)})."
    if end.result is Result.DONE and end.status is not None:
        return (
            f"{strong(end.target)} is {end.status.phase.value} after {in_seconds(end.seconds)} ({counts(end.status)})."
        )
    return outcome(end, prefix)


def put_back(end: Outcome) -> str:
    """The reply to a start or stop that was done, once somebody has put it back."""
    line = state(end.target, end.status) if end.status else f"How {strong(end.target)} stands was not seen"
    return f"{line}. {did_not_last(end)}"


def did_not_last(end: Outcome) -> str:
    """That somebody has put back what was done, `end.seconds` after that."""
    stayed = "off" if end.verb is Verb.STOP else "on"
    who = _somebody(end.by)
    what = f"{strong(end.target)} did not stay {stayed}: {who[0].lower()}{who[1:]} set it to {end.after}"
    return f"{what} after {in_seconds(end.seconds)}. If a program does that, tell it to leave the replica count alone."


def alarm(news: Progress) -> str:
    """It is stuck, as a message of its own."""
    return f"{state(news.target, news.status)}. I keep following it."


def interrupted(target: str) -> str:
    return f"I am being stopped and do not see how {strong(target)} goes on; I tell you when I am back."


def overtaken(target: str, by: str) -> str:
    return f"While I was away, a newer command of {escape(by)} for {strong(target)} took over, so I did nothing more."


def listed(lines: Iterable[str]) -> list[str]:
    every = list(lines)
    return every if len(every) == 1 else [f"* {line}" for line in every]


@dataclass(frozen=True)
class HelpView:
    """What one person may do in one place.

    Attributes:
        prefix: what goes before a command here: ``!toggle `` or nothing.
        names: the targets and groups for each verb that takes one.
    """

    prefix: str
    verbs: Sequence[Verb]
    names: Mapping[Verb, Sequence[str]]


def help_text(view: HelpView) -> str:
    lines = [_help_line(view, verb) for verb in view.verbs]
    return "\n".join(["Here you can write:", "", *listed(lines)])


def _help_line(view: HelpView, verb: Verb) -> str:
    names = view.names.get(verb, ())
    words = [word for word in (verb.value, _ALIASES.get(verb)) if word]
    if len(names) > 1:
        words = [f"{word} NAME" for word in words]
    if len(names) > 1 and verb in (Verb.STATUS, Verb.HISTORY):
        words = [verb.value, *words]
    before, behind = _ABOUT[verb]
    about = f"{before} {_either([strong(name) for name in names])} {behind}" if names else behind
    return f"{_either([code(view.prefix + word) for word in words])}: {about}"


def code(text: str) -> str:
    # On one line: an empty line would end the code and let the rest be Markdown.
    return f"`{' '.join(text.replace('`', '').split())}`"


def misunderstood(fault: Misunderstood, prefix: str, view: HelpView) -> str:
    """One helpful line about a line that is no command."""
    if fault.fault is Fault.NO_PREFIX:
        verb = fault.verb or Verb.HELP
        return f"Here a command begins with {code(prefix.strip())}, for example {code(prefix + verb.value)}."
    word = strong(fault.word[:WORD_LENGTH])
    hint = f" Did you mean {_either([code(again) for again in _again(fault, prefix)])}?" if fault.near else ""
    if fault.fault is Fault.UNKNOWN_TARGET:
        names = view.names.get(fault.verb or Verb.STATUS, ())
        there = f" There is {_enumerated(names)}." if names and not hint else ""
        return f"I know no target {word}.{hint}{there}"
    if fault.fault is Fault.TOO_MANY_WORDS and fault.verb is not None:
        takes = "takes one target at the most" if view.names.get(fault.verb) else "stands alone"
        return f"{code(prefix + fault.verb.value)} {takes}; {word} is too much."
    known = f"I know {_enumerated([verb.value for verb in view.verbs])}; {code(prefix + 'help')} says more."
    return known if fault.fault is Fault.EMPTY else f"I do not know the word {word}.{hint or ' ' + known}"


def _again(fault: Misunderstood, prefix: str) -> list[str]:
    before = f"{prefix}{fault.verb.value} " if fault.verb else prefix
    return [f"{before}{name}" for name in fault.near]


def which_target(verb: Verb, prefix: str, names: Sequence[str]) -> str:
    options = [code(f"{prefix}{verb.value} {name}") for name in names]
    return f"Which one? {_either(options)}."


def target_gone(name: str) -> str:
    what = "was taken out of my settings or became another workload"
    return f"While I was away, {strong(name)} {what}, so I did nothing more."


def given_up(name: str, prefix: str) -> str:
    """About a command that was begun before a restart and is not followed any more, whatever became of it."""
    why = "it is too late to go on, or my settings no longer allow it"
    return (
        f"I was stopped while I worked on {strong(name)}, and {why}; ask {code(prefix + 'status')} for how it stands."
    )


def no_target(verb: Verb) -> str:
    action = "see" if verb is Verb.STATUS else verb.value
    return f"There is no target that you may {action}; an administrator sets targets in the instance's settings."


def _enumerated(names: Sequence[str]) -> str:
    return joined([strong(name) for name in names], "and")


def _either(options: Sequence[str]) -> str:
    return joined(options, "or")


def joined(parts: Sequence[str], word: str) -> str:
    if len(parts) > SHOWN_NAMES:
        return f"{', '.join(parts[:SHOWN_NAMES])} {word} {len(parts) - SHOWN_NAMES} more"
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"


def too_old(maximum: float, seconds: float) -> str:
    return (
        f"Not executed: your message is {format_duration(seconds)} old, more than the {format_duration(maximum)} "
        "that maximum\\_age allows. Send it again if you still want it."
    )


def all_too_old(maximum: float, seconds: float, commands: Sequence[tuple[str, Command]]) -> str:
    """The answer to several commands that came too late, each with who gave it; `seconds` is the age of the oldest."""
    lines = [f"{code(' '.join(filter(None, (c.verb.value, c.target))))} of {escape(user)}" for user, c in commands]
    shown = lines[:SHOWN_TOGETHER]
    if len(lines) > len(shown):
        shown.append(f"and {len(lines) - len(shown)} more")
    head = (
        f"Not executed: {len(lines)} commands that are up to {format_duration(seconds)} old, more than the "
        f"{format_duration(maximum)} that maximum\\_age allows. Send again what you still want."
    )
    return "\n".join([head, "", *listed(shown)])


def too_many(most: int) -> str:
    return (
        f"Not executed: {most} of your commands wait already. I answer those first; "
        "what you send meanwhile is not executed either."
    )


def undecryptable() -> str:
    return "I cannot read your message: its key did not reach me, so I did nothing; send it again."


def not_its_key() -> str:
    return (
        "Your message was encrypted with a key that does not belong to its device or its room, so I did nothing; "
        "send it again, and if that does not help, sign your device out and in again."
    )


def with_cautions(text: str, cautions: Sequence[SettingsProblem]) -> str:
    """`text`, and below it what an administrator should change."""
    return "\n\n".join([text, *(f"⚠ {sentence(str(caution))}" for caution in cautions)])


def from_the_future(seconds: float) -> str:
    ahead = format_duration(seconds)
    return f"Not executed: your message claims to be {ahead} in the future; your homeserver's clock or mine is wrong."


def broken_settings(problems: Sequence[SettingsProblem]) -> str:
    what = escape(summary(problems))
    return f"My settings cannot be used, so I do nothing until an administrator mends them in maubot: {what}"


def not_written_down() -> str:
    return "I could not write your command down in my database, so I did not run it; send it again later."


def went_wrong() -> str:
    return "Something went wrong here; the log has the details."


@dataclass(frozen=True)
class CheckView:
    """What `check` found.

    Attributes:
        version: of the API server, or why it did not answer.
        rights: by target.
        own_device, own_fingerprint, own_trust: the bot's.
    """

    requester: Requester
    version: str | ClusterError
    seconds: float
    rights: Sequence[tuple[Target, Sequence[Right] | ClusterError]]
    own_device: str
    own_fingerprint: str
    own_trust: Trust
    problems: Sequence[SettingsProblem]


def check(view: CheckView) -> str:
    lines = [_cluster_line(view)]
    lines += _rights_lines(view.rights)
    lines += [_your_device(view.requester), _my_device(view)]
    lines += [f"⚠️ Settings: {escape(str(problem))}" for problem in view.problems] or ["✅ Settings: nothing to remark."]
    return "\n".join(listed(lines))


def _cluster_line(view: CheckView) -> str:
    if isinstance(view.version, ClusterError):
        return f"❌ Cluster: {escape(str(view.version))}"
    return f"✅ Cluster: Kubernetes {escape(view.version)} answers in {round(view.seconds * 1000)} ms."


def _rights_lines(found: Sequence[tuple[Target, Sequence[Right] | ClusterError]]) -> list[str]:
    """A line for each target; of very many, one line for all that have what they need."""
    if len(found) <= CHECKED_ONE_BY_ONE:
        return [_rights_line(target, rights) for target, rights in found]
    well = [target.name for target, rights in found if not isinstance(rights, ClusterError) and _all_there(rights)]
    lines = [_rights_line(target, rights) for target, rights in found if target.name not in set(well)]
    return [*([f"✅ Rights for {joined([strong(name) for name in well], 'and')}: all there."] if well else []), *lines]


def _all_there(rights: Sequence[Right]) -> bool:
    return all(right.granted for right in rights)


def _rights_line(target: Target, rights: Sequence[Right] | ClusterError) -> str:
    name = f"{strong(target.name)} ({escape(str(target.ref))})"
    if isinstance(rights, ClusterError):
        return f"❌ Rights for {name}: {escape(str(rights))}"
    missing = [right for right in rights if right.needed and not right.granted]
    wanted = [right for right in rights if not right.needed and not right.granted]
    if missing:
        return f"❌ Rights for {name}: missing {_right_names([*missing, *wanted])}."
    if wanted:
        return f"✅ Rights for {name}: enough; without {_right_names(wanted)} I cannot say why it is stuck."
    return f"✅ Rights for {name}: all there."


def _right_names(rights: Sequence[Right]) -> str:
    return ", ".join(code(f"{right.verb} {right.resource}") for right in rights)


def _your_device(requester: Requester) -> str:
    if not requester.encrypted:
        return "⚠️ Your message was not encrypted."
    device = f"{code(requester.device)}, " if requester.device else ""
    mark = "✅" if requester.trust in _SIGNED else "⚠️"
    known = f"{device}{_TRUST_WORDS[requester.trust]}"
    return f"{mark} Your device: {known}; fingerprint {code(spaced(requester.fingerprint))}."


def _my_device(view: CheckView) -> str:
    if not view.own_fingerprint:
        return "❌ My device: no encryption; give the client a device ID in maubot, then restart the instance."
    signed = view.own_trust in _SIGNED
    words = "cross-signed" if signed else "not cross-signed: generate a recovery key for the client in maubot"
    mark = "✅" if signed else "⚠️"
    return f"{mark} My device: {code(view.own_device)}, {words}; fingerprint {code(view.own_fingerprint)}."


def spaced(key: str) -> str:
    """A fingerprint in groups of four, as clients show it."""
    return " ".join(key[index : index + 4] for index in range(0, len(key), 4))


def with_note(line: str, note: str) -> str:
    return f"{line} ({escape(note)})" if note else line


def in_seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < TENTHS_BELOW else format_duration(seconds)
