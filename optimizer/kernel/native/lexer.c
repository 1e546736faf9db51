/* A file's text as preprocessing tokens.
 *
 * What is rare in kernels and long to get right (a token cut by a backslash at the line's end,
 * digraphs, raw strings) ends the preprocessing: the compiler's own is asked then.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "preprocess.h"

struct input *input;
bool in_directive;
enum arguments arguments;

_Noreturn void cannot(const char *what, const char *about, size_t length)
{
    snprintf(why, sizeof why, "%s: %.*s", what, length > 60 ? 60 : (int)length, about);
    longjmp(give_up, 1);
}

void add_piece(struct pieces *pieces, const struct piece *piece)
{
    if (pieces->count == pieces->room) {
        pieces->room = pieces->room ? pieces->room * 2 : 32;
        pieces->at = grown(pieces->at, pieces->room * sizeof *pieces->at);
    }
    pieces->at[pieces->count++] = *piece;
}

static inline unsigned char class_at(const char *at)
{
    return class_of[(unsigned char)*at];
}

/* Whether a backslash ends the line here, so that the next one belongs to it; its length. */
static inline u32 splice(const char *at)
{
    if (at[0] != '\\')
        return 0;
    if (at[1] == '\n')
        return 2;
    if (class_at(at + 1) == 4 && at[1 + strspn(at + 1, " \t\f\v\r")] == '\n')
        cannot("white space behind a backslash", at, 2);
    return 0;
}

/* Whether a star is followed by the slash that ends its comment, but one or more lines further down. */
static bool is_torn_end(const char *star)
{
    const char *next = star + 1;
    for (u32 joined; (joined = splice(next)) != 0;)
        next += joined;
    return next > star + 1 && *next == '/';
}

static const char *block_comment(const char *at)
{
    const char *end = strstr(at + 2, "*/"), *cut = at + 2;
    if (end == NULL)
        cannot("comment without an end", at, strcspn(at, "\n"));
    while ((cut = memchr(cut, '\\', (size_t)(end - cut))) != NULL) {
        if (cut[-1] == '*' && is_torn_end(cut - 1))
            cannot("comment with its end on two lines", at, strcspn(at, "\n"));
        cut++;
    }
    return end + 2;
}

static const char *line_comment(const char *at)
{
    while (*at != '\n' && *at != 0) {
        u32 joined = splice(at);
        at += joined ? joined : 1;
    }
    return at;
}

/* From a quote to past its partner; NULL when the line ends before. */
static const char *past_quote(const char *at)
{
    char quote = *at++;
    for (;;) {
        at += strcspn(at, quote == '"' ? "\"\\\n" : "'\\\n");
        if (*at == quote)
            return at + 1;
        if (*at != '\\' || at[1] == 0)
            return NULL;
        u32 joined = splice(at);
        at += joined ? joined : 2;
    }
}

/* White space and comments within a line. */
const char *skip_white(const char *at)
{
    for (;;) {
        u32 joined;
        if (*at == '\r' && at[1] != '\n')
            cannot("a carriage return", at, 1);
        if (class_at(at) == 4 && *at != '\n')
            at++;
        else if ((joined = splice(at)) != 0)
            at += joined;
        else if (at[0] == '/' && at[1] == '*')
            at = block_comment(at);
        else if (at[0] == '/' && at[1] == '/')
            at = line_comment(at);
        else
            return at;
    }
}

/* The rest of a line whose text does not count, its end not included. */
const char *skip_line(const char *at)
{
    for (;;) {
        at += strcspn(at, "\n\\/\"'");
        u32 joined;
        const char *past;
        if (*at == '\n' || *at == 0)
            return at;
        if (*at == '\\' && (joined = splice(at)) != 0)
            at += joined;
        else if (at[0] == '/' && at[1] == '*')
            at = block_comment(at);
        else if (at[0] == '/' && at[1] == '/')
            at = line_comment(at);
        else if (*at == '"' || *at == '\'') /* one without its partner takes all the line */
            at = (past = past_quote(at)) != NULL ? past : line_comment(at);
        else
            at++;
    }
}

static const char *past_name(const char *at)
{
    while (class_at(at) & 3)
        at++;
    return at;
}

static const char *past_number(const char *at)
{
    const char *start = at;
    bool hexadecimal = at[0] == '0' && (at[1] | 32) == 'x';
    at++;
    for (;;) {
        if (*at == '+' || *at == '-') {
            char before = at[-1] | 32;
            if (before != 'e' && before != 'p')
                return at;
            if (before == 'e' && hexadecimal)
                cannot("number", start, (size_t)(at - start));
            at++;
        } else if ((class_at(at) & 3) || *at == '.') {
            at++;
        } else {
            return at;
        }
    }
}

static u32 punctuator(const char *at)
{
    char c = at[0], d = at[1], e = at[2];
    if ((c == '<' && (d == ':' || d == '%')) || (c == ':' && d == '>') ||
        (c == '%' && (d == '>' || d == ':')))
        cannot("digraph", at, 2);
    if ((c == '<' || c == '>') && d == c)
        return e == '=' ? 3 : 2;
    if (c == '.' && d == '.' && e == '.')
        return 3;
    if ((c == '-' && d == '>') || (c == '#' && d == '#'))
        return 2;
    if ((c == '+' || c == '-' || c == '&' || c == '|') && d == c)
        return 2;
    if (d == '=' && c != 0 && strchr("+-*/%&|^<>=!", c))
        return 2;
    return 1;
}

/* A string that is cut by the end of a line is one without that. */
static void unite(struct piece *piece)
{
    char *whole = arena(piece->length);
    u32 length = 0;
    for (const char *at = piece->at, *end = at + piece->length; at < end;) {
        u32 joined = splice(at);
        if (joined)
            at += joined;
        else
            whole[length++] = *at++;
    }
    piece->at = whole;
    piece->length = length;
}

/* The token that begins here, which is neither white space nor the end; returns its end. */
static const char *take(const char *at, struct piece *piece)
{
    unsigned char class = class_at(at);
    const char *start = at;
    piece->at = piece->where = at;
    piece->code = 0;
    piece->punct = 0;
    piece->symbol = NULL;
    bool is_quoted = *at == '"' || *at == '\'';
    if (class == 1) {
        at = past_name(at);
        u32 length = (u32)(at - start);
        if (*at == '"' || *at == '\'') {
            if (length <= 3 && memchr(start, 'R', length) && *at == '"')
                cannot("raw string", start, 4);
            is_quoted = length == 1 ? strchr("LuU", *start) != NULL
                                    : length == 2 && start[0] == 'u' && start[1] == '8' && *at == '"';
        }
        if (!is_quoted) {
            piece->kind = T_IDENT;
            piece->symbol = intern(start, length);
        }
    } else if (class == 2 || (*at == '.' && class_at(at + 1) == 2)) {
        piece->kind = T_NUMBER;
        at = past_number(at);
    } else if (!is_quoted) {
        u32 length = punctuator(at);
        piece->kind = T_PUNCT;
        if (length == 1)
            piece->punct = *at;
        else
            piece->code = (unsigned short)((unsigned char)at[0] << 8 | (unsigned char)at[1] |
                                           (length == 3 ? 0x80 : 0));
        at += length;
    }
    if (is_quoted) {
        const char *past = past_quote(at);
        if (past == NULL)
            cannot("quote without its partner", start, strcspn(start, "\n"));
        piece->kind = *at == '"' ? T_STRING : T_CHAR;
        at = past;
    }
    piece->length = (u32)(at - start);
    if (is_quoted && memchr(start, '\n', piece->length) != NULL)
        unite(piece);
    u32 joined = splice(at);
    if (joined && ((class_at(at + joined) & 3) || strchr("#=<>&|+-.:*/%\"'\\", at[joined])))
        cannot("token cut by the end of a line", start, piece->length);
    return at;
}

/* The next token of the file; T_END at its end and at that of a directive. */
void read_piece(struct piece *piece)
{
    const char *at = input->at;
    piece->flags = input->line_start ? F_LINE_START : 0;
    for (;;) {
        const char *before = at;
        at = skip_white(at);
        if (at != before)
            piece->flags |= F_WHITE;
        if (*at != '\n' || in_directive)
            break;
        at++;
        piece->flags = F_LINE_START | (arguments == IN_ARGUMENTS ? F_WHITE : 0);
    }
    if (at >= input->end || *at == '\n') {
        piece->kind = T_END;
        piece->at = piece->where = at;
        piece->length = 0;
        piece->symbol = NULL;
        piece->punct = 0;
        input->at = at;
        if (piece->flags & F_LINE_START)
            input->line_start = true;
        return;
    }
    if (*at == 0)
        cannot("a zero byte in", input->file->path, strlen(input->file->path));
    input->line_start = false;
    input->at = take(at, piece);
}

bool read_text(const char *at, u32 length, struct piece *piece)
{
    unsigned char flags = piece->flags;
    const char *where = piece->where;
    if (length == 0 || class_at(at) == 4 || splice(at) || (at[0] == '/' && strchr("/*", at[1])))
        return false;
    const char *end = take(at, piece);
    piece->flags = flags;
    piece->where = where;
    return end == at + length;
}
