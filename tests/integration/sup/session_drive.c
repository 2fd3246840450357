/*
 * session_drive: makes, runs, rescues and shows sessions, as the commands do that have more to
 * them.
 *
 *	session_drive BERM STATE new BASE MOUNT ROOT
 *	session_drive BERM STATE run ID IMAGE [NAME=VALUE...] -- COMMAND...
 *	session_drive BERM STATE rescue ID [NAME=VALUE...]
 *	session_drive BERM STATE show|dead|remove|spool ID
 *	session_drive BERM STATE hold ID WHAT     the lock, until stdin ends
 *	session_drive BERM STATE list
 *
 * BASE is a directory, or a file that is taken for an image. BERM is the program's path, STATE the
 * state directory. Values: collect_bytes, collect_ms, time_ms, engine, cold, memory_mib, disk_mib,
 * grace_ms (STOP when stdin ends). `run` writes the command's output to stdout and, as the last
 * line of stderr, the JSON of the end. Exits 0, or 1 with a sentence on stderr.
 */
#include "base/fdio.h"
#include "base/units.h"
#include "image/store.h"
#include "lib/client.h"
#include "lib/guest.h"
#include "lib/start.h"
#include "lib/work_rescue.h"
#include "work/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { STREAM = 1 };
_Static_assert(GUEST_WORKSPACE_BYTES == WORK_DISK_BYTES, "one template fits every base");

struct drive {
	struct paths paths;
	int state_fd;
	char **args;
	int count;
	struct spec spec;
	uint64_t grace_ms;
};

static int find_state(struct drive *d, const char *berm, const char *state, struct err *e)
{
	const struct paths_input in = { .exe = berm, .cwd = "/", .state_dir = state };
	int r = paths_from(&in, &d->paths, e);

	return r == 0 ? paths_open_state(&d->paths, &d->state_fd, e) : r;
}

static int take_value(struct drive *d, const char *word, struct err *e)
{
	const char *eq = strchr(word, '=');
	struct spec *s = &d->spec;
	uint64_t v;
	int r = eq ? units_parse_count(eq + 1, 0, UINT32_MAX, &v, e)
	           : err_set(e, -EINVAL, "'%s' is no value", word);

	if (r < 0)
		return r;
	if (strncmp(word, "collect_bytes=", 14) == 0)
		s->collect_bytes = v;
	else if (strncmp(word, "collect_ms=", 11) == 0)
		s->collect_ms = (uint32_t)v;
	else if (strncmp(word, "time_ms=", 8) == 0)
		s->limits.time_ms = v;
	else if (strncmp(word, "engine=", 7) == 0)
		s->engine = (uint8_t)v;
	else if (strncmp(word, "cold=", 5) == 0)
		s->cold = v > 0;
	else if (strncmp(word, "memory_mib=", 11) == 0)
		s->limits.memory_bytes = v << 20;
	else if (strncmp(word, "disk_mib=", 9) == 0)
		s->limits.disk_bytes = v << 20;
	else if (strncmp(word, "grace_ms=", 9) == 0)
		d->grace_ms = v;
	else
		return err_set(e, -EINVAL, "'%s' is no value", word);
	return 0;
}

static void show(const struct work_session_info *info)
{
	_own_free_ char *text = malloc(SESSION_JSON_MAX);
	struct buf b;

	if (!text)
		return;
	buf_init(&b, text, SESSION_JSON_MAX);
	work_session_put_json(&b, info);
	(void)fputs(buf_cstr(&b), stdout);
}

static int make_file(const struct work_session *s, const char *name, int *ret_fd, struct err *e)
{
	return fd_openat(s->dir_fd, name, O_RDWR | O_CREAT | O_EXCL, 0600, ret_fd, e);
}

/* A directory is packed, a file is taken for an image, whatever is in it. */
static int make_base(const struct work_session *s, const char *path, struct err *e)
{
	const struct pack_options opt = { .uid = 0 };
	struct pack_totals totals;
	_own_fd_ int from = -1;
	_own_fd_ int image = -1;
	_own_fd_ int manifest = -1;
	_own_fd_ int report = -1;
	struct stat st = { 0 };
	int r = fd_open(path, O_RDONLY, 0, &from, e);

	if (r == 0)
		r = make_file(s, "base.erofs", &image, e);
	if (r == 0)
		r = make_file(s, "base.manifest", &manifest, e);
	if (r == 0)
		r = make_file(s, "pack.json", &report, e);
	if (r == 0 && fstat(from, &st) < 0)
		r = err_sys(e, "look at '%s'", path);
	if (r < 0)
		return r;
	if (S_ISDIR(st.st_mode))
		return pack_run(from, &opt, image, manifest, report, &totals, e);
	r = fd_copy_sparse(from, image, e);
	if (r == 0 && ftruncate(image, (off_t)WORK_DISK_BYTES) < 0)
		r = err_sys(e, "size the image");
	return r;
}

/* BASE MOUNT ROOT */
static int do_new(struct drive *d, struct err *e)
{
	_own_(work_session_close) struct work_session s;
	struct work_session_info info = { .root_dev = 1, .root_ino = 2 };
	int r;

	work_session_init(&s);
	if (d->count != 3)
		return err_set(e, -EINVAL, "new BASE MOUNT ROOT");
	(void)snprintf(info.mount, sizeof(info.mount), "%s", d->args[1]);
	(void)snprintf(info.root, sizeof(info.root), "%s", d->args[2]);
	(void)snprintf(info.agent, sizeof(info.agent), "test");
	r = work_session_new(d->state_fd, &info, "pack", &s, e);
	if (r == 0)
		r = make_base(&s, d->args[0], e);
	s.info.state = SESSION_PACKED;
	if (r == 0)
		r = work_session_save(&s, e);
	if (r == 0)
		(void)printf("%s\n", s.info.id);
	return r;
}

static int on_frame(struct client *c, const struct wire_frame *f)
{
	if (f->type == WIRE_DATA) {
		(void)!write(STDOUT_FILENO, f->payload.at, f->payload.len);
		wire_put_u32(&c->out, WIRE_CREDIT, f->channel, f->stream, CLIENT_EPOCH,
		             (uint32_t)f->payload.len);
	}
	if (f->type == WIRE_RESET)
		(void)fprintf(stderr, "cut off\n");
	if (f->type != WIRE_END)
		return 0;
	(void)fprintf(stderr, "%.*s\n", (int)f->payload.len, (const char *)f->payload.at);
	return 1;
}

/* Until END; when stdin ends and a grace was given, STOP is said. */
static int follow(struct drive *d, int control_fd, struct err *e)
{
	_own_(client_free) struct client *c = NULL;
	bool stopped = d->grace_ms == 0;
	struct wire_frame f;
	int r = client_new(control_fd, &c, e);

	if (r < 0)
		return r;
	wire_put_u8(&c->out, WIRE_ATTACH, STREAM, CLIENT_EPOCH, 0);
	for (;;) {
		struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };

		if (!stopped && poll(&p, 1, 0) > 0) {
			wire_put_u32(&c->out, WIRE_STOP, 0, 0, CLIENT_EPOCH, (uint32_t)d->grace_ms);
			stopped = true;
		}
		r = client_wait(c, stopped ? -1 : 50, &f, e);
		if (r == -ETIMEDOUT)
			continue;
		if (r < 0)
			return r;
		if (on_frame(c, &f))
			return 0;
	}
}

/* ID IMAGE [NAME=VALUE...] -- COMMAND... */
static int do_run(struct drive *d, struct err *e)
{
	_own_(image_store_free) struct image_store *store = NULL;
	_own_(image_free) struct image *image = NULL;
	_own_(work_session_close) struct work_session s;
	static const char *const envp[] = { "PATH=/bin:/usr/bin:/sbin:/usr/sbin", NULL };
	struct started st = { .control_fd = -1, .pidfd = -1 };
	int at = 2;
	int r;

	work_session_init(&s);
	if (d->count < 4)
		return err_set(e, -EINVAL, "run ID IMAGE -- COMMAND");
	r = work_session_open(d->state_fd, d->args[0], &s, e);
	if (r == 0)
		r = work_session_lock(&s, "start", e);
	if (r == 0)
		r = image_store_open(d->state_fd, d->paths.share, &store, e);
	if (r == 0)
		r = image_open(store, d->args[1], &image, e);
	for (; r == 0 && at < d->count && strcmp(d->args[at], "--") != 0; at++)
		r = take_value(d, d->args[at], e);
	if (r < 0 || !image)
		return r;
	d->spec.image = d->args[1];
	d->spec.image_id = image->meta->id;
	d->spec.workspace = s.info.mount;
	d->spec.argv = (const char *const *)(d->args + (at < d->count ? at + 1 : at));
	d->spec.envp = envp;
	d->spec.cwd = s.info.mount;
	r = start_session(&d->paths, d->state_fd, image->disk_fd, &d->spec, NULL, &s, &st, e);
	if (r < 0)
		return r;
	own_close_fd(&st.pidfd);
	return follow(d, st.control_fd, e);
}

static int do_rescue(struct drive *d, struct work_session *s, struct err *e)
{
	struct work_rescue c = { .minimum_level = LEVEL_EMULATED };
	int r = 0;

	d->spec.collect_bytes = d->spec.collect_ms = 0;
	for (int i = 1; r == 0 && i < d->count; i++)
		r = take_value(d, d->args[i], e);
	c.engine = d->spec.engine;
	c.collect_bytes = d->spec.collect_bytes;
	c.collect_ms = d->spec.collect_ms;
	if (r == 0)
		r = work_session_lock(s, "rescue", e);
	return r == 0 ? work_session_rescue(&d->paths, d->state_fd, s, &c, e) : r;
}

static int do_hold(struct drive *d, struct work_session *s, struct err *e)
{
	char byte;
	int r = work_session_lock(s, d->count > 1 ? d->args[1] : "test", e);

	if (r < 0)
		return r;
	(void)printf("held\n");
	(void)fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		continue;
	return 0;
}

static int do_spool(struct work_session *s, struct err *e)
{
	_own_fd_ int fd = -1;
	int r = work_session_lock(s, "read", e);

	return r == 0 ? work_session_open_spool(s, &fd, e) : r;
}

static int do_remove(struct drive *d, struct work_session *s, struct err *e)
{
	int r = work_session_lock(s, "remove", e);

	return r == 0 ? work_session_remove(d->state_fd, s, e) : r;
}

static int do_list(struct drive *d, struct err *e)
{
	_own_(work_session_list_free) struct work_session_list *l = NULL;
	int r = work_session_list(d->state_fd, &l, e);

	for (size_t i = 0; r == 0 && i < l->count; i++)
		(void)printf("%s %s %llu\n", l->items[i].id,
		             work_session_state_name(l->items[i].state),
		             (unsigned long long)l->disk_bytes[i]);
	return r;
}

static int do_one(struct drive *d, const char *what, struct err *e)
{
	_own_(work_session_close) struct work_session s;
	int r;

	work_session_init(&s);
	if (d->count < 1)
		return err_set(e, -EINVAL, "%s ID", what);
	r = work_session_find(d->state_fd, d->args[0], &s, e);
	if (r < 0)
		return r;
	if (strcmp(what, "show") == 0)
		show(&s.info);
	else if (strcmp(what, "dead") == 0)
		r = work_session_vm_dead(&s, e);
	else if (strcmp(what, "hold") == 0)
		r = do_hold(d, &s, e);
	else if (strcmp(what, "spool") == 0)
		r = do_spool(&s, e);
	else if (strcmp(what, "remove") == 0)
		r = do_remove(d, &s, e);
	else if (strcmp(what, "rescue") == 0)
		r = do_rescue(d, &s, e);
	else
		r = err_set(e, -EINVAL, "'%s' is no order", what);
	return r;
}

int main(int argc, char **argv)
{
	struct drive d = { .state_fd = -1 };
	struct err e = { 0 };
	int r;

	if (argc < 4)
		return 2;
	spec_init(&d.spec);
	d.spec.limits.disk_bytes = UINT64_C(256) << 20;
	d.args = argv + 4;
	d.count = argc - 4;
	r = find_state(&d, argv[1], argv[2], &e);
	if (r == 0 && strcmp(argv[3], "new") == 0)
		r = do_new(&d, &e);
	else if (r == 0 && strcmp(argv[3], "run") == 0)
		r = do_run(&d, &e);
	else if (r == 0 && strcmp(argv[3], "list") == 0)
		r = do_list(&d, &e);
	else if (r == 0)
		r = do_one(&d, argv[3], &e);
	if (r < 0)
		(void)fprintf(stderr, "%s\n", e.text);
	return r < 0;
}
