//! What was given where: the later source wins, and every value remembers where it comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use super::definition::{DEFINITIONS, Definition, Meaning, meaning};
use super::{Config, ConfigError, Loaded, properties, tree};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// A file: its path, and the line where that is known.
    File(String),
    /// An environment variable.
    Environment(String),
    /// A flag.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(place) => write!(f, "file {place}"),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// A key, its value as written, and where that comes from.
#[derive(Clone)]
pub struct Setting {
    /// The key.
    pub definition: &'static Definition,
    /// As written.
    pub value: String,
    /// Who wrote it.
    pub source: Source,
}

impl Setting {
    /// Its value as it may be shown: a secret is not.
    pub fn shown(&self) -> &str {
        if self.definition.secret && !self.value.is_empty() { "(secret)" } else { &self.value }
    }
}

impl fmt::Debug for Setting {
    /// A configuration may end up in a log line, and its secrets must not.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={} ({})", self.definition.name, self.shown(), self.source)
    }
}

/// Variables that begin like ours and are none: the command line's own, and what Kubernetes sets for a service called `tidegate`.
const OTHER_VARIABLES: &[&str] = &[
    "TIDEGATE_COMPLETE",
    "TIDEGATE_CONFIG",
    "TIDEGATE_CONTEXT",
    "TIDEGATE_NODEJS",
    "TIDEGATE_OUTPUT",
    "TIDEGATE_PORT",
    "TIDEGATE_PORT_*",
    "TIDEGATE_SERVER",
    "TIDEGATE_SERVICE_*",
    "TIDEGATE_VENV",
];

/// The nearest of `names`, if one is near enough to be what was meant.
pub(crate) fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let scored = names.map(|candidate| (strsim::jaro_winkler(name, candidate), candidate));
    scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, candidate)| candidate)
}

/// Gathers what is given, source by source.
#[derive(Debug, Default)]
pub(super) struct Given {
    values: BTreeMap<&'static str, (String, Source)>,
    without_meaning: BTreeSet<String>,
    problems: Vec<String>,
}

impl Given {
    /// Takes a file's keys.
    pub(super) fn file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let shown = path.display().to_string();
        let in_file = |problems: Vec<String>| ConfigError { problems: problems.into_iter().map(|p| format!("{shown}: {p}")).collect() };
        let entries: Vec<(String, String, Source)> = if path.extension().is_some_and(|e| e == "properties") {
            let lines = properties::parse(text).map_err(|problem| in_file(vec![problem]))?;
            lines.into_iter().map(|(key, value, line)| (key, value, Source::File(format!("{shown}:{line}")))).collect()
        } else {
            let entries = tree::parse(text).map_err(in_file)?;
            entries.into_iter().map(|(key, value)| (key, value, Source::File(shown.clone()))).collect()
        };
        let mut seen = BTreeSet::new();
        for (key, value, source) in entries {
            if let Some(own) = self.set(&key, &value, &source).filter(|own| !seen.insert(*own)) {
                self.problems.push(format!("{source}: '{own}' is set twice"));
            }
        }
        Ok(())
    }

    /// Takes the variables that are ours.
    pub(super) fn environment(&mut self, variables: &[(String, String)]) {
        for (variable, value) in variables {
            let is_other =
                |pattern: &str| pattern.strip_suffix('*').map_or(variable == pattern, |beginning| variable.starts_with(beginning));
            let Some(rest) = variable.strip_prefix("TIDEGATE_").filter(|_| !OTHER_VARIABLES.iter().copied().any(is_other)) else {
                continue;
            };
            // No key has an underscore, so that each variable means one key.
            let key = rest.to_ascii_lowercase().replace('_', ".");
            self.set(&key, value, &Source::Environment(variable.clone()));
        }
    }

    /// Takes flags; of one key's, the last counts.
    pub(super) fn flags(&mut self, flags: &[(&'static str, String, String)]) {
        for (flag, key, value) in flags {
            self.set(key, value, &Source::Flag((*flag).to_owned()));
        }
    }

    /// Takes one value; returns the key it is kept under.
    fn set(&mut self, key: &str, value: &str, source: &Source) -> Option<&'static str> {
        match meaning(key) {
            Meaning::Key(definition) if definition.kind.accepts(value.trim()) => {
                self.values.insert(definition.name, (value.trim().to_owned(), source.clone()));
                Some(definition.name)
            }
            Meaning::Key(definition) => {
                let shown = if definition.secret { "(secret)" } else { value };
                self.problems.push(format!("{source}: {key} must be {}, not '{shown}'", definition.kind));
                Some(definition.name)
            }
            Meaning::Nothing => {
                self.without_meaning.insert(key.to_owned());
                None
            }
            Meaning::Unknown(problem) => {
                self.problems.push(format!("{source}: {problem}"));
                None
            }
        }
    }

    /// The configuration, or all that is wrong.
    pub(super) fn finish(mut self) -> Result<Loaded, ConfigError> {
        let settings: Vec<Setting> = DEFINITIONS
            .iter()
            .map(|definition| {
                let (value, source) =
                    self.values.remove(definition.name).unwrap_or_else(|| (definition.default.to_owned(), Source::Default));
                Setting { definition, value, source }
            })
            .collect();
        let config = match Config::from_settings(&settings) {
            Ok(config) => config,
            Err(error) => {
                self.problems.extend(error.problems);
                return Err(ConfigError { problems: self.problems });
            }
        };
        if !self.problems.is_empty() {
            return Err(ConfigError { problems: self.problems });
        }
        Ok(Loaded {
            config,
            warnings: self.without_meaning.is_empty().then(Vec::new).unwrap_or_else(|| vec![ignored(&self.without_meaning)]),
        })
    }
}

fn ignored(keys: &BTreeSet<String>) -> String {
    let names = keys.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    format!("these keys of Kafka's have no meaning here and are ignored: {names}")
}
