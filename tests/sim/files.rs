//! A file sink of the simulated world: its configuration, and what its files hold in the end.
//!
//! All rotations of a file, compressed or not, are read as the one text that was written, from
//! the oldest to the current one. A number that is missing is no gap: rotating may have failed.

use std::cmp::Reverse;
use std::io::Read;

use marline::sim::{Random, SimStorage};

/// One file sink.
#[derive(Clone)]
pub struct Filing {
    pub name: &'static str,
    pub encode: &'static str,
    /// Rotate at so many KiB.
    pub rotates_at: Option<usize>,
    pub is_compressed: bool,
    pub is_synced: bool,
    pub is_required: bool,
}

/// The directory of all files.
const DIRECTORY: &str = "/var/log/sim";

impl Filing {
    pub fn new(name: &'static str, encode: &'static str, random: &mut Random) -> Filing {
        Filing {
            name,
            encode,
            rotates_at: random.chance(500).then(|| random.between(1, 16)),
            is_compressed: random.chance(200),
            is_synced: random.chance(300),
            is_required: true,
        }
    }

    /// Its table in the configuration.
    pub fn table(&self) -> String {
        let (name, encode) = (self.name, self.encode);
        let mut text = format!(
            "[sink.{name}]\ntype = \"file\"\npath = \"{DIRECTORY}/{name}.log\"\n\
             encode = \"{encode}\"\n"
        );
        if let Some(kib) = self.rotates_at {
            text += &format!("rotate.size = \"{kib}KiB\"\nrotate.keep = 100000\n");
        }
        if self.is_compressed {
            text += "rotate.compress = \"gzip\"\n";
        }
        if self.is_synced {
            text += "sync = \"always\"\n";
        }
        text
    }

    /// All that was written, oldest first.
    pub fn text(&self, storage: &SimStorage) -> Result<Vec<u8>, String> {
        Ok(self.texts(storage)?.concat())
    }

    /// The same, a text for each file.
    pub fn texts(&self, storage: &SimStorage) -> Result<Vec<Vec<u8>>, String> {
        let current = format!("{}.log", self.name);
        let mut files = Vec::new();
        for (name, bytes) in storage.files(DIRECTORY) {
            let Some(rest) = name.strip_prefix(&current) else {
                continue;
            };
            match rest.strip_suffix(".gz").unwrap_or(rest) {
                "" => files.push((0, rest.len(), bytes)),
                // A compression that was cut off; its plain file is there.
                ".tmp" => {}
                number => {
                    let number: u32 = number[1..].parse().map_err(|_| format!("odd: {name}"))?;
                    files.push((number, rest.len(), bytes));
                }
            }
        }
        // Of a file that is there plain and compressed the compressed one counts.
        files.sort_by_key(|file| Reverse((file.0, file.1)));
        files.dedup_by_key(|file| file.0);
        let mut texts = Vec::new();
        for (number, length, bytes) in files {
            let is_plain = number == 0 || length == format!(".{number}").len();
            if is_plain {
                texts.push(bytes);
            } else {
                let mut text = Vec::new();
                let decoded = flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut text);
                decoded.map_err(|error| format!("{current}.{number}.gz: {error}"))?;
                texts.push(text);
            }
        }
        Ok(texts)
    }
}
