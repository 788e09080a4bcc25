//! What must hold after a crash, whatever it was.
//!
//! No loss: what was acknowledged has been delivered. No invention: what was delivered was
//! sent. No corruption: it is as it was sent. Bounded doubles: no more than a crash may repeat.
//! Order: first deliveries come in the order in which events were acknowledged.

use std::collections::HashMap;

use super::collector::Received;
use super::load::Client;

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Verdict {
    /// Events that were acknowledged; all of them were delivered.
    pub acked: u64,
    /// Events that came twice.
    pub doubled: u64,
}

/// Judges one run.
///
/// # Errors
/// What does not hold.
pub fn judge(client: &Client, received: &Received) -> Result<Verdict, String> {
    if let Some(strange) = received.strange.first() {
        return Err(format!("a line came that nobody sent: {strange:?}"));
    }
    let mut times: HashMap<u64, u64> = HashMap::new();
    let mut last_new = None;
    for number in &received.numbers {
        if *number >= client.issued {
            return Err(format!("event {number} was never sent"));
        }
        let count = times.entry(*number).or_default();
        *count += 1;
        if *count == 1 {
            if last_new.is_some_and(|last| last > *number) {
                return Err(format!("event {number} came first after {last_new:?}"));
            }
            last_new = Some(*number);
        }
    }
    let lost: Vec<u64> = client
        .acked
        .iter()
        .flat_map(Clone::clone)
        .filter(|number| !times.contains_key(number))
        .collect();
    if let (Some(first), Some(last)) = (lost.first(), lost.last()) {
        let count = lost.len();
        return Err(format!(
            "{count} acknowledged events are lost, from {first} to {last}"
        ));
    }
    let delivered = times.len() as u64;
    let doubled = received.numbers.len() as u64 - delivered;
    // Once each at the very most: nothing is repeated twice by one crash.
    if times.values().any(|count| *count > 2) {
        return Err("an event came more than twice".to_owned());
    }
    Ok(Verdict {
        acked: client
            .acked
            .iter()
            .map(|range| range.end - range.start)
            .sum(),
        doubled,
    })
}

/// The judge sees each kind of wrong.
#[test]
fn the_judge_is_not_blind() {
    let client = Client {
        issued: 10,
        acked: vec![0..3, 5..6],
        ..Client::new()
    };
    let check = |numbers: &[u64], expected: Result<u64, &str>| {
        let received = Received {
            numbers: numbers.to_vec(),
            ..Received::default()
        };
        match (judge(&client, &received), expected) {
            (Ok(verdict), Ok(doubled)) => assert_eq!(verdict.doubled, doubled),
            (Err(why), Err(word)) => assert!(why.contains(word), "{why}"),
            (found, expected) => panic!("{found:?} in place of {expected:?}"),
        }
    };
    check(&[0, 1, 2, 5], Ok(0));
    check(&[0, 1, 2, 1, 2, 5], Ok(2));
    check(&[0, 1, 5], Err("lost"));
    check(&[0, 1, 2, 5, 10], Err("never sent"));
    check(&[0, 2, 1, 5], Err("came first after"));
    check(&[0, 0, 0, 1, 2, 5], Err("more than twice"));
    let received = Received {
        numbers: vec![0, 1, 2, 5],
        strange: vec!["0000000003 broken".to_owned()],
    };
    assert!(
        judge(&client, &received)
            .unwrap_err()
            .contains("nobody sent")
    );
}
