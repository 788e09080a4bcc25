//! The commonest condition of all, `.field == "text"`, without running a program.
//!
//! VRL answers it too, by making a value of the field and comparing; here the field's bytes are
//! compared where they lie, at a fifth of the cost. Whatever is not plain (an escape in the
//! text, a value of the event's own) is left to the program, which is the one that decides what
//! a condition means; a test holds the two together.

use vrl::parser::ast::{Expr, Literal, Op, Opcode, Program, QueryTarget, RootExpr};
use vrl::path::{OwnedSegment, PathPrefix};

use crate::event::{Event, Found, Shared, Slot, find};

/// `.name == "text"` or `.name != "text"`.
#[derive(Debug)]
pub(super) struct Equality {
    name: Box<[u8]>,
    text: Box<[u8]>,
    /// `!=`
    negated: bool,
}

impl Equality {
    /// The comparison that a condition is, if it is one and nothing else.
    pub(super) fn of(condition: &Program) -> Option<Equality> {
        let [root] = condition.0.as_slice() else {
            return None;
        };
        let RootExpr::Expr(expression) = root.inner() else {
            return None;
        };
        let Expr::Op(operation) = expression.inner() else {
            return None;
        };
        let Op(left, operator, right) = operation.inner();
        let negated = match operator.inner() {
            Opcode::Eq => false,
            Opcode::Ne => true,
            _ => return None,
        };
        Some(Equality {
            name: field_name(left.inner())?,
            text: literal_text(right.inner())?,
            negated,
        })
    }

    /// What it says of `event`; `None` where only the program knows.
    pub(super) fn holds(&self, shared: Shared<'_>, event: &Event) -> Option<bool> {
        let equal = match find(event, shared.bytes, &self.name) {
            None => false,
            Some(Found::Message(span) | Found::Slot(&Slot::Text(span))) => {
                span.of(shared.bytes) == &*self.text
            }
            Some(Found::Slot(Slot::Json(span))) => match span.of(shared.bytes) {
                [b'"', inner @ .., b'"'] if inner == &*self.text => true,
                [b'"', inner @ .., b'"'] if memchr::memchr(b'\\', inner).is_some() => return None,
                _ => false,
            },
            Some(Found::Slot(_)) => return None,
        };
        Some(equal != self.negated)
    }
}

/// The name that `.name` or `."name"` asks for.
fn field_name(expression: &Expr) -> Option<Box<[u8]>> {
    let Expr::Query(query) = expression else {
        return None;
    };
    let QueryTarget::External(PathPrefix::Event) = query.inner().target.inner() else {
        return None;
    };
    match query.inner().path.inner().segments.as_slice() {
        [OwnedSegment::Field(name)] => Some(name.as_bytes().into()),
        _ => None,
    }
}

/// A text without `{{ }}`. One with a backslash would match JSON that is not unescaped.
fn literal_text(expression: &Expr) -> Option<Box<[u8]>> {
    let Expr::Literal(literal) = expression else {
        return None;
    };
    let text = match literal.inner() {
        Literal::String(text) => text.as_literal_string()?,
        Literal::RawString(text) => text,
        _ => return None,
    };
    (!text.contains('\\')).then(|| text.as_bytes().into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use vrl::value::Value;

    use super::*;
    use crate::event::{Batch, Field, Fields, Key, Origin, Span, name};
    use crate::pipeline::condition::{Condition, Truth};
    use crate::time::WallTime;

    const TEXT: &str = r#"debug "debug" "de\u0062ug" "a\\b" 7 true null {"a":"debug"} "" "ä""#;

    /// An event whose field `f` is each kind of slot in turn, and events without it.
    fn batch() -> Batch {
        let origin = Origin {
            source: "in".into(),
            peer: "".into(),
        };
        let bytes = Bytes::copy_from_slice(TEXT.as_bytes());
        let mut batch = Batch::new(Arc::new(origin), WallTime::from_micros(0), bytes);
        let mut at = 0;
        let mut slots = vec![
            Slot::Integer(7),
            Slot::Word(name!("debug")),
            Slot::time(7),
            Slot::text(Bytes::from_static(b"debug")),
            Slot::Value(Box::new(Value::Null)),
        ];
        for word in TEXT.split(' ') {
            let span = Span::new(at, at + word.len());
            at += word.len() + 1;
            batch.events.push(Event::Raw(span));
            slots.push(Slot::Text(span));
            if span.start > 0 {
                slots.push(Slot::Json(span));
            }
        }
        for slot in slots {
            let list = vec![Field {
                key: Key::Static(name!("f")),
                slot,
            }];
            batch.events.push(Event::fielded(Fields {
                raw: Span::new(0, 5),
                list,
                parsed: true,
            }));
        }
        batch
    }

    fn plain(condition: &str) -> Option<Equality> {
        Equality::of(&vrl::parser::parse(condition).unwrap())
    }

    #[test]
    fn a_plain_comparison_says_what_the_program_says() {
        let batch = batch();
        let mut answered = 0;
        for field in [".f", ".message", ".\"f\"", ".gone"] {
            for sign in ["==", "!="] {
                for text in ["\"debug\"", "s'debug'", "\"7\"", "\"null\"", "\"ä\""] {
                    let condition = format!("{field} {sign} {text}");
                    let compiled = Condition::compile(&condition).unwrap();
                    let plain = plain(&condition).expect("a plain comparison");
                    for event in &batch.events {
                        let said = compiled.program_says(batch.shared(), event);
                        let Some(holds) = plain.holds(batch.shared(), event) else {
                            continue;
                        };
                        answered += 1;
                        let holds = if holds { Truth::True } else { Truth::False };
                        assert_eq!(holds, said, "{condition} of {event:?}");
                    }
                }
            }
        }
        assert!(answered > 1000, "{answered}");
    }

    #[test]
    fn anything_else_is_left_to_the_program() {
        for condition in [
            ".a.b == \"x\"",
            ".a == 7",
            ".a == .b",
            ".a == \"x\" || .b == \"y\"",
            "%source == \"x\"",
            ".a == \"{{ b }}\"",
            ".a == \"a\\\\b\"",
            "\"x\" == .a",
            "!(.a == \"x\")",
        ] {
            assert!(plain(condition).is_none(), "{condition}");
        }
    }
}
