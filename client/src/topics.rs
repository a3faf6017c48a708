//! Topics: create, ensure, list, describe, alter, delete, trim; and the cluster at a glance.

use std::collections::BTreeMap;

use reqwest::Method;
use serde::{Deserialize, Serialize};

use crate::call::Call;
use crate::client::Client;
use crate::error::Error;

/// Topics per page of a listing: the most that a server gives.
const PAGE: u32 = 1000;

/// What a topic is to be; what is left out is the cluster's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NewTopic {
    /// How many partitions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<u32>,
    /// Replicas of each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replication_factor: Option<u16>,
    /// Configs set on the topic.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
}

/// A change of a topic; what is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TopicChange {
    /// The new number of partitions; it can only grow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<u32>,
    /// Configs to set, or with `None` to put back to their default.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, Option<String>>,
}

/// A topic in a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicSummary {
    /// Its name.
    pub name: String,
    /// Its partitions.
    pub partition_count: u32,
    /// Replicas of each.
    pub replication_factor: u16,
    /// Whether it is the cluster's own.
    pub internal: bool,
}

#[derive(Debug, Deserialize)]
struct Page {
    items: Vec<TopicSummary>,
    next_page_token: Option<String>,
}

/// A topic and its partitions' numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub topic_id: String,
    /// By index.
    pub partitions: Vec<PartitionDescription>,
    /// Replicas of each partition.
    pub replication_factor: u16,
    /// Every config, with where its value comes from.
    pub config: BTreeMap<String, ConfigEntry>,
    /// Whether it is the cluster's own.
    pub internal: bool,
}

/// A partition's leader and numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionDescription {
    /// Its index.
    pub partition: u32,
    /// Who takes writes, if anybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<u64>,
    /// Version of the leadership.
    #[serde(default)]
    pub leader_epoch: i32,
    /// The nodes that keep it.
    pub replicas: Vec<u64>,
    /// Those of them that have everything that counts.
    pub in_sync_replicas: Vec<u64>,
    /// The first offset kept, if its leader has it open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub earliest_offset: Option<u64>,
    /// The high watermark, if its leader has it open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_offset: Option<u64>,
    /// Bytes of its segments, if its leader has it open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
}

/// One config of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigEntry {
    /// As written.
    pub value: String,
    /// Who set it: `topic`, `cluster` or `default`.
    pub source: String,
}

/// The cluster at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterDescription {
    /// Its identity.
    pub cluster_id: String,
    /// Index of the metadata that this was made from.
    pub metadata_version: u64,
    /// Leader of the metadata quorum, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller: Option<u64>,
    /// Its nodes.
    pub nodes: Vec<NodeDescription>,
    /// Voters of the metadata quorum.
    pub voters: Vec<u64>,
    /// Partitions without a leader.
    pub offline_partitions: u64,
    /// Partitions with fewer in-sync replicas than replicas.
    pub under_replicated_partitions: u64,
}

/// A node as the cluster sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeDescription {
    /// Its id.
    pub node_id: u64,
    /// A word for how it is.
    #[serde(default)]
    pub state: String,
    /// What it does.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Where clients reach it.
    pub client_address: String,
    /// Its rack, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
}

impl Client {
    /// Makes a topic.
    ///
    /// # Errors
    /// A problem `topic-already-exists`, `validation-failed` or `unknown-config`; else as any call.
    pub async fn create_topic(&self, name: &str, topic: &NewTopic) -> Result<TopicDescription, Error> {
        #[derive(Serialize)]
        struct Named<'a> {
            name: &'a str,
            #[serde(flatten)]
            topic: &'a NewTopic,
        }
        let call = Call::new(Method::POST, ["topics"]).json(&Named { name, topic })?;
        self.send(&call).await?.json()
    }

    /// Makes a topic unless it exists as asked for; `true` if it was made now.
    ///
    /// # Errors
    /// A problem `topic-differs`; else as [`Client::create_topic`].
    pub async fn ensure_topic(&self, name: &str, topic: &NewTopic) -> Result<(TopicDescription, bool), Error> {
        let answer = self.send(&Call::new(Method::PUT, ["topics", name]).json(topic)?).await?;
        Ok((answer.json()?, answer.status == 201))
    }

    /// All topics whose names begin with `prefix`, by name.
    ///
    /// # Errors
    /// As any call.
    pub async fn list_topics(&self, prefix: &str) -> Result<Vec<TopicSummary>, Error> {
        let mut topics = Vec::new();
        let mut token = None;
        loop {
            let call = Call::new(Method::GET, ["topics"]).query("limit", &PAGE);
            let call = call.query_if("prefix", Some(prefix).filter(|p| !p.is_empty())).query_if("page_token", token.as_ref());
            let page: Page = self.send(&call).await?.json()?;
            topics.extend(page.items);
            match page.next_page_token {
                Some(next) if token.as_ref() != Some(&next) => token = Some(next),
                _ => return Ok(topics),
            }
        }
    }

    /// A topic with its partitions' numbers.
    ///
    /// # Errors
    /// A problem `topic-not-found`; else as any call.
    pub async fn describe_topic(&self, name: &str) -> Result<TopicDescription, Error> {
        self.send(&Call::new(Method::GET, ["topics", name])).await?.json()
    }

    /// Changes a topic.
    ///
    /// # Errors
    /// A problem `topic-not-found`, `validation-failed` or `unknown-config`; else as any call.
    pub async fn alter_topic(&self, name: &str, change: &TopicChange) -> Result<TopicDescription, Error> {
        self.send(&Call::new(Method::PATCH, ["topics", name]).json(change)?).await?.json()
    }

    /// Deletes a topic and its records.
    ///
    /// # Errors
    /// A problem `topic-not-found`; else as any call.
    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        self.send(&Call::new(Method::DELETE, ["topics", name])).await.map(|_| ())
    }

    /// Deletes a partition's records before an offset, for ever; gives the earliest offset from now on, which is later than asked for if it
    /// was so already. Safe to repeat.
    ///
    /// # Errors
    /// A problem `topic-not-found`, `partition-not-found`, or `offset-out-of-range` beyond the high watermark; else as any call.
    pub async fn trim(&self, topic: &str, partition: u32, before_offset: u64) -> Result<u64, Error> {
        #[derive(Serialize)]
        struct Before {
            before_offset: u64,
        }
        #[derive(Deserialize)]
        struct Trimmed {
            earliest_offset: u64,
        }
        let partition = partition.to_string();
        let call = Call::new(Method::POST, ["topics", topic, "partitions", &partition, "trim"]).json(&Before { before_offset })?;
        let trimmed: Trimmed = self.send(&call).await?.json()?;
        Ok(trimmed.earliest_offset)
    }

    /// The cluster at a glance.
    ///
    /// # Errors
    /// As any call.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, Error> {
        self.send(&Call::new(Method::GET, ["cluster"])).await?.json()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: what is left out of a request is absent, and never sent as null.
    #[test]
    fn absent_is_absent() {
        assert_eq!(serde_json::to_string(&NewTopic::default()).unwrap(), "{}");
        let change = TopicChange { partitions: None, config: BTreeMap::from([("retention.ms".to_owned(), None)]) };
        assert_eq!(serde_json::to_string(&change).unwrap(), r#"{"config":{"retention.ms":null}}"#);
    }
}
