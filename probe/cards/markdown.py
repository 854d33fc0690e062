"""A card as Markdown, in which no name of a run, a model or a document is obeyed as markup."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from probe.analysis.fit import in_order
from probe.cards.card import Answer, Card
from probe.text import counted, printable

_MARKS = re.compile(r"([\\`*_\[\]<>|~&$])")
_STARTS = re.compile(r"^([#+=-]|\d+(?=[.)]))")


def escaped(text: object) -> str:
    """A text that Markdown shows as it is, also at the beginning of a line.

    Args:
        text: Whatever a run, a model or a data set is called; what has no shape is made visible.
    """
    marked = _MARKS.sub(r"\\\1", printable(str(text)).strip())
    return _STARTS.sub(lambda start: _escaped_start(start[1]), marked)


def _escaped_start(sign: str) -> str:
    """A list's number is escaped behind it, any other sign before it."""
    return f"{sign}\\" if sign.isdigit() else f"\\{sign}"


def markdown(card: Card, *, figure: str | None = None) -> str:
    """Write a card.

    Args:
        card: The card.
        figure: Where the picture of the answer is, if it is to be seen; a path of our own.
    """
    parts = [f"# How far {escaped(card.model.get('name', 'the model'))} reads"]
    if card.status != "complete":
        parts.append(f"**This run is {escaped(card.status)}: more is to be scored.**")
    for answer in card.answers:
        parts += _answer(answer)
    if figure:
        parts.append(f"![Loss by distance]({figure})")
    if card.effective_context:
        parts += ["## Effective context", _contexts(card)]
    parts += ["## What was measured", _facts(card)]
    if caveats := dict.fromkeys(line for answer in card.answers for line in answer.caveats):
        parts += ["## Caveats", _list(caveats)]
    parts += [
        "## Rows",
        f"{counted(card.rows['count'], 'row')}, hash `{card.rows['sha256']}`."
        f" {escaped(card.rows['protects'])}",
        escaped(card.rows["how"]),
        "## Cite",
        f"```bibtex\n{card.bibtex}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def table(headers: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table, its cells escaped."""
    lines = [headers, *rows]
    written = [f"| {' | '.join(escaped(cell) for cell in line)} |" for line in lines]
    return "\n".join([written[0], f"|{' --- |' * len(headers)}", *written[1:]])


def _answer(answer: Answer) -> Iterable[str]:
    yield escaped(" ".join(answer.sentences))
    if answer.basis:
        yield escaped(answer.basis)
    for one in answer.tables:
        yield f"{escaped(one.caption)}:"
        yield table(one.headers, one.rows)


def _contexts(card: Card) -> str:
    """The lengths, a row a condition and tolerance; where there is no limit stands a dash."""
    headers = ["condition", "tolerance", "answer", "estimate", "lower limit", "upper limit"]
    order = in_order(one["condition"] for one in card.effective_context)
    rows = [
        [one["condition"], one["tolerance"], one["text"], *map(_number, _lengths(one))]
        for one in sorted(card.effective_context, key=lambda one: order.index(one["condition"]))
    ]
    share = f"{card.settings['analysis']['confidence'] * 100:g} %"
    unit = "Tokens" if card.unit == "tokens" else card.unit
    return f"{unit}; limits of the {share} interval over documents.\n\n{table(headers, rows)}"


def _lengths(context: Mapping[str, Any]) -> list[int | None]:
    names = ("estimate", "lower", "upper")
    return [None if context["kind"] == "unresolved" else context[name] for name in names]


def _number(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _facts(card: Card) -> str:
    passed = [str(one.get("technique")) for one in card.check if one.get("passed")]
    # A compiled body may just be no faster, and is no matter of exactness then.
    failed = [
        name
        for one in card.check
        if not one.get("passed") and (name := str(one.get("technique"))) != "compile"
    ]
    worst = max((abs(one["worst"]) for one in card.check if "worst" in one), default=None)
    checked = f"exact: {', '.join(passed) or 'none'}"
    if failed:
        checked += f"; not exact, and switched off: {', '.join(failed)}"
    if worst is not None:
        units = {one.get("unit", "nats") for one in card.check}
        of_losses, unit = " of a loss" if "nats" in units else "", " / ".join(sorted(units))
        checked += f"; largest difference{of_losses} {worst:.1g} {unit}"
    rows = {
        "run": card.run,
        "model": _listed(card.model),
        "data": _listed(card.data),
        "protocol": _listed(card.protocol),
        "windows": _listed(card.windows),
        "conditions": "; ".join(card.conditions),
        "settings": _listed(card.settings),
        "self-check": checked if card.check else "not recorded",
        "versions": _listed(card.versions),
    }
    return table(["", ""], rows.items())


def _listed(values: Mapping[str, Any]) -> str:
    """``name: value`` of each; lists with commas, objects in braces, the rest as JSON."""
    return "; ".join(f"{name}: {_value(value)}" for name, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name}: {_value(part)}' for name, part in value.items())}}}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value)) or "none"
    return value if isinstance(value, str) else json.dumps(value)


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {escaped(line)}" for line in lines)
