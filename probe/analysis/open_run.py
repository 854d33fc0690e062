"""An open run: a run folder with its rows, and what every finding about them is worked out with."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from probe.analysis.bins import bin_edges
from probe.analysis.bootstrap import Floats, resample_weights
from probe.analysis.cells import cells, doubtful, far_range, scored, windows_and_targets
from probe.analysis.curve_frame import curve_frame
from probe.analysis.effective import EffectiveContext, effective_context, marked
from probe.analysis.fit import FittedCurve, fitted_curves, in_order
from probe.analysis.floor import NoiseFloor, is_noise, length_caveat, length_limit, noise_floor
from probe.analysis.predicted import Prediction, Predictor, Proxy, predictor
from probe.analysis.scan import Counter
from probe.analysis.settings import Analysis
from probe.analysis.sums import Sums, document_sums, of_rows, to_sums
from probe.errors import ProbeError
from probe.perturbations.shared_texts import text_numbers
from probe.perturbations.steps import shared_of
from probe.protocols import registry
from probe.results.folder import RunFolder, read_folder
from probe.results.record import PLAIN
from probe.results.tolerance import Tolerance
from probe.results.views import bytes_per_token, connect, longest_distance, refuse_unknown_windows

Value = TypeVar("Value")
PATTERN = "attend("
"""How conditions begin that limit attention."""


class OpenRun:
    """A run folder that is open; everything that is read of it is read once.

    Use it in a ``with``, or :meth:`close` it. Distances and lengths are in tokens, losses and
    deltas in nats per token.

    Args:
        folder: The run folder, read.
        connection: Its rows, from :func:`probe.results.views.connect`.
        analysis: How it is read.
        classes: Token classes that the caller asks for; ``None`` leaves them to the run.
        write: Whether files may be written into the folder.

    Attributes:
        path: The folder.
        record: Content of its ``run.json``.
        facts: The same, with a type for each value that is used.
        name: The run's own name, or that of its folder.
        proxy: What a small model's run says of this one, where one was given.
        model: The model's name to show.
        data: The data set's name to show.
    """

    def __init__(
        self,
        folder: RunFolder,
        connection: duckdb.DuckDBPyConnection,
        analysis: Analysis,
        *,
        classes: Sequence[str] | None = None,
        write: bool = True,
    ) -> None:
        self.folder, self.path, self.record = folder, folder.path, folder.record
        self.facts, self.name = folder.facts, folder.name
        self.model = self.facts.model.name or "the model"
        self.data = self.facts.data.name or "the data"
        self.connection = connection
        self.analysis = analysis
        self.classes = None if classes is None else tuple(classes)
        self.write = write
        self.proxy: Proxy | None = None
        self._along: Sequence[Counter] = ()
        self._known: dict[Callable[..., Any], Any] = {}
        self._unpredicted: str | None = None

    @classmethod
    def of_folder(
        cls,
        path: str | Path,
        *,
        analysis: Analysis | None = None,
        classes: Sequence[str] | None = None,
        write: bool = True,
        along: "Along | None" = None,
    ) -> Self:
        """Open a run folder and read its rows once.

        A part whose rows turn out to be damaged, and losses that are no number, are looked for only
        where the counts show that something is wrong.

        Args:
            path: The folder.
            analysis: How to read it; by default what its configuration says.
            classes: Token classes as text, such as ``last_occurrence(edges=[1, 64, 512])`` or
                ``my.py:rare``; by default those of *analysis*, else those of its configuration that
                are no code, else the built-in ones that need nothing else.
            write: Whether files may be written into the folder.
            along: What counts the rows as they are read, for findings that would read them again.

        Raises:
            UsageError: If there is no run folder, or a tolerance is not understood.
            ProbeError: If it cannot be read, or holds no score.
        """
        asked = classes or (None if analysis is None else analysis.classes)
        problem: Exception | None = None
        # Once more with every row: what is wrong is named, or left out.
        for checked in (False, True):
            folder = read_folder(
                path, checked=checked, reading=registry.reading, needs=registry.needs
            )
            try:
                return cls._open(folder, analysis, asked, write, along, checked)
            except (duckdb.Error, OSError, pa.ArrowException, _DoubtfulRowsError) as error:
                problem = error
        raise ProbeError(f"the scores of '{folder.path}' cannot be read: {problem}") from problem

    @classmethod
    def _open(
        cls,
        folder: RunFolder,
        analysis: Analysis | None,
        classes: Sequence[str] | None,
        write: bool,
        along: "Along | None",
        checked: bool,
    ) -> Self:
        windows = folder.path / "windows.parquet"
        how = analysis or Analysis.from_record(folder.facts)
        connection = connect(windows, folder.parts, checked=checked, reading=folder.reading)
        try:
            run = cls(folder, connection, how, classes=classes, write=write)
            run._along = [] if along is None else along(run)
            if doubtful(connection, run.cells):
                refuse_unknown_windows(connection, windows)
                raise _DoubtfulRowsError("a loss is no finite number")
            if not run.documents:
                raise ProbeError(f"run '{folder.path}' holds no score: every part is empty")
        except BaseException:
            connection.close()
            raise
        return run

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        if isinstance(error, duckdb.Error):
            raise self.unreadable(error) from error

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Name this run where the database cannot read a row, though others are open as well.

        Raises:
            ProbeError: In place of an error of the database.
        """
        try:
            yield
        except duckdb.Error as error:
            raise self.unreadable(error) from error

    def close(self) -> None:
        """Let go of the rows; what was worked out before stays."""
        self.connection.close()

    def unreadable(self, error: Exception) -> ProbeError:
        """The error to raise where the database cannot read a row."""
        return ProbeError(f"the scores of '{self.path}' cannot be read: {error}")

    def once(self, work: "Callable[[OpenRun], Value]") -> Value:
        """What a function says of this run, worked out when it is first asked for.

        Args:
            work: A function of a module, which several findings or a finding and its figures need.
        """
        if work not in self._known:
            self._known[work] = work(self)
        value: Value = self._known[work]
        return value

    @property
    def warnings(self) -> tuple[str, ...]:
        """What limits the whole run, is missing or could not be read, one line each."""
        own = [self.length_caveat, self._unpredicted]
        return (*filter(None, own), *self.folder.warnings)

    @cached_property
    def patterns(self) -> tuple[str, ...]:
        """Its attention patterns, as it was to score them."""
        return tuple(name for name in self.facts.plan.conditions if name.startswith(PATTERN))

    @property
    def has_losses(self) -> bool:
        """Whether it measures losses; else a delta is another measure's value."""
        return not self.folder.reading.measure

    @property
    def has_length(self) -> bool:
        """Whether it perturbs all that lies further than a distance: else no length is read."""
        return registry.facts(self.folder.kind).has_length

    @property
    def has_same_targets(self) -> bool:
        """Whether the same targets are measured at every distance."""
        return registry.facts(self.folder.kind).has_same_targets

    def is_answered_by(self, finding: str) -> bool:
        """Whether the finding of this name is the one that answers the run's protocol."""
        return registry.facts(self.folder.kind).finding == finding

    @cached_property
    def edges(self) -> NDArray[np.int64]:
        """Edges of the bins (tokens) that hold every distance, shape ``(bins + 1,)``.

        Of windows in characters, whose tokens differ in number, those that 9 in 10 of them have.
        """
        reach = longest_distance(self.connection) + 1
        if self.facts.config.windows.get("unit") == "characters":  # few windows measure the last
            reach = min(reach, self.facts.plan.reach or reach)
        return bin_edges(max(reach, 1), self.analysis.bins_per_octave)

    @property
    def last_edge(self) -> int:
        """End of the last bin (tokens)."""
        return int(self.edges[-1])

    @cached_property
    def cells(self) -> str:
        """Name of the table of pre-aggregated counts, see :func:`probe.analysis.cells.cells`."""
        along = [*self._along, *([self.predictor] if self.predictor else [])]
        return cells(self.connection, self.edges, along)

    @cached_property
    def predictor(self) -> Predictor | None:
        """What counts along with the cells to predict delta; ``None`` without a population."""
        if not (self.analysis.predict and self.has_length and self.folder.reading == PLAIN):
            return None
        try:
            return predictor(self.path, self.edges)
        except ProbeError as error:
            self._unpredicted = (
                f"{error}; intervals are those of the scored documents alone. probe run with its"
                " configuration writes the file again, and scores nothing anew"
            )
            return None

    @cached_property
    def prediction(self) -> Prediction | None:
        """What is known of documents that were not scored too; ``None`` without such.

        The proxy tells it where there is one, else token ids do.
        """
        if self.proxy is not None:
            return self.proxy.prediction
        counted = self.predictor if self.cells else None  # with the pass over the rows
        return None if counted is None else counted.prediction(self.connection, self.documents)

    def adjusted(
        self, sums: Sums, condition: str, other: str = "", scored: int | None = None
    ) -> Sums:
        """Sums over its documents by what is predicted, see :meth:`Prediction.adjust`."""
        if self.prediction is None:
            return sums
        return self.prediction.adjust(sums, condition, other, scored)

    def sums_with(self, condition: str, scored: int) -> Sums:
        """The sums of a condition's curve as they would be with so many documents scored.

        The more of a population are scored, the less is left that a prediction knows besides.
        """
        rows = self.plain_sums[self.plain_sums["condition"] == condition]
        plain = to_sums(rows[~rows["grey"]], self.documents, self.texts(condition))
        return self.adjusted(plain, condition, scored=scored)

    @cached_property
    def _scored(self) -> tuple[list[str], list[str]]:
        return scored(self.connection, self.cells)

    @property
    def documents(self) -> list[str]:
        """Documents with scores, in the order of *weights*."""
        return self._scored[0]

    @property
    def conditions(self) -> list[str]:
        """Canonical texts of its conditions with a boundary."""
        return self._scored[1]

    @cached_property
    def _counts(self) -> tuple[int, int]:
        return windows_and_targets(self.connection, self.cells)

    @property
    def windows(self) -> int:
        """Windows with scores."""
        return self._counts[0]

    @property
    def targets(self) -> int:
        """Targets with scores, each once."""
        return self._counts[1]

    @cached_property
    def starts(self) -> dict[str, int]:
        """First distance (tokens) of each condition's curve."""
        plans = self.facts.plan.conditions.items()
        return {condition: plan.curve_start or 0 for condition, plan in plans}

    @cached_property
    def weights(self) -> Floats:
        """Draws of the documents, shape ``(resamples, documents)``.

        Conditions and classes are drawn together, so that what is said of a difference is paired.
        """
        how = self.analysis
        return resample_weights(max(len(self.documents), 1), how.resamples, how.seed)

    def texts(self, *conditions: str) -> NDArray[np.int64] | None:
        """The far text of each document, where a condition lets documents share some.

        Args:
            conditions: Canonical texts; of several that share, that of the fewest texts counts.
        """
        shared = [count for count in map(shared_of, conditions) if count]
        if not shared:
            return None
        return text_numbers(self.documents, self.facts.data.pool, min(shared))

    @cached_property
    def bytes_per_token(self) -> float | None:
        """Mean UTF-8 bytes of a token, ``None`` for data without text."""
        return bytes_per_token(self.connection)

    @property
    def unit(self) -> str:
        """What distances and lengths are counted in: tokens, or ms."""
        return self.folder.reading.unit

    @cached_property
    def length_caveat(self) -> str | None:
        """What to say where losses depend on a sequence's length; ``None`` where they do not."""
        return length_caveat(self.facts)

    @cached_property
    def length_change(self) -> float:
        """How much losses change with a sequence's length alone (nats)."""
        return length_limit(self.facts)

    @cached_property
    def plain_sums(self) -> pd.DataFrame:
        """Sums by condition, bin and document, of :func:`probe.analysis.sums.document_sums`."""
        return document_sums(self.connection, self.edges, self.starts)

    @cached_property
    def sums(self) -> pd.DataFrame:
        """The same with delta as :meth:`adjusted` has it: of one document alone it says less."""
        frame = self.plain_sums.copy()
        for condition, rows in frame[~frame["grey"]].groupby("condition"):
            found = self.adjusted(to_sums(rows, self.documents), str(condition))
            frame.loc[rows.index, "delta_sum"] = of_rows(found, rows, self.documents)
        return frame

    @cached_property
    def fitted(self) -> dict[str, FittedCurve]:
        """Fitted curve of each condition, grey rows left out."""
        confidence = self.analysis.confidence
        return fitted_curves(self.sums, self.documents, self.weights, confidence, self.texts)

    @cached_property
    def floor(self) -> NoiseFloor | None:
        """Noise floor, ``None`` without a noise condition."""
        return noise_floor(self.plain_sums, self.last_edge, self.analysis.confidence)

    @cached_property
    def contexts(self) -> tuple[EffectiveContext, ...]:
        """Effective context of each condition at each tolerance.

        The noise control has none, and no attention pattern: a pattern is no context that is cut
        off. Where the protocol leaves what lies further intact there is none at all.
        """
        found: list[EffectiveContext] = []
        for condition, curve in self.fitted.items() if self.has_length else ():
            if not is_noise(condition) and not condition.startswith(PATTERN):
                answers = [self.context_of(curve, one) for one in self.analysis.tolerances]
                found += marked(answers, curve)
        return tuple(found)

    def context_of(self, curve: FittedCurve, tolerance: Tolerance) -> EffectiveContext:
        """The effective context of a curve of this run."""
        return effective_context(
            curve,
            tolerance,
            floor=self.floor,
            bytes_per_token=self.bytes_per_token,
            length=self.length_change,
        )

    def context(self, condition: str, tolerance: str) -> EffectiveContext | None:
        """The answer for one condition and tolerance, ``None`` if there is none."""
        asked = (condition, tolerance)
        answers = (one for one in self.contexts if (one.condition, one.tolerance) == asked)
        return next(answers, None)

    @cached_property
    def curve_conditions(self) -> list[str]:
        """Conditions with a curve as they are shown, noise left out."""
        names = (str(name) for name in self.curve["condition"].unique())
        return in_order(name for name in names if not is_noise(name))

    @cached_property
    def _ranks(self) -> dict[str, int]:
        of_noise = [name for name in self.conditions if is_noise(name)]
        others = set(self.conditions).difference(of_noise)
        return {name: rank for rank, name in enumerate([*in_order(others), *in_order(of_noise)])}

    def rank(self, condition: str) -> int:
        """Place of a condition among all of the run: it has one colour in every figure."""
        return self._ranks.get(condition, len(self._ranks))

    def headline(self, condition: str = "truncate") -> EffectiveContext | None:
        """The answer to put first: of *condition*, at the first tolerance that is resolved.

        Args:
            condition: The condition to prefer, of a source or a target where there are two; without
                it the first that was scored.

        Returns:
            The answer, an unresolved one if all are, ``None`` without any curve.
        """
        scored = [context.condition for context in self.contexts]
        of_either = (name for name in scored if name.startswith(f"{condition}(of="))
        first = next(of_either, next(iter(scored), None))
        name = condition if condition in scored else first
        own = [context for context in self.contexts if context.condition == name]
        resolved = [context for context in own if context.kind != "unresolved"]
        return next(iter(resolved or own), None)

    @property
    def main_condition(self) -> str | None:
        """The condition that is put first: that of the headline, else any with a curve."""
        context = self.headline()
        return context.condition if context else next(iter(self.curve_conditions), None)

    @cached_property
    def reach(self) -> int:
        """End of the last distance bin (tokens) that can answer, of any condition."""
        return max((context.reach for context in self.contexts), default=0)

    @cached_property
    def far(self) -> tuple[int, int]:
        """Shortest and longest far context behind an answer (tokens)."""
        return far_range(self.connection, self.cells)

    @cached_property
    def curve(self) -> pd.DataFrame:
        """Delta by condition and bin, columns ``COLUMNS``."""
        return curve_frame(self)


Along = Callable[[OpenRun], Sequence[Counter]]
"""From an open run, of which nothing has been counted yet, to what counts along."""


class _DoubtfulRowsError(Exception):
    """Some loss is no finite number."""


open_run = OpenRun.of_folder
"""Open a run folder, see :meth:`OpenRun.of_folder`."""
