#include "lib/work_rescue.h"

#include "base/fdio.h"
#include "base/own.h"
#include "lib/client.h"
#include "lib/start.h"
#include "state/result.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/*
 * Boots without an image: the agent brings all that it needs. The disk there is one it has already.
 */
static int plan(const struct work_session *s, const struct work_rescue *c, struct spec *ret,
                struct err *e)
{
	static const char *const nothing[] = { NULL };
	struct stat st;

	if (fstatat(s->dir_fd, "scratch.img", &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, "the disk of session %s", s->info.id);
	spec_init(ret);
	ret->image = *s->info.image ? s->info.image : "rescue";
	ret->argv = nothing;
	ret->limits.memory_bytes = WORK_RESCUE_MEMORY;
	ret->limits.disk_bytes = (uint64_t)st.st_size;
	ret->engine = c->engine;
	ret->minimum_level = c->minimum_level;
	ret->workspace = s->info.mount;
	ret->rescue = ret->cold = true;
	ret->detach = ret->remove = true; /* it goes on if we are ended */
	if (c->collect_bytes > 0)
		ret->collect_bytes = c->collect_bytes;
	if (c->collect_ms > 0)
		ret->collect_ms = c->collect_ms;
	return 0;
}

enum { TICK_MS = 120 };

static int await_end(int control_fd, const struct work_rescue *how, struct result *ret,
                     struct err *e)
{
	_own_(client_free) struct client *c = NULL;
	struct wire_frame f;
	int r = client_new(control_fd, &c, e);

	while (r == 0 && (r = client_expect(c, WIRE_END, TICK_MS, &f, e)) == -ETIMEDOUT) {
		err_clear(e);
		r = 0;
		if (how->tick)
			how->tick(how->arg);
	}
	return r == 0 ? result_parse_json(f.payload, ret, e) : r;
}

/* What the supervisor wrote down is the truth; its last words say why it is not better. */
static int judge(struct work_session *s, const struct result *res, struct err *e)
{
	int r = work_session_lock(s, "rescue", e);

	if (r < 0 || s->info.state == SESSION_SPOOLED)
		return r;
	return err_set(e, -EIO,
	               "the work of session %s could not be rescued, and is still there: %s",
	               s->info.id, *s->info.why ? s->info.why : res->message);
}

int work_session_rescue(const struct paths *p, int state_fd, struct work_session *s,
                        const struct work_rescue *c, struct err *e)
{
	struct started st = { .control_fd = -1, .pidfd = -1 };
	struct result res = { 0 };
	_own_fd_ int disk_fd = -1;
	struct spec spec;
	int r = plan(s, c, &spec, e);

	if (r == 0)
		r = fd_open_file(s->dir_fd, "base.erofs", O_RDONLY, 0, &disk_fd, e);
	if (r == 0)
		r = start_session(p, state_fd, disk_fd, &spec, NULL, s, &st, e);
	if (r < 0)
		return r;
	r = await_end(st.control_fd, c, &res, e);
	own_close_fd(&st.pidfd);
	return r == 0 ? judge(s, &res, e) : r;
}
