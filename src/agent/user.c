#include "agent/user.h"

#include "base/fdio.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* The file's bytes, or an empty span if the image has none, or one that is no plain small file. */
static struct span read_db(const char *path, char **ret_own)
{
	char *text = NULL;
	struct stat st;
	size_t len = 0;

	if (stat(path, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > FD_SMALL_FILE_MAX)
		return span_of("", 0);
	if (fd_read_file(AT_FDCWD, path, (size_t)st.st_size, &text, &len, NULL) < 0)
		return span_of("", 0);
	*ret_own = text;
	return span_of(text, len);
}

static void copy_text(char *to, size_t size, struct span from)
{
	if (from.len >= size || memchr(from.at, 0, from.len))
		return; /* a name or home we could not hand on: as if it had none */
	memcpy(to, from.at, from.len);
	to[from.len] = '\0';
}

static void take_entry(struct user *u, const struct passwd_user *p)
{
	u->uid = p->uid;
	u->gid = p->gid;
	copy_text(u->name, sizeof(u->name), p->name);
	copy_text(u->home, sizeof(u->home), p->home);
}

static int find_uid(struct span who, struct span passwd, struct user *u, struct err *e)
{
	struct passwd_user p;
	uint32_t uid;

	if (passwd_by_name(passwd, who, &p)) {
		take_entry(u, &p);
		return 0;
	}
	if (!passwd_id(who, &uid))
		return err_set(e, -ENOENT, "no user '%.*s' in /etc/passwd of the image",
		               (int)who.len, (const char *)who.at);
	u->uid = uid;
	if (passwd_by_uid(passwd, uid, &p))
		take_entry(u, &p);
	return 0;
}

static int find_gid(struct span which, struct span group, struct user *u, struct err *e)
{
	uint32_t gid;

	if (passwd_group_by_name(group, which, &gid) || passwd_id(which, &gid)) {
		u->gid = gid;
		return 0;
	}
	return err_set(e, -ENOENT, "no group '%.*s' in /etc/group of the image", (int)which.len,
	               (const char *)which.at);
}

int user_find(struct span spec, struct user *ret, struct err *e)
{
	_own_free_ char *passwd_text = NULL;
	_own_free_ char *group_text = NULL;
	struct user u = { 0 };
	struct span passwd;
	struct span group;
	struct span who;
	int r;

	if (!take_until(&spec, ':', &who)) {
		copy_text(u.name, sizeof(u.name), span_str("root"));
		copy_text(u.home, sizeof(u.home), span_str("/root"));
		*ret = u;
		return 0;
	}
	passwd = read_db("/etc/passwd", &passwd_text);
	r = find_uid(who.len ? who : span_of("0", 1), passwd, &u, e);
	if (r < 0)
		return r;
	/* root gains nothing from groups: the usual exec reads one file */
	if (spec.len > 0 || u.uid != 0) {
		group = read_db("/etc/group", &group_text);
		if (spec.len > 0)
			r = find_gid(spec, group, &u, e);
		else if (u.name[0])
			u.group_count = passwd_groups_of(group, span_str(u.name), u.groups);
	}
	if (u.uid == 0 && !u.home[0])
		copy_text(u.home, sizeof(u.home), span_str("/root"));
	if (r == 0)
		*ret = u;
	return r;
}
