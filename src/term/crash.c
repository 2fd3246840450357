#include "term/crash.h"

#include "base/own.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

/*
 * What a handler needs cannot hang off an argument: it has none. Written while no handler is in
 * place, and read by it only.
 */
static struct {
	int fd;
	struct termios saved;
	size_t len;
	char bytes[CRASH_BYTES_MAX];
	_Alignas(16) char stack[CRASH_STACK_BYTES];
} crash_state = { .fd = -1 };

/* Faults, and limits of the kernel's: what people send has its own way (session.c). */
static const int crash_signals[] = { SIGSEGV, SIGBUS,  SIGILL,  SIGFPE, SIGABRT,
	                             SIGSYS,  SIGTRAP, SIGXCPU, SIGXFSZ };

enum { CRASH_SIGNALS = sizeof(crash_signals) / sizeof(crash_signals[0]) };

/* tcsetattr and write are safe to call here (signal-safety(7)). */
static void on_crash(int sig)
{
	if (crash_state.fd >= 0) {
		(void)tcsetattr(crash_state.fd, TCSANOW, &crash_state.saved);
		(void)!write(crash_state.fd, crash_state.bytes, crash_state.len);
	}
	crash_state.fd = -1; /* a fault of ours in here does not come here again */
	(void)raise(sig);    /* SA_RESETHAND: the default action, once this handler returns */
}

static void handle(bool on)
{
	for (unsigned i = 0; i < CRASH_SIGNALS; i++) {
		struct sigaction sa = { .sa_handler = on ? on_crash : SIG_DFL };
		struct sigaction was;

		sa.sa_flags = on ? (int)SA_RESETHAND | SA_ONSTACK : 0;
		/* somebody's SIG_IGN (nohup) and a sanitizer's handler stay */
		if (sigaction(crash_signals[i], NULL, &was) == 0 &&
		    (was.sa_handler == SIG_DFL || was.sa_handler == on_crash))
			(void)sigaction(crash_signals[i], &sa, NULL);
	}
}

void crash_watch(int tty_fd, const struct termios *saved, struct span bytes)
{
	const stack_t stack = { .ss_sp = crash_state.stack, .ss_size = CRASH_STACK_BYTES };
	stack_t was;

	crash_forget();
	crash_state.saved = *saved;
	crash_state.len = bytes.len <= CRASH_BYTES_MAX ? bytes.len : 0;
	if (crash_state.len > 0)
		memcpy(crash_state.bytes, bytes.at, crash_state.len);
	crash_state.fd = tty_fd;
	/* a sanitizer has its own, and keeps it */
	if (sigaltstack(NULL, &was) == 0 && (was.ss_flags & SS_DISABLE))
		(void)sigaltstack(&stack, NULL);
	handle(true);
}

void crash_forget(void)
{
	if (crash_state.fd < 0)
		return;
	handle(false);
	crash_state.fd = -1;
}
