"""The server of a build: what it remembers of headers, and that nothing hangs on it.

Units are compiled, not taken from the store: then the stand-in compares its tokens with the
compiler's own, and says so in its log when they differ.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optimizer.settings import environment
from tests.integration.compilers import OPTIONS, PREFIX, Bench, Server
from tests.integration.expansions import EXPANDED, HEADERS, TOOLS, WITH

pytestmark = pytest.mark.integration

ROUNDS = 4  # the first is read, the second is written down, what comes later is given


class Units:
    """Units that are compiled one after the other, with a compiler that tells who called it."""

    def __init__(self, folder: Path) -> None:
        self.bench = Bench(folder, folder / "cache", compares=True)
        for name, text in HEADERS.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        self._callers = folder / "callers"
        real = shutil.which(f"{PREFIX}gcc", path=environment()["PATH"])
        compiler = folder / "compiler"
        compiler.write_text(
            f"#!/bin/sh\ntr '\\0' ' ' < /proc/$PPID/cmdline >> {self._callers}\n"
            f'exec {real} "$@"\n'
        )
        compiler.chmod(0o755)
        self._compiler = {"MEMTOTAL_COMPILER": str(compiler)}
        self._count = 0
        self.server = Server(self.bench)

    def compile(self, source: str, *options: str) -> str:
        """Compile a unit that is like no other; what the log says of it."""
        self._count += 1
        self._callers.unlink(missing_ok=True)
        folder, log = self.bench.folder, self.bench.folder / "log"
        (folder / "unit.c").write_text(f"{source}\nint number_{self._count};\n")
        log.unlink(missing_ok=True)
        env = self.bench.environment | self._compiler | {"MEMTOTAL_OBJECTS_LOG": str(log)}
        argv = [f"{PREFIX}gcc", *OPTIONS, *options, "-c", "-o", "unit.o", "unit.c"]
        subprocess.run(argv, cwd=folder, env=env, check=True, timeout=60)
        return log.read_text()

    def compile_alone(self) -> str:
        """Compile the last unit again, without the server; what the log says of it."""
        folder, log = self.bench.folder, self.bench.folder / "log"
        log.unlink()
        env = self.bench.environment | self._compiler | {"MEMTOTAL_OBJECTS_LOG": str(log)}
        argv = [f"{PREFIX}gcc", *OPTIONS, "-c", "-o", "unit.o", "unit.c"]
        subprocess.run(argv, cwd=folder, env=env | {"MEMTOTAL_SERVER": ""}, check=True, timeout=60)
        return log.read_text()

    @property
    def is_served(self) -> bool:
        """Whether the server's child called the compiler for the last unit."""
        return "--serve" in self._callers.read_text()


def is_same(log: str) -> bool:
    """Whether the tokens were the compiler's own."""
    return re.fullmatch(r"compiled unit\.o [0-9a-f]{64}\n", log) is not None


@pytest.fixture
def units(tmp_path: Path) -> Iterator[Units]:
    made = Units(tmp_path)
    yield made
    made.server.end()


@pytest.mark.parametrize("what", EXPANDED)
def test_what_is_given_again_is_the_compilers(units: Units, what: str) -> None:
    (units.bench.folder / "tried.h").write_text(TOOLS + EXPANDED[what] + "\n")
    for number in range(ROUNDS):
        # The counter does not begin where it did in the unit before.
        before = "int counted[] = {" + "__COUNTER__," * number * 7 + "};\n"
        log = units.compile(f'{before}#include "tried.h"\nint after = __COUNTER__;\n', *WITH)
        assert is_same(log), log
        assert units.is_served


REMEMBERED = {
    "a declaration": "extern int one;\n",
    "macros of its own": (
        "#ifndef TOLD\n#define TOLD\n#define name(x) x\n#undef name\n#define name(x, y) x##y\n"
        "#if !defined(unknown) && defined(TOLD)\nextern int name(on, e);\n#endif\n#endif\n"
    ),
    "one that the unit has": "#ifndef P\n#define P(x, y) x\n#endif\nextern int P(on, e);\n",
    "behind another header": '#include "guarded.h"\nextern int one[guarded(1)];\n',
    "lines, files and counters": (
        "#define name(x) x##1\n#define line(x) x[__LINE__ + sizeof __FILE__]\n"
        "extern int line(one);\nextern int P(a, __COUNTER__);\n"
    ),
}


@pytest.mark.parametrize("what", REMEMBERED)
def test_what_is_remembered_is_not_read_again(units: Units, what: str) -> None:
    header, text = units.bench.folder / "told.h", REMEMBERED[what]
    source = '#define P_(x, y) x##y\n#define P(x, y) P_(x, y)\n#include "told.h"\n'
    header.write_text(text)
    there = header.stat()
    for _round in range(ROUNDS):
        log = units.compile(source)
        assert is_same(log), log
    # Only its text is another: no clock and no size tells, so what was read counts.
    with header.open("r+") as file:
        file.write(text.replace("one", "two").replace("on, e", "tw, o"))
    os.utime(header, ns=(there.st_atime_ns, there.st_mtime_ns))
    assert "one for two" in units.compile(source)


BODY = "#define R_(n) int y_##n = x; return y_##n + n;\n#define R(n) R_(n)\n"
# A header, and a unit whose tokens it is among.
LOOKED_OVER = {
    "declarations": (
        "struct s { int a; long b; };\nstatic inline long f(struct s *s) { return s->b; }\n",
        '#include "told.h"\nlong unit(struct s *s) { return f(s); }\n',
    ),
    "what a unit has twice": (
        "static inline int NAME(int x) { R(__COUNTER__) }\n",
        BODY + '#define NAME one\n#include "told.h"\n#undef NAME\n#define NAME two\n'
        '#include "told.h"\nint unit(int x) { return one(x) + two(x); }\n',
    ),
    "numbers in functions: called, pointed to, neither": (
        BODY + "static inline int one(int x) { R(__COUNTER__) }\n"
        "static inline int two(int x) { R(__COUNTER__) }\nextern int n[__COUNTER__ + 1];\n"
        "static inline int three(int x) { R(__COUNTER__) }\n",
        '#include "told.h"\nstruct bar { int q; };\n'
        "int (*pointer)(int) = three;\n"
        "int unit(int x) { return one(x) + sizeof n + sizeof(struct bar); }\n",
    ),
    "names with numbers": (
        "static inline int N(f_, __COUNTER__)(int x) { return x; }\n",
        "#define N_(x, y) x##y\n#define N(x, y) N_(x, y)\n"
        '#include "told.h"\n#include "told.h"\nint unit;\n',
    ),
    "a structure in a function": (
        "struct t { struct bar b; int y; };\n",
        "struct bar { int q; };\nint unit(void *p) {\n"
        '#include "told.h"\nstruct t *t = p; return t->y; }\n',
    ),
    "numbers of an array": ("1, 2, 3,\n", 'int unit[] = {\n#include "told.h"\n4 };\n'),
    "members": (
        "int a, b; };\nextern int v;\n",
        'struct s {\n#include "told.h"\nint unit(struct s *s) { return s->b; }\n',
    ),
    "the rest of a function": (
        "int f(int x) { return x; }\n",
        'static inline\n#include "told.h"\nint unit(int x) { return f(x); }\n',
    ),
    "attributes of what came before": (
        "__attribute__((aligned(16))); extern int v;\n",
        'struct s { int a; }\n#include "told.h"\nint unit(struct s *s) { return s[1].a; }\n',
    ),
    "a structure that ends in brackets": (
        "[3]; extern int v;\n",
        'static struct { int a; } s\n#include "told.h"\nint unit(int i) { return s[i].a; }\n',
    ),
}


@pytest.mark.parametrize("what", LOOKED_OVER)
def test_what_was_looked_over_once_gives_what_looking_again_gives(units: Units, what: str) -> None:
    header, source = LOOKED_OVER[what]
    (units.bench.folder / "told.h").write_text(header)
    for number in range(ROUNDS):
        log = units.compile("int counted[] = {" + "__COUNTER__," * number * 7 + "};\n" + source)
        assert is_same(log), log
        assert units.is_served
    assert units.compile_alone() == log.replace("compiled", "reused"), "it has the same name"
    wider = source.replace("int q;", "int q[2];")
    assert units.bench.compile(wider).bytes == units.bench.really_compile(wider)


def test_a_header_that_changes_is_read_again(units: Units) -> None:
    header = units.bench.folder / "told.h"
    for number in range(4):
        header.write_text(f"extern int told_{number};\n")
        for _round in range(ROUNDS):
            log = units.compile('#include "told.h"\n')
            # The unit that notices is the compiler's to preprocess; a new reader takes the next.
            assert is_same(log) or "it changed while others were compiled" in log
        assert is_same(log)
        assert units.is_served


def test_a_header_that_comes_or_goes_is_noticed(units: Units) -> None:
    early = units.bench.folder / "early"
    early.mkdir()
    (units.bench.folder / "told.h").write_text("extern int late;\n")
    options = ("-I", "early", "-I", ".", *WITH)
    for there in (False, True, False):
        (early / "told.h").unlink(missing_ok=True)
        if there:
            (early / "told.h").write_text("extern int early;\n")
        for _round in range(ROUNDS):
            log = units.compile("#include <told.h>\n", *options)
            assert is_same(log) or "it changed while others were compiled" in log
        assert is_same(log)


def test_options_change_what_is_given(units: Units) -> None:
    (units.bench.folder / "told.h").write_text(
        "#if defined(A) && A > 1\nextern int more;\n#endif\n"
        "#ifdef __OPTIMIZE_SIZE__\nextern int small;\n#endif\n"
        "#if __has_attribute(noreturn)\nextern int known;\n#endif\n"
        "extern int B;\n"
    )
    sets = ((), ("-DA=1",), ("-DA=2",), ("-Os",), ("-DB=c", "-DA=3"), ("-UA",))
    for options in sets:
        units.compile("int before;\n", *options)
    for _round in range(ROUNDS):
        for options in sets:
            assert is_same(units.compile('#include "told.h"\n', *options))


def test_a_prefix_of_paths_changes_what_is_given(units: Units) -> None:
    header = "static const char *const told __attribute__((used)) = __FILE__;\n"
    (units.bench.folder / "sub" / "told.h").write_text(header)
    for _round in range(ROUNDS):
        for prefix in ("here", "there", "elsewhere"):
            option = f"-fmacro-prefix-map=sub/={prefix}/"
            log = units.compile('#include "sub/told.h"\n', option)
            assert is_same(log) or log.endswith("unit.o \n"), log


def test_what_the_compiler_would_warn_of_is_left_to_it(units: Units) -> None:
    (units.bench.folder / "told.h").write_text("#if UNKNOWN\n#endif\nextern int told;\n")
    units.compile("int before;\n", "-Wundef")
    for _round in range(ROUNDS):
        assert is_same(units.compile('#include "told.h"\n'))
        assert "not defined in a condition" in units.compile('#include "told.h"\n', "-Wundef")


@pytest.mark.parametrize("counted", [(0, 0, 0, 7), (7, 7, 7, 0)])
def test_a_name_that_ends_with_a_number_may_be_a_macro(
    units: Units, counted: tuple[int, ...]
) -> None:
    (units.bench.folder / "told.h").write_text(
        "#define P_(x, y) x##y\n#define P(x, y) P_(x, y)\nextern int P(one, __COUNTER__);\n"
    )
    for count in counted:
        before = "int counted[] = {" + "__COUNTER__," * count + "0};\n"
        assert is_same(units.compile(f'#define one7 two\n{before}#include "told.h"\n'))


def test_a_header_may_be_named_like_a_word(units: Units) -> None:
    for folder in (".", "sub"):
        (units.bench.folder / folder / "config").write_text(f"extern char from[{len(folder)}];\n")
    units.compile("int before;\n", "-Isub")
    for _round in range(ROUNDS):
        assert is_same(units.compile('extern int config;\n#include "config"\n', "-Isub"))


LINES = (
    "#define M 1", "#define M(x) x", "#undef M", "#define N M", "#undef N", "#define E(x, y) x y M",
    "#ifdef M", "#ifndef N", "#if defined(M) && defined(N)", "#else", "#endif", "extern int M;",
    "extern int N;", "extern int E(a, b);", "extern int c[__LINE__];", "extern int d[__COUNTER__];",
    "#define P(x, y) x##y", "#define Q(x, y) P(x, y)", "extern int Q(e, __COUNTER__);",
    "#define e1 k", "#define e3 l", "#undef e1", "extern int M(f);", "extern int g",
    ";", "(h);", '#include "one.h"', '#include "two.h"', "#pragma GCC diagnostic push",
    "#define SELF SELF", "extern int SELF;", "/* a comment", "*/", "#define LATE extern int i;",
    "LATE", "#pragma pack(1)", "#pragma pack()", 'extern char j[sizeof __FILE__];',
)  # fmt: skip
some_lines = st.lists(st.sampled_from(LINES), max_size=12).map("\n".join)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(one=some_lines, two=some_lines, sources=st.lists(some_lines, min_size=3, max_size=3))
def test_any_headers_give_what_the_compiler_gives(
    units: Units, one: str, two: str, sources: list[str]
) -> None:
    folder = units.bench.folder
    (folder / "one.h").write_text(f"#ifndef ONE\n#define ONE\n{one}\n#endif\n")
    (folder / "two.h").write_text(f"{two}\n")
    for _round in range(ROUNDS):
        for source in sources:
            (folder / "unit.c").write_text(
                f'{source}\n#include "one.h"\n#include "two.h"\nint number_{time.monotonic_ns()};\n'
            )
            log = folder / "log"
            log.unlink(missing_ok=True)
            env = units.bench.environment | {"MEMTOTAL_OBJECTS_LOG": str(log)}
            argv = [f"{PREFIX}gcc", *OPTIONS, "-I.", "-c", "-o", "unit.o", "unit.c"]
            said = [
                subprocess.run(argv, cwd=folder, env=one, capture_output=True, check=False)
                for one in (env, environment())
            ]
            assert (said[0].returncode, said[0].stderr) == (said[1].returncode, said[1].stderr)
            assert " for " not in (log.read_text() if log.exists() else ""), source


def test_errors_and_warnings_are_the_compilers_own(units: Units) -> None:
    folder = units.bench.folder
    for text in ("int unit(void) { return missing; }\n", "#warning look here\nint unit;\n"):
        (folder / "unit.c").write_text(text)
        argv = [f"{PREFIX}gcc", *OPTIONS, "-c", "-o", "unit.o", "unit.c"]
        served, alone = (
            subprocess.run(argv, cwd=folder, env=env, capture_output=True, check=False)
            for env in (units.bench.environment, environment())
        )
        assert served.stderr
        assert (served.returncode, served.stderr) == (alone.returncode, alone.stderr)


def test_a_reader_that_dies_costs_no_object(units: Units) -> None:
    served = []
    for _time in range(6):
        os.kill(units.server.reader(), signal.SIGKILL)
        time.sleep(0.2)
        assert units.compile("int unit;\n")
        served.append(units.is_served)
        if not served[-1]:
            break
    assert served[0], "another reader took its place"
    assert not served[-1], "one that dies again and again is not started for ever"
    assert units.compile("int unit;\n")


def wrapped(units: Units, script: str) -> dict[str, str]:
    """An environment in which a script calls the compiler, "$REAL"; but for questions."""
    compiler = units.bench.folder / "wrapped"
    compiler.write_text(
        f'#!/bin/sh\ncase " $* " in *" -x c "*) exec "$REAL" "$@";; esac\n{script}\n'
    )
    compiler.chmod(0o755)
    return units.bench.environment | {
        "MEMTOTAL_COMPILER": str(compiler),
        "REAL": str(shutil.which(f"{PREFIX}gcc", path=environment()["PATH"])),
    }


def test_the_compiler_is_started_as_alone(units: Units) -> None:
    env = wrapped(units, 'grep -E "Sig(Blk|Ign)" /proc/self/status >> said; umask >> said\n'
                         'exec "$REAL" "$@"')  # fmt: skip
    (units.bench.folder / "unit.c").write_text("int unit;\n")
    argv = [f"{PREFIX}gcc", *OPTIONS, "-c", "-o", "unit.o", "unit.c"]
    said = []
    for server in (units.bench.server, ""):
        (units.bench.folder / "said").unlink(missing_ok=True)
        shutil.rmtree(units.bench.folder / "cache" / "objects")
        (units.bench.folder / "cache" / "objects").mkdir()
        subprocess.run(argv, cwd=units.bench.folder, env=env | {"MEMTOTAL_SERVER": server},
                       check=True, umask=0o027)  # fmt: skip
        said.append((units.bench.folder / "said").read_text())
    assert said[0] == said[1]
    assert "0027" in said[0]


def test_a_compiler_that_outlives_its_reader_is_waited_for(units: Units) -> None:
    env = wrapped(units, 'if mkdir first; then sleep 2; fi 2> /dev/null\n"$REAL" "$@"\n'
                         'echo written >> done')  # fmt: skip
    (units.bench.folder / "unit.c").write_text("int unit;\n")
    argv = [f"{PREFIX}gcc", *OPTIONS, "-c", "-o", "unit.o", "unit.c"]
    with subprocess.Popen(argv, cwd=units.bench.folder, env=env) as stand_in:
        while not (units.bench.folder / "first").exists():
            time.sleep(0.05)
        os.kill(units.server.reader(), signal.SIGKILL)
        assert stand_in.wait(timeout=30) == 0
    written = (units.bench.folder / "done").read_text()
    time.sleep(2.5)
    assert (units.bench.folder / "done").read_text() == written


def test_a_unit_of_another_folder_is_not_the_servers(units: Units, tmp_path: Path) -> None:
    assert is_same(units.compile("int unit;\n"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "unit.c").write_text("int another;\n")
    argv = [f"{PREFIX}gcc", *OPTIONS, "-c", "-o", "unit.o", "unit.c"]
    subprocess.run(argv, cwd=elsewhere, env=units.bench.environment, check=True)
    subprocess.run([*argv[:-2], "real.o", "unit.c"], cwd=elsewhere, env=environment(), check=True)
    assert (elsewhere / "unit.o").read_bytes() == (elsewhere / "real.o").read_bytes()


@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("kill -TERM $$", -signal.SIGTERM)])
def test_a_build_ends_as_make_did(tmp_path: Path, script: str, code: int) -> None:
    bench = Bench(tmp_path, tmp_path / "cache")
    done = subprocess.run([*bench.objects.launcher, "sh", "-c", script], cwd=tmp_path,
                          env=bench.environment, check=False)  # fmt: skip
    assert done.returncode == code


def test_nothing_is_left_of_a_server_that_is_killed(units: Units) -> None:
    units.compile("int unit;\n")
    mine = units.server.process.pid
    children = Path(f"/proc/{mine}/task/{mine}/children").read_text().split()
    assert len(children) == 2
    units.server.process.kill()
    units.server.process.wait()
    for _look in range(50):
        if not any(Path(f"/proc/{child}/exe").exists() for child in children):
            break
        time.sleep(0.1)
    assert not any(Path(f"/proc/{child}/exe").exists() for child in children)
    assert units.compile("int unit;\n"), "the stand-in does without"
