//! Topics: made, changed, deleted through the quorum; their rules are checked here, before anything is proposed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_types::{NodeId, TopicId, TopicName, limits, topic_config};
use uuid::Uuid;

use super::{Broker, EnsureOutcome, NewTopic, PartitionDescription, TopicChange, TopicDescription};
use crate::error::{Difference, Error, Violation};
use crate::metadata::command::{Command, Refusal};
use crate::metadata::image::{MetadataImage, Topic};

impl Broker {
    /// Makes a topic; when it returns, the topic takes records.
    ///
    /// # Errors
    /// [`Error::TopicExists`], [`Error::Invalid`], [`Error::UnknownConfig`], or the quorum's.
    pub async fn create_topic(&self, new: NewTopic) -> Result<Arc<Topic>, Error> {
        if self.is_draining() {
            return Err(Error::Draining);
        }
        let image = self.metadata().image;
        let partitions = new.partitions.unwrap_or(self.inner.config.default_partitions);
        let replication_factor = new.replication_factor.unwrap_or_else(|| default_replication_factor(&image));
        check_new(&new, partitions, replication_factor, &image)?;
        if image.topic(new.name.as_str()).is_some() {
            return Err(Error::TopicExists(new.name));
        }
        let command = Command::CreateTopic {
            id: TopicId::new(Uuid::new_v4()),
            name: new.name.clone(),
            created_at: self.now(),
            assignments: assign(&image, 0..partitions, replication_factor),
            replication_factor,
            overrides: new.config,
        };
        match self.propose(command).await? {
            Ok(version) => {
                self.inner.partitions.opened(version).await;
                let topic = self.topic(new.name.as_str())?;
                match self.inner.partitions.first_failure(&topic) {
                    None => Ok(topic),
                    // A topic that could not take records is none: no room on the disk, or no file handles left.
                    Some(error) => self.take_back(&topic, error).await,
                }
            }
            Err(Refusal::TopicExists) => Err(Error::TopicExists(new.name)),
            Err(refusal) => Err(Error::Internal(format!("the topic was not made: {refusal}"))),
        }
    }

    async fn take_back(&self, topic: &Topic, error: Error) -> Result<Arc<Topic>, Error> {
        if let Ok(version) = self.propose(Command::DeleteTopic { id: topic.id }).await? {
            self.inner.partitions.opened(version).await;
        }
        Err(error)
    }

    /// Makes a topic unless it exists as asked for. Only the fields that are given are compared.
    ///
    /// # Errors
    /// [`Error::TopicDiffers`], else as [`Broker::create_topic`].
    pub async fn ensure_topic(&self, new: NewTopic) -> Result<EnsureOutcome, Error> {
        let name = new.name.clone();
        let existing = match self.topic(name.as_str()) {
            Ok(topic) => topic,
            Err(_) => match self.create_topic(new.clone()).await {
                Ok(topic) => return Ok(EnsureOutcome::Created(topic)),
                // Somebody else was faster.
                Err(Error::TopicExists(_)) => self.topic(name.as_str())?,
                Err(error) => return Err(error),
            },
        };
        for (config, value) in &new.config {
            check_config(config, value)?;
        }
        let differences = differences(&new, &existing);
        if differences.is_empty() { Ok(EnsureOutcome::Unchanged(existing)) } else { Err(Error::TopicDiffers { topic: name, differences }) }
    }

    /// Changes a topic.
    ///
    /// # Errors
    /// [`Error::TopicNotFound`], [`Error::Invalid`], [`Error::UnknownConfig`], or the quorum's.
    pub async fn alter_topic(&self, name: &str, change: TopicChange) -> Result<Arc<Topic>, Error> {
        let topic = self.topic(name)?;
        let partition_count = topic.partition_count();
        let added = match change.partitions {
            None => 0..0,
            Some(wanted) if wanted < partition_count => {
                let detail = format!("the topic has {partition_count} partitions; their number can only grow");
                return Err(Error::Invalid(vec![violation("/partitions", "partitions-decreased", detail)]));
            }
            Some(wanted) => {
                check_partitions(wanted)?;
                partition_count..wanted
            }
        };
        let (mut set, mut unset) = (BTreeMap::new(), BTreeSet::new());
        for (config, value) in change.config {
            match value {
                Some(value) => {
                    check_config(&config, &value)?;
                    set.insert(config, value);
                }
                None if topic_config::definition(&config).is_none() => return Err(Error::UnknownConfig(config)),
                None => {
                    unset.insert(config);
                }
            }
        }
        let added = assign(&self.metadata().image, added, topic.replication_factor);
        match self.propose(Command::AlterTopic { id: topic.id, partition_count, added, set, unset }).await? {
            Ok(version) => {
                self.inner.partitions.opened(version).await;
                self.topic(name)
            }
            Err(Refusal::TopicNotFound) => Err(Error::TopicNotFound(name.to_owned())),
            Err(Refusal::PartitionsChanged { actual }) => {
                let detail = format!("somebody else has changed the number of partitions to {actual}");
                Err(Error::Invalid(vec![violation("/partitions", "partitions-changed", detail)]))
            }
            Err(refusal) => Err(Error::Internal(format!("the topic was not changed: {refusal}"))),
        }
    }

    /// Deletes a topic and its records.
    ///
    /// # Errors
    /// [`Error::TopicNotFound`], or the quorum's.
    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        let topic = self.topic(name)?;
        match self.propose(Command::DeleteTopic { id: topic.id }).await? {
            Ok(version) => {
                self.inner.partitions.opened(version).await;
                Ok(())
            }
            Err(Refusal::TopicNotFound) => Err(Error::TopicNotFound(name.to_owned())),
            Err(refusal) => Err(Error::Internal(format!("the topic was not deleted: {refusal}"))),
        }
    }

    /// A topic with its partitions' numbers.
    ///
    /// # Errors
    /// [`Error::TopicNotFound`].
    pub fn describe_topic(&self, name: &str) -> Result<TopicDescription, Error> {
        let topic = self.topic(name)?;
        let indexes = (0..topic.partition_count()).map(tidegate_types::PartitionIndex::new);
        let partitions = indexes.map(|index| match self.partition(&topic, index) {
            Ok(partition) => PartitionDescription {
                earliest: Some(partition.reader().log_start()),
                latest: Some(partition.marks().high_watermark),
                size_bytes: Some(partition.reader().size_bytes()),
            },
            Err(_) => PartitionDescription { earliest: None, latest: None, size_bytes: None },
        });
        let partitions = partitions.collect();
        Ok(TopicDescription { topic, partitions })
    }
}

fn violation(pointer: &str, code: &'static str, detail: String) -> Violation {
    Violation { pointer: pointer.to_owned(), code, detail }
}

/// min(3, registered nodes).
fn default_replication_factor(image: &MetadataImage) -> u16 {
    u16::try_from(image.nodes.len()).unwrap_or(u16::MAX).clamp(1, 3)
}

fn check_partitions(partitions: u32) -> Result<(), Error> {
    if (1..=limits::PARTITIONS_PER_TOPIC_MAX).contains(&partitions) {
        return Ok(());
    }
    let detail = format!("a topic has 1 to {} partitions, not {partitions}", limits::PARTITIONS_PER_TOPIC_MAX);
    Err(Error::Invalid(vec![violation("/partitions", "out-of-range", detail)]))
}

fn check_config(name: &str, value: &str) -> Result<(), Error> {
    topic_config::check(name, value).map_err(|error| match error {
        topic_config::ConfigError::Unknown(name) => Error::UnknownConfig(name),
        invalid @ topic_config::ConfigError::Value { .. } => {
            Error::Invalid(vec![violation(&format!("/config/{}", pointer_escape(name)), "invalid-config-value", invalid.to_string())])
        }
    })
}

/// A name as a part of a JSON pointer (RFC 6901).
fn pointer_escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn check_new(new: &NewTopic, partitions: u32, replication_factor: u16, image: &MetadataImage) -> Result<(), Error> {
    check_name(&new.name)?;
    check_partitions(partitions)?;
    if replication_factor == 0 || usize::from(replication_factor) > image.nodes.len() {
        let detail = format!("the replication factor is 1 to {} (the registered nodes), not {replication_factor}", image.nodes.len());
        return Err(Error::Invalid(vec![violation("/replication_factor", "out-of-range", detail)]));
    }
    new.config.iter().try_for_each(|(name, value)| check_config(name, value))
}

fn check_name(name: &TopicName) -> Result<(), Error> {
    if name.is_internal() {
        let detail = "names that begin with '__' belong to the product itself".to_owned();
        return Err(Error::Invalid(vec![violation("/name", "reserved-name", detail)]));
    }
    Ok(())
}

/// Replicas for some partitions: round the registered nodes, so that leaders and replicas spread.
fn assign(image: &MetadataImage, partitions: std::ops::Range<u32>, replication_factor: u16) -> Vec<Vec<NodeId>> {
    let nodes: Vec<_> = image.nodes.keys().copied().collect();
    let replicas = |partition: u32| {
        let first = usize::try_from(partition).unwrap_or(0);
        (0..usize::from(replication_factor)).map(|i| nodes[(first + i) % nodes.len()]).collect()
    };
    partitions.map(replicas).collect()
}

fn differences(wanted: &NewTopic, topic: &Topic) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut compare = |pointer: String, wanted: String, actual: String| {
        if wanted != actual {
            differences.push(Difference { pointer, wanted, actual });
        }
    };
    if let Some(partitions) = wanted.partitions {
        compare("/partitions".to_owned(), partitions.to_string(), topic.partition_count().to_string());
    }
    if let Some(replication_factor) = wanted.replication_factor {
        compare("/replication_factor".to_owned(), replication_factor.to_string(), topic.replication_factor.to_string());
    }
    for (name, value) in &wanted.config {
        let default = topic_config::definition(name).map_or("", |definition| definition.default);
        let actual = topic.overrides.get(name).map_or(default, String::as_str);
        compare(format!("/config/{}", pointer_escape(name)), value.clone(), actual.to_owned());
    }
    differences
}
