/*
 * exportdrive DIR OUT: what the guest's agent sends of an upper layer, from this kernel's own.
 */
#include "agent/export.h"
#include "base/fdio.h"

#include <fcntl.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	_own_fd_ int dir_fd = -1;
	_own_fd_ int out_fd = -1;
	struct err e = { 0 };
	int r = argc == 3 ? fd_open(argv[1], O_RDONLY | O_DIRECTORY, 0, &dir_fd, &e) : -1;

	if (r == 0)
		r = fd_open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0600, &out_fd, &e);
	if (r == 0)
		r = export_tree(dir_fd, out_fd, "trusted.overlay.", &e);
	if (r < 0)
		(void)fprintf(stderr, "%s\n", e.text);
	return r < 0;
}
