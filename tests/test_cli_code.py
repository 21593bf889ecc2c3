"""
Requests that source code sends in loops: all are found, and none is invented.

The trees of source code are read and never run. Each line of theirs with something to be found says
so in a comment.
"""

import re
from pathlib import Path

import pytest

from asgi_batch.cli.code.tree import scan_tree

TREES = Path(__file__).parent / "trees"
MARK = re.compile(r"(?:#|//) LOOP (.*)$")


def marked(folder):
    """
    What is to be found in *folder*: file, line, and what is sent there.
    """
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {
        (file.relative_to(folder).as_posix(), number, found[1].strip())
        for file in files
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if (found := MARK.search(line))
    }


def found(tree):
    return {(each.file, each.line, f"{each.method} {each.template}") for each in tree.findings}


@pytest.mark.parametrize("name", ["python", "javascript", "mixed"])
def test_all_loops_of_a_tree_are_found_and_none_is_invented(name):
    """
    What is found is what is marked.
    """
    expected = marked(TREES / name)
    tree = scan_tree(TREES / name)

    assert len(expected) >= 6
    assert found(tree) - expected == set()
    assert expected - found(tree) == set()


def test_what_cannot_be_parsed_is_named_and_the_rest_is_read():
    """
    A file with an error in it is told of, with what could be read of it.
    """
    tree = scan_tree(TREES / "mixed")

    assert tree.files == 6
    assert tree.unreadable == ["broken.py", "src/broken.ts"]


def test_a_finding_says_how_the_loop_looks():
    """
    Loops around loops come first, and what is called through a function says through which.
    """
    findings = scan_tree(TREES / "python").findings
    by_template = {each.template: each for each in findings if each.file == "with_requests.py"}

    assert (findings[0].depth, findings[0].template) == (2, "/logs/{user}/{day}")
    assert by_template["/one/{key}"].through == "one"
    assert by_template["/nodes/{node}"].through == "walk"
    assert by_template["/p/{i}"].loop == "map"
    assert by_template["/a/{i}"].loop == "comprehension"


@pytest.mark.parametrize(
    ("source", "suffix"),
    [
        ("x = " + "+".join(["1"] * 20_000), ".py"),
        ("x = " + "(" * 5_000 + ")" * 5_000, ".py"),
        ("x = " + "[" * 20_000, ".js"),
        ("x = " + "f(" * 20_000 + ")" * 20_000, ".ts"),
        ("\0", ".py"),
        ("for (const x of xs) fetch(" + "f(" * 2_000 + ")" * 2_001, ".ts"),
    ],
)
def test_source_that_is_too_deep_is_told_of(tmp_path, source, suffix):
    """
    Code that nobody has written by hand ends nothing.
    """
    (tmp_path / f"deep{suffix}").write_text(f"fetch;{source}")
    (tmp_path / "fine.py").write_text("import httpx\nfor i in x:\n    httpx.get(f'/{i}')\n")
    tree = scan_tree(tmp_path)

    assert tree.unreadable == [f"deep{suffix}"]
    assert [each.template for each in tree.findings] == ["/{i}"]


def test_large_and_unreadable_files_are_left_out(tmp_path):
    """
    What is larger than any source, or only looks like a file, is not read.
    """
    loop = "import httpx\nfor i in x:\n    httpx.get(f'/{i}')\n"
    (tmp_path / "large.py").write_text(loop + "#" * (1 << 21))
    (tmp_path / "link.py").symlink_to(tmp_path / "nowhere.py")
    (tmp_path / "folder.py").mkdir()

    assert scan_tree(tmp_path).files == 0
