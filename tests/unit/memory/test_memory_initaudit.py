"""What the audit says of objects that the cross compiler made of a few lines of C each."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from optimizer.kernel.contents import object_contents
from optimizer.memory.initaudit import Audit, audit

CC = "arm-linux-gnueabi-gcc"
pytestmark = pytest.mark.skipif(shutil.which(CC) is None, reason=f"needs {CC}")

HEAD = """
#define __init __attribute__((section(".init.text"), cold, __noinline__))
#define __initdata __attribute__((section(".init.data")))
#define noinline __attribute__((__noinline__))
#define EXPORT_SYMBOL(name) void *const name##_export \\
    __attribute__((section("___ksymtab+" #name))) = (void *)name
#define initcall(name) void *name##_call __attribute__((used, section(".initcall6.init"))) = name
extern volatile int sink;
extern void register_callback(void (*)(void));
"""


def audited(folder: Path, march: str = "armv5te", **sources: str) -> Audit:
    """The audit of objects compiled as the kernel is; ``main`` is code that stays."""
    objects, texts = [], {}
    for name, source in (
        {"main": "volatile int sink;\nvoid stays(void) { sink = 9; }"} | sources
    ).items():
        path = folder / f"{name}.c"
        text = HEAD.replace("extern volatile int sink;", "") if name == "main" else HEAD
        path.write_text(text + source)
        subprocess.run(
            [CC, "-O2", "-marm", f"-march={march}", "-fno-pic", "-ffreestanding", "-c", path.name],
            cwd=folder,
            check=True,
        )
        objects.append(object_contents(path.with_suffix(".o"), f"{name}.o", frozenset()))
        texts[f"{name}.o"] = source
    return audit(objects, texts)


def names(found: Audit) -> set[str]:
    return {one.name for one in found.candidates}


HELPER = "noinline static void helper(void) { sink = 1; }\n"


def test_what_only_init_code_calls(tmp_path: Path) -> None:
    found = audited(tmp_path, one=HELPER + "void __init start(void) { helper(); sink = 2; }")
    (helper,) = found.candidates
    assert (helper.name, helper.object, helper.attribute) == ("helper", "one.o", "__init")
    assert helper.callers == ("start",)
    assert helper.reason == "only called by start"
    assert helper.bytes >= 8


def test_a_chain_moves_as_a_whole(tmp_path: Path) -> None:
    source = (
        HELPER
        + "noinline static void outer(void) { helper(); sink = 3; helper(); }\n"
        + "void __init start(void) { outer(); sink = 2; }"
    )
    found = audited(tmp_path, one=source)
    assert names(found) == {"helper", "outer"}
    assert {one.name: one.with_ for one in found.candidates}["helper"] == ("outer",)


def test_one_caller_that_stays_is_enough_to_stay(tmp_path: Path) -> None:
    source = (
        HELPER + "void __init start(void) { helper(); }\nvoid later(void) { helper(); sink = 4; }"
    )
    assert names(audited(tmp_path, one=source)) == set()


def test_a_caller_in_another_file(tmp_path: Path) -> None:
    shared = "noinline void shared(void) { sink = 1; }"
    user = "extern void shared(void);\n"
    init = audited(
        tmp_path, one=shared, two=user + "void __init start(void) { shared(); sink = 1; }"
    )
    assert names(init) == {"shared"}
    both = audited(
        tmp_path,
        one=shared,
        two=user + "void __init start(void) { shared(); sink = 1; }",
        three=user + "void later(void) { shared(); sink = 2; }",
    )
    assert names(both) == set()


@pytest.mark.parametrize(
    "use",
    [
        "void __init start(void) { register_callback(helper); }",
        "void (*table[])(void) = { helper };\nvoid __init start(void) { helper(); sink = 1; }",
        "void __initdata *table[] = { helper };\nvoid __init start(void) { helper(); sink = 1; }",
        "EXPORT_SYMBOL(helper);\nvoid __init start(void) { helper(); sink = 1; }",
    ],
)
def test_who_holds_the_address_may_call_later(tmp_path: Path, use: str) -> None:
    assert names(audited(tmp_path, one=HELPER + use)) == set()


def test_an_initcall_is_a_call(tmp_path: Path) -> None:
    source = "static int setup(void) { sink = 1; return 0; }\ninitcall(setup);"
    assert names(audited(tmp_path, one=source)) == {"setup"}


def test_weak_functions_and_those_that_nobody_names_stay(tmp_path: Path) -> None:
    source = (
        "__attribute__((weak)) void weak(void) { sink = 1; }\n"
        "void orphan(void) { sink = 2; }\n"
        "void __init start(void) { weak(); sink = 1; }"
    )
    assert names(audited(tmp_path, one=source)) == set()


def test_a_ring_that_the_boot_never_enters_stays(tmp_path: Path) -> None:
    source = (
        "void pong(int);\nnoinline void ping(int n) { if (n) pong(n - 1); sink = n; }\n"
        "noinline void pong(int n) { if (n) ping(n - 1); sink = n; }"
    )
    assert names(audited(tmp_path, one=source)) == set()


def test_what_the_compiler_put_into_code_that_stays_is_left_out(tmp_path: Path) -> None:
    """Named twice, called once: the other call was built in, and may not be once it is marked."""
    source = (
        "static inline __attribute__((always_inline)) void small(void) { sink = 1; }\n"
        "noinline static void helper(void) { small(); }\n"
        "void later(void) { if (0) helper(); sink = 4; }\n"
        "void __init start(void) { helper(); sink = 2; }"
    )
    assert "helper" not in names(audited(tmp_path, one=source))


def test_single_values_that_only_init_code_uses(tmp_path: Path) -> None:
    source = "static int count;\nvoid __init start(int n) { count += n; sink = count; }"
    (count,) = audited(tmp_path, one=source).candidates
    assert (count.name, count.bytes, count.attribute) == ("count", 4, "__initdata")


@pytest.mark.parametrize(
    "source",
    [
        # used later too, by way of the same anchor
        "static int count, other;\nvoid __init start(int n) { count += n; sink = count; }\n"
        "void later(int n) { other += n; sink = other; }",
        # too large to know that nobody keeps its address
        "static int table[64];\nvoid __init start(int n) { table[n & 63] += n; sink = table[1]; }",
        # holds an address
        "static void call(void) { sink = 1; }\nstatic void (*hook)(void) = call;\n"
        "void __init start(void (*new)(void)) { hook(); hook = new; }",
    ],
)
def test_values_that_stay(tmp_path: Path, source: str) -> None:
    assert not {"count", "table", "hook", "call"} & names(audited(tmp_path, one=source))


@pytest.mark.parametrize("march", ["armv5te", "armv7-a"])
def test_addresses_in_literals_and_in_instructions(tmp_path: Path, march: str) -> None:
    """ARMv5 loads an address from a literal, ARMv7 builds it from two halves."""
    source = (
        "noinline static void early(void) { sink = 1; }\n"
        "noinline static void kept(void) { sink = 2; sink = 3; }\n"
        "static int count;\n"
        "void __init start(int n) { early(); kept(); count += n; sink = count; }\n"
        "void __init hand_on(void) { register_callback(kept); sink = 4; }"
    )
    assert names(audited(tmp_path, march, one=source)) == {"early", "count"}
