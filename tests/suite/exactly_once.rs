//! Exactly once: clients that send until they are answered, over a network that loses, repeats, delays and reorders, to a node that is killed again and
//! again; each record is there once, where its answer said. `make chaos` does the same for long.

use std::time::Duration;

use tidegate_tests::chaos::{self, Account, Blows, Form, Mode, Weather, Work};
use tidegate_tests::proxy::Faults;
use tokio::sync::Mutex;

/// One at a time: two cores.
static ALONE: Mutex<()> = Mutex::const_new(());

async fn run(work: Work, answers_a_life: u64) -> Account {
    let _alone = ALONE.lock().await;
    let seed = uuid::Uuid::new_v4().as_u64_pair().0 >> 1;
    let weather = Weather {
        faults: Faults::every(20, Weather::LATE),
        blows: Blows::EveryAnswers(answers_a_life),
        seed,
        patience: Duration::from_secs(120),
        is_keeping: false,
    };
    let account = chaos::run(work, weather).await.unwrap_or_else(|error| panic!("{work} seed={seed}: {error:#}"));
    println!("{account}");
    account
}

/// Everything that was sent was acknowledged and is there, once.
fn assert_once(account: &Account) {
    assert!(account.verdict.as_ref().is_ok_and(|summary| summary.found > 0 && summary.found == summary.acknowledged), "{account}");
}

/// The network did all it can, and the node died; runs of some hundred requests may miss a fate.
fn assert_bad(account: &Account) {
    let network = account.network;
    let fates = [network.dropped, network.cut_requests, network.lost_answers, network.cut_answers, network.duplicated, network.strays];
    let more = [network.late_copies, network.late_requests, network.late_answers, network.held_back, network.overtaken, network.delayed];
    assert!(fates.iter().chain(&more).all(|count| *count > 0), "{network}");
    assert!(account.deaths.kills + account.deaths.stops >= 2, "{:?}", account.deaths);
}

async fn requests(mode: Mode, count: u64) -> Account {
    let account = run(Work::Requests { mode, count, is_protected: true }, count / 4).await;
    assert_once(&account);
    assert!(account.client["resent"] > 0 && account.client["replayed"] > 0, "{account}");
    account
}

/// A promise: requests with an `Idempotency-Key` may be sent again as often as one likes, and are written once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_write_once() {
    assert_bad(&requests(Mode::Key(Form::Json), 2_000).await);
}

/// A promise: so may streams of lines, values as they are, and stored batches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_write_once_in_every_form() {
    requests(Mode::Key(Form::Ndjson), 300).await;
    requests(Mode::Key(Form::Raw), 400).await;
    requests(Mode::Key(Form::Batches), 400).await;
}

/// A promise: so may requests with a producer's sequence, several of them under way, and they stay in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sequences_write_once() {
    assert_bad(&requests(Mode::Sequence, 800).await);
}

/// A promise: our own producer writes once and in order, with five requests under way, without being told to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_producer_writes_once() {
    let account = run(Work::Records { count: 50_000, is_protected: true }, 150).await;
    assert_once(&account);
    assert_bad(&account);
    assert!(account.client["retries"] > 0, "{account}");
}

/// A promise: without key or sequence the same network leaves records twice or out of order, and the checker says which.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_protection_it_shows() {
    let requests = [Mode::Key(Form::Json), Mode::Sequence].map(|mode| Work::Requests { mode, count: 800, is_protected: false });
    for work in requests.into_iter().chain([Work::Records { count: 30_000, is_protected: false }]) {
        let account = run(work, 10_000).await;
        let contradiction = account.verdict.expect_err("records are there twice").to_string();
        assert!(contradiction.contains("is there twice") || contradiction.contains("stands behind"), "{contradiction}");
    }
}
