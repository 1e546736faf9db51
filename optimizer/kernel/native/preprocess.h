/* The preprocessor: what its parts share (see preprocess.c). */
#ifndef PREPROCESS_H
#define PREPROCESS_H

#include "unit.h"

/* Kinds of tokens that end with preprocessing; the others are those of enum kind. */
enum { T_PADDING = T_PUNCT + 1, T_PARAMETER };

enum {
    F_WHITE = 1,      /* white space before it */
    F_LINE_START = 2, /* the first of its line */
    F_NO_EXPAND = 4,  /* its macro was being expanded: it stays a name for good */
    F_PASTE = 8,      /* ## follows */
    F_STRINGIFY = 16, /* a parameter behind # */
    F_SOURCE = 32,    /* padding that stands for a token: F_WHITE is that token's */
    F_COUNTED = 64,   /* a name or number that ends with what __COUNTER__ gave: so many digits (code) */
};

struct piece { /* a preprocessing token */
    const char *at;
    u32 length;
    unsigned char kind, flags;
    char punct;          /* as in struct token */
    unsigned short code; /* likewise; a parameter: its number */
    struct symbol *symbol;
    const char *where; /* the place in a file that __LINE__ is of */
};

struct pieces {
    struct piece *at;
    u32 count, room;
};

enum builtin {
    NOT_BUILTIN, BUILTIN_LINE, BUILTIN_FILE, BUILTIN_BASE_FILE, BUILTIN_COUNTER, BUILTIN_PRAGMA,
    BUILTIN_ATTRIBUTE, BUILTIN_BUILTIN, BUILTIN_INCLUDE, BUILTIN_ODD,
};

struct macro {
    enum builtin builtin;
    bool takes_arguments, is_variadic, is_odd;
    u32 parameters;
    struct piece *body;
    u32 count;
    const char *begin, *end; /* its definition in the file, from the name to the end of the line */
    struct macro *older;     /* another definition of the name */
};

struct version { /* of a file on the disk */
    u64 inode, bytes, seconds, nanoseconds;
};

struct use { /* of a file: the unit that did so last */
    u32 looked_in; /* it looked whether the file is still the same */
    u32 listed_in; /* it has the file in its list of headers */
};

struct file {
    const char *path; /* as the compiler would spell it */
    u32 folder;       /* length of the path up to the last slash, the slash included */
    const char *at, *end;
    bool is_missing, is_system;
    struct symbol *guard; /* the whole file counts only while this is no macro */
    struct use *use;      /* NULL: it is no file's text */
    struct version version;
    struct stretch *stretches; /* what is remembered of it */
};

struct input { /* a file being read */
    struct file *file;
    const char *at, *end;
    bool line_start;
    bool is_fresh;  /* it was just entered, or an #include of it was left */
    u32 conditions; /* how many were open when it was entered */
    struct symbol *guard;
    u32 guard_depth;
    enum { GUARD_AHEAD, GUARD_OPEN, GUARD_CLOSED, GUARD_NONE } guarded;
};

/* stretches.c: what a file gave before */
struct place { /* in a file being read, between two lines */
    const char *at;
    bool line_start;
};
extern bool remembers;
void begin_stretch(void);
void end_stretch(struct place place);
void spoil_stretch(void);
void count_in_stretch(const struct piece *piece);
void number_in_stretch(u32 token, u32 digits);
void forget_stretch(void);
void stretch_asked_options(void);
extern u32 recording; /* the number of the stretch that is being written down, 0 without */
void ask_macro(struct symbol *symbol, bool only_whether);
void set_macro(struct symbol *symbol, struct macro *macro);
void forget_macros(void);

/* lexer.c: a file's text as pieces */
extern struct input *input;
extern bool in_directive;
extern enum arguments { NO_ARGUMENTS, BEFORE_ARGUMENTS, IN_ARGUMENTS } arguments;
_Noreturn void cannot(const char *what, const char *about, size_t length);
void add_piece(struct pieces *pieces, const struct piece *piece);
void read_piece(struct piece *piece);
bool read_text(const char *at, u32 length, struct piece *piece); /* whether it is just one */
const char *skip_line(const char *at);
const char *skip_white(const char *at);

/* What a name is defined as now, NULL for nothing. */
static inline struct macro *macro_of(struct symbol *symbol)
{
    if (recording != 0 && symbol->meaning->asked != recording)
        ask_macro(symbol, false);
    return symbol->meaning->macro;
}

static inline bool is_macro(struct symbol *symbol)
{
    if (recording != 0 && symbol->meaning->asked_whether != recording && symbol->meaning->asked != recording)
        ask_macro(symbol, true);
    return symbol->meaning->macro != NULL;
}

/* files.c: where headers are */
extern struct file *main_file;
extern u32 unchanged_since; /* files are taken to be, that a unit from that one on has looked at; 0: none are */
extern bool is_outdated; /* a file that was read is another now: all that is remembered may be wrong */
struct search {
    const char **quote, **bracket; /* folders, ended by NULL; the quote's come first */
    const char **system;
};
extern struct search search;
struct file *open_file(const char *path, u32 length, bool is_system);
struct file *find_header(const char *name, u32 length, bool quoted, const struct file *from);
void list_header(struct file *file);
void forget_listed(void);
struct file *text_file(const char *name, const char *text);
bool write_list(const char *path);
u32 line_of(const char *where);

/* macros.c: definitions and expansion */
extern int prevent_expansion;
extern u32 counter; /* what __COUNTER__ gives next */
void define(void);
void define_option(const char *option); /* -Dname, -Dname=body */
void undefine_text(const char *name);
void define_builtins(void);
struct piece next_piece(void);
void forget_expansions(void);

/* conditions.c: the expressions of #if */
bool condition(void);
bool is_builtin(const struct symbol *symbol);
extern bool warns; /* of what is not defined in a condition */

/* directives.c */
#define MOST_CONDITIONS 1000
struct condition { /* an #if that is open */
    bool is_done; /* one of its groups was taken */
    bool has_else;
};
extern struct condition conditions[];
extern u32 condition_count;
void forget_inputs(void);
void read_input(struct piece *piece); /* the next piece outside of macros; directives are obeyed */
void enter_file(struct file *file);
void pragma(const char *at, const char *end);
const struct piece *header_name(bool *quoted, const char **name, u32 *length);

/* cc.c: what the compiler itself says */
extern const char *(*ask_compiler)(const char *question);
extern const char *const *prefix_maps; /* old=new, ended by NULL, the one that counts first */
extern const char *compiler_options; /* the same place for those that it answers alike */
extern u32 unit_number; /* of the one that is being preprocessed; the first is 1 */

#endif
