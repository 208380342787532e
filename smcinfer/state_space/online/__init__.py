"""Filters and samplers of parameters that take observations as they come."""

from smcinfer.state_space.online.cloud import Cloud
from smcinfer.state_space.online.door import Online, OnlineParameters, PausedFilter, online
from smcinfer.state_space.online.families import NestedFilters

__all__ = ["Cloud", "NestedFilters", "Online", "OnlineParameters", "PausedFilter", "online"]
