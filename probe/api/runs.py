"""Run folders: made, opened, compared and drawn."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from probe.analysis.open_run import OpenRun
from probe.analysis.proxy import use_proxy
from probe.errors import ProbeError, UsageError
from probe.findings.base import Finding, choose, findings, plots, refuse_without_losses
from probe.findings.chart import EmptyChartError
from probe.findings.compare.comparison import Comparison
from probe.findings.compare.comparison import compare as compare_two
from probe.findings.compare.finding import run_table, told
from probe.render.figures import draw
from probe.render.notebook import html
from probe.render.terminal import text
from probe.text import counted, printable, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from transformers import PreTrainedModel

    from probe.config import Config
    from probe.runs.rows import Progress


class RichFinding(Finding):
    """A finding that prints as text, and that a notebook shows with its figures and tables."""

    @classmethod
    def of(cls, finding: Finding) -> "RichFinding":
        """The same finding."""
        return cls(**{field.name: getattr(finding, field.name) for field in fields(finding)})

    def __str__(self) -> str:
        return text(self, wrap=True)

    def __repr__(self) -> str:
        return f"<{self.id}: {shown(self.sentence or self.title)}>"

    def _repr_html_(self) -> str:
        return html([self])


class Run(OpenRun):
    """A run folder that is open: its rows, its curve and what is to be said of it.

    In a notebook it shows its answer: sentence, figure, table. It is closed with its ``with``, or
    when nothing refers to it any more; frames and findings stay.
    """

    @cached_property
    def scores(self) -> pd.DataFrame:
        """All rows: a loss a target, boundary, condition and repeat, and ``delta`` (nats).

        Of an encoder without a head both are missing, and ``embedding`` is what was measured.

        ``condition`` and ``document`` are categories; rows of ``intact`` have no boundary (−1). A
        long run has millions of rows: `scores` is read when it is first asked for.
        """
        rows = "SELECT *, nll::DOUBLE - nll_intact::DOUBLE AS delta FROM scores"
        frame: pd.DataFrame = self.connection.sql(rows).df()
        return frame.astype({"document": "category", "condition": "category"})

    @cached_property
    def findings(self) -> tuple[RichFinding, ...]:
        """All that is to be said of the run, its answer first."""
        return tuple(map(RichFinding.of, findings(self)))

    @cached_property
    def answer(self) -> RichFinding:
        """The finding that answers the run: ``.sentence``, ``.tables``, ``.charts``, ``.caveats``.

        Lengths as numbers are in ``contexts``.
        """
        brief = [one for one in findings(self, brief=True) if one.shown]
        if not brief:
            raise ProbeError(f"run '{self.path}' has no finding to show")
        return RichFinding.of(brief[0])

    def __repr__(self) -> str:
        documents = counted(len(self.documents), "document")
        return f"<run {shown(self.name)}: {shown(self.model)} on {shown(self.data)}, {documents}>"

    def _repr_html_(self) -> str:
        return html([self.answer], charts=1)


def open(folder: str | Path, *, proxy: str | Path | None = None) -> Run:
    """Open a run folder, to read it; nothing is written into it.

    Args:
        folder: What `probe.run`, or ``probe run``, has written.
        proxy: The folder of a cheaper model's run on more documents of the same data and windows,
            which narrows the intervals.

    Returns:
        The open run. Among what it has are ``scores`` and ``curve``, frames; ``answer`` and
        ``findings``; ``contexts``, the effective contexts as numbers; ``record``, its ``run.json``;
        and ``warnings``.

    Raises:
        UsageError: If there is no run folder.
        ProbeError: If it cannot be read, or holds no score.

    Example:
        >>> import probe
        >>> run = probe.open("results/first")
        >>> run.answer
        >>> run.curve[["condition", "distance_from", "delta", "low", "high"]]
        >>> run.scores.groupby("condition", observed=True)["delta"].mean()
        >>> [(one.condition, one.tolerance, one.lower, one.upper) for one in run.contexts]
    """
    for name, path in ({"run": folder} | ({} if proxy is None else {"proxy": proxy})).items():
        if not isinstance(path, str | PathLike):
            raise UsageError(f"{name} is {shown(path)}; allowed: the path of a run folder")
    run = Run.of_folder(folder, write=False)
    if proxy is not None:
        with OpenRun.of_folder(proxy, write=False) as small:
            use_proxy(run, small)
    return run


def run(
    config: "str | Path | Mapping[str, Any] | Config",
    *,
    results: str | Path = "results",
    model: "PreTrainedModel | None" = None,
    progress: bool = True,
) -> Run:
    """Score a configuration, going on where an earlier call stopped, and open the run.

    Args:
        config: Path of a YAML file, what one would hold, or a configuration that is checked.
        results: The folder that holds the run folders.
        model: A model of transformers that is loaded already, in evaluation mode; it must be the
            one that the configuration names, whose tokenizer is used.
        progress: Whether a bar and notes are printed, to standard error.

    Returns:
        The open run; its folder is ``.path``.

    Raises:
        UsageError: If the configuration does not fit model, data or an existing folder.
        ProbeError: If something cannot be read or written, or losses are not finite.

    Example:
        >>> import probe
        >>> config = {
        ...     "name": "my-run",
        ...     "model": {"path": "gpt2"},
        ...     "data": {"path": "texts/*.txt"},
        ...     "windows": {"length": 64},
        ...     "conditions": ["truncate", "shuffle"],
        ... }
        >>> run = probe.run(config, progress=False)
        >>> run.path, len(run.documents)
        (PosixPath('results/my-run'), 8)
    """
    from tqdm import tqdm

    from probe.api.score import no_bars
    from probe.config import Config, check, load
    from probe.models.load import FAMILIES
    from probe.runs import run as scoring

    if not isinstance(config, Config):
        config = load(Path(config)) if isinstance(config, str | Path) else check(config)
    with tqdm(total=None, unit="window", file=sys.stderr, delay=1e-3, disable=not progress) as bar:

        def listen(done: "Progress") -> None:
            bar.total = done.total
            bar.update(done.windows - bar.n)

        def say(line: str) -> None:
            if progress:
                bar.write(f"note: {printable(line)}", file=sys.stderr)

        _, scorer = FAMILIES[config.protocol.family]
        loaded = None if model is None else scorer(model)
        with no_bars():
            folder = scoring.run(config, Path(results), model=loaded, listen=listen, say=say)
    return open(folder)


@dataclass(frozen=True, eq=False, repr=False)
class Compared:
    """Runs side by side: their conclusion, printed as text and shown with tables in a notebook.

    Attributes:
        table: A row for each run, with the effective context at each tolerance.
        findings: What is to be said of them together: the conclusion first, then all the rest.
        differences: Of two runs B − A as frames (``curve``, ``octaves``, ``contexts``, ``losses``),
            with intervals; ``None`` of any other number.
    """

    table: pd.DataFrame
    findings: tuple[RichFinding, ...]
    differences: Comparison | None

    def __str__(self) -> str:
        return str(self.findings[0])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return html(self.findings[:1])


def compare(*runs: str | Path | OpenRun) -> Compared:
    """Compare runs: of two tell B − A with its interval, of more models × data.

    Args:
        runs: Run folders, or open runs.

    Returns:
        What is concluded, the table, all else that is to be said, and of two runs the differences
        as frames.

    Raises:
        UsageError: If no run is given, a folder is none, or a run measures no loss.
        ProbeError: If a run cannot be read, or two share nothing that can be compared.

    Example:
        >>> import probe
        >>> both = probe.compare("results/first", "results/second")
        >>> both  # one sentence, and one screen of what it rests on
        >>> both.table[["run", "condition", "loss"]]
        >>> both.differences.octaves[["condition", "unit", "distance_from", "difference"]]
    """
    if not runs:
        raise UsageError("no run to compare; allowed: one or more")
    with ExitStack() as stack:
        opened = [_opened(one, stack) for one in runs]
        refuse_without_losses(opened)
        two = compare_two(*opened) if len(opened) == 2 else None
        findings = told(opened, two, full=True)
        return Compared(run_table(opened), tuple(map(RichFinding.of, findings)), two)


def plot(
    runs: str | Path | OpenRun | Sequence[str | Path | OpenRun],
    kind: str = "curve",
    *,
    ax: "Axes | None" = None,
    **options: Any,
) -> "Axes":
    """Draw a figure of a run, or of several, as ``probe plot`` does.

    Args:
        runs: A run folder or an open run, or several.
        kind: ``curve``, or another kind of ``probe plot --help``.
        ax: Axes to draw in; by default a new figure, one column of a paper wide.
        options: Options of the kind: ``condition="truncate"``, ``by="position"``, ``name="copy"``.

    Returns:
        The axes, whose ``.figure`` a notebook shows and ``.figure.savefig(…)`` writes.

    Raises:
        UsageError: If the kind or an option is unknown, takes another number of runs, or has
            several figures.
        ProbeError: If there is nothing to draw.

    Example:
        >>> import probe
        >>> axes = probe.plot("results/first", condition="truncate")
        >>> axes.figure.savefig("curve.pdf")
        >>> axes.get_xlabel()
        'distance (tokens)'
    """
    several = list(runs) if isinstance(runs, Iterable) and not isinstance(runs, str) else [runs]
    known = [one for one in plots() if one.kind == kind]
    if not known:
        kinds = ", ".join(dict.fromkeys(one.kind for one in plots()))
        raise UsageError(f"kind is {shown(kind)}; allowed: {kinds}")
    with ExitStack() as stack:
        opened = [_opened(one, stack) for one in several]
        chosen = choose(known, opened, kind, "kind")
        if chosen.runs not in (None, len(opened)):
            raise UsageError(
                f"kind {kind!r} takes {counted(chosen.runs, 'run')}; got {len(opened)}"
            )
        names = [option.name for option in chosen.options]
        if unknown := [name for name in options if name not in names]:
            raise UsageError(
                f"kind {kind} has no option {unknown[0]!r}; allowed: {', '.join(names) or 'none'}"
            )
        asked = {option.name: option.default for option in chosen.options} | options
        try:
            first, *others = (drawing for _, drawing in chosen.charts(opened, **asked))
        except EmptyChartError as error:
            raise ProbeError(f"nothing to draw: {error}") from error
        if others:
            raise UsageError(
                f"kind {kind!r} has {1 + len(others)} figures; allowed: name=, one of them"
            )
        return draw(first, ax)


def _opened(run: str | Path | OpenRun, stack: ExitStack) -> OpenRun:
    """The run, opened where it is a folder, and then closed with the stack."""
    return run if isinstance(run, OpenRun) else stack.enter_context(open(run))
