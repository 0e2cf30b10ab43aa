"""The results for people: one page of Markdown, and what it says of each requirement."""

import time

MET, MISSED, NONE, TRIAL = "met", "MISSED", "not measured", "trial"
OF_BOUND = 0.95


def verdicts(phases, options):
    """Returns requirement, met or not, and the figure. A trial run meets and misses nothing."""
    trial = options["quick"] or options["device"] != "gpu"
    return [
        (what, TRIAL if trial and verdict != NONE else verdict, figure)
        for what, verdict, figure in judged(phases)
    ]


def judged(phases):
    return [
        ("outputs equal the CPU's (FP32)", *parity(phases, "parity")),
        ("outputs equal the CPU's as served (TF32 in convolutions)", *parity(phases, "served_parity")),
        ("copies and compute overlap", *overlap(phases)),
        ("auto is the best or within 2 % of it at every batch size", *auto(phases)),
        (f"case 6243 reaches {OF_BOUND} of its bound", *case(phases)),
    ]


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
    return (MISSED, "; ".join([allowed, *differing])) if differing else (MET, allowed)


def overlap(phases):
    """One worker's stages: several workers' passes overlap one another without any copy."""
    ratios = [(cell["overlap"], f"{label}, batch {batch}")
              for label, batch, cell in cells(phases) if label == "copy stages"]
    ratios += [(cell["overlap"], f"case 6243, {cell['rounds']} products")
               for cell in data(phases, "case6243") or []]
    ratios = [one for one in ratios if one[0] is not None]
    if not ratios:
        return NONE, why(phases, "ladder")
    ratio, where = max(ratios)
    said = f"stage times over busy time are at most {ratio:.3f} ({where})"
    return (MET if ratio > 1 else MISSED), said


def auto(phases):
    found = data(phases, "ladder")
    if not found:
        return NONE, why(phases, "ladder")
    judgements = [one for report in found["reports"] for one in report["judgements"]]
    said = "; ".join(
        f"batch {one['batch']}: " + ("n/a" if one["auto_of_best"] is None
                                     else f"{one['auto_of_best']:.3f} of {one['best'][0]}")
        for one in judgements
    )
    return (MET if all(one["passes"] for one in judgements) else MISSED), said


def case(phases):
    found = data(phases, "case6243")
    if not found:
        return NONE, why(phases, "case6243")
    parts = [f"{cell['of_bound']:.3f} at compute {cell['alone_ms']['compute']:.1f} ms"
             for cell in found if cell["of_bound"] is not None]
    if not parts:
        return NONE, "the server did not tell its stage times"
    # The first is of the case's own compute time; a longer one does not stand for it.
    reached = found[0]["of_bound"] is not None and found[0]["of_bound"] >= OF_BOUND
    return (MET if reached else MISSED), "; ".join(parts)


def why(phases, name):
    return phases.get(name, {}).get("reason", "it did not run")


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
    lines += machine(phases) + bounds(phases) + forward(phases)
    ladder = data(phases, "ladder")
    if ladder:
        lines += ["## The ladder", "", ladder["text"].strip(), ""]
    lines += case_rows(phases) + parity_rows(phases)
    queued = data(phases, "async")
    if queued:
        lines += ["## Queued and done", "", "```text", queued["text"].strip(), "```", ""]
    lines += ["## Phases", ""]
    lines += table(
        ["phase", "status", "seconds", "reason"],
        [(name, entry["status"], entry.get("seconds", ""), entry.get("reason", "").split("\n")[0][:300])
         for name, entry in phases.items()],
    )
    return "\n".join(lines)


def machine(phases):
    found = data(phases, "machine")
    if not found:
        return []
    rows = [(key, str(found[key]).replace("\n", "<br>")) for key in
            ("nvidia_smi", "torch", "python", "system", "cores", "bundle", "devices")]
    return ["## Machine", ""] + table(["", ""], rows)


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
        alone, spread = cell["alone_ms"], cell["samples_per_s"]
        stages = " / ".join(f"{alone[stage]:.2f}" for stage in ("h2d", "compute", "d2h"))
        rows.append((
            cell["rounds"], stages, f"{cell['bound_per_s']:.2f}", f"{spread['mean']:.2f}",
            f"{cell['of_bound']:.3f}", "n/a" if cell["overlap"] is None else f"{cell['overlap']:.3f}",
        ))
    if not rows:
        return []
    header = ["products", "h2d / compute / d2h alone, ms", "bound, 1/s", "reached, 1/s", "of bound", "overlap"]
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


def table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(map(str, line)) + " |" for line in lines] + [""]
