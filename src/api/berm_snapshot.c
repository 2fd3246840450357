/*
 * Pausing, snapshots and forks are the supervisor's to do: it is asked, and answers DONE.
 *
 * Theory of operation
 *
 * A request is a connection of its own among those of the sandbox, so it is served like all others:
 * by whoever is in a call, while output and input of commands go on, and by no thread of ours. A
 * supervisor that knows no such request refuses that connection and no other. One goes at a time,
 * as the guest can stand still for one only; threads that have others wait for their turn.
 *
 * Who waits for the answer owns the request, and takes it back when his time is over: the
 * connection closes, and the supervisor undoes what was under way. A request asked for with a
 * timeout of 0 is nobody's. It stays until the same call takes the answer, or the handle is freed.
 *
 * A fork is the same, and then children (berm_fork.c).
 */
#include "api/berm_internal.h"

#include "lib/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *words_of(const struct request *rq)
{
	static const char *const words[] = {
		[ASK_PAUSE] = "pause",
		[ASK_RESUME] = "go on",
		[ASK_SNAPSHOT] = "make a snapshot",
		[ASK_FORK] = "fork",
	};

	return words[rq->ask];
}

/* --- its life --- */

static void drop_connection(struct request *rq)
{
	if (!rq->process)
		return;
	process_unlink(rq->process);
	process_drop(rq->process);
	rq->process = NULL;
}

void request_drop(struct berm_sandbox *sb)
{
	struct request *rq = sb->request;

	if (!rq)
		return;
	sb->request = NULL;
	sb->news = true; /* somebody may wait for his turn */
	drop_connection(rq);
	fork_drop(sb, &rq->fork);
	free(rq);
}

static void put_request(struct buf *out, const struct request *rq)
{
	const struct wire_snapshot s = { .name = span_str(rq->name) };

	if (rq->ask == ASK_PAUSE)
		wire_put(out, WIRE_PAUSE, 0, 0, CLIENT_EPOCH, span_of(NULL, 0));
	else if (rq->ask == ASK_RESUME)
		wire_put(out, WIRE_RESUME, 0, 0, CLIENT_EPOCH, span_of(NULL, 0));
	else
		wire_put_snapshot(out, CLIENT_EPOCH, &s);
}

static int ask(struct berm_sandbox *sb, struct request *rq, struct err *e)
{
	int r = process_new(sb, API_REQUEST, NULL, &rq->process, e);

	if (r < 0)
		return r;
	put_request(&rq->process->client->out, rq);
	process_link(rq->process);
	process_connect(rq->process);
	return 0;
}

static int begin(struct berm_sandbox *sb, const struct request *want, struct err *e)
{
	struct request *rq;
	int r;

	if (sb->ended)
		return sandbox_gone(sb, NULL, 0, e);
	if (!sb->started)
		return err_set(e, -EAGAIN, "the sandbox is not running yet");
	rq = malloc(sizeof(*rq));
	if (!rq)
		return err_set(e, -ENOMEM, "out of memory");
	*rq = *want;
	rq->serial = ++sb->request_count;
	r = ask(sb, rq, e);
	if (r < 0)
		free(rq);
	else
		sb->request = rq;
	return r;
}

/* --- its answer --- */

void request_answered(struct berm_sandbox *sb, const struct wire_frame *f)
{
	struct request *rq = sb->request;

	rq->answered = true;
	rq->code = snapshot_done(f, &rq->why);
	if (rq->code == 0 && rq->ask == ASK_FORK)
		rq->code = snapshot_receive(rq->process->client, &rq->fork.from, &rq->why);
}

/*
 * Its connection closed, and there was no DONE. Of a sandbox that is ending the own connection will
 * soon say why: -EAGAIN. Whether it is ending is asked by asking once more, as the files of a
 * process that dies close in no order.
 */
static int ask_again(struct berm_sandbox *sb, struct request *rq, struct err *e)
{
	int fd = -1;
	int r = sandbox_dial(sb, &fd, e);

	if (fd >= 0)
		(void)close(fd);
	if (r == -ESHUTDOWN)
		return -EAGAIN;
	if (r < 0 && r != -EAGAIN)
		return r;
	if (rq->asked_again)
		return err_set(e, -ECONNRESET, "the sandbox's supervisor did not answer");
	rq->asked_again = true;
	drop_connection(rq);
	r = ask(sb, rq, e);
	return r < 0 ? r : -EAGAIN;
}

static int unanswered(struct berm_sandbox *sb, struct request *rq)
{
	const struct berm_process *p = rq->process;
	const struct err said = p->why;
	struct err *e = &rq->why;

	if (p->failed && said.code == -EPROTO)
		return err_set(e, -ENOTSUP,
		               "its supervisor cannot %s: it is of another version (%.*s)",
		               words_of(rq), (int)said.len, said.text);
	if (sb->ended)
		return sandbox_gone(sb, NULL, 0, e);
	if (!p->failed || said.code == -ESHUTDOWN)
		return ask_again(sb, rq, e);
	*e = said;
	return said.code;
}

static void settle_answer(struct berm_sandbox *sb, struct request *rq)
{
	int r = 0;

	if (!rq->answered && !process_over(rq->process))
		return;
	if (!rq->answered)
		r = unanswered(sb, rq);
	if (r == -EAGAIN)
		return;
	if (r < 0)
		rq->code = r;
	else if (rq->code < 0)
		rq->code = err_wrap(&rq->why, "%s", words_of(rq));
	drop_connection(rq);
	if (rq->code == 0 && rq->ask == ASK_FORK)
		rq->code = fork_begin(sb, &rq->fork, &rq->why);
	rq->over = rq->code < 0 || rq->ask != ASK_FORK;
}

void request_step(struct berm_sandbox *sb)
{
	struct request *rq = sb->request;
	int r;

	if (!rq || rq->over)
		return;
	if (rq->process)
		settle_answer(sb, rq);
	if (!rq->process && !rq->over) {
		r = fork_step(sb, &rq->fork, &rq->why);
		rq->over = r != -EAGAIN;
		rq->code = rq->over ? r : 0;
	}
	if (!rq->over)
		return;
	if (rq->code < 0)
		fork_drop(sb, &rq->fork);
	sb->news = true;
}

/* --- calls --- */

static bool is_free(const void *arg)
{
	const struct berm_sandbox *sb = arg;

	return !sb->request;
}

static bool same(const struct request *a, const struct request *b)
{
	return a->ask == b->ask && a->fork.count == b->fork.count && strcmp(a->name, b->name) == 0;
}

/* It is its turn, as what sb->request is then. */
static int take_turn(struct berm_sandbox *sb, const struct request *want, uint64_t deadline_ms,
                     struct err *e)
{
	while (sb->request) {
		if (sb->request->kept && same(sb->request, want))
			return 0;
		if (sb->request->kept || want->kept)
			return err_set(e, -EBUSY,
			               "the sandbox is being asked to %s, which comes first",
			               words_of(sb->request));
		if (pump_until(sb, is_free, sb, deadline_ms) < 0)
			return err_set(e, -ETIMEDOUT,
			               "others asked the sandbox to %s, and it is not done yet",
			               words_of(sb->request));
	}
	return begin(sb, want, e);
}

struct awaited {
	const struct berm_sandbox *sb;
	uint64_t serial;
};

static bool is_over(const void *arg)
{
	const struct awaited *a = arg;
	const struct request *rq = a->sb->request;

	return !rq || rq->serial != a->serial || rq->over;
}

static int perform(struct berm_sandbox *sb, const struct request *want, int timeout_ms,
                   struct berm_sandbox **ret_children, struct err *e)
{
	uint64_t deadline_ms = pump_deadline(timeout_ms);
	struct awaited a = { .sb = sb };
	struct request *rq;
	int r;

	pump_once(sb);
	r = take_turn(sb, want, deadline_ms, e);
	if (r < 0)
		return r;
	a.serial = sb->request->serial;
	r = pump_until(sb, is_over, &a, deadline_ms);
	rq = sb->request;
	if (!rq || rq->serial != a.serial)
		return err_set(e, -EBUSY, "another thread took the answer");
	if (r < 0) {
		(void)err_set(e, r, "the sandbox did not %s in time", words_of(rq));
		if (!rq->kept)
			request_drop(sb);
		return r;
	}
	r = rq->code;
	if (r < 0)
		*e = rq->why;
	else if (rq->ask == ASK_FORK)
		fork_take(&rq->fork, ret_children);
	request_drop(sb);
	return r;
}

static int request(struct berm_sandbox *sb, struct request *want, int timeout_ms,
                   struct berm_sandbox **ret_children, struct berm_err *e)
{
	struct err why = { 0 };
	int r = sandbox_enter(sb, &why);

	if (r < 0)
		return api_tell(e, r, &why);
	want->kept = timeout_ms == 0;
	r = perform(sb, want, timeout_ms, ret_children, &why);
	sandbox_leave(sb);
	return r < 0 ? api_tell(e, r, &why) : 0;
}

int berm_pause(struct berm_sandbox *sb, int timeout_ms, struct berm_err *e)
{
	struct request want = { .ask = ASK_PAUSE };

	return request(sb, &want, timeout_ms, NULL, e);
}

int berm_resume(struct berm_sandbox *sb, int timeout_ms, struct berm_err *e)
{
	struct request want = { .ask = ASK_RESUME };

	return request(sb, &want, timeout_ms, NULL, e);
}

int berm_snapshot(struct berm_sandbox *sb, const char *name, int timeout_ms, struct berm_err *e)
{
	struct request want = { .ask = ASK_SNAPSHOT };
	struct err why = { 0 };

	if (!name || !spec_name_ok(name))
		return api_tell(e,
		                err_set(&why, -EINVAL,
		                        "a snapshot's name is 1 to 63 letters, digits, '-', '_' "
		                        "and '.', the first a letter or digit"),
		                &why);
	(void)snprintf(want.name, sizeof(want.name), "%s", name);
	return request(sb, &want, timeout_ms, NULL, e);
}

int berm_fork(struct berm_sandbox *sb, unsigned count, int timeout_ms,
              struct berm_sandbox **ret_children, struct berm_err *e)
{
	struct request want = { .ask = ASK_FORK, .fork.count = count };
	struct err why = { 0 };

	if (count < 1 || count > BERM_FORK_MAX || !ret_children)
		return api_tell(e,
		                err_set(&why, -EINVAL, "children are 1 to %d, and need a place",
		                        BERM_FORK_MAX),
		                &why);
	return request(sb, &want, timeout_ms, ret_children, e);
}
