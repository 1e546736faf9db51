/* Folders in which a variant changes nothing: kbuild need not start a make for them.
 *
 * After a whole build each folder was up to date. It still is, and so are those below it, when
 *
 *   - its make would be told the same (walk.c): the options of the compiler come down that way,
 *   - no option that its Makefile names has changed, nor the Makefile, nor which files its source folder has,
 *   - nor any that kbuild's own rules name, nor these,
 *   - of the objects in its archive none is older than what it was made of, but for those that were found to
 *     come out as they are (lookahead.c); objects that are in no archive are left over from other variants,
 *   - its output folder has the files that the last build left.
 *
 * For this a Makefile must say no more than which objects there are and how they are compiled. Of one with
 * a rule, or with anything else that could read a file, nothing is known: its make is started.
 *
 * Above a folder that is not settled none is.
 */

#define _GNU_SOURCE

#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "objcache.h"

#define OPTION "CONFIG_"

static struct walk last; /* as it ended */
static bool is_known, is_judged;

/* --- options that are others now */

static char **changed;
static size_t changed_count;

static int in_order(const void *one, const void *other)
{
    return strcmp(*(char *const *)one, *(char *const *)other);
}

/* The lines of a text, in order. */
static char **sorted_lines(char *text, size_t *count)
{
    char **lines = NULL;
    *count = 0;
    for (char *line; (line = strsep(&text, "\n")) != NULL;) {
        if ((*count & (*count - 1)) == 0)
            lines = grown(lines, (*count * 2 + 1) * sizeof *lines);
        lines[(*count)++] = line;
    }
    qsort(lines, *count, sizeof *lines, in_order);
    return lines;
}

static void add_changed(char *line)
{
    if (!starts(line, OPTION))
        return; /* a comment */
    if ((changed_count & (changed_count - 1)) == 0)
        changed = grown(changed, (changed_count * 2 + 1) * sizeof *changed);
    line[strcspn(line, "=")] = 0;
    changed[changed_count++] = line;
}

static bool compare_options(void)
{
    static struct text now;
    if (!add_content("include/config/auto.conf", &now))
        return false;
    text_add(&now, "", 1);
    size_t before_count, after_count, i = 0, j = 0;
    char **before = sorted_lines(last.options, &before_count), **after = sorted_lines(now.at, &after_count);
    while (i < before_count || j < after_count) {
        int order = i == before_count ? 1 : j == after_count ? -1 : strcmp(before[i], after[j]);
        if (order < 0)
            add_changed(before[i]);
        if (order > 0)
            add_changed(after[j]);
        i += order <= 0;
        j += order >= 0;
    }
    qsort(changed, changed_count, sizeof *changed, in_order);
    return true;
}

/* Whether a text names an option that is another now, or one of which the name is put together. */
static bool names_changed_option(const char *text)
{
    char name[256];
    while ((text = strstr(text, OPTION)) != NULL) {
        size_t length = strlen(OPTION);
        while (isalnum((unsigned char)text[length]) || text[length] == '_')
            length++;
        if (length == strlen(OPTION) || length >= sizeof name || strchr("$%*", text[length]) != NULL)
            return true;
        snprintf(name, sizeof name, "%.*s", (int)length, text);
        char *sought = name;
        if (changed_count > 0 && bsearch(&sought, changed, changed_count, sizeof *changed, in_order) != NULL)
            return true;
        text += length;
    }
    return false;
}

/* --- Makefiles */

static bool has_any(const char *text, const char *const *words)
{
    for (; *words != NULL; words++)
        if (strstr(text, *words) != NULL)
            return true;
    return false;
}

/* Where a variable that is assigned to ends, and its value begins; false for a line that is none. */
static bool split_assignment(char *line, char **value)
{
    int depth = 0;
    for (char *at = line; *at != 0; at++) {
        depth += (*at == '(' || *at == '{') - (*at == ')' || *at == '}');
        if (depth > 0 || (*at != ':' && *at != '='))
            continue;
        char *end = at;
        while (*at == ':')
            at++;
        if (*at != '=' || (end > line && end[-1] == '!')) /* a rule; a command's output */
            return false;
        *value = at + 1;
        *end = 0;
        return true;
    }
    return false;
}

/* Flags of the compiler may name files, which it lists with what it reads. */
static bool is_of_flags(const char *name)
{
    static const char *const known[] = {"ccflags-", "asflags-", "subdir-ccflags-", "subdir-asflags-", "CFLAGS_",
                                        "AFLAGS_"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (starts(name, known[i]))
            return true;
    return false;
}

/* Whether a variable says which objects there are, and each is made of one source in the folder. */
static bool lists_objects(const char *name, char *value)
{
    /* More that is made, or other folders. */
    static const char *const more[] = {"extra-", "always", "targets", "hostprogs", "hostlibs", "userprogs",
                                       "subdir-", "dtb", "cmd_", "quiet_", "PHONY", "MAKE", "SHELL", "VPATH", "src",
                                       "obj ", "obj:", ".", NULL};
    /* Their sources are made, or lie elsewhere. */
    static const char *const made[] = {"..", ".asn1", ".dtb", ".tab.", ".lex.", "shipped", "$(obj)", "$(addprefix",
                                       "$(patsubst", "$(subst", "%", NULL};
    size_t length = strcspn(name, " \t");
    if (name[length + strspn(name + length, " \t+?")] != 0)
        return false; /* a word before the name: export, define */
    for (size_t i = 0; more[i] != NULL; i++)
        if (starts(name, more[i]))
            return false;
    if (has_any(value, made))
        return false;
    for (char *word; (word = strsep(&value, " \t")) != NULL;) {
        length = strlen(word);
        if (length > 2 && strcmp(word + length - 2, ".o") == 0 && strchr(word, '/') != NULL)
            return false;
    }
    return true;
}

static bool is_conditional(const char *line)
{
    static const char *const known[] = {"ifdef", "ifndef", "ifeq", "ifneq", "else", "endif"};
    size_t length = strcspn(line, " \t(");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i]) == length && strncmp(line, known[i], length) == 0)
            return true;
    return false;
}

/* A line without its comment and the white space around it. */
static bool is_plain_line(char *line)
{
    /* What reads something, or says something. Asking the compiler for an option is none of it. */
    static const char *const odd[] = {"$(shell", "$(wildcard", "$(eval", "$(file ", "$(error", "$(warning", "$(info",
                                      "$(origin", "${", "`", NULL};
    char *value;
    for (const char *call = line; (call = strstr(call, "$(call")) != NULL; call++)
        if (!starts(call, "$(call cc-") && !starts(call, "$(call gcc-min-") && !starts(call, "$(call clang-min-"))
            return false;
    if (*line == 0)
        return true;
    if (has_any(line, odd))
        return false;
    if (is_conditional(line))
        return true;
    if (!split_assignment(line, &value))
        return false;
    return is_of_flags(line) || lists_objects(line, value);
}

/* Takes out the comment; false where the character may stand for itself. */
static bool end_at_comment(char *line)
{
    int depth = 0;
    for (char *at = line; *at != 0; at++) {
        depth += (*at == '(') - (*at == ')');
        if (*at != '#')
            continue;
        if (depth > 0 || (at > line && at[-1] == '\\'))
            return false;
        *at = 0;
        break;
    }
    return true;
}

/* Joins lines that a backslash continues. Changes the text. */
static bool is_plain_makefile(char *text)
{
    if (strstr(text, "\\\\\n") != NULL)
        return false; /* one that does not */
    for (char *at = text; *at != 0; at++)
        if (at[0] == '\\' && at[1] == '\n')
            at[0] = at[1] = ' ';
    for (char *line; (line = strsep(&text, "\n")) != NULL;) {
        line += strspn(line, " \t");
        if (!end_at_comment(line))
            return false;
        for (size_t length = strlen(line); length > 0 && isspace((unsigned char)line[length - 1]);)
            line[--length] = 0;
        if (!is_plain_line(line))
            return false;
    }
    return true;
}

/* Whether it is as it was when the last walk began. What an archive or a copy brings is dated back: so
 * it counts as well when the file itself was changed. */
static bool is_older(const char *path)
{
    struct stat about;
    if (stat(path, &about) != 0)
        return false;
    int64_t times[] = {nanoseconds(about.st_mtim), nanoseconds(about.st_ctim)};
    for (int i = 0; i < 2; i++) {
        if (times[i] % 1000000000 == 0)
            times[i] += 999999999; /* where seconds are all that is written down */
        if (times[i] >= last.began)
            return false;
    }
    return true;
}

/* Files that kbuild copies in place of what a generator would make: nothing says what depends on them. */
static bool has_shipped_files(const char *path)
{
    DIR *folder = opendir(path);
    bool has = folder == NULL;
    for (struct dirent *one; !has && (one = readdir(folder)) != NULL;)
        has = strstr(one->d_name, "_shipped") != NULL;
    if (folder != NULL)
        closedir(folder);
    return has;
}

/* Whether a folder's make would do for the options of now what it did for those of then. */
static bool is_makefile_alike(const char *source, const char *folder)
{
    char path[PATH_MAX];
    static struct text text;
    text.length = 0;
    if (snprintf(path, sizeof path, "%s/%s", source, folder) >= PATH_MAX - 16 || !is_older(path) ||
        has_shipped_files(path))
        return false;
    size_t end = strlen(path);
    strcpy(path + end, "/Kbuild");
    if (access(path, F_OK) != 0)
        strcpy(path + end, "/Makefile");
    if (!is_older(path) || !add_content(path, &text))
        return false;
    text_add(&text, "", 1);
    return strlen(text.at) + 1 == text.length && !names_changed_option(text.at) && is_plain_makefile(text.at);
}

/* Whether a file of scripts/ may say how an object is made, by its name. */
static bool is_rules(const char *name)
{
    static const char *const others[] = {"Makefile.mod", "Makefile.vmlinux", "Makefile.package"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (starts(name, others[i]))
            return false;
    return starts(name, "Makefile.") || starts(name, "Kbuild.");
}

/* kbuild's own rules, and the programs that they run. */
static bool are_rules_alike(const char *source)
{
    char path[PATH_MAX];
    struct text text = {0};
    if (access("tools/objtool/objtool", F_OK) == 0 ||
        snprintf(path, sizeof path, "%s/scripts", source) >= PATH_MAX - NAME_MAX - 2)
        return false; /* that one's results depend on itself, which nothing says */
    size_t end = strlen(path);
    DIR *folder = opendir(path);
    bool is_alike = folder != NULL && is_older(path);
    for (struct dirent *one; is_alike && (one = readdir(folder)) != NULL;) {
        if (one->d_type == DT_DIR)
            continue;
        sprintf(path + end, "/%s", one->d_name);
        is_alike = is_older(path);
        if (is_alike && is_rules(one->d_name)) {
            text.length = 0;
            is_alike = add_content(path, &text);
            text_add(&text, "", 1);
            is_alike &= !names_changed_option(text.at);
        }
    }
    if (folder != NULL)
        closedir(folder);
    free(text.at);
    return is_alike;
}

/* --- the folders */

/* Takes what is in a folder, and the folders that it is in, to be in need of a make. */
static void unsettle(const char *path)
{
    char above[PATH_MAX];
    snprintf(above, sizeof above, "%s", path);
    for (char *slash = above; slash != NULL;) {
        struct folder *one = find_folder(&last, above);
        if (one != NULL)
            one->is_changed = true;
        slash = strrchr(above, '/');
        if (slash != NULL)
            *slash = 0;
    }
}

static void unsettle_folder_of(const char *object)
{
    char path[PATH_MAX];
    const char *slash = strrchr(object, '/');
    snprintf(path, sizeof path, "%.*s", slash == NULL ? 0 : (int)(slash - object), object);
    unsettle(path);
}

size_t folder_above(const char *object)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s", object);
    for (char *slash; is_known && (slash = strrchr(path, '/')) != NULL;) {
        *slash = 0;
        if (find_folder(&last, path) != NULL)
            return (size_t)(slash - path) + 1;
    }
    const char *slash = strrchr(object, '/');
    return slash == NULL ? 0 : (size_t)(slash - object) + 1;
}

bool knows_folder(const char *path, const char *digest)
{
    static bool has_read;
    if (!has_read) {
        has_read = true;
        is_known = read_walk(".old", &last);
        for (size_t i = 0; is_known && i < last.count; i++)
            last.folders[i].is_changed = changed_at(last.folders[i].path) != last.folders[i].time;
    }
    const struct folder *one = is_known ? find_folder(&last, path) : NULL;
    return one != NULL && strcmp(one->digest, digest) == 0;
}

void judge_folders(const char *source)
{
    is_judged = is_known && compare_options() && are_rules_alike(source);
    for (size_t i = 0; is_judged && i < last.count; i++)
        if (last.folders[i].is_changed || !is_makefile_alike(source, last.folders[i].path))
            unsettle(last.folders[i].path);
    if (is_judged)
        each_unsettled(unsettle_folder_of);
}

bool is_settled(const char *path, const char *digest)
{
    return is_judged && strcmp(path, ".") != 0 && knows_folder(path, digest) &&
           !find_folder(&last, path)->is_changed;
}
