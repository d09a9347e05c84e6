// main() of the fuzz targets when they are built without libFuzzer. Runs the target over every file
// given (directories are searched), then over seeded random mutations of those files:
//   nbd_codec_fuzz [--runs N] [--seed S] FILE|DIRECTORY ...
// A crash names the seed and the run, which reproduce it. Exits 2 if there was nothing to run.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Input = std::vector<std::uint8_t>;

constexpr std::size_t kInputBytesMax = std::size_t{1} << 20;
constexpr std::uint64_t kRunsDefault = 2000;

Input ReadInput(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::vector<Input> ReadCorpus(const std::vector<std::filesystem::path>& paths) {
  std::vector<std::filesystem::path> files;
  for (const std::filesystem::path& path : paths) {
    if (!std::filesystem::is_directory(path)) {
      files.push_back(path);
      continue;
    }
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());  // the order of a directory is not the same everywhere
  std::vector<Input> corpus;
  for (const std::filesystem::path& file : files) corpus.push_back(ReadInput(file));
  return corpus;
}

class Mutator {
 public:
  explicit Mutator(std::uint64_t seed) : random_(seed) {}

  Input Mutate(const std::vector<Input>& corpus) {
    Input input = corpus[Below(corpus.size())];
    for (std::uint64_t edits = 1 + Below(6); edits > 0; --edits) Edit(&input, corpus);
    if (input.size() > kInputBytesMax) input.resize(kInputBytesMax);
    return input;
  }

 private:
  std::size_t Below(std::size_t bound) { return random_() % bound; }
  static auto At(Input* input, std::size_t position) {
    return input->begin() + static_cast<std::ptrdiff_t>(position);
  }

  void Edit(Input* input, const std::vector<Input>& corpus) {
    if (input->empty()) input->push_back(static_cast<std::uint8_t>(random_()));
    const std::size_t position = Below(input->size());
    const std::size_t length = std::min(1 + Below(32), input->size() - position);
    constexpr std::uint8_t kEdges[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
    switch (Below(7)) {
      case 0:
        (*input)[position] ^= static_cast<std::uint8_t>(1u << Below(8));
        return;
      case 1:
        (*input)[position] = static_cast<std::uint8_t>(random_());
        return;
      case 2:
        (*input)[position] = kEdges[Below(std::size(kEdges))];
        return;
      case 3:
        input->erase(At(input, position), At(input, position + length));
        return;
      case 4: {
        const Input piece(At(input, position), At(input, position + length));
        input->insert(At(input, Below(input->size())), piece.begin(), piece.end());
        return;
      }
      case 5:
        input->resize(position);
        return;
      default: {
        const Input& other = corpus[Below(corpus.size())];
        const std::size_t from = Below(other.size() + 1);
        input->resize(position);
        input->insert(input->end(), other.begin() + static_cast<std::ptrdiff_t>(from), other.end());
      }
    }
  }

  std::mt19937_64 random_;
};

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t runs = kRunsDefault;
  std::uint64_t seed = 1;
  std::vector<std::filesystem::path> paths;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--runs" && i + 1 < argc) {
      runs = std::strtoull(argv[++i], nullptr, 10);
    } else if (argument == "--seed" && i + 1 < argc) {
      seed = std::strtoull(argv[++i], nullptr, 10);
    } else {
      paths.emplace_back(argument);
    }
  }
  const std::vector<Input> corpus = ReadCorpus(paths);
  if (corpus.empty()) {
    std::fprintf(stderr, "usage: %s [--runs N] [--seed S] FILE|DIRECTORY ...\n", argv[0]);
    return 2;
  }
  for (const Input& input : corpus) LLVMFuzzerTestOneInput(input.data(), input.size());
  for (std::uint64_t run = 0; run < runs; ++run) {
    // Every run has its own generator: --seed S+run --runs 1 repeats it alone.
    const std::uint64_t run_seed = seed + run;
    const Input input = Mutator(run_seed).Mutate(corpus);
    std::fprintf(stderr, "\rseed %llu", static_cast<unsigned long long>(run_seed));
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  std::fprintf(stderr, "\n%zu files and %llu mutations passed\n", corpus.size(),
               static_cast<unsigned long long>(runs));
  return 0;
}
