"""What the site has beside the pages in this folder: the README as its guide, and SECURITY.md.

MkDocs calls these functions by name. Nothing is written into the folder; the pages of reference,
which are, are made by `reference.py`.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PROJECT = Path(__file__).resolve().parent.parent
BROUGHT = {"README.md": "guide.md", "SECURITY.md": "security.md"}
"""Pages of the project that the site has under another name."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in this folder."""
    for origin, name in BROUGHT.items():
        text = (PROJECT / origin).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=_moved(text)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Let links that leave this folder lead to the pages that were brought in."""
    above = "../" * page.file.src_uri.count("/")
    for origin, name in BROUGHT.items():
        markdown = markdown.replace(f"]({above}../{origin}", f"]({above}{name}")
    return markdown


def _moved(text: str) -> str:
    """Return a page's text with its links as they read from this folder."""
    text = re.sub(r"\]\(docs/", "](", text)
    for origin, name in BROUGHT.items():
        text = text.replace(f"]({origin}", f"]({name}")
    # What is no page is named, and not linked to.
    return re.sub(r"\[([^\]]+)\]\((?:deploy/[^)]*|LICENSE|CHANGELOG\.md)\)", r"\1", text)
