// AOTInductor's packages (.pt2): what they tell of themselves, and running them. Every function
// catches what libtorch throws.

#include "aoti.h"

#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include <dlfcn.h>
#include <link.h>

#include <ATen/DeviceAccelerator.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

using torch::inductor::AOTIModelPackageLoader;

struct FbPackage {
  FbPackage(const std::string& file, size_t runners, int device)
      : device(device),
        loader(file, "model", /*run_single_threaded=*/false, runners,
            static_cast<c10::DeviceIndex>(device)) {}

  int device;
  AOTIModelPackageLoader loader;
};

namespace {

constexpr const char* kChecks = "AOTI_RUNTIME_CHECK_INPUTS";
constexpr const char* kFolder = "data/aotinductor/model/";
constexpr const char* kMetadata = "wrapper_metadata.json";

// A package reads this variable in its first run, once. It is set before `main`, while there is but
// one thread, so that to change it later replaces an entry of the environment and moves none.
__attribute__((constructor)) void prepare_environment() {
  setenv(kChecks, "0", /*overwrite=*/0);
}

// The loader keeps what it parses in a variable that all threads share.
std::mutex& loading() {
  static std::mutex mutex;
  return mutex;
}

// Packages are linked to libtorch.so, which a server that is linked to its parts has not loaded. It
// lies beside the libtorch_cpu.so that we run with, where the system does not look by itself.
void load_libtorch() {
  void* ours = dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD);
  link_map* map = nullptr;
  if (ours == nullptr || dlinfo(ours, RTLD_DI_LINKMAP, &map) != 0) {
    return;
  }
  const std::string path = map->l_name;
  // Where this fails, so does the package, and names what it lacks.
  dlopen((path.substr(0, path.rfind('/') + 1) + "libtorch.so").c_str(), RTLD_LAZY);
  dlclose(ours);
}

char* copy(const std::string& text) {
  char* out = new char[text.size() + 1];
  std::memcpy(out, text.c_str(), text.size() + 1);
  return out;
}

// Runs `work` and returns its result, or `failed` and what was thrown.
template <typename T, typename F>
T guarded(char** error, T failed, F work) {
  try {
    return work();
  } catch (const std::exception& e) {
    *error = copy(e.what());
  } catch (...) {
    *error = copy("an exception that is no std::exception");
  }
  return failed;
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

std::string text(caffe2::serialize::PyTorchStreamReader& reader, const std::string& name) {
  auto [data, size] = reader.getRecord(name);
  return std::string(static_cast<const char*>(data.get()), size);
}

// Whether generated code checks numbers in a parallel region, which no exception may leave.
bool throws_in_parallel(const std::string& code) {
  return code.find("_CHECK(") != std::string::npos &&
      code.find("#pragma omp parallel") != std::string::npos;
}

// How often the accelerator has run out of memory so far. Packages do not tell why they fail, so
// that this has to.
int64_t count_ooms(int device) {
  if (device < 0) {
    return 0;
  }
  try {
    return at::accelerator::getDeviceStats(static_cast<c10::DeviceIndex>(device)).num_ooms;
  } catch (const std::exception&) {
    return 0; // an accelerator without such figures
  }
}

std::vector<at::Tensor> tensors(void* const* inputs, size_t count) {
  std::vector<at::Tensor> out;
  out.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    out.push_back(*static_cast<at::Tensor*>(inputs[i]));
  }
  return out;
}

void* stream_handle(int device) {
  if (device < 0) {
    return nullptr;
  }
  auto stream = at::accelerator::getCurrentStream(static_cast<c10::DeviceIndex>(device));
  return c10::impl::VirtualGuardImpl(stream.device_type()).getStreamNativeHandle(stream);
}

// Folds the constants that packages else fold in their first run, on that run's stream, while runs on
// other streams read them; and waits for them, and for the copies of the weights. A package without
// such constants says so on standard error.
void prepare(FbPackage& package) {
  if (package.device < 0) {
    return;
  }
  const auto index = static_cast<c10::DeviceIndex>(package.device);
  const auto kind = at::accelerator::getAccelerator(/*checked=*/true).value();
  const c10::DeviceGuard guard(c10::Device(kind, index));
  c10::InferenceMode mode;
  package.loader.get_runner()->run_const_fold(
      /*use_inactive=*/false,
      static_cast<AOTInductorStreamHandle>(stream_handle(package.device)));
  at::accelerator::synchronizeDevice(index);
}

} // namespace

extern "C" {

char* fb_package_describe(const char* file, char** error) {
  return guarded<char*>(error, nullptr, [&] {
    // The loader's own function for this goes on where nothing was found, and leaves folders behind.
    caffe2::serialize::PyTorchStreamReader reader{std::string(file)};
    std::optional<std::string> metadata;
    bool has_code = false;
    for (const auto& name : reader.getAllRecords()) {
      if (name.rfind(kFolder, 0) == 0) {
        has_code = has_code || ends_with(name, ".so");
        metadata = ends_with(name, kMetadata) ? name : metadata;
        if (ends_with(name, "kernel.cpp") && throws_in_parallel(text(reader, name))) {
          throw std::runtime_error(
              "one number out of bounds in a request, such as a token's, would end the whole server");
        }
      }
    }
    if (!metadata || !has_code) {
      throw std::runtime_error(
          reader.hasRecord("constants.pkl")
              ? "it is a TorchScript file, for platform \"pytorch_libtorch\""
              : "it holds no compiled model of the name 'model'");
    }
    return copy(text(reader, *metadata));
  });
}

FbPackage* fb_package_load(const char* file, size_t runners, int device, char** error) {
  return guarded<FbPackage*>(error, nullptr, [&] {
    std::lock_guard<std::mutex> lock(loading());
    load_libtorch();
    auto package = std::make_unique<FbPackage>(file, runners, device);
    prepare(*package);
    return package.release();
  });
}

void fb_package_free(FbPackage* package) {
  delete package;
}

char* fb_package_call_spec(FbPackage* package, char** error) {
  return guarded<char*>(error, nullptr, [&] {
    auto specs = package->loader.get_call_spec();
    return copy(specs.at(0) + "\n" + specs.at(1));
  });
}

bool fb_package_run(
    FbPackage* package,
    void* const* inputs,
    size_t count,
    void* sink,
    void (*take)(void* sink, void* tensor),
    bool* no_memory,
    char** error) {
  // Another thread's may be counted too: then this run is tried again for nothing.
  const int64_t ooms = count_ooms(package->device);
  bool done = guarded<bool>(error, false, [&] {
    c10::InferenceMode mode;
    auto outputs = package->loader.run(tensors(inputs, count), stream_handle(package->device));
    for (auto& output : outputs) {
      take(sink, new at::Tensor(std::move(output)));
    }
    return true;
  });
  if (!done) {
    *no_memory = ooms < count_ooms(package->device);
  }
  return done;
}

bool fb_package_probe(const char* file, void* const* inputs, size_t count, char** error) {
  std::lock_guard<std::mutex> lock(loading());
  const std::string before = getenv(kChecks) ? getenv(kChecks) : "0";
  setenv(kChecks, "1", /*overwrite=*/1);
  bool done = guarded<bool>(error, false, [&] {
    c10::InferenceMode mode;
    load_libtorch();
    FbPackage package(file, /*runners=*/1, /*device=*/-1);
    package.loader.run(tensors(inputs, count));
    return true;
  });
  setenv(kChecks, before.c_str(), /*overwrite=*/1);
  return done;
}
}
