//! The suites of the whole system, in one binary: linking RocksDB once is enough.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "all of it is tests: a failure here is a failed test, with what it printed")]

mod bad_requests;
mod bench_cli;
mod cli;
mod cli_produce;
mod cli_records;
mod client_faults;
mod client_guide;
mod client_reads;
mod client_writes;
mod coalescing;
mod compaction;
mod contract;
mod crash;
mod exactly_once;
mod full_disk;
mod generated_clients;
mod graceful;
mod guide;
mod in_equals_out;
mod oracles;
mod repair;
mod retention;
mod retries;
mod schemathesis;
mod second_reader;
mod slow_clients;
mod slow_disk;
mod slow_readers;
mod tidy;
mod trim;
mod zero_copy;
