//! File systems of their own, small or breakable, which go with their test.
//!
//! Needs root and, for ext4, a loop device; whoever cannot have one is told why and skips.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::crashes::power::shell;

/// A tmpfs, and maybe an ext4 in a file on it.
pub struct Place {
    folder: TempDir,
    has_ext4: bool,
}

impl Place {
    /// A tmpfs of this size.
    pub fn tmpfs(size: &str) -> Result<Place, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let place = Place {
            folder,
            has_ext4: false,
        };
        std::fs::create_dir(place.tmpfs_path()).map_err(|error| error.to_string())?;
        let options = format!("size={size}");
        let path = place.tmpfs_text();
        shell(&["mount", "-t", "tmpfs", "-o", &options, "tmpfs", &path])?;
        Ok(place)
    }

    /// An ext4 of 96 MiB that was made and is mounted with these options.
    pub fn ext4(make: &[&str], mount: &str) -> Result<Place, String> {
        let mut place = Place::tmpfs("128m")?;
        let image = place.image();
        shell(&["truncate", "-s", "96M", &image])?;
        shell(&[&["mkfs.ext4", "-qF"], make, &[&image]].concat())?;
        std::fs::create_dir(place.folder.path().join("ext4")).map_err(|error| error.to_string())?;
        place.has_ext4 = true;
        place.mount(mount)?;
        Ok(place)
    }

    /// Gives the tmpfs another size.
    pub fn resize(&self, size: &str) {
        let options = format!("remount,size={size}");
        shell(&["mount", "-o", &options, &self.tmpfs_text()]).unwrap();
    }

    pub fn mount(&self, options: &str) -> Result<(), String> {
        let options = format!("loop,{options}");
        shell(&["mount", "-o", &options, &self.image(), &self.ext4_text()])
    }

    pub fn unmount(&self) -> Result<(), String> {
        shell(&["umount", &self.ext4_text()])
    }

    /// The name of its loop device.
    pub fn device(&self) -> String {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let path = self.ext4_text();
        let mut lines = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>());
        let line = lines.find(|fields| fields.get(1) == Some(&path.as_str()));
        line.unwrap()[0].trim_start_matches("/dev/").to_owned()
    }

    /// Lets its device end after so many bytes; 0: where it did at first.
    pub fn limit(&self, bytes: u64) -> Result<(), String> {
        // LOOP_GET_STATUS64 and LOOP_SET_STATUS64 of linux/loop.h; lo_sizelimit is at 32.
        let script = "import fcntl,os,struct,sys\n\
                      d=os.open(sys.argv[1],os.O_RDWR)\n\
                      info=bytearray(232)\n\
                      fcntl.ioctl(d,0x4c05,info)\n\
                      struct.pack_into('Q',info,32,int(sys.argv[2]))\n\
                      fcntl.ioctl(d,0x4c04,info)\n";
        let device = format!("/dev/{}", self.device());
        shell(&["python3", "-c", script, &device, &bytes.to_string()])
    }

    /// Where to write.
    pub fn path(&self) -> PathBuf {
        if self.has_ext4 {
            self.folder.path().join("ext4")
        } else {
            self.tmpfs_path()
        }
    }

    /// Uses up what room there is.
    pub fn fill(&self) -> PathBuf {
        let path = self.path().join("ballast");
        let mut file = std::fs::File::create(&path).unwrap();
        let zeros = [0; 4096];
        while std::io::Write::write_all(&mut file, &zeros).is_ok() {}
        path
    }

    fn tmpfs_path(&self) -> PathBuf {
        self.folder.path().join("tmpfs")
    }

    fn tmpfs_text(&self) -> String {
        text(&self.tmpfs_path())
    }

    fn ext4_text(&self) -> String {
        text(&self.folder.path().join("ext4"))
    }

    fn image(&self) -> String {
        text(&self.tmpfs_path().join("image"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.has_ext4 {
            let _ = shell(&["umount", "-l", &self.ext4_text()]);
        }
        let _ = shell(&["umount", "-l", &self.tmpfs_text()]);
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
