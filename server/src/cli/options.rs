//! `config options`: every key there is, of topics and of nodes, from the tables that the checks themselves use.

use clap_complete::ArgValueCompleter;
use serde_json::{Value, json};
use tidegate_types::{amount, topic_config};

use super::output::{Look, Output, styled_table};
use super::{Failure, completion};
use crate::config::{DEFINITIONS, Definition, Kind};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tidegate config options\n  tidegate config options retention.ms\n  tidegate config options --of topic -o json"
)]
pub(super) struct OptionsArguments {
    /// Only this one
    #[arg(value_name = "KEY", add = ArgValueCompleter::new(completion::all_configs))]
    key: Option<String>,
    /// Only those of topics, or of nodes
    #[arg(long, value_enum)]
    of: Option<Scope>,
}

/// What a key is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Scope {
    Topic,
    Node,
}

/// One key, whatever it is about.
struct Entry {
    key: &'static str,
    scope: Scope,
    default: &'static str,
    takes: String,
    description: &'static str,
    acts: topic_config::Effect,
    /// `type`, and `min` and `max` or `values` where there are any.
    bounds: Value,
}

impl Entry {
    fn json(&self) -> Value {
        let mut value = json!({
            "key": self.key, "scope": self.scope(), "default": self.default, "takes": self.takes, "description": self.description,
            "acts": self.acts.word(),
        });
        if let (Some(fields), Value::Object(bounds)) = (value.as_object_mut(), &self.bounds) {
            fields.extend(bounds.clone());
            if self.scope == Scope::Node {
                fields.insert("environment".to_owned(), variable(self.key).into());
            }
        }
        value
    }

    fn scope(&self) -> &'static str {
        match self.scope {
            Scope::Topic => "topic",
            Scope::Node => "node",
        }
    }

    /// Its default, and what that means.
    fn default(&self) -> String {
        match (self.default, amount::readable(self.key, self.default)) {
            ("", _) => "(empty)".to_owned(),
            (text, None) => text.to_owned(),
            (text, Some(means)) => format!("{text} ({means})"),
        }
    }

    /// What people need to know of it, at length.
    fn text(&self) -> String {
        let how = match self.scope {
            Scope::Topic => format!("tidegate topic config set TOPIC {}=VALUE", self.key),
            Scope::Node => format!("{}, or tidegate serve --set {}=VALUE, or a line in the node's file", variable(self.key), self.key),
        };
        let default = self.default();
        format!(
            "{}\n  {}\n  of       {}\n  takes    {}\n  default  {default}\n  acts     {}\n  set by   {how}",
            self.key,
            self.description,
            self.scope(),
            self.takes,
            match self.acts {
                topic_config::Effect::Part(part) => format!("in part: {part}"),
                acts => acts.to_string(),
            }
        )
    }
}

fn variable(key: &str) -> String {
    format!("TIDEGATE_{}", key.replace('.', "_").to_ascii_uppercase())
}

fn of_topic(definition: &'static topic_config::Definition) -> Entry {
    use topic_config::Kind;
    let bounds = match definition.kind {
        Kind::Integer { min, max: i64::MAX } => json!({"type": "integer", "min": min}),
        Kind::Integer { min, max } => json!({"type": "integer", "min": min, "max": max}),
        Kind::Ratio => json!({"type": "number", "min": 0, "max": 1}),
        Kind::OneOf(words) => json!({"type": "string", "values": words}),
        Kind::ListOf(words) => json!({"type": "list", "values": words}),
        Kind::Boolean => json!({"type": "boolean"}),
    };
    let (key, default, description) = (definition.name, definition.default, definition.description);
    Entry { key, scope: Scope::Topic, default, takes: definition.kind.to_string(), description, acts: definition.effect, bounds }
}

fn of_node(definition: &'static Definition) -> Entry {
    let bounds = match definition.kind {
        Kind::Integer { min, max } => json!({"type": "integer", "min": min, "max": max}),
        Kind::Boolean => json!({"type": "boolean"}),
        Kind::OneOf(words) => json!({"type": "string", "values": words}),
        Kind::Text | Kind::LogFilter => json!({"type": "string"}),
        Kind::List | Kind::Origins => json!({"type": "list"}),
    };
    let (key, default, description) = (definition.name, definition.default, definition.description);
    // Of nodes' keys all act.
    let acts = topic_config::Effect::Full;
    Entry { key, scope: Scope::Node, default, takes: definition.kind.to_string(), description, acts, bounds }
}

fn entries() -> impl Iterator<Item = Entry> {
    topic_config::DEFINITIONS.iter().map(of_topic).chain(DEFINITIONS.iter().map(of_node))
}

/// Every key there is.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    entries().map(|entry| entry.key)
}

/// There is no such key; with the nearest that there is.
pub(super) fn unknown<'k>(key: &str, known: impl Iterator<Item = &'k str>) -> Failure {
    let hint = crate::config::nearest(key, known).map(|near| format!("; did you mean '{near}'?"));
    Failure::NotFound(format!("there is no config '{key}'{}", hint.unwrap_or_default()))
}

/// What may have been meant by a value that is none of a key's words; nothing where there is no telling.
pub(super) fn nearest_value(key: &str, value: &str) -> Option<&'static str> {
    let words = words_of(topic_config::definition(key)?.kind);
    let wrong = value.split(',').map(str::trim).find(|word| !words.contains(word))?;
    crate::config::nearest(wrong, words.iter().copied())
}

/// The words that a key takes, if it takes words.
pub(super) const fn words_of(kind: topic_config::Kind) -> &'static [&'static str] {
    match kind {
        topic_config::Kind::OneOf(words) | topic_config::Kind::ListOf(words) => words,
        topic_config::Kind::Boolean => &["true", "false"],
        topic_config::Kind::Integer { .. } | topic_config::Kind::Ratio => &[],
    }
}

/// Does it.
pub(super) fn run(arguments: &OptionsArguments, output: &Output) -> Result<(), Failure> {
    let of_scope = |entry: &Entry| arguments.of.is_none_or(|scope| scope == entry.scope);
    let entries: Vec<Entry> = entries().filter(of_scope).filter(|e| arguments.key.as_ref().is_none_or(|key| key == e.key)).collect();
    match &arguments.key {
        Some(key) if entries.is_empty() => Err(unknown(key, keys())),
        Some(key) => {
            let text = |_: Look| entries.iter().map(Entry::text).collect::<Vec<_>>().join("\n\n");
            match entries.as_slice() {
                [one] => output.named(key, &one.json(), text),
                several => output.list(&several.iter().map(Entry::json).collect::<Vec<_>>(), |_| key.clone(), text),
            }
        }
        None => {
            let values: Vec<Value> = entries.iter().map(Entry::json).collect();
            output.list(
                &values,
                |value| value["key"].as_str().unwrap_or_default().to_owned(),
                |look| {
                    let head = ["KEY", "OF", "DEFAULT", "ACTS", "TAKES", "MEANING"];
                    let row = |entry: &Entry| {
                        let mut row = vec![entry.key.into(), entry.scope().into(), entry.default().into(), entry.acts.word().into()];
                        if look.wide {
                            row.push(entry.takes.as_str().into());
                        }
                        row.push(entry.description.into());
                        row
                    };
                    let short = ["KEY", "OF", "DEFAULT", "ACTS", "MEANING"];
                    styled_table(look, if look.wide { &head } else { &short }, entries.iter().map(row))
                },
            )
        }
    }
}
