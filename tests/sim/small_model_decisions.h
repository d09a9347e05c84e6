#pragma once
// The engine's own decisions for SmallModel's compact values: converts them to the product's types,
// asks the product, and converts back. What was asked once is remembered, as the same few questions
// come up again and again. One thread.

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "blockstore/replica/configuration.h"
#include "tests/sim/small_model_state.h"

namespace keelson::sim {

struct ModelDecision {
  ModelConfiguration first;
  bool restarted;
};

class ModelDecisions {
 public:
  ModelDecisions(Bits witnesses, Mutation mutation) : witnesses_(witnesses), mutation_(mutation) {}

  // AttachPlan's decision once every wait is over; empty unless it is ready.
  std::optional<ModelDecision> Attach(const ModelEngine& engine, std::uint8_t epoch);
  // Ballot's.
  bool InForce(Bits accepted);
  // Those of transitions.h; empty when they refuse.
  std::optional<ModelConfiguration> MarkOut(const ModelConfiguration& from, int member);
  std::optional<ModelConfiguration> StartSync(const ModelConfiguration& from, int member,
                                              std::uint8_t incarnation);
  std::optional<ModelConfiguration> MarkInSync(const ModelConfiguration& from, int member);
  std::optional<ModelConfiguration> AdvanceClean(const ModelConfiguration& from,
                                                 std::uint8_t generation);

 private:
  using Next = std::optional<ModelConfiguration>;

  template <typename Ask>
  Next Remembered(char kind, const ModelConfiguration& from, int argument, Ask ask);
  replica::Configuration ToProduct(const ModelConfiguration& model) const;
  std::optional<ModelDecision> DecideAttach(const ModelEngine& engine, std::uint8_t epoch) const;

  Bits witnesses_;
  Mutation mutation_;
  absl::flat_hash_map<std::string, Next> transitions_;
  absl::flat_hash_map<std::string, std::optional<ModelDecision>> attaches_;
  std::array<std::optional<bool>, 1 << kModelMembers> ballots_;
};

}  // namespace keelson::sim
