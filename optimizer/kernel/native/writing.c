/* The reduced unit as text: to be compared, or to be compiled.
 *
 * What is compared says of a structure no more than counts: its first members, and what its alignment
 * may come from. What is compiled is C. There every structure that counts is whole, structures that
 * are only pointed to are announced before the rest, and declarations stand in their old order.
 */

#include <stdio.h>
#include <stdlib.h>

#include "unit.h"

static void put_parts(u32 from, u32 to);

static struct text *out;
static struct text *announced; /* what is to stand before the rest; NULL: for comparison */

/* A structure or enumeration has to be known from the beginning, also when it is nowhere whole: one
 * that a list of parameters names first is another one there. */
static void announce(u32 i)
{
    u32 name = skip_attributes(i + 1);
    if (tokens[name].kind != T_IDENT)
        return;
    struct symbol *symbol = tokens[name].symbol;
    if (symbol->tag == NULL) {
        symbol->tag = arena(sizeof *symbol->tag);
        symbol->tag->symbol = symbol;
    }
    if (symbol->tag->announced)
        return;
    symbol->tag->announced = true;
    text_add(announced, tokens[i].at, tokens[i].length);
    text_add(announced, " ", 1);
    text_add(announced, symbol->at, symbol->length);
    text_add(announced, ";\n", 2);
}

static void put(u32 from, u32 to)
{
    for (u32 i = from; i < to; i++) {
        enum word one = word_at(i);
        if (announced != NULL && (one == W_STRUCT || one == W_UNION || one == W_ENUM))
            announce(i);
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
    if (pack != 0 && announced == NULL) {
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

/* The compiler numbers the names of variables in functions, and where something in the unit has an
 * alias it counts those of unused functions that have a section of their own. */
static void put_places(const struct item *item)
{
    static u32 places;
    char place[160];
    if (!looks_up_names || item->body == 0)
        return;
    for (u32 i = sectioned_variables(item); i > 0; i--) {
        int used = snprintf(place, sizeof place, announced == NULL ? "@static\n" :
                            "static inline void memtotal_place_%u(void) { static char place "
                            "__attribute__((unused, section(\".place\"))); }\n", places++);
        text_add(out, place, (size_t)used);
    }
}

static void put_item(struct item *item)
{
    if (!item->reached) {
        if (item->parts != NULL)
            put_parts(item->start, item->end);
        put_places(item);
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

void write_compared(struct text *text)
{
    out = text;
    announced = NULL;
    for (u32 i = 0; i < item_count; i++)
        put_item(&items[i]);
}

static void put_pack(int bytes)
{
    char pragma[40];
    int used = snprintf(pragma, sizeof pragma, bytes ? "\n#pragma pack(%d)\n" : "\n#pragma pack()\n", bytes);
    text_add(out, pragma, (size_t)used);
}

void write_compiled(struct text *text)
{
    struct text declarations = {0};
    int packed = 0;
    out = &declarations;
    announced = text;
    for (u32 i = 0; i < item_count; i++) {
        struct item *item = &items[i];
        int pack = pack_at(item->start);
        if (pack != pack_at(item->end - 1))
            odd("pragma in a declaration", item->start);
        if (pack != packed)
            put_pack(packed = pack);
        put_item(item);
    }
    text_add(text, declarations.at, declarations.length);
    free(declarations.at);
}
