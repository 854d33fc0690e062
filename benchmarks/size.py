"""How large the house is: modules, lines, circles of imports, functions with many parameters.

    python benchmarks/size.py [FOLDER]

Counts what ``CONTRIBUTING.md`` asks of the package ``probe`` in a checkout. Code lines are those
without blank lines, comments and docstrings; imports inside functions count for circles; click
commands do not count among the functions with more than six parameters.
"""

import ast
import io
import statistics
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
MOST_PARAMETERS = 6


def code_lines(text: str) -> int:
    """Lines that hold code: no blank line, comment or docstring."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in LAYOUT and token.string:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else []:
            # A string that stands alone: a docstring, or one behind a constant.
            is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            if is_text and isinstance(statement.value.value, str):
                lines -= set(range(statement.lineno, (statement.end_lineno or 0) + 1))
    return len(lines)


def module_name(path: Path, root: Path) -> str:
    """The dotted name of a file of the package."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST) -> Iterator[str]:
    """Names that are imported anywhere, but for the type checker alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield from imported(node)


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Modules that import one another, directly or by others (Tarjan's components)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = lowest[name] = len(order)
        stack.append(name)
        for other in arrows[name]:
            if other not in order:
                visit(other)
                lowest[name] = min(lowest[name], lowest[other])
            elif other in stack:
                lowest[name] = min(lowest[name], order[other])
        if lowest[name] == order[name]:
            at = stack.index(name)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    sys.setrecursionlimit(10_000)
    for name in arrows:
        if name not in order:
            visit(name)
    return found


def long_signatures(tree: ast.AST) -> Iterator[str]:
    """Functions with more parameters than a reader can hold, click commands aside."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if any("click" in ast.unparse(decorator) for decorator in node.decorator_list):
            continue
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        names = [argument.arg for argument in arguments if argument.arg not in ("self", "cls")]
        if len(names) > MOST_PARAMETERS:
            yield f"{node.name} ({len(names)})"


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    files = {path: path.read_text("utf-8") for path in sorted(root.glob("probe/**/*.py"))}
    trees = {module_name(path, root): ast.parse(text) for path, text in files.items()}
    arrows = {
        name: {other for other in imported(tree) if other in trees and other != name}
        for name, tree in trees.items()
    }
    lengths = {module_name(path, root): text.count("\n") for path, text in files.items()}
    stems = Counter(path.name for path in files if path.name != "__init__.py")
    many = [
        f"{name}.{function}" for name, tree in trees.items() for function in long_signatures(tree)
    ]
    loops = circles(arrows)
    twice = sorted(name for name, count in stems.items() if count > 1)
    longest = max(lengths, key=lengths.__getitem__)
    print(
        f"modules {len(files)}, directly in probe/ {len(list(root.glob('probe/*.py')))}\n"
        f"lines {sum(lengths.values()):,}, code {sum(map(code_lines, files.values())):,}\n"
        f"longest module {longest} ({lengths[longest]}), median"
        f" {statistics.median(lengths.values()):.0f}\n"
        f"circles of imports {len(loops)} {loops or ''}\n"
        f"functions with more than {MOST_PARAMETERS} parameters {len(many)}: {', '.join(many)}\n"
        f"file names that stand twice {len(twice)}: {', '.join(twice)}"
    )


if __name__ == "__main__":
    main()
