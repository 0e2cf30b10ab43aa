#!/usr/bin/env python3
"""Exports a PyTorch model as an AOTInductor package, in a folder that Forebay serves.

    export_aoti.py WHAT REPOSITORY [--name NAME] [--max-batch 64] [--device cpu] ...

WHAT is `module:function` or `file.py:function`. The function returns the model, an nn.Module,
and example inputs: a tuple of tensors in the order of `forward`, or a dict by its arguments'
names; clients call the inputs so. Where the model batches, each example begins with the batch dimension; one row is enough.
All other dimensions are served as the examples have them.

    def mlp():
        return MyModel().eval(), {"image": torch.randn(1, 784)}

The package is made for the kind of device and processor that this runs on. It takes PyTorch 2.11
and, for the CPU, g++; nothing else. Its answers are held against the model's own before anything
is written. The result: REPOSITORY/NAME/config.pbtxt and REPOSITORY/NAME/1/model.pt2.
"""

import argparse
import contextlib
import importlib
import importlib.util
import inspect
import json
import os
import shutil
import sys
import tempfile
import time
import zipfile

import torch

# The protocol's names of datatypes, and those of config.pbtxt where they differ.
DATATYPES = {
    torch.bool: "BOOL",
    torch.uint8: "UINT8",
    torch.int8: "INT8",
    torch.int16: "INT16",
    torch.int32: "INT32",
    torch.int64: "INT64",
    torch.float16: "FP16",
    torch.float32: "FP32",
    torch.float64: "FP64",
    torch.bfloat16: "BF16",
}
# Largest difference of an output, against the largest value in it: joined operations round in
# other places.
TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-3}
TOLERANCE_OF_HALVES = 3e-2


class Unfit(Exception):
    """What the user can mend."""


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("what", help="module:function or file.py:function")
    add("repository", help="the folder of models")
    add("--name", help="the model's name; default: the function's")
    add("--max-batch", type=int, default=64, help="largest batch; 0: tensors have no batch dimension")
    add("--device", default="cpu", help="cpu or cuda; default: cpu")
    add("--outputs", help="names for the outputs, by commas; default: the dict's, or OUTPUT__0, ..")
    add("--instances", type=int, default=1, help="copies that run at a time; they share the weights")
    return parser.parse_args()


def load(what):
    """Calls the function that `what` names; returns the model and its inputs by name."""
    place, _, name = what.rpartition(":")
    if not place:
        raise Unfit(f"{what!r} names no function; write module:function or file.py:function")
    if place.endswith(".py"):
        spec = importlib.util.spec_from_file_location("model_to_export", place)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        sys.path.insert(0, os.getcwd())
        module = importlib.import_module(place)
    model, inputs = getattr(module, name)()
    if isinstance(inputs, torch.Tensor):
        inputs = (inputs,)
    if not isinstance(inputs, dict):
        parameters = inspect.signature(model.forward).parameters.values()
        names = [p.name for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD]
        if len(names) < len(inputs):
            raise Unfit("forward names fewer arguments than there are inputs; return a dict by name")
        inputs = dict(zip(names, inputs))
    for name, value in inputs.items():
        if not isinstance(value, torch.Tensor) or value.dtype not in DATATYPES:
            raise Unfit(f"input {name!r} is no tensor of a datatype that can be served")
    return model.eval(), inputs


def rows(inputs, batch):
    """Makes a request of `batch` rows out of the examples, whose numbers differ by row."""

    def repeat(tensor):
        index = torch.arange(batch, device=tensor.device) % len(tensor)
        tensor = tensor[index]
        if tensor.is_floating_point():
            scale = torch.linspace(0.5, 1.5, batch, device=tensor.device).to(tensor.dtype)
            tensor = tensor * scale.view(-1, *[1] * (tensor.dim() - 1))
        return tensor.contiguous()

    return {name: repeat(tensor) for name, tensor in inputs.items()}


def compile(model, inputs, max_batch, package, device):
    """Exports and compiles to the file `package`."""
    dynamic = None
    if max_batch > 1:
        # A size of 1 would be taken for a constant.
        inputs = rows(inputs, 2)
        batch = torch.export.Dim("batch", min=1, max=max_batch)
        dynamic = {name: {0: batch} for name in inputs}
    elif max_batch == 1:
        inputs = rows(inputs, 1)
    started = time.monotonic()
    with torch.no_grad():
        exported = torch.export.export(model, (), inputs, dynamic_shapes=dynamic)
    say(f"exported in {time.monotonic() - started:.1f} s")

    def described(name, tensor):
        dims = [[dim, dim] for dim in tensor.shape]
        if max_batch > 1:
            dims[0] = [1, max_batch]
        return {"name": name, "datatype": DATATYPES[tensor.dtype], "dims": dims}

    described = [described(name, tensor) for name, tensor in inputs.items()]
    configs = {
        # Otherwise this machine's number of threads is baked in.
        "cpp.dynamic_threads": True,
        # Constants are folded in, and weights laid out as the kernels like them.
        "freezing": True,
        # With AOTI_RUNTIME_CHECK_INPUTS=1 a batch of one is still in order.
        "aot_inductor.check_lowerbound": False,
        # What the server holds a configuration against.
        "aot_inductor.metadata": {"forebay_inputs": json.dumps(described)},
    }
    build(exported, package, configs)
    if device == "cpu" and throws_in_parallel(package):
        # An exception that leaves a parallel region ends the process, and with it the server.
        say("the model looks values up by its inputs' numbers; compiling again, so that a number "
            "out of bounds fails its request only: joined operations will run on one thread")
        build(exported, package, configs | {"cpp.dynamic_threads": False, "cpp.threads": 1})
        if throws_in_parallel(package):
            raise Unfit("the compiled model would end its process on a number out of bounds; "
                        "serve it as TorchScript")


def build(exported, package, configs):
    started = time.monotonic()
    torch._inductor.aoti_compile_and_package(
        exported, package_path=package, inductor_configs=configs
    )
    size = os.path.getsize(package) / 2**20
    say(f"compiled in {time.monotonic() - started:.1f} s, {size:.1f} MiB")


def throws_in_parallel(package):
    """Returns whether any generated kernel checks numbers in a parallel region."""
    with zipfile.ZipFile(package) as archive:
        kernels = [name for name in archive.namelist() if name.endswith("kernel.cpp")]
        texts = [archive.read(name).decode() for name in kernels]
    return any("_CHECK(" in text and "#pragma omp parallel" in text for text in texts)


def flat(outputs, names):
    """Returns outputs by name."""
    if isinstance(outputs, dict):
        names = names or list(outputs)
        if set(names) != set(outputs):
            raise Unfit(f"the model's outputs are {list(outputs)}, not {names}")
        return {name: outputs[name] for name in names}
    if isinstance(outputs, torch.Tensor):
        outputs = [outputs]
    names = names or [f"OUTPUT__{index}" for index in range(len(outputs))]
    if len(names) != len(outputs):
        raise Unfit(f"the model has {len(outputs)} outputs, and --outputs names {len(names)}")
    return dict(zip(names, outputs))


@contextlib.contextmanager
def whole_fp32(device):
    """Switches off the GPU's TF32, whose ten bits differ by more than a mistake might."""
    if device == "cpu":
        yield
        return
    switches = [torch.backends.cudnn, torch.backends.cuda.matmul]
    before = [switch.allow_tf32 for switch in switches]
    say(f"compiled with TF32 {'on' if before[0] else 'off'} in convolutions and "
        f"{'on' if before[1] else 'off'} in matrix products; compared with both off")
    try:
        for switch in switches:
            switch.allow_tf32 = False
        yield
    finally:
        for switch, allowed in zip(switches, before):
            switch.allow_tf32 = allowed


def compare(model, inputs, max_batch, package, names):
    """Holds the package's answers against the model's; returns the outputs of one request."""
    compiled = torch._inductor.aoti_load_package(package)
    for batch in sorted({1, min(3, max_batch), max_batch}) if max_batch else [0]:
        request = rows(inputs, batch) if max_batch else inputs
        with torch.no_grad():
            expected = flat(model(**request), names)
            actual = flat(compiled(**request), names)
        for name, want in expected.items():
            check_output(name, want, batch)
            got = actual[name]
            if got.shape != want.shape or got.dtype != want.dtype:
                raise Unfit(f"output {name!r} is {got.dtype} {list(got.shape)} in the package, but "
                            f"{want.dtype} {list(want.shape)} in the model")
            largest = want.double().abs().max().item() or 1.0
            apart = (got.double() - want.double()).abs().max().item() / largest
            tolerance = TOLERANCES.get(want.dtype, TOLERANCE_OF_HALVES)
            # Not "apart > tolerance": of numbers that are no numbers, nothing is true.
            if not apart <= (tolerance if want.is_floating_point() else 0):
                raise Unfit(f"output {name!r} of the package is off by {apart:.1e} of its largest "
                            f"value at batch {batch}")
            say(f"batch {batch}: output {name!r} is within {apart:.1e} of the model's")
    return expected


def check_output(name, tensor, batch):
    if tensor.dtype not in DATATYPES:
        raise Unfit(f"output {name!r} is {tensor.dtype}, which cannot be served")
    if tensor.dim() < (2 if batch else 1):
        raise Unfit(f"output {name!r} has no dimension of its own; end forward with unsqueeze(-1)")
    if batch and len(tensor) != batch:
        raise Unfit(f"output {name!r} has {len(tensor)} rows for a batch of {batch}")


def config(name, inputs, outputs, options):
    """Returns the text of config.pbtxt."""

    def tensor(field, name, value):
        dims = ", ".join(str(dim) for dim in value.shape[1 if options.max_batch else 0:])
        datatype = DATATYPES[value.dtype]
        return (f'{field} [ {{ name: "{name}" data_type: TYPE_{datatype} '
                f"dims: [ {dims} ] }} ]\n")

    kind = "KIND_CPU" if options.device == "cpu" else "KIND_GPU"
    text = f'name: "{name}"\nplatform: "torch_aoti"\nbackend: "pytorch"\n'
    text += f"max_batch_size: {options.max_batch}\n"
    text += "".join(tensor("input", *item) for item in inputs.items())
    text += "".join(tensor("output", *item) for item in outputs.items())
    text += f"instance_group [ {{ kind: {kind} count: {options.instances} }} ]\n"
    return text + ("dynamic_batching { }\n" if options.max_batch > 1 else "")


def say(text):
    print(text, flush=True)


def main():
    options = arguments()
    name = options.name or options.what.rpartition(":")[2]
    target = os.path.join(options.repository, name)
    if os.path.exists(target):
        raise Unfit(f"{target} is there already; remove it, or take another --name")
    model, inputs = load(options.what)
    model = model.to(options.device)
    inputs = {key: value.to(options.device) for key, value in inputs.items()}
    outputs = options.outputs.split(",") if options.outputs else None
    os.makedirs(options.repository, exist_ok=True)
    # Beside its place, so that a server never sees half of it.
    scratch = tempfile.mkdtemp(prefix=".exporting-", dir=options.repository)
    try:
        package = os.path.join(scratch, "1", "model.pt2")
        os.mkdir(os.path.dirname(package))
        compile(model, inputs, options.max_batch, package, options.device)
        with whole_fp32(options.device):
            outputs = compare(model, inputs, options.max_batch, package, outputs)
        with open(os.path.join(scratch, "config.pbtxt"), "w") as file:
            file.write(config(name, inputs, outputs, options))
        os.chmod(scratch, 0o755)
        os.rename(scratch, target)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    say(f"{target} can be served")


if __name__ == "__main__":
    try:
        main()
    except Unfit as unfit:
        sys.exit(f"export_aoti.py: {unfit}")
