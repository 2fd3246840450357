#include "screen/tui_term.h"

#include "base/buf.h"
#include "term/crash.h"

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <ncursesw/curses.h>
#include <ncursesw/term.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <wchar.h>

enum {
	ESCAPE_MS = 100,   /* a key's sequence may come in pieces over ssh */
	SEQUENCE_MAX = 32, /* bytes of a key that nobody knows */
	EMPTY_READS = 4,   /* readable, and nothing there: its other end is gone */
	CTRL_D = 'd' & 31,
	CTRL_L = 'l' & 31,
	ESC = 27,
	DEL = 127,
};

struct tui_term {
	SCREEN *screen;
	int signal_fd;
	sigset_t before;
	bool blocked;
	bool colour, utf8;
	unsigned empty; /* reads in a row that gave nothing */
};

int tui_term_check(const char *term, struct err *e)
{
	int status = 0;

	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
		return err_set(e, -ENOTTY, "there is no terminal");
	if (!term || !*term || strcmp(term, "dumb") == 0)
		return err_set(e, -ENOTSUP, "the terminal cannot be drawn on (TERM is %s)",
		               term && *term ? "dumb" : "not set");
	if (setupterm(term, STDOUT_FILENO, &status) != OK)
		return err_set(e, -ENOTSUP, "nothing is known of this terminal (TERM)");
	if (!cursor_address || !clear_screen)
		return err_set(e, -ENOTSUP, "the terminal cannot be drawn on (TERM)");
	return 0;
}

/* --- taking it and giving it back --- */

static int block_signals(struct tui_term *t, struct err *e)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH };
	sigset_t set;

	(void)sigemptyset(&set);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		(void)sigaddset(&set, signals[i]);
	if (sigprocmask(SIG_BLOCK, &set, &t->before) < 0)
		return err_sys(e, "block signals");
	t->blocked = true;
	t->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return t->signal_fd < 0 ? err_sys(e, "signalfd") : 0;
}

static void set_colours(struct tui_term *t)
{
	static const struct {
		short pair, colour;
	} rows[] = {
		{ VIEW_ADDED, COLOR_GREEN }, { VIEW_REMOVED, COLOR_RED },
		{ VIEW_HOST, COLOR_YELLOW }, { VIEW_HUNK, COLOR_CYAN },
		{ VIEW_WARN, COLOR_RED },    { VIEW_ESCAPED, COLOR_MAGENTA },
		{ VIEW_TITLE, COLOR_CYAN },
	};

	if (!t->colour || !has_colors() || start_color() == ERR) {
		t->colour = false;
		return;
	}
	(void)use_default_colors();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		(void)init_pair(rows[i].pair, rows[i].colour, -1);
}

/* The arrows as they come from terminals that heed no keypad mode. */
static void know_arrows(void)
{
	static const struct {
		const char *bytes;
		int code;
	} rows[] = {
		{ "\x1b[A", KEY_UP },   { "\x1b[B", KEY_DOWN }, { "\x1b[C", KEY_RIGHT },
		{ "\x1b[D", KEY_LEFT }, { "\x1b[H", KEY_HOME }, { "\x1b[F", KEY_END },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (key_defined(rows[i].bytes) == 0)
			(void)define_key(rows[i].bytes, rows[i].code);
}

/* Without its padding, "$<5>", which is for terminals that printed on paper: terminfo(5). */
static void put_capability(struct buf *b, const char *text)
{
	for (; text && *text; text++) {
		const char *end = text[0] == '$' && text[1] == '<' ? strchr(text, '>') : NULL;

		if (end)
			text = end;
		else
			buf_put_u8(b, (uint8_t)*text);
	}
}

/* endwin() is none of the functions that a handler may call: its bytes are made before. */
static void watch_crashes(void)
{
	char storage[CRASH_BYTES_MAX];
	struct termios saved;
	struct buf b;

	if (tcgetattr(STDOUT_FILENO, &saved) < 0)
		return;
	buf_init(&b, storage, sizeof(storage));
	put_capability(&b, exit_attribute_mode);
	put_capability(&b, orig_pair);
	put_capability(&b, keypad_local);
	put_capability(&b, cursor_normal);
	put_capability(&b, exit_ca_mode);
	buf_put_str(&b, "\nberm: a fault ended the review; what was decided is kept\n");
	crash_watch(STDOUT_FILENO, &saved, buf_ok(&b) ? buf_span(&b) : span_of("", 0));
}

int tui_term_open(bool colour, struct tui_term **ret, struct err *e)
{
	_own_(tui_term_free) struct tui_term *t = calloc(1, sizeof(*t));
	TERMINAL *checked;
	int r;

	if (!t)
		return err_set(e, -ENOMEM, "out of memory");
	t->signal_fd = -1;
	t->colour = colour;
	r = block_signals(t, e);
	if (r < 0)
		return r;
	(void)setlocale(LC_CTYPE, "");
	t->utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
	watch_crashes();
	checked = cur_term;
	t->screen = newterm(NULL, stdout, stdin);
	if (!t->screen)
		return err_set(e, -ENOTSUP, "the terminal cannot be drawn on (TERM)");
	if (checked && checked != cur_term)
		(void)del_curterm(checked); /* tui_term_check()'s: newterm() has its own */
	(void)cbreak();
	(void)noecho();
	(void)nonl();
	(void)intrflush(stdscr, FALSE);
	(void)keypad(stdscr, TRUE);
	(void)nodelay(stdscr, TRUE);
	(void)leaveok(stdscr, FALSE);
	(void)set_escdelay(ESCAPE_MS);
	know_arrows();
	set_colours(t);
	*ret = steal_ptr(&t);
	return 0;
}

void tui_term_free(struct tui_term *t)
{
	if (!t)
		return;
	if (t->screen) {
		(void)endwin();
		delscreen(t->screen);
	}
	crash_forget();
	own_close_fd(&t->signal_fd);
	if (t->blocked)
		(void)sigprocmask(SIG_SETMASK, &t->before, NULL);
	(void)setlocale(LC_CTYPE, "C");
	free(t);
}

void tui_term_size(const struct tui_term *t, unsigned *ret_rows, unsigned *ret_cols)
{
	(void)t;
	*ret_rows = (unsigned)getmaxy(stdscr);
	*ret_cols = (unsigned)getmaxx(stdscr);
}

shown_width_fn *tui_term_width(const struct tui_term *t)
{
	return t->utf8 ? shown_wcwidth : NULL;
}

/* --- showing --- */

static attr_t attributes_of(uint8_t style)
{
	switch ((enum view_style)style) {
	case VIEW_DIM:
		return A_DIM;
	case VIEW_BOLD:
	case VIEW_TITLE:
	case VIEW_WARN:
	case VIEW_CURSOR:
		return A_BOLD;
	case VIEW_OURS:
	case VIEW_FOUND:
		return A_REVERSE;
	case VIEW_ESCAPED:
		return A_UNDERLINE;
	case VIEW_PLAIN:
	case VIEW_ADDED:
	case VIEW_REMOVED:
	case VIEW_HOST:
	case VIEW_HUNK:
	case VIEW_STYLES:
		break;
	}
	return A_NORMAL;
}

static short pair_of(const struct tui_term *t, uint8_t style)
{
	bool coloured = style == VIEW_TITLE || style == VIEW_WARN ||
	                (style >= VIEW_ADDED && style <= VIEW_HUNK) || style == VIEW_ESCAPED;

	return t->colour && coloured ? style : 0;
}

static void show_cell(const struct tui_term *t, int row, int col, const struct view_cell *cell)
{
	wchar_t text[2] = { (wchar_t)cell->c, L'\0' };
	cchar_t out;

	if (cell->c == 0) /* the one before is two columns wide */
		return;
	if (setcchar(&out, text, attributes_of(cell->style), pair_of(t, cell->style), NULL) == ERR)
		return;
	/* the last cell of the screen is drawn and answers ERR: the cursor cannot go on */
	(void)mvadd_wch(row, col, &out);
}

void tui_term_forget(struct tui_term *t)
{
	(void)t;
	(void)clearok(stdscr, TRUE);
}

void tui_term_show(struct tui_term *t, const struct view_canvas *c)
{
	(void)erase();
	for (unsigned row = 0; row < c->rows; row++)
		for (unsigned col = 0; col < c->cols; col++)
			show_cell(t, (int)row, (int)col, view_canvas_at(c, row, col));
	/* whatever a terminal made of the rows above it, this one is sent again */
	if (c->rows > 0)
		(void)wredrawln(stdscr, (int)c->rows - 1, 1);
	(void)curs_set(c->cursor ? 1 : 0);
	if (c->cursor)
		(void)move((int)c->cursor_row, (int)c->cursor_col);
	else if (c->rows > 0)
		(void)move((int)c->rows - 1, 0);
	(void)refresh();
}

/* --- keys --- */

static uint32_t of_code(wint_t code)
{
	static const struct {
		wint_t code;
		uint32_t key;
	} rows[] = {
		{ KEY_UP, TUI_KEY_UP },         { KEY_DOWN, TUI_KEY_DOWN },
		{ KEY_LEFT, TUI_KEY_LEFT },     { KEY_RIGHT, TUI_KEY_RIGHT },
		{ KEY_PPAGE, TUI_KEY_PAGE_UP }, { KEY_NPAGE, TUI_KEY_PAGE_DOWN },
		{ KEY_HOME, TUI_KEY_HOME },     { KEY_END, TUI_KEY_END },
		{ KEY_ENTER, TUI_KEY_ENTER },   { KEY_BACKSPACE, TUI_KEY_BACKSPACE },
		{ KEY_BTAB, TUI_KEY_BACK_TAB }, { KEY_RESIZE, TUI_KEY_RESIZE },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].code == code)
			return rows[i].key;
	return TUI_KEY_OTHER;
}

static uint32_t of_char(wint_t c)
{
	switch (c) {
	case '\r':
	case '\n':
		return TUI_KEY_ENTER;
	case '\b':
	case DEL:
		return TUI_KEY_BACKSPACE;
	case CTRL_D:
		return TUI_KEY_LEAVE;
	case CTRL_L:
		return TUI_KEY_REDRAW;
	default:
		return (uint32_t)c;
	}
}

/*
 * A key that nobody knows comes as ESC and more: without this its rest would be taken for keys of
 * ours. ESC alone is the key of that name.
 */
static uint32_t of_escape(void)
{
	wint_t c = 0;

	if (wget_wch(stdscr, &c) != OK)
		return TUI_KEY_ESCAPE;
	if (c != '[' && c != 'O')
		return TUI_KEY_OTHER;
	for (unsigned i = 0; i < SEQUENCE_MAX; i++)
		if (wget_wch(stdscr, &c) != OK || (c >= '@' && c <= '~'))
			break;
	return TUI_KEY_OTHER;
}

/* Stops as ctrl-z says, and takes the terminal again when it goes on. */
static void stop_here(void)
{
	(void)endwin();
	(void)raise(SIGSTOP);
	(void)clearok(stdscr, TRUE);
	(void)refresh();
}

static uint32_t of_signal(const struct tui_term *t)
{
	struct signalfd_siginfo si;
	struct winsize size;

	if (read(t->signal_fd, &si, sizeof(si)) != (ssize_t)sizeof(si))
		return TUI_KEY_OTHER;
	if (si.ssi_signo == SIGTSTP)
		stop_here();
	else if (si.ssi_signo != SIGWINCH)
		return TUI_KEY_LEAVE;
	/* term.h of this folder and that of curses have a struct of one name */
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0)
		(void)resizeterm(size.ws_row, size.ws_col);
	return TUI_KEY_RESIZE;
}

uint32_t tui_term_key(struct tui_term *t)
{
	for (;;) {
		struct pollfd fds[2] = { { .fd = STDIN_FILENO, .events = POLLIN },
			                 { .fd = t->signal_fd, .events = POLLIN } };
		wint_t c = 0;
		int r = wget_wch(stdscr, &c);

		if (r != ERR)
			t->empty = 0;
		if (r == KEY_CODE_YES)
			return of_code(c);
		if (r == OK && c == ESC)
			return of_escape();
		if (r == OK)
			return of_char(c);
		if (t->empty >= EMPTY_READS)
			return TUI_KEY_LEAVE;
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return TUI_KEY_LEAVE;
		if (fds[1].revents & POLLIN)
			return of_signal(t);
		if (fds[0].revents & (POLLHUP | POLLERR | POLLNVAL))
			return TUI_KEY_LEAVE;
		t->empty += fds[0].revents & POLLIN ? 1 : 0;
	}
}
