"""Draw the results of the laboratory into docs/performance.md, with the machine and versions named.

    python -m benchmarks.report

What stands between ``<!-- NAME -->`` and ``<!-- /NAME -->`` is replaced; the rest of the page is
written by hand. Plots are SVG files under docs/images/. A benchmark without results keeps its part.
"""

from __future__ import annotations

import re
from typing import Any

from benchmarks.measuring import ROOT, load

PAGE = ROOT / "docs" / "performance.md"
IMAGES = ROOT / "docs" / "images"
_OURS, _OTHERS, _LIMIT = "#2563eb", "#9ca3af", "#dc2626"


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name, write in _PARTS.items():
        results = load(name)
        if results is None:
            print(f"{name}: no results, its part stays as it is")
            continue
        text = _replaced(text, name, write(results))
    found = [load(name) for name in _PARTS]
    if latest := [each for each in found if each is not None]:
        text = _replaced(text, "machine", _machine(latest))
    PAGE.write_text(text, encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: written")


def _replaced(text: str, name: str, part: str) -> str:
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"{PAGE}: there is no place for {name}")
    return pattern.sub(lambda match: f"{match[1]}{part.rstrip()}\n{match[2]}", text)


def _machine(results: list[dict[str, Any]]) -> str:
    machine = results[-1]["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    taken = ", ".join(f"{each['benchmark']} {each['at'][:16]}Z" for each in results)
    loads = ", ".join(f"{each['benchmark']} {each['machine']['load'][0]:g}" for each in results)
    return (
        f"{machine['cores']} cores of {machine['cpu']}, {machine['system']}, Python {machine['python']}; "
        f"{packages}.\n\nTaken at: {taken}. The machine's load (1 minute) at the end of each: {loads}.\n"
    )


def _throughput(results: dict[str, Any]) -> str:
    endpoint = results["endpoint"]
    parts = [
        (
            f"Endpoint: {endpoint['kind']}. For each second of its own CPU time it answers "
            f"{endpoint['plain_per_s']:,.0f} calls plain and {endpoint['tls_per_s']:,.0f} over TLS."
            + (f" Go: {results['go']}." if "go" in results else "")
            + "\n"
        )
    ]
    for key, title in (("at_once", "at once"), ("account", "account")):
        scene = results.get(key)
        if scene is None:
            continue
        rounds = next(c["per_s"]["runs"] for c in scene["clients"].values() if "per_s" in c)
        parts.append(
            f"**{title.capitalize()}**: {scene['records']:,} records, {scene['concurrency']:,} in flight; "
            f"medians of {rounds} interleaved runs, least to most in brackets.\n"
        )
        parts.append(
            "| client | records a second | CPU µs a record | rate, baseline = 1 | CPU, baseline = 1 |"
        )
        parts.append("|---|---|---|---|---|")
        for name, client in scene["clients"].items():
            if "failed" in client:
                parts.append(f"| {name} | no figure: {client['failed'][:80]} | | | |")
                continue
            ratio = _spread(client["rate_ratio"], 1) if "rate_ratio" in client else ""
            cpu = f"1/{client['cpu_ratio']['median']:.1f}" if "cpu_ratio" in client else ""
            parts.append(
                f"| {name} | {_spread(client['per_s'])} | {_spread(client['cpu_us'])} | {ratio} | {cpu} |"
            )
        if "steady_per_s" in scene:
            parts.append(
                f"\nIn the middle three fifths of the run, fanout: {_spread(scene['steady_per_s'])}/s."
            )
        if scene.get("slow_records", scene["records"]) != scene["records"]:
            parts.append(
                f"The clients on aiobotocore, boto3 and JavaScript had {scene['slow_records']:,} records."
            )
        if "baseline_records" in scene:
            parts.append(f"The baseline had {scene['baseline_records']:,} records.")
        parts.append("")
        _bars(scene, f"throughput-{key.replace('_', '-')}.svg", title)
        parts.append(f"![Records a second, {title}](images/throughput-{key.replace('_', '-')}.svg)\n")
    return "\n".join(parts)


def _littles_law(results: dict[str, Any]) -> str:
    parts = [
        "| in flight | delay | | limit C/D | reached | of C/D | of what the leanest client reaches | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in results["cases"]:
        tls = "TLS" if case["tls"] else "plain"
        start = f"| {case['concurrency']:,} | {case['delay_ms']:,} ms | {tls} | {case['limit_per_s']:,.0f}/s "
        if "failed" in case:
            parts.append(f"{start}| no figure: {case['failed'][:80]} | | | |")
            continue
        bound = f"CPU: {case['cpu_cores']:.1f} cores" if case["is_cpu_bound"] else ""
        parts.append(
            f"{start}| {_spread(case['per_s'])} | {case['share']['median']:.1%} "
            f"| {case['share_of_reachable']:.1%} | {bound} |"
        )
    _reached(results["cases"])
    parts.append("\n![Share of Little's law reached](images/littles-law.svg)\n")
    return "\n".join(parts)


def _overhead(results: dict[str, Any]) -> str:
    parts = ["| | CPU µs a record |", "|---|---|"]
    for name, figure in results["whole_us"].items():
        parts.append(f"| **{name}, without transport** | **{_spread(figure, 1)}** |")
    for name, figure in results["stages_us"].items():
        parts.append(f"| of it: {name} | {_spread(figure, 2)} |")
    parts.append(f"| of it: dispatcher and event loop (what is left) | {results['rest_us']:.1f} |")
    return "\n".join(parts)


def _memory(results: dict[str, Any]) -> str:
    parts = [
        "| records, durable run | peak memory | with report.html | CPU µs a record, start-up and all |",
        "|---|---|---|---|",
    ]
    for each in results["records"]:
        parts.append(
            f"| {each['records']:,} | {each['peak_rss_mb']:.1f} MB | {each['with_page_rss_mb']:.1f} MB "
            f"| {each['cpu_us']:.1f} |"
        )
    parts += ["", "| payload | in flight | peak memory |", "|---|---|---|"]
    for each in results["payloads"]:
        parts.append(
            f"| {each['payload_bytes']:,} bytes | {each['concurrency']} | {each['peak_rss_mb']:.1f} MB |"
        )
    parts += ["", "| in flight | | peak memory | for each connection more |", "|---|---|---|---|"]
    for tls in (False, True):
        cases = [each for each in results["concurrency"] if each["tls"] is tls]
        for each in cases:
            more = ""
            if each is not cases[0] and each["concurrency"] >= 1_000:
                grown_mb = each["peak_rss_mb"] - cases[0]["peak_rss_mb"]
                more = f"{grown_mb * 1e3 / (each['concurrency'] - cases[0]['concurrency']):.0f} KB"
            name = "TLS" if tls else "plain"
            parts.append(f"| {each['concurrency']:,} | {name} | {each['peak_rss_mb']:.0f} MB | {more} |")
    return "\n".join(parts)


def _latency(results: dict[str, Any]) -> str:
    parts = ["| | p50 | p99 |", "|---|---|---|"]
    titles = {"bare": "transport alone", "invoke": "`dispatcher.invoke`", "added": "**added**"}
    for when in ("", " at 1,000/s"):
        for name, title in titles.items():
            p50, p99 = (_spread(results[f"{name} {each}{when}"]) for each in ("p50", "p99"))
            parts.append(f"| {title}{when} | {p50} µs | {p99} µs |")
    parts += [
        "",
        "| the event loop works without a pause for | p99 | p99.9 | at the most |",
        "|---|---|---|---|",
    ]
    for name in {each.partition(": ")[0]: None for each in results if each.startswith("loop busy")}:
        figures = " | ".join(f"{_spread(results[f'{name}: {each}'])} µs" for each in ("p99", "p99.9", "max"))
        parts.append(f"| {name.removeprefix('loop busy, ')} | {figures} |")
    return "\n".join(parts)


def _startup(results: dict[str, Any]) -> str:
    parts = ["| program | to the first call, ms | to its end, ms | CPU, ms |", "|---|---|---|---|"]
    for name, figures in results["programs"].items():
        first = _spread(figures["first_call_ms"]) if "first_call_ms" in figures else ""
        parts.append(f"| {name} | {first} | {_spread(figures['wall_ms'])} | {_spread(figures['cpu_ms'])} |")
    return "\n".join(parts)


def _journals(results: dict[str, Any]) -> str:
    parts = [
        f"{results['outcomes']:,} outcomes, {results['journal_mb'] / 1e3:.1f} GB.\n",
        "| | to the first call | to the end | CPU | outcomes a second | peak memory |",
        "|---|---|---|---|---|---|",
    ]
    for name, each in results["verbs"].items():
        first = f"{each['first_call_s']:.1f} s" if "first_call_s" in each else ""
        rate = "" if first or name == "runs" else f"{results['outcomes'] / each['s']:,.0f}"
        spent = f"{each['s']:.1f} s | {each['cpu_s']:.1f} s"
        parts.append(f"| {name} | {first} | {spent} | {rate} | {each['peak_mb']:.0f} MB |")
    return "\n".join(parts)


_PARTS = {
    "throughput": _throughput,
    "littles_law": _littles_law,
    "overhead": _overhead,
    "memory": _memory,
    "latency": _latency,
    "startup": _startup,
    "journals": _journals,
}


def _spread(figure: dict[str, float], digits: int = 0) -> str:
    return f"{figure['median']:,.{digits}f} ({figure['least']:,.{digits}f} to {figure['most']:,.{digits}f})"


def _bars(scene: dict[str, Any], file: str, title: str) -> None:
    from matplotlib import pyplot as plt

    clients = {name: each for name, each in scene["clients"].items() if "per_s" in each}
    names = list(clients)[::-1]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 0.45 * len(names) + 1.2), sharey=True)
    for axis, member, label in ((left, "per_s", "records a second"), (right, "cpu_us", "CPU µs a record")):
        values = [clients[name][member]["median"] for name in names]
        spread = [
            [clients[name][member]["median"] - clients[name][member]["least"] for name in names],
            [clients[name][member]["most"] - clients[name][member]["median"] for name in names],
        ]
        colors = [_OURS if name.startswith("fanout") else _OTHERS for name in names]
        axis.barh(names, values, xerr=spread, color=colors, error_kw={"linewidth": 1})
        axis.set_xlabel(label)
        axis.spines[["top", "right"]].set_visible(False)
        for number, value in enumerate(values):
            axis.annotate(
                f"{value:,.0f}", (value, number), textcoords="offset points", xytext=(6, 5), fontsize=8
            )
    figure.suptitle(f"{title}: {scene['records']:,} records, {scene['concurrency']:,} in flight", fontsize=11)
    _write(figure, file)


def _reached(cases: list[dict[str, Any]]) -> None:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True)
    for axis, tls in zip(axes, (False, True), strict=True):
        for delay_ms, color in zip((10, 100, 1000), ("#93c5fd", _OURS, "#1e3a8a"), strict=True):
            chosen = [c for c in cases if c["tls"] is tls and c["delay_ms"] == delay_ms and "per_s" in c]
            if chosen:
                axis.plot(
                    [case["limit_per_s"] for case in chosen],
                    [case["per_s"]["median"] for case in chosen],
                    marker="o",
                    color=color,
                    label=f"{delay_ms} ms",
                )
        axis.plot([10, 1e6], [10, 1e6], color=_LIMIT, linewidth=1, linestyle="--", label="C/D")
        axis.set(xscale="log", yscale="log", xlabel="C/D, calls a second", title="TLS" if tls else "plain")
        axis.set_ylim(5, 5e4)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("reached, calls a second")
    axes[0].legend(fontsize=8, frameon=False)
    _write(figure, "littles-law.svg")


def _write(figure: Any, file: str) -> None:
    from matplotlib import pyplot as plt

    figure.tight_layout()
    figure.savefig(IMAGES / file, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
