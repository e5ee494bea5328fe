// Where bytes that simdjson's first stage refused are wrong: it tells what is wrong, not where.
#pragma once

#include <cstddef>
#include <cstdint>

#include "CSimdJSON.h"

namespace csj {

// The offset of the first byte of body[start, end) that is not UTF-8, of the first control character within a string,
// or of the quote that opens the string that is not closed; `start` for other verdicts, or if there is none.
size_t faultOffset(CSJVerdict verdict, const uint8_t *body, size_t start, size_t end);

}  // namespace csj
