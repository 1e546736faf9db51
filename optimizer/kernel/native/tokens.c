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
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
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

/* A large page that was written while children shared it is in small pages since: one page again, when it
 * is full. Then it takes one step instead of 512 to begin a child, and to end it. */
static void collapse(void *full)
{
    if (!is_handed_over) /* a child ends soon */
        madvise(full, LARGE_PAGE, MADV_COLLAPSE); /* an old kernel cannot */
}

struct pool {
    char *at, *end;
};

static void *take(struct pool *pool, size_t bytes)
{
    bytes = (bytes + 7) & ~(size_t)7;
    if ((size_t)(pool->end - pool->at) < bytes) {
        size_t block = whole_pages(bytes);
        if (pool->end != NULL)
            collapse(pool->end - LARGE_PAGE);
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

/* Where the server writes first while a child shares the memory, the page is copied: what each unit writes
 * is together, or it would be a thousand pages a unit. */
void *busy(size_t bytes)
{
    static struct pool pool;
    return take(&pool, bytes);
}

jmp_buf give_up;
char why[400];

/* Names by their hash. The last ones that are new are by themselves: otherwise each of them would be
 * written to another page of the table, which a child may share. */
#define SYMBOLS (1u << 18)
#define NEW_SYMBOLS (1u << 12)
static struct symbol *symbols[SYMBOLS], *new_symbols[NEW_SYMBOLS];
static u32 new_symbol_count;
struct meaning no_meaning;
struct token *tokens;
u32 token_count;

/* All tokens are in one row of addresses, so that a number tells one for good: those that are kept for
 * many units come first, then the unit's own. */
#define UNIT_TOKENS (1u << 25)
#define ALL_TOKENS (1u << 26)
#define TOKENS_AT_A_TIME (LARGE_PAGE / (u32)sizeof(struct token))

static u32 kept_count, kept_room, kept_full, unit_room;

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
    {"__builtin_clear_padding", W_ODD, 0},
    {"__transaction_atomic", W_ODD, 0}, {"__builtin_complex", W_ODD, 0},
};

_Noreturn void odd(const char *what, u32 at)
{
    u32 least = at < UNIT_TOKENS ? 1 : UNIT_TOKENS, end = at < UNIT_TOKENS ? kept_count : token_count;
    u32 first = at > least + 4 ? at - 4 : least;
    int used = snprintf(why, sizeof why, "%s near:", what);
    for (u32 i = first; i < end && i < at + 8 && used < (int)sizeof why - 40; i++)
        used += snprintf(why + used, sizeof why - (size_t)used, "%s%.*s", i == at ? " >> " : " ",
                         tokens[i].length > 30 ? 30 : (int)tokens[i].length, tokens[i].at);
    longjmp(give_up, 1);
}

static struct symbol *find_symbol(struct symbol *first, const char *at, u32 length, u32 hash)
{
    while (first != NULL &&
           (first->hash != hash || first->length != length || memcmp(first->at, at, length) != 0))
        first = first->next;
    return first;
}

static void put_symbol(struct symbol **place, struct symbol *symbol)
{
    symbol->next = *place;
    *place = symbol;
}

static void settle_new_symbols(void)
{
    for (u32 i = 0; i < NEW_SYMBOLS; i++) {
        while (new_symbols[i] != NULL) {
            struct symbol *one = new_symbols[i];
            new_symbols[i] = one->next;
            put_symbol(&symbols[one->hash & (SYMBOLS - 1)], one);
        }
    }
    new_symbol_count = 0;
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
    struct symbol *known = find_symbol(symbols[hash & (SYMBOLS - 1)], at, length, hash);
    if (known == NULL)
        known = find_symbol(new_symbols[hash & (NEW_SYMBOLS - 1)], at, length, hash);
    if (known != NULL)
        return known;
    if (new_symbol_count == NEW_SYMBOLS)
        settle_new_symbols();
    new_symbol_count++;
    struct symbol *new = arena(sizeof *new);
    new->at = at;
    new->length = length;
    new->hash = hash;
    new->meaning = &no_meaning;
    put_symbol(&new_symbols[hash & (NEW_SYMBOLS - 1)], new);
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
    static bool is_prepared;
    if (is_prepared)
        return;
    is_prepared = true;
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

static void reserve_tokens(void)
{
    size_t bytes = (size_t)ALL_TOKENS * sizeof *tokens;
    char *all = mmap(NULL, bytes + LARGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED) {
        strcpy(why, "no room for tokens");
        longjmp(give_up, 1);
    }
    tokens = (struct token *)(all + (-(uintptr_t)all & (LARGE_PAGE - 1)));
    token_count = unit_room = UNIT_TOKENS;
}

/* Has the tokens before `wanted` be there, of those from `room` on that are not yet. */
static u32 more_room(u32 room, u32 wanted)
{
    u32 more = (wanted - room + TOKENS_AT_A_TIME - 1) / TOKENS_AT_A_TIME * TOKENS_AT_A_TIME;
    if (mprotect(tokens + room, more * sizeof *tokens, PROT_READ | PROT_WRITE) != 0)
        abort();
    madvise(tokens + room, more * sizeof *tokens, MADV_HUGEPAGE);
    return room + more;
}

/* Room for so many more, and the one behind the last (end_tokens). */
static void make_room(u32 count)
{
    if (tokens == NULL)
        reserve_tokens();
    if (token_count + count + 1 > ALL_TOKENS)
        abort();
    if (token_count + count + 1 > unit_room)
        unit_room = more_room(unit_room, token_count + count + 1);
}

static u32 places_from = UNIT_TOKENS; /* the first token of the text that is read */

/* Which token of the unit comes next. */
u32 token_place(void)
{
    return token_count - places_from + (places_from == UNIT_TOKENS ? borrowed_tokens() : 0);
}

/* Keeps the unit's last tokens, those from there on, for others; where. 0 when there is no room. */
u32 keep_tokens(u32 from)
{
    u32 count = token_count - from, first = kept_count + 1; /* no token has the number 0 */
    if (count >= UNIT_TOKENS - first - 1)
        return 0;
    if (first + count + 1 > kept_room) {
        arena_bytes -= (size_t)kept_room * sizeof *tokens;
        kept_room = more_room(kept_room, first + count + 1);
        arena_bytes += (size_t)kept_room * sizeof *tokens;
    }
    memcpy(tokens + first, tokens + from, count * sizeof *tokens);
    tokens[first + count].kind = T_END;
    kept_count = first + count;
    for (; kept_full + TOKENS_AT_A_TIME <= kept_count; kept_full += TOKENS_AT_A_TIME)
        collapse(tokens + kept_full);
    return first;
}

/* Another one of the unit's own, as that one. */
void copy_token(u32 token)
{
    make_room(1);
    struct token *copy = &tokens[token_count++];
    *copy = tokens[token];
    copy->match = 0;
    if (copy->kind == T_PUNCT) { /* what was found there is of the other one */
        copy->symbol = NULL;
        copy->code = copy->punct == '{' ? 0 : copy->code;
    }
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
    u32 place = pack_count == 0 ? 0 : place_of(token);
    for (u32 i = 0; i < pack_count && packs[i].from <= place; i++)
        bytes = packs[i].bytes;
    return bytes;
}

/* Whether a pack begins or ends between the tokens of a declaration. */
bool has_pack_within(u32 from, u32 to)
{
    u32 first = pack_count == 0 ? 0 : place_of(from);
    for (u32 i = 0; i < pack_count; i++)
        if (packs[i].from > first && packs[i].from < first + to - from)
            return true;
    return false;
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

static u32 open_brackets[256], open_count; /* more are not paired here */

/* Notes where a bracket's partner probably is: who looks over the tokens later, in a child, has less to
 * write then. */
void pair_bracket(u32 token)
{
    char c = tokens[token].punct;
    if (c == '(' || c == '[' || c == '{') {
        if (open_count < sizeof open_brackets / sizeof *open_brackets)
            open_brackets[open_count] = token;
        open_count++;
    } else if ((c == ')' || c == ']' || c == '}') && open_count > 0) {
        open_count--;
        if (open_count >= sizeof open_brackets / sizeof *open_brackets)
            return;
        tokens[open_brackets[open_count]].match = token;
        tokens[token].match = open_brackets[open_count];
    }
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
    if (tokens == NULL)
        reserve_tokens();
    /* New pages: those that are there may be shared with children, and would be copied to be written. */
    if (token_count > UNIT_TOKENS) /* whole ones: what is left of a large page is in small pages for good */
        madvise(tokens + UNIT_TOKENS, whole_pages((token_count - UNIT_TOKENS) * sizeof *tokens),
                MADV_DONTNEED);
    token_count = UNIT_TOKENS;
    open_count = 0;
    if (new_symbol_count > NEW_SYMBOLS / 2) /* or each child would, that has a few more */
        settle_new_symbols();
    pack_count = 0;
    pack_depth = 0;
    forget_segments();
}

/* Whether there is another token than those from there on, in the same order. */
static bool is_other_token(u32 other)
{
    for (u32 i = 0; i < segment_count; i++)
        for (u32 mine = segments[i].from; mine < segments[i].to; mine++, other++) {
            const struct token *one = &tokens[mine], *two = &tokens[other];
            if (other < token_count && one->length == two->length && one->kind == two->kind &&
                memcmp(one->at, two->at, one->length) == 0)
                continue;
            snprintf(why, sizeof why, "%.*s for %.*s", (int)one->length, one->at,
                     other < token_count ? (int)two->length : 0, two->at);
            return true;
        }
    snprintf(why, sizeof why, "%u tokens more", token_count - other);
    return other != token_count;
}

/* Whether a preprocessed text has just the tokens that there are. */
bool is_text_of_tokens(const char *at, size_t length)
{
    u32 count = token_count, packed = pack_count;
    static struct pack kept[sizeof packs / sizeof *packs];
    memcpy(kept, packs, sizeof packs);
    pack_count = 0;
    pack_depth = 0;
    places_from = count;
    volatile bool is_same = false;
    if (setjmp(give_up) == 0) {
        number_bodies();
        lex(at, length);
        bool is = !is_other_token(count) && pack_count == packed;
        for (u32 i = 0; i < packed && i < pack_count; i++)
            is &= packs[i].from == kept[i].from && packs[i].bytes == kept[i].bytes;
        is_same = is;
    }
    memcpy(packs, kept, sizeof packs);
    pack_count = packed;
    places_from = UNIT_TOKENS;
    token_count = count;
    end_tokens();
    return is_same;
}

const char *token_difference(void)
{
    return why;
}

/* Whether a string among them may have the assembler read files that the compiler does not. */
bool has_file_reading(u32 from, u32 to)
{
    for (u32 i = from; i < to; i++)
        if (tokens[i].kind == T_STRING &&
            (memmem(tokens[i].at, tokens[i].length, ".incbin", 7) != NULL ||
             memmem(tokens[i].at, tokens[i].length, ".include", 8) != NULL))
            return true;
    return false;
}

/* Finds each bracket's partner, and gives up where a word depends on its place. */
void look_over_tokens(u32 from, u32 to)
{
    static u32 room, *open;
    u32 depth = 0;
    for (u32 i = from; i < to; i++) {
        if (word_at(i) == W_ODD)
            odd("depends on its place", i);
        char c = tokens[i].kind == T_PUNCT ? tokens[i].punct : 0;
        if (c == '(' || c == '[' || c == '{') {
            if (depth == room)
                open = grown(open, (room = room ? 2 * room : 1024) * sizeof *open);
            open[depth++] = i;
        } else if (c == ')' || c == ']' || c == '}') {
            if (depth == 0)
                odd("bracket", i);
            u32 other = open[--depth];
            if (tokens[other].punct != (c == ')' ? '(' : c == ']' ? '[' : '{'))
                odd("bracket", i);
            if (tokens[other].match != i) /* only then: the page may be another process's too */
                tokens[other].match = i;
            if (tokens[i].match != other)
                tokens[i].match = other;
        }
    }
    if (depth != 0)
        odd("bracket", open[depth - 1]);
}
