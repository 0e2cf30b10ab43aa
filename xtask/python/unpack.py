"""Unpacks chosen members of a wheel.

    unpack.py WHEEL FOLDER FROM=TO ...

FROM is a member, or a folder of members where it ends with a slash; TO is where it goes,
below FOLDER. Says how far it is on standard output, one JSON object a line.
"""

import json
import os
import sys
import zipfile

CHUNK = 1 << 20
# Progress is told each time so many bytes were written.
STEP = 16 << 20


def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def targets(archive, rules):
    """Yields (member, target) for every member that a rule names."""
    for member in archive.infolist():
        if member.is_dir():
            continue
        for source, target in rules:
            if member.filename == source:
                yield member, target
            elif source.endswith("/") and member.filename.startswith(source):
                yield member, target + member.filename[len(source):]


def main():
    wheel, folder, *rules = sys.argv[1:]
    rules = [rule.split("=", 1) for rule in rules]
    with zipfile.ZipFile(wheel) as archive:
        chosen = list(targets(archive, rules))
        for source, _ in rules:
            if not any(member.filename.startswith(source) for member, _ in chosen):
                say("fail", kind="archive", text=f"{wheel} holds no {source}")
                sys.exit(1)
        say("start", total=sum(member.file_size for member, _ in chosen), resumed_at=0)
        done = told = 0
        for member, target in chosen:
            path = os.path.realpath(os.path.join(folder, target))
            if not path.startswith(os.path.realpath(folder) + os.sep):
                say("fail", kind="archive", text=f"{wheel} names {target}, outside its folder")
                sys.exit(1)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with archive.open(member) as source, open(path, "wb") as file:
                while chunk := source.read(CHUNK):
                    file.write(chunk)
                    done += len(chunk)
                    if done - told >= STEP:
                        told = done
                        say("at", bytes=done)
        say("done")


try:
    main()
except (KeyboardInterrupt, BrokenPipeError):
    os._exit(130)
except zipfile.BadZipFile as error:
    say("fail", kind="archive", text=str(error))
    sys.exit(1)
except OSError as error:
    say("fail", kind="disk", text=str(error))
    sys.exit(1)
