"""The wheel and the sdist work in an empty folder, away from the clone."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cspkit import __version__

ROOT = Path(__file__).parents[1]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]


def run(*command, folder):
    """Run a command in a folder, with no variable that leads back to the clone."""
    unwanted = ("PYTHONPATH", "CSPKIT_DATA")
    environment = {k: v for k, v in os.environ.items() if k not in unwanted}
    result = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def wheel_of(folder):
    """Build the wheel of a source tree without the network."""
    offline = ["--no-deps", "--no-index", "--no-build-isolation"]
    run(*PIP, "wheel", *offline, "--wheel-dir", "dist", ".", folder=folder)
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


def contents(wheel):
    """Bytes of each file of a wheel; but not of its own list, which has the time in it."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if "RECORD" not in name}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of what is packaged, so that nothing is built in the clone."""
    folder = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("cspkit", "data", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def wheel(tree):
    return wheel_of(tree)


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """A new environment with the wheel; the other packages are those of this environment."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    run(*PIP, "--python", python, "install", "--no-deps", "--no-index", wheel, folder=folder)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run(python, "-c", code, folder=folder).strip())
    # Folders in a .pth file come after its own: an editable install there is not seen.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def test_the_wheel_holds_the_package_and_its_data(wheel):
    names = {name for name in contents(wheel) if name.startswith("cspkit/")}
    modules = {str(file.relative_to(ROOT)) for file in (ROOT / "cspkit").rglob("*.py")}
    tables = {str(file.relative_to(ROOT)) for file in (ROOT / "cspkit").rglob("*.toml")}
    modules.remove("cspkit/teach/site/conf.py")  # the site is built only where the notebooks are
    assert {name for name in names if name.endswith(".py")} == modules
    assert tables
    assert {name for name in names if name.endswith(".toml")} == tables
    for folder in ("digits", "models"):
        sums = (ROOT / "data" / folder / "SHA256SUMS").read_text().split()[1::2]
        assert {f"cspkit/data/{folder}/{name}" for name in (*sums, "README.md")} <= names
    assert "cspkit/data/results/pruning_tuning.csv" in names  # settings of `cspkit compare`


def test_the_sdist_makes_the_same_wheel(tree, wheel, tmp_path):
    code = "from setuptools.build_meta import build_sdist; print(build_sdist('dist'))"
    run(sys.executable, "-c", code, folder=tree)
    (sdist,) = (tree / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    assert not (unpacked / "tests").exists()
    assert contents(wheel_of(unpacked)) == contents(wheel)


def test_three_lines_of_python(environment, tmp_path):
    (tmp_path / "data").mkdir()  # no data of the project
    code = """
import cspkit, cspkit.asr
corpus = cspkit.asr.load_spoken_digits()
print(cspkit.__file__, cspkit.__version__, len(corpus.recordings))
"""
    file, version, n_recordings = run(
        environment / "bin" / "python", "-c", code, folder=tmp_path
    ).split()
    assert Path(file).is_relative_to(environment)
    assert (version, n_recordings) == (__version__, "3000")


def test_doctor_finds_everything(environment, tmp_path):
    findings = json.loads(run(environment / "bin" / "cspkit", "doctor", "--json", folder=tmp_path))
    assert all(finding["ok"] for finding in findings)
    core = {f["requirement"].split()[0] for f in findings}
    assert {"numpy", "torch", "filelock", "corpus", "dense"} <= core
    assert not {"matplotlib", "jupyterlab", "scikit-learn", "pytest"} & core


def test_transcribe_hears_silence(environment, tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(8000), 8000)
    told = run(
        environment / "bin" / "cspkit", "transcribe", "--json", "silence.wav", folder=tmp_path
    )
    assert json.loads(told) == [{"file": "silence.wav", "text": ""}]
    told = run(environment / "bin" / "python", "-m", "cspkit", "--version", folder=tmp_path)
    assert told == f"cspkit {__version__}\n"
