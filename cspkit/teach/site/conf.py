"""Settings of Sphinx for the site that `python -m cspkit.teach.book` writes."""

import re

from docutils import nodes

import cspkit

project = "cspkit"
html_title = "cspkit"
version = release = cspkit.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "numpydoc", "cspkit.teach.mathml"]
exclude_patterns = ["static", "templates"]
templates_path = ["templates"]
nitpicky = True
# Types of other libraries; and in docstrings, single backticks hold parameters as well as names.
nitpick_ignore_regex = [("py:.*", "(?!cspkit).*"), ("py:obj", ".*")]
highlight_language = "none"
smartquotes = False

nb_execution_mode = "off"
nb_merge_streams = True
nb_code_prompt_show = "Show the solution"  # only solutions are folded
nb_code_prompt_hide = "Hide the solution"
myst_enable_extensions = ["dollarmath"]
myst_dmath_double_inline = True
myst_heading_anchors = 3
html_math_renderer = "mathml"

autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
default_role = "py:obj"

html_theme = "pydata_sphinx_theme"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_sidebars = {"**": ["contents"]}
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_use_index = False
html_domain_indices = False
# The summaries of search results would be fetched, which browsers refuse for pages on the disk.
html_show_search_summary = False
html_context = {"default_mode": "auto"}
html_theme_options = {
    "logo": {"text": "cspkit"},
    "navbar_center": [],
    "navbar_align": "left",
    "search_bar_text": "Search the workbook ...",
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "footer_start": [],
    "footer_end": [],
}


def readable(app, what, name, obj, options, lines):
    """Keep the equations of a docstring as they are typed, and its bars as bars."""
    before, equation, result = 0, None, []
    for i, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if line.strip() and equation is not None and indent < equation:
            equation = None
        if equation is None and i and line.strip() and not lines[i - 1].strip():
            if indent >= before + 4:
                equation = indent
                result += [" " * before + "::", ""]
        if line.strip() and equation is None:
            before = indent
            parts = re.split("(``.*?``|`[^`]*`)", line)
            line = "".join(p if p.startswith("`") else p.replace("|", r"\|") for p in parts)
        result.append(line)
    lines[:] = result


def linked(app, doctree, page):
    """Link the first mention of each term of the glossary in a notebook."""
    terms = dict(app.env.domaindata["std"]["terms"])  # name, in small letters: (page, anchor)
    if not page.startswith("notebooks/") or not terms:
        return
    longest_first = "|".join(re.escape(name) for name in sorted(terms, key=len, reverse=True))
    mention = re.compile(rf"\b({longest_first})\b", re.IGNORECASE)
    for paragraph in list(doctree.findall(nodes.paragraph)):
        for text in list(paragraph.findall(nodes.Text)):
            if not isinstance(text.parent, nodes.paragraph | nodes.emphasis):
                continue  # in code, or in a link
            parts, end = [], 0
            for found in mention.finditer(text):
                if place := terms.pop(found[0].lower(), None):
                    link = nodes.reference("", found[0], internal=True, classes=["term"])
                    link["refuri"] = f"{app.builder.get_relative_uri(page, place[0])}#{place[1]}"
                    parts += [nodes.Text(text[end : found.start()]), link]
                    end = found.end()
            text.parent.replace(text, [*parts, nodes.Text(text[end:])])


def setup(app):
    app.connect("autodoc-process-docstring", readable, priority=400)  # before numpydoc
    app.connect("doctree-resolved", linked)
