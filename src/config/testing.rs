//! Options from a piece of TOML, for the tests of components.
//!
//! They come out of the same resolver as those of a file, so that a component's test sees the
//! defaults and kinds that its descriptor declares.

use super::files::{File, Files};

use super::resolve::{Purpose, Resolver};
use super::tree;
use crate::pipeline::descriptor::Descriptor;
use crate::pipeline::options::{Options, Place};

impl Options {
    /// The options that `text` gives a component: the body of its table (`listen = ["…"]`),
    /// or for a step with a plain value that value (`'.a == 1'`).
    ///
    /// # Errors
    /// What the check would print, where the text is wrong.
    pub fn for_test(descriptor: &'static Descriptor, text: &str) -> Result<Options, String> {
        let plain = descriptor.takes_plain_value();
        let text = if plain {
            format!("value = {text}")
        } else {
            text.to_owned()
        };
        let mut files = Files::default();
        files.add(File::new("test.toml".as_ref(), text.clone().into()));
        let (entries, errors) = tree::parse(&text, 0);
        if let Some(error) = errors.first() {
            return Err(error.message.clone());
        }
        let mut resolver = Resolver::new(&files, &|_| None, Purpose::Check);
        let declared: Vec<_> = descriptor.all_options().collect();
        let options = match entries.as_slice() {
            [only] if plain => resolver.plain_value(descriptor.name, declared[0], &only.node),
            _ => resolver.options(descriptor.name, &declared, &entries, Place::default()),
        };
        options.ok_or_else(|| resolver.findings.render(&files))
    }
}
