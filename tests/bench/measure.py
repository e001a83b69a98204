"""Measures `stillframe scan image` beside trivy and fls on one disk, and checks the bounds that we hold ourselves to.

Each program runs in turn, so that whatever else the machine does falls on all of them. The first round warms the page
cache and is not counted. CPU time and peak memory are sums over all processes of a program, as the kernel counts them,
looked at every few milliseconds in a round of its own. The blocks that a program read are counted in a round of its own
under strace, which makes it slow.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

BLOCK_BYTES = 512 * 1024
# What the project holds itself to on this disk.
TRIVY_WALL_RATIO = 40
MAX_PEAK_MIB = 150
MAX_BLOCKS = 200


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    path = lambda text: Path(text).resolve()
    parser.add_argument("--bench", type=path, required=True, help="the folder that bench-root.sh made")
    parser.add_argument("--work", type=path, required=True, help="where outputs go")
    parser.add_argument("--stillframe", type=path, required=True)
    parser.add_argument("--trivy", type=path, required=True)
    parser.add_argument("--channel-rate", type=path, required=True, help="the example of snapshot/channel")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--write", type=path, help="the document whose table is renewed")
    return parser.parse_args()


def commands(wanted, disk, sector):
    """The programs, each with its arguments. None of them asks the network for anything."""
    report = wanted.work / "stillframe.json"
    bill = wanted.work / "trivy.json"
    trivy = [
        *("--pkg-types", "os", "--format", "cyclonedx", "--output", bill),
        # With this format trivy looks for no vulnerabilities, and needs no database.
        *("--offline-scan", "--skip-db-update", "--skip-java-db-update", "--skip-version-check"),
        # No run finds what the one before it found.
        *("--disable-telemetry", "--cache-backend", "memory", "--cache-dir", wanted.work / "trivy-cache"),
    ]
    return {
        "stillframe": [wanted.stillframe, "--quiet", "scan", "image", "--format", "json", "--output", report, disk],
        "trivy": [wanted.trivy, "--quiet", "vm", *trivy, disk],
        "fls": ["fls", "-r", "-o", sector, disk],
    }


def root_sector(disk):
    """The first sector of the largest partition."""
    table = json.loads(subprocess.check_output(["sfdisk", "--json", disk]))["partitiontable"]
    return max(table["partitions"], key=lambda partition: partition["size"])["start"]


def environment(work):
    """Ours, with the state of all programs under `work`, so that a benchmark leaves nothing behind."""
    return {**os.environ, "XDG_STATE_HOME": str(work / "state"), "HOME": str(work / "home")}


def start(command, work, output):
    command = [str(word) for word in command]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, env=environment(work), check=False)
    if done.returncode != 0:
        sys.exit(f"error: {Path(command[0]).name} ended with {done.returncode}\nhint: run it alone: {' '.join(command)}")


def measured(command, work, output):
    """Wall seconds."""
    began = time.perf_counter()
    start(command, work, output)
    return time.perf_counter() - began


TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Usage(threading.Thread):
    """CPU time and peak memory of a process and of all that it starts, added up."""

    def __init__(self, process):
        super().__init__(daemon=True)
        self.process, self.peaks, self.ticks = process, {}, {}

    def run(self):
        while self.process.poll() is None:
            self.look(self.process.pid)
            time.sleep(0.003)

    def look(self, number):
        try:
            status = Path(f"/proc/{number}/status").read_text()
            # The name of the program, which may have spaces, ends with the last parenthesis.
            fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
            children = [task.read_text() for task in Path(f"/proc/{number}/task").glob("*/children")]
        except OSError:
            return
        peak = re.search(r"VmHWM:\s+(\d+) kB", status)
        self.ticks[number] = int(fields[11]) + int(fields[12])
        if peak:
            self.peaks[number] = max(self.peaks.get(number, 0), int(peak[1]))
        for child in " ".join(children).split():
            self.look(int(child))

    @staticmethod
    def of(command, variables, output):
        """Runs the command; its exit code, peak memory in MiB and CPU seconds."""
        command = [str(word) for word in command]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, env=variables)
        usage = Usage(process)
        usage.start()
        code = process.wait()
        usage.join()
        return code, sum(usage.peaks.values()) / 1024, sum(usage.ticks.values()) / TICKS_A_SECOND


CALL = re.compile(r"(\w+)\((\d+)<([^>]*)>(.*)\) = (\d+)")
UNFINISHED = " <unfinished ...>"
RESUMED = re.compile(r"<\.\.\. \w+ resumed>")


def blocks_read(command, disk, work):
    """How many distinct blocks of the disk the program's reads touch; `None` where strace cannot trace here."""
    log = work / "strace"
    trace = ["strace", "--follow-forks", "--decode-fds=path", "--string-limit=0", "--output", log]
    trace += ["--trace=read,pread64,readv,preadv,lseek,mmap"]
    command = [str(word) for word in [*trace, *command]]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment(work), check=False)
    if done.returncode != 0:
        return None
    blocks, places, halves = set(), {}, {}
    for line in log.read_text(errors="replace").splitlines():
        thread, call = line.split(maxsplit=1)
        if call.endswith(UNFINISHED):
            halves[thread] = call.removesuffix(UNFINISHED)
            continue
        if RESUMED.match(call):
            call = halves.pop(thread) + RESUMED.sub("", call)
        found = CALL.match(call)
        if not found or Path(found[3]) != disk:
            continue
        name, descriptor, result = found[1], found[2], int(found[5])
        if name == "mmap":
            sys.exit("error: the disk was mapped into memory, where strace does not see it read")
        if name == "lseek":
            places[descriptor] = result
            continue
        if name.startswith("pread"):
            offset = int(found[4].rsplit(", ", 1)[1])
        else:
            offset = places.get(descriptor, 0)
            places[descriptor] = offset + result
        if result:
            blocks.update(range(offset // BLOCK_BYTES, (offset + result - 1) // BLOCK_BYTES + 1))
    return len(blocks)


def installed_by_dpkg(bench):
    rows = (line.split("\t") for line in (bench / "dpkg.tsv").read_text().splitlines())
    # dpkg-query writes `name:architecture` where several architectures may be installed beside each other.
    return sorted((name.split(":")[0], version) for name, version, _, state in rows if state == "installed")


def listed_by_stillframe(report):
    return sorted((package["name"], package["version"]) for package in report["packages"])


def listed_by_trivy(bill):
    return [part for part in bill["components"] if part.get("purl", "").startswith("pkg:deb/")]


def spread(values, digits):
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


# Of a run of tenths of a second one in five is late for reasons of the machine's: more of them, in turn.
SANDBOX_RUNS_A_ROUND = 9
MAX_SANDBOX_RATIO = 1.05
MIN_CHANNEL_GIB = 2
MAX_START_MS = 15


def sandbox(wanted, disk):
    """Wall seconds with the confined process and without it: for each round the median of several runs in turn."""
    plain = [wanted.stillframe, "--quiet", "scan", "image", "--format", "json", "--output", wanted.work / "sandbox.json"]
    rounds = []
    for _ in range(wanted.runs):
        walls = {mode: [] for mode in ("auto", "off")}
        for _ in range(SANDBOX_RUNS_A_ROUND):
            for mode, taken in walls.items():
                began = time.perf_counter()
                start([*plain, "--sandbox", mode, disk], wanted.work, subprocess.DEVNULL)
                taken.append(time.perf_counter() - began)
        rounds.append({mode: statistics.median(taken) for mode, taken in walls.items()})
    return rounds


def start_ms(wanted):
    """How long the confined process takes to start and to end, in milliseconds, as `stillframe doctor` measures it."""
    doctor = [str(wanted.stillframe), "doctor"]
    said = [subprocess.check_output(doctor, text=True, env=environment(wanted.work)) for _ in range(wanted.runs)]
    return [float(re.search(r"within ([0-9.]+) ms", text)[1]) for text in said]


def channel(wanted):
    """GiB a second of cached blocks, from one process to another, and to two others."""
    said = [subprocess.check_output([str(wanted.channel_rate), readers], text=True) for readers in ("1", "2")]
    return [line.strip() for line in said]


def table(runs, counts, usage):
    """The results as a table in Markdown; the last columns say how many times ours the others are."""
    names = list(runs)
    ours, peers = names[0], names[1:]
    lines = [
        "| | " + " | ".join([*names, *(f"{peer} ÷ {ours}" for peer in peers)]) + " |",
        "| --- |" + " ---: |" * (len(names) + len(peers)),
    ]

    def row(title, cells, numbers):
        ratios = [
            f"{numbers[peer] / numbers[ours]:.2f}" if numbers[peer] and numbers[ours] else "–" for peer in peers
        ]
        lines.append(f"| {title} | " + " | ".join([*(cells[name] for name in names), *ratios]) + " |")

    row("wall, s", {name: spread(runs[name], 2) for name in names}, {name: statistics.median(runs[name]) for name in names})
    for place, title, digits in ((2, "CPU, s", 2), (1, "peak memory, MiB", 0)):
        numbers = {name: one[place] for name, one in usage.items()}
        row(title, {name: f"{number:.{digits}f}" for name, number in numbers.items()}, numbers)
    for title, numbers in counts.items():
        row(title, {name: "–" if numbers[name] is None else f"{numbers[name]:,}" for name in names}, numbers)
    return "\n".join(lines)


def machine():
    processor = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({processor}), {memory:.0f} GiB of memory, Linux {platform.release()}"


def shown(command, wanted):
    """The command without the folders of this machine."""
    words = [str(word).replace(f"{wanted.work}/", "").replace(f"{wanted.bench}/", "") for word in command]
    return " ".join([Path(words[0]).name, *words[1:]])


def write(document, text, title="results"):
    begin, end = f"<!-- {title}: written by `BENCH_WRITE=1 make bench` -->", f"<!-- end of {title} -->"
    before, _, rest = document.read_text().partition(begin)
    _, _, after = rest.partition(end)
    document.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def main():
    wanted = options()
    (wanted.work / "home").mkdir(parents=True, exist_ok=True)
    disk = wanted.bench / "disk.img"
    programs = commands(wanted, disk, root_sector(disk))
    runs = {name: [] for name in programs}
    listing = wanted.work / "fls.txt"
    for round_number in range(wanted.runs + 1):
        for name, command in programs.items():
            with listing.open("wb") as output:
                run = measured(command, wanted.work, output)
            if round_number > 0:
                runs[name].append(run)
            print(f"{'warming' if round_number == 0 else f'round {round_number}'}: {name} {run:.2f} s", flush=True)

    report = json.loads((wanted.work / "stillframe.json").read_text())
    bill = json.loads((wanted.work / "trivy.json").read_text())
    with listing.open("rb") as lines:
        # What fls adds of its own: deleted entries, marked by a star, and its folder of orphans.
        fls_entries = sum(1 for line in lines if b" * " not in line and b"$OrphanFiles" not in line)
    traced = {name: blocks_read(command, disk, wanted.work) for name, command in programs.items()}
    usage = {name: Usage.of(command, environment(wanted.work), subprocess.DEVNULL) for name, command in programs.items()}
    rounds = sandbox(wanted, disk)
    ratios = [taken["auto"] / taken["off"] for taken in rounds]
    starts, channels = start_ms(wanted), channel(wanted)
    expected_entries = int((wanted.bench / "entries").read_text())
    expected_packages = installed_by_dpkg(wanted.bench)
    packages = listed_by_stillframe(report)
    counts = {
        "entries": {"stillframe": report["io"]["entries"], "trivy": None, "fls": fls_entries},
        "packages": {"stillframe": len(packages), "trivy": len(listed_by_trivy(bill)), "fls": None},
        "blocks of 512 KiB read, by strace": traced,
    }

    text = "\n".join(
        [
            table(runs, counts, usage),
            "",
            f"Median, smallest and largest of {wanted.runs} runs on {machine()}.",
            f"{report['scan']['tool']['name']} {report['scan']['tool']['version']} says that it read "
            f"{report['io']['blocks_fetched']} blocks and {report['io']['bytes_read'] / 2**20:.0f} MiB.",
            "",
            "```",
            *(shown(command, wanted) for command in programs.values()),
            "```",
            "",
            "| the confined process | |",
            "| --- | ---: |",
            f"| scan with it, s | {spread([taken['auto'] for taken in rounds], 4)} |",
            f"| scan without it (`--sandbox off`), s | {spread([taken['off'] for taken in rounds], 4)} |",
            f"| with ÷ without | {spread(ratios, 3)} |",
            f"| its start and end, ms (`stillframe doctor`) | {spread(starts, 1)} |",
            *(f"| blocks from a cache, {line.split(' ')[0]} lanes | {line.split(': ')[1]} |" for line in channels),
        ]
    )
    print(f"\n{text}\n")

    wall = {name: statistics.median(runs[name]) for name in runs}
    peak = usage["stillframe"][1]
    fetched = report["io"]["blocks_fetched"]
    bounds = {
        f"wall at most 1/{TRIVY_WALL_RATIO} of trivy's": wall["stillframe"] * TRIVY_WALL_RATIO <= wall["trivy"],
        f"peak memory at most {MAX_PEAK_MIB} MiB": peak <= MAX_PEAK_MIB,
        f"at most {MAX_BLOCKS} blocks fetched, by its own count and by strace's":
            max(fetched, traced["stillframe"] or 0) <= MAX_BLOCKS,
        f"the confined process costs at most {MAX_SANDBOX_RATIO - 1:.0%}": statistics.median(ratios) <= MAX_SANDBOX_RATIO,
        f"it starts within {MAX_START_MS} ms": statistics.median(starts) <= MAX_START_MS,
        f"the channel moves at least {MIN_CHANNEL_GIB} GiB/s over a lane for each core":
            float(channels[1].split(": ")[1].split()[0]) >= MIN_CHANNEL_GIB,
        f"entries are the tree's {expected_entries}": report["io"]["entries"] == expected_entries,
        f"packages are dpkg's {len(expected_packages)}, name and version": packages == expected_packages,
    }
    for bound, holds in bounds.items():
        print(f"{'ok    ' if holds else 'MISSED'}  {bound}")
    if wanted.write and all(bounds.values()):
        write(wanted.write, text)
    return 0 if all(bounds.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
