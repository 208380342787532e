"""What ``smcinfer generate`` is asked for, as the language model's target."""

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any, Literal

from smcinfer import language
from smcinfer.cli.loading import load_object
from smcinfer.ground.errors import ArgumentError
from smcinfer.language import Generation, Pretrained
from smcinfer.language.constraints import Constraint, constrained, json_schema, lark, regex
from smcinfer.language.potentials import Factor, avoids, contains, on_text


@dataclass(frozen=True)
class Wish:
    """What a text must be.

    Attributes:
        prompt: what the text begins with.
        infill: what must follow the generated text.
        contain: a word that must occur; may be repeated.
        avoid: a word that must not occur; may be repeated.
        whole_words: no occurrence inside a longer word counts.
        ignore_case: capital or small letters alike.
        classifier: sentiment, by the classifier inside.
        strength: power of the classifier's probability.
        potential: FILE.py:FUNCTION, a function of the text: log of how much it is wanted, nats.
        regex: a regular expression that the whole generated text must match.
        schema: a file with a JSON schema that allows the text.
        grammar: a file with a grammar of the text, in Lark's syntax.
        stop: one token that ends the text, "." say; without it the model's own end.
    """

    prompt: str
    infill: str | None = None
    contain: tuple[str, ...] = ()
    avoid: tuple[str, ...] = ()
    whole_words: bool = False
    ignore_case: bool = False
    classifier: Literal["positive", "negative"] | None = None
    strength: float = 1.0
    potential: str | None = None
    regex: str | None = None
    schema: Path | None = None
    grammar: Path | None = None
    stop: str | None = None

    def __post_init__(self) -> None:
        if not self.prompt:
            raise ArgumentError("the prompt is empty", expected="--prompt TEXT", got="nothing")
        words = bool(self.contain or self.avoid)
        for name, value, acts, beside in (
            ("--whole-words", self.whole_words, words, "--contain or --avoid"),
            ("--ignore-case", self.ignore_case, words, "--contain or --avoid"),
            ("--strength", self.strength != 1.0, self.classifier is not None, "--classifier"),
        ):
            if value and not acts:
                raise ArgumentError(f"{name} does nothing here", expected=f"it beside {beside}", hint="leave it out")

    def target(self, model: Pretrained, **options: Any) -> tuple[Generation, float | None]:
        """What is asked, as a generation, and the largest log weight of a text where it is known.

        Args:
            model: a language model with a tokenizer.
            **options: of `language.generation`.
        """
        factors = self.factors(model)
        potential = functools.reduce(operator.mul, factors) if factors else None
        stop = self.stop_token(model)
        if stop is not None:
            options["eos_id"] = stop
        constraint = self.constraint(model, stop)
        target: Any
        if constraint is None:
            target = language.generation(model, self.prompt, potential, continuation=self.infill, **options)
        elif self.infill is not None:
            raise ArgumentError("a constraint is on the whole text", expected="--infill left out", got=self.infill)
        else:
            target = constrained(model, self.prompt, constraint, potential, **options)
        if options.get("power", 1.0) < 1.0:
            return target, None
        return target, 0.0 if potential is None else potential.log_bound

    def factors(self, model: Pretrained) -> list[Factor]:
        """The potentials asked for."""
        options = {"ignore_case": self.ignore_case, "whole_words": self.whole_words}
        factors: list[Factor] = [contains(word, model, **options) for word in self.contain]
        if self.avoid:
            factors.append(avoids(list(self.avoid), model, **options))
        if self.classifier is not None:
            from smcinfer.models import sentiment

            factors.append(sentiment.load().potential(model, self.classifier) ** self.strength)
        if self.potential is not None:
            factors.append(on_text(load_object(self.potential, (FunctionType,)), model))
        return factors

    def stop_token(self, model: Pretrained) -> int | None:
        """The token that ``stop`` names."""
        if self.stop is None:
            return None
        tokens = model.tokenizer.encode_plain(self.stop)  # pyright: ignore[reportOptionalMemberAccess]
        if not tokens or model.tokenizer.decode(tokens[-1:]).strip() != self.stop.strip():  # pyright: ignore
            raise ArgumentError(
                "--stop is no single token of the model", expected="a token, '.' say", got=repr(self.stop)
            )
        return tokens[-1]

    def constraint(self, model: Pretrained, stop: int | None) -> Constraint | None:
        """What the whole text must keep to: all of pattern, schema and grammar that are given."""
        parts: list[Constraint] = [] if self.regex is None else [regex(self.regex, model, stop)]
        files: tuple[tuple[Path | None, Callable[..., Constraint]], ...] = (
            (self.schema, json_schema),
            (self.grammar, lark),
        )
        for path, build in files:
            if path is None:
                continue
            if not path.is_file():
                raise ArgumentError("no such file", expected="a file with the schema or grammar", got=path)
            parts.append(build(path.read_text(encoding="utf8"), model, stop))
        return functools.reduce(operator.and_, parts) if parts else None
