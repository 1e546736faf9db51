"""Random variants with reuse of objects, compared with clean builds, on the fake kernel tree."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fakes.world import UNSTEADY, World


def soak(world: World, *arguments: object) -> subprocess.CompletedProcess[str]:
    return world.benchmark("soak", "--study", world.study, "--jobs", 1, *arguments)


def written(world: World) -> list[dict[str, Any]]:
    path = Path(world.folder, "results/bench/soak.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_is_reused_is_what_a_clean_build_gives(world: World) -> None:
    done = soak(world, "--variants", 10, "--check-every", 10)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = written(world)
    assert [row["number"] for row in rows] == list(range(1, 11))
    assert [row["number"] for row in rows if row["compared"]] == [10]
    assert rows[-1]["compared"] > 3
    assert sum(row["objects_reused"] for row in rows) > 0
    assert "1 compared with clean builds" in done.stdout
    assert "0 differ" in done.stdout


def test_one_that_was_cut_short_goes_on_where_it_ended(world: World) -> None:
    soak(world, "--variants", 1)
    first = written(world)
    path = Path(world.folder, "results/bench/soak.jsonl")
    path.write_text(path.read_text() + '{"number": 2, "chan')
    done = soak(world, "--variants", 2)
    assert done.returncode == 0, done.stdout + done.stderr
    assert written(world)[:1] == first
    assert [row["number"] for row in written(world)] == [1, 2]


def test_a_difference_is_told(world: World) -> None:
    world.program("fake-gcc", UNSTEADY)
    done = soak(world, "--variants", 2, "--check-every", 2)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "DIFFERENT from a clean build: kernel/printk.o" in done.stdout
    assert "1 differ" in done.stdout


@pytest.mark.parametrize("text", ["no JSON\n", '{"number": 1}\n'])
def test_a_file_of_something_else_is_left_alone(world: World, text: str) -> None:
    path = Path(world.folder, "results/bench/soak.jsonl")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    done = soak(world, "--variants", 2)
    assert done.returncode == 2
    assert "is not what a soak wrote" in done.stderr
    assert "Traceback" not in done.stderr
    assert path.read_text() == text


def test_another_seed_does_not_go_on_with_these_variants(world: World) -> None:
    soak(world, "--variants", 1)
    done = soak(world, "--variants", 2, "--seed", 1)
    assert done.returncode == 2
    assert "is of another seed" in done.stderr
    assert [row["number"] for row in written(world)] == [1]
