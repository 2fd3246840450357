#include "work/compare_inner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Files that may be one under two names: those that are gone, and those that are new. */
enum { PAIRS_MAX = 4096 }; /* of each; with more, renames are shown as what they were made of */

struct candidate {
	uint64_t size;
	uint8_t sha256[BASE_SHA256_BYTES];
	uint32_t at; /* in the list of changes */
};

static bool is_file(const struct change_side *s)
{
	return s->exists && s->kind == WORK_FILE && s->size > 0;
}

static bool is_gone(const struct change *c)
{
	return c->op == CHANGE_DELETE && c->state == CHANGE_PROPOSED && is_file(&c->base) &&
	       (c->flags & CHANGE_HOST_UNTOUCHED) != 0;
}

static bool is_new(const struct change *c)
{
	return c->op == CHANGE_ADD && c->state == CHANGE_PROPOSED && is_file(&c->guest) &&
	       c->proposal_why == PROPOSAL_WHY_NONE;
}

static size_t count(const struct compare *c, bool (*is)(const struct change *))
{
	size_t n = 0;

	for (size_t i = 0; i < c->count; i++)
		n += is(&c->changes[i]);
	return n;
}

/* Does any new file have this size? Contents are read only then. */
static bool has_size(const struct candidate *new, size_t n, uint64_t size)
{
	for (size_t i = 0; i < n; i++) {
		if (new[i].size == size)
			return true;
	}
	return false;
}

/* The index's word for a hash shows who may match; the bytes decide. */
static size_t collect_new(const struct compare_options *opt, const struct compare *c,
                          struct candidate *ret)
{
	struct proposal_node p;
	size_t n = 0;

	for (size_t i = 0; i < c->count; i++) {
		if (!is_new(&c->changes[i]))
			continue;
		proposal_node(opt->proposal, c->changes[i].proposal_index, &p);
		if (p.sha256 == NULL)
			continue;
		ret[n].size = p.size;
		ret[n].at = (uint32_t)i;
		memcpy(ret[n++].sha256, p.sha256, BASE_SHA256_BYTES);
	}
	return n;
}

static struct candidate *find(struct candidate *new, size_t n, uint64_t size,
                              const uint8_t sha256[BASE_SHA256_BYTES])
{
	for (size_t i = 0; i < n; i++) {
		if (new[i].size == size && memcmp(new[i].sha256, sha256, BASE_SHA256_BYTES) == 0)
			return &new[i];
	}
	return NULL;
}

/* Makes one change of two; the one that is gone is marked by op 0. */
static void join(struct change *gone, struct change *new)
{
	new->op = CHANGE_RENAME;
	new->from = gone->from;
	new->place = gone->place;
	new->base = gone->base;
	new->host = gone->host;
	new->identity = gone->identity;
	new->base_node = gone->base_node;
	new->flags = (uint8_t)((new->flags & ~CHANGE_BASE_UNKNOWN) | CHANGE_HOST_UNTOUCHED);
	gone->op = 0;
}

static int pair_one(const struct compare_options *opt, struct compare *c, struct change *gone,
                    struct candidate *new, size_t n, struct err *e)
{
	uint8_t sha256[BASE_SHA256_BYTES];
	struct candidate *match;
	struct proposal_node p;
	int r;

	if (!has_size(new, n, gone->base.size))
		return 0;
	r = base_digest(opt->base, &gone->base_node, sha256, e);
	if (r < 0)
		return r;
	match = find(new, n, gone->base.size, sha256);
	if (match == NULL)
		return 0;
	proposal_node(opt->proposal, c->changes[match->at].proposal_index, &p);
	r = compare_guest_base(opt, &p, &gone->base_node, e);
	if (r <= 0)
		return r;
	join(gone, &c->changes[match->at]);
	match->size = UINT64_MAX; /* taken */
	return 0;
}

static void drop_joined(struct compare *c)
{
	size_t kept = 0;

	for (size_t i = 0; i < c->count; i++) {
		if (c->changes[i].op != 0)
			c->changes[kept++] = c->changes[i];
	}
	c->count = kept;
}

int compare_pair_renames(const struct compare_options *opt, struct compare *c, struct err *e)
{
	size_t gone = count(c, is_gone), n = count(c, is_new);
	_own_free_ struct candidate *new = NULL;
	int r = 0;

	if (gone == 0 || n == 0 || gone > PAIRS_MAX || n > PAIRS_MAX)
		return 0;
	new = calloc(n, sizeof(*new));
	if (new == NULL)
		return err_set(e, -ENOMEM, "no memory to look for renamed files");
	n = collect_new(opt, c, new);
	for (size_t i = 0; r == 0 && i < c->count; i++) {
		if (is_gone(&c->changes[i]))
			r = pair_one(opt, c, &c->changes[i], new, n, e);
	}
	drop_joined(c);
	return r;
}
