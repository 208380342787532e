"""Small networks, and weights kept as safetensors."""

from smcinfer.nn.storage import read_metadata, restore, save

__all__ = ["read_metadata", "restore", "save"]
