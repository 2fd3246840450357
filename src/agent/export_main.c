#include "agent/export.h"
#include "agent/report.h"
#include "base/fdio.h"

#include <fcntl.h>
#include <stdio.h>

/* PID 1 keeps the upper layer open: there need not be a path to it, nor one that is still there. */
void export_main(int agents_fd)
{
	struct err e = { 0 };
	char path[40];
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/1/fd/%d", agents_fd);
	if (fd_open(path, O_RDONLY | O_DIRECTORY, 0, &fd, &e) < 0)
		report_err(&e, WIRE_AT_PATH);
	if (export_tree(fd, STDOUT_FILENO, "trusted.overlay.", &e) < 0)
		report_err(&e, WIRE_AT_PATH);
	report_end(0, WIRE_AT_NONE, "");
}
