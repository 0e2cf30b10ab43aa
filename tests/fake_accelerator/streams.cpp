// Streams, events and the guard that libtorch switches them by.

#include "fake.h"

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace fake {
namespace {

using Clock = std::chrono::steady_clock;

// Never freed: its thread runs until the process ends.
struct Worker {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> jobs;
  uint64_t enqueued = 0;
  uint64_t finished = 0;

  Worker() {
    std::thread([this] { run(); }).detach();
  }

  void run() {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      changed.wait(lock, [this] { return !jobs.empty(); });
      auto job = std::move(jobs.front());
      jobs.pop_front();
      lock.unlock();
      job();
      job = nullptr;
      lock.lock();
      finished++;
      changed.notify_all();
    }
  }

  void push(std::function<void()> job) {
    std::lock_guard<std::mutex> lock(mutex);
    jobs.push_back(std::move(job));
    enqueued++;
    changed.notify_all();
  }

  bool idle() {
    std::lock_guard<std::mutex> lock(mutex);
    return finished == enqueued;
  }

  void wait() {
    std::unique_lock<std::mutex> lock(mutex);
    const auto until = enqueued;
    changed.wait(lock, [&] { return finished >= until; });
  }
};

struct Streams {
  std::mutex mutex;
  std::array<std::vector<Worker*>, kDevices> workers;

  int64_t add(c10::DeviceIndex device) {
    std::lock_guard<std::mutex> lock(mutex);
    workers[device].push_back(new Worker());
    return static_cast<int64_t>(workers[device].size()) - 1;
  }

  Worker& at(const c10::Stream& stream) {
    std::lock_guard<std::mutex> lock(mutex);
    auto& of_device = workers[stream.device_index()];
    if (of_device.empty()) {
      of_device.push_back(new Worker()); // the default stream
    }
    return *of_device.at(static_cast<size_t>(stream.id()));
  }
};

Streams& streams() {
  static auto* all = new Streams();
  return *all;
}

// A point in a stream; recording again makes another one.
struct Point {
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  Clock::time_point at;

  void finish() {
    std::lock_guard<std::mutex> lock(mutex);
    done = true;
    at = Clock::now();
    changed.notify_all();
  }

  void wait() {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [this] { return done; });
  }
};

struct Event {
  std::shared_ptr<Point> point;
  c10::DeviceIndex device = 0;
};

thread_local c10::DeviceIndex device_now = 0;
thread_local std::array<int64_t, kDevices> stream_now{};

c10::Device device_of(c10::DeviceIndex index) {
  return c10::Device(c10::DeviceType::PrivateUse1, index);
}

c10::Stream stream_of(c10::DeviceIndex device, int64_t id) {
  return c10::Stream(c10::Stream::UNSAFE, device_of(device), id);
}

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override {
    return c10::DeviceType::PrivateUse1;
  }
  c10::Device exchangeDevice(c10::Device to) const override {
    const auto before = device_now;
    device_now = to.index();
    return device_of(before);
  }
  c10::Device getDevice() const override {
    return device_of(device_now);
  }
  void setDevice(c10::Device to) const override {
    device_now = to.index();
  }
  void uncheckedSetDevice(c10::Device to) const noexcept override {
    device_now = to.index();
  }
  c10::Stream getStream(c10::Device device) const override {
    return current_stream(device.index());
  }
  c10::Stream getDefaultStream(c10::Device device) const override {
    return stream_of(device.index(), 0);
  }
  c10::Stream getNewStream(c10::Device device, int) const override {
    TORCH_CHECK(device.index() < kDevices, "the fake has no device ", int(device.index()));
    streams().at(stream_of(device.index(), 0));
    return stream_of(device.index(), streams().add(device.index()));
  }
  c10::Stream exchangeStream(c10::Stream to) const override {
    const auto before = current_stream(to.device_index());
    stream_now[to.device_index()] = to.id();
    return before;
  }
  c10::DeviceIndex deviceCount() const noexcept override {
    return kDevices;
  }
  void record(
      void** event, const c10::Stream& stream, c10::DeviceIndex, c10::EventFlag) const override {
    check_whole(stream.device_index());
    if (*event == nullptr) {
      *event = new Event();
    }
    auto point = std::make_shared<Point>();
    static_cast<Event*>(*event)->point = point;
    static_cast<Event*>(*event)->device = stream.device_index();
    enqueue(stream, [point] { point->finish(); });
  }
  void block(void* event, const c10::Stream& stream) const override {
    auto point = static_cast<Event*>(event)->point;
    enqueue(stream, [point] { point->wait(); });
  }
  bool queryEvent(void* event) const override {
    auto point = static_cast<Event*>(event)->point;
    std::lock_guard<std::mutex> lock(point->mutex);
    return point->done;
  }
  void synchronizeEvent(void* event) const override {
    auto& known = *static_cast<Event*>(event);
    check_whole(known.device);
    known.point->wait();
  }
  void destroyEvent(void* event, c10::DeviceIndex) const noexcept override {
    delete static_cast<Event*>(event);
  }
  double elapsedTime(void* from, void* to, c10::DeviceIndex) const override {
    const auto took = static_cast<Event*>(to)->point->at - static_cast<Event*>(from)->point->at;
    return std::chrono::duration<double, std::milli>(took).count();
  }
  bool queryStream(const c10::Stream& stream) const override {
    return streams().at(stream).idle();
  }
  void synchronizeStream(const c10::Stream& stream) const override {
    check_whole(stream.device_index());
    synchronize(stream);
  }
  void synchronizeDevice(c10::DeviceIndex device) const override {
    std::vector<Worker*> workers;
    {
      std::lock_guard<std::mutex> lock(streams().mutex);
      workers = streams().workers[device];
    }
    for (auto* worker : workers) {
      worker->wait();
    }
  }
  void recordDataPtrOnStream(const c10::DataPtr& data, const c10::Stream& stream) const override {
    c10::getDeviceAllocator(c10::DeviceType::PrivateUse1)->recordStream(data, stream);
  }
};

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override {
    return true;
  }
  bool isAvailable() const override {
    return true;
  }
  bool hasPrimaryContext(c10::DeviceIndex) const override {
    return true;
  }
  c10::DeviceIndex deviceCount() const override {
    return kDevices;
  }
  // Seeds are set for all accelerators at once. Operators that draw numbers run on the CPU.
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
    return at::detail::getDefaultCPUGenerator();
  }
  bool isPinnedPtr(const void* data) const override {
    return is_pinned(data);
  }
};

struct Registration {
  Registration() {
    c10::register_privateuse1_backend("fake");
    at::RegisterPrivateUse1HooksInterface(new Hooks());
  }
} registration;

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

} // namespace

c10::DeviceIndex current_device() {
  return device_now;
}

c10::Stream current_stream(c10::DeviceIndex device) {
  return stream_of(device, stream_now[device]);
}

namespace {
std::atomic<bool> broken{false};
}

void fail_for_good() {
  throw c10::AcceleratorError(
      {__func__, __FILE__, static_cast<uint32_t>(__LINE__)},
      700,
      "CUDA error: an illegal memory access was encountered");
}

void break_it() {
  broken = true;
}

void check_whole(c10::DeviceIndex device) {
  if (device == kBreaks && broken) {
    fail_for_good();
  }
}

void enqueue(const c10::Stream& stream, std::function<void()> job) {
  streams().at(stream).push(std::move(job));
}

void synchronize(const c10::Stream& stream) {
  streams().at(stream).wait();
}

} // namespace fake
