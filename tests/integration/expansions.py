"""What the preprocessor is asked in tests: macros, conditions, headers."""

from __future__ import annotations

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
