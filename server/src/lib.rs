//! Roof: puts the floors together into one binary, and speaks to people. It knows no rule of the domain; it only wires.
//!
//! Its promise: **a node says what it does**: where its configuration comes from, when it is ready, why it does not start, and that it has stopped.
//!
//! ```text
//!   tidegate serve     config ─> telemetry ─> node: bind ─> answer 503 ─> recover ─> answer          stop in reverse order
//!   tidegate topic …   arguments ─> tidegate_client ─> HTTP, like anybody
//! ```
//!
//! | module | subject |
//! |---|---|
//! | [`config`] | what a node is told before it starts |
//! | [`node`] | start-up order and shutdown |
//! | [`telemetry`] | log lines and metrics |
//! | [`banner`] | the first words on the screen |
//! | [`panic_hook`] | a panic anywhere ends the process |
//! | [`cli`] | the command line |

pub mod banner;
pub mod cli;
pub mod config;
pub mod node;
pub mod panic_hook;
pub mod telemetry;
