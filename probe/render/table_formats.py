"""Tables for papers and pages of others: LaTeX with booktabs, and Markdown."""

import re
from collections.abc import Callable, Sequence

from probe.findings.table import Table
from probe.text import printable

_TEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "−": r"$-$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",
}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|~$#&!])")


def latex(table: Table) -> str:
    r"""A ``tabular`` with the rules of booktabs, its caption in a comment above it.

    Args:
        table: The table. Its texts are escaped: of a name nothing is obeyed.

    Returns:
        Lines that need ``\usepackage{booktabs}``.
    """
    columns = "l" + "r" * (len(table.headers) - 1)
    return "\n".join(
        [
            f"% {printable(table.caption)}",
            f"\\begin{{tabular}}{{{columns}}}",
            "\\toprule",
            _line(table.headers, _tex),
            "\\midrule",
            *(_line(row, _tex) for row in table.rows),
            "\\bottomrule",
            "\\end{tabular}",
        ]
    )


def markdown(table: Table) -> str:
    """A table of GitHub's Markdown below its caption.

    Args:
        table: The table. Its texts are escaped: no name is a link, a tag or a column of its own.
    """
    rule = ["---", *["---:"] * (len(table.headers) - 1)]
    lines = [map(_marked, table.headers), rule, *(map(_marked, row) for row in table.rows)]
    return "\n".join(
        [f"{_marked(table.caption)}\n", *(f"| {' | '.join(line)} |" for line in lines)]
    )


def _line(cells: Sequence[str], escape: Callable[[str], str]) -> str:
    return " & ".join(map(escape, cells)) + r" \\"


def _tex(text: str) -> str:
    escaped = "".join(_TEX.get(sign, sign) for sign in printable(text))
    # Behind a line break or a rule these would be an option of theirs.
    return f"{{{escaped[0]}}}{escaped[1:]}" if escaped[:1] in ("[", "*") else escaped


def _marked(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", printable(text))
