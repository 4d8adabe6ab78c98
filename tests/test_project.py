"""The files at the top level agree with one another."""

import importlib
import re
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


def requirements(*extras):
    texts = list(PROJECT["dependencies"])
    for extra in extras:
        texts += PROJECT["optional-dependencies"][extra]
    return {r.name: r for r in map(Requirement, texts)}


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
    pins = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        text = line.split("#")[0].strip()
        if text:
            requirement = Requirement(text)
            pins[requirement.name.lower().replace("_", "-")] = str(requirement.specifier)
    for name, requirement in requirements("test").items():
        pin = pins[name.lower().replace("_", "-")]
        assert pin.startswith("=="), name
        assert requirement.specifier.contains(pin[2:]), name


def test_what_a_study_needs_is_there_for_its_tests():
    assert set(requirements("study")) <= set(requirements("test"))


def test_every_direct_pin_has_its_reason():
    direct = set(requirements("test"))
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        text, _, reason = line.partition("#")
        if text.strip() and Requirement(text.strip()).name in direct:
            assert reason.strip(), line


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
