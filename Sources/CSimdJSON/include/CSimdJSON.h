// C face of the event scanner: exact JSON validation, event id extraction and body splitting.
//
// simdjson's first stage (UTF-8, strings, positions of all tokens) does the byte work; the walk over its tokens in
// EventScanner.cpp checks the grammar, finds the event id and knows the boundaries of every event. simdjson's own
// second stage is not used: it refuses numbers beyond 64 bits and beyond double's range, which are valid JSON (and
// valid UInt256 columns), keeps no positions, and needs up to 20 bytes of memory for each byte of input.
#ifndef CSIMDJSON_H
#define CSIMDJSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// A scanner and its memory. Used by one thread at a time.
typedef struct CSJScanner CSJScanner;

// What is wrong with an event or a body.
typedef enum CSJVerdict : uint8_t {
    CSJ_VALID = 0,
    CSJ_BAD_UTF8,           // bytes that are not UTF-8
    CSJ_CONTROL_CHARACTER,  // an unescaped control character within a string
    CSJ_UNCLOSED_STRING,
    CSJ_BAD_ESCAPE,         // in a string, also an unpaired surrogate
    CSJ_BAD_NUMBER,
    CSJ_UNEXPECTED,         // a token where the grammar has no place for it
    CSJ_TRUNCATED,          // ends before its objects and arrays do
    CSJ_TRAILING,           // more behind the value
    CSJ_TOO_DEEP,
    CSJ_EMPTY,              // nothing but white space
    CSJ_NOT_AN_OBJECT,      // valid so far, but an array or a scalar
    CSJ_TOO_LARGE,
    CSJ_ID_TYPE,            // the id is neither a string, nor an integer, nor null
    CSJ_ID_EMPTY,
    CSJ_ID_TOO_LONG,
    CSJ_ID_TWICE,           // the id field occurs more than once
    CSJ_ATTRIBUTE_MISSING,  // required attributes of a CloudEvent are absent or null
    CSJ_ATTRIBUTE_VALUE,    // one of them is not a string, or empty
    CSJ_SPEC_VERSION,       // the CloudEvent's "specversion" is not "1.0"
    CSJ_NO_MEMORY
} CSJVerdict;

// The attributes that every CloudEvent has (CloudEvents 1.0.2, section "REQUIRED Attributes").
enum {
    CSJ_CE_ID = 1,
    CSJ_CE_SOURCE = 2,
    CSJ_CE_SPEC_VERSION = 4,
    CSJ_CE_TYPE = 8
};

// Where the event id is.
typedef enum CSJIDKind : uint8_t {
    CSJ_ID_ABSENT = 0,
    CSJ_ID_SLICE,    // these bytes of the event
    CSJ_ID_ESCAPED   // these bytes of the event, to be unescaped with csj_unescape
} CSJIDKind;

// One event found in a body, or one problem. Every byte of a body lies in exactly one of these, but for white space
// and an array's own brackets and commas.
typedef struct CSJEvent {
    size_t offset;          // of the event in the body
    size_t length;          // without surrounding white space; 0 for what is missing (an element, the end)
    size_t problem_offset;  // of the problem in the body
    uint32_t id_offset;     // within the event
    uint32_t id_length;
    CSJIDKind id_kind;      // of a bad event: what was found before the problem was
    CSJVerdict verdict;
    bool is_fallback;       // the id, or what is wrong with it, is the fallback field's
    uint8_t attributes;     // the ones that the verdict is about, CSJ_CE_...
} CSJEvent;

// How a body holds its events.
typedef enum CSJFormat : uint8_t {
    CSJ_FORMAT_JSON = 0,  // one object, or an array of objects
    CSJ_FORMAT_LINES,     // an object a line; lines of white space are skipped
    CSJ_FORMAT_DETECT,    // whichever of the two it is
    CSJ_FORMAT_OBJECT     // one object
} CSJFormat;

// What a scanner looks for and allows. The names are copied; `fallback` is NULL if there is none.
typedef struct CSJRules {
    const char *field;  // whose value is the event's id
    size_t field_length;
    const char *fallback;  // the same where `field` is absent or null
    size_t fallback_length;
    bool are_cloud_events;  // an event must have a CloudEvent's required attributes
    size_t max_event_bytes;
    size_t max_id_bytes;
    size_t max_depth;
} CSJRules;

// Makes a scanner; NULL without memory.
CSJScanner *csj_create(const CSJRules *rules);
void csj_destroy(CSJScanner *scanner);

// Starts a body. It must stay in place and unchanged until the last csj_next; nothing behind it is read.
// `length` must be below 4 GiB.
void csj_begin(CSJScanner *scanner, const uint8_t *body, size_t length, CSJFormat format);

// The next events of the body in order, bad ones included; fewer than `capacity` (also 0) at the end.
size_t csj_next(CSJScanner *scanner, CSJEvent *events, size_t capacity);

// Unescapes the string content [raw, raw + length), which was validated, into `target` of at least `length` bytes.
// Returns the number of bytes written.
size_t csj_unescape(const uint8_t *raw, size_t length, uint8_t *target);

#ifdef __cplusplus
}
#endif

#endif
