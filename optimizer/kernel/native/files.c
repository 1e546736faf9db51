/* Headers: where they are, their text, and the list of them that kbuild asks for. */

#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "preprocess.h"

struct header { /* what a name in an #include finds */
    u32 looked_in;     /* the unit that looked last */
    struct file *file; /* NULL: nothing */
};

struct search search;
struct file *main_file;
bool is_outdated;
u32 unchanged_since;

static struct file **listed;
static u32 listed_count, listed_room;

static struct version version_of(const struct stat *about)
{
    return (struct version){about->st_ino, (u64)about->st_size, (u64)about->st_mtim.tv_sec,
                            (u64)about->st_mtim.tv_nsec};
}

static bool read_whole(const char *path, struct file *file)
{
    struct stat about;
    static char *buffer;
    static size_t room;
    size_t length = 0;
    int from = open(path, O_RDONLY | O_CLOEXEC);
    if (from < 0 && errno != ENOENT && errno != ENOTDIR)
        cannot(strerror(errno), path, strlen(path));
    if (from < 0)
        return false;
    if (fstat(from, &about) != 0)
        cannot(strerror(errno), path, strlen(path));
    file->version = version_of(&about);
    for (;;) {
        if (room - length < 1u << 18)
            buffer = grown(buffer, room += 1u << 20);
        ssize_t got = read(from, buffer + length, room - length);
        if (got < 0) {
            if (errno != EISDIR)
                cannot(strerror(errno), path, strlen(path));
            close(from);
            return false;
        }
        if (got == 0)
            break;
        length += (size_t)got;
    }
    close(from);
    char *text = lasting(length + 5); /* a line's end if the last line has none, and zero bytes */
    memcpy(text, buffer, length);
    if (length > 0 && text[length - 1] != '\n')
        text[length++] = '\n';
    file->at = text;
    file->end = text + length;
    return true;
}

static bool look(const char *path, struct stat *about)
{
    if (stat(path, about) == 0)
        return true;
    if (errno != ENOENT && errno != ENOTDIR)
        cannot(strerror(errno), path, strlen(path));
    return false;
}

/* What a path is of, made when it is new. */
static struct file *file_at(const char *path, u32 length)
{
    struct symbol *symbol = intern_kept(path, length);
    if (symbol->file == NULL) {
        struct file *file = symbol->file = arena(sizeof *file);
        char *kept = arena(length + 1);
        file->path = memcpy(kept, path, length); /* the symbol's text may go on */
        const char *slash = strrchr(file->path, '/');
        file->folder = slash ? (u32)(slash - file->path) + 1 : 0;
        file->is_missing = true;
        file->use = busy(sizeof *file->use);
    }
    if (symbol->file->use == NULL)
        cannot("the name of a header", path, length); /* an option has it */
    return symbol->file;
}

/* Whether there is such a folder. Most of a search path has no folder for most headers. */
static bool is_folder(const char *path, size_t length)
{
    struct file *folder = file_at(path, (u32)length);
    if (folder->use->looked_in != unit_number) {
        struct stat about;
        folder->use->looked_in = unit_number;
        bool is_missing = !look(folder->path, &about) || !S_ISDIR(about.st_mode);
        if (folder->is_missing != is_missing)
            folder->is_missing = is_missing;
    }
    return !folder->is_missing;
}

static bool is_unchanged(const struct file *file)
{
    struct stat about;
    struct version now = {0};
    if (look(file->path, &about))
        now = version_of(&about);
    return memcmp(&now, &file->version, sizeof now) == 0;
}

/* A file by its path, read once; NULL when there is none. Each unit looks whether it is as it was, but for
 * those of a look ahead (unchanged_since). */
struct file *open_file(const char *path, u32 length, bool is_system)
{
    struct file *file = file_at(path, length);
    if (file->use->looked_in == unit_number)
        return file->is_missing ? NULL : file;
    bool is_known = unchanged_since != 0 && file->use->looked_in >= unchanged_since;
    if (!file->is_missing && !is_known && !is_unchanged(file)) {
        if (file->stretches != NULL) {
            is_outdated = true;
            cannot("it changed while others were compiled", path, length);
        }
        file->is_missing = true; /* nothing of it was remembered: it is just another one */
        file->guard = NULL;
    }
    if (file->is_missing && read_whole(file->path, file)) {
        file->is_missing = false;
        file->is_system = is_system;
    }
    file->use->looked_in = unit_number;
    if (file->is_missing)
        return NULL;
    if (file->is_system != is_system)
        cannot("a header of two kinds", path, length);
    return file;
}

/* A text that is no file's, as one; the same for the same text, which lasts. */
struct file *text_file(const char *name, const char *text)
{
    static struct text_file {
        struct file file;
        struct text_file *next;
    } *all;
    struct text_file *one = all;
    while (one != NULL && strcmp(one->file.at, text) != 0)
        one = one->next;
    if (one == NULL) {
        one = arena(sizeof *one);
        *one = (struct text_file){{.path = name, .at = text, .end = text + strlen(text)}, all};
        all = one;
    }
    return &one->file;
}

static struct file *open_in(const char *folder, size_t folder_length, const char *name, u32 length,
                            bool is_system)
{
    char path[4096];
    bool bare = folder_length == 0 || folder[folder_length - 1] == '/';
    int put = snprintf(path, sizeof path, "%.*s%s%.*s", (int)folder_length, folder,
                       bare ? "" : "/", (int)length, name);
    if (put >= (int)sizeof path)
        cannot("a path is too long", name, length);
    const char *slash = memrchr(path, '/', (size_t)put);
    if (slash != NULL && slash != path && !is_folder(path, (size_t)(slash - path) + 1))
        return NULL;
    return open_file(path, (u32)put, is_system);
}

static struct file *first_in(const char **folders, const char *name, u32 length, bool is_system)
{
    struct file *found = NULL;
    for (; *folders != NULL && found == NULL; folders++)
        found = open_in(*folders, strlen(*folders), name, length, is_system);
    return found;
}

/* What '#include "name"' or '#include <name>' finds; NULL for nothing. `from` is the file that says
 * so, NULL for an option, which looks in the working directory first. */
struct file *find_header(const char *name, u32 length, bool quoted, const struct file *from)
{
    struct file *found = NULL;
    if (length == 0 || name[length - 1] == '/' || memchr(name, '<', length) != NULL)
        cannot("the name of a header", name, length); /* keys of ours have such names */
    if (name[0] == '/')
        return open_file(name, length, from != NULL && from->is_system);
    if (quoted) {
        found = open_in(from ? from->path : "./", from ? from->folder : 2, name, length,
                        from != NULL && from->is_system);
        if (found == NULL)
            found = first_in(search.quote, name, length, false);
    }
    /* The same for all of a unit: it is looked for once. */
    char key[1024];
    int put = snprintf(key, sizeof key, "<%.*s>", (int)length, name);
    if (found != NULL || put >= (int)sizeof key)
        return found;
    struct symbol *known = intern_kept(key, (u32)put);
    if (known->header == NULL)
        known->header = busy(sizeof *known->header);
    if (known->header->looked_in != unit_number) {
        known->header->looked_in = unit_number;
        found = first_in(search.bracket, name, length, false);
        if (found == NULL)
            found = first_in(search.system, name, length, true);
        known->header->file = found;
    }
    return known->header->file;
}

void list_header(struct file *file)
{
    if (file->use == NULL || file->use->listed_in == unit_number || file->is_system)
        return;
    file->use->listed_in = unit_number;
    if (listed_count == listed_room) {
        listed_room = listed_room ? listed_room * 2 : 1024;
        listed = grown(listed, listed_room * sizeof *listed);
    }
    listed[listed_count++] = file;
}

void forget_listed(void)
{
    listed_count = 0;
}

static const char *listed_name(const struct file *file)
{
    const char *name = file->path;
    while (name[0] == '.' && name[1] == '/')
        for (name += 2; *name == '/';)
            name++;
    return name;
}

bool has_headers(const char *const *paths, u32 count)
{
    /* fixdep leaves them out: what an object needs of them is among its options and symbols. */
    static const char options[] = "include/generated/autoconf.h";
    static const char symbols[] = "include/generated/autoksyms.h";
    u32 found = 0;
    for (u32 i = 0; i < listed_count; i++) {
        const char *name = listed_name(listed[i]);
        if (listed[i] == main_file || strcmp(name, options) == 0 || strcmp(name, symbols) == 0)
            continue;
        if (found == count || strcmp(name, paths[found++]) != 0)
            return false;
    }
    return found == count;
}

/* The rule for make that -MMD asks for, laid out as the compiler does (libcpp, mkdeps.cc). */
bool write_list(const char *path)
{
    struct text out = {0};
    const char *name = main_file->path + main_file->folder;
    u32 column = (u32)strlen(name);
    text_add(&out, name, column - 1);
    text_add(&out, "o:", 2);
    column++;
    for (u32 i = 0; i < listed_count; i++) {
        const char *one = listed_name(listed[i]);
        u32 length = (u32)strlen(one);
        if (strpbrk(one, " \t#$\\:%") != NULL)
            cannot("a path with characters that make takes otherwise", one, length);
        if (column + 1 + length > 72) {
            text_add(&out, " \\\n", 3);
            column = 0;
        }
        text_add(&out, " ", 1);
        text_add(&out, one, length);
        column += 1 + length;
    }
    text_add(&out, "\n", 1);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    bool whole = file >= 0 && write(file, out.at, out.length) == (ssize_t)out.length;
    free(out.at);
    return file >= 0 && close(file) == 0 && whole;
}

u32 line_of(const char *where)
{
    struct file *file = NULL;
    for (u32 i = 0; i < listed_count && file == NULL; i++)
        if (where >= listed[i]->at && where <= listed[i]->end)
            file = listed[i];
    if (file == NULL)
        cannot("a line's number", "of no known file", 16);
    u32 line = 1;
    for (const char *at = file->at; (at = memchr(at, '\n', (size_t)(where - at))) != NULL; at++)
        line++;
    return line;
}
