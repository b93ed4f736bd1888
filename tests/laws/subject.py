"""Turns the cases of the registry into subjects of the laws, with the registry's exceptions and the library's rules."""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Iterable
from typing import Any

import gradtx as gx
from gradtx import testing
from gradtx.testing.subject import Law as Law
from gradtx.testing.subject import NotApplicableError as NotApplicableError
from gradtx.testing.subject import Verdict, explained
from gradtx.testing.subject import judge as judge_all
from gradtx.testing.subject import law as listed
from tests.cases import FUNCTIONS, Case
from tests.libraries import APART, GRADTX, Library, its_rules

report = explained
OWN: list[Law] = []
"""The laws that need the registry, or optax, or judge schedules."""

law = functools.partial(listed, into=OWN)
AGAIN = "it is asked in another case of the constructor"

UNREAD = {
    **dict.fromkeys(("identity", "stateless", "set_to_zero", "freeze", "chain"), "its first case reads no tree"),
    **dict.fromkeys(("stateless_with_tree_map",), "the function is the user's"),
    **dict.fromkeys(("snapshot", "monitor"), "the trees are for the user's function"),
}
"""Rules whose trees are not asked for, with the reason."""

OPEN = {
    ("dynamic_loss_scale", "integers"): "unscaled they are floating",
}
"""Calls that are accepted, with the reason."""


BRANCHES = {
    "accumulate": "most micro-batches take no step",
    "conditionally_transform": "it leaves the inner transformation out",
    "conditionally_mask": "it leaves the inner transformation out",
    "reset_state": "a new state is made at the end of a period only",
    "sam": "an adversarial step and a true one are different work",
    "galore": "the projection is renewed every so many steps",
    "soap": "the bases are renewed every so many steps",
    "shampoo": "the roots are renewed every so many steps",
    "kron": "the factors are renewed at some steps only",
    "fira": "the projection is renewed every so many steps",
    "splus": "the eigenvectors are renewed every so many steps",
    "with_hessian_diag": "the curvature is estimated every so many steps",
    "sophia": "the curvature is estimated every so many steps",
    "newton": "an eigendecomposition is taken only where a Cholesky factor does not exist",
    "'qr'": "the factorization chooses by the platform that it is compiled for",
}
"""What skips work, by what is written in the expression of a case, and which: these may branch."""


def _branches(expression: str) -> dict[str, str]:
    reasons = [why for name, why in BRANCHES.items() if name in expression]
    return {"branch": reasons[0]} if reasons else {}


@functools.cache
def good_calls(library):
    """Returns for every constructor the bound arguments of its first case, a valid call."""
    found = {}
    for case in library.cases():
        call = ast.parse(case.expression, mode="eval").body
        name = getattr(call.func, "id", "")  # a call of what a call returned has none
        if name and name not in found:
            args = [_value(library, x) for x in call.args]
            kwargs = {x.arg: _value(library, x.value) for x in call.keywords}
            bound = inspect.signature(library.names[name]).bind(*args, **kwargs)
            found[name] = case.expression, bound
    return found


def _value(library, node):
    return eval(compile(ast.Expression(node), "<case>", "eval"), dict(library.names))


class Subject(testing.subject.Subject):
    """A case of a library, as a subject of the laws."""

    case: Case
    library: Library

    def __init__(self, case: Case, library: Library = GRADTX) -> None:
        super().__init__(
            make=lambda: library.make(case.expression),
            expression=case.expression,
            name=case.constructor,
            unless={**case.unless, **_branches(case.expression)},
            names=FUNCTIONS,
            is_value=library.values,
            own_trees=APART.get(case.constructor, ""),
            accepted=[what for name, what in OPEN if name == case.constructor],
        )
        vars(self).update(case=case, library=library)

    @functools.cached_property
    def stated(self) -> Any:
        """gradtx's method of the same name, whose folder states the scope; None if gradtx has no such method."""
        try:
            tx = GRADTX.make(self.expression)
        except (NameError, TypeError, ValueError):
            return None
        return gx.identity() if isinstance(tx, gx.stateless) else tx  # its function treats every entry separately

    @property
    def comes_first(self) -> bool:
        """Whether this is the first case of its constructor; law 11 runs only on the first case."""
        return good_calls(self.library).get(self.name, ("",))[0] == self.expression

    @property
    def reads_no_trees(self) -> str:
        return UNREAD.get(self.name, "") if self.comes_first else AGAIN


def judge(subject: Subject, laws: Iterable[Law]) -> list[Verdict]:
    """Returns the verdicts of the laws that apply to this kind of subject, under the rules of its library."""
    with its_rules(subject.library):
        return judge_all(subject, laws)
