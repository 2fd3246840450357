#include "work/apply_inner.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>

enum { XATTR_LIST_MAX = 64 << 10, XATTR_VALUE_MAX = 64 << 10 /* limits.h: XATTR_SIZE_MAX */ };

static bool begins(const char *name, const char *with)
{
	return strncmp(name, with, strlen(with)) == 0;
}

/*
 * What a replaced file hands on. A capability was given to other bytes, a measurement is of other
 * bytes, and what an overlay keeps for itself says what is no longer true.
 */
static bool handed_on(const char *name)
{
	return strcmp(name, "security.capability") != 0 && strcmp(name, "security.ima") != 0 &&
	       strcmp(name, "security.evm") != 0 && !begins(name, "trusted.overlay.") &&
	       !begins(name, "user.overlay.");
}

static int copy_one(const char *from, int to_fd, const char *name, char *room, bool *ret_lost,
                    struct err *e)
{
	ssize_t len = getxattr(from, name, room, XATTR_VALUE_MAX);

	if (len < 0)
		return errno == ENODATA ? 0 : err_sys(e, "read attribute '%s'", name);
	if (fsetxattr(to_fd, name, room, (size_t)len, 0) == 0)
		return 0;
	/* of labels the machine's policy decides, not the file's owner */
	if (begins(name, "security.") || begins(name, "trusted.")) {
		*ret_lost = true;
		return 0;
	}
	return err_sys(e, "keep attribute '%s'", name);
}

int apply_copy_xattrs(int from_fd, int to_fd, bool exact, bool *ret_lost, struct err *e)
{
	_own_free_ char *room = malloc(XATTR_LIST_MAX + XATTR_VALUE_MAX);
	char from[40];
	ssize_t len;
	int r = 0;

	if (!room)
		return err_set(e, -ENOMEM, "out of memory");
	/* by this name an O_PATH fd, of a file we may not read, is enough */
	(void)snprintf(from, sizeof(from), "/proc/self/fd/%d", from_fd);
	len = listxattr(from, room, XATTR_LIST_MAX);
	if (len < 0 && (errno == ENOTSUP || errno == EPERM))
		return 0;
	if (len < 0)
		return err_sys(e, "list attributes");
	for (const char *at = room; r == 0 && at < room + len; at += strlen(at) + 1)
		if (exact || handed_on(at))
			r = copy_one(from, to_fd, at, room + XATTR_LIST_MAX, ret_lost, e);
	return r;
}
