"""Make the run folders and outputs that ``test_golden.py`` compares with.

    python tests/golden/make.py FOLDER       # models, inputs and runs, all anew, in FOLDER
    python tests/golden/make.py FOLDER --keep        # … and keep inputs and runs beside this file
    python tests/golden/make.py --expected [CASE …]  # what commands print of the kept runs, anew

``runs`` holds what a run has measured (run.json, scores, windows, frequencies), ``expected`` what
the commands of ``golden_cases.py`` print and write of it, a folder a case; ``printed`` is what
``probe run`` printed, for the eye. ``inputs`` holds the texts: they were drawn from a model, and
another CPU might draw another letter. ``models`` holds all files but the weights, which come from
a seed: another version of transformers would write other ones, and a run whose model has changed
is not resumed.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent)]

from golden_cases import (  # noqa: E402 (behind the paths)
    CASES,
    UNFINISHED,
    case_folder,
    keep_unfinished,
    place_inputs,
)
from golden_inputs import CONFIGURATIONS, write_data  # noqa: E402
from golden_outputs import PRINTED, outputs  # noqa: E402

MEASURED = ("run.json", "windows.parquet", "frequencies.parquet", "scores/*.parquet")


def make(folder: Path) -> None:
    """Score every configuration into ``folder/results``; what it prints goes to ``printed``."""
    folder.mkdir(parents=True, exist_ok=True)
    place_inputs(folder)
    (folder / "printed").mkdir(exist_ok=True)
    for name in CONFIGURATIONS:
        found = outputs(["run", f"{name}.yaml"], folder)
        (folder / "printed" / f"{name}.txt").write_text(found[PRINTED], encoding="utf-8")
        print(f"{name}: {'failed' if '--- status' in found[PRINTED] else 'made'}")


def keep(folder: Path) -> None:
    """Copy what was measured to ``runs``, and what else is kept beside it."""
    shutil.rmtree(HERE / "runs", ignore_errors=True)
    for name in CONFIGURATIONS:
        for pattern in MEASURED:
            for path in (folder / "results" / name).glob(pattern):
                target = HERE / "runs" / path.relative_to(folder / "results")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
    keep_unfinished(HERE / "runs" / "finished", HERE / "runs" / UNFINISHED)
    for name in ("models", "printed", "inputs"):
        weights = shutil.ignore_patterns("*.safetensors")
        shutil.copytree(folder / name, HERE / name, dirs_exist_ok=True, ignore=weights)


def expect(names: list[str]) -> None:
    """Write what the commands print and write now."""
    with tempfile.TemporaryDirectory() as scratch:
        inputs = Path(scratch) / "given"
        inputs.mkdir()
        place_inputs(inputs)
        for name in names or CASES:
            started = time.process_time()
            found = outputs(CASES[name], case_folder(name, Path(scratch) / name, inputs))
            place = HERE / "expected" / name
            shutil.rmtree(place, ignore_errors=True)
            for file, text in found.items():
                (place / file).parent.mkdir(parents=True, exist_ok=True)
                (place / file).write_text(text, encoding="utf-8")
            failed = ", unexpected" if "unexpected" in found[PRINTED] else ""
            print(f"{name}: {time.process_time() - started:.1f} s{failed}", flush=True)
    for place in [] if names else sorted((HERE / "expected").iterdir()):
        if place.name not in CASES:
            shutil.rmtree(place)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, help="where to make models and runs")
    parser.add_argument("--keep", action="store_true", help="keep its runs beside this file")
    parser.add_argument("--anew", action="store_true", help="let the model write its texts anew")
    parser.add_argument("--expected", nargs="*", metavar="CASE", help="write outputs anew")
    asked = parser.parse_args()
    if asked.folder is not None:
        if asked.anew:
            write_data(asked.folder / "inputs")
        make(asked.folder)
        if asked.keep:
            keep(asked.folder)
    if asked.expected is not None:
        expect(asked.expected)


if __name__ == "__main__":
    main()
