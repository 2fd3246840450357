#include "policy/words.h"

#include <string.h>

enum { WORD_MAX = 32 };

static unsigned least(unsigned a, unsigned b, unsigned c)
{
	unsigned m = a < b ? a : b;

	return m < c ? m : c;
}

/* Letters to change, add or drop to make one the other. */
static unsigned distance(struct span a, const char *b, size_t b_len)
{
	unsigned row[WORD_MAX + 1];

	for (unsigned j = 0; j <= b_len; j++)
		row[j] = j;
	for (unsigned i = 1; i <= a.len; i++) {
		unsigned diagonal = row[0];

		row[0] = i;
		for (unsigned j = 1; j <= b_len; j++) {
			unsigned above = row[j];
			unsigned differs = (a.at[i - 1] | 0x20) != ((uint8_t)b[j - 1] | 0x20);

			row[j] = least(above + 1, row[j - 1] + 1, diagonal + differs);
			diagonal = above;
		}
	}
	return row[b_len];
}

const char *words_nearest(struct span got, const char *const *words)
{
	const char *best = NULL;
	unsigned best_distance = WORD_MAX;

	if (got.len == 0 || got.len > WORD_MAX)
		return NULL;
	for (; *words; words++) {
		size_t len = strlen(*words);
		unsigned d;

		if (len > WORD_MAX)
			continue;
		d = distance(got, *words, len);
		if (d <= (len + 2) / 3 && d < best_distance) {
			best = *words;
			best_distance = d;
		}
	}
	return best;
}
