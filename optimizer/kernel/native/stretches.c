/* What a file gives between two of its #includes, remembered.
 *
 * A build reads the same few hundred headers for each of a thousand units, and most of them give the
 * same each time. What a stretch of lines gives follows from its text and from the macros it asks
 * for: so these are written down, each with what it was, beside the tokens and the definitions that
 * came of it. Where all macros asked for are as they were, the outcome is given again and the lines
 * are not read. An #include ends a stretch: what its file gives is remembered for itself.
 *
 * Each unit counts __COUNTER__ from its own number, so tokens that end with one are numbered anew
 * (renumber()). What depends on more than all that is not remembered: what files there are, a pack.
 * A process that preprocesses one unit alone remembers nothing; the server of a build does.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "preprocess.h"

#define MOST_OUTCOMES 12 /* of one stretch: each is looked at before the lines are read */

struct question { /* what a name meant before the stretch */
    const struct meaning *meaning;
    struct macro *macro; /* NULL: none; any_macro: it mattered only that there was one */
};

struct change { /* a #define or #undef */
    struct meaning *meaning;
    struct macro *macro;
};

/* Where a file stands, between the lines: of its conditions and of its guard. */
struct standing {
    struct condition *open;
    u32 count;
    int guarded;
    struct symbol *guard;
};

struct outcome {
    struct outcome *next;
    struct question *questions;
    struct change *changes;
    struct loan loan;
    struct symbol **prefixes; /* of names that end with a number: such a name must be no macro */
    u32 prefix_count;
    u32 question_count, change_count;
    u32 steps; /* of the counter */
    const char *options; /* the compiler's, if it was asked something; else NULL */
    bool warned;
    u32 open_before;
    int guarded_before;
    struct standing standing;
    struct place end;
};

struct stretch {
    struct stretch *next;
    const char *begin;
    u32 times;
    u32 count;
    struct outcome *outcomes; /* the one that was right last comes first */
};

bool remembers;
u32 recording;

static struct macro any_macro;
static u32 last_recording;
static struct stretch *recorded;
static bool is_spoiled, asked_options;
static u32 first_token, first_number, open_before;
static int guarded_before;
static struct question *questions;
static u32 question_count, question_room;
static struct change *changes;
static u32 change_count, change_room;
static struct number *numbers;
static u32 number_count, number_room;
static struct symbol **prefixes;
static u32 prefix_count, prefix_room;
static struct meaning **defined; /* in this unit */
static u32 defined_count, defined_room;

/* --- what is asked and changed */

static struct meaning *own_meaning(struct symbol *symbol)
{
    if (symbol->meaning == &no_meaning)
        symbol->meaning = busy(sizeof *symbol->meaning);
    return symbol->meaning;
}

void ask_macro(struct symbol *symbol, bool only_whether)
{
    if (question_count == question_room) {
        question_room = question_room ? question_room * 2 : 1024;
        questions = grown(questions, question_room * sizeof *questions);
    }
    struct meaning *meaning = own_meaning(symbol);
    bool is_any = only_whether && meaning->macro != NULL && !meaning->macro->builtin;
    questions[question_count++] = (struct question){meaning, is_any ? &any_macro : meaning->macro};
    meaning->asked_whether = recording;
    if (!is_any)
        meaning->asked = recording;
}

static void change(struct meaning *meaning, struct macro *macro)
{
    meaning->macro = macro;
    if (macro == NULL)
        return;
    if (defined_count == defined_room) {
        defined_room = defined_room ? defined_room * 2 : 1u << 15;
        defined = grown(defined, defined_room * sizeof *defined);
    }
    defined[defined_count++] = meaning;
}

void set_macro(struct symbol *symbol, struct macro *macro)
{
    struct meaning *meaning = own_meaning(symbol);
    change(meaning, macro);
    if (recording == 0)
        return;
    if (change_count == change_room) {
        change_room = change_room ? change_room * 2 : 1024;
        changes = grown(changes, change_room * sizeof *changes);
    }
    changes[change_count++] = (struct change){meaning, macro};
    meaning->asked = meaning->asked_whether = recording; /* from here on it is the stretch's own */
}

void forget_macros(void)
{
    for (u32 i = 0; i < defined_count; i++)
        defined[i]->macro = NULL;
    defined_count = 0;
}

void spoil_stretch(void)
{
    is_spoiled = true;
}

void stretch_asked_options(void)
{
    asked_options = true;
}

/* A name or number whose last digits __COUNTER__ gave is to be looked up. */
void count_in_stretch(const struct piece *piece)
{
    if (recording == 0 || piece->kind != T_IDENT)
        return;
    struct symbol *prefix = intern_kept(piece->at, piece->length - piece->code);
    is_spoiled |= prefix->is_prefix;
    for (u32 i = 0; i < prefix_count; i++)
        if (prefixes[i] == prefix)
            return;
    if (prefix_count == prefix_room) {
        prefix_room = prefix_room ? prefix_room * 2 : 64;
        prefixes = grown(prefixes, prefix_room * sizeof(struct symbol *));
    }
    prefixes[prefix_count++] = prefix;
}

/* The same, as a token now. */
void number_in_stretch(u32 token, u32 digits)
{
    if (recording == 0)
        return;
    const struct token *one = &tokens[token];
    if (digits > one->length || (one->kind != T_IDENT && one->kind != T_NUMBER)) {
        is_spoiled = true;
        return;
    }
    u32 given = (u32)strtoul(one->at + one->length - digits, NULL, 10);
    if (number_count == number_room) {
        number_room = number_room ? number_room * 2 : 256;
        numbers = grown(numbers, number_room * sizeof *numbers);
    }
    numbers[number_count++] = (struct number){token - first_token, one->length - digits, given - first_number};
}

/* --- outcomes */

/* The open conditions need not be compared: where the file stands says which they are, and a group
 * that is being read is always one that is_done. */
static bool is_as_before(const struct outcome *outcome)
{
    if (outcome->guarded_before != (int)input->guarded || outcome->warned != warns ||
        outcome->open_before != condition_count - input->conditions ||
        input->conditions + outcome->standing.count > MOST_CONDITIONS ||
        (outcome->options != NULL && outcome->options != compiler_options))
        return false;
    for (u32 i = 0; i < outcome->prefix_count; i++)
        if (outcome->prefixes[i]->is_prefix)
            return false;
    for (u32 i = 0; i < outcome->question_count; i++) {
        const struct macro *macro = outcome->questions[i].meaning->macro;
        const struct macro *before = outcome->questions[i].macro;
        if (before == &any_macro ? macro == NULL || macro->builtin : macro != before)
            return false;
    }
    return true;
}

static void give(struct outcome *outcome)
{
    const struct standing *standing = &outcome->standing;
    borrow_tokens(&outcome->loan, counter);
    counter += outcome->steps;
    for (u32 i = 0; i < outcome->change_count; i++)
        change(outcome->changes[i].meaning, outcome->changes[i].macro);
    for (u32 i = 0; i < standing->count; i++)
        conditions[input->conditions + i] = standing->open[i];
    condition_count = input->conditions + standing->count;
    input->guarded = standing->guarded;
    input->guard = standing->guard;
    input->guard_depth = input->conditions; /* a guard is the first directive of its file */
    input->at = outcome->end.at;
    input->line_start = outcome->end.line_start;
}

static struct stretch *stretch_at(struct file *file, const char *begin)
{
    for (struct stretch *one = file->stretches; one != NULL; one = one->next)
        if (one->begin == begin)
            return one;
    struct stretch *new = arena(sizeof *new);
    *new = (struct stretch){.next = file->stretches, .begin = begin};
    file->stretches = new;
    return new;
}

/* To be called between two lines, when nothing that was read before is still to be expanded. */
void begin_stretch(void)
{
    input->is_fresh = false;
    if (!remembers || input->file == main_file)
        return;
    struct stretch *stretch = stretch_at(input->file, input->at);
    for (struct outcome **place = &stretch->outcomes; *place != NULL; place = &(*place)->next) {
        struct outcome *one = *place;
        if (!is_as_before(one))
            continue;
        if (one != stretch->outcomes) {
            *place = one->next;
            one->next = stretch->outcomes;
            stretch->outcomes = one;
        }
        give(one);
        return;
    }
    /* Many headers are read by one unit alone: what comes once is not kept. */
    if (stretch->times++ == 0 || stretch->count == MOST_OUTCOMES)
        return;
    recording = ++last_recording;
    recorded = stretch;
    is_spoiled = asked_options = false;
    question_count = change_count = number_count = prefix_count = 0;
    first_token = token_count;
    first_number = counter;
    open_before = condition_count - input->conditions;
    guarded_before = (int)input->guarded;
}

static void *kept(const void *from, size_t bytes)
{
    return bytes == 0 ? NULL : memcpy(lasting(bytes), from, bytes);
}

/* The stretch ends before the lines from there on. */
void end_stretch(struct place place)
{
    if (recording == 0)
        return;
    recording = 0;
    if (is_spoiled)
        return;
    u32 open = condition_count - input->conditions, count = token_count - first_token;
    u32 first = count == 0 ? 0 : keep_tokens(first_token);
    if (count > 0 && first == 0)
        return;
    struct outcome *new = arena(sizeof *new);
    *new = (struct outcome){
        .next = recorded->outcomes,
        .questions = kept(questions, question_count * sizeof *questions),
        .changes = kept(changes, change_count * sizeof *changes),
        .loan = {.first = first, .token_count = count, .number_count = number_count,
                 .numbers = kept(numbers, number_count * sizeof *numbers)},
        .prefixes = kept(prefixes, prefix_count * sizeof(struct symbol *)),
        .prefix_count = prefix_count,
        .question_count = question_count, .change_count = change_count, .steps = counter - first_number,
        .options = asked_options ? compiler_options : NULL, .warned = warns,
        .open_before = open_before, .guarded_before = guarded_before,
        .standing = {kept(conditions + input->conditions, open * sizeof *conditions), open,
                     (int)input->guarded, input->guard},
        .end = place,
    };
    if (count > 0)
        look_over_loan(&new->loan);
    recorded->outcomes = new;
    recorded->count++;
}

void forget_stretch(void)
{
    recording = 0;
}
