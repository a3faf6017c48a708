//! What requests and answers look like in JSON and in headers, and how it becomes what the broker takes.
//!
//! Records are many, so they are read and written by hand, borrowed from the body and put straight into their record set or answer; all
//! else is `serde`. The structs that stand for what is written by hand exist for the OpenAPI document.
//!
//! | module | subject |
//! |---|---|
//! | [`envelope`] | records as a JSON producer gives them |
//! | [`collect`] | records on their way into record sets, checked |
//! | [`raw`] | one record given as a body and headers |
//! | [`produced`] | the answer to a produce |
//! | [`page`] | records as a JSON fetch gives them |
//! | [`value`] | one record's value with its own content type |
//! | [`topics`], [`trim`], [`cluster`], [`limits`], [`offsets`] | the rest |
//! | [`problems`] | which statuses an operation documents |

pub(crate) mod cluster;
pub(crate) mod collect;
pub(crate) mod envelope;
pub(crate) mod limits;
pub(crate) mod offsets;
pub(crate) mod page;
pub(crate) mod problems;
pub(crate) mod produced;
pub(crate) mod raw;
pub(crate) mod topics;
pub(crate) mod trim;
pub(crate) mod value;

/// The query of a path that takes none: any parameter is unknown.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct NoParameters {}
