"""The stand-in's own preprocessor beside the compiler's, and what happens where they differ.

Whenever an object is compiled, the stand-in compares the tokens itself. Its log has the object's
key when they are the same, and else the reason.
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

pytestmark = pytest.mark.integration

# Each expands to something that compiles; what counts is that the tokens are the compiler's.
EXPANDED = {
    "nested and recursive": """
#define f(x) x + g(x)
#define g(x) f(x) - h
#define h g
const char *unit[] = { S(f(1)), S(g(f(2))(3)), S(h(4)), S(f (5)), S(f) };""",
    "names of macros with arguments, alone": """
#define f(x) [x]
#define e
#define lp (
const char *unit[] = { S(f), S(f e (1)), S(f lp 2)), S(f
(3)), S(e f) };""",
    "strings keep white space and escapes": r"""
#define raw(...) #__VA_ARGS__
#define e
const char *unit[] = { raw(a  b+c "x\\n" '\"' /* c */ d), S(a e b), S(e), S( a(e)b ), S("a" "b"),
  raw(a,
      b) };""",
    "pasting": """
#define cat(a, b) a##b
#define cat3(a, b, c) a##b##c
#define log(fmt, ...) fmt, ## __VA_ARGS__ end
#define args(fmt, rest...) fmt, ## rest end
#define only(...) x, ## __VA_ARGS__
#define y z
const char *unit[] = { S(cat(x, y)), S(cat(, y)), S(cat(x,)), S(cat(,)), S(cat3(1, e, 2)),
  S(cat3(a, 1, _)), S(log(1)), S(log(1,)), S(log(1, y)), S(args(1)), S(args(1, y, y)), S(only()),
  S(only(y)), S(cat(y, 1)), S(cat(<, <=)), S(cat(L, "w")) };""",
    "arguments": """
#define zero() 0
#define one(x) <x>
#define two(x, y) <x|y>
const char *unit[] = { S(zero()), S(zero( )), S(one()), S(one((a, b))), S(two(,)), S(two((,),)),
  S(one(one(one(1)))), S(two(one(2), two(3, 4))) };""",
    "directives among arguments": """
#define two(x, y) <x|y>
const char *unit[] = { S2(two(a,
#ifdef unknown
b
#else
c
#endif
)) };""",
    "line numbers": """
#define here __LINE__
#define outer(x, ...) x here __LINE__ __VA_ARGS__
#define forth(fmt, ...) outer(fmt, ## __VA_ARGS__)
const char *unit[] = { S(here), S(__LINE__
), S(outer(+
__LINE__ here)), S(forth(
+ __LINE__ outer(here)
, __LINE__)), S2(S2(here
__LINE__)) };
int lines[] = { here, 0 + here,
__LINE__ };""",
    "line numbers of names from other macros": """
#define same(x) x
#define alias same
#define opened same(
#define warn(x) x __LINE__
const char *unit[] = { S(1), alias(S2(
__LINE__)), opened S2(__LINE__
warn(2)
)), same(alias(S2(
warn(3)))), alias
(S2(__LINE__)) };
int lines[] = { alias(__LINE__ +
__LINE__ + alias(
__LINE__)), opened
__LINE__) };""",
    "white space around builtin macros": """
#define left( a)a
#define pasted(a, v...) ,##v''#v
#define put(...)pasted(,__VA_ARGS__))
const char *unit[] = { S(left( __LINE__)), S(left(__LINE__ )), S((__LINE__)) };""",
    "pragmas in strings": """
const char *unit[] = { S2(a _Pragma("GCC diagnostic push") b), "c" };""",
    "files and counters": """
#include "sub/two.h"
const char *unit[] = { __FILE__, __BASE_FILE__, two };
int count[] = { __COUNTER__, __COUNTER__, __COUNTER__ };""",
    "lines that go on": """
#define long_one a + \\
   b + /* over
   lines */ c \\
   + d
const char *unit[] = { S(long_one) }; // a comment that goes \\
on and on
const char *text = "one \\
two";""",
    "stars before a line's end": """
/* **bold**\\
 * and **bold again** *\\
\\
* so */ const char *unit = "/* *\\
/ none";""",
    "guards": """
#include "guarded.h"
#include "guarded.h"
#undef GUARD
#include "guarded.h"
#include "half.h"
#include "half.h"
int unit[] = { guarded(0), half(0) };""",
    "computed names": """
#define header "sub/two.h"
#define folder sub
#define other <folder/three.h>
#include header
#include other
const char *unit = two;""",
    "what the compiler knows": """
#if __has_attribute(noreturn) && !__has_attribute(nonsense) && defined __has_builtin
#if __has_builtin(__builtin_expect) && __has_include("head.h") && !__has_include(<none.h>)
int unit = __GNUC__ * __ARM_ARCH + __OPTIMIZE__ + sizeof(__SIZE_TYPE__) + __CHAR_BIT__;
#endif
#endif
#ifdef __has_feature
int has_feature;
#endif""",
    "pragmas": """
#define say(x) _Pragma("GCC diagnostic push") x _Pragma("GCC diagnostic pop")
#pragma GCC diagnostic ignored "-Wunused"
#pragma pack(push, 1)
struct a { char c; int i; };
#pragma pack(pop)
say(int unit = sizeof(struct a);)""",
    "groups that do not count": """
#if 0
it's /* not # a
/* but here it is
#endif */ "code /* # here
#ifdef x
#elif 1
#else
#endif
#error never
#elif defined(unknown) || 0
#include "none.h"
#else
int unit;
#endif
#if 1
int taken;
#elif 1 / 0
#error never
#endif""",
}

# The compiler warns of a quote without its partner: what it says is not to be lost.
SPEAKING = {"groups that do not count"}

CONDITIONS = (
    *("1 + 2 * 3 == 7", "(1 ? 2 : 3) == 2", "-1 > 0u", "-1 < 0", "1 << 3 == 8", "-8 >> 1 == -4"),
    *("~0 == -1", "0x10 == 020 && 16 == 0b10000", "10 % 4 == 2", "-7 / 2 == -3", "5 & 3 | 8 ^ 1"),
    *("0 && 1 / 0", "1 || 1 / 0", "!defined X", "defined(A) && A == 3", "B(2) == 4", "unknown"),
    *("7 == 007", "18446744073709551615u == -1", "0xffffffffffffffff > 0", "1 ? 0 : 1 / 0"),
    *("(2 > 1) + (3 >= 3) + (1 < 2) + (1 <= 0) + (1 != 1) == 3", "B (B(1)) == 4", "C"),
    *("- - 1 == 1", "1 << 62 > 0", "0x7fffffffffffffff + 1 < 0", "A - 3 ? 1 : 0", "defined B"),
)

HEADERS = {
    "head.h": "",
    "sub/two.h": '#include "three.h"\n#undef two\n#define two __FILE__\n',
    "sub/three.h": "extern int three;\n",
    "guarded.h": "/* first */\n#ifndef GUARD\n#define GUARD\nint guarded_one;\n"
    "#define guarded(x) (x + __COUNTER__)\n#endif /* GUARD */\n",
    "half.h": "#ifndef HALF\n#define HALF\n#define half(x) x\n#endif\nextern int outside;\n",
}
WITH = ("-I.", "-DOPTION=1", "-include", "sub/three.h", "-fmacro-prefix-map=sub/=from/")
TOOLS = (
    "#define S_(...) #__VA_ARGS__\n#define S(...) S_(__VA_ARGS__)\n#define S2(x) S(x)\n"
    "#define L(x) 0 x 0\n"
)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path, tmp_path / "cache")
    for name, text in HEADERS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    # What was never compiled with these options is not in the store: the compiler preprocesses it.
    for options in ((), WITH):
        assert is_key(made.compile("int before;\n", *options).log)
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
    for number in range(4):
        (bench.folder / "unit.c").write_text("int unit;\n" if number else "int before;\n")
        (bench.folder / "unit.o").unlink(missing_ok=True)
        log.unlink(missing_ok=True)
        argv = [f"{PREFIX}gcc", *OPTIONS, "-c", "-o", "unit.o", "unit.c"]
        subprocess.run(argv, cwd=bench.folder, env=env, check=True)
        made = (bench.folder / "unit.o").read_bytes()
        said.append(log.read_text().strip())
        if number:
            assert made == bench.really_compile("int unit;\n")
    said = said[1:]
    assert said[0] == "compiled unit.o int for extern"
    assert said[1] == "compiled unit.o its tokens were not the compiler's"
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
    for number in range(3):
        if number:
            (bench.folder / "kill").touch()
        (bench.folder / "unit.c").write_text("int a;\n" if number else "int before;\n")
        log.unlink(missing_ok=True)
        argv = [f"{PREFIX}gcc", *OPTIONS, "-c", "-o", "unit.o", "unit.c"]
        subprocess.run(argv, cwd=bench.folder, env=env, check=True)
        if not number:
            continue
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
