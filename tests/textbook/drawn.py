"""What every script must give besides its numbers: a picture, formulas that are read, and a conclusion."""

import io

from latex2mathml.converter import convert

import gradtx as gx


def check(script, result, *said):
    """Draws the picture (warnings are errors), and looks for words in the conclusion."""
    with gx.viz.style():
        figure = script.draw(result)
        figure.savefig(io.BytesIO())
    assert 1 <= len([axes for axes in figure.axes if axes.get_title() or axes.get_xlabel()]) <= 4
    assert all((axes.get_xlabel() and axes.get_ylabel()) or not axes.lines for axes in figure.axes)
    for formula in script.FORMULAS:
        assert "<mtext>\\" not in convert(formula.latex), formula.latex  # a command that it does not know
        assert formula.meaning.endswith(".")
        assert formula.source
    conclusion = script.conclusion(result)
    assert conclusion.endswith(".")
    for words in said:
        assert words in conclusion, conclusion
