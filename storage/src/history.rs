//! Histories: everything that can happen to the logs of a data directory, in any order, on a disk that is cut off, full or sick, drawn from a seed
//! and held against a plain model of what was promised.
//!
//! | module | subject |
//! |---|---|
//! | [`model`] | what a log should be |
//! | [`part`] | one partition: its log, its model, its readers |
//! | [`world`] | a history: its turns, and the restarts |
//! | [`turns`] | what may happen in a turn |
//! | [`check`] | what must hold of a log |
//! | [`rot`] | turned bits |
//!
//! `make crash SEED=n` plays histories from seed `n` on. One that fails is cut to the turns that it takes to fail, and told.

mod check;
mod model;
mod part;
mod rot;
mod turns;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use world::World;

const ROOT: &str = "/data";

/// What is wrong, in words, if something is.
type Check = Result<(), String>;

macro_rules! ensure {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err(format!($($what)+));
        }
    };
}
use ensure;

/// Turns of a history.
const TURNS: u64 = 40;

struct Failed {
    seed: u64,
    why: String,
    told: Vec<String>,
}

fn play(seed: u64, left_out: &[u64]) -> Result<u64, Failed> {
    let mut world = World::new(seed);
    let played = catch_unwind(AssertUnwindSafe(|| world.play(TURNS, left_out)));
    let why = match played {
        Ok(Ok(())) => return Ok(world.crashes),
        Ok(Err(why)) => why,
        Err(panic) => {
            let said = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()));
            format!("a panic: {}", said.unwrap_or_default())
        }
    };
    Err(Failed { seed, why, told: std::mem::take(&mut world.told) })
}

/// Leaves out turn after turn, as long as it fails without.
fn shrink(mut failed: Failed) -> Failed {
    let mut left_out = Vec::new();
    for turn in (0..TURNS).rev() {
        left_out.push(turn);
        match play(failed.seed, &left_out) {
            Err(shorter) => failed = shorter,
            Ok(_) => {
                left_out.pop();
            }
        }
    }
    failed
}

/// Plays histories from `first` on, on all processors, while `goes_on` says so of their number. Gives how many, and with how many crashes.
fn play_all(first: u64, goes_on: impl Fn(u64) -> bool + Sync) -> (u64, u64) {
    let (next, crashes, failed) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::new(None));
    let work = || {
        while failed.lock().unwrap().is_none() {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if !goes_on(n) {
                next.fetch_sub(1, Ordering::Relaxed);
                return;
            }
            match play(first.wrapping_add(n), &[]) {
                Ok(seen) => {
                    crashes.fetch_add(seen, Ordering::Relaxed);
                }
                Err(why) => *failed.lock().unwrap() = Some(why),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    if let Some(first_failed) = failed.into_inner().unwrap() {
        let shrunk = shrink(Failed { told: first_failed.told, ..first_failed });
        panic!("history {}: {}\n{}\n\nagain: make crash SEED={}", shrunk.seed, shrunk.why, shrunk.told.join("\n"), shrunk.seed);
    }
    (next.into_inner(), crashes.into_inner())
}

fn number(variable: &str) -> Option<u64> {
    let said = std::env::var(variable).ok().filter(|said| !said.is_empty())?;
    Some(said.parse().unwrap_or_else(|_| panic!("{variable}={said} is no number")))
}

/// A promise: whatever happens to logs, in whatever order, and wherever the plug is pulled, also in the middle of a start: what was acknowledged is
/// there, what was given up is not, every value is right, compaction keeps the last of each key, lookups agree with a scan, nobody who reads along
/// goes back or gets an error, and no start refuses a disk on which nothing has rotted.
///
/// `SEED` and `SECONDS_EACH` are other histories, and for how long (0: until one fails).
#[test]
fn any_history_keeps_what_was_promised() {
    let begun = Instant::now();
    let (histories, crashes) = match number("SEED") {
        None => play_all(1, |n| n < 10_000),
        Some(seed) => {
            let bound = Duration::from_secs(number("SECONDS_EACH").unwrap_or(60));
            println!("histories from seed {seed} on, for {bound:?}");
            play_all(seed, |n| n == 0 || bound.is_zero() || begun.elapsed() < bound)
        }
    };
    println!("{histories} histories with {crashes} crashes in {:?}", begun.elapsed());
    assert!(crashes >= histories, "a history that ends well has one");
}
