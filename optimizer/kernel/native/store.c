/* The store of objects: one file an entry, named by its key, with its own checksum inside.
 *
 * Entries appear by rename, so a reader sees a whole one or none; whoever dies half way leaves a
 * file that nobody reads. What does not fit its checksum is removed and counts as not there.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/sha.h>

#include "objcache.h"

static const char magic[] = "memtotal-object-1\n";
#define HEADER (sizeof magic - 1 + DIGEST_HEX) /* magic, checksum in hexadecimal, newline */

struct digest {
    SHA256_CTX context;
};

struct digest *digest_new(void)
{
    struct digest *new = grown(NULL, sizeof *new);
    SHA256_Init(&new->context);
    return new;
}

void digest_add(struct digest *digest, const void *bytes, size_t length)
{
    SHA256_Update(&digest->context, bytes, length);
}

void digest_end(struct digest *digest, char hex[DIGEST_HEX])
{
    unsigned char raw[DIGEST_BYTES];
    SHA256_Final(raw, &digest->context);
    for (int i = 0; i < DIGEST_BYTES; i++)
        sprintf(hex + 2 * i, "%02x", raw[i]);
    free(digest);
}

static void checksum(const void *bytes, size_t length, char hex[DIGEST_HEX])
{
    struct digest *digest = digest_new();
    digest_add(digest, bytes, length);
    digest_end(digest, hex);
}

static bool read_file(int file, struct text *into)
{
    struct stat about;
    if (fstat(file, &about) != 0 || about.st_size < 0)
        return false;
    into->room = (size_t)about.st_size + 1;
    into->at = grown(NULL, into->room);
    into->length = 0;
    while (into->length < into->room) {
        ssize_t got = read(file, into->at + into->length, into->room - into->length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return false;
        if (got == 0)
            return true;
        into->length += (size_t)got;
    }
    return false; /* it grew meanwhile */
}

static bool write_file(int file, const char *at, size_t length)
{
    while (length > 0) {
        ssize_t put = write(file, at, length);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return false;
        at += put;
        length -= (size_t)put;
    }
    return true;
}

/* A file of that content, whole or not at all. */
static bool replace(const char *path, const char *head, size_t head_length, const char *at,
                    size_t length)
{
    char beside[4096];
    if (snprintf(beside, sizeof beside, "%s.%d.part", path, (int)getpid()) >= (int)sizeof beside)
        return false;
    int file = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file < 0)
        return false;
    bool whole = write_file(file, head, head_length) && write_file(file, at, length);
    whole &= close(file) == 0;
    if (whole && rename(beside, path) == 0)
        return true;
    unlink(beside);
    return false;
}

static bool entry_path(const char *store, const char *key, char path[4096], bool make_folder)
{
    if (snprintf(path, 4096, "%s/%.2s", store, key) >= 4096)
        return false;
    if (make_folder && mkdir(path, 0755) != 0 && errno != EEXIST)
        return false;
    return snprintf(path, 4096, "%s/%.2s/%s", store, key, key + 2) < 4096;
}

/* The entry's content after its header, checked; a damaged entry is removed. */
bool store_read(const char *store, const char *key, struct text *content)
{
    char path[4096], sum[DIGEST_HEX];
    struct text entry;
    if (!entry_path(store, key, path, false))
        return false;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return false;
    bool whole = read_file(file, &entry) && entry.length > HEADER &&
                 memcmp(entry.at, magic, sizeof magic - 1) == 0;
    if (whole) {
        checksum(entry.at + HEADER, entry.length - HEADER, sum);
        whole = memcmp(entry.at + sizeof magic - 1, sum, DIGEST_HEX - 1) == 0;
    }
    if (!whole) {
        unlink(path);
        close(file);
        return false;
    }
    futimens(file, NULL); /* the least recently used go first */
    close(file);
    content->length = entry.length - HEADER;
    content->at = memmove(entry.at, entry.at + HEADER, content->length); /* for free() */
    return true;
}

bool store_get(const char *store, const char *key, const char *target)
{
    struct text object;
    /* Copied, not linked: kbuild's own tools edit objects in place. */
    return store_read(store, key, &object) && replace(target, "", 0, object.at, object.length);
}

static bool read_path(const char *path, struct text *into)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return false;
    bool whole = read_file(file, into);
    close(file);
    return whole;
}

static enum comparison compare_texts(const struct text *one, const struct text *other)
{
    return one->length == other->length && memcmp(one->at, other->at, one->length) == 0 ? SAME
                                                                                        : DIFFERENT;
}

enum comparison store_compare(const char *store, const char *key, const char *object)
{
    struct text stored, compiled;
    if (!store_read(store, key, &stored) || !read_path(object, &compiled))
        return ABSENT;
    return compare_texts(&stored, &compiled);
}

enum comparison compare_files(const char *one, const char *other)
{
    struct text first, second;
    if (!read_path(one, &first) || !read_path(other, &second))
        return ABSENT;
    return compare_texts(&first, &second);
}

void store_write(const char *store, const char *key, const char *at, size_t length)
{
    char path[4096], head[HEADER + 1], sum[DIGEST_HEX];
    if (!entry_path(store, key, path, true))
        return;
    checksum(at, length, sum);
    snprintf(head, sizeof head, "%s%s\n", magic, sum);
    replace(path, head, HEADER, at, length);
}

void store_put(const char *store, const char *key, const char *object)
{
    struct text bytes;
    if (read_path(object, &bytes) && bytes.length > 0)
        store_write(store, key, bytes.at, bytes.length);
}
