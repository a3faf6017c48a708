//! `completion`: what shells need to know, and what completes names while somebody types.
//!
//! The script that `completion` prints calls this binary back at each Tab, with `TIDEGATE_COMPLETE` set. Then the words are completed from the
//! same definitions that parse them, and names of topics are asked of the node that these words mean; it has half a second to answer.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::CommandFactory;
use clap_complete::CompletionCandidate;
use clap_complete::env::{CompleteEnv, Elvish, EnvCompleter, Fish, Powershell, Zsh};

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
#[command(after_help = "\
Examples:
  source <(tidegate completion bash)                  # in ~/.bashrc
  source <(tidegate completion zsh)                   # in ~/.zshrc, below compinit
  mkdir -p ~/.config/fish/completions && tidegate completion fish > ~/.config/fish/completions/tidegate.fish

Zsh, from a file of its own:
  mkdir -p ~/.zfunc && tidegate completion zsh > ~/.zfunc/_tidegate
  in ~/.zshrc:  fpath=(~/.zfunc $fpath); autoload -Uz compinit; compinit")]
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

/// Prints the script that a shell reads once.
pub(super) fn script(arguments: &CompletionArguments, output: &Output) -> Result<(), Failure> {
    let name = own_name();
    let generated = |shell: &dyn EnvCompleter| {
        let mut script = Vec::new();
        shell.write_registration(VARIABLE, "tidegate", "tidegate", &name, &mut script)?;
        Ok::<_, Failure>(String::from_utf8_lossy(&script).into_owned())
    };
    output.text(&match arguments.shell {
        Shell::Bash => BASH.replace("{VARIABLE}", VARIABLE).replace("{NAME}", &shlex_quoted(&name)),
        Shell::Zsh => for_zsh(&generated(&Zsh)?),
        Shell::Fish => generated(&Fish)?,
        Shell::Elvish => generated(&Elvish)?,
        Shell::Powershell => generated(&Powershell)?,
    })
}

/// What bash reads. The library's own takes words as bash splits them, at `=` and `:` too, so that neither a server's address on the line nor
/// a config's value is one word; here they are put together again, and of what is offered the part is taken away that bash does not replace.
const BASH: &str = r#"_tidegate_complete() {
    local rest="${COMP_LINE:0:COMP_POINT}" words=() at word reply
    for ((at = 0; at <= COMP_CWORD; at++)); do
        word="${COMP_WORDS[at]}"
        ((at == COMP_CWORD)) && word="$rest" && word="${word#"${word%%[![:space:]]*}"}"
        if [[ ${#words[@]} -gt 0 && $rest != [[:space:]]* ]]; then
            words[${#words[@]}-1]+="$word"
        else
            rest="${rest#"${rest%%[![:space:]]*}"}"
            words+=("$word")
        fi
        rest="${rest#"$word"}"
    done
    local last=$((${#words[@]} - 1))
    local kept="${words[last]%"${words[last]##*[=:]}"}"
    local IFS=$'\013'
    local replies=( $( \
        _CLAP_IFS="$IFS" _CLAP_COMPLETE_INDEX="$last" _CLAP_COMPLETE_COMP_TYPE="${COMP_TYPE}" _CLAP_COMPLETE_SPACE=false \
        {VARIABLE}=bash {NAME} -- "${words[@]}" \
    ) )
    [[ $COMP_WORDBREAKS == *[=:]* ]] || kept=
    COMPREPLY=()
    for reply in "${replies[@]}"; do
        COMPREPLY+=("${reply#"$kept"}")
    done
    if [[ ${#COMPREPLY[@]} -gt 0 && ${COMPREPLY[0]} == *[=/:] ]]; then
        compopt -o nospace 2>/dev/null
    fi
    return 0
}
if [[ "${BASH_VERSINFO[0]}" -eq 4 && "${BASH_VERSINFO[1]}" -ge 4 || "${BASH_VERSINFO[0]}" -gt 4 ]]; then
    complete -o bashdefault -o nosort -F _tidegate_complete tidegate
else
    complete -o bashdefault -F _tidegate_complete tidegate
fi
"#;

/// The word in single quotes, as shells take it.
fn shlex_quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The library's script, with two things more: read from a file in `fpath` it is a function that is called at once, so that it has to
/// complete at once; and what ends in `=` goes on without a space.
fn for_zsh(script: &str) -> String {
    const FUNCTION: &str = "_clap_dynamic_completer_tidegate";
    const OTHERS: &str = "[[ -n $other ]] && _describe -V 'values' other";
    let open = "local -a open=(${(M)other:#*=})\n        other=(${other:#*=})\n        [[ -n $open ]] && _describe -V 'values' open -S ''\n        ";
    let script = script.replace(OTHERS, &format!("{open}{OTHERS}"));
    format!("{script}\nif [[ \"$funcstack[1]\" == _tidegate ]]; then\n    {FUNCTION} \"$@\"\nfi\n")
}

/// What the script calls: the name, so that a newer binary is found, unless this one was called by its path.
fn own_name() -> String {
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let by_path = called.components().count() > 1;
    let path = if by_path { std::env::current_exe().ok() } else { None };
    path.and_then(|path| path.to_str().map(str::to_owned)).unwrap_or_else(|| "tidegate".to_owned())
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

/// Names of topics of the node that is meant, but for those that the line has already.
pub(super) fn topics(current: &OsStr) -> Vec<CompletionCandidate> {
    /// The program, a noun and a verb come before.
    const WORDS_BEFORE: usize = 3;
    let Some(prefix) = current.to_str() else { return Vec::new() };
    let words: Vec<OsString> = std::env::args_os().skip_while(|word| word != "--").skip(1).collect();
    let place = std::env::var("_CLAP_COMPLETE_INDEX").ok().and_then(|index| index.parse().ok()).unwrap_or(words.len());
    let others: Vec<&OsStr> =
        words.iter().enumerate().skip(WORDS_BEFORE).filter(|(at, _)| *at != place).map(|(_, word)| word.as_os_str()).collect();
    let session = Session::of_words(&words, PATIENCE);
    let names = session.client().and_then(|client| session.block_on(async { Ok(client.list_topics(prefix).await?) }));
    let names = names.unwrap_or_default().into_iter().map(|topic| topic.name);
    candidates(names.filter(|name| !others.contains(&OsStr::new(name))), current)
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

/// Settings of topics' configs: a key with its `=`, and after that the words that it takes.
pub(super) fn topic_settings(current: &OsStr) -> Vec<CompletionCandidate> {
    let key = current.to_str().and_then(|text| text.split_once('=')).map(|(key, _)| key);
    match key.and_then(tidegate_types::topic_config::definition) {
        Some(definition) => {
            candidates(options::words_of(definition.kind).iter().map(|word| format!("{}={word}", definition.name)), current)
        }
        None => candidates(tidegate_types::topic_config::DEFINITIONS.iter().map(|d| format!("{}=", d.name)), current),
    }
}

/// Keys of nodes, with their `=`.
pub(super) fn node_settings(current: &OsStr) -> Vec<CompletionCandidate> {
    candidates(crate::config::DEFINITIONS.iter().map(|d| format!("{}=", d.name)), current)
}

/// Keys of all configs.
pub(super) fn all_configs(current: &OsStr) -> Vec<CompletionCandidate> {
    candidates(options::keys().map(str::to_owned), current)
}
