// Memory of the devices, and page-locked memory of the host.
//
// A block that is freed is poisoned and kept for reuse once its own stream has come to that point,
// and every stream that was recorded for it: as CUDA's allocator does it, and no later.

#include "fake.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <unordered_set>
#include <vector>

#include <ATen/core/CachingHostAllocator.h>
#include <c10/core/CachingDeviceAllocator.h>

namespace fake {
namespace {

struct Block {
  void* data;
  size_t size;
  c10::Stream home;
  std::vector<c10::Stream> users;
  std::atomic<int> waits{0};
};

void* take(size_t size) {
  void* data = nullptr;
  TORCH_CHECK(posix_memalign(&data, 4096, size) == 0, "the host is out of memory");
  return data;
}

struct Memory final : c10::DeviceAllocator {
  std::mutex mutex;
  std::array<std::multimap<size_t, void*>, kDevices> kept;
  std::array<size_t, kDevices> live{};
  std::array<int64_t, kDevices> allocations{};

  bool initialized() override {
    return true;
  }

  c10::DataPtr allocate(size_t size) override {
    const auto index = current_device();
    const c10::Device device(c10::DeviceType::PrivateUse1, index);
    if (size == 0) {
      return c10::DataPtr(nullptr, device);
    }
    auto* block = new Block{reserve(index, size), size, current_stream(index)};
    return c10::DataPtr(block->data, block, &Memory::free, device);
  }

  void* reserve(c10::DeviceIndex index, size_t size) {
    std::lock_guard<std::mutex> lock(mutex);
    if (live[index] + size > kMemory) {
      TORCH_CHECK_WITH(
          OutOfMemoryError, false, "fake:", int(index), " is out of memory: ", size, " bytes asked for");
    }
    live[index] += size;
    allocations[index]++;
    auto& blocks = kept[index];
    const auto found = blocks.find(size);
    if (found != blocks.end()) {
      void* data = found->second;
      blocks.erase(found);
      return data;
    }
    void* data = take(size);
    std::memset(data, kPoison, size);
    return data;
  }

  static void free(void* context);

  void keep(Block* block) {
    std::memset(block->data, kPoison, block->size);
    std::lock_guard<std::mutex> lock(mutex);
    kept[block->home.device_index()].emplace(block->size, block->data);
    delete block;
  }

  void copy_data(void* dest, const void* src, size_t count) const override {
    default_copy_data(dest, src, count);
  }

  void emptyCache(c10::MempoolId_t) override {
    std::lock_guard<std::mutex> lock(mutex);
    for (auto& blocks : kept) {
      for (auto& block : blocks) {
        std::free(block.second);
      }
      blocks.clear();
    }
  }

  void recordStream(const c10::DataPtr& data, c10::Stream stream) override {
    if (auto* block = static_cast<Block*>(data.get_context())) {
      check_whole(block->home.device_index());
      std::lock_guard<std::mutex> lock(mutex);
      block->users.push_back(stream);
    }
  }

  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex device) override {
    std::lock_guard<std::mutex> lock(mutex);
    c10::CachingDeviceAllocator::DeviceStats stats;
    stats.allocated_bytes[0].current = static_cast<int64_t>(live[device]);
    stats.allocation[0].allocated = allocations[device];
    return stats;
  }
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex) override {}
  std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex device) override {
    std::lock_guard<std::mutex> lock(mutex);
    return {kMemory - live[device], kMemory};
  }
};

Memory& memory() {
  static auto* all = new Memory();
  return *all;
}

void Memory::free(void* context) {
  auto* block = static_cast<Block*>(context);
  if (!block->users.empty()) {
    check_whole(block->home.device_index());
  }
  {
    std::lock_guard<std::mutex> lock(memory().mutex);
    memory().live[block->home.device_index()] -= block->size;
  }
  auto streams = block->users;
  streams.push_back(block->home);
  block->waits = static_cast<int>(streams.size());
  for (const auto& stream : streams) {
    enqueue(stream, [block] {
      if (--block->waits == 0) {
        memory().keep(block);
      }
    });
  }
}

struct Pinned final : at::HostAllocator {
  std::mutex mutex;
  std::map<const void*, size_t> blocks;
  int64_t bytes = 0;
  int64_t allocations = 0;

  c10::DataPtr allocate(size_t size) override {
    void* data = take(size);
    std::lock_guard<std::mutex> lock(mutex);
    blocks.emplace(data, size);
    bytes += static_cast<int64_t>(size);
    allocations++;
    return c10::DataPtr(data, data, &Pinned::free, c10::DeviceType::CPU);
  }

  static void free(void* data);

  void copy_data(void* dest, const void* src, size_t count) const override {
    default_copy_data(dest, src, count);
  }
  bool record_event(void*, void*, c10::Stream) override {
    return true;
  }
  void empty_cache() override {}
  at::HostStats get_stats() override {
    std::lock_guard<std::mutex> lock(mutex);
    at::HostStats stats;
    stats.allocated_bytes.current = bytes;
    stats.num_host_alloc = allocations;
    return stats;
  }
  void reset_accumulated_stats() override {}
  void reset_peak_stats() override {}
};

Pinned& pinned() {
  static auto* all = new Pinned();
  return *all;
}

void Pinned::free(void* data) {
  check_whole();
  auto& all = pinned();
  std::lock_guard<std::mutex> lock(all.mutex);
  const auto found = all.blocks.find(data);
  TORCH_CHECK(found != all.blocks.end(), "page-locked memory is freed twice");
  all.bytes -= static_cast<int64_t>(found->second);
  // What a device still writes to it, or reads from it, is nonsense from here on.
  std::memset(data, kPoison, found->second);
  std::free(data);
  all.blocks.erase(found);
}

struct Registration {
  Registration() {
    c10::SetAllocator(c10::DeviceType::PrivateUse1, &memory());
    at::setHostAllocator(c10::DeviceType::PrivateUse1, &pinned());
  }
} registration;

} // namespace

bool is_pinned(const void* data) {
  auto& all = pinned();
  std::lock_guard<std::mutex> lock(all.mutex);
  auto after = all.blocks.upper_bound(data);
  if (after == all.blocks.begin()) {
    return false;
  }
  --after;
  const auto* begin = static_cast<const char*>(after->first);
  return static_cast<const char*>(data) < begin + after->second;
}

} // namespace fake
