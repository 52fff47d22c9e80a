"""Turns Kubernetes workloads on and off from a Matrix room; a plugin for maubot."""

from .shutdown import take_sigterm

# Before the rest, which takes up to a second to import: half of maubot's start.
take_sigterm()

from .bot import ToggleBot  # noqa: E402

__all__ = ["ToggleBot"]
