//! Counts and times requests by operation. The labels are few: operations are those of the contract, and what has none is `unmatched`.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use metrics::{Counter, Histogram};

const UNMATCHED: &str = "unmatched";
const UNDOCUMENTED: &str = "docs";

/// The statuses that are counted apart; any other is counted as `other`.
const STATUSES: [u16; 29] = [
    200, 201, 202, 204, 304, 308, 400, 401, 403, 404, 405, 406, 408, 409, 412, 413, 414, 415, 416, 421, 422, 429, 431, 500, 501, 503, 504,
    507, 101,
];

/// Knows all operations.
#[derive(Debug)]
pub(super) struct Observer {
    /// By path as routed, then by method.
    operations: HashMap<String, Vec<(Method, Observed)>>,
    unmatched: Observed,
    undocumented: Observed,
}

impl Observer {
    pub(super) fn new(document: &utoipa::openapi::OpenApi) -> Self {
        metrics::describe_counter!("tidegate_requests_total", "Requests answered, by operation and status");
        metrics::describe_histogram!(
            "tidegate_request_seconds",
            metrics::Unit::Seconds,
            "Time from a request's head to its answer's, by operation"
        );
        let mut operations: HashMap<String, Vec<(Method, Observed)>> = HashMap::new();
        for (method, path, operation) in crate::openapi::operations(document) {
            let name = operation.operation_id.clone().unwrap_or_else(|| UNDOCUMENTED.to_owned());
            let method = Method::from_bytes(method.as_bytes()).unwrap_or(Method::GET);
            operations.entry(path.to_owned()).or_default().push((method, Observed::new(name)));
        }
        Self { operations, unmatched: Observed::new(UNMATCHED.to_owned()), undocumented: Observed::new(UNDOCUMENTED.to_owned()) }
    }

    /// The operation of a request that was routed to `path`.
    pub(super) fn operation(&self, method: &Method, path: Option<&str>) -> Observed {
        let Some(path) = path else {
            return self.unmatched.clone();
        };
        let Some(operations) = self.operations.get(path) else {
            return self.undocumented.clone();
        };
        let method = if method == Method::HEAD { &Method::GET } else { method };
        operations.iter().find(|(known, _)| known == method).map_or(&self.unmatched, |(_, observed)| observed).clone()
    }
}

/// One operation's numbers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Observed {
    inner: Arc<Inner>,
}

struct Inner {
    api: String,
    // Looked up at first use, when the recorder is there, and kept: looking up costs more than counting.
    seconds: OnceLock<Histogram>,
    counters: [OnceLock<Counter>; STATUSES.len() + 1],
}

impl Observed {
    fn new(api: String) -> Self {
        Self { inner: Arc::new(Inner { api, seconds: OnceLock::new(), counters: [const { OnceLock::new() }; STATUSES.len() + 1] }) }
    }

    /// The operation's name.
    pub(super) fn api(&self) -> &str {
        &self.inner.api
    }

    /// Counts one answer.
    pub(super) fn count(&self, status: StatusCode, elapsed: Duration) {
        let Inner { api, seconds, counters } = self.inner.as_ref();
        seconds.get_or_init(|| metrics::histogram!("tidegate_request_seconds", "api" => api.clone())).record(elapsed.as_secs_f64());
        let known = STATUSES.iter().position(|known| *known == status.as_u16());
        let code = || known.map_or("other".to_owned(), |at| STATUSES[at].to_string());
        let counter = &counters[known.unwrap_or(STATUSES.len())];
        counter.get_or_init(|| metrics::counter!("tidegate_requests_total", "api" => api.clone(), "code" => code())).increment(1);
    }
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.api)
    }
}
