//! The descriptors of what is no component: the `[daemon]` table, a `[pipeline.NAME]` table
//! and an entry of its `to`. Options that take effect with a restart only are listed where
//! configurations are compared ([`super::difference`]).

use crate::pipeline::addresses;
use crate::pipeline::descriptor::{Build, Descriptor, Kind, Opt};
use crate::pipeline::options::Mistake;

/// Levels of `log.level`.
const LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace"];

/// The `[daemon]` table.
pub static DAEMON: Descriptor = Descriptor {
    name: "daemon",
    summary: "settings of the whole daemon",
    options: &[
        Opt::new(
            "state_dir",
            "where the daemon keeps what must survive a restart; without it $STATE_DIRECTORY, \
             else /var/lib/marline for root, else $XDG_STATE_HOME/marline, else \
             ~/.local/state/marline",
            Kind::Path,
        ),
        Opt::new(
            "memory",
            "limit of all events held in memory; \"auto\" is the smaller of 512 MiB and a \
             quarter of the memory that the unit may use",
            Kind::Size {
                min: 1 << 20,
                max: 1 << 44,
                words: &["auto"],
            },
        )
        .default("\"auto\""),
        Opt::new(
            "workers",
            "number of reactors, each a thread with sources and sinks of its own; \"auto\" is one \
             for each core that the daemon may run on",
            Kind::Count {
                min: 1,
                max: 1024,
                words: &["auto"],
            },
        )
        .default("1"),
        Opt::new(
            "poller",
            "how the reactor waits for its sockets",
            Kind::Word(&["epoll", "poll", "select"]),
        )
        .default("\"epoll\""),
        Opt::new(
            "stop_timeout",
            "time for delivering what was received before a stop cuts off the rest",
            Kind::DURATION,
        )
        .default("\"60s\""),
        Opt::new(
            "panic",
            "what a bug in one component does to the rest: \"continue\" closes the component \
             only, \"exit\" stops the daemon",
            Kind::Word(&["continue", "exit"]),
        )
        .default("\"continue\""),
        Opt::new(
            "include",
            "more configuration files, as paths relative to this one; `*` and `?` match within \
             a file name",
            Kind::TEXTS,
        )
        .default("[]"),
        Opt::new(
            "log.format",
            "form of the daemon's own log; \"auto\" is human text on a terminal, journald's \
             fields under systemd, and JSON otherwise",
            Kind::Word(&["auto", "human", "journald", "json", "logfmt"]),
        )
        .default("\"auto\""),
        Opt::new("log.level", "how much is logged", Kind::Word(LEVELS)).default("\"info\""),
        Opt::new(
            "log.levels",
            "levels of single components by their id: `log.levels.\"source.web\" = \"debug\"`",
            Kind::Map(&Kind::Word(LEVELS)),
        ),
        Opt::new(
            "admin",
            "the socket that `marline status` asks, as unix:///PATH; only the daemon's user may \
             use it. \"auto\" is admin.sock in $RUNTIME_DIRECTORY, else in state_dir",
            Kind::Either(&[Kind::Word(&["auto", "off"]), Kind::Text(Some(check_admin))]),
        )
        .default("\"auto\""),
        Opt::new(
            "metrics",
            "where Prometheus asks over HTTP, as tcp://HOST:PORT: /metrics, /health and /ready; \
             whoever reaches it may ask",
            Kind::Either(&[Kind::Word(&["off"]), Kind::Text(Some(check_metrics))]),
        )
        .default("\"off\""),
    ],
    shared: &[],
    example: "[daemon]\nstate_dir = \"/var/lib/marline\"\nstop_timeout = \"30s\"\n\
              log.level = \"info\"\n",
    build: Build::Daemon,
};

/// A `[pipeline.NAME]` table.
pub static PIPELINE: Descriptor = Descriptor {
    name: "pipeline",
    summary: "steps between sources and sinks",
    options: &[
        Opt::new(
            "from",
            "the sources and pipelines it reads from, by name",
            Kind::TEXTS,
        )
        .required(),
        Opt::new(
            "steps",
            "what happens to the events, in this order; `marline list` names the steps",
            Kind::List(&Kind::Any),
        )
        .default("[]"),
        Opt::new(
            "to",
            "the sinks it writes to, by name, or as `{ sink = \"NAME\", if = 'CONDITION', \
             required = false }`; a sink that is not required never holds up the others",
            Kind::List(&Kind::Either(&[Kind::TEXT, Kind::Table(ROUTE)])),
        ),
        Opt::new(
            "errors_to",
            "the sink for events that a step failed on, with the reason and the original bytes; \
             without it they go on as they were, marked",
            Kind::TEXT,
        ),
    ],
    shared: &[],
    example: "[pipeline.main]\nfrom  = [\"in\"]\nsteps = [{ set = { site = \"lab1\" } }]\n\
              to    = [\"out\"]\n",
    build: Build::Pipeline,
};

/// An entry of `to` as a table.
pub const ROUTE: &[Opt] = &[
    Opt::new("sink", "the sink's name", Kind::TEXT).required(),
    Opt::new(
        "if",
        "only events for which this VRL condition is true",
        Kind::TEXT,
    ),
    Opt::new(
        "required",
        "whether delivery waits for this sink; \"false\" never blocks and may lose events",
        Kind::Flag,
    )
    .default("true"),
];

/// How the place of the admin socket begins.
pub const ADMIN_SCHEME: &str = "unix://";
/// The longest path of a Unix socket (`sun_path` of unix(7), without its NUL).
const SOCKET_PATH_BYTES_MAX: usize = 107;

fn check_admin(text: &str) -> Result<(), Mistake> {
    let help = "write unix:///PATH, \"auto\" or \"off\"";
    let Some(path) = text.strip_prefix(ADMIN_SCHEME) else {
        let mistake = Mistake::new("the admin socket is a Unix stream socket");
        return Err(mistake.at(0, text.len()).help(help));
    };
    let (at, length) = (ADMIN_SCHEME.len(), path.len());
    if path.is_empty() {
        return Err(Mistake::new("the path is missing").at(at, 0).help(help));
    }
    if path.starts_with('@') {
        let message = "an abstract name has no permissions: everybody could use it";
        return Err(Mistake::new(message).at(at, length).help(help));
    }
    if length > SOCKET_PATH_BYTES_MAX {
        let message = format!("longer than the {SOCKET_PATH_BYTES_MAX} bytes of a socket's path");
        return Err(Mistake::new(message)
            .at(at, length)
            .help("choose a shorter path"));
    }
    Ok(())
}

fn check_metrics(text: &str) -> Result<(), Mistake> {
    let help = "write tcp://HOST:PORT, such as tcp://127.0.0.1:9598, or \"off\"";
    let address = addresses::parse(text)?;
    match address.scheme() {
        "tcp" => Ok(()),
        scheme => Err(Mistake::new("the metrics are asked over TCP")
            .at(0, scheme.len())
            .help(help)),
    }
}
