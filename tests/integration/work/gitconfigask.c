/*
 * gitconfigask: what we read in a git configuration, for tests that ask git as well.
 *
 *	gitconfigask list FILE           each item as "section.sub.key\nvalue\0", as git does
 *	gitconfigask clean FILE DEPTH    what may enter a guest; what does not, on stderr
 *
 * Exits with 1 for what is no configuration.
 */
#include "work/gitconfig.h"

#include "base/fdio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static void put(FILE *to, struct span s)
{
	(void)fwrite(s.at, 1, s.len, to);
}

static void put_name(FILE *to, const struct gitconfig_item *i)
{
	put(to, i->section);
	if (i->has_sub) {
		(void)fputc('.', to);
		put(to, i->sub);
	}
	(void)fputc('.', to);
	put(to, i->key);
}

static int list(struct span text)
{
	struct gitconfig_reader reader;
	struct gitconfig_item item;
	int r;

	gitconfig_begin(&reader, text);
	while ((r = gitconfig_next(&reader, &item)) == 0) {
		put_name(stdout, &item);
		if (item.has_value) {
			(void)fputc('\n', stdout);
			put(stdout, item.value);
		}
		(void)fputc('\0', stdout);
	}
	return r == -ENODATA ? 0 : 1;
}

static void dropped(void *arg, const struct gitconfig_item *item, enum gitconfig_why why)
{
	(void)arg;
	put_name(stderr, item);
	(void)fprintf(stderr, ": %s\n", gitconfig_why_text(why));
}

static int clean(struct span text, const char *depth)
{
	static uint8_t storage[2 * GITCONFIG_FILE_MAX];
	struct buf out;
	uint64_t n;
	struct err e;

	if (!span_to_u64(span_str(depth), &n))
		return 2;
	buf_init(&out, storage, sizeof(storage));
	if (gitconfig_clean(text, (unsigned)n, &out, dropped, NULL, &e) < 0) {
		(void)fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	put(stdout, buf_span(&out));
	return 0;
}

int main(int argc, char **argv)
{
	_own_free_ char *text = NULL;
	size_t len;
	struct err e;

	if (argc < 3 || fd_read_file(AT_FDCWD, argv[2], GITCONFIG_FILE_MAX, &text, &len, &e) < 0)
		return 2;
	if (argc == 4 && strcmp(argv[1], "clean") == 0)
		return clean(span_of(text, len), argv[3]);
	return list(span_of(text, len));
}
