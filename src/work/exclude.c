#include "work/exclude.h"

#include "base/fdio.h"
#include "work/ignore.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define IGNORE_FILE ".bermignore"

struct note {
	enum exclude_note note;
	size_t path_len;
	char *path; /* one malloc, ours */
};

struct taken_back {
	size_t len;
	char *path;
};

struct exclude {
	struct ignore_set *secret, *cost, *user;
	struct ignore_set *workspace; /* the .bermignore files above the walk's place */
	bool cost_too;
	size_t back_count, note_count;
	struct taken_back back[EXCLUDE_TAKEN_BACK_MAX];
	struct note notes[EXCLUDE_NOTES_MAX + EXCLUDE_COST_MAX];
	uint64_t note_totals[EXCLUDE_NOTE_COUNT];
	char rule[PACK_RULE_MAX]; /* of the last answer */
};

int exclude_new(struct exclude **ret, struct err *e)
{
	_own_(exclude_free) struct exclude *x = calloc(1, sizeof(*x));
	struct ignore_set **sets[4];

	if (x == NULL)
		return err_set(e, -ENOMEM, "no memory for patterns");
	sets[0] = &x->secret;
	sets[1] = &x->cost;
	sets[2] = &x->user;
	sets[3] = &x->workspace;
	for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
		int r = ignore_set_new(sets[i], e);

		if (r < 0)
			return r;
	}
	*ret = x;
	x = NULL;
	return 0;
}

void exclude_free(struct exclude *x)
{
	if (x == NULL)
		return;
	ignore_set_free(x->secret);
	ignore_set_free(x->cost);
	ignore_set_free(x->user);
	ignore_set_free(x->workspace);
	for (size_t i = 0; i < x->back_count; i++)
		free(x->back[i].path);
	for (size_t i = 0; i < x->note_count; i++)
		free(x->notes[i].path);
	free(x);
}

int exclude_add(struct exclude *x, enum exclude_tier tier, const char *source, struct span text,
                struct err *e)
{
	return exclude_add_at(x, tier, source, 1, text, e);
}

int exclude_add_at(struct exclude *x, enum exclude_tier tier, const char *source, unsigned line,
                   struct span text, struct err *e)
{
	struct ignore_set *const sets[] = { x->secret, x->cost, x->user };
	unsigned refused;
	int r = ignore_add_at(sets[tier], span_str(""), source, line, text, &refused, e);

	if (r == 0 && refused > 0)
		return err_set(e, -E2BIG, "%s: a pattern over %d bytes", source,
		               IGNORE_PATTERN_MAX);
	return r;
}

void exclude_cost_too(struct exclude *x)
{
	x->cost_too = true;
}

static char *copy_of(struct span s)
{
	char *copy = malloc(s.len + 1);

	if (copy != NULL) {
		memcpy(copy, s.at, s.len);
		copy[s.len] = '\0';
	}
	return copy;
}

int exclude_take_back(struct exclude *x, struct span path, struct err *e)
{
	enum wpath_fault fault;
	char *copy;

	if (path.len == 0)
		return err_set(e, -EINVAL, "the workspace itself is no path to take back");
	if (wpath_parse(path, &fault) < 0)
		return err_set(e, -EINVAL, "no path within the workspace: it %s",
		               wpath_fault_text(fault));
	if (x->back_count >= EXCLUDE_TAKEN_BACK_MAX)
		return err_set(e, -E2BIG, "more than %d paths taken back", EXCLUDE_TAKEN_BACK_MAX);
	copy = copy_of(path);
	if (copy == NULL)
		return err_set(e, -ENOMEM, "no memory for patterns");
	x->back[x->back_count++] = (struct taken_back){ .path = copy, .len = path.len };
	return 0;
}

/* ---- notes ---- */

static void note(struct exclude *x, enum exclude_note what, struct span path)
{
	size_t max = what == EXCLUDE_NOTE_COST ? EXCLUDE_COST_MAX : EXCLUDE_NOTES_MAX;
	char *copy;

	if (x->note_totals[what]++ >= max || x->note_count >= EXCLUDE_NOTES_MAX + EXCLUDE_COST_MAX)
		return;
	copy = copy_of(path);
	if (copy != NULL)
		x->notes[x->note_count++] =
			(struct note){ .note = what, .path = copy, .path_len = path.len };
}

const char *exclude_note_text(enum exclude_note n)
{
	switch (n) {
	case EXCLUDE_NOTE_TAKEN_BACK:
		return "entered, as you asked";
	case EXCLUDE_NOTE_REFUSED:
		return "stays out: a workspace cannot take a secret back";
	case EXCLUDE_NOTE_BAD_FILE:
		return "cannot be read as patterns, at least in part";
	case EXCLUDE_NOTE_COST:
		return "can be made again, and would save its size";
	case EXCLUDE_NOTE_COUNT:
		break;
	}
	return "?";
}

int exclude_each_note(const struct exclude *x, exclude_note_fn *each, void *arg, struct err *e)
{
	for (size_t i = 0; i < x->note_count; i++) {
		const struct note *n = &x->notes[i];
		int r = each(arg, n->note, span_of(n->path, n->path_len), e);

		if (r != 0)
			return r;
	}
	return 0;
}

uint64_t exclude_count_notes(const struct exclude *x, enum exclude_note n)
{
	return x->note_totals[n];
}

/* ---- the workspace's own files ---- */

static int open_patterns(int dir_fd, const char *path, int *ret_fd, struct err *e)
{
	return fd_open_beneath(dir_fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0,
	                       RESOLVE_NO_SYMLINKS, ret_fd, e);
}

/* Nothing there is no trouble; a link, a directory or what cannot be read is a note. */
static int read_patterns(int dir_fd, char **ret_text, size_t *ret_len, struct err *e)
{
	_own_fd_ int fd = -1;
	struct stat st;
	int r = open_patterns(dir_fd, IGNORE_FILE, &fd, e);

	if (r == -ENOENT)
		return -ENOENT;
	if (r < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(e, -EBADMSG, "not a file that can be read");
	return fd_read_text(fd, IGNORE_FILE_MAX, ret_text, ret_len, e);
}

static int load_patterns(struct exclude *x, int dir_fd, struct span dir, struct err *e)
{
	_own_free_ char *text = NULL;
	char source[WPATH_MAX + sizeof("/" IGNORE_FILE)];
	unsigned refused = 0;
	size_t len;
	struct buf b;
	int r = read_patterns(dir_fd, &text, &len, e);

	if (r == -ENOENT)
		return 0;
	buf_init(&b, source, sizeof(source));
	buf_put_span(&b, dir);
	buf_put_str(&b, dir.len > 0 ? "/" IGNORE_FILE : IGNORE_FILE);
	if (r == 0)
		r = ignore_add(x->workspace, dir, buf_cstr(&b), span_of(text, len), &refused, e);
	if (r == -ENOMEM)
		return r;
	if (r < 0 || refused > 0)
		note(x, EXCLUDE_NOTE_BAD_FILE, buf_span(&b));
	return 0;
}

int exclude_begin(struct exclude *x, int root_fd, struct err *e)
{
	ignore_leave(x->workspace,
	             span_str("/")); /* what an earlier walk has left, the root's too */
	return load_patterns(x, root_fd, span_str(""), e);
}

/* ---- judging ---- */

static bool is_above(struct span dir, struct span path)
{
	return path.len > dir.len && memcmp(path.at, dir.at, dir.len) == 0 &&
	       path.at[dir.len] == '/';
}

static bool taken_back(const struct exclude *x, struct span path)
{
	for (size_t i = 0; i < x->back_count; i++) {
		if (span_equal(path, span_of(x->back[i].path, x->back[i].len)))
			return true;
	}
	return false;
}

static bool leads_to_taken_back(const struct exclude *x, struct span path)
{
	for (size_t i = 0; i < x->back_count; i++) {
		if (is_above(path, span_of(x->back[i].path, x->back[i].len)))
			return true;
	}
	return false;
}

/* What the secret tier says of a path, or of a directory above it that was only passed through. */
static struct ignore_hit ask_secret(const struct exclude *x, struct span path, bool is_dir)
{
	for (size_t i = 0; i < path.len; i++) {
		struct ignore_hit h;

		if (path.at[i] != '/')
			continue;
		h = ignore_ask(x->secret, span_of(path.at, i), true);
		if (h.verdict == IGNORE_EXCLUDED)
			return h;
	}
	return ignore_ask(x->secret, path, is_dir);
}

bool exclude_is_secret(const struct exclude *x, struct span path, bool is_dir)
{
	return ask_secret(x, path, is_dir).verdict == IGNORE_EXCLUDED && !taken_back(x, path);
}

static int skip(struct exclude *x, const struct ignore_hit *h, enum pack_why why,
                struct pack_answer *ret)
{
	struct buf b;

	buf_init(&b, x->rule, sizeof(x->rule));
	buf_printf(&b, "%s:%u: ", h->source, h->line);
	if (b.size - b.len < h->pattern.len)
		buf_put(&b, h->pattern.at, b.size - b.len);
	else
		buf_put_span(&b, h->pattern);
	*ret = (struct pack_answer){ .verdict = PACK_SKIP, .why = why, .rule = buf_span(&b) };
	return 0;
}

/* True if the secret tier has the last word; ret is then the answer. */
static bool judge_secret(struct exclude *x, struct span path, bool is_dir, struct pack_answer *ret)
{
	/* a walk is below an excluded directory only on its way to what was taken back */
	struct ignore_hit h = x->back_count > 0 ? ask_secret(x, path, is_dir)
	                                        : ignore_ask(x->secret, path, is_dir);

	if (h.verdict != IGNORE_EXCLUDED || (is_dir && leads_to_taken_back(x, path)))
		return false;
	if (taken_back(x, path)) {
		note(x, EXCLUDE_NOTE_TAKEN_BACK, path);
		return true;
	}
	if (ignore_ask(x->workspace, path, is_dir).verdict == IGNORE_TAKEN_BACK)
		note(x, EXCLUDE_NOTE_REFUSED, path);
	(void)skip(x, &h, PACK_WHY_SECRET, ret);
	return true;
}

static int judge_rest(struct exclude *x, struct span path, bool is_dir, struct pack_answer *ret)
{
	struct ignore_hit h = ignore_ask(x->user, path, is_dir);

	if (h.verdict == IGNORE_NOTHING_SAID)
		h = ignore_ask(x->workspace, path, is_dir);
	if (h.verdict == IGNORE_EXCLUDED)
		return skip(x, &h, PACK_WHY_USER, ret);
	if (h.verdict == IGNORE_TAKEN_BACK)
		return 0;
	h = ignore_ask(x->cost, path, is_dir);
	if (h.verdict != IGNORE_EXCLUDED)
		return 0;
	if (x->cost_too)
		return skip(x, &h, PACK_WHY_COST, ret);
	note(x, EXCLUDE_NOTE_COST, path);
	return 0;
}

/* Most directories have none, which one call says of an entry's name. */
static bool has_patterns(const struct pack_entry *entry)
{
	char path[WPATH_NAME_MAX + sizeof("/" IGNORE_FILE)];
	_own_fd_ int fd = -1;
	int n = snprintf(path, sizeof(path), "%s/" IGNORE_FILE, entry->name);

	return n < 0 || (size_t)n >= sizeof(path) ||
	       open_patterns(entry->dir_fd, path, &fd, NULL) != -ENOENT;
}

/* A directory that enters brings its own patterns for what is in it. */
static int enter(struct exclude *x, const struct pack_entry *entry, struct err *e)
{
	_own_fd_ int fd = -1;
	int r;

	if (!has_patterns(entry))
		return 0;
	r = fd_open_beneath(entry->dir_fd, entry->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0,
	                    RESOLVE_NO_SYMLINKS, &fd, e);

	/* the packer is about to open it too, and has better words for what is wrong */
	return r < 0 ? 0 : load_patterns(x, fd, entry->path, e);
}

int exclude_judge(void *arg, const struct pack_entry *entry, struct pack_answer *ret, struct err *e)
{
	struct exclude *x = arg;
	bool is_dir = entry->kind == WORK_DIR;
	int r = 0;

	ignore_leave(x->workspace, wpath_parent(entry->path));
	if (!judge_secret(x, entry->path, is_dir, ret))
		r = judge_rest(x, entry->path, is_dir, ret);
	if (r == 0 && is_dir && ret->verdict == PACK_ENTER)
		r = enter(x, entry, e);
	return r;
}
