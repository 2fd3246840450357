/*
 * internal: what the files of this folder share. Nobody else includes it.
 */
#pragma once

#include "jail/jail.h"

#include <string.h>
