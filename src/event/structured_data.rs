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

use super::json::Pen;
use super::{Span, eight};

/// Names within which repetitions are looked for one by one; beyond it an object is made.
const COMPARED_MAX: usize = 32;

/// Goes over the elements of a text. What is not structured data ends it.
struct Walk<'a> {
    /// What the text lies in.
    bytes: &'a [u8],
    at: usize,
    /// Where the text ends.
    end: usize,
}

/// A parameter, as ranges of the bytes that the text lies in.
struct Parameter {
    name: Range<usize>,
    /// What stands between the quotes.
    value: Range<usize>,
    /// There are backslashes in the value.
    is_escaped: bool,
}

impl<'a> Walk<'a> {
    fn new(bytes: &'a [u8], text: Range<usize>) -> Walk<'a> {
        Walk {
            bytes,
            at: text.start,
            end: text.end,
        }
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.bytes[..self.end].get(at).copied()
    }

    fn find(&self, from: usize, either: [u8; 2]) -> Option<usize> {
        eight::find(self.bytes, from, self.end, either)
    }

    /// The id of the next element; its parameters are to be read up to their end.
    fn element(&mut self) -> Option<Range<usize>> {
        if self.byte(self.at) != Some(b'[') {
            return None;
        }
        let start = self.at + 1;
        self.at = self.find(start, [b' ', b']'])?;
        Some(start..self.at)
    }

    /// The next parameter of the element.
    fn parameter(&mut self) -> Option<Parameter> {
        while self.byte(self.at) == Some(b' ') {
            self.at += 1;
        }
        if self.byte(self.at) == Some(b']') {
            self.at += 1;
            return None;
        }
        let found = self.parameter_here();
        self.at = match &found {
            Some(parameter) => parameter.value.end + 1,
            None => self.end,
        };
        found
    }

    fn parameter_here(&self) -> Option<Parameter> {
        let equals = self.find(self.at, [b'='; 2])?;
        if self.byte(equals + 1) != Some(b'"') {
            return None;
        }
        let start = equals + 2;
        let (mut end, mut is_escaped) = (start, false);
        loop {
            end = self.find(end, [b'"', b'\\'])?;
            if self.bytes[end] == b'"' {
                return Some(Parameter {
                    name: self.at..equals,
                    value: start..end,
                    is_escaped,
                });
            }
            is_escaped = true;
            end += 2;
        }
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
    let mut walk = Walk::new(text, 0..text.len());
    while let Some(id) = walk.element() {
        let element = elements
            .entry(key(&text[id]))
            .or_insert_with(|| Value::Object(ObjectMap::new()));
        while let Some(parameter) = walk.parameter() {
            let value = match unescaped(&text[parameter.value.clone()]) {
                Cow::Borrowed(_) => text.slice(parameter.value),
                Cow::Owned(plain) => Bytes::from(plain),
            };
            if let Some(parameters) = element.as_object_mut() {
                add(parameters, &text[parameter.name], Value::Bytes(value));
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

/// Writes the object that `span` of `bytes` means as JSON.
pub fn write_json(bytes: &[u8], span: Span, pen: &mut Pen<'_>) {
    let before = pen.mark();
    if write_plain(bytes, span.range(), pen).is_some() {
        return;
    }
    pen.back_to(before);
    if write_members(bytes, span.range(), pen).is_none() {
        pen.back_to(before);
        let object = object(&Bytes::copy_from_slice(span.of(bytes)));
        pen.value(&Value::Object(object));
    }
}

/// As [`write_members`], in one go, where nothing is escaped or has to be, as usual; `None` for
/// anything else.
fn write_plain(bytes: &[u8], text: Range<usize>, pen: &mut Pen<'_>) -> Option<()> {
    let mut ids = Seen::default();
    let (mut at, mut separator) = (text.start, b'{');
    while at < text.end {
        let start = at + 1;
        if bytes[at] != b'[' {
            return None;
        }
        pen.bytes([separator, b'"']);
        let end = pen.until(bytes, start, |word| {
            eight::equal(word, b' ') | eight::equal(word, b']')
        })?;
        let id = &bytes[start..end];
        if bytes[end] != b' ' && bytes[end] != b']' {
            return None;
        }
        ids.add_ascii(id, || has_id(bytes, text.start..at, id))?;
        pen.bytes(*b"\":");
        at = write_plain_parameters(bytes, end, pen)?;
        separator = b',';
    }
    pen.close(separator);
    // What was read beyond the end is none of the text's.
    (at == text.end).then_some(())
}

/// Writes the object of the parameters that begin at `first`; answers where the element ends.
#[inline(always)]
fn write_plain_parameters(bytes: &[u8], first: usize, pen: &mut Pen<'_>) -> Option<usize> {
    let mut names = Seen::default();
    let (mut at, mut separator) = (first, b'{');
    loop {
        let before = at;
        while *bytes.get(at)? == b' ' {
            at += 1;
        }
        if bytes[at] == b']' {
            pen.close(separator);
            return Some(at + 1);
        }
        pen.bytes([separator, b'"']);
        let equals = pen.until(bytes, at, |word| eight::equal(word, b'='))?;
        let name = &bytes[at..equals];
        if bytes.get(equals..equals + 2) != Some(b"=\"") {
            return None;
        }
        names.add_ascii(name, || has_name(bytes, first..before, name))?;
        pen.bytes(*b"\":\"");
        at = pen.until(bytes, equals + 2, |_| 0)?;
        if bytes[at] != b'"' {
            return None;
        }
        pen.byte(b'"');
        (at, separator) = (at + 1, b',');
    }
}

/// As [`write_json`], element by element; `None` where an id, or a name within an element, occurs
/// twice or may do so.
fn write_members(bytes: &[u8], text: Range<usize>, pen: &mut Pen<'_>) -> Option<()> {
    let mut walk = Walk::new(bytes, text.clone());
    let mut ids = Seen::default();
    let mut separator = b'{';
    loop {
        let before = walk.at;
        let Some(id) = walk.element() else {
            break;
        };
        let is_there = || has_id(bytes, text.start..before, &bytes[id.clone()]);
        ids.add(&bytes[id.clone()], is_there)?;
        write_key(bytes, id, separator, pen);
        write_parameters_of(&mut walk, pen)?;
        separator = b',';
    }
    pen.close(separator);
    Some(())
}

/// Writes the object that the parameters of an element are.
#[inline(always)]
fn write_parameters_of(walk: &mut Walk<'_>, pen: &mut Pen<'_>) -> Option<()> {
    let (bytes, first) = (walk.bytes, walk.at);
    let mut names = Seen::default();
    let mut separator = b'{';
    loop {
        let before = walk.at;
        let Some(parameter) = walk.parameter() else {
            break;
        };
        let name = &bytes[parameter.name.clone()];
        names.add(name, || has_name(bytes, first..before, name))?;
        write_key(bytes, parameter.name, separator, pen);
        if parameter.is_escaped {
            pen.text_of(&unescaped(&bytes[parameter.value]));
        } else {
            pen.text(bytes, span(parameter.value));
        }
        separator = b',';
    }
    pen.close(separator);
    Some(())
}

#[inline(always)]
fn write_key(bytes: &[u8], name: Range<usize>, separator: u8, pen: &mut Pen<'_>) {
    pen.byte(separator);
    pen.text(bytes, span(name));
    pen.byte(b':');
}

/// A range of a batch's bytes, which are never more than a span can tell.
#[inline(always)]
fn span(range: Range<usize>) -> Span {
    Span {
        start: range.start as u32,
        end: range.end as u32,
    }
}

/// Whether an element of `text` has this id.
fn has_id(bytes: &[u8], text: Range<usize>, id: &[u8]) -> bool {
    let mut walk = Walk::new(bytes, text);
    while let Some(known) = walk.element() {
        if &bytes[known] == id {
            return true;
        }
        while walk.parameter().is_some() {}
    }
    false
}

/// Whether one of these parameters has this name.
fn has_name(bytes: &[u8], parameters: Range<usize>, name: &[u8]) -> bool {
    let mut walk = Walk::new(bytes, parameters);
    std::iter::from_fn(|| walk.parameter()).any(|known| &bytes[known.name] == name)
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
        name.is_ascii().then_some(())?;
        self.add_ascii(name, is_there)
    }

    /// The same for a name that is ASCII.
    #[inline(always)]
    fn add_ascii(&mut self, name: &[u8], is_there: impl FnOnce() -> bool) -> Option<()> {
        let no_room = self.count == COMPARED_MAX;
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
    use crate::event::json;

    fn check(text: &str, expected: &str) {
        let mut found = Vec::new();
        json::with_pen(&mut found, |pen| {
            write_json(text.as_bytes(), Span::new(0, text.len()), pen);
        });
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
    fn what_stands_behind_it_is_none_of_it() {
        let text = br#"[a b="c" dd="a longer value"][longer@12345 e="\"]"] [x y=""] [z]  q="r"]"#;
        let written = |bytes: &[u8], len: usize| {
            let mut out = Vec::new();
            json::with_pen(&mut out, |pen| {
                write_json(bytes, Span::new(0, len), pen);
            });
            String::from_utf8(out).unwrap()
        };
        for len in 0..text.len() {
            assert_eq!(written(text, len), written(&text[..len], len), "{len}");
        }
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
