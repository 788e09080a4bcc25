#!/usr/bin/env python3
"""What is not throughput: idling, memory per connection, latency, loss over UDP.

usage: extra.py idle|conns|latency|udp SUBJECT[,SUBJECT..]

Prints a JSON row per run."""

import json
import resource
import shutil
import socket
import sys
import time

import measure
import subjects
from measure import IN, OUT, WORK, tool

FOR_EVER = 10**12  # lines that never come: the receiver runs until it is killed


def up(subject, case, tag):
    """Starts a subject; answers its process and how long it took to listen."""
    folder = WORK / f"{tag}-{subject}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command, environment = subjects.launch(subject, case, folder)
    begin = time.time()
    process = measure.start(command, environment, folder)
    measure.wait_port(IN, process, udp=case == "udp_to_tcp")
    return process, time.time() - begin


def sink():
    return measure.ready(tool("recv-tcp", f"127.0.0.1:{OUT}", FOR_EVER, 600))


def idle(subject, seconds=10):
    sink()
    process, start_s = up(subject, "tcp_to_tcp", "idle")
    time.sleep(2)
    cpu, wakes = measure.cpu_fine(process.pid), measure.wakeups(process.pid)
    time.sleep(seconds)
    cpu = measure.cpu_fine(process.pid) - cpu
    wakes = measure.wakeups(process.pid) - wakes
    resident = measure.memory(process.pid)[0]
    threads = measure.threads(process.pid)
    stop_s = measure.stop(process)
    yield {"start_s": round(start_s, 3), "idle_wakeups_per_s": wakes / seconds,
           "idle_cpu_ms_per_s": round(cpu * 1000 / seconds, 3), "rss_mb": round(resident, 1),
           "threads": threads, "stop_s": round(stop_s, 3)}


def accepted(folder):
    """What marline itself counts; None of a subject that is not marline."""
    try:
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(5)
            asked.connect(str(folder / "state/admin.sock"))
            asked.sendall(b"GET /status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: asked.recv(1 << 16), b""))
    except OSError:
        return None
    body = answer.partition(b"\r\n\r\n")[2]
    return json.loads(body)["sources"][0]["connections"]["accepted"]


def conns(subject, count=10000):
    sink()
    process, _ = up(subject, "tcp_to_tcp", "conns")
    folder = WORK / f"conns-{subject}"
    time.sleep(1)
    pid = process.pid
    before = measure.memory(pid)[0]
    begin, accepted_s = time.time(), None
    held = tool("conns", f"127.0.0.1:{IN}", count, 8, 0)
    while subject == "marline" and time.time() - begin < 20:
        if (accepted(folder) or 0) >= count:
            accepted_s = round(time.time() - begin, 2)
            break
        time.sleep(0.02)
    measure.ready(held)
    time.sleep(3)
    silent = measure.memory(pid)[0]
    opened = measure.answer(held)
    cpu = measure.cpu_ticks(pid)
    held = measure.ready(tool("conns", f"127.0.0.1:{IN}", count, 6, 1))
    time.sleep(5)
    busy = measure.memory(pid)[0]
    measure.answer(held)
    cpu = measure.cpu_ticks(pid) - cpu
    stop_s = measure.stop(process, 30)
    each = 1024 / max(opened["open"], 1)
    yield {"conns": opened["open"], "failed": opened["failed"],
           "accepted_s": accepted_s, "kb_per_idle_conn": round((silent - before) * each, 2),
           "kb_per_active_conn": round((busy - before) * each, 2),
           "cpu_s_10k_lines_per_s_6s": round(cpu, 2), "open_s": opened["open_secs"],
           "stop_s": round(stop_s, 2)}


def latency(subject, rate=10000, seconds=6):
    run = tool("latency", f"127.0.0.1:{OUT}", f"127.0.0.1:{IN}", rate, seconds, "syslog")
    time.sleep(0.3)
    process, _ = up(subject, "tcp_to_tcp", "latency")
    cpu = measure.cpu_ticks(process.pid)
    result = measure.answer(run)
    cpu = measure.cpu_ticks(process.pid) - cpu
    measure.stop(process)
    yield {"rate": rate, "cpu_s": round(cpu, 2), **result}


def udp(subject, count=1000000):
    path = measure.corpus("syslog5424", 64)
    for rate in (100000, 200000, 400000):
        receives = measure.ready(tool("recv-tcp", f"127.0.0.1:{OUT}", count, 3))
        process, _ = up(subject, "udp_to_tcp", "udp")
        time.sleep(0.5)
        cpu = measure.cpu_ticks(process.pid)
        sent = measure.answer(tool("send-udp", f"127.0.0.1:{IN}", path, count, rate))
        got = measure.answer(receives)
        cpu = measure.cpu_ticks(process.pid) - cpu
        measure.stop(process)
        yield {"rate": rate, "achieved": round(sent["sent_lines"] / sent["secs"]),
               "lost_pct": round(100 * (1 - got["recv_lines"] / sent["sent_lines"]), 2),
               "cpu_ns": round(cpu / count * 1e9)}
        measure.end_all()


MEASURES = {"idle": idle, "conns": conns, "latency": latency, "udp": udp}


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in MEASURES:
        sys.exit(__doc__)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limit = 200000 if most == resource.RLIM_INFINITY else min(200000, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
    held = measure.lock()
    for subject in sys.argv[2].split(","):
        try:
            for row in MEASURES[sys.argv[1]](subject):
                print(json.dumps({"subject": subject, **row}), flush=True)
        except Exception as error:
            print(json.dumps({"subject": subject, "error": repr(error)[:300]}), flush=True)
        finally:
            measure.end_all()
        time.sleep(1)
    held.close()


if __name__ == "__main__":
    main()
