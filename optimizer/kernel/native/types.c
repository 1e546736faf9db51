/* Types as the compiler would see them, as far as it takes to know which structure a member is of,
 * and what of each structure, name and enumeration is used.
 */

#include <string.h>

#include "unit.h"

bool marking; /* whether what is parsed counts as used */

void reach_item(struct item *item)
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

void reach(struct name *name)
{
    if (!marking || name->reached)
        return;
    name->reached = true;
    if (name->enumeration != NULL)
        reach_enumeration(name->enumeration);
    for (struct declaration *one = name->first; one != NULL; one = one->next)
        reach_item(one->item);
}

void need_record(struct record *record)
{
    if (!record->queued) {
        record->queued = true;
        enqueue(NULL, record, NULL);
    }
}

void need_complete(struct type *type)
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

/* Of a structure that is not copied but as large as it is: of a pointer's target, of what is declared
 * elsewhere, of what stands before a member. */
void need_size(struct type *type)
{
    if (!marking)
        return;
    while (type->shape == S_ARRAY)
        type = type->to;
    struct record *record = type->record;
    if (type->shape != S_RECORD || !lay_out(record) || !is_placed(record)) {
        need_complete(type);
    } else if (!record->complete && !record->is_sized) {
        record->is_sized = true;
        need_record(record);
    }
}

void use_value(struct type *type)
{
    if (type->shape == S_RECORD)
        need_complete(type);
}

void step(struct type *type) /* arithmetic on a pointer, indexing */
{
    if (type->shape == S_POINTER || type->shape == S_ARRAY) {
        if (type->to->shape != S_FUNCTION)
            need_size(type->to);
    } else if (type->shape == S_UNKNOWN && marking) {
        odd("arithmetic on an unknown type", p);
    }
}

static struct local *locals;    /* newest first */
static struct tag *local_tags;

void bind_name(struct symbol *symbol, enum what what, struct type *type)
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

struct scope open_scope(void)
{
    return (struct scope){locals, local_tags};
}

void close_scope(struct scope scope)
{
    for (; locals != scope.locals; locals = locals->before)
        locals->symbol->local = locals->outer;
    for (; local_tags != scope.tags; local_tags = local_tags->before)
        local_tags->symbol->local_tag = local_tags->outer;
}

bool is_type_start(u32 i)
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

bool is_declaration_start(u32 i)
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

u64 text_hash(u32 from, u32 to)
{
    u64 hash = 14695981039346656037u;
    for (u32 i = from; i < to; i++) {
        for (u32 k = 0; k < tokens[i].length; k++)
            hash = (hash ^ (unsigned char)tokens[i].at[k]) * 1099511628211u;
        hash = (hash ^ ' ') * 1099511628211u;
    }
    return hash | 1;
}

struct demands layout;
const struct demands no_demands;
bool looks_up_names;

/* Which of two different ones counts, depends on what they are for. */
static void ask_align(struct demands *demands, u32 bytes)
{
    demands->is_odd |= demands->align != 0 && bytes != 0 && demands->align != bytes;
    if (bytes != 0)
        demands->align = bytes;
}

/* An attribute that changes a layout, of those from `from` to `stop`; its name stands at `at`. */
static void add_demand(u32 from, u32 stop, u32 at)
{
    i64 bytes;
    bool has_value = tokens[at].symbol->word == W_NONE && tokens[at + 1].punct == '(' &&
                     (is(tokens[at].symbol, "aligned") || is(tokens[at].symbol, "__aligned__")) &&
                     evaluate(at + 2, tokens[at + 1].match, &bytes) && bytes > 0 &&
                     bytes <= 1 << 16 && (bytes & (bytes - 1)) == 0;
    layout.hash = (layout.hash * 31) ^ text_hash(from, stop);
    if (has_value)
        ask_align(&layout, (u32)bytes);
    else
        layout.is_odd = true;
}

/* Attributes: what they name is used; those that change a layout are remembered. */
void parse_attributes(void)
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
                if (name_of(symbol) != NULL)
                    reach(name_of(symbol));
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
                    add_demand(p, stop, i);
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
            looks_up_names |= names_strings;
            if (name_of(symbol) != NULL && marking)
                reach(name_of(symbol));
            if ((symbol->word == W_STRUCT || symbol->word == W_UNION) &&
                word_at(i - 2) != W_SIZEOF && word_at(i - 2) != W_ALIGNOF)
                odd("type in an attribute", i);
        }
        if (one == W_ALIGNAS)
            add_demand(p, stop, p);
        p = stop + 1;
    }
}

struct type *with_demands(struct type *type, struct demands more)
{
    if (more.hash == 0 && !more.is_odd)
        return type;
    struct type *new = arena(sizeof *new);
    *new = *type;
    if (more.hash != 0)
        new->demands.hash = (type->demands.hash * 31) ^ more.hash;
    ask_align(&new->demands, more.align);
    new->demands.is_odd |= more.is_odd;
    return new;
}

const struct demands odd_demands = {.is_odd = true};

/* An expression's type, where all of it is known: not how long numbers and arrays are, nor what the
 * compiler makes of attributes. */
static struct type *exactly_known(struct type *type)
{
    bool is_known = (type->shape == S_POINTER || type->shape == S_RECORD) && type->demands.hash == 0;
    return is_known ? type : with_demands(type, odd_demands);
}

static struct record *find_record(struct symbol *symbol)
{
    if (frame != 0 && symbol->local_tag != NULL && symbol->local_tag->frame == frame)
        return symbol->local_tag->record;
    struct tag *tag = own_tag(symbol);
    if (tag->record == NULL) {
        if (tag->enumeration != NULL)
            return NULL;
        tag->record = arena(sizeof *tag->record);
        tag->record->tag = symbol;
    }
    return tag->record;
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

static struct type *parse_tagged(bool *is_defined)
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
    *is_defined = at('{');
    if (what == W_ENUM) {
        struct type *type = arena(sizeof *type);
        type->shape = S_BASIC;
        type->basic = B_ENUM;
        if (at('{')) {
            u32 body = p, stop = tokens[p].match;
            type->enumeration = tokens[body].enumeration;
            if (tokens[body].enumeration != NULL) { /* of file scope: its constants have names */
                reach_enumeration(tokens[body].enumeration);
                p = stop + 1;
            } else {
                for (p++; p < stop;) {
                    bind_name(tokens[p].symbol, N_CONSTANT, &int_type);
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
        } else if (symbol != NULL && tag_of(symbol) != NULL && tag_of(symbol)->enumeration != NULL) {
            type->enumeration = tag_of(symbol)->enumeration;
            reach_enumeration(tag_of(symbol)->enumeration);
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
        } else if (frame != 0 && symbol != NULL && record->tag == symbol &&
                   (tag_of(symbol) == NULL || tag_of(symbol)->record != record)) {
            bind_tag(symbol, record); /* a function's own, looked at again */
        }
        for (u32 i = 0; marking && record->is_local && i < record->unit_count; i++)
            if (record->units[i].marked < 2) { /* it may have been looked at before it counted */
                record->units[i].marked = 2;
                p = record->units[i].start;
                parse_unit(NULL, true);
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

struct type *parse_specifiers(struct specifiers *found)
{
    struct type *type = NULL;
    u32 basic = 0, longs = 0;
    struct demands outer = layout;
    layout = no_demands;
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
            struct demands mine = layout;
            bool is_defined;
            type = parse_tagged(&is_defined);
            if (is_defined || layout.hash == mine.hash)
                layout = mine; /* a structure's own attributes are the structure's */
            else
                layout.is_odd = true;
        } else if (one == W_ATOMIC) {
            odd("_Atomic", p);
        } else if (one == W_TYPEOF) {
            p++;
            want('(');
            if (is_type_start(p))
                type = parse_type_name();
            else
                type = exactly_known(parse_expression());
            want(')');
        } else if (one == W_ATTRIBUTE || one == W_EXTENSION || one == W_ALIGNAS) {
            parse_attributes();
        } else if (one == W_NONE && type == NULL && basic == 0 && is_type_name(p)) {
            struct symbol *symbol = tokens[p].symbol;
            if (frame != 0 && symbol->local != NULL && symbol->local->frame == frame) {
                type = symbol->local->type;
            } else {
                type = resolve(name_of(symbol));
                reach(name_of(symbol));
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
    type = with_demands(type, layout);
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
            bind_name(symbol, N_OBJECT, one); /* an array's length may be told by one before */
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
        u32 length = p;
        if (p != stop)
            parse_assignment();
        if (p != stop)
            odd("array", p);
        p++;
        struct type *type = type_of(S_ARRAY, parse_suffixes(base));
        type->length = length;
        type->length_end = stop;
        return type;
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

struct type *parse_declarator(struct type *base, struct symbol **symbol)
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

/* A declarator; what attributes in it and before it ask for is its type's. Of those within a declarator,
 * and before one of a pointer, it is not known whose they are. */
struct type *parse_declared(struct type *base, const struct specifiers *found, struct symbol **symbol)
{
    layout = no_demands;
    struct type *type = parse_declarator(base, symbol);
    const struct type *innermost = type;
    while (innermost->shape == S_ARRAY && innermost != base)
        innermost = innermost->to;
    if (found->layout.hash != 0 && innermost != base)
        layout.hash = layout.hash * 31 ^ found->layout.hash;
    layout.is_odd |= layout.hash != 0;
    type = with_demands(type, layout);
    layout = no_demands;
    return type;
}

struct type *parse_type_name(void)
{
    struct specifiers found;
    struct symbol *symbol = NULL;
    struct type *base = parse_specifiers(&found);
    struct demands outer = layout;
    struct type *type = parse_declared(base, &found, &symbol);
    parse_attributes();
    layout.is_odd |= layout.hash != 0;
    type = with_demands(type, layout);
    layout = outer;
    if (symbol != NULL)
        odd("type name", p);
    return type;
}

/* Types of a file-scope name, without saying that it is used. */
struct type *resolve(struct name *name)
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
    struct demands was_layout = layout;
    marking = false;
    frame = 0;
    for (struct declaration *one = name->first; one != NULL && name->type == NULL;
         one = one->next) {
        p = one->item->start;
        struct specifiers found;
        layout = no_demands;
        struct type *base = parse_specifiers(&found);
        for (;;) {
            struct symbol *symbol = NULL;
            struct type *type = parse_declared(base, &found, &symbol);
            while (word() == W_ASM || word() == W_ATTRIBUTE) {
                if (word() == W_ASM)
                    p = tokens[p + 1].match + 1;
                else
                    parse_attributes();
            }
            type = with_demands(type, layout);
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
