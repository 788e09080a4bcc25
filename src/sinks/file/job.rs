//! One write job: what a storage thread does for a file sink in one go.
//!
//! It takes the sink's [`Files`] along and brings them back, so there is one job at a time and
//! nothing to lock. Everything that piled up while the last job ran goes into the next one.

use std::io;
use std::sync::Arc;

use crate::buffer::storage::Storage;
use crate::sinks::backlog::{Trouble, Write, Written};
use crate::time::WallTime;

use super::compress::Compressing;
use super::files::{Files, Settings};

/// What is to be done, in this order.
pub struct Job {
    /// The sink's files; `None` where an earlier job was lost with them.
    pub files: Option<Files>,
    /// Where to open them then.
    pub storage: Arc<dyn Storage>,
    /// How to open them then.
    pub settings: Arc<Settings>,
    /// The calendar's time.
    pub now: WallTime,
    /// Close everything first, and find the root anew.
    pub reopens: bool,
    /// A compression that has ended, and whether it is complete.
    pub compressed: Option<(Compressing, bool)>,
    /// The bytes.
    pub writes: Vec<Write>,
    /// The file whose oldest plain old file is to be compressed next.
    pub to_compress: Option<Arc<str>>,
}

/// What came of it.
pub struct Done {
    /// The sink's files.
    pub files: Option<Files>,
    /// What became of each write.
    pub written: Vec<Written>,
    /// Why the root could not be found anew.
    pub reopen_error: Option<io::Error>,
    /// What is to be compressed now; an error where that cannot begin or end.
    pub compressing: io::Result<Option<Compressing>>,
}

impl Job {
    /// Does it. Blocks as long as the device likes.
    pub fn run(self) -> Done {
        let files = match self.files {
            Some(files) => Ok(files),
            None => Files::new(self.storage, self.settings),
        };
        let mut files = match files {
            Ok(files) => files,
            Err(error) => return without_files(self.writes, &error),
        };
        let reopen_error = self.reopens.then(|| files.reopen().err()).flatten();
        let finished = match &self.compressed {
            Some((compressing, is_complete)) => files.finish_compression(compressing, *is_complete),
            None => Ok(()),
        };
        let writes = self.writes.iter();
        let written = writes.map(|write| files.write(write, self.now)).collect();
        let begin = || match &self.to_compress {
            Some(name) => files.begin_compression(name),
            None => Ok(None),
        };
        let compressing = finished.and_then(|()| begin());
        Done {
            files: Some(files),
            written,
            reopen_error,
            compressing,
        }
    }
}

/// The directory is gone: nothing is written.
fn without_files(writes: Vec<Write>, error: &io::Error) -> Done {
    let written = writes.into_iter().map(|write| Written {
        name: write.name,
        bytes: 0,
        error: Some(Trouble::Root(copy(error))),
        torn: write.torn,
        rotated: false,
        rotation_error: None,
    });
    Done {
        written: written.collect(),
        files: None,
        reopen_error: None,
        compressing: Ok(None),
    }
}

fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => error.kind().into(),
    }
}
