"""MkDocs hooks: pages link to files of the repository, so the site carries these files too."""

from __future__ import annotations

import posixpath
import re
import shutil
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(\]\()(?!https?:|#)([^)#\s]+)")


def on_files(files: Files, config: Any) -> Files:
    """Add README and CONTRIBUTING as pages, and what the pages link to, with all results."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    linked = {
        (page.parent / target).resolve()
        for page in pages
        for _, target in LINK.findall(page.read_text("utf-8"))
    }
    results = {
        path
        for path in (ROOT / "results").rglob("*")
        if ROOT / "results" / "local" not in path.parents
    }
    for path in sorted({*pages[:2], *linked, *results}):
        if path.is_file() and ROOT / "docs" not in path.parents:
            files.append(File.generated(config, _uri(path), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links between files of the repository to their places in the site."""
    folder = Path(page.file.abs_src_path).resolve().parent

    def place(link: re.Match[str]) -> str:
        start = posixpath.dirname(page.file.src_uri) or "."
        return link[1] + posixpath.relpath(_uri(folder / link[2]), start)

    return LINK.sub(place, markdown)


def on_post_build(config: Any) -> None:
    """Copy the tables of results as files, to which the report pages link."""
    for path in (ROOT / "results").rglob("*.md"):
        if (target := Path(config.site_dir, path.relative_to(ROOT))).parent.is_dir():
            shutil.copy(path, target)


def _uri(path: Path) -> str:
    """The place in the site's sources of a file of the repository."""
    uri = path.resolve().relative_to(ROOT).as_posix().removeprefix("docs/")
    return "index.md" if uri == "README.md" else uri
