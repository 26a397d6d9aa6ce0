//! Runtimes of other languages: whether they are there, and programs that are installed once, in `target/consumers/`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder of the repository with a program in another language.
#[derive(Clone, Copy)]
pub struct Program {
    /// The folder, from the root.
    pub folder: &'static str,
    /// Commands that must succeed in the folder, each with the sentence about what is missing where it does not.
    pub needs: &'static [(&'static str, &'static str)],
    /// Fetches what the lock file names, and builds; a line of a shell.
    pub install: &'static str,
    /// Becomes the program; a line of a shell.
    pub run: &'static str,
}

pub const JAVA: (&str, &str) = ("java -version", "Java 17 is needed: apt install openjdk-17-jdk-headless");
pub const MAVEN: (&str, &str) = ("mvn -version", "Maven is needed: apt install maven");
pub const PYTHON: (&str, &str) = (
    "python3 -c 'import ensurepip, sys; assert sys.version_info >= (3, 11)'",
    "Python 3.11 with venv is needed: apt install python3-venv",
);
pub const NODE: (&str, &str) =
    ("node --version && npm --version", "Node.js 20 with npm is needed: apt install nodejs npm");
pub const GO: (&str, &str) = (
    "go list -m",
    "Go is needed, as new as the folder's go.mod says (1.21 fetches a newer one by itself): apt install golang-go",
);

impl Program {
    /// The folder's copy in `target/consumers/`, installed; what the repository holds stays as it is.
    pub fn installed(&self) -> PathBuf {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let from = root.join(self.folder);
        let to = root.join("target/consumers").join(self.folder);
        for (command, sentence) in self.needs {
            let there = shell(command, &from).output().is_ok_and(|output| output.status.success());
            assert!(there, "{sentence}");
        }
        fs::create_dir_all(&to).unwrap();
        let lock = File::create(to.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        let files = files(&from);
        let marker = to.with_extension("installed");
        let wanted = format!("{}\n{files:?}", self.install);
        if fs::read_to_string(&marker).is_ok_and(|installed| installed == wanted) {
            return to;
        }
        drop(fs::remove_file(&marker));
        for (path, text) in &files {
            let path = to.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        succeeds(&mut shell(self.install, &to));
        fs::write(marker, wanted).unwrap();
        to
    }
}

/// A line of a shell, in `folder`; its process is the program's where the line begins with `exec`.
pub fn shell(line: &str, folder: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", line]).current_dir(folder).stdin(Stdio::null());
    command
}

/// What a command printed on stdout, which counts only if it succeeded.
pub fn succeeds(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(status.success(), "{:?}:\n{}\n{}", command.get_args(), text(&stdout), text(&stderr));
    text(&stdout)
}

/// Texts of a folder with their paths from there, without what installing left in it.
fn files(folder: &Path) -> BTreeMap<PathBuf, String> {
    const INSTALLED: [&str; 3] = ["node_modules", "target", "venv"];
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            let inside = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
            left.extend(inside.filter(|path| !INSTALLED.iter().any(|name| path.ends_with(name))));
        } else if let Ok(text) = fs::read_to_string(&path) {
            found.insert(path.strip_prefix(folder).unwrap().to_owned(), text);
        }
    }
    found
}
