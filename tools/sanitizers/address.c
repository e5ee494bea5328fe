// Linked into everything that `tools/sanitize address` builds: what AddressSanitizer has to be told.

#define _GNU_SOURCE
#include <curl/curl.h>
#include <dlfcn.h>
#include <string.h>

const char *__asan_default_options(void) {
    return "log_path=" REPORTS;
}

// MARK: Leaks that are not ours: above all of Swift 6.3's Foundation for Linux, which the service itself hardly uses

const char *__lsan_default_options(void) {
    return "print_suppressions=0";
}

const char *__lsan_default_suppressions(void) {
    return // Data(contentsOf:) of an empty file: its buffer.
        "leak:20FoundationEssentials17readBytesFromFile\n"
        // Process.run and URLSession: the runtime's record of a weak reference (32 bytes).
        "leak:10Foundation7ProcessC3run\n"
        "leak:20FoundationNetworking10URLSessionC12_MultiHandle\n"
        // Wrong usage ends a command by exit(), in the middle of the parser.
        "leak:14ArgumentParser8InputKey\n";
}

void __lsan_disable(void);
void __lsan_enable(void);

// URLSession (CFURLSessionCurlHostIsEqual) leaks what it has libcurl parse. The stack of such a leak ends in libcurl,
// so no suppression could tell it from ours: instead it is not recorded.
CURLUcode curl_url_set(CURLU *url, CURLUPart part, const char *text, unsigned int flags) {
    CURLUcode (*library_curl_url_set)(CURLU *, CURLUPart, const char *, unsigned int) =
        dlsym(RTLD_NEXT, "curl_url_set");
    Dl_info caller;
    int isFoundation = dladdr(__builtin_return_address(0), &caller) != 0 && caller.dli_fname != NULL
        && strstr(caller.dli_fname, "libFoundationNetworking") != NULL;
    if (isFoundation) __lsan_disable();
    CURLUcode result = library_curl_url_set(url, part, text, flags);
    if (isFoundation) __lsan_enable();
    return result;
}
