"""`probe show attend(...)`: the mask as a picture, cell by cell."""

import pytest
from click.testing import CliRunner

from probe.attention.parse import parse
from probe.commands import show
from probe.commands._picture import CELLS, kinds, length_of, shares


def shown(condition):
    result = CliRunner().invoke(show.command, [condition])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_window_is_drawn_query_by_query():
    """At 32 tokens a cell is a pair: the sink, and the last eight keys."""
    lines = shown("attend(local(8))").splitlines()
    rows = [line[2:] for line in lines if line.startswith("  ")]
    assert len(rows) == CELLS
    for query, row in enumerate(rows):
        seen = [key for key, cell in enumerate(row) if cell == "█"]
        assert seen == [k for k in range(query + 1) if query - k < 8 or k < 1]


def test_a_long_pattern_is_drawn_at_the_length_that_shows_it():
    (part,) = kinds(parse("local(512)"))
    length = length_of(part)
    assert 512 < length <= 4 * 512
    picture = shares(part, length, length)
    assert picture[-1, -1] > 0
    assert picture[-1, 2] == 0
    assert picture[-1, 0] > 0  # the sink


def test_each_kind_of_head_has_a_picture():
    told = shown("attend(heads(gaussian, heads=[2]) + heads(local(4), layers=[0]))")
    for where in ("layer 0, head 2;", "layer 0, other heads;", "other layers, head 2;"):
        assert where in told
    assert "other layers, other heads: the model's own attention" in told


def test_compressed_keys_are_told():
    assert "far keys, before token 24, are pressed" in shown("attend(pool(4))")


@pytest.mark.parametrize("condition", ["attend(local(0))", "attend(nothing)", "attend()"])
def test_a_mistake_is_one_line(condition):
    result = CliRunner().invoke(show.command, [condition])
    assert result.exit_code != 0
    assert result.stdout == ""


def test_what_does_nothing_or_does_not_go_is_refused():
    """Options about a text, and terms that clash, before anything is drawn."""
    runner = CliRunner()
    for arguments, told in (
        (["attend(local(8))", "--boundary", "3"], "--boundary with 'attend(local(w=8, sinks=1))'"),
        (["attend(local(8))", "--text", "-"], "--text with 'attend(local(w=8, sinks=1))'"),
    ):
        result = runner.invoke(show.command, arguments)
        assert result.exit_code != 0
        assert told in str(result.exception)
    result = runner.invoke(show.command, ["attend(local(8) + pool(3))"])
    assert result.exit_code != 0
    assert "local" not in result.output
