"""Moves tensors with TensorNVMe: tensornvme.py FOLDER, then lines `write BYTES COUNT` or `read BYTES COUNT`.

Each line is answered by the seconds that it took, and those on the CPU. A write ends when the bytes are
on the disk, and a read does not find them in the page cache.
"""

import os
import resource
import sys
import time
import warnings

warnings.filterwarnings("ignore")

import torch
from tensornvme import DiskOffloader

DEPTH = 32
BACKEND = "uring"


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main():
    folder = sys.argv[1]
    offloader = DiskOffloader(folder, DEPTH, BACKEND)
    (file,) = os.listdir(folder)
    file = os.open(os.path.join(folder, file), os.O_RDWR)
    tensors = []
    for line in sys.stdin:
        way, tensor_bytes, count = line.split()
        if way == "write":
            pattern = torch.rand(int(tensor_bytes) // 4)
            tensors = [pattern.clone() for _ in range(int(count))]
        else:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        begin, spent = time.monotonic(), cpu()
        move = offloader.async_write if way == "write" else offloader.async_read
        for tensor in tensors:
            move(tensor)
        offloader.synchronize()
        if way == "write":
            os.fsync(file)
        print(time.monotonic() - begin, cpu() - spent, flush=True)
        if way == "read":
            if not all(torch.equal(tensor, pattern) for tensor in tensors):
                sys.exit("tensors came back damaged")
            tensors = []


main()
