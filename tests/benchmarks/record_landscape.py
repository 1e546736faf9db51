"""Measures a study's baseline and its trials for the benchmark of the search.

    PYTHONPATH=tests python -m benchmarks.record_landscape configs/versatilepb.toml \\
        --trials results/reference/versatilepb-6.1/trials.db \\
        --output tests/benchmarks/data/versatilepb-6.1.json.gz

Builds the study's baseline in a slot of the cache (nothing to do in a warm one), boots it with the
emulator's trace on, and reads the objects. The trials tell what the checks need and what savings
the objects do not explain.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import click
import numpy as np

from benchmarks import recording
from benchmarks.recording import BOOT, NEVER, RecordedNeed, RecordedObject, Recording
from optimizer.cli import workshop
from optimizer.errors import MachineFault, MemtotalError
from optimizer.records import Assignment, Outcome, Trial
from optimizer.search.prior import Traces
from optimizer.search.space import Space, build_space
from optimizer.search.trial import Slot
from optimizer.settings import StudySettings, checks_in_order, environment, load_study
from optimizer.store import Database

# What the default study's board and checks are known to need from building this target by hand, for
# as long as no trial speaks of it. The devices are found at boot, so the trace alone binds them to
# no check; without the old 32-bit time a program of that ABI sleeps no time at all, in a shell that
# otherwise seems healthy.
_NETWORK = ("network/interface", "network/tcp", "network/tftp")
KNOWN = tuple(
    RecordedNeed(option, checks, "known from building by hand")
    for option, checks in (
        ("COMPAT_32BIT_TIME", ("console/sleep",)),
        ("I2C_VERSATILE", ("clock/rtc",)),
        ("MTD_CFI", ("storage/remount",)),
        ("MTD_CMDLINE_PARTS", ("storage/remount",)),
        ("MTD_PHYSMAP", ("storage/remount",)),
        ("MTD_PHYSMAP_OF", ("storage/remount",)),
        ("SMC91X", _NETWORK),
    )
)
# Of an option's functions, the share that must run first in a check for the trace alone to say
# that the check needs it. Below it the check only passes by.
USED_SHARE = 0.1


def record(
    settings: StudySettings,
    space: Space,
    traces: Traces,
    trials: Sequence[Trial],
    kernel: str,
) -> Recording:
    """Everything that the landscapes need, from a traced baseline and a study's trials.

    Args:
        settings: the study.
        space: its search space.
        traces: of its baseline.
        trials: of the same space and tree, the baseline first.
        kernel: the tree's version.
    """
    symbols = _changeable(space, traces)
    checks = tuple(f"{suite}/{one.name}" for suite, one in checks_in_order(settings.suites))
    checks = tuple(f"{one.suite}/{one.name}" for one in _checks(trials[0])) or checks
    restarts = tuple(
        f"{suite}/{one.name}"
        for suite, one in checks_in_order(settings.suites)
        if one.kind == "reboot"
    )
    objects = _objects(traces, symbols)
    without = Recording(
        kernel=kernel,
        baseline_kb=trials[0].measurement.mem_total_kb if trials[0].measurement else 0,
        checks=checks,
        restarts=restarts,
        symbols=tuple(sorted(symbols)),
        flags=tuple(sorted(traces.flags & symbols)),
        objects=objects,
        needs=(),
        savings={},
    )
    owners = owned(space, without)
    return Recording(
        **{
            **{name: getattr(without, name) for name in without.__dataclass_fields__},
            "needs": tuple(needs(space, without, owners, trials)),
            "savings": fit(space, without, trials),
        }
    )


def owned(space: Space, recorded: Recording) -> dict[str, list[RecordedObject]]:
    """The objects that only the candidate takes out, not one that falls with it."""
    names = {name for one in recorded.objects for name in one.options}
    before = space.tree.values(space.gate, names)
    gone: dict[str, set[int]] = {}
    for candidate in space.candidates:
        after = space.tree.values(
            space.assignment({candidate.name: candidate.alternatives[0]}), names
        )
        off = {name for name in names if before[name] == "y" != after[name]}
        gone[candidate.name] = {
            number for number, one in enumerate(recorded.objects) if not off.isdisjoint(one.options)
        }
    found = {}
    for candidate in space.candidates:
        below = {number for name, _value in candidate.drops for number in gone[name]}
        own = gone[candidate.name] - below
        found[candidate.name] = [recorded.objects[number] for number in sorted(own)]
    return found


def stages(objects: Iterable[RecordedObject]) -> Counter[str]:
    """How many functions, by what they first ran in; init functions do not count."""
    total: Counter[str] = Counter()
    for one in objects:
        total.update(one.functions)
    return total


def needs(
    space: Space,
    recorded: Recording,
    owners: Mapping[str, Sequence[RecordedObject]],
    trials: Sequence[Trial],
) -> list[RecordedNeed]:
    """What each check needs: as few options as explain every failed trial, and what it uses.

    A change of any trial that passed is not needed. Of the changes of a trial that failed, one of
    the others must be; the trace decides which of them is the likeliest. Where no trial tells, an
    option that a check makes run is taken to be needed by it.
    """
    start = space.effective({})
    off = {
        trial.number: {
            name
            for name, value in trial.effective.items()
            if value == "n" != start.get(name) and space.candidate(name).kind == "bool"
        }
        for trial in trials
    }
    free = set().union(*(off[one.number] for one in trials if one.outcome is Outcome.PASSED))
    found: dict[str, tuple[set[str], str]] = {}
    for check in (BOOT, *recorded.checks):
        failed = [off[one.number] - free for one in trials if one.number and check in _failed(one)]
        while failed := [one for one in failed if one]:
            suspects = set().union(*failed)
            best = max(
                sorted(suspects),
                key=lambda name: (
                    sum(name in one for one in failed) * (1 + _use(owners[name], check)),
                    -len(space.candidate(name).drops),
                ),
            )
            found.setdefault(best, (set(), "trials"))[0].add(check)
            failed = [one for one in failed if best not in one]
    for name, own in owners.items():
        candidate = space.candidate(name)
        if candidate.kind != "bool" or candidate.baseline != "y" or name in free:
            continue
        ran = stages(own)
        total = sum(ran.values())
        for check in recorded.checks:
            # Whatever a restart runs is what shuts down; none of it need be there.
            used = ran[check] and ran[check] >= USED_SHARE * total
            if used and check not in recorded.restarts:
                found.setdefault(name, (set(), "trace"))[0].add(check)
    result = [RecordedNeed(name, tuple(sorted(checks)), by) for name, (checks, by) in found.items()]
    known = [one for one in KNOWN if one.option in start and one.option not in free | found.keys()]
    return sorted([*result, *known], key=lambda one: one.option)


def fit(space: Space, recorded: Recording, trials: Sequence[Trial]) -> dict[str, float]:
    """What the real trials saved beyond the objects that went, by least squares.

    Terms (none may be negative): a share of all code that remains, for an image optimized for size;
    bytes for each option that some object mentions; bytes for each that none does. Failed trials
    count as well, as long as they were measured.
    """
    start = space.effective({})
    names = {name for one in recorded.objects for name in one.options}
    mentioned = {name for one in recorded.objects for name in (*one.mentions, *one.options)}
    before = space.tree.values(space.gate, names)
    total = sum(one.bytes for one in recorded.objects)
    rows, left = [], []
    for trial in trials:
        if not trial.number or trial.measurement is None:
            continue
        values = space.tree.values(space.assignment(trial.params), names | {"CC_OPTIMIZE_FOR_SIZE"})
        off = {name for name in names if before[name] == "y" != values[name]}
        gone = sum(one.bytes for one in recorded.objects if not off.isdisjoint(one.options))
        changed = [
            name for name, value in trial.effective.items() if value == "n" != start.get(name)
        ]
        known = sum(name in mentioned for name in changed)
        small = values["CC_OPTIMIZE_FOR_SIZE"] == "y"
        rows.append([small * (total - gone), known, len(changed) - known])
        left.append((trial.measurement.mem_total_kb - recorded.baseline_kb) * 1024 - gone)
    factors, error = _least_squares(np.array(rows, float), np.array(left, float))
    return {
        "all_code_share": round(factors[0], 4),
        "mentioned_bytes": round(factors[1], 1),
        "unmentioned_bytes": round(factors[2], 1),
        "rms_error_bytes": round(error, 1),
        "trials": float(len(rows)),
    }


def _least_squares(rows: np.ndarray, left: np.ndarray) -> tuple[list[float], float]:
    """Coefficients of which none is negative, and the root mean square of what is left."""
    best: tuple[float, list[float]] | None = None
    columns = range(rows.shape[1])
    for count in (3, 2, 1):
        for chosen in itertools.combinations(columns, count):
            found, *_rest = np.linalg.lstsq(rows[:, chosen], left, rcond=None)
            if (found < 0).any():
                continue
            error = float(np.sqrt(np.mean((rows[:, chosen] @ found - left) ** 2)))
            factors = [0.0] * rows.shape[1]
            for column, factor in zip(chosen, found, strict=True):
                factors[column] = float(factor)
            if best is None or error < best[0]:
                best = error, factors
    if best is None:
        raise MachineFault("The trials' savings are less than their objects'.")
    return best[1], best[0]


def _use(objects: Sequence[RecordedObject], check: str) -> float:
    """How much of the objects a check (or the boot) makes run, 0 to 1; running at boot is less."""
    ran = stages(objects)
    total = sum(ran.values())
    return (ran[check] + 0.3 * ran[BOOT]) / total if total else 0.0


def _failed(trial: Trial) -> set[str]:
    if trial.outcome is Outcome.BOOT_FAILED:
        return {BOOT}
    # What could not be run any more says nothing of what it needs.
    return {
        f"{one.suite}/{one.name}"
        for one in _checks(trial)
        if not one.passed and not one.detail.startswith("not run")
    }


def _checks(trial: Trial) -> tuple:  # type: ignore[type-arg]
    return trial.boot.checks if trial.boot else ()


def _changeable(space: Space, traces: Traces) -> set[str]:
    """Symbols that objects know and that some change of candidates changes."""
    known = sorted(
        name
        for name in traces.flags.union(*(one.options | one.mentions for one in traces.objects))
        if space.tree.known(name)
    )
    before = space.tree.values(space.gate, known)
    changes = [
        {candidate.name: value}
        for candidate in space.candidates
        for value in candidate.alternatives
    ]
    changes.append({one.name: one.alternatives[0] for one in space.candidates})
    found: set[str] = set()
    for change in changes:
        after = space.tree.values(space.assignment(change), known)
        found |= {name for name in known if after[name] != before[name]}
    return found


def _objects(traces: Traces, symbols: Collection[str]) -> tuple[RecordedObject, ...]:
    init = {one.name for one in traces.functions if one.init}
    linked = {one.name for one in traces.functions}
    first = {name: stage for stage, names in reversed(traces.ran.items()) for name in names}
    found = []
    for one in traces.objects:
        # A function that the linker left out, or the compiler split, is none that could have run.
        names = one.functions & linked
        counts = {
            kind: Counter(
                first.get(name, NEVER) for name in sorted(names) if (name in init) is kind
            )
            for kind in (False, True)
        }
        found.append(
            RecordedObject(
                one.path,
                one.bytes,
                tuple(sorted(one.options & set(symbols))),
                tuple(sorted(one.mentions & set(symbols))),
                counts[False],
                counts[True],
            )
        )
    return tuple(found)


def _trace(settings: StudySettings, space: Space, slot: Slot) -> Traces:
    config = space.tree.resolve(Assignment({})).text

    def say(phase: str, detail: str) -> None:
        print(f"{phase} {detail}", file=sys.stderr)

    with tempfile.TemporaryDirectory(prefix="memtotal-") as folder:
        return slot.trace(config, Path(folder), say, threading.Event())


@click.command()
@click.argument("study")
@click.option("--trials", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option(
    "--tree", type=click.Path(path_type=Path), help="Build tree to use, by default the cache's."
)
def main(study: str, trials: Path, output: Path, tree: Path | None) -> None:
    """Measure STUDY's baseline, and write what the landscapes need to OUTPUT."""
    try:
        settings = load_study(study)
        symbols = workshop.symbol_tree(settings)
        space = build_space(symbols, settings.options)
        found = workshop.tools(settings, symbols)
        slot = (
            workshop.open_slots(settings, found, 1)[0]
            if tree is None
            else Slot.open(settings, tree, environment(), 2, found)
        )
        if slot is None:
            raise MachineFault(f"{tree} is in use.")
        try:
            traces = _trace(settings, space, slot)
        finally:
            slot.close()
        with Database.read(trials) as database:
            past = database.trials()
        recording.write(record(settings, space, traces, past, symbols.version), output)
    except MemtotalError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    print(f"{output}: {output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
