#include "base/clock.h"
#include "base/log.h"
#include "base/units.h"
#include "cli/reach.h"
#include "cli/verbs.h"
#include "state/jread.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

enum { OPT_NO_STREAM = 1 };

enum {
	WATCHED_MAX = 256, /* a screen is 50 lines, a supervisor's answer a millisecond */
	ROUND_MS = 1000,
	CELL_BYTES_MAX = 64,
	NAME_SHOWN_MAX = 16,
};

static const struct opt stats_opts[] = {
	{ OPT_NO_STREAM, 0, "no-stream", NULL, COMPLETE_NONE, "show it once" },
	OPT_JSON_ROW,
	OPT_END_ROW,
};

struct sample {
	char id[SPEC_ID_LEN + 1];
	char name[SPEC_NAME_MAX + 1];
	uint64_t cpu_ms, wall_ms; /* of the engine, by the host's measure */
	uint64_t memory_bytes, memory_max, disk_bytes, disk_max, pids, pids_max, output_bytes;
	uint64_t up_bytes, down_bytes, refused; /* of its network, by the gate's count */
	bool network;                           /* it has one, and they are known */
	bool guest; /* memory, disk and pids are the guest's word, and known */
};

struct watched {
	struct client *client; /* NULL: it ended */
	uint64_t cpu_ms, at_ms;
};

struct stats {
	struct cli *c;
	bool once;
	size_t count;
	struct watched all[WATCHED_MAX];
};

static void stats_fini(struct stats *s)
{
	for (size_t i = 0; i < s->count; i++)
		client_free(s->all[i].client);
	s->count = 0;
}

/* What was refused: as many as `berm logs --denied` shows or says are missing. */
static void read_network(const json_t *o, struct sample *s)
{
	const json_t *counters = json_object_get(json_object_get(o, "egress"), "counters");
	const json_t *gate = json_object_get(counters, "gate");
	const json_t *vault = json_object_get(counters, "vault");
	uint64_t of_gate = 0;
	uint64_t of_vault = 0;

	s->network = jread_u64(gate, "bytes_up", INT64_MAX, &s->up_bytes) &&
	             jread_u64(gate, "bytes_down", INT64_MAX, &s->down_bytes) &&
	             jread_u64(gate, "refused", INT64_MAX, &of_gate) &&
	             jread_u64(vault, "refused", INT64_MAX, &of_vault);
	s->refused = of_gate + of_vault;
}

static int read_sample(const json_t *o, struct sample *ret, struct err *e)
{
	const json_t *limits = json_object_get(o, "limits");
	const json_t *host = json_object_get(o, "host");
	const json_t *guest = json_object_get(o, "guest");
	struct sample got = { 0 };
	const uint64_t any = INT64_MAX;
	bool ok = jread_text(o, "id", got.id, sizeof(got.id)) &&
	          jread_text(o, "name", got.name, sizeof(got.name)) &&
	          jread_u64(o, "wall_ms", any, &got.wall_ms) &&
	          jread_u64(o, "output_bytes", any, &got.output_bytes) &&
	          jread_u64(host, "cpu_ms", any, &got.cpu_ms) &&
	          jread_u64(limits, "memory_bytes", any, &got.memory_max) &&
	          jread_u64(limits, "disk_bytes", any, &got.disk_max) &&
	          jread_u64(limits, "pids", any, &got.pids_max);

	got.guest = json_is_object(guest);
	if (ok && got.guest)
		ok = jread_u64(guest, "memory_bytes", any, &got.memory_bytes) &&
		     jread_u64(guest, "disk_bytes", any, &got.disk_bytes) &&
		     jread_u64(guest, "pids", any, &got.pids);
	if (ok)
		read_network(o, &got);
	if (!ok)
		return err_set(e, -EBADMSG, "the supervisor's answer is of another kind");
	*ret = got;
	return 0;
}

static void put_pair(const char *used, const char *max, int width)
{
	char text[2 * CELL_BYTES_MAX + 4];

	(void)snprintf(text, sizeof(text), "%s / %s", used, max);
	(void)printf("%-*s  ", width, text);
}

static void put_sizes(bool known, uint64_t used, uint64_t max)
{
	char a[CELL_BYTES_MAX];
	char b[CELL_BYTES_MAX];
	struct buf used_text;
	struct buf max_text;

	buf_init(&used_text, a, sizeof(a));
	buf_init(&max_text, b, sizeof(b));
	units_put_size(&used_text, used);
	units_put_size(&max_text, max);
	put_pair(known ? buf_cstr(&used_text) : "-", buf_cstr(&max_text), 21);
}

static void put_network(const struct sample *s)
{
	char up[CELL_BYTES_MAX];
	char down[CELL_BYTES_MAX];
	struct buf u;
	struct buf d;

	buf_init(&u, up, sizeof(up));
	buf_init(&d, down, sizeof(down));
	units_put_size(&u, s->up_bytes);
	units_put_size(&d, s->down_bytes);
	if (s->network)
		put_pair(buf_cstr(&u), buf_cstr(&d), 21);
	else
		(void)printf("%-21s  ", "-");
	if (s->network)
		(void)printf("%-7llu  ", (unsigned long long)s->refused);
	else
		(void)printf("%-7s  ", "-");
}

static void put_row(const struct sample *s, double percent)
{
	char a[CELL_BYTES_MAX];
	char b[CELL_BYTES_MAX];
	struct buf text;

	(void)printf("%-12s  %-*.*s  %6.1f  ", s->id, NAME_SHOWN_MAX, NAME_SHOWN_MAX,
	             s->name[0] ? s->name : "-", percent);
	put_sizes(s->guest, s->memory_bytes, s->memory_max);
	put_sizes(s->guest, s->disk_bytes, s->disk_max);
	(void)snprintf(a, sizeof(a), "%llu", (unsigned long long)s->pids);
	(void)snprintf(b, sizeof(b), "%llu", (unsigned long long)s->pids_max);
	put_pair(s->guest ? a : "-", b, 11);
	buf_init(&text, a, sizeof(a));
	units_put_size(&text, s->output_bytes);
	(void)printf("%-9s  ", buf_cstr(&text));
	put_network(s);
	buf_init(&text, b, sizeof(b));
	units_put_duration(&text, s->wall_ms);
	(void)printf("%s\n", buf_cstr(&text));
}

/* Of one CPU, since the last round; at the first, since its start. */
static double cpu_percent(struct watched *w, const struct sample *s)
{
	uint64_t now = clock_mono_ms();
	uint64_t cpu = s->cpu_ms - (w->at_ms && s->cpu_ms >= w->cpu_ms ? w->cpu_ms : 0);
	uint64_t span = w->at_ms ? now - w->at_ms : s->wall_ms;

	w->cpu_ms = s->cpu_ms;
	w->at_ms = now;
	return span ? (double)cpu * 100 / (double)span : 0;
}

static int print_json(json_t *o, double percent)
{
	_own_free_ char *text = NULL;

	(void)json_object_del(o, "command");
	if (json_object_set_new(o, "cpu_percent", json_real(percent)) == 0)
		text = json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(4));
	if (!text)
		return -ENOMEM;
	(void)printf("%s\n", text);
	return 0;
}

static int show_one(const struct stats *s, struct watched *w, struct err *e)
{
	_own_(jread_free) json_t *o = NULL;
	_own_free_ char *json = NULL;
	struct sample sample = { 0 };
	double percent;
	int r = reach_info(w->client, &json, e);

	if (r == 0)
		r = jread_object(span_str(json), &o, e);
	if (r == 0)
		r = read_sample(o, &sample, e);
	if (r < 0)
		return r;
	percent = cpu_percent(w, &sample);
	if (s->c->json)
		return print_json(o, percent);
	put_row(&sample, percent);
	return 0;
}

/* One line each. One that ended is no error and is not asked again. */
static size_t show_all(struct stats *s)
{
	size_t alive = 0;

	if (!s->c->json && !s->once && cli_redraws(s->c, s->c->out_tty))
		(void)fputs("\033[H\033[J", stdout);
	if (!s->c->json)
		(void)printf("%-12s  %-*s  %6s  %-21s  %-21s  %-11s  %-9s  %-21s  %-7s  %s\n", "ID",
		             NAME_SHOWN_MAX, "NAME", "CPU %", "MEMORY", "DISK", "PIDS", "OUTPUT",
		             "NET OUT / IN", "REFUSED", "UP");
	for (size_t i = 0; i < s->count; i++) {
		struct watched *w = &s->all[i];
		struct err e = { 0 };

		if (!w->client)
			continue;
		if (show_one(s, w, &e) == 0) {
			alive++;
			continue;
		}
		if (e.code != -ENODATA && e.code != -EPIPE)
			log_warn("%s", e.text);
		client_free(w->client);
		w->client = NULL;
	}
	return alive;
}

static int watch_one(struct stats *s, const char *ref, struct err *e)
{
	if (s->count == WATCHED_MAX)
		return err_set(e, -E2BIG, "more than %d sandboxes: name those of interest",
		               WATCHED_MAX);
	s->all[s->count] = (struct watched){ 0 };
	if (reach_client(s->c, ref, NULL, &s->all[s->count].client, e) < 0)
		return e->code;
	s->count++;
	return 0;
}

static int watch_all(struct stats *s, struct err *e)
{
	_own_(state_list_free) struct state_list *list = NULL;
	int r = cli_state(s->c, e);

	if (r == 0)
		r = state_list(s->c->state_fd, false, &list, e);
	for (size_t i = 0; r == 0 && i < list->count; i++) {
		r = watch_one(s, list->items[i].id, e);
		/* one that ended meanwhile */
		if (r == -ESRCH)
			r = 0;
	}
	return r;
}

static int run_stats(struct cli *c, const struct args *a)
{
	__attribute__((cleanup(stats_fini))) struct stats s = { .c = c };
	struct err e = { 0 };
	int r = 0;

	s.once = args_has(a, OPT_NO_STREAM);
	for (size_t i = 0; r == 0 && i < a->word_count; i++)
		r = watch_one(&s, a->words[i], &e);
	if (a->word_count == 0)
		r = watch_all(&s, &e);
	if (r < 0)
		return reach_fail(&e);
	while (show_all(&s) > 0 && !s.once) {
		if (fflush(stdout) != 0)
			break; /* the reader has had enough */
		(void)poll(NULL, 0, ROUND_MS);
	}
	return 0;
}

const struct verb verb_stats = {
	.name = "stats",
	.summary = "Show what running sandboxes use",
	.args = "[SANDBOX...]",
	.about =
		"Every second, until ctrl-c or until none is left. CPU is measured by the host, of one\n"
		"CPU; with --no-stream it is the average since the start. Memory, disk and processes\n"
		"are the guest's own word; berm inspect has the host's. NET is what its gate passed on.\n"
		"REFUSED counts the refusals that berm logs --denied shows, and those there was no room\n"
		"for in the record; --json has all counters in \"egress\".\n"
		"\n" REACH_EXITS,
	.examples = "berm stats\n"
		    "berm stats --no-stream --json web | jq .guest.memory_bytes\n",
	.opts = stats_opts,
	.run = run_stats,
	.words_max = CLI_WORDS_ANY,
	.words = COMPLETE_SANDBOX,
};
