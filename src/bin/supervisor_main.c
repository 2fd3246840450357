/*
 * berm-supervisor: lives as long as one sandbox. Started by a command, which may go away.
 *
 * fds: see lib/start.h. What happens is told on the control socket; the exit status says nothing.
 */
#include "base/clock.h"
#include "base/fdio.h"
#include "base/log.h"
#include "lib/start.h"
#include "state/state.h"
#include "sup/sup.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static int read_spec(struct sup *s, struct err *e)
{
	ssize_t n;

	s->spec_bytes = malloc(SPEC_BYTES_MAX);
	if (!s->spec_bytes)
		return err_set(e, -ENOMEM, "out of memory");
	n = pread(START_FD_SPEC, s->spec_bytes, SPEC_BYTES_MAX, 0);
	if (n < 0)
		return err_sys(e, "read the specification");
	return spec_parse(s->spec_bytes, (size_t)n, &s->spec, &s->spec_lists, e);
}

static void init(struct sup *s, const char *id)
{
	s->state = SUP_STARTING;
	s->started_ms = clock_mono_ms();
	s->id = id;
	s->state_fd = START_FD_STATE;
	s->dir_fd = START_FD_SANDBOX;
	s->disk_fd = START_FD_DISK;
	s->lock_fd = START_FD_LOCK;
	s->listen_fd = s->cpu_fd = s->status_fd = s->templates_fd = s->scratch_fd = -1;
	s->next_agent_id = SUP_MAIN_STREAM;
	s->result.created_ns = clock_real_ns();
	engine_vm_init(&s->vm);
	guest_files_init(&s->files);
	sup_egress_init(s);
	sup_session_init(s);
	sup_save_init(s);
	buf_init(&s->said, s->words, sizeof(s->words));
	(void)snprintf(s->result.id, sizeof(s->result.id), "%s", id);
}

static int prepare(struct sup *s, struct err *e)
{
	int r = read_spec(s, e);

	if (r < 0)
		return r;
	(void)snprintf(s->result.name, sizeof(s->result.name), "%s",
	               s->spec.name ? s->spec.name : "");
	(void)snprintf(s->result.image, sizeof(s->result.image), "%s", s->spec.image);
	r = paths_find_parts(&s->paths, e);
	return r == 0 ? sup_start(s, e) : r;
}

/* No loop ran: the caller is told on its socket, which blocks for nobody as it is empty. */
static void end_before_loop(struct sup *s, const struct err *e)
{
	s->result.reason = RESULT_NOT_STARTED;
	s->result.exit_code = 125;
	(void)snprintf(s->result.message, sizeof(s->result.message), "%s", e->text);
	s->state = SUP_ENDING;
	sup_cleanup(s);
	sup_tell_end(s);
	if (s->owner && link_flush(s->owner->link) < 0)
		return;
}

int main(int argc, char **argv)
{
	struct sup *s = calloc(1, sizeof(*s)); /* ends with the process: every end is an exit */
	struct err e = { 0 };
	struct sigaction ignore = { .sa_handler = SIG_IGN };

	log_init("berm-supervisor");
	if (argc != 2 || !s) {
		log_error("it is started by berm itself: see 'berm run --help'");
		return 125;
	}
	for (int fd = START_FD_CONTROL; fd < START_FD_COUNT; fd++)
		(void)fd_set_cloexec(fd, true);
	(void)sigaction(SIGPIPE, &ignore, NULL);
	(void)sigaction(SIGXFSZ, &ignore, NULL);    /* a user's limit: EFBIG says it better */
	(void)setenv("UV_THREADPOOL_SIZE", "1", 1); /* one piece of work at a time */
	init(s, argv[1]);
	s->owner = sup_add_client(s, START_FD_CONTROL, true, &e);
	if (!s->owner || prepare(s, &e) < 0) {
		log_debug("%s", e.text);
		end_before_loop(s, &e);
		return 125;
	}
	if (sup_loop(s, &e) < 0) {
		log_debug("%s", e.text);
		end_before_loop(s, &e);
		return 125;
	}
	return 0;
}
