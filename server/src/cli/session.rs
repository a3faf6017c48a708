//! What a verb works with: which server, how long it may take, where results go, and a runtime that Ctrl-C ends.

use std::ffi::OsString;
use std::future::Future;
use std::time::Duration;

use tidegate_client::{Client, Error};

use super::failure::{UNKNOWN_CALL, is_foreign};
use super::output::{Format, Output};
use super::{Failure, context::Contexts};

/// Where a node listens if nobody says otherwise.
const SERVER_DEFAULT: &str = "http://127.0.0.1:8080";
/// Who says so then.
const DEFAULT: &str = "default";
/// How long a call may take that changes nothing and never waits for anything on purpose.
pub(super) const LOOKING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long somebody is left without a word.
const SILENCE: Duration = Duration::from_secs(3);
/// How long it may take to find out what was meant by a name that is none.
const GUESS_TIMEOUT: Duration = Duration::from_secs(1);

/// Something that was named, and what it was named by (a flag or a variable).
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) by: &'static str,
    pub(super) value: String,
}

impl Named {
    pub(super) fn by(by: &'static str, value: String) -> Self {
        Self { by, value }
    }
}

/// What was said about the server.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// Its URL.
    Server(Named),
    /// A context that knows its URL.
    Context(Named),
    /// Nothing.
    Unsaid,
}

/// What a verb works with.
#[derive(Debug)]
pub(super) struct Session {
    /// Where results and words go.
    pub(super) output: Output,
    target: Target,
    timeout: Option<Duration>,
}

/// A server's URL, and who says that it is this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) url: String,
    pub(super) origin: String,
}

impl Session {
    pub(super) fn new(output: Output, target: Target, timeout: Option<Duration>) -> Self {
        Self { output, target, timeout }
    }

    /// `--timeout`, if it was given.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// The server that is meant.
    pub(super) fn server(&self) -> Result<Server, Failure> {
        let server = |url: &str, origin: String| Server { url: url.to_owned(), origin };
        match &self.target {
            Target::Server(named) => Ok(server(&named.value, named.by.to_owned())),
            Target::Context(named) => {
                let contexts = Contexts::read()?;
                let url = contexts.server(&named.value, &format!(" ({})", named.by))?;
                Ok(server(url, format!("context {}, named by {}", named.value, named.by)))
            }
            Target::Unsaid => {
                let contexts = Contexts::read()?;
                let current = contexts.current().map(|(name, url)| server(url, format!("context {name}, which is the current")));
                Ok(current.unwrap_or_else(|| server(SERVER_DEFAULT, DEFAULT.to_owned())))
            }
        }
    }

    /// The server, if it was named by its URL.
    pub(super) fn named_server(&self) -> Option<String> {
        match &self.target {
            Target::Server(named) => Some(named.value.clone()),
            Target::Context(_) | Target::Unsaid => None,
        }
    }

    /// The session that an unfinished command line means, as far as it says; for a shell that completes it.
    pub(super) fn of_words(words: &[OsString], timeout: Duration) -> Self {
        let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
        let value = |flag: &str| {
            let after = words.windows(2).filter(|pair| pair[0] == flag).map(|pair| pair[1].to_owned());
            let attached = words.iter().filter_map(|word| word.strip_prefix(flag)?.strip_prefix('=').map(str::to_owned));
            after.chain(attached).next()
        };
        let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let target = if let Some(url) = value("--server") {
            Target::Server(Named::by("--server", url))
        } else if let Some(name) = value("--context") {
            Target::Context(Named::by("--context", name))
        } else if let Some(url) = variable("TIDEGATE_SERVER") {
            Target::Server(Named::by("TIDEGATE_SERVER", url))
        } else {
            variable("TIDEGATE_CONTEXT").map_or(Target::Unsaid, |name| Target::Context(Named::by("TIDEGATE_CONTEXT", name)))
        };
        Self::new(Output::new(Format::Name, true, false), target, Some(timeout))
    }

    /// A client of that server, which ends a call after `--timeout`.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        self.client_within(self.timeout)
    }

    /// The same for calls that only look: without `--timeout` they end after 10 s.
    pub(super) fn looking_client(&self) -> Result<Client, Failure> {
        self.client_within(self.timeout.or(Some(LOOKING_TIMEOUT)))
    }

    fn client_within(&self, timeout: Option<Duration>) -> Result<Client, Failure> {
        let builder = Client::builder(&self.server()?.url);
        let builder = match timeout {
            Some(timeout) => builder.timeout(timeout),
            None => builder,
        };
        Ok(builder.build()?)
    }

    /// Does `work`; says what it waits for if that takes long.
    pub(super) async fn watched<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        match tokio::time::timeout(SILENCE, &mut work).await {
            Ok(done) => done,
            Err(_) => {
                if let Ok(server) = self.server() {
                    self.output.note(&format!("still waiting for {}", server.url));
                }
                work.await
            }
        }
    }

    /// Runs a verb's work to its end, or until Ctrl-C: then it is dropped where it stands, and the exit code is 130.
    ///
    /// What has to finish something first (flush, say how far it came) uses [`Session::block_on_to_end`].
    pub(super) fn block_on<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        self.block_on_to_end(async {
            tokio::select! {
                outcome = work => outcome,
                _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
            }
        })
    }

    /// Runs a verb's work to its end; Ctrl-C is its own business.
    pub(super) fn block_on_to_end<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let outcome = runtime.block_on(async {
            match work.await {
                Ok(done) => Ok(done),
                Err(failure) => Err(self.advise(failure).await),
            }
        });
        // A look-up of a name may still be under way on a thread; nobody needs what it finds.
        runtime.shutdown_background();
        outcome
    }

    /// Says what to do about it, or who was asked and who says that it is this one.
    async fn advise(&self, failure: Failure) -> Failure {
        let failure = match failure {
            // What it is told with stays.
            Failure::Advised(error @ Error::Problem(_), advice) => match self.with_nearest_topic(Failure::Client(error)).await {
                Failure::Client(error) => return Failure::Advised(error, advice),
                other => return other,
            },
            other => other,
        };
        let (Failure::Client(error), Ok(server)) = (&failure, self.server()) else { return failure };
        let advice = match error {
            Error::Connect { .. } if server.origin == DEFAULT => {
                "start a node with `tidegate serve`, or name one: --server URL, TIDEGATE_SERVER, or `tidegate context add`".to_owned()
            }
            Error::Connect { .. } => format!("that address comes from {}", server.origin),
            Error::Timeout(_) => format!("asked was {} ({}); --timeout says how long a call may take", server.url, server.origin),
            Error::Problem(problem) if problem.code == UNKNOWN_CALL => match path_of(&server.url) {
                "" => "the node does not know this call: is it older than this command?".to_owned(),
                path => format!("the address {} ({}) has the path {path}: is that right?", server.url, server.origin),
            },
            Error::Problem(problem) if problem.code == "topic-not-found" => return self.with_nearest_topic(failure).await,
            error if is_foreign(error) => format!("is it a Tidegate node that listens at {}? ({})", server.url, server.origin),
            Error::Broken(_) => format!("asked was {} ({})", server.url, server.origin),
            _ => return failure,
        };
        match failure {
            Failure::Client(error) => Failure::Advised(error, advice),
            other => other,
        }
    }

    /// There is no such topic: names the nearest that there is, if the server says in time which there are.
    async fn with_nearest_topic(&self, failure: Failure) -> Failure {
        let Failure::Client(Error::Problem(mut problem)) = failure else { return failure };
        if problem.code != "topic-not-found" {
            return Failure::Client(Error::Problem(problem));
        }
        let names = async {
            let client = self.client_within(Some(GUESS_TIMEOUT)).ok()?;
            let topics = tokio::time::timeout(GUESS_TIMEOUT, client.list_topics("")).await.ok()?.ok()?;
            Some(topics.into_iter().map(|topic| topic.name).collect::<Vec<_>>())
        };
        if let Some(wrong) = problem.extras.get("topic").and_then(serde_json::Value::as_str).map(str::to_owned)
            && !problem.extras.contains_key("did_you_mean")
            && let Some(names) = names.await
            && let Some(near) = crate::config::nearest(&wrong, names.iter().map(String::as_str))
        {
            problem.extras.insert("did_you_mean".to_owned(), near.into());
        }
        Failure::Client(Error::Problem(problem))
    }
}

/// What follows the host in an address, without a slash at its end.
fn path_of(url: &str) -> &str {
    let after = url.split_once("://").map_or(url, |(_, after)| after);
    after.find('/').map_or("", |at| after[at..].trim_end_matches('/'))
}
