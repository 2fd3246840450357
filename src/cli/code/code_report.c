#include "cli/code/code.h"

#include "base/fdio.h"
#include "base/log.h"
#include "base/units.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { LINE_MAX_BYTES = 8192, PRINT_MAX = 4 << 20 };

static const char *const why_words[PACK_WHY_COUNT] = {
	[PACK_WHY_NONE] = "none",
	[PACK_WHY_SECRET] = "secret",
	[PACK_WHY_HOSTONLY] = "host-only",
	[PACK_WHY_COST] = "cost",
	[PACK_WHY_USER] = "user",
	[PACK_WHY_OURS] = "ours",
	[PACK_WHY_MOUNT] = "mount",
	[PACK_WHY_FIFO] = "fifo",
	[PACK_WHY_SOCKET] = "socket",
	[PACK_WHY_DEVICE] = "device",
	[PACK_WHY_UNREADABLE] = "unreadable",
	[PACK_WHY_TORN] = "torn",
	[PACK_WHY_VANISHED] = "vanished",
	[PACK_WHY_LARGE] = "large",
	[PACK_WHY_DEEP] = "deep",
};

/* --- a line for each reason, with some of its paths --- */

struct samples {
	unsigned count[PACK_WHY_COUNT];
	struct buf line[PACK_WHY_COUNT];
	char room[PACK_WHY_COUNT][LINE_MAX_BYTES];
};

static int sample(void *arg, const struct pack_record *record, struct err *e)
{
	struct samples *s = arg;
	struct buf *b = &s->line[record->why];

	(void)e;
	if (++s->count[record->why] > CODE_SAMPLES_MAX)
		return 0;
	buf_put_str(b, b->len ? ", " : "");
	buf_put_escaped(b, record->path);
	buf_put_str(b, record->dir ? "/" : "");
	return 0;
}

static void tell_samples(const struct samples *s)
{
	for (unsigned why = 1; why < PACK_WHY_COUNT; why++) {
		struct buf b = s->line[why];
		char more[32] = "";

		/* what a git directory keeps for the host is told with git's notes */
		if (s->count[why] == 0 || why == PACK_WHY_OURS || why == PACK_WHY_HOSTONLY)
			continue;
		if (s->count[why] > CODE_SAMPLES_MAX)
			(void)snprintf(more, sizeof(more), " and %u more",
			               s->count[why] - CODE_SAMPLES_MAX);
		(void)fprintf(stderr, "  stayed out, %s: %.*s%s\n",
		              pack_why_text((enum pack_why)why), (int)b.len, (const char *)b.at,
		              more);
	}
}

/* What the report of the base says: secrets, what could not be read, and so on. */
static void tell_left_out(struct code *k)
{
	_own_(pack_report_free) struct pack_report *report = NULL;
	_own_free_ struct samples *s = calloc(1, sizeof(*s));
	_own_fd_ int fd = -1;

	if (!s || fd_openat(k->work.dir_fd, "pack.json", O_RDONLY, 0, &fd, NULL) < 0 ||
	    pack_report_open(fd, &report, NULL) < 0)
		return;
	for (unsigned why = 0; why < PACK_WHY_COUNT; why++)
		buf_init(&s->line[why], s->room[why], sizeof(s->room[why]));
	if (pack_report_each(report, sample, s, NULL) == 0)
		tell_samples(s);
}

/* --- notes --- */

/* Those who are told of them fail at nothing. */
static void each_git(const struct code *k, gitdir_note_fn *fn, void *arg)
{
	struct err e = { 0 };

	if (gitdir_each_note(k->gitdir, fn, arg, &e) < 0)
		log_debug("%s", e.text);
}

static void each_exclude(const struct code *k, exclude_note_fn *fn, void *arg)
{
	struct err e = { 0 };

	if (exclude_each_note(k->exclude, fn, arg, &e) < 0)
		log_debug("%s", e.text);
}

struct teller {
	struct code *k;
	struct buf *b; /* JSON; or text with all of them */
	const char *gap;
	unsigned configs, taken_back;
};

static int tell_git(void *arg, enum gitdir_note note, struct span path, struct span text,
                    struct err *e)
{
	struct teller *t = arg;
	char room[LINE_MAX_BYTES];
	struct buf b;

	(void)e;
	if (note == GITDIR_NOTE_CONFIG || note == GITDIR_NOTE_REWRITTEN) {
		t->configs++;
		return 0;
	}
	buf_init(&b, room, sizeof(room));
	buf_put_escaped(&b, path.len ? path : span_str("."));
	buf_printf(&b, ": %s", gitdir_note_text(note));
	if (text.len) {
		buf_put_str(&b, ": ");
		buf_put_escaped(&b, text);
	}
	(void)fprintf(stderr, "  git, %.*s%s\n", (int)b.len, (const char *)b.at,
	              note == GITDIR_NOTE_HISTORY ? " (not with --no-history)" : "");
	return 0;
}

static int tell_exclude(void *arg, enum exclude_note note, struct span path, struct err *e)
{
	struct teller *t = arg;
	char room[LINE_MAX_BYTES];
	struct buf b;

	(void)e;
	t->taken_back += note == EXCLUDE_NOTE_TAKEN_BACK;
	if (note == EXCLUDE_NOTE_COST)
		return 0; /* of --dry-run */
	buf_init(&b, room, sizeof(room));
	buf_put_escaped(&b, path);
	(void)fprintf(stderr, "  %.*s: %s\n", (int)b.len, (const char *)b.at,
	              exclude_note_text(note));
	return 0;
}

void code_tell_packed(struct code *k)
{
	const struct pack_totals *t = &k->totals;
	struct teller all = { .k = k };
	char room[2 * PATH_MAX];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	buf_printf(&b, "packed %" PRIu64 " file%s, ", t->files, t->files == 1 ? "" : "s");
	units_put_size(&b, t->file_bytes);
	if (t->reused_files)
		buf_printf(&b, " (%" PRIu64 " as in an earlier session)", t->reused_files);
	buf_put_str(&b, ", in ");
	units_put_duration(&b, k->pack_ms);
	if (!k->c->json) {
		log_info("%s", buf_cstr(&b));
		if (*k->packed_over)
			(void)fprintf(stderr,
			              "  over what session %s had packed, which was applied: it "
			              "can be undone, and not be shown any more\n",
			              k->packed_over);
		if (*k->packed_as)
			(void)fprintf(stderr,
			              "  nothing has changed since session %s: its image is used\n",
			              k->packed_as);
		tell_left_out(k);
		each_git(k, tell_git, &all);
		each_exclude(k, tell_exclude, &all);
		if (all.configs)
			(void)fprintf(stderr,
			              "  git, configuration: %u settings stay out (--dry-run lists "
			              "them)\n",
			              all.configs);
	}
	if (exclude_count_notes(k->exclude, EXCLUDE_NOTE_TAKEN_BACK) < k->take_back.count)
		log_warn("--include-secret: %zu of %zu paths are not there, or enter anyway",
		         k->take_back.count -
		                 (size_t)exclude_count_notes(k->exclude, EXCLUDE_NOTE_TAKEN_BACK),
		         k->take_back.count);
}

void code_tell_settings(const struct code *k)
{
	for (size_t i = 0; i < k->said.count && !k->c->json; i++)
		(void)fprintf(stderr, "  settings, %s\n", k->said.items[i]);
}

/* --- for programs --- */

void code_put_packed_json(const struct code *k, struct buf *b)
{
	const struct pack_totals *t = &k->totals;
	const char *gap = "";

	buf_printf(b,
	           "\"files\":%" PRIu64 ",\"dirs\":%" PRIu64 ",\"links\":%" PRIu64
	           ",\"bytes\":%" PRIu64 ",\"reused_files\":%" PRIu64 ",\"reused_bytes\":%" PRIu64
	           ",\"image_bytes\":%" PRIu64 ",\"ms\":%" PRIu64 ",\"left_out\":{",
	           t->files, t->dirs, t->links, t->file_bytes, t->reused_files, t->reused_bytes,
	           t->image_bytes, k->pack_ms);
	for (unsigned why = 1; why < PACK_WHY_COUNT; why++) {
		if (t->left_out[why] == 0)
			continue;
		buf_printf(b, "%s\"%s\":%" PRIu64, gap, why_words[why], t->left_out[why]);
		gap = ",";
	}
	buf_put_str(b, "},\"over\":");
	if (*k->packed_over)
		buf_printf(b, "\"%s\"", k->packed_over);
	else
		buf_put_str(b, "null");
	buf_put_str(b, ",\"shared_with\":");
	if (*k->packed_as)
		buf_printf(b, "\"%s\"", k->packed_as);
	else
		buf_put_str(b, "null");
}

static int put_git(void *arg, enum gitdir_note note, struct span path, struct span text,
                   struct err *e)
{
	struct teller *t = arg;

	(void)e;
	buf_printf(t->b, "%s{\"path\":", t->gap);
	buf_put_json_str(t->b, path);
	buf_put_str(t->b, ",\"what\":");
	buf_put_json_str(t->b, span_str(gitdir_note_text(note)));
	buf_put_str(t->b, ",\"more\":");
	buf_put_json_str(t->b, text);
	buf_put_str(t->b, "}");
	t->gap = ",";
	return 0;
}

static int put_exclude(void *arg, enum exclude_note note, struct span path, struct err *e)
{
	struct teller *t = arg;

	(void)e;
	if (note == EXCLUDE_NOTE_COST)
		return 0;
	buf_printf(t->b, "%s{\"path\":", t->gap);
	buf_put_json_str(t->b, path);
	buf_put_str(t->b, ",\"what\":");
	buf_put_json_str(t->b, span_str(exclude_note_text(note)));
	buf_put_str(t->b, "}");
	t->gap = ",";
	return 0;
}

static void put_rules(const struct code *k, struct buf *b)
{
	buf_put_str(b, "\"rules\":[");
	for (unsigned i = 0; i < k->hits->count; i++) {
		const struct code_rule *rule = &k->hits->rules[i];

		buf_printf(b, "%s{\"rule\":", i > 0 ? "," : "");
		buf_put_json_str(b, span_str(rule->text));
		buf_printf(b, ",\"hits\":%" PRIu64 ",\"bytes\":%" PRIu64 "}", rule->hits,
		           rule->bytes);
	}
	buf_printf(b, "],\"hits_of_more_rules\":%" PRIu64, k->hits->more);
}

static void put_notes(struct code *k, struct buf *b)
{
	struct teller t = { .k = k, .b = b, .gap = "" };

	buf_put_str(b, "\"exclude\":[");
	each_exclude(k, put_exclude, &t);
	buf_put_str(b, "],\"git\":[");
	t.gap = "";
	each_git(k, put_git, &t);
	buf_put_str(b, "]");
}

static void put_included(const struct code *k, struct buf *b)
{
	buf_put_str(b, "\"included_secrets\":[");
	for (size_t i = 0; i < k->take_back.count; i++) {
		buf_put_str(b, i > 0 ? "," : "");
		buf_put_json_str(b, span_str(k->take_back.items[i]));
	}
	buf_put_str(b, "]");
}

static void put_settings(const struct code *k, struct buf *b)
{
	buf_put_str(b, "\"settings\":[");
	for (size_t i = 0; i < k->said.count; i++) {
		buf_put_str(b, i > 0 ? "," : "");
		buf_put_json_str(b, span_str(k->said.items[i]));
	}
	buf_put_str(b, "]");
}

int code_write_notes(struct code *k, struct err *e)
{
	_own_free_ char *room = malloc(CODE_NOTES_MAX);
	struct buf b;

	if (!room)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&b, room, CODE_NOTES_MAX);
	buf_put_str(&b, "{\"version\":1,");
	code_put_packed_json(k, &b);
	buf_put_str(&b, ",");
	put_included(k, &b);
	buf_put_str(&b, ",");
	put_rules(k, &b);
	buf_put_str(&b, ",");
	put_notes(k, &b);
	buf_put_str(&b, ",");
	put_settings(k, &b);
	buf_put_str(&b, "}\n");
	if (!buf_ok(&b))
		return err_set(e, -EMSGSIZE, "the session's notes are too long");
	return fd_replace_file(k->work.dir_fd, CODE_NOTES, b.at, b.len, 0600, e);
}

/* --- --dry-run --- */

struct costs {
	struct code *k;
	struct buf *b;
	const char *gap;
	uint64_t bytes;
};

/* A directory that --skip-cost would leave out, and what that would save. */
static int put_cost(void *arg, enum exclude_note note, struct span path, struct err *e)
{
	struct costs *c = arg;
	struct pack_totals t;

	if (note != EXCLUDE_NOTE_COST || code_measure(c->k, path, &t, e) < 0) {
		err_clear(e);
		return 0;
	}
	c->bytes += t.file_bytes;
	if (c->k->c->json) {
		buf_printf(c->b, "%s{\"path\":", c->gap);
		buf_put_json_str(c->b, path);
		buf_printf(c->b, ",\"files\":%" PRIu64 ",\"bytes\":%" PRIu64 "}", t.files,
		           t.file_bytes);
	} else {
		buf_put_str(c->b, "  ");
		buf_put_escaped(c->b, path);
		buf_printf(c->b, "/  %" PRIu64 " file%s, ", t.files, t.files == 1 ? "" : "s");
		units_put_size(c->b, t.file_bytes);
		buf_put_str(c->b, "\n");
	}
	c->gap = ",";
	return 0;
}

static int print_dry_json(struct code *k, struct buf *b, struct err *e)
{
	struct costs costs = { .k = k, .b = b, .gap = "" };
	int r;

	buf_printf(b, "{\"version\":%d,\"workspace\":", CODE_JSON_VERSION);
	buf_put_json_str(b, span_str(k->root));
	buf_put_str(b, ",\"mount\":");
	buf_put_json_str(b, span_str(k->mount));
	buf_put_str(b, ",");
	code_put_packed_json(k, b);
	buf_put_str(b, ",");
	put_rules(k, b);
	buf_put_str(b, ",");
	put_notes(k, b);
	buf_put_str(b, ",\"cost\":[");
	r = exclude_each_note(k->exclude, put_cost, &costs, e);
	buf_put_str(b, "]}\n");
	return r;
}

static void put_dry_rules(const struct code *k, struct buf *b)
{
	if (k->hits->count)
		buf_put_str(b, "stays out by rule:\n");
	for (unsigned i = 0; i < k->hits->count; i++) {
		const struct code_rule *rule = &k->hits->rules[i];

		buf_put_str(b, "  ");
		buf_put_escaped(b, span_str(rule->text));
		buf_printf(b, "  %" PRIu64 " hit%s, ", rule->hits, rule->hits == 1 ? "" : "s");
		units_put_size(b, rule->bytes);
		buf_put_str(b, "\n");
	}
	if (k->hits->more)
		buf_printf(b, "  and %" PRIu64 " hits of more rules\n", k->hits->more);
	for (unsigned why = PACK_WHY_OURS; why < PACK_WHY_COUNT; why++)
		if (k->totals.left_out[why])
			buf_printf(b, "stays out, %s: %" PRIu64 "\n",
			           pack_why_text((enum pack_why)why), k->totals.left_out[why]);
}

static int put_dry_git(void *arg, enum gitdir_note note, struct span path, struct span text,
                       struct err *e)
{
	struct buf *b = arg;

	(void)e;
	buf_put_str(b, "git, ");
	buf_put_escaped(b, path.len ? path : span_str("."));
	buf_printf(b, ": %s", gitdir_note_text(note));
	buf_put_str(b, text.len ? ": " : "");
	buf_put_escaped(b, text);
	buf_put_str(b, "\n");
	return 0;
}

static int put_dry_note(void *arg, enum exclude_note note, struct span path, struct err *e)
{
	struct buf *b = arg;

	(void)e;
	if (note == EXCLUDE_NOTE_COST)
		return 0;
	buf_put_escaped(b, path);
	buf_printf(b, ": %s\n", exclude_note_text(note));
	return 0;
}

static int print_dry_text(struct code *k, struct buf *b, struct err *e)
{
	struct costs costs = { .k = k, .b = b, .gap = "" };
	size_t mark;
	int r;

	buf_printf(b,
	           "would enter, as %s: %" PRIu64 " files, %" PRIu64 " directories, %" PRIu64
	           " links, ",
	           k->mount, k->totals.files, k->totals.dirs, k->totals.links);
	units_put_size(b, k->totals.file_bytes);
	buf_put_str(b, "\n");
	put_dry_rules(k, b);
	each_exclude(k, put_dry_note, b);
	each_git(k, put_dry_git, b);
	if (exclude_count_notes(k->exclude, EXCLUDE_NOTE_COST) == 0)
		return 0;
	mark = b->len;
	buf_put_str(b, "could stay out and be made again there, with --skip-cost:\n");
	r = exclude_each_note(k->exclude, put_cost, &costs, e);
	if (!*costs.gap)
		b->len = mark;
	return r;
}

int code_print_dry_run(struct code *k, struct err *e)
{
	_own_free_ char *room = malloc(PRINT_MAX);
	struct buf b;
	int r;

	if (!room)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&b, room, PRINT_MAX);
	r = k->c->json ? print_dry_json(k, &b, e) : print_dry_text(k, &b, e);
	if (r == 0 && !buf_ok(&b))
		return err_set(e, -EMSGSIZE, "the report is over %d MiB", PRINT_MAX >> 20);
	return r == 0 ? cli_out(b.at, b.len, e) : r;
}
