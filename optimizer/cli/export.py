"""``memtotal export`` and ``import-buildroot``: to the tools that people build with, and from
them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from optimizer.cli import workshop
from optimizer.cli.findings import Findings, gather
from optimizer.cli.measure import step_rows
from optimizer.cli.results import open_results, write_file
from optimizer.cli.review import note, saving_text
from optimizer.cli.screen import kb, results_option
from optimizer.errors import MemtotalError, UserError
from optimizer.kernel.kbuild import device_tree_target
from optimizer.records import Trial
from optimizer.review import buildroot
from optimizer.review import export as exports
from optimizer.review.prices import Role
from optimizer.settings import environment, load_study
from optimizer.store import Database

FILES = ("defconfig", "config", "fragment", "annotated", "cmdline")
FOLDERS = ("steps", "buildroot")
# What an imported study says of options by itself.
LEFT_ALONE = ("DEBUG_LL", "BUILD_SALT", "LOCALVERSION", "DEFAULT_HOSTNAME")
SAVING_BY_BEING_ON = ("CC_OPTIMIZE_FOR_SIZE", "BASE_SMALL", "SLOB", "SLUB_TINY")


@click.command()
@click.argument("study")
@click.option("--trial", type=click.IntRange(0), default=None, help="This one, not the winner.")
@click.option(
    "--format", "kind", type=click.Choice((*FILES, *FOLDERS)), default="defconfig",
    show_default=True,
    help="defconfig: as savedefconfig writes it; config: the whole .config; fragment: every "
    "symbol that differs from the baseline, for merge_config.sh; annotated: the defconfig, each "
    "line with what it saved or why it stays; cmdline: the kernel's; steps: a folder with the way "
    "from the baseline in measured steps; buildroot: a BR2_EXTERNAL folder.",
)  # fmt: skip
@click.option("--patches", is_flag=True, help="Steps as patches on the defconfig, for git am.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=None,
    help="File to write (else standard output), or for steps and buildroot the folder.",
)  # fmt: skip
@results_option
def export(
    study: str,
    trial: int | None,
    kind: str,
    patches: bool,
    output: Path | None,
    results: str | None,
) -> None:
    """The winner's configuration, or another trial's, for your build."""
    if patches and kind != "steps":
        raise click.UsageError("--patches goes with --format steps.")
    with open_results(study, results) as database:
        found = gather(database, trial)
        if kind in FOLDERS:
            if output is None:
                raise click.UsageError(f"--format {kind} writes a folder: name it with -o.")
            files = (
                _steps(found, database, study, patches)
                if kind == "steps"
                else _buildroot(found, study)
            )
            _write_folder(output, files)
            click.echo(f"Wrote {output}: {len(files)} files, trial {found.winner.number}.")
            return
    text = _text(found, kind, study)
    if output is None:
        click.echo(text, nl=False)
        return
    write_file(output, text)
    one = found.winner
    click.echo(f"Wrote {output}: trial {one.number}, {kb(one.objective) or one.outcome.value}.")


def boot_parameters(trial: Trial) -> Mapping[str, str]:
    """What a trial adds to the board's kernel command line: name -> value."""
    return trial.assignment.parameters


def command_line(found: Findings, study: str, trial: Trial) -> str:
    """The kernel command line that a trial was booted with."""
    if trial.boot and (told := exports.command_line_of(trial.boot.kernel_log)):
        # What the kernel itself printed has the trial's own parameters already.
        return exports.command_line(told, boot_parameters(trial))
    if found.baseline.boot and (told := exports.command_line_of(found.baseline.boot.kernel_log)):
        return exports.command_line(told, boot_parameters(trial))
    return exports.command_line(load_study(study).board.command_line, boot_parameters(trial))


def _header(found: Findings, trial: Trial) -> list[str]:
    figures = {"emulator": found.study.emulator, "objective": found.objective}
    if trial.objective is not None:
        figures["objective"] = f"{found.objective} {kb(trial.objective)}"
    if added := boot_parameters(trial):
        # No .config can carry them, and the figure is not reached without them.
        figures["added to the kernel's command line"] = exports.command_line("", added)
    return exports.provenance(
        found.study.name,
        trial.number,
        trial.tools.get("kernel", found.study.tree_identity),
        trial.tools.get("compiler", found.study.compiler),
        figures,
    )


def _text(found: Findings, kind: str, study: str) -> str:
    winner, baseline = found.winner, found.baseline
    header = _header(found, winner)
    if kind == "fragment":
        return exports.fragment(baseline.resolved.text, winner.resolved.text, header)
    if kind == "config":
        return exports.with_header(winner.resolved.text, header)
    if kind == "cmdline":
        return exports.with_header(f"{command_line(found, study, winner)}\n", header)
    if kind == "annotated":
        notes, others = _notes(found)
        return exports.annotated(winner.resolved.defconfig, notes, others, header)
    return exports.with_header(winner.resolved.defconfig, header)


def _notes(found: Findings) -> tuple[dict[str, str], dict[str, str]]:
    """Symbol -> what to say of it in the winner's defconfig, and of the changes not written
    there."""
    notes = {one.symbol: f"{one.reason.value}: {one.says}" for one in found.certificate()}
    written = exports.settings_of(found.winner.resolved.defconfig)
    others = {}
    for price in found.prices:
        if price.role is not Role.MADE:
            continue
        more = note(price)
        said = f"saves {saving_text(price)} ({price.basis.value})" + (f"; {more}" if more else "")
        members = price.option.split("|")
        shown = [name for name in (price.value, *members) if name in written]
        if shown:
            notes[shown[0]] = said
        else:
            others[f"{price.option}={price.value}"] = said
    return notes, others


def _steps(found: Findings, database: Database, study: str, patches: bool) -> dict[str, str]:
    """The way from the baseline to the winner: file name -> text."""
    if not found.steps:
        raise UserError(
            f"The steps to trial {found.winner.number} were not built yet.",
            f"Run: memtotal steps {found.study.name}",
        )
    trials = {one.number: one for one in found.trials}
    rows = step_rows(found.steps, {number: one.objective for number, one in trials.items()})
    gained = sum(float(str(row["saved_kb"])) for row in rows)
    table = [
        f"{'step':>4}  {'saves kB':>9}  {found.objective:>13}  what",
        *(
            f"{row['position']:>4}  {row['saved_kb']:>+9,.0f}  {row['objective_kb']:>13,.0f}  "
            f"{row['title']}"
            for row in rows
        ),
        f"{'sum':>4}  {gained:>+9,.0f}",
    ]
    files: dict[str, str] = {}
    before = found.baseline
    texts: list[tuple[str, str]] = []
    for step, row in zip(found.steps, rows, strict=True):
        here = database.trial(step.trial)
        name = f"{step.position:04d}-{exports.file_name(step.title)}"
        said = [
            f"{step.title}: {row['saved_kb']:+,.0f} kB, to {kb(here.objective)}",
            "Built, booted and checked with all steps before it.",
            *_header(found, here),
        ]
        files[f"{name}.fragment"] = exports.fragment(before.resolved.text, here.resolved.text, said)
        texts.append((here.resolved.defconfig, "\n".join(said)))
        before = here
    files["README"] = "\n".join(
        [
            *_header(found, found.winner),
            "",
            "Apply the fragments in their order, each on the .config that the one before it gave:",
            "",
            "  scripts/kconfig/merge_config.sh -m .config 0001-*.fragment && make olddefconfig",
            "",
            *table,
            "",
        ]
    )
    if patches:
        files |= _patches(found, study, texts, rows)
    return files


def _patches(
    found: Findings,
    study: str,
    texts: list[tuple[str, str]],
    rows: list[dict[str, object]],
) -> dict[str, str]:
    path, before = _original(found, study)
    series: list[tuple[str, str, str, str]] = []
    first = found.baseline.resolved.defconfig
    if before != first:
        series.append(
            (
                "Write the defconfig as savedefconfig does",
                "No change of the resulting .config.",
                before,
                first,
            )
        )
        before = first
    for (text, said), row in zip(texts, rows, strict=True):
        title = str(row["title"]).split("; ")[0]
        if text == before:
            continue  # only the kernel's command line changes: git am takes no empty patch
        series.append((f"{title} ({row['saved_kb']:+,.0f} kB)", said, before, text))
        before = text
    return {
        f"{number:04d}-{exports.file_name(subject)}.patch": exports.patch(
            path, old, new, subject, body, number, len(series)
        )
        for number, (subject, body, old, new) in enumerate(series, 1)
    }


def _original(found: Findings, study: str) -> tuple[str, str]:
    """Path of the study's defconfig in a kernel tree, and its text as people wrote it.

    The baseline's, as savedefconfig writes it, where the study's own file is not at hand.
    """
    kernel = found.settings.get("kernel", {})
    name = Path(str(kernel.get("defconfig", "defconfig"))).name
    path = f"arch/{kernel.get('arch', 'arm')}/configs/{name}"
    try:
        text = workshop.defconfig_path(load_study(study)).read_text(encoding="utf-8")
    except (MemtotalError, OSError):
        text = found.baseline.resolved.defconfig
    return path, text


def _buildroot(found: Findings, study: str) -> dict[str, str]:
    kernel = found.settings.get("kernel", {})
    header = _header(found, found.winner)
    return buildroot.external_tree(
        found.study.name,
        arch=str(kernel.get("arch", "arm")),
        kernel_version=found.study.tree_identity.rsplit("-", 1)[0],
        defconfig=_text(found, "defconfig", study),
        fragment=_text(found, "fragment", study),
        command_line=command_line(found, study, found.winner),
        device_tree=_device_tree(found, study),
        config=exports.settings_of(found.winner.resolved.text),
        header=tuple(header),
    )


def _device_tree(found: Findings, study: str) -> str:
    """The device tree as the kernel's make names it; as the study does where no tree is at hand."""
    try:
        return device_tree_target(load_study(study).kernel)
    except MemtotalError:
        return str(found.settings.get("kernel", {}).get("device_tree", ""))


def _write_folder(folder: Path, files: Mapping[str, str]) -> None:
    """Write files into a new folder, or over those of the same names in one made earlier."""
    for name, text in files.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{path.parent} cannot be made: {error.strerror}.") from error
        write_file(path, text)


# --- from Buildroot


@click.command("import-buildroot")
@click.argument("output", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "-o", "--study", "study", type=click.Path(dir_okay=False, path_type=Path), required=True,
    help="The study file to write; the kernel, its .config and the board go beside it.",
)  # fmt: skip
@click.option("--memory", type=click.IntRange(1), default=32, show_default=True, help="MB of RAM.")
def import_buildroot(output: Path, study: Path, memory: int) -> None:
    """Make a study of the kernel in Buildroot's OUTPUT folder.

    The kernel source is copied and cleaned; what Buildroot built stays as it is.
    """
    folder = study.absolute().parent
    if study.exists():
        raise UserError(f"{study} exists already.", "Remove it, or name another with -o.")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*\.toml", study.name):
        raise UserError(f"{study}: a study's file name ends in .toml, such as mine.toml.")
    found = buildroot.read_output(output.absolute(), environment())
    if found.initramfs is None:
        raise UserError(
            f"{found.binaries} has no rootfs.cpio or rootfs.cpio.gz: a study boots its root file "
            "system as an initramfs.",
            "Enable BR2_TARGET_ROOTFS_CPIO (with gzip) in Buildroot, run make, and import again.",
        )
    config = found.config.read_text(encoding="utf-8", errors="replace")
    name = study.stem
    tree = folder / f"{name}-linux"
    click.echo(f"copying {found.linux} to {tree}")
    buildroot.copy_kernel(found, tree, environment())
    board, text = _board(found, exports.settings_of(config), memory)
    if text:
        _write_folder(folder, {f"boards/{name}.toml": text})
    write_file(folder / f"{name}_defconfig", config)
    write_file(study, _study_text(found, name, board or name, exports.settings_of(config)))
    load_study(str(study))
    click.echo(
        f"Wrote {study}: Linux {found.linux_version}, {found.arch}, "
        f"{len(found.forced)} options that Buildroot forces are kept."
    )
    click.echo(f"Look through it, then: memtotal doctor {study} && memtotal run {study}")


def _board(found: buildroot.Output, config: Mapping[str, str], memory: int) -> tuple[str, str]:
    """(name of a shipped board that fits, '' for none; else the text of one made from what is
    known)."""
    if config.get("ARCH_VERSATILE") == "y" and memory == 32:
        return "versatilepb", ""
    script = found.binaries / "start-qemu.sh"
    told = script.read_text(encoding="utf-8", errors="replace") if script.is_file() else ""
    emulator = re.search(r"(qemu-system-\w+)", told)
    machine = re.search(r"-M\s+(\S+)", told)
    console = re.search(r"console=\S+", told)
    return "", (
        "# Made from Buildroot's output; check each line. The prompt must come without a login.\n"
        f'emulator = "{emulator[1] if emulator else f"qemu-system-{found.arch}"}"\n'
        f'machine = "{machine[1] if machine else "virt"}"\n'
        f"memory_mb = {memory}\n"
        f'command_line = "{console[0] if console else "console=ttyAMA0"} mem={memory}M '
        'rdinit=/init panic=-1 printk.time=1"\n'
        'prompt = "^# $"\n'
        "boot_timeout_seconds = 60\n"
    )


def _study_text(found: buildroot.Output, name: str, board: str, config: Mapping[str, str]) -> str:
    def quoted(value: str) -> str:
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'

    def named(symbols: Sequence[str]) -> str:
        return ", ".join(map(quoted, symbols))

    # What Buildroot sets in every kernel must stay as it is there, on or off.
    kept = sorted(
        symbol for symbol, value in found.forced.items() if config.get(symbol, "n") == value
    )
    base = ["PRINTK", "PROC_FS", "TTY", "BLK_DEV_INITRD", "BINFMT_ELF"]
    kept += [symbol for symbol in base if symbol not in kept and config.get(symbol) == "y"]
    keep = "".join(f"    {quoted(symbol)},\n" for symbol in kept)
    # The tree may lack the others, and a study may not name what is not there.
    leave = [symbol for symbol in LEFT_ALONE if symbol in config and symbol not in kept]
    turn_on = [symbol for symbol in SAVING_BY_BEING_ON if symbol not in kept]
    variables = "".join(f"{key} = {quoted(value)}\n" for key, value in found.flags.items())
    return (
        f"# Made by memtotal import-buildroot from Buildroot {found.version}.\n"
        f"initramfs = {quoted(str(found.initramfs))}\n"
        f'board = "{board}"\n'
        'smoke = ["console"]                # add what your product must do\n'
        'objective = "mem_total"\n\n'
        "[kernel]\n"
        f'tree = "{name}-linux"\n'
        f'arch = "{found.arch}"\n'
        f"cross_compile = {quoted(found.cross_compile)}\n"
        f'defconfig = "{name}_defconfig"\n'
        f'target = "{found.target}"\n'
        f'image = "{found.image}"\n'
        f'device_tree = "{found.device_tree}"\n'
        + (f"\n[kernel.make_variables]\n{variables}" if variables else "")
        + "\n[options]\n"
        'gate = ["EXPERT", "EMBEDDED"]\n'
        "# What Buildroot sets in every kernel that it builds, and what a console needs.\n"
        f"keep = [\n{keep}]\n"
        f"leave = [{named(leave)}]\n"
        f"turn_on = [{named(turn_on)}]\n\n"
        "[options.ranges]\nLOG_BUF_SHIFT = [12, 14]\n"
    )
