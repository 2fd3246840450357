#include "engine/engine.h"

#include "base/fdio.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

void engine_add(struct engine_args *a, const char *fmt, ...)
{
	char *at = a->text + a->used;
	size_t room = sizeof(a->text) - a->used;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(at, room, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= room || a->count >= ENGINE_ARGS_MAX) {
		a->over = true;
		return;
	}
	a->list[a->count++] = at;
	a->used += (size_t)n + 1;
}

int engine_pipe(int *ret_read, int *ret_write, struct err *e)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_sys(e, "pipe");
	*ret_read = fds[0];
	*ret_write = fds[1];
	return 0;
}

int engine_pair(int type, int *ret_ours, int *ret_theirs, struct err *e)
{
	int fds[2];

	if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) < 0)
		return err_sys(e, "socketpair");
	*ret_ours = fds[0];
	*ret_theirs = fds[1];
	return 0;
}

void engine_vm_init(struct engine_vm *vm)
{
	*vm = (struct engine_vm){
		.pid = -1, .pidfd = -1, .agent_fd = -1, .control_fd = -1, .log_fd = -1
	};
}

void engine_vm_close(struct engine_vm *vm)
{
	if (vm->pid > 0) {
		(void)kill(vm->pid, SIGKILL);
		while (waitpid(vm->pid, NULL, 0) < 0 && errno == EINTR)
			;
		vm->pid = -1;
	}
	own_close_fd(&vm->pidfd);
	own_close_fd(&vm->agent_fd);
	own_close_fd(&vm->control_fd);
	own_close_fd(&vm->log_fd);
	vm->pidfd = vm->agent_fd = vm->control_fd = vm->log_fd = -1;
}

void engine_vm_close_scope(struct engine_vm *vm)
{
	engine_vm_close(vm);
}

bool engine_heard_full(const struct engine_vm *vm)
{
	struct engine_news news = { 0 };

	if (vm->control_fd < 0 || !vm->ops->hush)
		return false;
	for (int i = 0; i < ENGINE_HUSH_MAX && vm->ops->hush(vm, &news); i++)
		continue;
	return news.full;
}

const char *engine_death(const struct engine_vm *vm)
{
	struct pollfd p = { .fd = vm->pidfd, .events = POLLIN };
	siginfo_t si = { 0 };

	if (vm->pid <= 0 || poll(&p, 1, ENGINE_DEATH_MS) <= 0 ||
	    waitid(P_PID, (id_t)vm->pid, &si, WEXITED | WNOWAIT | WNOHANG) < 0 || si.si_pid == 0 ||
	    si.si_code == CLD_EXITED)
		return "";
	/* a page of a mapped file that cannot be had: on tmpfs even a read of a hole takes one */
	if (si.si_status == SIGBUS)
		return ", as the disk with berm's state is full or failing";
	if (si.si_status == SIGSYS)
		return ", killed for a system call its jail forbids";
	return si.si_status == SIGKILL ? ", killed by the host" : ", of a crash";
}
