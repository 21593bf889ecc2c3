"""
README and docs as tests read them: sections, tables, and names shown as code.
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, *sorted(DOCS.glob("*.md"))]


def section(page, heading):
    """
    The text of *page* from the line *heading* up to the next heading of the same or a higher rank.
    """
    rank = len(heading) - len(heading.lstrip("#"))
    text = page.read_text(encoding="utf-8")
    start = re.search(rf"^{re.escape(heading)}$", text, re.MULTILINE).end()
    end = re.compile(rf"^#{{1,{rank}}} ", re.MULTILINE).search(text, start)
    return text[start : end.start() if end else None]


def tables(text):
    """
    The tables in *text*, each as a list of rows without the head.
    """
    found = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
        for table in found
    ]


def table_after(page, sentence):
    """
    The rows of the first table of *page* that follows the line *sentence*.
    """
    return tables(page.read_text(encoding="utf-8").partition(f"\n{sentence}\n")[2])[0]


def names(text):
    """
    What *text* shows as code.
    """
    return re.findall(r"`([^`]+)`", text)


def first_names(rows):
    """
    What the first cells of *rows* show as code.
    """
    return [name for row in rows for name in names(row[0])]
