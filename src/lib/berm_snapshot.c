/*
 * Pausing, snapshots and forks are the supervisor's to do. Each request has a connection of its
 * own, so nobody holds the sandbox's lock while he waits, and a supervisor that knows no such
 * request refuses that connection and no other.
 */
#include "lib/berm_internal.h"

#include <errno.h>

static int no_engine(const char *what, struct err *e)
{
	return err_set(e, -ENOTSUP, "this version of berm, " BERM_VERSION ", cannot %s", what);
}

/* DONE, or why there is none. */
static int take_done(struct client *c, const char *what, struct err *e)
{
	struct wire_frame f;
	struct wire_fail done;
	int r = client_expect(c, WIRE_DONE, -1, &f, e);

	if (r == -EPROTO)
		return err_set(e, -ENOTSUP, "its supervisor cannot %s: it is of another version",
		               what);
	if (r == -ENODATA)
		return err_set(e, -ESHUTDOWN, "the sandbox ended before it could %s", what);
	if (r == -ETIMEDOUT)
		return err_set(e, r, "the sandbox did not %s in time", what);
	if (r < 0)
		return r;
	if (wire_parse_fail(f.payload, &done) < 0)
		return err_set(e, -EPROTO, "the supervisor's answer is damaged");
	if (done.code == 0)
		return 0;
	return err_set(e, done.code < 4096 ? -(int)done.code : -EIO, "%s: %.*s", what,
	               (int)done.text.len, (const char *)done.text.at);
}

static int request(struct berm_sandbox *sb, uint8_t type, const char *name, const char *what,
                   int timeout_ms, struct err *e)
{
	_own_(client_free) struct client *c = NULL;
	const struct wire_snapshot snapshot = { .name = span_str(name ? name : "") };
	int r = sandbox_client(sb, timeout_ms, &c, e);

	if (r < 0)
		return r;
	if (type == WIRE_SNAPSHOT)
		wire_put_snapshot(&c->out, CLIENT_EPOCH, &snapshot);
	else
		wire_put(&c->out, type, 0, 0, CLIENT_EPOCH, span_of(NULL, 0));
	return take_done(c, what, e);
}

int snapshot_check_start(const struct berm_config *c, struct err *e)
{
	return c->snapshot ? no_engine("start from a snapshot", e) : 0;
}

int berm_pause(struct berm_sandbox *sb, int timeout_ms, struct berm_err *e)
{
	struct err why = { 0 };
	int r = request(sb, WIRE_PAUSE, NULL, "pause", timeout_ms, &why);

	return r < 0 ? api_tell(e, r, &why) : 0;
}

int berm_resume(struct berm_sandbox *sb, int timeout_ms, struct berm_err *e)
{
	struct err why = { 0 };
	int r = request(sb, WIRE_RESUME, NULL, "go on", timeout_ms, &why);

	return r < 0 ? api_tell(e, r, &why) : 0;
}

int berm_snapshot(struct berm_sandbox *sb, const char *name, int timeout_ms, struct berm_err *e)
{
	struct err why = { 0 };
	int r = 0;

	if (!name || !spec_name_ok(name))
		r = err_set(&why, -EINVAL,
		            "a snapshot's name is 1 to 63 letters, digits, '-', '_' and '.', the "
		            "first a letter or digit");
	if (r == 0)
		r = request(sb, WIRE_SNAPSHOT, name, "make a snapshot", timeout_ms, &why);
	return r < 0 ? api_tell(e, r, &why) : 0;
}

static int fork_sandbox(struct berm_sandbox *sb, unsigned count, struct berm_sandbox **ret_children,
                        struct err *e)
{
	int r;

	if (count < 1 || count > BERM_FORK_MAX || !ret_children)
		return err_set(e, -EINVAL, "children are 1 to %d, and need a place", BERM_FORK_MAX);
	r = sandbox_enter(sb, e);
	if (r < 0)
		return r;
	pump_once(sb);
	r = sb->ended ? sandbox_gone(sb, NULL, 0, e) : no_engine("fork a sandbox", e);
	sandbox_leave(sb);
	return r;
}

int berm_fork(struct berm_sandbox *sb, unsigned count, int timeout_ms,
              struct berm_sandbox **ret_children, struct berm_err *e)
{
	struct err why = { 0 };
	int r = fork_sandbox(sb, count, ret_children, &why);

	(void)timeout_ms;
	return r < 0 ? api_tell(e, r, &why) : 0;
}
