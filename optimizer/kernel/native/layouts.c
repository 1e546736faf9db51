/* Where the members of structures are, in bytes.
 *
 * Code that names a member depends on its offset, not on what the members before it are. Here offsets
 * are computed for targets that place members as nearly all do: everything at a multiple of its own
 * size, bit-fields in units of their type (the System V rules, which the ABI of ARM has too). The
 * compiler is asked first whether it does (layout_question), and is told to stop where an offset is
 * another when it compiles the unit (writing.c). When an object is found in the store nothing is
 * compiled: then only what is computed here says that its unit has the same offsets. So a mistake here
 * is seen when such a structure is first compiled, and if not then, perhaps never.
 *
 * What is not understood (packed structures, an expression that is more than arithmetic with small
 * numbers) has no layout here: then the text of the members counts.
 */

#include <stdlib.h>
#include <string.h>

#include "unit.h"

#define INT_BYTES 4
#define LONG_LONG_BYTES 8
#define MOST_BYTES (1ll << 31)

u32 long_bytes;

const char layout_question[] =
    "#define AT(type) _Static_assert(__builtin_offsetof(struct { char a; type b; }, b) == sizeof(type) && "
    "_Alignof(struct { type a; }) == sizeof(type), \"\");\n"
    "#define IS(type, bytes) _Static_assert(sizeof(type) == bytes, \"\");\n"
    "#define PLACED(before, place, bytes) _Static_assert(__builtin_offsetof(struct { before char z; }, z) "
    "== place && sizeof(struct { before char z; }) == bytes, \"\");\n"
    "enum one { ONE }; enum two { TWO = 0x7fffffff }; typedef void (*function)(void);\n"
    "IS(short, 2) IS(int, 4) IS(long, sizeof(void *)) IS(long long, 8) IS(float, 4) IS(double, 8)\n"
    "IS(_Bool, 1) IS(enum one, 4) IS(enum two, 4) IS(struct { char a; }, 1) IS(union { char a; }, 1)\n"
    "IS(struct { }, 0)\n"
    "AT(short) AT(int) AT(long) AT(long long) AT(void *) AT(function) AT(float) AT(double)\n"
    "AT(_Bool) AT(enum one) AT(enum two)\n"
    "PLACED(unsigned a : 1; unsigned b : 31; unsigned c : 1;, 5, 8)\n"
    "PLACED(char a; unsigned b : 20; unsigned c : 8;, 5, 8)\n"
    "PLACED(char a; int b : 30;, 8, 12)\n"
    "PLACED(char a; unsigned char b : 4; unsigned char c : 5;, 3, 4)\n"
    "PLACED(short a; unsigned long long b : 40;, 7, 8)\n"
    "PLACED(char a; unsigned long long b : 60;, 16, 24)\n"
    "PLACED(char a; _Bool b : 1; _Bool c : 1;, 2, 3)\n"
    "PLACED(int x; unsigned a : 1; unsigned : 0; unsigned b : 1;, 9, 12)\n"
    "PLACED(char a; enum one b : 30;, 8, 12)\n";

/* --- constants */

static bool understood; /* what was read of the expression so far */
static i64 read_conditional(void);
static bool extent_of(const struct type *type, u64 *bytes, u32 *align);

static i64 give_in(void)
{
    understood = false;
    return 1;
}

/* Within these bounds all the integer types of C come to the same. */
static i64 small(i64 value)
{
    return value >= 0 && value <= INT32_MAX ? value : give_in();
}

static i64 read_number(void)
{
    char text[32], *end;
    const struct token *token = &tokens[p++];
    if (token->length >= sizeof text)
        return give_in();
    memcpy(text, token->at, token->length);
    text[token->length] = 0;
    i64 value = strtoll(text, &end, 0);
    end += strspn(end, "uUlL");
    return *end == 0 ? small(value) : give_in();
}

static bool is_valued(struct enumeration *enumeration);

/* What is in brackets behind sizeof and the like: a type. */
static i64 read_extent(bool of_alignment)
{
    u64 bytes;
    u32 align;
    if (!at('(') || !is_type_start(p + 1))
        return give_in();
    u32 stop = tokens[p].match;
    p++;
    bool is_known = extent_of(parse_type_name(), &bytes, &align) && p == stop;
    p = stop + 1;
    return is_known ? small(of_alignment ? align : (i64)bytes) : give_in();
}

static i64 read_unary(void)
{
    const struct token *token = &tokens[p];
    if (token->kind == T_NUMBER)
        return read_number();
    if (token->kind == T_IDENT) {
        enum word one = word();
        p++;
        if (one == W_SIZEOF || one == W_ALIGNOF)
            return read_extent(one == W_ALIGNOF);
        struct name *name = name_of(token->symbol);
        bool is_constant = one == W_NONE && name != NULL && name->what == N_CONSTANT;
        return is_constant && is_valued(name->enumeration) ? small(name->value) : give_in();
    }
    if (token->kind != T_PUNCT)
        return give_in();
    if (token->punct == '(' && is_type_start(p + 1)) { /* a cast: nothing that is small changes */
        u64 bytes;
        u32 align, stop = token->match;
        p++;
        struct type *type = parse_type_name();
        bool is_wide = type->shape == S_BASIC && extent_of(type, &bytes, &align) && bytes >= INT_BYTES &&
                       (type->basic & (1 << 5 | 1 << 6)) == 0 && p == stop;
        p = stop + 1;
        i64 value = read_unary();
        return is_wide ? value : give_in();
    }
    if (token->punct == '(') {
        p++;
        i64 value = read_conditional();
        if (!at(')'))
            return give_in();
        p++;
        return value;
    }
    if (token->punct == '!') {
        p++;
        return !read_unary();
    }
    return give_in();
}

static i64 apply(const struct token *operator, i64 left, i64 right)
{
    switch (operator->length == 1 ? operator->punct : operator->code) {
    case '*': return small(left * right);
    case '/': return right == 0 ? give_in() : left / right;
    case '%': return right == 0 ? give_in() : left % right;
    case '+': return small(left + right);
    case '-': return small(left - right);
    case CODE('<', '<'): return right > 31 ? give_in() : small(left << right);
    case CODE('>', '>'): return right > 31 ? give_in() : left >> right;
    case '<': return left < right;
    case '>': return left > right;
    case CODE('<', '='): return left <= right;
    case CODE('>', '='): return left >= right;
    case CODE('=', '='): return left == right;
    case CODE('!', '='): return left != right;
    case '&': return left & right;
    case '^': return left ^ right;
    case '|': return left | right;
    case CODE('&', '&'): return left && right;
    case CODE('|', '|'): return left || right;
    default: return give_in();
    }
}

static i64 read_binary(int weakest)
{
    i64 left = read_unary();
    for (int mine; understood && (mine = strength()) >= weakest;) {
        const struct token *operator = &tokens[p++];
        left = apply(operator, left, read_binary(mine + 1));
    }
    return left;
}

static i64 read_conditional(void)
{
    i64 value = read_binary(1);
    if (!understood || !at('?'))
        return value;
    p++;
    i64 one = read_conditional();
    if (!at(':'))
        return give_in();
    p++;
    i64 other = read_conditional();
    return value ? one : other;
}

/* What it is about is looked at, not used. */
struct look {
    bool marking, understood;
    u32 p, frame;
    struct demands layout;
};

static struct look begin_look(u32 at)
{
    struct look before = {marking, understood, p, frame, layout};
    marking = false;
    understood = true;
    p = at;
    frame = 0;
    return before;
}

static void end_look(const struct look *before)
{
    marking = before->marking;
    understood = before->understood;
    p = before->p;
    frame = before->frame;
    layout = before->layout;
}

bool evaluate(u32 from, u32 to, i64 *value)
{
    if (long_bytes == 0 || from >= to || frame != 0)
        return false;
    struct look before = begin_look(from);
    *value = read_conditional();
    bool is_known = understood && p == to;
    end_look(&before);
    return is_known;
}

static u32 end_of_constant(u32 i, u32 stop)
{
    while (i < stop && !(tokens[i].kind == T_PUNCT && tokens[i].punct == ','))
        i = tokens[i].kind == T_PUNCT && tokens[i].punct && strchr("([{", tokens[i].punct)
                ? tokens[i].match + 1 : i + 1;
    return i;
}

/* Whether all its constants are known, and such that it has the size of an int. */
static bool is_valued(struct enumeration *enumeration)
{
    if (enumeration == NULL || enumeration->body == 0 || enumeration->is_valued == BEING_ASKED)
        return false;
    if (enumeration->is_valued != NOT_ASKED)
        return enumeration->is_valued == YES;
    u32 stop = tokens[enumeration->body].match;
    i64 next = 0;
    enumeration->is_valued = BEING_ASKED;
    bool is_known = enumeration->tail == stop + 1 && /* no attributes */
                    enumeration->body <= enumeration->head + 2;
    for (u32 i = enumeration->body + 1; i < stop && is_known;) {
        struct name *name = name_of(tokens[i].symbol);
        u32 end = end_of_constant(++i, stop);
        if (i < end) {
            bool is_minus = tokens[i].punct == '=' && tokens[i + 1].punct == '-';
            is_known = tokens[i].punct == '=' && evaluate(i + 1 + is_minus, end, &next) &&
                       (!is_minus || end == i + 3);
            next = is_minus ? -next : next;
        }
        is_known &= next <= INT32_MAX;
        name->value = next++;
        i = end + 1;
    }
    enumeration->is_valued = is_known ? YES : NO;
    return is_known;
}

/* --- types */

static bool basic_bytes(const struct type *type, u32 *bytes)
{
    u32 basic = type->basic;
    if (basic & B_ENUM) {
        *bytes = INT_BYTES;
        return is_valued(type->enumeration);
    }
    if (basic & (1 << 0 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 12))
        return false; /* void, and what has other rules */
    if (basic & 1 << 6)
        *bytes = basic & 1 << 4 ? 0 : 8; /* double */
    else if (basic & 1 << 5)
        *bytes = 4; /* float */
    else if (basic & (1 << 7 | 1 << 1))
        *bytes = 1; /* _Bool, char */
    else if (basic & 1 << 2)
        *bytes = 2;
    else if (basic & B_LONG_LONG)
        *bytes = LONG_LONG_BYTES;
    else
        *bytes = basic & 1 << 4 ? long_bytes : INT_BYTES;
    return *bytes != 0;
}

static bool extent_of(const struct type *type, u64 *bytes, u32 *align)
{
    i64 length = 0;
    u32 basic;
    switch (type->shape) {
    case S_BASIC:
        if (!basic_bytes(type, &basic))
            return false;
        *bytes = *align = basic;
        break;
    case S_POINTER:
        *bytes = *align = long_bytes;
        break;
    case S_ARRAY:
        if (!extent_of(type->to, bytes, align) ||
            (type->length < type->length_end && !evaluate(type->length, type->length_end, &length)) ||
            *bytes % *align != 0)
            return false;
        *bytes *= (u64)length;
        break;
    case S_RECORD:
        if (!lay_out(type->record))
            return false;
        *bytes = type->record->bytes;
        *align = type->record->align;
        break;
    default:
        return false;
    }
    /* For a type's own name it is exactly so much, for others no less. */
    if (type->demands.is_odd || (type->demands.align != 0 && type->demands.align < *align) ||
        *bytes >= MOST_BYTES)
        return false;
    if (type->demands.align != 0)
        *align = type->demands.align;
    return true;
}

static u64 up_to(u64 value, u64 multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

struct placing { /* of the members so far */
    u64 bits, most_bits; /* where the next one may begin; of a union: how long the longest is */
    u32 align, unnamed_align;
};

static bool place_bit_field(const struct member *member, bool in_union, struct placing *placing)
{
    u32 bytes;
    i64 width;
    if (member->type->shape != S_BASIC || member->type->demands.hash != 0 || member->type->demands.is_odd ||
        (member->type->basic & (1 << 5 | 1 << 6)) != 0 || in_union ||
        !basic_bytes(member->type, &bytes) || !evaluate(member->width, member->width_end, &width) ||
        width > 8 * bytes)
        return false;
    u64 unit = 8 * (u64)bytes;
    if (width == 0 || placing->bits / unit != (placing->bits + (u64)width - 1) / unit)
        placing->bits = up_to(placing->bits, unit);
    placing->bits += (u64)width;
    if (member->symbol->length != 0 && bytes > placing->align)
        placing->align = bytes;
    else if (member->symbol->length == 0 && bytes > placing->unnamed_align)
        placing->unnamed_align = bytes; /* targets differ in whether it counts */
    return true;
}

static bool place(struct record *record, struct placing *placing)
{
    for (u32 i = 0; i < record->member_count; i++) {
        struct member *member = &record->members[i];
        u64 bytes;
        u32 align;
        if (record->is_union)
            placing->bits = 0;
        if (member->is_bit_field) {
            if (!place_bit_field(member, record->is_union, placing))
                return false;
            continue;
        }
        if (!extent_of(member->type, &bytes, &align))
            return false;
        member->offset = up_to(up_to(placing->bits, 8) / 8, align);
        placing->bits = (member->offset + bytes) * 8;
        if (align > placing->align)
            placing->align = align;
        if (placing->bits > placing->most_bits)
            placing->most_bits = placing->bits;
        if (member->offset + bytes >= MOST_BYTES)
            return false;
    }
    if (!record->is_union)
        placing->most_bits = placing->bits;
    return placing->unnamed_align <= placing->align;
}

/* What stands before and behind the members of a structure, from p on: at least that alignment. */
static bool add_demands_of(const struct record *record, struct placing *placing)
{
    layout = no_demands;
    parse_attributes();
    if (tokens[p].kind == T_IDENT)
        p++;
    parse_attributes();
    bool is_body = p == record->body;
    p = tokens[record->body].match + 1;
    parse_attributes();
    if (layout.align > placing->align)
        placing->align = layout.align;
    return is_body && !layout.is_odd;
}

/* Whether it is known where the members of a structure are; then that is written down. */
bool lay_out(struct record *record)
{
    if (long_bytes == 0 || record->body == 0 || record->is_laid_out == BEING_ASKED)
        return false;
    if (record->is_laid_out != NOT_ASKED)
        return record->is_laid_out == YES;
    u32 stop = tokens[record->body].match;
    struct placing placing = {.align = 1};
    record->is_laid_out = BEING_ASKED;
    parse_record(record);
    struct look before = begin_look(record->head + 1);
    bool is_known = !record->is_local && pack_at(record->body) == 0 && pack_at(stop) == 0 &&
                    add_demands_of(record, &placing) && place(record, &placing);
    end_look(&before);
    record->align = placing.align;
    record->bytes = up_to(up_to(placing.most_bits, 8) / 8, placing.align);
    record->is_laid_out = is_known ? YES : NO;
    return is_known;
}
