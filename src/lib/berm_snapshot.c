/*
 * Pausing, snapshots and forks. They are the engine's to do and the supervisor's to ask for, and
 * the protocol of this version (wire.h) has no request for them yet: so each judges what it was
 * given, and answers -ENOTSUP.
 */
#include "lib/berm_internal.h"

#include <errno.h>

static int not_yet(const char *what, struct err *e)
{
	return err_set(e, -ENOTSUP,
	               "no engine of berm " BERM_VERSION " can %s: its supervisor has no such "
	               "request",
	               what);
}

/* For a sandbox that could be asked, were there a request. */
static int ask(struct berm_sandbox *sb, const char *what, struct err *e)
{
	int r = sandbox_enter(sb, e);

	if (r < 0)
		return r;
	pump_once(sb);
	r = sb->ended ? sandbox_gone(sb, NULL, 0, e) : not_yet(what, e);
	sandbox_leave(sb);
	return r;
}

int snapshot_check_start(const struct berm_config *c, struct err *e)
{
	return c->snapshot ? not_yet("start from a snapshot", e) : 0;
}

int berm_pause(struct berm_sandbox *sb, int timeout_ms, struct berm_err *e)
{
	struct err why = { 0 };

	(void)timeout_ms;
	return api_tell(e, ask(sb, "pause a sandbox", &why), &why);
}

int berm_resume(struct berm_sandbox *sb, int timeout_ms, struct berm_err *e)
{
	struct err why = { 0 };

	(void)timeout_ms;
	return api_tell(e, ask(sb, "resume a sandbox", &why), &why);
}

int berm_snapshot(struct berm_sandbox *sb, const char *name, int timeout_ms, struct berm_err *e)
{
	struct err why = { 0 };
	int r = 0;

	(void)timeout_ms;
	if (!name || !spec_name_ok(name))
		r = err_set(&why, -EINVAL,
		            "a snapshot's name is 1 to 63 letters, digits, '-', '_' and '.', the "
		            "first a letter or digit");
	if (r == 0)
		r = ask(sb, "save a sandbox", &why);
	return api_tell(e, r, &why);
}

int berm_fork(struct berm_sandbox *sb, unsigned count, int timeout_ms,
              struct berm_sandbox **ret_children, struct berm_err *e)
{
	struct err why = { 0 };
	int r = 0;

	(void)timeout_ms;
	if (count < 1 || count > BERM_FORK_MAX || !ret_children)
		r = err_set(&why, -EINVAL, "children are 1 to %d, and need a place", BERM_FORK_MAX);
	if (r == 0)
		r = ask(sb, "fork a sandbox", &why);
	return api_tell(e, r, &why);
}
