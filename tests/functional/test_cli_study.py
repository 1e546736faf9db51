"""A study from its first trial to the exported winner, by the command, on the fake kernel tree."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fakes.world import SUITE, World

from optimizer.cli.main import cli
from optimizer.kernel.kconfig import SymbolTree, config_digest
from optimizer.records import Assignment, BuildResult, Outcome, Trial
from optimizer.store import Database

RESTARTS = """
[[check]]
name = "typing"
kind = "typed"
bytes = 256
command = "head -c 256 | md5sum"
expect = "{md5:typed}"

[[check]]
name = "storage"
command = "store kept"
expect = "^stored$"

[[check]]
name = "reboot"
kind = "reboot"
command = "reboot -f"

[[check]]
name = "persistence"
boot = 2
command = "recall"
expect = "^kept$"
"""
TRIALS = 9
NO_BUILD = BuildResult(ok=False, seconds=0, objects=0, log=Path(), config_text="")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A study that ran; what it printed is in the file ``said``."""
    world = World(tmp_path_factory.mktemp("finished") / "world")
    world.suite.write_text(SUITE + RESTARTS, encoding="utf-8")
    done = world.start("run", "small.toml", "--trials", TRIALS, fresh=True).ended()
    assert done.code == 0, done.err
    (world.folder / "said").write_text(done.out, encoding="utf-8")
    assert done.err == ""
    world.assert_nothing_left()
    yield world
    world.assert_nothing_left()


def stored(world: World) -> list[Trial]:
    """Every trial, whole."""
    with Database.read(world.database) as database:
        return [database.trial(number) for number, _ in world.outcomes()]


def winner(world: World) -> Trial:
    """The trial with the highest objective, the smaller image deciding among equals."""
    passed = [one for one in stored(world) if one.outcome is Outcome.PASSED]
    return max(passed, key=lambda one: (one.objective or 0, -(one.build or NO_BUILD).image_bytes))


def symbol_tree(world: World) -> SymbolTree:
    tree = SymbolTree(world.tree, "arm", "fake-", world.environment)
    tree.load_base(world.tree / "arch/arm/configs/test_defconfig")
    return tree


# -- run -------------------------------------------------------------------------------------------


def test_the_run_tells_each_trial_what_was_gained_and_how_to_go_on(finished: World) -> None:
    said = (finished.folder / "said").read_text(encoding="utf-8")
    for number in range(TRIALS):
        assert re.search(rf"^trial +{number}  ", said, re.MULTILINE)
    assert f"Stopped: {TRIALS} trials are done." in said
    assert re.search(r"^Best: [\d,]+ kB in trial \d+; the baseline has 24,620 kB\.", said, re.M)
    assert "Go on:   memtotal run small.toml" in said
    assert "Export:  memtotal export small.toml" in said


def test_every_trial_is_stored_once_and_some_of_each_kind(finished: World) -> None:
    finished.assert_sound()
    outcomes = [outcome for _, outcome in finished.outcomes()]
    assert len(outcomes) == TRIALS
    assert outcomes[0] == "passed"
    assert {"passed", "smoke_failed"} <= set(outcomes)


def test_a_gain_was_found_and_it_is_what_the_options_cost(finished: World) -> None:
    best, baseline = winner(finished), stored(finished)[0]
    options = set(re.findall(r"^CONFIG_(\w+)=y$", best.resolved.text, re.M))
    costs = re.findall(r"^cost (\w+) (\d+)$", (finished.knobs / "behaviour").read_text(), re.M)
    (shift,) = re.findall(r"^CONFIG_LOG_BUF_SHIFT=(\d+)$", best.resolved.text, re.M)
    reserved = 5000 + (1 << int(shift) >> 10)
    reserved += sum(int(cost) for name, cost in costs if name in options)
    assert best.objective == 32 * 1024 - reserved
    assert baseline.objective == 24620
    assert best.objective - baseline.objective > 900


def test_what_a_variant_cannot_do_without_is_named(finished: World) -> None:
    rows = finished.memtotal("review", "small.toml", "--failed", "--json").json["trials"]
    reasons = [row["reason"] for row in rows if row["outcome"] == "smoke_failed"]
    named = re.compile(r"board/(network: expected /\^INET works\$/|storage: expected /\^stored\$/)")
    assert reasons
    assert all(named.match(one) for one in reasons)


def test_every_trial_has_its_logs_and_nothing_large(finished: World) -> None:
    for trial in stored(finished):
        assert trial.log_dir is not None
        built = trial.outcome is not Outcome.BUILD_FAILED
        logs = {path.name for path in trial.log_dir.iterdir()}
        # What did not pass was booted twice.
        twice = {"again"} if trial.outcome in (Outcome.BOOT_FAILED, Outcome.SMOKE_FAILED) else set()
        # What came to its shell was booted once more to tell where its memory is.
        told = {"explain"} if trial.measurement is not None else set()
        boots = {"console.log", "qemu.log"} | twice | told if built else set()
        assert logs == {"build.log"} | boots


def test_the_kept_options_are_in_every_configuration(finished: World) -> None:
    for trial in stored(finished):
        lines = trial.resolved.text.splitlines()
        for name in ("PRINTK", "PROC_FS", "BINFMT_ELF", "SERIAL_CONSOLE", "TIMER", "AEABI"):
            assert f"CONFIG_{name}=y" in lines
        # Not named in the keep-list, but what is kept depends on them.
        assert {"CONFIG_TTY=y", "CONFIG_SERIAL=y"} <= set(lines)


def test_the_same_command_again_builds_nothing(finished: World) -> None:
    before, built = finished.trials(), finished.built()
    logs = {log: log.stat().st_mtime_ns for log in finished.results.glob("*/logs/*/build.log")}
    assert "trials are done" in finished.memtotal("run", "small.toml", "--trials", TRIALS).out
    assert finished.trials() == before
    assert finished.built() == built
    assert logs == {log: log.stat().st_mtime_ns for log in logs}


def test_more_trials_go_on_as_one_run_would_have(world: World) -> None:
    world.memtotal("run", "small.toml", "--trials", 2)
    before = world.trials()
    world.memtotal("run", "small.toml", "--trials", 4)
    resumed = world.trials()
    assert (len(resumed), resumed[:2]) == (4, before)
    world.assert_sound()
    whole = world.folder / "whole"
    world.memtotal("run", "small.toml", "--trials", 4, "--results", whole)
    world.database = whole / "small" / "trials.db"
    assert world.trials() == resumed


def test_what_is_believed_of_the_options_is_traced_anew_when_asked(world: World) -> None:
    traced = json.loads(world.memtotal("prior", "small.toml", "--json").out)
    trials = world.trials()
    assert len(trials) == 1
    assert any("functions ran" in one["ran"] for one in traced.values())
    with closing(sqlite3.connect(world.database)) as database:
        database.execute(
            "UPDATE study_settings"
            " SET candidates_json = replace(candidates_json, 'functions ran', 'lines read')"
        )
        database.commit()
    stored = json.loads(world.memtotal("prior", "small.toml", "--json").out)
    assert any("lines read" in one["ran"] for one in stored.values())
    assert {name: one["objects"] for name, one in stored.items()} == {
        name: one["objects"] for name, one in traced.items()
    }
    # So much was stored before which objects they are was.
    with closing(sqlite3.connect(world.database)) as database:
        changed = database.execute(
            "UPDATE study_settings SET candidates_json ="
            " replace(candidates_json, '\"compiled\"', '\"something else\"')"
            " WHERE instr(candidates_json, '\"compiled\"')"
        )
        assert changed.rowcount == 1
        database.commit()
    assert json.loads(world.memtotal("prior", "small.toml", "--json").out) == stored
    anew = json.loads(world.memtotal("prior", "small.toml", "--anew", "--json").out)
    assert anew == traced
    assert json.loads(world.memtotal("prior", "small.toml", "--json").out) == traced
    assert world.trials() == trials
    world.assert_sound()


# -- samplers --------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_trials_and_another_one_others(world: World) -> None:
    found = []
    for folder, seed in (("one", 7), ("two", 7), ("three", 8)):
        world.memtotal(
            "run", "small.toml", "--sampler", "random", "--seed", seed, "--trials", 3,
            "--results", world.folder / folder,
        )  # fmt: skip
        world.database = world.folder / folder / "small" / "trials.db"
        found.append(world.trials())
    assert len(found[0]) == 3
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_the_samplers_can_take_turns_in_one_study(world: World) -> None:
    for trials, sampler in enumerate(("tpe", "nsga2", "random"), 3):
        world.memtotal("run", "small.toml", "--sampler", sampler, "--trials", trials)
    world.assert_sound()
    assert [row[2] for row in world.trials()] == ["baseline", "tpe", "tpe", "nsga2", "random"]


@pytest.mark.parametrize(("jobs", "trees"), [(2, ["0"]), (3, ["0", "1"])])
def test_two_jobs_share_a_tree_and_number_without_gaps(
    world: World, jobs: int, trees: list[str]
) -> None:
    done = world.memtotal("run", "small.toml", "--jobs", jobs, "--trials", 6, "--sampler", "random")
    assert "6 trials are done" in done.out
    world.assert_sound()
    assert len(world.outcomes()) == 6
    used = [path.parent for path in world.cache.glob("slots/*/*/.config")]
    assert sorted(path.name for path in used) == trees


def test_what_one_job_built_is_what_it_boots_while_the_other_builds(world: World) -> None:
    run = ("run", "small.toml", "--trials", 9, "--sampler", "random")
    world.memtotal(*run, "--jobs", 2)
    by_twos = {row[6]: row[3] for row in world.trials()}
    world.memtotal(*run, "--results", world.folder / "alone")
    world.database = world.folder / "alone" / "small" / "trials.db"
    alone = {row[6]: row[3] for row in world.trials()}
    common = by_twos.keys() & alone.keys()
    assert len(common) > 2
    assert {image: by_twos[image] for image in common} == {image: alone[image] for image in common}


def test_duplicates_and_refusals_are_recorded_and_cost_no_build(world: World) -> None:
    """EXPERT, the gate, selects DEBUG_KERNEL: asking it off leaves all as it is."""
    world.edit(
        world.study, 'gate = ["EXPERT"]', 'gate = ["EXPERT"]\ntry = ["SWAP", "DEBUG_KERNEL"]'
    )
    world.memtotal("run", "small.toml", "--sampler", "random", "--trials", 12)
    world.assert_sound()
    outcomes = dict(world.outcomes())
    repeated = [number for number, outcome in outcomes.items() if outcome == "duplicate"]
    # Trial 0 is the untouched defconfig, and SWAP on or off are the only other configurations.
    assert len(repeated) == 12 - 3
    assert world.built() == sorted(set(outcomes) - set(repeated))
    whole = {row[0]: row for row in world.trials()}
    for number in repeated:
        _, _, _, objective, twin, reason, sha256 = whole[number]
        assert (whole[twin][3], whole[twin][6]) == (objective, sha256)
        assert reason == f"the same configuration as trial {twin}"
    asked = world.query("SELECT trial, symbol, asked, got, reason FROM refusals")
    assert asked
    assert {row[1:] for row in asked} == {("DEBUG_KERNEL", "n", "y", "selected by EXPERT")}


def test_an_option_that_takes_an_integer_along_can_go(world: World) -> None:
    """PRINTK has LOG_BUF_SHIFT behind it, which has no value when it is off."""
    world.edit(
        world.study, 'keep = ["PRINTK", ', 'try = ["PRINTK", "LOG_BUF_SHIFT", "INET"]\nkeep = ['
    )
    world.memtotal("run", "small.toml")
    world.assert_sound()
    assert "CONFIG_PRINTK=y" not in winner(world).resolved.text


def test_a_variant_that_does_not_link_is_an_outcome(world: World) -> None:
    world.edit(world.study, '"PRINTK", ', '"PRINTK", "INPUT_LEDS", ')
    world.edit(world.study, "leave =", 'try = ["LEDS", "SWAP"]\nleave =')
    said = world.memtotal("run", "small.toml").out
    assert "Stopped: nothing is left that could gain more than a page (4 kB)" in said
    failed = [one for one in stored(world) if one.outcome is Outcome.BUILD_FAILED]
    assert failed
    for one in failed:
        assert "undefined reference to `led_register'" in one.reason
    lines = winner(world).resolved.text.splitlines()
    assert {"CONFIG_LEDS=y", "# CONFIG_SWAP is not set"} <= set(lines)


# -- status, review, show --------------------------------------------------------------------------


def test_status_for_people_and_for_programs(finished: World) -> None:
    figures = finished.memtotal("status", "small.toml", "--json").json
    assert figures["trials"] == TRIALS == sum(figures["outcomes"].values())
    assert (figures["running"], figures["activity"]) == (False, [])
    text = finished.memtotal("status", "small.toml").out
    assert f"{figures['best_kb']:,.0f} kB in trial {figures['best_trial']}" in text
    assert f"{TRIALS} trials are done" in text


def test_review_for_people_and_for_programs(finished: World) -> None:
    document = finished.memtotal("review", "small.toml", "--json").json
    assert [row["trial"] for row in document["trials"]] == list(range(TRIALS))
    best = max(document["savings"], key=lambda one: one["saving_kb"] or 0)
    assert best["saving_kb"] > 0
    text = finished.memtotal("review", "small.toml", "--top", 1).out
    assert text.count("smoke_failed") == sum(
        row["outcome"] == "smoke_failed" for row in document["trials"]
    )
    # A choice's name has all its members: the table has the beginning.
    assert document["savings"][0]["option"].split("|")[0] in text
    assert text.count(" estimated ") == 1


def test_show_for_people_and_for_programs(finished: World) -> None:
    best = winner(finished)
    shown = finished.memtotal("show", "small.toml", best.number, "--json").json
    assert shown["config_sha256"] == best.resolved.digest
    assert shown["meminfo_kb"]["MemTotal"] == shown["objective_kb"]
    assert shown["boot"] == "ready"
    assert {check["name"] for check in shown["checks"]} >= {"reboot", "persistence", "no_oops"}
    assert set(shown["tools"]) == {"kernel", "compiler", "emulator"}
    text = finished.memtotal("show", "small.toml", best.number).out
    assert shown["memory_line"] in text
    for name, _before, _after in shown["differences"]:
        assert name in text


def test_a_folder_of_results_is_enough_to_look_at(finished: World, tmp_path: Path) -> None:
    shutil.copytree(finished.results / "small", tmp_path / "copy")
    assert finished.memtotal("status", tmp_path / "copy", "--json").json["trials"] == TRIALS


@pytest.mark.parametrize(
    "command",
    [
        *("", "doctor", "run", "status", "review", "show", "why", "certificate", "report"),
        *("attribute", "steps", "export", "verify", "dashboard"),
    ],
)
def test_help(command: str) -> None:
    said = CliRunner().invoke(cli, [*command.split(), "--help"])
    assert (said.exit_code, said.output[:7]) == (0, "Usage: ")
    assert not command or "STUDY" in said.output


def test_doctor(world: World) -> None:
    assert all(one["ok"] for one in world.memtotal("doctor", "small.toml", "--json").json)
    (world.bin / "fake-emulator").unlink()
    findings = world.memtotal("doctor", "small.toml", "--json", code=2).json
    assert [one["what"] for one in findings if not one["ok"]] == ["fake-emulator"]
    assert "missing" in world.memtotal("doctor", "small.toml", code=2).out


# -- export ----------------------------------------------------------------------------------------


def test_an_exported_defconfig_leads_to_the_same_configuration(
    finished: World, tmp_path: Path
) -> None:
    best = winner(finished)
    path = tmp_path / "winner_defconfig"
    said = finished.memtotal("export", "small.toml", "--format", "defconfig", "-o", path).out
    assert f"Wrote {path}: trial {best.number}" in said
    assert symbol_tree(finished).load_base(path).digest == best.resolved.digest


def test_an_exported_config_is_the_one_that_was_built(finished: World) -> None:
    text = finished.memtotal("export", "small.toml", "--format", "config").out
    assert config_digest(text) == winner(finished).resolved.digest


def test_a_fragment_on_the_baseline_leads_to_the_same_configuration(finished: World) -> None:
    """As merge_config.sh does it: later lines win, then the kernel's own olddefconfig."""
    best = winner(finished)
    fragment = finished.memtotal("export", "small.toml", "--format", "fragment").out
    named = set(re.findall(r"^(?:# )?CONFIG_(\w+)[= ]", fragment, re.M))
    base = [
        line
        for line in stored(finished)[0].resolved.text.splitlines()
        if not (match := re.match(r"(?:# )?CONFIG_(\w+)[= ]", line)) or match[1] not in named
    ]
    output = finished.folder / "merged"
    output.mkdir()
    (output / ".config").write_text("\n".join([*base, fragment]), encoding="utf-8")
    subprocess.run(
        ["make", "-C", finished.tree, f"O={output}", "CROSS_COMPILE=fake-", "olddefconfig"],
        env=finished.environment,
        check=True,
        capture_output=True,
    )
    assert config_digest((output / ".config").read_text()) == best.resolved.digest


def test_each_trial_can_be_exported_by_number(finished: World) -> None:
    text = finished.memtotal("export", "small.toml", "--trial", 0).out
    tree = symbol_tree(finished)
    assert tree.resolve(Assignment({})).defconfig == "".join(
        line for line in text.splitlines(keepends=True) if not line.startswith("## ")
    )


# -- verify ----------------------------------------------------------------------------------------


def test_the_winner_repeats(finished: World) -> None:
    found = finished.memtotal("verify", "small.toml", "--json").json
    assert (found["repeats"], found["problems"]) == (True, [])
    assert found["config_sha256"] == winner(finished).resolved.digest
    assert len({boot["mem_total_kb"] for boot in found["boots"]}) == 1
    assert [boot["outcome"] for boot in found["boots"]] == ["passed"] * 3
    assert list(finished.cache.glob("verify-*")) == []


def test_an_exported_file_repeats(finished: World, tmp_path: Path) -> None:
    path = tmp_path / "winner"
    finished.memtotal("export", "small.toml", "-o", path)
    said = finished.memtotal("verify", "small.toml", "--defconfig", path).out
    assert "It repeats." in said
    assert winner(finished).resolved.digest in said


def change(path: Path, sql: str, *values: Any) -> None:  # noqa: ANN401 - whatever SQLite takes
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(sql, values).rowcount == 1
        connection.commit()


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        (
            "UPDATE measurements SET mem_total_kb = 25000 WHERE trial = ?",
            r"MemTotal is \d+ kB, trial \d had 25000 kB",
        ),
        (
            "UPDATE builds SET image_sha256 = 'another' WHERE trial = ?",
            r"the image's sha256 is [0-9a-f]{16} \(\d+ bytes\), trial \d's was another ",
        ),
    ],
    ids=["memory", "image"],
)
def test_a_figure_that_does_not_repeat_is_told(
    finished: World, tmp_path: Path, sql: str, problem: str
) -> None:
    copy = tmp_path / "small"
    shutil.copytree(finished.results / "small", copy)
    change(copy / "trials.db", sql, winner(finished).number)
    done = finished.memtotal("verify", "small.toml", "--results", tmp_path, code=1)
    assert re.search(rf"does not repeat: {problem}", done.out)


def test_a_defconfig_that_does_not_work_does_not_repeat(finished: World, tmp_path: Path) -> None:
    path = tmp_path / "broken"
    text = (finished.tree / "arch/arm/configs/test_defconfig").read_text()
    path.write_text(text.replace("CONFIG_INET=y", "# CONFIG_INET is not set"))
    found = finished.memtotal("verify", "small.toml", "--defconfig", path, "--json", code=1).json
    assert found["problems"][0].startswith("boot 1: smoke_failed: board/network: ")


# --- looking into what was built


def test_every_trial_that_came_to_its_shell_has_a_ledger(finished: World) -> None:
    explained = [one for one in stored(finished) if one.measurement is not None]
    assert explained
    for trial in explained:
        assert trial.ledger is not None
        assert trial.measurement is not None
        assert trial.ledger.mem_total_bytes == trial.measurement.mem_total_kb * 1024
    number = winner(finished).number
    found = finished.memtotal("explain", "small.toml", "--json").json
    assert found["trial"] == number
    assert found["mem_total_bytes"] == (winner(finished).objective or 0) * 1024


def test_a_ledger_made_anew_is_the_one_that_was_stored(finished: World) -> None:
    stored_one = finished.memtotal("explain", "small.toml", "baseline", "--json").json
    made = finished.memtotal("explain", "small.toml", "baseline", "--build", "--json").json
    assert made == stored_one


def test_the_largest_symbols_and_what_brings_them(finished: World) -> None:
    found = finished.memtotal("explain", "small.toml", "baseline", "--top", "4", "--json").json
    assert len(found["symbols"]) == len(found["objects"]) == 4
    for one in found["symbols"] + found["objects"]:
        assert one["bytes"] > 0
    sizes = [one["bytes"] for one in found["objects"]]
    assert sizes == sorted(sizes, reverse=True)
    brought = {option for one in found["objects"] for option in one["options"]}
    assert brought >= {"PRINTK", "INPUT"}


def test_the_audit_runs_on_what_a_trial_built(finished: World) -> None:
    found = finished.memtotal("init-audit", "small.toml", "baseline", "--json").json
    assert found["trial"] == 0
    assert found["bytes"] == sum(one["bytes"] for one in found["candidates"])


def test_the_floor_of_a_machine_that_minds_no_limit(finished: World) -> None:
    found = finished.memtotal("floor", "small.toml", "--step", "8192", "--json").json
    assert (found["floor_kb"], found["failed_kb"]) == (8192, None)
    assert [step["memory_kb"] for step in found["steps"]][:2] == [32768, 16384]
