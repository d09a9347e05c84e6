#pragma once
// Logging: spdlog to stderr, one `event=… key=value …` line per state transition.
// ERROR: a person must act (and a simulation fails). WARN: degraded but recovering. INFO: a state
// transition. DEBUG: per operation. Code on the data path logs only through these macros.

#include <spdlog/spdlog.h>

#define KEEL_LOG_ERROR(...) ::spdlog::error(__VA_ARGS__)
#define KEEL_LOG_WARN(...) ::spdlog::warn(__VA_ARGS__)
#define KEEL_LOG_INFO(...) ::spdlog::info(__VA_ARGS__)
#define KEEL_LOG_DEBUG(...) ::spdlog::debug(__VA_ARGS__)
