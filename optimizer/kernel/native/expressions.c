/* Expressions, initializers and statements: their types, and what they use. */

#include <string.h>

#include "unit.h"

static struct type *pointed(struct type *type)
{
    if (type->shape == S_POINTER || type->shape == S_ARRAY)
        return type->to;
    if (type->shape == S_FUNCTION)
        return type;
    return &unknown_type;
}

/* Functions that the compiler knows, and calls where the source does not. */
const char *const known_functions[] = {
    "memcpy", "memset", "memmove", "memcmp", "memchr", "bcmp", "bzero", "mempcpy", "strlen",
    "strnlen", "strcpy", "stpcpy", "strncpy", "strcat", "strncat", "strcmp", "strncmp", "strchr",
    "strrchr", "strstr", "strpbrk", "strspn", "strcspn", "sprintf", "snprintf", "vsprintf",
    "vsnprintf", "printf", "vprintf", "puts", "putchar", "abort", "index", "rindex",
    "__stack_chk_fail", "__stack_chk_guard", "strcasecmp", "strncasecmp", "strdup", "strndup",
    "calloc", "malloc", "free", "realloc", "ffs", "ffsl", "ffsll", "abs", "labs", "llabs",
};

const size_t known_function_count = sizeof known_functions / sizeof *known_functions;

static bool is_memory_function(const struct symbol *symbol)
{
    if (symbol->length > 10 && memcmp(symbol->at, "__builtin_", 10) == 0)
        return true;
    for (size_t i = 0; i < known_function_count; i++)
        if (is(symbol, known_functions[i]))
            return true;
    return false;
}

/* Whether a function of this unit may hand its arguments to a builtin that copies memory: the
 * compiler looks at the size of what such an argument points to, after inlining too. */
static bool copies(struct name *name)
{
    if (name->copies != 0)
        return name->copies == 1;
    name->copies = 2;
    bool found = false;
    for (struct declaration *one = name->first; one != NULL && !found; one = one->next) {
        if (one->item->body == 0)
            continue;
        number_body(one->item);
        u32 stop = tokens[one->item->body].match;
        for (u32 i = one->item->body; i < stop && !found; i++) {
            if (tokens[i].kind != T_IDENT || tokens[i + 1].punct != '(')
                continue;
            struct symbol *symbol = tokens[i].symbol;
            if (symbol->length > 13 && memcmp(symbol->at, "__builtin_mem", 13) == 0)
                found = true;
            else if (symbol->length > 13 && memcmp(symbol->at, "__builtin_str", 13) == 0)
                found = true;
            else if (symbol->length > 5 &&
                     (symbol->length < 10 || memcmp(symbol->at, "__builtin_", 10) != 0) &&
                     is_memory_function(symbol))
                found = true;
            else if (is_object(symbol) && name_of(symbol) != name)
                found = copies(name_of(symbol));
        }
    }
    name->copies = found ? 1 : -1;
    return found;
}

static struct type *parse_arguments(struct type *function, bool copied)
{
    u32 stop = tokens[p].match;
    p++;
    while (p < stop) {
        struct type *type = parse_assignment();
        use_value(type);
        if (copied && (type->shape == S_POINTER || type->shape == S_ARRAY) &&
            type->to->shape == S_RECORD && type->to->record->body != 0)
            need_complete(type->to);
        if (p < stop)
            want(',');
    }
    p = stop + 1;
    if (function->shape == S_POINTER)
        function = function->to;
    if (function->shape != S_FUNCTION)
        return &unknown_type;
    use_value(function->to);
    return function->to;
}

static struct type *parse_builtin(struct symbol *symbol)
{
    static const char *const pointers[] = {
        "memcpy", "memmove", "memset", "mempcpy", "alloca", "return_address", "frame_address",
        "strchr", "strrchr", "strcpy", "strncpy", "strcat", "strstr", "extract_return_addr",
        "memchr", "assume_aligned", "malloc", "stpcpy", "strncat", "strpbrk", "alloca_with_align",
        "__memcpy_chk", "__memset_chk", "__memmove_chk",
    };
    if (!at('('))
        return &unknown_type;
    static struct type none = {.shape = S_FUNCTION, .to = &int_type};
    parse_arguments(&none, symbol->length > 13 && (memcmp(symbol->at + 10, "mem", 3) == 0 ||
                                                   memcmp(symbol->at + 10, "str", 3) == 0 ||
                                                   memcmp(symbol->at + 10, "__m", 3) == 0));
    for (size_t i = 0; i < sizeof pointers / sizeof *pointers; i++)
        if (symbol->length == 10 + strlen(pointers[i]) &&
            memcmp(symbol->at + 10, pointers[i], symbol->length - 10) == 0)
            return &void_pointer;
    return &int_type;
}

static bool same_type(const struct type *one, const struct type *other)
{
    while (one != other) {
        if (one->shape != other->shape)
            return false;
        if (one->shape == S_BASIC)
            return true; /* any arithmetic will do: nothing has a size to find out */
        if (one->shape == S_RECORD)
            return one->record == other->record;
        if (one->shape == S_UNKNOWN)
            return true;
        one = one->to;
        other = other->to;
    }
    return true;
}

static bool is_void_pointer(const struct type *type)
{
    return type->shape == S_POINTER && type->to->shape == S_BASIC;
}

/* The type of an expression that is either of two. */
static struct type *either(struct type *one, struct type *other)
{
    if (one->shape == S_ARRAY)
        one = type_of(S_POINTER, one->to);
    if (other->shape == S_ARRAY)
        other = type_of(S_POINTER, other->to);
    if (one->shape == S_FUNCTION)
        one = type_of(S_POINTER, one);
    if (other->shape == S_FUNCTION)
        other = type_of(S_POINTER, other);
    if (same_type(one, other))
        return one;
    if (one->shape == S_POINTER && (other->shape == S_BASIC || is_void_pointer(other)))
        return one; /* a null pointer, or a pointer to void */
    if (other->shape == S_POINTER && (one->shape == S_BASIC || is_void_pointer(one)))
        return other;
    return &unknown_type;
}

static struct type *parse_generic(void)
{
    u32 stop = tokens[p + 1].match;
    p++;
    want('(');
    struct type *control = parse_assignment(), *fallback = NULL, *labelled = NULL, *any = NULL;
    bool alike = true;
    while (p < stop) {
        want(',');
        struct type *label = NULL;
        if (word() == W_DEFAULT)
            p++;
        else
            label = parse_type_name();
        want(':');
        struct type *value = parse_assignment();
        use_value(value);
        any = any == NULL ? value : any;
        alike &= same_type(any, value);
        if (label == NULL)
            fallback = value;
        else if (label->shape != S_BASIC || value->shape != S_BASIC)
            control = &unknown_type; /* which one is taken is not decided here */
        else
            labelled = value;
    }
    want(')');
    if (any != NULL && alike)
        return any;
    /* The labels are arithmetic types with arithmetic values. */
    if (control->shape == S_BASIC)
        return fallback == NULL || labelled == NULL ? &unknown_type : either(labelled, fallback);
    return control->shape == S_UNKNOWN || fallback == NULL ? &unknown_type : fallback;
}

static struct type *parse_primary(void)
{
    struct token *token = &tokens[p];
    if (token->kind == T_NUMBER || token->kind == T_CHAR) {
        p++;
        return &int_type;
    }
    if (token->kind == T_STRING) {
        while (tokens[p].kind == T_STRING)
            p++;
        return &string_type;
    }
    if (at('(')) {
        p++;
        struct type *type;
        if (at('{')) {
            type = parse_compound();
            use_value(type);
        } else {
            type = parse_expression();
        }
        want(')');
        return type;
    }
    if (token->kind != T_IDENT)
        odd("expression", p);
    struct symbol *symbol = token->symbol;
    switch (symbol->word) {
    case W_NONE:
        break;
    case W_GENERIC:
        return parse_generic();
    case W_OFFSETOF: {
        p++;
        want('(');
        struct type *type = parse_type_name();
        want(',');
        type = take_member(type);
        for (;;) {
            if (at('.')) {
                p++;
                type = take_member(type);
            } else if (at('[')) {
                p++;
                parse_expression();
                want(']');
                step(type);
                type = pointed(type);
            } else {
                break;
            }
        }
        want(')');
        return &int_type;
    }
    case W_VA_ARG: {
        p++;
        want('(');
        parse_assignment();
        want(',');
        struct type *type = parse_type_name();
        want(')');
        need_complete(type);
        return type;
    }
    case W_COMPATIBLE:
        p++;
        want('(');
        parse_type_name();
        want(',');
        parse_type_name();
        want(')');
        return &int_type;
    case W_HAS_ATTRIBUTE: {
        u32 stop = tokens[p + 1].match;
        p++;
        want('(');
        if (is_type_start(p))
            odd("attribute of a type", p);
        /* Its declarations are reached, and with them their attributes; its type's are in its body. */
        struct type *asked = parse_assignment();
        if (asked->shape != S_FUNCTION)
            need_complete(asked);
        want(',');
        if (p + 1 != stop)
            odd("attribute with arguments", p);
        p++;
        want(')');
        return &int_type;
    }
    case W_CHOOSE: {
        p++;
        want('(');
        parse_assignment();
        want(',');
        struct type *one = parse_assignment();
        want(',');
        struct type *other = parse_assignment();
        want(')');
        return same_type(one, other) ? one : &unknown_type;
    }
    default:
        odd("word in an expression", p);
    }
    p++;
    if (frame != 0 && symbol->local != NULL && symbol->local->frame == frame) {
        struct local *local = symbol->local;
        if (local->what == N_TYPEDEF)
            odd("type in an expression", p);
        symbol->is_public |= local->type->shape == S_FUNCTION && !at('('); /* its address may be kept */
        return local->type;
    }
    struct name *name = name_of(symbol);
    if (name != NULL) {
        if (name->what == N_TYPEDEF)
            odd("type in an expression", p);
        struct type *type = resolve(name);
        reach(name);
        return type;
    }
    if (symbol->length > 10 && memcmp(symbol->at, "__builtin_", 10) == 0)
        return parse_builtin(symbol);
    if (symbol->length > 7 && (memcmp(symbol->at, "__sync_", 7) == 0 ||
                               memcmp(symbol->at, "__atomi", 7) == 0)) {
        static struct type none = {.shape = S_FUNCTION, .to = &int_type};
        parse_arguments(&none, true);
        return &int_type;
    }
    if (is(symbol, "__func__") || is(symbol, "__FUNCTION__") || is(symbol, "__PRETTY_FUNCTION__"))
        return &string_type;
    odd("name without a declaration", p - 1);
}

static struct type *parse_postfix(struct type *type, struct name *called)
{
    for (;;) {
        if (at('[')) {
            p++;
            struct type *index = parse_expression();
            want(']');
            if (type->shape != S_POINTER && type->shape != S_ARRAY)
                type = index;
            step(type);
            type = pointed(type);
        } else if (at('(')) {
            bool copied = called != NULL && (is_memory_function(called->symbol) || copies(called));
            type = parse_arguments(type, copied);
        } else if (at('.')) {
            p++;
            type = take_member(type);
        } else if (at_code(CODE('-', '>'))) {
            p++;
            type = take_member(pointed(type));
        } else if (at_code(CODE('+', '+')) || at_code(CODE('-', '-'))) {
            p++;
            step(type);
        } else {
            return type;
        }
        called = NULL;
    }
}

struct type *parse_unary(void)
{
    if (tokens[p].kind == T_PUNCT) {
        if (at('&')) {
            p++;
            return type_of(S_POINTER, parse_unary());
        }
        if (at_code(CODE('&', '&'))) { /* a label's address */
            p += 2;
            return &void_pointer;
        }
        if (at('*')) {
            p++;
            struct type *type = parse_unary();
            if (type->shape == S_BASIC)
                odd("dereference", p);
            return pointed(type);
        }
        if (at('-') || at('+') || at('~') || at('!')) {
            bool truth = at('!');
            p++;
            struct type *type = parse_unary();
            use_value(type);
            return truth || type->shape != S_UNKNOWN ? &int_type : type;
        }
        if (at_code(CODE('+', '+')) || at_code(CODE('-', '-'))) {
            p++;
            struct type *type = parse_unary();
            step(type);
            return type;
        }
        if (at('(') && is_type_start(p + 1)) {
            p++;
            struct type *type = parse_type_name();
            want(')');
            if (at('{')) {
                need_complete(type);
                parse_initializer();
                return parse_postfix(type, NULL);
            }
            struct type *inner = parse_unary();
            use_value(inner);
            use_value(type);
            return type;
        }
    }
    switch (word()) {
    case W_SIZEOF: case W_ALIGNOF: {
        p++;
        struct type *type;
        if (at('(') && is_type_start(p + 1)) {
            p++;
            type = parse_type_name();
            want(')');
            if (at('{')) {
                parse_initializer();
                type = parse_postfix(type, NULL);
            }
        } else {
            type = parse_unary();
        }
        if (type->shape != S_FUNCTION)
            need_size(type);
        return &int_type;
    }
    case W_EXTENSION: case W_REAL:
        p++;
        return parse_unary();
    default:
        break;
    }
    struct name *called = NULL;
    if (is_identifier(p) && tokens[p + 1].punct == '(') {
        struct symbol *symbol = tokens[p].symbol;
        if (!(frame != 0 && symbol->local != NULL && symbol->local->frame == frame))
            called = name_of(symbol);
    }
    return parse_postfix(parse_primary(), called);
}

/* Binding strength of a binary operator at p, 0 for none. */
int strength(void)
{
    if (tokens[p].kind != T_PUNCT)
        return 0;
    switch (tokens[p].punct) {
    case '*': case '/': case '%': return 10;
    case '+': case '-': return 9;
    case '<': case '>': return 7;
    case '&': return 5;
    case '^': return 4;
    case '|': return 3;
    case 0: break;
    default: return 0;
    }
    switch (tokens[p].code) {
    case CODE('<', '<'): case CODE('>', '>'): return 8;
    case CODE('<', '='): case CODE('>', '='): return 7;
    case CODE('=', '='): case CODE('!', '='): return 6;
    case CODE('&', '&'): return 2;
    case CODE('|', '|'): return 1;
    default: return 0;
    }
}

static struct type *parse_binary(int least)
{
    struct type *left = parse_unary();
    for (;;) {
        int mine = strength();
        if (mine == 0 || mine < least)
            return left;
        bool additive = mine == 9, minus = at('-');
        p++;
        struct type *right = parse_binary(mine + 1);
        use_value(left);
        use_value(right);
        if (!additive) {
            left = &int_type;
            continue;
        }
        bool left_points = left->shape == S_POINTER || left->shape == S_ARRAY;
        bool right_points = right->shape == S_POINTER || right->shape == S_ARRAY;
        if (left_points)
            step(left);
        if (right_points)
            step(right);
        if (left_points && right_points && minus)
            left = &int_type;
        else if (left_points)
            left = type_of(S_POINTER, left->to);
        else if (right_points)
            left = type_of(S_POINTER, right->to);
        else if (left->shape == S_UNKNOWN || right->shape == S_UNKNOWN)
            left = &unknown_type;
        else
            left = &int_type;
    }
}

struct type *parse_conditional(void)
{
    struct type *condition = parse_binary(1);
    if (!at('?'))
        return condition;
    p++;
    use_value(condition);
    struct type *one = condition;
    if (!at(':'))
        one = parse_expression();
    want(':');
    struct type *other = parse_conditional();
    use_value(one);
    use_value(other);
    return either(one, other);
}

struct type *parse_assignment(void)
{
    struct type *left = parse_conditional();
    unsigned code = tokens[p].kind == T_PUNCT ? tokens[p].code : 0;
    if (at('=')) {
        p++;
        struct type *right = parse_assignment();
        use_value(left);
        use_value(right);
        return left;
    }
    if (code == CODE('+', '=') || code == CODE('-', '=')) {
        p++;
        use_value(parse_assignment());
        step(left);
        return left;
    }
    if (code == CODE('*', '=') || code == CODE('/', '=') || code == CODE('%', '=') ||
        code == CODE('&', '=') || code == CODE('|', '=') || code == CODE('^', '=') ||
        code == CODE3('<', '<') || code == CODE3('>', '>')) {
        p++;
        use_value(parse_assignment());
        return left;
    }
    return left;
}

struct type *parse_expression(void)
{
    struct type *type = parse_assignment();
    while (at(',')) {
        use_value(type);
        p++;
        type = parse_assignment();
    }
    return type;
}

void parse_initializer(void)
{
    if (!at('{')) {
        use_value(parse_assignment());
        return;
    }
    u32 stop = tokens[p].match;
    p++;
    while (p < stop) {
        bool designated = false;
        for (;;) {
            if (at('.') && tokens[p + 1].kind == T_IDENT) {
                p += 2;
                designated = true;
            } else if (at('[')) {
                p++;
                parse_conditional();
                if (at_code(CODE3('.', '.'))) {
                    p++;
                    parse_conditional();
                }
                want(']');
                designated = true;
            } else {
                break;
            }
        }
        if (designated && at('='))
            p++;
        else if (!designated && tokens[p].kind == T_IDENT && tokens[p + 1].punct == ':')
            p += 2;
        parse_initializer();
        if (p < stop)
            want(',');
    }
    p = stop + 1;
}

static void parse_asm(void) /* from 'asm' to past the brackets */
{
    p++;
    while (word() == W_QUALIFIER || word() == W_INLINE || word() == W_GOTO)
        p++;
    if (!at('('))
        odd("asm", p);
    u32 stop = tokens[p].match;
    int section = 0;
    p++;
    while (p < stop) {
        if (at(':')) {
            section++;
            p++;
        } else if (section == 0) {
            if (tokens[p].kind != T_STRING)
                odd("asm", p);
            p++;
        } else if (section <= 2) {
            if (at('[')) { /* a name that the text of the assembly has too */
                if (tokens[p + 1].kind == T_IDENT)
                    tokens[p + 1].symbol->is_public = true;
                p = tokens[p].match + 1;
            } else if (tokens[p].kind == T_STRING) {
                p++;
            } else if (at('(')) {
                u32 end = tokens[p].match;
                p++;
                struct type *type = parse_expression();
                use_value(type);
                if (p != end)
                    odd("asm operand", p);
                p++;
            } else {
                want(',');
            }
        } else { /* labels too have names in the text */
            if (tokens[p].kind == T_IDENT)
                tokens[p].symbol->is_public = true;
            p++;
        }
    }
    p++;
}

#define NOWHERE UINT32_MAX /* a declaration of which too little is known begins there */

/* Whether a declaration says __attribute__((error("..."))), and by attributes no more than that it does
 * not return: a call that is not optimized away is an error then, and nothing has the name. */
static bool is_uncallable(u32 from, u32 to)
{
    bool is_so = false;
    for (u32 i = from; i < to; i++) {
        if (word_at(i) == W_ASM || word_at(i) == W_ALIGNAS)
            return false;
        if (word_at(i) != W_ATTRIBUTE)
            continue;
        for (u32 end = tokens[i + 1].match; i < end; i++) {
            const struct symbol *name = is_identifier(i) ? tokens[i].symbol : NULL;
            bool is_error = name != NULL && (is(name, "error") || is(name, "__error__"));
            if (name != NULL && !is_error && !is(name, "noreturn") && !is(name, "__noreturn__"))
                return false;
            is_so |= is_error;
        }
    }
    return is_so;
}

/* Notes of a block's own name whether an object may have it. A variable that is no more than a number or
 * an address is in none; another may be made a static one, under its name. */
static void note_visibility(struct symbol *symbol, const struct specifiers *found, const struct type *type,
                            u32 from)
{
    bool is_number = (type->shape == S_BASIC || type->shape == S_POINTER) && !found->is_extern &&
                     !found->is_static;
    bool is_private = type->shape == S_FUNCTION ? is_uncallable(from, p) : is_number;
    symbol->is_private |= is_private;
    symbol->is_public |= !is_private;
}

static void parse_local_declaration(void)
{
    if (word_at(skip_attributes(p)) == W_STATIC_ASSERT) {
        p = skip_attributes(p) + 1;
        want('(');
        parse_conditional();
        if (at(',')) {
            p++;
            parse_primary();
        }
        want(')');
        want(';');
        return;
    }
    struct specifiers found;
    u32 start = p;
    struct type *base = parse_specifiers(&found);
    if (at(';')) {
        p++;
        return;
    }
    for (;;) {
        struct symbol *symbol = NULL;
        struct type *type = base;
        type = parse_declarator(base, &symbol);
        if (symbol == NULL)
            odd("declaration", p);
        while (word() == W_ASM || word() == W_ATTRIBUTE) {
            symbol->is_public |= word() == W_ASM;
            if (word() == W_ASM)
                p = tokens[p + 1].match + 1;
            else
                parse_attributes();
        }
        if (found.is_typedef) {
            symbol->is_public = true;
            bind_name(symbol, N_TYPEDEF, type);
        } else if (found.is_auto_type) {
            want('=');
            type = parse_assignment();
            use_value(type);
            if (type->shape == S_ARRAY)
                type = type_of(S_POINTER, type->to);
            note_visibility(symbol, &found, type, p);
            bind_name(symbol, N_OBJECT, type);
        } else {
            if (type->shape == S_FUNCTION || found.is_extern) {
                if (is_object(symbol))
                    reach(name_of(symbol)); /* the same as the one of file scope */
            }
            note_visibility(symbol, &found, type, start);
            if (type->shape != S_FUNCTION)
                need_complete(type);
            bind_name(symbol, N_OBJECT, type);
            if (at('=')) {
                p++;
                parse_initializer();
            }
        }
        if (at(';'))
            break;
        if (at('{'))
            odd("function in a function", p);
        want(',');
        start = NOWHERE; /* what is said of the first is not all that is said of the next */
    }
    p++;
}

/* A statement; its type when it is an expression, for the value of ({ }). */
static struct type *parse_statement(void)
{
    while (is_identifier(p) && tokens[p + 1].kind == T_PUNCT && tokens[p + 1].punct == ':') {
        p += 2; /* a label */
        while (word() == W_ATTRIBUTE)
            parse_attributes();
        if (at('}'))
            return &void_type;
    }
    if (at('{'))
        return parse_compound(), &void_type;
    if (at(';')) {
        p++;
        return &void_type;
    }
    switch (word()) {
    case W_IF: case W_SWITCH: case W_WHILE: {
        bool is_if = word() == W_IF;
        p++;
        want('(');
        use_value(parse_expression());
        want(')');
        parse_statement();
        if (is_if && word() == W_ELSE) {
            p++;
            parse_statement();
        }
        return &void_type;
    }
    case W_DO:
        p++;
        parse_statement();
        if (word() != W_WHILE)
            odd("do without while", p);
        p++;
        want('(');
        use_value(parse_expression());
        want(')');
        want(';');
        return &void_type;
    case W_FOR: {
        struct scope scope = open_scope();
        p++;
        want('(');
        if (is_declaration_start(p)) {
            parse_local_declaration();
        } else {
            if (!at(';'))
                use_value(parse_expression());
            want(';');
        }
        if (!at(';'))
            use_value(parse_expression());
        want(';');
        if (!at(')'))
            use_value(parse_expression());
        want(')');
        parse_statement();
        close_scope(scope);
        return &void_type;
    }
    case W_CASE:
        p++;
        parse_conditional();
        if (at_code(CODE3('.', '.'))) {
            p++;
            parse_conditional();
        }
        want(':');
        if (at('}'))
            return &void_type;
        return parse_statement();
    case W_DEFAULT:
        p++;
        want(':');
        if (at('}'))
            return &void_type;
        return parse_statement();
    case W_RETURN:
        p++;
        if (!at(';'))
            use_value(parse_expression());
        want(';');
        return &void_type;
    case W_GOTO:
        p++;
        if (at('*')) {
            p++;
            parse_expression();
        } else {
            p++;
        }
        want(';');
        return &void_type;
    case W_BREAK: case W_CONTINUE:
        p++;
        want(';');
        return &void_type;
    case W_ASM:
        parse_asm();
        want(';');
        return &void_type;
    case W_LABEL:
        while (!at(';'))
            p++;
        p++;
        return &void_type;
    case W_ATTRIBUTE: {
        u32 after = skip_attributes(p);
        if (tokens[after].kind == T_PUNCT && tokens[after].punct == ';') {
            parse_attributes();
            p++;
            return &void_type;
        }
        break;
    }
    default:
        break;
    }
    if (is_declaration_start(p)) {
        parse_local_declaration();
        return &void_type;
    }
    struct type *type = parse_expression();
    use_value(type);
    want(';');
    return type;
}

struct type *parse_compound(void)
{
    if (!at('{'))
        odd("block", p);
    u32 stop = tokens[p].match;
    struct scope scope = open_scope();
    struct type *type = &void_type;
    p++;
    while (p < stop)
        type = parse_statement();
    if (p != stop)
        odd("block", p);
    p++;
    close_scope(scope);
    return type;
}
