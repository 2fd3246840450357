#include "term/term.h"

#include "base/buf.h"
#include "term/crash.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

static int change(struct term *t, int fd, bool raw, struct err *e)
{
	struct termios wanted;

	if (t->raw || tcgetattr(fd, &t->saved) < 0)
		return 0;
	t->fd = fd;
	crash_watch(fd, &t->saved, span_of("", 0));
	wanted = t->saved;
	if (raw)
		cfmakeraw(&wanted);
	else
		wanted.c_lflag &= ~(tcflag_t)ECHO;
	/* what was typed before the question is no answer to it */
	if (tcsetattr(fd, raw ? TCSADRAIN : TCSAFLUSH, &wanted) < 0)
		return err_sys(e, "set the terminal");
	t->raw = true;
	return 0;
}

int term_raw(struct term *t, int fd, struct err *e)
{
	return change(t, fd, true, e);
}

int term_blind(struct term *t, int fd, struct err *e)
{
	return change(t, fd, false, e);
}

void term_restore(struct term *t)
{
	if (!t->raw)
		return;
	/* DRAIN would wait for ever on a terminal stopped by ctrl-s */
	(void)tcsetattr(t->fd, TCSANOW, &t->saved);
	t->raw = false;
	crash_forget();
}

bool term_size(int fd, uint16_t *ret_rows, uint16_t *ret_cols)
{
	struct winsize w;

	if (ioctl(fd, TIOCGWINSZ, &w) < 0 || w.ws_row == 0 || w.ws_col == 0)
		return false;
	*ret_rows = w.ws_row;
	*ret_cols = w.ws_col;
	return true;
}

bool term_foreground(int fd)
{
	return tcgetpgrp(fd) == getpgrp();
}

static void draw(const char *bytes, size_t len)
{
	/* decoration: nobody is told when it cannot be drawn */
	if (write(STDERR_FILENO, bytes, len) < 0)
		return;
}

void spinner_tick(struct spinner *s)
{
	static const char marks[] = "|/-\\";
	char storage[sizeof(s->text) + 16];
	uint16_t rows;
	uint16_t cols = TERM_COLS_DEFAULT;
	struct buf b;

	if (!s->enabled || !s->text[0])
		return;
	(void)term_size(STDERR_FILENO, &rows, &cols);
	buf_init(&b, storage, sizeof(storage));
	buf_printf(&b, "\r\033[K%c %.*s", marks[s->step++ % (sizeof(marks) - 1)],
	           cols > 3 ? cols - 3 : 0, s->text);
	draw(storage, b.len);
	s->shown = true;
}

void spinner_say(struct spinner *s, struct span text)
{
	struct buf b;

	if (text.len > SPINNER_TEXT_MAX)
		text.len = SPINNER_TEXT_MAX;
	buf_init(&b, s->text, sizeof(s->text));
	buf_put_escaped(&b, text);
	(void)buf_cstr(&b);
	spinner_tick(s);
}

void spinner_clear(struct spinner *s)
{
	static const char wipe[] = "\r\033[K";

	if (s->shown)
		draw(wipe, sizeof(wipe) - 1);
	s->shown = false;
	s->text[0] = '\0';
}
