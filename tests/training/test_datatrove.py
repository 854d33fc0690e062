"""The step of datatrove in a pipeline of its own."""

import pandas as pd
import pytest
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor

from probe.errors import UsageError
from probe.training.datatrove import ScoreFilter


@pytest.fixture(name="scored")
def documents(tmp_path):
    frame = pd.DataFrame(
        {
            "document": ["a", "b", "c", "d"],
            "score": [3.0, 2.0, 1.0, 0.5],
            "rank": [1, 2, 3, 4],
            "length_bin": [64] * 4,
            "tokens": [100] * 4,
        }
    )
    frame.to_parquet(tmp_path / "documents.parquet")
    return tmp_path / "documents.parquet"


def test_the_best_documents_go_on(scored, tmp_path):
    kept = []

    def collect(documents, *_):
        for document in documents:
            kept.append(document.metadata["name"])
            yield document

    executor = LocalPipelineExecutor(
        pipeline=[
            [
                Document(f"text of {n}", str(at), metadata={"name": n})
                for at, n in enumerate("abcdx")
            ],
            ScoreFilter(scored, 0.5, id_key="name"),
            collect,
        ],
        logging_dir=str(tmp_path / "logs"),
    )
    stats = executor.run()
    assert kept == ["a", "b"]
    (counts,) = [one.stats for one in stats.stats if "worth most" in one.name]
    assert counts["dropped_lower_score"].total == 2
    assert counts["dropped_not_scored"].total == 1


@pytest.mark.parametrize(
    ("share", "line"), [(0, "share is 0; allowed"), (0.01, "no document is chosen")]
)
def test_a_mistake_is_one_line(scored, share, line):
    with pytest.raises(UsageError, match=line):
        ScoreFilter(scored, share)
    with pytest.raises(UsageError, match=r"allowed: documents\.parquet"):
        ScoreFilter(scored.with_name("missing.parquet"), 0.5)
