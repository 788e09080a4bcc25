//! Encoding frames, and reading them back.
//!
//! A payload can never forge a second frame: what is encoded is read back as one frame, the
//! same bytes where the framing can carry them.

use marline::protocol::{ENCODED_BYTES_MAX, Framing, TooLong, encode_frame};

use super::fuzz_entries;

fn check(kind: Framing, payload: &str, expected: &str) {
    let mut out = b"before".to_vec();
    encode_frame(kind, payload.as_bytes(), &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        format!("before{expected}"),
        "{kind}"
    );
    fuzz_entries::encode(payload.as_bytes());
}

#[test]
fn each_framing_has_its_form() {
    check(Framing::Lines, "a b", "a b\n");
    check(Framing::Auto, "", "\n");
    check(Framing::Nul, "a\nb", "a\nb\0");
    check(Framing::OctetCounted, "<34>abc", "7 <34>abc");
    check(Framing::LengthU32, "abc", "\0\0\0\x03abc");
    check(Framing::Netstring, "hello", "5:hello,");
    check(Framing::Netstring, "", "0:,");
    check(Framing::Datagram, "abc", "abc");
    check(Framing::Whole, "abc\n", "abc\n");
}

#[test]
fn delimiters_inside_are_replaced_and_one_at_the_end_is_not_doubled() {
    check(Framing::Lines, "a\nb\n\nc", "a b  c\n");
    check(Framing::Lines, "a\n", "a\n");
    check(Framing::Lines, "a\n\n", "a \n");
    check(Framing::Lines, "a\r\n", "a\r\n");
    check(Framing::Nul, "a\0b\0", "a b\0");
}

#[test]
fn an_empty_message_cannot_be_octet_counted() {
    check(Framing::OctetCounted, "", "");
}

#[test]
fn c_361_a_payload_over_the_limit_is_an_error_and_nothing_is_written() {
    // Fresh zero pages: nothing of this is ever touched.
    let payload = vec![0; ENCODED_BYTES_MAX + 1];
    for kind in Framing::ALL {
        let mut out = b"before".to_vec();
        let refused = encode_frame(kind, &payload, &mut out);
        assert_eq!(
            refused,
            Err(TooLong {
                bytes: ENCODED_BYTES_MAX + 1
            }),
            "{kind}"
        );
        assert_eq!(out, b"before", "{kind}");
    }
}
