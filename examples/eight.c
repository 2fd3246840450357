/* Eight sandboxes at once, from one thread with one poll(2). */
#include <berm.h>
#include <err.h>
#include <poll.h>
#include <stdio.h>

enum { COUNT = 8 };

static int must(int r, const struct berm_err *e)
{
	if (r < 0)
		errx(1, "%s", e->text);
	return r;
}

/* Takes what a sandbox has to tell now. Returns 1 when it has ended. */
static int serve(struct berm_sandbox *sb, struct pollfd *fd)
{
	struct berm_event ev = { .size = sizeof(ev) };
	struct berm_err e = { 0 };
	char text[4096];
	ssize_t n;

	while (must(berm_next_event(sb, &ev, &e), &e) && ev.kind != BERM_EVENT_ENDED)
		while (ev.kind == BERM_EVENT_OUTPUT &&
		       (n = berm_read(ev.process, ev.stream, text, sizeof(text), 0, &e)) > 0)
			printf("%s: %.*s", berm_sandbox_id(sb), (int)n, text);
	if (ev.kind != BERM_EVENT_ENDED)
		return 0;
	fd->fd = -1;
	berm_sandbox_free(sb);
	return 1;
}

int main(void)
{
	static const char *const argv[] = { "sh", "-c", "echo I am on $(hostname)", NULL };
	struct berm_command cmd = { .size = sizeof(cmd),
		                    .argv = argv,
		                    .out.kind = BERM_STREAM_PIPE };
	struct berm_sandbox *sandboxes[COUNT];
	struct pollfd fds[COUNT];
	struct berm_err e = { 0 };
	struct berm_config *c;
	struct berm *b;

	must(berm_new(NULL, NULL, &b, &e), &e);
	must(berm_config_new(&c, &e), &e);
	must(berm_config_set_command(c, &cmd, &e), &e);
	for (int i = 0; i < COUNT; i++) {
		must(berm_start(b, c, &sandboxes[i], &e), &e);
		fds[i] = (struct pollfd){ must(berm_event_fd(sandboxes[i], &e), &e), POLLIN, 0 };
	}
	for (int left = COUNT; left > 0 && poll(fds, COUNT, -1) > 0;)
		for (int i = 0; i < COUNT; i++)
			left -= fds[i].revents ? serve(sandboxes[i], &fds[i]) : 0;
	berm_config_free(c);
	berm_free(b);
}
