"""The README's Python runs, from top to bottom, as one program."""

import pathlib
import re

import jax

README = pathlib.Path(__file__).parent.parent / "README.md"


def test_the_readme_runs(capsys):
    code = "\n".join(re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL))
    names = {}
    with jax.enable_x64(False), jax.numpy_rank_promotion("allow"):
        exec(compile(code, str(README), "exec"), names)
    assert names["losses"].shape == (3,)
    assert capsys.readouterr().out.strip()
