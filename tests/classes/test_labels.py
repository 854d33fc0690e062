"""Labels as small numbers against the class table that they are read from."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from class_runs import HOW, simulation, word_run

from probe.analysis.open_run import open_run
from probe.classes.class_sums import ClassSums
from probe.classes.curves import class_curves
from probe.classes.labels import DISTANCES, read_labels
from probe.classes.table import classify
from probe.findings.base import counters
from probe.findings.classes import asked

TOKENS = 3000


@pytest.fixture(name="table")
def class_table(tmp_path: Path) -> tuple[Path, pd.DataFrame]:
    """A table of classes with few values, with many, and with a few without a label."""
    rng = np.random.default_rng(0)
    sizes = {"two": 2, "seven": 7, "eight": 8, "many": 300}
    labels = {
        name: np.where(rng.random(TOKENS) < 0.1, None, rng.integers(size, size=TOKENS).astype(str))
        for name, size in sizes.items()
    }
    back = {DISTANCES[0]: rng.integers(-1, 9, TOKENS), DISTANCES[1]: rng.integers(-1, 1e6, TOKENS)}
    columns = {name: pa.array(values).dictionary_encode() for name, values in labels.items()}
    table = pa.table(columns | {name: values.astype(np.int32) for name, values in back.items()})
    pq.write_table(table, tmp_path / "classes.parquet", row_group_size=700)
    return tmp_path / "classes.parquet", pd.DataFrame(labels | back)


def test_numbers_stand_for_the_labels_of_all_classes(table: tuple[Path, pd.DataFrame]) -> None:
    """A class of many values stands alone; a token without a label has none."""
    path, expected = table
    labels = read_labels(path, ["two", "seven", "eight", "many"])
    assert labels.tokens == TOKENS
    assert [list(one.values) for one in labels.combined] == [["two", "seven"], ["eight"], ["many"]]
    for one in labels.combined:
        at = 0
        for name, values in one.values.items():
            has = one.has[one.numbers][:, at : at + len(values)]
            at += len(values)
            found = np.where(has.any(axis=1), np.array(values, object)[has.argmax(axis=1)], None)
            assert found.tolist() == [None if pd.isna(one) else one for one in expected[name]]
            assert set(has.sum(axis=1)) <= {0, 1}
    for name in DISTANCES:
        assert labels.back[name].tolist() == expected[name].tolist()
    assert [labels.back[name].dtype for name in DISTANCES] == [np.int16, np.int32]


def test_a_label_that_became_another_is_seen(table: tuple[Path, pd.DataFrame]) -> None:
    """The pages that are read are verified."""
    path, _ = table
    pq.write_table(pq.read_table(path), path, compression="none", write_page_checksum=True)
    column = pq.read_metadata(path).row_group(0).column(1)
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(OSError, match="CRC"):
        read_labels(path, ["seven"])


def test_what_is_counted_along_is_what_is_counted_alone(tmp_path: Path) -> None:
    """As a run is opened, or when it is first asked: the same curves."""
    run = word_run(tmp_path / "run", simulation(repeats=1))
    with open_run(run.path, analysis=HOW, classes=["kind", "copy"], along=counters) as opened:
        along = class_curves(opened, opened.once(asked))
    with open_run(run.path, analysis=HOW, classes=["kind", "copy"]) as opened:
        alone = class_curves(opened, ClassSums(opened, classify(opened, ["kind", "copy"])))
    for name in ("curves", "contexts", "counts", "occurrences", "copies"):
        pd.testing.assert_frame_equal(getattr(along, name), getattr(alone, name))
