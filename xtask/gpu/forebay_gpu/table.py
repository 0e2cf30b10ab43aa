"""The results for people: one page of Markdown, and what it says of each requirement.

Invariant: a figure that is not what was expected spoils its own line or section, and no other.
"""

import time

from .process import batches

MET, MISSED, NONE, TRIAL = "met", "MISSED", "not measured", "trial"
BOUNDED = "not shown"
OF_BOUND = 0.95
# The part of what full overlap would reach.
OF_OVERLAP = 0.9
STAGES = ("h2d", "compute", "d2h")


def verdicts(phases, options):
    """Returns requirement, met or not, and the figure. A trial run meets and misses nothing."""
    trial = options["quick"] or options["device"] != "gpu"
    return [
        (what, TRIAL if trial and verdict != NONE else verdict, figure)
        for what, verdict, figure in judged(phases, batches(options["quick"]))
    ]


def judged(phases, sizes):
    judges = [
        ("outputs equal the CPU's (FP32)", "parity", lambda: parity(phases, "parity")),
        ("outputs equal the CPU's as served (TF32 in convolutions)", "served_parity",
         lambda: parity(phases, "served_parity")),
        (f"copies and compute overlap in case 6243, {OF_OVERLAP} of what they may", "case6243",
         lambda: overlap(phases)),
        ("auto is the best configuration of its model or within 2 % of it at every batch size",
         "ladder", lambda: auto(phases, sizes)),
        (f"case 6243 reaches {OF_BOUND} of its bound", "case6243", lambda: case(phases)),
        ("no page-locked memory is allocated on the steady path, the ladder's last repetition",
         "ladder", lambda: pinned(phases)),
    ]
    found = []
    for what, phase, judge in judges:
        try:
            verdict, figure = judge()
        except Exception as error:
            verdict, figure = NONE, f"its figures cannot be read: {error!r}"
        found.append((what, verdict, "; ".join([figure, *remarks(phases, phase)])))
    return found


def data(phases, name):
    return phases.get(name, {}).get("data")


def parity(phases, name):
    found = data(phases, name)
    if not found:
        return NONE, why(phases, name)
    rows = found["rows"]
    compared = [row["difference"] for row in rows if row["difference"] is not None]
    differing = [f"{row['model']} at batch {row['batch']}: {row['note']}"
                 for row in rows if not row["passes"]]
    largest = f"largest difference {max(compared):.1e}" if compared else "nothing was compared"
    allowed = f"{largest}, {found['tolerance']:.0e} allowed"
    if differing:
        return MISSED, "; ".join([allowed, *differing])
    if phases[name]["status"] != "ok" or not compared:
        return NONE, f"{len(rows)} rows only, {allowed}: {why(phases, name)}"
    return MET, allowed


def stage_times(cell):
    """Returns the times of the stages in ms: of each the smaller, alone or under load."""
    alone, loaded = cell["alone_ms"], cell["stages_ms"]
    if alone is None:
        return None
    return [min(alone[stage], (loaded or alone)[stage]) for stage in STAGES]


def filled(cell):
    """Returns how long the requests of a repetition take at best, in ms, with filling the pipeline."""
    times = stage_times(cell)
    return times and sum(times) + (cell["requests"] - 1) * max(times)


def of_bound(cell):
    """Returns throughput over what the slowest stage allows once the pipeline is filled."""
    spread, best = cell["samples_per_s"], filled(cell)
    return spread["mean"] * best / 1e3 / cell["requests"] if spread and best else None


def overlap(phases):
    """Of case 6243 only: several workers' passes overlap one another without any copy."""
    found = data(phases, "case6243")
    if not found:
        return NONE, why(phases, "case6243")
    told = [cell for cell in found if cell["overlap"] is not None and cell["stages_ms"]]
    if not told:
        return NONE, "the server did not tell its stage times"
    # Under load, as those that the ratio is made of.
    times = [[cell["stages_ms"][stage] for stage in STAGES] for cell in told]
    full = [sum(one) / max(one) for one in times]
    said = "stage times over busy time, the last is judged: " + "; ".join(
        f"{cell['overlap']:.3f} of {most:.3f} at full overlap, at compute {one[1]:.1f} ms"
        for cell, one, most in zip(told, times, full)
    )
    if phases["case6243"]["status"] != "ok":
        return NONE, f"{why(phases, 'case6243')}; {said}"
    # The last has the longest compute: with less, requests may not come as fast as stages take them,
    # and a batch that is alone overlaps nothing.
    return (MET if told[-1]["overlap"] >= OF_OVERLAP * full[-1] else MISSED), said


def auto(phases, sizes):
    found = data(phases, "ladder")
    if not found:
        return NONE, why(phases, "ladder")
    judgements = [one for report in found["reports"] for one in report["judgements"]]
    cuts = [report["cut"] for report in found["reports"] if report["cut"]]
    missing = set(sizes) ^ {one["batch"] for one in judgements}
    said = "; ".join(
        f"batch {one['batch']}: " + ("n/a" if one["auto_of_best"] is None else of_both(one))
        for one in judgements
    )
    # Of columns that are not judged. A loadgen of before did not tell.
    beside = [f"batch {one['batch']}: {fault}, which is not judged"
              for one in judgements for fault in one.get("beside", [])]
    said = "; ".join([said, *beside])
    if phases["ladder"]["status"] != "ok":
        return NONE, f"{why(phases, 'ladder')}; {said}"
    if cuts or missing:
        lacks = [f"batches {sorted(missing)} were not measured"] if missing else []
        return NONE, "; ".join([*cuts, *lacks, said])
    if any(one["repetitions"] == 1 for one in judgements):
        return NONE, f"a single repetition does not tell 2 %; {said}"
    alone = [str(one["batch"]) for one in judgements if one.get("alone")]
    if alone:
        return NONE, f"no other column to hold auto against at batch {', '.join(alone)}; {said}"
    if any(one["faults"] for one in judgements):
        faults = [f"batch {one['batch']}: {fault}" for one in judgements for fault in one["faults"]]
        return MISSED, "; ".join([said, *faults])
    bounded = [str(one["batch"]) for one in judgements if one["near_floor"]]
    if bounded:
        return BOUNDED, f"bounded by client and network at batch {', '.join(bounded)}; {said}"
    return (MET if all(one["passes"] for one in judgements) else MISSED), said


def of_both(one):
    """Returns what auto reaches of the best configuration of its model, and of all columns."""
    said = f"{one['auto_of_best']:.3f} of {one['best'][0]}"
    if one["best_of_all"] != one["best"]:
        said += f", and {one['auto_of_all']:.3f} of {one['best_of_all'][0]}, which is not judged"
    return f"{said} (n = {one['repetitions']})"


def pinned(phases):
    found = data(phases, "ladder")
    if not found:
        return NONE, why(phases, "ladder")
    every = [(label, batch, cell["pinned_allocations"]) for label, batch, cell in cells(phases)]
    told = [one for one in every if one[2]]
    if not told:
        return NONE, "the server did not tell"
    last = sum(slabs[-1] for _, _, slabs in told)
    parts = [f"{last} slabs in the last repetitions, {sum(sum(slabs) for _, _, slabs in told)} in "
             f"all after the run-in, in {len(told)} cells"]
    parts += [f"{label} at batch {batch}: {slabs}" for label, batch, slabs in told if slabs[-1]]
    lacks = [why(phases, "ladder")] if phases["ladder"]["status"] != "ok" else []
    lacks += [report["cut"] for report in found["reports"] if report["cut"]]
    lacks += [f"{label} at batch {batch}: not told" for label, batch, slabs in every if not slabs]
    if last == 0 and lacks:
        return NONE, "; ".join([*lacks, *parts])
    return (MISSED if last else MET), "; ".join(parts)


def case(phases):
    found = data(phases, "case6243")
    if not found:
        return NONE, why(phases, "case6243")
    # The first is of the case's own compute time; a longer one does not stand for it.
    reached = of_bound(found[0])
    if reached is None:
        return NONE, "its stage times were not told, or no repetition was completed in time"
    parts = [f"{of_bound(cell):.3f} with filling the pipeline, {cell['of_bound']:.3f} without, "
             f"at compute {stage_times(cell)[1]:.1f} ms"
             for cell in found if of_bound(cell) is not None]
    return (MET if reached >= OF_BOUND else MISSED), "; ".join(parts)


def why(phases, name):
    return phases.get(name, {}).get("reason", "it did not run")


def remarks(phases, name):
    return phases.get(name, {}).get("remarks", [])


def cells(phases):
    """Yields label, batch and figures of each cell of the ladder."""
    found = data(phases, "ladder")
    columns = (column for report in found["reports"] for column in report["columns"]) if found else ()
    for column in columns:
        for row in column["state"].get("measured", {}).get("rows", []):
            yield column["label"], row["batch"], row


def page(whole):
    phases = whole["phases"]
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(whole["started_at_unix_s"]))
    lines = [f"# Forebay on a device: {when}", ""]
    if whole["options"]["quick"] or whole["options"]["device"] != "gpu":
        lines += ["A trial of the script itself: its figures mean nothing.", ""]
    lines += table(["requirement", "", "figure"], whole["verdicts"])
    for section in (machine, forms, bounds, forward, ladder, case_rows, parity_rows, queued, all_phases):
        try:
            lines += section(phases)
        except Exception as error:
            lines += [f"The section {section.__name__} cannot be shown: {error!r}", ""]
    return "\n".join(lines)


def ladder(phases):
    found = data(phases, "ladder")
    return ["## The ladder", "", found["text"].strip(), ""] if found else []


def queued(phases):
    found = data(phases, "async")
    return ["## Queued and done", "", "```text", found["text"].strip(), "```", ""] if found else []


def all_phases(phases):
    return ["## Phases", ""] + table(
        ["phase", "status", "began, UTC", "seconds", "GPU", "reason, remarks"],
        [(name, entry["status"], began(entry), entry.get("seconds", ""),
          (entry.get("gpu") or "").split(",")[0], "; ".join(notes(entry)))
         for name, entry in phases.items()],
    )


def notes(entry):
    """Returns the first line of what is told beside a phase's data."""
    told = [entry.get("reason", ""), *entry.get("remarks", [])]
    return [one.split("\n")[0][:300] for one in told if one]


def began(entry):
    at = entry.get("started_at_unix_s")
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(at)) if at else ""


def machine(phases):
    found = data(phases, "machine")
    if not found:
        return []
    rows = [(key, str(found.get(key, "n/a")).replace("\n", "<br>")) for key in
            ("nvidia_smi", "torch", "python", "system", "cores", "bundle", "devices")]
    return ["## Machine", ""] + table(["", ""], rows)


def forms(phases):
    """What the server that is measured said of its models' forms, each line once."""
    told = {}
    for name, entry in phases.items():
        for line in entry.get("forms", []):
            told.setdefault(line, []).append(name)
    if not told:
        return []
    rows = [(", ".join(dict.fromkeys(names)), line) for line, names in told.items()]
    return ["## Forms of the models, by the server's log", ""] + table(["phase", ""], rows)


def bounds(phases):
    found = data(phases, "bare") or {}
    rows = [
        (f"{copy['bytes'] / 1e6:.2f}",
         *(f"{copy[way] / 1e9:.1f}" for way in ("h2d_bytes_per_s", "d2h_bytes_per_s",
                                               "both_bytes_per_s", "h2d_pageable_bytes_per_s")))
        for copy in found.get("copies", [])
    ]
    if not rows:
        return ["## Copies by PyTorch", "", why(phases, "bare"), ""]
    header = ["MB", "pinned, to the device, GB/s", "pinned, back", "both at once", "pageable, to it"]
    return ["## Copies by PyTorch", ""] + table(header, rows)


def forward(phases):
    """The bare pass, and what of it the server's columns reach."""
    found = data(phases, "bare") or {}
    best = {}
    for label, batch, cell in cells(phases):
        spread = cell["samples_per_s"]
        if spread and (batch not in best or spread["mean"] > best[batch][0]):
            best[batch] = (spread["mean"], label)
    rows = []
    for row in found.get("forward", []):
        served = best.get(row["batch"])
        rows.append((
            row["form"], row["batch"], f"{row['samples_per_s']:.1f}",
            f"{row['with_copies_per_s']:.1f}" if "with_copies_per_s" in row else "n/a",
            f"{served[0] / row['samples_per_s']:.3f} ({served[1]})" if served else "n/a",
        ))
    if not rows:
        return []
    header = ["form", "batch", "bare pass, samples/s", "with copies, one by one", "served best, of the bare pass"]
    return ["## The bare pass by PyTorch, one stream", ""] + table(header, rows)


def case_rows(phases):
    rows = []
    for cell in data(phases, "case6243") or []:
        times, spread = stage_times(cell), cell["samples_per_s"]
        rows.append((
            cell["rounds"], " / ".join(f"{one:.2f}" for one in times) if times else "n/a",
            figure(cell["bound_per_s"], 2), figure(spread and spread["mean"], 2),
            spread["n"] if spread else 0, figure(cell["of_bound"]), figure(of_bound(cell)),
            figure(cell["overlap"]),
        ))
    if not rows:
        return []
    header = ["products", "h2d / compute / d2h, the smaller of alone and loaded, ms", "bound, 1/s",
              "reached, 1/s", "n", "of bound", "of bound with filling", "overlap"]
    return ["## Case 6243: 100 MB in, 400 MB out", ""] + table(header, rows)


def parity_rows(phases):
    lines = []
    for name in ("parity", "served_parity"):
        found = data(phases, name)
        if found:
            rows = [(row["model"], row["batch"],
                     "n/a" if row["difference"] is None else f"{row['difference']:.2e}",
                     "same" if row["passes"] else "DIFFERS: " + row["note"]) for row in found["rows"]]
            lines += [f"## Outputs against the CPU's: {name}", ""]
            lines += table(["model", "batch", "largest difference", ""], rows)
    return lines


def figure(value, digits=3):
    return "n/a" if value is None else f"{value:.{digits}f}"


def table(header, rows):
    def cell(value):
        # What a program said may hold anything.
        return " ".join(str(value).split("\n")).replace("|", "/")

    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(map(cell, line)) + " |" for line in lines] + [""]
