/*
 * Theory of operation. A session's file has the links that were there when it was packed. Somebody
 * may have made one since, so the host is asked again when a review is opened and before something
 * is applied: first every directory above a change, then others from the top down. There is an end
 * to that (links.h), so it costs the same in a tree of any size; a link that is made meanwhile in a
 * directory deeper than that, and above no change, is not found.
 */
#include "review/links.h"

#include "base/fdio.h"
#include "base/kernel_gaps.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

struct review_look {
	struct review_links *links; /* borrowed, as all of it */
	const struct class_list *classes;
	int root_fd;
	unsigned dirs, names; /* that may still be looked at */
	char **queue;         /* of directories, from the top down; owned */
	size_t from, count;
};

int review_look_new(struct review_links *l, const struct class_list *classes, int root_fd,
                    struct review_look **ret, struct err *e)
{
	struct review_look *k = calloc(1, sizeof(*k));
	char **queue = calloc(REVIEW_LOOK_QUEUE_MAX, sizeof(*queue));

	if (k == NULL || queue == NULL) {
		free(k);
		free(queue);
		return err_set(e, -ENOMEM, "no memory to look for links");
	}
	*k = (struct review_look){ .links = l,
		                   .classes = classes,
		                   .root_fd = root_fd,
		                   .dirs = REVIEW_LOOK_ABOVE_MAX,
		                   .names = REVIEW_LOOK_NAMES_MAX,
		                   .queue = queue };
	*ret = k;
	return 0;
}

void review_look_free(struct review_look *k)
{
	if (k == NULL)
		return;
	for (size_t i = 0; i < k->count; i++)
		free(k->queue[i]);
	free(k->queue);
	free(k);
}

static void close_stream(DIR **dir)
{
	if (*dir != NULL)
		(void)closedir(*dir);
}

static DIR *open_stream(const struct review_look *k, struct span path)
{
	char name[WPATH_MAX + 1];
	_own_fd_ int fd = -1;
	DIR *dir;

	if (path.len >= sizeof(name))
		return NULL;
	memcpy(name, path.at, path.len);
	name[path.len] = '\0';
	if (fd_open_beneath(k->root_fd, path.len > 0 ? name : ".", O_RDONLY | O_DIRECTORY, 0,
	                    RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV, &fd, NULL) < 0)
		return NULL;
	dir = fdopendir(fd);
	if (dir != NULL)
		(void)steal_fd(&fd);
	return dir;
}

static unsigned char type_of(DIR *dir, const struct dirent *d)
{
	struct stat st;

	if (d->d_type != DT_UNKNOWN)
		return d->d_type;
	if (fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return DT_UNKNOWN;
	return S_ISLNK(st.st_mode) ? DT_LNK : S_ISDIR(st.st_mode) ? DT_DIR : DT_REG;
}

static void enqueue(struct review_look *k, struct span path)
{
	if (k->count == REVIEW_LOOK_QUEUE_MAX)
		return;
	k->queue[k->count] = strndup((const char *)path.at, path.len);
	k->count += k->queue[k->count] != NULL;
}

static void look_into(struct review_look *k, struct span path, bool deeper)
{
	__attribute__((cleanup(close_stream))) DIR *dir = open_stream(k, path);
	uint8_t room[WPATH_MAX + 1];
	const struct dirent *d;

	for (; dir != NULL && k->names > 0 && (d = readdir(dir)) != NULL; k->names--) {
		unsigned char type = type_of(dir, d);
		struct buf b;

		if ((type != DT_LNK && type != DT_DIR) || strcmp(d->d_name, ".") == 0 ||
		    strcmp(d->d_name, "..") == 0 || strcmp(d->d_name, ".git") == 0)
			continue;
		buf_init(&b, room, sizeof(room));
		wpath_put(&b, path, span_str(d->d_name));
		if (!buf_ok(&b))
			continue;
		if (type == DT_LNK)
			review_links_meet(k->links, k->classes, k->root_fd, buf_span(&b));
		else if (deeper)
			enqueue(k, buf_span(&b));
	}
}

void review_look_above(struct review_look *k, struct span before, struct span path)
{
	struct span dir = wpath_parent(path);

	/* what is above the one before, too, was looked into then; the root with the others */
	while (dir.len > 0 && k->dirs > 0 && !wpath_beneath(dir, before, NULL)) {
		k->dirs--;
		look_into(k, dir, false);
		dir = wpath_parent(dir);
	}
}

void review_look_down(struct review_look *k)
{
	look_into(k, span_of("", 0), true);
	for (unsigned n = 0; n < REVIEW_LOOK_DOWN_MAX && k->from < k->count; n++)
		look_into(k, span_str(k->queue[k->from++]), true);
}
