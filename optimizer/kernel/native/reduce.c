/* A preprocessed C unit reduced to what its own code can depend on.
 *
 * The unit is split into top-level declarations. Those that emit code or data are kept, and what
 * they name, and so on. Of a structure that is kept, the members are kept up to the last one that
 * is named: those after it move no offset. All of them are kept where its size counts: a variable
 * of that type, sizeof, arithmetic on a pointer to it, an assignment of the whole. To know which
 * structure a member belongs to, expressions are typed as the compiler would.
 *
 * Sound by construction: a construct that is not understood ends the reduction, and the unit is
 * then taken whole. Nothing here decides what is compiled, only what is compared.
 */

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "objcache.h"

typedef uint32_t u32;
typedef uint64_t u64;

/* ------------------------------------------------------------------ memory: freed by exit() */

static char *arena_at, *arena_end;

static void *arena(size_t bytes)
{
    bytes = (bytes + 7) & ~(size_t)7;
    if ((size_t)(arena_end - arena_at) < bytes) {
        size_t block = bytes > 4u << 20 ? bytes : 4u << 20;
        arena_at = calloc(1, block);
        if (arena_at == NULL)
            abort();
        arena_end = arena_at + block;
    }
    void *got = arena_at;
    arena_at += bytes;
    return got;
}

/* ------------------------------------------------------------------ giving up */

static jmp_buf give_up;
static char why[400];

/* ------------------------------------------------------------------ tokens */

enum kind { T_END, T_IDENT, T_NUMBER, T_STRING, T_CHAR, T_PUNCT };

enum word {
    W_NONE,
    W_TYPEDEF, W_EXTERN, W_STATIC, W_INLINE, W_REGISTER, W_AUTO, W_THREAD, W_NORETURN,
    W_QUALIFIER, W_BASIC, W_AUTOTYPE,
    W_STRUCT, W_UNION, W_ENUM, W_TYPEOF, W_ATTRIBUTE, W_ALIGNAS, W_ATOMIC,
    W_EXTENSION, W_ASM, W_STATIC_ASSERT,
    W_SIZEOF, W_ALIGNOF, W_GENERIC, W_OFFSETOF, W_VA_ARG, W_COMPATIBLE, W_CHOOSE, W_REAL,
    W_IF, W_ELSE, W_WHILE, W_DO, W_FOR, W_SWITCH, W_CASE, W_DEFAULT, W_RETURN, W_GOTO,
    W_BREAK, W_CONTINUE, W_LABEL, W_ODD,
};

struct symbol {
    const char *at;
    u32 length, hash;
    enum word word;
    u32 basic; /* kind bit of a basic type's word */
    struct symbol *next;
    struct name *name;   /* ordinary identifier of file scope */
    struct tag *tag;     /* structure, union or enumeration of file scope */
    struct local *local; /* innermost ordinary identifier of a block */
    struct tag *local_tag;
};

struct token {
    const char *at;
    u32 length;
    unsigned char kind;
    char punct;           /* first character; two and more characters: see code */
    unsigned short code;  /* punctuator: its characters, 8 bits each, the last two */
    u32 match;            /* bracket: its partner's index */
    union {
        struct symbol *symbol;
        struct record *record;
        struct enumeration *enumeration;
    };
};

#define SYMBOLS (1u << 16)
static struct symbol *symbols[SYMBOLS];
static struct token *tokens;
static u32 token_count, token_room;

static const struct {
    const char *text;
    enum word word;
    u32 basic;
} words[] = {
    {"typedef", W_TYPEDEF, 0}, {"extern", W_EXTERN, 0}, {"static", W_STATIC, 0},
    {"inline", W_INLINE, 0}, {"__inline", W_INLINE, 0}, {"__inline__", W_INLINE, 0},
    {"register", W_REGISTER, 0}, {"auto", W_AUTO, 0}, {"_Thread_local", W_THREAD, 0},
    {"__thread", W_THREAD, 0}, {"_Noreturn", W_NORETURN, 0},
    {"const", W_QUALIFIER, 0}, {"__const", W_QUALIFIER, 0}, {"__const__", W_QUALIFIER, 0},
    {"volatile", W_QUALIFIER, 0}, {"__volatile", W_QUALIFIER, 0},
    {"__volatile__", W_QUALIFIER, 0}, {"restrict", W_QUALIFIER, 0},
    {"__restrict", W_QUALIFIER, 0}, {"__restrict__", W_QUALIFIER, 0},
    {"void", W_BASIC, 1 << 0}, {"char", W_BASIC, 1 << 1}, {"short", W_BASIC, 1 << 2},
    {"int", W_BASIC, 1 << 3}, {"long", W_BASIC, 1 << 4}, {"float", W_BASIC, 1 << 5},
    {"double", W_BASIC, 1 << 6}, {"signed", W_BASIC, 1 << 3}, {"__signed", W_BASIC, 1 << 3},
    {"__signed__", W_BASIC, 1 << 3}, {"unsigned", W_BASIC, 1 << 3}, {"_Bool", W_BASIC, 1 << 7},
    {"__int128", W_BASIC, 1 << 8}, {"__builtin_va_list", W_BASIC, 1 << 9},
    {"_Complex", W_BASIC, 1 << 10}, {"__complex__", W_BASIC, 1 << 10},
    {"_Float128", W_BASIC, 1 << 12}, {"__float128", W_BASIC, 1 << 12},
    {"__auto_type", W_AUTOTYPE, 0},
    {"struct", W_STRUCT, 0}, {"union", W_UNION, 0}, {"enum", W_ENUM, 0},
    {"typeof", W_TYPEOF, 0}, {"__typeof", W_TYPEOF, 0}, {"__typeof__", W_TYPEOF, 0},
    {"__attribute__", W_ATTRIBUTE, 0}, {"__attribute", W_ATTRIBUTE, 0},
    {"_Alignas", W_ALIGNAS, 0}, {"_Atomic", W_ATOMIC, 0}, {"__extension__", W_EXTENSION, 0},
    {"asm", W_ASM, 0}, {"__asm", W_ASM, 0}, {"__asm__", W_ASM, 0},
    {"_Static_assert", W_STATIC_ASSERT, 0}, {"sizeof", W_SIZEOF, 0},
    {"_Alignof", W_ALIGNOF, 0}, {"__alignof", W_ALIGNOF, 0}, {"__alignof__", W_ALIGNOF, 0},
    {"_Generic", W_GENERIC, 0}, {"__builtin_offsetof", W_OFFSETOF, 0},
    {"__builtin_va_arg", W_VA_ARG, 0}, {"__builtin_types_compatible_p", W_COMPATIBLE, 0},
    {"__builtin_choose_expr", W_CHOOSE, 0}, {"__real__", W_REAL, 0}, {"__imag__", W_REAL, 0},
    {"if", W_IF, 0}, {"else", W_ELSE, 0}, {"while", W_WHILE, 0}, {"do", W_DO, 0},
    {"for", W_FOR, 0}, {"switch", W_SWITCH, 0}, {"case", W_CASE, 0}, {"default", W_DEFAULT, 0},
    {"return", W_RETURN, 0}, {"goto", W_GOTO, 0}, {"break", W_BREAK, 0},
    {"continue", W_CONTINUE, 0}, {"__label__", W_LABEL, 0},
    /* What they give depends on the place or on what came before. */
    {"__COUNTER__", W_ODD, 0}, {"__builtin_LINE", W_ODD, 0}, {"__builtin_FILE", W_ODD, 0},
    {"__builtin_FUNCTION", W_ODD, 0}, {"__builtin_call_with_static_chain", W_ODD, 0},
    {"__builtin_shuffle", W_ODD, 0}, {"__builtin_tgmath", W_ODD, 0},
    {"__transaction_atomic", W_ODD, 0}, {"__builtin_complex", W_ODD, 0},
};

#define B_POINTER (1u << 16)
#define B_ENUM (1u << 17)
#define B_LONG_LONG (1u << 18)

static _Noreturn void odd(const char *what, u32 at)
{
    u32 first = at > 4 ? at - 4 : 0;
    int used = snprintf(why, sizeof why, "%s near:", what);
    for (u32 i = first; i < token_count && i < at + 8 && used < (int)sizeof why - 40; i++)
        used += snprintf(why + used, sizeof why - (size_t)used, "%s%.*s", i == at ? " >> " : " ",
                         tokens[i].length > 30 ? 30 : (int)tokens[i].length, tokens[i].at);
    longjmp(give_up, 1);
}

static struct symbol *intern(const char *at, u32 length)
{
    u32 hash = 2166136261u;
    for (u32 i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)at[i]) * 16777619u;
    struct symbol **place = &symbols[(hash ^ hash >> 16) & (SYMBOLS - 1)];
    for (struct symbol *one = *place; one != NULL; one = one->next)
        if (one->hash == hash && one->length == length && memcmp(one->at, at, length) == 0)
            return one;
    struct symbol *new = arena(sizeof *new);
    new->at = at;
    new->length = length;
    new->hash = hash;
    new->next = *place;
    *place = new;
    return new;
}

static bool is(const struct symbol *symbol, const char *text)
{
    return symbol->length == strlen(text) && memcmp(symbol->at, text, symbol->length) == 0;
}

static unsigned char class_of[256]; /* 1: starts an identifier, 2: digit, 4: white space */

static void prepare(void)
{
    for (int c = 'a'; c <= 'z'; c++)
        class_of[c] = class_of[c - 'a' + 'A'] = 1;
    class_of['_'] = class_of['$'] = 1;
    for (int c = 128; c < 256; c++)
        class_of[c] = 1;
    for (int c = '0'; c <= '9'; c++)
        class_of[c] = 2;
    class_of[' '] = class_of['\t'] = class_of['\n'] = class_of['\r'] = class_of['\f'] = 4;
    class_of['\v'] = 4;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        struct symbol *symbol = intern(words[i].text, (u32)strlen(words[i].text));
        symbol->word = words[i].word;
        symbol->basic = words[i].basic;
    }
}

static struct token *new_token(void)
{
    if (token_count + 2 > token_room) {
        token_room = token_room ? token_room * 2 : 1u << 19;
        tokens = grown(tokens, token_room * sizeof *tokens);
    }
    struct token *token = &tokens[token_count++];
    memset(token, 0, sizeof *token);
    return token;
}

/* '#pragma pack': from which token on structures are packed to how many bytes, 0 as usual. */
static struct {
    u32 from;
    int bytes;
} packs[256];
static u32 pack_count;

static int pack_at(u32 token)
{
    int bytes = 0;
    for (u32 i = 0; i < pack_count && packs[i].from <= token; i++)
        bytes = packs[i].bytes;
    return bytes;
}

static bool pragma_pack(const char *at, const char *stop)
{
    static int stack[32], depth;
    char flat[64];
    size_t length = 0;
    int bytes = pack_count ? packs[pack_count - 1].bytes : 0, number;
    for (; at < stop; at++)
        if (*at != ' ' && *at != '\t') {
            if (length == sizeof flat - 1)
                return false;
            flat[length++] = *at;
        }
    flat[length] = 0;
    if (strcmp(flat, "()") == 0) {
        bytes = 0;
    } else if (strcmp(flat, "(pop)") == 0) {
        if (depth == 0)
            return false;
        bytes = stack[--depth];
    } else if (strncmp(flat, "(push", 5) == 0) {
        if (depth == 32)
            return false;
        stack[depth++] = bytes;
        if (strcmp(flat, "(push)") != 0 &&
            (flat[5] != ',' || (number = atoi(flat + 6)) < 1 || (bytes = number, false)))
            return false;
    } else if ((number = atoi(flat + 1)) > 0 && number <= 16) {
        bytes = number;
    } else {
        return false;
    }
    if (pack_count == sizeof packs / sizeof *packs)
        return false;
    packs[pack_count].from = token_count;
    packs[pack_count++].bytes = bytes;
    return true;
}

/* Directives that are left after preprocessing. Returns where the line ends. */
static const char *directive(const char *at, const char *end)
{
    const char *stop = memchr(at, '\n', (size_t)(end - at));
    if (stop == NULL)
        stop = end;
    at++;
    while (at < stop && (*at == ' ' || *at == '\t'))
        at++;
    if (at < stop && class_of[(unsigned char)*at] == 2)
        return stop; /* a line marker */
    static const char diagnostic[] = "pragma GCC diagnostic"; /* changes messages, not code */
    if ((size_t)(stop - at) >= sizeof diagnostic - 1 &&
        memcmp(at, diagnostic, sizeof diagnostic - 1) == 0)
        return stop;
    static const char pack[] = "pragma pack";
    if ((size_t)(stop - at) >= sizeof pack - 1 && memcmp(at, pack, sizeof pack - 1) == 0 &&
        pragma_pack(at + sizeof pack - 1, stop))
        return stop;
    snprintf(why, sizeof why, "directive: %.*s", (int)(stop - at > 60 ? 60 : stop - at), at);
    longjmp(give_up, 1);
}

static const char *quoted(const char *at, const char *end)
{
    char quote = *at++;
    while (at < end && *at != quote) {
        if (*at == '\n' || (*at == '\\' && at + 1 >= end))
            break;
        at += *at == '\\' ? 2 : 1;
    }
    if (at >= end || *at != quote) {
        snprintf(why, sizeof why, "unfinished string");
        longjmp(give_up, 1);
    }
    return at + 1;
}

static void lex(const char *at, size_t length)
{
    const char *end = at + length;
    bool line_start = true;
    while (at < end) {
        unsigned char c = (unsigned char)*at, class = class_of[c];
        if (class == 4) {
            line_start |= c == '\n';
            at++;
            continue;
        }
        if (c == '#' && line_start) {
            at = directive(at, end);
            continue;
        }
        line_start = false;
        struct token *token = new_token();
        token->at = at;
        if (class == 1) {
            const char *start = at;
            while (at < end && (class_of[(unsigned char)*at] & 3))
                at++;
            if (at < end && (*at == '"' || *at == '\'') && at - start <= 2 &&
                (*start == 'L' || *start == 'u' || *start == 'U')) {
                token->kind = *at == '"' ? T_STRING : T_CHAR;
                at = quoted(at, end);
            } else {
                token->kind = T_IDENT;
                token->symbol = intern(start, (u32)(at - start));
            }
        } else if (class == 2 || (c == '.' && at + 1 < end &&
                                  class_of[(unsigned char)at[1]] == 2)) {
            token->kind = T_NUMBER;
            at++;
            while (at < end && ((class_of[(unsigned char)*at] & 3) || *at == '.' ||
                                ((*at == '+' || *at == '-') && strchr("eEpP", at[-1]) &&
                                 !(at - token->at > 1 && (token->at[1] | 32) == 'x' &&
                                   (at[-1] | 32) == 'e'))))
                at++;
        } else if (c == '"' || c == '\'') {
            token->kind = c == '"' ? T_STRING : T_CHAR;
            at = quoted(at, end);
        } else {
            token->kind = T_PUNCT;
            token->punct = (char)c;
            char d = at + 1 < end ? at[1] : 0, e = at + 2 < end ? at[2] : 0;
            u32 taken = 1;
            if ((c == '<' || c == '>') && d == (char)c)
                taken = e == '=' ? 3 : 2;
            else if (c == '.' && d == '.' && e == '.')
                taken = 3;
            else if (c == '-' && d == '>')
                taken = 2;
            else if ((c == '+' || c == '-' || c == '&' || c == '|') && d == (char)c)
                taken = 2;
            else if (d == '=' && strchr("+-*/%&|^<>=!", c))
                taken = 2;
            if (!strchr("()[]{}<>.,;:?=+-*/%&|^~!", c)) {
                snprintf(why, sizeof why, "character 0x%02x", c);
                longjmp(give_up, 1);
            }
            if (taken > 1)
                token->code = (unsigned short)((unsigned char)at[0] << 8 | (unsigned char)at[1]);
            if (taken == 3)
                token->code |= 0x80; /* <<= >>= ... */
            if (taken > 1)
                token->punct = 0;
            at += taken;
        }
        token->length = (u32)(at - token->at);
    }
    new_token()->kind = T_END;
    token_count--;
}

#define CODE(a, b) ((a) << 8 | (b))
#define CODE3(a, b) (CODE(a, b) | 0x80)

static void match_brackets(void)
{
    u32 room = 1024, depth = 0, *open = grown(NULL, room * sizeof *open);
    for (u32 i = 0; i < token_count; i++) {
        char c = tokens[i].kind == T_PUNCT ? tokens[i].punct : 0;
        if (c == '(' || c == '[' || c == '{') {
            if (depth == room)
                open = grown(open, (room *= 2) * sizeof *open);
            open[depth++] = i;
        } else if (c == ')' || c == ']' || c == '}') {
            if (depth == 0)
                odd("bracket", i);
            u32 other = open[--depth];
            if (tokens[other].punct != (c == ')' ? '(' : c == ']' ? '[' : '{'))
                odd("bracket", i);
            tokens[other].match = i;
            tokens[i].match = other;
        }
    }
    if (depth != 0)
        odd("bracket", open[depth - 1]);
    free(open);
}

/* ------------------------------------------------------------------ what a unit declares */

enum shape { S_UNKNOWN, S_BASIC, S_POINTER, S_ARRAY, S_FUNCTION, S_RECORD };

struct parameter {
    struct symbol *symbol;
    struct type *type;
};

struct type {
    enum shape shape;
    u32 basic;         /* kinds that may set the alignment, for S_BASIC */
    u64 attributes;    /* hash of attributes that change the layout, 0 without */
    struct type *to;   /* pointed to, element, returned */
    struct record *record;
    struct parameter *parameters;
    u32 parameter_count;
};

struct item { /* one top-level declaration */
    u32 start, end;
    u32 body;    /* index of the function's brace, 0 without */
    bool is_static, is_extern, is_inline, is_typedef, is_root, reached, gnu_inline, defines;
    struct part *parts; /* structures and enumerations defined in it, last one first */
};

struct part {
    struct record *record;
    struct enumeration *enumeration;
    struct part *next;
};

struct declaration { /* one declaration of a name */
    struct item *item;
    struct declaration *next;
};

enum what { N_OBJECT, N_TYPEDEF, N_CONSTANT };

struct name {
    struct symbol *symbol;
    enum what what;
    struct declaration *first, *last;
    struct enumeration *enumeration;
    struct type *type;
    bool reached, resolving;
    signed char copies; /* calls a memory builtin: 0 not asked, 1 yes, -1 no, 2 being asked */
};

struct local {
    struct symbol *symbol;
    enum what what;
    struct type *type;
    u32 frame;
    struct local *outer, *before;
};

struct tag {
    struct symbol *symbol;
    struct record *record;
    struct enumeration *enumeration;
    u32 frame;
    struct tag *outer, *before;
};

struct enumeration {
    u32 head, body, tail; /* 'enum', '{', one past the attributes */
    bool reached;
};

struct member {
    struct symbol *symbol; /* NULL: an unnamed structure or union */
    struct type *type;
    u32 unit;
    bool is_bit_field;
};

struct unit { /* one declaration in a structure */
    u32 start, end;
    bool marked;
};

struct record {
    struct symbol *tag;
    bool is_union, is_local, parsed, parsing, complete, queued;
    u32 head, body, tail; /* 'struct', '{' (0: not seen), one past the attributes */
    struct member *members;
    u32 member_count, member_room;
    struct unit *units;
    u32 unit_count, unit_room;
    u32 kept; /* units that are kept: 0..kept-1 */
    /* what may set the alignment */
    bool measured, measuring;
    u32 basic;
    u64 attributes[16];
    u32 attribute_count;
};

static struct item *items;
static u32 item_count, item_room;

static struct type unknown_type = {.shape = S_UNKNOWN};
static struct type int_type = {.shape = S_BASIC, .basic = 1 << 3};
static struct type void_type = {.shape = S_BASIC, .basic = 1 << 0};
static struct type char_type = {.shape = S_BASIC, .basic = 1 << 1};
static struct type void_pointer = {.shape = S_POINTER, .to = &void_type};
static struct type string_type = {.shape = S_ARRAY, .to = &char_type};

static struct type *type_of(enum shape shape, struct type *to)
{
    struct type *new = arena(sizeof *new);
    new->shape = shape;
    new->to = to;
    return new;
}

static u32 p;     /* the token being looked at */
static u32 frame; /* number of the function whose names count; 0: file scope */

static inline bool at(char punct)
{
    return tokens[p].kind == T_PUNCT && tokens[p].punct == punct;
}

static inline bool at_code(unsigned code)
{
    return tokens[p].kind == T_PUNCT && tokens[p].code == code;
}

static inline enum word word_at(u32 i)
{
    return tokens[i].kind == T_IDENT ? tokens[i].symbol->word : W_NONE;
}

static inline enum word word(void)
{
    return word_at(p);
}

static void want(char punct)
{
    if (!at(punct))
        odd("unexpected token", p);
    p++;
}

static bool is_identifier(u32 i)
{
    return tokens[i].kind == T_IDENT && tokens[i].symbol->word == W_NONE;
}

/* ------------------------------------------------------------------ first pass: what is where */

static struct name *declare(struct symbol *symbol, enum what what, struct item *item, u32 where)
{
    struct name *name = symbol->name;
    if (name == NULL) {
        name = arena(sizeof *name);
        name->symbol = symbol;
        name->what = what;
        symbol->name = name;
    } else if (name->what != what) {
        odd("two meanings", where);
    }
    if (item != NULL) {
        struct declaration *new = arena(sizeof *new);
        new->item = item;
        if (name->last != NULL)
            name->last->next = new;
        else
            name->first = new;
        name->last = new;
    }
    return name;
}

static u32 skip_attributes(u32 i)
{
    while (word_at(i) == W_ATTRIBUTE || word_at(i) == W_EXTENSION) {
        if (word_at(i) == W_ATTRIBUTE) {
            if (tokens[i + 1].punct != '(')
                odd("attribute", i);
            i = tokens[i + 1].match;
        }
        i++;
    }
    return i;
}

static struct item *scanned; /* the item that what is found belongs to */

static void new_part(struct record *record, struct enumeration *enumeration)
{
    struct part *part = arena(sizeof *part);
    part->record = record;
    part->enumeration = enumeration;
    part->next = scanned->parts;
    scanned->parts = part;
}

static u32 scan_tagged(u32 i);

static void scan_inside(u32 from, u32 to)
{
    while (from < to) {
        enum word one = word_at(from);
        if (one == W_STRUCT || one == W_UNION || one == W_ENUM)
            from = scan_tagged(from);
        else
            from++;
    }
}

/* From 'struct', 'union' or 'enum' of file scope to past what belongs to it. */
static u32 scan_tagged(u32 i)
{
    u32 head = i;
    enum word what = word_at(i);
    i = skip_attributes(i + 1);
    struct symbol *symbol = NULL;
    if (tokens[i].kind == T_IDENT) {
        symbol = tokens[i].symbol;
        i = skip_attributes(i + 1);
    }
    if (tokens[i].kind != T_PUNCT || tokens[i].punct != '{') {
        if (symbol == NULL)
            odd("nameless type", i);
        return i;
    }
    struct tag *tag = NULL;
    if (symbol != NULL) {
        tag = symbol->tag;
        if (tag == NULL) {
            tag = symbol->tag = arena(sizeof *tag);
            tag->symbol = symbol;
        }
    }
    u32 body = i, tail = skip_attributes(tokens[i].match + 1);
    if (what == W_ENUM) {
        struct enumeration *new = tag ? tag->enumeration : NULL;
        if (new == NULL)
            new = arena(sizeof *new);
        if (tag != NULL) {
            if (tag->record != NULL || new->body != 0)
                odd("two meanings", i);
            tag->enumeration = new;
        }
        new->head = head;
        new->body = body;
        new->tail = tail;
        tokens[body].enumeration = new;
        new_part(NULL, new);
        u32 stop = tokens[body].match;
        for (i = body + 1; i < stop;) {
            if (!is_identifier(i))
                odd("enumeration", i);
            declare(tokens[i].symbol, N_CONSTANT, NULL, i)->enumeration = new;
            while (i < stop && tokens[i].punct != ',')
                i = tokens[i].kind == T_PUNCT && strchr("([{", tokens[i].punct) && tokens[i].punct
                        ? tokens[i].match + 1 : i + 1;
            i++;
        }
        return tail;
    }
    struct record *new = tag ? tag->record : NULL;
    if (new == NULL)
        new = arena(sizeof *new);
    if (tag != NULL) {
        if (tag->enumeration != NULL || new->body != 0)
            odd("two meanings", i);
        tag->record = new;
    }
    new->tag = symbol;
    new->is_union = what == W_UNION;
    new->head = head;
    new->body = body;
    new->tail = tail;
    tokens[body].record = new;
    new_part(new, NULL);
    scan_inside(body + 1, tokens[body].match);
    return tail;
}

static bool is_type_name(u32 i)
{
    if (!is_identifier(i))
        return false;
    struct symbol *symbol = tokens[i].symbol;
    if (frame != 0 && symbol->local != NULL && symbol->local->frame == frame)
        return symbol->local->what == N_TYPEDEF;
    return symbol->name != NULL && symbol->name->what == N_TYPEDEF;
}

/* Attributes that leave it to the code whether a static definition is emitted. */
static bool is_quiet_attribute(const struct symbol *symbol)
{
    static const char *const quiet[] = {
        "unused", "cold", "hot", "noinline", "always_inline", "gnu_inline", "section", "aligned",
        "no_instrument_function", "noreturn", "const", "pure", "format", "warn_unused_result",
        "malloc", "packed", "error", "warning", "deprecated", "nonnull", "returns_nonnull",
        "flatten", "no_sanitize", "noclone", "mode", "nonstring", "alloc_size", "printf",
        "no_sanitize_address", "no_sanitize_thread", "no_sanitize_undefined", "optimize", "leaf",
        "nothrow", "format_arg", "copy", "fallthrough", "assume_aligned", "designated_init",
        "may_alias", "transparent_union", "no_stack_protector", "noipa", "artificial", "tainted",
        "scanf", "target", "sentinel", "no_profile_instrument_function", "patchable_function_entry", "access", "zero_call_used_regs", "no_split_stack",
    };
    const char *at = symbol->at;
    u32 length = symbol->length;
    if (length > 4 && at[0] == '_' && at[1] == '_') {
        at += 2;
        length -= 4;
    }
    for (size_t i = 0; i < sizeof quiet / sizeof *quiet; i++)
        if (strlen(quiet[i]) == length && memcmp(quiet[i], at, length) == 0)
            return true;
    return false;
}

static u32 scan_attribute(u32 i, struct item *item)
{
    if (word_at(i) == W_EXTENSION)
        return i + 1;
    if (tokens[i + 1].punct != '(')
        odd("attribute", i);
    u32 stop = tokens[i + 1].match;
    if (word_at(i) != W_ATTRIBUTE)
        return stop + 1;
    for (u32 k = i + 3; k < stop; k++) {
        if (tokens[k].kind != T_IDENT)
            continue;
        if (is(tokens[k].symbol, "__gnu_inline__") || is(tokens[k].symbol, "gnu_inline"))
            item->gnu_inline = true;
        if (!is_quiet_attribute(tokens[k].symbol))
            item->is_root |= true; /* for definitions only, see below */
        if (tokens[k + 1].punct == '(')
            k = tokens[k + 1].match;
    }
    return stop + 1;
}

/* One top-level declaration; returns the index after it. */
static u32 scan_item(u32 i)
{
    if (item_count == item_room)
        odd("too many declarations", i);
    struct item *item = &items[item_count++];
    scanned = item;
    item->start = i;
    if (word_at(i) == W_ASM || word_at(i) == W_STATIC_ASSERT) {
        while (i < token_count && tokens[i].punct != ';')
            i = tokens[i].punct == '(' ? tokens[i].match + 1 : i + 1;
        item->end = i + 1;
        item->is_root = true;
        return i + 1;
    }
    bool typed = false, rooted = false;
    for (;; ) {
        enum word one = word_at(i);
        if (one == W_TYPEDEF) item->is_typedef = true, i++;
        else if (one == W_EXTERN) item->is_extern = true, i++;
        else if (one == W_STATIC) item->is_static = true, i++;
        else if (one == W_INLINE) item->is_inline = true, i++;
        else if (one == W_QUALIFIER || one == W_REGISTER || one == W_THREAD || one == W_NORETURN) i++;
        else if (one == W_BASIC) typed = true, i++;
        else if (one == W_STRUCT || one == W_UNION || one == W_ENUM) typed = true, i = scan_tagged(i);
        else if (one == W_TYPEOF) typed = true, i = tokens[i + 1].match + 1;
        else if (one == W_ATTRIBUTE || one == W_EXTENSION || one == W_ALIGNAS) i = scan_attribute(i, item);
        else if (one == W_NONE && !typed && is_type_name(i)) typed = true, i++;
        else break;
    }
    rooted = item->is_root;
    item->is_root = false;
    if (tokens[i].kind == T_PUNCT && tokens[i].punct == ';') {
        item->end = i + 1;
        return i + 1;
    }
    if (!typed)
        odd("declaration without a type", i);
    for (;;) {
        u32 depth = 0;
        while (tokens[i].punct == '*' || tokens[i].punct == '(' || word_at(i) == W_QUALIFIER ||
               word_at(i) == W_ATTRIBUTE) {
            if (word_at(i) == W_ATTRIBUTE) {
                i = scan_attribute(i, item);
                continue;
            }
            depth += tokens[i].punct == '(';
            i++;
        }
        if (!is_identifier(i))
            odd("declarator", i);
        declare(tokens[i].symbol, item->is_typedef ? N_TYPEDEF : N_OBJECT, item, i);
        i++;
        bool function = false, first = true;
        for (;;) {
            if (tokens[i].punct == '[') {
                i = tokens[i].match + 1;
            } else if (tokens[i].punct == '(') {
                function |= first;
                i = tokens[i].match + 1;
            } else if (tokens[i].punct == ')' && depth > 0) {
                depth--;
                i++;
                continue;
            } else if (word_at(i) == W_ATTRIBUTE && depth > 0) {
                i = scan_attribute(i, item);
            } else {
                break;
            }
            first = false;
        }
        if (depth != 0)
            odd("declarator", i);
        while (word_at(i) == W_ATTRIBUTE || word_at(i) == W_ASM) {
            if (word_at(i) == W_ASM)
                i = tokens[i + 1].match + 1;
            else
                i = scan_attribute(i, item);
        }
        rooted |= item->is_root;
        item->is_root = false;
        if (tokens[i].punct == '=' && tokens[i].kind == T_PUNCT) {
            item->defines = true;
            while (tokens[i].punct != ',' && tokens[i].punct != ';') {
                if (i >= token_count)
                    odd("initializer", i);
                i = tokens[i].kind == T_PUNCT && tokens[i].punct && strchr("([{", tokens[i].punct)
                        ? tokens[i].match + 1 : i + 1;
            }
        } else if (tokens[i].punct == '{') {
            item->body = i;
            item->defines = true;
            i = tokens[i].match + 1;
            break;
        } else if (!function && !item->is_typedef && !item->is_extern) {
            item->defines = true; /* a tentative definition, or a function by a typedef's type */
        }
        if (tokens[i].punct == ';') {
            i++;
            break;
        }
        if (tokens[i].punct != ',')
            odd("declaration", i);
        i++;
    }
    item->end = i;
    if (item->is_typedef)
        return i;
    bool asked_only = item->is_static || (item->body && item->is_inline && item->is_extern &&
                                          item->gnu_inline);
    item->is_root = (item->defines && !asked_only) || rooted;
    return i;
}

/* ------------------------------------------------------------------ second pass: typed parsing */

static bool marking; /* whether what is parsed counts as used */

struct work {
    struct item *item;
    struct record *record;
    struct enumeration *enumeration;
};
static struct work *queue;
static u32 queue_length, queue_room;

static void enqueue(struct item *item, struct record *record, struct enumeration *enumeration)
{
    if (queue_length == queue_room) {
        queue_room = queue_room ? queue_room * 2 : 4096;
        queue = grown(queue, queue_room * sizeof *queue);
    }
    queue[queue_length++] = (struct work){item, record, enumeration};
}

static void reach_item(struct item *item)
{
    if (!item->reached) {
        item->reached = true;
        enqueue(item, NULL, NULL);
    }
}

static void reach_enumeration(struct enumeration *enumeration)
{
    if (marking && !enumeration->reached) {
        enumeration->reached = true;
        enqueue(NULL, NULL, enumeration);
    }
}

static void reach(struct name *name)
{
    if (!marking || name->reached)
        return;
    name->reached = true;
    if (name->enumeration != NULL)
        reach_enumeration(name->enumeration);
    for (struct declaration *one = name->first; one != NULL; one = one->next)
        reach_item(one->item);
}

static void need_record(struct record *record)
{
    if (!record->queued) {
        record->queued = true;
        enqueue(NULL, record, NULL);
    }
}

static void parse_record(struct record *record);
static void parse_unit(struct record *record);

static void need_complete(struct type *type)
{
    if (!marking)
        return;
    while (type->shape == S_ARRAY)
        type = type->to;
    if (type->shape == S_UNKNOWN)
        odd("size of an unknown type", p);
    if (type->shape == S_RECORD && !type->record->complete) {
        type->record->complete = true;
        need_record(type->record);
    }
}

static void use_value(struct type *type)
{
    if (type->shape == S_RECORD)
        need_complete(type);
}

static void step(struct type *type) /* arithmetic on a pointer, indexing */
{
    if (type->shape == S_POINTER || type->shape == S_ARRAY) {
        if (type->to->shape != S_FUNCTION)
            need_complete(type->to);
    } else if (type->shape == S_UNKNOWN && marking) {
        odd("arithmetic on an unknown type", p);
    }
}

static struct type *parse_expression(void);
static struct type *parse_assignment(void);
static struct type *parse_conditional(void);
static struct type *parse_unary(void);
static struct type *parse_type_name(void);
static void parse_initializer(void);
static struct type *parse_compound(void);
static struct type *parse_declarator(struct type *base, struct symbol **symbol);
static struct type *resolve(struct name *name);

static struct local *locals;    /* newest first */
static struct tag *local_tags;

static void bind(struct symbol *symbol, enum what what, struct type *type)
{
    struct local *new = arena(sizeof *new);
    new->symbol = symbol;
    new->what = what;
    new->type = type;
    new->frame = frame;
    new->outer = symbol->local;
    new->before = locals;
    symbol->local = new;
    locals = new;
}

struct scope {
    struct local *locals;
    struct tag *tags;
};

static struct scope open_scope(void)
{
    return (struct scope){locals, local_tags};
}

static void close_scope(struct scope scope)
{
    for (; locals != scope.locals; locals = locals->before)
        locals->symbol->local = locals->outer;
    for (; local_tags != scope.tags; local_tags = local_tags->before)
        local_tags->symbol->local_tag = local_tags->outer;
}

static bool is_type_start(u32 i)
{
    switch (word_at(i)) {
    case W_QUALIFIER: case W_BASIC: case W_STRUCT: case W_UNION: case W_ENUM: case W_TYPEOF:
    case W_ATOMIC: case W_AUTOTYPE:
        return true;
    case W_ATTRIBUTE: case W_EXTENSION:
        return is_type_start(skip_attributes(i));
    case W_NONE:
        return is_type_name(i);
    default:
        return false;
    }
}

static bool is_declaration_start(u32 i)
{
    i = skip_attributes(i);
    switch (word_at(i)) {
    case W_TYPEDEF: case W_EXTERN: case W_STATIC: case W_INLINE: case W_REGISTER: case W_AUTO:
    case W_THREAD: case W_NORETURN: case W_ALIGNAS: case W_STATIC_ASSERT:
        return true;
    default:
        return is_type_start(i);
    }
}

static u64 text_hash(u32 from, u32 to)
{
    u64 hash = 14695981039346656037u;
    for (u32 i = from; i < to; i++) {
        for (u32 k = 0; k < tokens[i].length; k++)
            hash = (hash ^ (unsigned char)tokens[i].at[k]) * 1099511628211u;
        hash = (hash ^ ' ') * 1099511628211u;
    }
    return hash | 1;
}

static u64 layout; /* hash of the attributes met that change a layout */

/* Attributes: what they name is used; those that change a layout are remembered. */
static void parse_attributes(void)
{
    for (;;) {
        enum word one = word();
        if (one == W_EXTENSION) {
            p++;
            continue;
        }
        if (one != W_ATTRIBUTE && one != W_ALIGNAS)
            return;
        u32 stop = tokens[p + 1].match;
        bool names_strings = false;
        for (u32 i = p + 2; i < stop; i++) {
            if (tokens[i].kind == T_STRING && names_strings && marking) {
                struct symbol *symbol = intern(tokens[i].at + 1, tokens[i].length - 2);
                if (symbol->name != NULL)
                    reach(symbol->name);
            }
            if (tokens[i].kind != T_IDENT)
                continue;
            struct symbol *symbol = tokens[i].symbol;
            static const char *const moving[] = {"aligned", "packed", "mode", "vector_size",
                "scalar_storage_order", "ms_struct", "gcc_struct", "warn_if_not_aligned"};
            for (size_t k = 0; k < sizeof moving / sizeof *moving; k++) {
                size_t length = strlen(moving[k]);
                if ((symbol->length == length && memcmp(symbol->at, moving[k], length) == 0) ||
                    (symbol->length == length + 4 && symbol->at[0] == '_' &&
                     memcmp(symbol->at + 2, moving[k], length) == 0)) {
                    layout = (layout * 31) ^ text_hash(p, stop);
                    /* sizeof in an attribute: the text does not tell the number. */
                    for (u32 m = p; m < stop; m++)
                        if (word_at(m) == W_SIZEOF || word_at(m) == W_ALIGNOF) {
                            u32 here = p;
                            p = m;
                            parse_unary();
                            p = here;
                        }
                }
            }
            names_strings |= is(symbol, "alias") || is(symbol, "__alias__") ||
                             is(symbol, "weakref") || is(symbol, "ifunc") ||
                             is(symbol, "__ifunc__") || is(symbol, "__weakref__");
            if (symbol->name != NULL && marking)
                reach(symbol->name);
            if ((symbol->word == W_STRUCT || symbol->word == W_UNION) &&
                word_at(i - 2) != W_SIZEOF && word_at(i - 2) != W_ALIGNOF)
                odd("type in an attribute", i);
        }
        if (one == W_ALIGNAS)
            layout = (layout * 31) ^ text_hash(p, stop);
        p = stop + 1;
    }
}

static struct type *with_layout(struct type *type, u64 attributes)
{
    if (attributes == 0)
        return type;
    struct type *new = arena(sizeof *new);
    *new = *type;
    new->attributes = (type->attributes * 31) ^ attributes;
    return new;
}

static struct record *find_record(struct symbol *symbol)
{
    if (frame != 0 && symbol->local_tag != NULL && symbol->local_tag->frame == frame)
        return symbol->local_tag->record;
    if (symbol->tag == NULL) {
        symbol->tag = arena(sizeof *symbol->tag);
        symbol->tag->symbol = symbol;
    }
    if (symbol->tag->record == NULL) {
        if (symbol->tag->enumeration != NULL)
            return NULL;
        symbol->tag->record = arena(sizeof *symbol->tag->record);
        symbol->tag->record->tag = symbol;
    }
    return symbol->tag->record;
}

static void bind_tag(struct symbol *symbol, struct record *record)
{
    struct tag *new = arena(sizeof *new);
    new->symbol = symbol;
    new->record = record;
    new->frame = frame;
    new->outer = symbol->local_tag;
    new->before = local_tags;
    symbol->local_tag = new;
    local_tags = new;
}

static struct type *parse_tagged(void)
{
    u32 head = p;
    enum word what = word();
    p++;
    parse_attributes();
    struct symbol *symbol = NULL;
    if (tokens[p].kind == T_IDENT) {
        symbol = tokens[p].symbol;
        p++;
        parse_attributes();
    }
    if (what == W_ENUM) {
        struct type *type = arena(sizeof *type);
        type->shape = S_BASIC;
        type->basic = B_ENUM;
        if (at('{')) {
            u32 body = p, stop = tokens[p].match;
            if (tokens[body].enumeration != NULL) { /* of file scope: its constants have names */
                reach_enumeration(tokens[body].enumeration);
                p = stop + 1;
            } else {
                for (p++; p < stop;) {
                    bind(tokens[p].symbol, N_CONSTANT, &int_type);
                    p++;
                    if (at('=')) {
                        p++;
                        parse_conditional();
                    }
                    if (p < stop)
                        want(',');
                }
                p++;
            }
            parse_attributes();
        } else if (symbol != NULL && symbol->tag != NULL && symbol->tag->enumeration != NULL) {
            reach_enumeration(symbol->tag->enumeration);
        }
        return type;
    }
    struct record *record;
    if (at('{')) {
        u32 body = p;
        record = tokens[body].record;
        if (record == NULL) { /* in a function */
            record = arena(sizeof *record);
            record->tag = symbol;
            record->is_union = what == W_UNION;
            record->is_local = true;
            record->head = head;
            record->body = body;
            tokens[body].record = record;
            if (symbol != NULL)
                bind_tag(symbol, record);
            p = tokens[body].match + 1;
            parse_attributes();
            record->tail = p;
            parse_record(record);
            if (marking) {
                for (u32 i = 0; i < record->unit_count; i++) {
                    p = record->units[i].start;
                    parse_unit(NULL);
                }
            }
        } else if (frame != 0 && symbol != NULL && record->tag == symbol &&
                   (symbol->tag == NULL || symbol->tag->record != record)) {
            bind_tag(symbol, record); /* a function's own, looked at again */
        }
        p = tokens[body].match + 1;
        parse_attributes();
    } else {
        if (symbol == NULL)
            odd("nameless type", p);
        if (frame != 0 && at(';')) { /* 'struct x;' in a block hides what is outside */
            record = arena(sizeof *record);
            record->tag = symbol;
            bind_tag(symbol, record);
        } else {
            record = find_record(symbol);
        }
        if (record == NULL)
            odd("two meanings", p);
    }
    struct type *type = arena(sizeof *type);
    type->shape = S_RECORD;
    type->record = record;
    return type;
}

struct specifiers {
    bool is_typedef, is_extern, is_static, is_auto_type;
    u64 layout;
};

static struct type *parse_specifiers(struct specifiers *found)
{
    struct type *type = NULL;
    u32 basic = 0, longs = 0;
    u64 outer = layout;
    layout = 0;
    memset(found, 0, sizeof *found);
    for (;;) {
        enum word one = word();
        if (one == W_TYPEDEF) found->is_typedef = true, p++;
        else if (one == W_EXTERN) found->is_extern = true, p++;
        else if (one == W_STATIC) found->is_static = true, p++;
        else if (one == W_INLINE || one == W_REGISTER || one == W_AUTO || one == W_THREAD ||
                 one == W_NORETURN || one == W_QUALIFIER) p++;
        else if (one == W_BASIC) {
            longs += is(tokens[p].symbol, "long");
            basic |= tokens[p].symbol->basic;
            p++;
        } else if (one == W_AUTOTYPE) {
            found->is_auto_type = true;
            type = &unknown_type;
            p++;
        } else if (one == W_STRUCT || one == W_UNION || one == W_ENUM) {
            u64 mine = layout;
            type = parse_tagged();
            layout = mine; /* a structure's own attributes are the structure's */
        } else if (one == W_ATOMIC) {
            odd("_Atomic", p);
        } else if (one == W_TYPEOF) {
            p++;
            want('(');
            if (is_type_start(p))
                type = parse_type_name();
            else
                type = parse_expression();
            want(')');
        } else if (one == W_ATTRIBUTE || one == W_EXTENSION || one == W_ALIGNAS) {
            parse_attributes();
        } else if (one == W_NONE && type == NULL && basic == 0 && is_type_name(p)) {
            struct symbol *symbol = tokens[p].symbol;
            if (frame != 0 && symbol->local != NULL && symbol->local->frame == frame) {
                type = symbol->local->type;
            } else {
                type = resolve(symbol->name);
                reach(symbol->name);
            }
            p++;
        } else {
            break;
        }
    }
    if (type == NULL) {
        if (basic == 0)
            odd("no type", p);
        type = arena(sizeof *type);
        type->shape = S_BASIC;
        type->basic = basic | (longs > 1 ? B_LONG_LONG : 0);
        if (basic & (1 << 9)) { /* va_list: an array on some machines */
            type->shape = S_BASIC;
        }
    }
    found->layout = layout;
    type = with_layout(type, layout);
    layout = outer;
    return type;
}

static struct type *parse_parameters(struct type *returned)
{
    struct type *type = type_of(S_FUNCTION, returned);
    u32 stop = tokens[p].match, room = 0;
    struct scope scope = open_scope();
    p++;
    if (is_identifier(p) && !is_type_name(p))
        odd("parameters without types", p);
    while (p < stop) {
        if (at_code(CODE3('.', '.'))) {
            p++;
            break;
        }
        struct specifiers found;
        struct symbol *symbol = NULL;
        struct type *base = parse_specifiers(&found);
        struct type *one = parse_declarator(base, &symbol);
        parse_attributes();
        if (one->shape == S_ARRAY)
            one = type_of(S_POINTER, one->to);
        else if (one->shape == S_FUNCTION)
            one = type_of(S_POINTER, one);
        use_value(one);
        if (type->parameter_count == room) {
            struct parameter *more = arena((room ? room * 2 : 8) * sizeof *more);
            if (room)
                memcpy(more, type->parameters, room * sizeof *more);
            type->parameters = more;
            room = room ? room * 2 : 8;
        }
        type->parameters[type->parameter_count++] = (struct parameter){symbol, one};
        if (symbol != NULL && frame != 0)
            bind(symbol, N_OBJECT, one); /* an array's length may be told by one before */
        if (p < stop)
            want(',');
    }
    close_scope(scope);
    if (p != stop)
        odd("parameters", p);
    p++;
    return type;
}

static struct type *parse_suffixes(struct type *base)
{
    if (at('[')) {
        u32 stop = tokens[p].match;
        p++;
        while (word() == W_QUALIFIER || word() == W_STATIC)
            p++;
        if (p != stop)
            parse_assignment();
        if (p != stop)
            odd("array", p);
        p++;
        return type_of(S_ARRAY, parse_suffixes(base));
    }
    if (at('(')) {
        /* What it returns is written after the parameters: read them twice. */
        u32 start = p;
        p = tokens[p].match + 1;
        struct type *returned = parse_suffixes(base);
        u32 end = p;
        p = start;
        use_value(returned);
        struct type *type = parse_parameters(returned);
        p = end;
        return type;
    }
    return base;
}

static struct type *parse_declarator(struct type *base, struct symbol **symbol)
{
    parse_attributes();
    while (at('*') || word() == W_QUALIFIER) {
        if (at('*'))
            base = type_of(S_POINTER, base);
        p++;
        parse_attributes();
    }
    if (at('(')) {
        u32 inside = skip_attributes(p + 1);
        bool nested = tokens[inside].kind == T_PUNCT
                          ? tokens[inside].punct == '*' || tokens[inside].punct == '(' ||
                                tokens[inside].punct == '['
                          : is_identifier(inside) &&
                                (!is_type_name(inside) || (tokens[inside + 1].punct == ')' &&
                                                           tokens[inside + 2].punct == '('));
        if (nested) {
            u32 start = p;
            p = tokens[p].match + 1;
            base = parse_suffixes(base);
            u32 end = p;
            p = start + 1;
            struct type *type = parse_declarator(base, symbol);
            if (!at(')'))
                odd("declarator", p);
            p = end;
            return type;
        }
    } else if (is_identifier(p)) {
        *symbol = tokens[p].symbol;
        p++;
    }
    return parse_suffixes(base);
}

static struct type *parse_type_name(void)
{
    struct specifiers found;
    struct symbol *symbol = NULL;
    struct type *type = parse_declarator(parse_specifiers(&found), &symbol);
    parse_attributes();
    if (symbol != NULL)
        odd("type name", p);
    return type;
}

/* Types of a file-scope name, without saying that it is used. */
static struct type *resolve(struct name *name)
{
    if (name->type != NULL)
        return name->type;
    if (name->what == N_CONSTANT)
        return name->type = &int_type;
    if (name->resolving)
        return &unknown_type;
    name->resolving = true;
    bool was_marking = marking;
    u32 was_at = p, was_frame = frame;
    u64 was_layout = layout;
    marking = false;
    frame = 0;
    for (struct declaration *one = name->first; one != NULL && name->type == NULL;
         one = one->next) {
        p = one->item->start;
        struct specifiers found;
        layout = 0;
        struct type *base = parse_specifiers(&found);
        for (;;) {
            struct symbol *symbol = NULL;
            struct type *type = parse_declarator(base, &symbol);
            layout = 0;
            while (word() == W_ASM || word() == W_ATTRIBUTE) {
                if (word() == W_ASM)
                    p = tokens[p + 1].match + 1;
                else
                    parse_attributes();
            }
            type = with_layout(type, layout);
            if (symbol == name->symbol) {
                if (type->shape != S_UNKNOWN)
                    name->type = type;
                break;
            }
            while (p < one->item->end && !at(','))
                p = tokens[p].kind == T_PUNCT && tokens[p].punct && strchr("([{", tokens[p].punct)
                        ? tokens[p].match + 1 : p + 1;
            if (p >= one->item->end)
                odd("name not found again", one->item->start);
            p++;
        }
    }
    marking = was_marking;
    frame = was_frame;
    p = was_at;
    layout = was_layout;
    name->resolving = false;
    return name->type ? name->type : &unknown_type;
}

/* ------------------------------------------------------------------ structures */

static void add_member(struct record *record, struct symbol *symbol, struct type *type, bool bits)
{
    if (record->member_count == record->member_room) {
        u32 room = record->member_room ? record->member_room * 2 : 8;
        struct member *more = arena(room * sizeof *more);
        if (record->member_count)
            memcpy(more, record->members, record->member_count * sizeof *more);
        record->members = more;
        record->member_room = room;
    }
    record->members[record->member_count++] =
        (struct member){symbol, type, record->unit_count - 1, bits};
}

/* One declaration in a structure's body, from p on; with 'record' its members are added. */
static void parse_unit(struct record *record)
{
    struct specifiers found;
    if (word() == W_STATIC_ASSERT)
        odd("assertion in a structure", p);
    struct type *base = parse_specifiers(&found);
    if (at(';')) {
        if (base->shape == S_RECORD) {
            need_complete(base);
            if (record != NULL)
                add_member(record, NULL, base, false);
        }
        p++;
        return;
    }
    for (;;) {
        struct symbol *symbol = NULL;
        struct type *type = base;
        bool bits = false;
        if (!at(':'))
            type = parse_declarator(base, &symbol);
        if (at(':')) {
            bits = true;
            p++;
            parse_conditional();
        }
        layout = 0;
        parse_attributes();
        type = with_layout(type, layout);
        need_complete(type->shape == S_FUNCTION ? &int_type : type);
        if (record != NULL)
            add_member(record, symbol ? symbol : intern("", 0), type, bits);
        if (at(';'))
            break;
        want(',');
    }
    p++;
}

static void parse_record(struct record *record)
{
    if (record->parsed)
        return;
    if (record->body == 0)
        odd("a structure that is not defined", p);
    if (record->parsing)
        odd("a structure within itself", p);
    record->parsing = true;
    bool was_marking = marking;
    u32 was_at = p, was_frame = frame, stop = tokens[record->body].match;
    u64 was_layout = layout;
    marking = false;
    if (!record->is_local)
        frame = 0;
    p = record->body + 1;
    while (p < stop) {
        if (at(';')) {
            p++;
            continue;
        }
        if (record->unit_count == record->unit_room) {
            u32 room = record->unit_room ? record->unit_room * 2 : 8;
            struct unit *more = arena(room * sizeof *more);
            if (record->unit_count)
                memcpy(more, record->units, record->unit_count * sizeof *more);
            record->units = more;
            record->unit_room = room;
        }
        u32 mine = record->unit_count++;
        record->units[mine].start = p;
        parse_unit(record);
        record->units[mine].end = p;
    }
    marking = was_marking;
    frame = was_frame;
    p = was_at;
    layout = was_layout;
    record->parsing = false;
    record->parsed = true;
}

/* Keeps a member: what comes before it, and what shares or bounds its storage. */
static void keep(struct record *record, const struct member *member)
{
    if (!marking || record->complete)
        return;
    u32 last = member->unit;
    bool whole = record->is_union;
    if (member->is_bit_field) {
        /* The storage unit of a bit-field reaches up to the next member that is none. */
        u32 next = (u32)(member - record->members);
        while (next < record->member_count && record->members[next].is_bit_field)
            next++;
        if (next == record->member_count)
            whole = true;
        else
            last = record->members[next].unit;
    } else if (member->type->shape == S_ARRAY || member->type->shape == S_RECORD) {
        last++; /* where an array ends may be told by what follows it */
        if (last >= record->unit_count)
            whole = true;
    }
    if (whole) {
        record->complete = true;
        need_record(record);
    } else if (last >= record->kept) {
        record->kept = last + 1;
        need_record(record);
    }
}

static struct type *find_member(struct record *record, const struct symbol *symbol)
{
    parse_record(record);
    for (u32 i = 0; i < record->member_count; i++) {
        struct member *member = &record->members[i];
        if (member->symbol == symbol) {
            keep(record, member);
            return member->type;
        }
        if (member->symbol == NULL) {
            struct type *found = find_member(member->type->record, symbol);
            if (found != NULL) {
                keep(record, member);
                return found;
            }
        }
    }
    return NULL;
}

static struct type *take_member(struct type *type)
{
    if (type->shape == S_UNKNOWN && !marking) {
        p++;
        return &unknown_type;
    }
    if (type->shape != S_RECORD || tokens[p].kind != T_IDENT)
        odd("member of no structure", p);
    struct type *found = find_member(type->record, tokens[p].symbol);
    if (found == NULL)
        odd("no such member", p);
    p++;
    return found;
}

static void mark_record(struct record *record)
{
    record->queued = false;
    if (record->body == 0 || record->is_local)
        return; /* a function's own is looked at, and written, with the function */
    parse_record(record);
    frame = 0;
    marking = true;
    p = record->head + 1;
    parse_attributes();
    if (tokens[p].kind == T_IDENT)
        p++;
    parse_attributes();
    p = tokens[record->body].match + 1;
    parse_attributes();
    u32 last = record->complete ? record->unit_count : record->kept;
    for (u32 i = 0; i < last; i++) {
        if (!record->units[i].marked) {
            record->units[i].marked = true;
            p = record->units[i].start;
            parse_unit(NULL);
        }
    }
}

static void mark_enumeration(struct enumeration *enumeration)
{
    if (enumeration->body == 0)
        return;
    frame = 0;
    marking = true;
    p = enumeration->head + 1;
    parse_attributes();
    u32 stop = tokens[enumeration->body].match;
    for (p = enumeration->body + 1; p < stop;) {
        p++;
        parse_attributes();
        if (at('=')) {
            p++;
            parse_conditional();
        }
        if (p < stop)
            want(',');
    }
    p = stop + 1;
    parse_attributes();
}

static void add_attribute(struct record *record, u64 hash)
{
    for (u32 i = 0; i < record->attribute_count; i++)
        if (record->attributes[i] == hash)
            return;
    if (record->attribute_count == sizeof record->attributes / sizeof *record->attributes) {
        record->attributes[0] = (record->attributes[0] * 31) ^ hash;
        return;
    }
    record->attributes[record->attribute_count++] = hash;
}

/* What a structure's alignment may come from: the kinds of its leaves, and attributes. */
static void measure(struct record *record)
{
    if (record->measured || record->body == 0)
        return;
    parse_record(record);
    if (record->measuring)
        odd("a structure within itself", record->head);
    record->measuring = true;
    u32 body_end = tokens[record->body].match;
    if (pack_at(record->body) != 0)
        add_attribute(record, (u64)pack_at(record->body) + 1);
    if (record->tail > body_end + 1)
        add_attribute(record, text_hash(body_end + 1, record->tail));
    if (record->body > record->head + 2)
        add_attribute(record, text_hash(record->head, record->body));
    for (u32 i = 0; i < record->member_count; i++) {
        struct type *type = record->members[i].type;
        u64 attributes = type->attributes;
        for (; type->shape == S_ARRAY; type = type->to)
            attributes = attributes * 31 ^ type->to->attributes;
        u32 basic = 0;
        if (type->shape == S_BASIC) {
            basic = type->basic;
        } else if (type->shape == S_POINTER) {
            basic = B_POINTER;
        } else if (type->shape == S_RECORD) {
            struct record *inner = type->record;
            measure(inner);
            basic = inner->basic;
            for (u32 k = 0; k < inner->attribute_count; k++)
                attributes = attributes * 31 ^ inner->attributes[k];
        } else {
            odd("member of an unknown type", record->head);
        }
        /* With attributes, it counts which of the kinds they are for. */
        if (attributes != 0)
            add_attribute(record, attributes * 31 ^ basic);
        else
            record->basic |= basic;
    }
    record->measuring = false;
    record->measured = true;
}

/* ------------------------------------------------------------------ expressions */

static struct type *pointed(struct type *type)
{
    if (type->shape == S_POINTER || type->shape == S_ARRAY)
        return type->to;
    if (type->shape == S_FUNCTION)
        return type;
    return &unknown_type;
}

/* Functions that the compiler knows, and calls where the source does not. */
static const char *const known_functions[] = {
    "memcpy", "memset", "memmove", "memcmp", "memchr", "bcmp", "bzero", "mempcpy", "strlen",
    "strnlen", "strcpy", "stpcpy", "strncpy", "strcat", "strncat", "strcmp", "strncmp", "strchr",
    "strrchr", "strstr", "strpbrk", "strspn", "strcspn", "sprintf", "snprintf", "vsprintf",
    "vsnprintf", "printf", "vprintf", "puts", "putchar", "abort", "index", "rindex",
    "__stack_chk_fail", "__stack_chk_guard", "strcasecmp", "strncasecmp", "strdup", "strndup",
    "calloc", "malloc", "free", "realloc", "ffs", "ffsl", "ffsll", "abs", "labs", "llabs",
};

static bool is_memory_function(const struct symbol *symbol)
{
    if (symbol->length > 10 && memcmp(symbol->at, "__builtin_", 10) == 0)
        return true;
    for (size_t i = 0; i < sizeof known_functions / sizeof *known_functions; i++)
        if (is(symbol, known_functions[i]))
            return true;
    return false;
}

/* Whether a function of this unit may hand its arguments to a builtin that copies memory: the
 * compiler looks at the size of what such an argument points to, after inlining too. */
static bool copies(struct name *name)
{
    if (name->copies != 0)
        return name->copies == 1;
    name->copies = 2;
    bool found = false;
    for (struct declaration *one = name->first; one != NULL && !found; one = one->next) {
        if (one->item->body == 0)
            continue;
        u32 stop = tokens[one->item->body].match;
        for (u32 i = one->item->body; i < stop && !found; i++) {
            if (tokens[i].kind != T_IDENT || tokens[i + 1].punct != '(')
                continue;
            struct symbol *symbol = tokens[i].symbol;
            if (symbol->length > 13 && memcmp(symbol->at, "__builtin_mem", 13) == 0)
                found = true;
            else if (symbol->length > 13 && memcmp(symbol->at, "__builtin_str", 13) == 0)
                found = true;
            else if (symbol->length > 5 && memcmp(symbol->at, "__builtin_", 10) != 0 &&
                     is_memory_function(symbol))
                found = true;
            else if (symbol->name != NULL && symbol->name != name &&
                     symbol->name->what == N_OBJECT)
                found = copies(symbol->name);
        }
    }
    name->copies = found ? 1 : -1;
    return found;
}

static struct type *parse_arguments(struct type *function, bool copied)
{
    u32 stop = tokens[p].match;
    p++;
    while (p < stop) {
        struct type *type = parse_assignment();
        use_value(type);
        if (copied && (type->shape == S_POINTER || type->shape == S_ARRAY) &&
            type->to->shape == S_RECORD && type->to->record->body != 0)
            need_complete(type->to);
        if (p < stop)
            want(',');
    }
    p = stop + 1;
    if (function->shape == S_POINTER)
        function = function->to;
    if (function->shape != S_FUNCTION)
        return &unknown_type;
    use_value(function->to);
    return function->to;
}

static struct type *parse_builtin(struct symbol *symbol)
{
    static const char *const pointers[] = {
        "memcpy", "memmove", "memset", "mempcpy", "alloca", "return_address", "frame_address",
        "strchr", "strrchr", "strcpy", "strncpy", "strcat", "strstr", "extract_return_addr",
        "memchr", "assume_aligned", "malloc", "stpcpy", "strncat", "strpbrk", "alloca_with_align",
        "__memcpy_chk", "__memset_chk", "__memmove_chk",
    };
    if (!at('('))
        return &unknown_type;
    static struct type none = {.shape = S_FUNCTION, .to = &int_type};
    parse_arguments(&none, symbol->length > 13 && (memcmp(symbol->at + 10, "mem", 3) == 0 ||
                                                   memcmp(symbol->at + 10, "str", 3) == 0 ||
                                                   memcmp(symbol->at + 10, "__m", 3) == 0));
    for (size_t i = 0; i < sizeof pointers / sizeof *pointers; i++)
        if (symbol->length == 10 + strlen(pointers[i]) &&
            memcmp(symbol->at + 10, pointers[i], symbol->length - 10) == 0)
            return &void_pointer;
    return &int_type;
}

static bool same_type(const struct type *one, const struct type *other)
{
    while (one != other) {
        if (one->shape != other->shape)
            return false;
        if (one->shape == S_BASIC)
            return true; /* any arithmetic will do: nothing has a size to find out */
        if (one->shape == S_RECORD)
            return one->record == other->record;
        if (one->shape == S_UNKNOWN)
            return true;
        one = one->to;
        other = other->to;
    }
    return true;
}

static bool is_void_pointer(const struct type *type)
{
    return type->shape == S_POINTER && type->to->shape == S_BASIC;
}

/* The type of an expression that is either of two. */
static struct type *either(struct type *one, struct type *other)
{
    if (one->shape == S_ARRAY)
        one = type_of(S_POINTER, one->to);
    if (other->shape == S_ARRAY)
        other = type_of(S_POINTER, other->to);
    if (one->shape == S_FUNCTION)
        one = type_of(S_POINTER, one);
    if (other->shape == S_FUNCTION)
        other = type_of(S_POINTER, other);
    if (same_type(one, other))
        return one;
    if (one->shape == S_POINTER && (other->shape == S_BASIC || is_void_pointer(other)))
        return one; /* a null pointer, or a pointer to void */
    if (other->shape == S_POINTER && (one->shape == S_BASIC || is_void_pointer(one)))
        return other;
    return &unknown_type;
}

static struct type *parse_generic(void)
{
    u32 stop = tokens[p + 1].match;
    p++;
    want('(');
    struct type *control = parse_assignment(), *fallback = NULL, *labelled = NULL, *any = NULL;
    bool alike = true;
    while (p < stop) {
        want(',');
        struct type *label = NULL;
        if (word() == W_DEFAULT)
            p++;
        else
            label = parse_type_name();
        want(':');
        struct type *value = parse_assignment();
        use_value(value);
        any = any == NULL ? value : any;
        alike &= same_type(any, value);
        if (label == NULL)
            fallback = value;
        else if (label->shape != S_BASIC || value->shape != S_BASIC)
            control = &unknown_type; /* which one is taken is not decided here */
        else
            labelled = value;
    }
    want(')');
    if (any != NULL && alike)
        return any;
    /* The labels are arithmetic types with arithmetic values. */
    if (control->shape == S_BASIC)
        return fallback == NULL || labelled == NULL ? &unknown_type : either(labelled, fallback);
    return control->shape == S_UNKNOWN || fallback == NULL ? &unknown_type : fallback;
}

static struct type *parse_primary(void)
{
    struct token *token = &tokens[p];
    if (token->kind == T_NUMBER || token->kind == T_CHAR) {
        p++;
        return &int_type;
    }
    if (token->kind == T_STRING) {
        while (tokens[p].kind == T_STRING)
            p++;
        return &string_type;
    }
    if (at('(')) {
        p++;
        struct type *type;
        if (at('{')) {
            type = parse_compound();
            use_value(type);
        } else {
            type = parse_expression();
        }
        want(')');
        return type;
    }
    if (token->kind != T_IDENT)
        odd("expression", p);
    struct symbol *symbol = token->symbol;
    switch (symbol->word) {
    case W_NONE:
        break;
    case W_GENERIC:
        return parse_generic();
    case W_OFFSETOF: {
        p++;
        want('(');
        struct type *type = parse_type_name();
        want(',');
        type = take_member(type);
        for (;;) {
            if (at('.')) {
                p++;
                type = take_member(type);
            } else if (at('[')) {
                p++;
                parse_expression();
                want(']');
                step(type);
                type = pointed(type);
            } else {
                break;
            }
        }
        want(')');
        return &int_type;
    }
    case W_VA_ARG: {
        p++;
        want('(');
        parse_assignment();
        want(',');
        struct type *type = parse_type_name();
        want(')');
        need_complete(type);
        return type;
    }
    case W_COMPATIBLE:
        p++;
        want('(');
        parse_type_name();
        want(',');
        parse_type_name();
        want(')');
        return &int_type;
    case W_CHOOSE: {
        p++;
        want('(');
        parse_assignment();
        want(',');
        struct type *one = parse_assignment();
        want(',');
        struct type *other = parse_assignment();
        want(')');
        return same_type(one, other) ? one : &unknown_type;
    }
    default:
        odd("word in an expression", p);
    }
    p++;
    if (frame != 0 && symbol->local != NULL && symbol->local->frame == frame) {
        struct local *local = symbol->local;
        if (local->what == N_TYPEDEF)
            odd("type in an expression", p);
        return local->type;
    }
    if (symbol->name != NULL) {
        struct name *name = symbol->name;
        if (name->what == N_TYPEDEF)
            odd("type in an expression", p);
        struct type *type = resolve(name);
        reach(name);
        return type;
    }
    if (symbol->length > 10 && memcmp(symbol->at, "__builtin_", 10) == 0)
        return parse_builtin(symbol);
    if (symbol->length > 7 && (memcmp(symbol->at, "__sync_", 7) == 0 ||
                               memcmp(symbol->at, "__atomi", 7) == 0)) {
        static struct type none = {.shape = S_FUNCTION, .to = &int_type};
        parse_arguments(&none, true);
        return &int_type;
    }
    if (is(symbol, "__func__") || is(symbol, "__FUNCTION__") || is(symbol, "__PRETTY_FUNCTION__"))
        return &string_type;
    odd("name without a declaration", p - 1);
}

static struct type *parse_postfix(struct type *type, struct name *called)
{
    for (;;) {
        if (at('[')) {
            p++;
            struct type *index = parse_expression();
            want(']');
            if (type->shape != S_POINTER && type->shape != S_ARRAY)
                type = index;
            step(type);
            type = pointed(type);
        } else if (at('(')) {
            bool copied = called != NULL && (is_memory_function(called->symbol) || copies(called));
            type = parse_arguments(type, copied);
        } else if (at('.')) {
            p++;
            type = take_member(type);
        } else if (at_code(CODE('-', '>'))) {
            p++;
            type = take_member(pointed(type));
        } else if (at_code(CODE('+', '+')) || at_code(CODE('-', '-'))) {
            p++;
            step(type);
        } else {
            return type;
        }
        called = NULL;
    }
}

static struct type *parse_unary(void)
{
    if (tokens[p].kind == T_PUNCT) {
        if (at('&')) {
            p++;
            return type_of(S_POINTER, parse_unary());
        }
        if (at_code(CODE('&', '&'))) { /* a label's address */
            p += 2;
            return &void_pointer;
        }
        if (at('*')) {
            p++;
            struct type *type = parse_unary();
            if (type->shape == S_BASIC)
                odd("dereference", p);
            return pointed(type);
        }
        if (at('-') || at('+') || at('~') || at('!')) {
            bool truth = at('!');
            p++;
            struct type *type = parse_unary();
            use_value(type);
            return truth || type->shape != S_UNKNOWN ? &int_type : type;
        }
        if (at_code(CODE('+', '+')) || at_code(CODE('-', '-'))) {
            p++;
            struct type *type = parse_unary();
            step(type);
            return type;
        }
        if (at('(') && is_type_start(p + 1)) {
            p++;
            struct type *type = parse_type_name();
            want(')');
            if (at('{')) {
                need_complete(type);
                parse_initializer();
                return parse_postfix(type, NULL);
            }
            struct type *inner = parse_unary();
            use_value(inner);
            use_value(type);
            return type;
        }
    }
    switch (word()) {
    case W_SIZEOF: case W_ALIGNOF: {
        p++;
        struct type *type;
        if (at('(') && is_type_start(p + 1)) {
            p++;
            type = parse_type_name();
            want(')');
            if (at('{')) {
                parse_initializer();
                type = parse_postfix(type, NULL);
            }
        } else {
            type = parse_unary();
        }
        if (type->shape != S_FUNCTION)
            need_complete(type);
        return &int_type;
    }
    case W_EXTENSION: case W_REAL:
        p++;
        return parse_unary();
    default:
        break;
    }
    struct name *called = NULL;
    if (is_identifier(p) && tokens[p + 1].punct == '(') {
        struct symbol *symbol = tokens[p].symbol;
        if (!(frame != 0 && symbol->local != NULL && symbol->local->frame == frame))
            called = symbol->name;
    }
    return parse_postfix(parse_primary(), called);
}

/* Binding strength of a binary operator at p, 0 for none. */
static int strength(void)
{
    if (tokens[p].kind != T_PUNCT)
        return 0;
    switch (tokens[p].punct) {
    case '*': case '/': case '%': return 10;
    case '+': case '-': return 9;
    case '<': case '>': return 7;
    case '&': return 5;
    case '^': return 4;
    case '|': return 3;
    case 0: break;
    default: return 0;
    }
    switch (tokens[p].code) {
    case CODE('<', '<'): case CODE('>', '>'): return 8;
    case CODE('<', '='): case CODE('>', '='): return 7;
    case CODE('=', '='): case CODE('!', '='): return 6;
    case CODE('&', '&'): return 2;
    case CODE('|', '|'): return 1;
    default: return 0;
    }
}

static struct type *parse_binary(int least)
{
    struct type *left = parse_unary();
    for (;;) {
        int mine = strength();
        if (mine == 0 || mine < least)
            return left;
        bool additive = mine == 9, minus = at('-');
        p++;
        struct type *right = parse_binary(mine + 1);
        use_value(left);
        use_value(right);
        if (!additive) {
            left = &int_type;
            continue;
        }
        bool left_points = left->shape == S_POINTER || left->shape == S_ARRAY;
        bool right_points = right->shape == S_POINTER || right->shape == S_ARRAY;
        if (left_points)
            step(left);
        if (right_points)
            step(right);
        if (left_points && right_points && minus)
            left = &int_type;
        else if (left_points)
            left = type_of(S_POINTER, left->to);
        else if (right_points)
            left = type_of(S_POINTER, right->to);
        else if (left->shape == S_UNKNOWN || right->shape == S_UNKNOWN)
            left = &unknown_type;
        else
            left = &int_type;
    }
}

static struct type *parse_conditional(void)
{
    struct type *condition = parse_binary(1);
    if (!at('?'))
        return condition;
    p++;
    use_value(condition);
    struct type *one = condition;
    if (!at(':'))
        one = parse_expression();
    want(':');
    struct type *other = parse_conditional();
    use_value(one);
    use_value(other);
    return either(one, other);
}

static struct type *parse_assignment(void)
{
    struct type *left = parse_conditional();
    unsigned code = tokens[p].kind == T_PUNCT ? tokens[p].code : 0;
    if (at('=')) {
        p++;
        struct type *right = parse_assignment();
        use_value(left);
        use_value(right);
        return left;
    }
    if (code == CODE('+', '=') || code == CODE('-', '=')) {
        p++;
        use_value(parse_assignment());
        step(left);
        return left;
    }
    if (code == CODE('*', '=') || code == CODE('/', '=') || code == CODE('%', '=') ||
        code == CODE('&', '=') || code == CODE('|', '=') || code == CODE('^', '=') ||
        code == CODE3('<', '<') || code == CODE3('>', '>')) {
        p++;
        use_value(parse_assignment());
        return left;
    }
    return left;
}

static struct type *parse_expression(void)
{
    struct type *type = parse_assignment();
    while (at(',')) {
        use_value(type);
        p++;
        type = parse_assignment();
    }
    return type;
}

static void parse_initializer(void)
{
    if (!at('{')) {
        use_value(parse_assignment());
        return;
    }
    u32 stop = tokens[p].match;
    p++;
    while (p < stop) {
        bool designated = false;
        for (;;) {
            if (at('.') && tokens[p + 1].kind == T_IDENT) {
                p += 2;
                designated = true;
            } else if (at('[')) {
                p++;
                parse_conditional();
                if (at_code(CODE3('.', '.'))) {
                    p++;
                    parse_conditional();
                }
                want(']');
                designated = true;
            } else {
                break;
            }
        }
        if (designated && at('='))
            p++;
        else if (!designated && tokens[p].kind == T_IDENT && tokens[p + 1].punct == ':')
            p += 2;
        parse_initializer();
        if (p < stop)
            want(',');
    }
    p = stop + 1;
}

/* ------------------------------------------------------------------ statements */

static void parse_asm(void) /* from 'asm' to past the brackets */
{
    p++;
    while (word() == W_QUALIFIER || word() == W_INLINE || word() == W_GOTO)
        p++;
    if (!at('('))
        odd("asm", p);
    u32 stop = tokens[p].match;
    int section = 0;
    p++;
    while (p < stop) {
        if (at(':')) {
            section++;
            p++;
        } else if (section == 0) {
            if (tokens[p].kind != T_STRING)
                odd("asm", p);
            p++;
        } else if (section <= 2) {
            if (at('[')) {
                p = tokens[p].match + 1;
            } else if (tokens[p].kind == T_STRING) {
                p++;
            } else if (at('(')) {
                u32 end = tokens[p].match;
                p++;
                struct type *type = parse_expression();
                use_value(type);
                if (p != end)
                    odd("asm operand", p);
                p++;
            } else {
                want(',');
            }
        } else {
            p++;
        }
    }
    p++;
}

static void parse_local_declaration(void)
{
    if (word_at(skip_attributes(p)) == W_STATIC_ASSERT) {
        p = skip_attributes(p) + 1;
        want('(');
        parse_conditional();
        if (at(',')) {
            p++;
            parse_primary();
        }
        want(')');
        want(';');
        return;
    }
    struct specifiers found;
    struct type *base = parse_specifiers(&found);
    if (at(';')) {
        p++;
        return;
    }
    for (;;) {
        struct symbol *symbol = NULL;
        struct type *type = base;
        type = parse_declarator(base, &symbol);
        if (symbol == NULL)
            odd("declaration", p);
        while (word() == W_ASM || word() == W_ATTRIBUTE) {
            if (word() == W_ASM)
                p = tokens[p + 1].match + 1;
            else
                parse_attributes();
        }
        if (found.is_typedef) {
            bind(symbol, N_TYPEDEF, type);
        } else if (found.is_auto_type) {
            want('=');
            type = parse_assignment();
            use_value(type);
            if (type->shape == S_ARRAY)
                type = type_of(S_POINTER, type->to);
            bind(symbol, N_OBJECT, type);
        } else {
            if (type->shape == S_FUNCTION || found.is_extern) {
                if (symbol->name != NULL && symbol->name->what == N_OBJECT)
                    reach(symbol->name); /* the same as the one of file scope */
            }
            if (type->shape != S_FUNCTION)
                need_complete(type);
            bind(symbol, N_OBJECT, type);
            if (at('=')) {
                p++;
                parse_initializer();
            }
        }
        if (at(';'))
            break;
        if (at('{'))
            odd("function in a function", p);
        want(',');
    }
    p++;
}

/* A statement; its type when it is an expression, for the value of ({ }). */
static struct type *parse_statement(void)
{
    while (is_identifier(p) && tokens[p + 1].kind == T_PUNCT && tokens[p + 1].punct == ':') {
        p += 2; /* a label */
        while (word() == W_ATTRIBUTE)
            parse_attributes();
        if (at('}'))
            return &void_type;
    }
    if (at('{'))
        return parse_compound(), &void_type;
    if (at(';')) {
        p++;
        return &void_type;
    }
    switch (word()) {
    case W_IF: case W_SWITCH: case W_WHILE: {
        bool is_if = word() == W_IF;
        p++;
        want('(');
        use_value(parse_expression());
        want(')');
        parse_statement();
        if (is_if && word() == W_ELSE) {
            p++;
            parse_statement();
        }
        return &void_type;
    }
    case W_DO:
        p++;
        parse_statement();
        if (word() != W_WHILE)
            odd("do without while", p);
        p++;
        want('(');
        use_value(parse_expression());
        want(')');
        want(';');
        return &void_type;
    case W_FOR: {
        struct scope scope = open_scope();
        p++;
        want('(');
        if (is_declaration_start(p)) {
            parse_local_declaration();
        } else {
            if (!at(';'))
                use_value(parse_expression());
            want(';');
        }
        if (!at(';'))
            use_value(parse_expression());
        want(';');
        if (!at(')'))
            use_value(parse_expression());
        want(')');
        parse_statement();
        close_scope(scope);
        return &void_type;
    }
    case W_CASE:
        p++;
        parse_conditional();
        if (at_code(CODE3('.', '.'))) {
            p++;
            parse_conditional();
        }
        want(':');
        if (at('}'))
            return &void_type;
        return parse_statement();
    case W_DEFAULT:
        p++;
        want(':');
        if (at('}'))
            return &void_type;
        return parse_statement();
    case W_RETURN:
        p++;
        if (!at(';'))
            use_value(parse_expression());
        want(';');
        return &void_type;
    case W_GOTO:
        p++;
        if (at('*')) {
            p++;
            parse_expression();
        } else {
            p++;
        }
        want(';');
        return &void_type;
    case W_BREAK: case W_CONTINUE:
        p++;
        want(';');
        return &void_type;
    case W_ASM:
        parse_asm();
        want(';');
        return &void_type;
    case W_LABEL:
        while (!at(';'))
            p++;
        p++;
        return &void_type;
    case W_ATTRIBUTE: {
        u32 after = skip_attributes(p);
        if (tokens[after].kind == T_PUNCT && tokens[after].punct == ';') {
            parse_attributes();
            p++;
            return &void_type;
        }
        break;
    }
    default:
        break;
    }
    if (is_declaration_start(p)) {
        parse_local_declaration();
        return &void_type;
    }
    struct type *type = parse_expression();
    use_value(type);
    want(';');
    return type;
}

static struct type *parse_compound(void)
{
    if (!at('{'))
        odd("block", p);
    u32 stop = tokens[p].match;
    struct scope scope = open_scope();
    struct type *type = &void_type;
    p++;
    while (p < stop)
        type = parse_statement();
    if (p != stop)
        odd("block", p);
    p++;
    close_scope(scope);
    return type;
}

/* ------------------------------------------------------------------ reaching */

/* Parses an item that counts, so that all it names counts too. */
static void mark_item(struct item *item)
{
    static u32 frames;
    marking = true;
    frame = 0;
    p = item->start;
    layout = 0;
    if (word() == W_ASM) {
        /* Its text may name what the unit defines. */
        for (u32 i = p; i < item->end; i++) {
            if (tokens[i].kind != T_STRING)
                continue;
            const char *text = tokens[i].at, *end = text + tokens[i].length;
            while (text < end) {
                if ((class_of[(unsigned char)*text] & 1) == 0) {
                    text += *text == '\\' && text + 1 < end ? 2 : 1;
                    continue;
                }
                const char *start = text;
                while (text < end && (class_of[(unsigned char)*text] & 3))
                    text++;
                struct symbol *symbol = intern(start, (u32)(text - start));
                if (symbol->name != NULL && symbol->name->what == N_OBJECT)
                    reach(symbol->name);
            }
        }
        return;
    }
    if (word() == W_STATIC_ASSERT) {
        p++;
        want('(');
        parse_conditional();
        return;
    }
    struct specifiers found;
    struct type *base = parse_specifiers(&found);
    if (at(';'))
        return;
    for (;;) {
        struct symbol *symbol = NULL;
        struct type *type = parse_declarator(base, &symbol);
        while (word() == W_ASM || word() == W_ATTRIBUTE) {
            if (word() == W_ASM)
                p = tokens[p + 1].match + 1;
            else
                parse_attributes();
        }
        if (symbol == NULL || symbol->name == NULL)
            odd("declarator", p);
        reach(symbol->name); /* its other declarations have attributes of their own */
        if (found.is_typedef) {
            /* Its own size counts only where it is used. */
        } else if (type->shape == S_FUNCTION) {
            use_value(type->to);
        } else {
            if (type->shape == S_UNKNOWN)
                odd("unknown type", p);
            need_complete(type);
        }
        if (at('=')) {
            p++;
            parse_initializer();
        } else if (at('{')) {
            if (type->shape != S_FUNCTION)
                odd("body", p);
            frame = ++frames;
            struct scope scope = open_scope();
            for (u32 i = 0; i < type->parameter_count; i++)
                if (type->parameters[i].symbol != NULL)
                    bind(type->parameters[i].symbol, N_OBJECT, type->parameters[i].type);
            parse_compound();
            close_scope(scope);
            frame = 0;
            return;
        }
        if (at(';'))
            return;
        want(',');
    }
}

/* ------------------------------------------------------------------ writing what is kept */

static struct text *out;

static void put(u32 from, u32 to)
{
    for (u32 i = from; i < to; i++) {
        text_add(out, tokens[i].at, tokens[i].length);
        text_add(out, " ", 1);
    }
}

static void put_parts(u32 from, u32 to);

static void put_body(struct record *record)
{
    u32 stop = tokens[record->body].match;
    int pack = pack_at(record->body);
    text_add(out, "{ ", 2);
    if (pack != pack_at(stop))
        odd("pragma in a structure", record->body);
    if (pack != 0) {
        char note[32];
        int used = snprintf(note, sizeof note, "@pack %d ", pack);
        text_add(out, note, (size_t)used);
    }
    if (record->complete) {
        put(record->body + 1, stop);
    } else if (record->kept != 0) {
        char tail[64];
        put(record->units[0].start, record->units[record->kept - 1].end);
        bool more = record->kept < record->unit_count;
        measure(record);
        int used = snprintf(tail, sizeof tail, "@%x %d ", record->basic, more);
        text_add(out, tail, (size_t)used);
        for (u32 i = 0; i < record->attribute_count; i++) {
            used = snprintf(tail, sizeof tail, "@%llx ", (unsigned long long)record->attributes[i]);
            text_add(out, tail, (size_t)used);
        }
        if (more)
            put_parts(record->units[record->kept].start, stop);
    } else {
        put_parts(record->body + 1, stop);
    }
    text_add(out, "} ", 2);
}

/* What is used of the types defined within something that is itself not used. */
static void put_parts(u32 from, u32 to)
{
    for (u32 i = from; i < to; i++) {
        if (tokens[i].kind != T_PUNCT || tokens[i].punct != '{')
            continue;
        enum word before = W_NONE;
        for (u32 k = i; k-- > from && k + 40 > i;) {
            before = word_at(k);
            if (before == W_STRUCT || before == W_UNION || before == W_ENUM)
                break;
        }
        if (before == W_ENUM) {
            if (tokens[i].enumeration != NULL && tokens[i].enumeration->reached) {
                put(tokens[i].enumeration->head, tokens[i].enumeration->tail);
                text_add(out, "; ", 2);
            }
            i = tokens[i].match;
        } else if ((before == W_STRUCT || before == W_UNION) && tokens[i].record != NULL &&
                   !tokens[i].record->is_local) {
            struct record *record = tokens[i].record;
            if (record->complete || record->kept != 0) {
                put(record->head, record->body);
                put_body(record);
                put(tokens[record->body].match + 1, record->tail);
                text_add(out, "; ", 2);
                i = tokens[i].match;
            }
        }
    }
}

static void put_item(struct item *item)
{
    if (!item->reached) {
        if (item->parts != NULL)
            put_parts(item->start, item->end);
        return;
    }
    u32 from = item->start;
    if (item->parts != NULL) {
        u32 stop = item->body ? item->body : item->end;
        for (u32 i = item->start; i < stop; i++) {
            if (tokens[i].kind != T_PUNCT || tokens[i].punct != '{')
                continue;
            struct record *mine = NULL;
            for (struct part *part = item->parts; part != NULL; part = part->next)
                if (part->record != NULL && part->record->body == i)
                    mine = part->record;
            if (mine != NULL) {
                put(from, i);
                put_body(mine);
                from = tokens[i].match + 1;
            }
            i = tokens[i].match;
        }
    }
    put(from, item->end);
    text_add(out, "\n", 1);
}

const char *reduce_unit(const char *source, size_t length, struct text *reduced)
{
    out = reduced;
    prepare();
    if (setjmp(give_up) != 0)
        return why;
    lex(source, length);
    match_brackets();
    for (u32 i = 0; i < token_count; i++)
        if (word_at(i) == W_ODD)
            odd("depends on its place", i);
    item_room = token_count / 2 + 2;
    items = grown(NULL, item_room * sizeof *items);
    memset(items, 0, item_room * sizeof *items);
    for (u32 i = 0; i < token_count;) {
        if (tokens[i].kind == T_PUNCT && tokens[i].punct == ';') {
            i++;
            continue;
        }
        i = scan_item(i);
        if (i > token_count)
            odd("unfinished declaration", token_count - 1);
    }
    marking = true;
    for (u32 i = 0; i < item_count; i++)
        if (items[i].is_root)
            reach_item(&items[i]);
    for (size_t i = 0; i < sizeof known_functions / sizeof *known_functions; i++) {
        struct symbol *symbol = intern(known_functions[i], (u32)strlen(known_functions[i]));
        if (symbol->name != NULL && symbol->name->what == N_OBJECT)
            reach(symbol->name);
    }
    while (queue_length > 0) {
        struct work work = queue[--queue_length];
        if (work.item != NULL)
            mark_item(work.item);
        else if (work.record != NULL)
            mark_record(work.record);
        else
            mark_enumeration(work.enumeration);
    }
    for (u32 i = 0; i < item_count; i++)
        put_item(&items[i]);
    return NULL;
}
