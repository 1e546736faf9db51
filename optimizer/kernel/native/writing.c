/* The reduced unit as text: to be compared, or to be compiled.
 *
 * What is compared says of a structure no more than counts: the members that are used, and where they are
 * (layouts.c); where that is not known, all members up to the last used one, and what the alignment may
 * come from. What is compiled is C. There every structure that counts is whole, structures that
 * are only pointed to are announced before the rest, and declarations stand in their old order.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"

static void put_parts(u32 from, u32 to);

bool has_offsets;

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
    struct tag *tag = own_tag(symbol);
    if (tag->announced)
        return;
    tag->announced = true;
    text_add(announced, tokens[i].at, tokens[i].length);
    text_add(announced, " ", 1);
    text_add(announced, symbol->at, symbol->length);
    text_add(announced, ";\n", 2);
}

static u32 private_names;

/* For a name with a number that no object has (note_visibility), what is the same whatever the number is:
 * where __COUNTER__ stands depends on all that came before. */
static bool put_private(struct symbol *symbol)
{
    char place[16];
    if (!symbol->is_private || symbol->is_public || name_of(symbol) != NULL ||
        (class_of[(unsigned char)symbol->at[symbol->length - 1]] & 2) == 0)
        return false;
    if (symbol->place == 0)
        symbol->place = ++private_names;
    text_add(out, place, (size_t)snprintf(place, sizeof place, "@n%u", symbol->place));
    return true;
}

/* Whether a type of file scope is defined there. */
static bool is_body(u32 i)
{
    return tokens[i].kind == T_PUNCT && tokens[i].punct == '{' && tokens[i].code != W_NONE;
}

static void put_body(struct record *record);

static void put(u32 from, u32 to)
{
    for (u32 i = from; i < to; i++) {
        enum word one = word_at(i);
        if (announced != NULL && (one == W_STRUCT || one == W_UNION || one == W_ENUM))
            announce(i);
        if (announced == NULL && is_body(i) && tokens[i].code == W_STRUCT) {
            put_body(tokens[i].record); /* whatever stands around it, of it counts what counts */
            i = tokens[i].match;
            continue;
        }
        if (announced != NULL || tokens[i].kind != T_IDENT || !put_private(tokens[i].symbol))
            text_add(out, tokens[i].at, tokens[i].length);
        text_add(out, " ", 1);
    }
}

static void put_number(const char *what, u64 number)
{
    char text[40];
    text_add(out, text, (size_t)snprintf(text, sizeof text, "%s%llu ", what, (unsigned long long)number));
}

/* Instead of what stands before the used members: where they are. */
static void put_placed(struct record *record)
{
    u32 member = 0;
    record->was_placed = has_offsets = true;
    put_number("@align ", record->align);
    if (record->is_sized)
        put_number("@size ", record->bytes);
    for (u32 i = 0; i < record->unit_count; i++) {
        const struct unit *unit = &record->units[i];
        for (; member < record->member_count && record->members[member].unit == i; member++)
            if (unit->is_used && !record->members[member].is_bit_field)
                put_number("@", record->members[member].offset);
        if (unit->is_used)
            put(unit->start, unit->end);
        else
            put_parts(unit->start, unit->end);
    }
}

static void put_body(struct record *record)
{
    u32 stop = tokens[record->body].match;
    int pack = pack_at(record->body);
    text_add(out, "{ ", 2);
    if (has_pack_within(record->body, stop + 1)) /* one before the last bracket counts too */
        odd("pragma in a structure", record->body);
    if (pack != 0 && announced == NULL) {
        char note[32];
        int used = snprintf(note, sizeof note, "@pack %d ", pack);
        text_add(out, note, (size_t)used);
    }
    if (record->complete) {
        put(record->body + 1, stop);
    } else if ((record->kept != 0 || record->is_sized) && is_placed(record)) {
        put_placed(record);
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

static bool counts(const struct record *record)
{
    return record->complete || record->kept != 0 || record->is_sized;
}

/* What is used of the types defined within something that is itself not used. */
static void put_parts(u32 from, u32 to)
{
    for (u32 i = from; i < to; i++) {
        if (!is_body(i))
            continue;
        const struct enumeration *enumeration = tokens[i].code == W_ENUM ? tokens[i].enumeration : NULL;
        struct record *record = tokens[i].code == W_STRUCT ? tokens[i].record : NULL;
        if (enumeration != NULL && enumeration->reached) {
            put(enumeration->head, enumeration->tail);
            text_add(out, "; ", 2);
        } else if (record != NULL && counts(record)) {
            put(record->head, record->body);
            put_body(record);
            put(tokens[record->body].match + 1, record->tail);
            text_add(out, "; ", 2);
        }
        if (enumeration != NULL || counts(record))
            i = tokens[i].match;
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

static bool has_used_part(const struct item *item)
{
    for (const struct part *part = item->parts; part != NULL; part = part->next)
        if (part->enumeration != NULL ? part->enumeration->reached : counts(part->record))
            return true;
    return false;
}

static void put_item(struct item *item)
{
    if (!item->reached) {
        if (has_used_part(item))
            put_parts(item->start, item->end);
        put_places(item);
        return;
    }
    u32 from = item->start;
    if (has_pack_within(item->start, item->end))
        odd("pragma in a declaration", item->start);
    if (announced == NULL && pack_at(item->start) != 0) /* its own structures are packed too */
        put_number("@pack ", (u64)pack_at(item->start));
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
    has_offsets = false;
    private_names = 0;
    announced = NULL;
    EACH_ITEM (item)
        put_item(item);
}

static void put_pack(int bytes)
{
    char pragma[40];
    int used = snprintf(pragma, sizeof pragma, bytes ? "\n#pragma pack(%d)\n" : "\n#pragma pack()\n", bytes);
    text_add(out, pragma, (size_t)used);
}

static void put_assertion(const char *what, const struct record *record, const struct symbol *member,
                          u64 number)
{
    const char *kind = record->is_union ? "union " : "struct ";
    text_add(out, "_Static_assert(", 15);
    text_add(out, what, strlen(what));
    text_add(out, kind, strlen(kind));
    text_add(out, record->tag->at, record->tag->length);
    if (member != NULL) {
        text_add(out, ", ", 2);
        text_add(out, member->at, member->length);
    }
    put_number(") == ", number);
    text_add(out, ", \"\");\n", 7);
}

/* Has the compiler stop where a used member's offset is another than it was taken to be: of a structure,
 * and of one without a name in it, at so many bytes. */
static void put_assertions(const struct record *record, const struct record *inner, u64 offset)
{
    bool is_whole = inner != record && !inner->was_placed;
    for (u32 i = 0; i < inner->member_count; i++) {
        const struct member *member = &inner->members[i];
        if (member->is_bit_field || (!is_whole && !inner->units[member->unit].is_used))
            continue;
        if (member->symbol == NULL)
            put_assertions(record, member->type->record, offset + member->offset);
        else
            put_assertion("__builtin_offsetof(", record, member->symbol, offset + member->offset);
    }
}

void write_compiled(struct text *text)
{
    struct text declarations = {0};
    int packed = 0;
    out = &declarations;
    announced = text;
    EACH_ITEM (item) {
        int pack = pack_at(item->start);
        if (pack != pack_at(item->end - 1))
            odd("pragma in a declaration", item->start);
        if (pack != packed)
            put_pack(packed = pack);
        put_item(item);
    }
    EACH_ITEM (item)
        for (const struct part *part = item->parts; part != NULL; part = part->next)
            if (part->record != NULL && part->record->was_placed && part->record->tag != NULL) {
                put_assertion("_Alignof(", part->record, NULL, part->record->align);
                put_assertion("sizeof(", part->record, NULL, part->record->bytes);
                put_assertions(part->record, part->record, 0);
            }
    text_add(text, declarations.at, declarations.length);
    free(declarations.at);
}
