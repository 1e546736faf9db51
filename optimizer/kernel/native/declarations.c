/* The first look at a unit: its top-level declarations, what each declares, and which must stay. */

#include <string.h>

#include "unit.h"

struct type unknown_type = {.shape = S_UNKNOWN};
struct type int_type = {.shape = S_BASIC, .basic = 1 << 3};
struct type void_type = {.shape = S_BASIC, .basic = 1 << 0};
struct type char_type = {.shape = S_BASIC, .basic = 1 << 1};
struct type void_pointer = {.shape = S_POINTER, .to = &void_type};
struct type string_type = {.shape = S_ARRAY, .to = &char_type, .demands.is_odd = true};

struct type *type_of(enum shape shape, struct type *to)
{
    struct type *new = arena(sizeof *new);
    new->shape = shape;
    new->to = to;
    return new;
}

u32 p;     /* the token being looked at */
u32 frame; /* number of the function whose names count; 0: file scope */

void want(char punct)
{
    if (!at(punct))
        odd("unexpected token", p);
    p++;
}

bool is_identifier(u32 i)
{
    return tokens[i].kind == T_IDENT && tokens[i].code == W_NONE;
}

u32 skip_attributes(u32 i)
{
    while (word_at(i) == W_ATTRIBUTE || word_at(i) == W_EXTENSION) {
        if (word_at(i) == W_ATTRIBUTE) {
            if (tokens[i + 1].punct != '(')
                odd("attribute", i);
            i = past(i + 1) - 1;
        }
        i++;
    }
    return i;
}

static struct item *scanned; /* the item that what is found belongs to */
static struct declared **last_name;
u32 scan_end = UINT32_MAX;

static void add_name(u32 where, enum what what, struct enumeration *enumeration)
{
    struct declared *new = arena(sizeof *new);
    *new = (struct declared){tokens[where].symbol, what, enumeration, where, NULL};
    *last_name = new;
    last_name = &new->next;
}

static void new_part(struct record *record, struct enumeration *enumeration)
{
    struct part *part = arena(sizeof *part);
    part->record = record;
    part->enumeration = enumeration;
    part->next = scanned->parts;
    scanned->parts = part;
}

static u32 scan_tagged(u32 i);

static void scan_inside(u32 from, u32 to)
{
    while (from < to) {
        enum word one = word_at(from);
        if (one == W_STRUCT || one == W_UNION || one == W_ENUM)
            from = scan_tagged(from);
        else
            from++;
    }
}

/* From 'struct', 'union' or 'enum' of file scope to past what belongs to it. */
static u32 scan_tagged(u32 i)
{
    u32 head = i;
    enum word what = word_at(i);
    i = skip_attributes(i + 1);
    struct symbol *symbol = NULL;
    if (tokens[i].kind == T_IDENT) {
        symbol = tokens[i].symbol;
        i = skip_attributes(i + 1);
    }
    if (tokens[i].kind != T_PUNCT || tokens[i].punct != '{') {
        if (symbol == NULL)
            odd("nameless type", i);
        return i;
    }
    u32 body = i, tail = skip_attributes(past(i));
    if (what == W_ENUM) {
        struct enumeration *new = arena(sizeof *new);
        new->tag = symbol;
        new->head = head;
        new->body = body;
        new->tail = tail;
        tokens[body].enumeration = new;
        tokens[body].code = W_ENUM;
        new_part(NULL, new);
        u32 stop = past(body) - 1;
        for (i = body + 1; i < stop;) {
            if (!is_identifier(i))
                odd("enumeration", i);
            add_name(i, N_CONSTANT, new);
            while (i < stop && tokens[i].punct != ',')
                i = tokens[i].kind == T_PUNCT && strchr("([{", tokens[i].punct) && tokens[i].punct
                        ? past(i) : i + 1;
            i++;
        }
        return tail;
    }
    struct record *new = arena(sizeof *new);
    new->tag = symbol;
    new->is_union = what == W_UNION;
    new->head = head;
    new->body = body;
    new->tail = tail;
    tokens[body].record = new;
    tokens[body].code = W_STRUCT;
    new_part(new, NULL);
    scan_inside(body + 1, past(body) - 1);
    return tail;
}

bool is_type_name(u32 i)
{
    if (!is_identifier(i))
        return false;
    struct symbol *symbol = tokens[i].symbol;
    if (frame != 0 && symbol->local != NULL && symbol->local->frame == frame)
        return symbol->local->what == N_TYPEDEF;
    const struct name *name = name_of(symbol);
    return name != NULL && name->what == N_TYPEDEF;
}

/* Attributes that leave it to the code whether a static definition is emitted. */
static bool is_quiet_attribute(const struct symbol *symbol)
{
    static const char *const quiet[] = {
        "unused", "cold", "hot", "noinline", "always_inline", "gnu_inline", "section", "aligned",
        "no_instrument_function", "noreturn", "const", "pure", "format", "warn_unused_result",
        "malloc", "packed", "error", "warning", "deprecated", "nonnull", "returns_nonnull",
        "flatten", "no_sanitize", "noclone", "mode", "nonstring", "alloc_size", "printf",
        "no_sanitize_address", "no_sanitize_thread", "no_sanitize_undefined", "optimize", "leaf",
        "nothrow", "format_arg", "copy", "fallthrough", "assume_aligned", "designated_init",
        "may_alias", "transparent_union", "no_stack_protector", "noipa", "artificial", "tainted",
        "scanf", "target", "sentinel", "no_profile_instrument_function", "patchable_function_entry", "access", "zero_call_used_regs", "no_split_stack",
    };
    const char *at = symbol->at;
    u32 length = symbol->length;
    if (length > 4 && at[0] == '_' && at[1] == '_') {
        at += 2;
        length -= 4;
    }
    for (size_t i = 0; i < sizeof quiet / sizeof *quiet; i++)
        if (strlen(quiet[i]) == length && memcmp(quiet[i], at, length) == 0)
            return true;
    return false;
}

static u32 scan_attribute(u32 i, struct item *item)
{
    if (word_at(i) == W_EXTENSION)
        return i + 1;
    if (tokens[i + 1].punct != '(')
        odd("attribute", i);
    u32 stop = past(i + 1) - 1;
    if (word_at(i) != W_ATTRIBUTE)
        return stop + 1;
    for (u32 k = i + 3; k < stop; k++) {
        if (tokens[k].kind != T_IDENT)
            continue;
        if (is(tokens[k].symbol, "__gnu_inline__") || is(tokens[k].symbol, "gnu_inline"))
            item->gnu_inline = true;
        if (!is_quiet_attribute(tokens[k].symbol))
            item->is_root |= true; /* for definitions only, see below */
        if (tokens[k + 1].punct == '(')
            k = past(k + 1) - 1;
    }
    return stop + 1;
}

/* A structure or the like with its attributes: those before a declarator are the declarator's. */
static u32 scan_tagged_of(struct item *item, u32 i)
{
    u32 stop = scan_tagged(i);
    while (i < stop) {
        if (word_at(i) == W_ATTRIBUTE)
            i = scan_attribute(i, item);
        else
            i = tokens[i].kind == T_PUNCT && tokens[i].punct == '{' ? past(i) : i + 1;
    }
    return stop;
}

/* section("name"), of an attribute */
static bool is_section(u32 i)
{
    return tokens[i].kind == T_IDENT && tokens[i + 1].punct == '(' && tokens[i + 2].kind == T_STRING &&
           (is(tokens[i].symbol, "section") || is(tokens[i].symbol, "__section__"));
}

/* How many static variables of a function have a section of their own. Each is to be declared by itself,
 * 'static' first: whatever else mentions a section is not understood. */
u32 sectioned_variables(const struct item *item)
{
    u32 count = 0, mentions = 0, stop = tokens[item->body].match;
    for (u32 i = item->body; i < stop; i++)
        mentions += is_section(i);
    for (u32 i = item->body; i < stop && count < mentions; i++) {
        if (word_at(i) != W_STATIC)
            continue;
        bool has_section = false, is_list = false;
        while (i < stop && tokens[i].punct != ';') {
            if (word_at(i) == W_ATTRIBUTE) {
                for (u32 end = tokens[i + 1].match; i < end; i++)
                    has_section |= is_section(i);
            } else if (tokens[i].kind == T_PUNCT && tokens[i].punct != 0 &&
                       strchr("([{", tokens[i].punct) != NULL) {
                i = tokens[i].match;
            }
            is_list |= tokens[i].kind == T_PUNCT && tokens[i].punct == ',';
            i++;
        }
        count += has_section && !is_list;
    }
    if (count != mentions)
        odd("sections", item->body);
    return count;
}

/* One top-level declaration; returns the index after it. Nothing that came before it counts: a name that
 * stands where a type is to be is taken for one, which a unit that has the item checks (linking.c). */
static u32 scan_item(struct item *item, u32 i)
{
    scanned = item;
    last_name = &item->names;
    item->start = i;
    if (word_at(i) == W_ASM || word_at(i) == W_STATIC_ASSERT) {
        while (i < scan_end && tokens[i].punct != ';')
            i = tokens[i].punct == '(' ? past(i) : i + 1;
        item->end = i + 1;
        item->is_root = true;
        return i + 1;
    }
    bool typed = false, rooted = false;
    for (;; ) {
        enum word one = word_at(i);
        if (one == W_TYPEDEF) item->is_typedef = true, i++;
        else if (one == W_EXTERN) item->is_extern = true, i++;
        else if (one == W_STATIC) item->is_static = true, i++;
        else if (one == W_INLINE) item->is_inline = true, i++;
        else if (one == W_QUALIFIER || one == W_REGISTER || one == W_THREAD || one == W_NORETURN) i++;
        else if (one == W_BASIC) typed = true, i++;
        else if (one == W_STRUCT || one == W_UNION || one == W_ENUM) typed = true, i = scan_tagged_of(item, i);
        else if (one == W_TYPEOF) typed = true, i = past(i + 1);
        else if (one == W_ATTRIBUTE || one == W_EXTENSION || one == W_ALIGNAS) i = scan_attribute(i, item);
        else if (!typed && is_identifier(i)) typed = true, item->type_name = tokens[i++].symbol;
        else break;
    }
    rooted = item->is_root;
    item->is_root = false;
    if (tokens[i].kind == T_PUNCT && tokens[i].punct == ';') {
        item->end = i + 1;
        return i + 1;
    }
    if (!typed)
        odd("declaration without a type", i);
    for (;;) {
        u32 depth = 0;
        bool is_pointed = false; /* '(*name)(...)' is a variable, '(name)(...)' and '*name(...)' are not */
        while (tokens[i].punct == '*' || tokens[i].punct == '(' || word_at(i) == W_QUALIFIER ||
               word_at(i) == W_ATTRIBUTE) {
            if (word_at(i) == W_ATTRIBUTE) {
                i = scan_attribute(i, item);
                continue;
            }
            depth += tokens[i].punct == '(';
            is_pointed |= depth > 0 && tokens[i].punct == '*';
            i++;
        }
        if (!is_identifier(i))
            odd("declarator", i);
        add_name(i, item->is_typedef ? N_TYPEDEF : N_OBJECT, NULL);
        i++;
        bool function = false, first = true;
        for (;;) {
            if (tokens[i].punct == '[') {
                i = past(i);
            } else if (tokens[i].punct == '(') {
                function |= first;
                i = past(i);
            } else if (tokens[i].punct == ')' && depth > 0) {
                depth--;
                i++;
                first &= !is_pointed;
                continue;
            } else if (word_at(i) == W_ATTRIBUTE && depth > 0) {
                i = scan_attribute(i, item);
            } else {
                break;
            }
            first = false;
        }
        if (depth != 0)
            odd("declarator", i);
        while (word_at(i) == W_ATTRIBUTE || word_at(i) == W_ASM) {
            if (word_at(i) == W_ASM)
                i = past(i + 1);
            else
                i = scan_attribute(i, item);
        }
        rooted |= item->is_root;
        item->is_root = false;
        if (tokens[i].punct == '=' && tokens[i].kind == T_PUNCT) {
            item->defines = true;
            while (tokens[i].punct != ',' && tokens[i].punct != ';') {
                if (i >= scan_end)
                    odd("initializer", i);
                i = tokens[i].kind == T_PUNCT && tokens[i].punct && strchr("([{", tokens[i].punct)
                        ? past(i) : i + 1;
            }
        } else if (tokens[i].punct == '{') {
            item->body = i;
            item->defines = true;
            i = past(i);
            break;
        } else if (!function && !item->is_typedef && !item->is_extern) {
            item->defines = true; /* a tentative definition, or a function by a typedef's type */
        }
        if (tokens[i].punct == ';') {
            i++;
            break;
        }
        if (tokens[i].punct != ',')
            odd("declaration", i);
        i++;
    }
    item->end = i;
    if (item->is_typedef)
        return i;
    bool asked_only = item->is_static || (item->body && item->is_inline && item->is_extern &&
                                          item->gnu_inline);
    item->is_root = (item->defines && !asked_only) || rooted;
    return i;
}

/* The items that the tokens are, all of them whole. */
struct item *scan_items(u32 from, u32 to)
{
    struct item *first = NULL, **last = &first;
    scan_end = to;
    for (u32 i = from; i < to;) {
        if (tokens[i].kind == T_PUNCT && tokens[i].punct == ';') {
            i++;
            continue;
        }
        struct item *item = *last = arena(sizeof *item);
        last = &item->next;
        i = scan_item(item, i);
        if (i > to)
            odd("unfinished declaration", to - 1);
    }
    return first;
}
