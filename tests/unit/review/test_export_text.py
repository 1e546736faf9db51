"""Fragments and headers as text; that kconfig agrees is tested where there is a kernel tree."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.review.export import (
    annotated,
    command_line,
    command_line_of,
    file_name,
    fragment,
    patch,
    provenance,
    settings_of,
    with_header,
)

BASE = """\
#
# Automatically generated file; DO NOT EDIT.
#
CONFIG_SAME=y
CONFIG_DRM=y
# CONFIG_OFF is not set
# CONFIG_GONE_OFF is not set
CONFIG_LOG_BUF_SHIFT=17
CONFIG_CMDLINE="console=ttyAMA0 root=\\"x\\""
CONFIG_GONE_TEXT="text"
CONFIG_GONE_HEX=0x100
CONFIG_MODULE=m
"""
VARIANT = """\
CONFIG_SAME=y
# CONFIG_DRM is not set
CONFIG_OFF=y
CONFIG_LOG_BUF_SHIFT=12
CONFIG_CMDLINE="console=ttyAMA0"
# CONFIG_NEW_OFF is not set
CONFIG_NEW=0x1
CONFIG_MODULE=y
"""


def test_a_fragment_lists_everything_that_differs() -> None:
    assert fragment(BASE, VARIANT).splitlines() == [
        "# CONFIG_DRM is not set",
        "CONFIG_OFF=y",
        "CONFIG_LOG_BUF_SHIFT=12",
        'CONFIG_CMDLINE="console=ttyAMA0"',
        "# CONFIG_NEW_OFF is not set",
        "CONFIG_NEW=0x1",
        "CONFIG_MODULE=y",
        "# CONFIG_GONE_TEXT is not set",
        "# CONFIG_GONE_HEX is not set",
    ]


def test_equal_configs_need_an_empty_fragment() -> None:
    assert fragment(BASE, BASE) == ""


def test_settings_are_read_as_kconfig_reads_them() -> None:
    text = (
        "CONFIG_A=y\r\n# CONFIG_B is not set\nCONFIG_A=n\n"
        '#CONFIG_C=y\n# CONFIG_D is not set yet\n  CONFIG_E=y\nCONFIG_F="a=b # c"\n'
    )
    assert settings_of(text) == {"A": "n", "B": "n", "F": '"a=b # c"'}


NAMES = st.sampled_from([f"S{number}" for number in range(8)])
VALUES = st.sampled_from(["y", "m", "n", "7", '"a b"', '""', "0x1f"])


@given(base=st.dictionaries(NAMES, VALUES), wanted=st.dictionaries(NAMES, VALUES))
def test_base_and_fragment_make_the_variant(base: dict[str, str], wanted: dict[str, str]) -> None:
    def text(settings: dict[str, str]) -> str:
        return "".join(
            f"# CONFIG_{name} is not set\n" if value == "n" else f"CONFIG_{name}={value}\n"
            for name, value in settings.items()
        )

    merged = settings_of(text(base) + fragment(text(base), text(wanted)))
    # What the variant does not have is off, which is what "not written" means to kconfig.
    assert {**dict.fromkeys(merged, "n"), **wanted} == merged


@given(header=st.lists(st.text() | st.just("CONFIG_DRM is not set") | st.just("CONFIG_DRM=y")))
def test_nothing_in_a_header_is_a_setting(header: list[str]) -> None:
    commented = with_header(VARIANT, header)
    assert settings_of(commented) == settings_of(VARIANT)
    assert commented.endswith(VARIANT)
    above = commented.removesuffix(VARIANT)
    assert all(line.startswith("##") for line in above.split("\n")[:-1])


def test_provenance_names_what_is_needed_to_make_it_again() -> None:
    text = with_header(
        VARIANT, provenance("versatilepb", 12, "linux-6.1.192", "gcc 12.2.0", {"saved": "4096 kB"})
    )
    assert text.startswith(
        "## Made by memtotal.\n## study: versatilepb\n## trial: 12\n"
        "## kernel: linux-6.1.192\n## compiler: gcc 12.2.0\n## saved: 4096 kB\n"
    )


@pytest.mark.parametrize(
    ("base", "parameters", "expected"),
    [
        ("console=ttyAMA0 mem=32M", {}, "console=ttyAMA0 mem=32M"),
        ("console=ttyAMA0", {"coherent_pool": "64K"}, "console=ttyAMA0 coherent_pool=64K"),
        ("coherent_pool=1M quiet", {"coherent_pool": "64K"}, "coherent_pool=64K quiet"),
        ("a=1 a=2", {"a": "3"}, "a=1 a=3"),
        ("quiet", {"quiet": "", "noinitrd": ""}, "quiet noinitrd"),
        ("root=/dev/a -- single", {"b": "1"}, "root=/dev/a b=1 -- single"),
        ("", {"b": "1"}, "b=1"),
    ],
)
def test_a_command_line_with_parameters(
    base: str, parameters: Mapping[str, str], expected: str
) -> None:
    assert command_line(base, parameters) == expected


def test_the_command_line_is_in_the_kernels_log() -> None:
    log = "[    0.000000] Kernel command line: console=ttyAMA0 mem=32M \nMore\n"
    assert command_line_of(log) == "console=ttyAMA0 mem=32M"
    assert command_line_of("silent") == ""


def test_notes_change_nothing_of_a_defconfig() -> None:
    notes = {"DRM": "needed: # CONFIG_NET is not set\nCONFIG_EVIL=y", "LOG_BUF_SHIFT": "saves 4 kB"}
    text = annotated(VARIANT, notes, {"GONE": "saves\n8 kB"}, ["CONFIG_HEAD=y"])
    assert settings_of(text) == settings_of(VARIANT)
    assert "## saves 4 kB\nCONFIG_LOG_BUF_SHIFT=12\n" in text
    assert "## GONE: saves 8 kB\n" in text


def test_file_names_are_tame() -> None:
    assert file_name("Device Drivers > Network / device support!") == (
        "device-drivers-network-device-support"
    )
    assert file_name("../..") == "step"


@pytest.mark.parametrize("end", ["\n", ""])
def test_a_patch_applies(tmp_path: Path, end: str) -> None:
    before, after = f"a\nb\nc{end}", "a\nc\nd\n"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/x").write_text(before)
    text = patch("configs/x", before, after, "Drop b", "It saves 4 kB.", 1, 2)
    (tmp_path / "0001.patch").write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "apply", "0001.patch"], cwd=tmp_path, check=True)
    assert (tmp_path / "configs/x").read_text() == after
