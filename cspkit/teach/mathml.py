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
    return _spaced(mathml)


def _spaced(mathml: str) -> str:
    """Give bars one height and no space, and names of functions the space that TeX gives them."""
    bar = r'<mo(?! stretchy="true")[^>]*>(&#x02016;|&#x0007C;)</mo>'
    mathml = re.sub(bar, r'<mo stretchy="false" lspace="0" rspace="0">\1</mo>', mathml)
    mathml = re.sub(
        r"<mo>([a-z]{2,})</mo>(?=(<mo [^>]*>&#x00028;)?)",
        lambda name: f'<mo lspace="0.17em" rspace="{0 if name[2] else 0.17}em">{name[1]}</mo>',
        mathml,
    )
    # Not inside an index or a power, whose number of parts is fixed.
    function = r"(?<![bpr]>)(<mi>(?:log|ln|exp|sin|cos)</mi>)(?=<m[ins])"
    return re.sub(function, r'\1<mspace width="0.17em"/>', mathml)


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
