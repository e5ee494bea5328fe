#include "EventScanner.h"

namespace csj {

size_t EventScanner::skipSpace(size_t at, size_t end) const {
    while (at < end && isSpace(body[at])) at++;
    return at;
}

size_t EventScanner::trimSpace(size_t start, size_t end) const {
    while (end > start && isSpace(body[end - 1])) end--;
    return end;
}

size_t EventScanner::lineEnd(size_t at, size_t end) const {
    if (at >= end) return end;
    auto found = static_cast<const uint8_t *>(memchr(body + at, '\n', end - at));
    return found != nullptr ? size_t(found - body) : end;
}

size_t EventScanner::sliceEnd(size_t at) const {
    size_t depth = 0;
    bool inString = false;
    for (; at < length; at++) {
        uint8_t byte = body[at];
        if (inString) {
            if (byte == '\\') at++;
            else if (byte == '"') inString = false;
            continue;
        }
        switch (byte) {
        case '"':
            inString = true;
            break;
        case '{': case '[':
            depth++;
            break;
        case '}':
            if (depth > 0) depth--;
            break;
        case ']':
            if (depth == 0) return at;
            depth--;
            break;
        case ',':
            if (depth == 0) return at;
            break;
        default:
            break;
        }
    }
    return length;
}

}  // namespace csj
