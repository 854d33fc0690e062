"""`probe show`: what a perturbation does to a text, in the terminal."""

import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from probe.commands.options import command_lines, names_of, quiet, user_files
from probe.errors import UsageError
from probe.text import shown

if TYPE_CHECKING:
    from probe.api.perturb import Perturbed
    from probe.api.texts import Tokens
    from probe.perturbations.condition import Condition

_ORIGINS = {
    "vocabulary": "the distinct tokens of this text, each as likely",
    "unigram": "the tokens of this text, each as often as in it",
    "document": "consecutive tokens of another document, the opening of Moby-Dick",
    "passage": "consecutive tokens of another document, the opening of Moby-Dick",
    "self": "consecutive older tokens of the same document (of a text given: any of its own)",
    "newline": "the token of a line break, everywhere",
    "pad": "the padding token, everywhere",
    "mask": "the mask token, everywhere",
}


@click.command(
    "show",
    short_help="What a perturbation does to a text.",
    epilog=command_lines(
        "probe show 'shuffle(span=5)'",
        "probe show \"replace(source='document')\" --text my.txt --model models/mine",
        "probe show 'attend(local(8))'",
    ),
)
@click.argument("condition", shell_complete=names_of("probe.perturbations.registry"))
@click.option("--text", metavar="FILE|-", help="UTF-8 text to perturb; default: some Jane Austen.")
@click.option("--model", metavar="PATH", help="Use this model's tokens; default: words.")
@click.option(
    "--boundary",
    metavar="N",
    type=int,
    help="Index of the first token that stays intact; default: the last quarter does.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@user_files("perturbations")
def command(
    condition: str, text: str | None, model: str | None, boundary: int | None, seed: int
) -> None:
    """Print a text's far context before and after CONDITION, and the near context behind it.

    CONDITION is written as in a configuration: "shuffle(span=5)", "replace(source='document')",
    "[drop(rate=0.5), shuffle]"; `probe list` has the names. Of an attention pattern,
    "attend(local(8))", the mask is drawn; with --model its layers and heads are checked.
    """
    from probe.api.perturb import apply
    from probe.api.texts import OLDER, TEXT, tokens_of
    from probe.commands._visible import note
    from probe.perturbations.condition import parse

    parsed = parse(condition)
    if parsed.pattern is not None:
        if text is not None or boundary is not None:
            given = "--boundary" if text is None else "--text"
            raise UsageError(
                f"{given} with {shown(parsed.text)}: a mask is drawn, no text perturbed"
            )
        _print_pattern(parsed, model)
        return
    if model is not None:
        quiet()
    tokens, content = tokens_of(model), TEXT if text is None else read(text)
    older = OLDER if text is None else None
    if boundary is None and parsed.alone:
        boundary = _before_a_repeat(tokens.encode(content), tokens)
        if boundary is None:
            note("no token of the last quarter stands before it too: there is none to take out")
    done = apply(parsed, content, tokens, boundary=boundary, seed=seed, older=older)
    whole = tokens.text(content)
    sentences = any("sentence" in step.parameters.values() for step in parsed.steps)
    if sentences and whole is not None and whole[: len(done.before)].count("sentence") < 2:
        note("the far text has fewer than two sentences: nothing of them can be moved")
    _print(parsed, done, seed)


def read(file: str) -> str:
    """Read a text.

    Args:
        file: Path of a UTF-8 file, ``-`` for standard input.

    Raises:
        UsageError: If it cannot be read, is no UTF-8 or holds nothing.
    """
    try:
        given = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        content = given.decode("utf-8")
    except OSError as error:
        raise UsageError(f"--text {shown(file)}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--text {shown(file)}: byte {error.start} is no UTF-8") from error
    if not content:
        raise UsageError(f"--text {shown(file)} is empty; allowed: a text of at least 2 tokens")
    return content


def _before_a_repeat(ids: list[int], tokens: "Tokens") -> int | None:
    """A boundary in the last quarter whose target stands in the far text; of several the longest.

    What takes out earlier occurrences of a target has nothing to show with most other ones.
    """
    first = len(ids) - max(1, len(ids) // 4)
    places = [at for at in range(max(first, 1), len(ids)) if ids[at] in ids[:at]]
    return max(places, key=lambda at: len(tokens.decode(ids[at])), default=None)


def _print_pattern(condition: "Condition", model: str | None) -> None:
    """Draw what a pattern of attention lets queries see, in layers and heads that a model has."""
    from probe.commands._picture import pictures
    from probe.commands._visible import say

    assert condition.pattern is not None
    if model is not None:
        from probe.models.load import open_source

        quiet()
        config = open_source(model).config.get_text_config()
        if "" in condition.attentions:  # of an encoder–decoder's three each has its own numbers
            condition.pattern.refuse_unknown(config.num_hidden_layers, config.num_attention_heads)
    drawn = list(pictures(condition.pattern))
    say(condition.text)
    for picture in drawn:
        say(f"\n{picture}")


def _print(condition: "Condition", done: "Perturbed", seed: int) -> None:
    from probe.commands._visible import glyphs, is_styled, lines, paint, say, terminal_columns

    styled, columns = is_styled(), terminal_columns()
    spell = cache(done.tokens.decode)

    def section(title: str, ids: Sequence[int], marks: Sequence[bool]) -> None:
        pieces = zip(map(spell, ids), marks, strict=True)
        body = [paint(line, styled=styled) for line in lines(glyphs(pieces), columns - 2)]
        say("\n".join([title, *(f"  {line}" for line in body)]) + "\n", styled=styled)

    marked = ", changes marked" if styled else ""
    say(f"{condition.text}, seed {seed}, {done.tokens.name}{marked}")
    if "targets" in condition.reads:
        say("the target is the first token behind the boundary")
    for source in sorted(condition.sources):
        say(f"source {source!r}: {_ORIGINS[source]}")
    say("")
    before, after, near = (ids.tolist() for ids in (done.before, done.after, done.near))
    section("Far context before", before, done.removed.tolist())
    title = "Far context after" if after else "Far context after: nothing is left"
    section(title, after, done.changed[: len(after)].tolist())
    say(f"--- boundary: token {len(before)} ".ljust(columns, "-") + "\n")
    section("Near context, untouched", near, [False] * len(near))
    say(done.counts)
