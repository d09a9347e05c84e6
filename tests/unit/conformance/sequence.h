#pragma once
// Sequence: random calls against a World, each judged by the Model: one after the other, some
// repeated or with other content, some two at a time about one volume, some whose program ends at
// one of its steps and is started again. In the end everything is deleted, and nothing may be left.
// One thread (which starts another for two calls at a time).

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "tests/unit/conformance/call.h"
#include "tests/unit/conformance/model.h"
#include "tests/unit/conformance/world.h"

namespace keelson::csi {

// Whether the world is what the model says: lists, devices, file systems, mounts, limits. Empty:
// yes; otherwise what is not.
std::string Difference(World& world, Model model);

// Gives up and deletes everything that the model knows of, as an orchestrator would. Empty: nothing
// is left anywhere.
std::string DeleteAll(World& world, Model* model);

// Makes the call, again while it is to be called again, and applies it. Empty: it went as it must.
std::string RunUntilDone(World& world, const Call& call, Model* model);

// The same, with the end of the programs at the `event`-th thing that they do. *reached tells
// whether there was one.
std::string RunAndDie(World& world, const Call& call, std::uint64_t event, Model* model,
                      bool* reached);

class Sequence {
 public:
  Sequence(World* world, std::uint64_t seed) : world_(*world), random_(seed) {}

  // Empty: all went as it must.
  std::string Run();
  // What was called, one line each.
  const std::string& history() const { return history_; }

 private:
  std::uint64_t Below(std::uint64_t limit) { return random_() % limit; }
  bool Percent(std::uint64_t percent) { return Below(100) < percent; }
  template <class T>
  const T& OneOf(const std::vector<T>& all) {
    return all[Below(all.size())];
  }

  Call Draw();
  Call DrawNew();
  // About this volume.
  Call Draw(Op op, const Model::Volume* volume);
  Op NextOf(const Model::Volume& volume);
  void DrawCapability(const Model::Volume* volume, Call* call);
  void DrawCreation(Call* call);
  // The same call with other content.
  Call Changed(Call call);
  std::string Step(const Call& call);
  std::string RunTwo(const Call& one, const Call& two);

  World& world_;
  std::mt19937_64 random_;
  Model model_;
  Call last_;
  bool any_ = false;
  std::string history_;
};

}  // namespace keelson::csi
