/* The text of a unit as tokens; arena memory; the way out when something is not understood. */

#define _GNU_SOURCE

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "unit.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#define LARGE_PAGE (2u << 20)

size_t arena_bytes;

/* Memory in large pages where there are such: page by page it would cost as much as the work does, in
 * a child that shares it too. */
static void *pages(size_t bytes)
{
    char *all = mmap(NULL, bytes + LARGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                     -1, 0);
    if (all == MAP_FAILED)
        abort();
    size_t before = -(uintptr_t)all & (LARGE_PAGE - 1);
    if (before > 0)
        munmap(all, before);
    if (before < LARGE_PAGE)
        munmap(all + before + bytes, LARGE_PAGE - before);
    madvise(all + before, bytes, MADV_HUGEPAGE);
    return all + before;
}

static size_t whole_pages(size_t bytes)
{
    return (bytes + LARGE_PAGE - 1) & ~(size_t)(LARGE_PAGE - 1);
}

struct pool {
    char *at, *end;
};

static void *take(struct pool *pool, size_t bytes)
{
    bytes = (bytes + 7) & ~(size_t)7;
    if ((size_t)(pool->end - pool->at) < bytes) {
        size_t block = whole_pages(bytes);
        pool->at = pages(block);
        /* All of it at once, also where pages are small; an old kernel that cannot gives them one
         * by one. */
        madvise(pool->at, block, MADV_POPULATE_WRITE);
        pool->end = pool->at + block;
        arena_bytes += block;
    }
    void *got = pool->at;
    pool->at += bytes;
    return got;
}

void *arena(size_t bytes)
{
    static struct pool pool;
    return take(&pool, bytes);
}

/* What is written into a large page that a child shares breaks the page up, and each child after that
 * takes longer to begin. */
void *lasting(size_t bytes)
{
    static struct pool pool;
    return take(&pool, bytes);
}

jmp_buf give_up;
char why[400];

#define SYMBOLS (1u << 18)
static struct symbol *symbols[SYMBOLS];
struct token *tokens;
u32 token_count;
static size_t token_bytes;

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
    {"__builtin_has_attribute", W_HAS_ATTRIBUTE, 0},
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

_Noreturn void odd(const char *what, u32 at)
{
    u32 first = at > 4 ? at - 4 : 0;
    int used = snprintf(why, sizeof why, "%s near:", what);
    for (u32 i = first; i < token_count && i < at + 8 && used < (int)sizeof why - 40; i++)
        used += snprintf(why + used, sizeof why - (size_t)used, "%s%.*s", i == at ? " >> " : " ",
                         tokens[i].length > 30 ? 30 : (int)tokens[i].length, tokens[i].at);
    longjmp(give_up, 1);
}

struct symbol *intern(const char *at, u32 length)
{
    u64 mixed = length;
    for (u32 i = 0; i < length; i += 8) {
        u64 part = 0;
        memcpy(&part, at + i, length - i < 8 ? length - i : 8);
        mixed = (mixed ^ part) * 0x9e3779b97f4a7c15u;
        mixed ^= mixed >> 29;
    }
    u32 hash = (u32)(mixed ^ mixed >> 32);
    struct symbol **place = &symbols[hash & (SYMBOLS - 1)];
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

struct symbol *intern_kept(const char *at, u32 length)
{
    struct symbol *symbol = intern(at, length);
    if (symbol->at == at) {
        char *kept = arena(length + 1);
        symbol->at = memcpy(kept, at, length);
    }
    return symbol;
}

bool is(const struct symbol *symbol, const char *text)
{
    return symbol->length == strlen(text) && memcmp(symbol->at, text, symbol->length) == 0;
}

unsigned char class_of[256]; /* 1: starts an identifier, 2: digit, 4: white space */

void prepare(void)
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

/* A unit's tokens are its own and borrowed ones between them, until they are gathered. */
static struct span {
    struct loan loan; /* of no tokens: its own */
    u32 own;
} *spans;
static u32 span_count, span_room, borrowed, own_counted;

/* Room for so many more, and the one behind the last (end_tokens). */
static void make_room(u32 count)
{
    size_t wanted = (token_count + count + 1) * sizeof *tokens;
    if (wanted <= token_bytes)
        return;
    struct token *before = tokens;
    size_t room = token_bytes;
    token_bytes = whole_pages(wanted > 2 * room ? wanted : 2 * room);
    tokens = pages(token_bytes);
    if (before != NULL) {
        memcpy(tokens, before, token_count * sizeof *tokens);
        munmap(before, room);
    }
}

/* Which token of the unit comes next. */
u32 token_place(void)
{
    return token_count + borrowed;
}

static void add_span(struct span span)
{
    if (span_count == span_room) {
        span_room = span_room ? span_room * 2 : 4096;
        spans = grown(spans, span_room * sizeof *spans);
    }
    spans[span_count++] = span;
}

void borrow_tokens(const struct loan *loan)
{
    if (loan->token_count == 0)
        return;
    if (token_count > own_counted)
        add_span((struct span){.own = token_count - own_counted});
    own_counted = token_count;
    borrowed += loan->token_count;
    add_span((struct span){.loan = *loan});
}

/* Gives a token the number that it has in this unit. */
static void renumber(struct token *token, const struct number *number, u32 counter)
{
    char text[200];
    u32 kept = token->length - number->digits;
    if (kept > sizeof text - 12)
        odd("a long name with a number", (u32)(token - tokens));
    memcpy(text, token->at, kept);
    token->length = kept + (u32)sprintf(text + kept, "%u", counter + number->step);
    struct symbol *symbol = intern_kept(text, token->length);
    token->at = symbol->at;
    if (token->kind == T_IDENT) {
        token->symbol = symbol;
        token->code = (unsigned short)symbol->word;
    }
}

/* Puts the borrowed tokens between the own ones, all in memory that is written for the first time: in
 * a child that is quicker than to write what it shares. */
void gather_tokens(void)
{
    if (borrowed == 0)
        return;
    const struct token *own = tokens;
    add_span((struct span){.own = token_count - own_counted});
    u32 count = token_place();
    tokens = NULL;
    token_count = 0;
    token_bytes = 0;
    make_room(count);
    for (u32 i = 0; i < span_count; i++) {
        const struct loan *loan = &spans[i].loan;
        u32 more = loan->token_count ? loan->token_count : spans[i].own;
        struct token *to = tokens + token_count;
        memcpy(to, loan->token_count ? loan->tokens : own, more * sizeof *to);
        token_count += more;
        if (loan->token_count == 0)
            own += more;
        for (u32 k = 0; k < loan->number_count; k++)
            renumber(&to[loan->numbers[k].token], &loan->numbers[k], loan->counter);
    }
    span_count = borrowed = own_counted = 0;
    end_tokens();
}

struct token *new_token(void)
{
    make_room(1);
    struct token *token = &tokens[token_count++];
    memset(token, 0, sizeof *token);
    return token;
}

/* '#pragma pack': from which token on structures are packed to how many bytes, 0 as usual. */
static struct pack {
    u32 from; /* token_place() */
    int bytes;
} packs[256];
static u32 pack_count;
static int pack_stack[32], pack_depth;

int pack_at(u32 token)
{
    int bytes = 0;
    for (u32 i = 0; i < pack_count && packs[i].from <= token; i++)
        bytes = packs[i].bytes;
    return bytes;
}

bool pragma_pack(const char *at, const char *stop)
{
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
        if (pack_depth == 0)
            return false;
        bytes = pack_stack[--pack_depth];
    } else if (strncmp(flat, "(push", 5) == 0) {
        if (pack_depth == 32)
            return false;
        pack_stack[pack_depth++] = bytes;
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
    packs[pack_count].from = token_place();
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

void lex(const char *at, size_t length)
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
                token->code = (unsigned short)token->symbol->word;
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
    end_tokens();
}

/* One more that is not counted, so that looking ahead needs no care. */
void end_tokens(void)
{
    new_token()->kind = T_END;
    token_count--;
}

void forget_tokens(void)
{
    if (tokens != NULL)
        munmap(tokens, token_bytes);
    tokens = NULL;
    token_bytes = 0;
    token_count = pack_count = span_count = borrowed = own_counted = 0;
    pack_depth = 0;
}

/* Whether a preprocessed text has just the tokens that there are. They are gone afterwards. */
bool is_text_of_tokens(const char *at, size_t length)
{
    struct token *mine = tokens;
    u32 count = token_count, packed = pack_count;
    static struct pack kept[sizeof packs / sizeof *packs];
    memcpy(kept, packs, sizeof packs);
    tokens = NULL; /* mine are kept */
    forget_tokens();
    if (setjmp(give_up) != 0)
        return false;
    lex(at, length);
    for (u32 i = 0; i < packed && i < pack_count; i++)
        if (packs[i].from != kept[i].from || packs[i].bytes != kept[i].bytes)
            return false;
    for (u32 i = 0; i < count && i < token_count; i++)
        if (tokens[i].length != mine[i].length || tokens[i].kind != mine[i].kind ||
            memcmp(tokens[i].at, mine[i].at, mine[i].length) != 0) {
            snprintf(why, sizeof why, "%.*s for %.*s", (int)mine[i].length, mine[i].at,
                     (int)tokens[i].length, tokens[i].at);
            return false;
        }
    snprintf(why, sizeof why, "%u tokens for %u", count, token_count);
    return token_count == count && pack_count == packed;
}

const char *token_difference(void)
{
    return why;
}

bool has_string(const char *with, const char *or_with)
{
    for (u32 i = 0; i < token_count; i++)
        if (tokens[i].kind == T_STRING &&
            (memmem(tokens[i].at, tokens[i].length, with, strlen(with)) != NULL ||
             memmem(tokens[i].at, tokens[i].length, or_with, strlen(or_with)) != NULL))
            return true;
    return false;
}

/* Finds each bracket's partner, and gives up where a word depends on its place. */
void look_over_tokens(void)
{
    u32 room = 1024, depth = 0, *open = grown(NULL, room * sizeof *open);
    for (u32 i = 0; i < token_count; i++) {
        if (word_at(i) == W_ODD)
            odd("depends on its place", i);
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
