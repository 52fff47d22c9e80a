"""Restarts as decisions: what stands in their way, the stamp, and when it is still to be written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toggle_plugin.models import WorkloadRef
from toggle_plugin.restart import hindrance, is_due, stamp

from .builders import DATABASE, workload


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"ref": DATABASE, "partition": 1}, ""),
        ({"desired": 0}, "there is nothing to restart while it is off; a start makes new pods"),
        ({"deleting": True}, "it is being deleted"),
        (
            {"paused": True},
            "it is paused, which would hold the restart back; resume it first (kubectl rollout resume)",
        ),
        (
            {"ref": DATABASE, "update_strategy": "OnDelete"},
            "its update strategy is OnDelete, so its pods stay until somebody deletes them",
        ),
        (
            {"ref": WorkloadRef("ReplicaSet", "games", "web")},
            "only a Deployment or a StatefulSet can be restarted, not ReplicaSet games/web",
        ),
        (
            {"ref": WorkloadRef("Deployment", "games", "web", "example.org/v1")},
            "only a Deployment or a StatefulSet can be restarted, not example.org/v1/Deployment games/web",
        ),
    ],
)
def test_what_stands_in_the_way_of_a_restart_is_said(changes: dict[str, Any], reason: str) -> None:
    assert hindrance(workload(**changes)) == reason


def test_the_stamp_is_a_time_in_utc() -> None:
    assert stamp(1795874236.1239) == "2026-11-28T13:57:16.123Z"
    assert stamp(1795874236) == "2026-11-28T13:57:16.000Z"
    assert json.dumps(stamp(0)) == '"1970-01-01T00:00:00.000Z"'


NOW, BEFORE, AFTER = stamp(1000.5), stamp(1000.499), stamp(1000.501)


@pytest.mark.parametrize(
    ("there", "repeated", "due"),
    [
        ("", False, True),
        ("", True, True),
        (NOW, False, False),
        (NOW, True, False),
        (BEFORE, True, True),
        (AFTER, True, False),
        # The clocks of two who ask differ: a new command is a new restart.
        (AFTER, False, True),
        # As kubectl writes it, in a time zone of its own.
        ("1970-01-01T01:16:41+01:00", True, False),
        ("1970-01-01T01:16:40+01:00", True, True),
        ("yesterday", True, True),
    ],
)
def test_a_stamp_is_written_once(there: str, repeated: bool, due: bool) -> None:
    assert is_due(workload(restarted_at=there), NOW, repeated=repeated) is due


MOMENTS = st.floats(0, 4e9, allow_nan=False)


@given(MOMENTS, MOMENTS)
def test_a_repeat_never_goes_back_in_time(there: float, wanted: float) -> None:
    held = workload(restarted_at=stamp(there))
    if is_due(held, stamp(wanted), repeated=True):
        assert stamp(there) < stamp(wanted)
    assert not is_due(workload(restarted_at=stamp(wanted)), stamp(wanted), repeated=False)
