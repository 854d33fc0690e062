"""Tables for papers and pages: everything in them is text, whatever it says."""

import re

from probe.findings.table import Table
from probe.render.table_formats import latex, markdown

TABLE = Table("Lengths (1 %)", ["model", "d_1"], [["a & b", "> 512"], ["x|y", "208 (128–384)"]])
HOSTILE = "\\input{x} $a$ #1 ~ ^ % <b>[l](http://x) `c` | \x1b[31m\n\u202e !"


def test_latex_has_the_rules_of_booktabs():
    """One row a line, the first column to the left, its caption in a comment."""
    assert latex(TABLE).splitlines() == [
        "% Lengths (1 %)",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"model & d\_1 \\",
        r"\midrule",
        r"a \& b & $>$ 512 \\",
        r"x\textbar{}y & 208 (128--384) \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_markdown_is_a_table_of_github():
    """Numbers to the right, its caption above it."""
    assert markdown(TABLE).splitlines() == [
        "Lengths (1 %)",
        "",
        "| model | d\\_1 |",
        "| --- | ---: |",
        "| a \\& b | \\> 512 |",
        "| x\\|y | 208 (128–384) |",
    ]


def test_latex_obeys_no_name():
    """No command, no cell and no comment of its own; one line a row."""
    lines = latex(Table(HOSTILE, [HOSTILE, "n"], [[HOSTILE, "1"]])).splitlines()
    assert len(lines) == 8
    for line in (lines[3], lines[5]):
        name = line.removesuffix(r" \\").rpartition(" & ")[0]
        bare = re.sub(
            r"\\(text(backslash|asciitilde|asciicircum|bar)|char34)\{\}|\$[<>]\$", "", name
        )
        assert not re.search(r"(?<!\\)[&%$#_{}~^\\](?![&%$#_{}])", bare)
        assert "\x1b" not in name
        assert "\u202e" not in name


def test_latex_takes_no_name_for_an_option():
    """Of the line break or the rule in front of it."""
    lines = latex(Table("Lengths", ["model"], [["[ours] a"], ["* b"]])).splitlines()
    assert lines[5:7] == [r"{[}ours] a \\", r"{*} b \\"]


def test_markdown_obeys_no_name():
    """No link, no tag, no code and no column of its own."""
    lines = markdown(Table(HOSTILE, [HOSTILE, "n"], [[HOSTILE, "1"]])).splitlines()
    assert len(lines) == 5
    for line in (lines[2], lines[4]):
        assert len(re.findall(r"(?<!\\)\|", line)) == 3
        assert not re.search(r"(?<!\\)[<\[`$]", line)
        assert "\x1b" not in line
