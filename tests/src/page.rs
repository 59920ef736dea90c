//! The pages of `docs`, whose commands and files tests run as they stand there, so that a page
//! cannot say what the program does not do.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::{poll, process::Process, programs};

/// What is between two fences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What is said behind the first fence.
    pub language: String,
    pub text: String,
}

/// A page of `docs`.
#[derive(Clone, Debug)]
pub struct Page {
    blocks: Vec<Block>,
}

impl Page {
    /// Reads a page.
    #[must_use]
    pub fn read(name: &str) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../docs")
            .join(name);
        let text = fs::read_to_string(&file);
        Self::of(&text.unwrap_or_else(|error| panic!("{}: {error}", file.display())))
    }

    fn of(text: &str) -> Self {
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        // Within a list a block is indented.
        let mut indent = 0;
        for line in text.lines() {
            match (line.trim_start().strip_prefix("```"), &mut open) {
                (Some(language), None) => {
                    indent = line.len() - line.trim_start().len();
                    open = Some(Block {
                        language: language.to_owned(),
                        text: String::new(),
                    });
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (None, Some(block)) => {
                    block.text.push_str(line.get(indent..).unwrap_or_default());
                    block.text.push('\n');
                }
                (None, None) => {}
            }
        }
        assert_eq!(open, None, "a block without an end");
        Self { blocks }
    }

    /// The blocks of a language, in their order.
    #[must_use]
    pub fn blocks(&self, language: &str) -> Vec<&str> {
        let blocks = self.blocks.iter();
        let blocks = blocks.filter(|block| block.language == language);
        blocks.map(|block| block.text.as_str()).collect()
    }

    /// The commands of the blocks for a console: what is behind each `$ `, with the lines that a
    /// backslash at the end of a line continues. What a command prints, and comments of a line of
    /// their own, are left out.
    #[must_use]
    pub fn commands(&self) -> Vec<String> {
        let mut commands: Vec<String> = Vec::new();
        let mut goes_on = false;
        for line in self.blocks("console").into_iter().flat_map(str::lines) {
            let text = match line.strip_prefix("$ ") {
                Some(command) => {
                    commands.push(String::new());
                    command
                }
                None if goes_on => line,
                None => continue,
            };
            goes_on = text.ends_with('\\');
            let last = commands.last_mut().expect("a line goes on after another");
            last.push_str(text.trim_end_matches('\\').trim());
            last.push(' ');
        }
        let commands = commands.iter();
        commands.map(|command| command.trim().to_owned()).collect()
    }
}

/// Somebody who types the commands of a page, in a folder of their own.
#[derive(Debug)]
pub struct Reader {
    home: TempDir,
    /// What the page names, and what is here in its place.
    words: Vec<(String, String)>,
    started: usize,
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

impl Reader {
    #[must_use]
    pub fn new() -> Self {
        Self {
            home: tempfile::tempdir().expect("a temporary folder"),
            words: Vec::new(),
            started: 0,
        }
    }

    /// Where the page says `word`, this is meant; the words that were said first go first.
    pub fn say(&mut self, word: &str, meant: &str) {
        self.words.push((word.to_owned(), meant.to_owned()));
    }

    /// A text of the page as it is meant here.
    #[must_use]
    pub fn meant(&self, text: &str) -> String {
        let words = self.words.iter();
        words.fold(text.to_owned(), |text, (word, meant)| {
            text.replace(word, meant)
        })
    }

    /// Puts a text of the page into a file of the folder.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.home.path().join(name);
        fs::write(&file, self.meant(text)).expect("the folder is the test's own");
        file
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        self.home.path()
    }

    /// Types a command that ends, and must succeed; gives back what it printed.
    pub async fn run(&self, command: &str) -> String {
        let (succeeded, printed, complaint) = self.output(command).await;
        assert!(succeeded, "{command}: {printed}{complaint}");
        printed
    }

    /// Types a command that ends, and gives back whether it succeeded, what it printed and what it
    /// complained of.
    pub async fn output(&self, command: &str) -> (bool, String, String) {
        let mut shell = self.shell(command);
        shell.stdin(Stdio::null());
        // It may talk to what runs in this very program.
        let output = tokio::task::spawn_blocking(move || shell.output()).await;
        let output = output.expect("no panic").expect("every system has a shell");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let succeeded = output.status.success();
        (succeeded, text(&output.stdout), text(&output.stderr))
    }

    /// Types a command that goes on.
    #[must_use]
    pub fn start(&mut self, command: &str) -> Process {
        self.started += 1;
        let name = format!("command-{}", self.started);
        let mut shell = self.shell(&format!("exec {command}"));
        Process::start(&name, &mut shell, self.home.path())
    }

    /// [`Self::start`] of a `keyloom serve`, waits until it is ready, and gives back where it serves
    /// and where its administrators' pages are.
    pub async fn serve(&mut self, command: &str) -> (Process, String, String) {
        let mut process = self.start(command);
        let this = std::cell::RefCell::new(&mut process);
        poll::eventually("keyloom's `ready`", || async {
            let mut process = this.borrow_mut();
            let lines = process.stdout();
            if let Some(status) = process.ended() {
                panic!("{command}: {status}: {}", process.stderr());
            }
            let ready = lines.lines().any(|line| line == "ready");
            if ready { Ok(()) } else { Err(lines) }
        })
        .await;
        let lines = process.stdout();
        let said = |before: &str| {
            let found = lines.lines().find_map(|line| line.strip_prefix(before));
            found.unwrap_or_else(|| panic!("{lines}")).to_owned()
        };
        let (url, admin) = (said("serving on "), said("admin on "));
        (process, url, admin)
    }

    fn shell(&self, command: &str) -> Command {
        shell(&self.meant(command), self.home.path())
    }
}

/// A command in a shell that finds the programs by their names.
#[must_use]
pub fn shell(command: &str, folder: &Path) -> Command {
    let mut path = env::var_os("PATH").unwrap_or_default();
    for program in [programs::peer("etcdctl"), programs::keyloom()] {
        let mut longer = program.parent().expect("a folder").as_os_str().to_owned();
        longer.push(":");
        longer.push(path);
        path = longer;
    }
    let mut shell = Command::new("sh");
    shell
        .args(["-c", command])
        .current_dir(folder)
        // Where a page does not say it, any port will do.
        .env("KEYLOOM_ADMIN_LISTEN", "127.0.0.1:0")
        .env("PATH", path);
    shell
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_what_somebody_would_type() {
        let page = Page::of(
            "text\n```console\n$ one --a \\\n    --b\nprinted\n$ two   # why\n```\n$ no\n\
             ```yaml\n$ neither\n```\n```console\n# a comment\n$ three\n```\n1. in a list\n\n   \
             ```console\n   $ four\n   ```\n",
        );
        let commands = ["one --a --b", "two   # why", "three", "four"];
        assert_eq!(page.commands(), commands);
        assert_eq!(page.blocks("yaml"), ["$ neither\n"]);
    }

    #[test]
    fn words_are_replaced_in_their_order() {
        let mut reader = Reader::new();
        reader.say("http://a:1", "http://b:2");
        reader.say(":1", ":3");
        assert_eq!(reader.meant("http://a:1 x:1"), "http://b:2 x:3");
    }
}
