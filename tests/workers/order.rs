//! The order of each connection holds to its end, handed over or not, and whatever stands between.
//!
//! Between connections there is no order, with several reactors as with one.

use super::{
    Collector, check_order, file_sink, lines_of, name_at, pipeline, send_over, socket_sink, source,
    stop_well, table,
};
use crate::process::Daemon;

const CONNECTIONS: usize = 24;
const LINES: u64 = 400;

/// The same events to a sink of each reactor's own, to disk buffers and files of every owner, and
/// through pipelines that remember.
#[test]
fn each_connection_keeps_its_order_to_every_sink() {
    for workers in [2, 4] {
        let own = Collector::start();
        let mut config = table(workers, "") + &source("tcp://127.0.0.1:0");
        config += &pipeline("own", "in", "", "own");
        config += &socket_sink("own", own.address);
        let mut collectors = Vec::new();
        for seat in 0..workers {
            let disk = name_at("sink", &format!("disk{seat}x"), seat, workers);
            let file = name_at(
                "sink",
                &format!("file{seat}x"),
                (seat + 1) % workers,
                workers,
            );
            let remembers = name_at("pipeline", &format!("r{seat}x"), seat, workers);
            let (to_disk, own) = (Collector::start(), Collector::start());
            config += &pipeline(&format!("d{seat}"), "in", "", &disk);
            config += &socket_sink(&disk, to_disk.address);
            config += "buffer.disk = \"8MiB\"\n";
            config += &pipeline(&remembers, "in", super::DEDUPE, &file);
            config += &file_sink(&file);
            config += &pipeline(&format!("s{seat}"), &remembers, "", &format!("own{seat}"));
            config += &socket_sink(&format!("own{seat}"), own.address);
            collectors.extend([to_disk, own]);
        }
        let daemon = Daemon::start(&config);
        send_over(daemon.tcp_address("source.in"), CONNECTIONS, LINES);
        let ended = stop_well(daemon);
        collectors.push(own);
        for collector in collectors {
            let lines = collector.wait_for(CONNECTIONS * LINES as usize);
            check_order(&lines, CONNECTIONS, LINES);
        }
        for seat in 0..workers {
            let file = name_at(
                "sink",
                &format!("file{seat}x"),
                (seat + 1) % workers,
                workers,
            );
            let path = ended.folder.path().join(format!("{file}.log"));
            check_order(&lines_of(&path, 0), CONNECTIONS, LINES);
        }
    }
}
