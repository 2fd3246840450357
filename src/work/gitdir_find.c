#include "work/gitdir_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

int git_real_path(int fd, char ret[PATH_MAX])
{
	char link[64], got[PATH_MAX];
	struct buf b;
	ssize_t n;

	buf_init(&b, link, sizeof(link));
	buf_printf(&b, "/proc/self/fd/%d", fd);
	n = readlink(buf_cstr(&b), got, sizeof(got));
	if (n < 0)
		return -errno;
	if (n == 0 || got[0] != '/' || (size_t)n >= sizeof(got))
		return -ENAMETOOLONG;
	memcpy(ret, got, (size_t)n);
	ret[n] = '\0';
	return 0;
}

bool git_inside(const struct gitdir *g, const char *real, struct span *ret_rel)
{
	size_t n = strlen(g->root_real);

	if (strncmp(real, g->root_real, n) != 0 || (real[n] != '/' && real[n] != '\0'))
		return false;
	*ret_rel = span_str(real[n] == '/' ? real + n + 1 : real + n);
	return true;
}

void git_put_relative(struct buf *out, unsigned depth, struct span rel)
{
	for (unsigned i = 0; i < depth; i++)
		buf_put_str(out, i + 1 < depth || rel.len > 0 ? "../" : "..");
	if (rel.len > 0)
		buf_put_span(out, rel);
	else if (depth == 0)
		buf_put_str(out, ".");
}

static bool has(int dir_fd, const char *name, const char *what)
{
	char path[WPATH_NAME_MAX + 16];
	struct stat st;
	struct buf b;

	buf_init(&b, path, sizeof(path));
	if (name != NULL) {
		buf_put_str(&b, name);
		buf_put_u8(&b, '/');
	}
	buf_put_str(&b, what);
	return fstatat(dir_fd, buf_cstr(&b), &st, AT_SYMLINK_NOFOLLOW) == 0;
}

bool git_has_shape(int dir_fd, const char *name)
{
	return has(dir_fd, name, "HEAD") &&
	       (has(dir_fd, name, "commondir") ||
	        (has(dir_fd, name, "objects") && has(dir_fd, name, "refs")));
}
