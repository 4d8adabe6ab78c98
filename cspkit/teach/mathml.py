"""A math renderer for Sphinx: formulas become MathML when the site is built.

The browser draws MathML itself, so the pages need no script for formulas. In conf.py:

    extensions = ["cspkit.teach.mathml"]
    html_math_renderer = "mathml"
"""

from __future__ import annotations

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging


def to_mathml(tex: str, *, block: bool = False) -> str:
    r"""Convert a formula.

    Parameters
    ----------
    tex : str
        The formula in LaTeX, without dollar signs.
    block : bool
        Whether the formula has a line of its own.

    Returns
    -------
    str
        A `math` element.

    Raises
    ------
    ValueError
        If the formula has a command that is unknown, such as `\alhpa`.
    """
    try:
        mathml = convert(tex, display="block" if block else "inline")
    except Exception as error:  # the converter has many kinds of errors
        raise ValueError(f"formula {tex!r}: {type(error).__name__} {error}") from None
    if "\\" in mathml:
        raise ValueError(f"formula {tex!r}: a command of it is not known")
    # Bars of a norm that has an index would grow, and its other bars would not.
    mathml = re.sub(r"<mo>(&#x02016;|&#x0007C;)</mo>", r'<mo stretchy="false">\1</mo>', mathml)
    space = r'\1<mspace width="0.17em"/>'
    return re.sub(r"(<mi>(?:log|ln|exp|sin|cos)</mi>)(?=<m[ins])", space, mathml)


def _visit(translator: nodes.NodeVisitor, node: nodes.math | nodes.math_block) -> None:
    block = isinstance(node, nodes.math_block)
    try:
        mathml = to_mathml(node.astext(), block=block)
    except ValueError as error:
        logging.getLogger(__name__).warning("%s", error, location=node)
        mathml = ""
    translator.body.append(f'<div class="formula">{mathml}</div>' if block else mathml)
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer with Sphinx."""
    app.add_html_math_renderer("mathml", (_visit, None), (_visit, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
