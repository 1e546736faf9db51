"""The stand-in's own preprocessor beside the compiler's, and what happens where they differ.

The stand-in compares the tokens itself. Its log has the object's key when they are the same, and
else the reason.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optimizer.settings import environment
from tests.integration.compilers import OPTIONS, PREFIX, Bench
from tests.integration.expansions import CONDITIONS, EXPANDED, HEADERS, SPEAKING, TOOLS, WITH

pytestmark = pytest.mark.integration


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path, tmp_path / "cache", compares=True)
    for name, text in HEADERS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return made


def unique(rule: str) -> list[str]:
    return list(dict.fromkeys(rule.split()[1:]))


def is_key(log: str) -> bool:
    return re.fullmatch(r"(compiled|reused) unit\.o [0-9a-f]{64}\n", log) is not None


@pytest.mark.parametrize("what", EXPANDED)
def test_tokens_are_the_compilers(bench: Bench, what: str) -> None:
    source = TOOLS + EXPANDED[what] + "\n"
    first = bench.compile(source, *WITH)
    assert is_key(first.log), first.log
    assert first.bytes == bench.really_compile(source, *WITH)
    again = bench.compile(source, *WITH)
    assert again.reused or what in SPEAKING
    listed = (bench.folder / ".unit.o.d").read_text()
    bench.really_compile(source, *WITH, "-Wp,-MMD,real.d")
    really = (bench.folder / "real.d").read_text()
    # The compiler names a header again that it found by another way.
    assert unique(listed) == unique(really)


def test_conditions_come_out_as_the_compilers(bench: Bench) -> None:
    source = "#define A 3\n#define B(x) ((x) + 2)\n#define C defined A\n"
    source += "int unit[] = {\n"
    for condition in CONDITIONS:
        source += f"#if {condition}\n1,\n#else\n0,\n#endif\n"
    made = bench.compile(source + "};\n")
    assert is_key(made.log), made.log
    assert made.bytes == bench.really_compile(source + "};\n")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("#pragma once\nint unit;", "pragma"),
        ("int unit = __INCLUDE_LEVEL__;", "builtin macro"),
        ("#define f(x, ...) x __VA_OPT__(+ 1)\nint unit = f(1, 2);", "__VA_OPT__"),
        ("int unit<:1:> = <% 1 %>;", "compiled-whole"),
        ("int un\\\nit;", "token cut"),
        ("#ident \"me\"\nint unit;", "directive"),
        ("#if 'a' > 0\nint unit;\n#endif", "condition"),
        ("#define noreturn x\n#if !__has_attribute(noreturn)\nint unit;\n#endif", "condition"),
        ("#define F\\\n(x) x\nint F(unit);", "token cut"),
        ("int unit; // here \\ \nint not_here;", "white space"),
        ("int unit; /* *\\\n/ int more;", "comment"),
        ("int unit; /* *\\\n\\\n/ int more;", "comment"),
    ],
)  # fmt: skip
def test_what_kernels_do_not_use_is_left_to_the_compiler(
    bench: Bench, source: str, reason: str
) -> None:
    made = bench.compile(source + "\n")
    assert reason in made.log
    assert made.bytes == bench.really_compile(source + "\n")


def test_tokens_that_are_not_the_compilers_are_not_trusted_again(bench: Bench) -> None:
    # A compiler that knows better than its source: its preprocessor adds a declaration.
    other = bench.folder / "compiler"
    other.write_text(
        f'#!/bin/sh\ncase " $* " in *" -E "*"unit.c "*) echo \'extern int more;\';; esac\n'
        f'exec {shutil.which(PREFIX + "gcc", path=environment()["PATH"])} "$@"\n'
    )
    other.chmod(0o755)
    log = bench.folder / "log"
    env = bench.objects.environment(environment(), log) | {"MEMTOTAL_COMPILER": str(other)}
    said = []
    (bench.folder / "unit.c").write_text("int unit;\n")
    for _time in range(3):
        (bench.folder / "unit.o").unlink(missing_ok=True)
        log.unlink(missing_ok=True)
        argv = [f"{PREFIX}gcc", *OPTIONS, "-c", "-o", "unit.o", "unit.c"]
        subprocess.run(argv, cwd=bench.folder, env=env, check=True)
        made = (bench.folder / "unit.o").read_bytes()
        said.append(log.read_text().strip())
        assert made == bench.really_compile("int unit;\n")
    assert said[0] == "compiled unit.o int for extern"
    # One in 64 is compiled as it is written.
    assert re.fullmatch(r"(rewritten|compiled) unit\.o its tokens were not the compiler's", said[1])
    assert said[2] == "reused unit.o its tokens were not the compiler's"


def test_what_was_not_compared_is_not_stored(bench: Bench) -> None:
    # A compiler whose preprocessor is killed half way, without a word.
    other, real = (
        bench.folder / "compiler",
        shutil.which(f"{PREFIX}gcc", path=environment()["PATH"]),
    )
    other.write_text(
        '#!/bin/sh\ncase " $* " in\n*" -E "*"unit.c "*)\n'
        'if [ -e kill ]; then echo "int z;"; kill -9 $$; fi;;\nesac\n'
        f'exec {real} "$@"\n'
    )
    other.chmod(0o755)
    log = bench.folder / "log"
    env = bench.objects.environment(environment(), log) | {"MEMTOTAL_COMPILER": str(other)}
    (bench.folder / "kill").touch()
    (bench.folder / "unit.c").write_text("int a;\n")
    for _time in range(2):
        log.unlink(missing_ok=True)
        argv = [f"{PREFIX}gcc", *OPTIONS, "-c", "-o", "unit.o", "unit.c"]
        subprocess.run(argv, cwd=bench.folder, env=env, check=True)
        assert (bench.folder / "unit.o").read_bytes() == bench.really_compile("int a;\n")
        assert log.read_text() == "compiled unit.o the compiler's preprocessor failed\n"


def test_a_number_too_large_is_not_cut_to_another(bench: Bench) -> None:
    source = "#if NUMBER > 0\nint unit;\n#else\nint other;\n#endif\n"
    for number in ("0", "18446744073709551615", "99999999999999999999"):
        made = bench.compile(source, f"-DNUMBER={number}")
        assert made.bytes == bench.really_compile(source, f"-DNUMBER={number}")


PIECES = ("f", "f(", ")", ",", "(", "g", "h", "1", "+", "a", "#b", "e", "f(1)", "k(2,3)", "k", "S(")


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(
    bodies=st.lists(st.lists(st.sampled_from(PIECES), max_size=5), min_size=4, max_size=4),
    use=st.lists(st.sampled_from(PIECES), min_size=1, max_size=8),
)
def test_any_expansion_is_the_compilers_or_left_to_it(
    bench: Bench, bodies: list[list[str]], use: list[str]
) -> None:
    heads = ("f(b)", "g", "h", "k(a, b)")
    macros = "".join(
        f"#define {head} {' '.join(body).replace('#b', 'b##b' if 'b' in head else 'b')}\n"
        for head, body in zip(heads, bodies, strict=True)
    )
    source = f"{TOOLS}#define e\n{macros}const char *unit = S({' '.join(use)});\n"
    env = bench.objects.environment(environment(), bench.folder / "log")
    (bench.folder / "unit.c").write_text(source)
    (bench.folder / "log").unlink(missing_ok=True)
    argv = [f"{PREFIX}gcc", *OPTIONS, "-c", "-o", "unit.o", "unit.c"]
    done = subprocess.run(argv, cwd=bench.folder, env=env, capture_output=True, check=False)
    alone = subprocess.run(
        argv, cwd=bench.folder, env=environment(), capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (alone.returncode, alone.stderr)
    log = (bench.folder / "log").read_text() if (bench.folder / "log").exists() else ""
    assert " for " not in log, source
