"""The generated part of docs/peers.md, from the figures of `peers.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from peers_ahead import MODE, SERVER, ahead, has_tiles
from peers_routes import BY_NAME, DEFAULT, ROUTES, TITLES, Figures, short

BEGIN, END = "<!-- figures of benchmarks/peers.py -->", "<!-- end of the figures -->"
PACKAGES = (
    *("mbn-deploy", "tensorflow-cpu", "keras", "ai-edge-litert", "onnxruntime"),
    *("tf2onnx", "litert-quantizer", "nncf", "openvino"),
)
NOTHING = "–"


def with_tables(page: str, results: Figures) -> str:
    """Return the page with the new tables between the marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{made(results)}\n\n{END}{after}"


def made(results: Figures) -> str:
    """Return the text between the marks."""
    tiles = has_tiles(results)
    parts = [_how(results), "", "## In short", "", *_short(results["models"])]
    parts += ["", "## Where a peer is ahead", "", *ahead(results["models"], tiles=tiles)]
    for file, found in results["models"].items():
        parts += ["", f"## {short(file)}", "", *_files(found, tiles=tiles), "", *_openvino(found), "", *_exports(found)]
    return "\n".join(parts)


def engine_of(row: Figures) -> str | None:
    """Return the engine of a file's own figures: its interpreter, without XNNPACK if that refuses the file."""
    answered = [e for e in ("native", "built-in") if "error" not in row["engines"].get(e, {"error": ""})]
    return answered[0] if answered else None


def _how(results: Figures) -> str:
    machine, versions = results["machine"], results.get("versions", {})
    named = ", ".join(f"{package} {versions[package]}" for package in PACKAGES if package in versions)
    return (
        f"Measured on {machine['cpu']}, {machine['cores']} processors, {results['date']}: "
        f"{results.get('photographs', 0)} validation photographs, {results['calibration_images']} calibration "
        f"photographs, {results.get('rounds', 'no')} rounds of latency. {named}."
    )


def _short(models: Figures) -> Iterator[str]:
    """Our default int8 beside the peer that is nearest to Keras, for each model and format."""
    yield (
        "| model | file | mbn-deploy int8 agrees with Keras, % | ms, 1 thread | the peer that agrees most | agrees, % "
        "| ms, 1 thread |"
    )
    yield "|---|---|--:|--:|---|--:|--:|"
    for file, found in models.items():
        for form, title in TITLES.items():
            rows = [row for row in found["files"].values() if (row["precision"], row["format"]) == ("int8", form)]
            told = [(row, row["engines"][engine]) for row in rows if (engine := engine_of(row)) is not None]
            ours = [figures for row, figures in told if row["route"] == DEFAULT]
            peers = [(r, f) for r, f in told if not BY_NAME[r["route"]].ours and r["route"] != "published"]
            if not ours or not peers:
                continue
            row, best = max(peers, key=lambda pair: float(pair[1]["agreement"]["value"]))
            cells = [short(file), title, _estimate(ours[0]["agreement"]), _ms(ours[0], MODE, 1)]
            cells += [BY_NAME[row["route"]].title, _estimate(best["agreement"]), _ms(best, MODE, 1)]
            yield f"| {' | '.join(cells)} |"


def _files(found: Figures, *, tiles: bool) -> Iterator[str]:
    keras = found.get("keras")
    if keras is not None:
        yield f"Keras itself, float32: top-1 {_estimate(keras['top1'])} %, top-5 {100 * keras['top5']:.1f} %."
        yield ""
    timed = [(MODE, 1, "ms, 1 thread"), (MODE, 2, "ms, 2 threads")]
    timed += [(SERVER, 1, "ms, 1 thread, AMX")] if tiles else []
    heads = ["made by", "file", "top-1, %", "beside Keras, points", "agrees with Keras, %", "MB"]
    heads += [head for *_, head in timed]
    yield f"| {' | '.join(heads)} |"
    yield f"|---|---{'|--:' * (len(heads) - 2)}|"
    notes = []
    for label, row in found["files"].items():
        engine = engine_of(row)
        if engine is None:
            notes.append(f"{_title(label, row)}, {TITLES[row['format']]}, does not run: {_error(row)}")
            nothing = " |" * len(timed)
            yield f"| {_title(label, row)} | {TITLES[row['format']]} | {NOTHING} | | | {_megabytes(row)} |{nothing}"
            continue
        figures = row["engines"][engine]
        mark = ""
        if engine == "built-in":
            mark = " (no XNNPACK)"
            notes.append(f"{_title(label, row)}: LiteRT refuses to open the file with XNNPACK: {_error(row)}")
        cells = [
            _title(label, row),
            TITLES[row["format"]] + mark,
            f"{100 * figures['top1']['value']:.1f}",
            _estimate(figures["difference"], "+"),
            _estimate(figures["agreement"]),
            _megabytes(row),
            *(_ms(figures, mode, threads) for mode, threads, _ in timed),
        ]
        yield f"| {' | '.join(cells)} |"
    for note in notes:
        yield ""
        yield note


def _openvino(found: Figures) -> Iterator[str]:
    yield "| the same files in OpenVINO | file | top-1, % | agrees with Keras, % | ms, 1 thread | ms, 2 threads |"
    yield "|---|---|--:|--:|--:|--:|"
    notes: dict[str, list[str]] = {}
    for label, row in found["files"].items():
        figures = row["engines"].get("openvino")
        if figures is None:
            continue
        name = f"{_title(label, row)}, {TITLES[row['format']]}"
        if "error" in figures:
            notes.setdefault(_code(figures["error"]), []).append(name)
            continue
        cells = [
            _title(label, row),
            TITLES[row["format"]],
            f"{100 * figures['top1']['value']:.1f}",
            _estimate(figures["agreement"]),
            _ms(figures, MODE, 1),
            _ms(figures, MODE, 2),
        ]
        yield f"| {' | '.join(cells)} |"
    for error, names in notes.items():
        yield ""
        yield f"OpenVINO does not run {'; '.join(names)}: {error}"


def _exports(found: Figures) -> Iterator[str]:
    yield "| export | starts from | CPU seconds | peak, MB | of it before the export, MB |"
    yield "|---|---|--:|--:|--:|"
    notes = []
    for route in ROUTES:
        figures = found["routes"].get(route.name)
        if figures is None or route.name == "published":
            continue
        start = "Keras" if route.source is None else f"the file by {BY_NAME[route.source].title}"
        name = route.title + (", both files" if len(route.formats) == 2 else "")
        if "error" in figures:
            notes.append(f"{route.title} fails: {_code(figures['error'])}")
            yield f"| {name} | {start} | {NOTHING} | {NOTHING} | |"
            continue
        cells = [name, start, f"{figures['cpu_seconds']:.1f}"]
        cells += [f"{figures[key] / 1e6:.0f}" for key in ("peak_bytes", "before_bytes")]
        yield f"| {' | '.join(cells)} |"
    for note in notes:
        yield ""
        yield note


def _title(label: str, row: Figures) -> str:
    route = BY_NAME[row["route"]]
    return f"{route.title}: `{label}`" if route.name == "published" else route.title


def _error(row: Figures) -> str:
    return _code(row["engines"].get("native", {}).get("error", "not tried"))


def _code(text: str) -> str:
    return f"`{text.replace('`', chr(39))}`"


def _megabytes(row: Figures) -> str:
    return f"{row['bytes'] / 1e6:.2f}"


def _ms(figures: Figures, mode: str, threads: int) -> str:
    told: dict[str, Any] = figures.get("latency", {}).get(mode, {}).get(str(threads), {})
    return f"{told['ms']:.2f}" if "ms" in told else NOTHING


def _estimate(estimate: Figures, sign: str = "") -> str:
    """Value and 95 % interval in %."""
    value, low, high = (100 * estimate[key] for key in ("value", "low", "high"))
    return f"{value:{sign}.1f} ({low:{sign}.1f} to {high:{sign}.1f})".replace("-", "−")
