//! Who leads which partition: learned from the topic's and the cluster's description, kept until it proves wrong or grows old.
//!
//! ```text
//!   leader known  ──> its own address ──(no connection, not-leader)──> learn again ──> the leader of now, or any server of the list
//!        │                  └──(no answer, broken, a gateway's error)──> the call fails, and before the next one is sent: learn again
//!   one node, or leader unknown ──────────────────────────────────────────────────> any server of the list
//! ```
//!
//! A cluster of one node is always reached by the address that the caller gave, whatever the node calls itself. Learning only reads: it asks one
//! server after the other until one answers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use reqwest::{Method, Url};
use tidegate_types::ErrorCode;
use tidegate_types::limits::BATCH_BYTES_DEFAULT;
use tokio::time::Instant as Deadline;

use crate::address::parse_server;
use crate::backoff::deadline;
use crate::call::{Answer, Call};
use crate::client::Client;
use crate::error::Error;
use crate::topics::{ClusterDescription, TopicDescription};

/// What was learned less long ago is not asked for again, whoever asks.
const LEARN_PAUSE: Duration = Duration::from_millis(200);
/// How long a server has to describe a topic while there is another one to ask; the last one has as long as any call.
const LEARN_TURN: Duration = Duration::from_secs(3);

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
    /// A leader has not answered: what is known may be over.
    is_doubtful: AtomicBool,
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
            nodes.extend(cluster.nodes.iter().filter_map(|node| Some((node.node_id, parse_server(&node.client_address).ok()?))));
        }
        let leaders = topic.partitions.iter().map(|partition| nodes.get(&partition.leader?).cloned()).collect();
        let limit = topic.config.get("max.message.bytes").and_then(|entry| entry.value.parse().ok());
        Self {
            name: Arc::clone(name),
            leaders,
            max_batch_bytes: limit.unwrap_or(BATCH_BYTES_DEFAULT),
            learned: now,
            is_doubtful: AtomicBool::new(false),
        }
    }
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
        self.learn_within(topic, seen, Duration::MAX).await
    }

    /// The same for somebody who has so much time, which the servers share.
    async fn learn_within(&self, topic: &str, seen: Option<&Arc<TopicRoute>>, time: Duration) -> Result<Arc<TopicRoute>, Error> {
        let end = deadline(time);
        let late = |_| Error::Timeout(time);
        tokio::time::timeout_at(end, self.learn_until(topic, seen, end)).await.map_err(late)?
    }

    async fn learn_until(&self, topic: &str, seen: Option<&Arc<TopicRoute>>, end: Deadline) -> Result<Arc<TopicRoute>, Error> {
        let _alone = self.routing().learning.lock().await;
        if let Some(known) = self.routing().known(topic)
            && (known.learned.elapsed() < LEARN_PAUSE || seen.is_none_or(|seen| seen.learned < known.learned))
        {
            return Ok(known);
        }
        let (described, cluster) = match self.ask_around(topic, end).await {
            Ok(learned) => learned,
            Err(error) => {
                if error.problem().and_then(|problem| problem.known_code()) == Some(ErrorCode::TopicNotFound) {
                    self.routing().forget(topic);
                }
                return Err(error);
            }
        };
        let is_numbered = (0_u32..).zip(&described.partitions).all(|(index, partition)| partition.partition == index);
        if described.partitions.is_empty() || !is_numbered {
            let reason = "a topic without partitions, or with some that are not numbered from 0 on";
            return Err(Error::Answer { call: format!("GET /v1/topics/{topic}"), reason: reason.to_owned() });
        }
        let name: Arc<str> = seen.map_or_else(|| topic.into(), |seen| Arc::clone(&seen.name));
        let route = Arc::new(TopicRoute::new(&name, &described, &cluster, Instant::now()));
        self.routing().keep(&route);
        Ok(route)
    }

    /// What a server that answers says of the topic and the cluster. A server that does not answer is left at once for the next one.
    async fn ask_around(&self, topic: &str, end: Deadline) -> Result<(TopicDescription, ClusterDescription), Error> {
        let mut others = self.server_count() - 1;
        loop {
            let turn = if others > 0 { LEARN_TURN.min(share(end, others)) } else { Duration::MAX };
            match self.ask(topic, turn).await {
                Err(error) if others > 0 && error.may_pass() => others -= 1,
                other => return other,
            }
        }
    }

    /// Both answers within `turn`.
    async fn ask(&self, topic: &str, turn: Duration) -> Result<(TopicDescription, ClusterDescription), Error> {
        let limited = |call: Call| {
            let limit = self.limit_of(&call).min(turn / 2);
            call.within(limit)
        };
        let described = self.send(&limited(Call::new(Method::GET, ["topics", topic]))).await?.json()?;
        let cluster = self.send(&limited(Call::new(Method::GET, ["cluster"]))).await?.json()?;
        Ok((described, cluster))
    }

    /// Sends `call` to the partition's leader if that is known to be somebody in particular, else to any server.
    ///
    /// If the leader cannot be reached, or leads no more, nothing was done: the call goes out once more, to the leader of now. If it did not answer, the
    /// call fails, and the next one looks first who leads. All of it takes no longer than the call may.
    pub(crate) async fn send_to_leader(&self, topic: &str, partition: u32, call: &Call) -> Result<Answer, Error> {
        let limit = self.limit_of(call);
        let end = deadline(limit);
        let Some(mut route) = self.routing().known(topic) else { return self.send(call).await };
        if route.is_doubtful.load(Ordering::Relaxed)
            && let Ok(fresh) = self.learn_within(topic, Some(&route), limit / 2).await
        {
            route = fresh;
        }
        let leader = route.leader(partition);
        let first = self.send_until(end, leader, call).await;
        let error = match first {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        match after(&error, leader.is_some()) {
            Next::GiveUp => return Err(error),
            Next::Doubt => {
                route.is_doubtful.store(true, Ordering::Relaxed);
                return Err(error);
            }
            Next::LookAgain => {}
        }
        // If nothing can be learned, the first error says more.
        let Ok(fresh) = self.learn_within(topic, Some(&route), end - Deadline::now()).await else { return Err(error) };
        let Some(to) = second(&error, leader, fresh.leader(partition)) else { return Err(error) };
        self.send_until(end, to, call).await
    }

    async fn send_until(&self, end: Deadline, server: Option<&Url>, call: &Call) -> Result<Answer, Error> {
        tokio::time::timeout_at(end, self.send_at(server, call)).await.unwrap_or_else(|_| {
            self.was_late(server);
            Err(Error::Timeout(self.limit_of(call)))
        })
    }
}

/// What each of so many servers, and the one that is asked now, may take of the time that is left.
fn share(end: Deadline, others: usize) -> Duration {
    (end - Deadline::now()) / u32::try_from(others + 1).unwrap_or(u32::MAX)
}

/// What to do after a call has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// It is not about who leads.
    GiveUp,
    /// It may have done something, so that it is not repeated; but who leads is to be looked up before the next call.
    Doubt,
    /// It has done nothing and belongs to another node.
    LookAgain,
}

fn after(error: &Error, had_leader: bool) -> Next {
    match error {
        Error::Connect { .. } if had_leader => Next::LookAgain,
        Error::Problem(problem) if problem.status == Some(421) || problem.known_code() == Some(ErrorCode::NotLeader) => Next::LookAgain,
        // One that says that it has too much to do is there, and leads.
        Error::Problem(problem) if problem.known_code() == Some(ErrorCode::Overloaded) => Next::GiveUp,
        Error::Problem(problem) if had_leader && matches!(problem.status, Some(502..=504)) => Next::Doubt,
        Error::Timeout(_) | Error::Broken(_) if had_leader => Next::Doubt,
        Error::Connect { .. }
        | Error::Problem(_)
        | Error::Timeout(_)
        | Error::Broken(_)
        | Error::Address { .. }
        | Error::Input(_)
        | Error::Answer { .. } => Next::GiveUp,
    }
}

/// Where a call goes that belongs to another node, now that it is known who leads: to that one; or, if it is still the one that could not be reached, to any
/// server. A leader that says it is none is not asked again at once.
fn second<'u>(error: &Error, before: Option<&'u Url>, now: Option<&'u Url>) -> Option<Option<&'u Url>> {
    match (before == now, error) {
        (false, _) => Some(now),
        (true, Error::Problem(_)) => None,
        (true, _) => Some(None),
    }
}

#[cfg(test)]
impl TopicRoute {
    /// A topic of so many partitions, led by anybody.
    pub(crate) fn made_up(name: &str, partitions: usize) -> Self {
        Self {
            name: name.into(),
            leaders: vec![None; partitions],
            max_batch_bytes: BATCH_BYTES_DEFAULT,
            learned: Instant::now(),
            is_doubtful: AtomicBool::new(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::Problem;

    fn problem(status: u16, code: &str) -> Error {
        Error::Problem(Box::new(serde_json::from_value::<Problem>(json!({"status": status, "code": code})).unwrap()))
    }

    fn described(leaders: &[Option<u64>], config: &serde_json::Value) -> TopicDescription {
        let partition = |(index, leader): (usize, &Option<u64>)| {
            let mut partition = json!({"partition": index, "replicas": [1], "in_sync_replicas": [1]});
            if let Some(leader) = leader {
                partition["leader"] = (*leader).into();
            }
            partition
        };
        let partitions: Vec<_> = leaders.iter().enumerate().map(partition).collect();
        let topic =
            json!({"name": "t", "topic_id": "x", "partitions": partitions, "replication_factor": 1, "config": config, "internal": false});
        serde_json::from_value(topic).unwrap()
    }

    fn cluster(nodes: &[(u64, &str)]) -> ClusterDescription {
        let nodes: Vec<_> = nodes.iter().map(|(id, address)| json!({"node_id": id, "client_address": address})).collect();
        let cluster = json!({"cluster_id": "c", "metadata_version": 1, "nodes": nodes, "voters": [1], "offline_partitions": 0,
            "under_replicated_partitions": 0});
        serde_json::from_value(cluster).unwrap()
    }

    /// A promise: each partition's calls go to its leader's own address if that is known and there is more than one node; else to any server.
    #[test]
    fn leaders_are_found() {
        let nodes = [(1, "10.0.0.1:80"), (2, "http://10.0.0.2:8080"), (3, "no address"), (4, "https://x")];
        let leaders = [Some(1), Some(2), Some(3), Some(4), Some(9), None];
        let route = TopicRoute::new(&"t".into(), &described(&leaders, &json!({})), &cluster(&nodes), Instant::now());
        let found: Vec<_> = (0..7).map(|partition| route.leader(partition).map(Url::as_str)).collect();
        assert_eq!(found, [Some("http://10.0.0.1/"), Some("http://10.0.0.2:8080/"), None, None, None, None, None]);
        assert_eq!((route.partitions(), route.max_batch_bytes), (6, BATCH_BYTES_DEFAULT));
        let small = json!({"max.message.bytes": {"value": "5000", "source": "topic"}});
        let alone = TopicRoute::new(&"t".into(), &described(&leaders, &small), &cluster(&nodes[..1]), Instant::now());
        assert_eq!((alone.leader(0), alone.max_batch_bytes), (None, 5_000));
        let odd = json!({"max.message.bytes": {"value": "many", "source": "topic"}});
        let odd = TopicRoute::new(&"t".into(), &described(&leaders, &odd), &cluster(&[]), Instant::now());
        assert_eq!(odd.max_batch_bytes, BATCH_BYTES_DEFAULT);
    }

    /// A promise: a call is repeated elsewhere only if it has certainly done nothing; a leader that is silent is not believed to lead.
    #[test]
    fn failures_say_where_to_go() {
        let connect = || Error::Connect { addresses: String::new(), reason: String::new() };
        for (error, with_leader, without) in [
            (connect(), Next::LookAgain, Next::GiveUp),
            (problem(421, "not-leader"), Next::LookAgain, Next::LookAgain),
            (problem(421, Problem::FOREIGN), Next::LookAgain, Next::LookAgain),
            (Error::Timeout(Duration::ZERO), Next::Doubt, Next::GiveUp),
            (Error::Broken(String::new()), Next::Doubt, Next::GiveUp),
            (problem(502, Problem::FOREIGN), Next::Doubt, Next::GiveUp),
            (problem(503, "draining"), Next::Doubt, Next::GiveUp),
            (problem(503, "overloaded"), Next::GiveUp, Next::GiveUp),
            (problem(504, Problem::FOREIGN), Next::Doubt, Next::GiveUp),
            (problem(404, "topic-not-found"), Next::GiveUp, Next::GiveUp),
            (problem(500, "internal-error"), Next::GiveUp, Next::GiveUp),
            (Error::Input(String::new()), Next::GiveUp, Next::GiveUp),
            (Error::Answer { call: String::new(), reason: String::new() }, Next::GiveUp, Next::GiveUp),
        ] {
            assert_eq!((after(&error, true), after(&error, false)), (with_leader, without), "{error:?}");
            let is_certain =
                error.side_effects() == tidegate_types::SideEffects::None || matches!(&error, Error::Problem(p) if p.status == Some(421));
            assert!(after(&error, true) != Next::LookAgain || is_certain, "{error:?}");
        }
    }

    /// A promise: the second way leads to whoever leads now; past one that cannot be reached; and not back to one that has said no.
    #[test]
    fn second_ways() {
        let (a, b) = (parse_server("a:1").unwrap(), parse_server("b:1").unwrap());
        let (a, b) = (Some(&a), Some(&b));
        let connect = Error::Connect { addresses: String::new(), reason: String::new() };
        let no = problem(421, "not-leader");
        for (error, before, now, wanted) in [
            (&connect, a, b, Some(b)),
            (&connect, a, None, Some(None)),
            (&connect, a, a, Some(None)),
            (&no, a, b, Some(b)),
            (&no, None, a, Some(a)),
            (&no, a, None, Some(None)),
            (&no, a, a, None),
            (&no, None, None, None),
        ] {
            assert_eq!(second(error, before, now), wanted, "{error:?}, {before:?}, {now:?}");
        }
    }
}
