"""Trials an hour with one slot and with two, on the fake kernel tree."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from fakes.world import World

SEQUENCE = [
    {"variant": "baseline", "values": {}},
    {"variant": "SWAP", "values": {"SWAP": "n"}},
    {"variant": "INET", "values": {"SWAP": "n", "INET": "n"}},
]


def slots(world: World, *arguments: object) -> subprocess.CompletedProcess[str]:
    sequence = Path(world.folder, "sequence.json")
    sequence.write_text(json.dumps(SEQUENCE))
    return world.benchmark(
        "slots", "--study", world.study, "--sequence", sequence, "--variants", 2, *arguments
    )


def written(world: World) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(
        Path(world.folder, "results/bench/slots.json").read_text()
    )
    return rows


def test_every_count_of_slots_evaluates_the_same_variants(world: World) -> None:
    done = slots(world)
    assert done.returncode == 0, done.stdout + done.stderr
    one, two = written(world)
    assert (one["slots"], two["slots"]) == (1, 2)
    assert one["outcomes"] == {"SWAP": "passed", "INET": "smoke_failed"}
    assert one["outcomes"] == two["outcomes"]
    assert "not the same outcome" not in done.stdout
    assert one["wall_seconds"] > 0


def test_what_is_finished_is_not_done_again(world: World) -> None:
    slots(world, "--slots", 1)
    first = written(world)
    done = slots(world, "--slots", 1, 2)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 slots:" not in done.stdout
    assert written(world)[:1] == first
    assert len(written(world)) == 2
