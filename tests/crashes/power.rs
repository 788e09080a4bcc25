//! The power fails under the real binary on a real ext4.
//!
//! The state is on an ext4 in a file, mounted by a loop device, in a mount namespace of its own
//! where that is allowed. FS_IOC_SHUTDOWN without a flush makes everything that the journal and
//! the device have not got vanish, as a power cut does (but for torn sectors and writes that a
//! device reorders: those are the simulated disk's). Needs root and a loop device.

use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::{Progress, run};
use crate::process::Daemon;
use crate::skips::skip;

/// Power cuts.
const CUTS: u64 = 10;

/// An ext4 of its own, which goes with it.
struct Disk {
    folder: TempDir,
}

impl Disk {
    fn make() -> Result<Disk, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let disk = Disk { folder };
        let image = disk.image();
        shell(&["truncate", "-s", "96M", &image])?;
        shell(&["mkfs.ext4", "-qF", &image])?;
        std::fs::create_dir(disk.place()).map_err(|error| error.to_string())?;
        disk.mount()?;
        Ok(disk)
    }

    fn image(&self) -> String {
        self.folder
            .path()
            .join("image")
            .to_str()
            .unwrap()
            .to_owned()
    }

    fn place(&self) -> String {
        self.folder.path().join("disk").to_str().unwrap().to_owned()
    }

    fn mount(&self) -> Result<(), String> {
        shell(&["mount", "-o", "loop", &self.image(), &self.place()])
    }

    fn unmount(&self) -> Result<(), String> {
        shell(&["umount", &self.place()])
    }

    /// The power is off from now on: nothing more reaches the disk.
    fn cut(place: &str) -> Result<(), String> {
        // _IOR('X', 125, __u32) of linux/fs.h, with 2: not even the journal is flushed.
        let script = "import fcntl,os,struct,sys\n\
                      d=os.open(sys.argv[1],os.O_RDONLY)\n\
                      fcntl.ioctl(d,0x8004587d,struct.pack('I',2))\n";
        shell(&["python3", "-c", script, place])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.unmount();
    }
}

/// Runs a command.
///
/// # Errors
/// What it said.
pub fn shell(command: &[&str]) -> Result<(), String> {
    let output = Command::new(command[0])
        .args(&command[1..])
        .output()
        .map_err(|error| format!("{}: {error}", command[0]))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{} failed: {}", command[0], said.trim()))
}

#[test]
fn f_004_the_power_fails_under_load() {
    const NAME: &str = "f_004_the_power_fails_under_load";
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let (mut cut, mut doubled) = (0, 0);
    for round in 0..CUTS {
        let disk = match Disk::make() {
            Ok(disk) => disk,
            Err(why) if round == 0 => return skip(NAME, &why),
            Err(why) => panic!("{why}"),
        };
        let (place, random) = (disk.place(), &mut random);
        let fail = |daemon: &Daemon, progress: &Progress| {
            progress.random_moment(random);
            Disk::cut(&place).unwrap();
            daemon.try_signal(Signal::SIGKILL);
        };
        let again = |_: &Path| {
            disk.unmount().unwrap();
            disk.mount().unwrap();
        };
        let folder = tempfile::tempdir().unwrap();
        let run = run(folder, &format!("{place}/state"), |_| {}, fail, again);
        cut += u64::from(run.was_killed);
        doubled = doubled.max(run.verdict.doubled);
    }
    println!("{CUTS} power cuts, {cut} of them under load: 0 lost, {doubled} doubled at most");
    assert!(cut > 0, "no cut came in time");
}
