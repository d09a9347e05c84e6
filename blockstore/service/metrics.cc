#include "blockstore/service/metrics.h"

#include <prometheus/collectable.h>
#include <prometheus/exposer.h>
#include <prometheus/metric_family.h>

#include <exception>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "blockstore/service/process_usage.h"

namespace keelson::service {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

// Families by name: Prometheus wants all samples of a name together.
class Page {
 public:
  void Gauge(const char* name, const char* help, double value, const Labels& labels = {}) {
    Add(name, help, MetricType::Gauge, labels).gauge.value = value;
  }
  void Counter(const char* name, const char* help, double value, const Labels& labels = {}) {
    Add(name, help, MetricType::Counter, labels).counter.value = value;
  }
  std::vector<MetricFamily> Take() {
    std::vector<MetricFamily> result;
    for (auto& [name, family] : families_) result.push_back(std::move(family));
    return result;
  }

 private:
  ClientMetric& Add(const char* name, const char* help, MetricType type, const Labels& labels) {
    MetricFamily& family = families_[name];
    family.name = name;
    family.help = help;
    family.type = type;
    ClientMetric& metric = family.metric.emplace_back();
    metric.label = labels;
    return metric;
  }
  std::map<std::string, MetricFamily> families_;
};

double Number(std::uint64_t value) { return static_cast<double>(value); }

void AddPool(const ShardSnapshot::OpenPool& pool, Page* page) {
  const Labels labels = {{"pool", pool.directory}};
  page->Gauge("keelson_pool_healthy", "1 while the pool serves reads and writes.",
              pool.healthy ? 1 : 0, labels);
  page->Gauge("keelson_pool_capacity_bytes", "Bytes of all extents of the pool.",
              Number(pool.space.capacity_bytes), labels);
  page->Gauge("keelson_pool_used_bytes", "Bytes in extents that a volume or snapshot refers to.",
              Number(pool.space.used_bytes), labels);
  page->Gauge("keelson_pool_free_bytes", "Bytes in extents that can be allocated now.",
              Number(pool.space.free_bytes), labels);
  page->Gauge("keelson_pool_reclaiming_bytes", "Bytes in freed extents not yet allocatable.",
              Number(pool.space.reclaiming_bytes), labels);
  page->Counter("keelson_pool_checksum_errors_total", "Blocks that did not match their checksum.",
                Number(pool.counters.checksum_errors), labels);
  page->Counter("keelson_pool_io_errors_total", "I/O operations that the disk failed.",
                Number(pool.counters.io_errors), labels);
  page->Counter("keelson_pool_flushes_total", "Flushes of the pool's data file.",
                Number(pool.counters.flushes), labels);
  page->Counter("keelson_pool_log_commits_total", "Commits of changed extent maps to the log.",
                Number(pool.counters.log_commits), labels);
  page->Counter("keelson_pool_discarded_bytes_total",
                "Bytes given back to the file system or device.",
                Number(pool.counters.discarded_bytes), labels);
}

void AddVolume(const VolumeCounters& volume, Page* page) {
  const Labels labels = {{"volume", volume.volume}};
  const engine::EngineCounters& counters = volume.counters;
  page->Counter("keelson_volume_reads_total", "Reads since the volume was attached.",
                Number(counters.reads), labels);
  page->Counter("keelson_volume_writes_total", "Writes since the volume was attached.",
                Number(counters.writes), labels);
  page->Counter("keelson_volume_flushes_total", "Flushes since the volume was attached.",
                Number(counters.flushes), labels);
  page->Counter("keelson_volume_trims_total", "Trims and zeroed ranges since it was attached.",
                Number(counters.trims), labels);
  page->Counter("keelson_volume_read_bytes_total", "Bytes read since the volume was attached.",
                Number(counters.read_bytes), labels);
  page->Counter("keelson_volume_written_bytes_total", "Bytes written since it was attached.",
                Number(counters.written_bytes), labels);
  page->Counter("keelson_volume_trimmed_bytes_total", "Bytes trimmed since it was attached.",
                Number(counters.trimmed_bytes), labels);
  page->Counter("keelson_volume_errors_total", "Requests answered with an error.",
                Number(counters.errors), labels);
  page->Gauge("keelson_volume_iops_limit", "Requests per second that clients may send; 0: any.",
              Number(volume.qos.iops), labels);
  page->Gauge("keelson_volume_bandwidth_limit_bytes",
              "Bytes per second that clients may read and write; 0: any.",
              Number(volume.qos.bytes_per_second), labels);
  page->Counter("keelson_volume_delayed_requests_total",
                "Requests that waited because of these limits, since the volume was attached.",
                Number(volume.delayed.delayed_requests), labels);
  page->Counter("keelson_volume_delayed_seconds_total", "How long they waited, all together.",
                Number(volume.delayed.delayed_ns) / 1e9, labels);
  page->Gauge("keelson_volume_in_sync_members", "Copies that have every acknowledged write.",
              Number(volume.in_sync_members), labels);
  page->Gauge("keelson_volume_degraded_members", "Copies that have missed something.",
              Number(volume.degraded_members), labels);
  page->Counter("keelson_volume_resync_bytes_total",
                "Bytes copied to members that missed something, since the volume was attached.",
                Number(volume.resync_copied_bytes), labels);
  page->Counter("keelson_volume_scrub_read_bytes_total",
                "Bytes that scrubs read on all copies, since the volume was attached.",
                Number(volume.scrub_read_bytes), labels);
  page->Counter("keelson_volume_scrub_bad_blocks_total",
                "Blocks that scrubs could not read or that did not match their checksum.",
                Number(volume.scrub_bad_blocks), labels);
  page->Counter("keelson_volume_scrub_repaired_blocks_total",
                "Bad blocks that scrubs put right from another copy.",
                Number(volume.scrub_repaired_blocks), labels);
  page->Counter("keelson_volume_scrub_different_blocks_total",
                "Blocks of a copy that scrubs found to differ from another copy.",
                Number(volume.scrub_different_blocks), labels);
  page->Counter("keelson_volume_slow_demotions_total",
                "Copies left out for being much slower than the others, since it was attached.",
                Number(volume.slow_demotions), labels);
  page->Counter("keelson_volume_fenced_total",
                "Segments of this attachment that another engine has taken over.",
                Number(volume.fenced), labels);
}

void AddNbd(const frontend::NbdCounters& nbd, const Labels& labels, Page* page) {
  std::uint64_t requests = nbd.requests_unknown;
  for (const std::uint64_t count : nbd.requests) requests += count;
  page->Gauge("keelson_nbd_connections", "NBD connections open now.", Number(nbd.connections),
              labels);
  page->Counter("keelson_nbd_connections_total", "NBD connections accepted.",
                Number(nbd.connections_total), labels);
  page->Counter("keelson_nbd_requests_total", "NBD requests received.", Number(requests), labels);
  page->Counter("keelson_nbd_errors_total", "NBD requests answered with an error.",
                Number(nbd.errors), labels);
  page->Counter("keelson_nbd_protocol_errors_total",
                "NBD connections closed for what the client sent.", Number(nbd.protocol_errors),
                labels);
  page->Counter("keelson_nbd_stalled_clients_total", "NBD connections closed by a deadline.",
                Number(nbd.stalled_clients), labels);
}

void AddFuse(const frontend::FuseCounters& fuse, const Labels& labels, Page* page) {
  std::uint64_t requests = 0;
  for (const std::uint64_t count : fuse.requests) requests += count;
  page->Counter("keelson_fuse_requests_total", "Requests of block devices taken from the kernel.",
                Number(requests), labels);
  page->Counter("keelson_fuse_errors_total", "Requests of block devices answered with an error.",
                Number(fuse.errors), labels);
}

void AddClientPort(const frontend::NbdCounters& port, const Labels& labels, Page* page) {
  std::uint64_t requests = port.requests_unknown;
  for (const std::uint64_t count : port.requests) requests += count;
  page->Gauge("keelson_client_connections", "Connections of other nodes to volumes here, open now.",
              Number(port.connections), labels);
  page->Counter("keelson_client_requests_total", "Requests of other nodes to volumes here.",
                Number(requests), labels);
  page->Counter("keelson_client_refused_total",
                "Connections to the client port that were refused or showed no valid ticket.",
                Number(port.connections_refused + port.handshakes_failed), labels);
}

void AddReplicaServer(const engine::ReplicaServerCounters& server, const Labels& labels,
                      Page* page) {
  page->Gauge("keelson_data_connections", "Connections of engines on other nodes, open now.",
              Number(server.connections), labels);
  page->Counter("keelson_data_requests_total", "Requests of engines on other nodes.",
                Number(server.requests_total), labels);
  page->Counter("keelson_data_protocol_errors_total",
                "Connections to the data port closed for what the peer sent.",
                Number(server.handshakes_failed + server.protocol_errors), labels);
}

class NodeCollectable final : public prometheus::Collectable {
 public:
  explicit NodeCollectable(Node* node) : node_(node) {}

  // The node is not used any more when this returns.
  void Disconnect() {
    std::lock_guard lock(mutex_);
    node_ = nullptr;
  }

  std::vector<MetricFamily> Collect() const override {
    std::lock_guard lock(mutex_);
    if (node_ == nullptr) return {};
    const NodeSnapshot snapshot = node_->Snapshot(Metrics::kScrapePatience);
    timeouts_ += snapshot.timeouts;
    Page page;
    page.Counter("keelson_scrape_timeouts_total", "Reactors that did not answer a scrape in time.",
                 Number(timeouts_));
    page.Gauge("process_resident_memory_bytes", "Resident memory size in bytes.",
               ProcessResidentBytes());
    page.Counter("process_cpu_seconds_total", "User and system CPU time spent in seconds.",
                 ProcessCpuSeconds());
    for (const NodeSnapshot::UnopenedPool& pool : snapshot.unopened) {
      page.Gauge("keelson_pool_healthy", "1 while the pool serves reads and writes.", 0,
                 {{"pool", pool.directory}});
    }
    for (const ShardSnapshot& shard : snapshot.shards) AddShard(shard, &page);
    return page.Take();
  }

 private:
  static void AddShard(const ShardSnapshot& shard, Page* page) {
    const Labels labels = {{"reactor", absl::StrCat(shard.index)}};
    page->Gauge("keelson_io_backend_info", "1, with the I/O backend in use as a label.", 1,
                {{"backend", shard.backend}, labels[0]});
    AddNbd(shard.nbd, labels, page);
    AddFuse(shard.fuse, labels, page);
    AddReplicaServer(shard.replica_server, labels, page);
    AddClientPort(shard.client_port, labels, page);
    for (const ShardSnapshot::OpenPool& pool : shard.pools) {
      AddPool(pool, page);
      for (const VolumeCounters& volume : pool.volumes) AddVolume(volume, page);
    }
    for (const VolumeCounters& volume : shard.volumes) AddVolume(volume, page);
  }

  mutable std::mutex mutex_;  // one scrape at a time, and none after Disconnect
  Node* node_;
  mutable std::uint64_t timeouts_ = 0;
};

}  // namespace

struct Metrics::Server {
  Server(const std::string& address, Node* node)
      : collectable(std::make_shared<NodeCollectable>(node)), exposer(address) {
    exposer.RegisterCollectable(collectable);
  }
  std::shared_ptr<NodeCollectable> collectable;  // shared: the exposer keeps a weak_ptr to it
  prometheus::Exposer exposer;
};

Metrics::Metrics(std::unique_ptr<Server> server) : server_(std::move(server)) {}

Metrics::~Metrics() = default;

absl::StatusOr<std::unique_ptr<Metrics>> Metrics::Start(const std::string& address, Node* node) {
  try {
    return std::unique_ptr<Metrics>(new Metrics(std::make_unique<Server>(address, node)));
  } catch (const std::exception& error) {
    return absl::UnavailableError(absl::StrCat(
        "metrics cannot be served at ", address, " (", error.what(),
        "); is the port taken? Choose another with --metrics, or --metrics '' for none"));
  }
}

void Metrics::Abandon(std::unique_ptr<Metrics> metrics) {
  if (metrics == nullptr) return;
  metrics->server_->collectable->Disconnect();
  // Kept reachable, for leak checkers.
  [[maybe_unused]] static Metrics* const abandoned = metrics.release();
}

int Metrics::port() const {
  const std::vector<int> ports = server_->exposer.GetListeningPorts();
  return ports.empty() ? 0 : ports.front();
}

}  // namespace keelson::service
