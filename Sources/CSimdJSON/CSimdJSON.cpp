#include "CSimdJSON.h"

#include <new>

#include "EventScanner.h"
#include "TokenWalk.h"

struct CSJScanner {
    csj::EventScanner scanner;
};

CSJScanner *csj_create(const CSJRules *rules) {
    try {
        return new CSJScanner{csj::EventScanner(*rules)};
    } catch (const std::bad_alloc &) {
        return nullptr;
    }
}

void csj_destroy(CSJScanner *scanner) { delete scanner; }

void csj_begin(CSJScanner *scanner, const uint8_t *body, size_t length, CSJFormat format) {
    scanner->scanner.begin(body, length, format);
}

size_t csj_next(CSJScanner *scanner, CSJEvent *events, size_t capacity) {
    return scanner->scanner.next(events, capacity);
}

size_t csj_unescape(const uint8_t *raw, size_t length, uint8_t *target) {
    uint8_t *out = target;
    auto put = [&](uint32_t byte) { *out++ = uint8_t(byte); };
    for (size_t at = 0; at < length; at++) {
        if (raw[at] != '\\') {
            put(raw[at]);
            continue;
        }
        switch (uint8_t kind = raw[++at]) {
        case 'b': put('\b'); break;
        case 'f': put('\f'); break;
        case 'n': put('\n'); break;
        case 'r': put('\r'); break;
        case 't': put('\t'); break;
        case 'u': {
            uint32_t code = csj::hexQuad(raw + at + 1);
            at += 4;
            if (code >= 0xD800 && code <= 0xDBFF) {
                code = 0x10000 + ((code - 0xD800) << 10) + (csj::hexQuad(raw + at + 3) - 0xDC00);
                at += 6;
            }
            if (code < 0x80) {
                put(code);
            } else if (code < 0x800) {
                put(0xC0 | code >> 6);
                put(0x80 | (code & 0x3F));
            } else if (code < 0x10000) {
                put(0xE0 | code >> 12);
                put(0x80 | (code >> 6 & 0x3F));
                put(0x80 | (code & 0x3F));
            } else {
                put(0xF0 | code >> 18);
                put(0x80 | (code >> 12 & 0x3F));
                put(0x80 | (code >> 6 & 0x3F));
                put(0x80 | (code & 0x3F));
            }
            break;
        }
        default: put(kind); break;
        }
    }
    return size_t(out - target);
}
