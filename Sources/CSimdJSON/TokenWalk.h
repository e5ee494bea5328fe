// The JSON grammar over the token positions that simdjson's first stage finds.
//
// What the first stage guarantees (simdjson 3.0, src/generic/stage1): the bytes are UTF-8, no string holds a control
// character, every string is closed, and the positions are exactly: every { } [ ] : , outside of strings, every
// opening quote that does not directly follow another scalar, and the first byte of every other run of bytes
// between those and white space. What it leaves to the second stage, and so to this walk: the order of tokens,
// numbers, literals, escape sequences, depth.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "CSimdJSON.h"

namespace csj {

inline bool isSpace(uint8_t byte) { return byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t'; }

inline bool isDigit(uint8_t byte) { return uint8_t(byte - '0') < 10; }

// The value of four hex digits, or a number beyond 16 bits.
uint32_t hexQuad(const uint8_t *digits);

// The escape sequence at `at` (which holds a backslash) is well-formed and ends before `end`: returns the offset
// behind it, or 0.
size_t escapeEnd(const uint8_t *bytes, size_t at, size_t end);

// Behind the JSON number that starts at `at`, or 0. `isInteger` tells whether it has neither fraction nor exponent.
size_t numberEnd(const uint8_t *bytes, size_t at, size_t end, bool &isInteger);

// A position in the token list. Every read of the bytes is below `limit`.
class TokenWalk {
public:
    explicit TokenWalk(size_t maxDepth) : inObject(maxDepth) {}

    // Starts at the first of `positions` in `length` bytes; behind the last position stands `length`.
    void begin(const uint8_t *newBytes, const uint32_t *positions, size_t length) {
        bytes = newBytes;
        token = positions;
        limit = length;
        scope = length;
        backslash = 0;
        nextBackslash();
    }

    // Bytes from here on belong to something else (the next line).
    void setLimit(size_t newLimit) { limit = newLimit; }

    // Skips the tokens before `offset`, for example the rest of a bad line.
    void skipTo(size_t offset) {
        while (*token < offset) token++;
        if (backslash < offset) {
            backslash = offset;
            nextBackslash();
        }
    }

    size_t offset() const { return *token < limit ? *token : limit; }
    size_t end() const { return limit; }
    bool atEnd() const { return *token >= limit; }
    // The byte that the token starts with; 0 (never a token) at the end.
    uint8_t peek() const { return *token < limit ? bytes[*token] : 0; }
    void advance() { token++; }

    // Walks the string whose opening quote is the current token.
    bool string() {
        size_t end = token[1] < limit ? token[1] : limit;
        if (__builtin_expect(backslash < end, 0) && !escapes(end)) return false;
        token++;
        return true;
    }

    // The content of the string whose opening quote is at `quote`, the token before the current one.
    void content(size_t quote, size_t &start, size_t &length) const {
        size_t end = offset();
        while (bytes[end - 1] != '"') end--;  // only white space lies behind the closing quote
        start = quote + 1;
        length = end - 1 - start;
    }

    // Walks the string, number or literal that starts with `first`.
    bool scalar(uint8_t first) { return first == '"' ? string() : numberOrLiteral(first); }

    // Walks the value at the current token; `depth` containers are open around it.
    bool value(size_t depth);

    // Notes why the walk failed, and where; returns false.
    bool fail(CSJVerdict why, size_t where) {
        verdict = why;
        failedAt = where;
        return false;
    }

    // The current token has no place here.
    bool unexpected() { return fail(atEnd() ? CSJ_TRUNCATED : CSJ_UNEXPECTED, offset()); }

    CSJVerdict verdict = CSJ_VALID;
    size_t failedAt = 0;
    size_t escapedStrings = 0;  // strings with escapes walked so far

private:
    bool escapes(size_t end);
    bool numberOrLiteral(uint8_t first);
    bool literal(const char *text, size_t length);

    void nextBackslash() {
        auto found = backslash < scope
            ? static_cast<const uint8_t *>(memchr(bytes + backslash, '\\', scope - backslash)) : nullptr;
        backslash = found != nullptr ? size_t(found - bytes) : SIZE_MAX;
    }

    const uint8_t *bytes = nullptr;
    const uint32_t *token = nullptr;
    size_t limit = 0;                // every byte read is before it
    size_t scope = 0;                // bytes that the positions belong to
    size_t backslash = SIZE_MAX;     // first one not yet walked; SIZE_MAX if the scope holds no more
    std::vector<uint8_t> inObject;   // the kind of each open container
};

}  // namespace csj
