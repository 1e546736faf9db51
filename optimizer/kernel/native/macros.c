/* Macros: their definition and their expansion, as the C standard and GCC's libcpp have it.
 *
 * Expansions are a stack of lists being read. A macro is disabled as long as its list is on the
 * stack. Padding stands where libcpp puts it, because '#' makes white space of it.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "preprocess.h"

struct list { /* being read */
    struct macro *macro;
    const struct piece *at, *end;
    const char *where; /* the place that all its pieces are of now; NULL: their own */
    bool is_argument;  /* its end is the end of what is being expanded */
    struct piece *owned; /* freed when it is read */
};

static struct list *lists;
static u32 depth, list_room; /* lists[1] to lists[depth]; below them is the file */
static struct piece ahead;
static bool is_ahead;
int prevent_expansion;
u32 counter;
static int keep_pragmas; /* in an argument: what they are in is made into a string yet, perhaps */
/* The place of all that is read from the file now; NULL: its own. That is so in the arguments of a
 * macro whose name came from another's body: they are where the outermost name is. */
static const char *arguments_where;

static void push(struct macro *macro, const struct piece *at, u32 count, const char *where)
{
    if (depth + 2 > list_room) {
        list_room = list_room ? list_room * 2 : 256;
        lists = grown(lists, list_room * sizeof *lists);
    }
    if (depth > 5000)
        cannot("macros too deep", "", 0);
    lists[++depth] = (struct list){macro, at, at + count, where, false, NULL};
}

static bool is_disabled(const struct macro *macro)
{
    for (u32 i = depth; i > 0; i--)
        if (lists[i].macro == macro)
            return true;
    return false;
}

static void pop(void)
{
    free(lists[depth].owned);
    depth--;
}

static struct piece padding(const struct piece *source)
{
    struct piece made = {.kind = T_PADDING};
    if (source != NULL)
        made.flags = (unsigned char)(F_SOURCE | (source->flags & F_WHITE));
    return made;
}

/* --- definitions */

static bool same_body(const struct macro *one, const struct macro *other)
{
    if (one->takes_arguments != other->takes_arguments || one->count != other->count ||
        one->is_variadic != other->is_variadic || one->parameters != other->parameters)
        return false;
    for (u32 i = 0; i < one->count; i++) {
        const struct piece *a = &one->body[i], *b = &other->body[i];
        if (a->kind != b->kind || a->length != b->length || a->code != b->code ||
            memcmp(a->at, b->at, a->length) != 0 ||
            (i > 0 && (a->flags & F_WHITE) != (b->flags & F_WHITE)))
            return false;
    }
    return true;
}

static void read_parameters(struct macro *macro, struct pieces *names)
{
    struct piece piece;
    read_piece(&piece); /* the bracket */
    for (;;) {
        read_piece(&piece);
        if (piece.kind == T_PUNCT && piece.punct == ')' && names->count == 0)
            return;
        if (piece.kind == T_IDENT) {
            add_piece(names, &piece);
            read_piece(&piece);
        } else {
            struct piece unnamed = piece;
            unnamed.symbol = intern("__VA_ARGS__", 11);
            if (piece.code != CODE3('.', '.'))
                cannot("a macro's parameter", piece.at, piece.length);
            add_piece(names, &unnamed);
        }
        if (piece.code == CODE3('.', '.')) {
            macro->is_variadic = true;
            read_piece(&piece);
        }
        if (piece.kind == T_PUNCT && piece.punct == ')')
            return;
        if (macro->is_variadic || piece.kind != T_PUNCT || piece.punct != ',')
            cannot("a macro's parameters", piece.at, piece.length);
    }
}

static void add_to_body(struct macro *macro, struct pieces *body, struct piece *piece,
                        const struct pieces *names)
{
    struct piece *last = body->count ? &body->at[body->count - 1] : NULL;
    if (piece->kind == T_IDENT)
        for (u32 i = 0; i < names->count; i++)
            if (names->at[i].symbol == piece->symbol) {
                piece->kind = T_PARAMETER;
                piece->code = (unsigned short)i;
            }
    if (piece->kind == T_IDENT && piece->length > 8 && memcmp(piece->at, "__VA_", 5) == 0)
        macro->is_odd = true; /* __VA_OPT__, or __VA_ARGS__ where it is nothing */
    if (macro->takes_arguments && last != NULL && last->kind == T_PUNCT && last->punct == '#') {
        if (piece->kind != T_PARAMETER)
            cannot("'#' is not followed by a parameter", piece->at, piece->length);
        piece->flags = (unsigned char)((piece->flags & ~F_WHITE) | F_STRINGIFY |
                                       (last->flags & F_WHITE));
        *last = *piece;
        return;
    }
    if (piece->kind == T_PUNCT && piece->code == CODE('#', '#')) {
        if (last == NULL || last->flags & F_PASTE)
            cannot("'##' at an edge", piece->at, piece->length);
        last->flags |= F_PASTE;
        return;
    }
    add_piece(body, piece);
}

/* One whose name ends with a number might be meant by a name that ends with one of __COUNTER__. */
static void mark_prefixes(const struct symbol *symbol)
{
    for (u32 length = symbol->length; length > 1; length--) {
        if (class_of[(unsigned char)symbol->at[length - 1]] != 2)
            break;
        intern_kept(symbol->at, length - 1)->is_prefix = true;
    }
}

static void take_definition(struct symbol *symbol, struct macro *macro)
{
    const struct macro *before = macro_of(symbol);
    if (before != NULL && before->builtin == BUILTIN_ODD && !is_builtin(symbol))
        before = NULL;
    if (before != NULL && before != macro && (before->builtin || !same_body(before, macro)))
        cannot("defined anew", symbol->at, symbol->length);
    set_macro(symbol, macro);
}

/* The rest of a #define. One that was read before is the same macro, so that what is asked of it
 * need not be read to be compared. */
void define(void)
{
    static struct pieces names, body; /* used again for the next one */
    struct piece name, piece;
    names.count = body.count = 0;
    read_piece(&name);
    if (name.kind != T_IDENT || is(name.symbol, "defined"))
        cannot("#define", name.at, name.length);
    struct macro *macro = name.symbol->definitions;
    while (macro != NULL && macro->begin != name.at)
        macro = macro->older;
    if (macro != NULL) {
        input->at = macro->end;
        take_definition(name.symbol, macro);
        return;
    }
    macro = arena(sizeof *macro);
    if (input->at[0] == '\\' && input->at[strspn(input->at, "\\\n")] == '(')
        cannot("token cut by the end of a line", name.at, name.length);
    if (*input->at == '(') {
        macro->takes_arguments = true;
        read_parameters(macro, &names);
    }
    macro->parameters = names.count;
    for (;;) {
        read_piece(&piece);
        if (piece.kind == T_END)
            break;
        piece.flags &= F_WHITE;
        add_to_body(macro, &body, &piece, &names);
    }
    if (body.count > 0) {
        struct piece *last = &body.at[body.count - 1];
        if (last->flags & F_PASTE || (macro->takes_arguments && last->kind == T_PUNCT &&
                                      last->punct == '#'))
            cannot("'#' at the end of a macro", name.at, name.length);
        body.at[0].flags &= (unsigned char)~F_WHITE;
    }
    macro->body = lasting(body.count * sizeof *body.at);
    memcpy(macro->body, body.at, body.count * sizeof *body.at);
    macro->count = body.count;
    macro->begin = name.at;
    macro->end = input->at;
    macro->older = name.symbol->definitions;
    name.symbol->definitions = macro;
    mark_prefixes(name.symbol);
    take_definition(name.symbol, macro);
}

/* What -Dname or -Dname=body would be as a line of a file. */
static struct file *option_line(const char *option)
{
    u32 length = (u32)strlen(option);
    struct symbol *known = intern_kept(option, length);
    if (known->file != NULL)
        return known->file;
    struct file *file = known->file = arena(sizeof *file);
    char *line = arena(length + 8);
    strcpy(line, option + 2);
    char *equals = strchr(line, '=');
    if (equals != NULL)
        *equals = ' ';
    strcat(line, equals != NULL ? "\n" : " 1\n");
    *file = (struct file){.path = "an option", .at = line, .end = line + strlen(line)};
    return file;
}

/* An option -D: name or name=body. */
void define_option(const char *option)
{
    if (strchr(option, '\n') != NULL)
        cannot("an option", option, strlen(option));
    struct file *file = option_line(option);
    struct input *outer = input, made = {.file = file, .at = file->at, .end = file->end};
    input = &made;
    in_directive = true;
    define();
    in_directive = false;
    input = outer;
}

void undefine_text(const char *name)
{
    struct symbol *symbol = intern_kept(name, (u32)strlen(name));
    if (symbol->meaning->macro != NULL && symbol->meaning->macro->builtin)
        cannot("a builtin macro is undefined", name, strlen(name));
    set_macro(symbol, NULL);
}

void define_builtins(void)
{
    static const struct {
        const char *name;
        enum builtin builtin;
    } known[] = {
        {"__LINE__", BUILTIN_LINE}, {"__FILE__", BUILTIN_FILE},
        {"__BASE_FILE__", BUILTIN_BASE_FILE}, {"__COUNTER__", BUILTIN_COUNTER},
        {"_Pragma", BUILTIN_PRAGMA}, {"__has_attribute", BUILTIN_ATTRIBUTE},
        {"__has_builtin", BUILTIN_BUILTIN}, {"__has_include", BUILTIN_INCLUDE},
        {"__DATE__", BUILTIN_ODD}, {"__TIME__", BUILTIN_ODD}, {"__TIMESTAMP__", BUILTIN_ODD},
        {"__INCLUDE_LEVEL__", BUILTIN_ODD}, {"__has_cpp_attribute", BUILTIN_ODD},
        {"__has_c_attribute", BUILTIN_ODD}, {"__has_include_next", BUILTIN_ODD},
        {"__has_feature", BUILTIN_ODD}, {"__has_extension", BUILTIN_ODD},
    };
    static struct macro macros[sizeof known / sizeof *known]; /* the same for each unit */
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        macros[i].builtin = known[i].builtin;
        set_macro(intern(known[i].name, (u32)strlen(known[i].name)), &macros[i]);
    }
}

/* --- arguments */

struct argument {
    struct pieces plain, expanded;
    bool is_absent, is_expanded, is_string;
    struct piece string;
};

/* What '#' makes of an argument (libcpp, stringify_arg). */
static void make_string(struct argument *argument)
{
    struct text text = {0};
    bool has_source = false, is_white = false;
    text_add(&text, "\"", 1);
    for (u32 i = 0; i < argument->plain.count; i++) {
        const struct piece *piece = &argument->plain.at[i];
        if (piece->kind == T_PADDING) {
            if (!has_source || (!is_white && !(piece->flags & F_SOURCE))) {
                has_source = (piece->flags & F_SOURCE) != 0;
                is_white = (piece->flags & F_WHITE) != 0;
            }
            continue;
        }
        if (!has_source)
            is_white = (piece->flags & F_WHITE) != 0;
        if (piece->flags & F_COUNTED)
            spoil_stretch();
        if (text.length > 1 && is_white)
            text_add(&text, " ", 1);
        has_source = is_white = false;
        for (u32 k = 0; k < piece->length; k++) {
            const char *at = &piece->at[k];
            if ((piece->kind == T_STRING || piece->kind == T_CHAR) && (*at == '\\' || *at == '"'))
                text_add(&text, "\\", 1);
            text_add(&text, at, 1);
        }
    }
    if (text.at[text.length - 1] == '\\')
        cannot("a string that ends with a backslash", text.at, text.length);
    text_add(&text, "\"", 1);
    const char *string = memcpy(arena(text.length), text.at, text.length);
    argument->string = (struct piece){.kind = T_STRING, .at = string, .length = (u32)text.length};
    free(text.at);
    argument->is_string = true;
}

static void expand(struct argument *argument)
{
    int prevented = prevent_expansion;
    enum arguments outer = arguments;
    argument->is_expanded = true;
    if (argument->plain.count == 0)
        return;
    prevent_expansion = 0;
    arguments = NO_ARGUMENTS;
    keep_pragmas++;
    push(NULL, argument->plain.at, argument->plain.count, NULL);
    lists[depth].is_argument = true;
    u32 bottom = depth;
    for (;;) {
        struct piece piece = next_piece();
        if (piece.kind == T_END)
            break;
        add_piece(&argument->expanded, &piece);
    }
    if (depth != bottom)
        cannot("a macro's argument", argument->plain.at->at, argument->plain.at->length);
    pop();
    keep_pragmas--;
    prevent_expansion = prevented;
    arguments = outer;
}

/* Reads the arguments up to the closing bracket; how many there were. */
static u32 collect(const struct macro *macro, const struct piece *name, struct argument *found)
{
    u32 count = 0, nested = 0;
    bool more = true;
    while (more) {
        struct pieces one = {0};
        for (;;) {
            struct piece piece = next_piece();
            if (piece.kind == T_PADDING) {
                if (one.count == 0)
                    continue;
            } else if (piece.kind == T_END) {
                cannot("arguments without an end", name->at, name->length);
            } else if (piece.kind == T_PUNCT) {
                if (piece.punct == '(') {
                    nested++;
                } else if (piece.punct == ')' && nested-- == 0) {
                    more = false;
                    break;
                } else if (piece.punct == ',' && nested == 0 &&
                           !(macro->is_variadic && count + 1 == macro->parameters)) {
                    break;
                }
            }
            add_piece(&one, &piece);
        }
        while (one.count > 0 && one.at[one.count - 1].kind == T_PADDING)
            one.count--;
        if (count < macro->parameters)
            found[count].plain = one;
        else if (macro->parameters > 0 || one.count > 0 || count > 0 || more)
            cannot("too many arguments", name->at, name->length);
        count++;
    }
    return count;
}

/* The body with the arguments in it (libcpp, replace_args). */
static struct pieces replace(const struct macro *macro, struct argument *given)
{
    struct pieces out = {0};
    for (u32 i = 0; i < macro->count; i++) {
        struct piece piece = macro->body[i];
        if (piece.kind != T_PARAMETER) {
            add_piece(&out, &piece);
            continue;
        }
        struct argument *argument = &given[piece.code];
        bool behind_paste = i > 0 && macro->body[i - 1].flags & F_PASTE;
        const struct piece *from;
        u32 count;
        long flagged = -1; /* whose paste flag changes */
        if (piece.flags & F_STRINGIFY) {
            if (!argument->is_string)
                make_string(argument);
            from = &argument->string;
            count = 1;
        } else if (piece.flags & F_PASTE || behind_paste) {
            from = argument->plain.at;
            count = argument->plain.count;
            if (!(piece.flags & F_PASTE) && out.count > 0) {
                struct piece *last = &out.at[out.count - 1];
                if (last->kind == T_PUNCT && last->punct == ',' && macro->is_variadic &&
                    piece.code + 1u == macro->parameters) {
                    if (argument->is_absent)
                        out.count--;
                    else
                        flagged = out.count - 1;
                } else if (count == 0) {
                    flagged = out.count - 1;
                }
            }
        } else {
            if (!argument->is_expanded)
                expand(argument);
            from = argument->expanded.at;
            count = argument->expanded.count;
        }
        struct piece pad = padding(&piece), end = padding(NULL);
        if (!in_directive && i > 0 && !behind_paste)
            add_piece(&out, &pad);
        for (u32 k = 0; k < count; k++)
            add_piece(&out, &from[k]);
        if (count > 0 && piece.flags & F_PASTE)
            flagged = out.count - 1;
        if (!in_directive && !(piece.flags & F_PASTE))
            add_piece(&out, &end);
        if (flagged >= 0) {
            struct piece *one = &out.at[flagged];
            if (piece.flags & F_PASTE)
                one->flags |= F_PASTE;
            else
                one->flags &= (unsigned char)~F_PASTE;
        }
    }
    return out;
}

/* --- expansion */

static struct piece *push_text(const char *text, unsigned char kind, const struct piece *name)
{
    struct piece *made = arena(sizeof *made);
    char *kept = arena(strlen(text) + 1);
    strcpy(kept, text);
    *made = (struct piece){.kind = kind, .at = kept, .length = (u32)strlen(text)};
    made->where = name->where;
    push(NULL, made, 1, NULL);
    return made;
}

static void file_name(const char *path, char text[8200])
{
    const char *put = "", *end = path;
    for (const char *const *map = prefix_maps; *map != NULL; map++) {
        const char *equals = strchr(*map, '=');
        if (strncmp(path, *map, (size_t)(equals - *map)) == 0) {
            put = equals + 1;
            end = path + (equals - *map);
            break;
        }
    }
    if (strpbrk(path, "\\\"\n") != NULL || strpbrk(put, "\\\"\n") != NULL)
        cannot("a file's name", path, strlen(path));
    snprintf(text, 8200, "\"%s%s\"", put, end);
}

/* _Pragma("..."): only of what says nothing of code. */
static void pragma_operator(void)
{
    struct piece parts[3];
    for (int i = 0; i < 3; i++) {
        do
            parts[i] = next_piece();
        while (parts[i].kind == T_PADDING);
        if (parts[i].kind == T_END)
            cannot("_Pragma", "", 0);
    }
    static const char harmless[] = "\"GCC diagnostic ";
    if (parts[0].punct != '(' || parts[1].kind != T_STRING || parts[2].punct != ')' ||
        parts[1].length < sizeof harmless ||
        memcmp(parts[1].at, harmless, sizeof harmless - 1) != 0)
        cannot("_Pragma", parts[1].at, parts[1].length);
    push(NULL, NULL, 0, NULL);
}

static bool expand_builtin(const struct macro *macro, const struct piece *name)
{
    char text[8200];
    struct piece *made;
    switch (macro->builtin) {
    case BUILTIN_LINE:
        snprintf(text, sizeof text, "%u", line_of(name->where));
        push_text(text, T_NUMBER, name);
        return true;
    case BUILTIN_COUNTER:
        if (in_directive)
            break;
        snprintf(text, sizeof text, "%u", counter++);
        made = push_text(text, T_NUMBER, name);
        made->flags = F_COUNTED;
        made->code = (unsigned short)made->length;
        return true;
    case BUILTIN_FILE:
        if (input->file->is_system) /* the compiler shortens their paths */
            break;
        stretch_asked_options(); /* a prefix may be mapped */
        file_name(input->file->path, text);
        push_text(text, T_STRING, name);
        return true;
    case BUILTIN_BASE_FILE:
        spoil_stretch();
        file_name(main_file->path, text);
        push_text(text, T_STRING, name);
        return true;
    case BUILTIN_PRAGMA:
        if (keep_pragmas || in_directive)
            return false;
        pragma_operator();
        return true;
    case BUILTIN_ATTRIBUTE:
    case BUILTIN_BUILTIN:
    case BUILTIN_INCLUDE:
        if (in_directive)
            return false; /* a condition asks for it */
        break;
    default:
        break;
    }
    cannot("builtin macro", name->at, name->length);
}

/* Starts the expansion; false when the name of a macro with arguments stands alone. */
static bool enter(struct macro *macro, const struct piece *name)
{
    if (macro->builtin)
        return expand_builtin(macro, name);
    if (macro->is_odd)
        cannot("__VA_OPT__", name->at, name->length);
    if (!macro->takes_arguments) {
        push(macro, macro->body, macro->count, name->where);
        return true;
    }
    enum arguments outer = arguments;
    const char *outer_where = arguments_where;
    struct piece pad = {0}, piece;
    bool padded = false, in_list = depth > 0;
    prevent_expansion++;
    arguments = BEFORE_ARGUMENTS;
    for (;;) {
        piece = next_piece();
        if (piece.kind != T_PADDING)
            break;
        if (!padded || !(pad.flags & F_SOURCE) ||
            (!(pad.flags & F_WHITE) && !(piece.flags & F_SOURCE))) {
            pad = piece;
            padded = true;
        }
    }
    if (piece.kind != T_PUNCT || piece.punct != '(') {
        prevent_expansion--;
        arguments = outer;
        if (piece.kind != T_END) {
            if (depth == 0) {
                ahead = piece;
                is_ahead = true;
            } else {
                lists[depth].at--;
            }
        }
        if (padded) {
            struct piece *kept = arena(sizeof *kept);
            *kept = pad;
            push(NULL, kept, 1, NULL);
        }
        return false;
    }
    arguments = IN_ARGUMENTS;
    if (in_list)
        arguments_where = name->where;
    struct argument *given = calloc(macro->parameters + 1, sizeof *given);
    if (given == NULL)
        abort();
    u32 count = collect(macro, name, given);
    prevent_expansion--;
    arguments = outer;
    arguments_where = outer_where;
    if (count < macro->parameters && !(macro->is_variadic && count + 1 == macro->parameters))
        cannot("too few arguments", name->at, name->length);
    if (macro->is_variadic &&
        (count < macro->parameters || (count == 1 && given[0].plain.count == 0)))
        given[macro->parameters - 1].is_absent = true;
    if (macro->parameters == 0) {
        push(macro, macro->body, macro->count, name->where);
    } else {
        struct pieces out = replace(macro, given);
        push(macro, out.at, out.count, name->where);
        lists[depth].owned = out.at;
    }
    for (u32 i = 0; i < macro->parameters; i++) {
        free(given[i].plain.at);
        free(given[i].expanded.at);
    }
    free(given);
    return true;
}

/* ## : what follows is put behind it, as often as it says so. */
static void paste(struct piece first)
{
    struct piece *made = arena(sizeof *made);
    struct piece left = first, right;
    struct list *list = &lists[depth];
    u32 digits = first.flags & F_COUNTED ? first.code : 0;
    do {
        if (list->at == list->end)
            cannot("nothing to paste to", left.at, left.length);
        right = *list->at++;
        if (right.kind == T_PADDING) {
            right.flags &= (unsigned char)~F_PASTE;
            continue;
        }
        if (digits > 0)
            spoil_stretch(); /* the number is not at the end any more */
        digits = right.flags & F_COUNTED ? right.code : 0;
        char *text = arena(left.length + right.length + 4);
        memcpy(text, left.at, left.length);
        memcpy(text + left.length, right.at, right.length);
        u32 length = left.length + right.length;
        if (!read_text(text, length, &left))
            cannot("pasting gives no token", text, length);
    } while (right.flags & F_PASTE);
    *made = left;
    made->flags = first.flags & F_WHITE;
    if (digits > 0) {
        made->flags |= F_COUNTED;
        made->code = (unsigned short)digits;
    }
    made->where = list->where ? list->where : first.where;
    push(NULL, made, 1, NULL);
}

void forget_expansions(void)
{
    while (depth > 0)
        pop();
    is_ahead = false;
    prevent_expansion = keep_pragmas = 0;
    counter = 0;
    arguments_where = NULL;
}

/* The next piece with all macros expanded; T_END at the end of the file, the directive, or the
 * argument that is being expanded. */
struct piece next_piece(void)
{
    for (;;) {
        struct piece piece;
        struct list *list = &lists[depth];
        if (depth == 0) {
            if (is_ahead) {
                piece = ahead;
                is_ahead = false;
            } else {
                read_input(&piece);
                if (arguments_where != NULL && !in_directive)
                    piece.where = arguments_where;
            }
        } else if (list->at < list->end) {
            piece = *list->at++;
            if (list->where != NULL)
                piece.where = list->where;
            if (piece.flags & F_PASTE) {
                paste(piece);
                if (in_directive)
                    continue;
                return padding(&piece);
            }
        } else if (list->is_argument) {
            return (struct piece){.kind = T_END};
        } else {
            pop();
            if (in_directive)
                continue;
            return padding(NULL);
        }
        if (piece.flags & F_COUNTED)
            count_in_stretch(&piece);
        if (piece.kind != T_IDENT || macro_of(piece.symbol) == NULL || piece.flags & F_NO_EXPAND)
            return piece;
        if (is_disabled(piece.symbol->meaning->macro)) {
            piece.flags |= F_NO_EXPAND;
            return piece;
        }
        if (prevent_expansion || !enter(piece.symbol->meaning->macro, &piece))
            return piece;
        if (!in_directive)
            return padding(&piece);
    }
}
