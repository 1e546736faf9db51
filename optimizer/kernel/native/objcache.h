/* Reuse of compiled objects: what the parts of the compiler's stand-in share. */
#ifndef OBJCACHE_H
#define OBJCACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define DIGEST_BYTES 32
#define DIGEST_HEX (2 * DIGEST_BYTES + 1)

/* Entries of the store that are no objects. */
#define NOTE ".note"
#define NOTE_NAME (DIGEST_HEX + sizeof NOTE - 1)

/* A text that grows. */
struct text {
    char *at;
    size_t length, room;
};

void text_add(struct text *text, const void *bytes, size_t length);
bool starts(const char *text, const char *with);
void *grown(void *old, size_t bytes); /* realloc, or the end of the process */

/* Adds a line to the build's log of objects. */
void note(const char *what, const char *object, const char *detail);

/* The tokens of a unit, from what the compiler's preprocessor printed. Returns NULL, or why not. */
const char *read_unit(const char *source, size_t length);

/* The tokens of a unit, from its source file and the compiler's command line; beside them the list
 * of headers that kbuild asks for. `ask` gives the compiler's answer to "__has_attribute(name)" and
 * the like, its builtin macros for "", and NULL when it has none.
 *
 * Returns NULL, or why the compiler's own preprocessor has to be asked.
 */
const char *preprocess_unit(char **argv, const char *source, const char *(*ask)(const char *));

/* Puts the tokens that were remembered of headers between the unit's own: in the process that reduces
 * it, after preprocess_unit() in this one or in the one that it was forked from.
 *
 * Returns NULL, or why the compiler's own preprocessor has to be asked.
 */
const char *gather_unit(void);

/* Whether the compiler's preprocessor gives the tokens that there are. */
bool is_text_of_tokens(const char *at, size_t length);

/* In words, after that was false. */
const char *token_difference(void);

/* Whether the assembler reads files that the compiler does not: kernel/configs.c has a .incbin. */
bool reads_other_files(void);

/* Writes what of a unit's tokens its own code can depend on.
 *
 * Returns NULL, or why the unit cannot be reduced: then it must be taken whole.
 */
const char *reduce_unit(struct text *reduced);

/* Writes what reduce_unit() found as C that compiles to the object that the whole unit compiles to.
 *
 * Returns NULL, or why not.
 */
const char *rewrite_unit(struct text *code);

/* Whether what reduce_unit() gave has offsets of members for what stands before them. What rewrite_unit()
 * gives then compiles only where they are right. */
extern bool has_offsets;

/* A text that compiles where members are placed as it is computed here, and how long is a long there: 0
 * for not to compute it. */
extern const char layout_question[];
extern uint32_t long_bytes;

/* From now on remembers what headers give: for a process that preprocesses many units. */
void remember_headers(void);

/* Whether what is remembered is more than so many bytes, or not to be trusted any more. */
bool remembers_too_much(size_t bytes);

/* SHA-256 in hexadecimal. */
struct digest;
struct digest *digest_new(void);
void digest_add(struct digest *digest, const void *bytes, size_t length);
void digest_end(struct digest *digest, char hex[DIGEST_HEX]);

/* Runs the compiler; true when it went well and said nothing. What it says on standard error is passed
 * on, and added to a text. */
bool compile(char **argv, int *code, struct text *text);
extern const char *compiler; /* its path */

/* A call of the compiler. */
struct call {
    const char *source, *object;
    bool has_debug;  /* line numbers are part of the object */
    bool spoke;      /* the preprocessor had something to say: it must be said again */
    bool may_reduce; /* -fno-strict-aliasing: types say nothing of what may overlap */
};

/* What a command compiles a unit to; NULL when it does not. */
const char *object_of(char **argv);

/* A unit that is preprocessed, but for what the compiler's own preprocessor is to do. */
struct job {
    char **argv;
    struct call call;
    const char *store;
    const char *other; /* why our preprocessor does not do; NULL: it did */
    bool checks, is_trusted, is_distrusted; /* trusted: not to be compared, but for a sample */
    bool is_unplaced; /* it did not compile as it was rewritten: offsets are not to be relied on */
    char unit_key[NOTE_NAME];
};

/* Begins it: false for a call that compiles no unit, which is the compiler's alone. */
bool begin_job(struct job *job, char **argv);

/* Takes the object from the store, or compiles; the exit code. May become the compiler. */
int finish_job(struct job *job);

/* What kbuild wrote down of an object, when it last called the compiler for it. */
struct recipe {
    const char *object;
    int64_t made, newest; /* when, in nanoseconds, and when an option that it asks for changed last */
    bool is_outdated; /* an option changed since then, in this build */
    bool is_makes;    /* so did something else, or for the option make has to do more */
    bool is_rewritten; /* by write_recipe() */
    bool has_more;    /* in the description, that fixdep does not write */
    bool *is_settled; /* make has nothing to do for it */
    char *text, *command, **argv;
    const char *path, *list; /* of this description, and of the list of headers it was made of */
    const char **headers; /* all but the source and what fixdep leaves out, in the compiler's order */
    uint32_t header_count;
};

/* Finds the objects in the working directory; whether there are any, and whether those are all. */
bool find_objects(bool *are_all);

/* Has those of them considered that make finds outdated for options alone, so many at most, as long as
 * true comes of it. Of processes that share what was found, each gets others. */
void look_ahead(bool (*consider)(struct recipe *recipe), uint32_t most);

/* Tells of those for which make has something to do after that, or may have. */
void each_unsettled(void (*tell)(const char *object));

int64_t nanoseconds(struct timespec time);
int64_t changed_at(const char *path); /* in nanoseconds; 0: there is no such file */

bool add_content(const char *path, struct text *text); /* adds what is in it */

/* Whether kbuild called the compiler otherwise when it made this object. */
bool is_new_command(const char *object, char **argv);

/* To be called before make. */
void begin_looking(void);

/* Whether the unit that was preprocessed last read these headers, in this order. */
bool has_headers(const char *const *paths, uint32_t count);

/* Writes it anew after the unit was preprocessed: other headers may have been read. */
bool write_recipe(struct recipe *recipe);

/* Whether the object that is there is what this job would come to. In place of finish_job(). */
bool is_made_already(struct job *job);

/* Has it count as made when the last of its options changed. */
bool keep_object(const struct recipe *recipe);

/* A folder that kbuild starts a make for. */
struct folder {
    const char *path;
    int64_t time; /* the last change of the output folder; in a walk under way, when make came to it */
    bool is_left; /* make was not started */
    bool is_changed; /* settled.c: its make, or one below it, has something to do */
    char digest[DIGEST_HEX]; /* of all that its make was told */
};

/* kbuild's way through the folders. */
struct walk {
    struct folder *folders; /* in order of their paths */
    size_t count;
    int64_t began;
    char *options; /* auto.conf */
    struct text text;
};

/* walk.c: for the server, before make and after it. */
void begin_walk(void);
void end_walk(bool is_whole);

bool read_walk(const char *ending, struct walk *walk);
struct folder *find_folder(const struct walk *walk, const char *path); /* NULL: nothing is known of it */

/* make's stand-in: whether the name is its, and what it does. */
bool is_make(const char *name);
int run_make(char **argv);

/* settled.c: whether the folder's last make was told this, and all was well in the end. */
bool knows_folder(const char *path, const char *digest);

/* How much of an object's path is the folder, with its slash, whose make makes it: as far as is known. */
size_t folder_above(const char *object);

/* Decides, after a look, where there is nothing to do. */
void judge_folders(const char *source);
bool is_settled(const char *path, const char *digest);

/* Runs a build's make with a server beside it; the exit code. */
int serve(char **argv);

/* Whether this process does a call for another one, which goes on alone when this one is killed. */
extern bool is_handed_over;

/* Has the server do the call; false when there is none, or it leaves the work to the caller. */
bool ask_server(char **argv, int *code);

/* Whether the call only asks if the compiler takes some options; it is answered then. */
bool answer_probe(char **argv, const char *store, int *code);

/* The store of objects; what goes wrong with it costs a compilation, never an object. */
bool store_read(const char *store, const char *key, struct text *content);
void store_write(const char *store, const char *key, const char *at, size_t length);
bool store_get(const char *store, const char *key, const char *target);
enum comparison { ABSENT, SAME, DIFFERENT };
enum comparison store_compare(const char *store, const char *key, const char *object);
enum comparison compare_files(const char *one, const char *other);
void store_put(const char *store, const char *key, const char *object);

#endif
