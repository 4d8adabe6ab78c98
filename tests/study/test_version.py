import importlib
import sys

import pytest
from study_bench import BlobBench

from cspkit.arguments import ArgumentError
from cspkit.study import compare, missing_runs, read_rows
from cspkit.study.version import sources_version


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A function that writes modules of a package and returns the version of one of them."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "versioned").mkdir()
    (tmp_path / "versioned" / "__init__.py").write_text("")

    def version(name="a", **sources):
        for module, source in sources.items():
            (tmp_path / "versioned" / f"{module}.py").write_text(source)
        sources_version.cache_clear()
        importlib.invalidate_caches()
        return sources_version(f"versioned.{name}")

    yield version
    sources_version.cache_clear()
    for module in [m for m in sys.modules if m.startswith("versioned")]:
        del sys.modules[module]


def test_the_version_is_that_of_the_code_a_module_uses(package):
    first = package(
        a="from versioned import b\n", b="import versioned.c\n", c="x = 1\n", d="y = 1\n"
    )
    assert package(d="y = 2\n") == first  # d is not imported
    assert package(c="x = 2\n") != first
    assert package(c="x = 1\n") == first
    assert package(a="def f():\n    from versioned.c import x\n") != first


def test_comments_docstrings_and_empty_lines_do_not_change_the_version(package):
    plain = 'x = "#1"\n\ndef f():\n    return x\n'
    first = package(a=plain)
    documented = (
        '"""About a."""\n\n\nx = "#1"  # a comment\n'
        'def f():\n    """Say\n\n    it.\n    """\n    return x\n'
    )
    assert package(a=documented) == first
    assert package(a=plain.replace("#1", "#2")) != first


def test_packages_of_others_and_what_has_no_source_do_not_count(package):
    first = package(a="import numpy\nimport sys\nfrom versioned.b import f\n", b="f = 1\n")
    assert len(first) == 12
    sources_version.cache_clear()
    assert sources_version("versioned.a", "__main__", "sys") == sources_version(
        "versioned.a", "sys"
    )


def test_the_methods_and_the_loop_have_versions_of_their_own():
    gmp = sources_version("cspkit.training", "cspkit.pruning.gmp")
    assert gmp != sources_version("cspkit.training", "cspkit.pruning.dpf")
    assert gmp == sources_version("cspkit.pruning.gmp", "cspkit.training")


def test_rows_of_another_version_are_measured_again(tmp_path, monkeypatch):
    out = tmp_path / "rows.csv"
    call = {"sparsities": [0.5], "seeds": [0], "steps": 2, "out": out}
    first = compare(BlobBench(), ["dense", "gmp"], **call)
    before = out.read_bytes()
    compare(BlobBench(), ["dense", "gmp"], **call)
    assert out.read_bytes() == before  # the times, too: nothing was measured
    monkeypatch.setattr("cspkit.study.bench.sources_version", lambda *names: str(len(names)))
    again = compare(BlobBench(), ["dense", "gmp"], **call)
    assert list(again["version"]) == ["2", "3"] and len(read_rows(out)) == 2
    assert list(again["test_error"]) == list(first["test_error"])


def test_rows_of_a_version_that_gives_the_same_results_are_kept(tmp_path, monkeypatch):
    out = tmp_path / "rows.csv"
    call = {"sparsities": [0.5], "seeds": [0], "steps": 2, "out": out}
    first = compare(BlobBench(), ["dense", "gmp"], **call)
    before = out.read_bytes()
    dense, gmp = first["version"]
    monkeypatch.setattr("cspkit.study.bench.sources_version", lambda *names: str(len(names)))
    same = tmp_path / "same_results.csv"
    same.write_text(f"recorded,now,rows\n{dense},2,1\n{gmp},3,2\n")
    compare(BlobBench(), ["dense", "gmp"], **call)
    assert out.read_bytes() == before
    same.write_text(f"recorded,now,rows\n{dense},2,1\n{gmp},4,2\n")
    assert len(missing_runs(BlobBench(), ["dense", "gmp"], **call)) == 1
    same.write_text("recorded,rows\na,b\n")
    with pytest.raises(ArgumentError, match="expected the columns recorded, now and rows"):
        compare(BlobBench(), ["dense", "gmp"], **call)
