/*
 * A user's profile, and behind a NUL a workspace's file. Contracts: a failure has a message and no
 * agent; a workspace's file never fails, raises nothing, and its notices are printable.
 */
#include "agents/agent.h"
#include "base/fdio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 8192, ROOM = 64 * INPUT_MAX };

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void look(const struct agent *a, char *room)
{
	for (unsigned f = 0; f < AGENT_FIELDS; f++) {
		struct buf b;

		buf_init(&b, room, ROOM);
		agent_put_field(a, (enum agent_field)f, &b);
		must(buf_ok(&b) && a->origin[f]);
		buf_init(&b, room, ROOM);
		agent_put_field_json(a, (enum agent_field)f, &b);
		must(buf_ok(&b));
	}
}

static void tighten(struct agent *a, struct span text)
{
	uint64_t memory = a->memory_bytes, cpus = a->cpus, disk = a->disk_bytes;
	enum agent_level level = a->level;
	unsigned settings = a->settings_count;
	struct err e = { 0 };

	must(agent_tighten_text(a, text, &e) == 0);
	must(a->memory_bytes <= memory && a->cpus <= cpus && a->disk_bytes <= disk);
	must(a->level <= level && a->settings_count <= settings);
	must(a->notices.count <= AGENT_NOTICES_MAX);
	for (unsigned i = 0; i < a->notices.count; i++)
		for (const char *at = a->notices.at[i]; *at; at++)
			must((unsigned char)*at >= 0x20 && *at != 0x7f);
	for (unsigned i = 0; i < a->exclude.count; i++)
		must(a->exclude.at[i][0] != '!');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct agent_where w = { -1, -1, -1, "" };
	_own_(agent_free) struct agent *a = NULL;
	static char room[ROOM];
	struct span in = span_of(data, size);
	struct span file = { 0 };
	struct err e = { 0 };
	int r;

	if (w.installed_fd < 0) {
		must(fd_open(AGENTS, O_RDONLY | O_DIRECTORY, 0, &w.installed_fd, &e) == 0);
		must(fd_open(PRESETS, O_RDONLY | O_DIRECTORY, 0, &w.presets_fd, &e) == 0);
	}
	if (size > INPUT_MAX || !take_until(&in, 0, &file))
		return 0;
	r = agent_load_text(&w, "mine", "f", file, &a, &e);
	if (r < 0) {
		must(!a && e.len > 0 && r != -ENOENT);
		return 0;
	}
	look(a, room);
	tighten(a, in);
	look(a, room);
	return 0;
}
