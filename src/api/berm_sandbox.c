#include "api/berm_internal.h"

#include "base/clock.h"
#include "state/state.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

/* --- the handle --- */

static int init_lock(struct berm_sandbox *sb, struct err *e)
{
	pthread_condattr_t attr;
	int r = pthread_mutex_init(&sb->lock, NULL);

	if (r != 0)
		return err_set(e, -r, "make a lock");
	r = pthread_condattr_init(&attr);
	if (r == 0) {
		(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
		r = pthread_cond_init(&sb->changed, &attr);
		(void)pthread_condattr_destroy(&attr);
	}
	if (r != 0)
		(void)pthread_mutex_destroy(&sb->lock);
	return r == 0 ? 0 : err_set(e, -r, "make a condition");
}

int sandbox_new(struct berm *b, struct berm_sandbox **ret, struct err *e)
{
	struct berm_sandbox *sb = calloc(1, sizeof(*sb));
	int r;

	if (!sb)
		return err_set(e, -ENOMEM, "out of memory");
	r = init_lock(sb, e);
	if (r < 0) {
		free(sb);
		return r;
	}
	api_ref(b);
	sb->b = b;
	sb->pid = getpid();
	sb->pidfd = sb->image_fd = sb->event_fd = sb->timer_fd = sb->records_fd = -1;
	strings_init(&sb->env, SPEC_STRINGS_MAX);
	strings_init(&sb->registries, POLICY_SLOT_HOSTS_MAX);
	sb->io_fd = epoll_create1(EPOLL_CLOEXEC);
	if (sb->io_fd < 0) {
		r = err_sys(e, "epoll");
		berm_sandbox_free(sb);
		return r;
	}
	*ret = sb;
	return 0;
}

static void close_if(int fd)
{
	if (fd >= 0)
		(void)close(fd);
}

void berm_sandbox_free(struct berm_sandbox *sb)
{
	if (!sb)
		return;
	sb->forked = sb->pid != getpid();
	request_drop(sb);
	while (sb->processes) {
		struct berm_process *p = sb->processes;

		sb->processes = p->next;
		process_drop(p);
	}
	process_drop(sb->control);
	close_if(sb->io_fd);
	close_if(sb->event_fd);
	close_if(sb->timer_fd);
	close_if(sb->image_fd);
	close_if(sb->records_fd);
	if (sb->forked)
		close_if(sb->pidfd);
	else
		api_reap(sb->b, sb->pidfd);
	strings_fini(&sb->env);
	strings_fini(&sb->registries);
	free(sb->user);
	free(sb->workdir);
	(void)pthread_cond_destroy(&sb->changed);
	(void)pthread_mutex_destroy(&sb->lock);
	berm_free(sb->b);
	free(sb);
}

int sandbox_enter(struct berm_sandbox *sb, struct err *e)
{
	if (!sb)
		return err_set(e, -EINVAL, "the sandbox is NULL");
	if (sb->pid != getpid())
		return err_set(e, -EPERM, "the sandbox is process %d's, which forked this one",
		               (int)sb->pid);
	(void)pthread_mutex_lock(&sb->lock);
	return 0;
}

void sandbox_leave(struct berm_sandbox *sb)
{
	pump_tell(sb);
	event_show(sb);
	(void)pthread_mutex_unlock(&sb->lock);
}

const char *berm_sandbox_id(const struct berm_sandbox *sb)
{
	return sb ? sb->id : "";
}

struct berm_process *berm_main(struct berm_sandbox *sb)
{
	return sb && sb->control->is_main ? sb->control : NULL;
}

/* --- connections to its supervisor --- */

int sandbox_dial(const struct berm_sandbox *sb, int *ret_fd, struct err *e)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	_own_fd_ int dir = -1;
	_own_fd_ int fd = -1;
	int r = state_open_dir(sb->b->state_fd, sb->id, &dir, e);

	if (r == -ENOENT)
		return err_set(e, -ESHUTDOWN, "the sandbox has ended");
	if (r < 0)
		return r;
	/* unlike fd_unix_connect() it must not wait where a supervisor does not accept() */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(e, "socket");
	(void)snprintf(at.sun_path, sizeof(at.sun_path), "/proc/self/fd/%d/control.sock", dir);
	do
		r = connect(fd, (const struct sockaddr *)&at, sizeof(at));
	while (r < 0 && errno == EINTR);
	if (r < 0 && errno == EAGAIN)
		return err_set(e, -EAGAIN, "the sandbox's supervisor is busy with connections");
	if (r < 0 && (errno == ENOENT || errno == ECONNREFUSED))
		return err_set(e, -ESHUTDOWN, "the sandbox has ended");
	if (r < 0)
		return err_sys(e, "connect to the sandbox's supervisor");
	*ret_fd = steal_fd(&fd);
	return 0;
}

int sandbox_client(struct berm_sandbox *sb, int timeout_ms, struct client **ret, struct err *e)
{
	uint64_t until_ms = pump_deadline(timeout_ms);
	struct client *c = NULL;
	int fd;
	int r = sandbox_enter(sb, e);

	if (r < 0)
		return r;
	pump_once(sb);
	if (sb->ended)
		r = sandbox_gone(sb, NULL, 0, e);
	else if (!sb->started)
		r = err_set(e, -EAGAIN, "the sandbox is not running yet");
	sandbox_leave(sb);
	if (r < 0)
		return r;
	while ((r = sandbox_dial(sb, &fd, e)) == -EAGAIN && clock_mono_ms() < until_ms)
		(void)poll(NULL, 0, API_RETRY_MS);
	if (r == 0)
		r = client_new(fd, &c, e);
	if (r < 0 || !c)
		return r;
	c->until_ms = until_ms == UINT64_MAX ? 0 : until_ms;
	*ret = c;
	return 0;
}

/* --- its beginning and its end --- */

static void connect_all(struct berm_sandbox *sb)
{
	for (struct berm_process *p = sb->processes; p; p = p->next)
		process_connect(p);
}

/*
 * It said HELLO, so as a rule it listens, and commands may lie ready there when the guest runs.
 * Only a supervisor that has a template built says more before it listens.
 */
void sandbox_reachable(struct berm_sandbox *sb)
{
	if (sb->reachable)
		return;
	sb->reachable = true;
	connect_all(sb);
}

void sandbox_started(struct berm_sandbox *sb)
{
	if (sb->started)
		return;
	sb->started = true;
	sb->news = true;
	connect_all(sb);
}

void sandbox_over(struct berm_sandbox *sb)
{
	const struct relay *r = &sb->control->relay;
	struct err why = { 0 };

	if (sb->ended)
		return;
	sb->ended = true;
	sb->news = true;
	sb->lost = !r->end_json ||
	           result_parse_json(span_of(r->end_json, r->end_bytes), &sb->result, &why) < 0;
	(void)sandbox_gone(sb, NULL, 0, &why);
	for (struct berm_process *p = sb->processes; p; p = p->next)
		if (!p->connected)
			process_fail(p, &why);
}

static int say_result(const struct result *res, struct err *e)
{
	return err_set(e, -ESHUTDOWN, "the sandbox ended: %s",
	               res->message[0] ? res->message : result_reason_name(res->reason));
}

int sandbox_gone(const struct berm_sandbox *sb, const char *json, size_t len, struct err *e)
{
	struct result res;

	if (json && result_parse_json(span_of(json, len), &res, e) == 0)
		return say_result(&res, e);
	if (sb->ended && !sb->lost)
		return say_result(&sb->result, e);
	return err_set(e, -ENODATA, "the sandbox's supervisor has gone, and did not say why");
}

/* --- somebody else's --- */

static int connect_to(struct berm *b, const char *ref, struct berm_sandbox **ret, struct err *e)
{
	_own_(berm_sandbox_free) struct berm_sandbox *sb = NULL;
	struct state_info info;
	int r = api_check(b, e);

	if (r == 0 && (!ref || !ret))
		r = err_set(e, -EINVAL, "%s is NULL", ref ? "ret" : "ref");
	if (r == 0)
		r = state_find(b->state_fd, ref, false, &info, e);
	if (r == 0)
		r = sandbox_new(b, &sb, e);
	if (r == 0)
		r = process_new(sb, API_CONTROL, NULL, &sb->control, e);
	if (r < 0 || !sb)
		return r;
	memcpy(sb->id, info.id, sizeof(sb->id));
	r = sandbox_dial(sb, &sb->control->client->fd, e);
	if (r < 0)
		return r;
	sb->control->connected = true;
	sb->started = sb->reachable = true; /* or will be: commands wait */
	wire_put(&sb->control->client->out, WIRE_WAIT, 0, 0, CLIENT_EPOCH, span_of(NULL, 0));
	pump_settle(sb->control);
	*ret = steal_ptr(&sb);
	return 0;
}

int berm_connect(struct berm *b, const char *ref, struct berm_sandbox **ret, struct berm_err *e)
{
	struct err why = { 0 };
	int r = connect_to(b, ref, ret, &why);

	return r < 0 ? api_tell(e, r, &why) : 0;
}

/* --- waiting for it --- */

static bool started_or_ended(const void *arg)
{
	const struct berm_sandbox *sb = arg;

	return sb->started || sb->ended;
}

static bool ended(const void *arg)
{
	const struct berm_sandbox *sb = arg;

	return sb->ended;
}

int berm_wait_started(struct berm_sandbox *sb, int timeout_ms, struct berm_err *e)
{
	struct err why = { 0 };
	int r = sandbox_enter(sb, &why);

	if (r < 0)
		return api_tell(e, r, &why);
	r = pump_until(sb, started_or_ended, sb, pump_deadline(timeout_ms));
	if (r < 0)
		(void)err_set(&why, r, "the sandbox is not running yet");
	else if (!sb->started)
		r = sandbox_gone(sb, NULL, 0, &why);
	sandbox_leave(sb);
	return r < 0 ? api_tell(e, r, &why) : 0;
}

static int give_result(const struct result *res, struct berm_result *ret, struct err *e)
{
	struct berm_result got = {
		.size = sizeof(got),
		.reason = res->reason,
		.exit_code = (int)res->exit_code,
		.signal = (int)res->signal,
		.level = res->level,
		.limits_hit = res->limits_hit,
		.start_ms = res->start_ms,
		.wall_ms = res->wall_ms,
		.user_us = res->user_us,
		.sys_us = res->sys_us,
		.maxrss_bytes = res->maxrss_bytes,
		.host_cpu_ms = res->host_cpu_ms,
		.host_memory_peak_bytes = res->host_memory_peak_bytes,
		.output_bytes = res->output_bytes,
	};

	(void)snprintf(got.engine, sizeof(got.engine), "%s", res->engine ? res->engine : "");
	(void)snprintf(got.message, sizeof(got.message), "%s", res->message);
	return api_give_sized("struct berm_result", ret, &got, sizeof(got), e);
}

static int wait_ended(struct berm_sandbox *sb, int timeout_ms, struct berm_result *ret,
                      struct err *e)
{
	int r = pump_until(sb, ended, sb, pump_deadline(timeout_ms));

	if (r < 0)
		return err_set(e, r, "the sandbox has not ended yet");
	if (sb->lost)
		return sandbox_gone(sb, NULL, 0, e);
	return ret ? give_result(&sb->result, ret, e) : 0;
}

int berm_wait_ended(struct berm_sandbox *sb, int timeout_ms, struct berm_result *ret,
                    struct berm_err *e)
{
	struct err why = { 0 };
	int r = sandbox_enter(sb, &why);

	if (r < 0)
		return api_tell(e, r, &why);
	r = wait_ended(sb, timeout_ms, ret, &why);
	sandbox_leave(sb);
	return r < 0 ? api_tell(e, r, &why) : 0;
}

int berm_stop(struct berm_sandbox *sb, unsigned grace_ms, int timeout_ms, struct berm_err *e)
{
	struct err why = { 0 };
	int r = sandbox_enter(sb, &why);

	if (r < 0)
		return api_tell(e, r, &why);
	pump_once(sb);
	if (grace_ms > API_GRACE_MAX_MS) {
		r = err_set(&why, -EINVAL, "grace_ms: at most an hour");
	} else if (!sb->ended && client_room(sb->control->client) >= API_ROOM_MIN) {
		wire_put_u32(&sb->control->client->out, WIRE_STOP, 0, 0, CLIENT_EPOCH, grace_ms);
		pump_settle(sb->control);
	}
	if (r == 0)
		r = wait_ended(sb, timeout_ms, NULL, &why);
	sandbox_leave(sb);
	return r < 0 ? api_tell(e, r, &why) : 0;
}
