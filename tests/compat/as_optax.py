"""Runs optax's own tests on gradtx's drop-in: `python -m tests.compat.as_optax [arguments of pytest]`.

The test files come with optax's wheel and run in place. Before they are imported, `optax` and its public modules are
replaced with `gradtx.compat.optax`. optax's private modules, which the tests import, are replaced with modules that
look up names in the drop-in. Only `optax._src.test_utils`, which uses nothing of optax, is kept. `optax_own_tests.toml`
names the tests that do not pass, with the reasons. The run fails if a test that is not named there fails, or if all
tests that a line names pass, unless the reason begins with "sometimes".
"""

import fnmatch
import importlib
import importlib.metadata
import importlib.util
import pathlib
import subprocess
import sys
import tomllib
import types
import typing

import jax
import pytest

from gradtx import leaf

ROOT = pathlib.Path(importlib.util.find_spec("optax").origin).parent  # found, not imported
REASONS = pathlib.Path(__file__).with_name("optax_own_tests.toml")
PUBLIC = [path.parent.name for path in ROOT.glob("*/__init__.py")]

HELPERS = {
    **dict.fromkeys(["ArrayTree", "PRNGKey", "PyTree", "Shape"], typing.Any),
    "abs_sq": leaf.abs_sq,
    "x64_precision": jax.enable_x64,
}
"""Private names that tests use beside what they test: types for annotations, the squared modulus, a setting of JAX."""


class Private(types.ModuleType):
    """A replacement for a private module of optax that looks up names in the drop-in, first in the matching module."""

    def __init__(self, name):
        super().__init__(name)
        self.__path__ = [str(ROOT / "_src")] if name == "optax._src" else []  # one test imports another

    def __getattr__(self, name):
        import gradtx.compat.optax as optax

        if name.startswith("__"):
            raise AttributeError(name)
        if name in HELPERS:
            return HELPERS[name]
        own = [public for public in PUBLIC if public == self.__name__.split(".")[1]]
        modules = [*(getattr(optax, public) for public in own), optax, *(getattr(optax, public) for public in PUBLIC)]
        modules.append(optax.experimental.aggregating)
        for module in modules:
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(f"{self.__name__}.{name} is no public name of optax, so the drop-in has nothing for it")


def install():
    """Replaces every module of optax with a module of the drop-in."""
    drop_in = importlib.import_module("gradtx.compat.optax")
    sys.modules["optax"] = drop_in
    for name in PUBLIC:
        module = sys.modules[f"optax.{name}"] = importlib.import_module(f"gradtx.compat.optax.{name}")
        module.__path__ = []  # else pytest imports optax's own package in its place
    for path in [ROOT / "_src", *ROOT.rglob("_*.py"), *(ROOT / "_src").glob("*.py")]:
        name = ".".join(("optax", *path.relative_to(ROOT).with_suffix("").parts))
        if path.stem != "__init__" and not path.stem.endswith("_test"):
            sys.modules[name] = Private(name)
    spec = importlib.util.spec_from_file_location("optax._src.test_utils", ROOT / "_src" / "test_utils.py")
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[spec.name])
    sys.modules["optax._src"].test_utils = sys.modules[spec.name]
    for name, module in [*sys.modules.items()]:
        parent, _, last = name.rpartition(".")
        if isinstance(module, Private) and parent in sys.modules and parent != "optax":
            setattr(sys.modules[parent], last, module)


class Reasons:
    """A pytest plugin that compares failures (also of `subTest`) with the file of reasons."""

    def __init__(self, reasons):
        self.reasons, self.asked, self.skipped, self.failed = reasons, set(), set(), set()

    def patterns(self, name):
        return [pattern for pattern in self.reasons if fnmatch.fnmatchcase(name, pattern)]

    def pytest_runtest_logreport(self, report):
        name = name_of(report.nodeid)
        if report.failed:
            self.failed.add(name)
        if report.when == "call":
            self.asked.add(name)
        if report.skipped:
            self.skipped.add(name)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report):
        """Shows a failure with a reason as an x, without traceback."""
        return ("with a reason", "x", "XFAIL") if report.failed and self.patterns(name_of(report.nodeid)) else None

    def pytest_sessionfinish(self, session, exitstatus):
        if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):  # else it says itself what went wrong
            wrong = self.without_reason() or self.pass_now()
            session.exitstatus = pytest.ExitCode.TESTS_FAILED if wrong else pytest.ExitCode.OK

    def without_reason(self):
        return sorted(name for name in self.failed if not self.patterns(name))

    def pass_now(self):
        """Returns the patterns of reasons that match tests that ran, none of which failed."""
        ran = (self.asked | self.failed) - self.skipped
        matched = {pattern for name in ran for pattern in self.patterns(name) if not self.may_pass(pattern)}
        return sorted(matched - {pattern for name in self.failed for pattern in self.patterns(name)})

    def may_pass(self, pattern):
        """Whether rounding decides, so that the test fails only in some runs."""
        return self.reasons[pattern].startswith("sometimes ")

    def pytest_terminal_summary(self, terminalreporter):
        ran = len((self.asked | self.failed) - self.skipped)
        passed = ran - len(self.failed)
        share = f", {passed / ran:.1%}" if ran else ""
        lines = [f"{passed} of {ran} tests of optax pass{share}; {len(self.skipped)} are skipped by optax"]
        lines += [f"fails without a reason: {name}" for name in self.without_reason()]
        lines += [f"passes now, take it out of {REASONS.name}: {pattern}" for pattern in self.pass_now()]
        terminalreporter.write_line("\n".join(lines))


def name_of(nodeid):
    """`_src/alias_test.py::AliasTest::test_optimizers3`, for one test."""
    return nodeid.removeprefix(f"{ROOT.name}/")


def main(arguments):
    jax.config.update("jax_enable_x64", False)
    jax.config.update("jax_numpy_rank_promotion", "allow")
    install()
    reasons = tomllib.loads(REASONS.read_text()) if REASONS.exists() else {}
    paths = [a for a in arguments if not a.startswith("-") and a.endswith(".py")]
    rest = [a for a in arguments if a not in paths]
    files = [str(ROOT / path) for path in paths] or [str(ROOT)]
    options = ["-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(ROOT.parent), "--import-mode=importlib"]
    options += ["-o", "python_files=*_test.py", "-q", "-W", "ignore"]
    return pytest.main([*options, *rest, *files], plugins=[Reasons(reasons)])


def in_two_processes():
    """Runs all tests in two processes: the tests of the modules in `_src`, and all other tests."""
    halves = [[], []]
    for path in sorted(ROOT.rglob("*_test.py")):
        halves[path.parent.name == "_src"].append(str(path.relative_to(ROOT)))
    running = [subprocess.Popen([sys.executable, "-m", "tests.compat.as_optax", *files]) for files in halves]
    return max(process.wait() for process in running)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) if sys.argv[1:] else in_two_processes())
