"""Fetches one file of one release of a package, through pip, and goes on where it stopped.

    fetch.py PACKAGE VERSION FILE BYTES SHA256 FOLDER [PLATFORM ...]

pip finds the file, so that a user's index, proxy, certificates and credentials hold; the
transfer is done here, because pip itself begins anew after an interruption. What is there
stays in FOLDER/FILE.part, and the next run asks only for the rest. FOLDER/FILE appears when
its hash is right, and never before.

Says what happens on standard output, one JSON object a line, with an "event" in each.
"""

import errno
import fcntl
import hashlib
import json
import logging
import os
import sys
import time
import urllib.parse

CHUNK = 1 << 18
# Attempts in a row that bring nothing before we give up.
ATTEMPTS = 5
# Progress is told so often, in seconds.
PACE = 0.1


def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def fail(kind, text):
    say("fail", kind=kind, text=text)
    sys.exit(1)


class Notes(logging.Handler):
    """Passes on pip's warnings, which name what is wrong with an index or a network."""

    def emit(self, record):
        say("note", text=record.getMessage())


def open_pip(package, platforms):
    """Returns pip's own session, package finder and options, set up as `pip download` would."""
    from pip._internal.cli import cmdoptions
    from pip._internal.commands import create_command

    command = create_command("download")
    arguments = ["--no-deps", "--only-binary=:all:", package]
    if platforms:
        arguments += ["--python-version", "3.11"]
    for platform in platforms:
        arguments += ["--platform", platform]
    options, _ = command.parse_args(arguments)
    logging.getLogger("pip").addHandler(Notes(logging.WARNING))
    session = command._build_session(options)
    finder = command._build_package_finder(
        options=options,
        session=session,
        target_python=cmdoptions.make_target_python(options),
    )
    return session, finder, options


def without_secrets(url):
    """Returns `url` without a user name or password."""
    parts = urllib.parse.urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urllib.parse.urlunsplit((parts.scheme, host, parts.path, "", ""))


def find(finder, options, package, version, file):
    """Returns the address of `file`; other builds of the version are passed over."""
    found = finder.find_all_candidates(package)
    for candidate in found:
        if candidate.link.filename == file:
            return candidate.link.url_without_fragment
    indexes = [options.index_url, *options.extra_index_urls] if not options.no_index else []
    where = ", ".join(without_secrets(url) for url in indexes + list(options.find_links))
    if not found:
        fail("index", f"{package} was not found at {where}")
    versions = sorted({str(candidate.version) for candidate in found})
    fail("index", f"{where} has {package} {', '.join(versions)}, but not {file} of {version}")


class Transfer:
    """The file that grows: what is on disk, and the hash of it."""

    def __init__(self, part, size):
        self.part = part
        self.size = size
        self.file = open(part, "a+b")
        # One that was left behind by a killed xtask may still be writing for a moment.
        fcntl.flock(self.file, fcntl.LOCK_EX)
        self.hash = hashlib.sha256()
        self.have = 0
        self.told = 0.0
        if os.path.getsize(part) > size:
            self.restart()
        self.file.seek(0)
        while chunk := self.file.read(CHUNK):
            self.hash.update(chunk)
            self.have += len(chunk)

    def restart(self):
        self.file.truncate(0)
        self.hash = hashlib.sha256()
        self.have = 0

    def attempt(self, session, url):
        """Takes what the connection gives; returns why it ended early, or None."""
        headers = {"Accept-Encoding": "identity", "Cache-Control": "no-store"}
        if self.have:
            headers["Range"] = f"bytes={self.have}-"
        with session.get(url, headers=headers, stream=True) as answer:
            if answer.status_code == 200 and self.have:
                say("note", text="the index cannot resume; beginning anew")
                self.restart()
            elif answer.status_code not in (200, 206):
                return f"HTTP status {answer.status_code}"
            for chunk in answer.raw.stream(CHUNK, decode_content=False):
                self.take(chunk)
        return None if self.have == self.size else f"ended at byte {self.have}"

    def take(self, chunk):
        if self.have + len(chunk) > self.size:
            fail("hash", f"the file is longer than the {self.size} bytes expected")
        self.file.write(chunk)
        self.hash.update(chunk)
        self.have += len(chunk)
        now = time.monotonic()
        if now - self.told >= PACE:
            self.told = now
            # What is told must be what an interruption leaves.
            self.file.flush()
            say("at", bytes=self.have)


def transfer(session, url, state):
    """Attempts until the file is whole, or until attempts in a row bring nothing."""
    fruitless = 0
    while state.have < state.size:
        before = state.have
        try:
            why = state.attempt(session, url)
        except OSError as error:
            # requests' errors are OSErrors too, but not with an errno of a disk.
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE):
                raise
            why = str(error)
        except Exception as error:  # urllib3's errors share no base class that pip exports
            why = f"{type(error).__name__}: {error}"
        if why is None:
            break
        fruitless = 0 if state.have > before else fruitless + 1
        if fruitless >= ATTEMPTS:
            fail("network", f"{without_secrets(url)}: {why}")
        say("retry", resumed_at=state.have, why=why)
        time.sleep(min(2**fruitless, 8) / 2)


def main():
    package, version, file, size, sha256, folder, *platforms = sys.argv[1:]
    target = os.path.join(folder, file)
    os.makedirs(folder, exist_ok=True)
    state = Transfer(target + ".part", int(size))
    if state.have < state.size:
        try:
            session, finder, options = open_pip(f"{package}=={version}", platforms)
        except (ImportError, AttributeError, TypeError) as error:
            say("unfit", text=f"{type(error).__name__}: {error}")
            return
        url = find(finder, options, package, version, file)
        say("start", total=state.size, resumed_at=state.have, host=without_secrets(url))
        transfer(session, url, state)
    state.file.close()
    if state.hash.hexdigest() != sha256:
        os.remove(state.part)
        fail("hash", f"{file} has sha256 {state.hash.hexdigest()}, expected {sha256}")
    os.replace(state.part, target)
    say("done")


try:
    main()
except (KeyboardInterrupt, BrokenPipeError):
    # Nobody listens any more; what is on disk is where the next run goes on.
    os._exit(130)
except OSError as error:
    fail("disk", str(error))
