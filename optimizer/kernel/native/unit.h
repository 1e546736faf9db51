/* A unit being reduced: what the parts of the reduction share (see reduce.c). */
#ifndef UNIT_H
#define UNIT_H

#include <setjmp.h>

#include "objcache.h"

typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t i64;

enum kind { T_END, T_IDENT, T_NUMBER, T_STRING, T_CHAR, T_PUNCT };

enum word {
    W_NONE,
    W_TYPEDEF, W_EXTERN, W_STATIC, W_INLINE, W_REGISTER, W_AUTO, W_THREAD, W_NORETURN,
    W_QUALIFIER, W_BASIC, W_AUTOTYPE,
    W_STRUCT, W_UNION, W_ENUM, W_TYPEOF, W_ATTRIBUTE, W_ALIGNAS, W_ATOMIC,
    W_EXTENSION, W_ASM, W_STATIC_ASSERT,
    W_SIZEOF, W_ALIGNOF, W_GENERIC, W_OFFSETOF, W_VA_ARG, W_COMPATIBLE, W_HAS_ATTRIBUTE,
    W_CHOOSE, W_REAL,
    W_IF, W_ELSE, W_WHILE, W_DO, W_FOR, W_SWITCH, W_CASE, W_DEFAULT, W_RETURN, W_GOTO,
    W_BREAK, W_CONTINUE, W_LABEL, W_ODD,
};

struct meaning { /* of a name to the preprocessor, in the unit */
    struct macro *macro;      /* NULL: none */
    u32 asked, asked_whether; /* stretches.c: which stretch did so last */
};

struct symbol {
    const char *at;
    u32 length, hash;
    enum word word;
    u32 basic; /* kind bit of a basic type's word */
    bool is_prefix; /* some macro's name, at any time, was this and a number */
    struct symbol *next;
    u32 listed_in, linked_in; /* linking.c: by which list; in which gathering */
    struct source *sources;   /* what may declare it at file scope */
    struct name *name;   /* ordinary identifier of file scope: name_of() */
    struct tag *tag;     /* structure, union or enumeration of file scope: tag_of() */
    struct local *local; /* innermost ordinary identifier of a block */
    struct tag *local_tag;
    struct meaning *meaning;   /* no_meaning, until there is one */
    struct macro *definitions; /* all that there have been, the last one first */
    struct file *file;         /* a path's */
    struct header *header;     /* files.c: the name's in an #include */
    struct moment *moment;     /* lookahead.c: a path's */
    bool is_private, is_public; /* as a block's own name: whether no object has it, or one may */
    u32 place;                  /* writing.c: which of the private names, 0 without */
};

struct token {
    const char *at;
    u32 length;
    unsigned char kind;
    char punct;           /* first character; two and more characters: see code */
    unsigned short code;  /* punctuator: its characters, 8 bits each, the last two; name: its word;
                             '{' of a type of file scope: W_STRUCT (of unions too) or W_ENUM */
    u32 match;            /* bracket: its partner's index */
    union {
        struct symbol *symbol;
        struct record *record;
        struct enumeration *enumeration;
    };
};

/* Tokens that are kept for many units, and the numbers in them that are the unit's own. */
struct loan {
    u32 first, token_count;
    const struct number *numbers;
    u32 number_count;
    const struct number *outside; /* those that are in no function's body, where there are contents */
    u32 outside_count;
    bool reads_files; /* see reads_other_files() */
    struct contents *contents; /* NULL: they are not whole declarations, or declare a name with a number */
};

struct lent { /* which unit has tokens, and where */
    u32 to;      /* see gathering */
    u32 segment;
    u32 counter; /* what their numbers are counted from in it */
};

/* Of tokens that are whole declarations. Of those that are kept each process has its own copy. */
struct contents {
    struct item *items, *roots;
    struct item **typed; /* for each name that stands where a type is to be, one that has it; ended by NULL */
    struct lent *lent;
};

/* Tokens in a row, of which a unit is made in order. */
struct segment {
    u32 from, to;
    u32 place; /* of the first one in the unit */
    struct contents *contents; /* NULL: the unit is not gathered (why_not_gathered) */
    bool reads_files;
};

struct number { /* of __COUNTER__, at the end of a token */
    u32 token, kept, step; /* which of the tokens; how much comes before; how far the counter had come */
};

#define CODE(a, b) ((a) << 8 | (b))
#define CODE3(a, b) (CODE(a, b) | 0x80)

#define B_POINTER (1u << 16)
#define B_ENUM (1u << 17)
#define B_LONG_LONG (1u << 18)

enum what { N_OBJECT, N_TYPEDEF, N_CONSTANT };

enum answer { NOT_ASKED, BEING_ASKED, YES, NO };

enum shape { S_UNKNOWN, S_BASIC, S_POINTER, S_ARRAY, S_FUNCTION, S_RECORD };

struct parameter {
    struct symbol *symbol;
    struct type *type;
};

/* What attributes ask for that changes a layout. */
struct demands {
    u64 hash;  /* of all of them, 0 without */
    u32 align; /* at least so many bytes, 0 without */
    bool is_odd; /* more than that, or not understood */
};

struct type {
    enum shape shape;
    u32 basic;         /* kinds that may set the alignment, for S_BASIC */
    struct demands demands;
    struct type *to;   /* pointed to, element, returned */
    struct record *record;
    struct enumeration *enumeration; /* of a basic type that is one, NULL where it is not known */
    u32 length, length_end; /* of an array: the tokens of it, none for an open one */
    struct parameter *parameters;
    u32 parameter_count;
};

struct item { /* one top-level declaration */
    struct item *next, *next_root;
    u32 start, end;
    u32 body;    /* index of the function's brace, 0 without */
    bool is_static, is_extern, is_inline, is_typedef, is_root, reached, gnu_inline, defines;
    struct part *parts; /* structures and enumerations defined in it, last one first */
    struct declared *names; /* what it declares, and its constants, in order */
    struct symbol *type_name; /* that stands where a type is to be */
    const struct body_numbers *body_numbers; /* NULL: there are none, or they are what they are to be */
    u32 numbered_in; /* the unit whose numbers they are: see gathering */
};

struct part {
    struct record *record;
    struct enumeration *enumeration;
    struct part *next;
};

struct declared { /* a name, in the item that declares it */
    struct symbol *symbol;
    enum what what;
    struct enumeration *enumeration; /* of a constant */
    u32 where;
    struct declared *next;
};

struct declaration { /* one declaration of a name, in the unit */
    struct item *item;
    struct declaration *next;
};

struct name {
    struct symbol *symbol;
    enum what what;
    struct declaration *first, *last;
    struct enumeration *enumeration;
    i64 value; /* of a constant, when its enumeration is_valued */
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
    bool announced; /* writing.c */
    struct tag *outer, *before;
};

struct enumeration {
    struct symbol *tag;
    u32 head, body, tail; /* 'enum', '{', one past the attributes */
    bool reached;
    enum answer is_valued; /* its constants have values that are known, and fit an int */
};

struct member {
    struct symbol *symbol; /* NULL: an unnamed structure or union */
    struct type *type;
    u32 unit;
    bool is_bit_field;
    u32 width, width_end; /* a bit-field's: the tokens of it */
    u64 offset;           /* in bytes, when the record's layout is known; not of a bit-field */
};

struct unit { /* one declaration in a structure */
    u32 start, end;
    bool is_used;
    unsigned char marked; /* 1: what its own members need, 2: what their values do */
};

struct record {
    struct symbol *tag;
    struct record *outer; /* of one without a name: the one that its members count as members of */
    bool is_union, is_local, parsed, parsing, complete, queued;
    u32 head, body, tail; /* 'struct', '{' (0: not seen), one past the attributes */
    struct member *members;
    u32 member_count, member_room;
    struct unit *units;
    u32 unit_count, unit_room;
    u32 kept; /* units that are kept: 0..kept-1; of one that is placed, those of them that are used */
    bool is_sized;   /* its size counts; where that is not known, it is complete */
    bool is_textual; /* of those that are kept the text counts, not only where they are */
    bool was_placed; /* in what is compared it has its offsets for what is before the used members */
    /* layouts.c */
    enum answer is_laid_out;
    u64 bytes;
    u32 align;
    /* what may set the alignment, where the layout is not known */
    bool measured, measuring;
    u32 basic;
    u64 attributes[16];
    u32 attribute_count;
};

struct scope {
    struct local *locals;
    struct tag *tags;
};

struct specifiers {
    bool is_typedef, is_extern, is_static, is_auto_type;
    struct demands layout;
};

/* tokens.c: the text as tokens */

extern jmp_buf give_up;
extern char why[400];
extern struct token *tokens;
extern unsigned char class_of[256];
extern u32 token_count;
extern struct meaning no_meaning; /* of names that never had one: not to be written */
extern size_t arena_bytes; /* taken so far */
void *arena(size_t bytes);
void *lasting(size_t bytes); /* the same, of what is written once and never changed */
void *busy(size_t bytes);    /* the same, of the little that is written for each unit, here or in its child */
_Noreturn void odd(const char *what, u32 at);
struct symbol *intern(const char *at, u32 length); /* of a text that lasts */
struct symbol *intern_kept(const char *at, u32 length); /* of one that may not */
bool is(const struct symbol *symbol, const char *text);
void prepare(void);
int pack_at(u32 token);
bool has_pack_within(u32 from, u32 to);
bool pragma_pack(const char *at, const char *stop);
struct token *new_token(void);
void pair_bracket(u32 token);
u32 token_place(void);
u32 keep_tokens(u32 from);
void copy_token(u32 token);
void look_over_tokens(u32 from, u32 to);
bool has_file_reading(u32 from, u32 to);
void end_tokens(void);
void forget_tokens(void);
void lex(const char *at, size_t length);

/* gathering.c: the unit's tokens in order */

extern struct segment *segments;
extern u32 segment_count;
#define EACH_ITEM(item)                                                                                    \
    for (const struct segment *segment = segments; segment < segments + segment_count; segment++)         \
        for (struct item *item = segment->contents->items; item != NULL; item = item->next)
void look_over_loan(struct loan *loan);
void number_body(struct item *item);
void number_bodies(void); /* all that the unit has, which is gathered */
void borrow_tokens(struct loan *loan, u32 counter);
u32 borrowed_tokens(void);
u32 place_of(u32 token);
void gather_tokens(void);
void forget_segments(void);
const char *why_not_gathered(void);

/* declarations.c: what a unit declares, and where */

extern struct type unknown_type;
extern struct type int_type;
extern struct type void_type;
extern struct type char_type;
extern struct type void_pointer;
extern struct type string_type;
extern u32 p;
extern u32 frame;
extern u32 scan_end; /* while items are scanned: where the tokens end that are looked over */
struct type *type_of(enum shape shape, struct type *to);
void want(char punct);
bool is_identifier(u32 i);
u32 skip_attributes(u32 i);
bool is_type_name(u32 i);
struct item *scan_items(u32 from, u32 to);
u32 sectioned_variables(const struct item *item);

/* linking.c: what names of file scope mean */

extern u32 gathering; /* a number of its own for the tokens that are gathered now */
struct contents *list_contents(struct item *items);
void check_type_names(const struct contents *contents);
void link_symbol(struct symbol *symbol);
struct tag *own_tag(struct symbol *symbol); /* made when there is none */

static inline struct name *name_of(struct symbol *symbol)
{
    if (symbol->linked_in != gathering)
        link_symbol(symbol);
    return symbol->name;
}

static inline bool is_object(struct symbol *symbol)
{
    const struct name *name = name_of(symbol);
    return name != NULL && name->what == N_OBJECT;
}

static inline struct tag *tag_of(struct symbol *symbol)
{
    if (symbol->linked_in != gathering)
        link_symbol(symbol);
    return symbol->tag;
}

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
    return tokens[i].kind == T_IDENT ? (enum word)tokens[i].code : W_NONE;
}

static inline enum word word(void)
{
    return word_at(p);
}

/* Behind a bracket's partner. A bracket that has none yet, or one that nobody has looked at (pair_bracket),
 * belongs to something unfinished. */
static inline u32 past(u32 i)
{
    if (tokens[i].match <= i || tokens[i].match >= scan_end)
        odd("bracket", i);
    return tokens[i].match + 1;
}

/* types.c: types, and what is used of them */

extern bool marking;
extern struct demands layout; /* of the attributes met */
extern const struct demands no_demands;
extern bool looks_up_names; /* the compiler does, for an alias */
void reach_item(struct item *item);
void reach(struct name *name);
void need_complete(struct type *type);
void need_size(struct type *type);
void use_value(struct type *type);
void step(struct type *type);
void bind_name(struct symbol *symbol, enum what what, struct type *type);
struct scope open_scope(void);
void close_scope(struct scope scope);
bool is_type_start(u32 i);
bool is_declaration_start(u32 i);
void parse_attributes(void);
struct type *parse_specifiers(struct specifiers *found);
struct type *parse_declarator(struct type *base, struct symbol **symbol);
struct type *parse_type_name(void);
struct type *resolve(struct name *name);
extern const struct demands odd_demands;
struct type *with_demands(struct type *type, struct demands more);
struct type *parse_declared(struct type *base, const struct specifiers *found, struct symbol **symbol);
void need_record(struct record *record);
u64 text_hash(u32 from, u32 to);

/* records.c: structures, and what of them is used */

struct type *take_member(struct type *type);
void mark_record(struct record *record);
void mark_enumeration(struct enumeration *enumeration);
void measure(struct record *record);
void parse_record(struct record *record);
void parse_unit(struct record *record, bool is_whole);
bool is_placed(const struct record *record);

/* layouts.c: where members are */

extern u32 long_bytes; /* of the target; 0: where members are is not known */
bool lay_out(struct record *record);
bool evaluate(u32 from, u32 to, i64 *value);

/* expressions.c: what code uses */

/* Functions that the compiler knows, and calls where the source does not. */
extern const char *const known_functions[];
extern const size_t known_function_count;
int strength(void); /* of the operator at p, 1 the weakest; 0: it is none between two operands */
struct type *parse_unary(void);
struct type *parse_conditional(void);
struct type *parse_assignment(void);
struct type *parse_expression(void);
void parse_initializer(void);
struct type *parse_compound(void);

/* reduce.c: what is yet to be looked at */

void enqueue(struct item *item, struct record *record, struct enumeration *enumeration);

/* writing.c: what was found, as text */

void write_compared(struct text *text);
void write_compiled(struct text *text);

#endif
