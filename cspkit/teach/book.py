"""Execute the notebooks, and write them and the reference of the package as a site.

    python -m cspkit.teach.book build/book
    python -m cspkit.teach.book --stored build/book     with the outputs that the notebooks hold

Sphinx writes the pages; its settings, the front page and the glossary are in the folder `site`.
The pages load nothing from other machines, and can be read from the disk.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient.exceptions import CellExecutionError
from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.util.console import strip_escape_sequences
from sphinx.util.docutils import docutils_namespace, patch_docutils

from cspkit.arguments import ArgumentError
from cspkit.teach.mathml import to_mathml
from cspkit.teach.notebooks import FOLDER, all_notebooks, execute
from cspkit.teach.pages import problems

ROOT = FOLDER.parent
SITE = Path(__file__).with_name("site")
# Text of the repository that becomes pages. Other files that they link to become downloads.
TEXTS = (
    "README.md",
    "cspkit/deploy/FORMAT.md",
    "data/digits/README.md",
    "data/models/README.md",
    "data/results/README.md",
    "notebooks/README.md",
    "notebooks/projects.md",
)
HIDDEN_TESTS = re.compile(r"\n### BEGIN HIDDEN TESTS\n.*?### END HIDDEN TESTS", re.DOTALL)
LINK = re.compile(r"\]\(([^)\s#:]+)[^)\s:]*\)")


class BookError(Exception):
    """The site cannot be built; the message says which page is wrong, and how."""


def title_and_topic(notebook: nbformat.NotebookNode) -> tuple[str, str]:
    """Return the heading of a notebook and the sentence under it."""
    lines = [line for line in notebook.cells[0].source.splitlines() if line.strip()]
    if not lines or not re.match(r"# \d\d ", lines[0]):
        raise ArgumentError(
            f"notebook starts with {notebook.cells[0].source[:40]!r}: expected the line "
            "'# NN Title' and a sentence under it"
        )
    return lines[0].removeprefix("# "), lines[1] if len(lines) > 1 else ""


def prepared(notebook: nbformat.NotebookNode, pages: dict[str, str]) -> nbformat.NotebookNode:
    """Return a copy of an executed notebook that Sphinx makes a page of.

    Solutions are folded, and hidden tests are left out. Every figure gets an alternative text.
    Mentions of other notebooks become links.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
    pages : dict of str to str
        File name of each notebook by its number, such as "01".

    Raises
    ------
    BookError
        If a cell of the notebook has failed.
    """
    copy = nbformat.from_dict(notebook)
    heading = ""
    for cell in copy.cells:
        if cell.cell_type == "markdown":
            heading = (re.findall(r"^#+ (.+)", cell.source, re.MULTILINE) or [heading])[-1]
            cell.source = _linked(_unfolded(cell.source), pages)
            continue
        cell.source = HIDDEN_TESTS.sub("", cell.source)
        if "### BEGIN SOLUTION" in cell.source:
            cell.metadata["tags"] = ["hide-input"]
        texts = []
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                raise BookError(f"the cell {cell.source[:60]!r} failed: {output.evalue}")
            if "image/png" in output.get("data", {}):
                metadata = output.get("metadata", {}).get("image/png", {})
                texts.append(metadata.get("alt") or heading)
        if texts:
            cell.metadata["mystnb"] = {"image": {"alt": " ".join(dict.fromkeys(texts))}}
    return copy


def _unfolded(source: str) -> str:
    """Set the tags of folded parts apart, so that their content is read as Markdown.

    The line between the tags, which stays HTML, gets its formulas here.
    """
    source = re.sub(
        r"<summary>(.*?)</summary>",
        lambda line: re.sub(r"\$([^$\n]+)\$", lambda math: to_mathml(math[1]), line[0]) + "\n\n",
        source,
    )
    return source.replace("</details>", "\n\n</details>\n")


def _linked(source: str, pages: dict[str, str]) -> str:
    """Turn mentions such as "notebook 04" or "**04**" into links."""

    def link(mention: re.Match) -> str:
        page = pages.get(mention[1] or mention[2])
        return f"[{mention[0]}]({page})" if page else mention[0]

    return re.sub(r"\*\*(\d\d)\*\*|\b[Nn]otebook (\d\d)\b(?!\]|[^`\n]*`[^`\n]*$)", link, source)


def assemble(source: Path, notebooks: dict[str, nbformat.NotebookNode]) -> None:
    """Write the sources of all pages to a folder, laid out as the repository is.

    Parameters
    ----------
    source : Path
        An empty folder.
    notebooks : dict of str to NotebookNode
        Executed notebooks by file name.
    """
    shutil.copytree(SITE, source, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    lines = [
        (name[:2], f"- [{title}](notebooks/{name}): {topic[:1].lower()}{topic[1:]}")
        for name, (title, topic) in ((n, title_and_topic(nb)) for n, nb in notebooks.items())
    ]
    front = re.sub(
        r"<!-- notebooks (\d\d) to (\d\d) -->",
        lambda part: "\n".join(line for number, line in lines if part[1] <= number <= part[2]),
        (source / "index.md").read_text(encoding="utf-8"),
    )
    (source / "index.md").write_text(front, encoding="utf-8")
    glossary = (source / "glossary.md").read_text(encoding="utf-8")
    pages = {name[:2]: f"notebooks/{name}" for name in notebooks}
    (source / "glossary.md").write_text(_linked(glossary, pages), encoding="utf-8")
    for text in TEXTS:
        targets = LINK.findall((ROOT / text).read_text(encoding="utf-8"))
        for name in (text, *(str(Path(text).parent / target) for target in targets)):
            if not name.endswith(".ipynb") and (ROOT / name).is_file():
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, source / name)
    write_notebooks(source / "notebooks", notebooks)


def write_notebooks(folder: Path, notebooks: dict[str, nbformat.NotebookNode]) -> None:
    """Write the prepared copies of executed notebooks, given by file name, to a folder."""
    folder.mkdir(exist_ok=True)
    pages = {name[:2]: name for name in notebooks}
    for name, notebook in notebooks.items():
        try:
            nbformat.write(prepared(notebook, pages), folder / name)
        except (BookError, ValueError) as error:
            raise BookError(f"{name}: {error}") from None


def build(source: Path, folder: Path) -> None:
    """Build the site from its sources, check it, and only then put it in place.

    Parameters
    ----------
    source : Path
        Markdown files and executed notebooks.
    folder : Path
        Where the pages go. A site that is there is replaced.

    Raises
    ------
    ArgumentError
        If the folder holds something else than a site.
    BookError
        If Sphinx warns or fails, or a page has a broken link, a figure without its text, or a
        part that comes from another machine. What was in the folder stays as it was.
    """
    folder = _checked(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        new, old = Path(temporary, "new"), Path(temporary, "old")
        _run_sphinx(source, new, Path(temporary, "doctrees"))
        for unused in (*new.rglob("*.map"), *new.rglob("webpack-macros.html")):
            unused.unlink()
        if wrong := problems(new, _figures(source)):
            raise BookError("\n".join(wrong))
        if folder.exists():
            folder.rename(old)
        new.rename(folder)


def _run_sphinx(source: Path, new: Path, doctrees: Path) -> None:
    warnings = io.StringIO()
    with patch_docutils(str(SITE)), docutils_namespace():
        try:
            app = Sphinx(
                source, SITE, new, doctrees, "html", status=None, warning=warnings, freshenv=True
            )
            app.build(force_all=True)
        except SphinxError as error:
            warnings.write(f"{error.category}: {error}")
    if wrong := warnings.getvalue().strip():
        raise BookError(strip_escape_sequences(wrong).replace(f"{source}/", ""))


def _checked(folder: Path) -> Path:
    folder = Path(folder).resolve()
    if folder.is_file() or (
        folder.exists() and any(folder.iterdir()) and not (folder / "objects.inv").is_file()
    ):
        raise ArgumentError(
            f"folder is {str(folder)!r}, which holds other things than a site: "
            "expected a new or empty folder, or one with an earlier site"
        )
    return folder


def _figures(source: Path) -> dict[str, int]:
    """Count the figures of each notebook, by the name of its page."""
    counts = {}
    for path in source.rglob("*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        outputs = (output for cell in cells for output in cell.get("outputs", []))
        figures = sum("image/png" in output.get("data", {}) for output in outputs)
        counts[path.relative_to(source).with_suffix(".html").as_posix()] = figures
    return counts


def write_book(folder: Path, *, stored: bool = False) -> None:
    """Write all notebooks, the reference and the README as a site.

    Parameters
    ----------
    folder : Path
        See `build`.
    stored : bool
        Take the outputs that the notebooks hold, and do not execute them.
    """
    _checked(folder)
    notebooks = {}
    for path in all_notebooks():
        notebook = nbformat.read(path, as_version=4)
        start = time.perf_counter()
        if not stored:
            try:
                execute(notebook)
            except CellExecutionError as error:
                raise BookError(f"{path.name}: {error}") from None
            print(f"{path.name}: {time.perf_counter() - start:.0f} s", flush=True)
        notebooks[path.name] = notebook
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        assemble(Path(temporary), notebooks)
        build(Path(temporary), folder)
    print(f"the pages: {time.perf_counter() - start:.0f} s", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the pages go")
    parser.add_argument(
        "--stored", action="store_true", help="use the outputs in the notebooks; execute nothing"
    )
    options = parser.parse_args()
    try:
        write_book(options.folder, stored=options.stored)
    except (ArgumentError, BookError) as error:
        print(f"cspkit.teach.book: {error}", file=sys.stderr)
        return 2 if isinstance(error, ArgumentError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
