"""Size, load and scrolling of the report of 5,000 images, in a headless Chromium.

    python tools/bench/report.py --images ../shared/data/aquarium/train/images --scratch /tmp/report

Makes a pool from cut-outs of the images (640 px, JPEG), selects 5,000 of them with the sandbox's
detector, writes the report and opens it in a new browser with no cache. Scrolling goes through the
whole gallery, a third of a window a frame; a frame is what lies between two animation callbacks.
An empty page of the same height is scrolled the same way: what this browser and machine can do. The
main thread's own time per frame does not depend on what else the machine is doing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from detal.runs.provenance import commit, machine, versions  # noqa: E402
from tests.browser.chromium import open_browser  # noqa: E402

LOADED = """() => {
  const page = performance.getEntriesByType("navigation")[0];
  const paint = performance.getEntriesByName("first-contentful-paint")[0];
  return {
    first_paint_ms: paint ? paint.startTime : null,
    interactive_ms: page.domInteractive,
    load_ms: page.loadEventEnd,
    heap_mb: performance.memory ? performance.memory.usedJSHeapSize / 1e6 : null,
    cards: document.querySelectorAll("#gallery > li").length,
  };
}"""
SCROLLED = """() => new Promise((resolve) => {
  let shift = 0;
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) shift += entry.value;
  }).observe({ type: "layout-shift", buffered: true });
  document.documentElement.style.setProperty("scroll-behavior", "auto");
  const gallery = document.getElementById("images");
  if (gallery) gallery.scrollIntoView();
  const frames = [];
  let last = performance.now(), seen = 0, step = window.innerHeight / 3;
  const next = (now) => {
    frames.push(now - last);
    last = now;
    seen += document.querySelectorAll("#gallery img").length > 0;
    const before = window.scrollY;
    window.scrollBy(0, step);
    if (window.scrollY > before && frames.length < 5000) requestAnimationFrame(next);
    else resolve({ frames, shift, with_pictures: seen / frames.length });
  };
  requestAnimationFrame(next);
})"""
FILTERED = """() => new Promise((resolve) => {
  const search = document.getElementById("search"), started = performance.now();
  search.value = "7";
  search.dispatchEvent(new Event("input", { bubbles: true }));
  requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now() - started)));
})"""


def main() -> None:
    """Measure, print, write the JSON file."""
    args = _arguments()
    pool = args.scratch / "pool"
    if not pool.exists():
        _make_pool(args.images, pool, number=args.number + args.number // 20)
    run = args.scratch / "run"
    _detal(
        *("select", f"pool={pool}", f"detector={ROOT / 'data/sandbox/yolo_seed.pt'}"),
        *("strategy=entropy", f"budget={args.number}", f"output={run}"),
    )
    started = time.perf_counter()
    _detal("report", str(run))
    writing_s = time.perf_counter() - started
    page = run / "report.html"
    result: dict[str, Any] = {
        "images": args.number,
        "writing_s": round(writing_s, 2),
        "file_mb": round(page.stat().st_size / 1e6, 2),
        "data_mb": round((run / "report_data" / "data.json").stat().st_size / 1e6, 2),
        **_measured(page),
        "command": " ".join(["python", "tools/bench/report.py", *sys.argv[1:]]),
        "commit": commit(ROOT),
        "machine": machine(),
        "versions": versions(),
    }
    print(json.dumps(result, indent=2))
    args.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = ROOT.parent / "shared" / "data" / "aquarium" / "train" / "images"
    parser.add_argument("--images", type=Path, default=default, help="folder of photographs")
    parser.add_argument("--number", type=int, default=5_000, help="images of the report")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for pool and run")
    parser.add_argument("--output", type=Path, default=ROOT / "data" / "results" / "report.json")
    return parser.parse_args()


def _make_pool(images: Path, pool: Path, *, number: int) -> None:
    """Different photographs of one size: cut-outs at random places, every other one mirrored."""
    pool.mkdir(parents=True)
    rng = np.random.default_rng(0)
    sources = [cv2.imread(str(path)) for path in sorted(images.iterdir())[:150]]
    for i in range(number):
        source = sources[i % len(sources)]
        if source is None:
            raise SystemExit(f"not an image in {images}")
        share = rng.uniform(0.6, 0.95)
        height, width = (int(share * side) for side in source.shape[:2])
        top, left = (
            rng.integers(0, s - p) for s, p in zip(source.shape[:2], (height, width), strict=True)
        )
        part = source[top : top + height, left : left + width][:, :: 1 if i % 2 else -1]
        cv2.imwrite(str(pool / f"{i:05d}.jpg"), cv2.resize(part, (640, 480)))


def _detal(*arguments: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "detal", *arguments], env=environment, check=True)


def _measured(page: Path) -> dict[str, Any]:
    with open_browser() as browser:
        tab = browser.new_page(viewport={"width": 1360, "height": 900})
        tab.set_default_timeout(300_000)
        tab.goto(page.absolute().as_uri())
        tab.wait_for_timeout(1_000)
        loaded = tab.evaluate(LOADED)
        height = tab.evaluate("document.documentElement.scrollHeight")
        scrolled = _scrolled(tab)
        filtered = tab.evaluate(FILTERED)
        tab.goto(f"data:text/html,<body style='height:{height}px'>nothing")
        empty = _scrolled(tab)
        version = browser.version
    return {
        **{name: None if value is None else round(value, 1) for name, value in loaded.items()},
        **scrolled,
        "filter_ms": round(filtered, 1),
        "empty_page": empty,
        "browser": f"Chromium {version}",
    }


def _scrolled(tab: Any) -> dict[str, Any]:
    """Times of the frames while the whole page is scrolled."""
    session = tab.context.new_cdp_session(tab)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    before = _busy_s(session)
    scrolled = tab.evaluate(SCROLLED)
    busy_s = _busy_s(session) - before
    frames = np.array(scrolled["frames"][1:])
    return {
        "frames": len(frames),
        "frame_median_ms": round(float(np.median(frames)), 1),
        "frame_p95_ms": round(float(np.quantile(frames, 0.95)), 1),
        "main_thread_ms_per_frame": round(1000 * busy_s / len(frames), 2),
        "frames_with_pictures": round(scrolled["with_pictures"], 3),
        "layout_shift": round(scrolled["shift"], 4),
    }


def _busy_s(session: Any) -> float:
    """Processor time of the page's main thread so far."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return float({metric["name"]: metric["value"] for metric in metrics}["TaskDuration"])


if __name__ == "__main__":
    main()
