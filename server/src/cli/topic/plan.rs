//! What a change would do to a topic as it is now: before → after, key by key, and what of it destroys. Pure; nothing is sent from here.

use std::collections::BTreeMap;

use indicatif::HumanCount;
use serde::Serialize;
use serde_json::{Value, json};
use tidegate_client::{ConfigEntry, NewTopic, TopicDescription};
use tidegate_types::{amount, topic_config};

use super::super::output::{Field, Look, Tone, paint, styled_table};

/// All that a change would do to one topic.
#[derive(Debug, Serialize)]
pub(super) struct Plan {
    /// The topic.
    pub(super) topic: String,
    /// `create`, `change`, `delete`, or `none` if nothing would be done.
    pub(super) action: &'static str,
    /// Each thing that would be different.
    pub(super) changes: Vec<Change>,
    /// Whether it has been done.
    pub(super) applied: bool,
}

/// One thing that would be different.
#[derive(Debug, Serialize, PartialEq)]
pub(super) struct Change {
    /// Which, as a JSON pointer into the topic: `/partitions`, `/config/retention.ms`.
    pointer: String,
    /// What it is; absent if there is nothing yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Value>,
    /// Who set it: `topic`, `cluster` or `default`; of configs only.
    #[serde(skip_serializing_if = "Option::is_none")]
    before_source: Option<String>,
    /// What it would be; absent if there would be nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Value>,
    /// Who would have set it; of configs only.
    #[serde(skip_serializing_if = "Option::is_none")]
    after_source: Option<String>,
    /// What would be lost, if something would.
    #[serde(skip_serializing_if = "Option::is_none")]
    destroys: Option<String>,
}

impl Change {
    fn new(pointer: &str, before: Option<Value>, after: Option<Value>) -> Self {
        Self { pointer: pointer.to_owned(), before, before_source: None, after, after_source: None, destroys: None }
    }
}

impl Plan {
    fn of(topic: &str, action: &'static str, changes: Vec<Change>) -> Self {
        Self { topic: topic.to_owned(), action: if changes.is_empty() { "none" } else { action }, changes, applied: false }
    }

    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Whether records would be lost, so that it wants a `--yes`.
    pub(super) fn destroys(&self) -> bool {
        self.changes.iter().any(|change| change.destroys.is_some())
    }

    /// The configs that it sets.
    pub(super) fn set_keys(&self) -> impl Iterator<Item = &str> {
        let is_set = |change: &&Change| change.after.is_some() && change.after_source.as_deref().is_none_or(|source| source == "topic");
        self.changes.iter().filter(is_set).filter_map(|change| change.pointer.strip_prefix("/config/"))
    }

    /// The same, done.
    pub(super) fn done(self) -> Self {
        Self { applied: true, ..self }
    }

    /// For people.
    pub(super) fn text(&self, look: Look) -> String {
        let (would, did) = match self.action {
            "create" => ("would be created", "created"),
            "delete" => ("would be deleted", "deleted"),
            "none" => return format!("topic {}: nothing to change", self.topic),
            _ => ("would be changed", "changed"),
        };
        let head = format!("topic {} {}:", self.topic, if self.applied { did } else { would });
        let has_warnings = self.destroys() && !self.applied;
        let head = paint(look.colour, if has_warnings { Tone::Bad } else { Tone::Plain }, &head);
        let row = |change: &Change| {
            let mut row = vec![
                Field::from(name(&change.pointer)),
                shown(name(&change.pointer), change.before.as_ref(), change.before_source.as_deref()).into(),
                "→".into(),
                shown(name(&change.pointer), change.after.as_ref(), change.after_source.as_deref()).into(),
            ];
            if has_warnings {
                row.push(Field::new(Tone::Bad, change.destroys.clone().unwrap_or_default()));
            }
            row
        };
        let titles = ["KEY", "BEFORE", "", "AFTER", "LOSES"];
        let titles = if has_warnings { &titles[..] } else { &titles[..4] };
        format!("{head}\n{}", styled_table(look, titles, self.changes.iter().map(row)))
    }
}

fn name(pointer: &str) -> &str {
    pointer.strip_prefix("/config/").unwrap_or_else(|| pointer.trim_start_matches('/'))
}

fn shown(name: &str, value: Option<&Value>, source: Option<&str>) -> String {
    let text = match value {
        None => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let more: Vec<String> = amount::readable(name, &text).into_iter().chain(source.filter(|s| *s != "topic").map(str::to_owned)).collect();
    if more.is_empty() { text } else { format!("{text} ({})", more.join(", ")) }
}

/// A topic's differences from what was asked for, as its server lists them; in the same table as a plan.
pub(in super::super) fn differences(look: Look, differences: &[Value]) -> String {
    let row = |difference: &Value| {
        let pointer = difference["pointer"].as_str().unwrap_or_default();
        let field = |which: &str| shown(name(pointer), difference.get(which).map(number_of).as_ref(), None).into();
        vec![Field::from(name(pointer)), field("actual"), field("wanted")]
    };
    styled_table(look, &["KEY", "IS", "WANTED"], differences.iter().map(row))
}

/// The server writes numbers as text there.
fn number_of(value: &Value) -> Value {
    value.as_str().and_then(|text| text.parse::<u64>().ok()).map_or_else(|| value.clone(), Value::from)
}

/// What `topic create` would do; a topic that is there is compared in what is asked for.
pub(super) fn create(name: &str, wanted: &NewTopic, live: Option<&TopicDescription>) -> Plan {
    let mut changes = Vec::new();
    let mut compare = |pointer: &str, wanted: Option<Value>, actual: Option<Value>| {
        if wanted.is_some() && wanted != actual {
            changes.push(Change::new(pointer, actual, wanted));
        }
    };
    let unsaid = || live.is_none().then(|| json!("the node's default"));
    compare("/partitions", wanted.partitions.map(Value::from).or_else(unsaid), live.map(|t| t.partitions.len().into()));
    compare("/replication_factor", wanted.replication_factor.map(Value::from).or_else(unsaid), live.map(|t| t.replication_factor.into()));
    for (key, value) in &wanted.config {
        let actual = live.and_then(|t| t.config.get(key)).map(|entry| entry.value.clone().into());
        compare(&format!("/config/{key}"), Some(value.clone().into()), actual);
    }
    Plan::of(name, if live.is_some() { "change" } else { "create" }, changes)
}

/// What setting configs, or with `None` putting them back to their default, would do.
pub(super) fn config(live: &TopicDescription, wanted: &BTreeMap<String, Option<String>>) -> Plan {
    config_where(topic_config::acts, live, wanted)
}

/// The same where `acts` says which keys do something.
fn config_where(acts: impl Fn(&str) -> bool, live: &TopicDescription, wanted: &BTreeMap<String, Option<String>>) -> Plan {
    let mut changes = Vec::new();
    for (key, value) in wanted {
        let before = live.config.get(key);
        let after = value.clone().or_else(|| default_of(live, key));
        let is_set = before.is_some_and(|entry| entry.source == "topic");
        // A default that is set by name stays when the default changes, so that it is a change, too.
        let same = if value.is_some() { is_set && before.map(|entry| &entry.value) == after.as_ref() } else { !is_set };
        if same {
            continue;
        }
        let pointer = format!("/config/{key}");
        let mut change = Change::new(&pointer, before.map(|entry| entry.value.clone().into()), after.clone().map(Value::from));
        change.before_source = before.map(|entry| entry.source.clone());
        change.after_source = Some(if value.is_some() { "topic" } else { "default" }.to_owned());
        change.destroys = before.zip(after.as_ref()).and_then(|(before, after)| loss(&acts, key, &before.value, after));
        changes.push(change);
    }
    Plan::of(&live.name, "change", changes)
}

/// What growing to `total` partitions would do.
pub(super) fn partitions(live: &TopicDescription, total: u32) -> Plan {
    let count = live.partitions.len();
    let change = (count != total as usize).then(|| Change::new("/partitions", Some(count.into()), Some(total.into())));
    Plan::of(&live.name, "change", change.into_iter().collect())
}

/// What deleting would do.
pub(super) fn delete(live: &TopicDescription) -> Plan {
    let count = records(live);
    let mut change = Change::new("/partitions", Some(live.partitions.len().into()), None);
    // It wants a word all the same: the topic may be filled before that is said.
    change.destroys = Some(match count {
        0 => "the topic; it has no records".to_owned(),
        1 => "up to 1 record".to_owned(),
        count => format!("up to {} records", HumanCount(count)),
    });
    Plan::of(&live.name, "delete", vec![change])
}

/// What a topic holds, as far as its leaders know.
pub(super) fn records(topic: &TopicDescription) -> u64 {
    topic.partitions.iter().filter_map(|p| Some(p.latest_offset?.saturating_sub(p.earliest_offset?))).sum()
}

/// What a config is where nobody sets it.
fn default_of(topic: &TopicDescription, key: &str) -> Option<String> {
    if key == "min.insync.replicas" {
        return Some((topic.replication_factor / 2 + 1).to_string());
    }
    // What is not set has its default already, and the server knows best what that is.
    let unset = topic.config.get(key).filter(|entry: &&ConfigEntry| entry.source != "topic").map(|entry| entry.value.clone());
    unset.or_else(|| topic_config::definition(key).map(|definition| definition.default.to_owned()))
}

/// What records a change of `key` can cost. What does not act costs none.
fn loss(acts: &impl Fn(&str) -> bool, key: &str, before: &str, after: &str) -> Option<String> {
    // -1 is no bound: more than any.
    let bound = |text: &str| text.trim().parse().ok().map(|n: i64| if n < 0 { i64::MAX } else { n });
    let shrinks = || bound(before).zip(bound(after)).is_some_and(|(before, after)| after < before);
    let turns_on = |word: &str| {
        let has = |list: &str| list.split(',').any(|item| item.trim() == word);
        has(after) && !has(before)
    };
    match key {
        _ if !acts(key) => None,
        "retention.ms" if shrinks() => Some(format!("records older than {}", amount::millis(bound(after)?))),
        "retention.bytes" if shrinks() => Some(format!("what is beyond {} in a partition", amount::bytes(bound(after)?))),
        // A policy is as much as what carries it out.
        "cleanup.policy" if turns_on("compact") && acts("min.cleanable.dirty.ratio") => {
            Some("all but the latest record of each key".to_owned())
        }
        "cleanup.policy" if turns_on("delete") && acts("retention.ms") => Some("records beyond the retention".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(configs: &[(&str, &str)]) -> TopicDescription {
        let mut config: BTreeMap<String, ConfigEntry> = topic_config::DEFINITIONS
            .iter()
            .map(|d| (d.name.to_owned(), ConfigEntry { value: d.default.to_owned(), source: "default".to_owned() }))
            .collect();
        for (key, value) in configs {
            config.insert((*key).to_owned(), ConfigEntry { value: (*value).to_owned(), source: "topic".to_owned() });
        }
        let partition = tidegate_client::PartitionDescription {
            partition: 0,
            leader: Some(1),
            leader_epoch: 0,
            replicas: vec![1],
            in_sync_replicas: vec![1],
            earliest_offset: Some(5),
            latest_offset: Some(12),
            size_bytes: Some(1),
        };
        TopicDescription {
            name: "t".to_owned(),
            topic_id: String::new(),
            partitions: vec![partition],
            replication_factor: 1,
            config,
            internal: false,
        }
    }

    fn set(pairs: &[(&str, Option<&str>)]) -> BTreeMap<String, Option<String>> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned))).collect()
    }

    /// A promise: whatever lets records be deleted that were safe before is seen, by whichever way it comes about; nothing else is.
    #[test]
    fn what_destroys_is_seen() {
        for (now, then, destroys) in [
            (&[][..], ("retention.ms", Some("1000")), true),
            (&[], ("retention.ms", Some("-1")), false),
            (&[], ("retention.ms", Some("604800001")), false),
            (&[("retention.ms", "-1")], ("retention.ms", None), true),
            (&[("retention.ms", "1")], ("retention.ms", None), false),
            (&[], ("retention.bytes", Some("0")), true),
            (&[("retention.bytes", "10")], ("retention.bytes", Some("-1")), false),
            (&[], ("cleanup.policy", Some("compact")), true),
            (&[], ("cleanup.policy", Some("delete, compact")), true),
            (&[("cleanup.policy", "compact")], ("cleanup.policy", None), true),
            (&[("cleanup.policy", "compact,delete")], ("cleanup.policy", Some("compact")), false),
            (&[], ("segment.ms", Some("1")), false),
        ] {
            let plan = config_where(|_| true, &topic(now), &set(&[then]));
            assert!(!plan.is_empty(), "{then:?}");
            assert_eq!(plan.destroys(), destroys, "{now:?} {then:?}");
            assert!(!config_where(|_| false, &topic(now), &set(&[then])).destroys(), "what does not act costs nothing: {then:?}");
        }
    }

    /// A promise: a policy costs records only where something carries it out, and what it costs is said in words that people use.
    #[test]
    fn losses_are_said() {
        let live = topic(&[]);
        let only = |acting: &'static str| move |key: &str| key == acting || key == "cleanup.policy";
        let policy = set(&[("cleanup.policy", Some("compact"))]);
        assert!(!config_where(only("retention.ms"), &live, &policy).destroys());
        assert!(config_where(only("min.cleanable.dirty.ratio"), &live, &policy).destroys());
        let plan = config_where(only("retention.ms"), &live, &set(&[("retention.ms", Some("86400000"))]));
        let text = plan.text(Look { wide: false, colour: false, width: None });
        assert!(text.contains("604800000 (7 days, default)") && text.contains("86400000 (1 day)"), "{text}");
        assert!(text.contains("records older than 1 day"), "{text}");
        let coloured = Look { wide: false, colour: true, width: None };
        assert!(plan.text(coloured).starts_with('\x1b'), "what would lose records is red");
        assert!(plan.done().text(coloured).starts_with("topic t changed"), "what is done is not");
    }

    /// A promise: a plan lists what differs and nothing else; a default that is set by name is a difference.
    #[test]
    fn plans_list_differences() {
        let live = topic(&[("segment.ms", "5")]);
        assert!(config(&live, &set(&[("segment.ms", Some("5")), ("flush.ms", None)])).is_empty());
        let pinned = config(&live, &set(&[("durability", Some("fsync"))]));
        let change = &pinned.changes[0];
        assert_eq!((change.before.clone(), change.before_source.as_deref()), (Some(json!("fsync")), Some("default")));
        assert_eq!((change.after.clone(), change.after_source.as_deref()), (Some(json!("fsync")), Some("topic")));
        assert!(partitions(&live, 1).is_empty() && !partitions(&live, 2).is_empty());
        assert!(delete(&live).destroys());
        assert_eq!(records(&live), 7);
        let wanted =
            NewTopic { partitions: Some(1), replication_factor: None, config: BTreeMap::from([("segment.ms".into(), "6".into())]) };
        let plan = create("t", &wanted, Some(&live));
        assert_eq!(plan.changes, [Change::new("/config/segment.ms", Some(json!("5")), Some(json!("6")))]);
        assert_eq!(create("t", &NewTopic::default(), None).action, "create");
        assert_eq!(create("t", &NewTopic::default(), Some(&live)).action, "none");
    }
}
