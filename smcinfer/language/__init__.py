"""Language models as processes: generation weighed by what is asked of it, with keys and values cached."""

from smcinfer.language import exact, potentials
from smcinfer.language.decoding import decisions
from smcinfer.language.decoding.beams import beams
from smcinfer.language.decoding.codes import coded
from smcinfer.language.generation import Generation, generation
from smcinfer.language.networks.callables import CallableLM, from_callable
from smcinfer.language.networks.enumerable import TableLM, table_lm
from smcinfer.language.networks.gpt2 import GPT2, GPT2Config
from smcinfer.language.networks.hosts import HostLM
from smcinfer.language.networks.llama import Llama, LlamaConfig, random_llama
from smcinfer.language.networks.lm import CausalLM, Output
from smcinfer.language.networks.loading import Pretrained, load
from smcinfer.language.networks.symbols import TokenLaw, draw_symbols
from smcinfer.language.networks.tokenizer import Tokenizer
from smcinfer.language.networks.torch_model import from_transformers
from smcinfer.language.potentials.factor import terminal
from smcinfer.language.process import LanguageProcess, TokenState
from smcinfer.language.proposals import filters
from smcinfer.language.proposals.companion import Companion, companion, second_model
from smcinfer.language.proposals.filtered import filtered
from smcinfer.language.reader import Reader
from smcinfer.language.spelling import Spelling, spelling
from smcinfer.language.texts import WeightedText

__all__ = [
    "CallableLM",
    "CausalLM",
    "Companion",
    "GPT2",
    "GPT2Config",
    "Generation",
    "HostLM",
    "LanguageProcess",
    "Llama",
    "LlamaConfig",
    "Output",
    "Pretrained",
    "Reader",
    "Spelling",
    "TableLM",
    "TokenLaw",
    "TokenState",
    "Tokenizer",
    "WeightedText",
    "beams",
    "coded",
    "companion",
    "decisions",
    "draw_symbols",
    "exact",
    "filtered",
    "filters",
    "from_callable",
    "from_transformers",
    "generation",
    "load",
    "potentials",
    "random_llama",
    "second_model",
    "spelling",
    "table_lm",
    "terminal",
]
