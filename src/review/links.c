#include "review/links.h"

#include "base/fdio.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

static const char magic[] = "BERMLNK1";

struct review_links {
	uint32_t count;
	bool more;
	struct buf body; /* in room */
	uint8_t room[REVIEW_LINKS_BYTES_MAX - REVIEW_LINKS_HEAD];
};

int review_links_new(struct review_links **ret, struct err *e)
{
	struct review_links *l = malloc(sizeof(*l));

	if (l == NULL)
		return err_set(e, -ENOMEM, "no memory for the links of a workspace");
	l->count = 0;
	l->more = false;
	buf_init(&l->body, l->room, sizeof(l->room));
	*ret = l;
	return 0;
}

void review_links_free(struct review_links *l)
{
	free(l);
}

/* -- while it is packed -- */

/* The path of an open file; "" for the root of the file system, so that "/x" is beneath it. */
static bool path_of(int fd, char ret[PATH_MAX], struct span *ret_path)
{
	if (!fd_path(fd, ret))
		return false;
	*ret_path = span_str(ret[1] ? ret : "");
	return true;
}

/* Where it ends, all links on the way followed; by its text if nothing is there yet. */
static bool leads_to(int root_fd, struct span link, struct buf *out)
{
	char name[WPATH_MAX + 1];
	char root_path[PATH_MAX];
	char target[PATH_MAX];
	_own_fd_ int fd = -1;
	struct span root;
	struct span end;
	ssize_t len;

	if (link.len >= sizeof(name) || !path_of(root_fd, root_path, &root))
		return false;
	memcpy(name, link.at, link.len);
	name[link.len] = '\0';
	/* O_PATH opens nothing: a device or fifo is only named */
	if (fd_openat(root_fd, name, O_PATH, 0, &fd, NULL) == 0 && path_of(fd, target, &end))
		return review_links_resolve(root, link, end, out);
	len = readlinkat(root_fd, name, target, sizeof(target));
	return len > 0 && (size_t)len < sizeof(target) &&
	       review_links_resolve(root, link, span_of(target, (size_t)len), out);
}

static bool is_known(const struct review_links *l, struct span name, struct span to)
{
	struct span body = buf_span(&l->body);
	struct span its_name;
	struct span its_to;

	while (review_links_take(&body, &its_name, &its_to))
		if (span_equal(name, its_name) && span_equal(to, its_to))
			return true;
	return false;
}

void review_links_meet(struct review_links *l, const struct class_list *classes, int root_fd,
                       struct span path)
{
	uint8_t room[WPATH_MAX + 1];
	struct buf to;
	size_t was = l->body.len;

	if (l->more || class_by_path(classes, path, WORK_LINK).class == CLASS_PLAIN)
		return;
	buf_init(&to, room, sizeof(room));
	if (!leads_to(root_fd, path, &to) || is_known(l, path, buf_span(&to)))
		return;
	buf_put_str16(&l->body, path);
	buf_put_str16(&l->body, buf_span(&to));
	if (buf_ok(&l->body)) {
		l->count++;
		return;
	}
	l->more = true;
	buf_init(&l->body, l->room, sizeof(l->room));
	l->body.len = was;
}

int review_links_save(const struct review_links *l, int session_fd, struct err *e)
{
	_own_free_ uint8_t *room = malloc(REVIEW_LINKS_BYTES_MAX);
	struct buf b;

	if (room == NULL)
		return err_set(e, -ENOMEM, "no memory for the links of a workspace");
	buf_init(&b, room, REVIEW_LINKS_BYTES_MAX);
	buf_put(&b, magic, sizeof(magic) - 1);
	buf_put_le32(&b, l->count);
	buf_put_le32(&b, l->more);
	buf_put_span(&b, buf_span(&l->body));
	return fd_replace_file(session_fd, REVIEW_LINKS_NAME, b.at, b.len, 0600, e);
}

/* -- in a review -- */

static int judge(struct span text, struct review_links *l)
{
	struct span head;
	uint32_t more;

	if (!take_span(&text, sizeof(magic) - 1, &head) || !span_equal(head, span_str(magic)) ||
	    !take_le32(&text, &l->count) || !take_le32(&text, &more) || more > 1 ||
	    !review_links_parse(text, l->count))
		return -EBADMSG;
	l->more = more == 1;
	buf_put_span(&l->body, text);
	return buf_ok(&l->body) ? 0 : -EBADMSG;
}

int review_links_load(int session_fd, struct review_links **ret, struct err *e)
{
	_own_(review_links_free) struct review_links *l = NULL;
	_own_free_ char *text = NULL;
	size_t len = 0;
	_own_fd_ int fd = -1;
	int r = review_links_new(&l, e);

	if (r < 0)
		return r;
	r = fd_open_file(session_fd, REVIEW_LINKS_NAME, O_RDONLY, 0, &fd, e);
	if (r == 0)
		r = fd_read_text(fd, REVIEW_LINKS_BYTES_MAX, &text, &len, e);
	if (r == 0 && judge(span_of(text, len), l) < 0)
		return err_set(e, -EBADMSG,
		               "the session's file '" REVIEW_LINKS_NAME
		               "' is damaged: nothing can be accepted without it");
	if (r < 0 && r != -ENOENT)
		return r;
	*ret = steal_ptr(&l);
	return 0;
}

uint32_t review_links_count(const struct review_links *l)
{
	return l->count;
}

bool review_links_more(const struct review_links *l)
{
	return l->more;
}

bool review_links_next(const struct review_links *l, struct span path, size_t *at, struct buf *out)
{
	struct span body = span_of(l->body.at + *at, l->body.len - *at);
	struct span name;
	struct span rest;
	struct span to;

	while (review_links_take(&body, &name, &to)) {
		*at = l->body.len - body.len;
		if (!wpath_beneath(to, path, &rest))
			continue;
		buf_reset(out);
		buf_put_span(out, name);
		if (rest.len > 0) {
			buf_put_u8(out, '/');
			buf_put_span(out, rest);
		}
		return true;
	}
	return false;
}
