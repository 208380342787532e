"""Filters that take observations as they come."""

from smcinfer.state_space.online.filter import Online, PausedFilter, online

__all__ = ["Online", "PausedFilter", "online"]
