"""What a study may optimize: figures of a trial, and which way each is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from optimizer.records import BootResult, BuildResult, Measurement, Trial


@dataclass(frozen=True)
class Objective:
    """A figure to optimize.

    ``figure`` takes a trial's build, boot and measurement and gives the figure in ``unit``, None
    where it was not measured. ``sign`` is +1 where more is better and -1 where less is. ``scale``
    makes of the unit what a kilobyte is worth, so that two objectives can be weighed against each
    other and against the expected savings: an image's kilobyte counts as one of RAM, and so does a
    millisecond of booting. ``tolerance`` is the difference (in ``unit``) that is only noise.
    """

    name: str
    unit: str
    sign: int
    scale: float
    tolerance: float
    figure: Callable[[BuildResult | None, BootResult | None, Measurement | None], float | None]

    def of(self, trial: Trial) -> float | None:
        """The trial's figure, whether it passed or not; None where it was not measured."""
        return self.figure(trial.build, trial.boot, trial.measurement)

    def score(self, figure: float) -> float:
        """The figure as something to maximize, in kilobytes' worth."""
        return self.sign * self.scale * figure

    def text(self, figure: float | None) -> str:
        """The figure for a person to read, with its unit; '' when unknown."""
        if figure is None:
            return ""
        return f"{figure:,.2f} {self.unit}" if self.unit == "s" else f"{figure:,.0f} {self.unit}"


def _mem_total(
    _build: BuildResult | None, _boot: BootResult | None, measured: Measurement | None
) -> float | None:
    return None if measured is None else float(measured.mem_total_kb)


def _mem_available(
    _build: BuildResult | None, _boot: BootResult | None, measured: Measurement | None
) -> float | None:
    if measured is None or measured.mem_available_kb is None:
        return None
    return float(measured.mem_available_kb)


def _image_bytes(
    build: BuildResult | None, _boot: BootResult | None, _measured: Measurement | None
) -> float | None:
    return float(build.image_bytes) if build is not None and build.ok else None


def _boot_seconds(
    _build: BuildResult | None, boot: BootResult | None, measured: Measurement | None
) -> float | None:
    return boot.seconds if boot is not None and measured is not None else None


# MemAvailable moves by some pages from boot to boot, with what the page cache holds; booting takes
# 5% more or less on an idle host.
OBJECTIVES: Mapping[str, Objective] = {
    one.name: one
    for one in (
        Objective("mem_total", "kB", 1, 1.0, 0.0, _mem_total),
        Objective("mem_available", "kB", 1, 1.0, 16.0, _mem_available),
        Objective("image_bytes", "bytes", -1, 1 / 1024, 0.0, _image_bytes),
        Objective("boot_seconds", "s", -1, 1000.0, 0.05, _boot_seconds),
    )
}


def objectives(names: Sequence[str]) -> tuple[Objective, ...]:
    """The objectives of those names; KeyError for an unknown one."""
    return tuple(OBJECTIVES[name] for name in names)


def scores(wanted: Sequence[Objective], trial: Trial) -> tuple[float, ...] | None:
    """A trial's figures as scores, one an objective; None unless all were measured."""
    found = [one.score(figure) for one in wanted if (figure := one.of(trial)) is not None]
    return tuple(found) if len(found) == len(wanted) else None


def pareto_front(wanted: Sequence[Objective], trials: Sequence[Trial]) -> list[Trial]:
    """The trials that no other one beats in one objective without losing in another.

    Args:
        wanted: the objectives.
        trials: those that passed, each with all its figures. Of equals the first is taken.
    """
    scored = [(one, found) for one in trials if (found := scores(wanted, one)) is not None]
    front: list[tuple[Trial, tuple[float, ...]]] = []
    for trial, mine in sorted(scored, key=lambda row: (tuple(-x for x in row[1]), row[0].number)):
        if not any(all(a >= b for a, b in zip(other, mine, strict=True)) for _, other in front):
            front.append((trial, mine))
    return [trial for trial, _ in front]
