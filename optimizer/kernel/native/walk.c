/* make's stand-in, called by make's own name through PATH: kbuild starts a make for each of five hundred
 * folders, of which a variant changes a few. One whose folder has nothing to do (settled.c) ends here; all
 * others become make.
 *
 * What a walk was like is written down, for the next one: of each folder, a digest of all that its make
 * was told (arguments and environment, where kbuild hands down the options of the compiler), beside
 * them the options of the configuration. That record counts only where the whole build came to its end:
 *
 *   FILE      the last walk, until the next build begins
 *   FILE.old  the same, while a build is under way
 *   FILE.new  the walk under way, a line a folder; gone when one could not be written
 *
 * Environment:
 *   MEMTOTAL_MAKE  path of make
 *   MEMTOTAL_WALK  FILE, in the output folder; without it every folder is make's
 */

#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "objcache.h"

#define MOST_WORDS 4096 /* of an environment */
#define BEGAN "began"   /* in place of "made": when the walk did */
#define UNKNOWN "-"     /* in place of a digest */

extern char **environ;

static bool walk_file(const char *ending, char path[PATH_MAX])
{
    const char *file = getenv("MEMTOTAL_WALK");
    return file != NULL && *file == '/' && snprintf(path, PATH_MAX, "%s%s", file, ending) < PATH_MAX;
}

/* --- the stand-in */

/* The folder of objects that kbuild has make build whole, and the source tree; false for any other call. */
static bool is_for_folder(char **argv, const char **folder, char source[PATH_MAX])
{
    static const char rules[] = "/scripts/Makefile.build", builtin[] = "need-builtin=";
    static const char *const needs[] = {builtin, "need-modorder="};
    bool is_of_kernel = false; /* no tool of kbuild's own */
    *folder = NULL;
    *source = 0;
    for (char **word = argv + 1; *word != NULL; word++) {
        bool is_known = **word == 0 || strcmp(*word, "single-build=") == 0;
        for (size_t i = 0; i < sizeof needs / sizeof *needs; i++)
            is_known |= starts(*word, needs[i]);
        is_of_kernel |= starts(*word, builtin);
        if (strcmp(*word, "-f") == 0 && word[1] != NULL && *source == 0) {
            const char *file = *++word;
            size_t length = strlen(file), end = sizeof rules - 1;
            if (length <= end || length >= PATH_MAX || strcmp(file + length - end, rules) != 0)
                return false;
            sprintf(source, "%.*s", (int)(length - end), file);
        } else if (starts(*word, "obj=") && *folder == NULL) {
            *folder = *word + strlen("obj=");
        } else if (!is_known) {
            return false;
        }
    }
    return is_of_kernel && *folder != NULL && *source != 0 && **folder != 0 && **folder != '/' &&
           strpbrk(*folder, " \n") == NULL && strstr(*folder, "..") == NULL;
}

static int in_order(const void *one, const void *other)
{
    return strcmp(*(char *const *)one, *(char *const *)other);
}

/* make's flags, but for how many jobs there are and where their tokens lie. */
static void digest_flags(struct digest *digest, const char *flags)
{
    for (; *flags != 0; flags += strspn(flags, " ")) {
        size_t length = strcspn(flags, " ");
        if (!starts(flags, "-j") && !starts(flags, "--jobserver-"))
            digest_add(digest, flags, length + 1);
        flags += length;
    }
}

/* All that make is told. */
static bool digest_call(char **argv, char hex[DIGEST_HEX])
{
    static const char *const others[] = {"MFLAGS=", "MEMTOTAL_SERVER=", "_="};
    char *variables[MOST_WORDS];
    size_t count = 0;
    for (char **one = environ; *one != NULL; one++) {
        bool is_other = false;
        for (size_t i = 0; i < sizeof others / sizeof *others; i++)
            is_other |= starts(*one, others[i]);
        if (count == MOST_WORDS) {
            strcpy(hex, UNKNOWN);
            return false;
        }
        if (!is_other)
            variables[count++] = *one;
    }
    qsort(variables, count, sizeof *variables, in_order);
    struct digest *digest = digest_new();
    for (char **word = argv + 1; *word != NULL; word++)
        digest_add(digest, *word, strlen(*word) + 1);
    for (size_t i = 0; i < count; i++)
        if (starts(variables[i], "MAKEFLAGS="))
            digest_flags(digest, variables[i]);
        else
            digest_add(digest, variables[i], strlen(variables[i]) + 1);
    digest_end(digest, hex);
    return true;
}

/* Whether make is to take something for made that is not, or the other way round. Its flags of one letter
 * come first, without a dash. */
static bool has_odd_flags(void)
{
    const char *flags = getenv("MAKEFLAGS");
    size_t length = flags == NULL || *flags == '-' ? 0 : strcspn(flags, " ");
    return strcspn(flags == NULL ? "" : flags, "Binqt") < length;
}

static bool is_set(const char *variable)
{
    const char *value = getenv(variable);
    return value != NULL && *value != 0;
}

static bool add_line(const char *path, const char *line)
{
    int file = open(path, O_WRONLY | O_APPEND | O_CLOEXEC); /* what is gone stays gone */
    size_t length = strlen(line);
    bool is_written = file >= 0 && write(file, line, length) == (ssize_t)length;
    if (file >= 0)
        close(file);
    return is_written;
}

bool is_make(const char *name)
{
    const char *slash = strrchr(name, '/');
    return strcmp(slash == NULL ? name : slash + 1, "make") == 0;
}

int run_make(char **argv)
{
    char walk[PATH_MAX], source[PATH_MAX], hex[DIGEST_HEX], line[PATH_MAX + 128];
    const char *make = getenv("MEMTOTAL_MAKE"), *folder;
    if (walk_file(".new", walk) && is_for_folder(argv, &folder, source)) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME_COARSE, &now); /* no later than what is written from now on */
        int code = 1;
        char *question[] = {"make", (char *)folder, hex, source, NULL};
        bool is_known = digest_call(argv, hex);
        /* Modules are in no archive, and of a plugin of the compiler only the name is told. */
        bool may_leave = is_known && !has_odd_flags() && !is_set("KBUILD_MODULES") && !is_set("GCC_PLUGINS_CFLAGS");
        bool is_left = may_leave && ask_server(question, &code) && code == 0;
        int length = snprintf(line, sizeof line, "%s %lld %s %s\n", is_left ? "left" : "made",
                              (long long)now.tv_sec * 1000000000 + now.tv_nsec, hex, folder);
        /* Of a walk of which a folder's line is missing, the next one would know too little. */
        if (!is_known || length >= (int)sizeof line || !add_line(walk, line))
            unlink(walk);
        if (is_left)
            return 0;
    }
    if (make == NULL || *make != '/') {
        fputs("memtotal: MEMTOTAL_MAKE is not the path of make\n", stderr);
        return 127;
    }
    execv(make, argv);
    fprintf(stderr, "%s: %s\n", make, strerror(errno));
    return 127;
}

/* --- beside the whole build */

void begin_walk(void)
{
    char last[PATH_MAX], old[PATH_MAX], new[PATH_MAX];
    if (!walk_file("", last) || !walk_file(".old", old) || !walk_file(".new", new))
        return;
    unlink(old);
    if (rename(last, old) != 0)
        unlink(last);
    int file = open(new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file >= 0)
        close(file);
}

static int by_folder(const void *one, const void *other)
{
    return strcmp(((const struct folder *)one)->path, ((const struct folder *)other)->path);
}

struct folder *find_folder(const struct walk *walk, const char *path)
{
    const struct folder sought = {.path = path};
    return walk->count == 0 ? NULL
                            : bsearch(&sought, walk->folders, walk->count, sizeof sought, by_folder);
}

bool read_walk(const char *ending, struct walk *walk)
{
    char path[PATH_MAX], how[8], digest[DIGEST_HEX];
    long long time, earliest = INT64_MAX;
    int at;
    *walk = (struct walk){0};
    if (!walk_file(ending, path) || !add_content(path, &walk->text))
        return false;
    text_add(&walk->text, "", 1);
    char *rest = walk->text.at;
    for (char *line; *rest != 0 && *rest != '\n' && (line = strsep(&rest, "\n")) != NULL;) {
        if (rest == NULL || sscanf(line, "%7s %lld %64s %n", how, &time, digest, &at) != 3 ||
            line[at] == 0 || strchr(line + at, ' ') != NULL)
            return false; /* it was cut short, or two are one */
        if (strcmp(how, BEGAN) == 0) {
            walk->began = time;
            continue;
        }
        if ((walk->count & (walk->count - 1)) == 0)
            walk->folders = grown(walk->folders, (walk->count * 2 + 1) * sizeof *walk->folders);
        struct folder *one = &walk->folders[walk->count++];
        *one = (struct folder){.path = line + at, .time = time, .is_left = strcmp(how, "left") == 0};
        strcpy(one->digest, digest);
        earliest = time < earliest ? time : earliest;
    }
    if (walk->began == 0)
        walk->began = earliest;
    walk->options = *rest == '\n' ? rest + 1 : rest;
    qsort(walk->folders, walk->count, sizeof *walk->folders, by_folder);
    return true;
}

/* Whether this walk left a folder that the given one is in. */
static bool is_in_left(const struct walk *walk, const char *path)
{
    char above[PATH_MAX];
    snprintf(above, sizeof above, "%s", path);
    for (char *slash; (slash = strrchr(above, '/')) != NULL;) {
        *slash = 0;
        const struct folder *one = find_folder(walk, above);
        if (one != NULL && one->is_left)
            return true;
    }
    return false;
}

static void write_folder(FILE *file, const struct folder *folder, const char *digest)
{
    fprintf(file, "made %lld %s %s\n", (long long)changed_at(folder->path), digest, folder->path);
}

static bool has_left(const struct walk *walk)
{
    for (size_t i = 0; i < walk->count; i++)
        if (walk->folders[i].is_left)
            return true;
    return false;
}

/* What is known after this walk: of each folder that it came to, and of those below what it left. So there
 * is a line for every folder below one that has a line. */
static bool write_walk(const struct walk *walk, const char *target)
{
    char path[PATH_MAX];
    struct walk old;
    struct text options = {0};
    snprintf(path, sizeof path, "%s", target);
    *strrchr(path, '/') = 0; /* the output folder */
    if (chdir(path) != 0 || !add_content("include/config/auto.conf", &options) ||
        snprintf(path, sizeof path, "%s.part", target) >= PATH_MAX)
        return false;
    FILE *file = fopen(path, "w");
    if (file == NULL)
        return false;
    fprintf(file, BEGAN " %lld - .\n", (long long)walk->began);
    for (size_t i = 0; i < walk->count; i++) {
        const struct folder *one = &walk->folders[i];
        bool is_last = i + 1 == walk->count || strcmp(one->path, one[1].path) != 0;
        bool is_first = i == 0 || strcmp(one->path, one[-1].path) != 0;
        if (is_last) /* one that make came to twice is not known */
            write_folder(file, one, is_first ? one->digest : UNKNOWN);
    }
    bool is_written = read_walk(".old", &old) || !has_left(walk);
    for (size_t i = 0; is_written && i < old.count; i++)
        if (find_folder(walk, old.folders[i].path) == NULL && is_in_left(walk, old.folders[i].path))
            write_folder(file, &old.folders[i], old.folders[i].digest);
    fprintf(file, "\n%.*s", (int)options.length, options.at);
    is_written &= !ferror(file);
    is_written &= fclose(file) == 0;
    return is_written && rename(path, target) == 0;
}

void end_walk(bool is_whole)
{
    char last[PATH_MAX], old[PATH_MAX], new[PATH_MAX];
    struct walk walk;
    if (!walk_file("", last) || !walk_file(".old", old) || !walk_file(".new", new))
        return;
    bool is_known = read_walk(".new", &walk);
    if (is_known && walk.count == 0)
        rename(old, last); /* make did not come to it */
    else if (is_known && is_whole)
        write_walk(&walk, last);
    unlink(old);
    unlink(new);
}
