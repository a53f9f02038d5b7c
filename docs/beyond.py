"""What the site's pages link to beyond docs/: a hook of MkDocs, whose world ends there.

Pages and pictures of the repository that are linked to become part of the site, at the same path
from its root. Of a link to anything else, such as source, the text stays.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
LINK = re.compile(
    r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)"
)
SHOWN = (".md", ".svg", ".png")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what is linked to, and what that links to."""
    waiting = [ROOT / "docs" / file.src_uri for file in files.documentation_pages()]
    seen = set(waiting)
    while waiting:
        source = waiting.pop()
        uri = _in_site(source)
        if files.get_file_from_path(uri) is None:
            files.append(File.generated(config, uri, abs_src_path=str(source)))
        if source.suffix == ".md":
            for link in LINK.finditer(source.read_text()):
                target = _target(source, link["target"])
                if target is not None and target.suffix in SHOWN and target not in seen:
                    seen.add(target)
                    waiting.append(target)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as they are in the site."""
    source = Path(page.file.abs_src_path or "")

    def moved(link: re.Match[str]) -> str:
        target = _target(source, link["target"])
        if target is None:
            return link[0]
        if target.suffix not in SHOWN:
            return link["text"]
        here = posixpath.dirname(page.file.src_uri)
        place = posixpath.relpath(_in_site(target), here or ".")
        return f"{link['picture']}[{link['text']}]({place}{link['anchor'] or ''})"

    return LINK.sub(moved, markdown)


def _target(source: Path, link: str) -> Path | None:
    """A file or folder of the repository; None if the link leads elsewhere."""
    found = Path(posixpath.normpath(source.parent / link))
    return found if "://" not in link and found.is_relative_to(ROOT) and found.exists() else None


def _in_site(file: Path) -> str:
    docs = ROOT / "docs"
    return file.relative_to(docs if file.is_relative_to(docs) else ROOT).as_posix()
