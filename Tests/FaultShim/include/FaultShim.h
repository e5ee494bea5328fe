// Preloaded (LD_PRELOAD) into a process, records and fails its file operations within one folder. Nothing calls into
// it: it stands in for the C library's functions. FaultShim.c says what is recorded and how faults are ordered.

#ifndef FAULT_SHIM_H
#define FAULT_SHIM_H

#include <stdint.h>

enum fault_shim_operation {
    // A descriptor was opened; data: the name, relative to the folder ("" is the folder itself); offset: 1 if the file
    // was made by this, plus 2 if it is a folder.
    FAULT_SHIM_OPEN = 1,
    // Bytes were written; data: the bytes. If it failed there are none.
    FAULT_SHIM_WRITE = 2,
    // fdatasync, fsync or msync returned, or a write through an O_DSYNC or O_SYNC descriptor did: then it follows the
    // write's own record, `is_own_write` is set, and it is about those bytes only.
    FAULT_SHIM_SYNC = 3,
    // The file got this length (offset).
    FAULT_SHIM_TRUNCATE = 4,
    // A name became another; data: old name, 0, new name.
    FAULT_SHIM_RENAME = 5,
    // A name was removed; data: the name.
    FAULT_SHIM_UNLINK = 6,
};

// The log: one record for each operation, in the order in which they were over; `length` bytes of data follow.
struct fault_shim_record {
    uint8_t operation;
    uint8_t is_own_write;
    // errno if it failed, else 0. What failed was not done, except for a write through an O_DSYNC descriptor: its
    // bytes were written, but not synced.
    uint16_t error;
    // The same for all descriptors and names of one file.
    uint32_t file;
    uint64_t offset;
    uint64_t length;
};

#endif
