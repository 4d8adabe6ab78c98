"""Who may import whom: the stages stay in the order that data flows."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cspkit"
MAY_IMPORT = {
    "arguments": set(),
    "bootstrap": set(),
    "files": {"arguments"},
    "modules": {"arguments"},
    "pruner": {"arguments", "task"},
    "task": {"arguments"},
    "recovery": {"arguments"},
    "early_stopping": {"arguments", "training"},
    "progress": set(),
    "distributed": {"arguments", "pruner", "task", "tensors"},
    "resume": {"arguments", "distributed", "files", "tensors"},
    "tensors": {"arguments"},
    "threads": {"arguments"},
    "training": {
        "arguments",
        "distributed",
        "modules",
        "progress",
        "pruner",
        "resume",
        "task",
        "threads",
    },
    "asr": {
        "arguments",
        "bootstrap",
        "files",
        "modules",
        "task",
        "tensors",
        "training",
        "progress",
        "threads",
    },
    "pruning": {
        "arguments",
        "distributed",
        "modules",
        "pruner",
        "recovery",
        "training",
        "progress",
    },
    "deploy": {"__version__", "arguments", "asr", "files", "modules"},
    "study": {
        "arguments",
        "bootstrap",
        "files",
        "modules",
        "resume",
        "training",
        "pruning",
        "progress",
        "threads",
        "__version__",
    },
}


def imported_parts(file):
    part = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""] if node.level == 0 else [f"cspkit.{part}"]
        else:
            continue
        if isinstance(node, ast.ImportFrom) and node.module == "cspkit":
            names = [f"cspkit.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("cspkit."):
                yield name.split(".")[1]


@pytest.mark.parametrize("part", sorted(MAY_IMPORT))
def test_a_stage_imports_only_what_comes_before_it(part):
    files = list(PACKAGE.glob(f"{part}/**/*.py")) + list(PACKAGE.glob(f"{part}.py"))
    assert files
    for file in files:
        assert set(imported_parts(file)) <= MAY_IMPORT[part] | {part}, file


def test_no_stage_imports_teach_or_the_command_line():
    for file in PACKAGE.glob("**/*.py"):
        part = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part not in ("teach", "commands", "__main__"):
            assert not {"teach", "commands", "__main__"} & set(imported_parts(file)), file


def test_recovery_needs_no_torch():
    for file in PACKAGE.glob("recovery/*.py"):
        assert "torch" not in file.read_text().replace("torchaudio", ""), file
