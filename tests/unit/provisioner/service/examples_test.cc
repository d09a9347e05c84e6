// deploy/examples: every object is one that Kubernetes and the provisioner would take, and what one
// names is in another.

#include <yaml-cpp/yaml.h>

#include <filesystem>
#include <map>
#include <set>

#include "provisioner/reconcile/ids.h"
#include "tests/unit/provisioner/service/provisioner_fixture.h"

namespace keelson::provisioner {
namespace {

class ExamplesTest : public ProvisionerFixture {
 protected:
  void SetUp() override {
    ProvisionerFixture::SetUp();
    for (const auto& file : std::filesystem::directory_iterator(KEELSON_EXAMPLES)) {
      for (const YAML::Node& object : YAML::LoadAllFromFile(file.path().string())) {
        ASSERT_TRUE(object["apiVersion"] && object["kind"] && object["metadata"]["name"])
            << file.path();
        objects_[object["kind"].as<std::string>()].push_back(object);
      }
    }
  }
  std::set<std::string> Names(const std::string& kind) {
    std::set<std::string> names;
    for (const YAML::Node& object : objects_[kind]) {
      names.insert(object["metadata"]["name"].as<std::string>());
    }
    return names;
  }
  static std::map<std::string, std::string> ParametersOf(const YAML::Node& object) {
    return object["parameters"].as<std::map<std::string, std::string>>();
  }
  // Wherever it stands in the object.
  static void Collect(const YAML::Node& node, const std::string& key,
                      std::set<std::string>* found) {
    if (node.IsSequence()) {
      for (const YAML::Node& one : node) Collect(one, key, found);
    }
    if (!node.IsMap()) return;
    for (const auto& pair : node) {
      if (pair.first.as<std::string>() == key) found->insert(pair.second.as<std::string>());
      Collect(pair.second, key, found);
    }
  }

  std::map<std::string, std::vector<YAML::Node>> objects_;
};

TEST_F(ExamplesTest, EveryStorageClassMakesAVolume) {
  ASSERT_GE(objects_["StorageClass"].size(), 3u);
  for (const YAML::Node& object : objects_["StorageClass"]) {
    EXPECT_EQ(object["provisioner"].as<std::string>(), "csi.keelson.io");
    const std::string name = object["metadata"]["name"].as<std::string>();
    const auto volume = controller_->CreateVolume(Ask(name, kGiB, ParametersOf(object)));
    EXPECT_TRUE(volume.ok()) << name << ": " << volume.status();
  }
}

TEST_F(ExamplesTest, EveryVolumeAttributesClassChangesOne) {
  ASSERT_GE(objects_["VolumeAttributesClass"].size(), 1u);
  for (const YAML::Node& object : objects_["VolumeAttributesClass"]) {
    EXPECT_EQ(object["driverName"].as<std::string>(), "csi.keelson.io");
    api::ModifyVolumeRequest request;
    request.set_volume_id(MustCreate(Ask(object["metadata"]["name"].as<std::string>())).id());
    for (const auto& [key, value] : ParametersOf(object)) {
      (*request.mutable_mutable_parameters())[key] = value;
    }
    EXPECT_TRUE(controller_->ModifyVolume(request).ok());
  }
}

TEST_F(ExamplesTest, EveryClaimIsForAVolumeThatCanBeUsedAsItSays) {
  const std::map<std::string, api::AccessMode> modes = {
      {"ReadWriteOnce", api::SINGLE_NODE_MULTI_WRITER},
      {"ReadWriteOncePod", api::SINGLE_NODE_SINGLE_WRITER},
      {"ReadOnlyMany", api::MULTI_NODE_READER_ONLY},
      {"ReadWriteMany", api::MULTI_NODE_MULTI_WRITER}};
  std::set<std::string> seen;
  for (const YAML::Node& object : objects_["PersistentVolumeClaim"]) {
    const YAML::Node spec = object["spec"];
    api::CreateVolumeRequest request = Ask(object["metadata"]["name"].as<std::string>());
    api::Capability& capability = *request.mutable_capabilities(0);
    capability.set_block(spec["volumeMode"] && spec["volumeMode"].as<std::string>() == "Block");
    for (const YAML::Node& mode : spec["accessModes"]) {
      seen.insert(mode.as<std::string>());
      capability.set_access_mode(modes.at(mode.as<std::string>()));
    }
    const std::string id = MustCreate(request).id();
    EXPECT_TRUE(Publish(id, "a", capability).ok()) << request.name();
    const bool many = capability.access_mode() == api::MULTI_NODE_MULTI_WRITER ||
                      capability.access_mode() == api::MULTI_NODE_READER_ONLY;
    EXPECT_EQ(Publish(id, "b", capability).ok(), many) << request.name();
  }
  EXPECT_TRUE(seen.contains("ReadWriteMany") && seen.contains("ReadWriteOncePod"));
}

TEST_F(ExamplesTest, WhatIsNamedIsThere) {
  const std::set<std::string> classes = Names("StorageClass");
  const std::set<std::string> snapshot_classes = Names("VolumeSnapshotClass");
  std::set<std::string> sources = Names("PersistentVolumeClaim");
  sources.merge(Names("VolumeSnapshot"));
  for (const auto& [kind, objects] : objects_) {
    for (const YAML::Node& object : objects) {
      std::set<std::string> used;
      Collect(object, "storageClassName", &used);
      for (const std::string& one : used) EXPECT_EQ(classes.count(one), 1u) << kind << " " << one;
      std::set<std::string> cut;
      Collect(object, "volumeSnapshotClassName", &cut);
      for (const std::string& one : cut) EXPECT_EQ(snapshot_classes.count(one), 1u) << one;
      const YAML::Node source = object["spec"] ? object["spec"]["dataSource"] : YAML::Node();
      if (source && source.IsMap()) {
        EXPECT_EQ(sources.count(source["name"].as<std::string>()), 1u);
      }
      std::set<std::string> handles;
      Collect(object, "volumeHandle", &handles);
      for (const std::string& one : handles) EXPECT_NE(KeyOfId(kVolumePrefix, one), "") << one;
    }
  }
}

}  // namespace
}  // namespace keelson::provisioner
