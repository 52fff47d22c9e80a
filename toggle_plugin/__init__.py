"""Turns Kubernetes workloads on and off from a Matrix room; a plugin for maubot."""

from .bot import ToggleBot

__all__ = ["ToggleBot"]
