"""`import gradtx` is cheap: names are imported at first use, and no code is generated or compiled."""

import importlib
import json
import pathlib
import statistics
import subprocess
import sys

import pytest

import gradtx as gx
from benchmarks.imports import seconds


def python(code):
    """Returns what a new Python process prints."""
    return subprocess.check_output([sys.executable, "-c", code], text=True).strip()


def test_the_import_loads_nothing():
    code = "import sys, gradtx; print(*sorted(m for m in sys.modules if m.startswith('gradtx')))"
    assert python(code) == "gradtx gradtx.lazy"


def test_the_import_is_quick(tmp_path):
    """The import takes 1 ms; the bound is larger for busy machines."""
    folder = str(tmp_path)
    seconds("import gradtx", folder)  # fills the folder
    assert statistics.median(seconds("import gradtx", folder) for _ in range(5)) < 0.12


def test_nothing_is_generated_and_no_backend_starts():
    """`dataclasses` would generate methods as text, with `self` in the text; the test looks for such code."""
    code = """if True:
        import sys
        import jax
        texts = []
        def note(event, args):
            if event == "compile" and args[1] == "<string>":
                texts.append(str(args[0]))
        sys.addaudithook(note)
        import dataclasses
        dataclasses.make_dataclass("Seen", ["x"])
        assert any("self" in text for text in texts)
        texts.clear()
        import gradtx as gx
        for name in {*gx.__all__} - {"testing"}:
            getattr(gx, name)
        from jax._src import xla_bridge
        print([text for text in texts if "self" in text], xla_bridge.backends_are_initialized())
    """
    assert python(code) == "[] False"


def test_names_are_the_objects_of_their_modules():
    for name, module in gx._names.items():
        value = importlib.import_module(f"gradtx.{name}") if module == "gradtx" else importlib.import_module(module)
        assert getattr(gx, name) is (value if module == "gradtx" else getattr(value, name))


def test_no_module_hides_a_name():
    """The import system sets each imported module as an attribute of its package, and could overwrite a public name."""
    modules = {path.stem for path in pathlib.Path(gx.__file__).parent.iterdir()}
    assert modules & set(gx.__all__) == {name for name, module in gx._names.items() if module == "gradtx"}


@pytest.mark.one_in(5)
@pytest.mark.parametrize(
    "lines",
    [
        "import gradtx.optimizers.elementwise.adam; import gradtx as gx",
        "import gradtx as gx; gx.adam; import gradtx.optimizers.elementwise.adam",
        "import gradtx as gx; gx.adamw; gx.scale_by_adam",
        "from gradtx import *; import gradtx as gx",
        "import gradtx.core.chain; from gradtx import chain; import gradtx as gx; assert gx.chain is chain",
        "import gradtx.tree, gradtx.viz.expression; import gradtx as gx",
        "import gradtx as gx; gx.select.path('a'); gx.tree.norm; gx.viz.plot_schedules; gx.rules.Elementwise",
        "import importlib, gradtx as gx; gx.adam; assert importlib.reload(gx) is gx",
    ],
)
def test_the_order_in_which_names_are_asked_for_does_not_matter(lines):
    code = f"""{lines}
from types import FunctionType, ModuleType
assert type(gx.adam) is FunctionType and isinstance(gx.chain, type)
assert {{name for name in gx.__all__ if isinstance(getattr(gx, name), ModuleType)}} == {{
    "assignment", "checkpoint", "losses", "microbatching", "perturbations", "rules", "select", "sharding", "storage",
    "testing", "tree", "types", "viz"
}}
assert vars(gx)["adam"] is gx.adam
"""
    assert python(code) == ""


@pytest.mark.heavy
def test_reprs_evaluate_in_the_variables_of_the_package():
    for names in ("vars(gx)", "{**vars(gx)}", "gx.__dict__"):
        code = f"import gradtx as gx; tx = gx.adamw(0.1, mask=gx.select.ndim(2)); print(eval(repr(tx), {names}) == tx)"
        assert python(code) == "True"


@pytest.mark.heavy
def test_threads_get_the_same_objects():
    code = """if True:
        import concurrent.futures, random
        import gradtx as gx
        def ask(seed):
            names = sorted(gx.__all__)
            random.Random(seed).shuffle(names)
            return {name: id(getattr(gx, name)) for name in names}
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            first, *others = pool.map(ask, range(8))
        print(all(other == first for other in others), len(first) == len(gx.__all__))
    """
    assert python(code) == "True True"


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="module 'gradtx' has no attribute 'adamm'"):
        gx.adamm  # noqa: B018
    assert not hasattr(gx, "__wrapped__")
    with pytest.raises(ImportError, match="cannot import name 'adamm' from 'gradtx'"):
        from gradtx import adamm  # noqa: F401


def test_names_are_listed_before_they_are_imported():
    code = "import json, gradtx as gx; print(json.dumps([dir(gx), gx.__all__])); assert gx.__version__"
    listed, public = json.loads(python(code))
    assert set(public) <= set(listed)
    assert {"__version__", "__doc__", "__path__"} <= set(listed)
    assert public == gx.__all__
