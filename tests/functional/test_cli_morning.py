"""What a person asks the morning after, by the command, on the fake kernel tree."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes.world import World

from optimizer.kernel.kconfig import config_digest
from optimizer.records import Outcome, Step, Trial
from optimizer.review.export import settings_of
from optimizer.store import Database

# Where `make test` has it; the environment need not be activated.
DATASETTE = str(Path(sys.executable).with_name("datasette"))

TRIALS = 12
# One command builds some twenty variants.
LONG_SECONDS = 600.0
# What the fake emulator charges for each option, from the behaviour file it reads.
COST = r"^cost (\w+) (\d+)$"


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A study that ran, and nothing else; tests that build more work on a copy."""
    world = World(tmp_path_factory.mktemp("searched") / "world")
    world.edit(world.study, 'keep = ["PRINTK",', 'keep = ["LEDS", "PRINTK",')
    done = world.start("run", "small.toml", "--trials", TRIALS).ended(LONG_SECONDS)
    assert done.code == 0, done.err
    yield world
    world.close()


@pytest.fixture(scope="module")
def measured(searched: World) -> World:
    """The same with its savings and steps measured."""
    for command in (
        "attribute small.toml",
        "attribute small.toml --baseline --top 3",
        "attribute small.toml --kept --option PRINTK --option CONFIG_TIMER",
        "steps small.toml --most 3",
    ):
        done = searched.start(*command.split()).ended(LONG_SECONDS)
        assert done.code == 0, done.err
    return searched


def costs(world: World) -> dict[str, int]:
    text = (world.knobs / "behaviour").read_text(encoding="utf-8")
    return {name: int(kb) for name, kb in re.findall(COST, text, re.M)}


def savings(world: World, *more: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = world.memtotal("review", "small.toml", "--json", *more).json[
        "savings"
    ]
    return found


def trials(world: World) -> list[Trial]:
    with Database.read(world.database) as database:
        return database.trials()


def best(world: World) -> Trial:
    with Database.read(world.database) as database:
        number = database.best()
        assert number is not None
        return database.trial(number)


def olddefconfig(world: World, folder: Path, config: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / ".config").write_text(config, encoding="utf-8")
    subprocess.run(
        ["make", "-C", world.tree, f"O={folder}", "CROSS_COMPILE=fake-", "olddefconfig"],
        env=world.environment,
        check=True,
        capture_output=True,
    )
    return (folder / ".config").read_text(encoding="utf-8")


def merged(config: str, fragment: str) -> str:
    """As merge_config.sh does it: what the fragment names is taken out, then appended."""
    named = set(re.findall(r"^(?:# )?CONFIG_(\w+)[= ]", fragment, re.M))
    lines = [
        line
        for line in config.splitlines()
        if not (match := re.match(r"(?:# )?CONFIG_(\w+)[= ]", line)) or match[1] not in named
    ]
    return "\n".join([*lines, fragment])


# -- attribute ------------------------------------------------------------------------------------


def test_a_measured_saving_is_what_the_option_costs(measured: World) -> None:
    told = costs(measured)
    found = {
        (one["option"], one["value"]): one
        for one in savings(measured, "--measured")
        if one["role"] == "made" and one["basis"] == "measured"
    }
    alone = [one for one in found.values() if one["value"] == "n" and not one["together_with"]]
    assert len(alone) >= 8
    for one in alone:
        assert one["saving_kb"] == told.get(one["option"], 0), one["option"]
    choice = next(one for one in found.values() if "SLOB" in one["option"])
    assert choice["saving_kb"] == told["SLAB"] - told["SLOB"]


def test_every_change_of_the_winner_is_measured_or_said_not_to_be(measured: World) -> None:
    said = measured.memtotal("attribute", "small.toml").out
    assert re.search(r"\d+ measured, 0 left\.", said)
    cannot = set(re.findall(r"not measurable: (\S+)=", said))
    for one in savings(measured):
        if one["role"] == "made":
            assert one["basis"] == "measured" or one["option"] in cannot, one["option"]


def test_what_is_measured_is_not_measured_again(measured: World) -> None:
    before = measured.outcomes()
    measured.memtotal("attribute", "small.toml", "--baseline", "--top", 3)
    assert measured.outcomes() == before
    measured.assert_sound()


def test_what_an_option_saves_only_with_others_is_shown(measured: World) -> None:
    both = [one for one in savings(measured) if one["baseline_saving_kb"] is not None]
    assert both
    for one in both:
        if one["basis"] == "measured" and one["mem_total_kb"] is not None:
            expected = one["mem_total_kb"] - one["baseline_saving_kb"]
            assert one["interaction_kb"] == expected


def test_what_was_measured_at_the_winner_is_not_told_of_another_trial(measured: World) -> None:
    winner = best(measured)
    other = next(
        one
        for one in trials(measured)
        if one.outcome is Outcome.PASSED
        and one.number
        and one.sampler not in ("attribution", "steps")
        and one.resolved.digest != winner.resolved.digest
    )
    here = [one for one in savings(measured, "--measured") if one["measured_at"] == winner.number]
    there = savings(measured, "--measured", "--trial", str(other.number))
    assert len(here) > 3
    assert {one["option"] for one in here} <= {one["option"] for one in there}
    assert all(one["measured_at"] != other.number for one in there)
    mark = f"measured at trial {winner.number}, not at this one"
    asked = ("review", "small.toml", "--format", "markdown")
    assert mark not in measured.memtotal(*asked).out
    assert mark in measured.memtotal(*asked, "--trial", other.number).out


def test_what_is_kept_has_a_price_and_cannot_win(measured: World) -> None:
    told = costs(measured)
    kept = {one["option"]: one for one in savings(measured, "--kept")}
    assert kept.keys() >= {"PRINTK", "LEDS", "PROC_FS"}
    # The log buffer goes with it.
    assert kept["PRINTK"]["basis"] == "measured"
    assert 0 < kept["PRINTK"]["saving_kb"] - told["PRINTK"] <= 4
    # Without TIMER the kernel hangs: the image is all there is to measure.
    assert kept["TIMER"]["basis"] == "sections"
    for trial in trials(measured):
        if trial.sampler == "price":
            assert (trial.outcome, trial.objective) == (Outcome.CONFIG_REFUSED, None)
    config = settings_of(best(measured).resolved.text)
    assert (config["PRINTK"], config["LEDS"]) == ("y", "y")


def test_measured_savings_are_those_of_clean_builds(measured: World) -> None:
    before = measured.outcomes()
    said = measured.memtotal("attribute", "small.toml", "--recheck", 2).out
    assert said.count(": the same") == 2
    assert "2 savings built clean, 0 differ" in said
    assert measured.outcomes() == before


def test_a_pair_without_figures_does_not_repeat_anything(measured: World, tmp_path: Path) -> None:
    shutil.copytree(measured.results, tmp_path / "results")
    hangs = next(one.number for one in trials(measured) if one.measurement is None)
    with closing(sqlite3.connect(tmp_path / "results/small/trials.db")) as database, database:
        database.execute("UPDATE attributions SET with_trial = ?", [hangs])
    done = measured.memtotal(
        "attribute", "small.toml", "--recheck", 2, "--results", tmp_path / "results"
    )
    assert ": the same" not in done.out
    assert "0 savings built clean, 0 differ" in done.out


def test_a_search_goes_on_after_measuring(measured: World, tmp_path: Path) -> None:
    shutil.copytree(measured.results, tmp_path / "results")
    number = len(measured.outcomes())
    said = measured.memtotal(
        "run", "small.toml", "--trials", number + 1, "--results", tmp_path / "results"
    ).out
    assert "Best:" in said


def test_a_change_that_the_winner_does_not_have(searched: World) -> None:
    done = searched.memtotal("attribute", "small.toml", "--option", "INET", code=2)
    assert "does not change INET" in done.err


def test_a_budget_that_is_used_up_leaves_the_rest(searched: World, tmp_path: Path) -> None:
    shutil.copytree(searched.results, tmp_path / "results")
    said = searched.memtotal(
        "attribute", "small.toml", "--baseline", "--budget", "0.01s", "--results",
        tmp_path / "results", "--jobs", 2, "--top", 3,
    ).out  # fmt: skip
    assert re.search(r"\d+ measured, \d+ left", said)


# -- review, certificate, why ---------------------------------------------------------------------


def test_savings_as_csv_and_markdown(measured: World, tmp_path: Path) -> None:
    text = measured.memtotal("review", "small.toml", "--format", "csv").out
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["option"] for row in rows] == [one["option"] for one in savings(measured)]
    path = tmp_path / "savings.md"
    measured.memtotal("review", "small.toml", "--format", "markdown", "-o", path)
    table = [line for line in path.read_text().splitlines() if line.startswith("| ")]
    assert len(table) == len(rows) + 2
    assert any("IKCONFIG" in line and "88 kB" in line for line in table)


def test_savings_are_filtered_and_sorted(measured: World) -> None:
    found = savings(measured, "--grep", "kallsyms")
    assert [one["option"] for one in found] == ["KALLSYMS"]
    names = [one["option"] for one in savings(measured, "--sort", "option")]
    assert names == sorted(names)
    assert savings(measured, "--failed") == []


@pytest.mark.parametrize("more", [("--format", "csv"), ("-o", "failed.md")])
def test_failed_trials_are_not_a_sheet_of_options(measured: World, more: tuple[str, str]) -> None:
    done = measured.memtotal("review", "small.toml", "--failed", *more, code=2)
    assert "--failed shows trials" in done.err
    assert not (measured.folder / "failed.md").exists()


def test_what_guards_the_system_is_marked(measured: World) -> None:
    found = {one["option"]: one for one in savings(measured)}
    assert found["BUG"]["mark"] == "hardening"
    assert "inconsistent" in found["BUG"]["loses"]
    assert found["SWAP"]["mark"] is None


def test_every_option_that_is_on_has_its_reason(measured: World) -> None:
    lines = measured.memtotal("certificate", "small.toml", "--json").json
    by_name = {one["symbol"]: one for one in lines}
    defconfig = settings_of(best(measured).resolved.defconfig)
    on = {name for name, value in defconfig.items() if value not in ("n", '""')}
    assert on <= by_name.keys()
    assert all(one["reason"] and one["says"] for one in lines)
    assert by_name["INET"]["reason"] == "needed"
    assert by_name["INET"]["check"] == "board/network"
    assert "INET works" in by_name["INET"]["seen"]
    assert by_name["INET"]["trial"] is not None
    assert by_name["LEDS"]["reason"] == "kept"
    assert by_name["EXPERT"]["reason"] == "kept"
    assert by_name["SLOB"]["reason"] == "chosen"
    assert by_name["DEBUG_KERNEL"]["reason"] == "forced"
    assert "EXPERT" in by_name["DEBUG_KERNEL"]["says"]


def test_the_certificate_as_a_document(measured: World, tmp_path: Path) -> None:
    path = tmp_path / "certificate.md"
    measured.memtotal("certificate", "small.toml", "--format", "markdown", "-o", path)
    text = path.read_text()
    assert "| INET | y | needed |" in text
    assert "unknown" not in text


def test_one_options_whole_story(measured: World) -> None:
    story = measured.memtotal("why", "small.toml", "CONFIG_BRIDGE", "--json").json
    assert story["kconfig"]["prompt"] == "802.1d Ethernet bridging"
    assert story["kconfig"]["depends"] == "NET && INET"
    story = measured.memtotal("why", "small.toml", "KALLSYMS", "--json").json
    assert story["savings"][0]["saving_kb"] == costs(measured)["KALLSYMS"]
    touched = {one["trial"] for one in story["trials"]}
    assert touched == {
        one.number
        for one in trials(measured)
        if one.effective["KALLSYMS"] == "n" or "KALLSYMS" in one.assignment.values
    }
    text = measured.memtotal("why", "small.toml", "INET").out
    assert "needed: board/network fails without it" in text


def test_an_option_that_nobody_knows(measured: World) -> None:
    done = measured.memtotal("why", "small.toml", "KALLSYM", code=2)
    assert "Did you mean KALLSYMS?" in done.err


# -- steps and exports ----------------------------------------------------------------------------


def test_the_steps_lead_to_the_winner_and_sum_to_its_saving(
    measured: World, tmp_path: Path
) -> None:
    folder = tmp_path / "steps"
    measured.memtotal("export", "small.toml", "--format", "steps", "-o", folder, "--patches")
    fragments = sorted(folder.glob("*.fragment"))
    assert 2 <= len(fragments) <= 4
    config = trials(measured)[0]
    with Database.read(measured.database) as database:
        text = database.trial(0).resolved.text
        steps = database.steps(best(measured).number)
    for step, path in zip(steps, fragments, strict=True):
        text = olddefconfig(measured, tmp_path / "out", merged(text, path.read_text()))
        assert config_digest(text) == trials(measured)[step.trial].resolved.digest
    assert config_digest(text) == best(measured).resolved.digest
    sums = re.search(r"^ sum +([+-][\d,]+)$", (folder / "README").read_text(), re.M)
    assert sums is not None
    gain = (best(measured).objective or 0) - (config.objective or 0)
    assert float(sums[1].replace(",", "")) == gain


def test_each_step_works_by_itself(measured: World) -> None:
    with Database.read(measured.database) as database:
        for step in database.steps(best(measured).number):
            assert database.trial(step.trial).outcome is Outcome.PASSED


def test_the_patches_apply_with_git(measured: World, tmp_path: Path) -> None:
    measured.memtotal(
        "export", "small.toml", "--format", "steps", "-o", tmp_path / "steps", "--patches"
    )
    tree = tmp_path / "tree"
    configs = tree / "arch/arm/configs"
    configs.mkdir(parents=True)
    shutil.copy(measured.tree / "arch/arm/configs/test_defconfig", configs)
    git = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.org", "-C", str(tree)]
    patches = [str(path) for path in sorted((tmp_path / "steps").glob("*.patch"))]
    for argv in (
        ["init", "-q"],
        ["add", "-A"],
        ["commit", "-qm", "As it was"],
        ["am", *patches],
    ):
        done = subprocess.run([*git, *argv], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (configs / "test_defconfig").read_text() == best(measured).resolved.defconfig


def test_what_the_command_line_adds_is_told_in_every_export(
    measured: World, tmp_path: Path
) -> None:
    study = tmp_path / "small"
    shutil.copytree(measured.results / "small", study)
    with Database.open(study / "trials.db", create=False) as database:
        last = best(measured)
        number = len(database.trials())
        assignment = replace(last.assignment, parameters={"dhash_entries": "512"})
        better = (last.objective or 0) + 8
        database.put_trial(replace(last, number=number, assignment=assignment, objective=better))
        before = database.steps(last.number)
        more = Step(len(before) + 1, "Hash tables", (("dhash_entries=", "512"),), number)
        database.put_steps(number, [*before, more])
    for kind in ("defconfig", "config", "fragment", "annotated"):
        text = measured.memtotal("export", study, "--format", kind).out
        assert "\n## added to the kernel's command line: dhash_entries=512\n" in text
    steps = tmp_path / "steps"
    measured.memtotal("export", study, "--format", "steps", "--patches", "-o", steps)
    (fragment,) = steps.glob("*hash-tables*")
    assert fragment.suffix == ".fragment"
    assert settings_of(fragment.read_text()) == {}
    assert "dhash_entries=512" in fragment.read_text()
    # git am refuses a patch that changes nothing.
    assert all("\n@@ " in path.read_text() for path in steps.glob("*.patch"))


def test_steps_that_were_not_built_are_not_exported(searched: World, tmp_path: Path) -> None:
    shutil.copytree(searched.results / "small", tmp_path / "small")
    with Database.open(tmp_path / "small/trials.db", create=False) as database:
        database.put_steps(best(searched).number, [])
    done = searched.memtotal(
        "export", tmp_path / "small", "--format", "steps", "-o", tmp_path / "out", code=2
    )
    assert "Run: memtotal steps small\n" in done.err


def test_an_annotated_defconfig_says_what_each_line_is_for(measured: World, tmp_path: Path) -> None:
    text = measured.memtotal("export", "small.toml", "--format", "annotated").out
    config = olddefconfig(measured, tmp_path / "out", text)
    assert config_digest(config) == best(measured).resolved.digest
    lines = text.splitlines()
    above = {line: lines[index - 1] for index, line in enumerate(lines) if index}
    assert above["CONFIG_INET=y"].startswith("## needed: board/network fails without it")
    assert above["# CONFIG_KALLSYMS is not set"].startswith("## saves 232 kB (measured)")
    assert "## IKCONFIG=n: saves 88 kB (measured)" in text


@pytest.mark.parametrize("kind", ["defconfig", "config", "fragment", "annotated", "cmdline"])
def test_each_file_says_where_it_is_from(measured: World, kind: str) -> None:
    text = measured.memtotal("export", "small.toml", "--format", kind).out
    for line in (
        "study: small",
        f"trial: {best(measured).number}",
        "kernel: 5.10.7-",
        "compiler: ",
    ):
        assert f"\n## {line}" in text


def test_the_command_line_is_the_boards(measured: World) -> None:
    text = measured.memtotal("export", "small.toml", "--format", "cmdline").out
    assert text.splitlines()[-1] == "console=ttyAMA0 rdinit=/init panic=-1 printk.time=1"


def test_a_folder_needs_a_name(measured: World) -> None:
    assert "-o" in measured.memtotal("export", "small.toml", "--format", "steps", code=2).err


# -- for other tools ------------------------------------------------------------------------------


def test_what_optuna_dashboard_reads(measured: World, tmp_path: Path) -> None:
    import optuna

    path = tmp_path / "dashboard.journal"
    said = measured.memtotal("dashboard", "small.toml", "-o", path).out
    assert f"optuna-dashboard {path}" in said
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    study = optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(backend))
    assert study.study_name == "small: mem_total in kB"
    assert len(study.trials) == len(measured.outcomes())
    assert study.best_value == best(measured).objective
    varied = set(study.trials[0].params)
    assert "KALLSYMS" in varied
    for name in varied:
        assert len({one.params[name] for one in study.trials if name in one.params}) > 1


def test_datasette_shows_the_views_with_what_they_are(measured: World, tmp_path: Path) -> None:
    measured.memtotal("dashboard", "small.toml", "--metadata-only")
    folder = measured.results / "small"
    page = subprocess.run(
        [DATASETTE, "serve", folder / "trials.db", "--metadata", folder / "metadata.json",
         "--get", "/trials/savings"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "Savings measured by trials that differ in one option" in page
    rows = json.loads(
        subprocess.run(
            [DATASETTE, "serve", folder / "trials.db", "--get",
             "/trials/steps_measured.json?_shape=array"],
            capture_output=True, text=True, check=True,
        ).stdout
    )  # fmt: skip
    gain = (best(measured).objective or 0) - (trials(measured)[0].objective or 0)
    assert sum(row["saved_kb"] for row in rows) == gain


def test_progress_does_not_get_into_a_document(measured: World) -> None:
    done = measured.memtotal("attribute", "small.toml", "--json")
    assert done.json["left"] == 0
    assert done.json["measured"]
    assert "reading" in done.err
