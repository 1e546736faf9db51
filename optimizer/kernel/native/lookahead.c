/* A look at a tree before make looks: which objects would come out as they are?
 *
 * kbuild takes an object to be outdated when an option that one of its files mentions has changed,
 * and few of them change. To make's recipe for one belong a dozen processes, whatever is compiled. So
 * when make begins with the objects, those that it would find outdated for no other reason than an
 * option are preprocessed and reduced here, by the command that kbuild wrote down; where the store has
 * the very object that is there, the object is marked as made since the option changed. make then
 * leaves it alone.
 *
 * An object is left to make where anything else is new: its source, a header, its command (make compares
 * that itself). So is one that kbuild's tools have edited, and one whose rule does more for that option
 * than to compile: for kept objects nothing of the rule is run. Where an option has an object read other
 * headers, what kbuild wrote down is written anew.
 */

#define _GNU_SOURCE

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "preprocess.h"

typedef int64_t i64;

struct moment {
    i64 changed; /* a file, in nanoseconds; 0: there is none */
    u32 listed;  /* which recipe named it last */
};
static u32 recipe_number;

int64_t nanoseconds(struct timespec time)
{
    return (i64)time.tv_sec * 1000000000 + time.tv_nsec;
}

static i64 began; /* changes of options before that are those of another build */

void begin_looking(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now); /* no later than what is written from now on */
    began = nanoseconds(now);
}

int64_t changed_at(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 ? nanoseconds(about.st_mtim) : 0;
}

static struct moment *moment_of(const char *path, u32 length)
{
    struct symbol *name = intern_kept(path, length);
    if (name->moment == NULL) {
        char whole[4096];
        name->moment = busy(sizeof *name->moment);
        snprintf(whole, sizeof whole, "%.*s", (int)length, path);
        name->moment->changed = changed_at(whole);
    }
    return name->moment;
}

/* --- what kbuild wrote down */

#define LIST "-Wp,-MMD," /* has the compiler list the headers, in a file that fixdep removes */

static bool is_list(const char *word)
{
    return starts(word, LIST);
}

/* A command as the shell splits it, for what kbuild's have: quotes, and what make would replace. False
 * for anything else. */
static bool split_command(char *text, struct recipe *recipe)
{
    u32 count = 0, room = 64;
    char *put = text;
    recipe->argv = grown(NULL, room * sizeof(char *));
    while (*text != 0) {
        if (*text == ' ') {
            text++;
            continue;
        }
        if (count + 2 > room)
            recipe->argv = grown(recipe->argv, (room *= 2) * sizeof(char *));
        char *word = put, quote = 0;
        for (; *text != 0 && (quote || *text != ' '); text++) {
            if (strncmp(text, "$(pound)", 8) == 0) {
                *put++ = '#';
                text += 7;
            } else if (*text == quote) {
                quote = 0;
            } else if (!quote && (*text == '\'' || *text == '"')) {
                quote = *text;
            } else if (*text == '\\' && text[1] != 0 &&
                       (quote == 0 || (quote == '"' && strchr("$`\"\\", text[1]) != NULL))) {
                *put++ = *++text;
            } else if (*text == '$' || *text == '`' || (!quote && strchr(";&|<>(){}*?~", *text))) {
                return false;
            } else {
                *put++ = *text;
            }
        }
        if (quote)
            return false;
        if (*text != 0)
            text++;
        *put++ = 0; /* not before what is read: at least a space was left out */
        if (is_list(word))
            recipe->list = word + strlen(LIST);
        else
            recipe->argv[count++] = word;
    }
    recipe->argv[count] = NULL;
    return count > 0;
}

/* False for a file that was there already: the compiler lists a header again that it found by another
 * way. */
static bool depend_on_file(const char *path, struct recipe *recipe)
{
    struct moment *moment = moment_of(path, (u32)strlen(path));
    if (moment->listed == recipe_number)
        return false;
    moment->listed = recipe_number;
    recipe->is_makes |= moment->changed == 0 || moment->changed > recipe->made;
    return true;
}

/* An option that changed before this build began was left to the next build that has the object: this
 * one need not have it either. */
static void depend_on_option(const char *path, u32 length, struct recipe *recipe)
{
    /* With these the rule writes down what modules ask for, whatever becomes of the object. */
    static const char *const of_rules[] = {"include/config/MODVERSIONS", "include/config/ASM_MODVERSIONS",
                                           "include/config/TRIM_UNUSED_KSYMS"};
    i64 changed = moment_of(path, length)->changed;
    if (changed <= recipe->made)
        return;
    recipe->is_outdated = true;
    if (changed > recipe->newest)
        recipe->newest = changed;
    recipe->is_makes |= changed < began;
    for (size_t i = 0; i < sizeof of_rules / sizeof *of_rules; i++)
        recipe->is_makes |= strlen(of_rules[i]) == length && memcmp(of_rules[i], path, length) == 0;
}

/* One dependency of the list in the file. */
static void read_dependency(char *at, struct recipe *recipe)
{
    static const char option[] = "$(wildcard include/config/";
    char *end = strstr(at, " \\");
    if (end != NULL)
        *end = 0;
    if (starts(at, option)) {
        at += sizeof "$(wildcard " - 1;
        depend_on_option(at, (u32)strcspn(at, ")"), recipe);
        return;
    }
    if (depend_on_file(at, recipe))
        recipe->headers[recipe->header_count++] = at;
}

static char *copy(const char *text)
{
    size_t size = strlen(text) + 1;
    return memcpy(grown(NULL, size), text, size);
}

bool add_content(const char *path, struct text *text)
{
    char part[1 << 16];
    ssize_t got = -1;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return false;
    while ((got = read(file, part, sizeof part)) > 0)
        text_add(text, part, (size_t)got);
    close(file);
    return got == 0;
}

static void add_file(struct text *text, const char *folder, const char *name)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s%s", folder, name) < (int)sizeof path)
        add_content(path, text);
}

static bool read_recipe(const char *path, struct recipe *recipe)
{
    struct text text = {0};
    recipe_number++;
    add_content(path, &text);
    text_add(&text, "", 1);
    recipe->text = text.at;
    recipe->headers = grown(NULL, (text.length / 2 + 1) * sizeof *recipe->headers);
    bool in_list = false, has_command = false, has_source = false;
    char *rest = recipe->text;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        char *value = strstr(line, " := ");
        if (starts(line, "cmd_") || starts(line, "savedcmd_")) {
            if (value == NULL)
                return false;
            recipe->command = copy(value + 4);
            has_command = split_command(value + 4, recipe);
        } else if (starts(line, "source_")) {
            if (value == NULL)
                return false;
            depend_on_file(value + 4, recipe);
            has_source = true;
        } else if (starts(line, "deps_")) {
            in_list = true;
        } else if (*line == '#') {
            return false; /* versions of symbols, which say more than the object does */
        } else if (in_list && *line == ' ') {
            read_dependency(line + strspn(line, " "), recipe);
        } else {
            in_list = false;
            recipe->has_more |= *line != 0 && strstr(line, "$(deps_") == NULL;
        }
    }
    return has_command && has_source;
}

/* The kernel's own tool makes a description out of a list of headers: it looks for options in them. */
static bool run_fixdep(const struct recipe *recipe, const char *to)
{
    char *const argv[] = {"scripts/basic/fixdep", (char *)recipe->list, (char *)recipe->object,
                          recipe->command, NULL};
    int status, file = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    pid_t child = file < 0 ? -1 : fork();
    if (child == 0) {
        dup2(file, 1);
        execv(argv[0], argv);
        _exit(127);
    }
    if (file >= 0)
        close(file);
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

bool write_recipe(struct recipe *recipe)
{
    char beside[4096];
    if (has_headers(recipe->headers, recipe->header_count))
        return true;
    recipe->is_rewritten = true;
    if (recipe->list == NULL || recipe->has_more ||
        snprintf(beside, sizeof beside, "%s.part", recipe->path) >= (int)sizeof beside)
        return false;
    if (setjmp(give_up) != 0)
        return false;
    bool is_written = write_list(recipe->list) && run_fixdep(recipe, beside) &&
                      rename(beside, recipe->path) == 0;
    unlink(recipe->list);
    unlink(beside);
    return is_written;
}

/* As new as the last of the options that it was found outdated for, and no newer: so it is older than all
 * that is written meanwhile. Among those that a new description has there may be newer ones, which is for
 * make to see. */
bool keep_object(const struct recipe *recipe)
{
    const struct timespec then = {recipe->newest / 1000000000, recipe->newest % 1000000000};
    if (utimensat(AT_FDCWD, recipe->object, (const struct timespec[]){then, then}, 0) != 0)
        return false;
    *recipe->is_settled = !recipe->is_rewritten;
    note("kept", recipe->object, "");
    return true;
}

static void forget_recipe(struct recipe *recipe)
{
    free(recipe->text);
    free(recipe->command);
    free(recipe->argv);
    free(recipe->headers);
}

/* Where kbuild's description of an object is. */
static void describe(const char *object, char path[4096])
{
    const char *slash = strrchr(object, '/');
    int folder = slash == NULL ? 0 : (int)(slash - object) + 1;
    snprintf(path, 4096, "%.*s.%s.cmd", folder, object, object + folder);
}

bool is_new_command(const char *object, char **argv)
{
    struct recipe recipe = {0};
    char path[4096];
    describe(object, path);
    bool is_new = false;
    if (read_recipe(path, &recipe)) {
        char **before = recipe.argv;
        for (; *argv != NULL && !is_new; argv++)
            if (!is_list(*argv))
                is_new = *before == NULL || strcmp(*argv, *before++) != 0;
        is_new |= *before != NULL;
    }
    forget_recipe(&recipe);
    return is_new;
}

/* --- the look */

/* Whether the last build put an object into the archive of the folder that it is made in. What an option
 * that is off has left in the tree is in none. The archives are thin: they hold the names of their objects,
 * from their folder, those of the folders below among them. */
static bool is_in_use(const char *object)
{
    static struct text names;
    static char last[4096];
    char line[4096];
    int folder = (int)folder_above(object);
    int length = snprintf(line, sizeof line, "\n%s/\n", object + folder);
    if (length >= (int)sizeof line)
        return false;
    if (names.at == NULL || strncmp(last, object, (size_t)folder) != 0 || last[folder] != 0) {
        names.length = 0;
        snprintf(last, sizeof last, "%.*s", folder, object);
        text_add(&names, "", 1); /* there is a text */
        add_file(&names, last, "built-in.a");
        add_file(&names, last, "lib.a");
    }
    return memmem(names.at, names.length, line, (size_t)length) != NULL;
}

static char **objects; /* that there are descriptions of */
static u32 object_count, object_room;

static struct { /* for all that look */
    u32 next;
    bool is_settled[]; /* of each object: make has nothing to do for it */
} *shared;

/* A path that may be ".../.x.o.cmd", of the object ".../x.o". */
static int find_object(const char *path, const struct stat *about, int kind, struct FTW *where)
{
    static const char *const not_ours[] = {"./scripts", "./tools", "./include"};
    (void)about;
    if (kind == FTW_D)
        for (size_t i = 0; i < sizeof not_ours / sizeof *not_ours; i++)
            if (strcmp(path, not_ours[i]) == 0)
                return FTW_SKIP_SUBTREE;
    size_t length = strlen(path), folder = (size_t)where->base;
    if (kind != FTW_F || path[folder] != '.' || length < folder + 8 || length >= 4096 ||
        strcmp(path + length - 6, ".o.cmd") != 0)
        return FTW_CONTINUE;
    if (object_count == object_room)
        objects = grown(objects, (object_room = object_room ? object_room * 2 : 2048) * sizeof *objects);
    char *object = objects[object_count++] = copy(path + 2);
    snprintf(object + folder - 2, length - folder, "%.*s", (int)(length - folder - 5), path + folder + 1);
    return FTW_CONTINUE;
}

bool find_objects(bool *are_all)
{
    /* Where a folder is gone meanwhile, it ends. */
    *are_all = nftw(".", find_object, 16, FTW_PHYS | FTW_ACTIONRETVAL) == 0;
    shared = mmap(NULL, sizeof *shared + object_count * sizeof *shared->is_settled, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        object_count = 0;
    return object_count > 0;
}

void look_ahead(bool (*consider)(struct recipe *recipe), u32 most)
{
    bool goes_on = true;
    /* A header that changes from here on is newer than what is kept, which make sees, or the next look. */
    unchanged_since = unit_number + 1;
    while (goes_on && most > 0) {
        u32 i = __atomic_fetch_add(&shared->next, 1, __ATOMIC_RELAXED);
        char path[4096];
        if (i >= object_count)
            break;
        describe(objects[i], path);
        struct recipe recipe = {.object = objects[i], .path = path, .made = changed_at(objects[i]),
                                .is_settled = &shared->is_settled[i]};
        if (!is_in_use(objects[i])) {
            *recipe.is_settled = true;
        } else if (recipe.made > 0 && read_recipe(path, &recipe)) {
            *recipe.is_settled = !recipe.is_outdated && !recipe.is_makes;
            if (recipe.is_outdated && !recipe.is_makes) {
                goes_on = consider(&recipe);
                most--;
            }
        }
        forget_recipe(&recipe);
    }
    unchanged_since = 0;
}

void each_unsettled(void (*tell)(const char *object))
{
    for (u32 i = 0; i < object_count; i++)
        if (!shared->is_settled[i])
            tell(objects[i]);
}
