//! Where the daemon keeps its state and where its admin socket is: the config, else the
//! environment, else the customs of the system.
//!
//! `state_dir` is as given, else $STATE_DIRECTORY (systemd's), else /var/lib/marline for root,
//! else $XDG_STATE_HOME/marline, else ~/.local/state/marline. The admin socket is as given,
//! else `admin.sock` in $RUNTIME_DIRECTORY, else in `state_dir`.
//! Nothing here touches the file system but [`make_state_dir`].

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::config::{ADMIN_SCHEME, Environment};
use crate::pipeline::options::{Options, Value};

/// Where root keeps state.
const ROOT_STATE_DIR: &str = "/var/lib/marline";
/// What systemd makes of the unit's `RuntimeDirectory=`, for who is outside of the unit.
const UNIT_RUNTIME_DIR: &str = "/run/marline";
/// The name of the socket.
const ADMIN_SOCKET: &str = "admin.sock";

/// Where things are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// What must survive a restart is in here. It may not be there yet.
    pub state_dir: PathBuf,
    /// The admin socket.
    pub admin: Admin,
}

/// The place of the admin socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admin {
    /// There is none.
    Off,
    /// Where nobody asked for it: the daemon runs without it where it cannot be made.
    Default(PathBuf),
    /// Where the config says: it must be possible.
    Given(PathBuf),
}

impl Paths {
    /// By the options of `[daemon]` and the environment of a process whose user is root or not.
    pub fn of(daemon: &Options, env: Environment<'_>, is_root: bool) -> Paths {
        let state_dir = daemon
            .maybe_path("state_dir")
            .map_or_else(|| default_state_dir(env, is_root), Path::to_path_buf);
        let admin = match daemon.value("admin") {
            Some(Value::Word("off")) => Admin::Off,
            Some(Value::Text(url)) => {
                let path = url.strip_prefix(ADMIN_SCHEME).unwrap_or(url);
                Admin::Given(path.into())
            }
            _ => {
                let runtime = first_directory(env, "RUNTIME_DIRECTORY");
                let folder = runtime.as_ref().unwrap_or(&state_dir);
                Admin::Default(folder.join(ADMIN_SOCKET))
            }
        };
        Paths { state_dir, admin }
    }

    /// Where a command looks for the socket of a daemon with this config, which was read from
    /// `config`: the first that is there. A unit's runtime folder is known inside of it only, so
    /// that the packaged config's is looked for in the packaged unit's.
    pub fn admin_candidates(&self, config: &Path) -> Vec<PathBuf> {
        match &self.admin {
            Admin::Off => Vec::new(),
            Admin::Given(path) => vec![path.clone()],
            Admin::Default(path) => {
                let mut paths = vec![path.clone()];
                if config == Path::new(super::cli::DEFAULT_PATHS[0]) {
                    paths.insert(0, Path::new(UNIT_RUNTIME_DIR).join(ADMIN_SOCKET));
                }
                paths
            }
        }
    }
}

/// Makes the folder of the state and those above it, for the daemon's user alone.
///
/// # Errors
/// It is not there and cannot be made.
pub fn make_state_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn default_state_dir(env: Environment<'_>, is_root: bool) -> PathBuf {
    if let Some(given) = first_directory(env, "STATE_DIRECTORY") {
        return given;
    }
    if is_root {
        return ROOT_STATE_DIR.into();
    }
    // A relative path there is to be ignored (XDG base directory specification).
    let absolute = |name| {
        env(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let home = || absolute("HOME").map(|home| home.join(".local/state"));
    match absolute("XDG_STATE_HOME").or_else(home) {
        Some(states) => states.join("marline"),
        None => ROOT_STATE_DIR.into(),
    }
}

/// systemd gives several directories as a list with colons (systemd.exec(5)).
fn first_directory(env: Environment<'_>, name: &str) -> Option<PathBuf> {
    let list = env(name)?;
    let first = list.as_bytes().split(|byte| *byte == b':').next()?;
    (!first.is_empty()).then(|| OsString::from_vec(first.to_vec()).into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::DAEMON;

    fn paths(config: &str, variables: &[(&str, &str)], is_root: bool) -> (String, Admin) {
        let options = Options::for_test(&DAEMON, config).unwrap();
        let env = |name: &str| {
            let mut known = variables.iter();
            known
                .find(|(known, _)| *known == name)
                .map(|(_, value)| OsString::from(value))
        };
        let paths = Paths::of(&options, &env, is_root);
        (paths.state_dir.to_str().unwrap().to_owned(), paths.admin)
    }

    #[test]
    fn the_state_is_where_custom_says() {
        let check = |config: &str, variables: &[(&str, &str)], is_root, expected: &str| {
            let (state_dir, _) = paths(config, variables, is_root);
            assert_eq!(state_dir, expected, "{config} {variables:?}");
        };
        let home = ("HOME", "/home/ada");
        check(
            "state_dir = \"x/y\"",
            &[("STATE_DIRECTORY", "/s")],
            true,
            "x/y",
        );
        check("", &[("STATE_DIRECTORY", "/s")], true, "/s");
        check("", &[("STATE_DIRECTORY", "/s:/t")], false, "/s");
        check(
            "",
            &[home, ("STATE_DIRECTORY", "")],
            true,
            "/var/lib/marline",
        );
        check("", &[home, ("XDG_STATE_HOME", "/x")], false, "/x/marline");
        check(
            "",
            &[home, ("XDG_STATE_HOME", "relative")],
            false,
            "/home/ada/.local/state/marline",
        );
        check("", &[], false, "/var/lib/marline");
    }

    #[test]
    fn the_admin_socket_is_as_given_else_with_what_is_running_else_with_the_state() {
        let check = |config: &str, variables: &[(&str, &str)], expected: Admin| {
            assert_eq!(paths(config, variables, true).1, expected, "{config}");
        };
        let runtime = ("RUNTIME_DIRECTORY", "/run/marline");
        check("admin = \"off\"", &[runtime], Admin::Off);
        check(
            "admin = \"unix:///x/a.sock\"",
            &[runtime],
            Admin::Given("/x/a.sock".into()),
        );
        check(
            "",
            &[runtime],
            Admin::Default("/run/marline/admin.sock".into()),
        );
        check(
            "admin = \"auto\"\nstate_dir = \"s\"",
            &[],
            Admin::Default("s/admin.sock".into()),
        );
    }

    #[test]
    fn a_command_finds_the_packaged_units_socket_by_the_packaged_config() {
        let options = Options::for_test(&DAEMON, "state_dir = \"/s\"").unwrap();
        let paths = Paths::of(&options, &|_| None, true);
        let find = |config: &str| paths.admin_candidates(Path::new(config));
        assert_eq!(find("other.toml"), [PathBuf::from("/s/admin.sock")]);
        let packaged = find("/etc/marline/marline.toml");
        let expected = ["/run/marline/admin.sock", "/s/admin.sock"].map(PathBuf::from);
        assert_eq!(packaged, expected);
    }
}
