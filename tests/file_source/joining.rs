//! Events of several lines.
//!
//! They are whole over chunks, stops and starts, and bounded.

use std::time::Duration;

use super::{Place, append};

fn events(place: &Place) -> Vec<String> {
    let text = std::fs::read_to_string(place.folder.path().join("out.txt")).unwrap();
    let events = text.lines().map(|line| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        event["message"].as_str().unwrap().to_owned()
    });
    events.collect()
}

fn place(multiline: &str) -> Place {
    Place::new("inotify")
        .with(&format!("multiline = {multiline}"))
        .in_json()
}

#[test]
fn lines_are_joined_by_how_an_event_starts() {
    let place = place("{ start = '^\\d', timeout = \"300ms\" }");
    append(
        &place.log("a.log"),
        "1 one\n at x\n at y\n2 two\n3 three\n at z\n",
    );
    let running = place.start();
    running.wait_for_lines(3);
    let (place, _) = running.stop();
    let expected = ["1 one\n at x\n at y", "2 two", "3 three\n at z"];
    assert_eq!(events(&place), expected);
}

#[test]
fn an_event_that_is_open_at_a_stop_is_read_whole_afterwards() {
    let place = place("{ start = '^\\d', timeout = \"1h\" }");
    append(&place.log("a.log"), "1 one\n at x\n2 two\n at y\n");
    let running = place.start();
    running.wait_for_lines(1);
    std::thread::sleep(Duration::from_millis(100));
    let (place, _) = running.stop();
    append(&place.log("a.log"), " at z\n3 three\n");
    let running = place.start();
    running.wait_for_lines(2);
    let (place, _) = running.stop();
    assert_eq!(events(&place), ["1 one\n at x", "2 two\n at y\n at z"]);
}

#[test]
fn lines_that_continue_are_joined_over_chunks_and_up_to_a_limit() {
    let place = place("{ continue = '^\\s', max_lines = 4, timeout = \"300ms\" }");
    let mut text = String::new();
    for n in 0..20_000 {
        text.push_str(&format!("{n} begins\n goes on\n\tand on\n"));
    }
    text.push_str("last\n 1\n 2\n 3\n 4\n 5\n");
    append(&place.log("a.log"), &text);
    let running = place.start();
    running.wait_for_lines(20_002);
    let (place, _) = running.stop();
    let events = events(&place);
    for (n, event) in events[..20_000].iter().enumerate() {
        assert_eq!(*event, format!("{n} begins\n goes on\n\tand on"));
    }
    assert_eq!(events[20_000..], ["last\n 1\n 2\n 3", " 4\n 5"]);
}
