#include "image/table.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { TABLE_SIZE_FIRST = 64 };

static uint64_t rotl(uint64_t v, unsigned n)
{
	return v << n | v >> (64 - n);
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[0] = rotl(v[0], 32);
	v[2] += v[3];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[2] = rotl(v[2], 32);
}

static void sip_word(uint64_t v[4], uint64_t word)
{
	v[3] ^= word;
	sip_round(v);
	v[0] ^= word;
}

/* SipHash-1-3. Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF". */
static uint64_t hash_key(const uint64_t seed[2], uint64_t scope, struct span key)
{
	uint64_t v[4] = { seed[0] ^ 0x736f6d6570736575, seed[1] ^ 0x646f72616e646f6d,
		          seed[0] ^ 0x6c7967656e657261, seed[1] ^ 0x7465646279746573 };
	uint64_t last = (uint64_t)(key.len + 8) << 56;
	uint64_t word = 0;
	size_t i = 0;

	sip_word(v, scope);
	for (; i + 8 <= key.len; i += 8) {
		memcpy(&word, key.at + i, 8);
		sip_word(v, word);
	}
	word = 0;
	if (key.len > i)
		memcpy(&word, key.at + i, key.len - i);
	sip_word(v, word | last);
	v[2] ^= 0xff;
	for (int n = 0; n < 3; n++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

void table_init(struct table *t, const uint64_t seed[2])
{
	*t = (struct table){ .seed = { seed[0], seed[1] } };
}

void table_fini(struct table *t)
{
	free(t->rows);
	t->rows = NULL;
	t->size = 0;
	t->count = 0;
}

void table_clear(struct table *t)
{
	if (t->count > 0)
		memset(t->rows, 0, t->size * sizeof(*t->rows));
	t->count = 0;
}

/* The key's row, or the free row it would take. There is always a free one. */
static struct table_row *find(const struct table *t, uint64_t hash, uint64_t scope, struct span key)
{
	size_t at = hash & (t->size - 1);

	for (;; at = (at + 1) & (t->size - 1)) {
		struct table_row *row = &t->rows[at];

		if (!row->value ||
		    (row->hash == hash && row->scope == scope && span_equal(row->key, key)))
			return row;
	}
}

void *table_get(const struct table *t, uint64_t scope, struct span key)
{
	return t->size == 0 ? NULL : find(t, hash_key(t->seed, scope, key), scope, key)->value;
}

static int grow(struct table *t, struct err *e)
{
	struct table bigger = { .seed = { t->seed[0], t->seed[1] } };

	bigger.size = t->size == 0 ? TABLE_SIZE_FIRST : t->size * 2;
	bigger.rows = calloc(bigger.size, sizeof(*bigger.rows));
	if (!bigger.rows)
		return err_set(e, -ENOMEM, "out of memory");
	for (size_t i = 0; i < t->size; i++) {
		const struct table_row *row = &t->rows[i];

		if (row->value)
			*find(&bigger, row->hash, row->scope, row->key) = *row;
	}
	bigger.count = t->count;
	free(t->rows);
	*t = bigger;
	return 0;
}

int table_put(struct table *t, uint64_t scope, struct span key, void *value, struct err *e)
{
	uint64_t hash = hash_key(t->seed, scope, key);
	struct table_row *row;

	assert(value);
	if (t->count + t->count / 2 + 1 >= t->size) {
		int r = grow(t, e);

		if (r < 0)
			return r;
	}
	row = find(t, hash, scope, key);
	if (!row->value)
		t->count++;
	*row = (struct table_row){ .hash = hash, .scope = scope, .key = key, .value = value };
	return 0;
}
