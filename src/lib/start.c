/*
 * Theory of operation
 *
 * The command prepares all that a supervisor needs as open files, so that the supervisor never
 * looks for anything by name: the spec in a sealed memory file, the directory, the image's disk,
 * and the lock. The lock is taken here, before the directory appears, and travels as an open file;
 * our copy is closed once the supervisor runs. So from the first moment to the last the lock is
 * held by exactly those who could still bring the sandbox to life, and it is free when they are
 * dead, whoever was killed when.
 */
#include "lib/start.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/spawn.h"
#include "engine/saved.h"
#include "state/state.h"
#include "state/work_session.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum {
	ID_TRIES = 8, /* of 48 random bits: one is enough but for a broken generator */
	ID_BYTES = SPEC_ID_LEN / 2,
};

/* A sandbox that is being made: undone when its scope ends, unless it was handed on. */
struct making {
	int state_fd; /* borrowed */
	const char *name;
	char id[SPEC_ID_LEN + 1];
	bool made, claimed;
	bool embedded;            /* by a program that is not berm */
	const struct saved *from; /* what it is a copy of, or NULL */
	const struct egress_plan *net;
	const struct work_session *session; /* or NULL */
	int dir_fd, lock_fd;
};

static void making_fini(const struct making *m)
{
	struct err ignored = { 0 };

	if (m->claimed)
		state_release_name(m->state_fd, m->name, m->id);
	if (m->made && state_end(m->state_fd, m->id, NULL, span_of(NULL, 0), &ignored) < 0)
		ignored.code = 0; /* the lock goes next, so the next sweep takes it */
	if (m->dir_fd >= 0)
		(void)close(m->dir_fd);
	if (m->lock_fd >= 0)
		(void)close(m->lock_fd);
}

static inline void making_fini_scope(const struct making *m)
{
	making_fini(m);
}

static void make_id(char ret[SPEC_ID_LEN + 1])
{
	uint8_t raw[ID_BYTES];

	random_bytes(raw, sizeof(raw));
	for (size_t i = 0; i < sizeof(raw); i++)
		(void)snprintf(ret + 2 * i, 3, "%02x", raw[i]);
}

/* argv for people: joined by blanks, cut where it is full. Whoever shows it escapes it. */
static void join_command(const char *const *argv, char *ret, size_t size)
{
	size_t len = 0;

	for (size_t i = 0; argv[i] && len + 1 < size; i++) {
		int n = snprintf(ret + len, size - len, "%s%s", i > 0 ? " " : "", argv[i]);

		len = n < 0 || (size_t)n >= size - len ? size - 1 : len + (size_t)n;
	}
	ret[len] = '\0';
}

static int make_dir(struct making *m, const struct spec *spec, struct err *e)
{
	_own_fd_ int sandboxes_fd = -1;
	struct state_info info = { .created_ns = clock_real_ns() };
	int r = fd_openat(m->state_fd, "sandboxes", O_RDONLY | O_DIRECTORY, 0, &sandboxes_fd, e);

	if (r < 0)
		return r;
	(void)snprintf(info.name, sizeof(info.name), "%s", spec->name ? spec->name : "");
	(void)snprintf(info.image, sizeof(info.image), "%s", spec->image);
	join_command(spec->argv, info.command, sizeof(info.command));
	for (int i = 0; i < ID_TRIES; i++) {
		make_id(m->id);
		memcpy(info.id, m->id, sizeof(info.id));
		r = state_make_dir(sandboxes_fd, m->id, &info, &m->dir_fd, &m->lock_fd, e);
		if (r != -EEXIST)
			break;
	}
	m->made = r == 0;
	return r;
}

static int make_spec_file(const struct spec *spec, int *ret_fd, struct err *e)
{
	_own_free_ char *storage = malloc(SPEC_BYTES_MAX);
	struct buf out;

	if (!storage)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&out, storage, SPEC_BYTES_MAX);
	spec_put(&out, spec);
	if (!buf_ok(&out))
		return err_set(e, -E2BIG,
		               "the command, its environment and the warm-up commands "
		               "together are too long");
	return fd_sealed("berm-spec", out.at, out.len, ret_fd, e);
}

/* A card without a word of what may pass is one that lets nothing through. */
static int make_plan(const struct egress_plan *net, int *ret_fd, struct err *e)
{
	_own_(egress_plan_fini) struct egress_plan none;
	int r;

	egress_plan_init(&none); /* closed at every end of this, the first one as well */
	if (net)
		return egress_plan_send(net, ret_fd, e);
	r = egress_plan_deny(&none, e);
	return r == 0 ? egress_plan_send(&none, ret_fd, e) : r;
}

static int spawn_supervisor(const struct paths *p, const struct making *m, int control_fd,
                            int spec_fd, int disk_fd, int net_fd, int *ret_pidfd, struct err *e)
{
	const char *debug = m->embedded ? NULL : getenv("BERM_DEBUG");
	bool debugging = debug && strcmp(debug, "1") == 0;
	const char *const argv[] = { "berm-supervisor", m->id, NULL };
	const char *const envp[] = { debugging ? "BERM_DEBUG=1" : NULL, NULL };
	char path[PATH_MAX + 32];
	pid_t pid;
	struct spawn s = {
		.path = path,
		.argv = argv,
		.envp = envp,
		.fds = { -1, -1, debugging ? STDERR_FILENO : -1, control_fd, spec_fd, m->state_fd,
		         m->dir_fd, disk_fd, m->lock_fd, m->from ? m->from->ram_fd : -1,
		         m->from ? m->from->state_fd : -1, m->from ? m->from->scratch_fd : -1,
		         net_fd, m->session ? m->session->dir_fd : -1,
		         m->session ? m->session->lock_fd : -1 },
		.fd_count = START_FD_COUNT,
		.own_session = true,
		.outlive = true, /* it sees for itself that control_fd closes */
		.orphan = m->embedded,
	};

	(void)snprintf(path, sizeof(path), "%s/berm-supervisor", p->libexec);
	return spawn_child(&s, &pid, ret_pidfd, e);
}

static int start(const struct paths *p, struct making *m, int disk_fd, const struct spec *spec,
                 struct started *ret, struct err *e)
{
	_own_fd_ int ours = -1;
	_own_fd_ int theirs = -1;
	_own_fd_ int spec_fd = -1;
	_own_fd_ int net_fd = -1;
	int pidfd = -1;
	int fds[2];
	int r = make_dir(m, spec, e);

	if (r < 0)
		return r;
	if (spec->name) {
		r = state_claim_name(m->state_fd, spec->name, m->id, e);
		if (r < 0)
			return r;
		m->claimed = true;
	}
	r = make_spec_file(spec, &spec_fd, e);
	if (r == 0 && spec->network)
		r = make_plan(m->net, &net_fd, e);
	if (r == 0)
		r = fd_socketpair(fds, e);
	if (r != 0)
		return r;
	ours = fds[0];
	theirs = fds[1];
	r = spawn_supervisor(p, m, theirs, spec_fd, disk_fd, net_fd, &pidfd, e);
	if (r < 0)
		return r;
	memcpy(ret->id, m->id, sizeof(ret->id));
	ret->control_fd = steal_fd(&ours);
	ret->pidfd = pidfd;
	return 0;
}

static int make_and_start(const struct paths *p, struct making *m, int disk_fd,
                          const struct spec *spec, struct started *ret, struct err *e)
{
	int r = spec_check(spec, e);

	if (r == 0 && spec_is_copy(spec) != (m->from != NULL))
		r = err_set(e, -EINVAL, "a copy of a guest needs what it is a copy of");
	if (r == 0 && m->net && !spec->network)
		r = err_set(e, -EINVAL, "a network was planned for, and the guest has no card");
	if (r == 0 && (spec->workspace != NULL) != (m->session != NULL))
		r = err_set(e, -EINVAL, "a workspace is a session's");
	m->name = spec->name;
	m->dir_fd = -1;
	m->lock_fd = -1;
	if (r == 0)
		r = start(p, m, disk_fd, spec, ret, e);
	if (r < 0) {
		(void)err_wrap(e, "start a sandbox");
		return r;
	}
	/* from here on it is the supervisor's; our copies of its files still close */
	m->made = false;
	m->claimed = false;
	return 0;
}

int start_sandbox(const struct paths *p, int state_fd, int disk_fd, const struct spec *spec,
                  const struct egress_plan *net, struct started *ret, struct err *e)
{
	_own_(making_fini) struct making m = { .state_fd = state_fd, .net = net };

	return make_and_start(p, &m, disk_fd, spec, ret, e);
}

int start_embedded(const struct paths *p, int state_fd, int disk_fd, const struct spec *spec,
                   const struct egress_plan *net, struct started *ret, struct err *e)
{
	_own_(making_fini) struct making m = { .state_fd = state_fd, .net = net, .embedded = true };

	return make_and_start(p, &m, disk_fd, spec, ret, e);
}

int start_session(const struct paths *p, int state_fd, int disk_fd, const struct spec *spec,
                  const struct egress_plan *net, struct work_session *s, struct started *ret,
                  struct err *e)
{
	_own_(making_fini) struct making m = { .state_fd = state_fd, .net = net, .session = s };
	int r = s->lock_fd >= 0 ? work_session_vm_dead(s, e)
	                        : err_set(e, -EINVAL, "session %s is not locked", s->info.id);

	if (r == 0 && s->info.state != (spec->rescue ? SESSION_UNCOLLECTED : SESSION_PACKED))
		r = err_set(e, -EINVAL, "session %s is %s", s->info.id,
		            work_session_state_name(s->info.state));
	m.dir_fd = m.lock_fd = -1;
	if (r == 0)
		r = make_and_start(p, &m, disk_fd, spec, ret, e);
	if (r == 0)
		work_session_unlock(s);
	return r;
}

int start_copy(const struct paths *p, int state_fd, int disk_fd, const struct spec *spec,
               const struct saved *from, const struct egress_plan *net, bool embedded,
               struct started *ret, struct err *e)
{
	_own_(saved_close) struct saved own;
	_own_(making_fini) struct making m = {
		.state_fd = state_fd,
		.embedded = embedded,
		.from = &own,
		.net = net,
		.dir_fd = -1,
		.lock_fd = -1,
	};
	int r;

	/* who reads one reads it to its end: each copy has a place of its own in the files */
	saved_init(&own);
	r = saved_reopen(from, &own, e);
	return r == 0 ? make_and_start(p, &m, disk_fd, spec, ret, e) : r;
}
