//! The harness of the whole-system suites: nodes to test, hands to touch them with, and others' opinions of what they wrote.
//!
//! Its promise: **it invents nothing.** A node under test is the product's own, in this process or as the real binary; what it wrote is judged
//! by implementations that share no code with it.
//!
//! | module | subject |
//! |---|---|
//! | [`cluster`] | nodes in this process, on port 0, in temporary directories |
//! | [`process`] | the real binary as a child: start, signal, kill, start again |
//! | [`proxy`] | a bad network in front of a node |
//! | [`ledger`] | what clients were told, held against what is in the log |
//! | [`chaos`] | clients behind a bad network in front of a node that dies again and again |
//! | [`http`] | requests byte by byte, good and bad, and their answers |
//! | [`flights`] | real data: the flights that left New York in 2013 |
//! | [`oracle`] | kafka-python and the crate kafka-protocol: what they read in our files, what they make for us to read |

pub mod chaos;
pub mod cluster;
pub mod flights;
pub mod http;
pub mod ledger;
pub mod oracle;
pub mod process;
pub mod proxy;
