#include <string>

#include "EventScanner.h"

// The members of an event: its id, and what makes it a CloudEvent.

namespace csj {

namespace {

const struct {
    std::string name;
    uint8_t attribute;
} requiredAttributes[] = {
    {"id", CSJ_CE_ID}, {"source", CSJ_CE_SOURCE}, {"specversion", CSJ_CE_SPEC_VERSION}, {"type", CSJ_CE_TYPE}};

constexpr uint8_t allAttributes = CSJ_CE_ID | CSJ_CE_SOURCE | CSJ_CE_SPEC_VERSION | CSJ_CE_TYPE;

}  // namespace

// The string that starts at `quote`, the token before the current one, is this name.
inline bool EventScanner::isName(const std::string &name, size_t quote, bool isEscaped) {
    if (__builtin_expect(isEscaped, 0)) return isEscapedName(name, quote);
    const uint8_t *key = body + windowStart + quote + 1;
    size_t size = name.size();
    return walk.offset() - quote - 1 > size && key[size] == '"' && memcmp(key, name.data(), size) == 0;
}

inline bool EventScanner::walkOther() {
    uint8_t first = walk.peek();
    return first == '{' || first == '[' ? walk.value(1) : walk.scalar(first);
}

// Walks the members of an object up to its closing brace, of which there is at least one. `kindOf` tells by a
// member's name what it is; values of `Member::other` are walked here, all others by `walkValue`.
template <typename KindOf, typename WalkValue>
inline bool EventScanner::eachMember(KindOf kindOf, WalkValue walkValue) {
    for (;;) {
        if (walk.peek() != '"') return walk.unexpected();
        size_t quote = walk.offset();
        size_t escaped = walk.escapedStrings;
        if (!walk.string()) return false;
        Member member = kindOf(quote, walk.escapedStrings != escaped);
        if (walk.peek() != ':') return walk.unexpected();
        walk.advance();
        if (!(member == Member::other ? walkOther() : walkValue(member, quote))) return false;
        if (walk.peek() == '}') return true;
        if (walk.peek() != ',') return walk.unexpected();
        walk.advance();
    }
}

bool EventScanner::walkMembers(CSJEvent &event) {
    if (walk.peek() == '}') return true;
    size_t ids = 0;
    return eachMember([&](size_t quote, bool isEscaped) {
        return isName(field, quote, isEscaped) ? Member::id : Member::other;
    }, [&](Member, size_t quote) { return walkIDs(quote, ids++, event); });
}

bool EventScanner::walkMembersForMore(CSJEvent &event) {
    CSJEvent second{};
    second.offset = event.offset;
    second.is_fallback = true;
    size_t ids = 0, fallbacks = 0;
    bool isGiven = false;
    uint8_t attribute = 0, attributes = 0;
    bool isWhole = walk.peek() == '}' || eachMember([&](size_t quote, bool isEscaped) {
        if (areCloudEvents) attribute = attributeOf(quote, isEscaped);
        if (isName(field, quote, isEscaped)) return Member::id;
        if (hasFallback && isName(fallback, quote, isEscaped)) return Member::fallback;
        return attribute != 0 ? Member::attribute : Member::other;
    }, [&](Member member, size_t quote) {
        if (attribute != 0) attributes |= judgeAttribute(attribute, event);
        if (member == Member::attribute) return walkOther();
        if (member == Member::fallback) return walkIDs(quote, fallbacks++, second);
        isGiven = isGiven || ids > 0 || walk.peek() != 'n';
        return walkIDs(quote, ids++, event);
    });
    if (isWhole && areCloudEvents && attributes != allAttributes) {
        tellAttributes(CSJ_ATTRIBUTE_MISSING, allAttributes & ~attributes, event.offset, event);
    }
    if (isGiven) return isWhole;
    event.is_fallback = true;
    event.id_kind = second.id_kind;
    event.id_offset = second.id_offset;
    event.id_length = second.id_length;
    if (second.verdict != CSJ_VALID) tellProblem(second.verdict, second.problem_offset, event);
    return isWhole;
}

uint8_t EventScanner::attributeOf(size_t quote, bool isEscaped) {
    for (const auto &required : requiredAttributes) {
        if (isName(required.name, quote, isEscaped)) return required.attribute;
    }
    return 0;
}

uint8_t EventScanner::judgeAttribute(uint8_t attribute, CSJEvent &event) const {
    size_t at = walk.offset();
    const uint8_t *value = body + windowStart + at;
    uint8_t first = walk.peek();
    if (first == 'n') return 0;
    // The string is closed: its quotes were found.
    if (first != '"' || value[1] == '"') {
        tellAttributes(CSJ_ATTRIBUTE_VALUE, attribute, windowStart + at, event);
    } else if (attribute == CSJ_CE_SPEC_VERSION && (walk.end() - at < 5 || memcmp(value, "\"1.0\"", 5) != 0)) {
        tellAttributes(CSJ_SPEC_VERSION, attribute, windowStart + at, event);
    }
    return attribute;
}

void EventScanner::tellAttributes(CSJVerdict verdict, uint8_t attributes, size_t offset, CSJEvent &event) const {
    if (event.verdict == CSJ_VALID) event.attributes = attributes;
    tellProblem(verdict, offset, event);
}

bool EventScanner::walkIDs(size_t quote, size_t count, CSJEvent &event) {
    if (count > 0) tellProblem(CSJ_ID_TWICE, windowStart + quote, event);
    if (!walkID(event)) return false;
    if (count > 0) event.id_kind = CSJ_ID_ABSENT;  // which of them is it?
    return true;
}

bool EventScanner::isEscapedName(const std::string &name, size_t quote) {
    size_t start, size;
    walk.content(quote, start, size);
    if (size > 6 * name.size()) return false;
    size = csj_unescape(body + windowStart + start, size, unescaped.data());
    return size == name.size() && memcmp(unescaped.data(), name.data(), size) == 0;
}

bool EventScanner::walkID(CSJEvent &event) {
    size_t at = walk.offset();
    uint8_t first = walk.peek();
    if (first == '"') {
        size_t escaped = walk.escapedStrings;
        if (!walk.string()) return false;
        size_t start, size;
        walk.content(at, start, size);
        judgeID(start, size, walk.escapedStrings != escaped, event);
        return true;
    }
    if (first == '-' || isDigit(first)) {
        bool isInteger;
        size_t end = numberEnd(body + windowStart, at, walk.end(), isInteger);
        if (!walk.scalar(first)) return false;
        if (isInteger) {
            judgeID(at, end - at, false, event);
        } else {
            tellProblem(CSJ_ID_TYPE, windowStart + at, event);
        }
        return true;
    }
    if (!walk.value(1)) return false;
    if (first != 'n') tellProblem(CSJ_ID_TYPE, windowStart + at, event);
    return true;
}

void EventScanner::judgeID(size_t start, size_t size, bool isEscaped, CSJEvent &event) {
    size_t offset = windowStart + start;
    if (size == 0) return tellProblem(CSJ_ID_EMPTY, offset, event);
    size_t idSize = size;
    if (isEscaped && size <= unescaped.size()) idSize = csj_unescape(body + offset, size, unescaped.data());
    if (idSize > idLimit) return tellProblem(CSJ_ID_TOO_LONG, offset, event);
    event.id_kind = isEscaped ? CSJ_ID_ESCAPED : CSJ_ID_SLICE;
    event.id_offset = uint32_t(offset - event.offset);
    event.id_length = uint32_t(size);
}

}  // namespace csj
