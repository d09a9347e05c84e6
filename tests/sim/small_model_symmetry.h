#pragma once
// Which of SmallModel's states differ only in which member, or which block, is which. No state.

#include "tests/sim/small_model_state.h"

namespace keelson::sim {

// The one that stands for all states that are the same as this one up to the order of the first
// `exchangeable` members and of the blocks.
ModelState LeastOfSymmetric(const ModelState& state, int exchangeable);

}  // namespace keelson::sim
