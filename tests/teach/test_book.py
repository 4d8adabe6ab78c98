import re

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from cspkit.arguments import ArgumentError
from cspkit.teach import book, notebooks


def notebook(*cells):
    return new_notebook(cells=list(cells))


def test_formulas_become_mathml_and_need_no_script():
    body = book.to_html(notebook(new_markdown_cell("inline $x_1$ and\n\n$$\\sum_i y_i$$\n")))
    assert "<msub>" in body
    assert 'display="block"' in body
    assert "$" not in body
    whole = book.page("T", body)
    assert not any(tag in whole for tag in ("<script", "<link", "src='http", 'src="http'))


def test_code_outputs_and_folded_answers_are_shown():
    code = new_code_cell("print(1 + 1)", outputs=[new_output("stream", text="2\n")])
    answer = new_markdown_cell("<details><summary>Why?</summary>\n\nBecause.\n</details>")
    body = book.to_html(notebook(code, answer))
    assert "print" in body
    assert ">2\n" in body
    assert "<summary>Why?</summary>" in body


def test_formulas_in_folded_answers_are_formulas():
    folded = "<details><summary>Hint</summary>Take $x_1$.</details>"
    assert "<msub>" in book.to_html(notebook(new_markdown_cell(folded)))


@pytest.mark.parametrize("path", book.all_notebooks(), ids=lambda path: path.stem)
def test_every_formula_of_the_workbook_is_understood(path):
    nb = book.nbformat.read(path, as_version=4)
    nb.cells = [cell for cell in nb.cells if cell.cell_type == "markdown"]
    body = re.sub(r"<(code|pre).*?</\1>", "", book.to_html(nb), flags=re.DOTALL)
    assert "$" not in body
    for formula in re.findall(r"<math.*?</math>", body, flags=re.DOTALL):
        assert "\\" not in formula, formula


def test_links_to_notebooks_lead_to_pages():
    body = book.to_html(notebook(new_markdown_cell("[next](01_sparse_signals.ipynb)")))
    assert 'href="01_sparse_signals.html"' in body


def test_title_and_topic():
    cell = new_markdown_cell("# 07 The transducer\n\nA lattice, drawn.\n")
    assert book.title_and_topic(notebook(cell)) == ("07 The transducer", "A lattice, drawn.")
    with pytest.raises(ArgumentError, match="notebook starts with 'Hello': expected .*# NN Title"):
        book.title_and_topic(notebook(new_markdown_cell("Hello")))


def test_notebooks_are_written_through_links_and_leave_nothing_behind(tmp_path):
    (tmp_path / "link.ipynb").symlink_to(tmp_path / "01.ipynb")
    notebooks.write(notebook(new_markdown_cell("# 01")), tmp_path / "link.ipynb")
    assert (tmp_path / "link.ipynb").is_symlink()
    assert book.nbformat.read(tmp_path / "01.ipynb", as_version=4).cells[0].source == "# 01"
    assert {p.name for p in tmp_path.iterdir()} == {"link.ipynb", "01.ipynb"}


def test_a_prefix_without_a_notebook_is_named(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["notebooks", "98"])
    with pytest.raises(SystemExit, match="2"):
        notebooks.main()
    assert "prefixes has '98': no notebook has a name" in capsys.readouterr().err


def test_pages_are_linked_in_order(tmp_path, monkeypatch):
    cells = [new_markdown_cell(f"# 0{i} Title {i}\n\nTopic {i}.") for i in range(3)]
    executed = []

    def execute(nb):
        executed.append(nb)
        return nb

    monkeypatch.setattr(book, "execute", execute)
    paths = []
    for i, cell in enumerate(cells):
        paths.append(tmp_path / f"0{i}_title.ipynb")
        book.nbformat.write(notebook(cell), paths[-1])
    monkeypatch.setattr(book, "all_notebooks", lambda: paths)
    book.write_book(tmp_path / "site")
    assert len(executed) == 3
    middle = (tmp_path / "site" / "01_title.html").read_text()
    assert "00_title.html" in middle
    assert "02_title.html" in middle
    contents = (tmp_path / "site" / "index.html").read_text()
    assert all(f"0{i}_title.html" in contents for i in range(3))
    assert "Topic 2." in contents
    assert len(list((tmp_path / "site").iterdir())) == 4  # three pages, the contents
