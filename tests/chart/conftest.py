"""Every test that asks for `objects` runs over every values file."""

from __future__ import annotations

import pytest

from .chart import VALUES, Object, render


@pytest.fixture(params=VALUES)
def values(request: pytest.FixtureRequest) -> str:
    """The name of a values file."""
    return str(request.param)


@pytest.fixture
def objects(values: str) -> list[Object]:
    """What that file renders to."""
    return render(values)
