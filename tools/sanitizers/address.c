// Linked into everything that `tools/sanitize address` builds: what AddressSanitizer has to be told.

const char *__asan_default_options(void) {
    return "log_path=" REPORTS;
}
