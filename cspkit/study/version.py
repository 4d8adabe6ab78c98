"""The version of a run: a hash of the source files that it uses."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import io
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path


@cache
def sources_version(*modules: str) -> str:
    """Return a hash of the source files of modules and of everything that they import.

    Of the imports, only modules of the same packages count: for "cspkit.training" these are the
    modules of cspkit that it imports, directly or through others. Comments and docstrings do not
    count. Modules without a source file and `__main__` do not count either.

    Parameters
    ----------
    *modules : str
        Names of modules that can be imported.

    Returns
    -------
    str
        The first 12 hexadecimal digits of the SHA-256 of the names and sources.
    """
    packages = {name.partition(".")[0] for name in modules} - {"__main__"}
    found, waiting = {}, list(modules)
    while waiting:
        name = waiting.pop()
        path = None if name in found else _source(name, packages)
        if path is not None:
            found[name], imported = _parsed(path.read_text(encoding="utf-8"))
            waiting += imported
    listed = "\n".join(f"{name}\n{found[name]}" for name in sorted(found))
    return hashlib.sha256(listed.encode()).hexdigest()[:12]


def _source(name: str, packages: set[str]) -> Path | None:
    """Return the source file of a module, if there is one and it belongs to the packages."""
    if name.partition(".")[0] not in packages:
        return None
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # no module, but a function or class of a module
        return None
    found = spec is not None and spec.has_location and spec.origin.endswith(".py")
    return Path(spec.origin) if found else None


@cache
def _parsed(text: str) -> tuple[str, list[str]]:
    """Return the code of a source, see `_code`, and the names that it imports."""
    tree = ast.parse(text)
    return _code(text, tree), list(_imports(tree))


def _imports(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a module imports; some of them are modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _code(text: str, tree: ast.Module) -> str:
    """Return a source without docstrings, comments and empty lines."""
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if ast.get_docstring(node) is not None:
                lines[first.lineno - 1 : first.end_lineno] = [""] * (
                    first.end_lineno - first.lineno + 1
                )
    return "\n".join(line.rstrip() for line in lines if line.strip())
