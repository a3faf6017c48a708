//! `context …`: names for servers, so that nobody has to type addresses.
//!
//! They live in one file, `tidegate/contexts.toml` in `$XDG_CONFIG_HOME` (`~/.config` if that is not set), which only its owner may read:
//!
//! ```toml
//! current = "staging"
//!
//! [contexts.staging]
//! server = "http://10.0.0.7:8080"
//! ```

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap_complete::ArgValueCompleter;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate_client::Client;
use tidegate_storage::io::{Io, RealIo, read_small};

use super::output::{Output, styled_table};
use super::session::Session;
use super::{Failure, completion};

/// What to do with contexts.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// List contexts
    #[command(after_help = "Examples:\n  tidegate context list\n  tidegate context list -o json")]
    List,
    /// Make one the current: verbs talk to its server if nothing else is said
    #[command(after_help = "Examples:\n  tidegate context use staging")]
    Use {
        /// Its name
        #[arg(add = ArgValueCompleter::new(completion::contexts))]
        name: String,
    },
    /// Add one, or change its server; the first one added is the current
    #[command(after_help = "Examples:\n  tidegate context add staging http://10.0.0.7:8080")]
    Add {
        /// Its name
        #[arg(value_parser = name)]
        name: String,
        /// The node to talk to; --server or TIDEGATE_SERVER if not given
        url: Option<String>,
        /// Make it the current
        #[arg(long = "use")]
        use_it: bool,
    },
    /// Remove contexts
    #[command(after_help = "Examples:\n  tidegate context rm staging\n  tidegate context rm staging production")]
    Rm {
        /// Their names
        #[arg(required = true, add = ArgValueCompleter::new(completion::contexts))]
        names: Vec<String>,
    },
    /// Say which server is meant, and who says so
    #[command(after_help = "Examples:\n  tidegate context current\n  tidegate context current -o json")]
    Current,
}

fn name(text: &str) -> Result<String, String> {
    let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if is_plain && (1..=64).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err("a name has 1 to 64 letters, digits, '.', '_' and '-'".to_owned())
    }
}

/// What the file says.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Contexts {
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Context>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Context {
    server: String,
}

/// Where the file is; `None` for somebody without a home.
fn path() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")))?;
    Some(base.join("tidegate").join("contexts.toml"))
}

fn failed(path: &Path, reason: impl std::fmt::Display) -> Failure {
    Failure::Local(format!("{}: {reason}", path.display()))
}

impl Contexts {
    /// Reads the file; none is as good as an empty one.
    pub(super) fn read() -> Result<Self, Failure> {
        let Some(path) = path() else { return Ok(Self::default()) };
        match read_small(&RealIo, &path).map_err(|error| failed(&path, error))? {
            None => Ok(Self::default()),
            Some(bytes) => Self::parse(&bytes).map_err(|reason| failed(&path, reason)),
        }
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
        let contexts: Self =
            toml::from_str(text).map_err(|error| format!("it is no list of contexts\n{}", error.to_string().trim_end()))?;
        match &contexts.current {
            Some(current) if !contexts.contexts.contains_key(current) => {
                Err(format!("current = '{current}' names none of its contexts: correct or remove that line"))
            }
            _ => Ok(contexts),
        }
    }

    /// Replaces the file: the old one or the new one is there, whole, and only its owner may read it.
    fn write(&self) -> Result<(), Failure> {
        let path = path().ok_or_else(|| Failure::Local("neither XDG_CONFIG_HOME nor HOME says where contexts are kept".to_owned()))?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        let text = toml::to_string(self).map_err(|error| failed(&path, error))?;
        let replace = || {
            RealIo.create_dir_all(folder)?;
            // Made with mode 0600.
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            RealIo.sync_dir(folder)
        };
        replace().map_err(|error| failed(&path, error))
    }

    /// One as programs see it.
    fn entry(&self, name: &str) -> Value {
        let server = self.contexts.get(name).map(|context| context.server.as_str());
        json!({"name": name, "server": server, "current": self.current.as_deref() == Some(name)})
    }

    /// Their names.
    pub(super) fn names(&self) -> Vec<String> {
        self.contexts.keys().cloned().collect()
    }

    /// The current one: name and server.
    pub(super) fn current(&self) -> Option<(&str, &str)> {
        let name = self.current.as_deref()?;
        Some((name, self.contexts.get(name)?.server.as_str()))
    }

    /// The server of the context `name`, which `by` names.
    pub(super) fn server(&self, name: &str, by: &str) -> Result<&str, Failure> {
        self.contexts.get(name).map(|context| context.server.as_str()).ok_or_else(|| self.unknown(name, by))
    }

    fn unknown(&self, name: &str, by: &str) -> Failure {
        let near = crate::config::nearest(name, self.contexts.keys().map(String::as_str));
        let hint = match near {
            Some(near) => format!("; did you mean '{near}'?"),
            None => "; `tidegate context list` lists them".to_owned(),
        };
        Failure::NotFound(format!("there is no context '{name}'{by}{hint}"))
    }
}

/// Does it.
pub(super) fn run(verb: &Verb, session: &Session) -> Result<(), Failure> {
    let output = &session.output;
    match verb {
        Verb::List => list(session),
        Verb::Current => {
            let server = session.server()?;
            output.result(&json!({"server": server.url, "source": server.origin}), |_| format!("{} ({})", server.url, server.origin))
        }
        Verb::Use { name } => {
            let mut contexts = Contexts::read()?;
            contexts.server(name, "")?;
            contexts.current = Some(name.clone());
            contexts.write()?;
            done(output, &contexts.entry(name), &format!("the current context is {name}"))
        }
        Verb::Add { name, url, use_it } => {
            let server = match url {
                Some(url) => url.clone(),
                None => session.named_server().ok_or_else(|| Failure::Usage(format!("which server is '{name}'? Give its URL")))?,
            };
            Client::new(&server)?;
            let mut contexts = Contexts::read()?;
            contexts.contexts.insert(name.clone(), Context { server });
            if *use_it || contexts.contexts.len() == 1 {
                contexts.current = Some(name.clone());
            }
            contexts.write()?;
            let is_current = contexts.current.as_ref() == Some(name);
            let words = format!("context {name} is kept{}", if is_current { ", and it is the current" } else { "" });
            done(output, &contexts.entry(name), &words)
        }
        Verb::Rm { names } => {
            let mut contexts = Contexts::read()?;
            let removed: Vec<Value> = names.iter().map(|name| contexts.entry(name)).collect();
            for name in names {
                contexts.contexts.remove(name).ok_or_else(|| contexts.unknown(name, ""))?;
                contexts.current = contexts.current.filter(|current| current != name);
            }
            contexts.write()?;
            let has_current = contexts.current.is_some() || contexts.contexts.is_empty();
            let more = if has_current { "" } else { "; no context is the current now: choose one with `tidegate context use`" };
            done(output, &removed, &format!("gone: {}{more}", names.join(", ")))
        }
    }
}

/// What was done: an object for programs, words for people.
fn done(output: &Output, value: &impl Serialize, words: &str) -> Result<(), Failure> {
    if output.format().is_for_programs() {
        return output.result(value, |_| String::new());
    }
    output.note(words);
    Ok(())
}

fn list(session: &Session) -> Result<(), Failure> {
    let contexts = Contexts::read()?;
    let is_current = |name: &str| contexts.current.as_deref() == Some(name);
    let items: Vec<_> = contexts.contexts.keys().map(|name| contexts.entry(name)).collect();
    if items.is_empty() {
        session.output.note("there are no contexts: `tidegate context add NAME URL` makes one");
    }
    session.output.list(
        &items,
        |item| item["name"].as_str().unwrap_or_default().to_owned(),
        |look| {
            if contexts.contexts.is_empty() {
                return String::new();
            }
            let row = |(name, context): (&String, &Context)| {
                vec![if is_current(name) { "*" } else { "" }.into(), name.as_str().into(), context.server.as_str().into()]
            };
            styled_table(look, &["", "NAME", "SERVER"], contexts.contexts.iter().map(row))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: what is not understood in the file is refused with its place, not passed over.
    #[test]
    fn unknown_fields_are_refused() {
        let good = b"current = \"a\"\n[contexts.a]\nserver = \"http://x\"\n";
        let contexts = Contexts::parse(good).unwrap();
        assert_eq!(contexts.current(), Some(("a", "http://x")));
        assert_eq!(Contexts::parse(toml::to_string(&contexts).unwrap().as_bytes()).unwrap(), contexts);
        for (bad, word) in [
            (&b"[contexts.a]\nserver = \"x\"\ntoken = \"t\"\n"[..], "token"),
            (b"colour = 1\n", "colour"),
            (b"[contexts.a]\n", "server"),
            (b"current = \"b\"\n", "'b'"),
            (b"\xff", "UTF-8"),
        ] {
            let reason = Contexts::parse(bad).unwrap_err();
            assert!(reason.contains(word), "{reason}");
        }
    }

    /// A promise: a name can stand in a shell's line and in the file without quotes.
    #[test]
    fn names_are_plain() {
        assert!(name("staging-2.eu_west").is_ok());
        for wrong in ["", "a b", "a/b", "é", &"x".repeat(65)] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
    }
}
