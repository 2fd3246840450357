#include "wire/wire.h"

/* "type 0" ... "type 255", spelled out at compile time: a message needs no storage of its own. */
#define TEN(d)                                                                                     \
	"type " #d "0", "type " #d "1", "type " #d "2", "type " #d "3", "type " #d "4",            \
		"type " #d "5", "type " #d "6", "type " #d "7", "type " #d "8", "type " #d "9"

static const char *const numbers[] = {
	"type 0", "type 1", "type 2", "type 3", "type 4", "type 5", "type 6", "type 7", "type 8",
	"type 9", TEN(1),   TEN(2),   TEN(3),   TEN(4),   TEN(5),   TEN(6),   TEN(7),   TEN(8),
	TEN(9),   TEN(10),  TEN(11),  TEN(12),  TEN(13),  TEN(14),  TEN(15),  TEN(16),  TEN(17),
	TEN(18),  TEN(19),  TEN(20),  TEN(21),  TEN(22),  TEN(23),  TEN(24),  TEN(25),
};

static const char *const names[WIRE_TYPE_COUNT] = {
	[WIRE_HELLO] = "HELLO",       [WIRE_HELLO_OK] = "HELLO_OK",
	[WIRE_REFUSE] = "REFUSE",     [WIRE_FATAL] = "FATAL",
	[WIRE_IDENTITY] = "IDENTITY", [WIRE_IDENTITY_OK] = "IDENTITY_OK",
	[WIRE_PING] = "PING",         [WIRE_PONG] = "PONG",
	[WIRE_STATS] = "STATS",       [WIRE_STATS_OK] = "STATS_OK",
	[WIRE_FREEZE] = "FREEZE",     [WIRE_FREEZE_OK] = "FREEZE_OK",
	[WIRE_THAW] = "THAW",         [WIRE_THAW_OK] = "THAW_OK",
	[WIRE_QUIESCE] = "QUIESCE",   [WIRE_QUIESCE_OK] = "QUIESCE_OK",
	[WIRE_POWEROFF] = "POWEROFF", [WIRE_EVENT] = "EVENT",
	[WIRE_HOLD] = "HOLD",         [WIRE_HOLD_OK] = "HOLD_OK",
	[WIRE_RELEASE] = "RELEASE",   [WIRE_RELEASE_OK] = "RELEASE_OK",
	[WIRE_EXEC] = "EXEC",         [WIRE_EXEC_OK] = "EXEC_OK",
	[WIRE_EXEC_ERR] = "EXEC_ERR", [WIRE_DATA] = "DATA",
	[WIRE_EOF] = "EOF",           [WIRE_CREDIT] = "CREDIT",
	[WIRE_RESIZE] = "RESIZE",     [WIRE_SIGNAL] = "SIGNAL",
	[WIRE_EXIT] = "EXIT",         [WIRE_PUT] = "PUT",
	[WIRE_GET] = "GET",           [WIRE_RESULT] = "RESULT",
	[WIRE_RESET] = "RESET",       [WIRE_INFO] = "INFO",
	[WIRE_INFO_OK] = "INFO_OK",   [WIRE_ATTACH] = "ATTACH",
	[WIRE_STOP] = "STOP",         [WIRE_KILL] = "KILL",
	[WIRE_END] = "END",           [WIRE_WAIT] = "WAIT",
	[WIRE_PROGRESS] = "PROGRESS", [WIRE_SNAPSHOT] = "SNAPSHOT",
	[WIRE_PAUSE] = "PAUSE",       [WIRE_RESUME] = "RESUME",
	[WIRE_DONE] = "DONE",         [WIRE_COLLECT] = "COLLECT",
	[WIRE_SIZE] = "SIZE",
};

const char *wire_type_name(uint8_t type)
{
	if (type < WIRE_TYPE_COUNT && names[type])
		return names[type];
	return numbers[type];
}
