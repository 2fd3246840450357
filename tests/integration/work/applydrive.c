/*
 * applydrive: looks at, applies, recovers and undoes what the tests of apply tell it.
 *
 *	applydrive look ROOT PATH...
 *	applydrive root ROOT
 *	applydrive apply ROOT SESSION_DIR NAME PLAN SPOOL [OPTION]...
 *	applydrive recover|undo ROOT SESSION_DIR NAME [OPTION]...
 *
 * PLAN holds operations of eleven fields, each ended by a NUL: what, path, from, kind, mode, flags,
 * target, size, extents (from:at:len,...), seen, and a dot. SPOOL is what extents are of. Options:
 * rest; root=DEV:INO:BTIME; no-exchange; generation=N; count (prints how often each point was
 * reached); and, up to four times, what happens the N-th time a point is reached: kill=POINT:N,
 * fail=POINT:N:ERRNO, wait=POINT:N (prints `at POINT` and reads a line).
 *
 * Each path said is a line `said WORD PATH`, with paths escaped. The last line is
 * `end RESULT GENERATION`, `recovered HOW`, or `error ERRNO TEXT`; the exit code is 0 but for wrong
 * arguments.
 */
#include "base/fdio.h"
#include "base/units.h"
#include "work/undo.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { FIELDS = 11, PLAN_BYTES_MAX = 256 << 20, EXTENTS_MAX = 64, ACTS_MAX = 4 };

struct act {
	int point;
	unsigned at;
	char how; /* 'k', 'f', 'w' */
	int code;
};

struct driver {
	struct apply_on on;
	enum apply_mode mode;
	uint32_t generation;
	struct act acts[ACTS_MAX];
	unsigned acts_count;
	bool count;
	unsigned reached[AP_POINTS];
};

static void die(const char *why)
{
	(void)fprintf(stderr, "applydrive: %s\n", why);
	exit(2);
}

static uint64_t number(struct span s)
{
	uint64_t v = 0;

	if (!span_to_u64(s, &v))
		die("not a number");
	return v;
}

static uint64_t next_number(struct span *in)
{
	struct span s = { 0 };

	if (!take_until(in, ':', &s))
		die("too few numbers");
	return number(s);
}

/* -- points ------------------------------------------------------------------------------------ */

static int reach(void *arg, enum apply_point p)
{
	struct driver *d = arg;
	const struct act *act = NULL;
	char line[8];

	d->reached[p]++;
	for (unsigned i = 0; i < d->acts_count; i++)
		if ((int)p == d->acts[i].point && d->reached[p] == d->acts[i].at)
			act = &d->acts[i];
	if (!act)
		return 0;
	if (act->how == 'f')
		return -act->code;
	if (act->how == 'k')
		(void)raise(SIGKILL);
	(void)printf("at %s\n", apply_point_name(p));
	(void)fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		die("nobody told us to go on");
	return 0;
}

static void say(void *arg, const char *path, enum apply_word w)
{
	static const char *const words[APPLY_WORDS] = {
		"applied", "already", "stays", "changed", "exists", "kind",
		"parent",  "links",   "kept",  "label",   "moment",
	};
	uint8_t room[4 * (WPATH_MAX + 1)];
	struct buf b;

	(void)arg;
	buf_init(&b, room, sizeof(room));
	buf_put_escaped(&b, span_str(path));
	(void)printf("said %s %s\n", words[w], buf_cstr(&b));
}

static int point_named(struct span name)
{
	for (enum apply_point p = 0; p < AP_POINTS; p++)
		if (span_is(name, apply_point_name(p)))
			return (int)p;
	die("no such point");
	return -1;
}

/* -- arguments --------------------------------------------------------------------------------- */

static void take_act(struct driver *d, char how, struct span rest)
{
	struct act *act = &d->acts[d->acts_count];
	struct span name = { 0 };

	if (d->acts_count == ACTS_MAX || !take_until(&rest, ':', &name))
		die("a point without a name, or too many");
	*act = (struct act){ .point = point_named(name), .how = how };
	act->at = (unsigned)next_number(&rest);
	if (how == 'f')
		act->code = (int)next_number(&rest);
	d->acts_count++;
}

static void take_option(struct driver *d, const char *word)
{
	struct span rest = span_str(word);
	struct span name = { 0 };

	(void)!take_until(&rest, '=', &name);
	if (span_is(name, "rest")) {
		d->mode = APPLY_REST;
	} else if (span_is(name, "no-exchange")) {
		d->on.no_exchange = true;
	} else if (span_is(name, "count")) {
		d->count = true;
	} else if (span_is(name, "generation")) {
		d->generation = (uint32_t)number(rest);
	} else if (span_is(name, "root")) {
		d->on.root.dev = next_number(&rest);
		d->on.root.ino = next_number(&rest);
		d->on.root.btime_ns = (int64_t)next_number(&rest);
	} else if (span_is(name, "kill") || span_is(name, "fail") || span_is(name, "wait")) {
		take_act(d, (char)name.at[0], rest);
	} else {
		die("no such option");
	}
}

static int open_dir(const char *path)
{
	struct err e = { 0 };
	int fd = -1;

	if (fd_open(path, O_RDONLY | O_DIRECTORY, 0, &fd, &e) < 0)
		die(e.text);
	return fd;
}

/* -- the plan ---------------------------------------------------------------------------------- */

static struct apply_seen take_seen(struct span s)
{
	struct apply_seen got = { 0 };

	got.kind = (uint8_t)next_number(&s);
	got.mode = (uint32_t)next_number(&s);
	got.nlink = (uint32_t)next_number(&s);
	got.ino = next_number(&s);
	got.size = next_number(&s);
	got.mtime_ns = (int64_t)next_number(&s);
	got.ctime_ns = (int64_t)next_number(&s);
	return got;
}

static void put_seen(const struct apply_seen *s)
{
	(void)printf("%u:%u:%u:%llu:%llu:%lld:%lld\n", s->kind, s->mode, s->nlink,
	             (unsigned long long)s->ino, (unsigned long long)s->size,
	             (long long)s->mtime_ns, (long long)s->ctime_ns);
}

static size_t take_extents(struct span s, struct apply_extent *ret)
{
	struct span one;
	size_t n = 0;

	while (s.len > 0 && take_until(&s, ',', &one)) {
		if (n == EXTENTS_MAX)
			die("too many extents");
		ret[n].from = next_number(&one);
		ret[n].at = next_number(&one);
		ret[n].len = next_number(&one);
		n++;
	}
	return n;
}

static void take_op(char *const *f, int spool, struct apply_op *ret)
{
	struct apply_extent *x = calloc(EXTENTS_MAX, sizeof(*x));

	if (!x)
		die("out of memory");
	ret->what = (uint8_t)number(span_str(f[0]));
	ret->path = f[1];
	ret->from = f[2];
	ret->kind = (uint8_t)number(span_str(f[3]));
	ret->mode = (uint32_t)number(span_str(f[4]));
	ret->flags = (uint8_t)number(span_str(f[5]));
	ret->target = f[6];
	ret->content.size = number(span_str(f[7]));
	ret->content.fd = spool;
	ret->content.extents = x;
	ret->content.extents_count = take_extents(span_str(f[8]), x);
	ret->seen = take_seen(span_str(f[9]));
	if (strcmp(f[10], ".") != 0)
		die("the plan is out of step");
}

static size_t take_plan(char *text, size_t len, int spool, struct apply_op **ret)
{
	struct apply_op *ops = NULL;
	char *at = text;
	size_t n = 0;

	while (at < text + len) {
		char *fields[FIELDS];

		for (int i = 0; i < FIELDS; i++) {
			fields[i] = at;
			at += strlen(at) + 1;
		}
		ops = reallocarray(ops, n + 1, sizeof(*ops));
		if (!ops)
			die("out of memory");
		ops[n] = (struct apply_op){ 0 };
		take_op(fields, spool, &ops[n++]);
	}
	*ret = ops;
	return n;
}

static void free_plan(struct apply_op *ops, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free((void *)(uintptr_t)ops[i].content.extents);
	free(ops);
}

/* -- the verbs --------------------------------------------------------------------------------- */

static int do_look(int argc, char **argv)
{
	_own_fd_ int root = open_dir(argv[2]);

	for (int i = 3; i < argc; i++) {
		struct apply_seen s;
		struct err e = { 0 };

		if (apply_look(root, argv[i], &s, &e) < 0)
			die(e.text);
		put_seen(&s);
	}
	return 0;
}

static int do_root(char **argv)
{
	_own_fd_ int root = open_dir(argv[2]);
	struct apply_root r;
	struct err e = { 0 };

	if (apply_root_of(root, &r, &e) < 0)
		die(e.text);
	(void)printf("%llu:%llu:%lld\n", (unsigned long long)r.dev, (unsigned long long)r.ino,
	             (long long)r.btime_ns);
	return 0;
}

static void put_end(const struct driver *d, int r, const struct apply_result *res,
                    const struct err *e)
{
	static const char *const ends[] = { "done", "nothing", "returned" };

	for (enum apply_point p = 0; d->count && p < AP_POINTS; p++)
		(void)printf("point %s %u\n", apply_point_name(p), d->reached[p]);
	if (r < 0)
		(void)printf("error %d %s\n", -r, e->text);
	else
		(void)printf("end %s %u\n", ends[res->end], res->generation);
}

static int do_apply(struct driver *d, char **argv)
{
	struct apply_result res = { 0 };
	struct err e = { 0 };
	_own_fd_ int spool = -1;
	struct apply_op *ops = NULL;
	char *text = NULL;
	size_t len = 0;
	size_t n;
	int r;

	if (fd_open(argv[6], O_RDONLY, 0, &spool, &e) < 0 ||
	    fd_read_file(AT_FDCWD, argv[5], PLAN_BYTES_MAX, &text, &len, &e) < 0)
		die(e.text);
	n = take_plan(text, len, spool, &ops);
	r = apply_run(&d->on, ops, n, d->mode, &res, &e);
	put_end(d, r, &res, &e);
	free_plan(ops, n);
	free(text);
	return 0;
}

static int do_undo(struct driver *d)
{
	struct apply_result res = { 0 };
	struct err e = { 0 };
	int r = undo_run(&d->on, d->generation, d->mode, &res, &e);

	put_end(d, r, &res, &e);
	return 0;
}

static int do_recover(struct driver *d)
{
	static const char *const hows[] = { "clean", "back", "forward" };
	struct apply_result res = { 0 };
	enum apply_recovered how;
	struct err e = { 0 };
	int r = apply_recover(&d->on, &how, &res, &e);

	if (r == 0 && !d->count)
		(void)printf("recovered %s\n", hows[how]);
	else
		put_end(d, r, &res, &e);
	return 0;
}

int main(int argc, char **argv)
{
	struct driver d = { .on = { .said = say, .point = reach } };
	struct err e = { 0 };
	int options = 5;
	int r = 2;

	if (argc < 3)
		die("too few arguments");
	if (strcmp(argv[1], "look") == 0)
		return do_look(argc, argv);
	if (strcmp(argv[1], "root") == 0)
		return do_root(argv);
	if (argc < 5)
		die("too few arguments");
	d.on.root_fd = open_dir(argv[2]);
	d.on.session_fd = open_dir(argv[3]);
	d.on.session = argv[4];
	d.on.point_arg = &d;
	if (apply_root_of(d.on.root_fd, &d.on.root, &e) < 0)
		die(e.text);
	if (strcmp(argv[1], "apply") == 0)
		options = 7;
	if (argc < options)
		die("too few arguments");
	for (int i = options; i < argc; i++)
		take_option(&d, argv[i]);
	if (strcmp(argv[1], "apply") == 0)
		r = do_apply(&d, argv);
	else if (strcmp(argv[1], "undo") == 0)
		r = do_undo(&d);
	else if (strcmp(argv[1], "recover") == 0)
		r = do_recover(&d);
	(void)close(d.on.root_fd);
	(void)close(d.on.session_fd);
	return r;
}
