#include "cli/reach.h"

#include "base/fdio.h"
#include "state/result.h"

#include <errno.h>
#include <string.h>

enum { CLOSE_MS = 15000 }; /* from the grace's end to the close: guest killed, disks closed */

int reach_fail(const struct err *e)
{
	int status = cli_fail(e);

	return e->code == -ESRCH ? REACH_EXIT_NO_SANDBOX : status;
}

/* What is missing is the sandbox, and no file that a verb is about. */
static int gone(int r, struct err *e)
{
	if (r != -ENOENT && r != -ECONNREFUSED)
		return r;
	if (e)
		e->code = -ESRCH;
	return -ESRCH;
}

int reach_find(struct cli *c, const char *ref, bool ended, struct state_info *ret, struct err *e)
{
	int r = cli_state(c, e);

	return r < 0 ? r : gone(state_find(c->state_fd, ref, ended, ret, e), e);
}

int reach_dial(struct cli *c, const char *ref, struct state_info *ret_info, int *ret_fd,
               struct err *e)
{
	struct state_info info;
	int r = reach_find(c, ref, false, &info, e);

	if (r < 0)
		return r;
	r = gone(state_connect(c->state_fd, info.id, ret_fd, e), e);
	if (r < 0)
		return r;
	if (ret_info)
		*ret_info = info;
	return 0;
}

int reach_client(struct cli *c, const char *ref, struct state_info *ret_info,
                 struct client **ret_client, struct err *e)
{
	int fd;
	int r = reach_dial(c, ref, ret_info, &fd, e);

	return r < 0 ? r : client_new(fd, ret_client, e);
}

int reach_info(struct client *client, char **ret_json, struct err *e)
{
	struct wire_frame f;
	char *text;
	int r;

	wire_put(&client->out, WIRE_INFO, 0, 0, CLIENT_EPOCH, span_of(NULL, 0));
	r = client_expect(client, WIRE_INFO_OK, CLIENT_ANSWER_MS, &f, e);
	if (r < 0)
		return r;
	text = strndup((const char *)f.payload.at, f.payload.len);
	if (!text)
		return err_set(e, -ENOMEM, "out of memory");
	*ret_json = text;
	return 0;
}

int reach_record(struct cli *c, const char *id, char **ret_json, struct err *e)
{
	_own_fd_ int dir = -1;
	int r = state_open_dir(c->state_fd, id, &dir, e);

	if (r < 0)
		return r;
	return fd_read_file(dir, "result.json", RESULT_JSON_MAX, ret_json, NULL, e);
}

int reach_stop(struct client *client, uint32_t grace_ms, struct err *e)
{
	struct wire_frame f;

	wire_put(&client->out, WIRE_WAIT, 0, 0, CLIENT_EPOCH, span_of(NULL, 0));
	wire_put_u32(&client->out, WIRE_STOP, 0, 0, CLIENT_EPOCH, grace_ms);
	for (;;) {
		int r = client_wait(client, (int)grace_ms + CLOSE_MS, &f, e);

		/* it closes when all is gone, which is what we wait for, after END */
		if (r == -ENODATA) {
			err_clear(e);
			return 0;
		}
		if (r < 0)
			return r;
	}
}
