"""The embedded default language model: short stories for children, a Llama of under a million weights.

The folder is a Hugging Face directory; `load` reads it as any other. Its card, ``README.md``, has the data, the licences, the
training, and what a byte of unseen text costs it.
"""

from pathlib import Path

from smcinfer.language import Pretrained
from smcinfer.language import load as load_directory

FOLDER = Path(__file__).parent

__all__ = ["FOLDER", "load"]


def load(dtype: str = "float32") -> Pretrained:
    """The model with its tokenizer.

    Args:
        dtype: as in `smcinfer.language.load`.
    """
    return load_directory(FOLDER, dtype)
