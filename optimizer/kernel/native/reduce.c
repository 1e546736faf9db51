/* A preprocessed C unit reduced to what its own code can depend on.
 *
 * The unit is split into top-level declarations. Those that emit code or data are kept, and what
 * they name, and so on. Of a structure that is kept, the members that are named are kept, with their
 * offsets (layouts.c); where those are not known, all members up to the last one that is named: those
 * after it move no offset. Where only its size counts, its size is kept: sizeof, arithmetic on a
 * pointer to it, a variable that is defined elsewhere. All members are kept where it is a value: a
 * variable that is defined here, an assignment of the whole. To know which structure a member belongs
 * to, expressions are typed as the compiler would.
 *
 * Sound by construction: a construct that is not understood ends the reduction, and the unit is
 * then taken whole. What is compared is what is compiled, but for the structures that count, which are
 * whole in what rewrite_unit() gives, and for the numbers in names that no object has.
 */

#include <stdlib.h>
#include <string.h>

#include "unit.h"

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
    number_body(item);
    p = item->start;
    layout = no_demands;
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
                if (is_object(symbol))
                    reach(name_of(symbol));
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
        if (symbol == NULL || name_of(symbol) == NULL)
            odd("declarator", p);
        reach(name_of(symbol)); /* its other declarations have attributes of their own */
        if (found.is_typedef) {
            /* Its own size counts only where it is used. */
        } else if (type->shape == S_FUNCTION) {
            use_value(type->to);
        } else {
            if (type->shape == S_UNKNOWN)
                odd("unknown type", p);
            if (found.is_extern && !at('='))
                need_size(type);
            else
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

static void work_off(void)
{
    while (queue_length > 0) {
        struct work work = queue[--queue_length];
        if (work.item != NULL)
            mark_item(work.item);
        else if (work.record != NULL)
            mark_record(work.record);
        else
            mark_enumeration(work.enumeration);
    }
}

const char *read_unit(const char *source, size_t length)
{
    prepare();
    if (setjmp(give_up) != 0)
        return why;
    forget_tokens();
    lex(source, length);
    gather_tokens();
    return NULL;
}

const char *reduce_unit(struct text *reduced)
{
    if (setjmp(give_up) != 0)
        return why;
    if (why_not_gathered() != NULL)
        return why_not_gathered();
    for (const struct segment *segment = segments; segment < segments + segment_count; segment++)
        check_type_names(segment->contents);
    marking = true;
    for (const struct segment *segment = segments; segment < segments + segment_count; segment++)
        for (struct item *root = segment->contents->roots; root != NULL; root = root->next_root)
            reach_item(root);
    for (size_t i = 0; i < known_function_count; i++) {
        struct symbol *symbol = intern(known_functions[i], (u32)strlen(known_functions[i]));
        if (is_object(symbol))
            reach(name_of(symbol));
    }
    work_off();
    write_compared(reduced);
    return NULL;
}

static bool is_in_whole_record(const struct item *item, u32 body)
{
    for (const struct part *part = item->parts; part != NULL; part = part->next)
        if (part->record != NULL && part->record->complete && part->record->body < body &&
            tokens[part->record->body].match > body)
            return true;
    return false;
}

/* Has structures count whole that are written at all: those of which some members count, and those
 * that stand in a whole one. Whether there was one. */
static bool complete_records(void)
{
    bool found = false;
    EACH_ITEM (item)
        for (struct part *part = item->parts; part != NULL; part = part->next) {
            struct record *record = part->record;
            if (record == NULL || record->complete ||
                (record->kept == 0 && !record->is_sized && !is_in_whole_record(item, record->body)))
                continue;
            record->complete = found = true;
            enqueue(NULL, record, NULL);
        }
    return found;
}

const char *rewrite_unit(struct text *code)
{
    if (setjmp(give_up) != 0)
        return why;
    while (complete_records())
        work_off();
    write_compiled(code);
    return NULL;
}
