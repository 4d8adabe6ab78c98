"""Checks of a site on the disk: links lead somewhere, figures have texts, nothing is foreign."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# The attribute by which an element loads or links something.
TARGETS = {
    "a": "href",
    "audio": "src",
    "iframe": "src",
    "img": "src",
    "link": "href",
    "object": "data",
    "script": "src",
    "source": "src",
    "video": "src",
}
# In these elements a dollar sign is no formula.
CODE = {"code", "pre", "script", "style", "textarea"}


class _Page(HTMLParser):
    """What the checks need of a page: anchors, targets of elements, figures, bare formulas."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.targets: list[tuple[str, str]] = []
        self.figures: list[str] = []
        self.formulas: list[str] = []
        self._in_code = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.anchors |= {values[key] for key in ("id", "name") if values.get(key)}
        if values.get(TARGETS.get(tag, "")):
            self.targets.append((tag, values[TARGETS[tag]]))
        if tag == "img":
            self.figures.append(values.get("alt") or "")
        self._in_code += tag in CODE

    def handle_endtag(self, tag: str) -> None:
        self._in_code -= tag in CODE

    def handle_data(self, text: str) -> None:
        if not self._in_code:
            self.formulas += re.findall(r"\$[^$\n]+\$", text)


def problems(folder: Path, figures: dict[str, int]) -> list[str]:
    """Check the pages of a site.

    Parameters
    ----------
    folder : Path
        The site.
    figures : dict of str to int
        How many figures a page must have at least, by file name relative to the folder.

    Returns
    -------
    list of str
        What is wrong, one sentence each: a link that leads nowhere, a script, style, font or
        picture of another machine, a figure without an alternative text or not there at all, a
        formula that was not converted.
    """
    pages = {
        path: _Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))
    }
    wrong = [
        f"{name}: missing, or with fewer figures than the {count} of its notebook"
        for name, count in figures.items()
        if (page := pages.get(folder / name)) is None or len(page.figures) < count
    ]
    for path, page in pages.items():
        name = path.relative_to(folder).as_posix()
        wrong += [f"{name}: formula {formula} is not converted" for formula in page.formulas]
        if missing := page.figures.count(""):
            wrong.append(f"{name}: {missing} figures have no alternative text")
        for tag, target in page.targets:
            if fault := _fault(path, tag, target, pages):
                wrong.append(f"{name}: {tag} {target!r} {fault}")
    for path in sorted(folder.rglob("*.css")):
        text = path.read_text(encoding="utf-8")
        for target in re.findall(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")\s]+)", text):
            wrong.append(f"{path.relative_to(folder).as_posix()}: loads {target}")
    return wrong


def _fault(path: Path, tag: str, target: str, pages: dict[Path, _Page]) -> str | None:
    """Say what is wrong with the target of an element of a page, if anything is."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        foreign = tag != "a" and parts.scheme != "data"
        return "is loaded from another machine" if foreign else None
    file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not file.is_file():
        return "leads to no file"
    if parts.fragment and file in pages and unquote(parts.fragment) not in pages[file].anchors:
        return "leads to no place on its page"
    return None
