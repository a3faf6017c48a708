//! What a verb works with: which server, how long it may take, where results go, and a runtime that Ctrl-C ends.

use std::ffi::OsString;
use std::future::Future;
use std::time::Duration;

use tidegate_client::{Client, Error};

use super::output::{Format, Output};
use super::{Failure, context::Contexts};

/// Where a node listens if nobody says otherwise.
const SERVER_DEFAULT: &str = "http://127.0.0.1:8080";
/// Who says so then.
const DEFAULT: &str = "default";

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
        let builder = Client::builder(&self.server()?.url);
        let builder = match self.timeout {
            Some(timeout) => builder.timeout(timeout),
            None => builder,
        };
        Ok(builder.build()?)
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
        let outcome = runtime.block_on(work);
        // A look-up of a name may still be under way on a thread; nobody needs what it finds.
        runtime.shutdown_background();
        outcome.map_err(|failure| self.advise(failure))
    }

    /// Nobody there: says who chose this address, and what to do.
    fn advise(&self, failure: Failure) -> Failure {
        match (failure, self.server()) {
            (Failure::Client(error @ Error::Connect { .. }), Ok(server)) => {
                let advice = if server.origin == DEFAULT {
                    "start a node with `tidegate serve`, or name one: --server URL, TIDEGATE_SERVER, or `tidegate context add`".to_owned()
                } else {
                    format!("that address comes from {}", server.origin)
                };
                Failure::Advised(error, advice)
            }
            (failure, _) => failure,
        }
    }
}
