// Finds the events of a body and checks each: the object behind CSJScanner.
#pragma once

#include <simdjson.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "CSimdJSON.h"
#include "TokenWalk.h"

namespace csj {

class EventScanner {
public:
    explicit EventScanner(const CSJRules &rules);

    void begin(const uint8_t *newBody, size_t newLength, CSJFormat format);
    size_t next(CSJEvent *events, size_t capacity);

private:
    enum class Mode { done, object, lines, array, slices, arrayTail, arrayRest };
    enum class Member { other, id, fallback, attribute };
    enum class Shape { whole, unfinished, broken };

    Mode detect();
    bool nextEvent(CSJEvent &event);
    bool nextObject(CSJEvent &event);
    bool nextLine(CSJEvent &event);
    bool nextElement(CSJEvent &event);
    bool nextSlice(CSJEvent &event);
    bool nextArrayRest(CSJEvent &event);
    bool nextArrayTail(CSJEvent &event);

    // Runs the first stage over body[start, end) and puts the walk at its first token.
    CSJVerdict index(size_t start, size_t end);
    // Indexes the next lines. Returns true if that is one bad line, which `event` then tells; else the lines from
    // `position` to `windowEnd`, perhaps none, can be walked.
    bool openWindow(CSJEvent &event);
    // Scans body[start, end), which should be exactly one event of at most `sizeLimit` bytes.
    void scanAlone(size_t start, size_t end, size_t sizeLimit, CSJEvent &event);
    // Walks one value. Returns false if the walk failed; what JSON allows and we don't is the event's verdict.
    bool walkEvent(CSJEvent &event);
    template <typename KindOf, typename WalkValue> bool eachMember(KindOf kindOf, WalkValue walkValue);
    bool walkMembers(CSJEvent &event);
    // The same with a fallback field, whose id is told if the other field is absent or null, and with the required
    // attributes of CloudEvents.
    bool walkMembersForMore(CSJEvent &event);
    // Walks the value of an id field, of which `count` were found before.
    bool walkIDs(size_t quote, size_t count, CSJEvent &event);
    bool walkID(CSJEvent &event);
    // Of almost all members, so it pays to have no call (5 % of a scan).
    __attribute__((always_inline)) bool walkOther();
    // The attribute of CloudEvents that a member's name stands for, or 0.
    uint8_t attributeOf(size_t quote, bool isEscaped);
    // Looks at the attribute's value at the current token. Returns `attribute`, or 0 if it is null.
    uint8_t judgeAttribute(uint8_t attribute, CSJEvent &event) const;
    void tellAttributes(CSJVerdict verdict, uint8_t attributes, size_t offset, CSJEvent &event) const;
    bool isName(const std::string &name, size_t quote, bool isEscaped);
    bool isEscapedName(const std::string &name, size_t quote);
    void judgeID(size_t start, size_t size, bool isEscaped, CSJEvent &event);
    // Makes `event` all bytes from `start` to the body's end, which hold who knows how many events.
    void tellRest(size_t start, CSJEvent &event) const;
    // Writes the walk's failure into `event`.
    void tellFailure(CSJEvent &event) const;
    void tellProblem(CSJVerdict verdict, size_t offset, CSJEvent &event) const;

    size_t skipSpace(size_t at, size_t end) const;
    size_t trimSpace(size_t start, size_t end) const;
    size_t lineEnd(size_t at, size_t end) const;
    // Moves `at` behind the value there, by quotes, brackets and separators alone: a number may be any word, a string
    // any bytes. Whole JSON values have a whole shape.
    Shape walkShape(size_t &at, size_t end);
    // Whether the line body[start, end) looks like the first of an object over several lines.
    bool beginsLongObject(size_t start, size_t end);

    const std::string field;
    const std::string fallback;
    const bool hasFallback;
    const bool areCloudEvents;
    const size_t eventLimit;
    const size_t idLimit;
    std::vector<uint8_t> unescaped;
    std::unique_ptr<simdjson::internal::dom_parser_implementation> parser;
    TokenWalk walk;

    const uint8_t *body = nullptr;
    size_t length = 0;
    Mode mode = Mode::done;
    size_t position = 0;               // where the next event is looked for
    size_t windowStart = 0;            // what the walk's offsets are relative to
    size_t windowEnd = 0;
    size_t singleUntil = 0;            // lines before this are indexed one by one: one of them is bad
    size_t elements = 0;               // of an array, walked so far
    CSJVerdict suspicion = CSJ_VALID;  // why an array is read by slices, until a slice shows it
    std::vector<uint8_t> closers;      // what closes each bracket that a shape has opened
};

}  // namespace csj
