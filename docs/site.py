"""Build the site of the documentation, and fail where a link of it leads nowhere.

    python docs/site.py site

A page links to a file of the checkout as a reader of the repository can follow it, such as
``../configs/demo.yaml``; the root of the site is ``docs/``, so that the file is copied there.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parent.parent
OUTWARD = re.compile(r"(\]\()\.\./([^)#\s]+)")
"""A link that leaves the folder of the pages, up to the end of its address."""


def build(site: Path) -> int:
    """Build the site into a folder, which is replaced; returns the exit status."""
    with TemporaryDirectory() as folder:
        stage = Path(folder)
        shutil.copytree(ROOT / "docs", stage / "docs", ignore=shutil.ignore_patterns("*.py"))
        shutil.copy(ROOT / "zensical.toml", stage)
        for page in (stage / "docs").glob("*.md"):
            text = page.read_text(encoding="utf-8")
            for _, target in OUTWARD.findall(text):
                copied = stage / "docs" / target
                copied.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / target, copied)
            page.write_text(OUTWARD.sub(r"\1\2", text), encoding="utf-8")
        command = [sys.executable, "-m", "zensical", "build", "--strict"]
        status = subprocess.run(command, cwd=stage, check=False).returncode
        if status == 0:
            shutil.rmtree(site, ignore_errors=True)
            shutil.copytree(stage / "site", site)
    return status


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1])))
