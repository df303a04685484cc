"""What a test reads of a report's page."""

import re
from html import unescape

from stages.reporting.tables import FIGURE_SPACE


def tables_of(page: str) -> dict[str, list[list[str]]]:
    """The rows of every table by its title: the text of its cells."""
    tables = {}
    for table in re.findall(r"<table.*?</table>", page, re.DOTALL):
        title = re.search(r"<b>Table \d+\. (.*?)\.</b>", table)
        assert title is not None
        rows = re.findall(r"<tr.*?</tr>", table, re.DOTALL)
        tables[unescape(title[1])] = [
            [
                " ".join(unescape(re.sub(r"<[^>]*>", " ", cell)).replace(FIGURE_SPACE, " ").split())
                for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)
            ]
            for row in rows
        ]
    return tables
