/* Directives, and the way through the files that they include. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "preprocess.h"

#define MOST_INPUTS 190 /* the compiler's own limit is 200 */

static struct input inputs[MOST_INPUTS];
struct condition conditions[MOST_CONDITIONS];
u32 condition_count;

void enter_file(struct file *file)
{
    list_header(file);
    struct input *new = input == NULL ? inputs : input + 1;
    if (new == inputs + MOST_INPUTS)
        cannot("includes too deep", file->path, strlen(file->path));
    *new = (struct input){.file = file, .at = file->at, .end = file->end, .line_start = true,
                          .is_fresh = true, .conditions = condition_count};
    input = new;
}

static void leave_file(void)
{
    if (condition_count != input->conditions)
        cannot("#if without #endif", input->file->path, strlen(input->file->path));
    if (input->guarded == GUARD_CLOSED && input->file->guard != input->guard)
        input->file->guard = input->guard;
    input = input == inputs ? NULL : input - 1;
    if (input != NULL)
        input->is_fresh = true;
}

static void end_of_line(void)
{
    struct piece piece;
    read_piece(&piece);
    if (piece.kind != T_END)
        cannot("more on a directive's line", piece.at, piece.length);
}

static struct symbol *macro_name(void)
{
    struct piece piece;
    read_piece(&piece);
    if (piece.kind != T_IDENT)
        cannot("a macro's name", piece.at, piece.length);
    end_of_line();
    return piece.symbol;
}

static void open_condition(bool is_true)
{
    if (condition_count == MOST_CONDITIONS)
        cannot("#if too deep", "", 0);
    conditions[condition_count].is_done = is_true;
    conditions[condition_count++].has_else = false;
}

static void close_condition(void)
{
    if (condition_count == input->conditions)
        cannot("#endif without #if", "", 0);
    condition_count--;
    if (input->guarded == GUARD_OPEN && input->guard_depth == condition_count)
        input->guarded = GUARD_CLOSED;
}

static void no_guard(void)
{
    if (input->guarded == GUARD_OPEN && input->guard_depth + 1 == condition_count)
        input->guarded = GUARD_NONE;
}

static bool is_word(const char *at, u32 length, const char *word)
{
    return strlen(word) == length && memcmp(at, word, length) == 0;
}

/* Passes over groups that do not count, up to one that does or to the #endif. */
static void skip_groups(void)
{
    u32 nested = 0;
    const char *at = skip_line(input->at);
    for (;;) {
        if (at >= input->end)
            cannot("#if without #endif", input->file->path, strlen(input->file->path));
        at++;
        at = skip_white(at);
        if (*at != '#') {
            at = skip_line(at);
            continue;
        }
        at = skip_white(at + 1);
        const char *word = at;
        while (class_of[(unsigned char)*at] & 3)
            at++;
        u32 length = (u32)(at - word);
        if (*at == '\\')
            cannot("a directive's name cut by the end of a line", word, length);
        if (is_word(word, length, "if") || is_word(word, length, "ifdef") ||
            is_word(word, length, "ifndef")) {
            nested++;
        } else if (is_word(word, length, "endif")) {
            if (nested-- == 0) {
                input->at = at;
                close_condition();
                end_of_line();
                return;
            }
        } else if (nested == 0) {
            bool is_else = is_word(word, length, "else");
            if (is_else || is_word(word, length, "elif")) {
                bool *is_done = &conditions[condition_count - 1].is_done;
                if (conditions[condition_count - 1].has_else)
                    cannot("#else twice", "", 0);
                no_guard();
                input->at = at;
                conditions[condition_count - 1].has_else = is_else;
                if (!*is_done && (is_else || condition())) {
                    *is_done = true;
                    if (is_else)
                        end_of_line();
                    return;
                }
                at = input->at;
            } else if (is_word(word, length, "elifdef") || is_word(word, length, "elifndef")) {
                cannot("directive", word, length);
            }
        }
        at = skip_line(at);
    }
}

/* The name behind #include as it is written. Returns NULL, or the piece that is none. */
const struct piece *header_name(bool *quoted, const char **name, u32 *length)
{
    static struct piece piece;
    const char *at = skip_white(input->at);
    if (*at == '<' || *at == '"') {
        char closing = *at == '<' ? '>' : '"';
        size_t taken = strcspn(at + 1, closing == '>' ? ">\n" : "\"\n");
        if (at[1 + taken] != closing || memchr(at, '\\', taken) != NULL)
            cannot("the name of a header", at, taken);
        *quoted = closing == '"';
        *name = at + 1;
        *length = (u32)taken;
        input->at = at + taken + 2;
        return NULL;
    }
    do
        piece = next_piece();
    while (piece.kind == T_PADDING);
    return &piece;
}

static void include(void)
{
    bool quoted;
    const char *name;
    u32 length;
    const struct piece *piece = header_name(&quoted, &name, &length);
    if (piece != NULL) {
        struct text made = {0};
        quoted = piece->kind == T_STRING;
        if (quoted) {
            text_add(&made, piece->at + 1, piece->length - 2);
        } else if (piece->kind == T_PUNCT && piece->punct == '<') {
            for (;;) {
                struct piece part = next_piece();
                if (part.kind == T_END)
                    cannot("the name of a header", "", 0);
                if (part.kind == T_PUNCT && part.punct == '>')
                    break;
                if (part.kind == T_PADDING)
                    continue;
                if (part.flags & F_WHITE)
                    text_add(&made, " ", 1);
                text_add(&made, part.at, part.length);
            }
        } else {
            cannot("the name of a header", piece->at, piece->length);
        }
        length = (u32)made.length;
        if (length == 0)
            cannot("the name of a header", "", 0);
        name = memcpy(arena(length + 1u), made.at, length);
        free(made.at);
    }
    if (next_piece().kind != T_END)
        cannot("more behind the name of a header", name, length);
    struct file *file = find_header(name, length, quoted, input->file);
    if (file == NULL)
        cannot("no such header", name, length);
    if (file->guard != NULL && file->guard->meaning->macro != NULL) {
        list_header(file);
        input->is_fresh = true;
    } else {
        enter_file(file);
    }
}

/* What a #pragma says, unless it says nothing of code. */
void pragma(const char *at, const char *end)
{
    static const char diagnostic[] = "GCC diagnostic", pack[] = "pack";
    at = skip_white(at);
    size_t length = (size_t)(end - at);
    if (length >= sizeof diagnostic - 1 && memcmp(at, diagnostic, sizeof diagnostic - 1) == 0)
        return;
    if (length >= sizeof pack - 1 && memcmp(at, pack, sizeof pack - 1) == 0 &&
        pragma_pack(at + sizeof pack - 1, end)) {
        spoil_stretch();
        return;
    }
    cannot("pragma", at, length);
}

/* A line that begins with '#', which was read, and which began at that place. */
static void obey(struct place place)
{
    struct piece word;
    struct input *mine = input;
    read_piece(&word);
    if (word.kind == T_END)
        return;
    if (word.kind != T_IDENT)
        cannot("directive", word.at, word.length);
    if (is_word(word.at, word.length, "include") && arguments == NO_ARGUMENTS)
        end_stretch(place);
    bool is_first = mine->guarded == GUARD_AHEAD;
    if (mine->guarded == GUARD_AHEAD || mine->guarded == GUARD_CLOSED)
        mine->guarded = GUARD_NONE;
    const char *at = word.at;
    u32 length = word.length;
    if (is_word(at, length, "define")) {
        define();
    } else if (is_word(at, length, "undef")) {
        struct symbol *symbol = macro_name();
        if (is_macro(symbol) && symbol->meaning->macro->builtin)
            cannot("#undef", symbol->at, symbol->length);
        set_macro(symbol, NULL);
    } else if (is_word(at, length, "include")) {
        if (arguments != NO_ARGUMENTS)
            cannot("#include in a macro's arguments", at, length);
        include();
    } else if (is_word(at, length, "ifdef") || is_word(at, length, "ifndef")) {
        bool is_negated = length == 6;
        struct symbol *symbol = macro_name();
        bool is_known = is_macro(symbol);
        if (is_known && symbol->meaning->macro->builtin == BUILTIN_ODD)
            is_known = is_builtin(symbol);
        bool is_true = is_known != is_negated;
        if (is_first && is_negated) {
            mine->guarded = GUARD_OPEN;
            mine->guard = symbol;
            mine->guard_depth = condition_count;
        }
        open_condition(is_true);
        if (!is_true)
            skip_groups();
    } else if (is_word(at, length, "if")) {
        bool is_true = condition();
        open_condition(is_true);
        if (!is_true)
            skip_groups();
    } else if (is_word(at, length, "else") || is_word(at, length, "elif")) {
        if (condition_count == input->conditions || conditions[condition_count - 1].has_else)
            cannot("#else without #if", "", 0);
        no_guard();
        conditions[condition_count - 1].has_else = at[2] == 's';
        skip_groups();
    } else if (is_word(at, length, "endif")) {
        close_condition();
        end_of_line();
    } else if (is_word(at, length, "pragma")) {
        const char *end = skip_line(input->at);
        pragma(input->at, end);
        input->at = end;
    } else {
        cannot("directive", at, length);
    }
}

void forget_inputs(void)
{
    input = NULL;
    in_directive = false;
    arguments = NO_ARGUMENTS;
    condition_count = 0;
}

void read_input(struct piece *piece)
{
    for (;;) {
        if (input->is_fresh && !in_directive && arguments == NO_ARGUMENTS)
            begin_stretch();
        struct place before = {input->at, input->line_start};
        read_piece(piece);
        if (in_directive)
            return;
        if (piece->kind == T_END) {
            /* Arguments cannot go on in the file that includes this one. */
            if (arguments != NO_ARGUMENTS)
                return;
            end_stretch(before);
            leave_file();
            if (input == NULL)
                return;
            continue;
        }
        if (piece->kind != T_PUNCT || piece->punct != '#' || !(piece->flags & F_LINE_START)) {
            if (input->guarded == GUARD_AHEAD || input->guarded == GUARD_CLOSED)
                input->guarded = GUARD_NONE;
            return;
        }
        if (arguments == BEFORE_ARGUMENTS) {
            /* A macro's name that a directive follows has no arguments. */
            input->at = before.at;
            input->line_start = before.line_start;
            piece->kind = T_END;
            return;
        }
        int prevented = prevent_expansion;
        enum arguments outer = arguments;
        prevent_expansion = 0;
        in_directive = true;
        obey(before);
        in_directive = false;
        prevent_expansion = prevented;
        arguments = outer;
        input->line_start = true;
    }
}
