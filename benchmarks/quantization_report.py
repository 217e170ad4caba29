"""The table of `quantization.py`, and the bounds that its figures are held against."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Figures = dict[str, Any]
Verdict = tuple[bool, str]

SMALL = "mobilenet_v3_small"
PLAIN = "plain TFLite"
MODE = "without AMX"  # what target devices are like, where it was measured
PER_CHANNEL_DROP, LESS_DISAGREEMENT = 0.5, 0.7
# of V3-Small: points, and latency relative to float32
INTEGER_DROP, INTEGER_LATENCY, MIXED_DROP, MIXED_LATENCY = 3.0, 0.7, 1.0, 0.9
PER_TENSOR_DROPS = {"mobilenet_v2_1.0": 2.0, "mobilenet_v1_1.0": 2.0, "mobilenet_v1_0.25": 4.0}
SCRAMBLED_SHARE, FORMATS_AGREE, SECONDS = 0.97, 0.99, 60.0
TITLES = ("TFLite", "ONNX")


def show(name: str, found: Figures) -> None:
    """Print one model's figures."""
    modes = list(found.get("latency", {}))
    print(f"\n{name}")
    heads = "".join(f" {'ms ' + mode:>15} {'of float':>8}" for mode in modes)
    columns = f"{'file':32} {'top-1 %':>19} {'difference':>21} {'agrees %':>8} {'KL':>7} {'XNNPACK':>10}"
    print(f"{columns}{heads} {'made in s':>9}")
    seconds = found.get("files", {}).get("seconds", {})
    for part in ("files", "per-tensor", "scrambled"):
        for label, row in found.get(part, {}).get("rows", {}).items():
            if part == "files" or label not in found.get("files", {}).get("rows", {}):
                print(
                    _line(
                        label, row, found.get("latency", {}), seconds.get(label.rsplit(" ", 1)[0], seconds.get(label))
                    )
                )
        for kind, share in found.get(part, {}).get("formats_agree", {}).items():
            print(f"  {part}, {kind}: TFLite and ONNX agree on {100 * share:.2f} %")
        if "skipped" in found.get(part, {}):
            print(f"  {part}: skipped, {found[part]['skipped']}")
    if "time" in found:
        print("  quantize(): " + ", ".join(f"{n} images {s:.1f} s" for n, s in found["time"]["quantize"].items()))


def _line(label: str, row: Figures, latency: Figures, seconds: float | None) -> str:
    cells = [f"{label:32} {_percent(row['top1'])}"]
    cells.append(f"{_percent(row['difference'], '+') if 'difference' in row else '':>21}")
    cells.append(f"{100 * row['agreement']['value']:8.2f}" if "agreement" in row else " " * 8)
    cells.append(f"{row['kl']:7.4f}" if row.get("kl") is not None else " " * 7)
    cells.append(f"{_delegate(row.get('delegate')):>10}")
    for times in latency.values():
        mine, reference = times.get(label), times.get(f"float32 {label.rsplit(' ', 1)[1]}")
        cells.append(f"{mine:15.2f} {mine / reference:8.2f}" if mine is not None and reference else " " * 24)
    return " ".join(cells) + (f" {seconds:9.1f}" if seconds is not None else "")


def _delegate(report: Figures | None) -> str:
    if report is None:
        return ""
    if report["error"] is not None:
        return "REFUSED"
    return f"{report['partitions']}" + (f" + {report['outside']} out" if report["outside"] else "")


def _percent(estimate: dict[str, float], sign: str = "") -> str:
    value, low, high = (100 * estimate[key] for key in ("value", "low", "high"))
    return f"{value:{sign}6.2f} ({low:{sign}.1f}, {high:{sign}.1f})"


def checks(models: Figures) -> list[Verdict]:
    """Yield (holds, sentence) for every bound that has figures."""
    return [
        *_per_channel(models),
        *_v3_small(models),
        *_per_tensor(models),
        *_scrambled(models),
        *_formats(models),
        *_time(models),
    ]


def _rows(models: Figures, part: str) -> Iterator[tuple[str, Figures]]:
    return ((name, found[part]["rows"]) for name, found in models.items() if "rows" in found.get(part, {}))


def _drop(row: Figures) -> float:
    return -100 * float(row["difference"]["value"])


def _per_channel(models: Figures) -> Iterator[Verdict]:
    """Point 1."""
    plain, ours = 0.0, dict.fromkeys(TITLES, 0.0)
    for name, rows in _rows(models, "files"):
        if SMALL in name or "int8 TFLite" not in rows:
            continue
        plain += 100 * (1 - rows[PLAIN]["agreement"]["value"])
        for title in TITLES:
            row = rows[f"int8 {title}"]
            ours[title] += 100 * (1 - row["agreement"]["value"])
            inside = row["difference"]["high"] >= 0
            yield (
                _drop(row) <= PER_CHANNEL_DROP or inside,
                f"1. {name} int8 {title}: drop {_drop(row):+.2f} (at most {PER_CHANNEL_DROP}, or zero in its interval)",
            )
    for title, mine in ours.items():
        if plain:
            share = f"{mine / plain:.2f} of it, at most {LESS_DISAGREEMENT}"
            text = f"1. disagreement with float, summed, {title}: {mine:.2f} beside plain {plain:.2f} ({share})"
            yield mine <= LESS_DISAGREEMENT * plain, text


def _v3_small(models: Figures) -> Iterator[Verdict]:
    """Point 2: every recipe that was measured is listed; one of each kind has to hold."""
    for name, rows in _rows(models, "files"):
        if SMALL not in name:
            continue
        times = models[name].get("latency", {})
        times = times.get(MODE) or times.get("as it is") or {}
        for title in TITLES:
            kinds = {k.removesuffix(f" {title}") for k in rows if k.endswith(title) and k.startswith("int8")}
            integer = {k for k in kinds if "mixed" not in k}
            for what, those, drop, share in (
                ("all-integer", integer, INTEGER_DROP, INTEGER_LATENCY),
                ("mixed", kinds - integer, MIXED_DROP, MIXED_LATENCY),
            ):
                said = {k: _speed_and_drop(rows, times, f"{k} {title}", title) for k in sorted(those)}
                holds = any(lost <= drop and (ratio is None or ratio <= share) for lost, ratio in said.values())
                text = "; ".join(
                    f"{k} drop {lost:.2f}" + (f", {r:.2f} of float's time" if r else "")
                    for k, (lost, r) in said.items()
                )
                yield holds, f"2. {name} {what} {title} (drop {drop}, {share} of float's time at most): {text}"


def _speed_and_drop(rows: Figures, times: Figures, label: str, title: str) -> tuple[float, float | None]:
    mine, reference = times.get(label), times.get(f"float32 {title}")
    return _drop(rows[label]), mine / reference if mine and reference else None


def _per_tensor(models: Figures) -> Iterator[Verdict]:
    """Point 3."""
    for name, rows in _rows(models, "per-tensor"):
        bound = next((b for part, b in PER_TENSOR_DROPS.items() if name.startswith(part)), None)
        if bound is None:
            continue
        for title in TITLES:
            lost, plain = _drop(rows[f"int8 per-tensor {title}"]), _drop(rows[f"plain per-tensor {title}"])
            yield lost <= bound, f"3. {name} per-tensor {title}: drop {lost:+.2f} (at most {bound}; plain {plain:+.2f})"


def _scrambled(models: Figures) -> Iterator[Verdict]:
    """Point 4."""
    for name, rows in _rows(models, "scrambled"):
        for title in TITLES:
            whole = rows[f"int8 {title}"]["agreement"]["value"]
            mixed = rows[f"int8 scrambled {title}"]["agreement"]["value"]
            share = f"{mixed / whole:.3f} of it, at least {SCRAMBLED_SHARE}"
            text = f"agrees on {100 * mixed:.2f} %, unscrambled {100 * whole:.2f} % ({share})"
            yield mixed >= SCRAMBLED_SHARE * whole, f"4. {name} scrambled {title}: {text}"


def _formats(models: Figures) -> Iterator[Verdict]:
    """Point 5."""
    for name, found in models.items():
        for part in ("files", "per-tensor", "scrambled"):
            for kind, share in found.get(part, {}).get("formats_agree", {}).items():
                if kind.startswith("int8"):
                    yield share >= FORMATS_AGREE, f"5. {name} {kind}: formats agree on {100 * share:.2f} % ({part})"


def _time(models: Figures) -> Iterator[Verdict]:
    """Point 6."""
    for name, found in models.items():
        times = found.get("time", {}).get("quantize", {})
        if name.startswith("mobilenet_v2") and "200" in times:
            yield (
                times["200"] < SECONDS,
                f"6. {name}: quantize() with 200 images {times['200']:.1f} s (below {SECONDS})",
            )
