//! Topics in JSON: to be made, to be changed, described, listed.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize};
use tidegate_cluster::{NewTopic, Topic, TopicChange, TopicDescription};
use tidegate_types::{TopicName, topic_config};
use utoipa::{IntoParams, ToSchema};

use crate::error::ApiError;

/// A field that may be left out but, once it is there, is not `null`: that would leave open which of the two was meant.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A topic to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({"name": "flights", "partitions": 4, "replication_factor": 1, "config": {"retention.ms": "604800000"}}))]
pub(crate) struct CreateTopic {
    /// Its name: 1 to 249 of `a-z A-Z 0-9 . _ -`.
    #[schema(min_length = 1, max_length = 249, pattern = "^[a-zA-Z0-9._-]+$")]
    name: String,
    /// How many partitions; left out: the cluster's default.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, minimum = 1, maximum = 10_000)]
    partitions: Option<u32>,
    /// Replicas of each partition; left out: 3, or as many as there are nodes.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, minimum = 1)]
    replication_factor: Option<u16>,
    /// Configs that are not to be the default; values are strings.
    #[serde(default)]
    #[schema(required = false)]
    config: BTreeMap<String, String>,
}

/// A topic as it is to be: what is left out is not compared.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({"partitions": 4, "replication_factor": 1, "config": {"retention.ms": "604800000"}}))]
pub(crate) struct EnsureTopic {
    /// How many partitions; left out: the cluster's default if it is made.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, minimum = 1, maximum = 10_000)]
    partitions: Option<u32>,
    /// Replicas of each partition.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, minimum = 1)]
    replication_factor: Option<u16>,
    /// Configs that are not to be the default; values are strings.
    #[serde(default)]
    #[schema(required = false)]
    config: BTreeMap<String, String>,
}

/// A change of a topic.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({"partitions": 8, "config": {"retention.ms": "1000", "cleanup.policy": null}}))]
pub(crate) struct AlterTopic {
    /// The new number of partitions, which can only grow.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, minimum = 1, maximum = 10_000)]
    partitions: Option<u32>,
    /// Configs to set; `null` puts one back to its default.
    #[serde(default)]
    #[schema(required = false)]
    config: BTreeMap<String, Option<String>>,
}

impl TryFrom<CreateTopic> for NewTopic {
    type Error = ApiError;

    fn try_from(topic: CreateTopic) -> Result<Self, ApiError> {
        let name = TopicName::new(&topic.name).map_err(|why| ApiError::invalid("/name", "invalid-name", why.to_string()))?;
        Ok(Self { name, partitions: topic.partitions, replication_factor: topic.replication_factor, config: topic.config })
    }
}

impl EnsureTopic {
    /// The topic of that name.
    pub(crate) fn named(self, name: TopicName) -> NewTopic {
        NewTopic { name, partitions: self.partitions, replication_factor: self.replication_factor, config: self.config }
    }
}

impl From<AlterTopic> for TopicChange {
    fn from(change: AlterTopic) -> Self {
        Self { partitions: change.partitions, config: change.config }
    }
}

/// A topic, its partitions and all its configs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "name": "flights", "topic_id": "0199f0a8-5b1e-7c3d-8f2a-1b2c3d4e5f60",
    "partitions": [{"partition": 0, "leader": 1, "leader_epoch": 0, "replicas": [1], "in_sync_replicas": [1],
        "earliest_offset": 0, "latest_offset": 336_776, "size_bytes": 104_857_600}],
    "replication_factor": 1, "config": {"retention.ms": {"value": "604800000", "source": "topic"}}, "internal": false
}))]
pub(crate) struct TopicDetail {
    /// Its name.
    name: String,
    /// Its identity: a topic that is deleted and made again is another one.
    topic_id: uuid::Uuid,
    /// Its partitions, by number.
    partitions: Vec<PartitionDetail>,
    /// Replicas of each partition.
    replication_factor: u16,
    /// All configs, by name.
    config: BTreeMap<String, ConfigValue>,
    /// Whether the product itself owns it.
    internal: bool,
}

/// A partition of a topic.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"partition": 0, "leader": 1, "leader_epoch": 0, "replicas": [1], "in_sync_replicas": [1],
    "earliest_offset": 0, "latest_offset": 336_776, "size_bytes": 104_857_600}))]
pub(crate) struct PartitionDetail {
    /// Its number.
    partition: u32,
    /// The node that takes writes; absent while there is none.
    #[schema(nullable = false, value_type = Option<u32>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<u64>,
    /// Version of the leadership.
    leader_epoch: i32,
    /// The nodes that keep it, in order of preference.
    #[schema(value_type = Vec<u32>)]
    replicas: Vec<u64>,
    /// Those of them that have everything that counts.
    #[schema(value_type = Vec<u32>)]
    in_sync_replicas: Vec<u64>,
    /// The first offset kept; absent while its leader has not opened it.
    #[schema(nullable = false, maximum = 9_007_199_254_740_991_i64)]
    #[serde(skip_serializing_if = "Option::is_none")]
    earliest_offset: Option<u64>,
    /// The next offset to be readable; absent while its leader has not opened it.
    #[schema(nullable = false, maximum = 9_007_199_254_740_991_i64)]
    #[serde(skip_serializing_if = "Option::is_none")]
    latest_offset: Option<u64>,
    /// Bytes of its segments; absent while its leader has not opened it.
    #[schema(nullable = false, maximum = 9_007_199_254_740_991_i64)]
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
}

/// A config and where it comes from.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"value": "604800000", "source": "topic"}))]
pub(crate) struct ConfigValue {
    /// Its value, as written.
    value: String,
    /// `topic`: set on the topic; `default`: not set.
    #[schema(value_type = String)]
    source: &'static str,
}

impl From<&TopicDescription> for TopicDetail {
    fn from(description: &TopicDescription) -> Self {
        let topic = &description.topic;
        let numbers = |place: usize| description.partitions.get(place).copied();
        let partitions = topic.partitions.iter().enumerate().map(|(place, state)| PartitionDetail {
            partition: u32::try_from(place).unwrap_or(u32::MAX),
            leader: state.leader.map(|node| node.get()),
            leader_epoch: state.leader_epoch.get(),
            replicas: state.replicas.iter().map(|node| node.get()).collect(),
            in_sync_replicas: state.in_sync.iter().map(|node| node.get()).collect(),
            earliest_offset: numbers(place).and_then(|numbers| numbers.earliest).map(|offset| offset.get()),
            latest_offset: numbers(place).and_then(|numbers| numbers.latest).map(|offset| offset.get()),
            size_bytes: numbers(place).and_then(|numbers| numbers.size_bytes),
        });
        Self {
            name: topic.name.to_string(),
            topic_id: topic.id.get(),
            partitions: partitions.collect(),
            replication_factor: topic.replication_factor,
            config: configs(topic),
            internal: topic.name.is_internal(),
        }
    }
}

/// Every config, set or not.
fn configs(topic: &Topic) -> BTreeMap<String, ConfigValue> {
    let one = |definition: &topic_config::Definition| {
        let value = match topic.overrides.get(definition.name) {
            Some(value) => ConfigValue { value: value.clone(), source: "topic" },
            None => ConfigValue { value: default_of(definition, topic), source: "default" },
        };
        (definition.name.to_owned(), value)
    };
    topic_config::DEFINITIONS.iter().map(one).collect()
}

fn default_of(definition: &topic_config::Definition, topic: &Topic) -> String {
    if definition.name == "min.insync.replicas" {
        return (topic.replication_factor / 2 + 1).to_string(); // The majority (D23), which no constant can say.
    }
    definition.default.to_owned()
}

/// Which topics to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(crate) struct ListTopicsQuery {
    /// Only topics whose names begin so.
    pub(crate) prefix: String,
    /// Topics at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub(crate) limit: u32,
    /// `next_page_token` of the page before.
    #[param(nullable = false)]
    pub(crate) page_token: Option<String>,
}

impl Default for ListTopicsQuery {
    fn default() -> Self {
        Self { prefix: String::new(), limit: 100, page_token: None }
    }
}

/// Topics, by name.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"items": [{"name": "flights", "partition_count": 4, "replication_factor": 1, "internal": false}]}))]
pub(crate) struct TopicPage {
    /// The topics of this page.
    pub(crate) items: Vec<TopicSummary>,
    /// Where the next page begins; absent on the last.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_page_token: Option<String>,
}

/// A topic in a list.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"name": "flights", "partition_count": 4, "replication_factor": 1, "internal": false}))]
pub(crate) struct TopicSummary {
    /// Its name.
    pub(crate) name: String,
    /// How many partitions it has.
    partition_count: u32,
    /// Replicas of each partition.
    replication_factor: u16,
    /// Whether the product itself owns it.
    internal: bool,
}

impl From<&Topic> for TopicSummary {
    fn from(topic: &Topic) -> Self {
        Self {
            name: topic.name.to_string(),
            partition_count: topic.partition_count(),
            replication_factor: topic.replication_factor,
            internal: topic.name.is_internal(),
        }
    }
}

/// The token of the page after `last`.
pub(crate) fn page_token(last: &str) -> String {
    URL_SAFE_NO_PAD.encode(last)
}

/// The last name of the page before.
///
/// # Errors
/// 400 `malformed-parameter` if it is no token of ours.
pub(crate) fn read_page_token(token: &str) -> Result<String, ApiError> {
    let name = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    name.ok_or_else(|| ApiError::malformed_parameter("page_token", "it is not a token of an earlier page"))
}

#[cfg(test)]
mod tests {
    use tidegate_types::ErrorCode;

    use super::*;
    use crate::extract::parse_json;

    /// A promise: requests mean what they say: a name that is none is named, null puts a config back, numbers are no config values.
    #[test]
    fn requests_are_read() {
        let new: CreateTopic = parse_json(br#"{"name":"a","config":{"retention.ms":"1"}}"#).unwrap();
        let new = NewTopic::try_from(new).unwrap();
        assert_eq!((new.name.as_str(), new.partitions, new.config["retention.ms"].as_str()), ("a", None, "1"));
        let bad: CreateTopic = parse_json(br#"{"name":"a/b"}"#).unwrap();
        let error = NewTopic::try_from(bad).unwrap_err();
        assert_eq!((error.code(), &error.extras()["errors"][0]["pointer"]), (ErrorCode::ValidationFailed, &"/name".into()));
        let change: AlterTopic = parse_json(br#"{"config":{"a":null,"b":"x"}}"#).unwrap();
        let change = TopicChange::from(change);
        assert_eq!((change.partitions, &change.config["a"], change.config["b"].as_deref()), (None, &None, Some("x")));
        for malformed in
            [&br#"{"name":"a","partitions":-1}"#[..], br#"{"name":"a","config":{"a":1}}"#, br#"{"name":"a","partitions":4294967296}"#]
        {
            assert_eq!(parse_json::<CreateTopic>(malformed).unwrap_err().code(), ErrorCode::MalformedBody);
        }
        assert_eq!(parse_json::<EnsureTopic>(br#"{"name":"a"}"#).unwrap_err().code(), ErrorCode::UnknownField);
    }

    /// A promise: a page token comes back as the name it was made of; anything else is refused.
    #[test]
    fn page_tokens_round_trip() {
        assert_eq!(read_page_token(&page_token("flights-2")).unwrap(), "flights-2");
        for wrong in ["=", "Zg==", "_w", "é"] {
            assert_eq!(read_page_token(wrong).unwrap_err().code(), ErrorCode::MalformedParameter, "{wrong}");
        }
    }
}
