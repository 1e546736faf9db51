/* Structures and unions: their members, and how much of each counts. */

#include <string.h>

#include "unit.h"

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
void parse_unit(struct record *record, bool is_whole)
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
            if (found != NULL && member->type->demands.is_odd)
                odd("member of what may be no member", p);
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
