#pragma once
// A request as the log may show it. Pure functions; any thread.

#include <google/protobuf/message.h>

#include <string>

namespace keelson::csi {

// One line. Numbers, flags and enumerations are shown; of strings only those fields that are known
// to be harmless (ids, names, paths, the file system), of the others the length; of maps the keys;
// of fields that the interface marks as secret nothing at all. A field that a later version of the
// interface adds is therefore hidden until somebody names it here.
std::string RedactedText(const google::protobuf::Message& request);

}  // namespace keelson::csi
