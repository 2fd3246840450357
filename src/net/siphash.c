#include "net/siphash.h"
#include "net/head.h"

struct state {
	uint64_t v[4];
};

static uint64_t rotate(uint64_t x, unsigned by)
{
	return x << by | x >> (64 - by);
}

static uint64_t load_le64(const uint8_t *at)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < 8; i++)
		v |= (uint64_t)at[i] << 8 * i;
	return v;
}

static void half_round(struct state *s, unsigned a, unsigned b, unsigned by)
{
	s->v[a] += s->v[b];
	s->v[b] = rotate(s->v[b], by) ^ s->v[a];
}

static void rounds(struct state *s, int count)
{
	for (int i = 0; i < count; i++) {
		half_round(s, 0, 1, 13);
		s->v[0] = rotate(s->v[0], 32);
		half_round(s, 2, 3, 16);
		half_round(s, 0, 3, 21);
		half_round(s, 2, 1, 17);
		s->v[2] = rotate(s->v[2], 32);
	}
}

static void add_word(struct state *s, uint64_t word)
{
	s->v[3] ^= word;
	rounds(s, 2);
	s->v[0] ^= word;
}

uint64_t siphash(const struct siphash_key *key, struct span in)
{
	uint64_t k0 = load_le64(key->at);
	uint64_t k1 = load_le64(key->at + 8);
	uint8_t last[8] = { 0 };
	struct state s = { .v = {
				   k0 ^ 0x736f6d6570736575,
				   k1 ^ 0x646f72616e646f6d,
				   k0 ^ 0x6c7967656e657261,
				   k1 ^ 0x7465646279746573,
			   } };

	last[7] = (uint8_t)in.len;
	for (; in.len >= 8; in.at += 8, in.len -= 8)
		add_word(&s, load_le64(in.at));
	if (in.len > 0)
		memcpy(last, in.at, in.len);
	add_word(&s, load_le64(last));
	s.v[2] ^= 0xff;
	rounds(&s, 4);
	return s.v[0] ^ s.v[1] ^ s.v[2] ^ s.v[3];
}

uint64_t siphash_tuple(const struct siphash_key *key, const struct net_tuple *t)
{
	uint8_t at[16 + 16 + 4];
	size_t bytes = t->guest.family == 6 ? 16 : 4;

	memcpy(at, t->guest.at, bytes);
	memcpy(at + bytes, t->remote.at, bytes);
	put_be16(at + 2 * bytes, t->guest_port);
	put_be16(at + 2 * bytes + 2, t->remote_port);
	return siphash(key, span_of(at, 2 * bytes + 4));
}
