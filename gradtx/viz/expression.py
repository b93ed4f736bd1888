"""Reads expressions such as `cosine_decay_schedule(0.1, 1000)` from text, without Python's `eval`.

An expression consists of calls of gradtx's public names and of `dict`, arithmetic on numbers, strings, True, False,
None, lists, tuples and dicts. Everything else raises an error, so that a text from an unknown source can do no harm.
"""

from __future__ import annotations

import ast
import difflib
import operator
from collections.abc import Mapping
from typing import Any

__all__ = ["parse"]

_OPERATORS: dict[type[ast.AST], Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def parse(text: str, names: Mapping[str, Any]) -> Any:
    """Evaluates an expression.

    Args:
      text: The expression.
      names: Maps each name that the expression may call to its object.

    >>> import gradtx as gx
    >>> from gradtx.viz.expression import parse
    >>> parse("cosine_decay_schedule(0.1, 10 * 100)", vars(gx))
    cosine_decay_schedule(init_value=0.1, decay_steps=1000, alpha=0.0, exponent=1.0)

    Raises:
      ValueError: the text is not an expression of this kind, or uses a name that is not in `names`.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError) as error:
        why = getattr(error, "msg", error)
        raise ValueError(
            f"{text!r} is not an expression: {why}. Write a call such as cosine_decay_schedule(0.1, 1000)."
        ) from None
    return _value(tree.body, names)


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None as value):
            return value
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_number(operand, names))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_number(left, names), _number(right, names))
        case ast.List(elts=items):
            return [_value(item, names) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_value(item, names) for item in items)
        case ast.Dict(keys=keys, values=values) if all(keys):
            return {_value(key, names): _value(value, names) for key, value in zip(keys, values, strict=True) if key}
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if all(k.arg for k in keywords):
            given = {k.arg: _value(k.value, names) for k in keywords if k.arg}
            return _public(name, names)(*(_value(x, names) for x in args), **given)
        case ast.Name(id=name):
            raise ValueError(f"{name} is not called: write {name}(...).")
        case _:
            raise ValueError(
                f"{ast.unparse(node)!r} is not understood here: only calls of gradtx's names, numbers, strings, lists, "
                "tuples and dicts are."
            )


def _number(node: ast.expr, names: Mapping[str, Any]) -> Any:
    value = _value(node, names)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    raise ValueError(f"{ast.unparse(node)!r} is not a number: arithmetic only works on numbers.")


def _public(name: str, names: Mapping[str, Any]) -> Any:
    if name == "dict":
        return dict
    if callable(names.get(name)) and not name.startswith("_"):
        return names[name]
    near = difflib.get_close_matches(name, names, n=3)
    raise ValueError(f"gradtx has no {name}" + (f"; did you mean {' or '.join(near)}?" if near else "."))
