#pragma once
// How keelctl shows volumes that live on several nodes. Pure functions of their arguments.

#include <map>
#include <ostream>
#include <string>
#include <vector>

#include "provisioner/ctl/cluster_view.h"
#include "provisioner/ctl/format.h"

namespace keelson::ctl {

// The volume in a few lines, and a row for each member.
void PrintClients(Output output, const VolumeView& volume, std::ostream* out);
void PrintStatus(Output output, const VolumeView& volume, std::ostream* out);
// `contested`: volumes that several nodes say they serve, each asked about by itself.
void PrintVolumes(Output output, const std::vector<NodeAnswer>& nodes,
                  const std::map<std::string, VolumeView>& contested, std::ostream* out);
void PrintWhy(Output output, const std::string& sentence, std::ostream* out);

// "node d: syncing, 12 regions of 4 MiB left, 48 MiB copied".
std::string FormatProgress(const std::string& node, const v1::MemberStatus& member);

}  // namespace keelson::ctl
