"""The frozen records that travel along the way of the data.

Units are in the names: ``_kb`` is 1024 bytes as in /proc/meminfo, ``_bytes``, ``_seconds``.
Kconfig symbols are written without the ``CONFIG_`` prefix everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class Outcome(StrEnum):
    """How a trial ended."""

    PASSED = "passed"
    SMOKE_FAILED = "smoke_failed"
    BOOT_FAILED = "boot_failed"
    BUILD_FAILED = "build_failed"
    CONFIG_REFUSED = "config_refused"
    DUPLICATE = "duplicate"


# Trials of this sampler show what a kept option costs. They are refused by definition.
PRICE_SAMPLER = "price"


class BootState(StrEnum):
    """How far a boot came, and what stopped it."""

    READY = "ready"  # the shell prompt came
    PANIC = "panic"  # the kernel said so
    OOPS = "oops"  # an oops or BUG, and no prompt after it
    HANG = "hang"  # kernel messages, then nothing until the deadline
    SILENT = "silent"  # not one byte on the console
    NO_CONSOLE = "no_console"  # the emulator ended before it printed anything
    NO_SHELL = "no_shell"  # the kernel came up and kept talking, but no prompt came


@dataclass(frozen=True)
class Assignment:
    """What is asked of Kconfig: symbol -> value ('y', 'm', 'n', an integer, a string)."""

    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Refusal:
    """A symbol that did not take the value asked for, and Kconfig's reason."""

    symbol: str
    asked: str
    got: str
    reason: str


@dataclass(frozen=True)
class ResolvedConfig:
    """What Kconfig made of an assignment.

    ``text`` is a whole .config, ``defconfig`` what ``make savedefconfig`` would write,
    ``digest`` the SHA-256 of the settings in ``text`` (its comments do not count).
    """

    digest: str
    text: str
    defconfig: str
    refused: tuple[Refusal, ...] = ()


@dataclass(frozen=True)
class BuildResult:
    """One build of one resolved configuration.

    ``config_text`` is the .config that kbuild used in the end, ``sections`` the sizes of the
    allocated sections of vmlinux in bytes, ``errors`` the telling lines of a failed log.
    """

    ok: bool
    seconds: float
    objects: int
    log: Path
    config_text: str
    image: Path | None = None
    image_bytes: int = 0
    image_sha256: str = ""
    vmlinux_bytes: int = 0
    sections: Mapping[str, int] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    timed_out: bool = False


@dataclass(frozen=True)
class CheckResult:
    """One smoke check on a booted variant; ``detail`` is what was seen, for a person to read."""

    suite: str
    name: str
    passed: bool
    seconds: float
    detail: str = ""


@dataclass(frozen=True)
class BootResult:
    """A boot and the checks made on it. ``detail`` is the console line that tells why it failed.

    ``seconds`` runs from the emulator's start to the first prompt (or to giving up);
    ``kernel_log`` and ``meminfo_text`` are as printed by the guest.
    """

    state: BootState
    seconds: float
    transcript: Path
    smoke_seconds: float = 0.0
    detail: str = ""
    kernel_log: str = ""
    meminfo_text: str = ""
    checks: tuple[CheckResult, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the shell came and every check passed."""
        return self.state is BootState.READY and all(check.passed for check in self.checks)


@dataclass(frozen=True)
class Measurement:
    """The figures of a variant that booted. ``meminfo_kb`` holds every line of /proc/meminfo."""

    mem_total_kb: int
    mem_available_kb: int | None
    meminfo_kb: Mapping[str, int]
    memory_line: str


@dataclass(frozen=True)
class Trial:
    """One variant evaluated, as it is stored.

    ``effective`` maps each candidate of the search space to the value it really had;
    ``objective`` is None unless the trial passed (or repeats one that did).
    """

    number: int
    outcome: Outcome
    sampler: str
    params: Mapping[str, str]
    assignment: Assignment
    effective: Mapping[str, str]
    resolved: ResolvedConfig
    objective: float | None = None
    build: BuildResult | None = None
    boot: BootResult | None = None
    measurement: Measurement | None = None
    duplicate_of: int | None = None
    reason: str = ""
    started_at: str = ""
    seconds: float = 0.0
    log_dir: Path | None = None
    tools: Mapping[str, str] = field(default_factory=dict)

    @property
    def rank(self) -> tuple[float, int, int]:
        """What the best of the passed trials has most of: the objective, then the smaller image,
        then the lower number."""
        image_bytes = self.build.image_bytes if self.build else 0
        return (self.objective or 0.0, -image_bytes, -self.number)


@dataclass(frozen=True)
class SymbolFacts:
    """What Kconfig says of a symbol, and what it is in one configuration.

    ``menu`` are the titles from the top menu down to it, ``depends`` its condition as written.
    ``settable`` holds the values that Kconfig would accept there, ``holders`` the symbols that
    select it there, ``choice`` the members of the choice it belongs to.
    """

    name: str
    type: str
    prompt: str = ""
    menu: tuple[str, ...] = ()
    help: str = ""
    depends: str = ""
    value: str = "n"
    visible: bool = False
    settable: tuple[str, ...] = ()
    holders: tuple[str, ...] = ()
    choice: tuple[str, ...] = ()


class AttributionKind(StrEnum):
    """Where a saving was measured."""

    WINNER = "winner"  # the change taken back alone, everything else as in the winner
    BASELINE = "baseline"  # the change made alone, everything else as in the baseline
    KEPT = "kept"  # what the study keeps, dropped from the winner


@dataclass(frozen=True)
class Attribution:
    """Two trials that differ in one change: what it saves is the difference of their figures.

    ``with_trial`` has ``option`` at ``value``, ``without_trial`` does not. ``tied`` are the other
    changes (option, value) that Kconfig makes along with it.
    """

    kind: AttributionKind
    option: str
    value: str
    with_trial: int
    without_trial: int
    tied: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Step:
    """One step of the way from the baseline to a winner: its trial has all changes so far."""

    position: int
    title: str
    changes: tuple[tuple[str, str], ...]
    trial: int


class VerdictReason(StrEnum):
    """What an attempt to drop an option from the winner came to."""

    NEEDED = "needed"  # a check fails without it
    NO_SAVING = "no_saving"  # everything works without it, and no RAM is gained
    FORCED = "forced"  # Kconfig holds it
    KEPT = "kept"  # the study keeps it


@dataclass(frozen=True)
class Verdict:
    """What was found out about one option still on in the winner.

    ``value`` is what it was to become, ``trial`` the trial that told (None without one), ``check``
    the one that failed, ``saving_kb`` what would be gained (None where nothing was measured).
    """

    option: str
    value: str
    reason: VerdictReason
    check: str = ""
    trial: int | None = None
    saving_kb: float | None = None
