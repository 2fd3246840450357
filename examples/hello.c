/* Runs Python in a fresh sandbox and prints what it says. */
#include <berm.h>
#include <stdio.h>
#include <stdlib.h>

static void must(int r, const struct berm_err *e)
{
	if (r >= 0)
		return;
	fprintf(stderr, "hello: %s\n", e->text);
	exit(1);
}

int main(void)
{
	static const char *const argv[] = {
		"python3",
		"-c",
		"import os; print('hello from', os.uname().nodename)",
		NULL,
	};
	struct berm_command cmd = {
		.size = sizeof(cmd),
		.argv = argv,
		.out = { BERM_STREAM_FD, 1 }, /* our own stdout and stderr */
		.err = { BERM_STREAM_FD, 2 },
	};
	struct berm_result result = { .size = sizeof(result) };
	struct berm_err e = { 0 };
	struct berm_sandbox *sb;
	struct berm_config *c;
	struct berm *b;

	must(berm_new(NULL, NULL, &b, &e), &e);
	must(berm_config_new(&c, &e), &e);
	must(berm_config_set_hostname(c, "sandbox", &e), &e);
	must(berm_config_set_time_limit(c, 60 * 1000, &e), &e);
	must(berm_config_set_command(c, &cmd, &e), &e);
	must(berm_start(b, c, &sb, &e), &e);
	must(berm_wait_ended(sb, -1, &result, &e), &e);
	printf("it %s with %d after %llu ms\n", berm_reason_name(result.reason), result.exit_code,
	       (unsigned long long)result.wall_ms);
	if (result.message[0])
		fprintf(stderr, "hello: %s\n", result.message);
	berm_sandbox_free(sb);
	berm_config_free(c);
	berm_free(b);
	return result.exit_code;
}
