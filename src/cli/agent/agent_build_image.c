#include "cli/agent/agent_build.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/log.h"
#include "base/units.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
	CONFIG_BYTES_MAX = 2 * IMAGE_STORED_JSON_MAX,
	PACKAGES_BYTES_MAX = 48 << 10, /* a label holds IMAGE_STRING_MAX */
	LABELS_OWN = 5,
	UNPACK_PATH_MAX = PATH_MAX + 16,
	LINE_MAX_SHOWN = 160,
	TAR_TOO_PLAIN = 96, /* what the script says; tar itself ends with 0, 1 or 2 */
};

/* --- the tree --- */

static int tar_failed(struct build *b, int code, struct err *e)
{
	if (code == CLI_EXIT_NOT_FOUND)
		return err_set(e, -ENOENT,
		               "step %u, %s: the image has no 'tar'; add it to "
		               "image.packages.apt",
		               b->step_number, b->step);
	if (code == TAR_TOO_PLAIN)
		return err_set(e, -ENOENT,
		               "step %u, %s: the image has no 'mount', and its 'tar' is not GNU's; "
		               "one of them is needed (image.packages.apt: [mount] or [tar])",
		               b->step_number, b->step);
	return err_set(e, -EIO, "step %u, %s: 'tar' ended with status %d", b->step_number, b->step,
	               code);
}

int build_take_tree(struct build *b, int *ret_fd, struct err *e)
{
	/*
	 * Bound elsewhere, the root is without what is mounted in it, and any tar will do. Where
	 * there is no mount (Debian has it in a package of its own), it has to be GNU's.
	 */
	static const char script[] =
		"d=/run/berm-root; command -v tar >/dev/null || exit 127;"
		" if command -v mount >/dev/null; then"
		" mkdir -p $d && mount -o bind / $d && exec tar -c -f - -C $d .;"
		" elif tar --help 2>&1 | grep -q -e --one-file-system; then"
		" exec tar -c -f - --one-file-system -C / .; else exit 96; fi";
	static const char *const argv[] = { "sh", "-c", script, NULL };
	_own_fd_ int fd = -1;
	struct build_command cmd = { .argv = argv, .out_max = BUILD_TAR_BYTES };
	int code = 0;
	int r;

	build_step(b, "taking the files out of the guest");
	r = fd_tmpfile(b->c->state_fd, 0600, &fd, e);
	if (r < 0)
		return r;
	cmd.out_fd = fd;
	r = build_guest_run(b, &cmd, &code, e);
	if (r == -ENOSPC || r == -EDQUOT)
		return err_wrap(e, "the state directory's disk is full (free some, or set "
		                   "BERM_STATE_DIR to another)");
	if (r == 0 && code != 0)
		r = tar_failed(b, code, e);
	if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
		r = err_sys(e, "lseek");
	if (r == 0)
		*ret_fd = steal_fd(&fd);
	return r;
}

/* --- what it is made of --- */

static void put_time(char *ret, size_t size)
{
	time_t now = (time_t)(clock_real_ns() / 1000000000U);
	struct tm tm = { 0 };

	if (!gmtime_r(&now, &tm) || strftime(ret, size, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		ret[0] = '\0';
}

/* Lines as JSON texts, as many as fit. */
static void put_lines(struct buf *b, const char *name, const char *lines, bool first)
{
	struct span rest = span_str(lines);
	const char *gap = "";
	struct span line;

	buf_printf(b, "%s\"%s\":[", first ? "" : ",", name);
	while (rest.len > 0 && take_until(&rest, '\n', &line)) {
		if (line.len == 0)
			continue;
		if (line.len > LINE_MAX_SHOWN)
			line.len = LINE_MAX_SHOWN;
		if (b->size - b->len < 6 * LINE_MAX_SHOWN + 64)
			break;
		buf_put_str(b, gap);
		buf_put_json_str(b, line);
		gap = ",";
	}
	buf_put_str(b, "]");
}

static const char *put_packages(const struct build *b, struct buf *out)
{
	static const char *const names[] = { "apt", "npm", "pip" };

	buf_put_str(out, "{");
	for (unsigned i = 0; i < 3; i++)
		put_lines(out, names[i], b->packages[i], i == 0);
	buf_put_str(out, "}");
	return buf_cstr(out);
}

struct pair {
	const char *key, *value;
};

static int by_key(const void *x, const void *y)
{
	return strcmp(((const struct pair *)x)->key, ((const struct pair *)y)->key);
}

/* The base's labels and ours, sorted by key: key, value, key, value ..., NULL. */
static const char **merge_labels(const char *const *base, const struct pair *own)
{
	size_t count = 0;
	size_t n = 0;
	struct pair *all;
	const char **list;

	while (base[count])
		count++;
	all = calloc(count / 2 + LABELS_OWN, sizeof(*all));
	list = calloc(count + 2 * LABELS_OWN + 1, sizeof(*list));
	for (size_t i = 0; all && i + 1 < count; i += 2)
		if (strcmp(base[i], AGENT_LABEL) != 0 &&
		    strncmp(base[i], AGENT_LABEL ".", sizeof(AGENT_LABEL)) != 0)
			all[n++] = (struct pair){ base[i], base[i + 1] };
	for (size_t i = 0; all && i < LABELS_OWN; i++)
		all[n++] = own[i];
	if (all)
		qsort(all, n, sizeof(*all), by_key);
	for (size_t i = 0; all && list && i < n; i++) {
		list[2 * i] = all[i].key;
		list[2 * i + 1] = all[i].value;
	}
	if (!all) {
		free(list);
		list = NULL;
	}
	free(all);
	return list;
}

/* How the base is run, with labels that say what this was made of. */
static int put_config(struct build *b, int *ret_fd, struct err *e)
{
	_own_free_ char *packages = malloc(PACKAGES_BYTES_MAX);
	_own_free_ uint8_t *room = malloc(CONFIG_BYTES_MAX);
	_own_free_ const char **labels = NULL;
	struct image_config config = b->base->meta->config;
	char recipe[AGENT_RECIPE_LEN + 1];
	struct buf out;
	struct pair own[LABELS_OWN];

	if (!packages || !room)
		return err_set(e, -ENOMEM, "out of memory");
	put_time(b->built, sizeof(b->built));
	agent_recipe_digest(b->agent, recipe);
	buf_init(&out, packages, PACKAGES_BYTES_MAX);
	own[0] = (struct pair){ AGENT_LABEL, b->agent->name };
	own[1] = (struct pair){ AGENT_LABEL_RECIPE, recipe };
	own[2] = (struct pair){ AGENT_LABEL_BASE, b->base->meta->id };
	own[3] = (struct pair){ AGENT_LABEL_BUILT, b->built };
	own[4] = (struct pair){ AGENT_LABEL_PACKAGES, put_packages(b, &out) };
	labels = merge_labels(config.labels, own);
	if (!labels)
		return err_set(e, -ENOMEM, "out of memory");
	config.labels = labels;
	buf_init(&out, room, CONFIG_BYTES_MAX);
	image_config_put(&out, &config);
	if (!buf_ok(&out))
		return err_set(e, -EMSGSIZE, "what the base image says of itself is too long");
	return fd_sealed("berm-config", out.at, out.len, ret_fd, e);
}

/* --- the import --- */

static void on_report(void *arg, const struct report *r)
{
	struct build *b = arg;
	char line[SPINNER_TEXT_MAX];
	struct buf out;

	if (r->kind == REPORT_WARN) {
		spinner_clear(&b->session.spinner);
		log_warn("%.*s", (int)r->text.len, (const char *)r->text.at);
	} else if (r->kind == REPORT_PROGRESS && b->session.spinner.enabled) {
		buf_init(&out, line, sizeof(line));
		buf_printf(&out, "%s: ", b->step);
		units_put_size(&out, r->out_bytes);
		buf_printf(&out, ", %llu files", (unsigned long long)r->entries);
		spinner_say(&b->session.spinner, buf_span(&out));
	}
}

int build_import(struct build *b, int tar_fd, bool *ret_known, struct err *e)
{
	struct image_import im = { .archive_fd = tar_fd, .on_report = on_report, .arg = b };
	char unpack[UNPACK_PATH_MAX];
	_own_fd_ int config_fd = -1;
	int r;

	build_step(b, "making the image");
	r = put_config(b, &config_fd, e);
	if (r < 0)
		return r;
	(void)snprintf(unpack, sizeof(unpack), "%s/berm-unpack", b->c->paths.libexec);
	im.unpack_path = unpack;
	im.config_fd = config_fd;
	r = image_import(b->store, &im, b->image_id, ret_known, e);
	return r < 0 ? err_wrap(e, "step %u, %s", b->step_number, b->step) : 0;
}
