/* A compiler's stand-in that reuses objects, called by the compiler's own name through PATH.
 *
 * For `gcc ... -c -o x.o x.c` the unit is preprocessed (preprocess.c; by the real compiler where that
 * gives up), its tokens are reduced to what the unit can depend on (reduce.c), and an object that was
 * compiled from the same before is taken from the store. Where there is none, the compiler is given
 * what the unit was reduced to (writing.c), a twentieth of the text: it takes less than half the time.
 * The first time, and now and then, the compiler preprocesses the unit too, and it must read what was
 * read here; now and then it compiles the whole as well, and the object must be the same. What it will
 * not take without a word is compiled as it is written.
 *
 * So nobody sees what the compiler would have said of code that the unit does not use: warnings, and
 * errors that a clean build stops at. Calls that only ask whether the compiler takes some options are
 * answered from the store too (probe.c). Every other call, and every doubt, is the real compiler's alone.
 *
 * Within a build the server (server.c) is asked to do it all: it has read the headers already. Then
 * begin_job() runs in the server and finish_job() in a child of it.
 *
 * Environment:
 *   MEMTOTAL_OBJECTS   folder of the store; without it nothing is reused
 *   MEMTOTAL_COMPILER  path of the real compiler
 *   MEMTOTAL_IDENTITY  what identifies it, and this program, besides the path
 *   MEMTOTAL_OBJECTS_COMPARE  1: compare every unit that is compiled; 0: none
 *   MEMTOTAL_OBJECTS_CHECK  compile everything, and tell whether the store has the same
 *   MEMTOTAL_SERVER    the name of the build's server, given by itself
 *   MEMTOTAL_MAKE, MEMTOTAL_WALK  see walk.c
 *   MEMTOTAL_OBJECTS_LOG  file that gets one line an object: what was done, and the object
 */

#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "objcache.h"

bool is_handed_over;

void *grown(void *old, size_t bytes)
{
    void *new = realloc(old, bytes);
    if (new == NULL) {
        if (is_handed_over)
            raise(SIGKILL); /* whoever handed the call over tries it alone */
        fputs("memtotal: out of memory\n", stderr);
        exit(1);
    }
    return new;
}

void text_add(struct text *text, const void *bytes, size_t length)
{
    if (text->room - text->length < length) {
        text->room = (text->length + length) * 2;
        text->at = grown(text->at, text->room);
    }
    memcpy(text->at + text->length, bytes, length);
    text->length += length;
}

const char *compiler;

static sigset_t blocked_signals; /* when the program began: the compiler is to have the same */

static _Noreturn void run_compiler(char **argv)
{
    sigprocmask(SIG_SETMASK, &blocked_signals, NULL);
    argv[0] = (char *)compiler;
    execv(compiler, argv);
    fprintf(stderr, "%s: %s\n", compiler, strerror(errno));
    _exit(127);
}

void note(const char *what, const char *object, const char *detail)
{
    const char *path = getenv("MEMTOTAL_OBJECTS_LOG");
    char line[1024];
    if (path == NULL || *path == 0)
        return;
    int file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (file < 0)
        return;
    int length = snprintf(line, sizeof line, "%s %s %s", what, object, detail);
    if (length >= (int)sizeof line)
        length = sizeof line - 1;
    for (int i = 0; i < length; i++)
        if (line[i] == '\n')
            line[i] = ' ';
    line[length++] = '\n';
    ssize_t ignored = write(file, line, (size_t)length);
    (void)ignored;
    close(file);
}

bool starts(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* Options whose value is the next argument, of those that may stand in a compilation. */
static bool takes_value(const char *option)
{
    static const char *const known[] = {"-include", "-isystem", "-idirafter", "-iquote", "-I",
                                        "-D", "-U", "-imacros", "-iprefix", "-x", "--param", "-T"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(option, known[i]) == 0)
            return true;
    return false;
}

/* Whether the call compiles one C file to one object, by options that are understood. */
static bool is_compilation(char **argv, struct call *call)
{
    bool compiles = false;
    memset(call, 0, sizeof *call);
    for (char **arg = argv + 1; *arg != NULL; arg++) {
        const char *one = *arg;
        if (one[0] != '-') {
            size_t length = strlen(one);
            if (one[0] == '@' || call->source != NULL || length < 3 ||
                strcmp(one + length - 2, ".c") != 0)
                return false;
            call->source = one;
        } else if (strcmp(one, "-c") == 0) {
            compiles = true;
        } else if (strcmp(one, "-o") == 0) {
            if (call->object != NULL || arg[1] == NULL)
                return false;
            call->object = *++arg;
        } else if (starts(one, "-o") || strcmp(one, "-E") == 0 || strcmp(one, "-S") == 0 ||
                   strcmp(one, "-") == 0 || starts(one, "-M") || starts(one, "-save-temps") ||
                   starts(one, "-fplugin") || starts(one, "-fprofile") || starts(one, "-flto") ||
                   starts(one, "-ftest-coverage") || starts(one, "--coverage") ||
                   starts(one, "-fdump") || starts(one, "-d") || starts(one, "-x") ||
                   starts(one, "-gsplit") || starts(one, "-specs") || starts(one, "-B") ||
                   starts(one, "-fcallgraph") || starts(one, "-fstack-usage") ||
                   starts(one, "-frandom") || starts(one, "-pg") || starts(one, "-Wa,-a") ||
                   starts(one, "-fopenmp") || starts(one, "-fpreprocessed") ||
                   starts(one, "-fno-toplevel") || starts(one, "-fkeep") ||
                   starts(one, "-fstrict-aliasing") || starts(one, "-fsanitize") ||
                   strcmp(one, "-v") == 0 || strcmp(one, "-###") == 0 || strcmp(one, "-P") == 0) {
            return false;
        } else if (strcmp(one, "-fno-strict-aliasing") == 0) {
            call->may_reduce = true;
        } else if (starts(one, "-g") && strcmp(one, "-g0") != 0) {
            call->has_debug = true;
        } else if (takes_value(one)) {
            if (arg[1] == NULL)
                return false;
            arg++;
        }
    }
    return compiles && call->source != NULL && call->object != NULL;
}

const char *object_of(char **argv)
{
    struct call call;
    return is_compilation(argv, &call) ? call.object : NULL;
}

/* Whether an option has said all it has to say to the preprocessor. */
static bool is_preprocessors(const char *option)
{
    return starts(option, "-I") || starts(option, "-D") || starts(option, "-U") ||
           starts(option, "-Wp,") || starts(option, "-include") || starts(option, "-isystem") ||
           starts(option, "-iquote") ||
           strcmp(option, "-nostdinc") == 0 || strcmp(option, "-c") == 0;
}

/* All that a child prints to a pipe; whether it went well. */
static bool read_output(pid_t child, int from, struct text *output)
{
    int status;
    output->room = 4u << 20;
    output->at = grown(NULL, output->room);
    for (;;) {
        if (output->room - output->length < 1u << 20)
            output->at = grown(output->at, output->room *= 2);
        ssize_t got = read(from, output->at + output->length, output->room - output->length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        output->length += (size_t)got;
    }
    close(from);
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return false;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 && output->length > 0;
}

/* The preprocessed text, and beside it the list of headers that kbuild asks for. */
static bool preprocess(char **argv, struct call *call, struct text *source)
{
    int pipes[2], count = 0, said = memfd_create("said", MFD_CLOEXEC);
    if (said < 0)
        return false;
    while (argv[count] != NULL)
        count++;
    char **asked = grown(NULL, (size_t)(count + 3) * sizeof *asked);
    int put = 0;
    for (int i = 0; i < count; i++) {
        if (strcmp(argv[i], "-o") == 0) {
            i++;
            continue;
        }
        asked[put++] = strcmp(argv[i], "-c") == 0 ? "-E" : argv[i];
    }
    if (!call->has_debug)
        asked[put++] = "-P"; /* no line markers: nothing of them reaches the object */
    asked[put] = NULL;
    if (pipe2(pipes, O_CLOEXEC) != 0)
        return false;
    fcntl(pipes[1], F_SETPIPE_SZ, 1 << 20);
    pid_t child = fork();
    if (child < 0)
        return false;
    if (child == 0) {
        dup2(pipes[1], 1);
        dup2(said, 2); /* the compilation that follows says it again */
        run_compiler(asked);
    }
    close(pipes[1]);
    bool went_well = read_output(child, pipes[0], source);
    call->spoke = lseek(said, 0, SEEK_END) != 0;
    close(said);
    return went_well;
}

/* Files with one object's path a line. */
#define DISTRUSTED "distrusted"   /* it once differed from a clean build's: it is compiled for good */
#define UNLIKE "preprocessed"     /* only the compiler's own preprocessor gives its tokens */
#define UNPLACED "unplaced"       /* as rewritten it did not compile: nobody saw where its members are */

static bool is_listed(const char *store, const char *list, const char *object)
{
    char path[4096], line[4096];
    bool found = false;
    snprintf(path, sizeof path, "%s/%s", store, list);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    while (!found && fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = 0;
        found = strcmp(line, object) == 0;
    }
    fclose(file);
    return found;
}

static void add_to_list(const char *store, const char *list, const char *object)
{
    char path[4096], line[4096];
    snprintf(path, sizeof path, "%s/%s", store, list);
    int length = snprintf(line, sizeof line, "%s\n", object);
    int file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (file < 0)
        return;
    ssize_t ignored = length < (int)sizeof line ? write(file, line, (size_t)length) : 0;
    (void)ignored;
    close(file);
}

static bool includes_in_assembly(const struct text *source)
{
    return memmem(source->at, source->length, ".incbin", 7) != NULL ||
           memmem(source->at, source->length, ".include", 8) != NULL;
}

/* The options that are not the preprocessor's. */
static void digest_options(struct digest *digest, char **argv)
{
    for (char **arg = argv + 1; *arg != NULL; arg++) {
        if (takes_value(*arg) && is_preprocessors(*arg))
            arg++;
        else if (!is_preprocessors(*arg))
            digest_add(digest, *arg, strlen(*arg) + 1);
    }
}

static void make_key(char **argv, const struct call *call, const struct text *used,
                     bool is_reduced, char key[DIGEST_HEX])
{
    struct digest *digest = digest_new();
    const char *identity = getenv("MEMTOTAL_IDENTITY");
    const char *parts[] = {compiler, identity ? identity : "", call->object,
                           call->source, is_reduced ? "reduced" : "whole"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        digest_add(digest, parts[i], strlen(parts[i]) + 1);
    digest_options(digest, argv);
    if (call->has_debug) { /* the folder is in the debug information */
        char folder[4096];
        if (getcwd(folder, sizeof folder) != NULL)
            digest_add(digest, folder, strlen(folder) + 1);
    }
    digest_add(digest, used->at, used->length);
    digest_end(digest, key);
}

/* Names what says of a unit that our preprocessor once gave the compiler's tokens of it. */
#define COMPARED "compared"

static void make_unit_key(const struct call *call, char key[NOTE_NAME])
{
    struct digest *digest = digest_new();
    const char *identity = getenv("MEMTOTAL_IDENTITY");
    const char *parts[] = {"unit", compiler, identity ? identity : "", call->object, call->source};
    struct stat about;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        digest_add(digest, parts[i], strlen(parts[i]) + 1);
    if (stat(call->source, &about) == 0) { /* another source is another unit */
        digest_add(digest, &about.st_size, sizeof about.st_size);
        digest_add(digest, &about.st_mtim, sizeof about.st_mtim);
    }
    digest_end(digest, key);
    strcat(key, NOTE);
}

static bool is_known(const char *store, const char *note)
{
    struct text said = {0};
    bool is_there = store_read(store, note, &said);
    free(said.at);
    return is_there;
}

/* Of the units that were compared once, one in 64 that are compiled is compared again. */
static bool is_sampled(const char *key)
{
    const char *asked = getenv("MEMTOTAL_OBJECTS_COMPARE");
    return asked != NULL ? *asked == '1' : key[0] == '0' && key[1] < '4';
}

/* A file in memory that the compiler reads as its standard input: the text, behind the name of the
 * file that it came from, which is in the object too. */
static int text_file(const struct call *call, const struct text *source)
{
    int file = memfd_create("text", MFD_CLOEXEC);
    if (file < 0)
        return -1;
    if (dprintf(file, "# 1 \"%s\"\n", call->source) < 0) {
        close(file);
        return -1;
    }
    for (size_t put = 0; put < source->length;) {
        ssize_t now = write(file, source->at + put, source->length - put);
        if (now <= 0) {
            close(file);
            return -1;
        }
        put += (size_t)now;
    }
    lseek(file, 0, SEEK_SET);
    return file;
}

/* Compiles the text that was preprocessed already; true when it went well and without a word. False
 * may be anything: then the compiler is to be asked as kbuild asked, so that what it says is about
 * the source's own lines. */
static bool compile_text(char **argv, const struct call *call, const char *object,
                         const struct text *source)
{
    int status, count = 0, put = 0;
    if (call->has_debug || call->spoke || strpbrk(call->source, "\"\\\n") != NULL)
        return false;
    int text = text_file(call, source), said = memfd_create("said", MFD_CLOEXEC);
    if (text < 0 || said < 0)
        return false;
    while (argv[count] != NULL)
        count++;
    char **asked = grown(NULL, (size_t)(count + 8) * sizeof *asked);
    for (int i = 0; i < count; i++) {
        if (i > 0 && takes_value(argv[i]) && is_preprocessors(argv[i]))
            i++;
        else if (i > 0 && strcmp(argv[i], "-c") != 0 && is_preprocessors(argv[i]))
            continue;
        else if (argv[i] != call->source)
            asked[put++] = argv[i] == call->object ? (char *)object : argv[i];
    }
    asked[put++] = "-Wno-attribute-alias"; /* a pragma says so where kernels do that */
    asked[put++] = "-Wno-address"; /* it is not said of what macros give, and here are none */
    asked[put++] = "-x";
    asked[put++] = "cpp-output";
    asked[put++] = "-";
    asked[put] = NULL;
    pid_t child = fork();
    if (child == 0) {
        dup2(text, 0);
        dup2(said, 2);
        run_compiler(asked);
    }
    while (child > 0 && waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            exit(1);
    bool silent = lseek(said, 0, SEEK_END) == 0;
    close(text);
    close(said);
    free(asked);
    return child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0 && silent;
}

/* Whether the unit as we rewrote it compiles, and to an object that is as the one of the whole unit. */
static enum comparison compare_rewritten(char **argv, const struct call *call, const struct text *code)
{
    char beside[4096];
    if (snprintf(beside, sizeof beside, "%s.rewritten", call->object) >= (int)sizeof beside ||
        !compile_text(argv, call, beside, code))
        return ABSENT;
    enum comparison found = compare_files(beside, call->object);
    unlink(beside);
    return found;
}

bool compile(char **argv, int *code, struct text *text)
{
    int status, said = memfd_create("said", MFD_CLOEXEC);
    pid_t child = said < 0 ? -1 : fork();
    if (child < 0)
        run_compiler(argv);
    if (child == 0) {
        dup2(said, 2);
        run_compiler(argv);
    }
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            exit(1);
    *code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    char part[4096];
    ssize_t got;
    bool silent = true;
    for (off_t at = 0; (got = pread(said, part, sizeof part, at)) > 0; at += got) {
        silent = false;
        text_add(text, part, (size_t)got);
        for (ssize_t put = 0, now; put < got; put += now)
            if ((now = write(2, part + put, (size_t)(got - put))) <= 0)
                break;
    }
    return *code == 0 && silent;
}

/* For finding out why keys differ: the reduced text, by its key. */
static void keep_reduced(const char *object, const struct text *reduced, const char *key)
{
    const char *keep = getenv("MEMTOTAL_OBJECTS_KEEP");
    char path[4096];
    if (keep == NULL || *keep != '/')
        return;
    snprintf(path, sizeof path, "%s/%s", keep, key);
    FILE *file = fopen(path, "w");
    if (file == NULL)
        return;
    fprintf(file, "%s\n", object);
    if (reduced != NULL)
        fwrite(reduced->at, 1, reduced->length, file);
    fclose(file);
}

static char **asked_argv; /* of the call that questions are about */

struct answer { /* of the compiler, kept while this process lives */
    struct answer *next;
    char key[NOTE_NAME];
    const char *text;
};
static struct answer *answers;

static const char *keep_answer(const char *key, struct text *text)
{
    struct answer *new = grown(NULL, sizeof *new);
    text_add(text, "\0\0\0\0", 4);
    *new = (struct answer){.next = answers, .text = grown(text->at, text->length)};
    strcpy(new->key, key);
    answers = new;
    return new->text;
}

/* Has the compiler read a text; what it puts out for it. */
static bool ask_compiler_itself(char **argv, const char *text, struct text *answer)
{
    int pipes[2], question = memfd_create("question", MFD_CLOEXEC), said = memfd_create("said", MFD_CLOEXEC);
    if (question < 0 || said < 0 || write(question, text, strlen(text)) != (ssize_t)strlen(text) ||
        lseek(question, 0, SEEK_SET) != 0 || pipe2(pipes, O_CLOEXEC) != 0)
        return false;
    pid_t child = fork();
    if (child < 0)
        return false;
    if (child == 0) {
        dup2(question, 0);
        dup2(pipes[1], 1);
        dup2(said, 2);
        run_compiler(argv);
    }
    close(question);
    close(said);
    close(pipes[1]);
    return read_output(child, pipes[0], answer);
}

/* What the compiler answers to a question, asked in a certain way; NULL for nothing. It is kept in the
 * store and depends on the options. The same answer to the same question about the same options is in the
 * same place. */
static const char *ask_by(const char *const *way, const char *question)
{
    const char *store = getenv("MEMTOTAL_OBJECTS"), *identity = getenv("MEMTOTAL_IDENTITY");
    const char *parts[] = {"said", compiler, identity ? identity : "", question};
    struct text known, answer = {0};
    char key[NOTE_NAME];
    struct digest *digest = digest_new();
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        digest_add(digest, parts[i], strlen(parts[i]) + 1);
    int count = 0, put = 0;
    while (asked_argv[count] != NULL)
        count++;
    char **asked = grown(NULL, (size_t)(count + 8) * sizeof *asked);
    asked[put++] = asked_argv[0];
    for (char **arg = asked_argv + 1; *arg != NULL; arg++) {
        bool has_value = strcmp(*arg, "-o") == 0 || takes_value(*arg);
        bool is_wanted = (*arg)[0] == '-' && strcmp(*arg, "-o") != 0 &&
                         (!is_preprocessors(*arg) || strcmp(*arg, "-nostdinc") == 0);
        for (int i = 0; i < 1 + has_value; i++) {
            if (is_wanted) {
                asked[put++] = arg[i];
                digest_add(digest, arg[i], strlen(arg[i]) + 1);
            }
        }
        arg += has_value;
    }
    digest_end(digest, key);
    strcat(key, NOTE);
    for (; *way != NULL; way++)
        asked[put++] = (char *)*way;
    memcpy(asked + put, (char *[]){"-x", "c", "-", NULL}, 4 * sizeof *asked);
    const char *found = NULL;
    for (const struct answer *one = answers; one != NULL && found == NULL; one = one->next)
        if (strcmp(one->key, key) == 0)
            found = one->text;
    if (found == NULL && store_read(store, key, &known)) {
        text_add(&answer, known.at, known.length);
        free(known.at);
        found = keep_answer(key, &answer);
    } else if (found == NULL && ask_compiler_itself(asked, question, &answer)) {
        store_write(store, key, answer.at, answer.length);
        found = keep_answer(key, &answer);
    } else if (found == NULL) {
        struct text nothing = {0};
        found = keep_answer(key, &nothing);
    }
    free(asked);
    return *found ? found : NULL;
}

static const char *ask(const char *question)
{
    return ask_by((const char *const[]){"-E", *question ? "-P" : "-dM", NULL}, question);
}

/* How long a long is, if the compiler places members as it is computed here, and 0 if not. */
static uint32_t ask_long_bytes(void)
{
    const char *bytes = ask("__SIZEOF_LONG__\n");
    if (bytes == NULL || ask_by((const char *const[]){"-S", "-w", "-o", "-", NULL}, layout_question) == NULL)
        return 0;
    return (uint32_t)strtoul(bytes, NULL, 10);
}

bool begin_job(struct job *job, char **argv)
{
    memset(job, 0, sizeof *job);
    job->argv = asked_argv = argv;
    job->store = getenv("MEMTOTAL_OBJECTS");
    compiler = getenv("MEMTOTAL_COMPILER"); /* of a call that was handed over: its own */
    if (compiler == NULL || job->store == NULL || *job->store == 0 || !is_compilation(argv, &job->call))
        return false;
    job->is_distrusted = is_listed(job->store, DISTRUSTED, job->call.object);
    if (job->is_distrusted)
        return true;
    job->checks = getenv("MEMTOTAL_OBJECTS_CHECK") != NULL;
    make_unit_key(&job->call, job->unit_key);
    job->is_trusted = getenv("MEMTOTAL_OBJECTS_COMPARE") != NULL || is_known(job->store, job->unit_key);
    job->other = job->call.has_debug ? "debug information"
                 : is_listed(job->store, UNLIKE, job->call.object)
                     ? "its tokens were not the compiler's"
                     : preprocess_unit(argv, job->call.source, ask);
    job->is_unplaced = is_listed(job->store, UNPLACED, job->call.object);
    long_bytes = job->is_unplaced ? 0 : ask_long_bytes();
    return true;
}

/* Whether the compiler reads the tokens that we do; its text of them is `source` then. What is stored
 * has to be named by what the compiler reads, not by what we think it does. */
static bool is_read_alike(const struct job *job, struct call *call, struct text *source)
{
    if (!preprocess(job->argv, call, source)) {
        note("compiled", call->object, "the compiler's preprocessor failed");
        run_compiler(job->argv);
    }
    if (is_text_of_tokens(source->at, source->length))
        return true;
    add_to_list(job->store, UNLIKE, call->object);
    note(job->checks ? "UNLIKE" : "compiled", call->object, token_difference());
    return false;
}

/* Compiles everything as it is written, and compares it with what is stored. */
static int check_job(const struct job *job, const char *key, const char *detail)
{
    struct text said = {0};
    int status;
    bool stores = compile(job->argv, &status, &said);
    enum comparison found = status == 0 ? store_compare(job->store, key, job->call.object) : ABSENT;
    note(found == SAME ? "same" : found == DIFFERENT ? "DIFFERENT" : "compiled", job->call.object, detail);
    if (stores && found == ABSENT && !has_offsets)
        store_put(job->store, key, job->call.object);
    return status;
}

int finish_job(struct job *job)
{
    char **argv = job->argv, key[DIGEST_HEX];
    struct call call = job->call;
    struct text source = {0}, reduced = {0}, code = {0}, said = {0};
    const char *store = job->store, *other = job->other, *problem = NULL;
    int status;
    if (job->is_distrusted) {
        note("compiled", call.object, "distrusted");
        run_compiler(argv);
    }
    if (other == NULL)
        other = gather_unit();
    bool reads_files = other == NULL && reads_other_files();
    if (other == NULL)
        problem = call.may_reduce ? reduce_unit(&reduced) : "strict aliasing";
    bool is_own = other == NULL && problem == NULL;
    if (!is_own) {
        if (!preprocess(argv, &call, &source))
            run_compiler(argv);
        reads_files = includes_in_assembly(&source);
        if (other != NULL)
            problem = call.has_debug     ? "debug information"
                      : !call.may_reduce ? "strict aliasing"
                                         : read_unit(source.at, source.length);
        if (problem == NULL)
            problem = reduce_unit(&reduced);
    }
    if (reads_files) {
        note("compiled", call.object, "assembly that reads other files");
        run_compiler(argv);
    }
    make_key(argv, &call, problem ? &source : &reduced, problem == NULL, key);
    keep_reduced(call.object, problem ? NULL : &reduced, key);
    const char *detail = problem ? problem : other && *other ? other : key;
    unlink(call.object);
    if (!job->checks && store_get(store, key, call.object)) {
        note("reused", call.object, detail);
        return 0;
    }
    bool may_rewrite = problem == NULL && !job->checks && !job->is_unplaced;
    bool is_rewritten = may_rewrite && rewrite_unit(&code) == NULL;
    bool is_whole = !is_rewritten || is_sampled(key);
    if (is_own && (is_whole || !job->is_trusted) && !is_read_alike(job, &call, &source)) {
        compile(argv, &status, &said);
        return status;
    }
    if (job->checks)
        return check_job(job, key, detail);
    enum comparison rewritten = ABSENT; /* what it compiles to */
    if (!is_whole && compile_text(argv, &call, call.object, &code)) {
        note("rewritten", call.object, detail);
        rewritten = SAME;
    } else {
        if (is_own && source.length == 0 && !is_read_alike(job, &call, &source)) {
            compile(argv, &status, &said);
            return status;
        }
        note(problem ? "compiled-whole" : "compiled", call.object, detail);
        bool is_compiled = source.length > 0 && !job->is_unplaced &&
                           compile_text(argv, &call, call.object, &source);
        if (!is_compiled && !compile(argv, &status, &said))
            return status;
        if (is_whole && is_rewritten)
            rewritten = compare_rewritten(argv, &call, &code);
    }
    if (rewritten == DIFFERENT) {
        add_to_list(store, DISTRUSTED, call.object);
        note("unlike", call.object, "what it was reduced to compiles to another object");
        return 0;
    }
    if (rewritten == ABSENT && may_rewrite) { /* nobody has seen that it was understood */
        add_to_list(store, UNPLACED, call.object);
        return 0;
    }
    store_put(store, key, call.object);
    if (is_own && !job->is_trusted)
        store_write(store, job->unit_key, COMPARED, strlen(COMPARED));
    return 0;
}

bool is_made_already(struct job *job)
{
    struct text reduced = {0};
    char key[DIGEST_HEX];
    if (job->is_distrusted || job->other != NULL || gather_unit() != NULL || reads_other_files() ||
        !job->call.may_reduce || reduce_unit(&reduced) != NULL)
        return false;
    make_key(job->argv, &job->call, &reduced, true, key);
    return store_compare(job->store, key, job->call.object) == SAME;
}

int main(int argc, char **argv)
{
    struct job job;
    int code;
    sigprocmask(SIG_SETMASK, NULL, &blocked_signals);
    if (argc > 2 && strcmp(argv[1], "--serve") == 0)
        return serve(argv + 2);
    if (is_make(argv[0]))
        return run_make(argv);
    compiler = getenv("MEMTOTAL_COMPILER");
    if (compiler == NULL || *compiler != '/') {
        fputs("memtotal: MEMTOTAL_COMPILER is not the path of a compiler\n", stderr);
        return 127;
    }
    const char *store = getenv("MEMTOTAL_OBJECTS");
    bool checks = getenv("MEMTOTAL_OBJECTS_CHECK") != NULL;
    if (store != NULL && *store != 0 && !checks && answer_probe(argv, store, &code))
        return code;
    if (is_compilation(argv, &job.call) && !checks && ask_server(argv, &code))
        return code;
    if (!begin_job(&job, argv))
        run_compiler(argv);
    return finish_job(&job);
}
