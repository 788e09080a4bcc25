//! What went wrong with a file: whose fault it is, and what to tell the operator.
//!
//! A bad name costs the events that gave it; everything else is trouble that passes, or that
//! the operator ends, and costs nothing but time.

use std::io;
use std::path::Path;

use rustix::io::Errno;

use crate::buffer::storage::Refusal;

/// Whether the name is at fault: no waiting will ever make a file of it, and other names are
/// not affected. A planted link, fifo or directory, a name too long.
pub fn is_bad_name(error: &io::Error) -> bool {
    let by_kernel = matches!(
        Errno::from_io_error(error),
        Some(
            Errno::LOOP
                | Errno::XDEV
                | Errno::ISDIR
                | Errno::NOTDIR
                | Errno::NAMETOOLONG
                | Errno::NXIO
                | Errno::INVAL
                | Errno::ILSEQ
        )
    );
    by_kernel || Refusal::of(error).is_some()
}

/// Whether there is just no room, now: nothing is wrong with the name or the rights.
pub fn is_full(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(
        errno,
        Some(Errno::NOSPC | Errno::DQUOT | Errno::MFILE | Errno::NFILE)
    )
}

/// What failed, where, why, and what to do: `cannot write /x/y.log: … (free some space; …)`.
pub fn text(action: &str, root: &Path, name: &str, error: &io::Error) -> String {
    let path = if name.is_empty() {
        root.to_owned()
    } else {
        root.join(name)
    };
    let why = lower_case(error);
    format!(
        "cannot {action} {}: {why} ({})",
        path.display(),
        advice(error)
    )
}

fn lower_case(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_lowercase);
    first.chain(letters).collect()
}

/// The next step.
fn advice(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::NOSPC) => "free some space or inodes there; writing goes on by itself",
        Some(Errno::DQUOT) => "raise the quota or free some space; writing goes on by itself",
        Some(Errno::FBIG) => "set rotate.size, or raise the limit of file sizes",
        Some(Errno::ROFS) => "mount it writable, and see ReadWritePaths= of the unit",
        Some(Errno::ACCESS | Errno::PERM) => {
            "let the daemon's user write there, and see ReadWritePaths= of the unit"
        }
        Some(Errno::NOENT) => "make the directory, then start again or send SIGHUP",
        Some(Errno::MFILE | Errno::NFILE) => "lower max_open_files or raise LimitNOFILE=",
        Some(Errno::IO) => "see the kernel's log about the device; writing is tried again",
        _ if is_bad_name(error) => "remove what stands in the way, or change `path`",
        _ => "writing is tried again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_says_what_where_why_and_what_to_do() {
        let full = io::Error::from(Errno::NOSPC);
        assert_eq!(
            text("write", Path::new("/var/log"), "a/b.log", &full),
            "cannot write /var/log/a/b.log: no space left on device \
             (free some space or inodes there; writing goes on by itself)"
        );
        let linked = io::Error::from(Refusal::SeveralNames);
        assert!(is_bad_name(&linked) && !is_bad_name(&full));
        assert!(
            text("write", Path::new("r"), "n", &linked).starts_with(
                "cannot write r/n: the file has other names (hard links) (remove what"
            )
        );
    }
}
