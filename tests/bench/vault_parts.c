/*
 * What the vault's search costs, one JSON object a line: bytes scanned for placeholders and
 * scrubbed of values, in MB/s of what goes through, where nothing is found; beside memcpy and
 * memmem of one needle over the same bytes. Then the worst that a sender can do: bytes made of
 * beginnings of a placeholder.
 *
 *	vault_parts [RUNS]
 */
#include "base/clock.h"
#include "vault/scan.h"
#include "vault/scrub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RUNS_USUAL = 20, BYTES = 8 << 20, PIECE = 64 << 10 };

static struct store *s;
static uint8_t *data;
static uint8_t *copy;
static volatile uint64_t sink; /* so that nothing is left out */

static uint32_t draw(void)
{
	static uint32_t x = 2463534242u;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return x;
}

static void fill_random(void)
{
	for (size_t i = 0; i < BYTES; i++)
		data[i] = (uint8_t)(draw() >> 13);
}

static void fill_from(const char *const *words, unsigned count)
{
	size_t at = 0;

	while (at < BYTES) {
		const char *w = words[draw() % count];
		size_t n = strlen(w);

		n = n < BYTES - at ? n : BYTES - at;
		memcpy(data + at, w, n);
		at += n;
	}
}

static void fill_text(void)
{
	static const char *const words[] = { "the ",        "quick ",   "brown ",      "fox ",
		                             "jumps over ", "a ",       "lazy dog.\n", "Further, ",
		                             "it says ",    "nothing; " };

	fill_from(words, 10);
}

static void fill_json(void)
{
	static const char *const words[] = { "{\"id\": 12345, ",
		                             "\"name\": \"some \\\"name\\\"\", ",
		                             "\"url\": \"https://a.example/x%20y?a=b\", ",
		                             "\"text\": \"line\\nline\", ", "\"ok\": true},\n" };

	fill_from(words, 5);
}

static void fill_base64(void)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < BYTES; i++)
		data[i] = (uint8_t)(i % 77 == 76 ? '\n' : digits[draw() >> 9 & 63]);
}

static void fill_beginnings(void)
{
	struct span p = store_placeholder(s, span_str("NAME_0"));

	for (size_t i = 0; i < BYTES; i++)
		data[i] = p.at[i % (p.len - 1)];
}

static void part_memcpy(void)
{
	for (size_t at = 0; at < BYTES; at += PIECE)
		memcpy(copy, data + at, PIECE);
	sink += copy[draw() % PIECE];
}

static void part_memmem(void)
{
	sink += memmem(data, BYTES, "ghp_16C7e42F292c6912E7710c838347Ae178B4b", 40) != NULL;
}

static void part_scan(void)
{
	struct scan_hit hit;
	struct scan *c;

	if (scan_new(s, NULL, &c, NULL) < 0)
		abort();
	for (size_t at = 0; at < BYTES; at += PIECE)
		sink += (uint64_t)scan_piece(c, span_of(data + at, PIECE), &hit);
	scan_free(c);
}

static void part_scrub(void)
{
	struct scrub *c;

	if (scrub_new(s, &c, NULL) < 0)
		abort();
	for (size_t at = 0; at < BYTES; at += PIECE) {
		struct span in = span_of(data + at, PIECE);
		struct span out;

		do {
			if (scrub_piece(c, &in, PIECE, &out) < 0)
				abort();
			sink += out.len;
		} while (in.len > 0 || out.len > 0);
	}
	scrub_free(c);
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a;
	uint64_t y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void measure(const char *name, const char *what, void (*run)(void), unsigned runs)
{
	uint64_t ns[1000];

	run();
	for (unsigned i = 0; i < runs; i++) {
		uint64_t begin = clock_mono_ns();

		run();
		ns[i] = clock_mono_ns() - begin;
	}
	qsort(ns, runs, sizeof(ns[0]), by_size);
	printf("{\"name\": \"vault_%s_%s_mb_s\", \"runs\": %u, \"best\": %.0f, \"p50\": %.0f}\n",
	       name, what, runs, BYTES * 1e3 / (double)ns[0], BYTES * 1e3 / (double)ns[runs / 2]);
}

static void measure_all(unsigned runs)
{
	static const struct {
		const char *name;
		void (*fill)(void);
	} fills[] = {
		{ "random", fill_random },
		{ "text", fill_text },
		{ "json", fill_json },
		{ "base64", fill_base64 },
		{ "beginnings", fill_beginnings },
	};

	for (size_t i = 0; i < sizeof(fills) / sizeof(fills[0]); i++) {
		fills[i].fill();
		measure(fills[i].name, "memcpy", part_memcpy, runs);
		measure(fills[i].name, "memmem", part_memmem, runs);
		measure(fills[i].name, "scan", part_scan, runs);
		measure(fills[i].name, "scrub", part_scrub, runs);
	}
}

int main(int argc, char **argv)
{
	uint64_t runs = RUNS_USUAL;
	char name[32];
	char value[64];

	if (argc > 1 && (!span_to_u64(span_str(argv[1]), &runs) || runs < 1 || runs > 1000))
		return 2;
	data = malloc(BYTES);
	copy = malloc(PIECE);
	if (!data || !copy || store_new(&s, NULL) < 0)
		return 1;
	for (unsigned i = 0; i < 5; i++) {
		(void)snprintf(name, sizeof(name), "NAME_%u", i);
		(void)snprintf(value, sizeof(value), "ghp_%08x%08x%08x%08x%08x", draw(), draw(),
		               draw(), draw(), draw());
		if (store_set(s, span_str(name), span_str(value), NULL) < 0)
			return 1;
	}
	measure_all((unsigned)runs);
	store_free(s);
	free(data);
	free(copy);
	return 0;
}
