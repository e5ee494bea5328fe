#pragma once

#include <stdint.h>

/// Allocations of this process so far, by all threads: calls of malloc, calloc, realloc and their aligned relatives
/// that gave memory. A realloc counts as one, whether it moved or not.
uint64_t allocation_count(void);
