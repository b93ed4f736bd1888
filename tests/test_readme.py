"""The documentation: its Python runs, and its table is that of the code."""

import pathlib
import re
import sys
import types

import jax
import pytest

import gradtx as gx
from docs import optimizers as docs

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def run(page):
    """All snippets of a page, from top to bottom, as one program; the names that they leave."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL))
    module = types.ModuleType(f"page_{page.stem}")
    sys.modules[module.__name__] = module  # so that what a page defines can be pickled
    as_tests_do = page.name == "contract.md"  # which uses the laws themselves
    with jax.enable_x64(as_tests_do), jax.numpy_rank_promotion("allow"):
        exec(compile(code, str(page), "exec"), vars(module))
    return vars(module)


@pytest.mark.parametrize(
    "page", [PAGES[0], *(pytest.param(p, marks=pytest.mark.heavy) for p in PAGES[1:])], ids=lambda p: p.name
)
def test_the_snippets_run(page, capsys):
    names = run(page)
    assert capsys.readouterr().out.strip()
    if page.name == "README.md":
        assert names["losses"].shape == (3,)


def test_what_is_extended_is_short_and_uses_public_names():
    text = (ROOT / "docs" / "extending.md").read_text()
    for code in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        assert len(code.splitlines()) <= 40, code
        assert not re.search(r"gradtx\.core|\._(?!replace)|import _", code), code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_readme_names_every_link_and_schedule():
    text = PAGES[0].read_text()
    for name in gx.__all__:
        if getattr(getattr(gx, name), "__module__", "").startswith(("gradtx.transforms.", "gradtx.schedules.")):
            assert name.endswith("State") or f"`{name}`" in text, name


def test_every_optimizer_has_a_row():
    missing, spare = set(docs.methods()) - set(docs.typed()), set(docs.typed()) - set(docs.methods())
    assert not missing, f"give {missing} an entry in docs/optimizers.toml"
    assert not spare, f"docs/optimizers.toml has entries for {spare}, which are no optimizers"
    assert set(docs.optimizers()) <= set(docs.methods())


def test_the_table_is_what_the_generator_gives():
    assert docs.PAGE.read_text() == docs.page(), "run python -m docs.optimizers"


@pytest.mark.parametrize("name", list(docs.methods()))
def test_the_paper_is_the_one_of_the_file(name):
    text = " ".join(sys.modules[getattr(gx, name).__module__].__doc__.split())
    assert docs.typed()[name]["paper"] in text


@pytest.mark.parametrize("name", list(docs.methods()))
def test_what_the_table_says_update_needs(name):
    """With it `update` works, in the scope of the file's folder; without any part of it there is an error."""
    tx = docs.default(name)
    assert docs.scope(tx) in getattr(gx, name).__module__
    leaf = jax.ShapeDtypeStruct((3, 4), "float32")
    known = {"params": leaf, "value": jax.ShapeDtypeStruct((), "float32")}
    given = {key: known[key] for key in docs.needs(tx)}
    state = jax.eval_shape(tx.init, leaf)
    jax.eval_shape(tx.update, leaf, state, **given)
    for key in given:
        with pytest.raises(ValueError, match=f"needs `{key}`"):
            jax.eval_shape(tx.update, leaf, state, **{k: x for k, x in given.items() if k != key})
