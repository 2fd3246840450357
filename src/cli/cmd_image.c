#include "base/buf.h"
#include "base/clock.h"
#include "base/fdio.h"
#include "base/log.h"
#include "base/units.h"
#include "cli/image_hold.h"
#include "cli/verbs.h"
#include "image/ref.h"
#include "image/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* What scripts tell apart; the help says the same. */
enum {
	EXIT_NO_IMAGE = 3,
	EXIT_IN_USE = 4,
	EXIT_NOT_AN_IMAGE = 5,
	EXIT_DAMAGED = 6,
	EXIT_REFUSED = 7,
	EXIT_ARCH = 8,
	EXIT_LIMIT = 9,
	EXIT_SPACE = 10,
};

enum {
	JSON_BYTES_MAX = 2 * IMAGE_STORED_JSON_MAX, /* an image's own, and its names */
	LINE_BYTES_MAX = 1 << 10,
	UNPACK_PATH_MAX = PATH_MAX + 16,
	SHORT_ID_LEN = 12,
	ERASE_COLUMNS = 72, /* the longest progress line */
};

#define IMAGE_EXITS                                                                                \
	"Exit status: 0 done; 3 no such image; 4 in use; 5 not an image; 6 damaged;\n"             \
	"7 holds something that must not be; 8 for another architecture; 9 over a limit;\n"        \
	"10 the disk is full; 125 anything else.\n"

static int open_store(struct cli *c, struct image_store **ret, struct err *e)
{
	int r = cli_state(c, e);

	return r < 0 ? r : image_store_open(c->state_fd, c->paths.share, ret, e);
}

/* Of ls, inspect, rm: what is wrong is the name, or that the image is in use. */
static int fail_ref(const struct err *e)
{
	(void)cli_fail(e);
	switch (e->code) {
	case -ENOENT:
	case -EEXIST:
		return EXIT_NO_IMAGE;
	case -EBUSY:
	case -ETXTBSY:
		return EXIT_IN_USE;
	case -EBADMSG:
		return EXIT_DAMAGED;
	default:
		return CLI_EXIT_ERROR;
	}
}

/* --- import --- */

enum { OPT_NAME = 1, OPT_CONFIG, OPT_SELECT, OPT_MAX_SIZE, OPT_QUIET };

static const struct opt import_opts[] = {
	{ OPT_NAME, 'n', "name", "NAME", COMPLETE_NONE, "call it so, not as the archive does" },
	{ OPT_CONFIG, 0, "config", "FILE", COMPLETE_FILE, "JSON: how to run a plain tar of files" },
	{ OPT_SELECT, 0, "select", "NAME", COMPLETE_NONE, "which image, when there are several" },
	{ OPT_MAX_SIZE, 0, "max-size", "SIZE", COMPLETE_NONE, "unpacked bytes at most (32GiB)" },
	{ OPT_QUIET, 'q', "quiet", NULL, COMPLETE_NONE, "print the id only" },
	OPT_JSON_ROW,
	OPT_END_ROW,
};

/* The bar, and what berm-unpack warns of. */
struct progress {
	bool tty;
	bool shown;
	bool writing;
};

static void erase(struct progress *p)
{
	if (p->shown)
		(void)fprintf(stderr, "\r%*s\r", ERASE_COLUMNS, "");
	p->shown = false;
}

static void show_bar(struct progress *p, const struct report *r)
{
	char storage[LINE_BYTES_MAX];
	unsigned percent = 0;
	struct buf b;

	/* a captured berm-unpack can make this bar lie, and nothing else */
	if (r->total_bytes > 0 && r->in_bytes <= r->total_bytes)
		percent = (unsigned)((double)r->in_bytes / (double)r->total_bytes * 100);
	buf_init(&b, storage, sizeof(storage));
	if (percent > 0)
		buf_printf(&b, "importing %3u%%  ", percent);
	else
		buf_put_str(&b, "importing  ");
	units_put_size(&b, r->out_bytes);
	buf_printf(&b, ", %llu files", (unsigned long long)r->entries);
	(void)fprintf(stderr, "\r%-*.*s", ERASE_COLUMNS, ERASE_COLUMNS, buf_cstr(&b));
	p->shown = true;
}

static void on_report(void *arg, const struct report *r)
{
	struct progress *p = arg;

	if (r->kind == REPORT_WARN) {
		erase(p);
		log_warn("%.*s", (int)r->text.len, (const char *)r->text.at);
	} else if (r->kind == REPORT_PROGRESS && p->tty) {
		show_bar(p, r);
	}
}

static int exit_of_import(int code)
{
	switch (image_fail_of_code(code)) {
	case IMAGE_FAIL_NOT_IMAGE:
		return EXIT_NOT_AN_IMAGE;
	case IMAGE_FAIL_DAMAGED:
		return EXIT_DAMAGED;
	case IMAGE_FAIL_REFUSED:
		return EXIT_REFUSED;
	case IMAGE_FAIL_ARCH:
		return EXIT_ARCH;
	case IMAGE_FAIL_LIMIT:
		return EXIT_LIMIT;
	case IMAGE_FAIL_SPACE:
		return EXIT_SPACE;
	case IMAGE_FAIL_INTERNAL:
	case IMAGE_FAIL_COUNT:
		break;
	}
	return CLI_EXIT_ERROR;
}

static int open_input(const char *path, bool is_archive, int *ret_fd, struct err *e)
{
	struct stat st;
	int r;

	if (is_archive && strcmp(path, "-") == 0) {
		*ret_fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
		return *ret_fd < 0 ? err_sys(e, "stdin") : 0;
	}
	r = fd_open(path, O_RDONLY | O_NOCTTY, 0, ret_fd, e);
	if (r < 0)
		return r;
	if (fstat(*ret_fd, &st) < 0)
		return err_sys(e, "stat '%s'", path);
	if (!is_archive && !S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "'%s' is not a file", path);
	return 0;
}

static int take_options(const struct args *a, struct image_import *im, struct err *e)
{
	const char *max = args_value(a, OPT_MAX_SIZE);
	int r = max ? units_parse_size(max, &im->unpacked_max, e) : 0;

	im->name = args_value(a, OPT_NAME);
	im->select = args_value(a, OPT_SELECT);
	if (r < 0)
		return err_wrap(e, "--max-size");
	if (max && im->unpacked_max == 0)
		return err_set(e, -EINVAL, "--max-size: 0 leaves room for nothing");
	return 0;
}

/* A row's other cells, and its names: their grammar has nothing that JSON escapes. */
static uint8_t *row_storage(char *const *names, struct buf *ret, struct err *e)
{
	size_t room = LINE_BYTES_MAX;
	uint8_t *storage;

	for (size_t i = 0; names && names[i]; i++)
		room += strlen(names[i]) + 4;
	storage = malloc(room);
	if (!storage) {
		(void)err_set(e, -ENOMEM, "out of memory");
		return NULL;
	}
	buf_init(ret, storage, room);
	return storage;
}

static void put_names(struct buf *b, char *const *names)
{
	buf_put_u8(b, '[');
	for (size_t i = 0; names && names[i]; i++) {
		if (i > 0)
			buf_put_u8(b, ',');
		buf_put_json_str(b, span_str(names[i]));
	}
	buf_put_u8(b, ']');
}

static int print_imported(struct cli *c, struct image_store *s, const char *id, bool known,
                          bool quiet, struct err *e)
{
	_own_(image_free) struct image *img = NULL;
	_own_free_ uint8_t *storage = NULL;
	char **names = NULL;
	struct buf b;
	int r;

	if (quiet && !c->json)
		return printf("%s\n", id) < 0 ? err_set(e, -EIO, "write to stdout") : 0;
	r = image_open(s, id, &img, e);
	if (r == 0)
		r = image_names_of(s, id, &names, e);
	if (r != 0)
		return r;
	storage = row_storage(names, &b, e);
	if (!storage) {
		image_names_free(names);
		return e->code;
	}
	if (c->json) {
		buf_printf(&b, "{\"id\":\"%s\",\"known\":%s,\"disk_bytes\":%llu,\"names\":", id,
		           known ? "true" : "false", (unsigned long long)img->meta->disk_bytes);
		put_names(&b, names);
		buf_put_str(&b, "}\n");
	} else {
		buf_printf(&b, "%.12s  ", id);
		units_put_size(&b, img->meta->disk_bytes);
		for (size_t i = 0; names[i]; i++)
			buf_printf(&b, "%s%s", i == 0 ? "  " : ", ", names[i]);
		buf_put_str(&b, known ? "  (it was here already)\n" : "\n");
	}
	image_names_free(names);
	return cli_out(b.at, b.len, e);
}

static int run_import(struct cli *c, const struct args *a)
{
	_own_(image_store_free) struct image_store *s = NULL;
	struct progress p = { .tty = c->err_tty && !c->json && !args_has(a, OPT_QUIET) };
	struct image_import im = { .config_fd = -1, .on_report = on_report, .arg = &p };
	const char *config = args_value(a, OPT_CONFIG);
	char unpack[UNPACK_PATH_MAX];
	char id[IMAGE_ID_LEN + 1];
	_own_fd_ int archive = -1;
	_own_fd_ int config_fd = -1;
	struct err e = { 0 };
	bool known;
	int r = take_options(a, &im, &e);

	if (r == 0)
		r = open_input(a->words[0], true, &archive, &e);
	if (r == 0 && config)
		r = open_input(config, false, &config_fd, &e);
	if (r < 0)
		return cli_fail(&e);
	if (open_store(c, &s, &e) < 0)
		return cli_fail(&e);
	(void)snprintf(unpack, sizeof(unpack), "%s/berm-unpack", c->paths.libexec);
	im.unpack_path = unpack;
	im.archive_fd = archive;
	im.config_fd = config_fd;
	r = image_import(s, &im, id, &known, &e);
	erase(&p);
	if (r < 0) {
		(void)err_wrap(&e, "import '%s'", a->words[0]);
		(void)cli_fail(&e);
		return exit_of_import(r);
	}
	if (print_imported(c, s, id, known, args_has(a, OPT_QUIET), &e) < 0)
		return cli_fail(&e);
	return 0;
}

static const struct verb image_import_verb = {
	.name = "import",
	.summary = "Bring an image in from a file",
	.args = "PATH|-",
	.about = "PATH is what `docker save` writes, an OCI layout (a directory or a tar of it),\n"
		 "or a plain tar of a root file system; gzip, bzip2, xz and zstd are understood.\n"
		 "It is unpacked by a jailed process, and never needs root.\n"
		 "--config gives a plain tar what it lacks, all keys optional: {\"env\": [...],\n"
		 "\"entrypoint\": [...], \"cmd\": [...], \"user\": \"\", \"workdir\": \"\",\n"
		 "\"labels\": {...}, \"stop_signal\": \"\"}.\n" IMAGE_EXITS,
	.examples = "docker save python:3.12 | berm image import -\n"
		    "skopeo copy docker://python:3.12 oci-archive:py.tar && berm image import "
		    "--name py py.tar\n"
		    "berm image import --name mine --config run.json rootfs.tar.zst\n",
	.opts = import_opts,
	.run = run_import,
	.words_min = 1,
	.words_max = 1,
	.words = COMPLETE_FILE,
};

/* --- ls --- */

static const struct opt ls_opts[] = {
	{ OPT_QUIET, 'q', "quiet", NULL, COMPLETE_NONE, "print ids only" },
	OPT_JSON_ROW,
	OPT_END_ROW,
};

static void put_row_json(struct buf *b, const struct image_row *row)
{
	buf_printf(b, "{\"id\":\"%s\",\"names\":", row->id);
	put_names(b, row->names);
	buf_printf(b, ",\"installed\":%s,\"in_use\":%s,\"damaged\":%s,\"imported_ns\":%llu",
	           row->installed ? "true" : "false", row->in_use ? "true" : "false",
	           row->meta ? "false" : "true", (unsigned long long)row->imported_ns);
	if (row->meta)
		buf_printf(b, ",\"disk_bytes\":%llu,\"entries\":%llu",
		           (unsigned long long)row->meta->disk_bytes,
		           (unsigned long long)row->meta->entries);
	buf_put_str(b, "}");
}

static void put_row(struct buf *b, const struct image_row *row)
{
	char storage[64];
	struct buf cell;

	buf_printf(b, "%.*s  ", SHORT_ID_LEN, row->id);
	buf_init(&cell, storage, sizeof(storage));
	if (row->meta)
		units_put_size(&cell, row->meta->disk_bytes);
	else
		buf_put_str(&cell, "damaged");
	buf_printf(b, "%-9s  ", buf_cstr(&cell));
	buf_reset(&cell);
	cli_put_age(&cell, row->imported_ns, clock_real_ns());
	buf_printf(b, "%-6s  ", buf_cstr(&cell));
	buf_printf(b, "%-9s  ", row->in_use ? "in use" : row->installed ? "installed" : "");
	for (size_t i = 0; row->names && row->names[i]; i++)
		buf_printf(b, "%s%s", i > 0 ? ", " : "", row->names[i]);
	if (!row->names || !row->names[0])
		buf_put_str(b, "-");
	buf_put_str(b, "\n");
}

static int print_row(const struct cli *c, const struct image_row *row, bool quiet, bool first,
                     struct err *e)
{
	_own_free_ uint8_t *storage = NULL;
	struct buf b;

	storage = row_storage(row->names, &b, e);
	if (!storage)
		return e->code;
	if (c->json) {
		buf_put_str(&b, first ? "" : ",\n ");
		put_row_json(&b, row);
	} else if (quiet) {
		buf_printf(&b, "%s\n", row->id);
	} else {
		put_row(&b, row);
	}
	(void)fwrite(b.at, 1, b.len, stdout);
	return 0;
}

static int run_ls(struct cli *c, const struct args *a)
{
	_own_(image_store_free) struct image_store *s = NULL;
	_own_(image_list_free) struct image_list *list = NULL;
	bool quiet = args_has(a, OPT_QUIET);
	struct err e = { 0 };

	if (open_store(c, &s, &e) < 0)
		return cli_fail(&e);
	image_store_sweep(s);
	if (image_list(s, &list, &e) < 0)
		return cli_fail(&e);
	if (c->json)
		(void)fputs("[", stdout);
	else if (!quiet)
		(void)printf("%-12s  %-9s  %-6s  %-9s  %s\n", "ID", "SIZE", "AGE", "", "NAMES");
	for (size_t i = 0; i < list->count; i++)
		if (print_row(c, &list->rows[i], quiet, i == 0, &e) < 0)
			return cli_fail(&e);
	if (c->json)
		(void)fputs("]\n", stdout);
	return 0;
}

static const struct verb image_ls_verb = {
	.name = "ls",
	.summary = "List the images here",
	.args = "",
	.examples = "berm image ls\n"
		    "berm image ls --json | jq '.[].names'\n",
	.opts = ls_opts,
	.run = run_ls,
};

/* --- inspect --- */

static const struct opt inspect_opts[] = {
	OPT_JSON_ROW,
	OPT_END_ROW,
};

/* image.json with what the store adds in front of its closing brace. */
static void put_inspect(struct buf *b, const struct image *img, char *const *names)
{
	image_meta_put(b, img->meta);
	if (!buf_ok(b) || b->len < 2)
		return;
	b->len -= 2; /* "}\n" */
	buf_printf(b, ",\"installed\":%s,\"store_names\":", img->installed ? "true" : "false");
	put_names(b, names);
	buf_put_str(b, "}\n");
}

static int run_inspect(struct cli *c, const struct args *a)
{
	_own_(image_store_free) struct image_store *s = NULL;
	_own_(image_free) struct image *img = NULL;
	_own_free_ uint8_t *storage = malloc(JSON_BYTES_MAX);
	char **names = NULL;
	struct err e = { 0 };
	struct buf b;

	if (!storage) {
		(void)err_set(&e, -ENOMEM, "out of memory");
		return cli_fail(&e);
	}
	if (open_store(c, &s, &e) < 0)
		return cli_fail(&e);
	if (image_open(s, a->words[0], &img, &e) < 0 ||
	    image_names_of(s, img->meta->id, &names, &e) < 0)
		return fail_ref(&e);
	buf_init(&b, storage, JSON_BYTES_MAX);
	put_inspect(&b, img, names);
	image_names_free(names);
	return cli_out(b.at, b.len, &e) < 0 ? cli_fail(&e) : 0;
}

static const struct verb image_inspect_verb = {
	.name = "inspect",
	.summary = "Show all that is known of an image, as JSON",
	.args = "IMAGE",
	.about =
		"IMAGE is a name, an id, or the beginning of an id (6 digits or more).\n" IMAGE_EXITS,
	.examples = "berm image inspect default\n"
		    "berm image inspect python:3.12 | jq .config.env\n",
	.opts = inspect_opts,
	.run = run_inspect,
	.words_min = 1,
	.words_max = 1,
	.words = COMPLETE_IMAGE,
};

/* --- tag --- */

static int run_tag(struct cli *c, const struct args *a)
{
	_own_(image_store_free) struct image_store *s = NULL;
	_own_(image_free) struct image *img = NULL;
	struct err e = { 0 };

	if (open_store(c, &s, &e) < 0)
		return cli_fail(&e);
	if (image_open(s, a->words[0], &img, &e) < 0)
		return fail_ref(&e);
	if (image_name_set(s, a->words[1], img->meta->id, &e) < 0)
		return cli_fail(&e);
	return 0;
}

static const struct verb image_tag_verb = {
	.name = "tag",
	.summary = "Give an image another name",
	.args = "IMAGE NAME",
	.about = "The name is taken from the image that had it.\n" IMAGE_EXITS,
	.examples = "berm image tag 3f21c07a python:stable\n",
	.run = run_tag,
	.words_min = 2,
	.words_max = 2,
	.words = COMPLETE_IMAGE,
};

/* --- rm --- */

enum { OPT_FORCE = 1 };

static const struct opt rm_opts[] = {
	{ OPT_FORCE, 'f', "force", NULL, COMPLETE_NONE,
	  "even with names or sandboxes that use it" },
	OPT_JSON_ROW,
	OPT_END_ROW,
};

static int remove_one(struct cli *c, struct image_store *s, const struct image_hold *hold,
                      const char *ref, bool force, enum image_removed *ret, struct err *e)
{
	const char *user = image_hold_user(hold, s, ref);
	int r = image_remove(s, ref, force, ret, e);
	char names[ERR_TEXT_MAX / 2];
	struct buf b;

	if (r != -ETXTBSY)
		return r;
	buf_init(&b, names, sizeof(names));
	image_hold_sandboxes(c, s, ref, &b);
	if (b.len > 0)
		return err_set(e, r,
		               "image '%s' is in use by sandbox %s: stop it first (berm stop), or "
		               "use --force",
		               ref, buf_cstr(&b));
	if (user)
		return err_set(e, r,
		               "snapshot '%s' runs on image '%s': remove that first (berm snapshot "
		               "rm), or use --force",
		               user, ref);
	return r;
}

static int run_rm(struct cli *c, const struct args *a)
{
	_own_(image_store_free) struct image_store *s = NULL;
	_own_(image_hold_free) struct image_hold *hold = NULL;
	bool force = args_has(a, OPT_FORCE);
	struct err e = { 0 };
	int status = 0;

	if (open_store(c, &s, &e) < 0 || image_hold_new(c->state_fd, s, &hold, &e) < 0)
		return cli_fail(&e);
	image_store_sweep(s);
	for (size_t i = 0; i < a->word_count; i++) {
		enum image_removed removed;

		err_clear(&e);
		if (remove_one(c, s, hold, a->words[i], force, &removed, &e) < 0) {
			status = fail_ref(&e);
			continue;
		}
		if (c->json)
			(void)printf("{\"ref\":\"%s\",\"removed\":\"%s\"}\n", a->words[i],
			             removed == IMAGE_REMOVED ? "image" : "name");
		else
			(void)printf("%s %s\n", removed == IMAGE_REMOVED ? "removed" : "untagged",
			             a->words[i]);
	}
	return status;
}

static const struct verb image_rm_verb = {
	.name = "rm",
	.summary = "Remove an image, or one of its names",
	.args = "IMAGE...",
	.about =
		"A name goes, and with its last name the image. An image that sandboxes use\n"
		"stays, unless forced; a guest that runs keeps its disk until it ends.\n" IMAGE_EXITS,
	.examples = "berm image rm python:3.12\n"
		    "berm image rm --force 3f21c07a\n",
	.opts = rm_opts,
	.run = run_rm,
	.words_min = 1,
	.words_max = CLI_WORDS_ANY,
	.words = COMPLETE_IMAGE,
};

/* --- prune --- */

static int run_prune(struct cli *c, const struct args *a)
{
	_own_(image_store_free) struct image_store *s = NULL;
	_own_(image_hold_free) struct image_hold *hold = NULL;
	char storage[64];
	struct err e = { 0 };
	unsigned images;
	uint64_t bytes;
	struct buf b;

	(void)a;
	if (open_store(c, &s, &e) < 0 || image_hold_new(c->state_fd, s, &hold, &e) < 0 ||
	    image_prune(s, &images, &bytes, &e) < 0)
		return cli_fail(&e);
	if (c->json) {
		(void)printf("{\"images\":%u,\"disk_bytes\":%llu}\n", images,
		             (unsigned long long)bytes);
		return 0;
	}
	buf_init(&b, storage, sizeof(storage));
	units_put_size(&b, bytes);
	(void)printf("removed %u image%s, %s\n", images, images == 1 ? "" : "s", buf_cstr(&b));
	return 0;
}

static const struct verb image_prune_verb = {
	.name = "prune",
	.summary = "Remove the images that have no name",
	.args = "",
	.about = "Those in use stay. What interrupted imports left goes as well.\n",
	.examples = "berm image prune\n",
	.opts = inspect_opts,
	.run = run_prune,
};

static const struct verb *const image_subs[] = {
	&image_import_verb, &image_ls_verb, &image_inspect_verb, &image_tag_verb, &image_rm_verb,
	&image_prune_verb,  NULL,
};

const struct verb verb_image = {
	.name = "image",
	.summary = "Bring in, list and remove images",
	.args = "COMMAND",
	.about = "An image is kept as one read-only disk, known by the sha256 of what is in it.\n",
	.examples = "docker save python:3.12 | berm image import -\n"
		    "berm image ls\n"
		    "berm image rm python:3.12\n",
	.subs = image_subs,
};
