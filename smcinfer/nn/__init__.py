"""What learned parts share: one training loop, and weights kept as safetensors."""

from smcinfer.nn.fit import Fitted, fit
from smcinfer.nn.storage import read_metadata, restore, save

__all__ = ["Fitted", "fit", "read_metadata", "restore", "save"]
