/*
 * ignoreask: what a file of patterns says of paths, for tests that know the answer from elsewhere.
 *
 *	ignoreask PATTERNS
 *
 * Standard input has a path a line, "d " or "f " before it: a directory or a file. Each is answered
 * with a line: 1 if a walk from the root would leave it out, else 0.
 */
#include "work/ignore.h"

#include "base/fdio.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool left_out(const struct ignore_set *s, struct span path, bool is_dir)
{
	for (size_t i = 0; i < path.len; i++) {
		if (path.at[i] == '/' &&
		    ignore_ask(s, span_of(path.at, i), true).verdict == IGNORE_EXCLUDED)
			return true;
	}
	return ignore_ask(s, path, is_dir).verdict == IGNORE_EXCLUDED;
}

static int load(const char *path, struct ignore_set *s, struct err *e)
{
	_own_free_ char *text = NULL;
	size_t len;
	int r = fd_read_file(AT_FDCWD, path, IGNORE_FILE_MAX, &text, &len, e);

	return r < 0 ? r : ignore_add(s, span_str(""), path, span_of(text, len), NULL, e);
}

int main(int argc, char **argv)
{
	_own_(ignore_set_free) struct ignore_set *s = NULL;
	_own_free_ char *line = NULL;
	size_t cap = 0;
	struct err e;

	if (argc != 2 || ignore_set_new(&s, &e) < 0 || load(argv[1], s, &e) < 0)
		return 1;
	for (ssize_t n; (n = getline(&line, &cap, stdin)) > 3;)
		(void)puts(left_out(s, span_of(line + 2, (size_t)n - 3), line[0] == 'd') ? "1"
		                                                                         : "0");
	return 0;
}
