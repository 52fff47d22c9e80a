"""What all tests share: which warnings of other people's code are known."""

from __future__ import annotations

import pytest

KNOWN_WARNINGS = (
    # mautrix 0.21.1 warns about itself when it reads and writes encrypted events, and on Python 3.12 of its clock
    "ignore:The (sender_key|device_id) field in Megolm events was deprecated:DeprecationWarning:mautrix",
    r"ignore:datetime\.datetime\.utcnow:DeprecationWarning:mautrix",
    # and of its way to write parameters and times for SQLite
    r"ignore:Binding \d+ \('\?\d+'\) is a named parameter:DeprecationWarning",
    "ignore:The default (datetime adapter|timestamp converter) is deprecated:DeprecationWarning",
)


def pytest_configure(config: pytest.Config) -> None:
    for warning in KNOWN_WARNINGS:
        config.addinivalue_line("filterwarnings", warning)
