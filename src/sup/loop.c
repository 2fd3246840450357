#include "sup/sup.h"

#include "base/clock.h"
#include "base/fdio.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* --- connections --- */

static void on_agent(uv_poll_t *poll, int status, int events)
{
	struct sup *s = poll->data;

	if (status < 0)
		events = UV_READABLE; /* read() says what it is */
	if ((events & UV_WRITABLE) && link_flush(s->agent) == 0) {
		s->room_wanted = false;
		sup_reset_orphans(s);
		sup_agent_frames(s); /* those that waited for it, then the commands' */
	}
	if ((events & UV_READABLE) && s->state != SUP_ENDING)
		sup_agent_readable(s);
	sup_watch_agent(s);
}

void sup_watch_agent(struct sup *s)
{
	int events = 0;
	int r;

	if (!s->agent_poll_open)
		return;
	if (s->state == SUP_ENDING) {
		(void)uv_poll_stop(&s->agent_poll);
		return;
	}
	/* room that came since somebody asked for it is told by a call, too: he waits no longer */
	r = link_flush(s->agent);
	if (r == -EAGAIN || (r == 0 && s->room_wanted))
		events |= UV_WRITABLE;
	if (!s->agent_paused && !s->agent_choked && !s->agent_closed)
		events |= UV_READABLE;
	(void)uv_poll_start(&s->agent_poll, events, on_agent);
}

static void on_client(uv_poll_t *poll, int status, int events)
{
	struct sup_client *c = poll->data;
	struct sup *s = c->sup;

	if (status < 0)
		events = UV_READABLE;
	/* it went while it was not read from; while it is, what it sent before comes first */
	if ((events & UV_DISCONNECT) && !(events & UV_READABLE)) {
		sup_drop_client(c);
		return;
	}
	if (events & UV_WRITABLE) {
		if (link_flush(c->link) == -EPIPE) {
			sup_drop_client(c);
			return;
		}
		c->awaited = false;
		/* room again: what the guest sent may be waiting for it */
		if (s->agent_paused && s->state != SUP_ENDING) {
			s->agent_paused = false;
			sup_agent_frames(s);
			sup_watch_agent(s);
		}
	}
	if (!c->closing && (events & UV_READABLE))
		sup_client_readable(c);
	sup_watch_client(c);
}

void sup_watch_client(struct sup_client *c)
{
	int events = UV_DISCONNECT;
	int r;

	if (uv_is_closing((uv_handle_t *)&c->poll)) /* it was dropped a moment ago */
		return;
	r = link_flush(c->link);
	if (r == -EPIPE || (r == 0 && c->closing)) {
		sup_drop_client(c);
		return;
	}
	if (r == -EAGAIN || c->awaited)
		events |= UV_WRITABLE;
	if (!c->paused && !c->closing)
		events |= UV_READABLE;
	(void)uv_poll_start(&c->poll, events, on_client);
}

static void on_client_closed(uv_handle_t *h)
{
	struct sup_client *c = h->data;

	link_free(c->link);
	c->link = NULL;
	c->poll_open = false;
	c->used = false;
}

/*
 * The stream of a command that went away is of use to nobody: its process is ended. While the agent
 * has no room for that, it stays a stream without a client.
 */
void sup_reset_orphans(struct sup *s)
{
	for (size_t i = 0; i < SUP_STREAMS_MAX; i++) {
		struct sup_stream *st = &s->streams[i];

		if (!st->used || st->client || st->kind == SUP_MAIN || st->kind == SUP_COLLECT)
			continue;
		if (sup_held(s)) /* release() comes here again */
			return;
		if (link_room(s->agent) < SUP_ANSWER_BYTES) {
			s->room_wanted = true;
			return;
		}
		wire_put_u32(&s->agent->out, WIRE_RESET, 0, st->agent_id, s->epoch, ECONNRESET);
		st->used = false;
	}
}

static void orphan_streams(struct sup_client *c)
{
	struct sup *s = c->sup;

	for (size_t i = 0; i < SUP_STREAMS_MAX; i++)
		if (s->streams[i].used && s->streams[i].client == c)
			s->streams[i].client = NULL;
	if (s->state != SUP_ENDING)
		sup_reset_orphans(s);
}

void sup_drop_client(struct sup_client *c)
{
	struct sup *s = c->sup;
	bool owner = c == s->owner;

	if (!c->used || uv_is_closing((uv_handle_t *)&c->poll))
		return;
	c->closing = true;
	c->attached = false;
	c->input = false;
	orphan_streams(c);
	sup_op_client_gone(c);
	uv_close((uv_handle_t *)&c->poll, on_client_closed);
	if (owner)
		s->owner = NULL;
	if (s->state == SUP_ENDING)
		return;
	if (owner && !s->spec.detach)
		sup_end(s, RESULT_CALLER_GONE, 137, "the command that started it is gone");
	else if (s->agent_paused) {
		s->agent_paused = false; /* perhaps this was the one it waited for */
		sup_agent_frames(s);
	}
	sup_watch_agent(s);
}

static void greet(struct buf *out)
{
	const struct wire_hello hello = { .version = WIRE_VERSION,
		                          .agent_version = span_str(BERM_VERSION),
		                          .kernel = span_str("") };

	wire_put_hello(out, 1, &hello);
}

/* Said at once into a new socket, which has room, or not at all. */
static void turn_away(int fd)
{
	uint8_t text[1024];
	struct buf out;

	buf_init(&out, text, sizeof(text));
	greet(&out);
	wire_put_text(&out, WIRE_REFUSE, 1, "as many commands as it serves are connected to it");
	if (send(fd, out.at, out.len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return;
}

struct sup_client *sup_add_client(struct sup *s, int fd, bool owner, struct err *e)
{
	for (size_t i = 0; i < SUP_CLIENTS_MAX; i++) {
		struct sup_client *c = &s->clients[i];

		if (c->used)
			continue;
		*c = (struct sup_client){ .sup = s, .owner = owner, .heard_ms = clock_mono_ms() };
		if (link_new(fd, WIRE_FROM_COMMAND, &c->link, e) < 0)
			return NULL;
		c->used = true;
		greet(&c->link->out);
		return c;
	}
	turn_away(fd);
	(void)close(fd);
	(void)err_set(e, -EMFILE, "more than %d connections", SUP_CLIENTS_MAX);
	return NULL;
}

static int watch_new_client(struct sup *s, struct sup_client *c)
{
	int r = uv_poll_init(&s->loop, &c->poll, c->link->fd);

	c->poll.data = c;
	c->poll_open = r == 0;
	if (r == 0)
		sup_watch_client(c);
	return r;
}

/* Only the user who owns the sandbox, and root, may speak to it, whatever the socket's mode. */
bool sup_peer_allowed(int fd)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0)
		return false;
	return who.uid == geteuid() || who.uid == 0;
}

/*
 * Where every place is taken, the connection that has asked for nothing for longest goes. True: its
 * place is free in the loop's next round, and whoever knocks is let in then.
 */
static bool make_place(struct sup *s)
{
	uint64_t now_ms = clock_mono_ms();
	struct sup_client *quiet = NULL;

	for (size_t i = 0; i < SUP_CLIENTS_MAX; i++) {
		struct sup_client *c = &s->clients[i];

		if (!c->used)
			return false;
		if (sup_client_quiet(c, now_ms) && (!quiet || c->heard_ms < quiet->heard_ms))
			quiet = c;
	}
	if (quiet)
		sup_drop_client(quiet);
	return quiet != NULL;
}

static void on_listen(uv_poll_t *poll, int status, int events);

static void on_accept_again(uv_timer_t *t)
{
	struct sup *s = t->data;

	(void)uv_poll_start(&s->listen_poll, UV_READABLE, on_listen);
	sup_accept_again(s);
}

/* Who knocks stays at the door when there is no fd for him: the loop would spin on him. */
void sup_pause_accept(struct sup *s)
{
	(void)uv_poll_stop(&s->listen_poll);
	sup_stop_accept(s);
	(void)uv_timer_start(&s->accept_timer, on_accept_again, SUP_ACCEPT_MS, 0);
}

static void on_listen(uv_poll_t *poll, int status, int events)
{
	struct sup *s = poll->data;
	struct sup_client *c;
	int fd;

	(void)status;
	(void)events;
	if (make_place(s))
		return;
	fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			sup_pause_accept(s);
		return;
	}
	if (!sup_peer_allowed(fd)) {
		(void)close(fd);
		return;
	}
	c = sup_add_client(s, fd, false, NULL);
	if (c && watch_new_client(s, c) < 0) {
		link_free(c->link);
		c->used = false;
	}
}

/* --- the engine --- */

static void on_log(uv_poll_t *poll, int status, int events)
{
	struct sup *s = poll->data;

	(void)status;
	(void)events;
	(void)sup_drain_log(s);
}

static void engine_died(struct sup *s, const char *what)
{
	const char *dropped;
	char words[SUP_WORDS_MAX];
	struct buf b;

	/* its last word may be in the socket still; the template is not to blame for it */
	if (engine_heard_full(&s->vm)) {
		sup_end(s, RESULT_ENGINE_DIED, 125, "%s", ENGINE_FULL);
		return;
	}
	dropped = sup_distrust(s);
	for (int i = 0; i < SUP_WORDS_READS_MAX && sup_drain_log(s); i++)
		continue;
	buf_init(&b, words, sizeof(words));
	sup_engine_words(s, &b);
	sup_end(s, *dropped ? RESULT_NOT_STARTED : RESULT_ENGINE_DIED, 125, "%s%s%s%s", what,
	        dropped, b.len ? "; its last words: " : "", buf_cstr(&b));
}

static void on_port_deadline(uv_timer_t *t)
{
	engine_died(t->data, "the guest's agent closed its port");
}

/* Of itself, or as it was told to. */
static void end_after_engine(struct sup *s)
{
	char what[128];

	if (s->state == SUP_ENDING)
		return;
	if (s->stop_grace_ms > 0) {
		sup_end(s, RESULT_STOPPED, 137, "%s", "");
		return;
	}
	(void)snprintf(what, sizeof(what), "the guest's machine ended by itself%s",
	               engine_death(&s->vm));
	engine_died(s, what);
}

/* As a rule the engine is about to end, which says more; but a hostile one may stay for ever. */
void sup_agent_gone(struct sup *s)
{
	s->agent_closed = true;
	if (s->engine_ended)
		end_after_engine(s);
	else if (s->stop_grace_ms == 0 && s->state != SUP_ENDING)
		(void)uv_timer_start(&s->deadline, on_port_deadline, SUP_PORT_MS, 0);
}

static void on_last_deadline(uv_timer_t *t)
{
	end_after_engine(t->data);
}

/*
 * The last frames may still lie in the socket: an EXIT behind output, just before a power-off. If
 * somebody has yet to make room for what is before it, he may take a while.
 */
static void on_engine_end(uv_poll_t *poll, int status, int events)
{
	struct sup *s = poll->data;

	(void)status;
	(void)events;
	(void)uv_poll_stop(poll);
	if (s->state == SUP_ENDING)
		return;
	s->engine_ended = true;
	for (int i = 0; i < SUP_LAST_READS_MAX && s->state != SUP_ENDING && !s->agent_paused &&
	                !s->agent_closed;
	     i++)
		sup_agent_readable(s);
	if (s->state == SUP_ENDING)
		return;
	if (s->agent_paused && s->state == SUP_RUNNING && s->stop_grace_ms == 0) {
		(void)uv_timer_start(&s->deadline, on_last_deadline, SUP_LAST_MS, 0);
		sup_watch_agent(s);
		return;
	}
	end_after_engine(s);
}

/* --- timers and signals --- */

/* A copy's whole memory may have to be read first. */
static uint64_t ready_ms(const struct sup *s)
{
	if (s->spec.cold)
		return SUP_BOOT_MS;
	if (!spec_is_copy(&s->spec))
		return SUP_RESTORE_MS;
	return SUP_RESTORE_MS + s->spec.limits.memory_bytes / SUP_SAVE_BYTES_MS;
}

static void on_ready_deadline(uv_timer_t *t)
{
	struct sup *s = t->data;
	char what[64];

	(void)snprintf(what, sizeof(what), "the guest was not ready after %" PRIu64 " s",
	               ready_ms(s) / 1000);
	if (s->key)
		engine_died(s, what);
	else
		sup_end(s, RESULT_AGENT_SILENT, 125, "%s", what);
}

static void on_signal(uv_signal_t *sig, int number)
{
	struct sup *s = sig->data;

	sup_end(s, RESULT_INTERRUPTED, 137, "its supervisor was told to end (signal %d)", number);
}

static void on_flush_deadline(uv_timer_t *t)
{
	struct sup *s = t->data;

	/* the caller may take its time over its output; nobody else holds us up */
	for (size_t i = 0; i < SUP_CLIENTS_MAX; i++)
		if (s->clients[i].used && !s->clients[i].owner &&
		    !sup_op_outlives(s, &s->clients[i]))
			sup_drop_client(&s->clients[i]);
}

static int init_polls(struct sup *s)
{
	int r = uv_poll_init(&s->loop, &s->agent_poll, s->agent->fd);

	s->agent_poll_open = r == 0;
	if (r == 0)
		r = uv_poll_init(&s->loop, &s->engine_poll, s->vm.pidfd);
	s->engine_poll_open = r == 0;
	if (r == 0)
		r = uv_poll_init(&s->loop, &s->log_poll, s->vm.log_fd);
	s->log_poll_open = r == 0;
	if (r == 0)
		r = uv_poll_init(&s->loop, &s->listen_poll, s->listen_fd);
	if (r == 0 && s->vm.control_fd >= 0)
		r = uv_poll_init(&s->loop, &s->control_poll, s->vm.control_fd);
	s->control_poll_open = r == 0 && s->vm.control_fd >= 0;
	if (r == 0)
		r = sup_watch_network(s);
	if (r < 0)
		return r;
	s->agent_poll.data = s->engine_poll.data = s->log_poll.data = s->listen_poll.data = s;
	s->control_poll.data = s;
	sup_watch_control(s);
	(void)uv_poll_start(&s->engine_poll, UV_READABLE, on_engine_end);
	(void)uv_poll_start(&s->log_poll, UV_READABLE, on_log);
	(void)uv_poll_start(&s->listen_poll, UV_READABLE, on_listen);
	return 0;
}

static void init_timers(struct sup *s)
{
	uv_timer_t *const timers[] = { &s->deadline,     &s->wall,      &s->idle,
		                       &s->stats_timer,  &s->flush,     &s->hold_timer,
		                       &s->accept_timer, &s->rest_timer };

	for (size_t i = 0; i < sizeof(timers) / sizeof(timers[0]); i++) {
		(void)uv_timer_init(&s->loop, timers[i]); /* only fills in the struct */
		timers[i]->data = s;
	}
	(void)uv_signal_init(&s->loop, &s->term);
	(void)uv_signal_init(&s->loop, &s->interrupt);
	s->term.data = s->interrupt.data = s;
	(void)uv_signal_start(&s->term, on_signal, SIGTERM);
	(void)uv_signal_start(&s->interrupt, on_signal, SIGINT);
	(void)uv_timer_start(&s->deadline, on_ready_deadline, ready_ms(s), 0);
}

/* Everything but the connections, which close when they have been told the end. */
void sup_close_loop(struct sup *s)
{
	uv_handle_t *const handles[] = {
		(uv_handle_t *)&s->agent_poll, (uv_handle_t *)&s->engine_poll,
		(uv_handle_t *)&s->log_poll,   (uv_handle_t *)&s->listen_poll,
		(uv_handle_t *)&s->deadline,   (uv_handle_t *)&s->wall,
		(uv_handle_t *)&s->idle,       (uv_handle_t *)&s->stats_timer,
		(uv_handle_t *)&s->term,       (uv_handle_t *)&s->interrupt,
		(uv_handle_t *)&s->hold_timer, (uv_handle_t *)&s->accept_timer,
		(uv_handle_t *)&s->rest_timer,
	};

	for (size_t i = 0; i < sizeof(handles) / sizeof(handles[0]); i++)
		if (!uv_is_closing(handles[i]))
			uv_close(handles[i], NULL);
	if (s->control_poll_open)
		uv_close((uv_handle_t *)&s->control_poll, NULL);
	s->agent_poll_open = s->control_poll_open = false;
	sup_close_network(s);
	(void)uv_timer_start(&s->flush, on_flush_deadline, SUP_FLUSH_MS, 0);
	uv_unref((uv_handle_t *)&s->flush);
}

int sup_open_loop(struct sup *s, struct err *e)
{
	int r = uv_loop_init(&s->loop);

	if (r == 0)
		r = init_polls(s);
	if (r < 0)
		return err_set(e, r, "event loop: %s", uv_strerror(r));
	init_timers(s);
	if (s->owner && watch_new_client(s, s->owner) < 0)
		return err_set(e, -EIO, "event loop: the caller's connection");
	if (s->owner) /* what it said while a template was built is read already */
		sup_client_frames(s->owner);
	if (s->owner && s->state != SUP_ENDING && !s->owner->paused)
		sup_client_readable(s->owner);
	sup_watch_agent(s);
	return 0;
}

int sup_loop(struct sup *s, struct err *e)
{
	int r = sup_open_loop(s, e);

	if (r == 0)
		(void)uv_run(&s->loop, UV_RUN_DEFAULT);
	return r;
}
