"""`probe show`: what a perturbation does to a text, in the terminal."""

import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from probe.commands.options import command_lines, names_of, user_files
from probe.errors import UsageError
from probe.text import shown

if TYPE_CHECKING:
    from probe.commands._text import Tokens
    from probe.perturbations.condition import Condition
    from probe.perturbations.samplers import Sampler

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
    import numpy as np

    from probe.commands._text import OLDER, TEXT, tokens_of
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
    content = TEXT if text is None else read(text)
    tokens = tokens_of(model)
    ids = tokens.encode(content)
    if boundary is None and parsed.alone:
        boundary = _before_a_repeat(ids, tokens)
        if boundary is None:
            note("no token of the last quarter stands before it too: there is none to take out")
    boundary = _boundary(boundary, len(ids))
    far, near = ids[:boundary], ids[boundary:]
    whole = tokens.text(content)
    far_text = None if whole is None else whole[:boundary]
    sentences = any("sentence" in step.parameters.values() for step in parsed.steps)
    if sentences and far_text is not None and far_text.count("sentence") < 2:
        note("the far text has fewer than two sentences: nothing of them can be moved")
    samplers = bound(tokens, content, OLDER if text is None else content, room=boundary)
    try:
        after = parsed.apply(
            far,
            rng=seed,
            sources=samplers,
            text=far_text,
            targets=np.array(near[:1]),
            passage=slice(0, boundary // 4),
        )
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise UsageError(f"condition {shown(parsed.text)}: {error}") from error
    _print(parsed, tokens, far, after, near, seed)


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


def bound(tokens: "Tokens", text: str, older: str, *, room: int) -> Mapping[str, "Sampler"]:
    """Make a sampler for each source name; single tokens that *tokens* has not are left out.

    Args:
        tokens: Encodes all texts.
        text: Gives the vocabulary and how often each token occurs.
        older: What stands before *text* in its document.
        room: The most tokens that are ever asked for.
    """
    import numpy as np

    from probe.commands._text import OTHER
    from probe.perturbations.samplers import FIXED, stretch, unigram, vocabulary

    ids = tokens.encode(text)
    fixed = {}
    for name in FIXED:
        with suppress(UsageError):
            fixed[name] = vocabulary([tokens.single(name)])
    return fixed | {
        "vocabulary": vocabulary(sorted(set(ids))),
        "unigram": unigram(np.bincount(ids)),
        "document": stretch([tokens.encode(OTHER)], room=room),
        "passage": stretch([tokens.encode(OTHER)], room=room),
        "self": stretch([tokens.encode(older)], room=room),
    }


def changes(before: list[int], after: list[int]) -> tuple[list[bool], list[bool]]:
    """Find the tokens that changed.

    Returns:
        For each token of *before* whether it was removed, and for each of *after* whether another
        one stood in its place. Where *after* is *before* with gaps, only the gaps changed.
    """
    kept = [False] * len(before)
    rest = iter(after)
    wanted = next(rest, None)
    for index, token in enumerate(before):
        if token == wanted:
            kept[index] = True
            wanted = next(rest, None)
    if sum(kept) == len(after):
        return [not is_kept for is_kept in kept], [False] * len(after)
    moved = [new != old for new, old in zip(after, before, strict=False)]
    return [False] * len(before), moved + [True] * (len(after) - len(moved))


def counts(before: list[int], after: list[int]) -> str:
    """Say in one line how much of the far context is left; *before* holds at least one token."""
    same = sum(old == new for old, new in zip(before, after, strict=False)) / len(before)
    kept = (Counter(before) & Counter(after)).total() / len(before)
    return (
        f"Far tokens: {len(before)} before, {len(after)} after; {same:.1%} of positions unchanged, "
        f"{kept:.1%} of tokens kept"
    )


def _boundary(boundary: int | None, length: int) -> int:
    if length < 2:
        raise UsageError(f"the text has {length} token(s); allowed: 2 or more, far and near")
    if boundary is None:
        return length - max(1, length // 4)
    if not 1 <= boundary < length:
        raise UsageError(
            f"--boundary is {boundary}; allowed: 1 to {length - 1}, as the text has {length} tokens"
        )
    return boundary


def _before_a_repeat(ids: list[int], tokens: "Tokens") -> int | None:
    """A boundary in the last quarter whose target stands in the far text; of several the longest.

    What takes out earlier occurrences of a target has nothing to show with most other ones.
    """
    places = [at for at in range(_boundary(None, len(ids)), len(ids)) if ids[at] in ids[:at]]
    return max(places, key=lambda at: len(tokens.decode(ids[at])), default=None)


def _print_pattern(condition: "Condition", model: str | None) -> None:
    """Draw what a pattern of attention lets queries see, in layers and heads that a model has."""
    from probe.commands._picture import pictures
    from probe.commands._visible import say

    assert condition.pattern is not None
    if model is not None:
        from probe.commands.options import quiet
        from probe.models.load import open_source

        quiet()
        config = open_source(model).config.get_text_config()
        condition.pattern.refuse_unknown(config.num_hidden_layers, config.num_attention_heads)
    drawn = list(pictures(condition.pattern))
    say(condition.text)
    for picture in drawn:
        say(f"\n{picture}")


def _print(
    condition: "Condition",
    tokens: "Tokens",
    before: list[int],
    after: list[int],
    near: list[int],
    seed: int,
) -> None:
    from probe.commands._visible import glyphs, is_styled, lines, paint, say, terminal_columns

    styled, columns = is_styled(), terminal_columns()
    spell = cache(tokens.decode)
    removed, moved = changes(before, after)

    def section(title: str, ids: list[int], marks: list[bool]) -> None:
        pieces = zip(map(spell, ids), marks, strict=True)
        body = [paint(line, styled=styled) for line in lines(glyphs(pieces), columns - 2)]
        say("\n".join([title, *(f"  {line}" for line in body)]) + "\n", styled=styled)

    say(f"{condition.text}, seed {seed}, {tokens.name}{', changes marked' if styled else ''}")
    if "targets" in condition.reads:
        say("the target is the first token behind the boundary")
    for source in sorted(condition.sources):
        say(f"source {source!r}: {_ORIGINS[source]}")
    say("")
    section("Far context before", before, removed)
    section("Far context after" if after else "Far context after: nothing is left", after, moved)
    say(f"--- boundary: token {len(before)} ".ljust(columns, "-") + "\n")
    section("Near context, untouched", near, [False] * len(near))
    say(counts(before, after))
