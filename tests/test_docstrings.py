"""Docstrings of public functions and classes say what every argument means, in step with `docs/glossary.toml`."""

import inspect
import re

import pytest

import gradtx as gx
from docs import glossary, optimizers


def test_shared_arguments_are_in_step_with_the_glossary_and_limits_and_defaults_with_the_code():
    assert list(glossary.problems()) == [], "run `python -m docs.glossary --write`"


def test_callables_with_undocumented_arguments_are_listed():
    """The list may only shrink: documented functions must be removed, and no function may be added."""
    assert glossary.undocumented() == glossary.UNDOCUMENTED.read_text().split(), "run `python -m docs.glossary --list`"


def test_the_bytes_of_a_state_are_those_that_its_docstring_says():
    simple = re.compile(
        r"State: \w+ arrays? per parameter \((\d+) bytes(?: per entry)? in float32\)(?=\.|, and one number)"
    )
    said = {
        name: simple.search(" ".join((inspect.getdoc(getattr(gx, name)) or "").split()))
        for name in optimizers.methods()
    }
    said = {name: int(match[1]) for name, match in said.items() if match}
    assert len(said) > 40
    assert said == {name: round(4 * float(optimizers.memory(optimizers.default(name)))) for name in said}


def f(learning_rate, b2=0.5):
    """Does nothing.

    Args:
      learning_rate: Step size, a number or a schedule of the step count. Times two
        in some cases.
      *rest: The rest.
    """


def test_entries_have_their_text_on_one_line():
    texts = glossary.documented(f.__doc__ or "")
    assert texts["learning_rate"].endswith("step count. Times two in some cases.")
    assert texts["rest"] == "The rest."


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        (
            None,
            "Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1",
        ),
        ("Decay rate of the second moment (the old text).", "Decay rate of the second moment (the moving"),
        ("Decay rate of something. Of its own.", "Decay rate of something. Of its own. Default 0.5."),
        ("My own meaning.", "My own meaning. Default 0.5."),
        ("My own meaning. Default 0.4.", "My own meaning. Default 0.5."),
        ("My own meaning (0.5 by default).", "My own meaning (0.5 by default)."),
    ],
)
def test_lines_are_completed_and_updated(present, expected):
    fn = glossary.Callable("f", f)
    (p,) = fn.missing
    assert str(glossary.expected(fn, p, present)).startswith(expected)
