/* The expressions of #if and #elif: 64 bits wide, as the C standard has them. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "preprocess.h"

struct value {
    u64 bits;
    bool is_unsigned;
};

static struct piece now; /* the piece being looked at */
static bool evaluated;   /* false behind what && and || make of no account */
bool warns;

static void advance(void)
{
    do
        now = next_piece();
    while (now.kind == T_PADDING);
}

static bool now_is(char punct)
{
    return now.kind == T_PUNCT && now.punct == punct;
}

static void expect(char punct)
{
    if (!now_is(punct))
        cannot("condition", now.at, now.length);
    advance();
}

static struct value signed_value(u64 bits)
{
    return (struct value){bits, false};
}

static struct value is_defined(void)
{
    prevent_expansion++;
    advance();
    bool bracketed = now_is('(');
    if (bracketed)
        advance();
    if (now.kind != T_IDENT)
        cannot("defined", now.at, now.length);
    bool found = is_macro(now.symbol);
    if (found && now.symbol->meaning->macro->builtin == BUILTIN_ODD)
        found = is_builtin(now.symbol);
    if (bracketed) {
        advance();
        if (!now_is(')'))
            cannot("defined", now.at, now.length);
    }
    prevent_expansion--;
    advance();
    return signed_value(found);
}

/* Whether the compiler has a builtin macro that others have not. */
bool is_builtin(const struct symbol *symbol)
{
    struct text question = {0};
    stretch_asked_options();
    text_add(&question, "#ifdef ", 7);
    text_add(&question, symbol->at, symbol->length);
    static const char rest[] = "\n1\n#else\n0\n#endif\n";
    text_add(&question, rest, sizeof rest);
    const char *answer = ask_compiler(question.at);
    free(question.at);
    if (answer == NULL || (*answer != '0' && *answer != '1'))
        cannot("the compiler does not tell", symbol->at, symbol->length);
    return *answer == '1';
}

/* __has_attribute(name) and __has_builtin(name): the compiler knows. */
static struct value asked(const struct piece *what)
{
    struct text question = {0};
    stretch_asked_options();
    prevent_expansion++;
    advance();
    if (!now_is('('))
        cannot("condition", what->at, what->length);
    advance();
    text_add(&question, what->at, what->length);
    text_add(&question, "(", 1);
    if (now.kind != T_IDENT || is_macro(now.symbol))
        cannot("condition", now.at, now.length);
    text_add(&question, now.at, now.length);
    text_add(&question, ")", 2);
    advance();
    if (!now_is(')'))
        cannot("condition", now.at, now.length);
    prevent_expansion--;
    advance();
    const char *answer = ask_compiler(question.at);
    free(question.at);
    if (answer == NULL || class_of[(unsigned char)*answer] != 2)
        cannot("the compiler does not tell", what->at, what->length);
    return signed_value(strtoull(answer, NULL, 10));
}

static struct value has_include(void)
{
    const char *at = skip_white(input->at), *name;
    bool quoted;
    u32 length;
    spoil_stretch();
    if (*at != '(')
        cannot("__has_include", at, 1);
    input->at = at + 1;
    if (header_name(&quoted, &name, &length) != NULL)
        cannot("__has_include", at, 1);
    bool found = find_header(name, length, quoted, input->file) != NULL;
    advance();
    expect(')');
    return signed_value(found);
}

static struct value number(void)
{
    const char *at = now.at, *end = now.at + now.length;
    char *past;
    char text[40];
    if (now.length >= sizeof text)
        cannot("number", now.at, now.length);
    memcpy(text, at, now.length);
    text[now.length] = 0;
    int base = 10;
    char *digits = text;
    if (text[0] == '0' && (text[1] | 32) == 'x') {
        base = 16;
    } else if (text[0] == '0' && (text[1] | 32) == 'b') {
        base = 2;
        digits += 2;
    } else if (text[0] == '0') {
        base = 8;
    }
    errno = 0;
    struct value value = {strtoull(digits, &past, base), false};
    value.is_unsigned = value.bits >> 63;
    if (errno != 0 || (base == 10 && value.is_unsigned && (*past | 32) != 'u'))
        cannot("number", now.at, now.length); /* the compiler has something to say */
    for (; *past != 0; past++) {
        if ((*past | 32) == 'u')
            value.is_unsigned = true;
        else if ((*past | 32) != 'l')
            cannot("number", now.at, (size_t)(end - at));
    }
    advance();
    return value;
}

static struct value conditional(void);

static struct value name(void)
{
    struct piece one = now;
    enum builtin builtin = macro_of(one.symbol) ? one.symbol->meaning->macro->builtin : NOT_BUILTIN;
    if (is(one.symbol, "defined"))
        return is_defined();
    if (builtin == BUILTIN_ATTRIBUTE || builtin == BUILTIN_BUILTIN)
        return asked(&one);
    if (builtin == BUILTIN_INCLUDE)
        return has_include();
    if (builtin != NOT_BUILTIN || is(one.symbol, "__has_embed"))
        cannot("condition", one.at, one.length);
    if (warns && evaluated)
        cannot("not defined in a condition", one.at, one.length);
    advance();
    return signed_value(0);
}

static struct value unary(void)
{
    struct value value;
    if (now.kind == T_NUMBER)
        return number();
    if (now.kind == T_IDENT)
        return name();
    if (now.kind != T_PUNCT)
        cannot("condition", now.at, now.length);
    switch (now.punct) {
    case '(':
        advance();
        value = conditional();
        expect(')');
        return value;
    case '!':
        advance();
        return signed_value(unary().bits == 0);
    case '~':
        advance();
        value = unary();
        value.bits = ~value.bits;
        return value;
    case '-':
        advance();
        value = unary();
        value.bits = -value.bits;
        return value;
    case '+':
        advance();
        return unary();
    default:
        cannot("condition", now.at, now.length);
    }
}

static int precedence(void)
{
    if (now.kind != T_PUNCT)
        return 0;
    switch (now.code) {
    case CODE('|', '|'): return 1;
    case CODE('&', '&'): return 2;
    case CODE('=', '='): case CODE('!', '='): return 6;
    case CODE('<', '='): case CODE('>', '='): return 7;
    case CODE('<', '<'): case CODE('>', '>'): return 8;
    case 0: break;
    default: return 0;
    }
    switch (now.punct) {
    case '|': return 3;
    case '^': return 4;
    case '&': return 5;
    case '<': case '>': return 7;
    case '+': case '-': return 9;
    case '*': case '/': case '%': return 10;
    default: return 0;
    }
}

static u64 shifted(struct value value, struct value by, bool left)
{
    bool is_back = !by.is_unsigned && by.bits >> 63;
    u64 count = is_back ? -by.bits : by.bits;
    if (is_back)
        left = !left;
    bool fills = !value.is_unsigned && (int64_t)value.bits < 0;
    if (count >= 64)
        return left || !fills ? 0 : ~(u64)0;
    if (left)
        return value.bits << count;
    u64 moved = value.bits >> count;
    return fills && count > 0 ? moved | ~(u64)0 << (64 - count) : moved;
}

static u64 divided(struct value a, struct value b, bool is_unsigned, bool remainder)
{
    if (b.bits == 0) {
        if (evaluated)
            cannot("division by zero", "", 0);
        return 0;
    }
    if (is_unsigned)
        return remainder ? a.bits % b.bits : a.bits / b.bits;
    if (b.bits == ~(u64)0)
        return remainder ? 0 : -a.bits;
    int64_t x = (int64_t)a.bits, y = (int64_t)b.bits;
    return (u64)(remainder ? x % y : x / y);
}

static bool less(struct value a, struct value b, bool is_unsigned)
{
    return is_unsigned ? a.bits < b.bits : (int64_t)a.bits < (int64_t)b.bits;
}

static struct value combined(struct value a, struct value b, const struct piece *operator)
{
    bool is_unsigned = a.is_unsigned || b.is_unsigned;
    struct value same = {0, is_unsigned};
    switch (operator->code) {
    case CODE('=', '='): return signed_value(a.bits == b.bits);
    case CODE('!', '='): return signed_value(a.bits != b.bits);
    case CODE('<', '='): return signed_value(!less(b, a, is_unsigned));
    case CODE('>', '='): return signed_value(!less(a, b, is_unsigned));
    case CODE('<', '<'): return (struct value){shifted(a, b, true), a.is_unsigned};
    case CODE('>', '>'): return (struct value){shifted(a, b, false), a.is_unsigned};
    default: break;
    }
    switch (operator->punct) {
    case '|': same.bits = a.bits | b.bits; return same;
    case '^': same.bits = a.bits ^ b.bits; return same;
    case '&': same.bits = a.bits & b.bits; return same;
    case '<': return signed_value(less(a, b, is_unsigned));
    case '>': return signed_value(less(b, a, is_unsigned));
    case '+': same.bits = a.bits + b.bits; return same;
    case '-': same.bits = a.bits - b.bits; return same;
    case '*': same.bits = a.bits * b.bits; return same;
    default: same.bits = divided(a, b, is_unsigned, operator->punct == '%'); return same;
    }
}

static struct value binary(int least)
{
    struct value left = unary();
    for (int found; (found = precedence()) >= least;) {
        struct piece operator = now;
        bool outer = evaluated, is_logical = found <= 2;
        if (is_logical)
            evaluated = outer && (left.bits != 0) == (found == 2);
        advance();
        struct value right = binary(found + 1);
        evaluated = outer;
        if (is_logical)
            left = signed_value(found == 1 ? left.bits || right.bits : left.bits && right.bits);
        else
            left = combined(left, right, &operator);
    }
    return left;
}

static struct value conditional(void)
{
    struct value test = binary(1);
    if (!now_is('?'))
        return test;
    bool outer = evaluated;
    advance();
    evaluated = outer && test.bits != 0;
    struct value yes = conditional();
    evaluated = outer && test.bits == 0;
    if (!now_is(':'))
        cannot("condition", now.at, now.length);
    advance();
    struct value no = conditional();
    evaluated = outer;
    struct value found = test.bits ? yes : no;
    found.is_unsigned = yes.is_unsigned || no.is_unsigned;
    return found;
}

/* The rest of an #if or #elif. */
bool condition(void)
{
    evaluated = true;
    advance();
    if (now.kind == T_END)
        cannot("#if without a condition", "", 0);
    struct value value = conditional();
    if (now.kind != T_END)
        cannot("condition", now.at, now.length);
    return value.bits != 0;
}
