"""Run the notebooks and write them as linked HTML pages.

    python -m cspkit.teach.book build/book

Formulas become MathML, so the pages need no network and no script.
"""

from __future__ import annotations

import argparse
import html
import re
import sys
import time
from pathlib import Path

import nbformat
from latex2mathml.converter import convert as to_mathml
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter

from cspkit.arguments import ArgumentError
from cspkit.files import replacing
from cspkit.teach.notebooks import all_notebooks, execute

CSS = """
:root { --ink: #1c2733; --soft: #5b6875; --rule: #d8dee4; --paper: #fff; --code: #f5f7f9; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: var(--paper); font: 17px/1.6 Georgia, serif; }
nav, footer { font: 15px/1.5 system-ui, sans-serif; color: var(--soft); }
nav { display: flex; justify-content: space-between; padding: .7rem 1.2rem;
      border-bottom: 1px solid var(--rule); }
a { color: #0072b2; }
main { max-width: 56rem; margin: 1.5rem auto 4rem; padding: 0 1.2rem; }
h1, h2, h3 { font-family: system-ui, sans-serif; line-height: 1.25; margin: 2rem 0 .6rem; }
h1 { font-size: 1.9rem; } h2 { font-size: 1.35rem; } h3 { font-size: 1.1rem; }
pre { background: var(--code); padding: .7rem .9rem; border-radius: 4px; overflow-x: auto;
      font: 14px/1.45 ui-monospace, Menlo, Consolas, monospace; }
.output pre { background: none; border-left: 3px solid var(--rule); border-radius: 0; }
code { font-size: .88em; }
img { max-width: 100%; }
table { border-collapse: collapse; margin: 1rem 0; font-size: .95em; }
td, th { border-bottom: 1px solid var(--rule); padding: .25rem .8rem; text-align: left; }
details { border: 1px solid var(--rule); border-radius: 4px; padding: .4rem .9rem; }
summary { cursor: pointer; font-family: system-ui, sans-serif; }
math[display=block] { margin: 1rem 0; }
.anchor-link { display: none; }
"""


class _MathMLRenderer(IPythonRenderer):
    """Turn Markdown into HTML, and its TeX formulas into MathML."""

    def inline_math(self, body: str) -> str:
        return to_mathml(body)

    def block_math(self, body: str) -> str:
        return to_mathml(body, display="block")

    def block_html(self, html: str) -> str:
        # For the parser, folded hints and answers are HTML. It does not convert formulas in HTML.
        return re.sub(r"\$([^$\n]+)\$", lambda math: to_mathml(math[1]), html)


def to_html(notebook: nbformat.NotebookNode) -> str:
    """Return the body of a notebook's page. Links to notebooks become links to pages."""
    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True)
    exporter.exclude_output_prompt = True
    renderer = _MathMLRenderer(escape=False)
    exporter.register_filter("markdown2html", lambda text: MarkdownWithMath(renderer).render(text))
    body = exporter.from_notebook_node(notebook)[0]
    return re.sub(r'href="(\d\d_\w+)\.ipynb"', r'href="\1.html"', body)


def page(title: str, body: str, before: str = "", after: str = "") -> str:
    """Return a complete page: style, links to the pages before and after, body."""
    colours = HtmlFormatter(style="friendly").get_style_defs(".highlight")
    nav = f"<span>{before}</span><a href='index.html'>contents</a><span>{after}</span>"
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{html.escape(title)}</title><style>{colours}{CSS}</style>"
        f"<nav>{nav}</nav><main>{body}</main></html>\n"
    )


def title_and_topic(notebook: nbformat.NotebookNode) -> tuple[str, str]:
    """Return the heading of a notebook and the sentence under it."""
    lines = [line for line in notebook.cells[0].source.splitlines() if line.strip()]
    if not lines or not re.match(r"# \d\d ", lines[0]):
        raise ArgumentError(
            f"notebook starts with {notebook.cells[0].source[:40]!r}: expected the line "
            "'# NN Title' and a sentence under it"
        )
    return lines[0].removeprefix("# "), lines[1] if len(lines) > 1 else ""


def write_book(folder: Path) -> None:
    """Execute all notebooks in order, and write them as a site to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    notebooks = []
    for path in all_notebooks():
        start = time.perf_counter()
        notebooks.append((path.stem, execute(nbformat.read(path, as_version=4))))
        print(f"{path.name}: {time.perf_counter() - start:.0f} s", flush=True)

    titles = [(stem, *title_and_topic(notebook)) for stem, notebook in notebooks]
    links = [f"<a href='{stem}.html'>{html.escape(title)}</a>" for stem, title, _ in titles]
    for i, (stem, notebook) in enumerate(notebooks):
        before = f"&larr; {links[i - 1]}" if i > 0 else ""
        after = f"{links[i + 1]} &rarr;" if i + 1 < len(links) else ""
        _write(folder / f"{stem}.html", page(titles[i][1], to_html(notebook), before, after))
    rows = "".join(
        f"<tr><td>{link}</td><td>{html.escape(topic)}</td></tr>"
        for link, (_, _, topic) in zip(links, titles, strict=True)
    )
    contents = f"<h1>Compressed-sensing-based pruning: the workbook</h1><table>{rows}</table>"
    _write(folder / "index.html", page("Contents", contents))


def _write(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write_text(text, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the pages go")
    write_book(parser.parse_args().folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
