/* Types as the compiler would see them, as far as it takes to know which structure a member is of,
 * and what of each structure, name and enumeration is used.
 */

#include <string.h>

#include "unit.h"

static void parse_unit(struct record *record, bool is_whole);

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

static void need_record(struct record *record)
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
            if (symbol->name != NULL && marking)
                reach(symbol->name);
            if ((symbol->word == W_STRUCT || symbol->word == W_UNION) &&
                word_at(i - 2) != W_SIZEOF && word_at(i - 2) != W_ALIGNOF)
                odd("type in an attribute", i);
        }
        if (one == W_ALIGNAS)
            add_demand(p, stop, p);
        p = stop + 1;
    }
}

static struct type *with_demands(struct type *type, struct demands more)
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

static const struct demands odd_demands = {.is_odd = true};

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
        } else if (symbol != NULL && symbol->tag != NULL && symbol->tag->enumeration != NULL) {
            type->enumeration = symbol->tag->enumeration;
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
                    parse_unit(NULL, true);
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
static struct type *parse_declared(struct type *base, const struct specifiers *found, struct symbol **symbol)
{
    layout = no_demands;
    struct type *type = parse_declarator(base, symbol);
    const struct type *innermost = type;
    while (innermost->shape == S_ARRAY && innermost != base)
        innermost = innermost->to;
    layout.is_odd |= layout.hash != 0 || (found->layout.hash != 0 && innermost != base);
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

static struct member *add_member(struct record *record, struct symbol *symbol, struct type *type,
                                 bool bits)
{
    if (record->member_count == record->member_room) {
        u32 room = record->member_room ? record->member_room * 2 : 8;
        struct member *more = arena(room * sizeof *more);
        if (record->member_count)
            memcpy(more, record->members, record->member_count * sizeof *more);
        record->members = more;
        record->member_room = room;
    }
    struct member *member = &record->members[record->member_count++];
    *member = (struct member){.symbol = symbol, .type = type, .unit = record->unit_count - 1,
                              .is_bit_field = bits};
    if (symbol == NULL)
        type->record->outer = record;
    return member;
}

/* One declaration in a structure's body, from p on; with 'record' its members are added. Of a structure
 * that is not whole, the members' types count by their size. */
static void parse_unit(struct record *record, bool is_whole)
{
    struct specifiers found;
    u32 start = p;
    if (word() == W_STATIC_ASSERT)
        odd("assertion in a structure", p);
    struct type *base = parse_specifiers(&found);
    if (at(';')) {
        if (base->shape == S_RECORD) {
            /* Of one that has a name it depends on options whether it is a member. */
            bool is_plain = base->record->tag == NULL && base->record->body > start &&
                            base->record->body < p && found.layout.hash == 0;
            need_complete(base);
            if (record != NULL)
                add_member(record, NULL, is_plain ? base : with_demands(base, odd_demands), false);
        }
        p++;
        return;
    }
    for (;;) {
        struct symbol *symbol = NULL;
        struct type *type = base;
        bool bits = false;
        if (!at(':'))
            type = parse_declared(base, &found, &symbol);
        u32 width = p + 1;
        if (at(':')) {
            bits = true;
            p++;
            parse_conditional();
        }
        u32 width_end = p;
        layout = no_demands;
        parse_attributes();
        type = with_demands(type, layout);
        if (is_whole)
            need_complete(type->shape == S_FUNCTION ? &int_type : type);
        else
            need_size(type);
        if (record != NULL) {
            struct member *member = add_member(record, symbol ? symbol : intern("", 0), type, bits);
            member->width = width;
            member->width_end = width_end;
        }
        if (at(';'))
            break;
        want(',');
    }
    p++;
}

void parse_record(struct record *record)
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
    struct demands was_layout = layout;
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
        parse_unit(record, true);
        record->units[mine].end = p;
    }
    marking = was_marking;
    frame = was_frame;
    p = was_at;
    layout = was_layout;
    record->parsing = false;
    record->parsed = true;
}

/* Whether of a structure that counts in part it is enough to tell where the used members are: that
 * stands for what comes before them. It has to have a name by which the compiler can be asked (writing.c). */
bool is_placed(const struct record *record)
{
    return !record->is_textual && !record->is_local && record->is_laid_out == YES &&
           (record->tag != NULL || (record->outer != NULL && !record->outer->complete && is_placed(record->outer)));
}

static bool use_unit(struct record *record, u32 unit)
{
    bool is_new = !record->units[unit].is_used;
    record->units[unit].is_used = true;
    return is_new;
}

/* A bit-field without a name is no member. */
static bool is_gap(const struct member *member)
{
    return member->is_bit_field && member->symbol->length == 0;
}

/* Keeps a member: what comes before it or where it is, and what shares or bounds its storage. */
static void keep(struct record *record, const struct member *member)
{
    if (!marking || record->complete)
        return;
    u32 last = member->unit;
    bool whole = false, is_new = use_unit(record, last);
    if (member->is_bit_field) {
        is_new |= !record->is_textual;
        record->is_textual = true;
        /* The storage unit of a bit-field reaches up to the next member that is none. */
        u32 next = (u32)(member - record->members);
        while (next < record->member_count && record->members[next].is_bit_field)
            next++;
        whole = record->is_union || record->is_sized || next == record->member_count;
        if (!whole)
            last = record->members[next].unit;
    } else if (record->is_union) {
        whole = !is_placed(record);
        is_new |= !record->is_sized;
        record->is_sized = true;
    } else if (member->type->shape == S_ARRAY || member->type->shape == S_RECORD) {
        /* Where an array ends may be told by what follows it. */
        u32 next = (u32)(member - record->members) + 1;
        while (next < record->member_count && is_gap(&record->members[next]))
            next++;
        whole = next == record->member_count;
        if (!whole)
            last = record->members[next].unit;
    }
    if (whole) {
        record->complete = true;
        need_record(record);
        return;
    }
    is_new |= use_unit(record, last);
    if (last >= record->kept)
        record->kept = last + 1;
    if (is_new)
        need_record(record);
}

static struct type *find_member(struct record *record, const struct symbol *symbol)
{
    parse_record(record);
    if (marking)
        lay_out(record);
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

struct type *take_member(struct type *type)
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

void mark_record(struct record *record)
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
    lay_out(record);
    u32 last = record->complete ? record->unit_count : record->kept;
    bool only_used = !record->complete && is_placed(record);
    u32 member = 0;
    for (u32 i = 0; i < last; i++) {
        struct unit *unit = &record->units[i];
        while (member < record->member_count && record->members[member].unit < i)
            member++;
        /* What counts of one without a name is looked at for itself. */
        bool is_open = only_used && member < record->member_count && record->members[member].unit == i &&
                       record->members[member].symbol == NULL;
        unsigned char wanted = record->complete ? 2 : (unit->is_used || !only_used) && !is_open;
        if (unit->marked < wanted) {
            unit->marked = wanted;
            p = unit->start;
            parse_unit(NULL, record->complete);
        }
    }
}

void mark_enumeration(struct enumeration *enumeration)
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

/* Of the words of a basic type the one that tells its size; 'unsigned' says that it may be an int. */
static u32 kind_of(u32 basic)
{
    static const u32 telling[] = {1 << 1, 1 << 2, B_LONG_LONG};
    for (size_t i = 0; i < sizeof telling / sizeof *telling; i++)
        if (basic & telling[i])
            return telling[i];
    return basic & 1 << 4 ? basic & ~(1u << 3) : basic;
}

/* What a structure's alignment may come from: the kinds of its leaves, and attributes. */
void measure(struct record *record)
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
        u64 attributes = type->demands.hash;
        for (; type->shape == S_ARRAY; type = type->to)
            attributes = attributes * 31 ^ type->to->demands.hash;
        u32 basic = 0;
        if (type->shape == S_BASIC) {
            basic = kind_of(type->basic);
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
