import base64
import io
import re
import runpy

import matplotlib.pyplot as plt
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from cspkit.arguments import ArgumentError
from cspkit.teach import book, notebooks, pages, plots
from cspkit.teach.mathml import to_mathml

pytestmark = pytest.mark.filterwarnings("ignore:'myst_parser")


def notebook(*cells):
    return new_notebook(
        cells=list(cells), metadata={"language_info": {"name": "python", "file_extension": ".py"}}
    )


def figure(alt=None, colour="red"):
    """An output with a picture, as a cell that draws has it."""
    file = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(file, "png")
    data = {"image/png": base64.b64encode(file.getvalue()).decode(), "text/plain": "<Figure>"}
    metadata = {"image/png": {"alt": alt}} if alt else {}
    return new_output("display_data", data, metadata=metadata)


SOLVED = """def f(x):
    ### BEGIN SOLUTION
    return x
    ### END SOLUTION"""


def first():
    folded = (
        "<details><summary>Why is $y_2$ there?</summary>Because of $z_3$.\n</details>\n\n"
        "`After` that, after this, and after all."
    )
    return notebook(
        new_markdown_cell("# 01 First\n\nA line.\n\n## Heights\n\ninline $x_1$\n\n$$\\sum_i q_i$$"),
        new_code_cell("plot()", outputs=[figure("height against age"), figure(colour="blue")]),
        new_code_cell(SOLVED),
        new_code_cell("print(1 + 1)", outputs=[new_output("stream", text="2\n")]),
        new_markdown_cell(folded),
    )


def second():
    return notebook(
        new_markdown_cell(
            "# 02 Second\n\nSee **01** and notebook 01, `notebook 01`, and "
            "[Heights](01_first.ipynb#heights)."
        ),
        new_code_cell("plot()", outputs=[figure()]),
    )


def sources(folder, front="# Front"):
    """Sources of a site of a front page and two notebooks."""
    folder.mkdir()
    toctree = "```{toctree}\n:glob:\n\nglossary\nnotebooks/*\n```\n"
    (folder / "index.md").write_text(f"{front}\n\n{toctree}")
    (folder / "glossary.md").write_text("# Words\n\n```{glossary}\nAfter\n  Later than.\n```\n")
    book.write_notebooks(
        folder / "notebooks", {"01_first.ipynb": first(), "02_second.ipynb": second()}
    )
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("book")
    book.build(sources(folder / "sources"), folder / "site")
    assert {path.name for path in folder.iterdir()} == {"sources", "site"}
    return folder / "site"


@pytest.fixture(scope="module")
def article(site):
    text = (site / "notebooks" / "01_first.html").read_text()
    return text[text.index("<article") : text.index("</article>")]


def test_every_figure_has_its_text(article, site):
    assert re.findall('<img alt="([^"]+)"', article) == ["height against age Heights"] * 2
    assert 'alt="02 Second"' in (site / "notebooks" / "02_second.html").read_text()


def test_formulas_are_mathml_also_in_folded_parts(article):
    assert article.count("<math") == 4
    assert article.count('display="block"') == 1
    assert "$" not in article
    assert re.search(r"<summary>Why is <math.*</summary>\s*<p>Because of <math", article)
    assert re.search(r"</details>\s*<p><code", article)


def test_the_first_mention_of_a_term_leads_to_the_glossary(article):
    link = (
        r'that, <a class="term [^"]*" href="../glossary.html#term-After">after</a> this, and after'
    )
    assert re.search(link, article)


def test_solutions_are_folded_and_nothing_else(article):
    folded = re.findall(r'<details class="[^"]*hide.*?</details>', article, flags=re.DOTALL)
    assert len(folded) == 1
    assert "Show the solution" in folded[0]
    assert "BEGIN SOLUTION" in folded[0]
    assert article.count("BEGIN SOLUTION") == 1
    assert ">2\n" in article


def test_mentions_of_notebooks_are_links(site):
    text = (site / "notebooks" / "02_second.html").read_text()
    links = re.findall(r'href="01_first.html(#?\w*)"[^>]*><span[^>]*>(.*?)</span></a>', text)
    assert [(a, t) for a, t in links if "First" not in t] == [
        ("", "<strong>01</strong>"),
        ("", "notebook 01"),
        ("#heights", "Heights"),
    ]


def test_pages_have_contents_at_the_side_and_arrows(site):
    text = (site / "notebooks" / "01_first.html").read_text()
    assert re.search(r'<nav class="bd-docs-nav.*?02_second.html.*?</nav>', text, flags=re.DOTALL)
    assert re.search(r'class="right-next"\s+href="02_second.html"', text)
    assert re.search(r'class="left-prev"\s+href="../glossary.html"', text)


def test_nothing_is_loaded_from_elsewhere_or_fetched(site):
    assert pages.problems(site, {}) == []
    for name in ("index.html", "search.html", "notebooks/01_first.html"):
        loads = re.findall(
            r"<(?:script|link|img)[^>]*(?:src|href)=\"([^\"]+)", (site / name).read_text()
        )
        assert loads
        assert not [load for load in loads if "//" in load]
    options = (site / "_static" / "documentation_options.js").read_text()
    assert "SHOW_SEARCH_SUMMARY: false" in options
    assert "math.woff" in (site / "_static" / "site.css").read_text()
    assert (site / "_static" / "math.woff").is_file()


def test_a_broken_link_fails_the_build_and_leaves_the_earlier_site(site, tmp_path):
    before = {p.name: p.stat().st_mtime_ns for p in site.rglob("*")}
    with pytest.raises(book.BookError, match="index.md.*nowhere.md"):
        book.build(sources(tmp_path / "sources", "# Front\n\n[broken](nowhere.md)"), site)
    assert {p.name: p.stat().st_mtime_ns for p in site.rglob("*")} == before
    assert {path.name for path in site.parent.iterdir()} == {"sources", "site"}


def test_a_failed_cell_fails_the_build(tmp_path, monkeypatch):
    failed = new_output("error", ename="ValueError", evalue="too short", traceback=[])
    broken = notebook(new_markdown_cell("# 03 Third"), new_code_cell("f()", outputs=[failed]))
    with pytest.raises(book.BookError, match=r"03_third.ipynb: the cell 'f\(\)' failed: too short"):
        book.write_notebooks(tmp_path / "notebooks", {"03_third.ipynb": broken})

    def execute(notebook):
        raise book.CellExecutionError("", "NameError", "no such name")

    monkeypatch.setattr(book, "execute", execute)
    monkeypatch.setattr("sys.argv", ["book", str(tmp_path / "site")])
    assert book.main() == 1
    assert not (tmp_path / "site").exists()


def test_a_folder_with_other_things_is_not_replaced(tmp_path):
    (tmp_path / "letters.txt").touch()
    with pytest.raises(ArgumentError, match="holds other things than a site"):
        book.build(tmp_path, tmp_path)
    assert (tmp_path / "letters.txt").exists()


@pytest.mark.parametrize(
    "body, fault",
    [
        ("<a href='gone.html'>x</a>", "a 'gone.html' leads to no file"),
        ("<a href='page.html#there'>x</a>", "leads to no place"),
        ("<img src='page.html'>", "1 figures have no alternative text"),
        ("<img alt='a' src='https://example.org/a.png'>", "loaded from another machine"),
        ("<script src='//example.org/a.js'></script>", "loaded from another machine"),
        ("<p>of $x_1$</p>", "formula $x_1$ is not converted"),
    ],
)
def test_what_is_wrong_with_a_page_is_named(tmp_path, body, fault):
    (tmp_path / "page.html").write_text(f"<p id='here'>ok</p>{body}")
    (found,) = pages.problems(tmp_path, {})
    assert found.startswith("page.html: ")
    assert fault in found


def test_good_pages_have_no_problems(tmp_path):
    body = "<code>$x_1$</code><a href='page.html#here'>x</a><a href='https://example.org'>y</a>"
    (tmp_path / "page.html").write_text(f"<p id='here'>ok</p>{body}")
    assert pages.problems(tmp_path, {}) == []
    assert pages.problems(tmp_path, {"page.html": 1, "other.html": 0}) == [
        "page.html: missing, or with fewer figures than the 1 of its notebook",
        "other.html: missing, or with fewer figures than the 0 of its notebook",
    ]
    (tmp_path / "site.css").write_text("a { src: url('https://example.org/a.woff') }")
    assert pages.problems(tmp_path, {}) == ["site.css: loads https://example.org/a.woff"]


def test_names_of_functions_are_set_apart_but_not_inside_an_index():
    space = '<mi>log</mi><mspace width="0.17em"/><mi>n</mi>'
    assert space in to_mathml(r"\log n")
    assert "<msub><mi>log</mi><mn>2</mn></msub>" in to_mathml(r"\log_2 n")
    assert 'rspace="0em">max</mo>' in to_mathml(r"\max(a, b)")
    assert 'rspace="0.17em">max</mo>' in to_mathml(r"\max_j a_j")


def test_bars_of_a_norm_have_one_height_and_unknown_commands_fail():
    bar = '<mo stretchy="false" lspace="0" rspace="0">&#x02016;</mo>'
    assert to_mathml(r"\lVert x \rVert_2").count(bar) == 2
    assert to_mathml(r"\left\| x \right\|").count(bar) == 0
    assert to_mathml(r"\left( \frac{t}{n} \right)").count('stretchy="true"') == 2
    with pytest.raises(ValueError, match="alhpa"):
        to_mathml(r"\alhpa")


@pytest.mark.parametrize("path", book.all_notebooks(), ids=lambda path: path.stem)
def test_every_formula_of_the_workbook_is_understood(path):
    copy = book.prepared(nbformat.read(path, as_version=4), {})
    text = "\n".join(cell.source for cell in copy.cells if cell.cell_type == "markdown")
    text = re.sub(r"(`+).*?\1", "", text, flags=re.DOTALL)
    formulas = re.findall(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", text, flags=re.DOTALL)
    for block, inline in formulas:
        assert "</math>" in to_mathml(block or inline)


def test_all_sources_of_the_site_are_there(tmp_path):
    executed = {p.name: nbformat.read(p, as_version=4) for p in book.all_notebooks()}
    book.assemble(tmp_path, executed)
    front = (tmp_path / "index.md").read_text()
    for name, page in executed.items():
        assert front.count(f"]({'notebooks/' + name}): ") == 1
        assert book.title_and_topic(page)[0] in front
    readme = (book.ROOT / "README.md").read_text()
    for target in book.LINK.findall(readme):
        assert (tmp_path / target).is_file(), target
    glossary = (tmp_path / "glossary.md").read_text()
    assert len(re.findall(r"^\w.*\n  \w", glossary, flags=re.MULTILINE)) >= 40
    assert "(notebooks/10_csp.ipynb)" in glossary


def test_docstrings_keep_their_equations_and_bars():
    readable = runpy.run_path(str(book.SITE / "conf.py"))["readable"]
    typed = """Of |x|, ``|y|`` and `|z|`:

    a = |b|
        c

After.
x : int
    Of |x|."""
    lines = typed.splitlines()
    readable(None, "function", "f", None, None, lines)
    expected = typed.replace("|x|", r"\|x\|").replace("\n\n    a", "\n\n::\n\n    a")
    assert lines == expected.splitlines()


def test_a_figure_is_described_by_its_words():
    figure, (left, right) = plt.subplots(1, 2)
    left.plot([1, 2], label="one")
    left.plot([2, 1], label="two")
    left.set(title="Titles", xlabel="$x_1$", ylabel="y")
    right.set(xlabel="step")
    text = plots.description(figure)
    plt.close(figure)
    assert text == "Titles, y against x_1, with one; two. step"


def test_title_and_topic():
    cell = new_markdown_cell("# 07 The transducer\n\nA lattice, drawn.\n")
    assert book.title_and_topic(notebook(cell)) == ("07 The transducer", "A lattice, drawn.")
    with pytest.raises(ArgumentError, match="notebook starts with 'Hello': expected .*# NN Title"):
        book.title_and_topic(notebook(new_markdown_cell("Hello")))


def test_notebooks_are_written_through_links_and_leave_nothing_behind(tmp_path):
    (tmp_path / "link.ipynb").symlink_to(tmp_path / "01.ipynb")
    notebooks.write(notebook(new_markdown_cell("# 01")), tmp_path / "link.ipynb")
    assert (tmp_path / "link.ipynb").is_symlink()
    assert nbformat.read(tmp_path / "01.ipynb", as_version=4).cells[0].source == "# 01"
    assert {p.name for p in tmp_path.iterdir()} == {"link.ipynb", "01.ipynb"}


def test_a_prefix_without_a_notebook_is_named(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["notebooks", "98"])
    with pytest.raises(SystemExit, match="2"):
        notebooks.main()
    assert "prefixes has '98': no notebook has a name" in capsys.readouterr().err
