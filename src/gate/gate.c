#include "gate/gate_inner.h"

#include "base/clock.h"
#include "base/fdio.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>

/*
 * Theory of operation
 *
 * One thread and one loop. Card, vault and supervisor are waited for as long as they have something
 * to read. The sockets of connections are told of at their edges: what was said once is remembered
 * in the flow (can_read, can_write) until the socket says EAGAIN, so a stall costs no system call,
 * and a flow that has more than its share of a turn comes again behind the others (the queue).
 *
 * A turn: events; then the queue as it stood; then what is due. tcp_input() may end or make flows
 * at any point, so nothing holds a flow's pointer over a call that says it may be gone, and an
 * event for a flow that ended within the same turn is told by its number: it is looked at again.
 *
 * The time of all this is the guest's. While its machine is paused no time passes, so nobody is
 * late who could not have been in time: not the guest with an acknowledgement, and not a connection
 * that is idle because of it. What comes from outside meanwhile is taken as far as there is room.
 */

void gate_fail(struct gate *g, int code, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list args;

	if (g->fault.code != 0)
		return;
	va_start(args, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	(void)err_set(&g->fault, code, "%s", text);
}

/* -- what is waited for ------------------------------------------------------------------------ */

static uint64_t event_number(enum gate_source source, uint32_t index)
{
	return (uint64_t)source << 32 | index;
}

bool gate_watch(struct gate *g, int fd, enum gate_source source, uint32_t index)
{
	struct epoll_event ev = {
		.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
		.data.u64 = event_number(source, index),
	};

	return fd_set_nonblock(fd) == 0 && epoll_ctl(g->epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0;
}

void gate_watch_again(struct gate *g, int fd, enum gate_source source, uint32_t index)
{
	struct epoll_event ev = {
		.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
		.data.u64 = event_number(source, index),
	};

	(void)epoll_ctl(g->epoll_fd, EPOLL_CTL_MOD, fd, &ev); /* it is in there: nothing to fail */
}

void gate_forget(struct gate *g, int *fd)
{
	if (*fd < 0)
		return;
	(void)epoll_ctl(g->epoll_fd, EPOLL_CTL_DEL, *fd, NULL); /* it may not be in there yet */
	(void)close(*fd);
	*fd = -1;
}

void gate_watch_room(struct gate *g, int fd, enum gate_source source, bool wanted, bool *now)
{
	struct epoll_event ev = {
		.events = EPOLLIN | (wanted ? EPOLLOUT : 0),
		.data.u64 = event_number(source, 0),
	};

	if (wanted == *now)
		return;
	if (epoll_ctl(g->epoll_fd, EPOLL_CTL_MOD, fd, &ev) == 0)
		*now = wanted;
	else
		gate_fail(g, -errno, "epoll: %s", strerror(errno));
}

static int watch_steady(struct gate *g, int fd, enum gate_source source, struct err *e)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = event_number(source, 0) };

	if (fd_set_nonblock(fd) < 0 || epoll_ctl(g->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
		return err_sys(e, "epoll");
	return 0;
}

/* -- beginning --------------------------------------------------------------------------------- */

static void random_key(struct siphash_key *k)
{
	random_bytes(k->at, sizeof(k->at));
}

static int make_tables(struct gate *g, struct err *e)
{
	struct net_link_config usual = net_link_config_usual(g->config.with_ip6);
	struct net_out out = { .emit = card_emit, .ctx = g };
	struct tcp_config c = {
		.flows_max = GATE_FLOWS_MAX,
		.half_open_max = GATE_HALF_OPEN_MAX,
		.blocks = GATE_RINGS,
		.wide = GATE_RINGS_WIDE,
		.link = &g->link,
		.out = out,
		.event = flow_event,
		.ctx = g,
	};
	struct siphash_key key;
	int r;

	net_link_init(&g->link, &usual, out);
	random_key(&c.hash_key);
	random_key(&c.iss_key);
	random_key(&g->recent.key);
	random_key(&key);
	r = tcp_table_new(&c, &g->tcp, e);
	if (r == 0)
		r = names_new(&key, &g->names, e);
	if (r == 0)
		r = flows_init(g, e);
	if (r == 0)
		r = udp_init(g, e);
	if (r == 0)
		r = dns_init(g, e);
	if (r == 0)
		r = readers_init(g, e);
	return r;
}

/* Connections that may hold a file: what the limit of files leaves. */
static uint32_t fds_there_are(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0 || l.rlim_cur <= GATE_FDS_OTHER)
		return 0;
	l.rlim_cur -= GATE_FDS_OTHER;
	return l.rlim_cur < GATE_FLOWS_MAX ? (uint32_t)l.rlim_cur : GATE_FLOWS_MAX;
}

static int make(struct gate *g, struct err *e)
{
	int r;

	g->scratch = malloc(GATE_SCRATCH_BYTES);
	if (!g->scratch)
		return err_set(e, -ENOMEM, "out of memory");
	g->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (g->epoll_fd < 0)
		return err_sys(e, "epoll");
	r = make_tables(g, e);
	if (r == 0)
		r = watch_steady(g, g->config.card_fd, SOURCE_CARD, e);
	if (r == 0)
		r = watch_steady(g, g->config.vault_fd, SOURCE_VAULT, e);
	if (r == 0)
		r = watch_steady(g, g->config.control_fd, SOURCE_CONTROL, e);
	if (r == 0)
		r = card_init(&g->card, g->config.card_fd, e);
	return r == 0 ? uplink_init(g, e) : r; /* last: it owns its socket from here on */
}

static uint64_t now(const struct gate *g)
{
	uint64_t ms = g->config.now_ms ? g->config.now_ms() : clock_mono_ms();

	return g->resting ? g->now_ms : ms - g->stood_ms;
}

void gate_rest(struct gate *g, bool rests)
{
	if (rests == g->resting)
		return;
	g->now_ms = now(g);
	g->resting = rests;
	g->stats.rests += rests;
	g->stood_ms += now(g) - g->now_ms;
}

int gate_new(const struct gate_config *config, struct gate **ret, struct err *e)
{
	_own_(gate_free) struct gate *g = calloc(1, sizeof(*g));
	int r;

	if (!g)
		return err_set(e, -ENOMEM, "out of memory");
	g->config = *config;
	g->config.control_fd = -1; /* not ours before all is made */
	g->epoll_fd = -1;
	g->card.fd = -1;
	g->now_ms = now(g);
	g->config.control_fd = config->control_fd;
	r = make(g, e);
	if (r < 0) {
		g->config.control_fd = -1;
		g->card.fd = -1;
		return r;
	}
	bucket_init(&g->record_bucket, GATE_RECORDS_PER_S, GATE_RECORDS_BURST, g->now_ms);
	bucket_init(&g->lookup_bucket, GATE_LOOKUP_RATE, GATE_LOOKUP_BURST, g->now_ms);
	*ret = steal_ptr(&g);
	return 0;
}

void gate_free(struct gate *g)
{
	if (!g)
		return;
	flows_fini(g);
	udp_fini(g);
	intercepts_free(g->intercepts);
	egress_link_free(g->vault);
	card_fini(&g->card);
	tcp_table_free(g->tcp);
	names_free(g->names);
	policy_free(g->policy);
	free(g->slots);
	free(g->asked);
	free(g->asked_first);
	free(g->scratch);
	if (g->epoll_fd >= 0)
		(void)close(g->epoll_fd);
	if (g->config.control_fd >= 0)
		(void)close(g->config.control_fd);
	free(g);
}

int gate_begin(struct gate *g, struct err *e)
{
	g->fds_max = fds_there_are();
	control_begin(g);
	uplink_begin(g);
	uplink_flush(g);
	if (g->fault.code != 0)
		*e = g->fault;
	return g->fault.code;
}

/* -- a turn ------------------------------------------------------------------------------------ */

static void on_flow(struct gate *g, uint32_t index, uint32_t events)
{
	struct flow *f = &g->flows[index - 1];

	if (f->fd < 0) /* it ended in this turn */
		return;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		f->hung_up = true;
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		f->can_read = true;
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		f->can_write = true;
	if (f->kind == FLOW_PASS)
		pass_run(g, f);
}

static void on_event(struct gate *g, const struct epoll_event *ev)
{
	uint32_t index = (uint32_t)ev->data.u64;

	switch ((enum gate_source)(ev->data.u64 >> 32)) {
	case SOURCE_CARD:
		if (ev->events & EPOLLOUT)
			card_writable(g);
		if (ev->events & ~(uint32_t)EPOLLOUT)
			card_readable(g);
		break;
	case SOURCE_VAULT:
		uplink_readable(g);
		break;
	case SOURCE_CONTROL:
		if (ev->events & EPOLLOUT)
			control_writable(g);
		if (ev->events & ~(uint32_t)EPOLLOUT)
			control_readable(g);
		break;
	case SOURCE_FLOW:
		on_flow(g, index, ev->events);
		break;
	case SOURCE_UDP:
		udp_readable(g, index);
		break;
	}
}

static void run_queue(struct gate *g)
{
	g->throttled = false;
	for (uint32_t n = g->queue.count; n > 0 && g->fault.code == 0; n--) {
		struct flow *f = flow_dequeue(g);

		if (f && f->kind == FLOW_PASS)
			pass_run(g, f);
		else if (f && f->kind == FLOW_READ)
			reader_run(g, f);
		else if (f && f->kind == FLOW_DNS)
			dns_stream(g, f);
	}
}

static uint64_t soonest(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* How long epoll may wait: until something is due, or the caller's time is over. */
static int wait_for(struct gate *g, int wait_ms)
{
	bool idle = g->flows_count == 0 && g->peers_count == 0 && g->records_lost == 0;
	uint64_t due_ms = soonest(tcp_next_ms(g->tcp), idle ? UINT64_MAX : g->second_ms);
	uint64_t at_ms = now(g);
	uint64_t left;

	if (g->resting)
		due_ms = g->throttled || g->queue.count == 0 ? UINT64_MAX : 0;
	else if (g->queue.count > 0)
		due_ms = g->throttled ? soonest(due_ms, g->now_ms + GATE_THROTTLED_MS) : 0;
	for (unsigned i = 0; i < FLOW_LISTS && !g->resting; i++)
		if (g->lists[i].oldest != 0)
			due_ms = soonest(due_ms, g->flows[g->lists[i].oldest - 1].due_ms);
	left = due_ms > at_ms ? due_ms - at_ms : 0;
	if (wait_ms >= 0 && left > (uint64_t)wait_ms)
		return wait_ms;
	return left < INT32_MAX ? (int)left : INT32_MAX;
}

static void run_due(struct gate *g)
{
	tcp_tick(g->tcp, g->now_ms);
	flows_due(g);
	if (g->now_ms >= g->sweep_ms) {
		g->sweep_ms = g->now_ms + GATE_SWEEP_MS;
		flows_sweep(g);
		udp_idle(g);
	}
	if (g->now_ms >= g->second_ms) {
		g->second_ms = g->now_ms + 1000;
		flows_second(g);
		gate_record_lost(g);
	}
}

int gate_turn(struct gate *g, int wait_ms, struct err *e)
{
	struct epoll_event events[GATE_EVENTS];
	int n = epoll_wait(g->epoll_fd, events, GATE_EVENTS, wait_for(g, wait_ms));

	if (n < 0 && errno != EINTR)
		return err_sys(e, "epoll");
	g->now_ms = now(g);
	/*
	 * The vault's words first: a socket that it shut down under a new policy would look as if
	 * the upstream had said its last byte.
	 */
	for (int first = 1; first >= 0; first--)
		for (int i = 0; i < n && g->fault.code == 0 && !g->ended; i++)
			if ((events[i].data.u64 >> 32 == SOURCE_VAULT) == (first == 1))
				on_event(g, &events[i]);
	if (g->fault.code == 0)
		run_queue(g);
	if (g->fault.code == 0)
		run_due(g);
	if (g->fault.code == 0)
		uplink_flush(g);
	if (g->fault.code == 0 && g->link_waiters > 0)
		readers_room(g);
	gate_watch_room(g, g->card.fd, SOURCE_CARD, !g->card.can_write, &g->card.wakes);
	if (g->fault.code != 0 && !g->ended) {
		*e = g->fault;
		return g->fault.code;
	}
	return g->ended ? 1 : 0;
}
