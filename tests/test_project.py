"""The files at the top level agree with one another."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpydoc.validate
import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# conda's name, where it is not that of PyPI
CONDA_NAMES = {"torch": "pytorch", "soundfile": "pysoundfile"}
# The package that brings a module which cspkit imports without requiring it by its own name.
BROUGHT_BY = {
    "IPython": "ipykernel",
    "jupyter_client": "ipykernel",
    "nbformat": "nbclient",
    "PIL": "pillow",
    "docutils": "sphinx",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


def normalised(name):
    return name.lower().replace("_", "-")


def requirements(*extras):
    """The core, and extras with the extras that they name."""
    texts = [*PROJECT["dependencies"]]
    texts += (text for extra in extras for text in PROJECT["optional-dependencies"][extra])
    found = {}
    for requirement in map(Requirement, texts):
        if requirement.name == "cspkit":
            found |= requirements(*requirement.extras)
        else:
            found[normalised(requirement.name)] = requirement
    return found


def locked_lines():
    """Requirement and reason of each line of the lock file, by name."""
    lines = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        text, _, reason = line.partition("#")
        if text.strip():
            requirement = Requirement(text.strip())
            lines[normalised(requirement.name)] = requirement, reason.strip()
    return lines


def test_environment_yml_is_in_step_with_pyproject():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    named = dict(re.match(r"([a-z0-9_-]+)(.*)", d).groups() for d in conda if isinstance(d, str))
    assert named.pop("python") == PROJECT["requires-python"]
    named.pop("pip")
    from_pip = next(d["pip"] for d in conda if isinstance(d, dict))
    named |= dict(re.match(r"([a-z0-9_-]+)(.*)", d).groups() for d in from_pip if d != "-e .")
    expected = {CONDA_NAMES.get(n, n): str(r.specifier) for n, r in requirements("test").items()}
    assert named == expected


def test_the_lock_file_pins_every_requirement_within_its_range():
    lines = locked_lines()
    for name, requirement in requirements("test").items():
        pin = str(lines[name][0].specifier)
        assert pin.startswith("=="), name
        assert requirement.specifier.contains(pin[2:]), name


@pytest.mark.parametrize("extra", sorted(set(PROJECT["optional-dependencies"]) - {"bench"}))
def test_the_tests_have_every_extra_but_the_benchmarks(extra):
    assert set(requirements(extra)) <= set(requirements("test"))


def test_every_direct_pin_has_its_reason():
    lines = locked_lines()
    for name in requirements("test"):
        assert lines[name][1], name


def imported(*places):
    """Packages that are neither cspkit nor of the standard library, imported anywhere in files."""
    names = set()
    for file in (file for place in places for file in ROOT.glob(place)):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(node.module.split(".")[0])
    return {
        normalised(BROUGHT_BY.get(name, name))
        for name in names - sys.stdlib_module_names - {"cspkit"}
    }


# Of the extra "scale", imported only when it is asked for.
ON_REQUEST = set(requirements("scale")) - set(requirements())


def test_the_core_requires_what_it_imports_and_nothing_else():
    parts = [place.name for place in (ROOT / "cspkit").iterdir() if place.is_dir()]
    core = [f"cspkit/{part}/**/*.py" for part in parts if part not in ("deploy", "study", "teach")]
    # Imported inside functions; test_the_core_works_without_the_extras runs without them.
    lazily = {"ipykernel"} | ON_REQUEST
    assert imported("cspkit/*.py", *core) - lazily == set(requirements())


@pytest.mark.parametrize("extra", ["deploy", "study", "teach"])
def test_an_extra_requires_what_its_folder_imports(extra):
    assert imported(f"cspkit/{extra}/**/*.py") <= set(requirements(extra)) | ON_REQUEST


def test_the_core_works_without_the_extras(tmp_path):
    modules = set(requirements("test")) - set(requirements())
    modules |= {module for module, package in BROUGHT_BY.items() if package in modules}
    modules.remove("sphinx")  # scipy asks whether this name is among the loaded modules
    code = f"""
import sys
for module in {sorted(modules)}:
    sys.modules[module] = None
import cspkit.early_stopping, cspkit.recovery, cspkit.training, cspkit.asr, cspkit.pruning
from cspkit.__main__ import main
assert main(["compare", "--out", "rows.csv"]) == 1
sys.exit(main(["doctor"]))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "pip install 'cspkit[teach]'" in result.stderr  # from compare
    assert "Jupyter kernel python3: not installed (optional" in result.stdout


def public_names():
    import cspkit.asr
    import cspkit.pruning
    import cspkit.recovery
    import cspkit.study
    import cspkit.training

    for module in (cspkit.asr, cspkit.pruning, cspkit.recovery, cspkit.study):
        for name in module.__all__:
            value = getattr(module, name)
            if callable(value):
                yield f"{value.__module__}.{value.__qualname__}"
    yield "cspkit.training.train"


@pytest.mark.parametrize("name", sorted(set(public_names())))
def test_public_docstrings_are_numpydoc(name):
    # none at all, no summary, parameters not described, parameters that are none, no space
    report = numpydoc.validate.validate(name)
    errors = {c: t for c, t in report["errors"] if c in {"GL08", "SS01", "PR01", "PR02", "PR10"}}
    module, _, attribute = name.rpartition(".")
    value = getattr(importlib.import_module(module), attribute)
    fields = getattr(value, "_fields", None) or getattr(value, "__dataclass_fields__", None)
    if fields:
        # Those of a result stand under Attributes, where numpydoc does not look for them.
        errors.pop("PR01", None)
        for field in fields:
            assert re.search(rf"\b{field}\b", value.__doc__), field
    assert not errors
