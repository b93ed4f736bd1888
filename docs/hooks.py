"""Hooks for mkdocs: they add the reference, the galleries, the textbook and other documents to the site.

Links between files of the repository become links between pages of the site. A link to a source file becomes a link to
the entry in the reference, where its text is a public name, and plain text otherwise.
"""

from __future__ import annotations

import os
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from mkdocs.structure.files import File, Files  # noqa: E402

import gradtx as gx  # noqa: E402
from docs import gallery, reference  # noqa: E402

COPIES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
    "benchmarks/NOTES.md": "notes.md",
}
"""Documents outside of `docs/` that are pages of the site."""

ALIASES = {**COPIES, "README.md": "index.md", "examples/textbook/README.md": "textbook.md"}
MARKERS = {
    "schedules.md": ("<!-- schedules -->", gallery.schedules),
    "gallery.md": ("<!-- races -->", gallery.races),
    "textbook.md": ("<!-- textbook -->", gallery.textbook_page),
}


def on_config(config: Any, **kwargs: Any) -> Any:
    """Lists the pages of the reference."""
    for section in config["nav"]:
        if "Reference" in section:
            section["Reference"] += [
                {topic: f"reference/{reference.slug(topic)}"} for topic in (*reference.topics(), *reference.COMPAT)
            ]
    return config


def on_files(files: Files, config: Any, **kwargs: Any) -> Files:
    """Adds the pages and pictures that are made."""
    for uri, text in {**reference.pages(), "reference/index.md": reference.index()}.items():
        files.append(File.generated(config, uri, content=text))
    for source, uri in COPIES.items():
        files.append(File.generated(config, uri, content=(ROOT / source).read_text(encoding="utf-8")))
    for picture in (ROOT / "benchmarks" / "results").glob("*.png"):
        files.append(File.generated(config, f"results/{picture.name}", abs_src_path=str(picture)))
    for page, (_, make) in MARKERS.items():
        text, pictures = make()
        made[page] = text
        for uri, path in pictures.items():
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


made: dict[str, str] = {}
"""What was made for each page with a marker."""


def on_page_markdown(markdown: str, page: Any, **kwargs: Any) -> str:
    """Puts what was made in its place, and turns links of the repository into links of the site."""
    uri = page.file.src_uri
    if uri.startswith("reference/"):
        return markdown
    source = next((path for path, copy in COPIES.items() if copy == uri), f"docs/{uri}")
    parts = re.split(r"(^ *```.*?^ *```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    linked = "".join(part if i % 2 else _linked(part, source) for i, part in enumerate(parts))
    return linked.replace(MARKERS[uri][0], made[uri]) if uri in MARKERS else linked


def _linked(text: str, source: str) -> str:
    text = re.sub(r"(`[^`\n]*`)|\]\[", lambda m: m[1] or r"]\[", text)  # paths of leaves in messages are no links
    return re.sub(r"(?<!!)\[([^\]]*)\]\(([^)\s#:]+)(#[^)\s]*)?\)", lambda m: _link(m, source), text)


def _link(match: re.Match[str], source: str) -> str:
    text, target, anchor = match[1], match[2], match[3] or ""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if path in ALIASES:
        return f"[{text}]({ALIASES[path]}{anchor})"
    if path.startswith("docs/"):
        return f"[{text}]({path.removeprefix('docs/')}{anchor})"
    if text.strip("`") in gx.__all__:
        return f"[{text}][gradtx.{text.strip('`')}]"
    return text if text.startswith("`") else f"{text} (`{path}`)"
