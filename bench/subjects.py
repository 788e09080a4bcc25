"""How each subject is started for each case: a command line and an environment.

A subject that lacks a case raises NotImplementedError. Input comes to port IN, output goes to
port OUT; every config is one that a user would write."""

import os
import pathlib

from measure import IN, LOADGEN, OUT

MARLINE = os.environ.get("MARLINE_BIN", str(pathlib.Path.cwd() / "target/release/marline"))
# Debian's syslog-ng-core conflicts with rsyslog: a folder that it was unpacked into.
SYSLOG_NG_ROOT = os.environ.get("SYSLOG_NG_ROOT", "")
COPIES = ("tcp_to_tcp", "tcp_to_tcp_16")
APACHE = (r'^(?<host>[^ ]*) [^ ]* (?<user>[^ ]*) \[(?<time>[^\]]*)\] '
          r'"(?<method>\S+)(?: +(?<path>[^ ]*) +\S*)?" (?<code>[^ ]*) (?<size>[^ ]*)'
          r'(?: "(?<referer>[^\"]*)" "(?<agent>.*)")?$')


def launch(subject, case, folder):
    function = SUBJECTS.get(subject)
    if function is None:
        raise NotImplementedError(subject)
    return function(case, pathlib.Path(folder))


def raw(case, folder):
    """The floor: a relay that copies bytes and looks at nothing."""
    if case not in COPIES:
        raise NotImplementedError
    return [LOADGEN, "relay", f"127.0.0.1:{IN}", f"127.0.0.1:{OUT}"], None


def marline(case, folder):
    source = [f'listen = ["tcp://127.0.0.1:{IN}"]']
    kind, steps, encode = "socket", [], "raw"
    sink = ['type = "socket"', f'address = "tcp://127.0.0.1:{OUT}"']
    if case in COPIES:
        pass
    elif case == "tcp_to_blackhole":
        sink = ['type = "discard"']
        encode = None
    elif case == "tcp_to_file":
        sink = ['type = "file"', f'path = "{folder}/out.log"']
    elif case == "udp_to_tcp":
        source = [f'listen = ["udp://127.0.0.1:{IN}"]']
    elif case in ("syslog_to_json_tcp", "syslog_to_json_http"):
        kind, encode = "syslog", "json"
    elif case == "json_filter_tcp":
        encode = "json"
        steps = ['{ parse = "json" }', "{ drop_if = '.level == \"debug\"' }",
                 '{ set = { dc = "eu-1" } }']
    elif case == "apache_regex_tcp":
        encode = "json"
        steps = [f"{{ parse = {{ regex = '{APACHE}' }} }}"]
    elif case == "clf_tcp":
        encode, steps = "json", ['{ parse = "clf" }']
    elif case == "file_to_tcp":
        kind, source = "file", [f'paths = ["{folder}/in.log"]', 'start = "beginning"']
    elif case == "http_to_http":
        kind, encode, steps = "http", "json", ['{ parse = "json" }']
    elif case in ("disk_buffer_tcp", "disk_buffer_tcp_os"):
        sink.append('buffer.disk = "2GiB"')
        if case.endswith("_os"):
            sink.append('buffer.durability = "os"')
    else:
        raise NotImplementedError
    if case.endswith("_http"):
        sink = ['type = "http"', f'url = "http://127.0.0.1:{OUT}/"']
    if encode:
        sink.append(f'encode = "{encode}"')
    lines = ["[daemon]", f'state_dir = "{folder}/state"', "", "[source.in]", f'type = "{kind}"',
             *source, "", "[pipeline.main]", 'from = ["in"]', "steps = [",
             *(f"  {step}," for step in steps), "]", 'to = ["out"]', "", "[sink.out]", *sink]
    config = folder / "marline.toml"
    config.write_text("\n".join(lines) + "\n")
    return [MARLINE, "run", "--config", str(config)], None


RSYSLOG_JSON = "".join([
    'template(name="json" type="list" option.jsonf="on") {',
    ' property(outname="timestamp" name="timereported" dateFormat="rfc3339" format="jsonf")',
    *(f' property(outname="{out}" name="{name}" format="jsonf")' for out, name in (
        ("host", "hostname"), ("app", "app-name"), ("procid", "procid"), ("msgid", "msgid"),
        ("severity", "syslogseverity-text"), ("sd", "structured-data"), ("message", "msg"))),
    " }"])


def rsyslog(case, folder):
    modules = 'module(load="imptcp" threads="2")'
    template = "%rawmsg%"
    source = f'input(type="imptcp" address="127.0.0.1" port="{IN}" ruleset="r")'
    queue = ('queue.type="fixedArray" queue.size="100000" queue.dequeueBatchSize="2048" '
             'queue.workerThreads="1" queue.timeoutEnqueue="60000"')
    form, extra = "raw", ""
    if case == "syslog_to_json_tcp":
        form = "json"
    elif case == "udp_to_tcp":
        modules = 'module(load="imudp" batchSize="128" threads="1")'
        source = (f'input(type="imudp" address="127.0.0.1" port="{IN}" ruleset="r" '
                  'rcvbufSize="8m")')
    elif case == "file_to_tcp":
        modules, template = 'module(load="imfile" mode="inotify")', "%msg%"
        source = f'input(type="imfile" File="{folder}/in.log" Tag="f" ruleset="r" readMode="0")'
    elif case == "disk_buffer_tcp":
        extra = ('queue.type="disk" queue.filename="dq" queue.maxDiskSpace="4g" '
                 'queue.size="10000000" queue.dequeueBatchSize="1024"')
        queue = ""
    elif case not in (*COPIES, "tcp_to_blackhole", "tcp_to_file"):
        raise NotImplementedError
    action = (f'action(type="omfwd" target="127.0.0.1" port="{OUT}" protocol="tcp" '
              f'template="{form}" action.resumeRetryCount="-1" {extra})')
    if case == "tcp_to_blackhole":
        action = 'action(type="omfile" file="/dev/null" template="raw")'
    if case == "tcp_to_file":
        action = (f'action(type="omfile" file="{folder}/out.log" template="raw" '
                  'ioBufferSize="256k" asyncWriting="off")')
    config = folder / "rsyslog.conf"
    config.write_text("\n".join([
        modules, f'global(workDirectory="{folder}" maxMessageSize="64k")',
        f'template(name="raw" type="string" string="{template}\\n")', RSYSLOG_JSON,
        source, f'ruleset(name="r" {queue}) {{ {action} }}', ""]))
    return ["rsyslogd", "-n", "-f", str(config), "-i", str(folder / "pid")], None


def syslog_ng(case, folder):
    if not SYSLOG_NG_ROOT:
        raise NotImplementedError("set SYSLOG_NG_ROOT")
    common = "log-iw-size(200000) log-fetch-limit(2000)"
    source = (f'network(ip("127.0.0.1") port({IN}) transport("tcp") flags(no-parse) '
              f'max-connections(1000) {common} so-rcvbuf(1048576))')
    sink = (f'network("127.0.0.1" port({OUT}) transport("tcp") template("$MSG\\n") '
            'log-fifo-size(400000))')
    if case == "tcp_to_file":
        sink = f'file("{folder}/out.log" template("$MSG\\n") log-fifo-size(400000))'
    elif case == "file_to_tcp":
        source = f'file("{folder}/in.log" flags(no-parse) follow-freq(0.1) {common})'
    elif case not in COPIES:
        raise NotImplementedError
    config = folder / "syslog-ng.conf"
    config.write_text("\n".join([
        "@version: 3.38",
        "options { threaded(yes); keep-hostname(yes); use-dns(no); stats-freq(0); "
        "flush-lines(1000); log-msg-size(65536); };",
        f"source s {{ {source}; }};", f"destination d {{ {sink}; }};",
        "log { source(s); destination(d); flags(flow-control); };", ""]))
    root = pathlib.Path(SYSLOG_NG_ROOT)
    libraries = sorted({str(path.parent) for path in root.rglob("*.so*")})
    modules = next(root.rglob("libaffile.so")).parent
    command = [f"{root}/usr/sbin/syslog-ng", "-F", "-f", str(config), "--no-caps",
               "-R", str(folder / "persist"), "-p", str(folder / "pid"),
               "-c", str(folder / "ctl"), "--module-path", str(modules)]
    return command, {"LD_LIBRARY_PATH": ":".join(libraries)}


TWISTED = '''
from twisted.internet import protocol, reactor
from twisted.protocols.basic import LineReceiver

class Out(protocol.Protocol):
    def connectionMade(self):
        Sink.out = self

class Sink(protocol.ClientFactory):
    protocol = Out
    out = None

class In(LineReceiver):
    delimiter = b"\\n"
    def connectionMade(self):
        Sink.out.transport.registerProducer(self.transport, True)
    def connectionLost(self, reason):
        Sink.out.transport.unregisterProducer()
    def lineReceived(self, line):
        Sink.out.transport.write(line + b"\\n")

reactor.connectTCP("127.0.0.1", OUT_PORT, Sink())
factory = protocol.ServerFactory()
factory.protocol = In
reactor.listenTCP(IN_PORT, factory, interface="127.0.0.1")
reactor.run()
'''


def twisted(case, folder):
    if case != "tcp_to_tcp":
        raise NotImplementedError  # one producer per transport: not 16 connections into one
    script = folder / "relay.py"
    script.write_text(TWISTED.replace("OUT_PORT", str(OUT)).replace("IN_PORT", str(IN)))
    return ["/usr/bin/python3", str(script)], None


SUBJECTS = {"raw": raw, "marline": marline, "rsyslog": rsyslog, "syslog-ng": syslog_ng,
            "twisted": twisted}
