#include "EventScanner.h"

namespace csj {

namespace {

// Deeper than anything whose shape is of use.
constexpr size_t shapeDepth = 1 << 16;

// Bytes of numbers, literals and what people write in their place: NaN, -Infinity, None, 2026-11-23.
bool isWord(uint8_t byte) {
    return isDigit(byte) || uint8_t((byte | 0x20) - 'a') < 26 || byte == '-' || byte == '+' || byte == '.'
        || byte == '_';
}

}  // namespace

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

// Two values without a separator between them, a quote in a word, or a closing bracket of the wrong kind: whatever
// lost or added a quote leads to one of these, nearly always before the next value ends.
EventScanner::Shape EventScanner::walkShape(size_t &at, size_t end) {
    closers.clear();
    bool isBehindValue = false;
    while (at < end) {
        if (isBehindValue && closers.empty()) return Shape::whole;
        uint8_t byte = body[at];
        if (isSpace(byte)) {
            at++;
            continue;
        }
        switch (byte) {
        case ',': case ':':
            if (closers.empty()) return Shape::broken;
            isBehindValue = false;
            at++;
            continue;
        case '}': case ']':
            if (closers.empty() || closers.back() != byte) return Shape::broken;
            closers.pop_back();
            isBehindValue = true;
            at++;
            continue;
        default:
            break;
        }
        if (isBehindValue) return Shape::broken;
        if (byte == '{' || byte == '[') {
            if (closers.size() == shapeDepth) return Shape::broken;
            closers.push_back(byte == '{' ? '}' : ']');
            at++;
            continue;
        }
        isBehindValue = true;
        if (byte == '"') {
            while (++at < end && body[at] != '"') {
                if (body[at] == '\\') at++;
            }
            if (at >= end) return Shape::broken;
            at++;
        } else if (isWord(byte)) {
            while (at < end && isWord(body[at])) at++;
        } else {
            return Shape::broken;
        }
    }
    return isBehindValue && closers.empty() ? Shape::whole : Shape::unfinished;
}

bool EventScanner::beginsLongObject(size_t start, size_t end) {
    if (start == end || body[start] != '{') return false;
    switch (body[end - 1]) {
    case '{': case '[': case ',': case ':':
        return walkShape(start, end) == Shape::unfinished;
    default:
        return false;
    }
}

}  // namespace csj
