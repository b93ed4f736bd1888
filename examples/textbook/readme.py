"""Writes README.md of this folder from the scripts: `python -m examples.textbook.readme`."""

from __future__ import annotations

import ast
from pathlib import Path

from examples.textbook import scripts

FOLDER = Path(__file__).parent
TOP = """# Optimization in pictures

These scripts show in pictures why each optimization method exists. Each script has at most 150 lines, uses only public
names of gradtx, draws one picture, and prints one conclusion; a test checks the conclusion. The order of the scripts
follows the chapter on optimization algorithms of
[Dive into Deep Learning](https://d2l.ai/chapter_optimization/index.html).

```sh
pip install '.[examples]'
python -m examples.textbook        # draws all pictures in about a minute; then open out/textbook/index.html
python -m examples.textbook.{first}   # draws one picture
```

"""


def text() -> str:
    """Returns the page: an item for each script, with its title and the first sentence of its explanation."""
    items = []
    for i, name in enumerate(scripts(), 1):
        docstring = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))) or ""
        title, about, *_ = docstring.split("\n\n")
        sentence, *_ = " ".join(about.split()).partition(". ")
        items.append(f"{i}. [{title.rstrip('.')}]({name}.py). {sentence.rstrip('.')}.")
    return TOP.format(first=scripts()[0]) + "\n".join(items) + "\n"


if __name__ == "__main__":
    (FOLDER / "README.md").write_text(text(), encoding="utf-8")
