"""A matrix in a configuration: one run for every model and data set, named once and for all."""

from pathlib import Path
from typing import Any

import pytest
from tiny_run import CHECKOUT

from probe.config import Config, check, load
from probe.errors import UsageError
from probe.runs.matrix import AXES, Matrix, expand
from probe.yaml_file import read_file

SMALL, LARGE = {"path": "models/small"}, {"path": "models/large", "dtype": "bfloat16"}


def matrix(**changes: Any) -> dict[str, Any]:
    return {
        "name": "grid",
        "matrix": {"model": [SMALL, LARGE], "data": [{"path": "stdlib"}, {"path": "a/b*.txt"}]},
        "conditions": ["truncate"],
        **changes,
    }


def names(model: list[Any], data: list[Any] | None = None) -> list[str]:
    content = matrix(matrix={"model": model, "data": data or [{"path": "stdlib"}]})
    return [run.name for run in expand(content).runs]


def test_every_model_meets_every_data_set() -> None:
    """Those of a model behind one another, so that it is loaded once; each an ordinary run."""
    found = expand(matrix())
    assert isinstance(found, Matrix)
    assert found.name == "grid"
    assert [run.name for run in found.runs] == [
        *("small--stdlib", "small--a", "large--stdlib", "large--a")
    ]
    assert all(isinstance(run, Config) for run in found.runs)
    assert [run.model.dtype for run in found.runs] == ["auto", "auto", "bfloat16", "bfloat16"]
    assert found.runs[1].data.data_files == ["a/b*.txt"]
    alone = {key: value for key, value in matrix().items() if key != "matrix"}
    parts = {"name": "large--stdlib", "model": LARGE, "data": {"path": "stdlib"}}
    assert found.runs[2] == check({**alone, **parts})


def test_what_the_file_says_holds_for_all() -> None:
    """An entry completes the part of the file, and goes before it."""
    found = expand(matrix(model={"dtype": "float32", "device": "cpu"}, data={"max_documents": 3}))
    assert [run.model.dtype for run in found.runs[::2]] == ["float32", "bfloat16"]
    assert {run.model.device for run in found.runs} == {"cpu"}
    assert {run.data.max_documents for run in found.runs} == {3}


def test_what_is_named_twice_is_the_same() -> None:
    """A file that named one of them already keeps it."""
    found = expand(matrix(model={**SMALL, "dtype": "float32"}, data="stdlib"))
    assert [run.model.dtype for run in found.runs[::2]] == ["float32", "bfloat16"]
    assert {run.model.path for run in found.runs} == {"models/small", "models/large"}


def test_one_axis_is_enough() -> None:
    """Of the other the file has its one."""
    content = matrix(matrix={"model": ["models/a", "models/b"]}, data={"path": "stdlib"})
    assert [run.name for run in expand(content).runs] == ["a--stdlib", "b--stdlib"]


def test_options_change_every_run() -> None:
    """``--set`` and its twins go before the file and its lists; name and matrix are the file's."""
    changes = [("model.dtype", "float16"), ("seed", "7"), ("name", "other")]
    found = expand(matrix(), [*changes, ("matrix.model", "[models/one]")])
    assert found.name == "other"
    assert [run.name for run in found.runs] == ["one--stdlib", "one--a"]
    assert {(run.model.dtype, run.seed) for run in found.runs} == {("float16", 7)}
    for change in (("data.path", "stdlib"), ("data", "{path: stdlib}")):
        with pytest.raises(UsageError, match=r"matrix\.data says which; allowed without: --data"):
            expand(matrix(), [change])


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (["a/model", "b/model"], ["model", "b-model"]),
        (["model", "MODEL/"], ["model", "MODEL-2"]),
        ([{"path": "m"}, {"path": "m", "revision": "step1000"}], ["m", "m-step1000"]),
        (
            [{"path": "m", "dtype": "float32"}, {"path": "m", "dtype": "bfloat16"}],
            ["m", "m-bfloat16"],
        ),
        (["hub/models--org--name/snapshots/0a1b2c3d"], ["name"]),
        (["package://pack/Model-1B.Q4_1.gguf"], ["Model-1B.Q4_1"]),
        ([{"path": "m"}, {"path": "m", "attention": "eager"}], ["m", "m-eager"]),
        (["../../../etc/x; rm -"], ["x-rm"]),
        (["..", "."], ["unnamed", "unnamed-2"]),
        ([f"m/{'x' * 300}"], [f"{'x' * 80}-a9c1c6c9"]),
    ],
)
def test_names_are_those_of_folders(entries: list[Any], expected: list[str]) -> None:
    """Short, safe, and no two alike, not even where a file system knows no case."""
    found = [name.partition("--")[0] for name in names(entries)]
    if len(entries[0]) > 200:  # the digest is any, but the same
        assert found[0][:81] == expected[0][:81]
        assert found == [name.partition("--")[0] for name in names(entries)]
        assert len(found[0]) == 89
    else:
        assert found == expected


def test_names_of_data() -> None:
    """A file without its ending, the folder of a glob, a hub name with its configuration."""
    data = [
        "texts.jsonl",
        "books/*.txt",
        {"path": "org/wiki", "name": "en"},
        {"path": "text", "data_files": ["notes/*.md"]},
    ]
    assert [name.partition("--")[2] for name in names(["m"], data)] == [
        *("texts", "books", "wiki-en", "notes")
    ]


def test_other_letters_are_told_apart() -> None:
    """A name that loses letters has a digest for them."""
    first, second = names(["модель", "сеть"])
    assert first != second
    assert first.isascii()


def test_entries_put_behind_rename_none() -> None:
    """A run that was scored is found again when the lists grow."""
    before = names(["a/model", {"path": "m", "dtype": "float32"}])
    more = names(["a/model", {"path": "m", "dtype": "float32"}, {"path": "m"}, "b/model"])
    assert more[:2] == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (matrix(matrix=3), "matrix is 3; allowed: lists under model, data"),
        (matrix(matrix={}), "matrix is {}; allowed: lists"),
        (
            matrix(matrix={"protocol": []}),
            "matrix has 'protocol'; allowed: lists under model, data",
        ),
        (matrix(matrix={"modle": ["m"]}), "matrix has 'modle'; did you mean 'model'? allowed: lis"),
        (matrix(matrix={"model": []}), "matrix.model is []; allowed: one entry or more"),
        (matrix(matrix={"model": [3]}), "matrix.model.0 is 3; allowed: a path, or keys of model"),
        (matrix(matrix={"data": [{"split": "x"}]}), "matrix.data.0 is {'split': 'x'}; allowed"),
        (matrix(matrix={"model": [SMALL, SMALL], "data": ["x"]}), "matrix.model.1 is there twice"),
        (matrix(model="m"), "model is 'm', and in no run: matrix.model says which; allowed: keys"),
        (matrix(data={"path": "x", "split": "y"}), "data is 'x', and in no run: matrix.data"),
        (matrix(model=3), "model is 3, and in no run"),
        (matrix(name="a/b"), "name is 'a/b'; allowed: letters"),
        (matrix(name=None), "name is None; allowed: letters"),
        (matrix(conditions=["shufle"]), "configuration, small--stdlib, has 1 mistake"),
        (
            matrix(matrix={"model": [{"path": "m", "dtpe": 1}], "data": ["stdlib"]}),
            "model.dtpe: un",
        ),
        (matrix(matrix={"model": [SMALL]}), "data: is missing"),
    ],
)
def test_mistakes_are_told(content: dict[str, Any], words: str) -> None:
    """What is wrong, the value, what is allowed."""
    with pytest.raises(UsageError) as caught:
        expand(content)
    assert words in str(caught.value)


def test_elsewhere_a_matrix_is_refused(tmp_path: Path) -> None:
    """Where one run is wanted, a file of several is no mistake of its keys."""
    with pytest.raises(UsageError, match="holds a matrix of runs; allowed: one run"):
        load(CHECKOUT / "configs" / "matrix.yaml")


def test_our_own_can_be_read() -> None:
    """The example, every run of which can be written down and read again."""
    file = CHECKOUT / "configs" / "matrix.yaml"
    found = expand(read_file(file))
    assert len(found.runs) == 2
    for run in found.runs:
        assert Config.model_validate_json(run.model_dump_json()) == run
    assert file.read_text(encoding="utf-8").startswith("#")
    assert set(AXES) == set(read_file(file)["matrix"])
