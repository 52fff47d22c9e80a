"""The same servers as the integration tests have; a long test has no time limit of its own."""

from __future__ import annotations

import pytest

from tests.integration.conftest import servers

__all__ = ["servers"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/soak" in item.nodeid:
            item.add_marker(pytest.mark.timeout(0))
