#include "base/own.h"
#include "session/review_open.h"
#include "work/undo.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { HINTS_MAX = 3, HINT_PATH_MAX = 60 };

static bool beneath(const char *root, const char *path)
{
	size_t len = strlen(root);

	if (len == 1 && root[0] == '/')
		return true;
	return strncmp(root, path, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

static bool waits(const struct work_session_info *info)
{
	return info->state >= SESSION_UNCOLLECTED && info->state < SESSION_APPLIED;
}

static bool can_be_undone(struct cli *c, const struct work_session_info *info)
{
	_own_(work_session_close) struct work_session s;
	uint32_t generation = 0;

	work_session_init(&s);
	return info->state >= SESSION_PENDING &&
	       work_session_open(c->state_fd, info->id, &s, NULL) == 0 &&
	       undo_last(s.dir_fd, &generation, NULL) == 0 && generation > 0;
}

static bool is_wanted(struct cli *c, const struct work_session_info *info, enum review_want want)
{
	return want == REVIEW_WANT_UNDO ? can_be_undone(c, info) : waits(info);
}

static void put_hint(struct buf *b, const struct work_session_info *info)
{
	size_t len = strlen(info->root);
	size_t cut = len > HINT_PATH_MAX ? len - HINT_PATH_MAX : 0;

	buf_printf(b, "%s (%s", info->id, cut ? "..." : "");
	buf_put_escaped(b, span_str(info->root + cut));
	buf_put_str(b, ")");
}

/* Which there are elsewhere, so that the next command can be typed. */
static int tell_none(struct cli *c, const struct work_session_list *l, const char *cwd,
                     enum review_want want, struct err *e)
{
	const char *why = want == REVIEW_WANT_UNDO ? "can be undone" : "waits for a decision";
	char storage[ERR_TEXT_MAX];
	unsigned count = 0;
	struct buf b;

	buf_init(&b, storage, sizeof(storage));
	for (size_t i = 0; i < l->count && count <= HINTS_MAX; i++) {
		const struct work_session_info *info = &l->items[i];

		if (info->state == SESSION_RUNNING && beneath(info->root, cwd))
			return err_set(e, -ENOENT,
			               "session %s of this workspace still runs: wait for its end, "
			               "or berm stop %s",
			               info->id, *info->sandbox ? info->sandbox : "it");
		if (!is_wanted(c, info, want))
			continue;
		if (count++ < HINTS_MAX) {
			buf_put_str(&b, count > 1 ? ", " : "; elsewhere: ");
			put_hint(&b, info);
		}
	}
	return err_set(e, -ENOENT, "no session of this directory %s%s%s (berm sessions lists all)",
	               why, buf_cstr(&b), count > HINTS_MAX ? ", ..." : "");
}

int review_session_find_as(struct cli *c, const char *ref, enum review_want want,
                           struct work_session *ret, struct err *e)
{
	_own_(work_session_list_free) struct work_session_list *l = NULL;
	char cwd[PATH_MAX];
	int r = cli_state(c, e);

	if (r == 0 && ref)
		return work_session_find(c->state_fd, ref, ret, e);
	if (r == 0 && !getcwd(cwd, sizeof(cwd)))
		r = err_sys(e, "the current directory");
	if (r == 0)
		r = work_session_list(c->state_fd, &l, e);
	if (r != 0)
		return r;
	for (size_t i = 0; i < l->count; i++)
		if (beneath(l->items[i].root, cwd) && is_wanted(c, &l->items[i], want))
			return work_session_open(c->state_fd, l->items[i].id, ret, e);
	return tell_none(c, l, cwd, want, e);
}

int review_session_find(struct cli *c, const char *ref, struct work_session *ret, struct err *e)
{
	return review_session_find_as(c, ref, REVIEW_WANT_UNDECIDED, ret, e);
}
