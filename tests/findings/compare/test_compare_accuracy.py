"""Two runs of protocol suffix: accuracies side by side, their difference against a plain loop."""

import json

import numpy as np
import pytest
from compare_runs import change_record, compared, printed
from simulated import Simulation, write_run
from tiny_run import scores

from probe.analysis.bootstrap import resample_weights, stretch
from probe.analysis.settings import Analysis
from probe.findings.compare.conclusion import conclusion, sentence
from probe.findings.compare.differences import ACCURACY_COLUMNS
from probe.render.terminal import text

pytestmark = pytest.mark.slow

HOW = Analysis(resamples=100)
PREFIXES, TOKENS = (0, 32, 128), 10
NAMES = [f"distractor(number={number})" for number in (1, 2, 3)]


def flat(height):
    return lambda distance: np.full(len(distance), float(height))


def made(folder, gold, **changes):
    """A run of protocol suffix whose gold continuation gains so much by the prefix."""
    known = {"documents": 9, "windows": 3, "token_spread": 1.0, "noise_spread": None, **changes}
    curves = {"truncate": lambda d: -gold * np.log1p(d) / 5, **dict.fromkeys(NAMES, flat(0.1))}
    write_run(folder, Simulation(curves, distances=PREFIXES, **known))
    options = {"kind": "suffix", "prefixes": list(PREFIXES), "tokens": TOKENS, "candidates": 4}
    record = json.loads((folder / "run.json").read_text("utf-8"))
    record["config"]["protocol"] = {**options, "at": None}
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def choices(folder):
    """Whether each choice is right, by document and prefix, in a loop over windows."""
    found = scores(folder)
    right = {}
    for (document, window, _), own in found[found.boundary >= 0].groupby(
        ["document", "window", "boundary"]
    ):
        means = {name: one.nll.astype(float).mean() for name, one in own.groupby("condition")}
        gold = means.pop("truncate")
        right[document, window, own.distance.min()] = float(gold < min(means.values()))
    return right


@pytest.fixture(scope="module", name="pair")
def two_runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("choices")
    return made(root / "a", 0.1, name="a"), made(root / "b", 0.8, name="b")


def test_differences_are_those_of_a_plain_bootstrap(pair):
    """The same windows in both, documents drawn in a loop."""
    found = compared(*pair, analysis=HOW).accuracy
    assert list(found.columns) == list(ACCURACY_COLUMNS)
    assert found["prefix"].tolist() == list(PREFIXES)
    first, second = map(choices, pair)
    documents = sorted({document for document, _, _ in first})
    for row in found.to_dict("records"):
        keys = [key for key in first if key[2] == row["prefix"]]
        assert row["a"] == pytest.approx(np.mean([first[key] for key in keys]))
        assert row["b"] == pytest.approx(np.mean([second[key] for key in keys]))
        gains = [
            sum(second[key] - first[key] for key in keys if key[0] == document)
            for document in documents
        ]
        mean = sum(gains) / len(keys)
        drawn = [weights @ np.array(gains) / 27 for weights in resample_weights(9, 100, 0)]
        low, high = np.quantile(mean + stretch(9, 0.95) * (np.array(drawn) - mean), [0.025, 0.975])
        assert [row["difference"], row["low"], row["high"]] == pytest.approx([mean, low, high])
        assert (row["documents"], row["targets"]) == (9, 27)


def test_the_sentence_tells_the_longest_prefix(pair):
    """In percentage points, with both accuracies; the same run twice differs by nothing."""
    more, less = (sentence(compared(*runs, analysis=HOW)) for runs in (pair, pair[::-1]))
    assert more.startswith("After 128 tokens, B picks the gold continuation ")
    assert " percentage points more often than A (95 % interval " in more
    assert ": it distinguishes the gold continuation from the others more often (A " in more
    assert " percentage points less often than A (" in less
    same = sentence(compared(pair[0], pair[0], analysis=HOW))
    assert "B − A is 0 percentage points (95 % interval 0 to 0): not significantly" in same


def test_accuracies_are_printed_and_no_length(pair):
    """On the screen and in full: a window's continuation is no curve of distances."""
    found = compared(*pair, analysis=HOW)
    for shown in (text(conclusion(found), wrap=True), printed(found)):
        assert "Gold continuation picked; B − A in percentage points" in shown
        assert "prefix (tokens)  A " in shown
        assert "Effective context" not in shown


def test_other_choices_are_not_compared(pair, tmp_path):
    """Two candidates are another question than four: both accuracies, no difference."""
    other = made(tmp_path / "c", 0.8, name="c")
    change_record(other, config={"protocol": {"kind": "suffix", "tokens": 10, "candidates": 2}})
    found = compared(pair[0], other, analysis=HOW)
    assert found.accuracy.empty
    said = sentence(found)
    assert said.startswith("A and B cannot be compared: A chooses among 4 continuations of 10 tok")
    assert "% correct after 128 tokens, chance 25.0 %); B among 2 continuations of 10" in said


def test_few_documents_are_unresolved(tmp_path):
    """As everywhere."""
    run = made(tmp_path / "a", 0.5, documents=4)
    said = sentence(compared(run, run, analysis=HOW))
    assert "percentage points, unresolved: 4 documents, at least 6 needed" in said
