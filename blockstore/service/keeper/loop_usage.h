#pragma once
// Who uses a loop device, for an operator who wants it back: mounts, swap, devices on top of it,
// processes. Reads /proc and /sys; never touches the device. Blocking.

#include <string>

namespace keelson::service {

// "mounted on /mnt, open in process 123 (fio)"; empty: nobody that can be seen.
std::string DescribeLoopUsers(int index);

}  // namespace keelson::service
