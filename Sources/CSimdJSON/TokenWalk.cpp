#include "TokenWalk.h"

namespace csj {

namespace {

// White space and the bytes that are tokens by themselves: what may stand behind a number or literal.
bool delimits(uint8_t byte) {
    switch (byte) {
    case ' ': case '\n': case '\r': case '\t': case ',': case ':': case '}': case ']': case '{': case '[':
        return true;
    default:
        return false;
    }
}

uint32_t hexDigit(uint8_t byte) {
    if (isDigit(byte)) return byte - '0';
    uint8_t letter = uint8_t((byte | 0x20) - 'a');
    return letter < 6 ? letter + 10u : 0x10000u;
}

}  // namespace

uint32_t hexQuad(const uint8_t *digits) {
    uint32_t value = 0;
    for (int index = 0; index < 4; index++) {
        uint32_t digit = hexDigit(digits[index]);
        if (digit > 15) return 0x10000u;
        value = value << 4 | digit;
    }
    return value;
}

size_t escapeEnd(const uint8_t *bytes, size_t at, size_t end) {
    if (end - at < 2) return 0;
    switch (bytes[at + 1]) {
    case '"': case '\\': case '/': case 'b': case 'f': case 'n': case 'r': case 't':
        return at + 2;
    case 'u':
        break;
    default:
        return 0;
    }
    if (end - at < 6) return 0;
    uint32_t unit = hexQuad(bytes + at + 2);
    if (unit > 0xFFFF || (unit >= 0xDC00 && unit <= 0xDFFF)) return 0;
    if (unit < 0xD800 || unit > 0xDBFF) return at + 6;
    if (end - at < 12 || bytes[at + 6] != '\\' || bytes[at + 7] != 'u') return 0;
    uint32_t low = hexQuad(bytes + at + 8);
    return low >= 0xDC00 && low <= 0xDFFF ? at + 12 : 0;
}

size_t numberEnd(const uint8_t *bytes, size_t at, size_t end, bool &isInteger) {
    isInteger = true;
    auto digits = [&]() {
        size_t start = at;
        while (at < end && isDigit(bytes[at])) at++;
        return at > start;
    };
    if (at < end && bytes[at] == '-') at++;
    if (at < end && bytes[at] == '0') {
        at++;
    } else if (!digits()) {
        return 0;
    }
    if (at < end && bytes[at] == '.') {
        isInteger = false;
        at++;
        if (!digits()) return 0;
    }
    if (at < end && (bytes[at] | 0x20) == 'e') {
        isInteger = false;
        at++;
        if (at < end && (bytes[at] == '+' || bytes[at] == '-')) at++;
        if (!digits()) return 0;
    }
    return at == end || delimits(bytes[at]) ? at : 0;
}

bool TokenWalk::escapes(size_t end) {
    escapedStrings++;
    while (backslash < end) {
        size_t behind = escapeEnd(bytes, backslash, end);
        if (behind == 0) return fail(CSJ_BAD_ESCAPE, backslash);
        backslash = behind;
        nextBackslash();
    }
    return true;
}

bool TokenWalk::literal(const char *text, size_t length) {
    size_t at = offset();
    if (limit - at < length || memcmp(bytes + at, text, length) != 0) return unexpected();
    if (limit - at > length && !delimits(bytes[at + length])) return unexpected();
    token++;
    return true;
}

bool TokenWalk::numberOrLiteral(uint8_t first) {
    switch (first) {
    case 't':
        return literal("true", 4);
    case 'f':
        return literal("false", 5);
    case 'n':
        return literal("null", 4);
    case '-': case '0': case '1': case '2': case '3': case '4': case '5': case '6': case '7': case '8': case '9': {
        bool isInteger;
        if (numberEnd(bytes, *token, limit, isInteger) == 0) return fail(CSJ_BAD_NUMBER, *token);
        token++;
        return true;
    }
    default:
        return unexpected();
    }
}

bool TokenWalk::value(size_t depth) {
    const size_t outer = depth;
value:
    switch (uint8_t first = peek()) {
    case '{':
        if (depth == inObject.size()) return fail(CSJ_TOO_DEEP, offset());
        inObject[depth++] = 1;
        token++;
        if (peek() == '}') goto close;
        goto key;
    case '[':
        if (depth == inObject.size()) return fail(CSJ_TOO_DEEP, offset());
        inObject[depth++] = 0;
        token++;
        if (peek() == ']') goto close;
        goto value;
    default:
        if (!scalar(first)) return false;
        goto behind;
    }
key:
    if (peek() != '"') return unexpected();
    if (!string()) return false;
    if (peek() != ':') return unexpected();
    token++;
    goto value;
close:
    token++;
    depth--;
behind:
    if (depth == outer) return true;
    if (inObject[depth - 1]) {
        switch (peek()) {
        case ',':
            token++;
            goto key;
        case '}':
            goto close;
        default:
            return unexpected();
        }
    } else {
        switch (peek()) {
        case ',':
            token++;
            goto value;
        case ']':
            goto close;
        default:
            return unexpected();
        }
    }
}

}  // namespace csj
