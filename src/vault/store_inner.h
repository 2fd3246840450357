/*
 * store_inner: the inside of a store, for scan, swap and scrub.
 *
 * Theory of operation. Everything that is derived from a value stands in one arena of locked
 * memory: the values, the set of needles that scrub looks for (which has their first bytes), and
 * the head that swap writes. Placeholders and their needles are no secrets and are on the heap.
 * Names keep their slot and placeholder for ever; a value moves into a retired slot when it is
 * replaced or removed while a scrub is open, and is wiped with the last scrub that is older.
 */
#pragma once

#include "http/limits.h"
#include "vault/placeholder.h"
#include "vault/sieve.h"
#include "vault/store.h"

enum {
	STORE_VALUES = STORE_SECRETS_MAX + STORE_RETIRED_MAX,
	STORE_ROOM_BYTES =
		2 * HTTP_HEAD_MAX, /* what swap writes: no head grows over HTTP_HEAD_MAX */
};

/* Locked. Pages that nothing was written to cost nothing. */
struct store_arena {
	struct needle_set values; /* texts: secrets, then retired ones, without gaps */
	uint8_t value[STORE_VALUES][STORE_VALUE_MAX];
	uint8_t intake[STORE_VALUE_MAX + 1];
	uint8_t room[STORE_ROOM_BYTES];
};

struct store_secret {
	uint8_t name_len;
	char name[POLICY_SECRET_NAME_MAX];
	uint16_t placeholder_len;
	uint8_t *placeholder;
	size_t value_len; /* 0: removed */
	/* beginnings of the value that replies tried: those that were wrong, and those held now */
	unsigned missed, tried;
};

struct store_retired {
	size_t value_len; /* 0: free */
	uint64_t epoch;   /* scrubs opened before it look for this value */
	unsigned secret;
};

/* Of every open scrub; the oldest first. */
struct store_user {
	struct store_user *prev, *next;
	uint64_t epoch;
};

struct store {
	struct store_arena *arena;
	bool is_memfd;
	unsigned count; /* of secrets, removed ones included */
	unsigned live;
	struct store_secret secrets[STORE_SECRETS_MAX];
	struct store_retired retired[STORE_RETIRED_MAX];
	uint64_t epoch; /* grows with each change */
	struct store_user *oldest, *newest;
	unsigned owner[STORE_VALUES];    /* of a text of arena->values: the secret's index */
	struct span masks[STORE_VALUES]; /* and what takes its place */
	size_t room_used;                /* of arena->room */
	bool holds[STORE_VALUES];        /* for the scrub whose turn it is: is it held back? */
	struct needle_set placeholders;  /* text i is secret i's */
	struct sieve sieve;
};

/* Index of the name, or -ENOENT. */
int store_find(const struct store *s, struct span name);

struct span store_name(const struct store *s, unsigned i);

/* Empty if it was removed. */
struct span store_value(const struct store *s, unsigned i);

void store_user_add(struct store *s, struct store_user *u);
void store_user_remove(struct store *s, struct store_user *u);
