/* The server of a build: a process that keeps what headers give (stretches.c), for all its units.
 *
 * `memtotal-cc --serve make ...` runs make and stays beside it. A stand-in that make's recipes start
 * hands its call over: arguments, environment, standard files. The reader preprocesses, one unit
 * after the other, and leaves the rest to a child of its own for each, which has all that was read.
 * What the child comes to, the stand-in comes to. A stand-in that gets no answer does the work itself:
 * whatever happens here is to cost time, never an object. So it waits until nobody is left who might
 * still write its object: the child and its compilers hold the other end of its socket.
 *
 * Before the first of the kernel's own objects the reader looks over those that are in the tree: many
 * that make is about to ask for will come out as they are (lookahead.c). Where make has more than one
 * job, a copy of the reader helps it.
 *
 * Reader and children are in make's process group: who ends that ends all. When a header changes
 * during the build, or too much is kept, the reader ends and another begins with nothing.
 */

#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "objcache.h"

#define SERVER "MEMTOTAL_SERVER" /* the name of its socket, for the stand-ins */
#define MOST_UNITS 256           /* at a time */
#define MOST_BYTES (1u << 30)    /* kept by one process that reads */
#define MOST_LOOKS 2             /* ahead, at a time, of one that looks */
#define LOOKS_ALONE 64           /* before there is a second one, which then has most headers already */
#define MOST_FAILURES 3          /* of readers: then everybody works for himself */
#define ALONE (-1)               /* for an exit code: do it yourself */
#define STANDARD_FILES 3

extern char **environ;

struct request { /* followed by the words: folder, arguments, environment, each with its zero byte */
    unsigned bytes, arguments, variables;
    mode_t mask; /* umask() */
};

/* --- the stand-in's side */

static socklen_t address_of(const char *name, struct sockaddr_un *address)
{
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX; /* a name that begins with a zero byte is no file */
    strncpy(address->sun_path + 1, name, sizeof address->sun_path - 2);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
}

static bool is_mine(int peer)
{
    struct ucred who;
    socklen_t length = sizeof who;
    return getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &who, &length) == 0 && who.uid == geteuid();
}

static bool transfer(int peer, void *bytes, size_t length, bool sends)
{
    for (char *at = bytes; length > 0;) {
        ssize_t moved = sends ? send(peer, at, length, MSG_NOSIGNAL) : recv(peer, at, length, 0);
        if (moved < 0 && errno == EINTR)
            continue;
        if (moved <= 0)
            return false;
        at += moved;
        length -= (size_t)moved;
    }
    return true;
}

union files { /* room for a message with the standard files in it */
    char bytes[CMSG_SPACE(STANDARD_FILES * sizeof(int))];
    struct cmsghdr align;
};

static bool send_request(int peer, struct request *request, struct text *words)
{
    union files room = {0};
    struct iovec part = {request, sizeof *request};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room.bytes,
                             .msg_controllen = sizeof room.bytes};
    struct cmsghdr *files = CMSG_FIRSTHDR(&message);
    *files = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
                              .cmsg_len = CMSG_LEN(STANDARD_FILES * sizeof(int))};
    memcpy(CMSG_DATA(files), (int[]){0, 1, 2}, STANDARD_FILES * sizeof(int));
    return sendmsg(peer, &message, MSG_NOSIGNAL) == (ssize_t)sizeof *request &&
           transfer(peer, words->at, words->length, true);
}

static unsigned add_words(struct text *words, char **each)
{
    unsigned count = 0;
    for (; each[count] != NULL; count++)
        text_add(words, each[count], strlen(each[count]) + 1);
    return count;
}

bool ask_server(char **argv, int *code)
{
    const char *name = getenv(SERVER);
    char folder[4096];
    struct sockaddr_un address;
    struct text words = {0};
    if (name == NULL || *name == 0 || strlen(name) > sizeof address.sun_path - 2 ||
        getcwd(folder, sizeof folder) == NULL)
        return false;
    int peer = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t length = address_of(name, &address);
    if (peer < 0)
        return false;
    text_add(&words, folder, strlen(folder) + 1);
    struct request request = {.arguments = add_words(&words, argv)};
    request.variables = add_words(&words, environ);
    request.bytes = (unsigned)words.length;
    request.mask = umask(0);
    umask(request.mask);
    bool answered = connect(peer, (struct sockaddr *)&address, length) == 0 && is_mine(peer) &&
                    send_request(peer, &request, &words) &&
                    transfer(peer, code, sizeof *code, false) && *code != ALONE;
    close(peer);
    free(words.at);
    return answered;
}

/* --- the reader's side */

struct unit_call { /* as a stand-in handed it over */
    int files[STANDARD_FILES];
    mode_t mask;
    char *words, *folder, **argv, **variables;
};

static struct {
    pid_t child;
    int peer;
} running[MOST_UNITS];
static unsigned running_count;

static char **split(char **word, unsigned count)
{
    char **each = grown(NULL, (count + 1) * sizeof *each);
    for (unsigned i = 0; i < count; i++, *word += strlen(*word) + 1)
        each[i] = *word;
    each[count] = NULL;
    return each;
}

static bool receive_request(int peer, struct unit_call *call)
{
    struct request request;
    union files room;
    struct iovec part = {&request, sizeof request};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room.bytes,
                             .msg_controllen = sizeof room.bytes};
    if (recvmsg(peer, &message, MSG_CMSG_CLOEXEC | MSG_WAITALL) != (ssize_t)sizeof request)
        return false;
    struct cmsghdr *files = CMSG_FIRSTHDR(&message);
    if (files == NULL || files->cmsg_type != SCM_RIGHTS ||
        files->cmsg_len != CMSG_LEN(sizeof call->files))
        return false;
    memcpy(call->files, CMSG_DATA(files), sizeof call->files);
    call->mask = request.mask;
    char *word = call->words = grown(NULL, request.bytes + 1u);
    if (!transfer(peer, word, request.bytes, false))
        return false;
    call->folder = word;
    word += strlen(word) + 1;
    call->argv = split(&word, request.arguments);
    call->variables = split(&word, request.variables);
    return true;
}

static void answer(int peer, int code)
{
    transfer(peer, &code, sizeof code, true);
    close(peer);
}

static void drop(struct unit_call *call)
{
    for (int i = 0; i < STANDARD_FILES; i++)
        if (call->files[i] >= 0)
            close(call->files[i]);
    free(call->words);
    free(call->argv);
    free(call->variables);
}

static void collect_children(void)
{
    int status;
    for (pid_t child; (child = waitpid(-1, &status, WNOHANG)) > 0;)
        for (unsigned i = 0; i < running_count; i++)
            if (running[i].child == child) {
                if (running[i].peer < 0)
                    ; /* nobody asked */
                else if (WIFEXITED(status))
                    answer(running[i].peer, WEXITSTATUS(status));
                else
                    close(running[i].peer); /* its compilers may live yet */
                running[i] = running[--running_count];
                break;
            }
}

/* Begins a child that has all that was read: for what is left of a job, its exit code for the peer, if there
 * is one. */
static pid_t begin_child(void)
{
    pid_t reader = getpid(), child = fork();
    if (child != 0)
        return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGCHLD, SIG_DFL);
    is_handed_over = true;
    if (getppid() != reader)
        raise(SIGKILL);
    return 0;
}

static void count_child(pid_t child, int peer)
{
    running[running_count].child = child;
    running[running_count++].peer = peer;
}

static sigset_t nothing_blocked; /* the end of a child interrupts a wait with these */

static void woken(int signal)
{
    (void)signal;
}

static void catch_ends(void)
{
    struct sigaction action = {.sa_handler = woken};
    sigaction(SIGCHLD, &action, NULL);
}

static void wait_for_children(unsigned left)
{
    while (collect_children(), running_count > left)
        ppoll(NULL, 0, NULL, &nothing_blocked);
}

/* Of an object that make would ask for: whether it has to. */
static bool consider(struct recipe *recipe)
{
    struct job job;
    if (remembers_too_much(MOST_BYTES))
        return false; /* others may go on */
    if (!begin_job(&job, recipe->argv) || job.other != NULL || strcmp(job.call.object, recipe->object) != 0)
        return true;
    wait_for_children(MOST_LOOKS - 1);
    pid_t child = begin_child();
    if (child == 0)
        _exit(!is_made_already(&job) || !write_recipe(recipe) || !keep_object(recipe));
    if (child > 0)
        count_child(child, -1);
    return true;
}

static bool has_looked; /* this reader or the one before it */
static bool is_parallel; /* make runs more than one recipe at a time */

/* What runs is the reader's, and whoever waits for it waits for the reader alone. */
static void forget_running(void)
{
    for (unsigned i = 0; i < running_count; i++)
        if (running[i].peer >= 0)
            close(running[i].peer);
    running_count = 0;
    is_handed_over = false;
    catch_ends();
}

/* To be called before the first of the kernel's own objects: then most headers are made, and those made
 * later are newer than what is kept here. False where it may have missed some. */
static bool look(void)
{
    bool are_all;
    if (!find_objects(&are_all))
        return false;
    look_ahead(consider, LOOKS_ALONE);
    pid_t other = is_parallel ? begin_child() : -1;
    if (other == 0)
        forget_running();
    look_ahead(consider, UINT32_MAX);
    wait_for_children(0);
    if (other == 0)
        _exit(0);
    while (other > 0 && waitpid(other, NULL, 0) < 0 && errno == EINTR)
        ;
    return are_all;
}

/* Where the first command is another than before, so are probably all commands, and nothing will be as it
 * was. */
static void look_ahead_once(char **argv)
{
    const char *object = has_looked ? NULL : object_of(argv);
    if (object == NULL || starts(object, "scripts/") || starts(object, "tools/"))
        return;
    has_looked = true;
    if (!is_new_command(object, argv))
        look();
}

/* make's stand-in asks: a folder, the digest of what it would tell make, the source tree. */
static bool is_folder_settled(char **argv)
{
    if (argv[1] == NULL || argv[2] == NULL || argv[3] == NULL)
        return false;
    if (!has_looked && knows_folder(argv[1], argv[2])) {
        has_looked = true;
        if (look())
            judge_folders(argv[3]);
    }
    return is_settled(argv[1], argv[2]);
}

/* Preprocesses a unit here, and does the rest in a child. */
static void take_call(int peer)
{
    static char folder[4096]; /* of the first unit: names of files are relative to it */
    struct unit_call call = {.files = {-1, -1, -1}};
    struct job job;
    pid_t child = -1;
    int code = ALONE;
    char **mine = environ;
    bool is_known = is_mine(peer) && running_count < MOST_UNITS && receive_request(peer, &call) &&
                    strlen(call.folder) < sizeof folder;
    if (is_known && *folder == 0 && chdir(call.folder) == 0)
        strcpy(folder, call.folder);
    if (is_known && strcmp(folder, call.folder) == 0) {
        environ = call.variables;
        if (is_make(call.argv[0])) {
            code = is_folder_settled(call.argv) ? 0 : ALONE;
        } else if (look_ahead_once(call.argv), begin_job(&job, call.argv) && (child = begin_child()) == 0) {
            umask(call.mask);
            for (int i = 0; i < STANDARD_FILES; i++)
                dup2(call.files[i], i);
            fcntl(peer, F_SETFD, 0); /* its compilers are to hold it too */
            exit(finish_job(&job));
        }
        environ = mine;
    }
    drop(&call);
    if (child > 0)
        count_child(child, peer);
    else
        answer(peer, code);
}

static _Noreturn void read_units(int door)
{
    sigset_t child;
    sigemptyset(&nothing_blocked);
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    catch_ends();
    remember_headers();
    for (;;) {
        collect_children();
        bool ends = remembers_too_much(MOST_BYTES);
        if (ends && running_count == 0)
            exit(0);
        struct pollfd calls = {.fd = ends ? -1 : door, .events = POLLIN};
        if (ppoll(&calls, 1, NULL, &nothing_blocked) > 0) {
            int peer = accept4(door, NULL, NULL, SOCK_CLOEXEC);
            if (peer >= 0)
                take_call(peer);
        }
    }
}

/* --- beside make */

static pid_t start(void (*run)(void *), void *what)
{
    pid_t parent = getpid(), child = fork();
    if (child != 0)
        return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    run(what);
    _exit(127);
}

static void become_make(void *argv)
{
    char *const *words = argv;
    execvp(words[0], words);
    fprintf(stderr, "%s: %s\n", words[0], strerror(errno));
}

static void run_reader(void *door)
{
    read_units(*(int *)door);
}

/* A socket with a name that nobody knows but make's children; -1 when there can be none. */
static int open_door(void)
{
    char name[64];
    unsigned long long secret;
    struct sockaddr_un address;
    int door = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (door < 0 || getrandom(&secret, sizeof secret, 0) != (ssize_t)sizeof secret)
        return -1;
    snprintf(name, sizeof name, "memtotal-%d-%016llx", (int)getpid(), secret);
    socklen_t length = address_of(name, &address);
    if (bind(door, (struct sockaddr *)&address, length) != 0 || listen(door, 1024) != 0 ||
        setenv(SERVER, name, 1) != 0)
        return -1;
    return door;
}

/* Starts a reader; without one nobody is to wait before the door. */
static pid_t open_up(int *door, bool may_try)
{
    pid_t reader = *door >= 0 && may_try ? start(run_reader, door) : -1;
    has_looked = true; /* for the next one */
    if (reader < 0 && *door >= 0) {
        close(*door);
        *door = -1;
    }
    return reader;
}

int serve(char **argv)
{
    int status = 0, failures = 0, door = open_door();
    begin_looking();
    begin_walk();
    if (door < 0)
        unsetenv(SERVER);
    signal(SIGTERM, SIG_IGN); /* it is for make, which tidies up and ends */
    signal(SIGINT, SIG_IGN);
    for (char **word = argv; *word != NULL; word++)
        is_parallel |= starts(*word, "-j") && strcmp(*word, "-j1") != 0;
    pid_t make = start(become_make, argv);
    if (make < 0) {
        perror("memtotal: make cannot be started");
        return 2;
    }
    pid_t reader = open_up(&door, true);
    for (pid_t ended; (ended = wait(&status)) != make;) {
        if (ended < 0 && errno != EINTR)
            return 2;
        if (ended < 0 || ended != reader)
            continue;
        failures += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
        reader = open_up(&door, failures < MOST_FAILURES);
    }
    if (reader > 0) {
        int ignored;
        kill(reader, SIGKILL);
        waitpid(reader, &ignored, 0); /* its processor time is the build's */
    }
    end_walk(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    if (WIFSIGNALED(status)) {
        signal(WTERMSIG(status), SIG_DFL);
        raise(WTERMSIG(status));
    }
    return WEXITSTATUS(status);
}
