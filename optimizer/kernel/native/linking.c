/* What names of file scope mean in a unit, found when they are first asked for.
 *
 * A unit has a few thousand declarations for each that its code reaches. So where tokens are looked over,
 * once for all units that have them, each name notes what may declare it; a unit looks only at the names it
 * meets, which of the notes are its own.
 */

#include <stdlib.h>
#include <string.h>

#include "unit.h"

u32 gathering;

struct source { /* a declaration that a unit may have */
    struct source *next; /* of the same name, in no order */
    const struct lent *lent;
    struct item *item;
    const struct declared *declared; /* NULL: the tag of the part */
    const struct part *part;
};

static void add_source(struct symbol *symbol, struct source source)
{
    source.next = symbol->sources;
    symbol->sources = memcpy(lasting(sizeof source), &source, sizeof source);
}

static void note_item(struct item *item, const struct lent *lent)
{
    for (const struct declared *one = item->names; one != NULL; one = one->next)
        add_source(one->symbol, (struct source){.lent = lent, .item = item, .declared = one});
    for (const struct part *part = item->parts; part != NULL; part = part->next) {
        struct symbol *tag = part->record != NULL ? part->record->tag : part->enumeration->tag;
        if (tag != NULL)
            add_source(tag, (struct source){.lent = lent, .item = item, .part = part});
    }
}

struct contents *list_contents(struct item *items)
{
    static struct item **typed;
    static u32 room, times;
    struct contents *contents = arena(sizeof *contents);
    struct item **last_root = &contents->roots;
    u32 count = 0;
    times++;
    contents->items = items;
    contents->lent = busy(sizeof *contents->lent);
    for (struct item *item = items; item != NULL; item = item->next) {
        note_item(item, contents->lent);
        if (item->is_root) {
            *last_root = item;
            last_root = &item->next_root;
        }
        if (item->type_name == NULL || item->type_name->listed_in == times)
            continue;
        item->type_name->listed_in = times;
        if (count == room)
            typed = grown(typed, (room = room ? room * 2 : 256) * sizeof *typed);
        typed[count++] = item;
    }
    contents->typed = lasting((count + 1) * sizeof *typed);
    if (count > 0)
        memcpy(contents->typed, typed, count * sizeof *typed);
    return contents;
}

/* Whether what stands where a type is to be is one: tokens were looked over as if it were. */
void check_type_names(const struct contents *contents)
{
    for (struct item **item = contents->typed; *item != NULL; item++) {
        const struct name *name = name_of((*item)->type_name);
        if (name == NULL || name->what != N_TYPEDEF)
            odd("declaration without a type", (*item)->start);
    }
}

struct tag *own_tag(struct symbol *symbol)
{
    struct tag *tag = tag_of(symbol);
    if (tag == NULL) {
        tag = symbol->tag = arena(sizeof *tag);
        tag->symbol = symbol;
    }
    return tag;
}

static void declare(struct symbol *symbol, struct item *item, const struct declared *declared)
{
    struct name *name = symbol->name;
    if (name == NULL) {
        name = symbol->name = arena(sizeof *name);
        name->symbol = symbol;
        name->what = declared->what;
    } else if (name->what != declared->what) {
        odd("two meanings", declared->where);
    }
    if (declared->enumeration != NULL)
        name->enumeration = declared->enumeration;
    if (declared->what == N_CONSTANT)
        return;
    struct declaration *new = arena(sizeof *new);
    new->item = item;
    if (name->last != NULL)
        name->last->next = new;
    else
        name->first = new;
    name->last = new;
}

static void declare_tag(struct symbol *symbol, const struct part *part)
{
    struct tag *tag = own_tag(symbol);
    if (tag->record != NULL || tag->enumeration != NULL)
        odd("two meanings", part->record != NULL ? part->record->body : part->enumeration->body);
    tag->record = part->record;
    tag->enumeration = part->enumeration;
}

/* In the order of the unit: by segment, and by token within one. */
static int compare_sources(const void *left, const void *right)
{
    const struct source *one = *(const struct source *const *)left;
    const struct source *other = *(const struct source *const *)right;
    if (one->lent->segment != other->lent->segment)
        return one->lent->segment < other->lent->segment ? -1 : 1;
    return one->item->start < other->item->start ? -1 : one->item->start > other->item->start;
}

void link_symbol(struct symbol *symbol)
{
    static const struct source **found;
    static u32 room;
    u32 count = 0;
    symbol->linked_in = gathering;
    symbol->name = NULL;
    symbol->tag = NULL;
    for (const struct source *one = symbol->sources; one != NULL; one = one->next) {
        if (one->lent->to != gathering)
            continue;
        if (count == room)
            found = grown(found, (room = room ? room * 2 : 64) * sizeof *found);
        found[count++] = one;
    }
    if (count > 1)
        qsort(found, count, sizeof *found, compare_sources);
    for (u32 i = 0; i < count; i++) {
        if (found[i]->declared != NULL)
            declare(symbol, found[i]->item, found[i]->declared);
        else
            declare_tag(symbol, found[i]->part);
    }
}
