"""The same servers as the integration tests have."""

from __future__ import annotations

from tests.integration.conftest import servers

__all__ = ["servers"]
