"""Section attributes put into C source: where they go, and what is left alone."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from benchmarks.marks import Unmarkable, including_init, marked

FUNCTIONS = {
    "static": ("static int f(void)\n{\n}\n", "static int __init f(void)\n{\n}\n"),
    "return type on its own line": (
        "struct page *\nf(int a,\n  int b)\n{\n}\n",
        "struct page *\n__init f(int a,\n  int b)\n{\n}\n",
    ),
    "pointer": ("void *f(void)\n{\n}\n", "void *__init f(void)\n{\n}\n"),
    "pointer to a pointer": (
        "static struct a **f(struct b *b)\n{\n}\n",
        "static struct a **__init f(struct b *b)\n{\n}\n",
    ),
    "inline": ("static inline void f(void) { }\n", "static inline void __init f(void) { }\n"),
    "function argument": (
        "void f(void *(*get)(int size))\n{\n}\n",
        "void __init f(void *(*get)(int size))\n{\n}\n",
    ),
    "attribute of its own": (
        "void __init_memblock __printf(1, 2) f(char *a, ...)\n\t__acquires(b)\n{\n}\n",
        "void __init_memblock __printf(1, 2) __init f(char *a, ...)\n\t__acquires(b)\n{\n}\n",
    ),
    "declared before, used and told of": (
        "static void f(int a);\n/* f() { */\nint g(void)\n{\n\tf(1);\n\treturn f(2);\n}\n"
        '#define F f(3)\nstatic void f(int a)\n{\n\tputs("f(void) {");\n}\n',
        "static void f(int a);\n/* f() { */\nint g(void)\n{\n\tf(1);\n\treturn f(2);\n}\n"
        '#define F f(3)\nstatic void __init f(int a)\n{\n\tputs("f(void) {");\n}\n',
    ),
    "either way": (
        "#ifdef A\nvoid f(void)\n{\n}\n#else\nvoid f(void)\n{\n\tg();\n}\n#endif\n",
        "#ifdef A\nvoid __init f(void)\n{\n}\n#else\nvoid __init f(void)\n{\n\tg();\n}\n#endif\n",
    ),
    "after a macro without a semicolon": (
        "core_param(a, b)\nint f(void)\n{\n}\n",
        "core_param(a, b)\nint __init f(void)\n{\n}\n",
    ),
    "longer names": (
        "int ff(void)\n{\n}\nint f(void)\n{\n}\nint f_(void)\n{\n}\n",
        "int ff(void)\n{\n}\nint __init f(void)\n{\n}\nint f_(void)\n{\n}\n",
    ),
}

VARIABLES = {
    "plain": ("int v;\n", "int v __initdata;\n"),
    "static with a value": ("static int v = 5;\n", "static int v __initdata = 5;\n"),
    "array": ("static char v[4][2];\n", "static char v[4][2] __initdata;\n"),
    "const array": (
        "static const u8 v[4] = { 99, 130 };\n",
        "static const u8 v[4] __initconst = { 99, 130 };\n",
    ),
    "const after its type": ("int const v = 1;\n", "int const v __initconst = 1;\n"),
    "pointer": ("static pmd_t *v;\n", "static pmd_t *v __initdata;\n"),
    "pointer to const": ("static const char *v = 0;\n", "static const char *v __initdata = 0;\n"),
    "const pointer": (
        "static const char *const v = 0;\n",
        "static const char *const v __initconst = 0;\n",
    ),
    "structure": (
        "static struct x y;\nstatic struct x v = {\n\t.v = 1,\n};\n",
        "static struct x y;\nstatic struct x v __initdata = {\n\t.v = 1,\n};\n",
    ),
    "attribute of its own": (
        "static bool v __aligned(4) = true;\n",
        "static bool v __initdata __aligned(4) = true;\n",
    ),
    "one of several": ("static int u, v, w;\n", "static int u, v __initdata, w;\n"),
    "pointer to a function": (
        "static void (*v)(int a);\n",
        "static void (*v)(int a) __initdata;\n",
    ),
    "const pointers to functions": (
        "static void (*const v[2])(int a) = { };\n",
        "static void (*const v[2])(int a) __initconst = { };\n",
    ),
    "declared before and used": (
        "extern int v;\nstruct s {\n\tint v;\n};\nint v = 1;\nint f(int a)\n{\n\tv = a;\n}\n",
        "extern int v;\nstruct s {\n\tint v;\n};\nint v __initdata = 1;\n"
        "int f(int a)\n{\n\tv = a;\n}\n",
    ),
}


@pytest.mark.parametrize("case", FUNCTIONS)
def test_a_function(case: str) -> None:
    before, after = FUNCTIONS[case]
    assert marked(before, "f", function=True) == (after, "__init")


@pytest.mark.parametrize("case", VARIABLES)
def test_a_variable(case: str) -> None:
    before, after = VARIABLES[case]
    text, mark = marked(before, "v", function=False)
    assert text == after
    assert mark in after


@pytest.mark.parametrize(
    ("text", "function", "why"),
    [
        ("int g(void)\n{\n}\n", True, "file does not name it"),
        ("DEFINE_IDLE(f)\n", True, "a macro"),
        ("int f(void);\n", True, "a macro"),
        ("/* int f(void) { } */\n", True, "file does not name it"),
        ("#define f(x) (x)\n", True, "file does not name it"),
        ("static int __init f(void)\n{\n}\n", True, "it has __init"),
        ("void __ref f(void)\n{\n}\n", True, "it has __ref"),
        ("static DEFINE_PER_CPU(unsigned long, f) = { 0 };\n", False, "a macro"),
        ("extern int f;\n", False, "a macro"),
        ("struct f {\n\tint a;\n};\n", False, "a macro"),
        ("struct f;\nenum f g;\n", False, "a macro"),
        ("void g(void)\n{\n\tint f = 1;\n}\n", False, "a macro"),
        ("typedef int f;\n", False, "a macro"),
        ("static int f __read_mostly = 1;\n", False, "it has __read_mostly"),
        ("int g(int f)\n{\n}\n", False, "a macro"),
    ],
)
def test_what_is_not_marked_says_why(text: str, function: bool, why: str) -> None:
    with pytest.raises(Unmarkable, match=why):
        marked(text, "f", function=function)


def test_init_h_is_included_once_and_under_no_condition() -> None:
    assert including_init("/* a */\n#include <a.h>\n") == (
        "/* a */\n#include <linux/init.h>\n#include <a.h>\n"
    )
    there = "#include <a.h>\n# include <linux/init.h>\n"
    assert including_init(there) == there
    assert including_init(
        '/*\n#include <b.h>\n*/\n#ifdef A\n#include "a.h"\n#endif\n#include "c.h"\n'
    ) == (
        '/*\n#include <b.h>\n*/\n#ifdef A\n#include "a.h"\n#endif\n#include <linux/init.h>\n'
        '#include "c.h"\n'
    )
    assert including_init("int a;\n") == "#include <linux/init.h>\nint a;\n"


def test_a_compiler_agrees_with_the_places(tmp_path: Path) -> None:
    attributes = "".join(
        f'#define {name} __attribute__((section(".init.{section}")))\n'
        for name, section in (("__init", "text"), ("__initdata", "data"), ("__initconst", "rodata"))
    )
    functions = "void *f(void)\n{\n\treturn 0;\n}\n"
    source = tmp_path / "a.c"
    variables = {
        "int v;\n": ".init.data",
        "static char v[4][2];\n": ".init.data",
        "static const unsigned char v[4] = { 99, 130 };\n": ".init.rodata",
        "static const char *v = 0;\n": ".init.data",
        "static void (*v)(int a);\n": ".init.data",
        "static void (*const v[2])(int a) = { 0 };\n": ".init.rodata",
    }
    for text, section in variables.items():
        done, _mark = marked(text, "v", function=False)
        done = marked(functions, "f", function=True)[0] + done
        source.write_text(f"{attributes}{done}void *use(void)\n{{\n\treturn (void *)&v;\n}}\n")
        subprocess.run(["cc", "-c", "-w", source.name], cwd=tmp_path, check=True)
        seen = subprocess.run(
            ["objdump", "-t", "a.o"], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout
        assert re.search(rf"\s{re.escape(section)}\s.*\sv$", seen, re.MULTILINE), (text, seen)
        assert re.search(r"\s\.init\.text\s.*\sf$", seen, re.MULTILINE)
