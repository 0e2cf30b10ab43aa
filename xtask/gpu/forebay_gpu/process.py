"""Programs of the bundle: where their libraries are, running them, servers.

Invariant: whatever was started is ended by `Setting.close`.
"""

import importlib.util
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def batches(quick):
    """Returns the batch sizes of the ladder."""
    return [1, 2] if quick else [1, 32, 64, 128, 256]


class Skip(Exception):
    """Why a phase cannot run here. No failure."""


class Unusable(RuntimeError):
    """Why nothing can be measured here: the run ends."""


class Died(RuntimeError):
    """A server ended before it took calls."""


class Setting:
    """The bundle, the machine's libraries, and what is running."""

    def __init__(self, bundle, options):
        self.bundle = bundle
        self.options = options
        self.quick = options.quick
        self.gpu = options.device == "gpu"
        self.batches = batches(options.quick)
        self.scratch = Path(tempfile.mkdtemp(prefix="forebay-gpu-"))
        self.repository = self.scratch / "models"
        self.servers = []
        self.background = None
        # Whether answers of the server that is measured were compared, and what is to be told of each
        # of its figures: of all its starts, and of the last one.
        self.compared = False
        self.remark = None
        self.lesser = None

    def close(self):
        for server in self.servers[:]:
            server.stop()
        if self.background:
            self.background.stop()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def libraries(self):
        """Returns the folders that the programs' libraries are in."""
        folders = [self.options.lib] if self.options.lib else []
        torch = importlib.util.find_spec("torch")
        if torch and torch.submodule_search_locations:
            torch = Path(torch.submodule_search_locations[0])
            folders.append(torch / "lib")
            # Where PyTorch's own wheels for CUDA put theirs.
            folders += sorted(torch.parent.glob("nvidia/*/lib"))
        folders = [folder.resolve() for folder in folders if folder.is_dir()]
        if not any((folder / "libtorch_cpu.so").exists() for folder in folders):
            raise Skip("no libtorch_cpu.so: install PyTorch 2.11, or name its lib folder by --lib")
        return folders

    def environment(self, **more):
        path = [str(folder) for folder in self.libraries()]
        if os.environ.get("LD_LIBRARY_PATH"):
            path.append(os.environ["LD_LIBRARY_PATH"])
        return {**os.environ, "LD_LIBRARY_PATH": ":".join(path), **more}

    def program(self, name):
        path = self.bundle / "bin" / name
        # An archive or a copy may have lost it.
        if not os.access(path, os.X_OK):
            path.chmod(0o755)
        return str(path)

    def run(self, program, *arguments, timeout, check=True, **environment):
        """Runs a program of the bundle to its end; returns what it printed."""
        command = [self.program(program), *map(str, arguments)]
        return run(command, timeout, check, self.environment(**environment))

    def python(self, *arguments, timeout):
        """Runs Python on a module of the bundle; returns what it printed."""
        command = [sys.executable, *map(str, arguments)]
        # PyTorch itself may be there by this path.
        path = [str(self.bundle), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
        return run(command, timeout, True, environment)

    def log(self, name):
        """Returns the file that servers called `name` write to."""
        return self.options.out / f"server-{name}.log"

    def serve(self, name, repository, device, timeout, **environment):
        """Starts a server and waits until it takes calls."""
        server = Server(self, name, repository, device, environment)
        self.servers.append(server)
        server.wait(timeout)
        return server

    def serving(self, name):
        """Returns the running server called `name`, or None. One that has ended is put away."""
        for server in self.servers[:]:
            if server.name == name:
                if server.process.poll() is None and server.endpoint:
                    return server
                server.stop()
        return None

    def stop(self, *names):
        for name in names:
            server = self.serving(name)
            if server:
                server.stop()


def run(command, timeout, check, environment):
    shown = " ".join([Path(command[0]).name, *command[1:4]])
    try:
        done = subprocess.run(
            command, env=environment, timeout=max(timeout, 1), text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as expired:
        said = expired.stderr or expired.stdout or b""
        said = said.decode(errors="replace") if isinstance(said, bytes) else said
        raise RuntimeError(f"{shown} took longer than {timeout:.0f} s; it said: {said[-600:]}")
    if check and done.returncode != 0:
        said = done.stderr[-1200:] + done.stdout[-600:]
        raise RuntimeError(f"{shown} ended with {done.returncode}: {said}")
    return done.stdout


class Background:
    """A program that runs beside the phases, with its output in a file."""

    def __init__(self, command, log, environment):
        self.log = log
        self.started = time.monotonic()
        with open(log, "w") as file:
            self.process = subprocess.Popen(
                command, env=environment, stdout=file, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )

    def wait(self, timeout):
        """Returns what it printed, once it has ended well."""
        try:
            code = self.process.wait(max(timeout, 1))
        except subprocess.TimeoutExpired:
            self.stop()
            taken = time.monotonic() - self.started
            raise RuntimeError(f"it was not done after {taken:.0f} s: {tail(self.log)}")
        if code != 0:
            raise RuntimeError(f"it ended with {code}: {tail(self.log)}")
        return self.log.read_text()

    def stop(self):
        if self.process.poll() is None:
            # It has a group of its own, for compilers are among its children.
            os.killpg(self.process.pid, 9)
            self.process.wait()


class Server:
    """A running `forebay serve`."""

    def __init__(self, setting, name, repository, device, environment):
        self.setting = setting
        self.name = name
        self.log = setting.log(name)
        settings = {
            "FOREBAY__DEVICE__KIND": device,
            # A batch of 256 images is 192 MB, and an answer of case6243 400 MB.
            "FOREBAY__ADMISSION__MAX_MESSAGE_BYTES": "1 GiB",
            "FOREBAY__ADMISSION__HOST_BYTES": "4 GiB" if setting.quick else "24 GiB",
            # The load generator sends its own requests for warm-up, of the shapes that follow.
            "FOREBAY__REGISTRY__WARMUP_TIMEOUT": "1s",
            # As many queues as streams, so that no stream waits behind another by chance. CUDA's
            # default is 8, and an instance takes three.
            "CUDA_DEVICE_MAX_CONNECTIONS": "32",
            **environment,
        }
        if device != "cpu":
            settings["FOREBAY__DEVICE__PINNED_BYTES"] = "12 GiB"
        command = [setting.program("forebay"), "serve", "--listen", "127.0.0.1:0"]
        # Added to, for what one that died said is worth keeping.
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                [*command, "--model-repository", str(repository)],
                env=setting.environment(**settings),
                stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, text=True,
            )
        self.endpoint = None

    def wait(self, timeout):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            ready, _, _ = select.select([self.process.stdout], [], [], 0.2)
            line = self.process.stdout.readline() if ready else None
            if line == "":
                code = self.process.wait()
                raise Died(f"the server ended with {code}: {tail(self.log)}")
            found = line and re.match(r"listening on (\S+)", line)
            if found:
                self.endpoint = f"http://{found[1]}"
                return
        self.stop()
        raise RuntimeError(f"the server was not ready in {timeout:.0f} s: {tail(self.log)}")

    def stop(self):
        if self in self.setting.servers:
            self.setting.servers.remove(self)
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def tail(log):
    """Returns the last of what a program wrote."""
    return Path(log).read_text(errors="replace")[-1500:]
