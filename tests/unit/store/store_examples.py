"""Trials to store: one that a person would recognise, and any that the types allow."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from optimizer.records import (
    Assignment,
    BootResult,
    BootState,
    BuildResult,
    CheckResult,
    Ledger,
    LedgerEntry,
    Measurement,
    Outcome,
    Part,
    Refusal,
    ResolvedConfig,
    Trial,
)


def passed_trial(folder: Path, number: int = 0, **changes: object) -> Trial:
    logs = folder / "trials" / f"{number:04}"
    config = f"# a comment\nCONFIG_NUMBER={number}\n# CONFIG_DRM is not set\n"
    fields: dict[str, Any] = {
        "number": number,
        "outcome": Outcome.PASSED,
        "sampler": "groups",
        "params": {"DRM": "n", "BUG": "y"},
        "assignment": Assignment({"DRM": "n", "EXPERT": "y"}),
        "effective": {"DRM": "n", "BUG": "y"},
        "resolved": ResolvedConfig(
            digest=f"digest-{number}",
            text=config,
            defconfig=f"CONFIG_NUMBER={number}\n",
            refused=(Refusal("BUG", "n", "y", "selected by ARM"),),
        ),
        "objective": 25620.0 + number,
        "build": BuildResult(
            ok=True,
            seconds=12.5,
            objects=31,
            log=logs / "build.log",
            config_text=config + "# written by kbuild\n",
            image=logs / "zImage",
            image_bytes=2_000_000,
            vmlinux_bytes=7_000_000,
            sections={".text": 4_000_000, ".init.text": 100_000},
        ),
        "boot": BootResult(
            state=BootState.READY,
            seconds=1.1,
            transcript=logs / "console.log",
            smoke_seconds=3.0,
            kernel_log="Booting Linux\nMemory: 24436K/32768K available\n",
            meminfo_text="MemTotal: 25620 kB\n",
            checks=(CheckResult("console", "echo", True, 0.1, "hello"),),
        ),
        "measurement": Measurement(25620, 23000, {"MemTotal": 25620, "MemFree": 22000}, "Memory:"),
        "started_at": "2024-05-01T10:00:00+00:00",
        "seconds": 20.25,
        "log_dir": logs,
        "tools": {"gcc": "12.2.0", "qemu": "7.2"},
        "ledger": Ledger(
            (
                LedgerEntry(Part.RESERVED, "kernel text", 7_319_552, ".text"),
                LedgerEntry(Part.FREED, ".init", 212_992, "free_initmem"),
            ),
            given_bytes=32 << 20,
            mem_total_bytes=25620 << 10,
            mem_free_bytes=22000 << 10,
            method="memblock=debug",
            notes=("a note",),
        ),
    }
    return Trial(**(fields | changes))


def any_trial(folder: Path) -> st.SearchStrategy[Trial]:
    """Every field anything its type allows (lone surrogates aside), None where it may be."""
    text = st.text(max_size=30)
    integers = st.integers(0, 2**62)
    seconds = st.floats(0, 1e9)
    mapping = st.dictionaries(text, text, max_size=4)
    # No symbol's name has an "=".
    symbols = st.dictionaries(text.filter(lambda name: "=" not in name), text, max_size=4)
    figures = st.dictionaries(text, integers, max_size=4)
    names = st.text(string.ascii_letters + ".é' \n", min_size=1, max_size=8)
    paths = st.builds(lambda name, base: base / name, names, st.sampled_from([folder, Path("/x")]))
    checks = st.builds(CheckResult, text, text, st.booleans(), seconds, text)
    return st.builds(
        Trial,
        number=st.integers(0, 2**40),
        outcome=st.sampled_from(Outcome),
        sampler=text,
        params=mapping,
        assignment=st.builds(Assignment, symbols, symbols),
        effective=mapping,
        resolved=st.builds(
            ResolvedConfig,
            digest=text,
            text=text,
            defconfig=text,
            refused=st.lists(st.builds(Refusal, text, text, text, text), max_size=3).map(tuple),
        ),
        objective=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        build=st.none()
        | st.builds(
            BuildResult,
            ok=st.booleans(),
            seconds=seconds,
            objects=integers,
            log=paths,
            config_text=text,
            image=st.none() | paths,
            image_bytes=integers,
            vmlinux_bytes=integers,
            sections=figures,
            errors=st.lists(text, max_size=3).map(tuple),
            timed_out=st.booleans(),
        ),
        boot=st.none()
        | st.builds(
            BootResult,
            state=st.sampled_from(BootState),
            seconds=seconds,
            transcript=paths,
            smoke_seconds=seconds,
            detail=text,
            kernel_log=text,
            meminfo_text=text,
            checks=st.lists(checks, max_size=3).map(tuple),
        ),
        measurement=st.none()
        | st.builds(Measurement, integers, st.none() | integers, figures, text),
        duplicate_of=st.none() | integers,
        reason=text,
        started_at=text,
        seconds=seconds,
        log_dir=st.none() | paths,
        tools=mapping,
        ledger=st.none()
        | st.builds(
            Ledger,
            st.lists(
                st.builds(
                    LedgerEntry,
                    st.sampled_from(Part),
                    text,
                    st.integers(-(2**62), 2**62),
                    text,
                ),
                max_size=3,
            ).map(tuple),
            given_bytes=st.none() | st.integers(0, 2**60),
            mem_total_bytes=st.none() | st.integers(0, 2**60),
            mem_free_bytes=st.none() | integers,
            mem_available_bytes=st.none() | integers,
            method=text,
            notes=st.lists(text, max_size=2).map(tuple),
        ),
    )
