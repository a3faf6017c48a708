//! `completion` and `man`: what shells and `man` need to know, and what completes names while somebody types.
//!
//! The script that `completion` prints calls this binary back at each Tab, with `TIDEGATE_COMPLETE` set. Then the words are completed from the
//! same definitions that parse them, and names of topics are asked of the node that these words mean; it has half a second to answer.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::CommandFactory;
use clap_complete::CompletionCandidate;
use clap_complete::env::{Bash, CompleteEnv, Elvish, EnvCompleter, Fish, Powershell, Zsh};

use super::output::Output;
use super::session::Session;
use super::{Arguments, Failure, context, options};

/// The variable that makes a call a question of a shell.
const VARIABLE: &str = "TIDEGATE_COMPLETE";
/// How long somebody who has pressed Tab waits for a node.
const PATIENCE: Duration = Duration::from_millis(500);
/// Names that a shell is given at most.
const NAMES_MAX: usize = 500;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  source <(tidegate completion bash)\n  tidegate completion zsh > ~/.zfunc/_tidegate\n  tidegate completion fish > ~/.config/fish/completions/tidegate.fish"
)]
pub(super) struct CompletionArguments {
    /// For which shell
    shell: Shell,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
    Elvish,
    Powershell,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tidegate man | man -l -\n  tidegate man --dir ~/.local/share/man/man1")]
pub(super) struct ManArguments {
    /// Write a page for each verb into this directory, which must exist
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints the script that a shell reads once.
pub(super) fn script(arguments: &CompletionArguments, output: &Output) -> Result<(), Failure> {
    let shell: &dyn EnvCompleter = match arguments.shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
        Shell::Elvish => &Elvish,
        Shell::Powershell => &Powershell,
    };
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "tidegate", "tidegate", &own_name(), &mut script)?;
    output.text(&String::from_utf8_lossy(&script))
}

/// What the script calls: the name, so that a newer binary is found, unless this one was called by its path.
fn own_name() -> String {
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let by_path = called.components().count() > 1;
    let path = if by_path { std::env::current_exe().ok() } else { None };
    path.and_then(|path| path.to_str().map(str::to_owned)).unwrap_or_else(|| "tidegate".to_owned())
}

/// Prints the manual's first page, or writes all of them.
pub(super) fn man(arguments: &ManArguments, output: &Output) -> Result<(), Failure> {
    let command = Arguments::command();
    match &arguments.dir {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            output.text(&String::from_utf8_lossy(&page))
        }
        Some(dir) => {
            let failed = |error: std::io::Error| Failure::Local(format!("{}: {error}", dir.display()));
            clap_mangen::generate_to(command, dir).map_err(failed)?;
            output.note(&format!("the pages are in {}", dir.display()));
            Ok(())
        }
    }
}

/// Answers a shell, if it is one that asks. Whatever goes wrong, there is nothing to complete: nobody wants an error in the middle of a line.
pub(super) fn answer(arguments: &[OsString]) -> bool {
    if std::env::var_os(VARIABLE).is_none_or(|shell| shell.is_empty()) {
        return false;
    }
    let directory = std::env::current_dir().ok();
    let asked = CompleteEnv::with_factory(Arguments::command).var(VARIABLE);
    if let Err(error) = asked.try_complete(arguments, directory.as_deref()) {
        drop(writeln!(std::io::stderr(), "tidegate: {error}"));
    }
    true
}

fn candidates(names: impl Iterator<Item = String>, current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    names.filter(|name| name.starts_with(current)).take(NAMES_MAX).map(CompletionCandidate::new).collect()
}

/// Names of topics of the node that is meant.
pub(super) fn topics(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(prefix) = current.to_str() else { return Vec::new() };
    let words: Vec<OsString> = std::env::args_os().skip_while(|word| word != "--").skip(1).collect();
    let session = Session::of_words(&words, PATIENCE);
    let names = session.client().and_then(|client| session.block_on(async { Ok(client.list_topics(prefix).await?) }));
    candidates(names.unwrap_or_default().into_iter().map(|topic| topic.name), current)
}

/// Names of contexts.
pub(super) fn contexts(current: &OsStr) -> Vec<CompletionCandidate> {
    let names = context::Contexts::read().map(|contexts| contexts.names()).unwrap_or_default();
    candidates(names.into_iter(), current)
}

/// Keys of topics' configs.
pub(super) fn topic_configs(current: &OsStr) -> Vec<CompletionCandidate> {
    candidates(tidegate_types::topic_config::DEFINITIONS.iter().map(|d| d.name.to_owned()), current)
}

/// Keys of all configs.
pub(super) fn all_configs(current: &OsStr) -> Vec<CompletionCandidate> {
    candidates(options::keys().map(str::to_owned), current)
}
