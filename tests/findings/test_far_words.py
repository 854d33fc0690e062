"""The words that need far context: against pandas, with the words looked for one by one."""

import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from open_runs import by_id, opened
from scipy import stats
from simulated import Simulation, rows_of, write_run

from probe.findings.base import findings
from probe.findings.far_words import COLUMNS, DOCUMENTS, MOMENTS, OCCURRENCES, far_distances, ranked
from probe.findings.table import Place

PIECES = [" the", " cat", "fish", "\n", ".", " do", "ing", " a", "'s", " zeb", "ra", " once"]
EFFECTS = {"fish": 0.8, "ra": 1.5}
"""What some tokens lose under truncation, on top of the curve (nats)."""
SIMULATION = Simulation(
    {"truncate": lambda d: 0 * d + 0.05, "shuffle": lambda d: 0 * d},
    boundaries=(240, 256),
    documents=6,
    token_spread=0.2,
)


def plant(folder, simulation=SIMULATION, text=True):
    """A run whose windows hold words, some of which lose more."""
    write_run(folder, simulation)
    windows = pq.read_table(folder / "windows.parquet").to_pandas()
    rng = np.random.default_rng(3)
    ids, texts = {}, []
    for row in windows.itertuples():
        chosen = rng.choice(len(PIECES) - 1, size=simulation.length)
        if (row.document, row.window) == ("doc000", 0):
            chosen[400] = len(PIECES) - 1  # a word that stands once
        ends = np.cumsum([len(PIECES[one]) for one in chosen])
        ids[row.document, row.window] = chosen
        texts.append(
            {
                "token_ids": chosen.tolist(),
                "char_start": [0, *ends[:-1].tolist()],
                "char_end": ends.tolist(),
                "text": "".join(PIECES[one] for one in chosen) if text else None,
            }
        )
    schema = pq.read_schema(folder / "windows.parquet")
    table = pa.Table.from_pandas(
        windows.assign(**pd.DataFrame(texts)), schema, preserve_index=False
    )
    pq.write_table(table, folder / "windows.parquet")
    effects = np.array([EFFECTS.get(piece, 0.0) for piece in PIECES])
    for part in sorted((folder / "scores").iterdir()):
        table = pq.read_table(part)
        rows = table.to_pandas()
        places = zip(rows["document"], rows["window"], rows["position"], strict=True)
        tokens = [ids[name, window][at - window * simulation.length] for name, window, at in places]
        rows["nll"] += np.where(rows["condition"] == "truncate", effects[tokens], 0)
        pq.write_table(pa.Table.from_pandas(rows, table.schema, preserve_index=False), part)
    return folder


@pytest.fixture(scope="module", name="folder")
def planted_run(tmp_path_factory):
    return plant(tmp_path_factory.mktemp("words") / "run")


@pytest.fixture(scope="module", name="run")
def open_planted(folder):
    with opened(folder) as run:
        yield run


@pytest.fixture(scope="module", name="finding")
def finding_of(run):
    return by_id(run)["far_words"]


def far_targets(folder):
    """Delta of each target at 128 tokens or more under truncation, grey rows left out."""
    rows = rows_of(folder)
    far = rows["boundary"] - rows["start"]
    rows = rows[(rows["condition"] == "truncate") & rows["distance"].between(128, far)]
    rows = rows.assign(delta=rows["nll"] - rows["nll_intact"])
    assert rows.duplicated(["document", "window", "position"]).any()
    return rows.groupby(["document", "window", "position"])["delta"].mean()


def occurrences(folder):
    """Every token, and every word all of whose tokens are targets: kind, text, document, delta."""
    deltas, found = far_targets(folder), []
    for row in pq.read_table(folder / "windows.parquet").to_pandas().itertuples():
        own = deltas.loc[row.document, row.window].to_dict()
        spans = list(zip(row.char_start, row.char_end, strict=True))
        for position, delta in own.items():
            start, end = spans[position - row.start]
            found.append(("token", row.text[start:end], row.document, delta))
        for word in re.finditer(r"\w+(?:['’]\w+)*", row.text):
            tokens = [
                row.start + at
                for at, (start, end) in enumerate(spans)
                if start < word.end() and word.start() < end
            ]
            if word.end() < len(row.text) and all(position in own for position in tokens):
                total = sum(own[position] for position in tokens)
                found.append(("word", word[0], row.document, total))
    return pd.DataFrame(found, columns=["kind", "text", "document", "delta"])


@pytest.mark.slow
def test_means_and_limits_are_those_of_pandas(folder, finding):
    """Words and tokens, their counts, errors, lower limits and q-values, one by one."""
    every = occurrences(folder)
    table = finding.files["far_words.csv"]
    assert list(table.columns) == list(COLUMNS)
    for kind, rows in every.groupby("kind"):
        groups = dict(list(rows.groupby("text")))
        often = {
            text: own
            for text, own in groups.items()
            if len(own) >= OCCURRENCES and own["document"].nunique() >= DOCUMENTS
        }
        assert len(often) < len(groups)  # what stands once is left out
        residuals, free = {}, 0.0
        for text, own in often.items():
            parts = own.groupby("document")["delta"]
            counts = parts.size()
            residuals[text] = ((parts.sum() - own["delta"].mean() * counts) ** 2).sum()
            free += len(own) - (counts**2).sum() / len(own)
        variance = sum(residuals.values()) / free
        expected = {}
        for text, own in often.items():
            documents = own["document"].nunique()
            between = residuals[text] * documents / (documents - 1) / len(own) ** 2
            error = max(between, variance / len(own)) ** 0.5
            mean = own["delta"].mean()
            expected[text] = (
                mean,
                mean - stats.norm.ppf(0.975) * error,
                error,
                len(own),
                documents,
            )
        found = table[table["kind"] == kind].set_index("text")
        assert set(found.index) == set(expected)
        names = ["mean", "low", "standard_error", "occurrences", "documents"]
        wanted = np.array([expected[text] for text in found.index])
        np.testing.assert_allclose(found[names].to_numpy(float), wanted, rtol=1e-6, atol=1e-9)
        q = stats.false_discovery_control(stats.norm.sf(wanted[:, 0] / wanted[:, 2]))
        np.testing.assert_allclose(found["q_value"], q, rtol=1e-6, atol=1e-12)
        assert found["low"].is_monotonic_decreasing


def test_planted_words_come_first(finding):
    """A word of two tokens loses what both lose; the sentence and the tables begin with it."""
    words, tokens, _ = finding.tables
    assert words.rows[0][0] in finding.sentence
    table = finding.files["far_words.csv"].set_index(["kind", "text"])
    assert table.loc[("word", "zebra"), "mean"] == pytest.approx(1.6, abs=0.1)
    assert {row[0] for row in tokens.rows[:2]} == {"“ra”", "“fish”"}
    assert finding.sentence.startswith("Under truncate at 128–255 “")
    assert finding.headlines == [finding.sentence]
    assert "“once”" not in str(finding.tables)


def test_places_are_where_the_words_stand(folder, finding):
    """The document and index of a word's first token, with the text around it."""
    words, _, places = finding.tables
    windows = pq.read_table(folder / "windows.parquet").to_pandas()
    windows = windows.set_index(["document", "window"])
    assert len(places.places) == len(places.rows) > 3
    for place, (where, word, _, text) in zip(places.places, places.rows, strict=True):
        assert where == f"{place.document}, token {place.position:,}"
        window = windows.loc[(place.document, place.window)]
        at = place.position - window["start"]
        rest = window["text"][window["char_start"][at] :].lstrip()
        assert rest.startswith(word.strip("“”"))
        assert f"[{word.strip('“”')}]" in text
    first = words.rows[0][0]
    documents = [
        place.document
        for place, row in zip(places.places, places.rows, strict=True)
        if row[1] == first
    ]
    assert len(documents) == len(set(documents)) == 3


@pytest.mark.slow
def test_without_text_tokens_have_numbers(tmp_path):
    """No words and no text around: the tokens by their ids, and where they stand."""
    with opened(plant(tmp_path / "run", text=False)) as run:
        found = by_id(run)["far_words"]
    tokens, places = found.tables
    assert {row[0] for row in tokens.rows[:2]} == {f"#{PIECES.index(name)}" for name in EFFECTS}
    assert all(row[3] == "" for row in places.rows)
    assert set(found.files["far_words.csv"]["kind"]) == {"token"}


def test_documents_that_agree_by_chance_do_not_lead():
    """A key whose two documents are equal has the error of as many occurrences of any key."""
    rng = np.random.default_rng(0)
    totals = {key: 2 * rng.normal(size=5) for key in range(40)} | {99: np.ones(2)}
    moments = {
        key: (2 * len(s), len(s), s.sum(), (s**2).sum(), 2 * s.sum(), 4 * len(s))
        for key, s in totals.items()
    }
    frame = pd.DataFrame.from_dict(moments, orient="index", columns=MOMENTS)
    found = ranked(frame, 0.95).set_index("key")
    assert found.loc[99, "mean"] == 0.5
    assert found.loc[99, "standard_error"] > 0.4
    assert found.loc[99, "low"] < 0


@pytest.mark.slow
def test_nothing_is_said_where_nothing_stands_often_enough(tmp_path):
    """One document, or a run without a curve: files at most, and no section."""
    one = write_run(tmp_path / "one", Simulation({"truncate": lambda d: 0.1 + 0 * d}, documents=1))
    with opened(one) as run:
        assert "far_words" not in by_id(run)
        (silent,) = (each for each in findings(run) if each.id == "far_words")
        assert silent.files["far_words.csv"].empty
    with opened(write_run(tmp_path / "none", Simulation({}))) as run:
        assert far_distances(run) is None


@pytest.mark.slow
def test_the_page_links_places_to_the_explorer(run, tmp_path):
    """Where a window is shown its places are links to tokens of the page; else they are text."""
    from probe.render.page import write_page

    found = findings(run)
    text = write_page([run], [found], tmp_path / "report.html").read_text("utf-8")
    places = next(one for one in found if one.id == "far_words").tables[-1].places
    links = re.findall(r'<a href="#(token-\d+-\d+)">(.*?)</a>', text)
    assert links
    assert len(links) <= len(places)
    for link, where in links:
        assert text.count(f'<b id="{link}"') == 1
        document, position = re.fullmatch(r"(.+), token ([\d,]+)", where).groups()
        assert any(
            isinstance(place, Place)
            and (place.document, place.position) == (document, int(position.replace(",", "")))
            for place in places
        )
