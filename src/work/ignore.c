#include "work/ignore.h"

#include "work/path.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct file_of_rules {
	char *dir, *source, *text; /* each one malloc, the set's */
	size_t dir_len;
	size_t rules_at; /* its first rule's place; they reach to the next file's */
};

struct placed_rule {
	struct ignore_rule rule; /* spans lie in the file's text */
	unsigned line;
	unsigned file;
};

/*
 * Which of RULES_EACH rules one after another can match at all: a walk asks of every name, and most
 * rules are out of the question by its first or its last byte.
 */
enum { RULES_EACH = 64 };

struct rule_index {
	uint64_t first[256], last[256]; /* by the byte: a bit for each rule */
	uint64_t any_first, any_last;   /* and those that leave it open */
	uint64_t files;                 /* those that are not for directories alone */
};

struct ignore_set {
	struct file_of_rules *files;
	struct placed_rule *rules;
	struct rule_index *index; /* of rules [i * RULES_EACH, ...) */
	size_t file_count, files_cap, rule_count, rules_cap, index_cap;
};

int ignore_set_new(struct ignore_set **ret, struct err *e)
{
	struct ignore_set *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return err_set(e, -ENOMEM, "no memory for ignore patterns");
	*ret = s;
	return 0;
}

static void drop_last_file(struct ignore_set *s)
{
	struct file_of_rules *f = &s->files[--s->file_count];

	s->rule_count = f->rules_at;
	free(f->dir);
	free(f->source);
	free(f->text);
}

void ignore_set_free(struct ignore_set *s)
{
	if (s == NULL)
		return;
	while (s->file_count > 0)
		drop_last_file(s);
	free(s->files);
	free(s->rules);
	free(s->index);
	free(s);
}

static int grow(void **items, size_t *cap, size_t count, size_t size, struct err *e)
{
	size_t want = *cap == 0 ? 16 : *cap * 2;
	void *more;

	if (count < *cap)
		return 0;
	more = reallocarray(*items, want, size);
	if (more == NULL)
		return err_set(e, -ENOMEM, "no memory for ignore patterns");
	*items = more;
	*cap = want;
	return 0;
}

/* The bit of rule i is nobody's any more; whatever rule had it before. */
static void clear_bit(struct rule_index *x, uint64_t bit)
{
	for (unsigned c = 0; c < 256; c++) {
		x->first[c] &= ~bit;
		x->last[c] &= ~bit;
	}
	x->any_first &= ~bit;
	x->any_last &= ~bit;
	x->files &= ~bit;
}

static int index_rule(struct ignore_set *s, const struct ignore_rule *rule, struct err *e)
{
	size_t at = s->rule_count / RULES_EACH;
	uint64_t bit = UINT64_C(1) << s->rule_count % RULES_EACH;
	struct rule_index *x;
	uint8_t first, last;
	int r = grow((void **)&s->index, &s->index_cap, at, sizeof(s->index[0]), e);

	if (r < 0)
		return r;
	x = &s->index[at];
	if (bit == 1)
		*x = (struct rule_index){ 0 };
	clear_bit(x, bit);
	if (ignore_first_byte(rule, &first))
		x->first[first] |= bit;
	else
		x->any_first |= bit;
	if (ignore_last_byte(rule, &last))
		x->last[last] |= bit;
	else
		x->any_last |= bit;
	if (!rule->dir_only)
		x->files |= bit;
	return 0;
}

static int add_rule(struct ignore_set *s, const struct ignore_rule *rule, unsigned line,
                    struct err *e)
{
	int r;

	if (s->rule_count >= IGNORE_RULES_MAX)
		return err_set(e, -E2BIG, "more than %d ignore patterns", IGNORE_RULES_MAX);
	r = grow((void **)&s->rules, &s->rules_cap, s->rule_count, sizeof(s->rules[0]), e);
	if (r == 0)
		r = index_rule(s, rule, e);
	if (r < 0)
		return r;
	s->rules[s->rule_count++] = (struct placed_rule){
		.rule = *rule,
		.line = line,
		.file = (unsigned)s->file_count - 1,
	};
	return 0;
}

/* A byte order mark some editors put in front is no part of the first pattern. */
static struct span without_mark(struct span text)
{
	if (text.len >= 3 && memcmp(text.at, "\xef\xbb\xbf", 3) == 0)
		return span_of(text.at + 3, text.len - 3);
	return text;
}

/* at: the number of the first. */
static int add_lines(struct ignore_set *s, struct span text, unsigned at, unsigned *ret_refused,
                     struct err *e)
{
	struct ignore_rule rule;
	struct span line;

	*ret_refused = 0;
	text = without_mark(text);
	for (; take_until(&text, '\n', &line); at++) {
		int r = ignore_parse_line(line, &rule);

		if (r == -E2BIG)
			++*ret_refused;
		if (r == 0)
			r = add_rule(s, &rule, at, e);
		else
			r = 0;
		if (r < 0)
			return r;
	}
	return 0;
}

static char *copy_of(struct span s)
{
	char *copy = malloc(s.len + 1);

	if (copy != NULL) {
		if (s.len > 0)
			memcpy(copy, s.at, s.len);
		copy[s.len] = '\0';
	}
	return copy;
}

static int add_file(struct ignore_set *s, struct span dir, const char *source, struct span text,
                    struct err *e)
{
	struct file_of_rules f = { .dir_len = dir.len, .rules_at = s->rule_count };
	int r = grow((void **)&s->files, &s->files_cap, s->file_count, sizeof(s->files[0]), e);

	if (r < 0)
		return r;
	f.dir = copy_of(dir);
	f.source = copy_of(span_str(source));
	f.text = copy_of(text);
	s->files[s->file_count++] = f;
	if (f.dir != NULL && f.source != NULL && f.text != NULL)
		return 0;
	drop_last_file(s);
	return err_set(e, -ENOMEM, "no memory for ignore patterns");
}

int ignore_add_at(struct ignore_set *s, struct span dir, const char *source, unsigned line,
                  struct span text, unsigned *ret_refused, struct err *e)
{
	unsigned refused;
	int r;

	if (text.len > IGNORE_FILE_MAX)
		return err_set(e, -E2BIG, "%s: over %d bytes of ignore patterns", source,
		               IGNORE_FILE_MAX);
	r = add_file(s, dir, source, text, e);
	if (r < 0)
		return r;
	r = add_lines(s, span_of(s->files[s->file_count - 1].text, text.len), line, &refused, e);
	if (r < 0) {
		drop_last_file(s);
		return r;
	}
	if (ret_refused != NULL)
		*ret_refused = refused;
	return 0;
}

int ignore_add(struct ignore_set *s, struct span dir, const char *source, struct span text,
               unsigned *ret_refused, struct err *e)
{
	return ignore_add_at(s, dir, source, 1, text, ret_refused, e);
}

/* Is `path` below `dir`, or `dir` itself? */
static bool is_within(struct span path, const char *dir, size_t dir_len)
{
	if (dir_len == 0)
		return true;
	return path.len >= dir_len && memcmp(path.at, dir, dir_len) == 0 &&
	       (path.len == dir_len || path.at[dir_len] == '/');
}

void ignore_leave(struct ignore_set *s, struct span dir)
{
	while (s->file_count > 0) {
		const struct file_of_rules *f = &s->files[s->file_count - 1];

		if (is_within(dir, f->dir, f->dir_len))
			return;
		drop_last_file(s);
	}
}

size_t ignore_count(const struct ignore_set *s)
{
	return s->rule_count;
}

static bool placed_match(const struct ignore_set *s, const struct placed_rule *p, struct span path,
                         struct span last, bool is_dir)
{
	const struct file_of_rules *f = &s->files[p->file];
	size_t skip = f->dir_len == 0 ? 0 : f->dir_len + 1;

	if (!is_within(path, f->dir, f->dir_len) || path.len <= skip)
		return false;
	return ignore_match(&p->rule, span_of(path.at + skip, path.len - skip), last, is_dir);
}

/* Of the rules of one index, those that are worth a look. */
static uint64_t worth_asking(const struct ignore_set *s, size_t at, struct span last, bool is_dir)
{
	const struct rule_index *x = &s->index[at];
	size_t count = s->rule_count - at * RULES_EACH;
	uint64_t there = count < RULES_EACH ? (UINT64_C(1) << count) - 1 : UINT64_MAX;

	if (!is_dir)
		there &= x->files;
	if (last.len == 0)
		return there; /* no path has such a part; whoever asks is answered all the same */
	return there & (x->any_first | x->first[last.at[0]]) &
	       (x->any_last | x->last[last.at[last.len - 1]]);
}

struct ignore_hit ignore_ask(const struct ignore_set *s, struct span path, bool is_dir)
{
	struct span last;

	/* a walk asks sets that say nothing as often as others */
	if (s->rule_count == 0)
		return (struct ignore_hit){ .verdict = IGNORE_NOTHING_SAID };
	last = wpath_last(path);
	for (size_t at = (s->rule_count + RULES_EACH - 1) / RULES_EACH; at > 0; at--) {
		uint64_t left = worth_asking(s, at - 1, last, is_dir);

		while (left != 0) {
			unsigned i = 63 - (unsigned)__builtin_clzll(left);
			const struct placed_rule *p = &s->rules[(at - 1) * RULES_EACH + i];

			left &= ~(UINT64_C(1) << i);
			if (placed_match(s, p, path, last, is_dir))
				return (struct ignore_hit){
					.verdict = p->rule.negated ? IGNORE_TAKEN_BACK
					                           : IGNORE_EXCLUDED,
					.source = s->files[p->file].source,
					.line = p->line,
					.pattern = p->rule.pattern,
				};
		}
	}
	return (struct ignore_hit){ .verdict = IGNORE_NOTHING_SAID };
}

bool ignore_any_leads(const struct ignore_set *s, struct span path)
{
	for (size_t i = 0; i < s->rule_count; i++) {
		const struct placed_rule *p = &s->rules[i];
		const struct file_of_rules *f = &s->files[p->file];
		size_t skip = f->dir_len == 0 ? 0 : f->dir_len + 1;

		if (!p->rule.negated && is_within(path, f->dir, f->dir_len) && path.len > skip &&
		    ignore_leads(&p->rule, span_of(path.at + skip, path.len - skip)))
			return true;
	}
	return false;
}
