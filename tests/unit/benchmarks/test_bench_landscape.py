"""The landscapes: what they record, draw and answer, and whether their oracle knows the best."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
from benchmarks import recording
from benchmarks.landscape import BOOT, BUILD, PAGE_KB, SPECS, Ground, Landscape, Need, Spec
from benchmarks.oracle import minimality, optimum
from benchmarks.record_landscape import needs, owned
from small_ground import CHECKS, RECORDING, ground_of

from optimizer.records import (
    Assignment,
    BootResult,
    BootState,
    CheckResult,
    Outcome,
    ResolvedConfig,
    Trial,
)  # fmt: skip
from optimizer.search import prior

SHIPPED = recording.DATA / "versatilepb-6.1.json.gz"


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return ground_of(tmp_path_factory.mktemp("tree"))


def made(ground: Ground, *needs: Need, seed: int = 0, spec: str = "measured") -> Landscape:
    landscape = Landscape(ground, SPECS[spec], seed)
    landscape.needs = needs
    return landscape


def need(*options: str, breaks: str, fatal: bool = False) -> Need:
    return Need(frozenset(options), frozenset({breaks}), fatal)


# --- the recording


def test_a_recording_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "small.json.gz"
    recording.write(RECORDING, path)
    read = recording.read(path)
    assert dataclasses.replace(read, objects=()) == dataclasses.replace(RECORDING, objects=())
    for one, other in zip(read.objects, RECORDING.objects, strict=True):
        assert (one.path, one.bytes, one.functions, one.init) == (
            other.path, other.bytes, other.functions, other.init,
        )  # fmt: skip
        assert set(one.options) == set(other.options)
        assert set(one.mentions) == set(other.mentions)


def test_the_same_recording_is_the_same_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        recording.write(RECORDING, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "small.json.gz"
    monkeypatch.setattr(recording, "FORMAT", 99)
    recording.write(RECORDING, path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="format 99"):
        recording.read(path)


def test_the_shipped_recording_is_whole_and_small() -> None:
    shipped = recording.read(SHIPPED)
    assert SHIPPED.stat().st_size < 300_000
    assert shipped.baseline_kb == 25620
    assert len(shipped.objects) > 1000
    assert "clock/rtc" in shipped.checks
    assert set(shipped.restarts) < set(shipped.checks)
    assert {one.option for one in shipped.needs} >= {"INET", "RTC_DRV_DS1307", "JFFS2_FS"}
    ran = {stage for one in shipped.objects for stage in one.functions}
    assert {"boot", "never", "network/tftp", "storage/remount"} <= ran


def test_the_traces_keep_what_ran_when(ground: Ground) -> None:
    traces = ground.traces
    ran = {stage: len(names) for stage, names in traces.ran.items()}
    # Nine objects with one init function each ran at boot, and 9 + 5 + 2 + 1 of the others.
    assert ran["boot"] == 17 + 9
    assert (ran["network/tcp"], ran["network/interface"], ran["storage/persistence"]) == (4, 3, 1)
    assert sum(one.init for one in traces.functions) == 9
    beliefs = prior.beliefs(ground.space, traces)
    assert len(beliefs) == len(ground.space.candidates)


def test_an_options_own_objects_are_not_those_that_fall_with_it(ground: Ground) -> None:
    own = {
        name: [one.path for one in found] for name, found in owned(ground.space, RECORDING).items()
    }
    assert own["NET"] == ["net/core.o"]
    assert own["CARD"] == ["net/card.o"]
    assert own["FS"] == ["fs/fs.o"]


def a_trial(ground: Ground, number: int, off: str, failed: str = "") -> Trial:
    params = dict.fromkeys(off.split(), "n")
    checks = [CheckResult(*name.split("/"), passed=name != failed, seconds=0.0) for name in CHECKS]
    return Trial(
        number,
        Outcome.SMOKE_FAILED if failed else Outcome.PASSED,
        "",
        params,
        Assignment(),
        ground.space.effective(params),
        ResolvedConfig("", "", ""),
        boot=BootResult(BootState.READY, 0.0, Path("log"), checks=tuple(checks)),
    )


def test_needs_are_read_from_the_trials_first_and_from_the_trace_where_they_are_silent(
    ground: Ground,
) -> None:
    trials = [
        a_trial(ground, 0, ""),
        a_trial(ground, 1, "SOUND"),
        a_trial(ground, 2, "SOUND CLOCK CRC FS_CACHE", failed="console/echo"),
        a_trial(ground, 3, "CLOCK ROUTES", failed="console/echo"),
    ]
    found = {one.option: one for one in needs(ground.space, RECORDING, ground.owners, trials)}
    assert found["CLOCK"].checks == ("console/echo",)
    assert found["CLOCK"].known_by == "trials"
    assert found["CARD"].checks == ("network/interface",)
    assert found["FS"].checks == ("storage/persistence",)
    assert found["NET"].known_by == "trace"
    assert not {"SOUND", "ROUTES", "CRC", "FS_CACHE"} & found.keys()


# --- evaluating


def test_what_depends_on_an_option_goes_with_it(ground: Ground) -> None:
    verdict = made(ground).judge({"NET": "n"})
    assert verdict.effective["CARD"] == verdict.effective["ROUTES"] == "n"
    gone = {
        one.path
        for one, off in zip(RECORDING.objects, ground.gone(verdict.values), strict=True)
        if off
    }
    assert gone == {"net/core.o", "net/card.o", "net/routes.o"}


def test_memory_comes_in_pages_and_grows_by_what_is_gone(ground: Ground) -> None:
    landscape = made(ground)
    start = landscape.judge({}).mem_total_kb
    assert start == RECORDING.baseline_kb
    for name, least in (("SOUND", 70000), ("NET", 140000)):
        gain = landscape.judge({name: "n"}).mem_total_kb - start
        assert gain % PAGE_KB == 0
        assert gain * 1024 >= least - 16384
    smaller = landscape.judge({"LOG_BUF_SHIFT": "12"}).mem_total_kb
    assert smaller - start == 128 - 4


def test_an_integer_without_a_prompt_costs_nothing(ground: Ground) -> None:
    landscape = made(ground)
    effective = dict(ground.start)
    assert landscape._tables({**effective, "LOG_BUF_SHIFT": "12"}) == 4096
    assert landscape._tables({**effective, "LOG_BUF_SHIFT": ""}) == 0


def test_no_object_holds_more_of_others_code_than_it_has(ground: Ground) -> None:
    for seed in range(30):
        landscape = Landscape(ground, SPECS["needs-3"], seed)
        held = [0.0] * len(RECORDING.objects)
        for parts in landscape._inside.values():
            for host, part in parts:
                held[host] += max(part, 0.0)
        assert all(part <= size for part, size in zip(held, landscape._sizes, strict=True)), seed


@pytest.mark.parametrize(
    ("broken", "outcome"),
    [
        ("network/tcp", Outcome.SMOKE_FAILED),
        (BOOT, Outcome.BOOT_FAILED),
        (BUILD, Outcome.BUILD_FAILED),
    ],
)
def test_a_need_breaks_what_it_is_bound_to(ground: Ground, broken: str, outcome: Outcome) -> None:
    landscape = made(ground, need("FS", breaks=broken))
    assert landscape.judge({"SOUND": "n"}).passed
    verdict = landscape.judge({"FS": "n", "SOUND": "n"})
    assert verdict.outcome is outcome
    trial = landscape.trial(1, "any", {"FS": "n"}, verdict)
    assert trial.objective is None
    if outcome is Outcome.SMOKE_FAILED:
        assert trial.boot is not None
        assert trial.measurement is not None
        assert trial.measurement.mem_total_kb == verdict.mem_total_kb
        assert [f"{one.suite}/{one.name}" for one in trial.boot.checks] == list(CHECKS)
        assert [one.name for one in trial.boot.checks if not one.passed] == ["tcp"]
        assert trial.reason.startswith("network/tcp: ")
    elif outcome is Outcome.BOOT_FAILED:
        assert trial.boot is not None
        assert trial.boot.state is not BootState.READY
        assert trial.boot.checks == ()
        assert trial.measurement is None
    else:
        assert trial.boot is None
        assert trial.build is not None
        assert not trial.build.ok


def failed(landscape: Landscape, params: dict[str, str]) -> dict[str, str]:
    trial = landscape.trial(1, "any", params, landscape.judge(params))
    assert trial.boot is not None
    return {f"{one.suite}/{one.name}": one.detail for one in trial.boot.checks if not one.passed}


def test_after_a_failed_restart_nothing_more_is_run(ground: Ground) -> None:
    found = failed(made(ground, need("FS", breaks="storage/reboot")), {"FS": "n"})
    assert list(found) == ["console/reboot", "storage/reboot", "storage/persistence"]
    assert not found["console/reboot"].startswith("not run")
    assert all(found[name].startswith("not run: no restart") for name in list(found)[1:])


def test_a_fatal_need_takes_the_later_checks_along(ground: Ground) -> None:
    fatal = need("FS", breaks="network/interface", fatal=True)
    found = failed(made(ground, fatal), {"FS": "n"})
    assert list(found) == list(CHECKS[1:-1])


def test_of_a_pair_one_is_enough(ground: Ground) -> None:
    landscape = made(ground, need("FS", "SOUND", breaks="network/tcp"))
    assert landscape.judge({"FS": "n"}).passed
    assert landscape.judge({"SOUND": "n"}).passed
    assert not landscape.judge({"FS": "n", "SOUND": "n"}).passed


def test_a_bad_value_breaks(ground: Ground) -> None:
    bad = Need(frozenset(), frozenset({BOOT}), value=("LOG_BUF_SHIFT", "12"))
    landscape = made(ground, bad)
    assert landscape.judge({"LOG_BUF_SHIFT": "13"}).passed
    assert landscape.judge({"LOG_BUF_SHIFT": "12"}).outcome is Outcome.BOOT_FAILED


def test_compiling_counts_what_mentions_a_change_and_is_there(ground: Ground) -> None:
    start = ground.look({})[1]
    assert ground.compiled(start, start) == 0
    # Only main.o mentions SOUND; its own object is gone, and comes back when it is on again.
    without = ground.look({"SOUND": "n"})[1]
    assert ground.compiled(start, without) == 1
    assert ground.compiled(without, start) == 2


# --- drawing


def test_a_seed_is_one_landscape_and_another_is_another(ground: Ground) -> None:
    variants = [{"NET": "n"}, {"FS": "n", "SOUND": "n"}, {"CRC": "n", "CLOCK": "n"}]

    def answers(seed: int, spec: str) -> list[tuple[int, Outcome]]:
        landscape = Landscape(ground, SPECS[spec], seed)
        found = [landscape.judge(one) for one in variants]
        return [(one.mem_total_kb, one.outcome) for one in found]

    assert answers(1, "needs-3") == answers(1, "needs-3")
    assert len({tuple(answers(seed, "needs-3")) for seed in range(6)}) > 3
    # What was measured does not depend on the seed.
    first, second = (Landscape(ground, SPECS["measured"], seed) for seed in (0, 1))
    assert (first._sizes == second._sizes).all()
    assert first.needs == second.needs
    assert first._inside != second._inside


def test_as_many_needs_are_drawn_as_asked_and_the_baseline_has_them_all(ground: Ground) -> None:
    spec = Spec("any", 3, 1, misleading=0.34, build_breaks=1)
    silent = {"ROUTES", "CRC", "FS_CACHE", "SOUND"}
    misled = 0
    for seed in range(20):
        landscape = Landscape(ground, spec, seed)
        options = [one for one in landscape.needs if one.value is None]
        assert sorted(len(one.options) for one in options) == [1, 1, 1, 1, 2]
        assert len(symbols := [name for one in options for name in one.options]) == len(
            set(symbols)
        )
        misled += sum(not one.options.isdisjoint(silent) for one in options[:3])
        assert [one.breaks for one in options].count(frozenset({BUILD})) == 1
        assert landscape.judge({}).passed
    # One of each three is drawn from those whose code never ran.
    assert misled == 20


# --- the oracle


@pytest.mark.parametrize("seed", range(4))
def test_the_oracle_finds_the_best_of_all_variants(ground: Ground, seed: int) -> None:
    landscape = Landscape(ground, Spec("small", 2, 1), seed)
    names = [one.name for one in ground.space.candidates]
    best = max(
        verdict.mem_total_kb
        for values in itertools.product(*(one.values for one in ground.space.candidates))
        if (verdict := landscape.judge(dict(zip(names, values, strict=True)))).passed
    )
    assert optimum(landscape).mem_total_kb == best


def test_minimality_tells_what_each_option_is_kept_for(ground: Ground) -> None:
    landscape = made(ground, need("CARD", breaks=BOOT))
    landscape._inside.clear()
    end = minimality(landscape, {"SOUND": "n", "FS": "n", "CLOCK": "n"})
    assert not end.minimal
    assert {"NET", "CARD"} <= set(end.breaks)
    # ROUTES has 20,000 bytes: nothing needs it. CARD selects CRC.
    assert set(end.more) == {"ROUTES"}
    assert end.held == ("CRC",)
    done = minimality(landscape, {"SOUND": "n", "FS": "n", "CLOCK": "n", "ROUTES": "n"})
    assert done.minimal
