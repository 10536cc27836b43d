"""What the texts below the fields of a class say of them, read from its source when somebody asks."""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache


def texts_below(kind: type) -> dict[str, str]:
    """Return the texts below the fields that a class itself has, by their names; none where its source is not there."""
    return _texts(kind.__module__).get(kind.__qualname__, {})


@cache
def _texts(module: str) -> dict[str, dict[str, str]]:
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (KeyError, OSError, TypeError):
        return {}
    return {node.name: _texts_of(node) for node in tree.body if isinstance(node, ast.ClassDef)}


def _texts_of(node: ast.ClassDef) -> dict[str, str]:
    found: dict[str, str] = {}
    for field, below in zip(node.body, node.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str() as text)):
                found[name] = inspect.cleandoc(text)
    return found
