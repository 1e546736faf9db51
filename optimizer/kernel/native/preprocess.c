/* The C preprocessor, for the units of a kernel alone: their tokens, as the compiler's own gives them.
 *
 * The compiler takes a tenth of a second to preprocess a unit, most of it to start and to print
 * megabytes that are read again. Here headers are read once, files whose guard is set not at all, what
 * a header gave to another unit is given again (stretches.c), and the tokens go straight to the
 * reduction.
 *
 * Only what kernels use is understood. What is not must end it (cannot()), and the compiler's own is
 * asked: a difference that goes unseen could find the name of another unit's object in the store, or
 * compile what the unit does not say. As a second line, what it gives is compared with the compiler's
 * when a unit is compiled for the first time, and in a sample of what is compiled later (cc.c).
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "preprocess.h"

const char *const *prefix_maps;
const char *(*ask_compiler)(const char *question);
const char *compiler_options;
u32 unit_number;

static bool after(const char *text, const char *with, const char **rest)
{
    size_t length = strlen(with);
    if (strncmp(text, with, length) != 0)
        return false;
    *rest = text + length;
    return true;
}

struct options {
    const char **quote, **bracket, **system, **include, **maps, **macros;
    const char *list;
    bool is_complete; /* -nostdinc: all folders are named */
};

static bool is_same_folder(const char *one, const char *other)
{
    struct stat a, b;
    return stat(one, &a) == 0 && stat(other, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

static void add(const char ***words, const char *word)
{
    size_t count = 0;
    while ((*words)[count] != NULL)
        count++;
    *words = grown(*words, (count + 2) * sizeof **words);
    (*words)[count] = word;
    (*words)[count + 1] = NULL;
}

static const char **no_words(void)
{
    const char **words = grown(NULL, sizeof *words);
    words[0] = NULL;
    return words;
}

/* The value of an option that stands in the same word or in the next. */
static const char *value(char ***word, const char *name)
{
    const char *rest;
    if (!after(**word, name, &rest))
        return NULL;
    return *rest ? rest : *++*word;
}

static void read_options(char **argv, struct options *found)
{
    *found = (struct options){.quote = no_words(), .bracket = no_words(), .system = no_words(),
                              .include = no_words(), .maps = no_words(), .macros = no_words()};
    for (char **word = argv + 1; *word != NULL; word++) {
        const char *text = *word, *rest;
        if (strcmp(text, "-o") == 0 || strcmp(text, "-x") == 0 || strcmp(text, "--param") == 0 ||
            strcmp(text, "-T") == 0)
            word++;
        else if (strcmp(text, "-nostdinc") == 0)
            found->is_complete = true;
        else if (after(text, "-Wp,-MMD,", &rest) && strchr(rest, ',') == NULL)
            found->list = rest;
        else if (after(text, "-Wp,", &rest) || after(text, "-imacros", &rest) ||
                 after(text, "-idirafter", &rest) || after(text, "-iprefix", &rest) ||
                 after(text, "-iwith", &rest) || after(text, "-isysroot", &rest) ||
                 after(text, "--sysroot", &rest) || after(text, "-I-", &rest) ||
                 after(text, "-traditional", &rest) || after(text, "-trigraphs", &rest) ||
                 after(text, "-ansi", &rest) || after(text, "-A", &rest) ||
                 after(text, "-finput-charset", &rest) || after(text, "-remap", &rest) ||
                 after(text, "-fpreprocessed", &rest) || after(text, "-fdirectives", &rest) ||
                 after(text, "-Xpreprocessor", &rest) || after(text, "-fpch", &rest) ||
                 after(text, "-undef", &rest) || after(text, "-C", &rest))
            cannot("option", text, strlen(text));
        else if (after(text, "-std=", &rest) && strncmp(rest, "gnu", 3) != 0)
            cannot("option", text, strlen(text)); /* trigraphs, and what linux is */
        else if (strcmp(text, "-Wundef") == 0)
            warns = true;
        else if ((rest = value(&word, "-include")) != NULL)
            add(&found->include, rest);
        else if ((rest = value(&word, "-isystem")) != NULL)
            add(&found->system, rest);
        else if ((rest = value(&word, "-iquote")) != NULL)
            add(&found->quote, rest);
        else if ((rest = value(&word, "-I")) != NULL)
            add(&found->bracket, rest);
        else if (after(text, "-D", &rest) || after(text, "-U", &rest)) {
            if (*rest == 0)
                cannot("option", text, 2);
            add(&found->macros, text);
        } else if (after(text, "-fmacro-prefix-map=", &rest) ||
                   after(text, "-ffile-prefix-map=", &rest)) {
            if (strchr(rest, '=') == NULL)
                cannot("option", text, strlen(text));
            add(&found->maps, rest);
        }
    }
    if (!found->is_complete || getenv("CPATH") != NULL || getenv("C_INCLUDE_PATH") != NULL)
        cannot("folders of headers that are not named", "", 0);
    for (const char **system = found->system; *system != NULL; system++)
        for (const char **folder = found->bracket; *folder != NULL; folder++)
            if (is_same_folder(*system, *folder))
                cannot("one folder of headers, two kinds", *folder, strlen(*folder));
    /* The last one given counts first. */
    size_t count = 0;
    while (found->maps[count] != NULL)
        count++;
    for (size_t i = 0; i < count / 2; i++) {
        const char *kept = found->maps[i];
        found->maps[i] = found->maps[count - 1 - i];
        found->maps[count - 1 - i] = kept;
    }
}

static void emit(const struct piece *piece)
{
    if (piece->kind == T_PADDING)
        return;
    if (piece->kind == T_PUNCT && piece->code == 0 &&
        !strchr("()[]{}<>.,;:?=+-*/%&|^~!", piece->punct))
        cannot("character", piece->at, piece->length);
    if (piece->kind == T_PUNCT && piece->code == CODE('#', '#'))
        cannot("character", piece->at, piece->length);
    struct token *token = new_token();
    token->at = piece->at;
    token->length = piece->length;
    token->kind = piece->kind;
    token->punct = piece->punct;
    if (piece->flags & F_COUNTED)
        number_in_stretch(token_count - 1, piece->code);
    else
        token->code = piece->code;
    token->symbol = piece->symbol;
    if (piece->kind == T_IDENT)
        token->code = (unsigned short)piece->symbol->word;
    else if (piece->kind == T_PUNCT)
        pair_bracket(token_count - 1);
}

static void run(struct file *file)
{
    enter_file(file);
    for (;;) {
        struct piece piece = next_piece();
        if (piece.kind == T_END)
            break;
        emit(&piece);
    }
    if (input != NULL)
        cannot("it ends within a file", file->path, strlen(file->path));
}

/* What the unit before has left, but for what is remembered on purpose. */
static void forget_unit(void)
{
    forget_stretch();
    forget_expansions();
    forget_inputs();
    forget_macros();
    forget_listed();
    forget_tokens();
    warns = false;
    main_file = NULL;
    unit_number++;
}

void remember_headers(void)
{
    remembers = true;
}

const char *gather_unit(void)
{
    if (setjmp(give_up) != 0)
        return why;
    gather_tokens();
    return NULL;
}

bool remembers_too_much(size_t bytes)
{
    return is_outdated || arena_bytes > bytes;
}

static void forget_options(struct options *options)
{
    const char **lists[] = {options->quote, options->bracket, options->system, options->include,
                            options->maps, options->macros};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        free(lists[i]);
}

const char *preprocess_unit(char **argv, const char *source, const char *(*ask)(const char *))
{
    static struct options options; /* what the unit before had is not needed any more */
    forget_options(&options);
    options = (struct options){0};
    if (setjmp(give_up) != 0)
        return why;
    prepare();
    forget_unit();
    ask_compiler = ask;
    read_options(argv, &options);
    prefix_maps = options.maps;
    search = (struct search){options.quote, options.bracket, options.system};
    define_builtins();
    const char *known = ask("");
    if (known == NULL)
        cannot("the compiler does not tell", "its macros", 10);
    compiler_options = known;
    run(text_file("<built-in>", known));
    for (const char **macro = options.macros; *macro != NULL; macro++) {
        if ((*macro)[1] == 'D')
            define_option(*macro);
        else
            undefine_text(*macro + 2);
    }
    main_file = open_file(source, (u32)strlen(source), false);
    if (main_file == NULL)
        cannot("no such file", source, strlen(source));
    list_header(main_file);
    for (const char **include = options.include; *include != NULL; include++) {
        struct file *file = find_header(*include, (u32)strlen(*include), true, NULL);
        if (file == NULL)
            cannot("no such file", *include, strlen(*include));
        run(file);
    }
    run(main_file);
    end_tokens();
    if (options.list != NULL && !write_list(options.list))
        cannot("cannot be written", options.list, strlen(options.list));
    return NULL;
}
