"""README and docs/: short enough, and every link leads somewhere."""

import re
from pathlib import Path

import pytest

from stages.reporting.reference import DISCRIMINATOR
from tests.support import PROJECT

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]+))?\)")
FILES = ("csv", "json", "md", "npz", "parquet", "py", "safetensors", "yaml")  # what file names end in


def anchors(page: Path) -> set[str]:
    """What links may name in a page: its headings in small letters, with hyphens for spaces."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_one_page() -> None:
    assert len((PROJECT / "README.md").read_text(encoding="utf-8")) <= 7000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for path, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name} links to {path}, which is missing"
        assert not anchor or anchor in anchors(target), f"{page.name}: {path} has no heading #{anchor}"


def test_the_readme_links_to_every_page() -> None:
    linked = {path for path, _ in LINK.findall(PAGES[0].read_text(encoding="utf-8"))}

    assert {f"docs/{page.name}" for page in PAGES[1:]} <= linked


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_parameters_that_are_named_exist(page: Path) -> None:
    listed = (PROJECT / "docs" / "parameters.md").read_text(encoding="utf-8")
    known = set(re.findall(r"^\| `([\w.]+)` \|", listed, flags=re.MULTILINE))
    sections = {key.split(".")[0] for key in known}
    text = re.sub(r"```python.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    named = re.findall(r"(?<![\w/.])([a-z_]+(?:\.[a-zA-Z_]+)+)(?![\w/(])", text)

    for key in named:
        section, name = key.split(".")[0], key.rpartition(".")[2]
        if section not in sections or name in FILES or name == DISCRIMINATOR:
            continue
        definition = re.sub(r"^(train|finish)\.definitions\.\w+", r"\1.definitions.NAME", key)
        assert definition in known | {"train.definitions.NAME"}, f"{page.name} names {key}, which is none"
