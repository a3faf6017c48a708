//! Who leads which partition: learned from the topic's and the cluster's description, kept until it proves wrong or grows old.
//!
//! ```text
//!   leader known  ──> its own address ──(no connection, not-leader)──> learn again ──> the leader of now, or any server of the list
//!   one node, or leader unknown ──────────────────────────────────────────────────> any server of the list
//! ```
//!
//! A cluster of one node is always reached by the address that the caller gave, whatever the node calls itself.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use reqwest::Url;
use tidegate_types::ErrorCode;
use tidegate_types::limits::BATCH_BYTES_DEFAULT;

use crate::client::{Answer, Call, Client, parse_server};
use crate::error::Error;
use crate::topics::{ClusterDescription, TopicDescription};

/// What was learned less long ago is not asked for again, whoever asks.
const LEARN_PAUSE: Duration = Duration::from_millis(200);

/// What a client knows of a topic.
#[derive(Debug)]
pub(crate) struct TopicRoute {
    pub(crate) name: Arc<str>,
    /// The leader's address by partition; `None` is any server.
    leaders: Vec<Option<Url>>,
    /// The topic's `max.message.bytes`.
    pub(crate) max_batch_bytes: usize,
    /// When this was learned.
    pub(crate) learned: Instant,
}

impl TopicRoute {
    /// How many partitions the topic has.
    pub(crate) fn partitions(&self) -> u32 {
        u32::try_from(self.leaders.len()).unwrap_or(u32::MAX)
    }

    fn leader(&self, partition: u32) -> Option<&Url> {
        self.leaders.get(partition as usize)?.as_ref()
    }

    fn new(name: &Arc<str>, topic: &TopicDescription, cluster: &ClusterDescription, now: Instant) -> Self {
        let mut nodes = HashMap::new();
        if cluster.nodes.len() > 1 {
            // A node without a usable address is reached by way of the others.
            nodes.extend(cluster.nodes.iter().filter_map(|node| Some((node.node_id, node_url(&node.client_address)?))));
        }
        let leaders = topic.partitions.iter().map(|partition| nodes.get(&partition.leader?).cloned()).collect();
        let limit = topic.config.get("max.message.bytes").and_then(|entry| entry.value.parse().ok());
        Self { name: Arc::clone(name), leaders, max_batch_bytes: limit.unwrap_or(BATCH_BYTES_DEFAULT), learned: now }
    }
}

/// A node calls itself `host:port`; a URL is understood too.
fn node_url(address: &str) -> Option<Url> {
    if address.contains("://") { parse_server(address).ok() } else { parse_server(&format!("http://{address}")).ok() }
}

/// What a client knows of all topics that it was asked for.
#[derive(Debug, Default)]
pub(crate) struct Routing {
    topics: RwLock<HashMap<Arc<str>, Arc<TopicRoute>>>,
    /// Held by whoever learns, so that the others wait for what that one learns instead of asking too.
    learning: tokio::sync::Mutex<()>,
}

impl Routing {
    pub(crate) fn known(&self, topic: &str) -> Option<Arc<TopicRoute>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).get(topic).cloned()
    }

    fn keep(&self, route: &Arc<TopicRoute>) {
        self.topics.write().unwrap_or_else(PoisonError::into_inner).insert(Arc::clone(&route.name), Arc::clone(route));
    }

    pub(crate) fn forget(&self, topic: &str) {
        self.topics.write().unwrap_or_else(PoisonError::into_inner).remove(topic);
    }
}

impl Client {
    /// What is known of the topic; asks if nothing is.
    pub(crate) async fn route(&self, topic: &str) -> Result<Arc<TopicRoute>, Error> {
        match self.routing().known(topic) {
            Some(route) => Ok(route),
            None => self.learn(topic, None).await,
        }
    }

    /// Learns the topic anew, unless somebody has since `seen` was.
    pub(crate) async fn learn(&self, topic: &str, seen: Option<&Arc<TopicRoute>>) -> Result<Arc<TopicRoute>, Error> {
        let _alone = self.routing().learning.lock().await;
        if let Some(known) = self.routing().known(topic)
            && (known.learned.elapsed() < LEARN_PAUSE || seen.is_none_or(|seen| seen.learned < known.learned))
        {
            return Ok(known);
        }
        let described = match self.describe_topic(topic).await {
            Ok(described) => described,
            Err(error) => {
                if error.problem().and_then(|problem| problem.known_code()) == Some(ErrorCode::TopicNotFound) {
                    self.routing().forget(topic);
                }
                return Err(error);
            }
        };
        if described.partitions.is_empty() {
            return Err(Error::Answer { call: format!("GET /v1/topics/{topic}"), reason: "a topic without partitions".to_owned() });
        }
        let cluster = self.describe_cluster().await?;
        let name: Arc<str> = seen.map_or_else(|| topic.into(), |seen| Arc::clone(&seen.name));
        let route = Arc::new(TopicRoute::new(&name, &described, &cluster, Instant::now()));
        self.routing().keep(&route);
        Ok(route)
    }

    /// Sends `call` to the partition's leader if that is known to be somebody in particular, else to any server.
    ///
    /// If the leader cannot be reached, or leads no more, nothing was done: the call goes out once more, to the leader of now. All of it takes no longer
    /// than the call may.
    pub(crate) async fn send_to_leader(&self, topic: &str, partition: u32, call: &Call) -> Result<Answer, Error> {
        let limit = self.limit_of(call);
        tokio::time::timeout(limit, self.send_or_reroute(topic, partition, call)).await.unwrap_or(Err(Error::Timeout(limit)))
    }

    async fn send_or_reroute(&self, topic: &str, partition: u32, call: &Call) -> Result<Answer, Error> {
        let Some(route) = self.routing().known(topic) else { return self.send(call).await };
        let leader = route.leader(partition);
        let error = match self.send_at(leader, call).await {
            Err(error) if is_elsewhere(&error, leader.is_some()) => error,
            other => return other,
        };
        // If nothing can be learned, the first error says more.
        let Ok(fresh) = self.learn(topic, Some(&route)).await else { return Err(error) };
        let is_unchanged = fresh.leader(partition) == leader;
        match (error, is_unchanged) {
            (error @ Error::Problem(_), true) => Err(error),
            (_, true) => self.send(call).await,
            (_, false) => self.send_at(fresh.leader(partition), call).await,
        }
    }
}

/// Whether the call has done nothing and belongs to another node.
fn is_elsewhere(error: &Error, had_leader: bool) -> bool {
    match error {
        Error::Connect { .. } => had_leader,
        Error::Problem(problem) => problem.status == Some(421) || problem.known_code() == Some(ErrorCode::NotLeader),
        Error::Address { .. } | Error::Input(_) | Error::Timeout(_) | Error::Broken(_) | Error::Answer { .. } => false,
    }
}

#[cfg(test)]
impl TopicRoute {
    /// A topic of so many partitions, led by anybody.
    pub(crate) fn made_up(name: &str, partitions: usize) -> Self {
        Self { name: name.into(), leaders: vec![None; partitions], max_batch_bytes: BATCH_BYTES_DEFAULT, learned: Instant::now() }
    }
}
