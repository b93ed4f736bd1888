"""What holds for every script of the textbook, and the page of all pictures."""

import ast
import html
import pathlib
import re

import pytest

import gradtx as gx
from examples.textbook import CHAPTER, __main__, page, readme, scripts
from tests.textbook import as_it_is_run, computed, script

ROOT = pathlib.Path(page.__file__).parent


def source(name):
    return (ROOT / f"{name}.py").read_text()


class Computed:
    """A script whose result is known already, and which keeps the figure that it has drawn."""

    def __init__(self, name):
        self.result = computed(name)
        self.script = script(name)

    def __getattr__(self, name):
        return getattr(self.script, name)

    def compute(self):
        return self.result

    def draw(self, result):
        self.figure = self.script.draw(result)
        return self.figure


def test_every_script_has_its_place_in_the_chapter():
    assert list(CHAPTER) == scripts()


@pytest.mark.parametrize("name", scripts())
def test_scripts_are_short_and_use_public_names(name):
    text = source(name)
    assert len(text.splitlines()) <= 150
    assert not re.search(r"from gradtx\.(?!compat)|import gradtx\.|pyplot", text)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "gx":
            assert node.attr in gx.__all__, node.attr


@pytest.mark.parametrize("name", scripts())
def test_formulas_have_meanings_and_sources(name):
    assert script(name).FORMULAS
    for formula in script(name).FORMULAS:
        assert formula.meaning
        assert formula.source
        assert formula.url.startswith("https://") or not formula.url
        assert "\\" not in formula.mathml, "LaTeX that is not understood"


@pytest.mark.heavy
@pytest.mark.parametrize("name", scripts())
def test_pictures_and_their_part_of_the_page(name, tmp_path):
    """Drawing raises no warning: pytest makes errors of them."""
    known = Computed(name)
    known.__name__, known.__doc__ = known.script.__name__, known.script.__doc__
    with as_it_is_run():
        entry = page.run(known, tmp_path)
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert all(axes.get_title() for axes in known.figure.axes if axes.get_label() != "<colorbar>")
    assert entry.size[0] <= 900, "text of 10 points is readable at the width of a page"
    assert "\n" not in entry.conclusion
    assert len(entry.conclusion) <= 250
    text = page.write([entry], tmp_path).read_text()
    assert f'src="{entry.name}.png"' in text
    assert f'alt="{html.escape(entry.alt)}"'.replace("&quot;", "&#34;").replace("&#x27;", "&#39;") in text
    assert f"python -m examples.textbook.{entry.name}<" in text
    assert html.escape(entry.conclusion, quote=False) in text.replace("&#39;", "'").replace("&#34;", '"')
    assert text.count("<dt><math ") == len(entry.formulas) > 0
    assert "<script" not in text
    assert not re.search(r'(src|href)="(?!https://|#|\w+\.png")', text), "it opens without a server"


def test_the_readme_lists_every_script():
    assert (ROOT / "README.md").read_text() == readme.text(), "run python -m examples.textbook.readme"


def test_a_title_and_its_paragraphs():
    title, text = page.explanation("A title.\n\nTake `gx.sgd`, if x < 1.\n\nOr not.\n")
    assert title == "A title"
    assert text == ["Take <code>gx.sgd</code>, if x &lt; 1.", "Or not."]


def test_formulas_for_browsers():
    mathml = page.Formula(r"x \cos y + f''(x), \quad \left(a \quad b\right)", "", "").mathml
    assert mathml.count("<math ") == 1, "no part may have half of a pair of brackets"
    assert page.Formula(r"a, \quad b \qquad c", "", "").mathml.count("<math ") == 3
    space = '<mspace width="0.17em"/>'
    assert f"<mi>x</mi>{space}<mi>cos</mi>{space}<mi>y</mi>" in mathml
    assert "<mo>&#x02033;</mo>" in mathml
    assert "<msup><mi>tanh</mi><mn>2</mn></msup>" in page.Formula(r"1 - \tanh^2 x", "", "").mathml
    assert page.Formula(r"a \leftarrow b, \quad c", "", "").mathml.count("<math ") == 2


def test_a_script_that_fails_does_not_hide_the_others(monkeypatch, tmp_path, capsys):
    def run(module, out):
        if module.__name__.endswith("risk"):
            raise ArithmeticError("no luck")
        name = module.__name__.rsplit(".", 1)[-1]
        return page.Entry(name, "Title", [], [], "It works.", "", (800, 600))

    monkeypatch.setattr(page, "run", run)
    assert __main__.main(["risk", "minima", "--jobs", "1", "--out", str(tmp_path)]) == 1
    text = (tmp_path / "index.html").read_text()
    assert "It works." in text
    assert 'id="minima"' in text
    assert 'id="risk"' not in text
    error = capsys.readouterr().err
    assert "examples.textbook.risk failed" in error
    assert "ArithmeticError: no luck" in error
    assert __main__.main(["minima", "--out", str(tmp_path)]) == 0


def test_unknown_scripts_are_refused(capsys):
    with pytest.raises(SystemExit):
        __main__.main(["nothing"])
    assert "there is no script nothing" in capsys.readouterr().err


@pytest.mark.heavy
def test_one_script_alone(monkeypatch, tmp_path, capsys):
    known = computed("risk")
    monkeypatch.setattr(script("risk"), "compute", lambda: known)
    monkeypatch.setattr(page, "OUT", tmp_path)
    with as_it_is_run():
        page.main(script("risk").__file__)
    conclusion, path = capsys.readouterr().out.splitlines()
    assert conclusion == script("risk").conclusion(known)
    assert pathlib.Path(path).exists()
