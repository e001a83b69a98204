"""Measures `stillframe scan snapshot` beside trivy on one EBS snapshot, and how much of its allowed rate it uses, against
the fake of AWS with 20 ms and with 100 ms a call. Checks the bounds that we hold ourselves to.

The fake serves from a process of its own on the same machine, so its work falls on all programs alike. What was asked of
it is taken from its log and its counters, not from what a program says of itself.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from measure import Usage, environment, machine, shown, spread, write

LATENCIES_MS = (20, 100)
SNAPSHOT = "snap-0123456789abcdef0"
LARGE = "snap-0123456789abcdef1"
HUGE = "snap-0123456789abcdef2"
# What the project holds itself to.
TRIVY_WALL_RATIO = 10
MAX_GETS = 200
CONTENT_SHARE = 0.95
SEQUENTIAL_SHARE = 0.90
MAX_PEAK_MIB = 256
# The rates that are asked for.
CONTENT_RATE = 400
SEQUENTIAL_RATE = 1000
LARGE_FILE_MIB = 2048
HUGE_GIB = 16 * 1024


class Fake:
    """The fake of AWS, for as long as a `with` lasts."""

    def __init__(self, program, work, latency_ms, snapshots):
        world = work / "world.json"
        listed = [
            {"id": name, "size_gib": gib, "content": {"image": str(image)}, "volume_id": "vol-0123456789abcdef0"}
            for name, (image, gib) in snapshots.items()
        ]
        world.write_text(json.dumps({"snapshots": listed, "settings": {"latency_ms": latency_ms}}))
        command = [program, "--world", world]
        self.process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def ask(self, path):
        with urllib.request.urlopen(f"{self.url}/_fake/{path}") as reply:
            return json.load(reply)

    def gets_since(self, number):
        """When each block was asked for, in seconds, since event `number`."""
        events = self.ask(f"events?after={number}")
        return sorted(event["at_ms"] / 1000 for event in events if event["operation"] == "GetSnapshotBlock")


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    path = lambda text: Path(text).resolve()
    parser.add_argument("--bench", type=path, required=True, help="the folder that bench-root.sh made")
    parser.add_argument("--work", type=path, required=True, help="where outputs go")
    parser.add_argument("--stillframe", type=path, required=True)
    parser.add_argument("--trivy", type=path, required=True)
    parser.add_argument("--fake", type=path, required=True)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--write", type=path, help="the document whose table is renewed")
    return parser.parse_args()


def cloud_environment(work, url):
    credentials = {"AWS_ACCESS_KEY_ID": "AKIDTEST", "AWS_SECRET_ACCESS_KEY": "none", "AWS_REGION": "us-east-1"}
    no_metadata = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL": url}
    return {**environment(work), **credentials, **no_metadata}


def run(command, work, url, output=subprocess.DEVNULL):
    """Wall time in seconds, and the peak memory of all its processes in MiB."""
    began = time.perf_counter()
    code, peak, _ = Usage.of(command, cloud_environment(work, url), output)
    wall = time.perf_counter() - began
    if code != 0:
        sys.exit(f"error: {shown_plain(command)} ended with {code}\nhint: run it alone")
    return wall, peak


def shown_plain(command):
    return " ".join(str(word) for word in command)


def scan_commands(wanted):
    report = wanted.work / "stillframe-ebs.json"
    bill = wanted.work / "trivy-ebs.json"
    trivy = [
        *("--pkg-types", "os", "--format", "cyclonedx", "--output", bill),
        *("--offline-scan", "--skip-db-update", "--skip-java-db-update", "--skip-version-check"),
        *("--disable-telemetry", "--cache-backend", "memory", "--cache-dir", wanted.work / "trivy-cache"),
    ]
    ours = [wanted.stillframe, "--quiet", "scan", "snapshot", "--scanners", "inventory", "--format", "json"]
    return {
        "stillframe": [*ours, "--output", report, SNAPSHOT],
        "trivy": [wanted.trivy, "--quiet", "vm", *trivy, f"ebs:{SNAPSHOT}"],
    }


def scans(wanted, fake, latency_ms):
    """Wall seconds of each program, and the blocks that it asked for."""
    commands = scan_commands(wanted)
    walls = {name: [] for name in commands}
    gets = dict.fromkeys(commands, 0)
    # trivy reads one block at a time: at 100 ms a run of it takes minutes.
    rounds = {"stillframe": wanted.runs, "trivy": wanted.runs if latency_ms == LATENCIES_MS[0] else 1}
    for number in range(wanted.runs):
        for name, command in commands.items():
            if number >= rounds[name]:
                continue
            before = fake.ask("counters")["gets"]
            wall, _ = run(command, wanted.work, fake.url)
            gets[name] = max(gets[name], fake.ask("counters")["gets"] - before)
            walls[name].append(wall)
            print(f"{latency_ms} ms, round {number + 1}: {name} {wall:.2f} s", flush=True)
    ours = json.loads((wanted.work / "stillframe-ebs.json").read_text())
    bill = json.loads((wanted.work / "trivy-ebs.json").read_text())
    theirs = [part for part in bill["components"] if part.get("purl", "").startswith("pkg:deb/")]
    return walls, gets, (len(ours["packages"]), len(theirs))


def share_of_rate(wanted, fake, snapshot, rate):
    """How much of the rate was used from the first block of content to the last, and the peak memory in MiB.

    The walk comes first, and asks for blocks that lead to others: its blocks are as many as a listing without hashes
    takes. The burst that the bucket allows after a pause is on top of the rate, and is not counted as use.
    """
    shares, peaks = [], []
    listing = wanted.work / "files.tsv"
    files = [wanted.stillframe, "--quiet", "files", "--gets-per-second", str(rate), snapshot]
    command = [*files, "--hash", "sha256"]
    before = fake.ask("counters")["events"]
    run(files, wanted.work, fake.url)
    walked = len(fake.gets_since(before))
    for _ in range(wanted.runs):
        before = fake.ask("counters")["events"]
        with listing.open("wb") as output:
            wall, peak = run(command, wanted.work, fake.url, output)
        gets = fake.gets_since(before)[walked:]
        burst = max(1, rate // 10)
        share = (len(gets) - burst) / (gets[-1] - gets[0]) / rate
        shares.append(share)
        peaks.append(peak)
        print(f"{snapshot} at {rate}/s: {len(gets)} gets, {share:.1%} of the rate, {wall:.2f} s", flush=True)
    return shares, max(peaks)


def large_file(wanted):
    """An ext4 image with one large file of random bytes, which neither compress nor hide as zeros."""
    image = wanted.work / "large.img"
    if not image.exists():
        folder = wanted.work / "large"
        folder.mkdir(exist_ok=True)
        with (folder / "file").open("wb") as out:
            for _ in range(LARGE_FILE_MIB // 16):
                out.write(os.urandom(16 << 20))
        size = f"{LARGE_FILE_MIB + 256}M"
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", folder, image, size], check=True)
        (folder / "file").unlink()
    return image


def main():
    wanted = options()
    (wanted.work / "home").mkdir(parents=True, exist_ok=True)
    disk = wanted.bench / "disk.img"
    gib = -(-disk.stat().st_size // 2**30)
    snapshots = {SNAPSHOT: (disk, gib), LARGE: (large_file(wanted), 3), HUGE: (disk, HUGE_GIB)}
    lines = ["| | stillframe | trivy | trivy ÷ stillframe |", "| --- | ---: | ---: | ---: |"]
    bounds = {}
    peaks = []
    rates = []
    for latency_ms in LATENCIES_MS:
        with Fake(wanted.fake, wanted.work, latency_ms, snapshots) as fake:
            walls, gets, packages = scans(wanted, fake, latency_ms)
            ours, theirs = (statistics.median(walls[name]) for name in ("stillframe", "trivy"))
            cells = " | ".join(spread(walls[name], 2) for name in ("stillframe", "trivy"))
            lines.append(f"| inventory at {latency_ms} ms, wall, s | {cells} | {theirs / ours:.1f} |")
            lines.append(f"| blocks got | {gets['stillframe']} | {gets['trivy']} | {gets['trivy'] / gets['stillframe']:.1f} |")
            bounds[f"at most {MAX_GETS} blocks at {latency_ms} ms"] = gets["stillframe"] <= MAX_GETS
            bounds[f"as many packages as trivy at {latency_ms} ms"] = packages[0] == packages[1] > 0
            if latency_ms == LATENCIES_MS[0]:
                bounds[f"wall at most 1/{TRIVY_WALL_RATIO} of trivy's"] = ours * TRIVY_WALL_RATIO <= theirs
            shares, peak = share_of_rate(wanted, fake, SNAPSHOT, CONTENT_RATE)
            peaks.append(peak)
            rates.append(f"| all content of the disk, {CONTENT_RATE}/s allowed, {latency_ms} ms | {percent(shares)} |")
            bounds[f"content at {latency_ms} ms uses {CONTENT_SHARE:.0%} of the rate"] = (
                statistics.median(shares) >= CONTENT_SHARE
            )
            shares, peak = share_of_rate(wanted, fake, LARGE, SEQUENTIAL_RATE)
            peaks.append(peak)
            rates.append(f"| one file of 2 GiB, {SEQUENTIAL_RATE}/s allowed, {latency_ms} ms | {percent(shares)} |")
            bounds[f"a sequential read at {latency_ms} ms reaches {SEQUENTIAL_SHARE:.0%} of {SEQUENTIAL_RATE}/s"] = (
                statistics.median(shares) >= SEQUENTIAL_SHARE
            )
            if latency_ms == LATENCIES_MS[0]:
                scan = [*scan_commands(wanted)["stillframe"][:-1], HUGE]
                peaks.append(run(scan, wanted.work, fake.url)[1])
    bounds[f"peak memory at most {MAX_PEAK_MIB} MiB, on a volume of 16 TiB too"] = max(peaks) <= MAX_PEAK_MIB
    text = "\n".join(
        [
            *lines,
            "",
            "| read | share of the allowed rate |",
            "| --- | ---: |",
            *rates,
            "",
            f"Median, smallest and largest of {wanted.runs} runs (trivy at 100 ms: of 1) on {machine()}, the fake on the "
            f"same cores. Peak memory of stillframe over all of it, a volume of 16 TiB included: {max(peaks):.0f} MiB.",
            "",
            "```",
            *(shown(command, wanted) for command in scan_commands(wanted).values()),
            f"stillframe --quiet files --hash sha256 --gets-per-second RATE {SNAPSHOT}",
            "```",
        ]
    )
    print(f"\n{text}\n")
    for bound, holds in bounds.items():
        print(f"{'ok    ' if holds else 'MISSED'}  {bound}")
    if wanted.write and all(bounds.values()):
        write(wanted.write, text, "EBS results")
    return 0 if all(bounds.values()) else 1


def percent(shares):
    return f"{statistics.median(shares):.1%} ({min(shares):.1%}–{max(shares):.1%})"


if __name__ == "__main__":
    sys.exit(main())
