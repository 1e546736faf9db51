"""The audit of a study by plain make and a plain emulator, on the fake kernel tree."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.world import World

# The fake tree has none: what the fragment names is taken out of the base, then appended.
MERGE = """\
#!/bin/sh
[ "$1 $2" = "-m -O" ] || exit 1
names=$(sed -nE 's/^(# )?CONFIG_([A-Za-z0-9_]+)[= ].*/\\2/p' "$5")
cp "$4" "$3/.config"
for name in $names; do sed -i -E "/^(# )?CONFIG_$name[= ]/d" "$3/.config"; done
cat "$5" >>"$3/.config"
"""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A study with some savings measured."""
    world = World(tmp_path_factory.mktemp("audited") / "world")
    script = world.tree / "scripts/kconfig/merge_config.sh"
    script.parent.mkdir(parents=True)
    script.write_text(MERGE)
    for command in ("run small.toml --trials 5", "attribute small.toml --top 3"):
        done = world.start(*command.split()).ended(600.0)
        assert done.code == 0, done.err
    yield world
    world.close()
    world.assert_nothing_left()


def audit(world: World, *arguments: object) -> subprocess.CompletedProcess[str]:
    return world.benchmark("audit", *arguments)


def of(world: World, *arguments: object) -> subprocess.CompletedProcess[str]:
    given = (
        world.database.parent,
        "--study",
        world.study,
        "--output",
        world.folder / "audit.jsonl",
    )
    return audit(world, *given, "--options", 3, *arguments)


def test_exports_and_savings_hold_and_nothing_is_built_twice(measured: World) -> None:
    first = of(measured, "--trials", 3)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "4 trials, 0 do not come to the same .config" in first.stdout
    assert "3 options, 0 differ" in first.stdout
    assert first.stderr.count("building trial") >= 3
    kept = measured.folder / "audit.jsonl"
    lines = [line for line in kept.read_text().splitlines() if line]
    assert len(lines) == first.stderr.count("building trial")
    # What was cut short while it was written is built again, and that alone.
    kept.write_text("\n".join(lines)[:-40])
    again = of(measured, "--trials", 0)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stderr.count("building trial") == 1
    assert "3 options, 0 differ" in again.stdout
    assert not (measured.cache / "audit-plain/out").exists()
    assert "building trial" not in of(measured, "--trials", 0).stderr


def test_a_saving_that_is_not_so_is_seen(measured: World) -> None:
    path = measured.folder / "wrong.jsonl"
    lines = (measured.folder / "audit.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    rows[0]["mem_total_kb"] += 4
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = of(measured, "--trials", 0, "--output", path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "DIFFERS" in done.stdout


def test_a_kernel_that_does_not_build_is_told_and_not_kept(measured: World) -> None:
    path = measured.folder / "broken.jsonl"
    fault = measured.fault("vmlinux", "exit 1\n")
    done = of(measured, "--trials", 0, "--options", 1, "--output", path)
    fault.unlink()
    assert done.returncode == 1, done.stdout + done.stderr
    assert "DIFFERS" in done.stdout
    assert "1 options, 1 differ" in done.stdout
    assert not path.exists()


@pytest.mark.parametrize(
    "arguments", [("nowhere",), (".", "--study", "none.toml"), (".", "--options", "-1")]
)
def test_bad_input_gets_one_message(measured: World, arguments: tuple[str, ...]) -> None:
    done = audit(measured, *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()
    assert not Path(measured.folder / "results/bench").exists()
