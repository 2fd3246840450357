#include "sup/sup.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/kernel_gaps.h"
#include "lib/client.h"
#include "state/snapshot_note.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

enum { SENT_FDS = CLIENT_FDS_MAX };

/* --- in the thread: nothing of struct sup but what stands in its sup_save --- */

static int open_folder(struct sup_save *v, struct err *e)
{
	if (v->folder_fd >= 0)
		return 0;
	/* a state directory of an earlier berm has none yet */
	if (mkdirat(v->state_fd, "snapshots", 0700) < 0 && errno != EEXIST)
		return err_sys(e, "make the folder of snapshots");
	return fd_openat(v->state_fd, "snapshots", O_RDONLY | O_DIRECTORY, 0, &v->folder_fd, e);
}

static int prepare(struct sup_save *v, struct err *e)
{
	int r = open_folder(v, e);

	if (r == 0)
		r = draft_new(v->folder_fd, v->ram_bytes, v->disk_bytes, &v->draft, e);
	if (r < 0 || v->machine.len > 0)
		return r;
	r = guest_put_machine(&v->machine, v->files, v->spec, e);
	if (r == 0 && !buf_ok(&v->machine))
		r = err_set(e, -EMSGSIZE, "what the guest is made of is described too long");
	if (r < 0)
		buf_reset(&v->machine);
	return r;
}

static uint64_t save_deadline(const struct sup_save *v)
{
	return clock_mono_ms() + SUP_SAVE_MS + v->ram_bytes / SUP_SAVE_BYTES_MS;
}

static int save(const struct sup_save *v, struct err *e)
{
	int r = v->vm.ops->snapshot(&v->vm, v->draft.state_fd, v->draft.ram_fd, save_deadline(v),
	                            e);

	return r == 0 ? fd_copy_sparse(v->scratch_fd, v->draft.scratch_fd, e) : r;
}

/* An engine's own words for it are of no use to anybody. */
static void explain(const struct sup_save *v, struct err *e)
{
	struct statvfs room;

	if (v->draft.dir_fd < 0 || fstatvfs(v->draft.dir_fd, &room) < 0)
		return;
	if ((uint64_t)room.f_bavail * room.f_frsize < SUP_FULL_BYTES)
		(void)err_set(e, -ENOSPC, "no space left in the state directory");
}

/* Whatever happens, the guest goes on if it is to. */
static int rest(struct sup_save *v, struct err *e)
{
	struct err late = { 0 };
	int r = 0;

	if (v->pause)
		r = v->vm.ops->pause(&v->vm, clock_mono_ms() + SUP_ENGINE_MS, e);
	if (r == 0 && v->save) {
		r = save(v, e);
		if (r < 0)
			explain(v, e);
	}
	if (!v->resume && (r == 0 || !v->pause))
		return r;
	if (v->vm.ops->resume(&v->vm, clock_mono_ms() + SUP_ENGINE_MS, &late) == 0)
		return r < 0 ? e->code : 0;
	v->broken = true;
	*e = late;
	return late.code;
}

static int seal(struct sup_save *v, struct err *e)
{
	int r = draft_seal(&v->draft, span_of(v->note, v->note_len), e);

	if (r < 0)
		explain(v, e);
	return r < 0 ? e->code : 0;
}

static struct sup_save *saving(const uv_work_t *work)
{
	return &((struct sup *)work->data)->op.save;
}

static void work_prepare(uv_work_t *work)
{
	struct sup_save *v = saving(work);

	v->code = prepare(v, &v->e);
}

static void work_rest(uv_work_t *work)
{
	struct sup_save *v = saving(work);

	v->code = rest(v, &v->e);
}

static void work_seal(uv_work_t *work)
{
	struct sup_save *v = saving(work);

	v->code = seal(v, &v->e);
}

/* --- in the loop --- */

static void after_work(uv_work_t *work, int status)
{
	struct sup *s = work->data;
	struct sup_save *v = &s->op.save;

	if (status < 0)
		v->code = err_set(&v->e, status, "%s", uv_strerror(status));
	s->op.working = false;
	sup_op_done(s);
}

static void begin(struct sup *s, uint8_t phase, uv_work_cb work)
{
	struct sup_save *v = &s->op.save;

	s->op.phase = phase;
	s->op.working = true;
	v->work.data = s;
	v->code = 0;
	v->broken = false;
	err_clear(&v->e);
	v->vm = s->vm;
	if (uv_queue_work(&s->loop, &v->work, work, after_work) == 0)
		return;
	s->op.working = false;
	v->code = err_set(&v->e, -EAGAIN, "no thread can be started");
	sup_op_done(s);
}

void sup_save_init(struct sup *s)
{
	struct sup_save *v = &s->op.save;

	v->folder_fd = -1;
	draft_init(&v->draft);
	buf_init(&v->machine, v->machine_bytes, sizeof(v->machine_bytes));
}

void sup_save_prepare(struct sup *s)
{
	struct sup_save *v = &s->op.save;

	v->state_fd = s->state_fd;
	v->scratch_fd = s->scratch_fd;
	v->ram_bytes = s->spec.limits.memory_bytes;
	v->disk_bytes = s->spec.limits.disk_bytes;
	v->files = &s->files;
	v->spec = &s->spec;
	begin(s, SUP_PREPARING, work_prepare);
}

void sup_save_rest(struct sup *s)
{
	begin(s, SUP_RESTING, work_rest);
}

void sup_save_seal(struct sup *s)
{
	begin(s, SUP_SEALING, work_seal);
}

/* The specification of a copy: what this guest is, and nothing of who started it. */
static struct spec copy_spec(const struct sup *s)
{
	const struct sup_stream *main =
		sup_stream_find((struct sup *)(uintptr_t)s, SUP_MAIN_STREAM);
	struct spec spec = s->spec;

	spec.name = spec.hostname = NULL;
	spec.warm = spec.warm_env = NULL;
	spec.detach = spec.remove = spec.cold = spec.foreground_tty = false;
	spec.engine = s->engine->id == ENGINE_KVM ? SPEC_ENGINE_KVM : SPEC_ENGINE_QEMU;
	spec.from = s->id;
	spec.epoch = s->epoch;
	spec.main_pid = main ? main->pid : 0;
	spec.main_stdin_eof = main && main->ended[WIRE_IN];
	return spec;
}

int sup_save_note(struct sup *s, struct err *e)
{
	_own_free_ uint8_t *bytes = malloc(SPEC_BYTES_MAX);
	struct sup_save *v = &s->op.save;
	const struct spec spec = copy_spec(s);
	struct snapshot_note n = { .created_ns = clock_real_ns() };
	struct buf b;

	free(v->note);
	v->note = malloc(SAVED_NOTE_MAX);
	if (!v->note || !bytes)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&b, bytes, SPEC_BYTES_MAX);
	spec_put(&b, &spec);
	n.id = span_str(s->id);
	n.name = span_str(s->spec.name ? s->spec.name : "");
	n.machine = buf_span(&v->machine);
	n.spec = buf_span(&b);
	if (!buf_ok(&b))
		return err_set(e, -EMSGSIZE, "its command and environment are too long");
	buf_init(&b, v->note, SAVED_NOTE_MAX);
	snapshot_put_note(&b, &n);
	if (!buf_ok(&b))
		return err_set(e, -EMSGSIZE, "its description is too long");
	v->note_len = b.len;
	return 0;
}

void sup_save_drop(struct sup *s)
{
	struct sup_save *v = &s->op.save;

	draft_discard(v->folder_fd, &v->draft);
	free(v->note);
	v->note = NULL;
	v->note_len = 0;
}

static int note_file(const struct sup_save *v, int *ret_fd, struct err *e)
{
	_own_fd_ int fd = memfd_create("berm-note", MFD_CLOEXEC);
	int r;

	if (fd < 0)
		return err_sys(e, "make a memory file");
	r = fd_write_all(fd, v->note, v->note_len, e);
	if (r == 0)
		*ret_fd = steal_fd(&fd);
	return r;
}

int sup_save_send(struct sup *s, struct sup_client *c)
{
	const struct sup_save *v = &s->op.save;
	const struct wire_fail done = { 0 };
	_Alignas(struct cmsghdr) char room[CMSG_SPACE(SENT_FDS * sizeof(int))] = { 0 };
	int fds[SENT_FDS] = { v->draft.ram_fd, v->draft.state_fd, v->draft.scratch_fd, -1 };
	uint8_t frame[WIRE_HEADER_BYTES + 64];
	_own_fd_ int note_fd = -1;
	struct iovec iov = { .iov_base = frame };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = room };
	struct cmsghdr *h;
	struct buf b;

	/* the files travel with the first byte, so nothing may be left to be sent before that */
	if (note_file(v, &note_fd, NULL) < 0 || link_flush(c->link) != 0)
		return -EPIPE;
	fds[SENT_FDS - 1] = note_fd;
	buf_init(&b, frame, sizeof(frame));
	wire_put_fail(&b, WIRE_DONE, 0, 1, &done);
	iov.iov_len = b.len;
	m.msg_controllen = sizeof(room);
	h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(h), fds, sizeof(fds));
	if (sendmsg(c->link->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)b.len)
		return -EPIPE;
	return 0;
}
