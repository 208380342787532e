"""Docstrings say something: what every parameter is, and more of a thing than its name does."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT

FOLDERS = ("smcinfer", "models", "proposals")
MANY = 3
"""Parameters from which on a public function lists them."""
FEW = 3
"""Words that say no more than a name: "Always.", "The filtered logits."."""

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef


def undescribed(function: Function) -> list[str]:
    """Parameters of a function that have no entry in the ``Args:`` of its docstring, in the order of the signature."""
    given = function.args
    listed = [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg]
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)*)", ast.get_docstring(function) or "", re.MULTILINE)
    # An entry is "name: text" or "one, other: text"; its further lines are indented deeper.
    heads = re.findall(r"^ {4}(\S[^:\n]*):", section[1] if section else "", re.MULTILINE)
    described = {name.strip(" *`") for head in heads for name in head.split(",")}
    return [one.arg for one in listed if one is not None and one.arg not in described]


def definitions(body: list[ast.stmt], owner: str = "") -> Iterator[tuple[str, Definition]]:
    """Functions, classes and their methods with the dotted name of each, those inside functions left out."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield owner + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from definitions(node.body, f"{owner}{node.name}.")


def faults(source: str) -> list[str]:
    """One sentence for each parameter that is left out, and each docstring that says too little."""
    found = []
    for name, node in definitions(ast.parse(source).body):
        text = ast.get_docstring(node)
        if text is not None and len(text.split()) <= FEW:
            found.append(f'{name}: "{text}" says nothing; say what it does, or let a method inherit its docstring')
        is_public_function = not isinstance(node, ast.ClassDef) and "." not in name and not name.startswith("_")
        if is_public_function and len([one for one in ast.walk(node.args) if isinstance(one, ast.arg)]) >= MANY:
            found += [f"{name}: Args does not say what {parameter} is" for parameter in undescribed(node)]
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
    assert faults("def f(a, b):\n    '''One sentence of it.'''") == []
    assert faults("def _f(a, b, c):\n    '''One private sentence more.'''") == []
    assert faults("def f(a, *b, c):\n    '''One.\n\n    Args:\n        a, b: x.\n        c: y.\n    '''") == []
    assert faults("def f(a, b, **c):\n    '''One.\n\n    Args:\n        a: b\n            of c: d.\n    '''") == [
        "f: Args does not say what b is",
        "f: Args does not say what c is",
    ]
    assert len(faults("def f(a, b, c):\n    '''One.\n\n    Returns:\n        a: x.\n        b: y.\n    '''")) == 3
    silent = "class A:\n    '''The model.'''\n    def g(self):\n        '''The noise.'''\ndef f():\n    '''It.'''"
    assert [fault.split(":")[0] for fault in faults(silent)] == ["A", "A.g", "f"]
    method = "class A:\n    def g(self, a, b, c):\n        '''Every law of it.'''\n    def h(self):\n        pass"
    assert faults(method) == []
