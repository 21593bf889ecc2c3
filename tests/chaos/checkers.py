"""
What must hold after every iteration, whatever was done to the servers: C1 to C11.

Each checker is a pure function of the history, the runs and the batches after their end, and
returns a sentence for each violation.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final as Constant
from typing import TypeAlias

from chaos.history import (
    Committed,
    Disturbance,
    Document,
    Final,
    History,
    Leftovers,
    Observation,
    Run,
    Submission,
)
from chaos.settings import (
    CALL,
    CANCEL_SLACK,
    DRAIN_TIMEOUT,
    FENCE,
    LEASE,
    MAX_ATTEMPTS,
    MAX_CONNECTIONS,
    SLACK,
)

#: By the batch: what each of the processes tells of it.
Finals: TypeAlias = Mapping[str, Sequence[Final]]
Checker: TypeAlias = Callable[[History, Sequence[Run], Finals], Iterator[str]]

_STANDSTILLS: Constant = ("pause", "late")
_SILENCES: Constant = ("dark", "freeze", "outage")
# What a disturbance can still be felt for: a lease, and a call that hangs.
_ECHO: Constant = LEASE + CALL + 0.5


def check(history: History, runs: Sequence[Run], finals: Finals) -> list[str]:
    """
    All violations but those of C9.
    """
    return [
        f"{name}: {violation}"
        for name, checker in CHECKERS.items()
        for violation in checker(history, runs, finals)
    ]


def c1_every_batch_ends(history: History, runs: Sequence[Run], finals: Finals) -> Iterator[str]:
    """
    What was acknowledged comes to its end, and so does all that runs; a key names one batch.
    """
    for submission in history.submissions.values():
        for batch_id in submission.batch_ids:
            if batch_id not in finals:
                yield f"batch {batch_id} of {submission.tag} was acknowledged and has no end"
        ids = {run.batch_id for run in runs if run.tag == submission.tag} | {*submission.batch_ids}
        if submission.key is not None and len(ids) > 1:
            yield f"one key, several batches: {submission.tag} is {sorted(ids)}"
    for batch_id in {run.batch_id for run in runs} - set(finals):
        yield f"batch {batch_id} has run and cannot be seen"


def c2_nothing_unsafe_runs_twice(
    history: History, runs: Sequence[Run], finals: Finals
) -> Iterator[str]:
    """
    What is not safe to repeat is started once at most, but where it has been rolled back.
    """
    for (tag, index), several in _by_operation(runs).items():
        is_safe = history.planned(tag, index).is_safe or history.submissions[tag].commit
        if len(several) > 1 and not is_safe:
            yield f"{_name(several[0])} was started {len(several)} times: {_listed(several)}"


def c3_repeats_are_few_and_have_a_cause(
    history: History, runs: Sequence[Run], finals: Finals
) -> Iterator[str]:
    """
    What is safe to repeat is started `MAX_ATTEMPTS` times at most, each attempt once, and each
    repeat because a process was lost.
    """
    losses = sum(map(_may_cost_a_batch, history.disturbances))
    for several in _by_operation(runs).values():
        attempts = sorted(run.attempt for run in several)
        if attempts[-1] > MAX_ATTEMPTS or attempts[0] < 1 or len({*attempts}) < len(attempts):
            yield f"{_name(several[0])} has the attempts {attempts}: {_listed(several)}"
        if losses < attempts[-1] - 1:
            yield f"{_name(several[0])} was repeated, and nothing had happened: {_listed(several)}"
    for final, index, result in _results(finals):
        needed = {"worker_lost": MAX_ATTEMPTS, "outcome_unknown": 1}.get(_code(result), 0)
        if losses < needed:
            yield f"{final.batch_id} {index} is {_code(result)}, and {losses} losses had happened"


def c4_results_are_true(history: History, runs: Sequence[Run], finals: Finals) -> Iterator[str]:
    """
    A stored answer is that of a run, of the latest attempt; "not executed" was not executed; and
    the answer of a run is lost only with its process. Of atomic batches C11 tells the rest.
    """
    by_place = defaultdict(list)
    for run in runs:
        by_place[run.batch_id, run.index].append(run)
    senders = _senders(history, runs)
    for final, index, result in _results(finals):
        several, submission = by_place[final.batch_id, index], senders.get(final.batch_id)
        if submission and submission.commit and _code(result):
            continue
        problem = _lie_of(history, submission, final, index, several)
        if problem:
            yield f"{final.batch_id} {index}: {problem}: {result}; runs: {_listed(several)}"
        for run in () if submission and submission.commit else several:
            is_lost = run.end is not None and _nonce(result) != run.nonce
            if is_lost and not _may_be_lost(history, run):
                yield f"the answer of {_listed([run])} was lost for no reason: {result}"


def c5_states_go_forward(history: History, runs: Sequence[Run], finals: Finals) -> Iterator[str]:
    """
    Whoever is asked: counters and versions never go back, and the end is the end.
    """
    by_batch = defaultdict(list)
    for observation in (*history.observations, *history.cancellations):
        by_batch[observation.batch_id].append(observation)
    for batch_id, observed in by_batch.items():
        for later in observed:
            for earlier in observed:
                if earlier.answered_at < later.asked_at:
                    yield from _steps_back(batch_id, earlier, later)
    for batch_id, told in finals.items():
        for final in told[1:]:
            if (final.document, final.results) != (told[0].document, told[0].results):
                yield f"processes differ about {batch_id}: {told[0]} and {final}"


def c6_counters_are_sums(history: History, runs: Sequence[Run], finals: Finals) -> Iterator[str]:
    """
    Counters are what the results add up to, and every operation has one result.
    """
    for observation in (*history.observations, *history.cancellations):
        document = observation.document
        if document is not None and not _adds_up(document):
            yield f"the counters do not add up: {document}"
    for told in finals.values():
        for final in told:
            document, counted = final.document, Counter(map(_outcome, final.results))
            claimed = {name: document[name] for name in ("succeeded", "failed", "skipped")}
            if claimed != {name: counted[name] for name in claimed}:
                yield f"{final.batch_id} counts {claimed}, its results are {dict(counted)}"
            ids = [result["id"] for result in final.results]
            if ids != [str(index) for index in range(document["total"])]:
                yield f"{final.batch_id} has results for {ids}"


def c7_nothing_starts_after_the_end(
    history: History, runs: Sequence[Run], finals: Finals
) -> Iterator[str]:
    """
    Nothing starts after the answer to a cancellation, or after a batch was seen to have ended.

    A process that could not hear of it may go on until its fence, and one that stood still on its
    way into an operation enters it.
    """
    ends = dict[str, float]()
    for each in history.cancellations:
        if each.document is not None and each.document["status"] == "cancelled":
            _put_first(ends, each.batch_id, each.answered_at + CANCEL_SLACK)
    for each in history.observations:
        if each.document is not None and each.document["finishedAt"]:
            _put_first(ends, each.batch_id, each.answered_at)
    late = [run for run in runs if run.start > ends.get(run.batch_id, run.start)]
    suspects = [run for run in late if not _could_not_hear(history, run, ends[run.batch_id])]
    for run in _without_strays(history, suspects):
        yield f"{_listed([run])} started {run.start - ends[run.batch_id]:.3f} s after the end"


def c8_runs_do_not_overlap(history: History, runs: Sequence[Run], finals: Finals) -> Iterator[str]:
    """
    Two runs of an operation overlap only where the first process was silent; and a process that
    hears nothing starts nothing once its fence is reached.
    """
    for several in _by_operation(runs).values():
        for first in several:
            for second in several:
                overlap = first.start < second.start < _end(history, first)
                if overlap and not _was_silent(history, first.pid, second.start):
                    yield f"two at a time: {_listed([first, second])}"
    in_the_dark = [run for run in runs if _is_in_the_dark(history, run)]
    for run in _without_strays(history, in_the_dark):
        yield f"{_listed([run])} was started in the dark: {history.disturbances_of(run.pid)}"


def c9_nothing_is_left(leftovers: Leftovers) -> Iterator[str]:
    """
    After quiet: no key too many and none for ever, no connection and no file left open.
    """
    for key, ttl in leftovers.keys.items():
        if key not in leftovers.expected:
            yield f"C9: the key {key} is left"
        elif ttl < 0:
            yield f"C9: the key {key} is there for ever"
    for worker in leftovers.workers:
        if worker.connections > MAX_CONNECTIONS:
            yield f"C9: too many connections to the store: {worker}"
        if len(worker.others) > len(worker.others_at_first):
            yield f"C9: files are left open: {worker}"
    if leftovers.clients > leftovers.clients_expected:
        yield f"C9: {leftovers.clients} connections, where {leftovers.clients_expected} may be"


def c10_one_process_at_a_time(
    history: History, runs: Sequence[Run], finals: Finals
) -> Iterator[str]:
    """
    Two processes are at one batch, or at one chunk of it, only where the first was silent.
    """
    for several in _by_share(history, runs).values():
        for first, second in _overlaps(history, several):
            if not _was_silent(history, first.pid, second.start):
                yield f"two processes have what one can hold: {_listed([first, second])}"


def c11_atomic_batches_are_whole(
    history: History, runs: Sequence[Run], finals: Finals
) -> Iterator[str]:
    """
    All operations of one attempt are committed once, or none is; nothing of it runs afterwards;
    and what is told agrees, but where nobody can know.
    """
    senders, runs_of, commits_of = _senders(history, runs), defaultdict(list), defaultdict(list)
    for run in runs:
        runs_of[run.tag].append(run)
    for commit in history.commits:
        commits_of[commit.tag].append(commit)
    for tag, commits in commits_of.items():
        if len(commits) > 1:
            yield f"{tag} was committed several times: {commits}"
        for commit in commits:
            problem = _flaw_of(history.submissions[tag], commit, runs_of[tag])
            if problem:
                yield f"{commit}: {problem}: {_listed(runs_of[tag])}"
    for batch_id, told in finals.items():
        submission = senders.get(batch_id)
        if submission is not None and submission.commit:
            tag = submission.tag
            problem = _lie_of_all(history, submission, told[0], runs_of[tag], commits_of[tag])
            if problem:
                yield f"{told[0]}: {problem}: {commits_of[tag]}; {_listed(runs_of[tag])}"


def shared(history: History, runs: Sequence[Run]) -> set[str]:
    """
    The batches of which two processes had a chunk each at the same time.
    """
    return {
        first.batch_id
        for first, second in _overlaps(history, runs)
        if first.batch_id == second.batch_id and _share(history, first) != _share(history, second)
    }


CHECKERS: Constant[dict[str, Checker]] = {
    "C1": c1_every_batch_ends,
    "C2": c2_nothing_unsafe_runs_twice,
    "C3": c3_repeats_are_few_and_have_a_cause,
    "C4": c4_results_are_true,
    "C5": c5_states_go_forward,
    "C6": c6_counters_are_sums,
    "C7": c7_nothing_starts_after_the_end,
    "C8": c8_runs_do_not_overlap,
    "C10": c10_one_process_at_a_time,
    "C11": c11_atomic_batches_are_whole,
}


def _may_cost_a_batch(each: Disturbance) -> bool:
    return each.kind != "late" or each.end - each.start > LEASE / 2


def _by_operation(runs: Iterable[Run]) -> dict[tuple[str, int], list[Run]]:
    found = defaultdict(list)
    for run in runs:
        found[run.tag, run.index].append(run)
    return found


def _by_share(history: History, runs: Iterable[Run]) -> dict[tuple[str, int], list[Run]]:
    """
    What was run of each batch that is claimed as a whole, and of each chunk.
    """
    found = defaultdict(list)
    for run in runs:
        if run.batch_id in history.chunk_sizes:
            found[_share(history, run)].append(run)
    return found


def _share(history: History, run: Run) -> tuple[str, int]:
    size = history.chunk_sizes.get(run.batch_id, 0)
    return run.batch_id, run.index // size if size else 0


def _overlaps(history: History, runs: Sequence[Run]) -> Iterator[tuple[Run, Run]]:
    """
    Pairs of which the second was started by another process before the end of the first.
    """
    for first in runs:
        for second in runs:
            is_other = first.pid != second.pid
            if is_other and first.start < second.start < _end(history, first):
                yield first, second


def _senders(history: History, runs: Iterable[Run]) -> dict[str, Submission]:
    found = {run.batch_id: history.submissions[run.tag] for run in runs}
    for submission in history.submissions.values():
        found |= dict.fromkeys(submission.batch_ids, submission)
    return found


def _results(finals: Finals) -> Iterator[tuple[Final, int, Document]]:
    for told in finals.values():
        for index, result in enumerate(told[0].results):
            yield told[0], index, result


def _name(run: Run) -> str:
    return f"{run.method} {run.index} of {run.tag} ({run.batch_id})"


def _listed(runs: Iterable[Run]) -> str:
    return " | ".join(
        f"{run.method} {run.batch_id[:8]} {run.index} attempt {run.attempt} by {run.pid} "
        f"{run.start:.3f}-{'' if run.end is None else f'{run.end:.3f}'} {run.nonce}"
        for run in sorted(runs, key=lambda run: run.start)
    )


def _code(result: Document) -> str:
    return str(result["error"]["code"]) if result.get("source") == "batch" else ""


def _outcome(result: Document) -> str:
    if result["status"] == 424 and result.get("source") == "batch":
        return "skipped"
    return "succeeded" if result["status"] < 400 else "failed"


def _nonce(result: Document) -> str:
    if result.get("source") == "batch":
        return ""
    return str((result["result"] if result["status"] < 400 else result["error"])["nonce"])


def _adds_up(document: Document) -> bool:
    counted = sum(document[name] for name in ("succeeded", "failed", "skipped"))
    total, completed = document["total"], document["completed"]
    is_whole = not document["finishedAt"] or completed == total
    progress_is_true = abs(document["progress"] - completed / total) < 1e-9
    return counted == completed <= total and is_whole and progress_is_true


def _lie_of(
    history: History, submission: Submission | None, final: Final, index: int, runs: Sequence[Run]
) -> str:
    result = final.results[index]
    code = _code(result)
    if not code:
        return _lie_of_answer(history, result, runs)
    was_cancelled = final.document["status"] == "cancelled"
    if submission is None:
        # Nothing of it has run, and nobody has heard of it: who sent it cannot be told.
        return "" if result["status"] == 424 else "nothing of it has run"
    if result["status"] == 424:
        is_due = {"cancelled": was_cancelled, "skipped": submission.stops_on_error}
        if runs:
            return "it is told not to have run, and has"
        return "" if is_due.get(code) else "there was no reason for this"
    is_due = {
        "outcome_unknown": not submission.operations[index].is_safe,
        "worker_lost": submission.operations[index].is_safe,
    }
    may_differ = code == "outcome_unknown" and (was_cancelled or submission.stops_on_error)
    return "" if may_differ or is_due.get(code) else "no such thing can have happened"


def _lie_of_answer(history: History, result: Document, runs: Sequence[Run]) -> str:
    matching = [run for run in runs if run.nonce == _nonce(result)]
    if not matching:
        return "no run has given this answer"
    (run,) = matching
    if run.end is None:
        return "the run has not come to its end"
    if run.attempt < max(each.attempt for each in runs):
        return "a later attempt was made"
    if result["status"] != history.planned(run.tag, run.index).status:
        return "the status is another"
    return ""


def _flaw_of(submission: Submission, commit: Committed, runs: Sequence[Run]) -> str:
    inside = sorted((run for run in runs if run.nonce in commit.nonces), key=lambda run: run.start)
    indexes = list(range(len(submission.operations)))
    if [run.index for run in inside] != indexes or len(commit.nonces) != len(indexes):
        return "it is not whole, or not in order"
    if {(run.pid, run.attempt) for run in inside} != {(commit.pid, inside[0].attempt)}:
        return "it is of several attempts"
    if any(each.status >= 400 for each in submission.operations):
        return "an operation has failed"
    starts = [*(run.start for run in inside[1:]), commit.at]
    if any(run.end is None or run.end > at for run, at in zip(inside, starts, strict=True)):
        return "what comes next has begun before the end of an operation"
    return "it has run afterwards" if any(run.start > commit.at for run in runs) else ""


def _lie_of_all(
    history: History,
    submission: Submission,
    final: Final,
    runs: Sequence[Run],
    commits: Sequence[Committed],
) -> str:
    done = {_nonce(result) for result in final.results if result["status"] < 400}
    codes, status = {*map(_code, final.results)}, final.document["status"]
    if done or status == "completed":
        is_told = codes == {""} and status in ("completed", "cancelled")
        is_true = [{*each.nonces} for each in commits] == [done]
        return "" if is_told and is_true else "it is told to have happened"
    if "commit_unknown" in codes:
        is_due = submission.commit in ("lost", "unheard") or any(
            history.disturbances_of(run.pid) for run in runs
        )
        return "" if is_due and len(codes) == 1 else "it is told to be unknown"
    if commits:
        return "it is told not to have happened"
    was_cancelled = status == "cancelled"
    is_due = {
        "": True,
        "rolled_back": was_cancelled or "" in codes,
        "commit_failed": submission.commit == "refused",
        "cancelled": was_cancelled,
        "worker_lost": True,
    }
    return "" if all(is_due.get(code) for code in codes) else "there was no reason for this"


def _may_be_lost(history: History, run: Run) -> bool:
    end = _end(history, run)
    for each in history.disturbances_of(run.pid):
        if each.kind == "term":
            # What is still running when the time for it is over is given up.
            if end > each.start + DRAIN_TIMEOUT - SLACK:
                return True
        elif each.start <= end + 5 * SLACK and each.end >= end - _echo(each):
            return True
    return False


def _echo(each: Disturbance) -> float:
    return _ECHO if each.kind in (*_SILENCES, "delay") else 2 * LEASE


def _steps_back(batch_id: str, earlier: Observation, later: Observation) -> Iterator[str]:
    before, after = earlier.document, later.document
    if before is None or after is None:
        yield f"batch {batch_id} is not known: {earlier} {later}"
        return
    counters = ("completed", "succeeded", "failed", "skipped", "progress", "updatedAt")
    for name in counters:
        if after[name] < before[name]:
            yield f"{name} of {batch_id} goes back: {before} {after}"
    if later.version < earlier.version:
        yield f"the version of {batch_id} goes back: {earlier} {later}"
    if before["status"] not in ("processing", after["status"]):
        yield f"{batch_id} was {before['status']} and is {after['status']}"
    if before["finishedAt"] and (before, earlier.version) != (after, later.version):
        yield f"{batch_id} changes after its end: {earlier} {later}"


def _put_first(ends: dict[str, float], batch_id: str, at: float) -> None:
    ends[batch_id] = min(at, ends.get(batch_id, at))


def _end(history: History, run: Run) -> float:
    found = [run.end, run.cut_short, history.deaths.get(run.pid)]
    return min((each for each in found if each is not None), default=math.inf)


def _was_silent(history: History, pid: int, at: float) -> bool:
    return any(
        each.start <= at and each.end >= at - _ECHO
        for each in history.disturbances_of(pid)
        if each.kind not in ("kill", "term")
    )


def _could_not_hear(history: History, run: Run, end: float) -> bool:
    for each in history.disturbances_of(run.pid):
        if each.start > end or each.kind in ("kill", "term"):
            continue
        if run.start <= each.start + LEASE * FENCE + SLACK:
            return True
        if each.kind == "delay" and run.start <= end + 3 * SLACK and run.start <= each.end + SLACK:
            return True
    return False


def _is_in_the_dark(history: History, run: Run) -> bool:
    return any(
        each.start + LEASE * FENCE + SLACK < run.start < each.end
        for each in history.disturbances_of(run.pid)
        if each.kind in _SILENCES
    )


def _without_strays(history: History, runs: Sequence[Run]) -> list[Run]:
    """
    Without the first run of each process after each time that it stood still.
    """
    found, used = list[Run](), set[Disturbance]()
    for run in sorted(runs, key=lambda run: run.start):
        still = [
            each
            for each in history.disturbances_of(run.pid)
            if each.kind in _STANDSTILLS and each.start <= run.start <= each.end + SLACK
        ]
        if not still or used.issuperset(still):
            found.append(run)
        used.update(still)
    return found
