//! The guide and the README: every command in them is run against a live node and prints what they say it prints; their tables are what
//! the code says; the Chinese pages have the same commands as the English ones.
//!
//! A page's `console` blocks are run one after the other, in one shell, in an empty folder, beside a node of the page's own. How they are
//! written is told in [`document`].

mod document;
mod expect;
mod shell;
mod tables;

use std::path::Path;

use document::{Document, Mark, Step};
use shell::Shell;
use tidegate_tests::oracle::root;
use tidegate_tests::process::Process;

/// Pages with a translation: they say the same in other words, with the same commands.
const TRANSLATED: [(&str, &str); 2] =
    [("README.md", "README.zh-CN.md"), ("docs/guide/getting-started.md", "docs/guide/getting-started.zh-CN.md")];

/// Every block that is not run: its page and why. Nobody adds one unnoticed.
const NOT_RUN: [(&str, &str); 4] = [
    ("README.md", "it builds and starts a node"),
    ("docs/guide/getting-started.md", "it builds and starts a node"),
    ("docs/guide/getting-started.md", "it kills a node by its process id"),
    ("docs/guide/operate.md", "it starts a node in the foreground"),
];

/// The address that the pages call the node by.
const ADDRESS: &str = "127.0.0.1:8080";

/// Every page, by its path from the root.
fn pages() -> Vec<String> {
    let mut pages: Vec<String> = vec!["README.md".to_owned(), "README.zh-CN.md".to_owned()];
    for entry in std::fs::read_dir(root().join("docs/guide")).unwrap() {
        pages.push(format!("docs/guide/{}", entry.unwrap().file_name().to_str().unwrap()));
    }
    pages.sort_unstable();
    assert!(pages.len() > 8, "the pages were not found");
    pages
}

fn read(page: &str) -> Document {
    let text = std::fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
    Document::read(&text).unwrap_or_else(|complaint| panic!("{page}: {complaint}"))
}

/// The node of a page, as far as it runs just now.
struct Stage<'f> {
    data: &'f Path,
    node: Option<Process>,
    shell: Shell,
}

impl<'f> Stage<'f> {
    fn new(folder: &'f Path, data: &'f Path) -> anyhow::Result<Self> {
        let mut stage = Self { data, node: None, shell: Shell::start(folder)? };
        stage.start()?;
        Ok(stage)
    }

    fn start(&mut self) -> anyhow::Result<()> {
        let node = Process::start(self.data)?;
        self.shell.run(&format!("export TIDEGATE_SERVER={}", node.url()))?;
        self.node = Some(node);
        Ok(())
    }

    fn mark(&mut self, mark: &Mark) -> anyhow::Result<()> {
        match (mark, self.node.take()) {
            (Mark::Kill, Some(node)) => node.kill(),
            (Mark::Stop, Some(node)) => {
                node.terminate()?;
                let (status, said) = node.wait()?;
                anyhow::ensure!(status.success(), "the node stopped with {status}:\n{said}");
                Ok(())
            }
            (Mark::Start, None) => self.start(),
            (mark, _) => anyhow::bail!("the page says {mark:?} and the node is not as this needs it"),
        }
    }

    /// Runs one command with the node's real address in the place of the page's, and says what is not as the page says.
    fn run(&mut self, command: &document::Command, may_fail: bool) -> anyhow::Result<Option<String>> {
        let address = self.node.as_ref().map(|node| node.address().to_string());
        let real = |text: &str| address.as_ref().map_or_else(|| text.to_owned(), |address| text.replace(ADDRESS, address));
        let outcome = self.shell.run(&real(&command.text))?;
        let printed = address.as_ref().map_or_else(|| outcome.printed.clone(), |address| outcome.printed.replace(address, ADDRESS));
        let complaint = expect::complaint(&command.expected, &printed);
        let failed = (outcome.status != 0 && !may_fail).then(|| format!("it ended with {} and no `echo $?` follows", outcome.status));
        let complaint = complaint.or_else(|| failed.map(|failed| format!("{failed}; it printed\n{printed}")));
        Ok(complaint.map(|complaint| format!("line {}: $ {}\n{complaint}", command.line, command.text)))
    }
}

/// Runs a page from its first command to its last, and says what is not as it says.
fn complaints(document: &Document) -> anyhow::Result<Vec<String>> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("tidegate-data");
    let mut stage = Stage::new(folder.path(), &data)?;
    let mut complaints = Vec::new();
    for step in &document.steps {
        match step {
            Step::Mark(mark) => stage.mark(mark)?,
            Step::NotRun { .. } => {}
            Step::Run(commands) => {
                for (at, command) in commands.iter().enumerate() {
                    let may_fail = commands.get(at + 1).is_some_and(|next| next.text == "echo $?");
                    complaints.extend(stage.run(command, may_fail)?);
                }
            }
        }
    }
    Ok(complaints)
}

/// A promise: a page whose command prints something else, or fails without saying so, is found; one that is right passes.
#[test]
fn wrong_pages_are_found() {
    let page = |block: &str| Document::read(&format!("```console\n{block}\n```\n")).unwrap();
    let right = "$ x=1; cd / && printf 'a\\nb\\n'\na\n…\n$ echo $x; pwd; false\n1\n/\n$ echo $?\n1\n$ curl http://127.0.0.1:8080/livez\n{\"status\":\"…\"}";
    assert_eq!(complaints(&page(right)).unwrap(), Vec::<String>::new());
    for wrong in ["$ echo a\nb", "$ echo a", "$ true\na", "$ false", "$ curl http://127.0.0.1:8080/livez\n{}", "$ no-such-command\n..."] {
        assert_eq!(complaints(&page(wrong)).unwrap().len(), 1, "{wrong}");
    }
}

/// A promise: every command in the guide and in the README works word for word and prints what the page says it prints.
#[test]
fn every_command_works() {
    let english: Vec<String> = pages().into_iter().filter(|page| TRANSLATED.iter().all(|(_, other)| other != page)).collect();
    let mut wrong = Vec::new();
    for page in &english {
        let document = read(page);
        let found = complaints(&document).unwrap_or_else(|error| vec![format!("it could not be run to its end: {error:#}")]);
        wrong.extend(found.into_iter().map(|complaint| format!("{page} {complaint}")));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
}

/// A promise: a command that cannot be run here says why, and no more are left out than are known to be.
#[test]
fn what_is_not_run_is_counted() {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut run = 0;
    for page in pages().iter().filter(|page| !page.contains(".zh-CN.")) {
        for step in read(page).steps {
            match step {
                Step::NotRun { reason, .. } => found.push((page.clone(), reason)),
                Step::Run(commands) => run += commands.len(),
                Step::Mark(_) => {}
            }
        }
    }
    let known: Vec<_> = NOT_RUN.iter().map(|(page, reason)| ((*page).to_owned(), (*reason).to_owned())).collect();
    assert_eq!(found, known, "blocks that are not run");
    assert!(run > 20, "only {run} commands are run");
}

/// A promise: a translation has the blocks of its original, to the letter, and each leads to the other.
#[test]
fn translations_have_the_same_commands() {
    for (original, translation) in TRANSLATED {
        let (english, chinese) = (read(original), read(translation));
        assert_eq!(english.steps_without_lines(), chinese.steps_without_lines(), "{original} and {translation}");
        for (document, other) in [(&english, translation), (&chinese, original)] {
            let name = other.rsplit('/').next().unwrap();
            assert!(document.text.contains(&format!("]({name})")), "no link to {other}");
        }
    }
}

/// A promise: the README's first minute is what the node itself shows when it is ready.
#[test]
fn the_first_minute_is_the_banners() {
    let shown = tidegate_server::banner::curl_lines("http://127.0.0.1:8080");
    let document = read("README.md");
    let first = document.steps.iter().find_map(|step| if let Step::Run(commands) = step { Some(commands) } else { None });
    let commands: Vec<&str> = first.unwrap().iter().map(|command| command.text.as_str()).collect();
    assert_eq!(commands, shown, "the banner and the README say the same");
}

/// A promise: what the pages kill by is the node, also while another `tidegate` runs, a `tail` say.
#[test]
fn the_node_is_what_is_killed() {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    let binary = tidegate_tests::process::binary().unwrap();
    let server = node.url();
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(&binary);
        command.args(arguments).args(["--server", &server]).stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
        command.spawn().unwrap()
    };
    assert!(run(&["topic", "create", "orders"]).wait().unwrap().success());
    let mut tail = run(&["tail", "orders", "--follow"]);
    let own = std::process::id().to_string();
    let mut found = 0;
    for page in ["README.md", "README.zh-CN.md", "docs/guide/getting-started.md", "docs/guide/getting-started.zh-CN.md"] {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        for line in text.lines().filter(|line| line.contains("kill -9")) {
            let (_, rest) = line.split_once("$(pgrep -nf '").unwrap_or_else(|| panic!("{page}: {line}"));
            let (pattern, _) = rest.split_once('\'').unwrap();
            // Other tests have nodes of their own, but none outside of this process is meant.
            let meant = std::process::Command::new("pgrep").args(["-P", &own, "-f", pattern]).output().unwrap().stdout;
            let meant: Vec<u32> = String::from_utf8(meant).unwrap().lines().map(|line| line.parse().unwrap()).collect();
            assert!(meant.contains(&node.id()) && !meant.contains(&tail.id()), "{page}: {line}: {meant:?}");
            found += 1;
        }
    }
    tail.kill().unwrap();
    tail.wait().unwrap();
    assert_eq!(found, 4);
}
