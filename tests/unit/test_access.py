"""Who may do what, from where, with which device; and that nothing else is ever allowed."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toggle_plugin.access import (
    ACCEPTED,
    READING,
    SIGNED,
    TARGETED,
    AccessPolicy,
    Allowed,
    Decision,
    Ignored,
    Refused,
    said,
)
from toggle_plugin.grammar import Misunderstood, parse
from toggle_plugin.groups import Group
from toggle_plugin.models import Command, Requester, Trust, Verb
from toggle_plugin.settings import MinimumTrust, Settings, Target, grouped

from .builders import ALICE, BOB, CAROL, DATABASE, MALLORY, OTHER_ROOM, ROOM, WEB, requester, settings, target

SHARED = target("web", WEB)
BOBS = target("db", DATABASE, allowed_users=frozenset({BOB}))
IDENTITY = "JqNTNthxenb0dj0SbFGBDcvkDXWDFxdyU0+IO6PJf3o"
USERS = {"allowed_users": frozenset({ALICE, BOB}), "viewers": frozenset({CAROL})}


def policy(**changes: Any) -> AccessPolicy:
    return AccessPolicy(settings(SHARED, BOBS, **{**USERS, **changes}))


def sentence(decision: Decision) -> str:
    assert isinstance(decision, Refused)
    return decision.sentence


@pytest.mark.parametrize("verb", Verb)
def test_an_allowed_user_may_do_everything(verb: Verb) -> None:
    assert policy().check(requester(), verb) == Allowed()
    assert policy().check(requester(), verb, SHARED) == Allowed()


@pytest.mark.parametrize("verb", Verb)
@pytest.mark.parametrize("changes", [{}, {"encrypted": False, "trust": Trust.NONE}, {"room": OTHER_ROOM}])
def test_a_stranger_is_ignored_whatever_they_ask(verb: Verb, changes: dict[str, Any]) -> None:
    assert policy().check(requester(MALLORY, **changes), verb, SHARED) == Ignored("allowed_users")


def test_nobody_is_allowed_where_nobody_is_listed() -> None:
    empty = AccessPolicy(Settings())
    assert empty.check(requester(), Verb.HELP) == Ignored("allowed_users")
    assert not empty.knows(ALICE)


def test_users_are_compared_letter_by_letter() -> None:
    assert policy().check(requester("@Alice:example.org"), Verb.STATUS) == Ignored("allowed_users")


@pytest.mark.parametrize("verb", sorted(READING))
def test_a_viewer_may_ask_for_status_and_help(verb: Verb) -> None:
    assert policy().check(requester(CAROL), verb) == Allowed()
    assert policy().check(requester(CAROL), verb, BOBS) == Allowed()


@pytest.mark.parametrize("verb", [Verb.START, Verb.STOP, Verb.CHECK])
def test_a_viewer_is_told_what_they_may_not_do(verb: Verb) -> None:
    assert sentence(policy().check(requester(CAROL), verb, SHARED)) == (
        f"You may ask for status and help, not {verb.value}; an administrator can add you to allowed_users."
    )


@pytest.mark.parametrize(("verb", "action"), [(Verb.START, "start"), (Verb.STOP, "stop"), (Verb.STATUS, "see")])
def test_a_target_with_a_list_of_its_own_is_theirs_alone(verb: Verb, action: str) -> None:
    assert policy().check(requester(BOB), verb, BOBS) == Allowed()
    assert sentence(policy().check(requester(ALICE), verb, BOBS)) == (
        f"You may not {action} db; an administrator can add you to targets.db.allowed_users."
    )


def test_the_list_of_a_target_lets_nobody_in_who_is_not_allowed_anyway() -> None:
    theirs = target("db", DATABASE, allowed_users=frozenset({MALLORY, CAROL}))
    mine = AccessPolicy(settings(theirs, **USERS))
    assert mine.check(requester(MALLORY), Verb.START, theirs) == Ignored("allowed_users")
    assert isinstance(mine.check(requester(CAROL), Verb.START, theirs), Refused)


def test_a_viewer_who_is_allowed_too_sees_everything_and_starts_only_what_is_theirs() -> None:
    both = policy(viewers=frozenset({ALICE}))
    assert both.check(requester(ALICE), Verb.STATUS, BOBS) == Allowed()
    assert isinstance(both.check(requester(ALICE), Verb.STOP, BOBS), Refused)


def test_in_another_room_than_the_allowed_ones_nothing_is_done() -> None:
    here = policy(allowed_rooms=frozenset({OTHER_ROOM}))
    assert here.check(requester(room=OTHER_ROOM), Verb.START, SHARED) == Allowed()
    assert sentence(here.check(requester(), Verb.START, SHARED)) == (
        "I take no commands in this room; use one that allowed_rooms lists, or ask an administrator to add this one."
    )


@pytest.mark.parametrize("required", [True, False])
def test_plaintext_in_an_encrypted_room_is_refused_even_where_encryption_is_not_required(required: bool) -> None:
    decision = policy(require_encryption=required).check(
        requester(encrypted=False, trust=Trust.NONE), Verb.STATUS, SHARED
    )
    assert sentence(decision).startswith("Your message was not encrypted although this room is")


def test_a_room_without_encryption_is_refused_where_it_is_required() -> None:
    plain = requester(room_encrypted=False, encrypted=False, trust=Trust.NONE)
    assert sentence(policy().check(plain, Verb.STOP, SHARED)).startswith("This room is not encrypted")
    assert policy(require_encryption=False).check(plain, Verb.STOP, SHARED) == Allowed()


@pytest.mark.parametrize(
    ("trust", "words"),
    [
        (Trust.NONE, "not verified by you"),
        (Trust.BLACKLISTED, "is blocked"),
        (Trust.UNVERIFIED, "not verified by you"),
        (Trust.UNKNOWN_DEVICE, "I do not know the device"),
        (Trust.FORWARDED, "came from another device"),
        (Trust.CROSS_SIGNED_UNTRUSTED, "not the one I first saw"),
        (Trust.CROSS_SIGNED_TOFU, ""),
        (Trust.CROSS_SIGNED_TRUSTED, ""),
        (Trust.VERIFIED, ""),
    ],
)
def test_by_default_only_a_cross_signed_device_is_trusted(trust: Trust, words: str) -> None:
    decision = policy().check(requester(trust=trust), Verb.START, SHARED)
    if words:
        assert words in sentence(decision)
        assert "so I did nothing; " in sentence(decision)
    else:
        assert decision == Allowed()


@pytest.mark.parametrize("trust", sorted(SIGNED))
@pytest.mark.parametrize(("identity", "allowed"), [(IDENTITY, True), (IDENTITY.lower(), False), ("", False)])
def test_an_identity_that_is_accepted_by_name_is_the_only_one(trust: Trust, identity: str, allowed: bool) -> None:
    decision = policy(accepted_identities={ALICE: IDENTITY}).check(
        requester(trust=trust, identity=identity), Verb.START, SHARED
    )
    if allowed:
        assert decision == Allowed()
    else:
        assert "is not the one that accepted_identities has for you" in sentence(decision)
        assert sentence(decision).endswith(f"and to put it there: {grouped(identity) or 'unknown'}")


@pytest.mark.parametrize("trust", sorted(set(Trust) - SIGNED))
def test_an_accepted_identity_makes_no_unsigned_device_trusted(trust: Trust) -> None:
    decision = policy(accepted_identities={ALICE: IDENTITY}).check(
        requester(trust=trust, identity=IDENTITY), Verb.START, SHARED
    )
    assert isinstance(decision, Refused)


def test_an_identity_that_is_wrong_in_the_settings_lets_nobody_in() -> None:
    decision = policy(accepted_identities={ALICE: ""}).check(
        requester(trust=Trust.CROSS_SIGNED_TOFU, identity=""), Verb.START, SHARED
    )
    assert isinstance(decision, Refused)


def test_the_refusal_of_a_reset_identity_names_it_for_the_administrator() -> None:
    decision = policy().check(requester(trust=Trust.CROSS_SIGNED_UNTRUSTED, identity=IDENTITY), Verb.START, SHARED)
    assert sentence(decision).endswith(f"to add it to accepted_identities: {grouped(IDENTITY)}")


@pytest.mark.parametrize(
    ("trust", "allowed"),
    [
        (Trust.NONE, False),
        (Trust.BLACKLISTED, False),
        (Trust.UNVERIFIED, True),
        (Trust.UNKNOWN_DEVICE, False),
        (Trust.FORWARDED, False),
        (Trust.CROSS_SIGNED_UNTRUSTED, True),
        (Trust.CROSS_SIGNED_TOFU, True),
        (Trust.CROSS_SIGNED_TRUSTED, True),
        (Trust.VERIFIED, True),
    ],
)
def test_with_trust_unverified_the_persons_own_devices_are_taken_and_no_others(trust: Trust, allowed: bool) -> None:
    lax = policy(minimum_trust=MinimumTrust.UNVERIFIED)
    assert isinstance(lax.check(requester(trust=trust), Verb.START, SHARED), Allowed) is allowed


def test_every_level_of_trust_that_can_be_set_has_its_devices() -> None:
    assert set(ACCEPTED) == set(MinimumTrust)
    assert ACCEPTED[MinimumTrust.CROSS_SIGNED_TOFU] < ACCEPTED[MinimumTrust.UNVERIFIED]


@pytest.mark.parametrize(
    ("user", "rooms", "decision"),
    [
        (ALICE, frozenset[str](), Allowed()),
        (CAROL, frozenset[str](), Allowed()),
        (ALICE, frozenset({ROOM}), Allowed()),
        (ALICE, frozenset({OTHER_ROOM}), Ignored("allowed_rooms")),
        (MALLORY, frozenset[str](), Ignored("allowed_users")),
        (MALLORY, frozenset({ROOM}), Ignored("allowed_users")),
    ],
)
def test_invitations_are_taken_from_people_we_know_into_rooms_that_are_allowed(
    user: str, rooms: frozenset[str], decision: Decision
) -> None:
    assert policy(allowed_rooms=rooms).invitation(user, ROOM) == decision


@pytest.mark.parametrize(
    ("user", "verb", "names"),
    [
        (ALICE, Verb.START, ["web"]),
        (ALICE, Verb.STATUS, ["web"]),
        (BOB, Verb.STOP, ["web", "db"]),
        (CAROL, Verb.STATUS, ["web", "db"]),
        (CAROL, Verb.START, []),
        (MALLORY, Verb.START, []),
    ],
)
def test_everybody_has_the_targets_that_they_may_use(user: str, verb: Verb, names: list[str]) -> None:
    assert [target.name for target in policy().targets(user, verb)] == names


@pytest.mark.parametrize(
    ("user", "verbs"),
    [(ALICE, tuple(Verb)), (BOB, tuple(Verb)), (CAROL, (Verb.STATUS, Verb.HELP)), (MALLORY, ())],
)
def test_everybody_has_the_verbs_that_they_may_use(user: str, verbs: tuple[Verb, ...]) -> None:
    assert policy().verbs(user) == verbs


def test_verbs_that_need_a_target_are_nobodys_where_there_is_none() -> None:
    assert AccessPolicy(settings()).verbs(ALICE) == (Verb.HELP, Verb.CHECK)


# Every combination

PEOPLE = [ALICE, BOB, CAROL]
SOME_PEOPLE = st.frozensets(st.sampled_from(PEOPLE))
ANY_TARGET = st.builds(
    lambda name, users: target(name, allowed_users=users), st.sampled_from(["web", "db"]), st.none() | SOME_PEOPLE
)
ANY_SETTINGS = st.builds(
    lambda targets, **changes: settings(*targets, **changes),
    st.lists(ANY_TARGET, max_size=2),
    require_encryption=st.booleans(),
    minimum_trust=st.sampled_from(MinimumTrust),
    viewers=SOME_PEOPLE,
    allowed_users=SOME_PEOPLE,
    allowed_rooms=st.frozensets(st.sampled_from([ROOM, OTHER_ROOM])),
)
ANY_REQUESTER = st.builds(
    requester,
    st.sampled_from(PEOPLE),
    room=st.sampled_from([ROOM, OTHER_ROOM]),
    room_encrypted=st.booleans(),
    encrypted=st.booleans(),
    trust=st.sampled_from(Trust),
)
OWN_DEVICE = {Trust.UNVERIFIED, Trust.CROSS_SIGNED_UNTRUSTED}
TRUSTED = {Trust.CROSS_SIGNED_TOFU, Trust.CROSS_SIGNED_TRUSTED, Trust.VERIFIED}


def permitted(who: Requester, verb: Verb, what: Target | None, held: Settings) -> bool:
    """The rules again, said the other way round: all that must be true."""
    viewing = who.user in held.viewers and verb in (Verb.STATUS, Verb.HELP)
    listed = what is None or what.allowed_users is None or who.user in what.allowed_users
    trusted = TRUSTED | (OWN_DEVICE if held.minimum_trust is MinimumTrust.UNVERIFIED else set())
    return all(
        (
            viewing or (who.user in held.allowed_users and listed),
            not held.allowed_rooms or who.room in held.allowed_rooms,
            who.encrypted or not (who.room_encrypted or held.require_encryption),
            not who.encrypted or who.trust in trusted,
        )
    )


@given(ANY_REQUESTER, st.sampled_from(Verb), st.none() | ANY_TARGET, ANY_SETTINGS)
def test_what_is_allowed_meets_every_rule_and_all_else_is_not(
    who: Requester, verb: Verb, what: Target | None, held: Settings
) -> None:
    decision = AccessPolicy(held).check(who, verb, what)
    assert isinstance(decision, Allowed) == permitted(who, verb, what, held)
    if who.user not in held.allowed_users | held.viewers:
        assert decision == Ignored("allowed_users")
    else:
        assert not isinstance(decision, Ignored), "somebody we know is told why"


def test_what_is_allowed_meets_every_rule_in_all_small_worlds() -> None:
    lists = [frozenset[str](), frozenset({ALICE})]
    worlds = itertools.product(
        lists, lists, [None, *lists], [True, False], MinimumTrust, [True, False], [True, False], Trust, Verb
    )
    seen = set()
    for users, viewers, own, required, minimum, room_encrypted, encrypted, trust, verb in worlds:
        what = target(allowed_users=own)
        held = settings(what, allowed_users=users, viewers=viewers, require_encryption=required, minimum_trust=minimum)
        who = requester(room_encrypted=room_encrypted, encrypted=encrypted, trust=trust)
        decision = AccessPolicy(held).check(who, verb, what)
        assert isinstance(decision, Allowed) == permitted(who, verb, what, held)
        seen.add(type(decision))
    assert seen == {Allowed, Refused, Ignored}


@given(ANY_SETTINGS, st.sampled_from(PEOPLE), st.sampled_from(Verb))
def test_the_lists_of_targets_and_verbs_say_what_the_check_says(held: Settings, user: str, verb: Verb) -> None:
    mine = AccessPolicy(held)
    room = next(iter(sorted(held.allowed_rooms)), ROOM)
    who = requester(user, room=room)
    targets = [found for found in held.targets.values() if mine.check(who, verb, found) == Allowed()]
    assert list(mine.targets(user, verb)) == targets
    needs_target = verb in TARGETED
    expected = bool(targets) if needs_target else mine.check(who, verb) == Allowed()
    assert (verb in mine.verbs(user)) == expected


# Groups


WEB_ONE, DB_OF_BOB = target("web"), target("db", DATABASE, allowed_users=frozenset({BOB}))
STACK, FRONT = Group("stack", ("db", "web")), Group("front", ("web",))
GROUPED_SETTINGS = settings(
    *(WEB_ONE, DB_OF_BOB),
    groups={"stack": STACK, "front": FRONT},
    allowed_users=frozenset({ALICE, BOB}),
    viewers=frozenset({CAROL}),
)


def test_a_group_is_for_those_who_may_use_all_of_its_targets() -> None:
    policy = AccessPolicy(GROUPED_SETTINGS)
    assert policy.groups(BOB, Verb.START) == (STACK, FRONT)
    assert policy.groups(ALICE, Verb.START) == (FRONT,)
    assert policy.check(requester(BOB), Verb.STOP, STACK) == Allowed()
    decision = policy.check(requester(ALICE), Verb.STOP, STACK)
    assert isinstance(decision, Refused)
    assert decision.sentence.startswith("You may not stop stack, because not all of its targets are yours;")
    assert "db" not in decision.sentence, "it is somebody else's"


def test_a_viewer_may_see_groups_and_nothing_else_of_them() -> None:
    policy = AccessPolicy(GROUPED_SETTINGS)
    assert policy.groups(CAROL, Verb.STATUS) == (STACK, FRONT)
    assert policy.check(requester(CAROL), Verb.STATUS, STACK) == Allowed()
    for verb in (Verb.START, Verb.STOP, Verb.HISTORY):
        assert policy.groups(CAROL, verb) == ()
        assert isinstance(policy.check(requester(CAROL), verb, STACK), Refused)


def test_a_stranger_has_no_groups_and_no_names() -> None:
    policy = AccessPolicy(GROUPED_SETTINGS)
    assert [policy.names(MALLORY, verb) for verb in Verb] == [()] * len(Verb)
    assert policy.check(requester(MALLORY), Verb.STATUS, FRONT) == Ignored("allowed_users")


def test_only_what_a_person_may_use_is_completed_for_them() -> None:
    held = GROUPED_SETTINGS

    def parsed(line: str) -> Command | Misunderstood:
        return parse(line, held.targets, held.groups)

    assert said(parsed("start sta"), BOB, held) == Command(Verb.START, "stack")
    assert isinstance(said(parsed("start sta"), ALICE, held), Misunderstood)
    assert isinstance(said(parsed("start d"), ALICE, held), Misunderstood)
    assert said(parsed("start db"), ALICE, held) == Command(Verb.START, "db"), "so it can be refused"
