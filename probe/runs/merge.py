"""Run folders of one run, scored in several places, joined into one."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from probe.engine.selfcheck import UNCHANGED, judged
from probe.errors import ProbeError, UsageError
from probe.perturbations.condition import parse
from probe.results.files import atomic_write, disk_errors
from probe.results.footer import KEY, Key, is_of_another, part_keys, part_schema
from probe.results.record import UNADDED, add_costs
from probe.results.scores import Store
from probe.results.verified_files import is_readable
from probe.runs.experiment import draws, most_windows
from probe.runs.identity import (
    differences,
    readable,
    refuse_changed_documents,
    refuse_changed_windows,
    with_code,
)
from probe.text import counted

_COPIED = ("windows.parquet", "frequencies.parquet", "population.parquet")
_PACKAGES = ("context-probe", "torch", "transformers")
_ORDER = (*KEY, "boundary", "boundary_right", "of", "chunk", "position")


def merge(
    folders: Sequence[Path],
    into: Path,
    say: Callable[[str], None] = lambda _: None,
    *,
    names: Sequence[str] | None = None,
) -> Path:
    """Join run folders of one run; rows that two of them have must agree.

    Args:
        folders: The folders, which stay as they are.
        into: The folder to join them in; what it holds of the run already counts as one of them.
        say: Called with lines worth telling a user.
        names: What the folders are called for good, by default their paths: a folder that is
            joined again adds what it has spent since.

    Returns:
        That folder.

    Raises:
        UsageError: If they are of different runs, by what differs.
        ProbeError: If rows that two of them have do not agree, or a file cannot be read.
    """
    target = Store(into)
    with target.locked():
        others = [Store(path) for path in folders if path.resolve() != into.resolve()]
        stores = [*([target] if (into / "run.json").exists() else []), *others]
        records = [_record(store) for store in stores]
        known = [store.read_windows() for store in stores]
        whole = [at for at, one in enumerate(records) if len(known[at]) == one["plan"]["windows"]]
        if not whole:
            raise ProbeError(
                f"{stores[0].folder} has not all of its windows in windows.parquet; allowed: a "
                "folder that was begun to the end: run its command again"
            )
        base = max(whole, key=lambda at: len(records[at]["data"]["documents"]))
        windows = known[base]
        called = list(names or [str(path.resolve()) for path in folders])
        sources = dict(zip(map(str, folders), called, strict=True))
        sources = {str(store.folder): sources[str(store.folder)] for store in others}
        record = _joined(stores, records, base, sources)
        for store, own in zip(stores, known, strict=True):
            refuse_changed_windows(own, windows, store.folder)
        for line in _versions(stores, records):
            say(line)
        target.identity = record["identity_hash"]
        target.refuse_parts_of_others()
        for aside in target.clean():
            say(f"{aside.name} was unreadable and is put aside")
        for name in _COPIED:  # first: a record without windows could not be joined again
            if stores[base] is not target and (stores[base].folder / name).exists():
                _copy(stores[base].folder / name, into / name)
        target.write_record(record)
        where = {key: part for part in _parts(target) for key in _keys(part)}
        for store in others:
            _take(store, target, where, record["model"]["dtype"])
        target.merge()
        try:
            left = _left(record, windows, where)
            done = f"{left:,} of {counted(len(windows), 'window')} to be scored"
        except UsageError:  # a condition of the user's own, whose code is not run for this
            left, done = -1, "probe run with its configuration says what is left"
        if not left:
            done = "complete"
            target.write_record(record | {"status": "complete"})
    say(f"{counted(len(folders), 'folder')} joined in {into}: {done}")
    return into


def _record(store: Store) -> dict[str, Any]:
    record = readable(store.read_record(), store.folder)
    if record is None:
        raise UsageError(f"'{store.folder}' is no run folder: it has no run.json")
    return record


def _joined(
    stores: Sequence[Store],
    records: Sequence[dict[str, Any]],
    base: int,
    sources: Mapping[str, str],
) -> dict[str, Any]:
    """The record of all: that with the most documents, with the conditions and costs of all.

    Args:
        stores: The folders, the target first where it has a run.
        records: Their records.
        base: Number of the one with the most documents.
        sources: What a folder is called under ``joined``, by its path; the target is none.
    """
    found, first = dict(records[base]), stores[base].folder
    for store, record in zip(stores, records, strict=True):
        if record is records[base]:
            continue
        differ = differences(found["identity"], record["identity"])
        if not differ and found["data"]["pool"] != record["data"]["pool"]:
            differ = ["replaced text was taken from other documents"]
        if differ:
            raise UsageError(
                f"{store.folder} is of another run than {first}: {'; '.join(differ)}; allowed: "
                "folders of one run"
            )
        refuse_changed_documents(record["data"], found["data"], store.folder)
        for name in ("perturbation", "protocol"):
            before, now = (one.get(f"{name}s", {}) for one in (found, record))
            if code := with_code(name, before, now, store.folder):
                found[f"{name}s"] = code
        config, other = found["config"], record["config"]
        conditions = dict.fromkeys([*config["conditions"], *other["conditions"]])
        repeats = max(config["repeats"], other["repeats"])
        found["config"] = config | {"conditions": list(conditions), "repeats": repeats}
        plan = record["plan"]["conditions"] | found["plan"]["conditions"]
        found["plan"] = found["plan"] | {"conditions": plan}
        found["attention"] = record.get("attention", {}) | found.get("attention", {})
    costs: dict[str, Any] = {}
    joined: dict[str, Any] = {}
    for store, record in zip(stores, records, strict=True):
        called = sources.get(str(store.folder))
        if called is None:
            costs, joined = dict(record["costs"]), dict(record.get("joined", {}))
            continue
        before = joined.get(called, {})
        more = {
            name: spent - (0 if name in UNADDED else before.get(name, 0))
            for name, spent in record["costs"].items()
        }
        costs, joined[called] = add_costs(costs, more), record["costs"]
    return found | {"status": "unfinished", "costs": costs, "joined": joined}


def _versions(stores: Sequence[Store], records: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """What was scored with other versions, a line a package."""
    for package in _PACKAGES:
        found: dict[str, list[str]] = {}
        for store, record in zip(stores, records, strict=True):
            version = record.get("versions", {}).get(package, "unknown")
            found.setdefault(version, []).append(str(store.folder))
        if len(found) > 1:
            told = (f"{version} ({', '.join(names[:3])})" for version, names in found.items())
            yield f"scored with several versions of {package}: {'; '.join(told)}"


def _copy(source: Path, path: Path) -> None:
    with disk_errors(path), atomic_write(path) as scratch:
        shutil.copyfile(source, scratch)


def _parts(store: Store) -> list[Path]:
    return sorted(store.scores.glob("*.parquet"))


def _keys(part: Path) -> tuple[Key, ...]:
    try:
        return part_keys(part)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ProbeError(f"{part} cannot be read: {' '.join(str(error).split())}") from error


def _take(store: Store, target: Store, where: dict[Key, Path], dtype: str) -> None:
    """Copy what a folder has and the target has not; what both have must agree.

    Args:
        store: The folder.
        target: The folder that all are joined in.
        where: The part of the target that holds a key; what is copied comes in.
        dtype: Of the weights.
    """
    identity = _record(store)["identity_hash"]
    for part in _parts(store):
        keys = _keys(part)
        if not is_readable(part):  # from elsewhere, whatever is said of it there
            raise ProbeError(f"{part} is damaged; allowed: to remove it and score its rows again")
        if is_of_another(part_schema(part), identity):
            raise UsageError(f"{part} is of another run than {store.folder}; move it out of there")
        new = [key for key in keys if key not in where]
        both: dict[Path, list[Key]] = {}
        for key in keys:
            if key in where:
                both.setdefault(where[key], []).append(key)
        for own, shared in both.items():
            # As the self-check judges a technique: what is computed together rounds alike.
            limits = (UNCHANGED, UNCHANGED) if dtype == "float32" else None
            _refuse_unlike((own, part), shared, limits)
        if not new:
            continue
        if len(new) == len(keys) and identity == target.identity:
            path = target.scores / part.name
            _copy(part, path)
            target.verified.add(path)
        else:
            path = target.copy_part(part, new)
        where |= dict.fromkeys(new, path)


def _refuse_unlike(
    parts: tuple[Path, Path], keys: Sequence[Key], limits: tuple[float, float] | None
) -> None:
    """Refuse rows that two parts have of the same keys, and that do not agree.

    Raises:
        ProbeError: If so; it names both.
    """
    one, other = (_rows(part, keys) for part in parts)
    both = f"{parts[0]} and {parts[1]}"
    values = [name for name in one if pd.api.types.is_float_dtype(one[name])]
    # Of two tokens that are nearly as probable either may come out as the first.
    rest = [str(name) for name in one if name not in values and one[name].dtype != bool]
    if list(one) != list(other) or not one[rest].equals(other[rest]):
        unlike = (key for key in keys if not _same(_of(one, key), _of(other, key), rest))
        first = next(unlike, keys[0])
        raise ProbeError(f"{both} have other rows of {_where(first)}; allowed: the same ones")
    for name in values:
        apart = (one[name].astype(float) - other[name].astype(float)).fillna(np.inf)
        apart = apart[one[name].notna() | other[name].notna()]  # where neither has one, both agree
        if apart.empty:
            continue
        outcome = judged(str(name), apart.to_numpy(np.float32), "they differ", limits=limits)
        if not outcome.passed:
            index: Any = apart.abs().idxmax()
            where, allowed = (
                _where(index),
                "no more than what the dtype of the weights rounds",
            )
            raise ProbeError(
                f"{both} disagree on {name}, most in {where}: {outcome.reason}; allowed: {allowed}"
            )


def _of(rows: pd.DataFrame, key: Key) -> pd.DataFrame:
    return rows[rows.index.isin([key])]


def _same(one: pd.DataFrame, other: pd.DataFrame, names: Sequence[str]) -> bool:
    return list(one) == list(other) and one[list(names)].equals(other[list(names)])


def _where(key: Key) -> str:
    document, window, condition, _ = key
    return f"{condition!r} in window {window} of {document!r}"


def _rows(part: Path, keys: Sequence[Key]) -> pd.DataFrame:
    """The rows of some keys, by key and in order."""
    frame: pd.DataFrame = pq.read_table(part, page_checksum_verification=True).to_pandas()
    texts = [name for name in frame if isinstance(frame[name].dtype, pd.CategoricalDtype)]
    frame = frame.astype(dict.fromkeys(texts, object)).set_index(list(KEY))
    order = [name for name in _ORDER if name in frame]
    return frame.loc[frame.index.isin(set(keys))].sort_values(order)


def _left(
    record: Mapping[str, Any], windows: Iterable[tuple[str, int]], held: Iterable[Key]
) -> int:
    """Windows of which something is to be scored yet.

    Raises:
        UsageError: If a condition is not known here, as one of the user's own.
    """
    config, known = record["config"], set(held)
    longest = max(run[0] for run in record["identity"]["runs"])
    drawn = draws(map(parse, config["conditions"]), longest, config["repeats"], config["seed"])
    left = 0
    for number, window in enumerate(windows):
        keys = [
            (*window, one.condition.text, one.repeat)
            for one in drawn
            if number < most_windows(one.condition)
        ]
        left += not known.issuperset([(*window, "intact", 0), *keys])
    return left
