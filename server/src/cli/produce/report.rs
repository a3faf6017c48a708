//! How `produce` ended: the account on standard error, the summary for programs, the exit code.

use std::time::Duration;

use serde_json::Value;
use tidegate_client::{Error, Problem, ProducerError};
use tidegate_types::{ErrorCode, SideEffects};

use crate::cli::Failure;
use crate::cli::output::Format;
use crate::cli::record::ledger::Ledger;
use crate::cli::record::split::InputError;
use crate::cli::session::Session;
use crate::cli::signals::Stop;

/// Why no more is sent.
#[derive(Debug)]
pub(super) enum End {
    /// The input has ended.
    Whole,
    /// The input is no good from there on.
    BadInput(InputError),
    /// The record that begins at this line was not even taken.
    NotTaken(u64, ProducerError),
    /// A record is not in.
    Failed,
    /// Somebody asked for it.
    Stopped(Stop),
    /// The positions cannot be written; why.
    OutputFailed(String),
}

impl End {
    pub(super) const fn is_stopped(&self) -> bool {
        matches!(self, Self::Stopped(_))
    }
}

/// All that there is to tell.
pub(super) struct Report<'r> {
    pub(super) session: &'r Session,
    pub(super) topic: &'r str,
    /// The line that the input was read from.
    pub(super) from_line: u64,
    /// Whether the same input can be read from a later line on.
    pub(super) can_resume: bool,
    pub(super) ledger: Ledger,
    /// The first failure, in the order of the lines.
    pub(super) failed: Option<ProducerError>,
    pub(super) elapsed: Duration,
}

impl Report<'_> {
    /// Tells it, and says what the process ends with.
    pub(super) fn of(self, end: End) -> Result<(), Failure> {
        let output = &self.session.output;
        let summary = self.ledger.summary(self.topic, self.elapsed);
        let is_summary_wanted = matches!(output.format(), Format::Json | Format::Yaml);
        let shown = if is_summary_wanted { output.result(&summary, |_| String::new()) } else { Ok(()) };
        match end {
            End::Whole => {
                output.note(&self.sentence());
                shown
            }
            End::Failed | End::NotTaken(..) => Err(self.failure()),
            End::BadInput(error) => Err(self.local(&format!("line {}: {}", error.line, error.reason))),
            End::Stopped(stop) => {
                output.note(&format!("{}: {}", stop.word(), self.account()));
                Err(stop.failure())
            }
            End::OutputFailed(reason) => Err(self.local(&reason)),
        }
    }

    fn sentence(&self) -> String {
        match (self.ledger.records(), self.from_line) {
            (0, 1) => "no records: the input is empty".to_owned(),
            (0, line) => format!("no records: the input ends before line {line}"),
            _ => self.ledger.sentence(self.elapsed),
        }
    }

    /// What is in, and how to go on.
    fn account(&self) -> String {
        let resume = if self.can_resume { self.ledger.resume() } else { None };
        format!("{}{}", self.ledger.account(), resume.map(|resume| format!("; {resume}")).unwrap_or_default())
    }

    /// A failure on this side of the network. A program is told, too, whether anything is in.
    fn local(&self, reason: &str) -> Failure {
        if !self.session.output.format().is_for_programs() {
            return Failure::Local(format!("{reason}\n  {}", self.account()));
        }
        let problem = Problem {
            status: None,
            code: "failed".to_owned(),
            title: "Failed".to_owned(),
            detail: reason.to_owned(),
            request_id: None,
            retryable: false,
            side_effects: self.side_effects().as_str().to_owned(),
            extras: serde_json::Map::new(),
        };
        Failure::Advised(Error::Problem(Box::new(problem)), self.account())
    }

    const fn side_effects(&self) -> SideEffects {
        if self.ledger.is_anything_in() { SideEffects::Possible } else { SideEffects::None }
    }

    /// The failure of a record, of the kind that its cause has, with the account of all.
    fn failure(&self) -> Failure {
        let line = self.ledger.first_failed_line().unwrap_or_default();
        let Some(failed) = &self.failed else { return Failure::Local(self.account()) };
        match (failed, failed.cause()) {
            (_, Some(Error::Problem(problem))) if is_refusal(problem) => {
                let mut refusal = refusal(problem, line);
                self.side_effects().as_str().clone_into(&mut refusal.side_effects);
                Failure::Advised(Error::Problem(Box::new(refusal)), self.account())
            }
            (_, Some(Error::Input(_)) | None) if !matches!(failed, ProducerError::Expired { .. } | ProducerError::BufferFull(_)) => {
                self.local(&format!("line {line}: {failed}"))
            }
            (_, Some(error)) => Failure::Advised(copy(error), format!("line {line} begins the first that is not in; {}", self.account())),
            (_, None) => Failure::TooLate(format!("line {line}: {failed}\n  {}", self.account())),
        }
    }
}

/// Whether a record is to blame.
fn is_refusal(problem: &Problem) -> bool {
    matches!(problem.known_code(), Some(ErrorCode::RecordRejected | ErrorCode::RecordTooLarge))
}

/// The same problem about the one record that is to blame, which the caller knows by its line and not by its place in a batch.
fn refusal(problem: &Problem, line: u64) -> Problem {
    let mut own = problem.clone();
    let reason = own.extras.remove("errors").and_then(|errors| Some(errors.get(0)?.get("detail")?.as_str()?.to_owned()));
    own.detail = format!("line {line}: {}", reason.unwrap_or_else(|| own.detail.clone()));
    own.extras.insert("line".to_owned(), Value::from(line));
    own
}

/// The same error again: records of one batch share theirs.
fn copy(error: &Error) -> Error {
    match error {
        Error::Address { address, reason } => Error::Address { address: address.clone(), reason: reason.clone() },
        Error::Input(reason) => Error::Input(reason.clone()),
        Error::Connect { addresses, reason } => Error::Connect { addresses: addresses.clone(), reason: reason.clone() },
        Error::Timeout(after) => Error::Timeout(*after),
        Error::Broken(reason) => Error::Broken(reason.clone()),
        Error::Problem(problem) => Error::Problem(problem.clone()),
        Error::Answer { call, reason } => Error::Answer { call: call.clone(), reason: reason.clone() },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A promise: a record that was refused is named by its line, once, with the reason and nothing of its place in a batch.
    #[test]
    fn a_refused_record_has_a_line() {
        let problem = json!({"status": 422, "code": "record-rejected", "detail": "record 0: its timestamp is out of range", "topic": "t",
            "errors": [{"index": 0, "detail": "its timestamp is out of range"}]});
        let problem: Problem = serde_json::from_value(problem).unwrap();
        assert!(is_refusal(&problem));
        let own = refusal(&problem, 17);
        assert_eq!((own.detail.as_str(), &own.extras["line"]), ("line 17: its timestamp is out of range", &json!(17)));
        assert!(!own.extras.contains_key("errors"));
        let bare = refusal(&Problem { extras: serde_json::Map::new(), ..problem }, 17);
        assert_eq!(bare.detail, "line 17: record 0: its timestamp is out of range");
    }
}
