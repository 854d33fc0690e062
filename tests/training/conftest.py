"""A tiny study that was trained and measured once."""

import numpy as np
import pandas as pd
import pytest
from tiny_study import content

from probe.training.study import check_study
from probe.training.study_run import train


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    """Lines of words, the second half of each the first again: far text tells it."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(30):
        half = rng.integers(40, size=rng.integers(24, 70))
        rows.append({"text": " ".join(f"w{word}" for word in [*half, *half])})
    path = tmp_path_factory.mktemp("texts") / "texts.parquet"
    pd.DataFrame(rows).to_parquet(path)
    return path


@pytest.fixture(scope="session")
def done(texts, tmp_path_factory):
    """The study, trained and measured once for all tests that only read it."""
    results = tmp_path_factory.mktemp("results")
    study = check_study(content(texts))
    return study, train(study, results)
