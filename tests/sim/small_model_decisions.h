#pragma once
// The engine's own decisions for SmallModel's compact values: converts them to the product's types,
// asks the product, and converts back. No state.

#include <array>
#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "blockstore/engine/transitions.h"
#include "tests/sim/small_model.h"

namespace keelson::sim {

// Members that are `witness` bits are witnesses of the configuration.
replica::Configuration ToProduct(const ModelConfiguration& model, Bits witnesses);
ModelConfiguration FromProduct(const replica::Configuration& configuration);
pool::ReplicaId ModelReplica(int member);
pool::Uuid ModelIncarnation(int member, std::uint8_t number);
pool::Generation ModelGeneration(std::uint8_t code);
std::uint8_t ModelGenerationCode(const pool::Generation& generation);

struct ModelDecision {
  ModelConfiguration first;
  bool restarted;
};

// AttachPlan's decision once every wait is over; empty unless it is ready.
std::optional<ModelDecision> DecideAttach(const ModelEngine& engine, std::uint8_t epoch,
                                          Bits witnesses, Mutation mutation);

// Ballot's.
bool InForce(const ModelConfiguration& configuration, Bits accepted, Bits witnesses);

}  // namespace keelson::sim
