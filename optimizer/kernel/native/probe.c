/* What a build asks the compiler before it compiles: does it take this option?
 *
 * kbuild's cc-option and Kconfig's compile nothing (`gcc -Werror OPTIONS -c -x c /dev/null -o tmp.o`),
 * a hundred times for each variant and one after the other. What comes of it depends on the options
 * alone, so it is kept in the store. Which options those may be is told here; a call with any other,
 * or with one that reads or writes a file, is the compiler's.
 */

#define _GNU_SOURCE

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "objcache.h"

/* Whether an option of one word says something to the compiler and names no file. */
static bool is_plain(const char *option)
{
    static const char *const known[] = {"-f", "-m", "-W", "-O", "-D", "-U", "-std=", "-nostdinc"};
    static const char *const files[] = {"-fplugin", "-fdump", "-fprofile", "-fcallgraph", "-flto",
                                        "-ftest-coverage", "-fstack-usage", "-fopt-info", "-fsave",
                                        "-fcompare-debug", "-ffile", "-fmodule", "-fdiagnostics",
                                        "-frecord", "-fsyntax-only", "-fauto-profile", "-fdeps",
                                        "-fbranch-probabilities", "-Wp,", "-Wl,", "-Wa,", "-mlog"};
    const char *value = strrchr(option, '=');
    if (starts(option, "-D") || starts(option, "-fmacro-prefix-map="))
        return true;
    if (starts(option, "-Wa,-m"))
        return strpbrk(option + 4, ",@/") == NULL;
    if (value != NULL && strcmp(value, "=native") == 0)
        return false; /* this machine's processor */
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (starts(option, files[i]))
            return false;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (starts(option, known[i]))
            return strchr(option, '/') == NULL;
    return false;
}

/* The file that a compilation of nothing writes, by options that are known; NULL for other calls. */
static const char *output_of_nothing(char **argv)
{
    const char *output = NULL;
    bool compiles = false, is_c = false, is_empty = false;
    for (char **arg = argv + 1; *arg != NULL; arg++)
        if ((*arg)[0] == '@')
            return NULL; /* options in a file */
    for (char **arg = argv + 1; *arg != NULL; arg++) {
        if (strcmp(*arg, "-c") == 0) {
            compiles = true;
        } else if (strcmp(*arg, "/dev/null") == 0 && is_c && !is_empty) {
            is_empty = true;
        } else if (strcmp(*arg, "-x") == 0 && arg[1] != NULL && strcmp(arg[1], "c") == 0) {
            is_c = true;
            arg++;
        } else if (strcmp(*arg, "-o") == 0 && arg[1] != NULL && output == NULL) {
            output = *++arg;
        } else if (strcmp(*arg, "--param") == 0 && arg[1] != NULL && arg[1][0] != '-') {
            arg++;
        } else if (!is_plain(*arg)) {
            return NULL;
        }
    }
    return compiles && is_empty ? output : NULL;
}

/* The entry that says what came of it: an object, or the compiler's words. */
static void name_answer(char **argv, const char *output, const char *answer, char key[NOTE_NAME])
{
    struct digest *digest = digest_new();
    const char *identity = getenv("MEMTOTAL_IDENTITY");
    const char *parts[] = {"probe", answer, compiler, identity ? identity : ""};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        digest_add(digest, parts[i], strlen(parts[i]) + 1);
    for (char **arg = argv + 1; *arg != NULL; arg++)
        if (*arg != output)
            digest_add(digest, *arg, strlen(*arg) + 1);
    digest_end(digest, key);
    strcat(key, NOTE);
}

bool answer_probe(char **argv, const char *store, int *code)
{
    const char *output = output_of_nothing(argv);
    char taken[NOTE_NAME], refused[NOTE_NAME];
    struct text said = {0};
    struct stat there;
    /* A device is written to, not replaced; and only what this call writes may be kept. */
    if (output == NULL || lstat(output, &there) == 0)
        return false;
    name_answer(argv, output, "taken", taken);
    name_answer(argv, output, "refused", refused);
    if (store_get(store, taken, output)) {
        *code = 0;
    } else if (store_read(store, refused, &said)) {
        *code = 1;
        ssize_t ignored = write(2, said.at, said.length);
        (void)ignored;
    } else if (compile(argv, code, &said)) {
        store_put(store, taken, output);
    } else if (*code == 1 && memmem(said.at, said.length, "unrecognized ", 13) != NULL) {
        /* Of other errors nobody knows whether they come again: a disk was full. */
        store_write(store, refused, said.at, said.length);
    }
    return true;
}
