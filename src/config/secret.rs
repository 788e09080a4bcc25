//! Secrets and environment values: typed, read once at load, never substituted into text.
//!
//! `{ env = "NAME" }`, `{ file = "PATH" }` and `{ credential = "NAME" }`. Neither the value nor
//! a part of it appears in a message. A credential lives in `$CREDENTIALS_DIRECTORY`, which
//! only the unit has; a check outside of it notes that and goes on.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::files::{self, Files};
use super::resolve::inside;
use super::tree::{Data, Entry, Node};
use crate::pipeline::options::{Place, Secret};

/// The largest secret: 64 KiB.
pub const SECRET_BYTES_MAX: u64 = 64 << 10;

/// How to ask for an environment variable. The caller decides whose environment it is.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Where a secret is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// In an environment variable.
    Env,
    /// In a file.
    File,
    /// In a credential of the unit.
    Credential,
}

/// Key and meaning.
pub const WHERE: &[(&str, Where)] = &[
    ("env", Where::Env),
    ("file", Where::File),
    ("credential", Where::Credential),
];

/// What is wrong with it, and where.
pub struct Wrong {
    /// The place of the caret.
    pub place: Place,
    /// What.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// The value at the place may be the secret itself: it must not be shown.
    pub hide: bool,
    /// It is a credential, and there is no `$CREDENTIALS_DIRECTORY` here.
    pub outside_unit: bool,
}

impl Wrong {
    fn new(place: Place, message: impl Into<String>) -> Wrong {
        Wrong {
            place,
            message: message.into(),
            help: None,
            outside_unit: false,
            hide: false,
        }
    }

    fn help(self, help: impl Into<String>) -> Wrong {
        Wrong {
            help: Some(help.into()),
            ..self
        }
    }
}

/// Whether the node has the shape of a secret: a table with one of the three keys.
pub fn is_reference(node: &Node) -> bool {
    let known = |entry: &Entry| WHERE.iter().any(|(key, _)| *key == entry.key);
    matches!(&node.data, Data::Table(entries) if entries.iter().any(known))
}

/// Reads the secret that `node` names.
pub fn read(node: &Node, files: &Files, env: Environment<'_>) -> Result<Secret, Wrong> {
    let (place_of, name, place) = parse(node)?;
    let place = inside(place, files.text(place));
    let bytes = match place_of {
        Where::Env => from_env(name, place, env)?,
        Where::File => from_file(Path::new(name), place)?,
        Where::Credential => from_credential(name, place, env)?,
    };
    // Editors and `echo` end a file with a newline that no token has.
    let cut = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let cut = cut.strip_suffix(b"\r").unwrap_or(cut);
    match cut {
        [] => Err(Wrong::new(
            place,
            format!("the secret in `{name}` is empty"),
        )),
        _ => Ok(Secret::new(cut)),
    }
}

fn parse(node: &Node) -> Result<(Where, &str, Place), Wrong> {
    const SHAPE: &str =
        "write { env = \"NAME\" }, { file = \"PATH\" } or { credential = \"NAME\" }";
    let entry = match &node.data {
        Data::Table(entries) => match entries.as_slice() {
            [only] => only,
            [] => return Err(Wrong::new(node.place, "the secret says no place").help(SHAPE)),
            [_, second, ..] => {
                let message = format!("a secret has one place, `{}` is a second", second.key);
                return Err(Wrong::new(second.key_place, message).help(SHAPE));
            }
        },
        _ => {
            // Its text is not shown: somebody may have pasted the secret itself.
            let message = "a secret does not stand in the configuration";
            let wrong = Wrong::new(node.place, message).help(SHAPE);
            return Err(Wrong {
                hide: true,
                ..wrong
            });
        }
    };
    let known = WHERE.iter().find(|(key, _)| *key == entry.key);
    let Some((_, place_of)) = known else {
        let keys: Vec<_> = WHERE.iter().map(|(key, _)| *key).collect();
        let help = super::suggest::help(&entry.key, "place", &keys);
        let message = format!("unknown place of a secret `{}`", entry.key);
        return Err(Wrong::new(entry.key_place, message).help(help));
    };
    match &entry.node.data {
        Data::Text(name) if !name.is_empty() => Ok((*place_of, name, entry.node.place)),
        _ => Err(Wrong::new(entry.node.place, "expected a name in quotes").help(SHAPE)),
    }
}

fn from_env(name: &str, place: Place, env: Environment<'_>) -> Result<Vec<u8>, Wrong> {
    let value = env(name).map(|value| value.as_bytes().to_vec());
    value.ok_or_else(|| {
        Wrong::new(
            place,
            format!("the environment variable `{name}` is not set"),
        )
        .help("set it in the unit, or use { file = \"PATH\" }")
    })
}

fn from_file(path: &Path, place: Place) -> Result<Vec<u8>, Wrong> {
    files::read_regular(path, SECRET_BYTES_MAX).map_err(|error| {
        Wrong::new(
            place,
            format!("cannot read the secret in `{}`: {error}", path.display()),
        )
        .help("the daemon's user must be able to read it")
    })
}

fn from_credential(name: &str, place: Place, env: Environment<'_>) -> Result<Vec<u8>, Wrong> {
    if name.contains('/') || name.starts_with('.') {
        let message = format!("`{name}` is no credential name");
        return Err(Wrong::new(place, message).help("use { file = \"PATH\" } for a path"));
    }
    let Some(folder) = env("CREDENTIALS_DIRECTORY") else {
        let message = format!("the credential `{name}` is there only inside the unit");
        let help = format!("the unit needs LoadCredential={name}:PATH");
        return Err(Wrong {
            outside_unit: true,
            ..Wrong::new(place, message).help(help)
        });
    };
    let path = PathBuf::from(folder).join(name);
    files::read_regular(&path, SECRET_BYTES_MAX).map_err(|error| {
        Wrong::new(
            place,
            format!("cannot read the credential `{name}`: {error}"),
        )
        .help(format!("the unit needs LoadCredential={name}:PATH"))
    })
}
