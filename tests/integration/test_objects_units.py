"""Reuse of objects, unit by unit: what may change without a compilation, and what may not.

Whatever is expected of reuse, the object must be the compiler's own, byte for byte.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optimizer.kernel.objects import ObjectCounts, ObjectStore
from optimizer.settings import environment
from tests.integration.compilers import OPTIONS, PREFIX, Bench

pytestmark = pytest.mark.integration

TASK = "struct task { int state; BEFORE int flags; long long stamp; BEHIND };\n"
USES_STATE = "int unit(struct task *task) { return task->state; }\n"
USES_FLAGS = "int unit(struct task *task) { return task->flags; }\n"
USES_C = "int unit(struct task *task) { return task->c; }\n"
IS_ELSEWHERE = "extern struct task t[2]; int unit(void) { return t[1].flags; }\n"


def task(here: str, there: str, code: str) -> str:
    return TASK.replace("BEFORE", here).replace("BEHIND", there) + code


# What nothing in the unit depends on: name -> (before, after).
HARMLESS = {
    "function with its name in brackets": ("int unit;", "int (f)(int); int unit;"),
    "function that returns a function's address": ("int unit;", "int (*f(int))(void); int unit;"),
    "prototype": ("int unit(int x) { return x; }", "int f(int); int unit(int x) { return x; }"),
    "space and lines": ("int unit(int x){return x;}", "\n\nint  unit ( int x )\n{ return x ; }\n"),
    "inline function": (
        "int unit(int x) { return x; }",
        "static inline int f(int x) { static int n; return n += x; } int unit(int x) { return x; }",
    ),
    "inline function's local names": (
        "static inline int f(int x) { return x; }\nint unit(int x) { static int n; return n++; }",
        "static inline int f(int x) { static int n; static int m; return n + m + x; }\n"
        "int unit(int x) { static int n; return n++; }",
    ),
    "structure": ("int unit;", "struct a { int b; }; int unit;"),
    "macro": ("#define A 1\nint unit(int x) { return x; }", "int unit(int x) { return x; }"),
    "enumeration": (
        "enum { A, B }; int unit(void) { return 1; }",
        "enum { A, C, B }; int unit(void) { return 1; }",
    ),
    "type": ("int unit(int x) { return x; }", "typedef long t; int unit(int x) { return x; }"),
    "extern": ("int unit(int x) { return x; }", "extern int v; int unit(int x) { return x; }"),
    "only pointed to": (
        "struct a { int b; }; void *unit(struct a *a) { return a; }",
        "struct a { int c; int b; }; void *unit(struct a *a) { return a; }",
    ),
    "member after the used one": (
        task("", "", USES_STATE),
        task("int more;", "", USES_STATE),
    ),
    "member behind": (task("", "", USES_FLAGS), task("", "int more;", USES_FLAGS)),
    "member of the same name elsewhere": (
        "struct b { int flags; }; " + task("", "", USES_STATE),
        "struct b { int x; int flags; }; " + task("", "", USES_STATE),
    ),
    "name of a member and of a function": (
        "static inline int state(void) { return 1; } " + task("", "", USES_STATE),
        "static inline int state(void) { return 2; } " + task("", "", USES_STATE),
    ),
    "name of a local and of a function": (
        "static inline int x(void) { return 1; } int unit(int x) { return x; }",
        "static inline int x(void) { return 2; } int unit(int x) { return x; }",
    ),
    "attribute asked for": (
        task("", "", "int unit(struct task *t)"
             "{ return __builtin_has_attribute(t->flags, nonstring); }"),
        task("", "int more;", "int unit(struct task *t)"
             "{ return __builtin_has_attribute(t->flags, nonstring); }"),
    ),
    "type of an expression": (
        task("", "", "int unit(struct task *t) { typeof(*t) *u = t; return u->state; }"),
        task("", "int more;", "int unit(struct task *t) { typeof(*t) *u = t; return u->state; }"),
    ),
    "container": (
        task("", "", "struct task *unit(int *p) { return (struct task *)((char *)p - "
             "__builtin_offsetof(struct task, flags)); }"),
        task("", "int more;", "struct task *unit(int *p) { return (struct task *)((char *)p - "
             "__builtin_offsetof(struct task, flags)); }"),
    ),
    "a member before the used one, of another type": (
        task("int more;", "", USES_FLAGS),
        task("float *more;", "", USES_FLAGS),
    ),
    "what padding takes in": (
        task("char one;", "", USES_FLAGS),
        task("char one; short two;", "", USES_FLAGS),
    ),
    "bit-fields before": (
        task("unsigned a : 1; unsigned b : 31;", "", USES_FLAGS),
        task("unsigned a : 20; unsigned b : 12;", "", USES_FLAGS),
    ),
    "bit-fields that begin anew": (
        task("unsigned a : 1; unsigned : 0; unsigned b : 1;", "", USES_FLAGS),
        task("unsigned a : 30; unsigned b : 3;", "", USES_FLAGS),
    ),
    "an array before": (
        "enum { HERE = 3, THERE }; " + task("int more[THERE];", "", USES_FLAGS),
        "enum { HERE = 7, THERE }; " + task("short more[THERE + (1 ? 0 : 9)];", "", USES_FLAGS),
    ),
    "a structure before": (
        "struct in { char a; long long b; }; " + task("struct in more;", "", USES_FLAGS),
        "struct in { long long b; int a; }; " + task("struct in more;", "", USES_FLAGS),
    ),
    "an array as long as something is large": (
        "struct in { int a, b; }; " + task("char more[sizeof(struct in) / 2];", "", USES_FLAGS),
        "struct in { int b, a; }; " + task("char more[4];", "", USES_FLAGS),
    ),
    "an aligned member before": (
        task("int more __attribute__((aligned(8)));", "", USES_FLAGS),
        task("int pad; int more;", "", USES_FLAGS),
    ),
    "alignment by another kind": (
        "struct in { int a; void *b; }; int unit(struct in *in) { return in->a; }",
        "struct in { int a; long b; }; int unit(struct in *in) { return in->a; }",
    ),
    "what sizeof gives, of other members": (
        "struct s { int a; float b; }; int unit(void) { return sizeof(struct s); }",
        "struct s { float *a; int b; }; int unit(void) { return sizeof(struct s); }",
    ),
    "members of a variable elsewhere": (
        task("int *more;", "long *less;", IS_ELSEWHERE),
        task("long more;", "int *less;", IS_ELSEWHERE),
    ),
    "members behind the used one, in steps of it": (
        task("", "int more;", "int unit(struct task *t, int i) { return t[i].flags; }"),
        task("", "float more;", "int unit(struct task *t, int i) { return t[i].flags; }"),
    ),
    "other members of a union": (
        "union u { int a; float b; }; int unit(union u *u) { return u->a; }",
        "union u { int *b; int a; }; int unit(union u *u) { return u->a; }",
    ),
    "members of one without a name": (
        task("struct { int a; union { int b; int c; }; int z; };", "", USES_C),
        task("struct { float x; union { float b; int c; }; int z; };", "", USES_C),
    ),
    "numbers in the names of a block": (
        "int unit(int x) { int y_1 = x; extern void f_2(void) __attribute__((error(\"\")));"
        "__auto_type z_3 = y_1; if (sizeof(x) != 4) f_2(); return y_1 + z_3; }",
        "int unit(int x) { int y_7 = x; extern void f_8(void) __attribute__((error(\"\")));"
        "__auto_type z_9 = y_7; if (sizeof(x) != 4) f_8(); return y_7 + z_9; }",
    ),
}  # fmt: skip

# What changes the object, or may.
TELLING = {
    "a structure that only a declarator has": (
        "struct foo { int a; }; static char x[sizeof(struct { struct foo f; })];"
        "char *unit(void) { return x; }",
        "struct foo { int a[9]; }; static char x[sizeof(struct { struct foo f; })];"
        "char *unit(void) { return x; }",
    ),
    "attribute of a pointer behind what is used": (
        "struct s { int a, b; unsigned f : 1; int c; int *q; };"
        "void unit(struct s *s) { s->a = 0; s->b = 0; s->f = 1; }",
        "struct s { int a, b; unsigned f : 1; int c; __attribute__((aligned(8))) int *q; };"
        "void unit(struct s *s) { s->a = 0; s->b = 0; s->f = 1; }",
    ),
    "number in the name of a function that is declared second": (
        'void unit(void) { extern void a_1(void) __attribute__((error(""))), b_2(void); b_2(); }',
        'void unit(void) { extern void a_1(void) __attribute__((error(""))), b_3(void); b_3(); }',
    ),
    "number in the name of a function whose address is kept": (
        "void *hook;"
        'void unit(void) { extern void f_1(void) __attribute__((error(""))); hook = f_1; }',
        "void *hook;"
        'void unit(void) { extern void f_2(void) __attribute__((error(""))); hook = f_2; }',
    ),
    "what stands before a member of a structure in a structure": (
        "struct bar { int q; };"
        "struct outer { int a; struct inner { struct bar b; int y; } *m; };"
        "int unit(struct outer *o) { return o->m->y; }",
        "struct bar { int q[2]; };"
        "struct outer { int a; struct inner { struct bar b; int y; } *m; };"
        "int unit(struct outer *o) { return o->m->y; }",
    ),
    "the same beside a bit-field": (
        "struct bar { int q; }; struct outer { struct inner { struct bar b; int y; } m;"
        "unsigned z : 3; int w; }; int unit(struct outer *o) { return o->z; }",
        "struct bar { int q[2]; }; struct outer { struct inner { struct bar b; int y; } m;"
        "unsigned z : 3; int w; }; int unit(struct outer *o) { return o->z; }",
    ),
    "how large a structure in a structure is": (
        "struct bar { int q; }; struct outer { struct inner { struct bar b; int y; } *m; } o;"
        "void *unit(void) { return o.m + 1; }",
        "struct bar { int q[2]; }; struct outer { struct inner { struct bar b; int y; } *m; } o;"
        "void *unit(void) { return o.m + 1; }",
    ),
    "attribute before an array of pointers": (
        "struct s { int a; int *x[2]; int y; }; int unit(struct s *s) { return s->y; }",
        "struct s { int a; int __attribute__((aligned(8))) *x[2]; int y; };"
        "int unit(struct s *s) { return s->y; }",
    ),
    "attribute of a pointer's type": (
        "typedef int *T; struct s { int a; T x; int y; }; int unit(struct s *s) { return s->y; }",
        "typedef int __attribute__((aligned(16))) *T; struct s { int a; T x; int y; };"
        "int unit(struct s *s) { return s->y; }",
    ),
    "attribute within a type's declarator": (
        "typedef int *T; struct s { int a; T x; int y; }; int unit(struct s *s) { return s->y; }",
        "typedef int *__attribute__((aligned(16))) T; struct s { int a; T x; int y; };"
        "int unit(struct s *s) { return s->y; }",
    ),
    "type of a variable that is aligned": (
        "struct t { int q; }; extern struct t g __attribute__((aligned(16)));"
        "struct s { int a; typeof(g) y; int z; }; int unit(struct s *s) { return s->z; }",
        "struct t { int q; }; struct s { int a; struct t y __attribute__((aligned(16))); int z; };"
        "int unit(struct s *s) { return s->z; }",
    ),
    "type of an array whose length its value tells": (
        "static int table[] = { 1 }; struct s { typeof(table) t; int y; };"
        "int unit(struct s *s) { return s->y; }",
        "static int table[] = { 1, 2 }; struct s { typeof(table) t; int y; };"
        "int unit(struct s *s) { return s->y; }",
    ),
    "the last of two alignments": (
        "struct __attribute__((aligned(16))) in { int a; } __attribute__((aligned(8)));"
        "struct s { int a; struct in in; int y; }; int unit(struct s *s) { return s->y; }",
        "struct __attribute__((aligned(8))) in { int a; } __attribute__((aligned(16)));"
        "struct s { int a; struct in in; int y; }; int unit(struct s *s) { return s->y; }",
    ),
    "what follows an array and is no member": (
        "struct s { int a[4]; int : 0; };"
        "int unit(struct s *s, int n) { int t = 0; while (n--) t += s->a[n]; return t; }",
        "struct s { int a[4]; int : 0; int t; };"
        "int unit(struct s *s, int n) { int t = 0; while (n--) t += s->a[n]; return t; }",
    ),
    "number in the name of a constant in a block": (
        "struct s { int a[16]; }; void unit(struct s *p)"
        "{ const struct s x_1 = {{1, 2, 3, 4, 5, 6, 7, 8, 9}}; *p = x_1; }",
        "struct s { int a[16]; }; void unit(struct s *p)"
        "{ const struct s x_2 = {{1, 2, 3, 4, 5, 6, 7, 8, 9}}; *p = x_2; }",
    ),
    "number in the name of a static variable of any type": (
        "int unit(void) { static __auto_type x_1 = 1; return x_1++; }",
        "int unit(void) { static __auto_type x_2 = 1; return x_2++; }",
    ),
    "number in the name of a weak function that is not called": (
        "int unit(int x) { extern void f_1(void) __attribute__((error(\"\"), weak));"
        "return f_1 ? x : 1; }",
        "int unit(int x) { extern void f_2(void) __attribute__((error(\"\"), weak));"
        "return f_2 ? x : 1; }",
    ),
    "number in the name of a static variable": (
        "int unit(void) { static int y_1; return y_1++; }",
        "int unit(void) { static int y_7; return y_7++; }",
    ),
    "number in the name of a function elsewhere": (
        "int unit(void) { extern int y_1(void); return y_1(); }",
        "int unit(void) { extern int y_7(void); return y_7(); }",
    ),
    "which of two names with numbers": (
        "int unit(int x_1, int x_2) { int y_1 = x_1, y_2 = x_2; return y_1 - y_2; }",
        "int unit(int x_1, int x_2) { int y_1 = x_1, y_2 = x_2; return y_2 - y_1; }",
    ),
    "names with numbers in assembly": (
        'int unit(int x, int z) { int y_1 = x, y_2 = z; '
        'asm("add %[y_1], %[y_2]" : [y_1] "+r"(y_1) : [y_2] "r"(y_2)); return y_1; }',
        'int unit(int x, int z) { int y_1 = x, y_2 = z; '
        'asm("add %[y_1], %[y_2]" : [y_2] "+r"(y_1) : [y_1] "r"(y_2)); return y_1; }',
    ),
    "size of a variable elsewhere": (
        task("", "", IS_ELSEWHERE),
        task("", "long long more;", IS_ELSEWHERE),
    ),
    "size of a union": (
        "union u { int a; float b; }; int unit(union u *u) { return u[1].a; }",
        "union u { int a; long long b; }; int unit(union u *u) { return u[1].a; }",
    ),
    "place of one without a name": (
        task("struct { int a; union { int b; int c; }; int z; };", "", USES_C),
        task("struct { union { int b; int c; }; int z; };", "", USES_C),
    ),
    "what is copied, of the same size": (
        "struct s { char a[4]; }; void unit(struct s *s, struct s *t) { *s = *t; }",
        "struct s { int a; }; void unit(struct s *s, struct s *t) { *s = *t; }",
    ),
    "alignment, by what is behind": (
        "struct s { char a[8]; unsigned char b; unsigned char c; };"
        "void unit(struct s *s, int x) { __builtin_memcpy(s->a, &x, 4); }",
        "struct s { char a[8]; unsigned char b; unsigned int c; };"
        "void unit(struct s *s, int x) { __builtin_memcpy(s->a, &x, 4); }",
    ),
    "bit-field that does not fit in any more": (
        task("unsigned a : 30; unsigned b : 2;", "", USES_FLAGS),
        task("unsigned a : 30; unsigned b : 3;", "", USES_FLAGS),
    ),
    "constant that an array before is as long as": (
        "enum { HERE = 3, THERE }; " + task("int more[THERE];", "", USES_FLAGS),
        "enum { HERE = 4, THERE }; " + task("int more[THERE];", "", USES_FLAGS),
    ),
    "type of the used member": (
        task("", "", USES_FLAGS),
        TASK.replace("int flags", "short flags").replace("BEFORE", "").replace("BEHIND", "")
        + USES_FLAGS,
    ),
    "attribute of a structure before": (
        "struct in { int a; }; " + task("struct in in;", "", USES_FLAGS),
        "struct in { int a; } __attribute__((aligned(16))); "
        + task("struct in in;", "", USES_FLAGS),
    ),
    "attribute behind a structure's name": (
        "struct in { int a; }; " + task("struct in in;", "", USES_FLAGS),
        "struct in { int a; }; "
        + task("struct in __attribute__((aligned(16))) in;", "", USES_FLAGS),
    ),
    "attribute of a pointer": (
        task("int *more;", "", USES_FLAGS),
        task("__attribute__((aligned(16))) int *more;", "", USES_FLAGS),
    ),
    "attribute within a declarator": (
        task("int *more;", "", USES_FLAGS),
        task("int * __attribute__((aligned(16))) more;", "", USES_FLAGS),
    ),
    "attribute of a type": (
        "typedef int t; " + task("t more;", "", USES_FLAGS),
        "typedef int t __attribute__((aligned(16))); " + task("t more;", "", USES_FLAGS),
    ),
    "packed structure before": (
        "struct in { char a; int b; }; " + task("struct in in;", "", USES_FLAGS),
        "struct in { char a; int b; } __attribute__((packed)); "
        + task("struct in in;", "", USES_FLAGS),
    ),
    "a variable that points to a function": (
        "int unit;",
        "void (*hook)(void); int unit;",
    ),
    "variables that point to functions, by twos": (
        "int unit, (*one)(int);",
        "int unit, (*one)(int), (*(*two)(void))(int);",
    ),
    "what has to stay, behind the name of its type": (
        "struct a { int b; }; static struct a __attribute__((used)) one = { 1 };",
        "struct a { int b; }; static struct a __attribute__((used)) one = { 2 };",
    ),
    "names of variables, counted where there is an alias": (
        "int unit(void) { static int n; return n++; }\n"
        "int other(void) __attribute__((alias(\"unit\")));",
        "static inline int f(void) { static int m __attribute__((section(\".s\"))); return m++; }\n"
        "int unit(void) { static int n; return n++; }\n"
        "int other(void) __attribute__((alias(\"unit\")));",
    ),
    "two of them in one declaration": (
        "static inline int f(void) { static __attribute__((section(\".s\"))) int m; return m++; }\n"
        "int unit(void) { static int n; return n++; }\n"
        "int other(void) __attribute__((alias(\"unit\")));",
        "static inline int f(void)"
        "{ static __attribute__((section(\".s\"))) int m, o; return m++; }\n"
        "int unit(void) { static int n; return n++; }\n"
        "int other(void) __attribute__((alias(\"unit\")));",
    ),
    "member before the used one": (task("", "", USES_FLAGS), task("int more;", "", USES_FLAGS)),
    "sizeof": (
        task("", "", "int unit(void) { return sizeof(struct task); }"),
        task("", "int more;", "int unit(void) { return sizeof(struct task); }"),
    ),
    "sizeof of an expression": (
        task("", "", "int unit(struct task *t) { return sizeof(*t); }"),
        task("", "int more;", "int unit(struct task *t) { return sizeof(*t); }"),
    ),
    "sizeof by way of typeof": (
        task("", "", "int unit(struct task *t) { typeof(t) u; return sizeof *u; }"),
        task("", "int more;", "int unit(struct task *t) { typeof(t) u; return sizeof *u; }"),
    ),
    "index": (
        task("", "", "int unit(struct task *t) { return t[2].state; }"),
        task("", "int more;", "int unit(struct task *t) { return t[2].state; }"),
    ),
    "arithmetic": (
        task("", "", "void *unit(struct task *t, int n) { return t + n; }"),
        task("", "int more;", "void *unit(struct task *t, int n) { return t + n; }"),
    ),
    "increment": (
        task("", "", "void *unit(struct task **t) { return ++*t; }"),
        task("", "int more;", "void *unit(struct task **t) { return ++*t; }"),
    ),
    "difference": (
        task("", "", "int unit(struct task *t, struct task *u) { return t - u; }"),
        task("", "int more;", "int unit(struct task *t, struct task *u) { return t - u; }"),
    ),
    "assignment": (
        task("", "", "void unit(struct task *t, struct task *u) { *t = *u; }"),
        task("", "int more;", "void unit(struct task *t, struct task *u) { *t = *u; }"),
    ),
    "variable": (
        task("", "", "struct task unit;"),
        task("", "int more;", "struct task unit;"),
    ),
    "local variable": (
        task("", "", "void f(void *); void unit(void) { struct task t; f(&t); }"),
        task("", "int more;", "void f(void *); void unit(void) { struct task t; f(&t); }"),
    ),
    "member of a member": (
        task("", "", "struct b { struct task t; int x; }; int unit(struct b *b) { return b->x; }"),
        task("", "int m;",
             "struct b { struct task t; int x; }; int unit(struct b *b) { return b->x; }"),
    ),
    "passed by value": (
        task("", "", "void f(struct task); void unit(struct task *t) { f(*t); }"),
        task("", "int more;", "void f(struct task); void unit(struct task *t) { f(*t); }"),
    ),
    "alignment": (
        "struct a { char b[8]; }; void unit(struct a *x, struct a *y)"
        "{ __builtin_memcpy(x->b, y->b, 8); }",
        "struct a { char b[8]; int c; }; void unit(struct a *x, struct a *y)"
        "{ __builtin_memcpy(x->b, y->b, 8); }",
    ),
    "bytes copied": (
        "struct a { char b[4]; }; void unit(struct a *x, struct a *y)"
        "{ __builtin_memcpy(x, y, 8); }",
        "struct a { long long b; }; void unit(struct a *x, struct a *y)"
        "{ __builtin_memcpy(x, y, 8); }",
    ),
    "bytes copied by another": (
        "static inline void f(void *x, void *y) { __builtin_memcpy(x, y, 8); }"
        "struct a { char b[4]; }; void unit(struct a *x, struct a *y) { f(x, y); }",
        "static inline void f(void *x, void *y) { __builtin_memcpy(x, y, 8); }"
        "struct a { long long b; }; void unit(struct a *x, struct a *y) { f(x, y); }",
    ),
    "what is called": (
        "static inline int f(int x) { return x + 1; } static inline int g(int x) { return f(x); }"
        "int unit(int x) { return g(x); }",
        "static inline int f(int x) { return x + 2; } static inline int g(int x) { return f(x); }"
        "int unit(int x) { return g(x); }",
    ),
    "called by an initializer": (
        "static int f(int x) { return x; } int (*const unit[])(int) = { f };",
        "static int f(int x) { return -x; } int (*const unit[])(int) = { f };",
    ),
    "constant": (
        "enum { A, B }; int unit(void) { return B; }",
        "enum { A, C, B }; int unit(void) { return B; }",
    ),
    "constant of a constant": (
        "enum { A = 4 }; enum { B = A + 1 }; int unit(void) { return B; }",
        "enum { A = 5 }; enum { B = A + 1 }; int unit(void) { return B; }",
    ),
    "constant of a structure": (
        task("", "", "enum { A = sizeof(struct task) }; int unit(void) { return A; }"),
        task("", "int m;", "enum { A = sizeof(struct task) }; int unit(void) { return A; }"),
    ),
    "type": (
        "typedef unsigned char t; int unit(t *x) { return *x; }",
        "typedef signed char t; int unit(t *x) { return *x; }",
    ),
    "attribute elsewhere": (
        "void f(void); int unit(int x) { if (x) { f(); return 1; } return 2; }",
        "void f(void); void f(void) __attribute__((noreturn));"
        "int unit(int x) { if (x) { f(); return 1; } return 2; }",
    ),
    "attribute of a member asked for": (
        "struct a { char b[4]; int c; };"
        "int unit(struct a *a) { return __builtin_has_attribute(a->b, nonstring); }",
        "struct a { char b[4] __attribute__((nonstring)); int c; };"
        "int unit(struct a *a) { return __builtin_has_attribute(a->b, nonstring); }",
    ),
    "attribute of a type asked for": (
        "struct a { char b; int c; };"
        "int unit(struct a *a) { return __builtin_has_attribute(*a, packed); }",
        "struct a { char b; int c; } __attribute__((packed));"
        "int unit(struct a *a) { return __builtin_has_attribute(*a, packed); }",
    ),
    "attribute elsewhere asked for": (
        "extern char b[4]; int unit(void) { return __builtin_has_attribute(b, nonstring); }",
        "extern char b[4]; extern char b[4] __attribute__((nonstring));"
        "int unit(void) { return __builtin_has_attribute(b, nonstring); }",
    ),
    "section elsewhere": (
        "int unit(void); int unit(void) { return 1; }",
        "int unit(void) __attribute__((section(\".cold\"))); int unit(void) { return 1; }",
    ),
    "kept though unused": (
        "static int f(void) { return 1; } int unit(void) { return 1; }",
        "static int __attribute__((used)) f(void) { return 1; } int unit(void) { return 1; }",
    ),
    "alias": (
        "static int f(void) { return 1; } int unit(void) __attribute__((alias(\"f\")));",
        "static int f(void) { return 2; } int unit(void) __attribute__((alias(\"f\")));",
    ),
    "assembly": ("int unit(void) { return 1; }", "asm(\".word 1\"); int unit(void) { return 1; }"),
    "bit-field": (
        "struct a { int b : 3; int c : 4; int d; }; int unit(struct a *a) { return a->b; }",
        "struct a { int b : 3; int x : 9; int c : 29; int d; };"
        "int unit(struct a *a) { return a->b; }",
    ),
    "union": (
        "struct a { union { int b; char c; }; int d; }; int unit(struct a *a) { return a->d; }",
        "struct a { union { int b; char c; long e[2]; }; int d; };"
        "int unit(struct a *a) { return a->d; }",
    ),
    "packing": (
        "struct a { char b; int c; }; int unit(struct a *a) { return a->c; }",
        "#pragma pack(1)\nstruct a { char b; int c; };\n#pragma pack()\n"
        "int unit(struct a *a) { return a->c; }",
    ),
    "place": (
        "int unit(void) { return __LINE__; }",
        "\n\nint unit(void) { return __LINE__; }",
    ),
    "static assertion": (
        task("", "", "_Static_assert(sizeof(struct task) < 99, \"\"); int unit;"),
        task("", "int m;", "_Static_assert(sizeof(struct task) < 99, \"\"); int unit;"),
    ),
    "order": (
        "static int a, b; int *unit(int x) { return x ? &a : &b; }",
        "static int b, a; int *unit(int x) { return x ? &a : &b; }",
    ),
    "local structure": (
        task("", "", "int unit(void) { struct x { struct task t; }; return sizeof(struct x); }"),
        task("", "int m;", "int unit(void) { struct x { struct task t; };"
             "return sizeof(struct x); }"),
    ),
}  # fmt: skip


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, tmp_path / "cache")


@pytest.fixture
def rewriting(tmp_path: Path) -> Bench:
    """Whatever is compiled is compiled from what the unit was reduced to."""
    return Bench(tmp_path, tmp_path / "cache", compares=False)


@pytest.mark.parametrize("what", [*HARMLESS, *TELLING])
def test_what_a_unit_is_reduced_to_gives_its_object(rewriting: Bench, what: str) -> None:
    for source in (HARMLESS | TELLING)[what]:
        made = rewriting.compile(source)
        assert made.bytes == rewriting.really_compile(source)
        understood = what != "two of them in one declaration"
        assert made.reused or made.log.startswith("rewritten ") or not understood, made.log


# What the reduction does not understand, or the compiler has something to say of.
UNCLEAR = {
    "a pack before the last bracket": (
        "struct s { char a; int b;\n#pragma pack(1)\n};\n#pragma pack()\nstruct s unit;\n",
        "struct s { char a; int b;\n};\nstruct s unit;\n",
    ),
    "a member that may be none": (
        "struct o { struct t { int x; }; int y; char z; int x; };"
        "int unit(struct o *o) { return o->x; }",
        "struct o { struct t { int x; }; int y; char z[5]; int x; };"
        "int unit(struct o *o) { return o->x; }",
    ),
    "a structure in a structure that is no member": (
        "struct s { struct inner { int q; }; int y; }; int unit(struct s *s) { return s->y; }",
        "struct s { struct { int q; }; int y; }; int unit(struct s *s) { return s->y; }",
    ),
    "a pack within a structure": (
        "struct o {\n#pragma pack(1)\nstruct { char a; int b; } i;\n#pragma pack()\nint c; };\n"
        "int unit(struct o *o) { return o->c; }",
        "struct o {\nstruct { char a; int b; } i;\nint c; };\n"
        "int unit(struct o *o) { return o->c; }",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", UNCLEAR)
def test_what_is_not_clear_is_compiled(bench: Bench, what: str) -> None:
    for source in UNCLEAR[what] * 2:
        assert bench.compile(source).bytes == bench.really_compile(source)


@pytest.mark.parametrize("what", HARMLESS)
def test_what_nothing_depends_on_costs_no_compilation(bench: Bench, what: str) -> None:
    before, after = HARMLESS[what]
    first = bench.compile(before)
    assert not first.reused
    assert first.bytes == bench.really_compile(before)
    second = bench.compile(after)
    assert second.bytes == bench.really_compile(after)
    assert second.reused, second.log


@pytest.mark.parametrize("what", TELLING)
def test_what_counts_is_compiled(bench: Bench, what: str) -> None:
    before, after = TELLING[what]
    bench.compile(before)
    second = bench.compile(after)
    assert second.bytes == bench.really_compile(after)
    assert not second.reused
    back = bench.compile(before)
    assert back.bytes == bench.really_compile(before)
    assert back.reused


@pytest.mark.parametrize(
    "source",
    [
        "\n#pragma GCC optimize(\"O1\")\nint unit(void) { return 1; }",
        "int unit(a) int a; { return a; }",
        "int unit(int x) { int f(int y) { return x + y; } return f(x); }",
        "int unit(void) { return __builtin_has_attribute(int, packed); }",
        "int unit(int *x) { return __builtin_has_attribute(unit, nonnull(1)); }",
    ],
)  # fmt: skip
def test_what_is_not_understood_is_taken_whole(bench: Bench, source: str) -> None:
    one = bench.compile(f"extern int one; {source}")
    assert one.log.startswith("compiled")
    other = bench.compile(f"extern int two; {source}")
    assert not other.reused
    assert other.bytes == bench.really_compile(f"extern int two; {source}")


def test_options_are_part_of_what_an_object_is(bench: Bench) -> None:
    source = "int unit(int x) { return x * 10; }"
    for options in ((), ("-Os",), ("-DX=1", "-Os"), ("-O1",), ("-g",), ("-fstrict-aliasing",)):
        bench.compile(source)
        assert bench.compile(source, *options).bytes == bench.really_compile(source, *options)
    assert bench.compile(source, "-DY").reused, "a macro that the source does not use"


def test_what_the_assembler_reads_counts(bench: Bench) -> None:
    source = 'asm(".incbin \\"data\\""); int unit;'
    for content in ("one", "another"):
        (bench.folder / "data").write_text(content)
        made = bench.compile(source)
        assert not made.reused
        assert made.bytes == bench.really_compile(source)


def test_an_error_is_the_compilers_own(bench: Bench) -> None:
    env = bench.objects.environment(environment(), bench.folder / "log")
    (bench.folder / "unit.c").write_text("int unit(void) { return missing; }\n")
    argv = [f"{PREFIX}gcc", *OPTIONS, "-c", "-o", "unit.o", "unit.c"]
    said = [
        subprocess.run(argv, cwd=bench.folder, env=one, capture_output=True, check=False)
        for one in (env, environment())
    ]
    assert said[0].returncode == said[1].returncode == 1
    assert said[0].stderr == said[1].stderr
    assert not (bench.folder / "unit.o").exists()


def test_a_warning_is_not_lost_by_reuse(bench: Bench) -> None:
    env = bench.objects.environment(environment(), bench.folder / "log")
    (bench.folder / "unit.c").write_text("#warning look here\nint unit;\n")
    argv = [f"{PREFIX}gcc", *OPTIONS, "-c", "-o", "unit.o", "unit.c"]
    for _time in range(2):
        done = subprocess.run(argv, cwd=bench.folder, env=env, capture_output=True, check=True)
        assert b"look here" in done.stderr


def test_the_list_of_headers_is_as_without_reuse(bench: Bench) -> None:
    (bench.folder / "head.h").write_text("extern int v;\n")
    source = '#include "head.h"\nint unit(int x) { return x; }\n'
    listed = []
    for _time in range(2):
        bench.compile(source)
        listed.append((bench.folder / ".unit.o.d").read_text())
    bench.really_compile(source, "-Wp,-MMD,real.d")
    really = (bench.folder / "real.d").read_text()
    assert listed[0].split()[1:] == listed[1].split()[1:] == really.split()[1:]


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "replaced"])
def test_a_damaged_entry_is_compiled_again(bench: Bench, tmp_path: Path, damage: str) -> None:
    source = "int unit(int x) { return x; }"
    first = bench.compile(source)
    good, key = first.bytes, first.log.split()[2]
    entry = tmp_path / "cache" / "objects" / key[:2] / key[2:]
    content = entry.read_bytes()
    middle = len(content) // 2
    entry.write_bytes(
        {
            "cut": content[:-1],
            "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "emptied": b"",
            "replaced": b"something else entirely\n" * 9,
        }[damage]
    )
    again = bench.compile(source)
    assert again.bytes == good
    assert not again.reused
    assert bench.compile(source).reused


def test_a_store_that_cannot_be_written_costs_reuse_alone(bench: Bench, tmp_path: Path) -> None:
    source = "int unit(int x) { return x; }"
    store = tmp_path / "cache" / "objects"
    store.rmdir()
    store.write_text("a file where a folder should be")
    assert bench.compile(source).bytes == bench.really_compile(source)


def test_the_object_is_a_file_of_its_own(bench: Bench, tmp_path: Path) -> None:
    source = "int unit(int x) { return x; }"
    good = bench.compile(source).bytes
    bench.compile(source)
    # recordmcount and its like edit an object in place.
    with (bench.folder / "unit.o").open("r+b") as file:
        file.write(b"changed")
    assert bench.compile(source).bytes == good


def test_many_at_once_share_one_store(tmp_path: Path) -> None:
    benches = []
    for number in range(4):
        (tmp_path / str(number)).mkdir()
        benches.append(Bench(tmp_path / str(number), tmp_path / "cache"))
        (tmp_path / str(number) / "unit.c").write_text("int unit(int x) { return x; }")
    running = []
    for _round in range(5):
        for bench in benches:
            running.append(
                subprocess.Popen(
                    [f"{PREFIX}gcc", *OPTIONS, "-c", "-o", f"unit.o{len(running)}", "unit.c"],
                    cwd=bench.folder,
                    env=bench.objects.environment(environment(), bench.folder / "log"),
                )
            )
    assert [child.wait() for child in running] == [0] * len(running)
    made = {path.read_bytes() for bench in benches for path in bench.folder.glob("unit.o*")}
    assert len(made) == 1
    assert not list((tmp_path / "cache" / "objects").rglob("*.part"))


MEMBERS = ("char {}", "short {}", "int {}", "long long {}", "char {}[3]", "int *{}", "int {} : 5",
           "struct inner {}", "struct inner *{}", "union {{ int {0}a; char {0}b; }}")  # fmt: skip
NAMES = ("m0", "m1", "m2", "m3", "m4", "m5")
USES = (
    "int u{n}(struct outer *p) {{ return !!*(char *)&p->{m}x; }}",
    "void *u{n}(struct outer *p) {{ return &p->{m}x; }}",
    "int u{n}(void) {{ return sizeof(struct outer); }}",
    "void *u{n}(struct outer *p) {{ return p + 1; }}",
    "void u{n}(struct outer *p, struct outer *q) {{ *p = *q; }}",
    "void *u{n}(struct outer *p) {{ return p; }}",
    "int u{n}(struct inner *p) {{ return p->b; }}",
    "static inline int u{n}(struct outer *p) {{ return !!&p->{m}x + sizeof(*p); }}",
    "void u{n}(struct outer *p, void *q) {{ __builtin_memcpy(p, q, 8); }}",
)


@st.composite
def units(draw: st.DrawFn) -> tuple[str, str]:
    """A unit of structures and functions, and the same with the structures changed."""
    members = [(name, draw(st.sampled_from(MEMBERS))) for name in NAMES]
    code = "\n".join(
        draw(st.sampled_from(USES)).format(n=number, m=draw(st.sampled_from(NAMES)))
        for number in range(draw(st.integers(1, 4)))
    )

    def source(kept: list[tuple[str, str]], inner: str) -> str:
        body = " ".join(
            f"struct {{ {text.format(name + 'y')}; }} {name}x; {text.format(name)};"
            for name, text in kept
        )
        return f"struct inner {{ {inner} int b; }};\nstruct outer {{ {body} }};\n{code}\n"

    inner = draw(st.sampled_from(("", "short a;", "long long a;")))
    needed = {name for name in NAMES if f"{name}x" in code}
    changed = [one for one in members if one[0] in needed or draw(st.booleans())]
    if draw(st.booleans()):
        changed = draw(st.permutations(changed))
    return source(members, ""), source(changed, inner)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(pair=units())
def test_any_unit_gives_the_compilers_own_object(rewriting: Bench, pair: tuple[str, str]) -> None:
    for source in pair:
        made = rewriting.compile(source)
        assert made.bytes == rewriting.really_compile(source)
        assert made.reused or made.log.startswith("rewritten "), made.log


def test_a_unit_that_is_another_when_reduced_is_not_trusted_again(tmp_path: Path) -> None:
    # A compiler to which it makes a difference whether a name that nothing uses is declared.
    bench = Bench(tmp_path, tmp_path / "cache", compares=True)
    other = tmp_path / "compiler"
    real = shutil.which(f"{PREFIX}gcc", path=environment()["PATH"])
    other.write_text(
        f'#!/bin/sh\ncase " $* " in *" cpp-output "*) ;; *) exec {real} "$@";; esac\n'
        f'text=$(cat); case "$text" in *unused*) ;; *) text="$text int odd;";; esac\n'
        f'printf "%s\\n" "$text" | {real} "$@"\n'
    )
    other.chmod(0o755)
    env = bench.environment | {"MEMTOTAL_COMPILER": str(other)}
    source = "extern int unused;\nint unit;\n"
    (tmp_path / "unit.c").write_text(source)
    for _time in range(2):
        argv = [f"{PREFIX}gcc", *OPTIONS, "-c", "-o", "unit.o", "unit.c"]
        subprocess.run(argv, cwd=tmp_path, env=env, check=True)
        assert (tmp_path / "unit.o").read_bytes() == bench.really_compile(source)
    log = (tmp_path / "objects.log").read_text()
    assert re.fullmatch(
        r"compiled unit\.o [0-9a-f]{64}\nunlike unit\.o .*\ncompiled unit\.o distrusted\n", log
    )
    assert ObjectStore.unlike(tmp_path / "objects.log") == ("unit.o",)
    assert ObjectStore.counts(tmp_path / "objects.log") == ObjectCounts(compiled=1, builds=1)
