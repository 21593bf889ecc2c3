"""
What cosmic-ray leaves to be done for `scripts/mutants.sh`: settings, senseless mutants, a report.

Usage:
    mutants.py configure COPY MODULES TESTS    write the settings of one part into its copy
    mutants.py skip DATABASE                    leave out mutants that no test could ever notice
    mutants.py again DATABASE                   forget the results of those that were not noticed
    mutants.py report NAME DATABASE             print how many were noticed, and which were not
"""

import ast
import json
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkResult


def configure(copy: str, modules: str, tests: str) -> None:
    """
    Write the settings of a part into *copy*.
    """
    settings = Path("cosmic-ray.toml").read_text()
    settings = settings.replace('"@MODULES@"', json.dumps(modules.split()))
    settings = settings.replace("@TESTS@", json.dumps(tests.strip())[1:-1])
    (Path(copy) / "cosmic-ray.toml").write_text(settings)


def skip(path: str) -> None:
    """
    Skip the mutants inside of annotations and of type aliases, which nobody evaluates.
    """
    with use_db(path, WorkDB.Mode.open) as database:
        spans = {}
        for item in list(database.pending_work_items):
            (mutation,) = item.mutations
            module = Path(mutation.module_path)
            if module not in spans:
                spans[module] = list(_typing_spans(ast.parse(module.read_text())))
            if any(_is_within(mutation, span) for span in spans[module]):
                skipped = WorkResult(worker_outcome=WorkerOutcome.SKIPPED, output="annotation")
                database.set_result(item.job_id, skipped)


def again(path: str) -> None:
    """
    Forget the results of the mutants that survived.
    """
    with use_db(path, WorkDB.Mode.open) as database:
        survivors = [
            (item.job_id,)
            for item, result in database.completed_work_items
            if result.test_outcome == TestOutcome.SURVIVED
        ]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany("DELETE FROM work_results WHERE job_id = ?", survivors)


def report(name: str, path: str) -> None:
    """
    Print the score of the run in *path* and a row for each survivor.
    """
    killed, survivors = 0, []
    with use_db(path, WorkDB.Mode.open) as database:
        for item, result in database.completed_work_items:
            if result.worker_outcome == WorkerOutcome.SKIPPED:
                continue
            if result.test_outcome == TestOutcome.SURVIVED:
                survivors.append((item.mutations[0], result.diff or ""))
            else:
                killed += 1
        left = len(list(database.pending_work_items))
    total = killed + len(survivors)
    share = f"{100 * killed / total:.1f} %" if total else "none"
    print(f"{name}: {killed} of {total} killed ({share}), {left} not run")
    for mutation, diff in sorted(survivors, key=lambda each: _place(each[0])):
        print(f"  {_place(mutation)}  {_change(diff)}")


def _typing_spans(tree: ast.Module) -> Iterator[tuple[int, int, int, int]]:
    for node in ast.walk(tree):
        parts: list[ast.expr | None] = []
        if isinstance(node, ast.AnnAssign):
            parts.append(node.annotation)
            if isinstance(node.annotation, ast.Name) and node.annotation.id == "TypeAlias":
                parts.append(node.value)
        elif isinstance(node, ast.arg):
            parts.append(node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            parts.append(node.returns)
        for part in parts:
            if part is not None:
                yield part.lineno, part.col_offset, part.end_lineno or 0, part.end_col_offset or 0


def _is_within(mutation: MutationSpec, span: tuple[int, int, int, int]) -> bool:
    return span[:2] <= mutation.start_pos and mutation.end_pos <= span[2:]


def _place(mutation: MutationSpec) -> str:
    return f"{mutation.module_path}:{mutation.start_pos[0]:03}"


def _change(diff: str) -> str:
    lines = re.findall(r"^([-+])(?![-+])\s*(.*)$", diff, re.MULTILINE)
    old = " ".join(text for sign, text in lines if sign == "-")
    new = " ".join(text for sign, text in lines if sign == "+")
    return f"`{old}` → `{new}`"


if __name__ == "__main__":
    commands = {"again": again, "configure": configure, "report": report, "skip": skip}
    commands[sys.argv[1]](*sys.argv[2:])
