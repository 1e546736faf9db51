"""Marking what init-audit finds: which candidates, in which files, and what the kernel says."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks import init_marks
from rich.console import Console

from optimizer.errors import MachineFault, UserError
from optimizer.memory.initaudit import Candidate
from optimizer.records import (
    Assignment,
    BootResult,
    BootState,
    CheckResult,
    Measurement,
    Outcome,
    ResolvedConfig,
    Trial,
)

SOURCES = {
    "a/one.c": "#include <a.h>\nvoid f(void)\n{\n\tg();\n}\nMACRO(h)\nvoid k(void)\n{\n}\n",
    "a/two.c": "#include <linux/init.h>\nvoid g(void)\n{\n\tv = 1;\n}\nint v;\n",
}
CLEAN = "  CC      a/one.o\n  MODPOST Module.symvers\n"
WARNING = (
    "WARNING: modpost: vmlinux.o: section mismatch in reference: g (section: .text) -> f "
    "(section: .init.text)"
)


def candidate(name: str, file: str = "a/one.o", *with_: str, kind: str = "text") -> Candidate:
    attribute = "__init" if kind == "text" else "__initdata"
    return Candidate(name, file, kind, 8, attribute, with_ or ("start_kernel",), with_)


F = candidate("f")
G = candidate("g", "a/two.o", "f")
V = candidate("v", "a/two.o", "g", kind="bss")
H = candidate("h")
K = candidate("k", "a/one.o", "h")


def trial(kb: int | None, *, passed: bool = True, digest: str = "d") -> Trial:
    checks = (CheckResult("net", "ping", True, 0.1), CheckResult("net", "dns", passed, 0.1, "no"))
    return Trial(
        number=3,
        outcome=Outcome.PASSED if passed else Outcome.SMOKE_FAILED,
        sampler="test",
        params={},
        assignment=Assignment(),
        effective={},
        resolved=ResolvedConfig(digest, "", ""),
        objective=kb,
        boot=BootResult(BootState.READY, 1.0, Path("log"), checks=checks),
        measurement=None if kb is None else Measurement(kb, None, {}, ""),
        reason="" if passed else "net/dns: no",
    )


def test_a_sample_has_what_must_move_first() -> None:
    assert init_marks.sample([V, K, G, F, H], 0) == [V, K, G, F, H]
    assert init_marks.sample([V, K, G, F, H], 1) == [V, G, F]
    assert init_marks.sample([F, V, G], 1) == [F]


def test_what_stays_may_not_use_what_is_freed() -> None:
    marks = {one.candidate.name: one for one in init_marks.place([F, G, V, H, K], SOURCES)}
    assert {name: one.attribute for name, one in marks.items()} == {
        "f": "__init", "g": "__init", "v": "__initdata", "h": "", "k": "",
    }  # fmt: skip
    assert "a macro" in marks["h"].why
    assert marks["k"].why == "h uses it and is not marked"
    gone = init_marks.place([candidate("x"), F, replace(G, with_=("f", "x")), V], SOURCES)
    assert [one.attribute for one in gone] == ["", "__init", "", ""]
    assert gone[-1].why == "g uses it and is not marked"
    (missing,) = init_marks.place([candidate("f", "a/three.o")], SOURCES)
    assert missing.why == "there is no such file"


def test_a_file_gets_all_its_marks_and_the_header() -> None:
    texts = init_marks.rewritten(init_marks.place([F, G, V], SOURCES), SOURCES)
    assert texts["a/one.c"].startswith(
        "#include <linux/init.h>\n#include <a.h>\nvoid __init f(void)\n"
    )
    assert texts["a/two.c"] == (
        "#include <linux/init.h>\nvoid __init g(void)\n{\n\tv = 1;\n}\nint v __initdata;\n"
    )
    assert init_marks.rewritten(init_marks.place([H], SOURCES), SOURCES) == {}


def test_the_tree_itself_is_never_written(tmp_path: Path) -> None:
    tree, copy = tmp_path / "linux", tmp_path / "copy"
    (tree / "a").mkdir(parents=True)
    for file, text in SOURCES.items():
        (tree / file).write_text(text)
    (tree / "a/tool.sh").write_text("true\n")
    (tree / "a/tool.sh").chmod(0o755)
    (tree / "a/latin.c").write_bytes(b"/* \xe9 */\nvoid f(void)\n{\n}\n")
    (tree / "link").symlink_to("a/one.c")
    (tree / ".git").mkdir()
    sources = init_marks.read_sources(tree, ["a/latin.c", "none.c"])
    assert list(sources) == ["a/latin.c"]
    latin = sources["a/latin.c"].replace("void f", "void __init f")
    init_marks.copy_tree(tree, copy, {"a/one.c": "int changed;\n", "a/latin.c": latin})
    assert (tree / "a/one.c").read_text() == SOURCES["a/one.c"]
    assert (copy / "a/one.c").read_text() == "int changed;\n"
    assert (copy / "a/latin.c").read_bytes() == b"/* \xe9 */\nvoid __init f(void)\n{\n}\n"
    assert (copy / "a/tool.sh").samefile(tree / "a/tool.sh")
    assert (copy / "link").is_symlink()
    assert not (copy / ".git").exists()
    with pytest.raises(MachineFault, match="cannot be copied"):
        init_marks.copy_tree(tree, copy, {})


def test_another_filesystem_gets_real_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(*_: object, **_more: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", elsewhere)
    (tmp_path / "linux").mkdir()
    (tmp_path / "linux/a.c").write_text("int a;\n")
    init_marks.copy_tree(tmp_path / "linux", tmp_path / "copy", {})
    assert (tmp_path / "copy/a.c").read_text() == "int a;\n"
    assert not (tmp_path / "copy/a.c").samefile(tmp_path / "linux/a.c")


def test_the_work_folder_is_one_at_a_times(tmp_path: Path) -> None:
    with init_marks.workplace(tmp_path / "w") as folder:
        (folder / "rest").write_text("")
        with pytest.raises(UserError, match="in use"), init_marks.workplace(tmp_path / "w"):
            pass
        assert (folder / "rest").exists()
    assert not folder.exists()


def test_mismatches_are_read_from_what_make_prints() -> None:
    assert init_marks.mismatches(CLEAN) == ()
    summed = "modpost: Found 1 section mismatch(es)."
    assert init_marks.mismatches(f"{CLEAN}{WARNING}\n{summed}\n") == (WARNING,)
    assert init_marks.mismatches(f"{CLEAN}{summed}\n") == (summed,)
    older = "WARNING: vmlinux.o(.text+0x1): Section mismatch in reference from the function g()"
    assert init_marks.mismatches(older) == (older,)


def test_the_verdict() -> None:
    before = trial(29_036)
    fine = init_marks.judged(before, trial(29_044), CLEAN)
    assert fine.right
    assert (fine.passed, fine.checks, fine.before_kb, fine.after_kb) == (2, 2, 29_036, 29_044)
    screen = Console(file=io.StringIO(), width=140)
    init_marks.show_verdict(fine, screen)
    assert "29,036 -> 29,044 kB (+8 kB)" in screen.file.getvalue()  # type: ignore[attr-defined]
    wrong = {
        "smoke_failed: net/dns: no": init_marks.judged(before, trial(29_044, passed=False), CLEAN),
        "make changed the .config": init_marks.judged(before, trial(29_044, digest="e"), CLEAN),
        "modpost did not run": init_marks.judged(before, trial(29_044), ""),
        "": init_marks.judged(before, trial(29_044), CLEAN + WARNING),
    }
    for problem, verdict in wrong.items():
        assert (verdict.problem, verdict.right) == (problem, False)


@pytest.mark.parametrize("arguments", [["nowhere"], [".", "--marks", "-1"], [".", "--study", "no"]])
def test_bad_input_ends_with_exit_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        init_marks.main(arguments)
    assert ended.value.code == 2
