#pragma once
// What this process has used of the machine. Any thread.

namespace keelson::service {

// User and system time of all threads so far.
double ProcessCpuSeconds();

// Resident memory now; 0 when /proc does not tell.
double ProcessResidentBytes();

}  // namespace keelson::service
