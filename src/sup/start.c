#include "sup/sup.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/spawn.h"
#include "lib/egress_ask.h"
#include "lib/start.h"
#include "state/state.h"
#include "sup/build.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

enum {
	BOOT_EPOCH = 1,
	RESTORED_EPOCH = 2,
	CPU_SLACK_MILLICORES = 500, /* the engine's own threads beside the guest's CPUs */
};

/* Sends a line to the waiting caller. Its socket is empty, so this does not block. */
static void progress(struct sup *s, const char *text)
{
	if (s->owner)
		wire_put_text(&s->owner->link->out, WIRE_PROGRESS, 1, text);
	if (s->owner && link_flush(s->owner->link) == -EPIPE)
		return; /* noticed where it matters */
}

static bool owner_gone(const struct sup *s)
{
	struct pollfd p = { .fd = s->owner ? s->owner->link->fd : -1, .events = 0 };

	if (s->spec.detach || !s->owner)
		return false;
	return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR));
}

static const char hex_digits[] = "0123456789abcdef";

/* What berm-template says: lines to pass on, then perhaps why it failed (build.h). */
struct report {
	int fd;
	char text[ERR_TEXT_MAX];
	size_t len;
	char draft[SAVED_NAME_MAX]; /* what it makes, or "" */
};

/* Of whoever read a guest's frames: taken for no other name than a draft's. */
static void take_draft(struct report *rep, const char *name)
{
	static const char head[] = ".tmp-";
	size_t n = sizeof(head) - 1;

	if (strncmp(name, head, n) == 0 && name[n] && !name[n + strspn(name + n, hex_digits)] &&
	    strlen(name) < sizeof(rep->draft))
		memcpy(rep->draft, name, strlen(name) + 1);
}

static bool is_news(const struct report *rep)
{
	return rep->text[0] == BUILD_PROGRESS_MARK[0] || rep->text[0] == BUILD_DRAFT_MARK[0];
}

static void read_report(struct sup *s, struct report *rep)
{
	ssize_t n = read(rep->fd, rep->text + rep->len, sizeof(rep->text) - 1 - rep->len);
	char *end;

	if (n <= 0)
		return;
	rep->len += (size_t)n;
	rep->text[rep->len] = '\0';
	while (is_news(rep) && (end = strchr(rep->text, '\n'))) {
		*end = '\0';
		if (rep->text[0] == BUILD_PROGRESS_MARK[0])
			progress(s, rep->text + 1);
		else
			take_draft(rep, rep->text + 1);
		rep->len -= (size_t)(end + 1 - rep->text);
		memmove(rep->text, end + 1, rep->len + 1);
	}
}

/* Is STOP among what the caller sent? All of it stays where it is, for the loop. */
static bool asks_to_stop(const struct link *l)
{
	struct span in = span_of(l->in + l->in_at, l->in_len - l->in_at);
	struct wire_frame f;

	while (wire_parse_frame(&in, WIRE_FROM_COMMAND, &f) == 0)
		if (f.type == WIRE_STOP)
			return true;
	return false;
}

/* Waits for the builder; gives up when the caller goes away, or says STOP. */
static int wait_builder(struct sup *s, pid_t pid, int pidfd, struct report *rep, struct err *e)
{
	uint64_t deadline = clock_mono_ms() + SUP_BUILD_MS;
	int owner_fd = s->owner ? s->owner->link->fd : -1;
	int r = -ETIMEDOUT;

	while (clock_mono_ms() < deadline) {
		struct pollfd p[3] = {
			{ .fd = pidfd, .events = POLLIN },
			{ .fd = owner_fd, .events = POLLIN },
			{ .fd = rep->fd, .events = POLLIN },
		};

		if (poll(p, 3, 1000) < 0 && errno != EINTR)
			break;
		if (p[2].revents & POLLIN)
			read_report(s, rep);
		if (p[0].revents & POLLIN) {
			r = 0;
			break;
		}
		if (s->owner && p[1].revents) {
			int got = link_read(s->owner->link);

			if (got < 0 && got != -EAGAIN)
				owner_fd = -1; /* what is there says all */
		}
		if (owner_gone(s) || (s->owner && asks_to_stop(s->owner->link))) {
			r = -ECANCELED;
			break;
		}
	}
	if (r < 0)
		(void)kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (r == -ECANCELED)
		return err_set(e, r, "it was told to end while its template was prepared");
	if (r < 0)
		return err_set(e, r, "the template was not built in %d min", SUP_BUILD_MS / 60000);
	return 0;
}

/* what: NULL, or "learn". */
static int run_builder(struct sup *s, const char *what, int report_fd, struct report *rep,
                       struct err *e)
{
	const char *const argv[] = { "berm-template", s->engine->name, what, NULL };
	char path[PATH_MAX + 32];
	_own_fd_ int pidfd = -1;
	struct spawn sp = {
		.path = path,
		.argv = argv,
		.fds = { -1, -1, STDERR_FILENO, report_fd, 4, s->templates_fd, s->disk_fd },
		.fd_count = BUILD_FD_COUNT,
	};
	pid_t pid;
	int r;

	(void)snprintf(path, sizeof(path), "%s/berm-template", s->paths.libexec);
	r = spawn_child(&sp, &pid, &pidfd, e);
	if (r == 0)
		r = wait_builder(s, pid, pidfd, rep, e);
	return r;
}

/* Of a builder that was killed, by us or by another: as large as the guest's memory. */
static void remove_draft(struct sup *s, struct report *rep)
{
	read_report(s, rep);
	if (*rep->draft)
		(void)fd_remove_tree(s->templates_fd, rep->draft, NULL);
}

static int build(struct sup *s, struct err *e)
{
	_own_fd_ int report_read = -1;
	_own_fd_ int report_write = -1;
	struct report rep = { .fd = -1 };
	int fds[2];
	int r;

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_sys(e, "pipe");
	report_read = rep.fd = fds[0];
	report_write = fds[1];
	progress(s, "preparing a template for this image and size (first start only)");
	r = run_builder(s, NULL, report_write, &rep, e);
	remove_draft(s, &rep); /* if it is still there */
	if (r < 0)
		return r;
	if (rep.len > 0)
		return err_set(e, -EIO, "prepare a template: %s", rep.text);
	if (!s->engine->touched)
		return 0;
	/* a template that knows nothing of its guests serves them as well, only slower */
	r = run_builder(s, "learn", report_write, &rep, e);
	if (r == -ECANCELED)
		return r;
	err_clear(e);
	return 0;
}

/* Opens the template, having it built first where there is none. */
static int get_template(struct sup *s, const struct guest_files *g, struct saved *ret,
                        struct err *e)
{
	struct buf b;
	int r;

	s->key = malloc(TEMPLATE_KEY_MAX);
	if (!s->key)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&b, s->key, TEMPLATE_KEY_MAX);
	guest_put_key(&b, g, &s->spec);
	if (!buf_ok(&b))
		return err_set(e, -E2BIG, "the warm-up commands are too long");
	s->key_len = b.len;
	r = fd_openat(s->state_fd, "templates", O_RDONLY | O_DIRECTORY, 0, &s->templates_fd, e);
	if (r < 0)
		return r;
	s->result.start = RESULT_START_RESTORED;
	r = template_open(s->templates_fd, buf_span(&b), ret, e);
	if (r != -ENOENT)
		return r;
	s->result.start = RESULT_START_BUILT;
	r = build(s, e);
	if (r < 0)
		return r;
	r = template_open(s->templates_fd, buf_span(&b), ret, e);
	if (r == -ENOENT) /* its builder was killed and could tell nobody */
		return err_set(e, -EIO, "preparing a template was cut short: run it again");
	return r;
}

void sup_put_identity(struct sup *s)
{
	const char *host = s->spec.hostname ? s->spec.hostname : s->spec.name;
	struct wire_identity id = {
		.realtime_ns = clock_real_ns(),
		.pids_max = (uint32_t)s->spec.limits.pids,
		.keep_stream = s->spec.main_pid > 0 ? SUP_MAIN_STREAM : 0,
		.hostname = span_str(host ? host : s->id),
	};

	random_bytes(id.entropy, sizeof(id.entropy));
	random_bytes(id.machine_id, sizeof(id.machine_id));
	id.has_workspace = s->spec.workspace && !s->spec.rescue;
	if (id.has_workspace)
		id.workspace.path = span_str(s->spec.workspace);
	sup_put_network(s, &id);
	wire_put_identity(&s->agent->out, s->epoch, &id);
	explicit_bzero(id.entropy, sizeof(id.entropy));
}

static int take_engine(struct sup *s, struct err *e)
{
	int r = link_new(steal_fd(&s->vm.agent_fd), WIRE_FROM_AGENT, &s->agent, e);

	return r == 0 ? fd_set_nonblock(s->vm.log_fd) : r;
}

/*
 * All processes of the sandbox, before any of them is given something to read. They are made first
 * and put into their cgroup then: to move the first one the kernel waits for all CPUs, up to 30 ms,
 * and they start meanwhile.
 */
static int start_rest(struct sup *s, struct err *e)
{
	int r = take_engine(s, e);

	if (r == 0)
		r = sup_start_network(s, e);
	if (r == 0)
		r = cgroup_add(&s->cgroup, s->vm.pid, e);
	return r == 0 ? sup_brief_network(s, e) : r;
}

/*
 * The restore is told to begin and the new identity lies ready in the agent's socket, so the guest
 * reads it as the first thing it does.
 */
static int restore_from(struct sup *s, const struct guest_files *g, const struct saved *from,
                        uint32_t epoch, struct err *e)
{
	int r = sup_open_network(s, e);

	if (r == 0)
		r = guest_restore(&s->paths, g, &s->spec, s->disk_fd, s->dir_fd, from, s->uid,
		                  &s->vm, &s->scratch_fd, e);
	if (r == 0)
		r = start_rest(s, e);
	if (r == 0)
		r = s->engine->go(&s->vm, e);
	if (r == -EPIPE)
		return err_set(e, r, "the guest's machine ended as it was started");
	if (r == 0)
		r = spec_is_copy(&s->spec) ? sup_await_network(s, e) : sup_await_gate(s, e);
	if (r < 0)
		return r;
	s->epoch = epoch;
	sup_put_identity(s);
	return link_flush(s->agent) == -EPIPE
	               ? err_set(e, -EPIPE, "%s ended at once", s->engine->words)
	               : 0;
}

static int restore(struct sup *s, const struct guest_files *g, struct err *e)
{
	_own_(saved_close) struct saved t;
	int r;

	saved_init(&t);
	r = get_template(s, g, &t, e);
	return r == 0 ? restore_from(s, g, &t, RESTORED_EPOCH, e) : r;
}

/* A guest that ran is restored the same way, and what it was doing goes on. */
static int copy(struct sup *s, const struct guest_files *g, struct err *e)
{
	const struct saved from = { .ram_fd = START_FD_RAM,
		                    .state_fd = START_FD_SAVED,
		                    .scratch_fd = START_FD_SCRATCH,
		                    .wset_fd = -1 };
	int r;

	s->result.start = RESULT_START_SNAPSHOT;
	sup_take_main(s);
	r = restore_from(s, g, &from, s->spec.epoch + 1, e);
	for (int fd = START_FD_RAM; fd <= START_FD_SCRATCH; fd++)
		(void)close(fd);
	return r;
}

static int boot(struct sup *s, const struct guest_files *g, struct err *e)
{
	int r;

	s->result.start = RESULT_START_COLD;
	s->boot = true;
	s->epoch = BOOT_EPOCH;
	r = sup_open_network(s, e);
	if (r == 0)
		r = guest_boot(&s->paths, g, &s->spec, s->disk_fd, s->dir_fd, s->uid, &s->vm,
		               &s->scratch_fd, e);
	return r == 0 ? start_rest(s, e) : r;
}

/*
 * Written before it is made, so that a sweep finds it whenever we are killed. Not fsynced, which
 * would take 10 ms of each start: after a crash of the host the group is gone as well.
 */
static int record_cgroup(struct sup *s, const struct cgroup_host *host, const char *name,
                         struct err *e)
{
	_own_free_ struct cgroup *planned = calloc(1, sizeof(*planned));
	_own_fd_ int fd = -1;
	char text[4096];
	struct buf b;
	int r;

	if (!planned)
		return err_set(e, -ENOMEM, "out of memory");
	for (unsigned t = 0; t < CGROUP_TREES; t++) {
		const size_t max = sizeof(planned->dir[t]);
		int n = 0;

		if (*host->parent[t])
			n = snprintf(planned->dir[t], max, "%s/%s", host->parent[t], name);
		if (n < 0 || (size_t)n >= max)
			return err_set(e, -ENAMETOOLONG, "cgroup '%s': path too long", name);
	}
	buf_init(&b, text, sizeof(text));
	cgroup_put(&b, planned);
	if (!buf_ok(&b))
		return err_set(e, -ENAMETOOLONG, "cgroup '%s': path too long", name);
	if (b.len == 0)
		return 0;
	r = fd_openat(s->dir_fd, "cgroup", O_WRONLY | O_CREAT | O_EXCL, 0600, &fd, e);
	return r == 0 ? fd_write_all(fd, b.at, b.len, e) : r;
}

/* The engine's cgroup, where this host and user have one; its place is written down for a sweep. */
static int make_cgroup(struct sup *s, struct err *e)
{
	const struct cgroup_limits limits = {
		.cpu_millicores = (uint64_t)s->spec.limits.cpus * 1000 + CPU_SLACK_MILLICORES,
		.memory_bytes = s->spec.limits.memory_bytes + s->engine->overhead_bytes +
		                (s->spec.network ? SUP_EGRESS_BYTES : 0),
		.pids = s->engine->pids + s->spec.limits.cpus +
		        (s->spec.network ? SUP_EGRESS_PIDS : 0),
	};
	struct cgroup_host host;
	char name[CGROUP_NAME_MAX];
	int r = cgroup_host_find(NULL, &host, e);

	if (r < 0)
		return r;
	memcpy(s->cgroup_why, host.why, sizeof(s->cgroup_why));
	(void)snprintf(name, sizeof(name), "berm-%s", s->id);
	r = record_cgroup(s, &host, name, e);
	if (r == 0)
		r = cgroup_create(NULL, &host, name, &limits, &s->cgroup, e);
	s->has_cgroup = r == 0;
	return r;
}

/* What the supervisor still needs by path once its jail is closed: its own directory and cgroup. */
static int close_jail(struct sup *s, struct err *e)
{
	struct jail_path paths[8 + 2 * CGROUP_TREES] = {
		{ .fd = s->state_fd,
		  .access = JAIL_READ | JAIL_WRITE | JAIL_MAKE,
		  .why = "its sandbox directory, name and record" },
	};
	struct jail_params params = { .paths = paths, .path_count = 1, .keep_all_fds = true };

	params.path_count +=
		cgroup_jail_paths(&s->cgroup, paths + 1, sizeof(paths) / sizeof(paths[0]) - 1);
	return jail_enter(&jail_profile_supervisor, &params, &s->jail, e);
}

/* What the kernel says of the engine; out of reach once our own jail is closed. */
static int open_engine_proc(struct sup *s, struct err *e)
{
	char path[64];
	int r;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)s->vm.pid);
	r = fd_open(path, O_RDONLY, 0, &s->cpu_fd, e);
	if (r < 0)
		return r;
	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)s->vm.pid);
	return fd_open(path, O_RDONLY, 0, &s->status_fd, e);
}

static int start_engine(struct sup *s, struct err *e)
{
	int r = guest_files_open(&s->paths, s->engine, &s->files, e);

	if (r == 0 && s->spec.workspace)
		r = sup_open_session(s, e);
	if (r < 0)
		return r;
	if (s->spec.cold)
		r = boot(s, &s->files, e);
	else if (spec_is_copy(&s->spec))
		r = copy(s, &s->files, e);
	else
		r = restore(s, &s->files, e);
	return r == 0 ? open_engine_proc(s, e) : r;
}

static int check_level(const struct sup *s, struct err *e)
{
	if (s->spec.minimum_level <= s->result.level)
		return 0;
	return err_set(e, -EPERM,
	               "the least boundary asked for is '%s', and this start can only give "
	               "'%s': 'berm doctor' says why",
	               level_name(s->spec.minimum_level), level_name(s->result.level));
}

int sup_start(struct sup *s, struct err *e)
{
	int r = guest_pick_engine(&s->spec, s->state_fd, &s->engine, e);

	if (r < 0)
		return r;
	s->result.engine = s->engine->name;
	s->result.level = s->engine->hardware ? LEVEL_MICROVM : LEVEL_EMULATED;
	r = check_level(s, e);
	if (r == 0)
		r = sup_write_info(s, e); /* again: the process behind the sandbox is known now */
	if (r == 0)
		r = make_cgroup(s, e);
	if (r == 0)
		r = outlog_open(s->dir_fd, &s->log, e);
	if (r < 0)
		return r;
	s->log_open = true;
	s->uid = geteuid() == 0 ? jail_uid_for(s->id) : 0;
	r = start_engine(s, e);
	if (r == 0 && s->spec.network) /* before the other: see egress_ask_open() */
		r = fd_packet_listen(s->dir_fd, EGRESS_SOCKET, SUP_BACKLOG, &s->net.listen_fd, e);
	if (r == 0)
		r = fd_unix_listen(s->dir_fd, "control.sock", SUP_BACKLOG, &s->listen_fd, e);
	if (r == 0)
		r = sup_await_network(s, e); /* as late as can be: no command before the loop */
	if (r == 0)
		r = close_jail(s, e);
	return r;
}
