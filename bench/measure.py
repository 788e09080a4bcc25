"""Starting, watching and ending the processes of a measurement."""

import fcntl
import glob
import json
import os
import pathlib
import signal
import subprocess
import time

WORK = pathlib.Path(os.environ.get("BENCH_WORK", pathlib.Path.cwd() / "target/bench-work"))
LOADGEN = os.environ.setdefault(
    "LOADGEN", str(pathlib.Path.cwd() / "target/loadgen/release/loadgen"))
IN, OUT = 15514, 15515
MB = 1 << 20
TICK = os.sysconf("SC_CLK_TCK")
LISTENS = "0A"  # the state in /proc/net/tcp

_tools = []
_subjects = []


def lock():
    """Keeps a second bench of this machine out; hold on to the answer."""
    WORK.mkdir(parents=True, exist_ok=True)
    handle = open(WORK / "lock", "w")
    fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def corpus(kind, megabytes, seed=1):
    """A file of unique lines, made on first use."""
    path = WORK / f"{kind}-{megabytes}-{seed}.log"
    if not path.exists():
        command = [LOADGEN, "corpus", kind, str(megabytes * MB), path, str(seed)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return path


def line_count(path):
    count = path.with_suffix(".n")
    if not count.exists():
        with open(path, "rb") as file:
            count.write_text(str(sum(block.count(b"\n") for block in iter(
                lambda: file.read(MB), b""))))
    return int(count.read_text())


def checksum(path):
    done = subprocess.run([LOADGEN, "sum", path], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["sum"]


def tool(*arguments):
    """Starts a load tool."""
    process = subprocess.Popen([LOADGEN, *map(str, arguments)], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    _tools.append(process)
    return process


def ready(process):
    """Waits for a tool's word that it listens or holds its connections."""
    process.stderr.readline()
    return process


def answer(process, limit=120):
    """A tool's JSON."""
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.kill()
        raise RuntimeError(f"no answer in {limit} s")
    try:
        return json.loads(out)
    except ValueError:
        raise RuntimeError(f"loadgen: {out} {err}")


def start(command, environment, folder):
    """Starts a subject in `folder`, its output in `log` there."""
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder,
                                   env={**os.environ, **(environment or {})})
    process.cpu = None
    _subjects.append(process)
    return process


def stop(process, limit=20):
    """SIGTERM, then SIGKILL; leaves the seconds of processor time in process.cpu (from wait4,
    so the end is counted too) and answers how long the end took."""
    begin = time.time()
    process.send_signal(signal.SIGTERM)
    while time.time() - begin < limit + 5:
        try:
            pid, status, used = os.wait4(process.pid, os.WNOHANG)
        except ChildProcessError:
            break
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            process.cpu = used.ru_utime + used.ru_stime
            break
        if time.time() - begin > limit:
            process.kill()
        time.sleep(0.005)
    return time.time() - begin


def end_all():
    """Kills what a failed measurement left."""
    for process in _tools + _subjects:
        if process.poll() is None:
            process.kill()
            process.wait()
    _tools.clear()
    _subjects.clear()


def family(pid):
    """The process and all below it."""
    found = [pid]
    for parent in found:
        for children in glob.glob(f"/proc/{parent}/task/*/children"):
            try:
                found += [int(child) for child in open(children).read().split()]
            except OSError:
                pass
    return found


def _status(pid, fields):
    """Sums of lines of /proc/PID/status over the family."""
    sums = dict.fromkeys(fields, 0)
    for process in family(pid):
        try:
            lines = open(f"/proc/{process}/status").read().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, value = line.partition(":")
            if name in sums:
                sums[name] += int(value.split()[0])
    return sums


def memory(pid):
    """(now, at most) in MB of resident memory."""
    sums = _status(pid, ("VmRSS", "VmHWM"))
    return sums["VmRSS"] / 1024, sums["VmHWM"] / 1024


def cpu_ticks(pid):
    """Seconds of user and system time so far, in steps of a tick, dead threads included."""
    total = 0
    for process in family(pid):
        try:
            fields = open(f"/proc/{process}/stat").read().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) / TICK
        except OSError:
            pass
    return total


def cpu_fine(pid):
    """Seconds on a processor so far, to the nanosecond, of threads that live."""
    total = 0
    for process in family(pid):
        for path in glob.glob(f"/proc/{process}/task/*/schedstat"):
            try:
                total += int(open(path).read().split()[0])
            except OSError:
                pass
    return total / 1e9


def wakeups(pid):
    """Voluntary context switches so far of all threads."""
    total = 0
    for process in family(pid):
        for path in glob.glob(f"/proc/{process}/task/*/status"):
            for line in open(path):
                if line.startswith("voluntary_ctxt"):
                    total += int(line.split()[1])
    return total


def threads(pid):
    return sum(len(glob.glob(f"/proc/{process}/task/*")) for process in family(pid))


def wait_port(port, process, limit=20, udp=False):
    """Waits until somebody listens on `port`, by looking, not by connecting."""
    tables = ["/proc/net/udp"] if udp else ["/proc/net/tcp", "/proc/net/tcp6"]
    end = time.time() + limit
    while time.time() < end:
        if process.poll() is not None:
            raise RuntimeError("subject exited: see its log")
        for table in tables:
            for line in open(table).read().splitlines()[1:]:
                columns = line.split()
                if columns[1].endswith(f":{port:04X}") and (udp or columns[3] == LISTENS):
                    return
        time.sleep(0.002)
    raise RuntimeError("no listener")
