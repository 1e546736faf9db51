/* Reuse of compiled objects: what the parts of the compiler wrapper share. */
#ifndef OBJCACHE_H
#define OBJCACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIGEST_BYTES 32
#define DIGEST_HEX (2 * DIGEST_BYTES + 1)

/* A text that grows. */
struct text {
    char *at;
    size_t length, room;
};

void text_add(struct text *text, const void *bytes, size_t length);
void *grown(void *old, size_t bytes); /* realloc, or the end of the process */

/* Writes what of a preprocessed C unit its own code can depend on.
 *
 * Returns NULL, or why the unit cannot be reduced: then it must be taken whole.
 */
const char *reduce_unit(const char *source, size_t length, struct text *reduced);

/* SHA-256 in hexadecimal. */
struct digest;
struct digest *digest_new(void);
void digest_add(struct digest *digest, const void *bytes, size_t length);
void digest_end(struct digest *digest, char hex[DIGEST_HEX]);

/* The store of objects; what goes wrong with it costs a compilation, never an object. */
bool store_get(const char *store, const char *key, const char *target);
enum comparison { ABSENT, SAME, DIFFERENT };
enum comparison store_compare(const char *store, const char *key, const char *object);
void store_put(const char *store, const char *key, const char *object);

#endif
