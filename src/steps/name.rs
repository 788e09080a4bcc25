//! The names of top-level fields as steps take them: `host`, or `.host` as VRL writes it.
//!
//! Without a dot the name is taken as it stands, so that `user-agent` needs no quotes. Paths
//! into a field are for the step `vrl`.

use std::sync::Arc;

use vrl::path::{OwnedSegment, parse_value_path};

use crate::pipeline::options::Mistake;

/// Longest name of a field that a configuration may set, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// The field that `text` names.
///
/// # Errors
/// It is empty, too long, metadata, or a path into a field.
pub(super) fn parse(text: &str) -> Result<Arc<str>, Mistake> {
    if text.is_empty() {
        return Err(Mistake::new("the name of a field is empty"));
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(Mistake::new(format!(
            "this name is longer than {NAME_BYTES_MAX} bytes"
        )));
    }
    if text.starts_with('%') {
        return Err(Mistake::new("metadata cannot be changed").help("name a field"));
    }
    if !text.starts_with('.') {
        return Ok(text.into());
    }
    let path = parse_value_path(text).ok();
    match path.as_ref().map(|path| path.segments.as_slice()) {
        Some([OwnedSegment::Field(name)]) => Ok(Arc::from(&**name)),
        _ => Err(
            Mistake::new(format!("`{text}` is not the name of a top-level field"))
                .help("for a path into a field use the step `vrl`, as in `del(.a.b)`"),
        ),
    }
}

/// [`parse`] as the check of an option.
pub(super) fn check(text: &str) -> Result<(), Mistake> {
    parse(text).map(drop)
}
