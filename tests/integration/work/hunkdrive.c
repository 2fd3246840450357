/*
 * hunkdrive: merges three texts as a review would.
 *
 *     hunkdrive BERM-DIFF BASE HOST GUEST [CHOSEN]
 *
 * CHOSEN is a '0' or '1' for each of the guest's hunks. The result is on stdout, a letter for each
 * hunk on stderr: '-', 'T'aken, 'S'ame, 'C'onflict. Exit 2 with "ERRNO TEXT" on a failure.
 */
#include "base/fdio.h"
#include "work/hunk_job.h"
#include "work/merge.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct side {
	char *bytes;
	struct hunk_text *text;
};

static int load(const char *path, struct side *ret, struct err *e)
{
	size_t len;
	int r = fd_read_file(AT_FDCWD, path, HUNK_TEXT_MAX, &ret->bytes, &len, e);

	return r < 0 ? r : hunk_text_new(span_of(ret->bytes, len), &ret->text, e);
}

static int merge(const struct merge_in *in, struct err *e)
{
	_own_free_ uint8_t *fates = calloc(in->to_guest->count + 1, 1);
	_own_free_ uint8_t *room = malloc(merge_bytes_max(in) + 1);
	struct buf out;

	if (fates == NULL || room == NULL)
		return err_set(e, -ENOMEM, "no memory");
	(void)merge_fates(in, fates);
	for (uint32_t i = 0; i < in->to_guest->count; i++)
		(void)fputc("-TSC"[fates[i]], stderr);
	buf_init(&out, room, merge_bytes_max(in));
	merge_put(in, fates, &out);
	return fwrite(out.at, 1, out.len, stdout) == out.len ? 0 : err_set(e, -EIO, "stdout");
}

static int run(int argc, char **argv, struct side *s, struct err *e)
{
	_own_(hunks_free) struct hunks *to_host = NULL, *to_guest = NULL;
	_own_free_ uint8_t *chosen = NULL;
	int r = 0;

	for (int i = 0; r == 0 && i < 3; i++)
		r = load(argv[i + 2], &s[i], e);
	if (r == 0)
		r = hunk_compare(argv[1], s[0].text, s[1].text, &to_host, e);
	if (r == 0)
		r = hunk_compare(argv[1], s[0].text, s[2].text, &to_guest, e);
	if (r < 0)
		return r;
	if (argc == 6 && strlen(argv[5]) == to_guest->count) {
		chosen = calloc(to_guest->count + 1, 1);
		for (uint32_t i = 0; chosen != NULL && i < to_guest->count; i++)
			chosen[i] = argv[5][i] == '1';
	}
	return merge(
		&(struct merge_in){ s[0].text, s[1].text, s[2].text, to_host, to_guest, chosen },
		e);
}

int main(int argc, char **argv)
{
	struct side sides[3] = { { 0 } };
	struct err e = { 0 };
	int r;

	if (argc < 5)
		return 2;
	r = run(argc, argv, sides, &e);
	for (int i = 0; i < 3; i++) {
		hunk_text_free(sides[i].text);
		free(sides[i].bytes);
	}
	if (r == 0)
		return 0;
	(void)fprintf(stderr, "%d %s\n", -e.code, e.text);
	return 2;
}
