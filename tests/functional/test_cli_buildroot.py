"""From Buildroot and to it. Its output folder is a fake: a Makefile that answers as its does.

The answers' form: ``show-vars`` prints one JSON object, name -> {"expanded", "raw"}; ``printvars``
prints NAME=value lines, in which a value of several commands goes on over several lines.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path

import pytest
from fakes.world import World

from optimizer.errors import UserError
from optimizer.review.buildroot import forced_settings, read_output
from optimizer.settings import load_study
from optimizer.store import Database

# As KCONFIG_MUNGE_DOT_CONFIG expands: the old line out, the new one appended.
FIXUP = "".join(
    f"/usr/bin/sed -i -e \"/\\\\<CONFIG_{name}\\\\>/d\" .config && echo '{line}' >> .config\n"
    for name, line in (
        ("AEABI", "CONFIG_AEABI=y"),
        ("TTY", "CONFIG_TTY=y"),
        ("SWAP", "# CONFIG_SWAP is not set"),
    )
)


class Output:
    """A Buildroot output folder with a kernel that was built in place."""

    def __init__(self, world: World, folder: Path, *, json_vars: bool = True) -> None:
        self.folder = folder
        self.linux = folder / "build/linux-5.10.7"
        shutil.copytree(world.tree, self.linux)
        config = (world.tree / "arch/arm/configs/test_defconfig").read_text()
        (self.linux / ".config").write_text(
            config + "CONFIG_TTY=y\n# CONFIG_SWAP is not set\nCONFIG_PRINTK=y\n"
        )
        (self.linux / "include/config").mkdir(parents=True)
        (self.linux / "drivers/leds.o").write_bytes(b"\x7fELF")
        images = folder / "images"
        images.mkdir()
        (images / "rootfs.cpio.gz").write_bytes(gzip.compress(b"070701 no files", mtime=0))
        self.variables = {
            "LINUX_DIR": str(self.linux),
            "LINUX_VERSION": "5.10.7",
            "KERNEL_ARCH": "arm",
            "BINARIES_DIR": str(images),
            "HOST_DIR": str(folder / "host"),
            "LINUX_MAKE_FLAGS": 'HOSTCC="/usr/bin/gcc -O2" ARCH=arm CROSS_COMPILE="fake-" '
            'KCFLAGS="-fno-ipa-sra -pipe" INSTALL_MOD_PATH=/target',
            "LINUX_DTS_NAME": "test",
            "LINUX_IMAGE_PATH": f"{self.linux}/arch/arm/boot/zImage",
            "LINUX_TARGET_NAME": "zImage",
            "LINUX_KCONFIG_FIXUP_CMDS": FIXUP,
            "BR2_VERSION": "2026.08",
        }
        self.json_vars = json_vars
        self.write()

    def write(self) -> None:
        """The Makefile that answers."""
        shown = {name: {"expanded": text, "raw": text} for name, text in self.variables.items()}
        (self.folder / "vars.json").write_text(json.dumps(shown))
        (self.folder / "vars.txt").write_text(
            "".join(f"{name}={text}\n" for name, text in sorted(self.variables.items()))
        )
        rules = "printvars:\n\t@cat $(CURDIR)/vars.txt\n"
        if self.json_vars:
            rules += "show-vars:\n\t@cat $(CURDIR)/vars.json\n"
        (self.folder / "Makefile").write_text(rules)


@pytest.fixture
def output(world: World) -> Output:
    return Output(world, world.folder / "output")


def test_a_study_is_made_and_runs(world: World, output: Output) -> None:
    # The board of the fake world, since no QEMU machine is known for its kernel.
    said = world.memtotal("import-buildroot", output.folder, "-o", "mine.toml").out
    assert "Linux 5.10.7, arm, 3 options that Buildroot forces are kept" in said
    study = world.folder / "mine.toml"
    settings = load_study(str(study))
    assert settings.kernel.cross_compile == "fake-"
    assert settings.kernel.make_variables == {"KCFLAGS": "-fno-ipa-sra -pipe"}
    assert (settings.kernel.device_tree, settings.kernel.target) == ("test.dtb", "zImage")
    assert settings.initramfs == output.folder / "images/rootfs.cpio.gz"
    assert {"AEABI", "TTY", "SWAP"} <= set(settings.options.keep)
    # The copy is clean, Buildroot's own tree is as it was.
    assert not (settings.kernel.tree / ".config").exists()
    assert not (settings.kernel.tree / "include/config").exists()
    assert not (settings.kernel.tree / "drivers/leds.o").exists()
    assert (output.linux / ".config").exists()
    assert (output.linux / "drivers/leds.o").exists()
    (world.folder / "boards/mine.toml").write_text(world.board.read_text())
    text = study.read_text().replace('smoke = ["console"]', 'smoke = ["board"]')
    study.write_text(text.replace('"BINFMT_ELF",', '"BINFMT_ELF",\n    "SERIAL_CONSOLE",'))
    world.memtotal("run", "mine.toml", "--trials", 2)
    with Database.read(world.results / "mine/trials.db") as database:
        baseline, first = database.trial(0), database.trial(1)
    assert "CONFIG_INET=y" in baseline.resolved.text
    assert "# CONFIG_SWAP is not set" in first.resolved.text
    log = (world.results / "mine/logs/trial-0000/build.log").read_text()
    assert "KCFLAGS=-fno-ipa-sra -pipe" in log


def test_an_older_buildroot_prints_its_variables(world: World) -> None:
    old = Output(world, world.folder / "output", json_vars=False)
    found = read_output(old.folder, world.environment)
    assert (found.cross_compile, found.arch) == ("fake-", "arm")
    assert found.forced == {"AEABI": "y", "TTY": "y", "SWAP": "n"}


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        ("$(call KCONFIG_ENABLE_OPT,CONFIG_AEABI)", {"AEABI": "y"}),
        ("$(call KCONFIG_DISABLE_OPT,CONFIG_MODULES)", {"MODULES": "n"}),
        ('$(call KCONFIG_SET_OPT,CONFIG_DEFAULT_HOSTNAME,"x")', {"DEFAULT_HOSTNAME": '"x"'}),
        ("echo 'CONFIG_CMDLINE=\"a b\"' >> .config", {"CMDLINE": '"a b"'}),
        ("", {}),
    ],
)
def test_what_buildroot_forces(commands: str, expected: dict[str, str]) -> None:
    assert forced_settings(commands) == expected


def test_a_folder_that_is_not_buildroots(world: World, tmp_path: Path) -> None:
    done = world.memtotal("import-buildroot", tmp_path, "-o", "mine.toml", code=2)
    assert "not a Buildroot output folder" in done.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"LINUX_DIR": ""}, "has built no kernel"),
        ({"KERNEL_ARCH": "", "LINUX_MAKE_FLAGS": "CROSS_COMPILE=x-"}, "does not tell its kernel's"),
    ],
)
def test_an_output_that_lacks_something(
    world: World, output: Output, change: dict[str, str], message: str
) -> None:
    output.variables |= change
    output.write()
    with pytest.raises(UserError, match=message):
        read_output(output.folder, world.environment)


def test_what_is_missing_is_said_and_nothing_is_left(world: World, output: Output) -> None:
    (output.folder / "images/rootfs.cpio.gz").unlink()
    done = world.memtotal("import-buildroot", output.folder, "-o", "mine.toml", code=2)
    assert "BR2_TARGET_ROOTFS_CPIO" in done.err
    assert list(world.folder.glob("mine*")) == []
    (output.linux / ".config").unlink()
    done = world.memtotal("import-buildroot", output.folder, "-o", "mine.toml", code=2)
    assert "linux-configure" in done.err


def test_an_existing_study_is_not_written_over(world: World, output: Output) -> None:
    before = world.study.read_text()
    done = world.memtotal("import-buildroot", output.folder, "-o", "small.toml", code=2)
    assert "exists already" in done.err
    assert world.study.read_text() == before


def test_an_external_tree_for_buildroot(world: World, tmp_path: Path) -> None:
    world.memtotal("run", "small.toml", "--trials", 2)
    folder = tmp_path / "external"
    world.memtotal("export", "small.toml", "--format", "buildroot", "-o", folder)
    desc = (folder / "external.desc").read_text()
    assert re.fullmatch(r"name: [A-Za-z0-9_]+\ndesc: .+\n", desc)
    assert (folder / "external.mk").exists()
    assert (folder / "Config.in").exists()
    config = (folder / "configs/small_defconfig").read_text()
    path = re.search(
        r'BR2_LINUX_KERNEL_CUSTOM_CONFIG_FILE="\$\(BR2_EXTERNAL_MEMTOTAL_PATH\)/(.+)"', config
    )
    assert path is not None
    assert 'BR2_LINUX_KERNEL_INTREE_DTS_NAME="test"' in config
    assert 'BR2_LINUX_KERNEL_CUSTOM_VERSION_VALUE="5.10.7"' in config
    with Database.read(world.database) as database:
        best = database.best()
        assert best is not None
        defconfig = database.trial(best).resolved.defconfig
    linux = (folder / path[1]).read_text()
    assert linux.endswith(defconfig)
    assert f"## trial: {best}\n" in linux
    # Every file is one that make and Buildroot's Kconfig can include.
    for name in ("external.mk", "Config.in"):
        assert all(line.startswith("#") for line in (folder / name).read_text().splitlines())
