//! Structured data of syslog (RFC 5424, 6.3) as it lies in an event: text that a parser let
//! through, `[id name="value" …][…]`, and the object that it means.
//!
//! Nothing is built until somebody asks. An element becomes an object of its parameters, whose
//! values are texts; a name that occurs twice in one (the RFC allows it: several `ip` of an
//! `origin`) has a list of them, and elements of one id, which the RFC forbids, are one. In
//! values `\"`, `\\` and `\]` are escapes, and any other backslash is one.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use vrl::value::{KeyString, ObjectMap, Value};

use super::json;

/// Names within which repetitions are looked for one by one; beyond it an object is made.
const COMPARED_MAX: usize = 32;

/// Goes over the elements of a text. What is not structured data ends it.
struct Walk<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    fn new(text: &'a [u8]) -> Walk<'a> {
        Walk { text, at: 0 }
    }

    /// The id of the next element; its parameters are to be read up to their end.
    fn element(&mut self) -> Option<&'a [u8]> {
        if self.text.get(self.at) != Some(&b'[') {
            return None;
        }
        let start = self.at + 1;
        let ends = |&byte: &u8| byte == b' ' || byte == b']';
        let len = self.text[start..].iter().position(ends)?;
        self.at = start + len;
        Some(&self.text[start..start + len])
    }

    /// Name and value of the next parameter of the element.
    fn parameter(&mut self) -> Option<(&'a [u8], Range<usize>)> {
        while self.text.get(self.at) == Some(&b' ') {
            self.at += 1;
        }
        if self.text.get(self.at) == Some(&b']') {
            self.at += 1;
            return None;
        }
        let found = parameter(self.text, self.at);
        self.at = match &found {
            Some((_, value)) => value.end + 1,
            None => self.text.len(),
        };
        found.map(|(name, value)| (&self.text[name], value))
    }
}

fn parameter(text: &[u8], start: usize) -> Option<(Range<usize>, Range<usize>)> {
    // Names are short: a search that begins with a call takes longer.
    let equals = start + text.get(start..)?.iter().position(|&byte| byte == b'=')?;
    if text.get(equals + 1) != Some(&b'"') {
        return None;
    }
    let value = equals + 2;
    let mut end = value;
    loop {
        end += memchr::memchr2(b'"', b'\\', text.get(end..)?)?;
        if text[end] == b'"' {
            return Some((start..equals, value..end));
        }
        end += 2;
    }
}

/// A value without its escapes.
fn unescaped(value: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', value).is_none() {
        return Cow::Borrowed(value);
    }
    let mut plain = Vec::with_capacity(value.len());
    let mut rest = value.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        let escaped = rest.next_if(|&next| byte == b'\\' && matches!(next, b'"' | b'\\' | b']'));
        plain.push(escaped.unwrap_or(byte));
    }
    Cow::Owned(plain)
}

/// The object that `text` means; values without escapes share it.
pub fn object(text: &Bytes) -> ObjectMap {
    let mut elements = ObjectMap::new();
    let mut walk = Walk::new(text);
    while let Some(id) = walk.element() {
        let element = elements
            .entry(key(id))
            .or_insert_with(|| Value::Object(ObjectMap::new()));
        while let Some((name, range)) = walk.parameter() {
            let value = match unescaped(&text[range.clone()]) {
                Cow::Borrowed(_) => text.slice(range),
                Cow::Owned(plain) => Bytes::from(plain),
            };
            if let Some(parameters) = element.as_object_mut() {
                add(parameters, name, Value::Bytes(value));
            }
        }
    }
    elements
}

fn key(name: &[u8]) -> KeyString {
    KeyString::from(String::from_utf8_lossy(name))
}

/// Adds a parameter: the second of a name makes a list.
fn add(parameters: &mut ObjectMap, name: &[u8], value: Value) {
    let place = parameters.entry(key(name)).or_insert(Value::Null);
    match place {
        Value::Null => *place = value,
        Value::Array(list) => list.push(value),
        first => *first = Value::Array(vec![first.clone(), value]),
    }
}

/// Appends the object that `text` means as JSON.
pub fn write_json(text: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    if write_members(text, out).is_none() {
        out.truncate(start);
        let object = object(&Bytes::copy_from_slice(text));
        json::write_value(&Value::Object(object), out);
    }
}

/// As [`write_json`], element by element; `None` where an id, or a name within an element, occurs
/// twice or may do so.
fn write_members(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut walk = Walk::new(text);
    let mut ids = Seen::default();
    out.push(b'{');
    loop {
        let (before, is_first) = (walk.at, ids.count == 0);
        let Some(id) = walk.element() else {
            break;
        };
        ids.add(id, || has_id(&text[..before], id))?;
        write_key(id, is_first, out);
        out.push(b'{');
        let first = walk.at;
        let mut names = Seen::default();
        loop {
            let (before, is_first) = (walk.at, names.count == 0);
            let Some((name, range)) = walk.parameter() else {
                break;
            };
            names.add(name, || has_name(&text[..before], first, name))?;
            write_key(name, is_first, out);
            json::write_text(&unescaped(&text[range]), out);
        }
        out.push(b'}');
    }
    out.push(b'}');
    Some(())
}

fn write_key(name: &[u8], is_first: bool, out: &mut Vec<u8>) {
    if !is_first {
        out.push(b',');
    }
    json::write_text(name, out);
    out.push(b':');
}

/// Whether an element of `text` has this id.
fn has_id(text: &[u8], id: &[u8]) -> bool {
    let mut walk = Walk::new(text);
    while let Some(known) = walk.element() {
        if known == id {
            return true;
        }
        while walk.parameter().is_some() {}
    }
    false
}

/// Whether a parameter from `at` on has this name.
fn has_name(text: &[u8], at: usize, name: &[u8]) -> bool {
    let mut walk = Walk { text, at };
    std::iter::from_fn(|| walk.parameter()).any(|(known, _)| known == name)
}

/// Which names there were, roughly, and up to [`COMPARED_MAX`].
#[derive(Default)]
struct Seen {
    /// A bit for each, by its length and its last byte.
    bits: u64,
    count: usize,
}

impl Seen {
    /// Adds a name; `None` where it is there already, for which `is_there` looks if it may be, or
    /// there is no room. Names that are not UTF-8 may become the same text and are not compared.
    fn add(&mut self, name: &[u8], is_there: impl FnOnce() -> bool) -> Option<()> {
        let no_room = self.count == COMPARED_MAX || !name.is_ascii();
        let last = name.last().copied().unwrap_or(0);
        let bit = 1 << (((name.len() as u8).wrapping_mul(7) ^ last) % 64);
        let may_be = self.bits & bit != 0;
        self.bits |= bit;
        self.count += 1;
        let is_known = no_room || (may_be && is_there());
        (!is_known).then_some(())
    }
}

/// Appends an object as structured data: a member is an element, its members are parameters, a
/// list is a parameter again and again, and what is no text is its JSON. A member that is no
/// object is an element with one parameter, `value`. Says whether anything was written.
pub fn write(elements: &ObjectMap, out: &mut Vec<u8>) -> bool {
    for (id, element) in elements {
        out.push(b'[');
        write_name(id.as_bytes(), out);
        match element {
            Value::Object(parameters) => {
                for (name, value) in parameters {
                    write_parameters(name.as_bytes(), value, out);
                }
            }
            value => write_parameters(b"value", value, out),
        }
        out.push(b']');
    }
    !elements.is_empty()
}

fn write_parameters(name: &[u8], value: &Value, out: &mut Vec<u8>) {
    if let Value::Array(list) = value {
        for value in list {
            write_parameter(name, value, out);
        }
    } else {
        write_parameter(name, value, out);
    }
}

fn write_parameter(name: &[u8], value: &Value, out: &mut Vec<u8>) {
    out.push(b' ');
    write_name(name, out);
    out.extend_from_slice(b"=\"");
    let mut plain = Vec::new();
    super::write_plain_value(value, &mut plain);
    for byte in plain {
        if matches!(byte, b'"' | b'\\' | b']') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// Longest SD-ID and PARAM-NAME, in bytes (RFC 5424, 6).
const NAME_BYTES_MAX: usize = 32;

/// A name with `_` for what none can have.
fn write_name(name: &[u8], out: &mut Vec<u8>) {
    if name.is_empty() {
        out.push(b'_');
    }
    let of_name = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'=' | b']' | b'"');
    let name = name.iter().take(NAME_BYTES_MAX);
    out.extend(name.map(|byte| if of_name(byte) { *byte } else { b'_' }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let mut found = Vec::new();
        write_json(text.as_bytes(), &mut found);
        assert_eq!(
            String::from_utf8(found.clone()).unwrap(),
            expected,
            "{text}"
        );
        // The object is the same, whichever way it is asked for.
        let object = Value::Object(object(&Bytes::copy_from_slice(text.as_bytes())));
        let mut written = Vec::new();
        json::write_value(&object, &mut written);
        let parse = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).unwrap();
        assert_eq!(parse(&written), parse(&found), "{text}");
    }

    #[test]
    fn elements_are_objects() {
        check(r#"[a b="c" d=""][e]"#, r#"{"a":{"b":"c","d":""},"e":{}}"#);
        check(
            r#"[z b="1"][a  c="2" ]"#,
            r#"{"z":{"b":"1"},"a":{"c":"2"}}"#,
        );
        check(r#"[a b="\"\\\] \n ]"]"#, r#"{"a":{"b":"\"\\] \\n ]"}}"#);
        check("[a b=\"\u{e9}\n\"]", "{\"a\":{\"b\":\"\u{e9}\\n\"}}");
    }

    #[test]
    fn what_is_repeated_is_a_list() {
        check(
            r#"[origin ip="::1" ip="::2" ip="::3"]"#,
            r#"{"origin":{"ip":["::1","::2","::3"]}}"#,
        );
        check(r#"[a b="1"][a c="2"]"#, r#"{"a":{"b":"1","c":"2"}}"#);
        check(
            r#"[a n1="1" m1="2" n1="3"][b][a n1="4"]"#,
            r#"{"a":{"m1":"2","n1":["1","3","4"]},"b":{}}"#,
        );
        // Names and ids that only look alike.
        check(
            r#"[a1 n1="1" m1="2"][b1 n1="3"]"#,
            r#"{"a1":{"n1":"1","m1":"2"},"b1":{"n1":"3"}}"#,
        );
        let names: Vec<_> = (0..40).map(|index| format!("n{index:02}")).collect();
        let text = names.iter().map(|name| format!(" {name}=\"v\""));
        let expected = names.iter().map(|name| format!("\"{name}\":\"v\""));
        check(
            &format!("[a{}]", text.collect::<String>()),
            &format!("{{\"a\":{{{}}}}}", expected.collect::<Vec<_>>().join(",")),
        );
    }

    #[test]
    fn what_is_none_ends_it() {
        check("", "{}");
        check("x", "{}");
        check("[a", "{}");
        check("[a b=\"c", r#"{"a":{}}"#);
        check("[a b]", r#"{"a":{}}"#);
        check("[a b=\"c\"]x[d]", r#"{"a":{"b":"c"}}"#);
        check("[a b=\"c\\", r#"{"a":{}}"#);
    }

    #[test]
    fn objects_are_written_as_they_are_read() {
        let text = Bytes::from_static(br#"[a b="\"\\\]" c="1" c="2"][d]"#);
        let mut written = Vec::new();
        assert!(write(&object(&text), &mut written));
        assert_eq!(written, text);
        let values = [
            ("a b=]".into(), Value::from(7)),
            (
                "".into(),
                Value::Object([("\u{e9}".into(), Value::Null)].into()),
            ),
        ];
        let mut written = Vec::new();
        assert!(write(&values.into(), &mut written));
        assert_eq!(written, br#"[_ __=""][a_b__ value="7"]"#);
        assert!(!write(&ObjectMap::new(), &mut written));
    }
}
