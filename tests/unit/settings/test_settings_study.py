"""Studies, boards and suites as files: what is read, and where each mistake is said to be."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.world import BOARD, STUDY, SUITE

from optimizer.errors import UserError
from optimizer.settings import (
    SHIPPED_CONFIGS,
    StudySettings,
    cache_folder,
    environment,
    load_marks,
    load_study,
    results_folder,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study ``small.toml`` with its board and suite."""
    for name, text in (
        ("small.toml", STUDY), ("boards/fake.toml", BOARD), ("smoke/board.toml", SUITE),
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def load(folder: Path) -> StudySettings:
    return load_study(str(folder / "small.toml"))


def said(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(folder)
    return str(caught.value).replace(f"{folder}/", "")


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1
    path.write_text(text.replace(before, after))


def line_of(path: Path, start: str) -> int:
    return next(
        number for number, line in enumerate(path.read_text().splitlines(), 1)
        if line.startswith(start)
    )  # fmt: skip


# -- what is read ----------------------------------------------------------------------------------


def test_a_whole_study(folder: Path) -> None:
    study = load(folder)
    assert (study.name, study.objective) == ("small", ("mem_total",))
    assert study.kernel.tree == folder / "linux"
    assert study.initramfs == folder / "initramfs.gz"
    assert study.board.memory_mb == 32
    assert [(suite, check.name) for suite, check in study.checks] == [
        ("board", "arithmetic"),
        ("board", "network"),
    ]
    assert study.options.ranges == {"LOG_BUF_SHIFT": (12, 14)}
    assert study.text == STUDY


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED_CONFIGS.glob("*.toml")))
def test_every_shipped_study_is_valid(name: str) -> None:
    assert load_study(name).name == name
    assert load_study(f"{name}.toml").name == name


@pytest.mark.parametrize("kind", ["boards", "smoke"])
def test_every_shipped_board_and_suite_is_valid(folder: Path, kind: str) -> None:
    for path in SHIPPED_CONFIGS.glob(f"{kind}/*.toml"):
        text = STUDY
        if kind == "boards":
            text = text.replace('board = "fake"', f'board = "{path.stem}"')
        else:
            text = text.replace('smoke = ["board"]', f'smoke = ["{path.stem}"]')
        (folder / "small.toml").write_text(text)
        assert load(folder)


def test_symbols_may_be_pasted_from_a_config(folder: Path) -> None:
    edit(folder / "small.toml", '"LOCALVERSION"', '"CONFIG_LOCALVERSION"')
    assert load(folder).options.leave == ("LOCALVERSION",)


def test_the_cache_can_be_named_in_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMTOTAL_CACHE", str(folder / "cache"))
    edit(folder / "small.toml", '"linux"', '"{cache}/linux"')
    edit(folder / "small.toml", '"initramfs.gz"', '"{cache}/root.gz"')
    study = load(folder)
    assert study.kernel.tree == folder / "cache" / "linux"
    assert study.initramfs == folder / "cache" / "root.gz"


def test_included_suites_come_first_and_once(folder: Path) -> None:
    (folder / "smoke/more.toml").write_text('include = ["board"]\n' + SUITE.partition("\n")[2])
    edit(folder / "small.toml", '["board"]', '["more", "board"]')
    assert [suite.name for suite in load(folder).suites] == ["board", "more"]


def test_a_board_beside_the_study_comes_before_a_shipped_one(folder: Path) -> None:
    (folder / "boards/versatilepb.toml").write_text(BOARD)
    edit(folder / "small.toml", '"fake"', '"versatilepb"')
    assert load(folder).board.machine == "fakeboard"


def test_checks_run_boot_by_boot_restarts_last(folder: Path) -> None:
    suite = (
        '[[check]]\nname = "late"\nboot = 2\ncommand = "x"\nexpect = "y"\n'
        '[[check]]\nname = "again"\nkind = "reboot"\ncommand = "reboot -f"\n'
        '[[check]]\nname = "early"\ncommand = "x"\nexpect = "y"\n'
    )
    (folder / "smoke/board.toml").write_text(suite)
    assert [check.name for _, check in load(folder).checks] == ["early", "again", "late"]


# -- mistakes: (file, what is there, what a person writes instead, what is said) -------------------

SMALL, FAKE, CHECKS = "small.toml", "boards/fake.toml", "smoke/board.toml"


@pytest.mark.parametrize(
    ("file", "before", "after", "place", "message"),
    [
        (SMALL, 'arch = "arm"', 'arhc = "arm"', "arhc", "kernel.arhc: unknown key"),
        (SMALL, 'arch = "arm"', 'arch = "A R M"', "arch", "kernel.arch: String should match"),
        (SMALL, 'cross_compile = "fake-"', 'cross_compile = "a;b"', "cross_compile",
         "kernel.cross_compile: String should match"),
        (SMALL, 'image = "arch', 'image = "../arch', "image", "kernel.image: String should match"),
        (SMALL, "build_timeout_seconds = 60", "build_timeout_seconds = 0",
         "build_timeout_seconds", "kernel.build_timeout_seconds: Input should be greater than 0"),
        (SMALL, 'board = "fake"', "board = []", "board", "board: expected the name of a board"),
        (SMALL, 'smoke = ["board"]', 'smoke = "board"', "smoke", "smoke: expected a list"),
        (SMALL, "[12, 14]", "[14, 12]", "LOG_BUF_SHIFT|\\[options", "14 is greater than 12"),
        (SMALL, "[12, 14]", "[12]", "LOG_BUF_SHIFT", "options.ranges.LOG_BUF_SHIFT"),
        (SMALL, '"LOCALVERSION"', '"LOCAL VERSION"', "leave", "options.leave"),
        (SMALL, '["LOCALVERSION"]', '["AEABI"]', "\\[options\\]", "AEABI: in 'keep' and in "),
        (SMALL, '["SLOB", ', '["TIMER", ', "\\[options\\]", "TIMER: in 'keep' and in 'turn_on'"),
        (FAKE, "memory_mb = 32", 'memory_mb = "much"', "memory_mb", "memory_mb: .*not 'much'"),
        (FAKE, "memory_mb = 32", "memory_mb = 0", "memory_mb", "memory_mb: .*greater than 0"),
        (FAKE, '"^# $"', '"(# $"', "prompt", "prompt: not a regular expression"),
        (FAKE, "flash_bytes", "flash_bites", "flash_bites", "flash_bites: unknown key; "),
        (CHECKS, 'name = "arithmetic"', 'name = "Arith Metic"', ".*", "check.0.name"),
        (CHECKS, 'expect = "^42$"', 'expect = "^42("', ".*", "check.0.expect: not a regular"),
        (CHECKS, 'expect = "^42$"', "", ".*", "needs 'expect'"),
        (CHECKS, 'expect = "^42$"', 'expect = "x"\nkind = "typed"', ".*", "needs 'bytes'"),
        (CHECKS, 'expect = "^42$"', 'expect = "x"\nkind = "guess"', ".*", "check.0.kind"),
        (CHECKS, 'expect = "^42$"', 'expect = "x"\nboot = 2', ".*", "nothing restarts the machine"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(
    folder: Path, file: str, before: str, after: str, place: str, message: str
) -> None:
    edit(folder / file, before, after)
    told = said(folder)
    assert re.search(message, told)
    match = re.search(rf"^{re.escape(file)}:(\d+): .*{message}", told, re.MULTILINE)
    if place == ".*":  # a check of a list: its file, with or without the line
        assert told.startswith(file)
        return
    assert match is not None, told
    line = (folder / file).read_text().splitlines()[int(match[1]) - 1]
    assert re.match(rf"\s*(?:{place})", line), f"{told} says {line!r}"


@pytest.mark.parametrize("key", ["board", "smoke", "initramfs", "arch", "tree", "image"])
def test_a_key_that_is_missing_is_named(folder: Path, key: str) -> None:
    path = folder / "small.toml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{key} = ")]
    path.write_text("\n".join(lines))
    told = said(folder)
    assert told.startswith("small.toml")
    assert re.search(rf"\b{key}: (missing|expected)", told)


def test_several_mistakes_are_told_at_once(folder: Path) -> None:
    edit(folder / "small.toml", 'arch = "arm"', 'arhc = "arm"')
    assert len(said(folder).splitlines()) == 2  # the unknown key, and the one that is missing


@pytest.mark.parametrize("key", ["source", "text", "suites"])
def test_a_study_cannot_set_what_is_made_of_it(folder: Path, key: str) -> None:
    edit(folder / "small.toml", 'board = "fake"', f'board = "fake"\n{key} = "x"')
    assert f"{key}: expected no such key in a study" in said(folder)


def test_suites_that_include_each_other(folder: Path) -> None:
    (folder / "smoke/more.toml").write_text('include = ["board"]\n')
    (folder / "smoke/board.toml").write_text('include = ["more"]\n')
    assert "Smoke suites include each other: board -> more -> board." in said(folder)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('board = "fake"', 'board = "other"', "there is no boards/other.toml."),
        ('smoke = ["board"]', 'smoke = ["other"]', "there is no smoke/other.toml."),
        ('board = "fake"', 'board = "../fake"', "'../fake' is not a file name in boards/."),
    ],
)
def test_a_file_that_is_not_there(folder: Path, before: str, after: str, message: str) -> None:
    edit(folder / "small.toml", before, after)
    told = said(folder)
    assert told.startswith("small.toml: ")
    assert message in told


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_text("a = \n"), "is not valid TOML: .*line 1"),
        (lambda path: path.write_bytes(b'a = "\xff"'), r"is not UTF-8 text \(byte 5\)"),
    ],
    ids=["syntax", "encoding"],
)
@pytest.mark.parametrize("file", [SMALL, FAKE, CHECKS])
def test_a_file_that_cannot_be_understood(
    folder: Path, file: str, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(folder / file)
    assert re.search(f"{file} {message}", said(folder))


# -- the user's environment ------------------------------------------------------------------------


def test_where_things_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MEMTOTAL_CACHE", "XDG_CACHE_HOME", "MEMTOTAL_RESULTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.chdir(tmp_path)
    assert cache_folder() == Path("/home/somebody/.cache/memtotal")
    assert results_folder() == tmp_path / "results"
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/memtotal")
    monkeypatch.setenv("MEMTOTAL_CACHE", "~/mine")
    monkeypatch.setenv("MEMTOTAL_RESULTS", "mine")
    assert cache_folder() == Path("/home/somebody/mine")
    assert results_folder() == tmp_path / "mine"


def test_children_get_what_finds_programs_and_nothing_that_changes_a_build(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ARCH", "CROSS_COMPILE", "KCFLAGS", "MAKEFLAGS", "O", "LD_PRELOAD", "LANG"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("PATH", "/bin")
    found = environment()
    assert found["PATH"] == "/bin"
    assert (found["LC_ALL"], found["TZ"]) == ("C", "UTC")
    assert "x" not in found.values()


# -- what is kept by name, and what is marked ------------------------------------------------------


def test_a_preset_adds_to_what_is_kept(folder: Path) -> None:
    edit(folder / "small.toml", 'leave = ["LOCALVERSION"]', 'keep_presets = ["hardened", "mine"]')
    (folder / "keep").mkdir()
    (folder / "keep/mine.toml").write_text('symbols = ["CONFIG_SOUND", "INET"]\n')
    hardened, mine = load(folder).options.presets
    assert "SECCOMP" in hardened.symbols
    assert (mine.name, mine.symbols) == ("mine", ("SOUND", "INET"))


def test_an_unknown_preset_names_the_known_ones(folder: Path) -> None:
    edit(folder / "small.toml", 'leave = ["LOCALVERSION"]', 'keep_presets = ["hard"]')
    assert "Known: diagnosable, hardened." in said(folder)


def test_presets_are_a_list_of_names(folder: Path) -> None:
    edit(folder / "small.toml", 'leave = ["LOCALVERSION"]', 'keep_presets = "hardened"')
    assert "keep_presets: expected a list of keep presets" in said(folder)


def test_what_a_preset_keeps_cannot_be_tried(folder: Path) -> None:
    edit(folder / "small.toml", 'leave = ["LOCALVERSION"]', 'keep_presets = ["hardened"]')
    edit(folder / "small.toml", 'turn_on = ["SLOB",', 'turn_on = ["SECCOMP", "SLOB",')
    assert "SECCOMP: in 'keep_presets' and in 'turn_on'" in said(folder)


def test_every_guard_of_a_preset_says_what_is_lost() -> None:
    marks = load_marks()
    assert marks["STACKPROTECTOR"].kind == "hardening"
    assert marks["COMPAT_BRK"].safe == "n"
    assert all(one.loses[0].islower() and not one.loses.endswith(".") for one in marks.values())


def test_variables_for_make(folder: Path) -> None:
    with (folder / "small.toml").open("a") as file:
        file.write('\n[kernel.make_variables]\nKCFLAGS = "-fno-ipa-sra"\n')
    assert load(folder).kernel.make_variables == {"KCFLAGS": "-fno-ipa-sra"}
    edit(folder / "small.toml", "KCFLAGS =", "kcflags =")
    assert "make_variables" in said(folder)
