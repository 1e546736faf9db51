"""Whether a configuration holds what its trial promised: a clean build, and three boots."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from optimizer.kernel.kconfig import config_digest
from optimizer.records import BootResult, BuildResult, Measurement, Outcome, Trial
from optimizer.search.trial import PhaseReport, Slot, fresh_folder, judge

BOOTS = 3


@dataclass(frozen=True)
class VerifiedBoot:
    """One of the boots: what it came to."""

    outcome: Outcome
    reason: str
    boot: BootResult
    measurement: Measurement | None


@dataclass(frozen=True)
class Verification:
    """What came of it. ``problems`` is empty when everything repeats."""

    digest: str
    build: BuildResult
    boots: tuple[VerifiedBoot, ...]
    problems: tuple[str, ...]


def verify(
    slot: Slot,
    config: str,
    logs: Path,
    expected: Trial | None,
    on_phase: PhaseReport,
    cancel: threading.Event,
    parameters: Mapping[str, str] | None = None,
) -> Verification:
    """Build a configuration in the slot's (fresh) tree and boot it :data:`BOOTS` times.

    Args:
        slot: its tree must be empty for the build to be a clean one.
        config: a whole .config.
        logs: folder for the logs.
        expected: the trial whose figures must repeat, if there is one.
        on_phase: told (phase, detail).
        cancel: set to give up.
        parameters: more of the kernel's command line, name -> value.

    Raises:
        Cancelled, MachineFault, UserError: as :meth:`optimizer.search.trial.Slot.evaluate`.
    """
    build = slot.build(config, fresh_folder(logs) / "build.log", on_phase, cancel)
    boots: list[VerifiedBoot] = []
    if build.ok and build.image is not None:
        for number in range(1, BOOTS + 1):
            folder = fresh_folder(logs / f"boot-{number}")
            boot = slot.boot(build.image, folder, on_phase, cancel, parameters)
            boots.append(VerifiedBoot(*_judged(boot)))
    digest = config_digest(build.config_text)
    return Verification(
        digest, build, tuple(boots), tuple(_problems(digest, build, boots, expected))
    )


def _judged(boot: BootResult) -> tuple[Outcome, str, BootResult, Measurement | None]:
    outcome, reason, measurement = judge(boot)
    return outcome, reason, boot, measurement


def _problems(
    digest: str, build: BuildResult, boots: list[VerifiedBoot], expected: Trial | None
) -> list[str]:
    if not build.ok:
        return [f"it does not build: {build.errors[0] if build.errors else build.log}"]
    found = [
        f"boot {number}: {one.outcome.value}: {one.reason}"
        for number, one in enumerate(boots, 1)
        if one.outcome is not Outcome.PASSED
    ]
    totals = {one.measurement.mem_total_kb for one in boots if one.measurement is not None}
    if len(totals) > 1:
        found.append(
            f"MemTotal differs between the boots: {', '.join(map(str, sorted(totals)))} kB"
        )
    if expected is None:
        return found
    if digest != expected.resolved.digest:
        found.append(
            f"the .config's digest is {digest[:16]}, trial {expected.number} had "
            f"{expected.resolved.digest[:16]}"
        )
    if expected.measurement is not None and totals - {expected.measurement.mem_total_kb}:
        found.append(
            f"MemTotal is {', '.join(map(str, sorted(totals)))} kB, trial {expected.number} had "
            f"{expected.measurement.mem_total_kb} kB"
        )
    before = expected.build
    # A trial stored before checksums were kept has only its image's size to compare.
    if before is not None and (
        before.image_sha256 not in ("", build.image_sha256)
        or (before.ok and before.image_bytes != build.image_bytes)
    ):
        found.append(
            f"the image's sha256 is {build.image_sha256[:16]} ({build.image_bytes} bytes), trial "
            f"{expected.number}'s was {before.image_sha256[:16]} ({before.image_bytes} bytes)"
        )
    return found
