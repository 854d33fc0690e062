"""Runs of one name are told apart by their folders, in every list of names."""

from pathlib import Path

import pytest

from probe.results.folder import RunFolder, unique_labels

CASES = {
    "names of their own": ({"a": "one", "b": "two"}, ["one", "two"]),
    "folders as runs": ({"x/run": "run", "y/run": "run"}, ["x/run", "y/run"]),
    "folders of other names": ({"x/a": "run", "x/b": "run"}, ["run (a)", "run (b)"]),
    "one is deeper": ({"run": "run", "x/run": "run"}, ["{root}/run", "x/run"]),
    "some of three": ({"x/run": "run", "z": "z", "y/run": "run"}, ["x/run", "z", "y/run"]),
    "far apart": ({"a/x/run": "run", "b/x/run": "run"}, ["a/x/run", "b/x/run"]),
}


@pytest.mark.parametrize(("folders", "expected"), CASES.values(), ids=CASES)
def test_told_apart(folders: dict[str, str], expected: list[str], tmp_path: Path) -> None:
    """As much of a path as differs; a name that is its own stays as it is."""
    runs = [RunFolder(tmp_path / folder, {"name": name}, ()) for folder, name in folders.items()]
    assert unique_labels(runs) == [name.format(root=tmp_path.name) for name in expected]


def test_one_folder_twice(tmp_path: Path) -> None:
    """Nothing but a number can tell a run from itself."""
    one, link = RunFolder(tmp_path / "a", {"name": "a"}, ()), tmp_path / "link"
    link.symlink_to(tmp_path / "a")
    assert unique_labels([one, RunFolder(link, {"name": "a"}, ())]) == ["a (1)", "a (2)"]
