#!/usr/bin/env python3
"""The same work for marline and its peers, one after the other.

usage: bench.py CASE[,CASE..]|all SUBJECT[,SUBJECT..] [--rounds N]

Prints a JSON row per run and a table of medians. cpu_ns is the subject's own user and system
time per line, its end included, its start not. VERIFY=1 compares every line that comes out."""

import collections
import glob
import json
import os
import shutil
import statistics
import sys
import time

import measure
import subjects
from measure import IN, MB, OUT, WORK, tool

Case = collections.namedtuple("Case", "kind megabytes input output")
CASES = {
    "tcp_to_tcp": Case("syslog5424", 256, "tcp", "tcp"),
    "tcp_to_tcp_16": Case("syslog5424", 256, "tcp16", "tcp"),
    "tcp_to_blackhole": Case("syslog5424", 256, "tcp", "none"),
    "tcp_to_file": Case("syslog5424", 256, "tcp", "file"),
    "json_filter_tcp": Case("json", 128, "tcp", "tcp"),
    "apache_regex_tcp": Case("apache", 64, "tcp", "tcp"),
    # The same lines by the parser that knows their format.
    "clf_tcp": Case("apache", 64, "tcp", "tcp"),
    "syslog_to_json_tcp": Case("syslog5424", 128, "tcp", "tcp"),
    "syslog_to_json_http": Case("syslog5424", 64, "tcp", "http"),
    "http_to_http": Case("json", 64, "http", "http"),
    "file_to_tcp": Case("syslog5424", 256, "file", "tcp"),
    "disk_buffer_tcp": Case("syslog5424", 64, "tcp", "tcp"),
    # The same without a sync: what durability costs.
    "disk_buffer_tcp_os": Case("syslog5424", 64, "tcp", "tcp"),
}
COPIES = ("tcp_to_tcp", "tcp_to_tcp_16", "file_to_tcp", "disk_buffer_tcp", "disk_buffer_tcp_os")
VERIFY = bool(os.environ.get("VERIFY"))
# A receiver that has had nothing for so long has had everything (debug lines are dropped, so
# the number that will come is not always known).
IDLE_S = 3


def receiver(case, count):
    if case.output == "tcp":
        return measure.ready(tool("recv-tcp", f"127.0.0.1:{OUT}", count, IDLE_S,
                                  *(["verify"] if VERIFY else [])))
    if case.output == "http":
        return measure.ready(tool("recv-http", f"127.0.0.1:{OUT}", count, IDLE_S + 1))
    return None


def send(case, path, folder):
    """Starts the input; answers the tool, if it is one."""
    address = f"127.0.0.1:{IN}"
    if case.input == "file":
        shutil.copyfile(path, folder / "in.log")
        return None
    if case.input == "http":
        return tool("send-http", address, "/", path, 200, 4)
    return tool("send-tcp", address, path, 1, 16 if case.input == "tcp16" else 1)


def written(folder, begin):
    """Waits until files out* stand still for two seconds."""
    size, since, changed = -1, time.time(), begin
    while time.time() - since < 2 or size <= 0:
        now = sum(os.path.getsize(path) for path in glob.glob(str(folder / "out*")))
        if now != size:
            size, since, changed = now, time.time(), time.time()
        if time.time() - begin > 120:
            break
        time.sleep(0.02)
    count = 0
    for path in glob.glob(str(folder / "out*")):
        with open(path, "rb") as file:
            count += sum(block.count(b"\n") for block in iter(lambda: file.read(MB), b""))
    return {"secs": changed - begin, "recv_lines": count}


def swallowed(sender, pid, count):
    """Waits until the sender is done and the subject stands still."""
    sent = measure.answer(sender)
    used, still = measure.cpu_ticks(pid), 0
    while still < 25:
        time.sleep(0.02)
        now = measure.cpu_ticks(pid)
        still = still + 1 if now - used < 0.01 else 0
        used = now
    return {"secs": sent["secs"], "recv_lines": count}


def run(name, subject):
    case = CASES[name]
    path = measure.corpus(case.kind, case.megabytes)
    count = measure.line_count(path)
    folder = WORK / f"{name}-{subject}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command, environment = subjects.launch(subject, name, folder)
    receives = receiver(case, count)
    if case.input == "file":
        (folder / "in.log").write_bytes(b"")
    begin = time.time()
    process = measure.start(command, environment, folder)
    if case.input == "file":
        time.sleep(1.5)
    else:
        measure.wait_port(IN, process)
    start_s = time.time() - begin
    time.sleep(0.3)
    used_before, begin = measure.cpu_fine(process.pid), time.time()
    sender = send(case, path, folder)
    if receives:
        result = measure.answer(receives)
    elif case.output == "file":
        result = written(folder, begin)
    else:
        result = swallowed(sender, process.pid, count)
    peak = measure.memory(process.pid)[1]
    stop_s = measure.stop(process)
    seconds = max(result["secs"], 1e-9)
    row = {
        "case": name, "subject": subject, "lines_in": count, "lines_out": result["recv_lines"],
        "secs": round(seconds, 3), "klps": round(count / seconds / 1e3, 1),
        "mbps": round(path.stat().st_size / MB / seconds, 1),
        "cpu_ns": round(((process.cpu or 0) - used_before) / count * 1e9),
        "peak_mb": round(peak, 1), "start_s": round(start_s, 3), "stop_s": round(stop_s, 2),
    }
    if VERIFY and receives and name in COPIES:
        row["same"] = result["sum"] == measure.checksum(path)
    return row


def table(rows, cases, names):
    print(f"\n{'case':22}{'subject':12}{'klines/s':>10}{'MB/s':>9}{'cpu ns/l':>10}{'x floor':>9}"
          f"{'peak MB':>9}{'out/in':>8}")
    for case in cases:
        of_case = [row for row in rows if row["case"] == case]
        floor = [row["cpu_ns"] for row in of_case if row["subject"] == "raw"]
        for name in names:
            mine = [row for row in of_case if row["subject"] == name]
            if not mine:
                continue
            middle = {key: statistics.median(row[key] for row in mine)
                      for key in ("klps", "mbps", "cpu_ns", "peak_mb", "lines_out", "lines_in")}
            times = f"{middle['cpu_ns'] / statistics.median(floor):9.2f}" if floor else " " * 9
            print(f"{case:22}{name:12}{middle['klps']:10.1f}{middle['mbps']:9.1f}"
                  f"{middle['cpu_ns']:10.0f}{times}{middle['peak_mb']:9.1f}"
                  f"{middle['lines_out'] / middle['lines_in']:8.4f}")


def main():
    words = sys.argv[1:]
    rounds = 3
    if "--rounds" in words:
        at = words.index("--rounds")
        rounds = int(words[at + 1])
        del words[at:at + 2]
    if len(words) != 2:
        sys.exit(__doc__)
    cases = list(CASES) if words[0] == "all" else words[0].split(",")
    names = words[1].split(",")
    held = measure.lock()
    rows = []
    for case in cases:
        for _ in range(rounds):
            for name in names:  # in turn, so that a slow minute is everybody's
                try:
                    rows.append(run(case, name))
                    print(json.dumps(rows[-1]), flush=True)
                except NotImplementedError:
                    pass
                except Exception as error:
                    row = {"case": case, "subject": name, "error": str(error)[:300]}
                    print(json.dumps(row), flush=True)
                finally:
                    measure.end_all()
    table(rows, cases, names)
    held.close()


if __name__ == "__main__":
    main()
