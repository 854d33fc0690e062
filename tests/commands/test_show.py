"""`probe show` prints a text before and after a perturbation, and nothing that a text hides."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from corpus_fixtures import byte_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig

from probe.api.perturb import Perturbed, bound, changes
from probe.api.texts import OLDER, OTHER, TEXT, ModelTokens, Words
from probe.attention.parse import parse as pattern_of
from probe.commands import _visible, show
from probe.commands._picture import CELLS, kinds, length_of, shares
from probe.errors import ProbeError, UsageError
from probe.perturbations import registry
from probe.perturbations.condition import parse
from probe.perturbations.samplers import FIXED, SOURCES

VALUES = {"what": "'common'", "span": "5", "source": "'vocabulary'"}
CALLS = {"drop": "drop(rate=0.5)"}  # takes one of two
DRAWN = {"attend"}  # leaves the text alone: its picture has tests of its own
FIXED_TEXTS = {"newline": "\n", "pad": "<pad>", "mask": "<mask>"}
TITLES = ("Far context before", "Far context after", "Near context, untouched")


@pytest.fixture(autouse=True)
def _terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def byte_model(tmp_path: Path) -> str:
    """Folder of a model with a byte-level tokenizer and no weights."""
    folder = tmp_path / "bytes"
    byte_tokenizer().save_pretrained(folder)
    LlamaConfig(vocab_size=300).save_pretrained(folder)
    return str(folder)


def run(*arguments: str, text: str | bytes | None = None) -> Result:
    given = [] if text is None else ["--text", "-"]
    return CliRunner().invoke(
        show.command, [*arguments, *given], input=text, catch_exceptions=False
    )


def shown(*arguments: str, text: str | bytes | None = None) -> str:
    result = run(*arguments, text=text)
    assert result.exit_code == 0
    return result.stdout


def parts(output: str) -> list[str]:
    """The far text before, after, and the near text, each as one line."""
    found = []
    for title in TITLES:
        body = output.partition(f"{title}\n")[2].partition("\n\n")[0]
        found.append(" ".join(line[2:] for line in body.splitlines()).replace("⏎ ", "⏎"))
    return found


def call(name: str) -> str:
    """A condition with this perturbation, whatever it requires."""
    required = [
        f"{parameter.name}={VALUES[parameter.name]}"
        for parameter in registry.get(name).parameters
        if parameter.default is parameter.empty
    ]
    return CALLS.get(name, f"{name}({', '.join(required)})")


# ------------------------------------------------------------------------------ what is shown


@pytest.mark.parametrize("name", [name for name in registry.names() if name not in DRAWN])
def test_every_perturbation_can_be_shown(name):
    """Each prints its far text, the boundary, the near text and the counts."""
    output = shown(call(name))
    before, _, near = parts(output)
    assert before + near == TEXT.replace("\n", "⏎")
    at = 198 if registry.get(name).alone else 150  # of a target that stands before it too
    assert f"--- boundary: token {at} ---" in output
    assert f"Far tokens: {at} before, " in output


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_is_bound_and_explained(source):
    """A source draws from the text that a line of the output names."""
    assert f"source {source!r}: {show._ORIGINS[source]}" in shown(f"replace(source={source!r})")
    words = Words()
    drawn = bound(words, TEXT, OLDER, room=50)[source](50, np.random.default_rng(0))
    assert len(drawn) == 50
    if source in FIXED:
        assert set(map(words.decode, drawn)) == {FIXED_TEXTS[source]}
    else:
        origin = {"document": OTHER, "passage": OTHER, "self": OLDER}.get(source, TEXT)
        assert set(drawn) <= set(words.encode(origin))


def test_a_single_token_is_the_models(byte_model):
    """A model without a padding token is told so, one with a line break shows it."""
    assert parts(shown("replace(source='newline')", "--model", byte_model))[1].strip("⏎") == ""
    with pytest.raises(UsageError, match="needs a sampler for source 'mask'"):
        run("replace(source='mask')", "--model", byte_model)


def test_what_is_shown_is_what_the_library_does():
    """The far text after is that of `Condition.apply` with the same seed."""
    words = Words()
    ids = words.encode("one two three four five six seven eight")
    expected = "".join(map(words.decode, parse("shuffle").apply(ids[:6], rng=3)))
    output = shown("shuffle", "--seed", "3", text="one two three four five six seven eight")
    assert parts(output) == ["one two three four five six", expected, " seven eight"]


def test_the_boundary_divides_far_from_near():
    """Tokens from the boundary on are untouched."""
    output = shown("reverse", "--boundary", "2", text="a b c d e")
    assert parts(output) == ["a b", " ba", " c d e"]
    assert "boundary: token 2" in output


def test_older_text_of_a_given_text_is_its_own():
    """No built-in text is taken for a part of the user's document."""
    output = shown("replace(source='self')", text="p q p q p q p q")
    assert set(parts(output)[1]) <= {"p", "q", " "}


def test_truncation_is_said_in_words():
    """An empty far context is no blank space."""
    output = shown("truncate")
    assert "Far context after: nothing is left\n" in output
    assert "150 before, 0 after; 0.0 % of positions unchanged, 0.0 % of tokens kept" in output


def test_a_models_tokens_are_decoded_one_by_one(byte_model):
    """With a tokenizer a position is a token, and a part of a character is still seen."""
    output = shown("reverse", "--model", byte_model, "--boundary", "4", text="ab c é")
    assert "reverse, seed 0, tokens of bytes\n" in output
    assert parts(output) == ["ab c", "c ba", " \ufffd\ufffd"]


# ------------------------------------------------------------------------------ counts, changes


def test_counts_tell_order_from_content():
    """Shuffled tokens are all kept; the share of positions is that of equal ids."""

    def counts(before, after):
        far = map(np.array, (before, after, []))
        return Perturbed("shuffle", *far, Words()).counts

    assert counts([1, 2, 3, 4], [1, 3, 2, 4]) == (
        "Far tokens: 4 before, 4 after; 50.0 % of positions unchanged, 100.0 % of tokens kept"
    )
    assert "25.0 % of tokens kept" in counts([1, 1, 2, 3], [1, 7, 8, 9])


@given(st.lists(st.integers(0, 5), min_size=1), st.data())
def test_a_removal_marks_only_what_is_gone(before, data):
    """Where tokens were only taken out, those left are unmarked and make up the rest."""
    kept = data.draw(st.lists(st.booleans(), min_size=len(before), max_size=len(before)))
    after = [token for token, stays in zip(before, kept, strict=True) if stays]
    removed, moved = changes(before, after)
    assert not any(moved)
    assert [t for t, gone in zip(before, removed, strict=True) if not gone] == after


@given(st.data())
def test_a_replacement_marks_the_positions_that_differ(data):
    """Where as many tokens came out, a position is marked exactly if its token is another."""
    before = data.draw(st.lists(st.integers(0, 3), min_size=1))
    after = data.draw(st.lists(st.integers(0, 3), min_size=len(before), max_size=len(before)))
    removed, moved = changes(before, after)
    assert moved.tolist() == np.not_equal(before, after).tolist()
    assert not any(removed)


# ------------------------------------------------------------------------------ untrusted text


@given(st.text())
def test_words_joined_are_the_text(text):
    """The tokens without a model lose nothing, white space least of all."""
    words = Words()
    assert "".join(map(words.decode, words.encode(text))) == text


def test_ids_that_no_tokenizer_gave_out_are_numbers():
    """A user's perturbation may make up ids; they are shown, not looked up from the end."""
    words = Words()
    words.encode("one two")
    model = ModelTokens(byte_tokenizer(), "bytes")
    assert [words.decode(2), words.decode(-1)] == ["<2>", "<-1>"]
    assert [model.decode(10_000), model.decode(-1)] == ["<10000>", "<-1>"]


@pytest.mark.parametrize(
    ("hidden", "escaped"),
    [
        ("\x1b", r"\x1b"),
        ("\u202e", r"\u202e"),
        ("\u2066", r"\u2066"),
        ("\x07", r"\x07"),
        ("\x9b", r"\x9b"),
        ("\t", r"\t"),
        ("\r", r"\r"),
        ("\u200b", r"\u200b"),
        ("\u2028", r"\u2028"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_hidden_characters_are_escaped(hidden, escaped):
    """Escape sequences, bidi marks and the like are shown and never sent, far and near."""
    output = shown("reverse", text=f"one {hidden}[31m two three {hidden} four")
    assert hidden not in output
    assert output.count(escaped) >= 2


def test_newlines_are_shown_and_kept():
    """A newline is a sign and ends the line."""
    assert "  a⏎\n  b\n" in shown("intact", "--boundary", "2", text="a\nb c")


@given(st.text(), st.integers(10, 40))
def test_no_line_is_wider_than_the_terminal(text, columns):
    """Lines fit, hold only printable characters, and lose nothing but spaces at their ends."""
    rows = list(_visible.lines(_visible.glyphs([(text, False)]), columns))
    painted = [_visible.paint(row, styled=False) for row in rows]
    assert "".join(glyph.char for row in rows for glyph in row) == text
    assert all(line.isprintable() for line in painted)
    for line in painted:
        width = sum(glyph.columns for glyph in _visible.glyphs([(line, False)]))
        assert width <= columns


def test_wide_characters_count_twice():
    """Ideographs take two columns, combining marks none."""
    rows = _visible.lines(_visible.glyphs([("日本語日本語e\u0301", False)]), 10)
    assert [_visible.paint(row, styled=False) for row in rows] == ["日本語日本", "語e\u0301"]


@pytest.mark.slow
def test_an_output_that_cannot_encode_is_sent_escapes():
    """Text beyond the output's encoding is escaped, not an error."""
    arguments = ["intact", "--text", "-"]
    done = subprocess.run(
        [sys.executable, "-c", "from probe.commands.show import command; command()", *arguments],
        input="naïve 日 a b".encode(),
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert rb"  na\xefve \u65e5 a" in done.stdout


# ------------------------------------------------------------------------------ styles


def test_nothing_is_styled_where_there_is_no_terminal():
    """Piped output holds text alone, even if someone forces colours."""
    result = CliRunner().invoke(show.command, ["shuffle"], color=True)
    assert "\x1b" not in result.stdout
    assert "marked" not in result.stdout


def test_changed_tokens_are_marked_on_a_terminal(monkeypatch):
    """What differs is bold and underlined; without the styles the output is the same."""
    arguments = ["reverse", "--boundary", "3"]
    plain = shown(*arguments, text="a b c d")
    monkeypatch.setattr(_visible, "is_styled", lambda: True)
    styled = shown(*arguments, text="a b c d")
    assert "  \x1b[1m\x1b[4m c\x1b[0m b\x1b[1m\x1b[4ma\x1b[0m\n" in styled
    assert re.sub(r"\x1b\[\dm", "", styled).replace(", changes marked", "") == plain


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_may_refuse_styles(monkeypatch, name, value):
    """NO_COLOR and a dumb terminal are sent no escape sequence."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert _visible.is_styled()
    monkeypatch.setenv(name, value)
    assert not _visible.is_styled()


# ------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("arguments", "text", "message"),
    [
        (["shufle"], None, "did you mean 'shuffle'"),
        (["drop(rate=2)"], None, "rate must be a number above 0 and at most 1; got 2"),
        (["shuffle"], "", "'-' is empty"),
        (["shuffle"], "word", "the text has 1 token; allowed: 2 or more, far and near"),
        (["shuffle"], b"a \xff b", "byte 2 is no UTF-8"),
        (["shuffle", "--boundary", "0"], "a b c", "boundary is 0; allowed: 1 to 2"),
        (["shuffle", "--boundary", "3"], "a b c", "boundary is 3; allowed: 1 to 2"),
        (["shuffle", "--text", "no such file"], None, "'no such file': No such file"),
        (["shuffle", "--text", "."], None, "'.': "),
        (["shuffle", "--model", "package://no_such/x.gguf"], None, "'no_such' is not installed"),
    ],
)
def test_mistakes_say_what_is_wrong(arguments, text, message):
    """A wrong request is a UsageError with the value and what is allowed."""
    with pytest.raises(UsageError) as caught:
        run(*arguments, text=text)
    assert message in str(caught.value)


def test_what_a_users_perturbation_refuses_names_the_condition():
    """An error that comes only with this text is no traceback."""

    @registry.register("short_only")
    def short_only(far, *, rng):
        if len(far) > 4:
            raise ValueError("far is too long")
        return far

    with pytest.raises(UsageError, match="condition 'short_only': far is too long"):
        run("short_only")


def test_a_model_without_tokenizer_is_refused(tmp_path, monkeypatch):
    """Words do not stand in silently for the tokens that were asked for."""
    LlamaConfig().save_pretrained(tmp_path)
    monkeypatch.setattr(
        "probe.models.load.AutoTokenizer.from_pretrained", lambda *_, **__: {}["none"]
    )
    with pytest.raises(ProbeError, match="has no tokenizer"):
        run("shuffle", "--model", str(tmp_path))


# ------------------------------------------------------------------------------ built-in texts


def test_the_built_in_texts_are_long_enough_to_draw_from():
    """Another document and older text need not go round at the default boundary."""
    words = Words()
    far = len(words.encode(TEXT)) * 3 // 4
    assert min(len(words.encode(OTHER)), len(words.encode(OLDER))) >= far


@pytest.mark.slow
def test_showing_loads_no_model_library():
    """Without --model no torch, transformers or pandas is imported."""
    code = (
        "import sys\nfrom probe.commands.show import command\n"
        "assert not {'numpy', 'pydantic', 'torch'} & set(sys.modules), 'at import'\n"
        "command(['shuffle'], standalone_mode=False)\n"
        "print({'torch', 'transformers', 'pandas', 'datasets'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")


# ------------------------------------------------------------------------------ attention patterns


def test_a_window_is_drawn_query_by_query():
    """At 32 tokens a cell is a pair: the sink, and the last eight keys."""
    lines = shown("attend(local(8))").splitlines()
    rows = [line[2:] for line in lines if line.startswith("  ")]
    assert len(rows) == CELLS
    for query, row in enumerate(rows):
        seen = [key for key, cell in enumerate(row) if cell == "█"]
        assert seen == [k for k in range(query + 1) if query - k < 8 or k < 1]


def test_a_long_pattern_is_drawn_at_the_length_that_shows_it():
    (part,) = kinds(pattern_of("local(512)"))
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


@pytest.mark.parametrize("condition", ["drop_target", "replace_target(source='unigram')"])
def test_a_target_that_has_earlier_occurrences(condition: str):
    """Of the text at hand a target is chosen that there is something to take out of."""
    printed = shown(condition)
    assert not re.search(r"100\.0 ?% of tokens kept", printed)
    near = printed[printed.index("Near context") :].splitlines()[1].split()[0].strip(".,;")
    before = printed[: printed.index("Far context after")]
    assert near in before


def test_no_target_has_earlier_occurrences():
    """A text whose last quarter repeats nothing is shown as it is, with a note."""
    result = run("drop_target", "--text", "-", text="one two three four five six seven eight")
    assert result.exit_code == 0
    assert "note: no token of the last quarter stands before it too" in result.stderr
