#include "work/pack_internal.h"

#include "base/kernel_gaps.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* As the kernel gives it; glibc's readdir() would hold a buffer for each directory on the way. */
struct raw_entry {
	uint64_t ino;
	int64_t off;
	uint16_t len;
	uint8_t type;
	char name[];
};

void list_free(struct list *l)
{
	free(l->at);
	free(l->names);
	*l = (struct list){ 0 };
}

static int grow(struct list *l, size_t name_bytes, struct err *e)
{
	if (l->count == l->room) {
		uint32_t room = l->room > 0 ? l->room * 2 : 32;
		struct list_entry *at = NULL;

		if (room < PACK_INODES_MAX * 2)
			at = reallocarray(l->at, room, sizeof(*at));
		if (!at)
			return err_set(e, -ENOMEM, "out of memory for a directory's names");
		l->at = at;
		l->room = room;
	}
	if (l->names_room - l->names_len < name_bytes) {
		uint32_t room = l->names_room > 0 ? l->names_room * 2 : 1024;
		char *names = room > l->names_room ? realloc(l->names, room) : NULL;

		if (!names)
			return err_set(e, -ENOMEM, "out of memory for a directory's names");
		l->names = names;
		l->names_room = room;
	}
	return 0;
}

static int add(struct list *l, struct span name, uint8_t type, int32_t graft, struct err *e)
{
	int r = grow(l, name.len + 1, e);

	if (r < 0)
		return r;
	l->at[l->count++] = (struct list_entry){
		.name = l->names_len, .graft = graft, .len = (uint8_t)name.len, .type = type
	};
	memcpy(l->names + l->names_len, name.at, name.len);
	l->names[l->names_len + name.len] = 0;
	l->names_len += (uint32_t)name.len + 1;
	l->names_bytes += name.len;
	return 0;
}

static int add_raw(struct list *l, const uint8_t *at, const uint8_t *end,
                   const struct pack_graft *grafts, size_t count, struct err *e)
{
	while (at < end) {
		struct raw_entry head;
		struct span name;
		bool hidden = false;
		int r = 0;

		memcpy(&head, at, sizeof(head));
		name = span_str((const char *)at + offsetof(struct raw_entry, name));
		at += head.len;
		for (size_t i = 0; i < count && !hidden; i++)
			hidden = span_equal(grafts[i].name, name);
		/* no file system gives another name than these two that is not well formed */
		if (!hidden && wpath_name_ok(name))
			r = add(l, name, head.type, -1, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int by_name(const void *a, const void *b, void *names)
{
	const struct list_entry *x = a, *y = b;
	const char *base = names;

	return wpath_name_cmp(span_of(base + x->name, x->len), span_of(base + y->name, y->len));
}

int list_read(struct list *l, int dir_fd, const struct pack_graft *grafts, size_t count,
              uint32_t max, uint8_t *scratch, struct err *e)
{
	int r = 0;

	/* who borrowed us the fd may have read it before */
	if (dir_fd >= 0 && lseek(dir_fd, 0, SEEK_SET) < 0)
		return err_sys(e, "read a directory");
	while (r == 0 && dir_fd >= 0) {
		long n = syscall(SYS_getdents64, dir_fd, scratch, LIST_READ_BYTES);

		if (n < 0)
			return err_sys(e, "read a directory");
		if (n == 0)
			break;
		r = add_raw(l, scratch, scratch + n, grafts, count, e);
		if (r == 0 && l->count > max)
			r = err_set(e, -E2BIG, "a directory of over %u names", max);
	}
	for (size_t i = 0; r == 0 && i < count; i++)
		r = add(l, grafts[i].name, DT_UNKNOWN, (int32_t)i, e);
	if (r == 0 && l->count > 1)
		qsort_r(l->at, l->count, sizeof(*l->at), by_name, l->names);
	return r;
}
