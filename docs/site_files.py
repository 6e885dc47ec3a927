"""Hook of mkdocs: give the site the layout of the repository, with the notebooks as pages.

Pages link to each other, to results and to notebooks as on a code host. A link to a folder, or to a file that the site
does not show (the licence, a JSON file of results), becomes text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "notebooks/README.md", "docs/*.md", "benchmarks/results/*.md")
ASSETS = ("benchmarks/results/*.png", "docs/*.png", "docs/images/*")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?://|#)([^)#]+)(#[^)]*)?\)")


@event_priority(100)
def on_files(files: Files, config: Any) -> Files:
    """Replace the files of docs/ by those of the repository that the site shows."""
    kept = [file for file in files if not file.src_uri.endswith((".md", ".py"))]
    for pattern in (*PAGES, *ASSETS):
        for path in sorted(ROOT.glob(pattern)):
            kept.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        kept += notebook(path, config)
    return Files(list({file.src_uri: file for file in kept}.values()))


def notebook(path: Path, config: Any) -> list[File]:
    """A notebook as a page, and its pictures."""
    from nbconvert import MarkdownExporter

    text, resources = MarkdownExporter().from_filename(str(path))
    name = f"notebooks/{path.stem}"
    pictures = resources.get("outputs", {})
    for picture in pictures:
        text = text.replace(f"]({picture})", f"]({path.stem}_{picture})")
    page = File.generated(config, f"{name}.md", content=text)
    return [page, *(File.generated(config, f"{name}_{name_}", content=data) for name_, data in pictures.items())]


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Lead links to notebooks to their pages, and make text of links to what the site does not show."""
    folder = posixpath.dirname(page.file.src_uri)

    def lead(found: re.Match[str]) -> str:
        words, target, anchor = found[1], found[2], found[3] or ""
        target = re.sub(r"\.ipynb$", ".md", target)
        there = posixpath.normpath(posixpath.join(folder, target))
        if files.get_file_from_path(there) is not None:
            return f"[{words}]({target}{anchor})"
        return words if (ROOT / there).exists() else found[0]

    return LINK.sub(lead, markdown)
