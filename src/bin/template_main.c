/*
 * berm-template: builds one template and ends. Started by a supervisor, which may kill it.
 *
 *	berm-template qemu|kvm [learn]
 *
 * learn: the template is there, and which of its pages its guests need first is written to it.
 *
 * fds: see sup/build.h. Exit 0: the template is there. Else the reason is on BUILD_FD_REPORT.
 */
#include "base/fdio.h"
#include "base/log.h"
#include "sup/build.h"

#include <errno.h>
#include <string.h>

static int build(const struct engine_ops *engine, bool learn, struct err *e)
{
	_own_free_ char *bytes = malloc(SPEC_BYTES_MAX);
	_own_free_ void *lists = NULL;
	struct paths paths;
	struct spec spec;
	ssize_t n;
	int r = paths_find_parts(&paths, e);

	if (r < 0)
		return r;
	if (!bytes)
		return err_set(e, -ENOMEM, "out of memory");
	n = pread(BUILD_FD_SPEC, bytes, SPEC_BYTES_MAX, 0);
	if (n < 0)
		return err_sys(e, "read the specification");
	r = spec_parse(bytes, (size_t)n, &spec, &lists, e);
	if (r < 0)
		return r;
	return (learn ? build_learn : build_template)(&paths, &spec, engine, BUILD_FD_TEMPLATES,
	                                              BUILD_FD_IMAGE, e);
}

int main(int argc, char **argv)
{
	const struct engine_ops *engine =
		argc > 1 && strcmp(argv[1], engine_kvm.name) == 0 ? &engine_kvm : &engine_qemu;
	bool learn = argc > 2 && strcmp(argv[2], "learn") == 0;
	struct err e = { 0 };

	log_init("berm-template");
	for (int fd = BUILD_FD_REPORT; fd < BUILD_FD_COUNT; fd++)
		(void)fd_set_cloexec(fd, true);
	if (build(engine, learn, &e) == 0)
		return 0;
	/* nobody left to tell if the supervisor is gone */
	return fd_write_all(BUILD_FD_REPORT, e.text, e.len, NULL) < 0 ? 2 : 1;
}
