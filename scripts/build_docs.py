"""
Builds the documentation into site/ and fails where anything about it is not right.

Zensical's strict mode finds broken links, anchors and references in Markdown. Added here: warnings
about docstrings, pages without a place in the navigation, links in HTML and the links of the pages
that live outside of docs/.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "site"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
TRACEBACK = re.compile(r"^Traceback .*?(?=^RuntimeError: Aborted)", re.MULTILINE | re.DOTALL)
DOCSTRING_WARNING = re.compile(r"^(?:griffe|mkdocstrings): .*$", re.MULTILINE)
MARKDOWN_LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)


class Page(HTMLParser):
    """
    The places that a page of the site points at.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """
        Keep what a link, an image or a script names.
        """
        self.targets += [value for name, value in attrs if name in ("href", "src") and value]


def build() -> tuple[str, bool]:
    """
    What Zensical has to say, and whether it was satisfied.
    """
    shutil.rmtree(SITE, ignore_errors=True)
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return TRACEBACK.sub("", COLOUR.sub("", done.stdout)), done.returncode == 0


def lost_pages() -> Iterator[str]:
    """
    Pages that the navigation does not lead to.
    """
    config = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    known = {page for entry in config["project"]["nav"] for page in entry.values()}
    for path in sorted((ROOT / "docs").rglob("*.md")):
        if (name := path.relative_to(ROOT / "docs").as_posix()) not in known:
            yield f"docs/{name}: not in the navigation of zensical.toml."


def broken_links() -> Iterator[str]:
    """
    Links to files that are not there, in the site and in the Markdown beside docs/.
    """
    links = {path: Page(path).targets for path in SITE.rglob("*.html") if path.name != "404.html"}
    for path in ROOT.glob("*.md"):
        text = CODE.sub("", path.read_text(encoding="utf-8"))
        links[path] = MARKDOWN_LINK.findall(text)
    for path, targets in sorted(links.items()):
        for target in targets:
            url = urlsplit(target)
            is_here = not (url.scheme or url.netloc) and url.path
            if is_here and not (path.parent / unquote(url.path)).exists():
                yield f"{path.relative_to(ROOT)}: {target} does not exist."


def main() -> int:
    """
    Print everything that is wrong; 1 where there is something.
    """
    output, is_built = build()
    print(output, end="")
    if not is_built:
        return 1
    complaints = [*DOCSTRING_WARNING.findall(output), *lost_pages(), *broken_links()]
    print("\n".join(complaints) or "The documentation is in site/index.html.")
    return int(bool(complaints))


if __name__ == "__main__":
    sys.exit(main())
