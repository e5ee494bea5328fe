#include "Faults.h"

namespace csj {

namespace {

// The length of the UTF-8 sequence at `at` (RFC 3629, section 4); 0 if it is none.
size_t sequenceLength(const uint8_t *body, size_t at, size_t end) {
    uint8_t first = body[at];
    if (first < 0x80) return 1;
    size_t length = first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
    if (length == 0 || end - at < length) return 0;
    uint8_t low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    uint8_t high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (body[at + 1] < low || body[at + 1] > high) return 0;
    for (size_t index = 2; index < length; index++) {
        if ((body[at + index] & 0xC0) != 0x80) return 0;
    }
    return length;
}

}  // namespace

size_t faultOffset(CSJVerdict verdict, const uint8_t *body, size_t start, size_t end) {
    if (verdict == CSJ_BAD_UTF8) {
        for (size_t at = start; at < end;) {
            size_t length = sequenceLength(body, at, end);
            if (length == 0) return at;
            at += length;
        }
        return start;
    }
    if (verdict != CSJ_CONTROL_CHARACTER && verdict != CSJ_UNCLOSED_STRING) return start;
    bool isInString = false;
    size_t quote = start;
    for (size_t at = start; at < end; at++) {
        if (body[at] == '"') {
            isInString = !isInString;
            quote = at;
        } else if (isInString && body[at] < 0x20 && verdict == CSJ_CONTROL_CHARACTER) {
            return at;
        } else if (isInString && body[at] == '\\' && !(at + 1 < end && body[at + 1] < 0x20)) {
            at++;
        }
    }
    return isInString ? quote : start;
}

}  // namespace csj
