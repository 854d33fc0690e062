"""Write docs/api.md from the docstrings of `import probe`.

    python docs/api.py

A test fails where the file is not what this writes.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import probe
from probe.api.perturb import Perturbed
from probe.api.runs import Compared, RichFinding, Run

FILE = Path(__file__).with_name("api.md")
ORDER = ("score", "run", "open", "compare", "perturb", "attend", "plot")
RETURNED = (Run, Compared, Perturbed, RichFinding)
INTRODUCTION = """\
# `import probe`

Made from the docstrings by `docs/api.py`; the examples are run by the tests. Seven functions, each
imported when it is first called: `import probe` alone loads neither torch nor pandas. Whatever is
wrong with a request is a `ProbeError` (`probe.errors`) that says what, the value, what is allowed.
"""
SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Example|Source):$", re.MULTILINE)


def main() -> None:
    """Write the file."""
    FILE.write_text(page(), encoding="utf-8")


def page() -> str:
    """The whole file."""
    parts = [INTRODUCTION, *map(function, ORDER), "## What they return\n", *map(returned, RETURNED)]
    return "\n".join(parts)


def function(name: str) -> str:
    """A function of the package: its signature, then its docstring."""
    member = getattr(probe, name)
    return f"## `probe.{name}`\n\n```python\n{signature(name, member)}\n```\n\n{prose(member)}"


def returned(member: type) -> str:
    """A class that a function returns: its docstring, and a line for each property of its own."""
    text = f"### `{member.__name__}`\n\n{prose(member)}"
    lines = [f"- `.{name}`: {first_line(each)}" for name, each in properties(member)]
    return text + ("\n" + "\n".join(lines) + "\n" if lines else "")


def properties(member: type) -> Iterator[tuple[str, Any]]:
    """Public properties that a class itself defines."""
    for name, value in vars(member).items():
        if not name.startswith("_") and isinstance(value, property | cached_property):
            yield name, value


def first_line(member: Any) -> str:
    """The first paragraph of a docstring, on one line."""
    return code(inspect.getdoc(member) or "").partition("\n\n")[0].replace("\n", " ")


def signature(name: str, member: Any) -> str:
    """The call, a parameter a line, types as they are written."""
    node = ast.parse(inspect.getsource(member)).body[0]
    assert isinstance(node, ast.FunctionDef)
    assert node.returns is not None
    lines, given = [], node.args
    plain = [None] * (len(given.args) - len(given.defaults)) + given.defaults
    lines += [parameter(*each) for each in zip(given.args, plain, strict=True)]
    lines += [f"*{parameter(given.vararg)}"] if given.vararg else ["*"] if given.kwonlyargs else []
    lines += [parameter(*each) for each in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    lines += [f"**{parameter(given.kwarg)}"] if given.kwarg else []
    listed = "\n".join(f"    {line}," for line in lines)
    return f"probe.{name}(\n{listed}\n) -> {written(node.returns)}"


def parameter(given: ast.arg, default: ast.expr | None = None) -> str:
    """A parameter with its type and its default."""
    assert given.annotation is not None
    value = "" if default is None else f" = {ast.unparse(default)}"
    return f"{given.arg}: {written(given.annotation)}{value}"


def written(annotation: ast.expr) -> str:
    """A type, without the quotes of what is imported for the type checker alone."""
    text = annotation.value if isinstance(annotation, ast.Constant) else None
    return text if isinstance(text, str) else ast.unparse(annotation)


def prose(member: Any) -> str:
    """A docstring of Google's form as Markdown."""
    opening, *rest = SECTION.split(inspect.getdoc(member) or "")
    parts = [code(opening.strip())]
    for title, body in zip(rest[::2], rest[1::2], strict=True):
        body = textwrap.dedent(body).strip("\n")
        parts.append(f"**{title}**\n\n{example(body) if title == 'Example' else entries(body)}")
    return "\n\n".join(parts) + "\n"


def entries(body: str) -> str:
    """``name: text`` in a list; other text as it is."""
    if not re.match(r"\w+: ", body):
        return code(re.sub(r"\s*\n\s*", " ", body))
    items = re.split(r"\n(?=\S)", body)
    pairs = (re.sub(r"\s*\n\s*", " ", item).split(": ", 1) for item in items)
    return "\n".join(f"- `{name}`: {code(text)}" for name, text in pairs)


def example(body: str) -> str:
    """Calls and what they print in blocks of code, the text between them as text."""
    blocks = re.split(r"\n\n", body)
    return "\n\n".join(
        f"```pycon\n{block}\n```" if block.startswith(">>>") else code(block) for block in blocks
    )


def code(text: str) -> str:
    """Marks of code in Markdown's way."""
    return text.replace("``", "`")


if __name__ == "__main__":
    main()
