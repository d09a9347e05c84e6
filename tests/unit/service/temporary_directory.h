#pragma once
// TemporaryDirectory: a fresh directory on a real disk (where O_DIRECT works): under
// $KEELSON_TEST_DIR or /var/tmp. Removed with everything in it at the end. Owned by a test.

#include <cstdlib>
#include <filesystem>
#include <string>

namespace keelson::service {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    const char* base = std::getenv("KEELSON_TEST_DIR");
    path_ = std::string(base != nullptr ? base : "/var/tmp") + "/keelson-service-XXXXXX";
    if (mkdtemp(path_.data()) == nullptr) std::abort();
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::string& path() const { return path_; }
  std::string Child(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace keelson::service
