/*
 * Warms up Python once and forks ten children from it as it runs: each has all that was computed,
 * and answers its own question.
 */
#include <berm.h>
#include <stdio.h>
#include <stdlib.h>

enum { CHILDREN = 10, WAIT_MS = 60000 };

static void must(long r, const struct berm_err *e)
{
	if (r >= 0)
		return;
	fprintf(stderr, "fork: %s\n", e->text);
	exit(1);
}

int main(void)
{
	static const char *const argv[] = {
		"python3",
		"-c",
		"squares = {n: n * n for n in range(100000)}; print('warm', flush=True);"
		"print(squares[int(input())])",
		NULL,
	};
	struct berm_command cmd = { .size = sizeof(cmd), .argv = argv };
	struct berm_sandbox *parent, *kids[CHILDREN];
	struct berm_err e = { 0 };
	struct berm_config *c;
	struct berm *b;
	char text[64];

	cmd.in.kind = cmd.out.kind = BERM_STREAM_PIPE;
	must(berm_new(NULL, NULL, &b, &e), &e);
	must(berm_config_new(&c, &e), &e);
	must(berm_config_set_command(c, &cmd, &e), &e);
	must(berm_start(b, c, &parent, &e), &e);
	must(berm_read(berm_main(parent), BERM_STDOUT, text, sizeof(text), -1, &e), &e);
	must(berm_fork(parent, CHILDREN, WAIT_MS, kids, &e), &e);
	for (int i = 0; i < CHILDREN; i++) { /* ten questions, and only then ten answers */
		int len = snprintf(text, sizeof(text), "%d\n", 100 + i);
		must(berm_write(berm_main(kids[i]), text, (size_t)len, WAIT_MS, &e), &e);
	}
	for (int i = 0; i < CHILDREN; i++) {
		ssize_t n;
		printf("%s: the square of %d is ", berm_sandbox_id(kids[i]), 100 + i);
		while ((n = berm_read(berm_main(kids[i]), BERM_STDOUT, text, sizeof(text), WAIT_MS,
		                      &e)) > 0)
			fwrite(text, 1, (size_t)n, stdout);
		must(n, &e);
		berm_sandbox_free(kids[i]);
	}
	berm_sandbox_free(parent);
	berm_config_free(c);
	berm_free(b);
	return 0;
}
