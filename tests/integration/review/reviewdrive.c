/*
 * reviewdrive: a review by commands on stdin, without a guest and without a terminal.
 *
 *	reviewdrive BIN_DIR CLASSES SESSION_DIR ROOT [WORKSPACE]
 *
 * BIN_DIR has berm-unpack and berm-diff. WORKSPACE is the directory that the session began with, if
 * it is not ROOT. A command is a line of words, separated by tabs:
 *
 *	list | totals | reopen | commits
 *	accept|reject|undecide PATH [TYPED]
 *	hunks PATH DIGITS
 *	links PATH
 *	all SECTION accept|reject|undecide [BELOW]
 *	content|digest PATH base|host|guest
 *	texts PATH                            the hunks, and what a merge of all comes to
 *	apply|undo all|rest
 *	die N                                 at the N-th path that the next apply says
 *
 * Each answers with lines of JSON; the last is {"ok": true} or {"error": ERRNO, "text": T}.
 */
#include "base/fdio.h"
#include "base/units.h"
#include "review/review.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { WORDS_MAX = 4, LIST_MAX = 1 << 20 };

struct drive {
	struct review_on on;
	struct review *review;
	char unpack[4096], diff[4096];
	unsigned die_at, heard;
};

static void put_json(const char *key, struct span s)
{
	_own_free_ char *room = malloc(6 * s.len + 3);
	struct buf b;

	if (!room)
		exit(3);
	buf_init(&b, room, 6 * s.len + 3);
	buf_put_json_str(&b, s);
	(void)printf("\"%s\": %s", key, buf_cstr(&b));
}

static void hear(void *arg, const char *path, enum apply_word w)
{
	struct drive *d = arg;

	if (d->die_at > 0 && ++d->heard == d->die_at)
		(void)raise(SIGKILL);
	(void)printf("{");
	put_json("said", span_str(path));
	(void)printf(", \"word\": %d}\n", (int)w);
}

static int load_classes(const char *path, struct class_list **ret, struct err *e)
{
	_own_(class_list_free) struct class_list *l = NULL;
	_own_free_ char *text = NULL;
	size_t len;
	int r = fd_read_file(AT_FDCWD, path, LIST_MAX, &text, &len, e);

	if (r == 0)
		r = class_list_new(&l, e);
	if (r == 0)
		r = class_list_add(l, "classes", span_of(text, len), e);
	if (r == 0)
		*ret = steal_ptr(&l);
	return r;
}

static int reopen(struct drive *d, struct err *e)
{
	static const char *const hows[] = { "clean", "back", "forward" };
	enum apply_recovered how;
	int r;

	review_free(d->review);
	d->review = NULL;
	r = review_open(&d->on, &d->review, &how, e);
	if (r == 0)
		(void)printf("{\"recovered\": \"%s\"}\n", hows[how]);
	return r;
}

/* -- showing -- */

static void show_hunks(const struct review_item *it)
{
	(void)printf(", \"hunks\": \"");
	for (uint32_t i = 0; i < it->hunk_count; i++)
		(void)putchar(it->hunks[i] ? '1' : '0');
	(void)printf("\"");
}

static void show_item(const struct review_item *it)
{
	static const char *const ops[] = { "", "add", "edit", "mode", "type", "rename", "delete" };
	static const char *const states[] = { "", "proposed", "both", "conflict", "there", "out" };
	static const char *const choices[] = { "undecided", "accept", "reject", "hunks" };
	const struct change *c = it->change;

	(void)printf("{\"section\": \"%s\", \"class\": \"%s\", \"choice\": \"%s\", \"flags\": %u, ",
	             review_section_name((enum review_section)it->section),
	             class_name((enum work_class)it->class), choices[it->choice], it->flags);
	(void)printf("\"op\": \"%s\", \"state\": \"%s\", \"change_flags\": %u, ", ops[c->op],
	             states[c->state], c->flags);
	put_json("path", c->path);
	(void)printf(", ");
	put_json("from", c->from);
	(void)printf(", ");
	put_json("reason", span_str(it->reason ? it->reason : ""));
	show_hunks(it);
	(void)printf("}\n");
}

static int list(struct drive *d)
{
	for (size_t i = 0; i < review_count(d->review); i++)
		show_item(review_at(d->review, i));
	return 0;
}

static int totals(struct drive *d)
{
	struct review_totals t;

	review_totals(d->review, &t);
	(void)printf("{\"undecided\": %" PRIu64 ", \"accepted\": %" PRIu64
	             ", \"rejected\": %" PRIu64 ", \"done\": %" PRIu64
	             ", \"host_changes\": %" PRIu64 ", \"left_out\": %" PRIu64 "}\n",
	             t.undecided, t.accepted, t.rejected, t.done, t.host_changes, t.left_out);
	return 0;
}

static int show_commit(void *arg, const struct gitobj_id *id, const struct gitobj_commit *c,
                       struct err *e)
{
	(void)arg;
	(void)id;
	(void)e;
	(void)printf("{");
	put_json("message", c->message);
	(void)printf("}\n");
	return 0;
}

static int commits(struct drive *d, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < review_repos(d->review); i++) {
		const struct review_repo *repo = review_repo(d->review, i);

		(void)printf("{");
		put_json("why", span_str(repo->why));
		(void)printf(", \"any\": %s}\n", repo->commits ? "true" : "false");
		if (repo->commits)
			r = gitobj_commits(repo->commits, show_commit, NULL, e);
	}
	return r;
}

/* -- one item -- */

static int find(struct drive *d, const char *path, size_t *ret, struct err *e)
{
	*ret = review_find(d->review, span_str(path));
	return *ret == SIZE_MAX ? err_set(e, -ENOENT, "no such item") : 0;
}

static int choice_of(const char *word)
{
	return strcmp(word, "accept") == 0   ? REVIEW_ACCEPT
	       : strcmp(word, "reject") == 0 ? REVIEW_REJECT
	                                     : REVIEW_UNDECIDED;
}

static int decide_all(struct drive *d, char **w, struct err *e)
{
	enum review_section s = REVIEW_X0;
	uint64_t n;
	int r;

	while (s < REVIEW_SECTIONS && strcmp(w[1], review_section_name(s)) != 0)
		s++;
	if (s == REVIEW_SECTIONS)
		return err_set(e, -EINVAL, "no such section");
	r = review_decide_all(d->review, s, span_str(w[3] ? w[3] : ""),
	                      (enum review_choice)choice_of(w[2]), &n, e);
	if (r == 0)
		(void)printf("{\"count\": %" PRIu64 "}\n", n);
	return r;
}

static int decide_hunks(struct drive *d, size_t i, const char *digits, struct err *e)
{
	_own_(review_texts_free) struct review_texts *t = NULL;
	_own_free_ uint8_t *chosen = NULL;
	int r = review_hunks(d->review, i, &t, e);

	if (r < 0)
		return r;
	chosen = calloc((size_t)t->to_guest->count + 1, 1);
	if (!chosen || strlen(digits) != t->to_guest->count)
		return err_set(e, -EINVAL, "%u hunks", t->to_guest->count);
	for (uint32_t k = 0; k < t->to_guest->count; k++)
		chosen[k] = digits[k] == '1';
	return review_decide_hunks(d->review, i, t, chosen, e);
}

static int texts(struct drive *d, size_t i, struct err *e)
{
	_own_(review_texts_free) struct review_texts *t = NULL;
	int r = review_hunks(d->review, i, &t, e);

	if (r < 0)
		return r;
	(void)printf("{\"hunks\": %u, \"conflicts\": %u, \"host\": %s, \"fates\": \"",
	             t->to_guest->count, t->conflicts, t->host ? "true" : "false");
	for (uint32_t k = 0; k < t->to_guest->count; k++)
		(void)putchar("-TSC"[t->fates[k]]);
	(void)printf("\"}\n");
	return 0;
}

static int content(struct drive *d, size_t i, const char *verb, const char *word, struct err *e)
{
	enum review_side side = strcmp(word, "base") == 0   ? REVIEW_BASE
	                        : strcmp(word, "host") == 0 ? REVIEW_HOST
	                                                    : REVIEW_GUEST;
	_own_free_ char *text = NULL;
	uint8_t sum[32];
	size_t len = 0;
	int r;

	if (strcmp(verb, "content") == 0) {
		r = review_content(d->review, i, side, HUNK_TEXT_MAX, &text, &len, e);
		if (r < 0)
			return r;
		(void)printf("{");
		put_json("content", span_of(text, len));
		(void)printf("}\n");
		return 0;
	}
	r = review_digest(d->review, i, side, sum, e);
	if (r < 0)
		return r;
	(void)printf("{\"digest\": \"");
	for (size_t k = 0; k < sizeof(sum); k++)
		(void)printf("%02x", sum[k]);
	(void)printf("\"}\n");
	return 0;
}

static int one_item(struct drive *d, char **w, struct err *e)
{
	size_t i;
	int r = find(d, w[1], &i, e);

	if (r < 0)
		return r;
	if (strcmp(w[0], "hunks") == 0)
		return decide_hunks(d, i, w[2] ? w[2] : "", e);
	if (strcmp(w[0], "texts") == 0)
		return texts(d, i, e);
	if (strcmp(w[0], "links") == 0)
		return review_consent_links(d->review, i, true, e);
	if (strcmp(w[0], "content") == 0 || strcmp(w[0], "digest") == 0)
		return content(d, i, w[0], w[2] ? w[2] : "", e);
	return review_decide(d->review, i, (enum review_choice)choice_of(w[0]),
	                     span_str(w[2] ? w[2] : ""), e);
}

/* -- applying -- */

static int apply(struct drive *d, char **w, struct err *e)
{
	static const char *const ends[] = { "done", "nothing", "returned" };
	enum apply_mode mode = w[1] && strcmp(w[1], "rest") == 0 ? APPLY_REST : APPLY_ALL;
	struct review_outcome out = { 0 };
	struct err commits_e = { 0 };
	int r = strcmp(w[0], "undo") == 0
	                ? review_undo(d->review, mode, &out, e)
	                : review_apply(d->review, mode, true, &out, &commits_e, e);

	if (r < 0)
		return r;
	(void)printf("{\"end\": \"%s\", \"generation\": %u, \"items\": %" PRIu64
	             ", \"back\": %" PRIu64 ", \"needs\": %" PRIu64 ", \"refs\": %u, ",
	             ends[out.applied.end], out.applied.generation, out.items, out.back, out.needs,
	             out.commits_refs);
	put_json("commits_error", span_str(commits_e.text));
	(void)printf("}\n");
	return 0;
}

static int command(struct drive *d, char **w, struct err *e)
{
	uint64_t n;

	if (strcmp(w[0], "reopen") == 0)
		return reopen(d, e);
	if (!d->review)
		return err_set(e, -EBADF, "no review is open");
	if (strcmp(w[0], "list") == 0)
		return list(d);
	if (strcmp(w[0], "totals") == 0)
		return totals(d);
	if (strcmp(w[0], "commits") == 0)
		return commits(d, e);
	if (strcmp(w[0], "apply") == 0 || strcmp(w[0], "undo") == 0)
		return apply(d, w, e);
	if (!w[1])
		return err_set(e, -EINVAL, "too few words");
	if (strcmp(w[0], "die") == 0 && span_to_u64(span_str(w[1]), &n)) {
		d->die_at = (unsigned)n;
		d->heard = 0;
		return 0;
	}
	if (strcmp(w[0], "all") == 0)
		return w[2] ? decide_all(d, w, e) : err_set(e, -EINVAL, "too few words");
	return one_item(d, w, e);
}

static void answer(int r, const struct err *e)
{
	if (r == 0) {
		(void)printf("{\"ok\": true}\n");
	} else {
		(void)printf("{\"error\": %d, ", -r);
		put_json("text", span_str(e->text));
		(void)printf("}\n");
	}
	(void)fflush(stdout);
}

static void serve(struct drive *d)
{
	char *line = NULL;
	size_t room = 0;

	while (getline(&line, &room, stdin) > 0) {
		char *words[WORDS_MAX + 1] = { line };
		struct err e = { 0 };
		char *at = line;
		int r;

		line[strcspn(line, "\n")] = '\0';
		for (int i = 1; i < WORDS_MAX && (at = strchr(at, '\t')); i++) {
			*at++ = '\0';
			words[i] = at;
		}
		r = command(d, words, &e);
		answer(r, &e);
	}
	free(line);
}

int main(int argc, char **argv)
{
	_own_(class_list_free) struct class_list *classes = NULL;
	_own_fd_ int session = -1, root = -1, spool = -1, was = -1;
	struct drive d = { 0 };
	struct err e = { 0 };
	int r;

	if (argc < 5)
		return 2;
	(void)snprintf(d.unpack, sizeof(d.unpack), "%s/berm-unpack", argv[1]);
	(void)snprintf(d.diff, sizeof(d.diff), "%s/berm-diff", argv[1]);
	r = load_classes(argv[2], &classes, &e);
	if (r == 0)
		r = fd_open(argv[3], O_RDONLY | O_DIRECTORY, 0, &session, &e);
	if (r == 0)
		r = fd_open(argv[4], O_RDONLY | O_DIRECTORY, 0, &root, &e);
	if (r == 0)
		r = fd_open(argv[argc > 5 ? 5 : 4], O_RDONLY | O_DIRECTORY, 0, &was, &e);
	if (r == 0)
		r = fd_openat(session, "spool.tar", O_RDONLY, 0, &spool, &e);
	if (r == 0)
		r = apply_root_of(was, &d.on.root, &e);
	d.on.session_fd = session;
	d.on.root_fd = root;
	d.on.spool_fd = spool;
	d.on.session = "0123456789ab";
	d.on.unpack_path = d.unpack;
	d.on.diff_path = d.diff;
	d.on.classes = classes;
	d.on.said = hear;
	d.on.said_arg = &d;
	if (r == 0)
		r = reopen(&d, &e);
	answer(r, &e);
	serve(&d);
	review_free(d.review);
	return 0;
}
