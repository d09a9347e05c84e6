#include "provisioner/reconcile/ids.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <array>
#include <cstdlib>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace keelson::provisioner {
namespace {

constexpr std::size_t kHashDigits = 20;
constexpr std::size_t kNumberDigitsMax = 3;
constexpr std::size_t kRandomDigits = 8;

bool AllOf(std::string_view text, std::string_view allowed) {
  return text.find_first_not_of(allowed) == std::string_view::npos;
}

}  // namespace

std::string RandomHex(std::size_t digits) {
  std::vector<unsigned char> bytes((digits + 1) / 2);
  // Without randomness an id could be one that was used before.
  if (RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) != 1) std::abort();
  const std::string hex = absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  return hex.substr(0, digits);
}

std::string KeyOfName(std::string_view prefix, std::string_view name, std::uint32_t number) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  if (EVP_Digest(name.data(), name.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1) {
    std::abort();  // only without memory
  }
  const std::string hex = absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest.data()), kHashDigits / 2));
  return absl::StrCat(std::string(prefix), "-", hex, "-", number);
}

std::string NewId(const std::string& key) {
  return absl::StrCat(key, "-", RandomHex(kRandomDigits));
}

std::string KeyOfId(std::string_view prefix, std::string_view id) {
  constexpr std::string_view kHex = "0123456789abcdef";
  if (id.substr(0, prefix.size()) != prefix) return "";
  std::string_view rest = id.substr(prefix.size());
  if (rest.empty() || rest[0] != '-') return "";
  rest.remove_prefix(1);
  const std::size_t first = rest.find('-');
  const std::size_t last = rest.rfind('-');
  if (first != kHashDigits || last == first || last == std::string_view::npos) return "";
  const std::string_view hash = rest.substr(0, first);
  const std::string_view number = rest.substr(first + 1, last - first - 1);
  const std::string_view random = rest.substr(last + 1);
  if (!AllOf(hash, kHex) || random.size() != kRandomDigits || !AllOf(random, kHex)) return "";
  if (number.empty() || number.size() > kNumberDigitsMax || !AllOf(number, "0123456789")) return "";
  return std::string(id.substr(0, id.size() - kRandomDigits - 1));
}

}  // namespace keelson::provisioner
