"""The documentation: its snippets run, its links work, and its tables and lists match the code."""

import importlib.util
import pathlib
import re
import sys
import types

import jax
import pytest

import gradtx as gx
from docs import gallery, reference
from docs import optimizers as docs
from examples import textbook

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
HEAVY = {
    "constraints",
    "contract",
    "converting",
    "curvature",
    "extending",
    "from_torch",
    "idea",
    "logging",
    "losses",
    "optimizers",
    "storage",
    "wrappers",
}
"""Pages whose snippets take more than two seconds."""


OPTIONAL = ("tensorboardX", "wandb")  # packages that a snippet may show, and that the tests do without


def snippets(page):
    """Returns the Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)


def runs_here(code):
    """Whether the packages that a snippet imports are installed."""
    missing = [name for name in OPTIONAL if importlib.util.find_spec(name) is None]
    return not any(re.search(rf"^import {name}$", code, flags=re.MULTILINE) for name in missing)


def run(page):
    """Runs all snippets of a page in order as one program, and returns the names that they define."""
    module = types.ModuleType(f"page_{page.stem}")
    sys.modules[module.__name__] = module  # so that what a page defines can be pickled
    as_tests_do = page.name == "contract.md"  # which uses the laws themselves
    with jax.enable_x64(as_tests_do), jax.numpy_rank_promotion("allow"):
        for code in snippets(page):
            program = compile(code, str(page), "exec")
            if runs_here(code):
                exec(program, vars(module))
    return vars(module)


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, marks=[pytest.mark.heavy] * (p.stem in HEAVY)) for p in PAGES if snippets(p)],
    ids=lambda p: p.name,
)
def test_the_snippets_run(page, capsys):
    names = run(page)
    assert capsys.readouterr().out.strip()
    if page.name == "README.md":
        assert names["losses"].shape == (3,)


def test_the_readme_is_short_and_has_the_two_commands():
    text = PAGES[0].read_text()
    assert len(text.splitlines()) <= 120
    assert len(re.findall(r"^python3 -m venv .*pytest.*$", text, flags=re.MULTILINE)) == 1  # .ci/run takes it from here
    assert len(re.findall(r"^python3 -m venv .*train_digits.*$", text, flags=re.MULTILINE)) == 1


def test_the_tests_that_the_readme_names_exist():
    found = re.findall(r"\[`(\w+)`\]\(([^)]+\.py)\)", PAGES[0].read_text())
    assert len(found) >= 9
    for name, path in found:
        assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), flags=re.MULTILINE), f"{path}: {name}"


def test_the_scores_of_the_readme_are_those_of_the_contract():
    row = re.search(r"\| the cases and laws that both have +\|(.*)", (ROOT / "docs" / "contract.md").read_text())
    (a, b), (c, d) = re.findall(r"(\d+) / (\d+)", row[1])
    assert f"gradtx keeps {a} of {b}, optax {c} of {d} |" in PAGES[0].read_text(), "write the new scores into README.md"


def test_what_is_extended_is_short_and_uses_public_names():
    text = (ROOT / "docs" / "extending.md").read_text()
    for code in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        assert len(code.splitlines()) <= 40, code
        assert not re.search(r"gradtx\.core|\._(?!replace)|import _", code), code


def anchors(page):
    """Returns the anchors of a page: from its headings, as Markdown names them, and anchors set by hand."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), flags=re.MULTILINE)
    named = {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}
    typed = gallery.typed()
    made = {
        "schedules.md": set(typed["schedules"]),
        "gallery.md": {re.sub(r"\s+", "-", family["title"].lower()) for family in typed["families"].values()},
        "textbook.md": set(textbook.scripts()),
    }
    return named | made.get(page.name, set())


LINKED = sorted({*PAGES, *ROOT.glob("*.md"), *(ROOT / "benchmarks").glob("*.md")})


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]*))?\)", text):
        path = page.parent / target if target else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), f"{target}#{anchor}"


def test_the_reference_has_every_public_name():
    topics = reference.topics()
    assert sorted(name for names in topics.values() for name in names) == sorted(gx.__all__)
    pages = "\n".join(reference.pages().values())
    for name in gx.__all__:
        assert f"::: gradtx.{name}\n" in pages or f"## `gx.{name}`" in pages, name
    inside = ("tree.norm", "losses.huber_loss", "rules.hyper", "select.path", "viz.race")
    for name in (*inside, "compat.torch.AdamW", "compat.torch.lr_scheduler.StepLR", "compat.optax.convert.from_optax"):
        assert f"::: gradtx.{name}\n" in pages, name


def test_every_schedule_is_in_the_gallery():
    found = gallery.typed()["schedules"]
    own = [name for name, module in gx._names.items() if module.startswith("gradtx.schedules.")]
    assert set(found) == {*own, "function_schedule"}
    for name, entry in found.items():
        assert callable(gallery.evaluated(entry["call"])), name


def test_families_of_the_gallery_are_optimizers():
    for family in gallery.typed()["families"].values():
        assert {member.split("(")[0] for member in family["members"]} <= set(docs.methods())


def test_every_page_is_in_the_navigation():
    config = (ROOT / "mkdocs.yml").read_text()
    for page in PAGES[1:]:
        assert f": {page.name}\n" in config, f"list {page.name} under nav in mkdocs.yml"


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
    """With the listed arguments `update` works, in the scope of the file's folder; if one is missing it raises."""
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
