#pragma once
// What every Reactor must do, whatever is underneath. A binary that has a reactor to test compiles
// reactor_suite.cc and reactor_suite_stream.cc and instantiates ReactorSuite with its factory:
//   INSTANTIATE_TEST_SUITE_P(Uring, ReactorSuite, ::testing::Values(ReactorUnderTest{...}),
//   NameOf);

#include <gtest/gtest.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <ostream>
#include <string>

#include "blockstore/io/reactor.h"
#include "blockstore/io/task.h"

namespace keelson::io {

struct ReactorUnderTest {
  std::string name;
  std::function<std::unique_ptr<Reactor>()> make;
  // A path nobody has used yet, for a data file or a UNIX socket.
  std::function<std::string()> data_path;
};

inline void PrintTo(const ReactorUnderTest& subject, std::ostream* out) { *out << subject.name; }

inline std::string NameOf(const ::testing::TestParamInfo<ReactorUnderTest>& info) {
  return info.param.name;
}

class ReactorSuite : public ::testing::TestWithParam<ReactorUnderTest> {
 protected:
  void SetUp() override;
  // Runs `body` on the reactor, and the loop until it has ended.
  void RunToEnd(Task<void> body);
  // A new data file of this size.
  std::unique_ptr<File> MakeFile(std::size_t size_bytes);

  std::unique_ptr<Reactor> reactor_;
};

// Starts `body` and runs the loop of `reactor` on this thread until it has ended.
void RunToEnd(Reactor* reactor, Task<void> body);

}  // namespace keelson::io
