//! How a verb ended when it did not end well: the exit code, the sentence for people, the problem object for programs.

use serde_json::{Value, json};
use tidegate_client::Error;

use super::output::Look;
use super::record::screen::visible;

/// How a verb ended when it did not end well.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server, or the way to it, said no.
    Client(Error),
    /// As `Client`, with a sentence on what to do about it.
    Advised(Error, String),
    /// Something here said no; a sentence.
    Local(String),
    /// The arguments contradict each other, or what they are about; a sentence.
    Usage(String),
    /// What was named does not exist; a sentence.
    NotFound(String),
    /// It did not come about in time; a sentence.
    TooLate(String),
    /// Nothing was done, because it has to be confirmed; a sentence.
    Unconfirmed(String),
    /// All went well, and what was found is not as it should be. The result has said what.
    SaysNo,
    /// Ctrl-C.
    Interrupted,
    /// Another signal, by its number.
    Signalled(u8),
    /// Whoever reads the output has gone.
    OutputClosed,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

impl From<tidegate_storage::Error> for Failure {
    fn from(error: tidegate_storage::Error) -> Self {
        Self::Local(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe { Self::OutputClosed } else { Self::Local(format!("cannot write: {error}")) }
    }
}

/// The code of an answer that is not a Tidegate's: its status is about something else.
const FOREIGN: &str = "foreign-answer";
/// The code of a node that does not know a call at all: nothing that was named is missing.
pub(super) const UNKNOWN_CALL: &str = "route-not-found";
/// The code of a config that there is none of.
const UNKNOWN_CONFIG: &str = "unknown-config";

/// Whether it is no Tidegate node that has answered, as far as can be seen.
pub(super) fn is_foreign(error: &Error) -> bool {
    match error {
        Error::Answer { .. } => true,
        Error::Problem(problem) => problem.code == FOREIGN,
        // What the HTTP library says of bytes that are none.
        Error::Broken(reason) => reason.contains("invalid HTTP"),
        Error::Address { .. } | Error::Input(_) | Error::Connect { .. } | Error::Timeout(_) => false,
    }
}

impl Failure {
    /// What the process ends with.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::Local(_) | Self::Unconfirmed(_) => 1,
            Self::Usage(_) => 2,
            Self::NotFound(_) => 3,
            Self::TooLate(_) => 5,
            Self::SaysNo => 6,
            Self::Interrupted => 130,
            Self::Signalled(number) => 128 + number,
            Self::Client(error) | Self::Advised(error, _) => match error {
                Error::Answer { .. } => 1,
                Error::Address { .. } | Error::Input(_) => 2,
                Error::Broken(_) if is_foreign(error) => 1,
                Error::Connect { .. } | Error::Timeout(_) | Error::Broken(_) => 5,
                Error::Problem(problem) if problem.code == UNKNOWN_CONFIG => 3,
                Error::Problem(problem) => match problem.status {
                    Some(404) if ![FOREIGN, UNKNOWN_CALL].contains(&problem.code.as_str()) => 3,
                    Some(401 | 403) if problem.code != FOREIGN => 4,
                    Some(408 | 429 | 502 | 503 | 504) => 5,
                    _ => 1,
                },
            },
        }
    }

    /// For people; nothing where nothing needs to be said. `error` is how that word is written.
    pub(super) fn sentence(&self, error: &str) -> Option<String> {
        match self {
            Self::Client(cause) => Some(format!("{error} {}", client_sentence(cause))),
            Self::Advised(cause, advice) => Some(format!("{error} {}\n  {advice}", client_sentence(cause))),
            Self::Local(reason) | Self::Usage(reason) | Self::NotFound(reason) | Self::TooLate(reason) => Some(format!("{error} {reason}")),
            Self::Unconfirmed(reason) => Some(reason.clone()),
            Self::SaysNo | Self::Interrupted | Self::Signalled(_) | Self::OutputClosed => None,
        }
    }

    /// For programs.
    pub(super) fn problem(&self) -> Option<Value> {
        let local = |code: &str, title: &str, detail: &str| {
            Some(json!({"code": code, "title": title, "detail": detail, "retryable": false, "side_effects": "none"}))
        };
        match self {
            Self::Client(error) => serde_json::to_value(error.to_problem()).ok(),
            Self::Advised(error, advice) => {
                let mut problem = serde_json::to_value(error.to_problem()).ok()?;
                problem.as_object_mut()?.insert("advice".to_owned(), advice.as_str().into());
                Some(problem)
            }
            Self::Local(reason) => local("failed", "Failed", reason),
            Self::Usage(reason) => local("usage", "Wrong arguments", reason),
            Self::NotFound(reason) => local("not-found", "Not found", reason),
            Self::TooLate(reason) => local("too-late", "Not in time", reason),
            Self::Unconfirmed(reason) => local("not-confirmed", "Not confirmed", reason),
            Self::SaysNo | Self::Interrupted | Self::Signalled(_) | Self::OutputClosed => None,
        }
    }
}

/// What the node says may be anything, also what a terminal acts on.
fn safe(text: &str) -> String {
    visible(text.as_bytes())
}

fn client_sentence(error: &Error) -> String {
    // What is the caller's mistake is no news for whoever reads the node's log.
    let is_the_nodes = |problem: &&tidegate_client::Problem| problem.status.is_some_and(|status| status >= 500);
    let id = error.problem().filter(is_the_nodes).and_then(|problem| problem.request_id.as_ref());
    let id = id.map(|id| format!("\n  the node's log has it under request id {}", safe(id)));
    format!("{}{}{}{}", safe(&error.to_string()), about(error), details(error), id.unwrap_or_default())
}

/// Which topic and partition it is about, where the server's sentence leaves that to its fields.
fn about(error: &Error) -> String {
    let Some(problem) = error.problem() else { return String::new() };
    let topic = problem.extras.get("topic").and_then(Value::as_str).filter(|topic| !problem.detail.contains(topic)).map(safe);
    let partition = problem.extras.get("partition").and_then(Value::as_u64);
    match (topic, partition) {
        (Some(topic), Some(partition)) => format!(": {topic}, partition {partition}"),
        (Some(topic), None) => format!(": {topic}"),
        (None, _) => String::new(),
    }
}

/// The broken rules, one a line, and the differences, a table, that a problem lists.
fn details(error: &Error) -> String {
    let Some(problem) = error.problem() else { return String::new() };
    let mut text = String::new();
    for item in problem.extras.get("errors").and_then(Value::as_array).into_iter().flatten() {
        let field = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
        // Of a single rule the sentence has said it all.
        if field("detail") != problem.detail {
            text.push_str(&format!("\n  {}: {}", safe(field("pointer")), safe(field("detail"))));
        }
    }
    if let Some(differences) = problem.extras.get("differences").and_then(Value::as_array).filter(|list| !list.is_empty()) {
        let table = super::topic::differences(Look { wide: false, colour: false, width: None }, differences);
        table.lines().for_each(|line| text.push_str(&format!("\n  {line}")));
    }
    if let Some(near) = problem.extras.get("did_you_mean").and_then(Value::as_str) {
        text.push_str(&format!("\n  did you mean '{}'?", safe(near)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16, code: &str) -> Failure {
        let text = format!(r#"{{"status":{status},"code":"{code}"}}"#);
        Failure::Client(Error::Problem(Box::new(serde_json::from_str(&text).unwrap())))
    }

    /// A promise: a script can tell from the exit code alone what went wrong.
    #[test]
    fn exit_codes() {
        for (failure, code) in [
            (problem(404, "x"), 3),
            (problem(404, FOREIGN), 1),
            (problem(404, UNKNOWN_CALL), 1),
            (problem(422, UNKNOWN_CONFIG), 3),
            (Failure::Client(Error::Broken("connection closed".to_owned())), 5),
            (Failure::Client(Error::Broken("error: invalid HTTP version parsed".to_owned())), 1),
            (problem(403, "x"), 4),
            (problem(503, "x"), 5),
            (problem(504, FOREIGN), 5),
            (problem(409, "x"), 1),
            (problem(500, "x"), 1),
            (Failure::Local(String::new()), 1),
            (Failure::Usage(String::new()), 2),
            (Failure::NotFound(String::new()), 3),
            (Failure::TooLate(String::new()), 5),
            (Failure::SaysNo, 6),
            (Failure::Interrupted, 130),
            (Failure::Signalled(15), 143),
            (Failure::OutputClosed, 0),
            (Failure::Client(Error::Timeout(std::time::Duration::ZERO)), 5),
            (Failure::Client(Error::Input(String::new())), 2),
        ] {
            assert_eq!(failure.exit_code(), code, "{failure:?}");
        }
    }

    /// A promise: what breaks which rule is told to a person, not only to programs.
    #[test]
    fn rules_are_told() {
        let json = r#"{"status":500,"code":"validation-failed","detail":"bad","request_id":"r7","topic":"orders","partition":3,
            "errors":[{"pointer":"/partitions","code":"range","detail":"at least 1"}],"did_you_mean":"x"}"#;
        let failure = Failure::Client(Error::Problem(Box::new(serde_json::from_str(json).unwrap())));
        let text = failure.sentence("error:").unwrap();
        assert!(text.contains("/partitions: at least 1") && text.contains("did you mean 'x'?") && text.contains("request id r7"), "{text}");
        assert!(text.contains("orders, partition 3"), "{text}");
        assert_eq!(failure.problem().unwrap()["errors"][0]["code"], "range");
    }

    /// A promise: whatever a server says, none of it acts on the terminal; and what its sentence has said is not said again.
    #[test]
    fn words_of_a_server_only_show() {
        let json = r#"{"status":500,"code":"\u001b[31mx","detail":"\u001b]0;owned\u0007","request_id":"\u009b1m","topic":"\u001bc",
            "errors":[{"pointer":"/\u001b","detail":"\r"},{"pointer":"/name","detail":"\u001b]0;owned\u0007"}],
            "differences":[{"pointer":"/config/\u001b","wanted":"\u001b","actual":"\u0007"}],"did_you_mean":"\u202e"}"#;
        let failure = Failure::Client(Error::Problem(Box::new(serde_json::from_str(json).unwrap())));
        let text = failure.sentence("error:").unwrap();
        assert!(!text.chars().any(|c| c.is_control() && c != '\n') && !text.contains('\u{202e}'), "{text:?}");
        assert!(text.contains("owned") && !text.contains("/name"), "{text}");
    }
}
