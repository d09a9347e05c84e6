#include "csi/redact.h"

#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "csi/names.h"

namespace keelson::csi {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr std::size_t kShownBytesMax = 256;

constexpr std::string_view kHarmless[] = {
    "base_snapshot_id",
    "fs_type",
    "group_snapshot_id",
    "name",
    "node_id",
    "snapshot_id",
    "snapshot_ids",
    "source_volume_id",
    "source_volume_ids",
    "staging_target_path",
    "starting_token",
    "target_path",
    "target_snapshot_id",
    "volume_id",
    "volume_path",
    "volume_publish_path",
};

std::string StringText(const FieldDescriptor& field, const std::string& value) {
  if (std::find(std::begin(kHarmless), std::end(kHarmless), field.name()) == std::end(kHarmless)) {
    return absl::StrCat("(", value.size(), " bytes)");
  }
  return absl::StrCat("\"", absl::CHexEscape(value.substr(0, kShownBytesMax)),
                      value.size() > kShownBytesMax ? "..." : "", "\"");
}

std::string KeysText(const Message& message, const FieldDescriptor& field) {
  std::vector<std::string> keys;
  for (int i = 0; i < message.GetReflection()->FieldSize(message, &field); ++i) {
    const Message& entry = message.GetReflection()->GetRepeatedMessage(message, &field, i);
    const std::string key =
        entry.GetReflection()->GetString(entry, field.message_type()->map_key());
    keys.push_back(absl::CHexEscape(key.substr(0, kShownBytesMax)));
  }
  std::sort(keys.begin(), keys.end());
  return absl::StrCat("keys[", absl::StrJoin(keys, ","), "]");
}

// `index` counts within a repeated field, and is -1 for others.
std::string ValueText(const Message& message, const FieldDescriptor& field, int index) {
  const Reflection& r = *message.GetReflection();
  const bool repeated = index >= 0;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return StringText(field, repeated ? r.GetRepeatedString(message, &field, index)
                                        : r.GetString(message, &field));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return absl::StrCat("{",
                          RedactedText(repeated ? r.GetRepeatedMessage(message, &field, index)
                                                : r.GetMessage(message, &field)),
                          "}");
    case FieldDescriptor::CPPTYPE_ENUM:
      return repeated ? r.GetRepeatedEnum(message, &field, index)->name()
                      : r.GetEnum(message, &field)->name();
    case FieldDescriptor::CPPTYPE_BOOL:
      return !repeated && r.GetBool(message, &field) ? "true" : "false";
    case FieldDescriptor::CPPTYPE_INT32:
      return repeated ? "?" : absl::StrCat(r.GetInt32(message, &field));
    case FieldDescriptor::CPPTYPE_INT64:
      return repeated ? "?" : absl::StrCat(r.GetInt64(message, &field));
    default:
      return "?";
  }
}

}  // namespace

std::string RedactedText(const Message& request) {
  std::vector<const FieldDescriptor*> present;
  request.GetReflection()->ListFields(request, &present);
  std::vector<std::string> parts;
  for (const FieldDescriptor* field : present) {
    if (field->options().GetExtension(pb::csi_secret)) {
      parts.push_back(absl::StrCat(field->name(), "=hidden"));
    } else if (field->is_map()) {
      parts.push_back(absl::StrCat(field->name(), "=", KeysText(request, *field)));
    } else if (!field->is_repeated()) {
      parts.push_back(absl::StrCat(field->name(), "=", ValueText(request, *field, -1)));
    } else {
      for (int i = 0; i < request.GetReflection()->FieldSize(request, field); ++i) {
        parts.push_back(absl::StrCat(field->name(), "=", ValueText(request, *field, i)));
      }
    }
  }
  return absl::StrJoin(parts, " ");
}

}  // namespace keelson::csi
