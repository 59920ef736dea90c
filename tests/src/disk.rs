//! A disk that is small: a file system of its own, for one program, with something on it that takes
//! up its room.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

/// How large it is, in MiB, and how much of that is taken up at first.
const SIZE: &str = "12";
const BALLAST: &str = "4";

/// Mounts the disk, takes up some of it, and becomes the program.
const MOUNT: &str = "mount -t tmpfs -o size=\"$1\"m tmpfs \"$0\" && \
     dd if=/dev/zero of=\"$0\"/ballast bs=1M count=\"$2\" status=none && shift 2 && exec \"$@\"";

/// See the module's page. Only the program that is started by [`SmallDisk::by`] sees it.
#[derive(Debug)]
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// One, where this system lets a test have a file system of its own.
    #[must_use]
    pub fn new() -> Option<Self> {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "mount"]);
        command.args(["-t", "tmpfs", "tmpfs", "/mnt"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let may_mount = command.status().is_ok_and(|status| status.success());
        may_mount.then(|| Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
        })
    }

    /// Where the program sees it.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The words before the program's own.
    #[must_use]
    pub fn by(&self) -> Vec<String> {
        let folder = self.folder.path().display().to_string();
        let words = ["unshare", "--map-root-user", "--mount", "sh", "-c", MOUNT];
        let words = words.into_iter().chain([&*folder, SIZE, BALLAST]);
        words.map(str::to_owned).collect()
    }

    /// Takes up all the room that is left, of the disk of the program with this process id.
    pub fn fill(&self, program: u32) {
        let mut file = File::options()
            .append(true)
            .open(self.ballast(program))
            .expect("the ballast");
        // The smaller the piece, the less room is left.
        for piece in [1 << 16, 1 << 12, 1] {
            loop {
                match file.write(&vec![0; piece]) {
                    Ok(_) => {}
                    Err(full) if full.kind() == ErrorKind::StorageFull => break,
                    Err(other) => panic!("filling a disk: {other}"),
                }
            }
        }
    }

    /// Makes room again.
    pub fn make_room(&self, program: u32) {
        fs::remove_file(self.ballast(program)).expect("the ballast");
    }

    /// The way in from outside.
    fn ballast(&self, program: u32) -> PathBuf {
        let inside = PathBuf::from(format!("/proc/{program}/root"));
        let folder = self.folder.path().strip_prefix("/").expect("absolute");
        inside.join(folder).join("ballast")
    }
}
