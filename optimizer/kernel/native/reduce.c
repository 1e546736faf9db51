/* A preprocessed C unit reduced to what its own code can depend on.
 *
 * The unit is split into top-level declarations. Those that emit code or data are kept, and what
 * they name, and so on. Of a structure that is kept, the members are kept up to the last one that
 * is named: those after it move no offset. All of them are kept where its size counts: a variable
 * of that type, sizeof, arithmetic on a pointer to it, an assignment of the whole. To know which
 * structure a member belongs to, expressions are typed as the compiler would.
 *
 * Sound by construction: a construct that is not understood ends the reduction, and the unit is
 * then taken whole. Nothing here decides what is compiled, only what is compared.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"

static void put_parts(u32 from, u32 to);

struct work {
    struct item *item;
    struct record *record;
    struct enumeration *enumeration;
};
static struct work *queue;
static u32 queue_length, queue_room;

void enqueue(struct item *item, struct record *record, struct enumeration *enumeration)
{
    if (queue_length == queue_room) {
        queue_room = queue_room ? queue_room * 2 : 4096;
        queue = grown(queue, queue_room * sizeof *queue);
    }
    queue[queue_length++] = (struct work){item, record, enumeration};
}

/* Parses an item that counts, so that all it names counts too. */
static void mark_item(struct item *item)
{
    static u32 frames;
    marking = true;
    frame = 0;
    p = item->start;
    layout = 0;
    if (word() == W_ASM) {
        /* Its text may name what the unit defines. */
        for (u32 i = p; i < item->end; i++) {
            if (tokens[i].kind != T_STRING)
                continue;
            const char *text = tokens[i].at, *end = text + tokens[i].length;
            while (text < end) {
                if ((class_of[(unsigned char)*text] & 1) == 0) {
                    text += *text == '\\' && text + 1 < end ? 2 : 1;
                    continue;
                }
                const char *start = text;
                while (text < end && (class_of[(unsigned char)*text] & 3))
                    text++;
                struct symbol *symbol = intern(start, (u32)(text - start));
                if (symbol->name != NULL && symbol->name->what == N_OBJECT)
                    reach(symbol->name);
            }
        }
        return;
    }
    if (word() == W_STATIC_ASSERT) {
        p++;
        want('(');
        parse_conditional();
        return;
    }
    struct specifiers found;
    struct type *base = parse_specifiers(&found);
    if (at(';'))
        return;
    for (;;) {
        struct symbol *symbol = NULL;
        struct type *type = parse_declarator(base, &symbol);
        while (word() == W_ASM || word() == W_ATTRIBUTE) {
            if (word() == W_ASM)
                p = tokens[p + 1].match + 1;
            else
                parse_attributes();
        }
        if (symbol == NULL || symbol->name == NULL)
            odd("declarator", p);
        reach(symbol->name); /* its other declarations have attributes of their own */
        if (found.is_typedef) {
            /* Its own size counts only where it is used. */
        } else if (type->shape == S_FUNCTION) {
            use_value(type->to);
        } else {
            if (type->shape == S_UNKNOWN)
                odd("unknown type", p);
            need_complete(type);
        }
        if (at('=')) {
            p++;
            parse_initializer();
        } else if (at('{')) {
            if (type->shape != S_FUNCTION)
                odd("body", p);
            frame = ++frames;
            struct scope scope = open_scope();
            for (u32 i = 0; i < type->parameter_count; i++)
                if (type->parameters[i].symbol != NULL)
                    bind_name(type->parameters[i].symbol, N_OBJECT, type->parameters[i].type);
            parse_compound();
            close_scope(scope);
            frame = 0;
            return;
        }
        if (at(';'))
            return;
        want(',');
    }
}

static struct text *out;

static void put(u32 from, u32 to)
{
    for (u32 i = from; i < to; i++) {
        text_add(out, tokens[i].at, tokens[i].length);
        text_add(out, " ", 1);
    }
}

static void put_body(struct record *record)
{
    u32 stop = tokens[record->body].match;
    int pack = pack_at(record->body);
    text_add(out, "{ ", 2);
    if (pack != pack_at(stop))
        odd("pragma in a structure", record->body);
    if (pack != 0) {
        char note[32];
        int used = snprintf(note, sizeof note, "@pack %d ", pack);
        text_add(out, note, (size_t)used);
    }
    if (record->complete) {
        put(record->body + 1, stop);
    } else if (record->kept != 0) {
        char tail[64];
        put(record->units[0].start, record->units[record->kept - 1].end);
        bool more = record->kept < record->unit_count;
        measure(record);
        int used = snprintf(tail, sizeof tail, "@%x %d ", record->basic, more);
        text_add(out, tail, (size_t)used);
        for (u32 i = 0; i < record->attribute_count; i++) {
            used = snprintf(tail, sizeof tail, "@%llx ", (unsigned long long)record->attributes[i]);
            text_add(out, tail, (size_t)used);
        }
        if (more)
            put_parts(record->units[record->kept].start, stop);
    } else {
        put_parts(record->body + 1, stop);
    }
    text_add(out, "} ", 2);
}

/* What is used of the types defined within something that is itself not used. */
static void put_parts(u32 from, u32 to)
{
    for (u32 i = from; i < to; i++) {
        if (tokens[i].kind != T_PUNCT || tokens[i].punct != '{')
            continue;
        enum word before = W_NONE;
        for (u32 k = i; k-- > from && k + 40 > i;) {
            before = word_at(k);
            if (before == W_STRUCT || before == W_UNION || before == W_ENUM)
                break;
        }
        if (before == W_ENUM) {
            if (tokens[i].enumeration != NULL && tokens[i].enumeration->reached) {
                put(tokens[i].enumeration->head, tokens[i].enumeration->tail);
                text_add(out, "; ", 2);
            }
            i = tokens[i].match;
        } else if ((before == W_STRUCT || before == W_UNION) && tokens[i].record != NULL &&
                   !tokens[i].record->is_local) {
            struct record *record = tokens[i].record;
            if (record->complete || record->kept != 0) {
                put(record->head, record->body);
                put_body(record);
                put(tokens[record->body].match + 1, record->tail);
                text_add(out, "; ", 2);
                i = tokens[i].match;
            }
        }
    }
}

static void put_item(struct item *item)
{
    if (!item->reached) {
        if (item->parts != NULL)
            put_parts(item->start, item->end);
        return;
    }
    u32 from = item->start;
    if (item->parts != NULL) {
        u32 stop = item->body ? item->body : item->end;
        for (u32 i = item->start; i < stop; i++) {
            if (tokens[i].kind != T_PUNCT || tokens[i].punct != '{')
                continue;
            struct record *mine = NULL;
            for (struct part *part = item->parts; part != NULL; part = part->next)
                if (part->record != NULL && part->record->body == i)
                    mine = part->record;
            if (mine != NULL) {
                put(from, i);
                put_body(mine);
                from = tokens[i].match + 1;
            }
            i = tokens[i].match;
        }
    }
    put(from, item->end);
    text_add(out, "\n", 1);
}

const char *read_unit(const char *source, size_t length)
{
    prepare();
    if (setjmp(give_up) != 0)
        return why;
    forget_tokens();
    lex(source, length);
    return NULL;
}

const char *reduce_unit(struct text *reduced)
{
    out = reduced;
    if (setjmp(give_up) != 0)
        return why;
    match_brackets();
    for (u32 i = 0; i < token_count; i++)
        if (word_at(i) == W_ODD)
            odd("depends on its place", i);
    item_room = token_count / 2 + 2;
    items = calloc(item_room, sizeof *items);
    if (items == NULL)
        abort();
    for (u32 i = 0; i < token_count;) {
        if (tokens[i].kind == T_PUNCT && tokens[i].punct == ';') {
            i++;
            continue;
        }
        i = scan_item(i);
        if (i > token_count)
            odd("unfinished declaration", token_count - 1);
    }
    marking = true;
    for (u32 i = 0; i < item_count; i++)
        if (items[i].is_root)
            reach_item(&items[i]);
    for (size_t i = 0; i < known_function_count; i++) {
        struct symbol *symbol = intern(known_functions[i], (u32)strlen(known_functions[i]));
        if (symbol->name != NULL && symbol->name->what == N_OBJECT)
            reach(symbol->name);
    }
    while (queue_length > 0) {
        struct work work = queue[--queue_length];
        if (work.item != NULL)
            mark_item(work.item);
        else if (work.record != NULL)
            mark_record(work.record);
        else
            mark_enumeration(work.enumeration);
    }
    for (u32 i = 0; i < item_count; i++)
        put_item(&items[i]);
    return NULL;
}
