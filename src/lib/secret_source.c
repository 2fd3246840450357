#include "lib/secret_source.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/fdio.h"
#include "base/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* A value, the line breaks behind it, and a byte more, which is too many. */
enum { ROOM_BYTES = SECRET_VALUE_MAX + 64 };

/* Where the value stands while it is here. */
struct room {
	uint8_t *at; /* ROOM_BYTES */
	size_t len;
};

static void room_free(const struct room *r)
{
	if (!r->at)
		return;
	explicit_bzero(r->at, ROOM_BYTES);
	(void)munmap(r->at, ROOM_BYTES);
}

static inline void room_free_scope(const struct room *r)
{
	room_free(r);
}

static int room_make(struct room *ret, struct err *e)
{
	void *at =
		mmap(NULL, ROOM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		return err_sys(e, "memory for a secret");
	/* a user whose limit of locked memory is nothing has the rest all the same */
	(void)mlock(at, ROOM_BYTES);
	(void)madvise(at, ROOM_BYTES, MADV_DONTDUMP);
	(void)madvise(at, ROOM_BYTES, MADV_DONTFORK);
	*ret = (struct room){ .at = at };
	return 0;
}

static bool blank(uint8_t c)
{
	return c == ' ' || c == '\t';
}

/* NULL, or why not: the end of a sentence that begins with where it is from. */
static const char *value_fault(const struct room *r)
{
	if (r->len == 0)
		return "is empty";
	if (r->len < SECRET_VALUE_MIN)
		return "is under 8 bytes long; replies could not be searched for so short a text";
	if (r->len > SECRET_VALUE_MAX)
		return "is over 16384 bytes long, which no header takes";
	for (size_t i = 0; i < r->len; i++) {
		if (r->at[i] == '\n' || r->at[i] == '\r')
			return "has more than one line; a secret is sent as part of one";
		if ((r->at[i] < ' ' && r->at[i] != '\t') || r->at[i] == 0x7f)
			return "has a control byte in it; a secret is sent as part of a line of text";
	}
	if (blank(r->at[0]) || blank(r->at[r->len - 1]))
		return "begins or ends with a blank, which does not survive in a header";
	return NULL;
}

static bool trim(struct room *r)
{
	size_t before = r->len;

	while (r->len > 0 && (r->at[r->len - 1] == '\n' || r->at[r->len - 1] == '\r'))
		r->len--;
	return r->len < before;
}

/* What stands in the room becomes the file. where: "the variable TOKEN". */
static int finish(struct room *r, bool trims, const char *where, struct secret_value *ret,
                  struct err *e)
{
	struct secret_value got = { .fd = -1, .trimmed = trims && trim(r) };
	const char *why = value_fault(r);
	int res;

	if (why)
		return err_set(e, r->len == 0 ? -ENOENT : -EINVAL, "%s %s", where, why);
	res = fd_sealed("berm-secret", r->at, r->len, &got.fd, e);
	if (res == 0)
		*ret = got;
	return res;
}

static const char *env_value(const char *const *envp, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; envp && envp[i]; i++)
		if (strncmp(envp[i], name, len) == 0 && envp[i][len] == '=')
			return envp[i] + len + 1;
	return NULL;
}

static int from_memory(struct span value, const char *where, struct secret_value *ret,
                       struct err *e)
{
	_own_(room_free) struct room room = { 0 };
	int r = room_make(&room, e);

	if (r < 0)
		return r;
	room.len = value.len < ROOM_BYTES ? value.len : ROOM_BYTES;
	if (room.len > 0)
		memcpy(room.at, value.at, room.len);
	return finish(&room, false, where, ret, e);
}

static int from_env(const char *variable, const char *const *envp, struct secret_value *ret,
                    struct err *e)
{
	const char *value = env_value(envp, variable);
	char where[POLICY_SECRET_NAME_MAX + 32];

	if (!value)
		return err_set(e, -ENOENT,
		               "the variable %s is not set; export it, or name another source: a "
		               "file, a command, a keyring",
		               variable);
	(void)snprintf(where, sizeof(where), "the variable %.*s", POLICY_SECRET_NAME_MAX, variable);
	return from_memory(span_str(value), where, ret, e);
}

/* Is the line there that was asked for? Only then does reading end before the file. */
static bool has_line(const struct room *r, bool line)
{
	return line && memchr(r->at, '\n', r->len) != NULL;
}

/* Reads to the end, or until the room is full. deadline_ms 0: as long as it takes. */
static int fill(int fd, bool line, uint64_t deadline_ms, struct room *r, struct err *e)
{
	while (r->len < ROOM_BYTES && !has_line(r, line)) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		uint64_t now = clock_mono_ms();
		int wait = deadline_ms == 0 ? -1 : deadline_ms > now ? (int)(deadline_ms - now) : 0;
		int ready = poll(&p, 1, wait);
		ssize_t n;

		if (ready < 0 && errno != EINTR)
			return err_sys(e, "wait for it");
		if (ready == 0)
			return err_set(e, -ETIMEDOUT, "it said nothing for too long");
		if (ready < 0)
			continue;
		n = read(fd, r->at + r->len, ROOM_BYTES - r->len);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return err_sys(e, "read it");
		if (n == 0)
			return 0;
		r->len += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int from_fd(int fd, bool line, const char *where, struct secret_value *ret, struct err *e)
{
	_own_(room_free) struct room room = { 0 };
	int r = room_make(&room, e);

	if (r == 0)
		r = fill(fd, line, 0, &room, e);
	if (r < 0)
		return err_wrap(e, "%s", where);
	if (line) {
		const uint8_t *end = memchr(room.at, '\n', room.len);

		room.len = end ? (size_t)(end - room.at) + 1 : room.len;
	}
	return finish(&room, true, where, ret, e);
}

static int from_file(const char *path, const char *const *envp, struct secret_value *ret,
                     struct err *e)
{
	const char *home = env_value(envp, "HOME");
	char full[PATH_MAX];
	char where[256];
	_own_fd_ int fd = -1;
	struct stat st;
	int n = path[0] == '~' && path[1] == '/' && home
	                ? snprintf(full, sizeof(full), "%s%s", home, path + 1)
	                : snprintf(full, sizeof(full), "%s", path);
	int r;

	if (n < 0 || (size_t)n >= sizeof(full))
		return err_set(e, -EINVAL, "the file's path is too long");
	/* a pipe, as of <(command), has its writer by now or is waited for */
	r = fd_open(full, O_RDONLY | O_NOCTTY, 0, &fd, e);
	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return err_sys(e, "'%.200s'", full);
	if (!S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode))
		return err_set(e, -EINVAL, "'%.200s' is neither a file nor a pipe", full);
	(void)snprintf(where, sizeof(where), "the file '%.200s'", full);
	return from_fd(fd, false, where, ret, e);
}

/* Where a word without a slash is in PATH. */
static bool find_program(const char *word, const char *const *envp, char ret[PATH_MAX])
{
	const char *path = env_value(envp, "PATH");
	struct span rest = span_str(path ? path : "/usr/local/bin:/usr/bin:/bin");
	struct span dir;

	if (strchr(word, '/')) {
		int n = snprintf(ret, PATH_MAX, "%s", word);

		return n > 0 && n < PATH_MAX && access(ret, X_OK) == 0;
	}
	while (take_until(&rest, ':', &dir)) {
		int n = snprintf(ret, PATH_MAX, "%.*s/%s", (int)dir.len, (const char *)dir.at,
		                 word);

		/* an empty or relative part would be the directory we happen to stand in */
		if (dir.len > 0 && dir.at[0] == '/' && n > 0 && n < PATH_MAX &&
		    access(ret, X_OK) == 0)
			return true;
	}
	return false;
}

/* What it said, whether it ended well or not. */
static int run(const char *path, const char *const *argv, const char *const *envp,
               struct room *room, siginfo_t *ret_end, struct err *e)
{
	_own_fd_ int pidfd = -1;
	_own_fd_ int out = -1;
	_own_fd_ int in = -1;
	struct spawn s = { .path = path, .argv = argv, .envp = envp, .fd_count = 3 };
	int pipes[2];
	pid_t pid;
	int r;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return err_sys(e, "a pipe");
	out = pipes[0];
	in = pipes[1];
	s.fds[0] = -1;
	s.fds[1] = in;
	s.fds[2] = STDERR_FILENO;
	r = spawn_child(&s, &pid, &pidfd, e);
	if (r < 0)
		return r;
	(void)close(steal_fd(&in));
	r = fill(out, false, clock_mono_ms() + SECRET_COMMAND_MS, room, e);
	if (r < 0 || room->len == ROOM_BYTES)
		(void)kill(pid, SIGKILL);
	(void)close(steal_fd(&out)); /* one that goes on writing ends of it */
	while (waitid(P_PIDFD, (id_t)pidfd, ret_end, WEXITED) < 0)
		if (errno != EINTR)
			return err_sys(e, "wait for it");
	return r;
}

static int run_words(const char *const *argv, const char *const *envp, struct room *room,
                     siginfo_t *ret_end, struct err *e)
{
	char path[PATH_MAX];

	if (!find_program(argv[0], envp, path))
		return err_set(e, -ENOENT, "there is no such program in PATH");
	return run(path, argv, envp, room, ret_end, e);
}

static int from_command(struct span words, const char *const *envp, struct secret_value *ret,
                        struct err *e)
{
	_own_(room_free) struct room room = { 0 };
	const char *argv[SECRET_COMMAND_WORDS_MAX + 1] = { NULL };
	siginfo_t end = { 0 };
	char where[128];
	struct span word;
	unsigned count = 0;
	int r;

	while (take_until(&words, '\0', &word)) {
		if (count == SECRET_COMMAND_WORDS_MAX)
			return err_set(e, -EINVAL, "a command of over %d words",
			               SECRET_COMMAND_WORDS_MAX);
		argv[count++] = (const char *)word.at; /* a NUL is behind each */
	}
	if (!argv[0] || !argv[0][0])
		return err_set(e, -EINVAL, "a command without words");
	(void)snprintf(where, sizeof(where), "the command %.100s", argv[0]);
	r = room_make(&room, e);
	if (r == 0)
		r = run_words(argv, envp, &room, &end, e);
	if (r < 0)
		return err_wrap(e, "%s", where);
	if (room.len < ROOM_BYTES && (end.si_code != CLD_EXITED || end.si_status != 0))
		return err_set(e, -ECHILD, "%s %s %d; run it by hand to see why", where,
		               end.si_code == CLD_EXITED ? "exited with" : "was ended by signal",
		               end.si_status);
	return finish(&room, true, where, ret, e);
}

/*
 * "service=x,account=y", or one word, which is the service. The attributes are what the item was
 * stored with: secret-tool store --label=NAME service x account y.
 */
static int keyring_words(struct span item, char *room, size_t size, const char **argv,
                         struct err *e)
{
	unsigned count = 2;
	struct buf b;
	struct span pair;

	argv[0] = "secret-tool";
	argv[1] = "lookup";
	buf_init(&b, room, size);
	while (take_until(&item, ',', &pair)) {
		const uint8_t *eq = pair.len > 0 ? memchr(pair.at, '=', pair.len) : NULL;
		size_t key = eq ? (size_t)(eq - pair.at) : 0;

		if (count + 2 > SECRET_COMMAND_WORDS_MAX || pair.len == 0 || (eq && key == 0) ||
		    (!eq && (item.len > 0 || count > 2)))
			return err_set(e, -EINVAL,
			               "a keyring's item is one word, its service, or "
			               "ATTRIBUTE=VALUE[,ATTRIBUTE=VALUE...]");
		argv[count++] = eq ? (const char *)b.at + b.len : "service";
		if (eq) {
			buf_put(&b, pair.at, key);
			buf_put_u8(&b, 0);
		}
		argv[count++] = (const char *)b.at + b.len;
		buf_put(&b, eq ? eq + 1 : pair.at, eq ? pair.len - key - 1 : pair.len);
		buf_put_u8(&b, 0);
	}
	return buf_ok(&b) && count > 2 ? 0 : err_set(e, -EINVAL, "no keyring's item");
}

static int from_keyring(struct span item, const char *const *envp, struct secret_value *ret,
                        struct err *e)
{
	_own_(room_free) struct room room = { 0 };
	const char *argv[SECRET_COMMAND_WORDS_MAX + 1] = { NULL };
	char words[POLICY_SOURCE_MAX + SECRET_COMMAND_WORDS_MAX];
	siginfo_t end = { 0 };
	char path[PATH_MAX];
	int r = keyring_words(item, words, sizeof(words), argv, e);

	if (r < 0)
		return r;
	if (!find_program(argv[0], envp, path))
		return err_set(e, -ENOENT,
		               "secret-tool is not installed, which reads the desktop's keyring; "
		               "install it: apt install libsecret-tools");
	r = room_make(&room, e);
	if (r == 0)
		r = run(path, argv, envp, &room, &end, e);
	if (r < 0)
		return err_wrap(e, "secret-tool");
	if (room.len == 0 || end.si_code != CLD_EXITED || end.si_status != 0)
		return err_set(e, -ENOENT,
		               "the keyring has no item '%.*s', or is locked; try: secret-tool "
		               "lookup %.64s %.64s",
		               (int)item.len, (const char *)item.at, argv[2], argv[3]);
	return finish(&room, true, "the keyring's item", ret, e);
}

static int open_source(const struct policy_source *s, const char *const *envp,
                       struct secret_value *ret, struct err *e)
{
	char text[POLICY_SOURCE_MAX + 1];

	if (s->what.len == 0 || s->what.len > POLICY_SOURCE_MAX)
		return err_set(e, -EINVAL, "a source of 1 to %d bytes", POLICY_SOURCE_MAX);
	memcpy(text, s->what.at, s->what.len);
	text[s->what.len] = '\0';
	switch (s->from) {
	case SECRET_ENV:
		return from_env(text, envp, ret, e);
	case SECRET_FILE:
		return from_file(text, envp, ret, e);
	case SECRET_COMMAND:
		/* each word ends with a NUL, the last one as well */
		return from_command(span_of(text, s->what.len), envp, ret, e);
	case SECRET_KEYRING:
		return from_keyring(s->what, envp, ret, e);
	}
	return err_set(e, -EINVAL, "no source that is known");
}

int secret_source_open(const struct policy_source *s, const char *const *envp,
                       struct secret_value *ret, struct err *e)
{
	int r = open_source(s, envp, ret, e);

	return r < 0 ? err_wrap(e, "the secret %.64s", s->name) : 0;
}

int secret_source_read(const char *name, int fd, bool line, struct secret_value *ret, struct err *e)
{
	int r = from_fd(fd, line, "what was given", ret, e);

	return r < 0 ? err_wrap(e, "the secret %.64s", name) : 0;
}

int secret_source_copy(const char *name, struct span value, struct secret_value *ret, struct err *e)
{
	int r = from_memory(value, "what was given", ret, e);

	return r < 0 ? err_wrap(e, "the secret %.64s", name) : 0;
}
