"""A table of the pages as data, and its two renderings: HTML for the report, Markdown for docs/results.md."""

import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markupsafe import Markup

FIGURE_SPACE = "\u2007"  # as wide as a digit


@dataclass(frozen=True)
class Heading:
    """The heading of a column.

    Attributes:
        text: what the column is.
        code: its name in the outputs, or a note, in small letters below.
        hint: shown when the mouse rests on the heading.
        over: a heading above this column and the neighbours that share it.
        is_number: whether its cells are aligned to the right, unless the column is one of a table's labels.
    """

    text: str
    code: str = ""
    hint: str = ""
    over: str = ""
    is_number: bool = True


@dataclass(frozen=True)
class Cell:
    """A cell with more than its text: a note in small letters, or a look.

    Attributes:
        look: "code", "strong", "worst" (of its row), "published", or "level LEVEL" of trust.
    """

    text: str
    note: str = ""
    look: str = ""


@dataclass(frozen=True)
class Table:
    """A table: all figures are computed and written as text.

    Attributes:
        caption: what it shows, in Markdown.
        labels: how many columns from the left are labels, aligned to the left.
        chosen: the numbers of the rows that are marked.
        parts: for each value of the first column, the text above the rows that share it; None: the first
            column is a column like others. A value without rows is shown too.
        wide: whether it takes the page's whole width.
        stacked: whether deviations and notes stand below their numbers, to save room.
    """

    title: str
    caption: str
    headings: Sequence[Heading | str]
    rows: Sequence[Sequence[Cell | str]]
    labels: int = 1
    chosen: Collection[int] = ()
    parts: Mapping[str, str] | None = None
    wide: bool = False
    stacked: bool = False

    @property
    def explanation(self) -> str:
        """The caption as a sentence of its own."""
        return f"{self.caption[:1].upper()}{self.caption[1:]}"


def _cell(cell: Cell | str) -> Cell:
    return Cell(cell) if isinstance(cell, str) else cell


def _heading(heading: Heading | str) -> Heading:
    return Heading(heading) if isinstance(heading, str) else heading


# --- Markdown --------------------------------------------------------------------------------------------


def markdown_rows(table: Table) -> list[list[str]]:
    """Write the rows in Markdown: the labels of marked rows and each row's worst are bold."""
    return [
        [_markdown(_cell(cell), k in table.chosen and j < table.labels) for j, cell in enumerate(row)]
        for k, row in enumerate(table.rows)
    ]


def _markdown(cell: Cell, marked: bool) -> str:
    text = re.sub(r" ±\s*", " ± ", cell.text) + (f" ({cell.note.strip()})" if cell.note else "")
    text = text.replace(FIGURE_SPACE, "")
    return f"**{text}**" if marked or cell.look in ("worst", "strong") else text


def markdown_headings(table: Table) -> list[str]:
    """Write each heading in one line: the heading above several columns is put before each that needs it."""
    headings = [_heading(heading) for heading in table.headings]
    texts = [heading.text for heading in headings]
    usual = next((heading.over for heading in headings if heading.over), "")
    return [
        f"{heading.over}: {heading.text}"
        if heading.over and (heading.over != usual or texts.count(heading.text) > 1)
        else heading.text
        for heading in headings
    ]


def markdown_grid(headings: Sequence[str], rows: Sequence[Sequence[str]], labels: int = 1) -> str:
    """Lay rows out as a Markdown table: the first columns to the left, the others to the right."""
    lines = [headings, [*["---"] * labels, *["---:"] * (len(headings) - labels)], *rows]
    return "\n".join("| " + " | ".join(str(c).replace("|", "\\|") for c in line) + " |" for line in lines)


def to_markdown(table: Table) -> str:
    """Render a table in Markdown, without title and caption."""
    return markdown_grid(markdown_headings(table), markdown_rows(table), table.labels)


# --- HTML ------------------------------------------------------------------------------------------------


def inline_html(text: str) -> Markup:
    """Render a sentence in Markdown as HTML; tags in it are text."""
    return Markup(MarkdownIt("commonmark", {"html": False}).renderInline(text))


def to_html(table: Table, number: int) -> Markup:
    """Render a table as HTML, with its number, title and caption."""
    is_label = 0 if table.parts is None else 1  # the page does not show the column of the parts
    headings = [_heading(heading) for heading in table.headings[is_label:]]
    looks = _column_looks(headings, table.labels - is_label)
    classes = " ".join(
        name
        for name, has in (
            ("wide", table.wide or table.parts is not None),
            ("dense", len(headings) > 8),
            ("full", len(headings) > 12),
        )
        if has
    )
    lines = [
        Markup('<div class="scroll"><table{}>').format(_attributes(classes)),
        Markup("  <caption><b>Table {}. {}.</b> {}</caption>").format(
            number, table.title, inline_html(table.explanation)
        ),
        Markup("  <thead>"),
        *_over_row(headings),
        Markup("    <tr>{}</tr>").format(
            Markup("").join(
                Markup("<th{}>{}{}</th>").format(
                    _attributes(look, heading.hint),
                    heading.text,
                    Markup("<code>{}</code>").format(heading.code) if heading.code else "",
                )
                for heading, look in zip(headings, looks, strict=True)
            )
        ),
        Markup("  </thead>"),
        *_bodies(table, looks),
        Markup("</table></div>"),
    ]
    return Markup("\n").join(lines)


def _attributes(classes: str, title: str = "") -> Markup:
    given = {"class": classes.strip(), "title": title}
    return Markup("").join(Markup(' {}="{}"').format(name, value) for name, value in given.items() if value)


def _overs(headings: Sequence[Heading]) -> Iterator[tuple[str, int, bool]]:
    """Yield runs of headings with the same `over`: its text, their number, whether a line precedes them."""
    seen = False
    for over, members in itertools.groupby(headings, key=lambda heading: heading.over):
        yield over, len(list(members)), bool(over) and seen
        seen = seen or bool(over)


def _over_row(headings: Sequence[Heading]) -> list[Markup]:
    if not any(heading.over for heading in headings):
        return []
    cells = [
        Markup('<th colspan="{}"{}>{}</th>').format(length, _attributes("apart" * apart), over)
        for over, length, apart in _overs(headings)
    ]
    return [Markup('    <tr class="over">{}</tr>').format(Markup("").join(cells))]


def _column_looks(headings: Sequence[Heading], labels: int) -> list[str]:
    """Return the classes of each column's cells."""
    first_apart = [k == 0 and apart for _, length, apart in _overs(headings) for k in range(length)]
    return [
        ("" if j < labels else "number" if heading.is_number else "group") + " apart" * apart
        for j, (heading, apart) in enumerate(zip(headings, first_apart, strict=True))
    ]


def _bodies(table: Table, looks: Sequence[str]) -> list[Markup]:
    rows = list(enumerate(table.rows))
    if table.parts is None:
        return [_body(table, rows, looks, [])]
    bodies = []
    for name, note in table.parts.items():
        members = [(k, row[1:]) for k, row in rows if _cell(row[0]).text == name]
        title = Markup(
            '    <tr class="data"><th colspan="{}" scope="rowgroup">{} <small>{}</small></th></tr>'
        ).format(len(looks), name, note)
        nothing = Markup(
            '    <tr><td class="name" colspan="{}">– every training ended on its plateau</td></tr>'
        )
        bodies.append(
            _body(table, members, looks, [title] if members else [title, nothing.format(len(looks))])
        )
    return bodies


def _body(
    table: Table, rows: Sequence[tuple[int, Sequence[Cell | str]]], looks: Sequence[str], above: list[Markup]
) -> Markup:
    lines = [
        Markup("    <tr{}>{}</tr>").format(
            _attributes("chosen" * (k in table.chosen)),
            Markup("").join(
                _html_cell(table, _cell(cell), "name" if table.parts is not None and j == 0 else look)
                for j, (cell, look) in enumerate(zip(row, looks, strict=True))
            ),
        )
        for k, row in rows
    ]
    start = Markup("  <tbody{}>").format(_attributes("stacked" * table.stacked))
    return Markup("\n").join([start, *above, *lines, Markup("  </tbody>")])


def _html_cell(table: Table, cell: Cell, look: str) -> Markup:
    number, *deviation = cell.text.split(" ±")
    content = Markup("{}").format(cell.text)
    if table.stacked and deviation:
        content = Markup("{}<small>±{}</small>").format(number, deviation[0])
    if cell.look in ("code", "strong"):
        content = Markup("<{0}>{1}</{0}>").format({"code": "code", "strong": "b"}[cell.look], content)
    elif cell.look.startswith("level"):
        content = Markup('<span class="{}">{}</span>').format(cell.look, content)
    else:
        look = f"{look} {cell.look}"
    if cell.note:
        content += Markup(" <small{}>{}</small>").format(
            _attributes("" if look.startswith("number") else "note"), cell.note
        )
    return Markup("<td{}>{}</td>").format(_attributes(look), content)
