#include "EventScanner.h"

#include <algorithm>

#include "Faults.h"

namespace csj {

namespace {

// Lines are indexed together up to this many bytes: enough to make the first stage's start-up cost vanish, and
// bytes and positions still fit into the first-level cache.
constexpr size_t windowBytes = 32 << 10;

// Room for positions (4 bytes each) that a scanner keeps from body to body.
constexpr size_t retainedCapacity = 1 << 20;

}  // namespace

EventScanner::EventScanner(const CSJRules &rules)
    : field(rules.field, rules.field_length),
      fallback(rules.fallback != nullptr ? std::string(rules.fallback, rules.fallback_length) : std::string()),
      hasFallback(rules.fallback != nullptr), areCloudEvents(rules.are_cloud_events), eventLimit(rules.max_event_bytes), idLimit(rules.max_id_bytes),
      unescaped(6 * std::max({rules.max_id_bytes, field.size(), fallback.size()})), walk(rules.max_depth) {}

void EventScanner::begin(const uint8_t *newBody, size_t newLength, CSJFormat format) {
    body = newBody;
    length = newLength;
    position = windowStart = windowEnd = singleUntil = elements = 0;
    suspicion = CSJ_VALID;
    size_t first = skipSpace(0, length);
    bool isArray = first < length && body[first] == '[';
    switch (format) {
    case CSJ_FORMAT_OBJECT:
        mode = Mode::object;
        break;
    case CSJ_FORMAT_LINES:
        mode = Mode::lines;
        break;
    case CSJ_FORMAT_JSON:
        mode = isArray ? Mode::array : Mode::object;
        break;
    case CSJ_FORMAT_DETECT:
        mode = isArray ? Mode::array : detect();
        break;
    }
    if (mode != Mode::array) return;
    position = first + 1;
    suspicion = index(0, length);
    if (suspicion == CSJ_VALID) {
        walk.advance();
    } else {
        mode = Mode::slices;
    }
}

// A body whose first line is a whole value holds lines; else it may be one object over several lines. No body of
// several events is both. Of a body that is neither, the first line's shape decides: lines cut out of one broken
// object could look like events.
EventScanner::Mode EventScanner::detect() {
    size_t start = skipSpace(0, length);
    size_t end = lineEnd(start, length);
    if (skipSpace(end, length) == length) return Mode::object;
    CSJEvent event{};
    if (index(start, end) == CSJ_VALID && walkEvent(event) && walk.atEnd()) return Mode::lines;
    if (index(start, length) == CSJ_VALID && walkEvent(event) && walk.atEnd()) return Mode::object;
    return beginsLongObject(start, trimSpace(start, end)) ? Mode::object : Mode::lines;
}

size_t EventScanner::next(CSJEvent *events, size_t capacity) {
    size_t count = 0;
    while (count < capacity && nextEvent(events[count])) count++;
    if (mode == Mode::done && parser && parser->capacity() > retainedCapacity) parser.reset();
    return count;
}

bool EventScanner::nextEvent(CSJEvent &event) {
    event = CSJEvent{};
    switch (mode) {
    case Mode::done:
        return false;
    case Mode::object:
        return nextObject(event);
    case Mode::lines:
        return nextLine(event);
    case Mode::array:
        return nextElement(event);
    case Mode::slices:
        return nextSlice(event);
    case Mode::arrayTail:
        return nextArrayTail(event);
    case Mode::arrayRest:
        return nextArrayRest(event);
    }
    return false;
}

bool EventScanner::nextObject(CSJEvent &event) {
    mode = Mode::done;
    scanAlone(0, length, eventLimit, event);
    return true;
}

bool EventScanner::nextLine(CSJEvent &event) {
    for (;;) {
        if (position == windowEnd) {
            if (position == length) {
                mode = Mode::done;
                return false;
            }
            if (openWindow(event)) return true;
            continue;
        }
        size_t start = position;
        size_t end = lineEnd(start, windowEnd);
        position = std::min(end + 1, windowEnd);
        walk.setLimit(end - windowStart);
        walk.skipTo(start - windowStart);
        if (walk.atEnd()) continue;
        bool isWhole = walkEvent(event) && (walk.atEnd() || walk.fail(CSJ_TRAILING, walk.offset()));
        if (!isWhole) {
            event.length = trimSpace(event.offset, end) - event.offset;
            tellFailure(event);
        }
        return true;
    }
}

bool EventScanner::openWindow(CSJEvent &event) {
    bool single = position < singleUntil;
    windowEnd = length;
    if (!single && length - position > windowBytes) {
        auto found = static_cast<const uint8_t *>(memrchr(body + position, '\n', windowBytes));
        single = found == nullptr;
        if (!single) windowEnd = size_t(found - body) + 1;
    }
    if (single) windowEnd = std::min(lineEnd(position, length) + 1, length);
    size_t start = skipSpace(position, windowEnd);
    size_t end = trimSpace(start, windowEnd);
    bool isOneLine = lineEnd(start, end) == end;
    CSJVerdict verdict = isOneLine && end - start > eventLimit ? CSJ_TOO_LARGE : index(position, windowEnd);
    if (verdict == CSJ_VALID) return false;
    if (verdict == CSJ_EMPTY) {
        position = windowEnd;
        return false;
    }
    if (!isOneLine) {
        singleUntil = windowEnd;
        windowEnd = position;
        return false;
    }
    position = windowEnd;
    event.offset = start;
    event.length = end - start;
    tellProblem(verdict, faultOffset(verdict, body, start, end), event);
    return true;
}

bool EventScanner::nextElement(CSJEvent &event) {
    if (walk.peek() == ']') {
        walk.advance();
        position = walk.offset();
        mode = Mode::arrayTail;
        return nextArrayTail(event);
    }
    if (elements > 0) {
        if (walk.peek() != ',') {
            mode = Mode::done;
            walk.unexpected();
            tellFailure(event);
            tellRest(windowStart + walk.offset(), event);
            return true;
        }
        walk.advance();
    }
    position = walk.offset();
    if (walkEvent(event)) {
        elements++;
        return true;
    }
    suspicion = walk.verdict;
    mode = Mode::slices;
    event = CSJEvent{};
    return nextSlice(event);
}

// Once an array is known to be broken, its elements are told apart by their shape alone and each is scanned by
// itself: what is wrong within a string, number or name costs only its element. Where the shape is broken too,
// nothing behind can be told apart for certain (what was within strings may seem to be outside): the rest of the
// body is one bad event.
bool EventScanner::nextSlice(CSJEvent &event) {
    size_t start = skipSpace(position, length);
    position = start;
    if (start == length) {
        suspicion = CSJ_TRUNCATED;
        return nextArrayTail(event);
    }
    if (elements == 0 && body[start] == ']') {
        position = start + 1;
        return nextArrayTail(event);
    }
    size_t end = start;
    bool isMissing = body[start] == ',' || body[start] == ']';
    if (!isMissing && walkShape(end, length) != Shape::whole) {
        mode = Mode::done;
        scanAlone(start, length, SIZE_MAX, event);
        tellProblem(CSJ_UNEXPECTED, start, event);
        tellRest(start, event);
        return true;
    }
    elements++;
    scanAlone(start, end, eventLimit, event);
    if (isMissing) event.verdict = CSJ_UNEXPECTED;
    if (event.verdict != CSJ_VALID) suspicion = CSJ_VALID;
    position = skipSpace(end, length);
    if (position == length) {
        mode = Mode::arrayTail;
        suspicion = CSJ_TRUNCATED;
        return true;
    }
    switch (body[position]) {
    case ',':
        position++;
        break;
    case ']':
        position++;
        mode = Mode::arrayTail;
        break;
    default:
        mode = Mode::arrayRest;
    }
    return true;
}

bool EventScanner::nextArrayRest(CSJEvent &event) {
    mode = Mode::done;
    tellProblem(CSJ_UNEXPECTED, position, event);
    tellRest(position, event);
    return true;
}

bool EventScanner::nextArrayTail(CSJEvent &event) {
    mode = Mode::done;
    size_t start = skipSpace(position, length);
    tellProblem(start < length ? CSJ_TRAILING : suspicion, start, event);
    tellRest(start, event);
    return event.verdict != CSJ_VALID;
}

CSJVerdict EventScanner::index(size_t start, size_t end) {
    size_t size = end - start;
    if (size > simdjson::SIMDJSON_MAXSIZE_BYTES) return CSJ_TOO_LARGE;
    if (!parser || parser->capacity() < size) {
        parser.reset();
        size_t capacity = windowBytes;
        while (capacity < size) capacity *= 2;
        // The depth is TokenWalk's business: simdjson's second stage is not run.
        auto error = simdjson::get_active_implementation()->create_dom_parser_implementation(
            std::min<size_t>(capacity, simdjson::SIMDJSON_MAXSIZE_BYTES), 1, parser);
        if (error != simdjson::SUCCESS) {
            parser.reset();
            return CSJ_NO_MEMORY;
        }
    }
    windowStart = start;
    switch (parser->stage1(body + start, size, simdjson::stage1_mode::regular)) {
    case simdjson::SUCCESS:
        walk.begin(body + start, parser->structural_indexes.get(), size);
        return CSJ_VALID;
    case simdjson::EMPTY:
        return CSJ_EMPTY;
    case simdjson::UNESCAPED_CHARS:
        return CSJ_CONTROL_CHARACTER;
    case simdjson::UNCLOSED_STRING:
        return CSJ_UNCLOSED_STRING;
    case simdjson::UTF8_ERROR:
        return CSJ_BAD_UTF8;
    default:
        return CSJ_UNEXPECTED;
    }
}

void EventScanner::scanAlone(size_t start, size_t end, size_t sizeLimit, CSJEvent &event) {
    start = skipSpace(start, end);
    end = trimSpace(start, end);
    event.offset = start;
    event.length = end - start;
    CSJVerdict verdict = end == start ? CSJ_EMPTY : end - start > sizeLimit ? CSJ_TOO_LARGE : index(start, end);
    if (verdict != CSJ_VALID) {
        tellProblem(verdict, faultOffset(verdict, body, start, end), event);
    } else if (!walkEvent(event) || !(walk.atEnd() || walk.fail(CSJ_TRAILING, walk.offset()))) {
        event.length = end - start;
        tellFailure(event);
    }
}

bool EventScanner::walkEvent(CSJEvent &event) {
    size_t start = walk.offset();
    event.offset = event.problem_offset = windowStart + start;
    if (walk.peek() != '{') {
        event.verdict = CSJ_NOT_AN_OBJECT;
        if (!walk.value(0)) return false;
        event.length = trimSpace(event.offset, windowStart + walk.offset()) - event.offset;
        return true;
    }
    walk.advance();
    if (!(hasFallback || areCloudEvents ? walkMembersForMore(event) : walkMembers(event))) return false;
    event.length = windowStart + walk.offset() + 1 - event.offset;
    walk.advance();
    if (event.length > eventLimit) tellProblem(CSJ_TOO_LARGE, event.offset, event);
    return true;
}

void EventScanner::tellRest(size_t start, CSJEvent &event) const {
    event.offset = start;
    event.length = trimSpace(start, length) - start;
    event.id_kind = CSJ_ID_ABSENT;
}

void EventScanner::tellFailure(CSJEvent &event) const {
    event.verdict = walk.verdict;
    event.problem_offset = windowStart + walk.failedAt;
}

void EventScanner::tellProblem(CSJVerdict verdict, size_t offset, CSJEvent &event) const {
    if (event.verdict != CSJ_VALID) return;  // the first one counts
    event.verdict = verdict;
    event.problem_offset = offset;
}

}  // namespace csj
