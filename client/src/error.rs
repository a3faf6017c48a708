//! What can go wrong with a call, and the two things a caller must know of it: may it be repeated, and may it have done something.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tidegate_types::{ErrorCode, SideEffects};

/// What a server says when it says no (`application/problem+json`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// The HTTP status; `None` if there was no answer that could have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Stable and kebab-case: one of [`ErrorCode`], or one that a newer server has.
    pub code: String,
    /// A few words, the same for every occurrence.
    #[serde(default)]
    pub title: String,
    /// A sentence about this occurrence.
    #[serde(default)]
    pub detail: String,
    /// What the server's log has it under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Whether the same call may succeed later.
    #[serde(default)]
    pub retryable: bool,
    /// Whether the call may have done something: `none` or `possible`.
    #[serde(default)]
    pub side_effects: String,
    /// Everything else, by name (`earliest_offset`, `errors`, `did_you_mean`, …).
    #[serde(flatten)]
    pub extras: Map<String, Value>,
}

impl Problem {
    /// The code, if this client knows it.
    pub fn known_code(&self) -> Option<ErrorCode> {
        ErrorCode::ALL.iter().copied().find(|code| code.as_str() == self.code)
    }

    /// The code of an answer that is not the server's.
    pub(crate) const FOREIGN: &str = "foreign-answer";

    /// A stand-in for an answer that is no problem object, as a proxy in between would give.
    pub(crate) fn foreign(status: u16) -> Self {
        Self {
            status: Some(status),
            code: Self::FOREIGN.to_owned(),
            title: "An answer that is not the server's".to_owned(),
            detail: format!(
                "the answer has status {status} and no problem object: is it a Tidegate node that listens there, or is a proxy in between?"
            ),
            request_id: None,
            retryable: false,
            side_effects: SideEffects::Possible.as_str().to_owned(),
            extras: Map::new(),
        }
    }
}

/// A call that has not succeeded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is none that this client can talk to.
    #[error("'{address}' is no server's address: {reason}")]
    Address {
        /// As given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The records could not be put into a request; nothing was sent.
    #[error("{0}")]
    Input(String),
    /// No connection to any of the servers; nothing was sent.
    #[error("no server answers at {addresses}: {reason}")]
    Connect {
        /// All that were tried.
        addresses: String,
        /// What the last one said.
        reason: String,
    },
    /// The answer did not come in time.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(std::time::Duration),
    /// The connection broke before the answer was whole.
    #[error("the connection broke before the answer was whole: {0}")]
    Broken(String),
    /// The server said no.
    #[error("{} ({})", .0.detail, .0.code)]
    Problem(Box<Problem>),
    /// The server said yes in words that this client does not understand.
    #[error("the answer to {call} is not what was expected: {reason}")]
    Answer {
        /// Which call.
        call: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// The server's word, if it is the server that said no.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            Self::Address { .. } | Self::Input(_) | Self::Connect { .. } | Self::Timeout(_) | Self::Broken(_) | Self::Answer { .. } => None,
        }
    }

    /// As a problem object, whoever it is that says no.
    pub fn to_problem(&self) -> Problem {
        let (code, title) = match self {
            Self::Problem(problem) => return problem.as_ref().clone(),
            Self::Address { .. } => ("bad-address", "Bad server address"),
            Self::Input(_) => ("bad-input", "Bad input"),
            Self::Connect { .. } => ("unreachable", "No server answers"),
            Self::Timeout(_) => ("no-answer", "No answer in time"),
            Self::Broken(_) => ("connection-broken", "Connection broken"),
            Self::Answer { .. } => ("unexpected-answer", "Unexpected answer"),
        };
        Problem {
            status: None,
            code: code.to_owned(),
            title: title.to_owned(),
            detail: self.to_string(),
            request_id: None,
            retryable: self.is_retryable(),
            side_effects: self.side_effects().as_str().to_owned(),
            extras: Map::new(),
        }
    }

    /// Whether the same call may succeed later without being changed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Problem(problem) => problem.retryable,
            Self::Connect { .. } | Self::Timeout(_) | Self::Broken(_) => true,
            Self::Address { .. } | Self::Input(_) | Self::Answer { .. } => false,
        }
    }

    /// Whether trying again may help: also if what stands between client and server says that the server is away for now.
    pub(crate) fn may_pass(&self) -> bool {
        let is_gateways =
            |problem: &Problem| problem.code == Problem::FOREIGN && matches!(problem.status, Some(408 | 429 | 502 | 503 | 504));
        self.is_retryable() || self.problem().is_some_and(is_gateways)
    }

    /// Whether the call may have done something. Only a word of the server, or no connection at all, makes it certain that it has not.
    pub fn side_effects(&self) -> SideEffects {
        match self {
            Self::Address { .. } | Self::Input(_) | Self::Connect { .. } => SideEffects::None,
            Self::Problem(problem) if problem.side_effects == SideEffects::None.as_str() => SideEffects::None,
            Self::Problem(_) | Self::Timeout(_) | Self::Broken(_) | Self::Answer { .. } => SideEffects::Possible,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: what a server says of a failure reaches the caller whole, with what this client has no field for.
    #[test]
    fn a_problem_is_read_whole() {
        let text = r#"{"type":"https://tidegate.dev/problems/offset-out-of-range","title":"Offset out of range","status":416,"detail":"gone",
            "code":"offset-out-of-range","request_id":"r1","retryable":false,"side_effects":"none","earliest_offset":12}"#;
        let problem: Problem = serde_json::from_str(text).unwrap();
        assert_eq!(problem.known_code(), Some(ErrorCode::OffsetOutOfRange));
        assert_eq!(problem.extras["earliest_offset"], 12);
        assert_eq!(problem.request_id.as_deref(), Some("r1"));
        let error = Error::Problem(Box::new(problem));
        assert_eq!((error.is_retryable(), error.side_effects()), (false, SideEffects::None));
    }

    /// A promise: where the fate of a call is not known, the client does not claim that nothing happened.
    #[test]
    fn doubt_is_said() {
        let foreign = Problem::foreign(502);
        for error in [Error::Timeout(std::time::Duration::ZERO), Error::Broken(String::new()), Error::Problem(Box::new(foreign))] {
            assert_eq!(error.side_effects(), SideEffects::Possible, "{error}");
        }
        let refused = Error::Connect { addresses: String::new(), reason: String::new() };
        assert_eq!(refused.side_effects(), SideEffects::None);
    }
}
