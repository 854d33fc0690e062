"""`probe push` against a hub on this machine: what goes, what stays, and what is refused."""

import io
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from command_line import good, mistake, probe, process
from local_hub import DEPRECATED, TOKEN, Hub, served_hub  # noqa: F401 (fixture)
from tiny_run import no_network  # noqa: F401 (fixture)

pytestmark = pytest.mark.filterwarnings(DEPRECATED)
RUNS = Path(__file__).parents[1] / "golden" / "runs"
ADDRESS = "hf://datasets/me/run"
WITH_TEXT = ("frequencies.parquet", "findings.json", "report.html", "classes.parquet")


@pytest.fixture(scope="module", name="reported")
def reported_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was reported, with a page, and with a file that nobody knows."""
    folder = tmp_path_factory.mktemp("reported") / "sweep"
    shutil.copytree(RUNS / "sweep", folder)
    good(probe("report", folder))
    (folder / "notes.txt").write_text("private")
    return folder


@pytest.fixture(name="run")
def run_folder(reported: Path, tmp_path: Path) -> Path:
    """A copy of it, for a test that may change it."""
    return Path(shutil.copytree(reported, tmp_path / "sweep"))


def words(folder: Path) -> set[str]:
    """Long enough words of the run's text."""
    texts = pq.read_table(folder / "windows.parquet")["text"].to_pylist()
    return {word for text in texts for word in text.split() if len(word) > 5}


@pytest.mark.slow
def test_dry_run_sends_nothing(hub: Hub, run: Path) -> None:
    """It names every file with its size, what is left out and why, and the documents."""
    said = good(probe("push", run, ADDRESS, "--dry-run"))
    assert hub.asked == []
    assert "Dry run: nothing was sent to me/run (private)." in said
    sent, _, left = said.partition("Left out:")
    for name in ("README.md", "run.json", "summary.json", "curve.csv", "figures/curve.png"):
        assert name in sent
    for name in (*WITH_TEXT, "windows.parquet"):
        assert f"{name} " in left
    assert "notes.txt" in left
    assert "notes.txt" not in sent
    assert left.count("(--with-text)") >= 5
    assert "The card names the model 'near' and the data 'inputs/texts.jsonl'." in left
    assert "documents stand in the rows" in left
    assert not list(run.glob("README.md")), "the folder is not written to"


@pytest.mark.slow
def test_files_that_are_alike_have_one_line(hub: Hub, run: Path) -> None:
    """A long run has hundreds of parts."""
    (part,) = (run / "scores").iterdir()
    for number in range(200):
        shutil.copy(part, part.with_name(f"copy-{number}.parquet"))
    said = good(probe("push", run, ADDRESS, "--dry-run"))
    assert len(said.splitlines()) < 30
    assert "scores/ (200 files)  cannot be read, or stands in another part" in said


@pytest.mark.slow
def test_what_is_not_finished_is_said(hub: Hub) -> None:
    """Whoever shares a part of a run hears it before anything is sent."""
    found = probe("push", RUNS / "unfinished", ADDRESS, "--dry-run")
    assert found.exit_code == 0
    assert "note: run 'unfinished' is unfinished: this is what has been scored" in found.stderr
    assert hub.asked == []


@pytest.mark.slow
def test_what_is_sent(hub: Hub, run: Path) -> None:
    """The files that the dry run names, private; rows as they are, and no word of the text."""
    named = good(probe("push", run, ADDRESS, "--dry-run")).partition("Left out")[0].splitlines()[1:]
    said = good(probe("push", run, ADDRESS))
    files = hub.files["me/run"]
    assert set(files) == {line.split()[0] for line in named if line}
    assert hub.private == {"me/run": True}
    assert f"Data set (private): {hub.endpoint}/datasets/me/run" in said
    for part in (run / "scores").iterdir():
        assert files[f"scores/{part.name}"] == part.read_bytes()
    windows = pq.read_table(io.BytesIO(files["windows.parquet"]))
    assert windows.column_names == ["document", "window", "start", "tokens"]
    own = pq.read_table(run / "windows.parquet")
    assert windows["tokens"].to_pylist() == [len(ids) for ids in own["token_ids"].to_pylist()]
    assert words(run)
    for name, content in files.items():
        assert not any(word.encode() in content for word in words(run)), name
    assert {f"Bearer {TOKEN}"} == hub.tokens - {None}
    assert TOKEN not in said
    assert TOKEN.encode() not in b"".join(files.values())


@pytest.mark.slow
def test_text_on_request(hub: Hub, run: Path) -> None:
    """With --with-text, and public with --public: a folder that `probe report` reads again."""
    said = good(probe("push", run, "hf://me/run", "--with-text", "--public"))
    files = hub.files["me/run"]
    assert set(WITH_TEXT) <= set(files)
    assert hub.private == {"me/run": False}
    assert "Data set (public)" in said
    copy = run.parent / "copy"
    for name, content in files.items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(content)
    assert files["windows.parquet"] == (run / "windows.parquet").read_bytes()
    before, after = (good(probe("report", folder)) for folder in (run, copy))
    assert after.replace(str(copy), str(run)) == before


def test_no_token(hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a token nothing is asked."""
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    line = mistake(probe("push", run, ADDRESS), 1)
    assert line == "no token of the hub; allowed: HF_TOKEN, or `hf auth login`"
    assert hub.asked == []


@pytest.mark.parametrize(
    "address",
    [
        "me/run",
        "hf://run",
        "hf://datasets/run",
        "hf://models/me/run",
        "hf://me/run/x",
        "hf://a b/c",
        "hf://datasets/../run",
        "hf://datasets/me/-run-",
    ],
)
def test_addresses(address: str, run: Path) -> None:
    """Only a user's data set is an address."""
    line = mistake(probe("push", run, address), 2)
    assert line.endswith("is no address of a data set; allowed: hf://datasets/<user>/<name>")


@pytest.mark.slow
def test_names_that_are_paths(hub: Hub, run: Path) -> None:
    """Documents named by a path of the machine stand in every row: refused without --with-text."""
    for file in (run / "windows.parquet", *(run / "scores").iterdir()):
        table = pq.read_table(file)
        names = [f"/home/anna/{name}" for name in table["document"].to_pylist()]
        at = table.column_names.index("document")
        pq.write_table(table.set_column(at, "document", [names]), file)
    line = mistake(probe("push", run, ADDRESS, "--dry-run"), 2)
    assert "are paths of this machine, such as '/home/anna/" in line
    assert line.endswith("allowed: --with-text")


@pytest.mark.slow
def test_columns_of_others(hub: Hub, run: Path) -> None:
    """A column that another tool put beside the losses may hold text."""
    part = sorted((run / "scores").iterdir())[0]
    table = pq.read_table(part)
    pq.write_table(table.append_column("token", [["word"] * len(table)]), part)
    assert "'token'; allowed: document, " in mistake(probe("push", run, ADDRESS), 2)
    assert hub.asked == []


@pytest.mark.slow
def test_as_a_user_does(hub: Hub, run: Path, tmp_path: Path) -> None:
    """The command line in a process of its own, with the hub's own variables."""
    done = process(
        *("cli.py", "push", str(run), ADDRESS),
        caches=tmp_path,
        HF_ENDPOINT=hub.endpoint,
        HF_HUB_OFFLINE="0",
        HF_HUB_DISABLE_XET="1",
        HF_TOKEN=TOKEN,
    )
    assert done.returncode == 0, done.stderr
    assert f"{hub.endpoint}/datasets/me/run" in done.stdout
    assert json.loads(hub.files["me/run"]["run.json"])["name"]
    assert TOKEN not in done.stdout + done.stderr
