"""Sentences for docs/peers.md that tell where a peer is ahead of mbn-deploy and by how much, from the figures alone.

Held against ours of the same precision and format (`OURS` of peers_routes.py), which for int8 is what is made if
nobody chooses a recipe. Of several peers that are ahead, the one that is furthest is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from peers_routes import BY_NAME, OURS, ROUTES, TITLES, Figures, Route, short

MODE, SERVER = "without AMX", "as it is"
KEPT = 5.0  # points of top-1: a file that loses more is ahead in nothing else


@dataclass(frozen=True)
class Lead:
    """A peer ahead by `by`; `certain` if that is more than chance explains."""

    where: str
    text: str
    by: float
    certain: bool = True


def has_tiles(results: Figures) -> bool:
    """Return whether the machine that was measured on has AMX."""
    return any(name.startswith("amx") for name in results["machine"]["instructions"])


def ahead(models: Figures, *, tiles: bool) -> Iterator[str]:
    """Paragraphs, a measure each; of latency none before it was measured, with AMX if the machine has `tiles`."""
    timed = any("latency" in e for f in models.values() for row in f["files"].values() for e in row["engines"].values())
    if not timed:
        yield "Latency is not measured yet."
        yield ""
    for title, leads in (
        ("Top-1 on the photographs", _paired(models, "top1")),
        ("Agreement with the Keras model", _paired(models, "agreement")),
        ("Latency on one thread", _latency(models, MODE, "1")),
        ("Latency on two threads", _latency(models, MODE, "2")),
        ("Latency on one thread of a server with AMX", _latency(models, SERVER, "1")),
        ("OpenVINO on our int8 files, one thread", _engine(models, MODE, "1")),
        ("OpenVINO on our int8 files, two threads", _engine(models, MODE, "2")),
        ("OpenVINO on our int8 files, one thread of a server with AMX", _engine(models, SERVER, "1")),
        ("Size of the file", _sizes(models)),
        ("CPU time of the export", _costs(models, "cpu_seconds")),
        ("Peak memory of the export", _costs(models, "peak_bytes")),
    ):
        if (timed or not title.startswith(("Latency", "OpenVINO"))) and (tiles or not title.endswith("AMX")):
            yield from _paragraph(title, list(leads))
    lost = [f"{where}: {title} ({points:.1f} points)" for where, title, points in _lost(models)]
    yield (
        f"Files that lose more than {KEPT:.0f} points of top-1 against Keras are compared in nothing but accuracy: "
        f"{'; '.join(lost) or 'there are none'}."
    )


def _paragraph(title: str, leads: list[Lead]) -> Iterator[str]:
    """Return a heading word and the sentences, certain differences first."""
    if not leads:
        yield f"**{title}**: no peer."
        yield ""
        return
    for certain, word in ((True, ""), (False, ", by no more than chance explains")):
        chosen = _furthest([lead for lead in leads if lead.certain == certain])
        if chosen:
            yield f"**{title}{word}**:"
            yield ""
            yield from (f"- {lead.where}: {lead.text}" for lead in chosen)
            yield ""


def _furthest(leads: list[Lead]) -> list[Lead]:
    best: dict[str, Lead] = {}
    for lead in leads:
        if lead.where not in best or lead.by > best[lead.where].by:
            best[lead.where] = lead
    return list(best.values())


Pair = tuple[str, str, str, Figures, Figures]  # model, where, title, theirs, ours


def _pairs(models: Figures, *, all_of_them: bool = False) -> Iterator[Pair]:
    """Peers' files that answer, with ours beside them."""
    for file, found in models.items():
        for row in found["files"].values():
            route = BY_NAME[row["route"]]
            ours = found["files"].get(f"{OURS.get(row['precision'])} {row['format']}")
            if route.ours or ours is None or _answered(row) is None or _answered(ours) is None:
                continue
            if all_of_them or (_loses(row) <= KEPT and route.name != "published"):
                where = f"{short(file)}, {row['precision']} {TITLES[row['format']]}"
                yield file, where, route.title, row, ours


def _answered(row: Figures) -> Figures | None:
    engines: Figures = row["engines"]
    return next((engines[e] for e in ("native", "built-in") if "top1" in engines.get(e, {})), None)


def _loses(row: Figures) -> float:
    return -100 * float((_answered(row) or {})["difference"]["value"])


def _lost(models: Figures) -> Iterator[tuple[str, str, float]]:
    for _, where, title, row, _ in _pairs(models, all_of_them=True):
        if _loses(row) > KEPT and row["route"] != "published":
            yield where, title, _loses(row)


def _paired(models: Figures, what: str) -> Iterator[Lead]:
    """Differences of shares, image by image."""
    for _, where, title, row, _ in _pairs(models, all_of_them=True):
        over = (_answered(row) or {}).get("over_ours", {}).get(what)
        if over is None or over["value"] <= 0 or (what == "agreement" and row["route"] == "published"):
            continue
        value, low, high = (100 * over[key] for key in ("value", "low", "high"))
        interval = f"{low:+.1f} to {high:+.1f}".replace("-", "−")
        yield Lead(where, f"{title} by {value:.1f} points (95 %: {interval})", value, over["low"] > 0)


def _time(figures: Figures | None, mode: str, threads: str) -> Figures | None:
    told: Figures = (figures or {}).get("latency", {}).get(mode, {}).get(threads, {})
    return told if "ms" in told else None


def _faster(where: str, title: str, theirs: Figures | None, ours: Figures | None) -> Iterator[Lead]:
    """Certain where nine of ten rounds of one were below nine of ten of the other."""
    if theirs is not None and ours is not None and theirs["ms"] < ours["ms"]:
        share = 1 - theirs["ms"] / ours["ms"]
        text = f"{title} by {100 * share:.0f} % ({theirs['ms']:.2f} ms beside {ours['ms']:.2f} ms)"
        yield Lead(where, text, share, theirs["high"] < ours["low"])


def _latency(models: Figures, mode: str, threads: str) -> Iterator[Lead]:
    for _, where, title, row, ours in _pairs(models):
        yield from _faster(where, title, _time(_answered(row), mode, threads), _time(_answered(ours), mode, threads))


def _engine(models: Figures, mode: str, threads: str) -> Iterator[Lead]:
    """OpenVINO beside LiteRT or ONNX Runtime, on the file that we made."""
    for file, found in models.items():
        for form, title in TITLES.items():
            row = found["files"].get(f"{OURS['int8']} {form}")
            if row is not None and "error" not in row["engines"].get("openvino", {"error": ""}):
                theirs, ours = _time(row["engines"]["openvino"], mode, threads), _time(_answered(row), mode, threads)
                yield from _faster(f"{short(file)}, int8 {title}", "OpenVINO", theirs, ours)


def _sizes(models: Figures) -> Iterator[Lead]:
    for _, where, title, row, ours in _pairs(models):
        share = 1 - row["bytes"] / ours["bytes"]
        if share > 0:
            text = f"{title} by {100 * share:.1f} % ({row['bytes'] / 1e3:.0f} kB beside {ours['bytes'] / 1e3:.0f} kB)"
            yield Lead(where, text, share)


def _costs(models: Figures, key: str) -> Iterator[Lead]:
    """From the Keras model to the file: seconds of all steps, or the largest memory of any."""
    total: Callable[[list[float]], float] = sum if key == "cpu_seconds" else max
    for file, where, title, row, ours in _pairs(models):
        routes = models[file]["routes"]
        mine = routes.get(ours["route"], {}).get(key)
        steps = [routes.get(step.name, {}).get(key) for step in _steps(BY_NAME[row["route"]])]
        if mine is None or None in steps or any(step.ours for step in _steps(BY_NAME[row["route"]])):
            continue
        spent = total([float(step) for step in steps if step is not None])
        if spent < mine:
            shown = (f"{v:.1f} s" if key == "cpu_seconds" else f"{v / 1e6:.0f} MB" for v in (spent, mine))
            yield Lead(
                where, f"{title} by {100 * (1 - spent / mine):.0f} % ({' beside '.join(shown)})", 1 - spent / mine
            )


def _steps(route: Route) -> list[Route]:
    """Return the route and those that its file comes from."""
    known = {route.name: route for route in ROUTES}
    return [route] if route.source is None else [*_steps(known[route.source]), route]
