"""A trial as rows of tables and back again. No SQL here, and no file is touched.

Kept exactly: every value, and the order of what has one (parameters, refusals, errors, checks).
The other mappings come back sorted by name. Log paths inside the database's folder are kept
relative to it, so a results folder can be moved; they come back absolute. What UTF-8 cannot hold
(lone surrogates, from a console's broken bytes, say) is kept as a readable escape such as \\udc80.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from optimizer.records import (
    Assignment,
    BootResult,
    BootState,
    BuildResult,
    CheckResult,
    Judgement,
    Ledger,
    LedgerEntry,
    Measurement,
    Outcome,
    Part,
    Refusal,
    ResolvedConfig,
    Trial,
    Verdict,
)

Row = dict[str, Any]


@dataclass(frozen=True)
class StoredRows:
    """Everything read of the asked-for trials: rows by table, each table in its own order.

    The text columns of .configs are empty unless they were asked for.
    """

    trials: Sequence[Row]
    assignments: Iterable[Sequence[Any]] = ()
    by_table: Mapping[str, Iterable[Row]] = field(default_factory=dict)


def storable(value: Any) -> Any:  # noqa: ANN401 - whatever a column holds
    """The value as SQLite can hold it; see the module's text about surrogates."""
    if not isinstance(value, str) or value.isascii():
        return value
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def packed(text: str) -> Row:
    """A whole .config as a row of ``config_texts``."""
    data = storable(text).encode("utf-8")
    return {
        "sha256": hashlib.sha256(data).hexdigest(),
        "text_bytes": len(data),
        "text_zlib": zlib.compress(data, 9),
    }


def unpacked(text_zlib: bytes) -> str:
    """The .config of a row of ``config_texts``.

    Raises:
        zlib.error, UnicodeDecodeError: the row is damaged.
    """
    return zlib.decompress(text_zlib).decode("utf-8")


def trial_rows(
    trial: Trial, folder: Path, config_id: int, build_sha256: str
) -> dict[str, list[Row]]:
    """The rows of one trial, table by table in the order to insert them.

    Args:
        trial: the record.
        folder: the database's folder.
        config_id: row of ``configs`` with the resolved configuration.
        build_sha256: row of ``config_texts`` with the .config that was built, '' without a build.
    """
    number = trial.number
    head = {
        "number": number,
        "outcome": trial.outcome.value,
        "objective": trial.objective,
        "reason": trial.reason,
        "duplicate_of": trial.duplicate_of,
        "sampler": trial.sampler,
        "started_at": trial.started_at,
        "seconds": trial.seconds,
        "log_dir": _relative(trial.log_dir, folder),
        "config": config_id,
        "params_json": json.dumps(dict(trial.params)),
    }
    # A symbol's name has no "=": that tells parameters of the command line from symbols.
    parameters = {f"{name}=": value for name, value in trial.assignment.parameters.items()}
    asked, effective = {**trial.assignment.values, **parameters}, trial.effective
    tables: dict[str, list[Row]] = {
        "trials": [head],
        "assignments": [
            {
                "trial": number,
                "symbol": symbol,
                "asked": asked.get(symbol),
                "effective": effective.get(symbol),
            }
            for symbol in sorted({*asked, *effective})
        ],
        "refusals": [
            {
                "trial": number,
                "position": position,
                "symbol": refusal.symbol,
                "asked": refusal.asked,
                "got": refusal.got,
                "reason": refusal.reason,
            }
            for position, refusal in enumerate(trial.resolved.refused)
        ],
        "tools": [
            {"trial": number, "name": name, "version": version}
            for name, version in sorted(trial.tools.items())
        ],
    }
    if trial.build is not None:
        tables |= _build_rows(number, trial.build, folder, build_sha256)
    if trial.boot is not None:
        tables |= _boot_rows(number, trial.boot, folder)
    if trial.measurement is not None:
        tables |= _measurement_rows(number, trial.measurement)
    if trial.ledger is not None:
        tables |= _ledger_rows(number, trial.ledger)
    return {
        table: [{key: storable(value) for key, value in row.items()} for row in rows]
        for table, rows in tables.items()
    }


def _build_rows(
    number: int, build: BuildResult, folder: Path, text_sha256: str
) -> dict[str, list[Row]]:
    return {
        "builds": [
            {
                "trial": number,
                "ok": build.ok,
                "timed_out": build.timed_out,
                "seconds": build.seconds,
                "objects": build.objects,
                "image_bytes": build.image_bytes,
                "image_sha256": storable(build.image_sha256),
                "vmlinux_bytes": build.vmlinux_bytes,
                "log": _relative(build.log, folder),
                "image": _relative(build.image, folder),
                "text_sha256": text_sha256,
            }
        ],
        "build_errors": [
            {"trial": number, "position": position, "line": line}
            for position, line in enumerate(build.errors)
        ],
        "sections": [
            {"trial": number, "name": name, "bytes": size}
            for name, size in sorted(build.sections.items())
        ],
    }


def _boot_rows(number: int, boot: BootResult, folder: Path) -> dict[str, list[Row]]:
    return {
        "boots": [
            {
                "trial": number,
                "state": boot.state.value,
                "detail": boot.detail,
                "seconds": boot.seconds,
                "smoke_seconds": boot.smoke_seconds,
                "transcript": _relative(boot.transcript, folder),
                "meminfo_text": boot.meminfo_text,
                "kernel_log": boot.kernel_log,
            }
        ],
        "smoke_checks": [
            {
                "trial": number,
                "position": position,
                "suite": check.suite,
                "name": check.name,
                "passed": check.passed,
                "seconds": check.seconds,
                "detail": check.detail,
            }
            for position, check in enumerate(boot.checks)
        ],
    }


def _measurement_rows(number: int, measurement: Measurement) -> dict[str, list[Row]]:
    return {
        "measurements": [
            {
                "trial": number,
                "mem_total_kb": measurement.mem_total_kb,
                "mem_available_kb": measurement.mem_available_kb,
                "memory_line": measurement.memory_line,
            }
        ],
        "meminfo": [
            {"trial": number, "name": name, "kb": kb}
            for name, kb in sorted(measurement.meminfo_kb.items())
        ],
    }


def _ledger_rows(number: int, ledger: Ledger) -> dict[str, list[Row]]:
    return {
        "ledgers": [
            {
                "trial": number,
                "given_bytes": ledger.given_bytes,
                "mem_total_bytes": ledger.mem_total_bytes,
                "mem_free_bytes": ledger.mem_free_bytes,
                "mem_available_bytes": ledger.mem_available_bytes,
                "unexplained_bytes": ledger.unexplained_bytes,
                "method": ledger.method,
                "notes": json.dumps(ledger.notes),
            }
        ],
        "ledger_entries": [
            {
                "trial": number,
                "position": position,
                "part": entry.part.value,
                "name": entry.name,
                "bytes": entry.bytes,
                "source": entry.source,
            }
            for position, entry in enumerate(ledger.entries)
        ],
    }


def trials_from(stored: StoredRows, folder: Path) -> list[Trial]:
    """The records that the rows came from, in the order of ``stored.trials``.

    Raises:
        ValueError, KeyError, zlib.error: a row is none that this package wrote.
    """
    asked: dict[int, dict[str, str]] = {}
    effective: dict[int, dict[str, str]] = {}
    # A thousand trials name the same few hundred symbols: one string each is enough.
    names: dict[str, str] = {}
    for number, symbol, wanted, got in stored.assignments:
        name = names.setdefault(symbol, symbol)
        if wanted is not None:
            asked.setdefault(number, {})[name] = names.setdefault(wanted, wanted)
        if got is not None:
            effective.setdefault(number, {})[name] = names.setdefault(got, got)
    grouped = {table: _by_trial(rows) for table, rows in stored.by_table.items()}

    def of(table: str, number: int) -> list[Row]:
        return grouped.get(table, {}).get(number, [])

    return [
        Trial(
            number=row["number"],
            outcome=Outcome(row["outcome"]),
            sampler=row["sampler"],
            params=json.loads(row["params_json"]),
            assignment=_assignment_from(asked.get(row["number"], {})),
            effective=effective.get(row["number"], {}),
            resolved=resolved_from(row, of("refusals", row["number"])),
            objective=row["objective"],
            build=_build_from(row["number"], of, folder),
            boot=_boot_from(row["number"], of, folder),
            measurement=_measurement_from(row["number"], of),
            duplicate_of=row["duplicate_of"],
            reason=row["reason"],
            started_at=row["started_at"],
            seconds=row["seconds"],
            log_dir=_absolute(row["log_dir"], folder),
            tools={tool["name"]: tool["version"] for tool in of("tools", row["number"])},
            ledger=_ledger_from(row["number"], of),
        )
        for row in stored.trials
    ]


def _assignment_from(asked: Mapping[str, str]) -> Assignment:
    return Assignment(
        {name: value for name, value in asked.items() if not name.endswith("=")},
        {name[:-1]: value for name, value in asked.items() if name.endswith("=")},
    )


def resolved_from(row: Row, refusals: Iterable[Row]) -> ResolvedConfig:
    """The resolved configuration of a row that holds its digest, defconfig and packed text."""
    return ResolvedConfig(
        digest=row["digest"],
        text="" if row["text_zlib"] is None else unpacked(row["text_zlib"]),
        defconfig=row["defconfig"],
        refused=tuple(
            Refusal(one["symbol"], one["asked"], one["got"], one["reason"]) for one in refusals
        ),
    )


def _build_from(number: int, of: Any, folder: Path) -> BuildResult | None:  # noqa: ANN401
    for row in of("builds", number):
        return BuildResult(
            ok=bool(row["ok"]),
            seconds=row["seconds"],
            objects=row["objects"],
            log=folder / row["log"],
            config_text="" if row["text_zlib"] is None else unpacked(row["text_zlib"]),
            image=_absolute(row["image"], folder),
            image_bytes=row["image_bytes"],
            image_sha256=row["image_sha256"],
            vmlinux_bytes=row["vmlinux_bytes"],
            sections={one["name"]: one["bytes"] for one in of("sections", number)},
            errors=tuple(one["line"] for one in of("build_errors", number)),
            timed_out=bool(row["timed_out"]),
        )
    return None


def _boot_from(number: int, of: Any, folder: Path) -> BootResult | None:  # noqa: ANN401
    for row in of("boots", number):
        return BootResult(
            state=BootState(row["state"]),
            seconds=row["seconds"],
            transcript=folder / row["transcript"],
            smoke_seconds=row["smoke_seconds"],
            detail=row["detail"],
            kernel_log=row["kernel_log"],
            meminfo_text=row["meminfo_text"],
            checks=tuple(
                CheckResult(
                    suite=one["suite"],
                    name=one["name"],
                    passed=bool(one["passed"]),
                    seconds=one["seconds"],
                    detail=one["detail"],
                )
                for one in of("smoke_checks", number)
            ),
        )
    return None


def _measurement_from(number: int, of: Any) -> Measurement | None:  # noqa: ANN401
    for row in of("measurements", number):
        return Measurement(
            mem_total_kb=row["mem_total_kb"],
            mem_available_kb=row["mem_available_kb"],
            meminfo_kb={one["name"]: one["kb"] for one in of("meminfo", number)},
            memory_line=row["memory_line"],
        )
    return None


def verdict_row(verdict: Verdict) -> Row:
    """The row of a verdict, without the trial that it refers to."""
    return {key: storable(value) for key, value in asdict(verdict).items()}


def verdict_from(row: Row) -> Verdict:
    """The record that a row came from.

    Raises:
        ValueError: the row is none that this package wrote.
    """
    told = {key: value for key, value in row.items() if key != "winner"}
    return Verdict(**told | {"judgement": Judgement(row["judgement"]), "alone": bool(row["alone"])})


def _ledger_from(number: int, of: Any) -> Ledger | None:  # noqa: ANN401
    for row in of("ledgers", number):
        return Ledger(
            entries=tuple(
                LedgerEntry(Part(one["part"]), one["name"], one["bytes"], one["source"])
                for one in of("ledger_entries", number)
            ),
            given_bytes=row["given_bytes"],
            mem_total_bytes=row["mem_total_bytes"],
            mem_free_bytes=row["mem_free_bytes"],
            mem_available_bytes=row["mem_available_bytes"],
            method=row["method"],
            notes=tuple(json.loads(row["notes"])),
        )
    return None


def _by_trial(rows: Iterable[Row]) -> dict[int, list[Row]]:
    grouped: dict[int, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row["trial"], []).append(row)
    return grouped


def _relative(path: Path | None, folder: Path) -> str | None:
    if path is None:
        return None
    absolute = path.absolute()
    if absolute.is_relative_to(folder):
        return str(absolute.relative_to(folder))
    # The same place may be spelt another way, through a symbolic link.
    real, real_folder = absolute.resolve(), folder.resolve()
    return str(real.relative_to(real_folder) if real.is_relative_to(real_folder) else absolute)


def _absolute(stored: str | None, folder: Path) -> Path | None:
    return None if stored is None else folder / stored
