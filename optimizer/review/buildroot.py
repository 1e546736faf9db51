"""To Buildroot and from it: writes a BR2_EXTERNAL tree, reads an output tree.

The reading asks Buildroot itself: ``show-vars`` (JSON), or ``printvars`` where that is too old to
have it. Formats and variables: the Buildroot manual, chapters "Keeping customizations outside of
Buildroot" and "Tips and tricks"; ``package/pkg-kconfig.mk`` and ``linux/linux.mk`` for what it
forces in a kernel's configuration.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from optimizer.errors import MachineFault, UserError
from optimizer.process import bound_to_parent

NAME = "MEMTOTAL"
VARIABLES = (
    *(
        "LINUX_DIR",
        "LINUX_VERSION",
        "KERNEL_ARCH",
        "BINARIES_DIR",
        "HOST_DIR",
        "LINUX_KCONFIG_FILE",
    ),
    *("LINUX_MAKE_FLAGS", "LINUX_KCONFIG_FIXUP_CMDS", "LINUX_DTS_NAME", "LINUX_IMAGE_PATH"),
    *("LINUX_TARGET_NAME", "TARGET_CROSS", "BR2_VERSION"),
)
# What kbuild left in a tree that was built in place: not worth copying, mrproper would remove it.
_BUILT = shutil.ignore_patterns(
    "*.o", "*.o.cmd", "*.a", ".git", "vmlinux*", "*.ko", "*.dtb", ".stamp_*"
)
# Kernel symbol of the processor -> what Buildroot calls it.
_PROCESSORS = {
    "CPU_ARM926T": "BR2_arm926t",
    "CPU_ARM920T": "BR2_arm920t",
    "CPU_V6": "BR2_arm1136j_s",
}
_ARCHITECTURES = {
    "arm": "BR2_arm",
    "arm64": "BR2_aarch64",
    "mips": "BR2_mipsel",
    "powerpc": "BR2_powerpc",
    "riscv": "BR2_riscv",
    "x86_64": "BR2_x86_64",
}


@dataclass(frozen=True)
class Output:
    """What a Buildroot output tree says of its kernel.

    ``forced`` are the settings that Buildroot writes into every kernel configuration by itself:
    symbol -> value. ``flags`` are make variables such as KCFLAGS.
    """

    folder: Path
    version: str
    linux: Path
    linux_version: str
    arch: str
    cross_compile: str
    flags: Mapping[str, str]
    config: Path
    device_tree: str
    image: str
    target: str
    binaries: Path
    initramfs: Path | None
    forced: Mapping[str, str]


def read_output(folder: Path, env: Mapping[str, str]) -> Output:
    """Ask a Buildroot output tree for its kernel.

    Args:
        folder: where Buildroot was built (``output``, or what ``O=`` named).
        env: the environment for make.

    Raises:
        UserError: not a Buildroot output tree, or no kernel was built in it.
    """
    if not (folder / "Makefile").is_file() and not (folder / "build").is_dir():
        raise UserError(
            f"{folder} is not a Buildroot output folder: it has no Makefile and no build/.",
            "Give the folder that Buildroot builds in: output/, or the one after O=.",
        )
    found = _variables(folder, env)
    linux = Path(found.get("LINUX_DIR", ""))
    if not found.get("LINUX_DIR") or not (linux / "Makefile").is_file():
        raise UserError(
            f"Buildroot in {folder} has built no kernel (LINUX_DIR is "
            f"{found.get('LINUX_DIR') or 'empty'}).",
            "Enable BR2_LINUX_KERNEL there and run make, so that its kernel source is unpacked.",
        )
    config = linux / ".config"
    if not config.is_file():
        raise UserError(
            f"{linux} has no .config: Buildroot has not configured its kernel yet.",
            f"Run: make -C {folder} linux-configure",
        )
    flags = _assignments(found.get("LINUX_MAKE_FLAGS", ""))
    arch = found.get("KERNEL_ARCH") or flags.get("ARCH", "")
    cross = flags.get("CROSS_COMPILE") or found.get("TARGET_CROSS", "")
    if not arch or not cross:
        raise UserError(
            f"Buildroot in {folder} does not tell its kernel's architecture and cross compiler.",
            "Expected KERNEL_ARCH, and CROSS_COMPILE in LINUX_MAKE_FLAGS.",
        )
    binaries = Path(found.get("BINARIES_DIR", str(folder / "images")))
    image = found.get("LINUX_IMAGE_PATH", "")
    relative = image.removeprefix(f"{linux}/") if image.startswith(f"{linux}/") else ""
    return Output(
        folder=folder,
        version=found.get("BR2_VERSION", "unknown"),
        linux=linux,
        linux_version=found.get("LINUX_VERSION", ""),
        arch=arch,
        cross_compile=cross,
        flags={
            name: flags[name] for name in ("KCFLAGS", "KAFLAGS", "KCPPFLAGS") if flags.get(name)
        },
        config=config,
        device_tree=_device_tree(found.get("LINUX_DTS_NAME", ""), binaries),
        image=relative or f"arch/{arch}/boot/{'zImage' if arch == 'arm' else 'Image'}",
        target=found.get("LINUX_TARGET_NAME") or ("zImage" if arch == "arm" else "Image"),
        binaries=binaries,
        initramfs=next(
            (
                path
                for name in ("rootfs.cpio.gz", "rootfs.cpio")
                if (path := binaries / name).is_file()
            ),
            None,
        ),
        forced=forced_settings(found.get("LINUX_KCONFIG_FIXUP_CMDS", "")),
    )


def forced_settings(commands: str) -> dict[str, str]:
    """The settings that a package's fix-up commands write into a .config: symbol -> value.

    They are shell commands such as ``sed "/CONFIG_AEABI/d" -i .config; echo 'CONFIG_AEABI=y'
    >> .config``, or still the macros that expand to them (KCONFIG_ENABLE_OPT and so on).
    """
    found: dict[str, str] = {}
    pattern = (
        r"KCONFIG_(?P<macro>ENABLE|DISABLE)_OPT\s*,\s*CONFIG_(?P<named>\w+)"
        r"|KCONFIG_SET_OPT\s*,\s*CONFIG_(?P<given>\w+)\s*,\s*(?P<to>[^,)\s]+)"
        r"|# CONFIG_(?P<off>\w+) is not set"
        r"|CONFIG_(?P<set>\w+)=(?P<value>\"[^\"]*\"|[^\s'\";&]+)"
    )
    for match in re.finditer(pattern, commands):
        if match["named"]:
            found[match["named"]] = "y" if match["macro"] == "ENABLE" else "n"
        elif match["given"]:
            found[match["given"]] = match["to"]
        elif match["off"]:
            found[match["off"]] = "n"
        else:
            found[match["set"]] = match["value"]
    return found


def copy_kernel(output: Output, target: Path, env: Mapping[str, str]) -> None:
    """Copy the kernel that Buildroot built in place, and clean the copy so that it can be built out
    of tree. Buildroot's own stays as it is.

    Raises:
        UserError: the target exists already.
        MachineFault: it cannot be copied or cleaned.
    """
    if target.exists():
        raise UserError(f"{target} exists already.", "Remove it, or give the study another name.")
    draft = target.with_name(f".{target.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        shutil.copytree(output.linux, draft, symlinks=True, ignore=_BUILT)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise MachineFault(f"{output.linux} cannot be copied to {target}: {error}.") from error
    done = subprocess.run(
        bound_to_parent(["make", "-C", str(draft), f"ARCH={output.arch}", "mrproper"]),
        env=dict(env),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        shutil.rmtree(draft, ignore_errors=True)
        raise MachineFault(f"The copy of {output.linux} cannot be cleaned: {done.stderr[-300:]}.")
    draft.replace(target)


def external_tree(
    study: str,
    *,
    arch: str,
    kernel_version: str,
    defconfig: str,
    fragment: str,
    command_line: str,
    device_tree: str,
    config: Mapping[str, str],
    header: tuple[str, ...],
) -> dict[str, str]:
    """A BR2_EXTERNAL tree that builds the winner's kernel: path -> text.

    Args:
        study: its name; the configuration's too.
        arch: the kernel's name of the architecture.
        kernel_version: such as 6.1.192.
        defconfig: the winner's.
        fragment: what makes it of the study's own defconfig.
        command_line: the kernel's.
        device_tree: its file as the study names it, '' for none.
        config: the winner's settings, for the processor.
        header: lines that say where this is from.
    """
    name = re.sub(r"[^a-z0-9_]", "_", study.lower())
    board = f"board/memtotal/{name}"
    said = "".join(f"# {line}\n" for line in header)
    path = f"$(BR2_EXTERNAL_{NAME}_PATH)/{board}"
    settings = [f"{_ARCHITECTURES[arch]}=y"] if arch in _ARCHITECTURES else []
    settings += [f"{other}=y" for symbol, other in _PROCESSORS.items() if config.get(symbol) == "y"]
    settings += [
        "BR2_LINUX_KERNEL=y",
        "BR2_LINUX_KERNEL_CUSTOM_VERSION=y",
        f'BR2_LINUX_KERNEL_CUSTOM_VERSION_VALUE="{kernel_version}"',
        "BR2_LINUX_KERNEL_USE_CUSTOM_CONFIG=y",
        f'BR2_LINUX_KERNEL_CUSTOM_CONFIG_FILE="{path}/linux.defconfig"',
    ]
    if arch == "arm":
        settings.append("BR2_LINUX_KERNEL_ZIMAGE=y")
    if device_tree:
        stem = device_tree.removesuffix(".dtb")
        settings += [
            "BR2_LINUX_KERNEL_DTS_SUPPORT=y",
            f'BR2_LINUX_KERNEL_INTREE_DTS_NAME="{stem}"',
        ]
    settings += ["BR2_TARGET_ROOTFS_CPIO=y", "BR2_TARGET_ROOTFS_CPIO_GZIP=y"]
    return {
        "external.desc": f"name: {NAME}\ndesc: Kernel configurations found by memtotal\n",
        "external.mk": said,
        "Config.in": said,
        f"configs/{name}_defconfig": said + "".join(f"{line}\n" for line in settings),
        f"{board}/linux.defconfig": defconfig,
        f"{board}/linux.fragment": fragment,
        f"{board}/cmdline": f"{command_line}\n",
        f"{board}/readme.txt": (
            "".join(f"{line}\n" for line in header)
            + f"\nBuild with:\n\n  make BR2_EXTERNAL=<this folder> {name}_defconfig\n  make\n\n"
            "To add the kernel to a configuration of your own, set there\n\n"
            + "".join(f"  {line}\n" for line in settings if "CUSTOM_CONFIG" in line)
            + "\nBuildroot forces some kernel options of its own (device nodes, initramfs); what\n"
            "it adds costs RAM that the study did not measure. A study made by\n"
            "`memtotal import-buildroot` keeps those from the start.\n"
            f"\nThe kernel command line of the study is in {board}/cmdline.\n"
        ),
    }


def _variables(folder: Path, env: Mapping[str, str]) -> dict[str, str]:
    """Buildroot's variables by name. ``show-vars`` came in 2020.05; older ones have
    ``printvars``."""
    asked = f"VARS={' '.join(VARIABLES)}"
    shown = _make(folder, ["show-vars", asked], env)
    if shown.returncode == 0:
        try:
            document = json.loads(shown.stdout[shown.stdout.index("{") :])
            found = {name: _expanded(value) for name, value in document.items()}
            if found.get("LINUX_MAKE_FLAGS") or "LINUX_DIR" not in found:
                return found
        except (ValueError, AttributeError):
            pass
    printed = _make(folder, ["printvars", asked], env)
    if printed.returncode != 0:
        raise UserError(
            f"Buildroot in {folder} does not tell its variables: "
            f"{(printed.stderr or shown.stderr).strip()[-300:]}",
            f"This must work: make -s -C {folder} printvars VARS=LINUX_DIR",
        )
    found = {}
    name = ""
    for line in printed.stdout.splitlines():
        key, equals, value = line.partition("=")
        if equals and key in VARIABLES:
            name, found[key] = key, value
        elif name:
            # A variable with commands in it goes on over several lines.
            found[name] += f"\n{line}"
    return found


def _expanded(value: object) -> str:
    """A variable in show-vars' document: {"expanded": ..., "raw": ...}."""
    if isinstance(value, Mapping):
        return str(value.get("expanded", value.get("raw", "")))
    return str(value)


def _make(
    folder: Path, arguments: list[str], env: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    # output/ inside Buildroot's own source has no Makefile: the one above it knows it.
    where = (
        ["-C", str(folder)]
        if (folder / "Makefile").is_file()
        else ["-C", str(folder.parent), f"O={folder}"]
    )
    return subprocess.run(
        bound_to_parent(["make", "-s", "--no-print-directory", *where, *arguments]),
        env=dict(env),
        capture_output=True,
        text=True,
        check=False,
    )


def _assignments(flags: str) -> dict[str, str]:
    """``NAME=value`` words of a make command line, as a shell would split them."""
    try:
        words = shlex.split(flags)
    except ValueError:
        words = flags.split()
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if equals and re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
            found[name] = value
    return found


def _device_tree(names: str, binaries: Path) -> str:
    """The device tree's file name as kbuild makes it; '' when Buildroot builds none."""
    if names.split():
        return f"{names.split()[0]}.dtb"
    built = sorted(path.name for path in binaries.glob("*.dtb"))
    return built[0] if len(built) == 1 else ""
