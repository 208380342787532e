"""Language models as processes: generation weighed by what is asked of it, with keys and values cached."""

from smcinfer.language import decisions, exact, filters, potentials
from smcinfer.language.callables import CallableLM, from_callable
from smcinfer.language.companion import CompanionLM, second_model, with_companion
from smcinfer.language.enumerable import TableLM, table_lm
from smcinfer.language.filtered import filtered
from smcinfer.language.generation import Generation, Terminal, generation, terminal
from smcinfer.language.gpt2 import GPT2, GPT2Config
from smcinfer.language.host import HostGeneration, HostLM
from smcinfer.language.llama import Llama, LlamaConfig, random_llama
from smcinfer.language.lm import CausalLM, Output
from smcinfer.language.loading import Pretrained, load
from smcinfer.language.process import LanguageProcess, TokenState
from smcinfer.language.spelling import Spelling, spelling
from smcinfer.language.symbols import TokenLaw, draw_symbols
from smcinfer.language.texts import WeightedText
from smcinfer.language.tokenizer import Tokenizer
from smcinfer.language.torch_model import from_transformers

__all__ = [
    "CallableLM",
    "CausalLM",
    "CompanionLM",
    "GPT2",
    "GPT2Config",
    "Generation",
    "HostGeneration",
    "HostLM",
    "LanguageProcess",
    "Llama",
    "LlamaConfig",
    "Output",
    "Pretrained",
    "Spelling",
    "TableLM",
    "Terminal",
    "TokenLaw",
    "TokenState",
    "Tokenizer",
    "WeightedText",
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
    "with_companion",
]
