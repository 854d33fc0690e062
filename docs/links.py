"""The site's only hook: files of the checkout that a page links to are copied into the site.

A page says `../configs/sun2021.yaml`, which a reader of the repository can follow; the site, whose
root is `docs/`, has that file as `configs/sun2021.yaml`.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

OUTWARD = re.compile(r"(\]\()\.\./([^)#\s]+)")
"""A link that leaves the folder of the pages, up to its address."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what the pages link to outside of their folder."""
    root = Path(config.docs_dir).parent
    linked = {
        target
        for page in files.documentation_pages()
        for _, target in OUTWARD.findall(page.content_string)
    }
    for target in sorted(linked):
        if (root / target).is_file():
            files.append(File.generated(config, target, abs_src_path=str(root / target)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Let those links lead there; one that leads nowhere stays, and fails the build."""
    return OUTWARD.sub(r"\1\2", markdown)
