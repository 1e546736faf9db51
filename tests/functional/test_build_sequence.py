"""Seconds a variant, on the fake kernel tree: what a run that was cut short makes of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from fakes.world import World

VARIANTS = [
    {"variant": "baseline", "values": {}},
    {"variant": "without", "values": {"SWAP": "n"}},
    {"variant": "size", "values": {"CC_OPTIMIZE_FOR_SIZE": "y"}},
    {"variant": "with again", "values": {"SWAP": "n"}},
]


def bench(world: World, variants: int) -> subprocess.CompletedProcess[str]:
    sequence = Path(world.folder, "sequence.json")
    sequence.write_text(json.dumps(VARIANTS))
    return world.benchmark("build", "--study", world.study, "--jobs", 1, "--sequence", sequence,
                           "--ways", "memtotal", "--variants", variants)  # fmt: skip


def compiled(world: World) -> dict[tuple[str, str], tuple[int, int, int]]:
    rows: list[dict[str, Any]] = json.loads(
        Path(world.folder, "results/bench/build.json").read_text()
    )["rows"]
    assert all(row["vmlinux_identical"] for row in rows)
    return {
        (row["variant"], row["way"]): tuple(
            row[f"objects_{name}"] for name in ("compiled", "changed", "new")
        )
        for row in rows
    }  # type: ignore[return-value]


def test_it_goes_on_as_if_nothing_had_been_lost(world: World) -> None:
    done = bench(world, 4)
    assert done.returncode == 0, done.stdout + done.stderr
    whole = compiled(world)
    assert len(whole) == 8
    assert whole["baseline", "memtotal"][0] > 0
    assert whole["with again", "memtotal"][0] < whole["with again", "clean"][0]

    Path(world.folder, "results/bench/build.json").unlink()
    assert bench(world, 2).returncode == 0
    bench_folder = next(Path(world.folder).rglob("bench/store")).parent
    shutil.rmtree(bench_folder)
    done = bench(world, 4)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "without: memtotal, once more" in done.stdout
    assert compiled(world) == whole
