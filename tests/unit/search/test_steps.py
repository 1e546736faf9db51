"""Which of the planned steps are steps of their own, by what their trials gave."""

from __future__ import annotations

from collections.abc import Mapping

from optimizer.records import Assignment, Outcome, ResolvedConfig, Trial
from optimizer.search.series import Prepared, Request
from optimizer.search.steps import PlannedStep, grouped, measured

NOTHING = Prepared(Request({}), Assignment(), {}, ResolvedConfig("", "", ""))
PLANNED = [
    PlannedStep("opening", (), NOTHING),
    PlannedStep("drivers", (("USB", "n"),), NOTHING),
    PlannedStep("hash tables", (("dhash_entries=", "512"),), NOTHING),
]


def trial(
    number: int, digest: str, kb: float | None, parameters: Mapping[str, str] | None = None
) -> Trial:
    return Trial(
        number=number,
        outcome=Outcome.BOOT_FAILED if kb is None else Outcome.PASSED,
        sampler="steps",
        params={},
        assignment=Assignment({}, parameters or {}),
        effective={},
        resolved=ResolvedConfig(digest, "", ""),
        objective=kb,
    )


def test_a_step_that_changes_the_command_line_alone_is_a_step() -> None:
    trials = {
        0: trial(1, "gate", 1000),
        1: trial(2, "drivers", 1100),
        2: trial(3, "drivers", 1108, {"dhash_entries": "512"}),
    }
    found = measured(PLANNED, trials)
    assert [one.trial for one in found] == [1, 2, 3]
    assert found[-1].changes == (("dhash_entries=", "512"),)


def test_what_fails_or_comes_to_nothing_is_part_of_the_next() -> None:
    failed = {0: trial(1, "gate", 1000), 1: trial(2, "drivers", None), 2: trial(3, "all", 1108)}
    found = measured(PLANNED, failed)
    assert [(one.title, one.trial) for one in found] == [
        ("opening", 1),
        ("drivers; hash tables", 3),
    ]
    same = {0: trial(1, "gate", 1000), 1: trial(2, "gate", 1000), 2: trial(3, "all", 1108)}
    assert [one.trial for one in measured(PLANNED, same)] == [1, 3]


MENUS = {
    ("DRM", "n"): ("Device Drivers", "Graphics support"),
    ("FB", "n"): ("Device Drivers", "Graphics support"),
    ("USB", "n"): ("Device Drivers", "USB support"),
    ("MTD_TESTS", "n"): ("Device Drivers",),
    ("NFS_FS", "n"): ("File systems", "Network File Systems"),
    ("EXT2_FS", "n"): ("File systems",),
    ("BUG", "n"): ("Kernel hacking",),
    ("COREDUMP", "n"): ("Executable file formats",),
    ("dhash_entries=", "512"): (),
}
SAVES = {
    ("DRM", "n"): 400.0,
    ("FB", "n"): 50.0,
    ("USB", "n"): 90.0,
    ("NFS_FS", "n"): 300.0,
    ("EXT2_FS", "n"): 60.0,
    ("BUG", "n"): 20.0,
    ("COREDUMP", "n"): 12.0,
    ("dhash_entries=", "512"): 8.0,
}


def test_menus_that_save_much_are_taken_apart_and_small_ones_put_together() -> None:
    found = [(title, len(members)) for title, members in grouped(MENUS, SAVES, 5)]
    assert found == [
        ("Device Drivers > Graphics support", 2),
        ("File systems > Network File Systems", 1),
        ("Device Drivers", 2),
        ("File systems", 1),
        ("Everything else", 3),
    ]


def test_every_change_is_in_one_group() -> None:
    for most in range(1, 12):
        found = grouped(MENUS, SAVES, most)
        assert len(found) <= most
        changes = [change for _title, members in found for change in members]
        assert sorted(changes) == sorted(MENUS)


def test_nothing_is_put_together_that_saves_more_than_it_shows() -> None:
    # With two groups, to show the graphics would mix all the rest: 490 kB for 450.
    assert [title for title, _ in grouped(MENUS, SAVES, 2)] == ["Device Drivers", "Everything else"]
