/* A unit's tokens in their order: its own, and between them those that are kept of headers.
 *
 * What is kept is looked over once (look_over_loan): most of it is whole declarations. A unit then only
 * says which of them it has. They are in the same place in every process, and each has its own copy of
 * what it writes there: so that it is little, functions get their numbers when they count. Own tokens, and
 * what is kept but is not whole or is in the unit already, are put in a row until they are declarations.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "preprocess.h"

struct segment *segments;
u32 segment_count;
static u32 segment_room;

static struct span { /* of the unit's own tokens, or of a loan */
    struct loan *loan;
    u32 count;
    u32 counter; /* what the loan's numbers are counted from */
} *spans;
static u32 span_count, span_room, borrowed, own_counted;
static char unread[sizeof why]; /* why not all tokens are items */

static void add_span(struct span span)
{
    if (span_count == span_room) {
        span_room = span_room ? span_room * 2 : 4096;
        spans = grown(spans, span_room * sizeof *spans);
    }
    spans[span_count++] = span;
}

/* The unit's own tokens that are in no span yet. */
static void add_own_span(void)
{
    u32 count = token_place() - borrowed;
    if (count > own_counted)
        add_span((struct span){.count = count - own_counted});
    own_counted = count;
}

u32 borrowed_tokens(void)
{
    return borrowed;
}

void borrow_tokens(struct loan *loan, u32 counter)
{
    if (loan->token_count == 0)
        return;
    add_own_span();
    borrowed += loan->token_count;
    add_span((struct span){loan, loan->token_count, counter});
}

void forget_segments(void)
{
    segment_count = span_count = borrowed = own_counted = 0;
    *unread = 0;
    gathering++;
}

/* Whether the tokens are items, all of them whole; those are `items` then. If not, `unread` says why. */
static bool are_items(u32 from, u32 to, struct item **items)
{
    jmp_buf outer;
    char said[sizeof why];
    memcpy(&outer, &give_up, sizeof outer);
    memcpy(said, why, sizeof said);
    volatile bool are = false;
    if (setjmp(give_up) == 0) {
        look_over_tokens(from, to);
        *items = scan_items(from, to);
        are = true;
    }
    scan_end = UINT32_MAX;
    memcpy(&give_up, &outer, sizeof outer);
    memcpy(unread, why, sizeof unread);
    memcpy(why, said, sizeof said);
    return are;
}

/* Whether the number in a name is one that every unit counts for itself. */
static bool is_numbered(const struct loan *loan, const struct symbol *symbol)
{
    for (u32 i = 0; i < loan->number_count && symbol != NULL; i++)
        if (tokens[loan->first + loan->numbers[i].token].symbol == symbol)
            return true;
    return false;
}

static bool has_numbered_names(const struct loan *loan, const struct item *item)
{
    for (; item != NULL; item = item->next) {
        for (const struct declared *one = item->names; one != NULL; one = one->next)
            if (is_numbered(loan, one->symbol))
                return true;
        for (const struct part *part = item->parts; part != NULL; part = part->next)
            if (is_numbered(loan, part->record != NULL ? part->record->tag : part->enumeration->tag))
                return true;
    }
    return false;
}

struct body_numbers {
    const struct number *at;
    u32 count;
    u32 first; /* the loan's first token */
    const struct lent *lent;
};

/* Leaves numbers in functions to number_body(). Numbers and items are both in the tokens' order. */
static void part_numbers(struct loan *loan)
{
    const struct number *at = loan->numbers, *end = at + loan->number_count;
    struct number *outside = lasting(loan->number_count * sizeof *outside);
    loan->outside = outside;
    for (struct item *item = loan->contents->items; item != NULL; item = item->next) {
        if (item->body == 0)
            continue;
        while (at < end && loan->first + at->token < item->body)
            outside[loan->outside_count++] = *at++;
        const struct number *from = at;
        while (at < end && loan->first + at->token < tokens[item->body].match)
            at++;
        if (at == from)
            continue;
        struct body_numbers *numbers = lasting(sizeof *numbers);
        *numbers = (struct body_numbers){from, (u32)(at - from), loan->first, loan->contents->lent};
        item->body_numbers = numbers;
    }
    while (at < end)
        outside[loan->outside_count++] = *at++;
}

void look_over_loan(struct loan *loan)
{
    u32 end = loan->first + loan->token_count;
    loan->reads_files = has_file_reading(loan->first, end);
    struct item *items;
    if (are_items(loan->first, end, &items) && !has_numbered_names(loan, items)) {
        loan->contents = list_contents(items);
        if (loan->number_count > 0)
            part_numbers(loan);
    }
}

/* Gives a token the number that it has in this unit. */
static void renumber(struct token *token, const struct number *number, u32 counter)
{
    char text[200];
    u32 kept = number->kept;
    if (kept > sizeof text - 12)
        odd("a long name with a number", (u32)(token - tokens));
    memcpy(text, token->at, kept);
    token->length = kept + (u32)sprintf(text + kept, "%u", counter + number->step);
    struct symbol *symbol = intern_kept(text, token->length);
    token->at = symbol->at;
    if (token->kind == T_IDENT) {
        token->symbol = symbol;
        token->code = (unsigned short)symbol->word;
    }
}

static void renumber_all(const struct number *numbers, u32 count, u32 first, u32 counter)
{
    for (u32 i = 0; i < count; i++)
        renumber(&tokens[first + numbers[i].token], &numbers[i], counter);
}

/* Gives a function's body the numbers that it has in this unit; until then it has another's. */
void number_body(struct item *item)
{
    const struct body_numbers *numbers = item->body_numbers;
    if (numbers == NULL || item->numbered_in == gathering)
        return;
    renumber_all(numbers->at, numbers->count, numbers->first, numbers->lent->counter);
    item->numbered_in = gathering;
}

void number_bodies(void)
{
    EACH_ITEM (item)
        number_body(item);
}

static void add_segment(u32 from, u32 to, struct contents *contents, u32 counter, bool reads_files)
{
    if (segment_count == segment_room) {
        segment_room = segment_room ? segment_room * 2 : 4096;
        segments = grown(segments, segment_room * sizeof *segments);
    }
    const struct segment *last = segment_count ? &segments[segment_count - 1] : NULL;
    if (contents != NULL)
        *contents->lent = (struct lent){gathering, segment_count, counter};
    segments[segment_count++] =
        (struct segment){from, to, last == NULL ? 0 : last->place + last->to - last->from, contents, reads_files};
}

/* Where a token stands in the unit. */
u32 place_of(u32 token)
{
    for (u32 i = 0; i < segment_count; i++)
        if (token >= segments[i].from && token < segments[i].to)
            return segments[i].place + token - segments[i].from;
    return token_place();
}

/* Tokens that are in a row but are not known to be items yet; none where from is to. */
struct row {
    u32 from, to;
};

/* To be called where a row may be all that belongs together. Tokens before and behind are others'. */
static bool close_row(struct row *row)
{
    struct item *items;
    if (row->from == row->to)
        return true;
    const struct token *last = &tokens[row->to - 1];
    strcpy(unread, "unfinished declaration");
    if (last->kind != T_PUNCT || (last->punct != ';' && last->punct != '}') ||
        !are_items(row->from, row->to, &items))
        return false;
    add_segment(row->from, row->to, list_contents(items), 0, has_file_reading(row->from, row->to));
    row->from = row->to;
    return true;
}

static void begin_row(struct row *row, u32 at)
{
    if (row->from == row->to)
        row->from = row->to = at;
}

static void add_to_row(struct row *row, u32 from, u32 count)
{
    if (row->to == from) { /* it is there already */
        row->to += count;
        return;
    }
    u32 first = token_count;
    for (u32 i = row->from; row->to != first && i < row->to; i++)
        copy_token(i);
    if (row->to != first)
        row->from = first;
    for (u32 i = from; i < from + count; i++)
        copy_token(i);
    row->to = token_count;
}

void gather_tokens(void)
{
    add_own_span();
    u32 own = token_count - own_counted;
    struct row row = {0, 0};
    for (u32 i = 0; i < span_count; i++) {
        struct span *span = &spans[i];
        struct loan *loan = span->loan;
        if (loan == NULL) {
            begin_row(&row, own);
            add_to_row(&row, own, span->count);
            own += span->count;
            continue;
        }
        bool is_closed = close_row(&row);
        if (is_closed && loan->contents != NULL && loan->contents->lent->to != gathering) {
            renumber_all(loan->outside, loan->outside_count, loan->first, span->counter);
            add_segment(loan->first, loan->first + loan->token_count, loan->contents, span->counter,
                        loan->reads_files);
            continue;
        }
        begin_row(&row, token_count); /* a copy: what is kept may be in the unit twice */
        add_to_row(&row, loan->first, loan->token_count);
        renumber_all(loan->numbers, loan->number_count, row.to - loan->token_count, span->counter);
    }
    end_tokens();
    if (close_row(&row))
        *unread = 0;
    else
        add_segment(row.from, row.to, NULL, 0, has_file_reading(row.from, row.to));
    span_count = borrowed = own_counted = 0;
}

/* Why the tokens that there are cannot be reduced; NULL when they may. */
const char *why_not_gathered(void)
{
    return *unread ? unread : NULL;
}

bool reads_other_files(void)
{
    bool reads = false;
    for (u32 i = 0; i < segment_count && !reads; i++)
        reads = segments[i].reads_files;
    return reads;
}
