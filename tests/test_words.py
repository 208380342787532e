"""Docstrings say something: what every parameter is, and more of a method than its name does."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

FOLDERS = ("smcinfer", "models", "proposals")
MANY = 3
"""Parameters from which on a public function lists them."""
FEW = 3
"""Words that say no more than a name: "Always.", "The filtered logits."."""


def undescribed(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Parameters of a function that have no entry in the ``Args:`` of its docstring, in the order of the signature."""
    given = function.args
    listed = [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg]
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)*)", ast.get_docstring(function) or "", re.MULTILINE)
    # An entry is "name: text" or "one, other: text"; its further lines are indented deeper.
    heads = re.findall(r"^ {4}(\S[^:\n]*):", section[1] if section else "", re.MULTILINE)
    described = {name.strip(" *`") for head in heads for name in head.split(",")}
    return [one.arg for one in listed if one is not None and one.arg not in described]


def functions(body: list[ast.stmt], owner: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Functions of a module and methods of its classes with the name of their class, those inside functions left out."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from functions(node.body, node.name)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield owner, node


def faults(source: str) -> list[str]:
    """One sentence for each function that leaves a parameter out, and each method that says too little."""
    found = []
    for owner, function in functions(ast.parse(source).body):
        parameters = len([node for node in ast.walk(function.args) if isinstance(node, ast.arg)])
        if not owner and not function.name.startswith("_") and parameters >= MANY:
            found += [f"{function.name}: Args does not say what {name} is" for name in undescribed(function)]
        text = ast.get_docstring(function)
        if owner and text is not None and len(text.split()) <= FEW:
            found.append(f'{owner}.{function.name}: "{text}" says nothing; say what it does, or inherit the docstring')
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_docstrings_say_something(folder):
    found = [
        f"{path.relative_to(ROOT)}: {fault}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for fault in faults(path.read_text(encoding="utf8"))
    ]
    assert not found, "\n".join(found)


def test_what_is_left_out_is_found():
    assert faults("def f(a, b):\n    '''Short.'''") == []
    assert faults("def _f(a, b, c):\n    '''Private.'''") == []
    assert faults("def f(a, *b, c):\n    '''One.\n\n    Args:\n        a, b: x.\n        c: y.\n    '''") == []
    assert faults("def f(a, b, **c):\n    '''One.\n\n    Args:\n        a: b\n            of c: d.\n    '''") == [
        "f: Args does not say what b is",
        "f: Args does not say what c is",
    ]
    assert len(faults("def f(a, b, c):\n    '''One.\n\n    Returns:\n        a: x.\n        b: y.\n    '''")) == 3
    assert len(faults("class A:\n    def g(self):\n        '''The noise.'''")) == 1
    assert faults("class A:\n    def g(self, a, b, c):\n        '''Every law of it.'''\n    def h(self):\n        pass") == []
