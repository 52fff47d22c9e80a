"""What all unit tests share."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A noisy machine is no finding, so nothing is judged by how long it took.
settings.register_profile("toggle", deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
settings.load_profile("toggle")
