#include "session/fetching.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/units.h"

#include <fcntl.h>
#include <sys/stat.h>

void fetching_init(struct fetching *f, int state_fd, const struct work_session *s,
                   struct spinner *spinner)
{
	*f = (struct fetching){
		.state_fd = state_fd, .s = s, .spinner = spinner, .began_ms = clock_mono_ms()
	};
}

static void put_time(struct buf *b, uint64_t bytes, uint64_t rate)
{
	uint64_t s = bytes / (rate ? rate : 1) / 1000 + 1;

	if (s < 100)
		buf_printf(b, "about %llu s", (unsigned long long)s);
	else
		buf_printf(b, "about %llu min", (unsigned long long)((s + 59) / 60));
}

void fetching_put(struct buf *b, uint64_t done, uint64_t expect, uint64_t ms)
{
	uint64_t rate = ms >= FETCHING_MEASURE_MS ? done / ms : FETCHING_RATE;

	if (done > 0 || expect == 0)
		units_put_size(b, done);
	if (expect <= done) /* a guest may say what it likes */
		return;
	if (done > 0)
		buf_put_str(b, " of ");
	units_put_size(b, expect);
	buf_put_str(b, ", ");
	put_time(b, expect - done, rate);
	if (done > 0)
		buf_put_str(b, " more");
}

static void learn(struct fetching *f)
{
	_own_(work_session_close) struct work_session now;
	struct err e = { 0 };

	work_session_init(&now);
	if (work_session_open(f->state_fd, f->s->info.id, &now, &e) == 0 &&
	    now.info.state == SESSION_COLLECTING)
		f->expect = now.info.expect_bytes;
}

static void tell(struct fetching *f)
{
	char storage[96];
	struct buf b;

	f->told = true;
	buf_init(&b, storage, sizeof(storage));
	fetching_put(&b, 0, f->expect, 0);
	log_info("session %s: the agent's work is %s to fetch", f->s->info.id, buf_cstr(&b));
}

void fetching_tick(struct fetching *f)
{
	uint64_t now_ms = clock_mono_ms();
	uint64_t done = 0;
	char storage[128];
	struct stat st;
	struct buf b;

	if (fstatat(f->s->dir_fd, "spool.part", &st, AT_SYMLINK_NOFOLLOW) == 0)
		done = (uint64_t)st.st_size;
	if (done > 0 && f->moved_ms == 0)
		f->moved_ms = now_ms;
	if (f->expect == 0)
		learn(f);
	if (f->expect >= FETCHING_LINE_BYTES && !f->told)
		tell(f);
	if (now_ms - f->began_ms < FETCHING_QUIET_MS)
		return;
	buf_init(&b, storage, sizeof(storage));
	buf_put_str(&b, "fetching the work");
	if (done > 0 || f->expect > 0) {
		buf_put_str(&b, ": ");
		fetching_put(&b, done, f->expect, f->moved_ms ? now_ms - f->moved_ms : 0);
	}
	spinner_say(f->spinner, buf_span(&b));
}
