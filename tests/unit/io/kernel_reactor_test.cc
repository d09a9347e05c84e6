// What only reactors over the kernel do: threads and the choice of the backend.

#include "blockstore/io/kernel_reactor.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/unit/io/kernel_test_util.h"

namespace keelson::io {
namespace {

INSTANTIATE_TEST_SUITE_P(Kernel, ReactorSuite, ::testing::ValuesIn(KernelReactors()), NameOf);

class KernelReactorTest : public ReactorSuite {};
INSTANTIATE_TEST_SUITE_P(Kernel, KernelReactorTest, ::testing::ValuesIn(KernelReactors()), NameOf);

TEST_P(KernelReactorTest, RunsPostedWorkOnItsOwnThread) {
  constexpr int kPosters = 4;
  constexpr int kPosts = 500;
  int ran = 0;  // written by the reactor's thread alone
  std::atomic<bool> elsewhere{false};
  std::thread::id loop_id;
  std::thread loop([&] {
    loop_id = std::this_thread::get_id();
    reactor_->Run();
  });
  std::vector<std::thread> posters;
  for (int poster = 0; poster < kPosters; ++poster) {
    posters.emplace_back([&] {
      for (int i = 0; i < kPosts; ++i) {
        reactor_->Post([&] {
          if (std::this_thread::get_id() != loop_id) elsewhere = true;
          if (++ran == kPosters * kPosts) reactor_->Stop();
        });
      }
    });
  }
  for (std::thread& poster : posters) poster.join();
  loop.join();
  EXPECT_EQ(ran, kPosters * kPosts);
  EXPECT_FALSE(elsewhere);
}

TEST_P(KernelReactorTest, RunsPostsOfOneThreadInTheirOrder) {
  std::vector<int> order;
  for (int i = 0; i < 3; ++i) {
    reactor_->Post([&order, i] { order.push_back(i); });
  }
  reactor_->Post([this] { reactor_->Stop(); });
  reactor_->Run();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2}));
}

TEST_P(KernelReactorTest, IsStoppedFromAnotherThread) {
  std::thread loop([this] { reactor_->Run(); });
  reactor_->Stop();
  loop.join();
}

TEST_P(KernelReactorTest, RunsAgainAfterAStop) {
  int ran = 0;
  for (int i = 0; i < 3; ++i) {
    reactor_->Post([&] {
      ++ran;
      reactor_->Stop();
    });
    reactor_->Run();
  }
  EXPECT_EQ(ran, 3);
}

Task<void> WriteOnce(Reactor* reactor, File* file) {
  Buffer buffer = co_await reactor->buffers().Take(kIoAlignment);
  const absl::Status wrote = co_await file->Write(0, buffer.span());
  EXPECT_TRUE(wrote.ok()) << wrote;
}

TEST_P(KernelReactorTest, RunsOnAnotherThreadThanTheOneThatMadeIt) {
  auto file = MakeFile(1 << 20);
  ASSERT_NE(file, nullptr);
  std::thread loop([&] { io::RunToEnd(reactor_.get(), WriteOnce(reactor_.get(), file.get())); });
  loop.join();
}

Task<void> OpenAndWrite(Reactor* reactor, std::string path) {
  FileOptions options;
  options.create = true;
  options.size_bytes = 1 << 20;
  for (int i = 0; i < 3; ++i) {
    auto file = reactor->OpenFile(path, options);
    EXPECT_TRUE(file.ok()) << file.status();
    if (!file.ok()) co_return;
    co_await WriteOnce(reactor, file->get());
  }
}

TEST_P(KernelReactorTest, OpensFilesWhileItRuns) {
  RunToEnd(OpenAndWrite(reactor_.get(), GetParam().data_path()));
}

Task<void> OpenMoreThanTheRingRegisters(Reactor* reactor, ScratchDirectory* directory) {
  FileOptions options;
  options.create = true;
  options.size_bytes = 1 << 16;
  std::vector<std::unique_ptr<File>> files;
  for (int i = 0; i < 70; ++i) {
    auto file = reactor->OpenFile(directory->NewPath(), options);
    EXPECT_TRUE(file.ok()) << file.status();
    if (!file.ok()) co_return;
    co_await WriteOnce(reactor, file->get());
    files.push_back(*std::move(file));
  }
}

TEST_P(KernelReactorTest, DoesWithoutRegistrationOnceItsFileTableIsFull) {
  RunToEnd(OpenMoreThanTheRingRegisters(reactor_.get(), &ScratchDirectory::Get()));
}

TEST(MakeReactorTest, ChoosesABackendByItself) {
  auto reactor = MakeReactor(ReactorOptions{});
  ASSERT_TRUE(reactor.ok()) << reactor.status();
  const std::string name = (*reactor)->backend_name();
  EXPECT_TRUE(name == "io_uring" || name == "libaio") << name;
}

TEST(MakeReactorTest, TakesLibaioWhenTold) {
  ReactorOptions options;
  options.backend = Backend::kAio;
  auto reactor = MakeReactor(options);
  ASSERT_TRUE(reactor.ok()) << reactor.status();
  EXPECT_EQ((*reactor)->backend_name(), "libaio");
}

}  // namespace
}  // namespace keelson::io
