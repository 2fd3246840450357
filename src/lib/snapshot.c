#include "lib/snapshot.h"

#include "base/fdio.h"
#include "image/store.h"
#include "lib/guest.h"
#include "state/state_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum {
	SHOWN_VALUE_MAX = 60, /* of what differs, in a message */
	FD_RAM = 0,           /* the order in which a supervisor sends them */
	FD_STATE = 1,
	FD_SCRATCH = 2,
	FD_NOTE = 3,
	LIST_START = 16,
	ERRNO_MAX = 4096, /* Linux has none beyond */
};

void snapshot_free(struct snapshot *s)
{
	if (!s)
		return;
	saved_close(&s->files);
	free(s->text);
	free(s->lists);
	free(s);
}

/* --- opening --- */

/* Takes s->text apart. */
static int read_note(struct snapshot *s, size_t len, struct err *e)
{
	char *spec;
	int r;

	if (snapshot_parse_note(span_of(s->text, len), &s->note) < 0)
		return err_set(e, -ESTALE, "its description is damaged, or another version's");
	/* spec_parse() leaves strings where they are: they are to be ours */
	spec = s->text + (s->note.spec.at - (const uint8_t *)s->text);
	r = spec_parse(spec, s->note.spec.len, &s->spec, &s->lists, e);
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		return err_set(e, -ENOTSUP, "another version of berm made it");
	if (!spec_is_copy(&s->spec) || !s->spec.image_id || spec_check(&s->spec, NULL) < 0)
		return err_set(e, -ESTALE, "its description is damaged");
	return 0;
}

static int open_folder(int state_fd, int *ret_fd, struct err *e)
{
	int r = fd_openat(state_fd, "snapshots", O_RDONLY | O_DIRECTORY, 0, ret_fd, e);

	return r < 0 ? err_wrap(e, "state directory") : 0;
}

static int check_name(const char *name, struct err *e)
{
	if (spec_name_ok(name))
		return 0;
	return err_set(e, -EINVAL,
	               "'%s' is no name for a snapshot: use 1 to %d letters, digits, '-', '_' and "
	               "'.', starting with a letter or digit",
	               name, SPEC_NAME_MAX);
}

static int open_it(int folder_fd, struct snapshot *s, struct err *e)
{
	size_t len = 0;
	int r = saved_open(folder_fd, s->name, SAVED_BY_HASH, &s->files, &s->text, &len, e);

	if (r == -ENOENT)
		return err_set(e, r, "there is no snapshot '%s' (berm snapshot ls)", s->name);
	if (r == 0)
		r = read_note(s, len, e);
	return r < 0 ? err_wrap(e, "snapshot '%s' cannot be used", s->name) : 0;
}

int snapshot_open(int state_fd, const char *name, struct snapshot **ret, struct err *e)
{
	_own_(snapshot_free) struct snapshot *s = calloc(1, sizeof(*s));
	_own_fd_ int folder_fd = -1;
	int r = check_name(name, e);

	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	saved_init(&s->files);
	if (r == 0)
		r = open_folder(state_fd, &folder_fd, e);
	if (r < 0)
		return r;
	(void)snprintf(s->name, sizeof(s->name), "%s", name);
	r = open_it(folder_fd, s, e);
	if (r < 0)
		return r;
	*ret = steal_ptr(&s);
	return 0;
}

struct spec snapshot_spec(const struct snapshot *s)
{
	struct spec spec = s->spec;

	if (*s->name)
		spec.from = s->name;
	return spec;
}

/* --- what it depends on --- */

/* In the words of a person; what is not listed is told by its own word. */
static const char *meaning(struct span word)
{
	static const struct {
		const char *word, *meaning;
	} table[] = {
		{ "berm", "another version of berm" },
		{ "engine", "another engine" },
		{ "kernel", "another guest kernel" },
		{ "agent", "another guest agent" },
		{ "qemu", "another build of QEMU" },
		{ "cpu", "another processor" },
		{ "cmdline", "other words for the guest kernel" },
		{ "image", "another image" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (span_is(word, table[i].word))
			return table[i].meaning;
	return "another machine";
}

/* "word value": the value; ret_word is left empty if there is no word. */
static struct span value_of(struct span line, struct span *ret_word)
{
	*ret_word = span_of("", 0);
	if (!take_until(&line, ' ', ret_word))
		return line;
	if (line.len > SHOWN_VALUE_MAX)
		line.len = SHOWN_VALUE_MAX;
	return line;
}

/* Names the first line in which they differ. */
static int differ(const struct snapshot *s, struct span then, struct span now, struct err *e)
{
	struct span a = span_of("", 0);
	struct span b = span_of("", 0);
	char tail[2 * SHOWN_VALUE_MAX + 32];
	struct span word;
	struct span was;
	struct span is;

	while (take_until(&then, '\n', &a) && take_until(&now, '\n', &b) && span_equal(a, b))
		continue;
	is = value_of(b, &word);
	was = value_of(a, &word);
	if (span_equal(was, is)) /* they differ behind what is shown */
		tail[0] = '\0';
	else
		(void)snprintf(tail, sizeof(tail), " (%.*s; here it is %.*s)", (int)was.len,
		               (const char *)was.at, (int)is.len, (const char *)is.at);
	return err_set(e, -EXDEV, "%s%s%s cannot be restored here: it was saved with %s%s",
	               *s->name ? "snapshot '" : "the sandbox", s->name, *s->name ? "'" : "",
	               meaning(word), tail);
}

int snapshot_check(const struct snapshot *s, const struct paths *p, struct err *e)
{
	const struct engine_ops *engine =
		s->spec.engine == SPEC_ENGINE_KVM ? &engine_kvm : &engine_qemu;
	_own_free_ uint8_t *storage = malloc(SNAPSHOT_MACHINE_MAX);
	_own_(guest_files_close) struct guest_files files;
	struct buf b;
	int r;

	guest_files_init(&files);
	if (!storage)
		return err_set(e, -ENOMEM, "out of memory");
	r = guest_files_open(p, engine, &files, e);
	if (r < 0)
		return r;
	buf_init(&b, storage, SNAPSHOT_MACHINE_MAX);
	r = guest_put_machine(&b, &files, &s->spec, e);
	if (r < 0)
		return r;
	return span_equal(buf_span(&b), s->note.machine)
	               ? 0
	               : differ(s, s->note.machine, buf_span(&b), e);
}

int snapshot_image(const struct snapshot *s, int state_fd, const struct paths *p,
                   struct image **ret, struct err *e)
{
	_own_(image_store_free) struct image_store *store = NULL;
	int r = image_store_open(state_fd, p->share, &store, e);

	if (r == 0)
		r = image_open(store, s->spec.image_id, ret, e);
	if (r == -ENOENT)
		return err_set(e, r,
		               "it runs on image %.12s ('%s'), which is not here any more: import "
		               "that again",
		               s->spec.image_id, s->spec.image);
	return r;
}

/* --- asking for one --- */

int snapshot_done(const struct wire_frame *f, struct err *e)
{
	struct wire_fail done;

	if (wire_parse_fail(f->payload, &done) < 0)
		return err_set(e, -EPROTO, "the supervisor's answer is damaged");
	if (done.code == 0)
		return 0;
	return err_set(e, done.code < ERRNO_MAX ? -(int)done.code : -EIO, "%.*s",
	               (int)done.text.len, (const char *)done.text.at);
}

/* No deadline here: the supervisor has one for each step but for the disk's own time. */
static int await_done(struct client *c, const char *what, struct err *e)
{
	struct wire_frame f;
	int r = client_expect(c, WIRE_DONE, -1, &f, e);

	if (r == -ENODATA)
		return err_set(e, -ESHUTDOWN, "the sandbox ended before it was %s", what);
	return r < 0 ? r : snapshot_done(&f, e);
}

static int ask(struct client *c, const char *name, bool replace, struct err *e)
{
	const struct wire_snapshot w = { .flags = replace ? WIRE_SNAPSHOT_REPLACE : 0,
		                         .name = span_str(name) };

	wire_put_snapshot(&c->out, CLIENT_EPOCH, &w);
	return await_done(c, "saved", e);
}

int snapshot_pause(struct client *c, struct err *e)
{
	wire_put(&c->out, WIRE_PAUSE, 0, 0, CLIENT_EPOCH, span_of(NULL, 0));
	return await_done(c, "paused", e);
}

int snapshot_resume(struct client *c, struct err *e)
{
	wire_put(&c->out, WIRE_RESUME, 0, 0, CLIENT_EPOCH, span_of(NULL, 0));
	return await_done(c, "resumed", e);
}

int snapshot_take(struct client *c, const char *name, bool replace, struct err *e)
{
	int r = check_name(name, e);

	return r == 0 ? ask(c, name, replace, e) : r;
}

static int read_whole(int fd, char **ret, size_t *ret_len, struct err *e)
{
	_own_free_ char *text = malloc(SAVED_NOTE_MAX + 1);
	struct stat st;

	if (!text)
		return err_set(e, -ENOMEM, "out of memory");
	if (fstat(fd, &st) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return err_sys(e, "read what was saved");
	if (st.st_size < 0 || st.st_size > SAVED_NOTE_MAX)
		return err_set(e, -EPROTO, "the supervisor's answer is too long");
	if (st.st_size > 0 && fd_read_all(fd, text, (size_t)st.st_size, e) < 0)
		return e ? e->code : -EIO;
	text[st.st_size] = '\0';
	*ret = steal_ptr(&text);
	*ret_len = (size_t)st.st_size;
	return 0;
}

int snapshot_receive(struct client *c, struct snapshot **ret, struct err *e)
{
	_own_(snapshot_free) struct snapshot *s = calloc(1, sizeof(*s));
	_own_fd_ int note_fd = -1;
	int fds[CLIENT_FDS_MAX];
	size_t len = 0;
	int r;

	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	saved_init(&s->files);
	if (!client_take_fds(c, fds, CLIENT_FDS_MAX))
		return err_set(e, -EPROTO, "the supervisor sent no files");
	s->files.ram_fd = fds[FD_RAM];
	s->files.state_fd = fds[FD_STATE];
	s->files.scratch_fd = fds[FD_SCRATCH];
	note_fd = fds[FD_NOTE];
	r = read_whole(note_fd, &s->text, &len, e);
	if (r == 0)
		r = read_note(s, len, e);
	if (r < 0)
		return r;
	*ret = steal_ptr(&s);
	return 0;
}

int snapshot_fork(struct client *c, struct snapshot **ret, struct err *e)
{
	int r = ask(c, "", false, e);

	return r == 0 ? snapshot_receive(c, ret, e) : r;
}

/* --- those that are there --- */

static void fill_row(struct snapshot_row *row, const struct snapshot *s)
{
	size_t len = 0;

	row->created_ns = s->note.created_ns;
	(void)snprintf(row->id, sizeof(row->id), "%.*s", (int)s->note.id.len,
	               (const char *)s->note.id.at);
	(void)snprintf(row->image_id, sizeof(row->image_id), "%s", s->spec.image_id);
	(void)snprintf(row->image, sizeof(row->image), "%s", s->spec.image);
	row->engine = s->spec.engine;
	row->memory_bytes = s->spec.limits.memory_bytes;
	for (size_t i = 0; s->spec.argv[i] && len + 1 < sizeof(row->command); i++) {
		int n = snprintf(row->command + len, sizeof(row->command) - len, "%s%s",
		                 i > 0 ? " " : "", s->spec.argv[i]);

		len += n > 0 ? (size_t)n : 0;
	}
}

/* What is there under a name, be it whole or not. */
static int read_row(int folder_fd, const char *name, struct snapshot_row *ret, struct err *e)
{
	_own_(snapshot_free) struct snapshot *s = calloc(1, sizeof(*s));
	struct stat st;
	size_t len = 0;
	int r;

	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	saved_init(&s->files);
	*ret = (struct snapshot_row){ .damaged = true };
	(void)snprintf(ret->name, sizeof(ret->name), "%.*s", SPEC_NAME_MAX, name);
	if (fstatat(folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		ret->created_ns = (uint64_t)st.st_mtim.tv_sec * 1000000000U;
	ret->disk_bytes = saved_disk_bytes(folder_fd, name);
	r = saved_note(folder_fd, name, &s->text, &len, NULL);
	if (r == 0)
		r = read_note(s, len, NULL);
	if (r == 0) {
		fill_row(ret, s);
		ret->damaged = false;
	}
	return 0;
}

static int newest_first(const void *a, const void *b)
{
	const struct snapshot_row *x = a;
	const struct snapshot_row *y = b;

	if (x->created_ns != y->created_ns)
		return x->created_ns < y->created_ns ? 1 : -1;
	return strcmp(x->name, y->name);
}

static int add_row(struct snapshot_list *l, size_t *room, int folder_fd, const char *name,
                   struct err *e)
{
	if (l->count == *room) {
		size_t more = *room ? *room * 2 : LIST_START;
		void *rows = reallocarray(l->rows, more, sizeof(*l->rows));

		if (!rows)
			return err_set(e, -ENOMEM, "out of memory");
		l->rows = rows;
		*room = more;
	}
	return read_row(folder_fd, name, &l->rows[l->count++], e);
}

int snapshot_list(int state_fd, struct snapshot_list **ret, struct err *e)
{
	_own_(snapshot_list_free) struct snapshot_list *l = calloc(1, sizeof(*l));
	_own_(state_close_stream) DIR *dir = NULL;
	const struct dirent *d;
	size_t room = 0;
	int r = 0;

	if (!l)
		return err_set(e, -ENOMEM, "out of memory");
	dir = state_open_stream(state_fd, "snapshots");
	if (!dir)
		return err_sys(e, "list snapshots");
	while (r == 0 && l->count < SNAPSHOT_LISTED_MAX && (d = readdir(dir)))
		if (spec_name_ok(d->d_name))
			r = add_row(l, &room, dirfd(dir), d->d_name, e);
	if (r < 0)
		return r;
	if (l->count > 1)
		qsort(l->rows, l->count, sizeof(l->rows[0]), newest_first);
	*ret = steal_ptr(&l);
	return 0;
}

void snapshot_list_free(struct snapshot_list *l)
{
	if (!l)
		return;
	free(l->rows);
	free(l);
}

int snapshot_remove(int state_fd, const char *name, struct err *e)
{
	_own_fd_ int folder_fd = -1;
	int r = check_name(name, e);

	if (r == 0)
		r = open_folder(state_fd, &folder_fd, e);
	if (r < 0)
		return r;
	r = saved_remove(folder_fd, name, e);
	return r == -ENOENT ? err_set(e, r, "there is no snapshot '%s' (berm snapshot ls)", name)
	                    : r;
}
